/* SPDX-License-Identifier: MIT */
/* The nearest of many that are measured one after the other: kept in a buffer twice as large as wanted, which is cut to the nearest half when full, so
 * that most distances cost one comparison. Where there are sketches (sketch.c) most codes are not even read: a sketch proves a code to be further than the
 * nearest found so far. What is kept is the same. */
#include <math.h>

#include "graph_internal.h"
#include "vecfs/prefetch.h"

#define SLACK      64u
#define WIDE_BYTES 256u
#define LONG_RUN   64u
#define FAR_SLOTS  16u
/* What float arithmetic puts the numbers of two sketches off by, all of them together, at most and by far. */
#define NUMBERS_OFF 2e-3f

int vf_best_init(struct vf_best *best, struct vf_graph *g, struct vf_walker *w, size_t want, size_t of, struct vf_err *err)
{
	want = want < of ? want : of;
	*best = (struct vf_best){ .graph = g, .walker = w, .want = want, .room = 2 * want + SLACK, .limit = UINT64_MAX, .far = INFINITY, .sieve = INFINITY,
	                           .last = VF_SLOT_NONE };
	return vf_walker_want_keys(w, best->room, err);
}

/* The distance of sketches above which that of codes is above `far`: two sketches are no further apart than `stretch` times their codes, and what rounding has
 * moved them. */
static float sieve_of(const struct vf_best *best)
{
	const struct vf_walker *w = best->walker;
	uint32_t bits;
	float rounding;

	if (!w->rows.basis)
		return INFINITY;
	bits = atomic_load_explicit(&w->rows.basis->rounding, memory_order_relaxed);
	memcpy(&rounding, &bits, sizeof rounding);
	float length = (w->rows.basis->stretch * sqrtf(best->far) + w->sketch_off + rounding) * (1 + VF_LENGTH_OFF) + NUMBERS_OFF;
	return length * length;
}

static void cut(struct vf_best *best)
{
	uint64_t *keys = best->walker->keys;

	vf_keys_select(keys, best->count, best->want);
	best->count = best->want;
	best->limit = 0;
	for (size_t i = 0; i < best->count; i++)
		best->limit = keys[i] > best->limit ? keys[i] : best->limit;
	best->far = vf_key_distance(best->limit);
	best->sieve = sieve_of(best);
}

void vf_best_push(struct vf_best *best, uint64_t key)
{
	if (key >= best->limit)
		return;
	best->walker->keys[best->count++] = key;
	if (best->count == best->room)
		cut(best);
}

/* Wide rows that follow one another for long stream best one by one, and unasked (768 dimensions: 25 ns each; asked for and together 42). With gaps
 * among them the processor runs the wrong way: asked for and together every other row is 40 ns, one by one 64 to 85. Of rows far apart it finds
 * the rest by itself (every twentieth: 24 ns, asked for 29). Narrow rows go together, asked for (128 dimensions: 6.7 ns, else 7.3). One by
 * one only where the order of summing does not show in the sum. */
static bool streams(const struct vf_best *best)
{
	const struct vf_graph *g = best->graph;

	return best->walker->gather == g->gather && g->quant.code == VF_CODE_U8 && g->code_stride > WIDE_BYTES && best->run >= LONG_RUN;
}

static void stream(const struct vf_best *best, const uint32_t *ids, uint32_t n, float *distance)
{
	const struct vf_graph *g = best->graph;
	const struct vf_kernels *k = vf_kernels();
	const uint8_t *code = best->walker->code;

	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *row = vf_slot_code(g, ids[i]);
		distance[i] = g->params.metric == VF_DOT ? -(float)k->dot_u8(code, row, g->numbers) : (float)k->l2sq_u8(code, row, g->numbers);
	}
}

static void measure_codes(struct vf_best *best, const uint32_t *ids, uint32_t n, bool in_a_row)
{
	struct vf_graph *g = best->graph;
	float distance[VF_BEST_BATCH];

	if (in_a_row)
		stream(best, ids, n, distance);
	else
		best->walker->gather(best->walker->aim, g->codes, g->code_stride, ids, n, g->numbers, distance);
	/* Of most no key has to be made. */
	for (uint32_t i = 0; i < n; i++)
		if (!(distance[i] > best->far))
			vf_best_push(best, vf_key_of(distance[i], ids[i]));
}

static void flush_left(struct vf_best *best)
{
	measure_codes(best, best->left, best->nleft, false);
	best->nleft = 0;
}

/* Most are told by their sketches to be too far. */
static void sift(struct vf_best *best)
{
	const struct vf_walker *w = best->walker;
	float distance[VF_BEST_BATCH];

	/* Without the excess, which is no distance. */
	w->goal_gather(w->goal, w->rows.base, w->rows.stride, best->ids, best->nids, vf_basis_directions(w->rows.basis), distance);
	for (uint32_t i = 0; i < best->nids; i++)
		if (!(distance[i] > best->sieve)) {
			vf_prefetch_row(vf_slot_code(best->graph, best->ids[i]), best->graph->code_stride);
			best->left[best->nleft++] = best->ids[i];
			if (best->nleft == VF_BEST_BATCH)
				flush_left(best);
		}
}

static void flush_ids(struct vf_best *best)
{
	if (isfinite(best->sieve))
		sift(best);
	else
		measure_codes(best, best->ids, best->nids, streams(best));
	best->walker->stats.scanned += best->nids;
	best->nids = 0;
}

void vf_best_flush(struct vf_best *best)
{
	flush_ids(best);
	flush_left(best);
}

static void expect_code(const struct vf_best *best, uint32_t slot, uint32_t gap)
{
	size_t stride = best->graph->code_stride;

	if (stride <= WIDE_BYTES || (gap < FAR_SLOTS && best->run < LONG_RUN))
		vf_prefetch_row(vf_slot_code(best->graph, slot), stride);
	else if (gap >= FAR_SLOTS)
		vf_prefetch_row(vf_slot_code(best->graph, slot), VF_LINE_BYTES);
}

void vf_best_measure(struct vf_best *best, uint32_t slot)
{
	uint32_t gap = slot - best->last;

	best->run = gap == 1 ? best->run + 1 : 0;
	best->last = slot;
	if (isfinite(best->sieve))
		vf_prefetch_row(vf_row(&best->walker->rows, slot), best->walker->rows.stride);
	else
		expect_code(best, slot, gap);
	best->ids[best->nids++] = slot;
	if (best->nids == VF_BEST_BATCH)
		flush_ids(best);
}

uint32_t vf_best_hits(struct vf_best *best, uint32_t want, struct vf_hit *hits)
{
	uint64_t *keys = best->walker->keys;
	size_t count = best->count;
	uint32_t n = 0;

	if (count > best->want) {
		vf_keys_select(keys, count, best->want);
		count = best->want;
	}
	vf_keys_sort(keys, count);
	for (size_t i = 0; i < count && n < want; i++) {
		uint32_t slot = vf_key_slot(keys[i]);
		if (i > 0 && keys[i] == keys[i - 1])
			continue;
		hits[n++] = (struct vf_hit){ vf_key_distance(keys[i]), slot,
		                             atomic_load_explicit(&best->graph->serial[slot], memory_order_relaxed) };
	}
	return n;
}
