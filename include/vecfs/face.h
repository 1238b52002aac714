/* SPDX-License-Identifier: MIT */
/* face.h - the tree of files over a catalog. The only floor that speaks FUSE. */
#ifndef VECFS_FACE_H
#define VECFS_FACE_H

#include "vecfs/catalog.h"

struct vf_face;

struct vf_face_options {
	bool read_only;
	bool allow_other;
	bool xattr;                    /* user.vecfs.metadata.FIELD on vector files */
	bool single_thread;
	bool awake;                    /* processors may be kept awake while requests come one after the other */
	bool debug;
	const char *kernel_options;    /* further mount options, comma-separated, or NULL: passed to the kernel as they are */
	void (*unmount)(void *ctx);    /* how to unmount at the end, where this process may not; NULL: as libfuse does */
	void *unmount_ctx;
};

/* Whether something can be mounted there, before a store is made for it. The message says how to clear a dead mount. */
int vf_face_check_mountpoint(const char *mountpoint, struct vf_err *err);
/* Mounts; ready when it returns 0. The catalog is lent until free. */
int vf_face_mount(struct vf_catalog *catalog, const char *mountpoint, const struct vf_face_options *options,
                  struct vf_face **out, struct vf_err *err);
/* The same without a mount: requests of the FUSE protocol come as messages from a socket, and the replies go there. The socket is taken. */
int vf_face_attach(struct vf_catalog *catalog, int socket, const struct vf_face_options *options, struct vf_face **out, struct vf_err *err);
/* Answers the kernel until the mount is gone or SIGTERM, SIGINT comes. */
int vf_face_serve(struct vf_face *face, struct vf_err *err);
void vf_face_free(struct vf_face **face);      /* unmounts when still mounted */

#endif
