/* SPDX-License-Identifier: MIT */
/* arena.h - memory for one request: allocated in steps, freed at once. Not for several threads. */
#ifndef VECFS_ARENA_H
#define VECFS_ARENA_H

#include "vecfs/span.h"

struct vf_arena_block;
struct vf_arena {
	struct vf_arena_block *blocks;
	size_t bytes;   /* in all, as asked from malloc */
};

#define VF_ARENA_INIT { NULL, 0 }

/* 16-byte aligned, not zeroed; NULL when out of memory. */
void *vf_arena_alloc(struct vf_arena *arena, size_t size);
void *vf_arena_zalloc(struct vf_arena *arena, size_t size);
/* A copy with a NUL behind it (not counted in len). data is NULL when out of memory. */
struct vf_span vf_arena_copy(struct vf_arena *arena, struct vf_span s);
/* Frees all but one block, of at most a megabyte, which the next request reuses. */
void vf_arena_reset(struct vf_arena *arena);
void vf_arena_free(struct vf_arena *arena);

#endif
