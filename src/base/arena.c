/* SPDX-License-Identifier: MIT */
#include "vecfs/arena.h"

#include <stdlib.h>

struct vf_arena_block {
	struct vf_arena_block *next;
	size_t used, size;
	_Alignas(16) unsigned char bytes[];
};

#define BLOCK_BYTES_MIN 4000u
#define BLOCK_BYTES_MAX ((size_t)32 << 20)
/* What is kept for the next request. */
#define KEPT_BYTES_MAX  ((size_t)1 << 20)

/* Large blocks are not asked for as huge pages: where the memory that is free goes back to the host of a virtual machine, the first use of one costs four
 * times as much as that of ordinary pages (doc/PERFORMANCE.md). */
static struct vf_arena_block *add_block(struct vf_arena *arena, size_t size)
{
	/* Doubling keeps the number of blocks small without reserving much for a small request. */
	size_t want = arena->bytes > BLOCK_BYTES_MIN ? arena->bytes : BLOCK_BYTES_MIN;

	if (want > BLOCK_BYTES_MAX)
		want = BLOCK_BYTES_MAX;
	if (want < size)
		want = size;
	if (want > SIZE_MAX - sizeof(struct vf_arena_block))
		return NULL;
	struct vf_arena_block *block = malloc(sizeof *block + want);
	if (!block)
		return NULL;
	*block = (struct vf_arena_block){ .next = arena->blocks, .size = want };
	arena->blocks = block;
	arena->bytes += block->size;
	return block;
}

void *vf_arena_alloc(struct vf_arena *arena, size_t size)
{
	struct vf_arena_block *block = arena->blocks;

	if (size > SIZE_MAX - 15)
		return NULL;
	size = (size + 15) & ~(size_t)15;
	if (!block || block->size - block->used < size) {
		block = add_block(arena, size);
		if (!block)
			return NULL;
	}
	void *p = block->bytes + block->used;
	block->used += size;
	return p;
}

void *vf_arena_zalloc(struct vf_arena *arena, size_t size)
{
	void *p = vf_arena_alloc(arena, size);

	return p ? memset(p, 0, size) : NULL;
}

struct vf_span vf_arena_copy(struct vf_arena *arena, struct vf_span s)
{
	uint8_t *p = s.len < SIZE_MAX ? vf_arena_alloc(arena, s.len + 1) : NULL;

	if (!p)
		return vf_span(NULL, 0);
	if (s.len)
		memcpy(p, s.data, s.len);
	p[s.len] = 0;
	return vf_span(p, s.len);
}

void vf_arena_reset(struct vf_arena *arena)
{
	struct vf_arena_block *keep = arena->blocks;

	if (!keep || keep->size > KEPT_BYTES_MAX) {
		vf_arena_free(arena);
		return;
	}
	struct vf_arena rest = { keep->next, 0 };
	vf_arena_free(&rest);
	keep->next = NULL;
	keep->used = 0;
	arena->bytes = keep->size;
}

void vf_arena_free(struct vf_arena *arena)
{
	struct vf_arena_block *block = arena->blocks;

	while (block) {
		struct vf_arena_block *next = block->next;
		free(block);
		block = next;
	}
	*arena = (struct vf_arena)VF_ARENA_INIT;
}
