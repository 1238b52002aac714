/* SPDX-License-Identifier: MIT */
/* spread.h - work in pieces, over the processors. */
#ifndef VECFS_SPREAD_H
#define VECFS_SPREAD_H

#include <stddef.h>

#include "vecfs/error.h"

#define VF_SPREAD_MAX 16u

/* Threads that are worth starting for `tasks` pieces of some ten microseconds or more: 1 when they are few. */
unsigned vf_spread_width(size_t tasks);
/* Calls task(ctx, i, worker, err) for i in [0, tasks), each once, over `width` threads, the caller's among them; `worker` is below width. The first
 * failure is told, and what has not begun by then is left. */
int vf_spread(unsigned width, size_t tasks, int (*task)(void *ctx, size_t i, unsigned worker, struct vf_err *err), void *ctx,
              struct vf_err *err);

#endif
