/* SPDX-License-Identifier: MIT */
/* sandbox.h - a daemon that serves a mount needs its store, /dev/fuse and little else: all the rest is given up before the first request is
 * read. doc/SECURITY.md says what that is good for. */
#ifndef VECFS_SANDBOX_H
#define VECFS_SANDBOX_H

#include "vecfs/error.h"

/* Unmounting needs a right that is given up (root's, or that of the setuid fusermount3), so a small process keeps it, and does nothing else: it
 * unmounts when it is told to, and ends with the daemon. */
struct vf_unmounter { int fd; };

/* Forks: before there are threads, and before anything is open that must not stay open. */
int vf_unmounter_start(const char *mountpoint, struct vf_unmounter *out, struct vf_err *err);
/* Lazily: a busy mount does not hold anybody up. For vf_face_options. */
void vf_unmounter_unmount(void *unmounter);
void vf_unmounter_end(struct vf_unmounter *unmounter);

/* Gives up, as far as the kernel knows how: new privileges, all capabilities (but for the one to read a store of another owner), all files
 * but the store's and a few of the system's, TCP, and the system calls that a daemon like this one never makes. For this thread and those
 * that it starts. What the kernel does not have is left out. */
void vf_sandbox_enter(const char *store);

#endif
