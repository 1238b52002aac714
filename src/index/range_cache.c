/* SPDX-License-Identifier: MIT */
#include "range_cache.h"

#include <pthread.h>
#include <stdlib.h>

#define RANGES_MAX 64u
/* Of one index. A range of a million slots has at most 128 KiB. */
#define BYTES_MAX  (4u << 20)

struct range {
	struct range *next;        /* used longer ago */
	roaring_bitmap_t *slots;
	size_t bytes, from_len, to_len;
	uint8_t name[];            /* from and to, one behind the other */
};

struct vf_range_cache {
	pthread_mutex_t lock;
	uint64_t snapshot;         /* of all that is kept */
	struct range *first;
};

int vf_range_cache_new(struct vf_range_cache **out, struct vf_err *err)
{
	*out = calloc(1, sizeof **out);
	if (!*out)
		return vf_oom(err);
	pthread_mutex_init(&(*out)->lock, NULL);
	return 0;
}

static void free_from(struct range **at)
{
	while (*at) {
		struct range *range = *at;
		*at = range->next;
		roaring_bitmap_free(range->slots);
		free(range);
	}
}

void vf_range_cache_free(struct vf_range_cache **cache)
{
	if (!*cache)
		return;
	free_from(&(*cache)->first);
	pthread_mutex_destroy(&(*cache)->lock);
	free(*cache);
	*cache = NULL;
}

static bool is_named(const struct range *range, struct vf_span from, struct vf_span to)
{
	return vf_span_equal(vf_span(range->name, range->from_len), from) && vf_span_equal(vf_span(range->name + range->from_len, range->to_len), to);
}

/* To the front, when it is there. */
static struct range *find(struct vf_range_cache *cache, struct vf_span from, struct vf_span to)
{
	struct range **at = &cache->first;

	while (*at && !is_named(*at, from, to))
		at = &(*at)->next;
	struct range *found = *at;
	if (found) {
		*at = found->next;
		found->next = cache->first;
		cache->first = found;
	}
	return found;
}

bool vf_range_cache_get(struct vf_range_cache *cache, uint64_t snapshot, struct vf_span from, struct vf_span to, roaring_bitmap_t *out)
{
	pthread_mutex_lock(&cache->lock);
	struct range *found = snapshot == cache->snapshot ? find(cache, from, to) : NULL;
	if (found)
		roaring_bitmap_or_inplace(out, found->slots);
	pthread_mutex_unlock(&cache->lock);
	return found;
}

static struct range *make(struct vf_span from, struct vf_span to, const roaring_bitmap_t *slots)
{
	struct range *range = malloc(sizeof *range + from.len + to.len);

	if (!range)
		return NULL;
	*range = (struct range){ .slots = roaring_bitmap_copy(slots), .from_len = from.len, .to_len = to.len };
	if (!range->slots) {
		free(range);
		return NULL;
	}
	range->bytes = roaring_bitmap_size_in_bytes(slots);
	memcpy(range->name, from.data, from.len);
	if (to.len)
		memcpy(range->name + from.len, to.data, to.len);
	return range;
}

/* What was used longest ago goes. */
static void trim(struct vf_range_cache *cache)
{
	struct range **at = &cache->first;
	size_t bytes = 0;

	for (unsigned n = 0; *at && n < RANGES_MAX && bytes + (*at)->bytes <= BYTES_MAX; n++) {
		bytes += (*at)->bytes;
		at = &(*at)->next;
	}
	free_from(at);
}

void vf_range_cache_keep(struct vf_range_cache *cache, uint64_t snapshot, struct vf_span from, struct vf_span to, const roaring_bitmap_t *slots)
{
	struct range *range = make(from, to, slots);

	if (!range)
		return;
	pthread_mutex_lock(&cache->lock);
	if (snapshot > cache->snapshot) {
		free_from(&cache->first);
		cache->snapshot = snapshot;
	}
	if (snapshot == cache->snapshot && !find(cache, from, to)) {
		range->next = cache->first;
		cache->first = range;
		range = NULL;
		trim(cache);
	}
	pthread_mutex_unlock(&cache->lock);
	free_from(&range);
}
