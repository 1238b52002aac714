/* SPDX-License-Identifier: MIT */
#include "vecfs/heap.h"

#include <malloc.h>
#include <stdatomic.h>

#define APART_BYTES  (1 << 20)
#define GROWTH_BYTES (4 << 20)
#define SLACK_BYTES  (8 << 20)
#define TRIM_EACH    (16u << 20)

/* An open index has lists of LMDB's of 1 and 2 MiB that it hardly touches. On fresh pages of their own they cost nothing; but malloc by and by
 * stops giving such pages, unless it is told where to begin.
 * And LMDB asks for each page that it changes alone: the heap of a thread grows by just that, with a call into the kernel each time, that of the
 * process by megabytes (a load of 40,000 x 768 took .87 of the time). It frees them one by one as well: from the end on, the heap would shrink by
 * each, and every time the other processors be stopped. */
void vf_heap_set_up(void)
{
#ifdef M_ARENA_MAX
	mallopt(M_MMAP_THRESHOLD, APART_BYTES);
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TOP_PAD, GROWTH_BYTES);
	mallopt(M_TRIM_THRESHOLD, SLACK_BYTES);
#endif
}

void vf_heap_trim(void)
{
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

void vf_heap_freed(uint64_t bytes)
{
	static _Atomic uint64_t since;

	if (bytes == 0 || atomic_fetch_add(&since, bytes) + bytes < TRIM_EACH)
		return;
	atomic_store(&since, 0);
	vf_heap_trim();
}
