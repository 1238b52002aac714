/* SPDX-License-Identifier: MIT */
/* trial.c - whether a basis is enough. Not how much of the codes it keeps tells that, but what it is for: codes are asked for their nearest, by whole
 * codes and by sketches. */
#include <math.h>
#include <stdlib.h>

#include "basis.h"

#define QUERIES      128u
/* Of this many nearest so large a part must be among these and a few more by sketches; by so many a walk over sketches is wider. Of the 784 dimensions of
 * Fashion-MNIST 192 to 256 pass, of clustered sets with an inner dimension of 32 the first 64. */
#define NEIGHBOURS   10u
#define FOUND_ENOUGH 0.99
#define SPARE_MAX    6u
/* One in a hundred has as much outside of the basis, or more. */
#define STRAY_SHARE  0.01
/* Vectors to come may lie a little further outside than any of them. */
#define REACH_MARGIN 1.1f

struct trial {
	const struct vf_graph *g;
	const uint8_t *codes;
	size_t n, stride;
	uint8_t *sketches;
	uint32_t *all;
	float *distance, *by_sketch;
	uint64_t *keys;
};

/* The `want` nearest but the query itself, to the front of keys. */
static void nearest(const struct trial *t, const float *distance, size_t query, size_t want)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		if (i != query)
			t->keys[n++] = vf_key_of(distance[i], (uint32_t)i);
	vf_keys_select(t->keys, n, want);
}

static void measure(const struct trial *t, const struct vf_basis *b, size_t query)
{
	t->g->gather(t->codes + query * t->stride, t->codes, t->stride, t->all, t->n, t->g->numbers, t->distance);
	t->g->gather(t->sketches + query * b->dims, t->sketches, b->dims, t->all, t->n, b->dims, t->by_sketch);
}

/* Where by sketches the nearest of one query come: adds to `at` how many at each place. One as near as the last of them is as good: there may be
 * copies. */
static void rank_nearest(const struct trial *t, size_t query, size_t at[NEIGHBOURS + SPARE_MAX])
{
	float last = -INFINITY;
	size_t found = 0;

	nearest(t, t->distance, query, NEIGHBOURS);
	for (size_t i = 0; i < NEIGHBOURS; i++)
		last = fmaxf(last, vf_key_distance(t->keys[i]));
	nearest(t, t->by_sketch, query, NEIGHBOURS + SPARE_MAX);
	vf_keys_sort(t->keys, NEIGHBOURS + SPARE_MAX);
	for (size_t i = 0; i < NEIGHBOURS + SPARE_MAX && found < NEIGHBOURS; i++)
		if (t->distance[vf_key_slot(t->keys[i])] <= last) {
			at[i]++;
			found++;
		}
}

/* The fewest that have to be looked at beyond the wanted; more than SPARE_MAX when these are not enough. */
static uint32_t spare_of(const struct trial *t, const struct vf_basis *b)
{
	size_t at[NEIGHBOURS + SPARE_MAX] = { 0 }, found = 0;
	uint32_t places = 0;

	for (size_t i = 0; i < QUERIES; i++) {
		measure(t, b, i * t->n / QUERIES);
		rank_nearest(t, i * t->n / QUERIES, at);
	}
	while (places < NEIGHBOURS + SPARE_MAX && (double)found < FOUND_ENOUGH * NEIGHBOURS * QUERIES)
		found += at[places++];
	if ((double)found < FOUND_ENOUGH * NEIGHBOURS * QUERIES)
		return SPARE_MAX + 1;
	return places > NEIGHBOURS ? places - NEIGHBOURS : 0;
}

/* What is usual outside of the basis. */
static void note_rests(struct trial *t, struct vf_basis *b)
{
	size_t n = t->n;

	for (size_t i = 0; i < n; i++) {
		const uint8_t *code = t->codes + i * t->stride;
		t->distance[i] = vf_basis_outside(t->g, b, code, t->sketches + i * b->dims);
		b->reach = fmaxf(b->reach, REACH_MARGIN * vf_basis_rest(t->g, b, code));
	}
	qsort(t->distance, n, sizeof *t->distance, vf_compare_floats);
	b->stray = t->distance[n - 1 - (size_t)((double)n * STRAY_SHARE)];
}

static bool passes(struct trial *t, struct vf_basis *b)
{
	b->reach = INFINITY;
	for (size_t i = 0; i < t->n; i++)
		vf_basis_sketch(t->g, b, t->codes + i * t->stride, t->sketches + i * b->dims);
	b->spare = spare_of(t, b);
	if (b->spare > SPARE_MAX)
		return false;
	b->reach = 0;
	note_rests(t, b);
	return true;
}

int vf_basis_try(const struct vf_graph *g, struct vf_basis *b, const uint8_t *codes, size_t n, struct vf_err *err)
{
	struct trial t = {
		.g = g, .codes = codes, .n = n, .stride = g->code_stride, .sketches = aligned_alloc(64, n * b->dims), .all = malloc(n * sizeof *t.all),
		.distance = malloc(n * sizeof *t.distance), .by_sketch = malloc(n * sizeof *t.by_sketch), .keys = malloc(n * sizeof *t.keys),
	};
	int rc = t.sketches && t.all && t.distance && t.by_sketch && t.keys ? 0 : vf_oom(err);

	for (size_t i = 0; i < n && !rc; i++)
		t.all[i] = (uint32_t)i;
	if (!rc)
		rc = passes(&t, b) ? 0 : 1;
	free(t.sketches);
	free(t.all);
	free(t.distance);
	free(t.by_sketch);
	free(t.keys);
	return rc;
}
