/* SPDX-License-Identifier: MIT */
/* mount_options.h - what -o and the letters of the mount command say. */
#ifndef VECFS_MOUNT_OPTIONS_H
#define VECFS_MOUNT_OPTIONS_H

#include "vecfs/span.h"

struct vf_mount_options {
	const char *store, *mountpoint;     /* lent from argv */
	bool foreground, debug, single_thread;
	bool read_only, allow_other, xattr, no_sandbox, no_awake;
	struct vf_buf kernel;               /* "a,b" with a NUL behind it: passed on to the kernel */
};

#define VF_MOUNT_OPTIONS_INIT { .kernel = VF_BUF_INIT }

/* One comma-separated list; may come several times. EINVAL with the name of an option that nobody knows. */
int vf_mount_options_add(struct vf_mount_options *o, const char *list, struct vf_err *err);

#endif
