/* SPDX-License-Identifier: MIT */
/* cmd.h - the commands of the program. Each takes its own arguments (argv[0] is its name) and returns the exit status. */
#ifndef VECFS_CMD_H
#define VECFS_CMD_H

#include "vecfs/catalog.h"

enum {
	VF_EXIT_OK = 0,
	VF_EXIT_FAILED = 1,    /* the message is on stderr */
	VF_EXIT_USAGE = 2,
	VF_EXIT_DAMAGED = 4,   /* check found something */
};

int vf_cmd_mount(int argc, char **argv);
int vf_cmd_check(int argc, char **argv);
int vf_cmd_dump(int argc, char **argv);
int vf_cmd_compact(int argc, char **argv);

/* "vecfs: TEXT" on stderr; returns VF_EXIT_FAILED. */
int vf_cmd_failed(const struct vf_err *err);
/* How the command is called, on stderr; returns VF_EXIT_USAGE. */
int vf_cmd_usage(const char *usage);
/* The path from the root, to be freed; it outlives a change of the working directory. `what` is for messages. */
int vf_cmd_absolute(const char *what, const char *path, char **out, struct vf_err *err);
/* Splits "BUCKET/INDEX" in place. EINVAL. */
int vf_cmd_split(char *place, const char **bucket, const char **index, struct vf_err *err);
/* Calls `each` for every index of the catalog, or only for bucket/index when index is not NULL. Stops at a negative return. */
int vf_cmd_each_index(struct vf_catalog *catalog, int (*each)(void *ctx, const char *bucket, const char *index, struct vf_err *err),
                      void *ctx, struct vf_err *err);

#endif
