/* SPDX-License-Identifier: MIT */
/* range_cache.h - the ranges of postings that cost most to read, kept while their snapshot is the newest: a range of 50,000 different
 * numbers is 50,000 rows, and the next question often names the same one. Every commit makes all of it stale. Bounded in number and bytes;
 * any thread. */
#ifndef VECFS_RANGE_CACHE_H
#define VECFS_RANGE_CACHE_H

#include <roaring/roaring.h>

#include "vecfs/error.h"
#include "vecfs/span.h"

struct vf_range_cache;
int vf_range_cache_new(struct vf_range_cache **out, struct vf_err *err);
void vf_range_cache_free(struct vf_range_cache **cache);
/* Adds the slots of [from, to) as that snapshot has them to `out`; false when they are not kept. */
bool vf_range_cache_get(struct vf_range_cache *cache, uint64_t snapshot, struct vf_span from, struct vf_span to, roaring_bitmap_t *out);
/* Keeps a copy, unless what is kept is of a newer snapshot, or memory is short. */
void vf_range_cache_keep(struct vf_range_cache *cache, uint64_t snapshot, struct vf_span from, struct vf_span to, const roaring_bitmap_t *slots);

#endif
