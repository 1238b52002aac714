/* SPDX-License-Identifier: MIT */
/* Comparing with every live slot, for one question or for several that share the pass. Codes stream through at the speed of memory. */
#include <errno.h>
#include <stdlib.h>

#include "graph_internal.h"
#include "vecfs/spread.h"

/* Outliers are live, and measured apart. */
static bool is_live(const struct vf_graph *g, uint32_t slot)
{
	uint8_t is = vf_slot_is(g, slot), state = is & VF_IS_STATE;

	return (state == VF_SLOT_PENDING || state == VF_SLOT_LINKED) && !vf_slot_is_outlier(is);
}

/* From a multiple of 64 on. */
static void scan_all(struct vf_best *best, uint32_t from, uint32_t end)
{
	for (uint32_t slot = from; slot < end; slot++)
		if (is_live(best->graph, slot))
			vf_best_measure(best, slot);
}

static void scan_only(struct vf_best *best, const struct vf_slot_set *only, uint32_t from, uint32_t end)
{
	for (size_t i = from / 64; i < only->nwords && i * 64 < end; i++)
		for (uint64_t word = only->words[i]; word; word &= word - 1) {
			uint32_t slot = (uint32_t)i * 64 + (uint32_t)__builtin_ctzll(word);
			if (slot < end && is_live(best->graph, slot))
				vf_best_measure(best, slot);
		}
}

/* ---- one pass for several questions ---- */

/* Codes that stay in the cache while one question after the other is compared with them. */
#define BLOCK_BYTES ((size_t)256 << 10)
/* What is worth a task of its own. */
#define SLICE_BYTES ((size_t)8 << 20)
#define SLICES_EACH 8u

struct one { struct vf_walker *walker; struct vf_best best; };

struct scanning {
	struct vf_graph *graph;
	struct vf_graph_scan *scans;
	size_t n;
	bool (*stopped)(const void *ctx);
	const void *ctx;
	uint32_t slots, slice;     /* slots of a slice */
	unsigned width;
	struct one *each;          /* of worker w question i at w * n + i */
};

/* Of a row that is looked at. */
static size_t bytes_of_row(const struct vf_graph *g)
{
	uint32_t dims = atomic_load(&g->sketching.dims);

	return dims ? dims : g->code_stride;
}

static uint32_t slots_of(const struct vf_graph *g, size_t bytes)
{
	size_t slots = bytes / bytes_of_row(g) / 64 * 64;

	return slots < 64 ? 64 : (uint32_t)slots;
}

static void scan_block(struct vf_best *best, const struct vf_slot_set *only, uint32_t from, uint32_t end)
{
	if (only)
		scan_only(best, only, from, end);
	else
		scan_all(best, from, end);
}

static int scan_slice(void *ctx, size_t i, unsigned worker, struct vf_err *err)
{
	struct scanning *s = ctx;
	uint32_t from = (uint32_t)i * s->slice, end = s->slots - from < s->slice ? s->slots : from + s->slice;
	uint32_t block = s->n > 1 ? slots_of(s->graph, BLOCK_BYTES) : s->slice;
	struct one *own = s->each + worker * s->n;

	(void)err;
	if (s->stopped && s->stopped(s->ctx))
		return -EINTR;
	for (uint32_t at = from; at < end; at += block)
		for (size_t k = 0; k < s->n; k++)
			scan_block(&own[k].best, s->scans[k].search.only, at, end - at < block ? end : at + block);
	return 0;
}

static int begin(struct scanning *s, struct vf_err *err)
{
	size_t all = s->width * s->n;
	int rc = 0;

	for (size_t i = 0; i < all && rc == 0; i++)
		rc = vf_walker_get_for_scan(s->graph, &s->each[i].walker, err);
	/* From here on no slot is reused. */
	s->slots = atomic_load(&s->graph->slots);
	for (size_t i = 0; i < all && rc == 0; i++) {
		const struct vf_search *search = &s->scans[i % s->n].search;
		struct one *one = &s->each[i];
		rc = vf_best_init(&one->best, s->graph, one->walker, search->want, search->only ? search->only->count : s->slots, err);
		if (rc == 0)
			vf_walker_aim(s->graph, search->query, one->walker);
	}
	return rc;
}

/* What the other workers have found joins what the first has. */
static void finish(struct scanning *s, size_t i)
{
	struct vf_graph_scan *scan = &s->scans[i];
	struct one *first = &s->each[i];

	vf_best_flush(&first->best);
	for (unsigned w = 1; w < s->width; w++) {
		struct one *other = &s->each[w * s->n + i];
		vf_best_flush(&other->best);
		for (size_t k = 0; k < other->best.count; k++)
			vf_best_push(&first->best, other->walker->keys[k]);
		first->walker->stats.scanned += other->walker->stats.scanned;
	}
	vf_best_outliers(&first->best, scan->search.query, scan->search.only);
	scan->nhits = vf_best_hits(&first->best, scan->search.want, scan->hits);
	scan->stats = first->walker->stats;
}

static uint64_t bytes_to_read(const struct vf_graph *g, const struct vf_graph_scan *scans, size_t n)
{
	uint64_t slots = atomic_load(&g->slots), all = 0;

	for (size_t i = 0; i < n; i++) {
		const struct vf_slot_set *only = scans[i].search.only;
		all += only && only->count < slots ? only->count : slots;
	}
	return all * bytes_of_row(g);
}

static int scan(struct scanning *s, struct vf_err *err)
{
	int rc = begin(s, err);

	if (rc)
		return rc;
	/* Some for each thread, since some are slower. */
	uint32_t whole = slots_of(s->graph, SLICE_BYTES), share = (s->slots / s->width / SLICES_EACH + 63) / 64 * 64;
	s->slice = s->width == 1 || share > whole ? whole : share < 64 ? 64 : share;
	rc = vf_spread(s->width, (s->slots + s->slice - 1) / s->slice, scan_slice, s, err);
	for (size_t i = 0; i < s->n && rc == 0; i++)
		finish(s, i);
	return rc;
}

static int scan_by(struct scanning *s, struct vf_err *err)
{
	s->each = calloc(s->width * s->n, sizeof *s->each);
	if (!s->each)
		return vf_oom(err);
	int rc = scan(s, err);
	for (size_t i = 0; i < s->width * s->n; i++)
		if (s->each[i].walker)
			vf_walker_put(s->graph, s->each[i].walker);
	free(s->each);
	return rc;
}

int vf_graph_scan_many(struct vf_graph *g, struct vf_graph_scan *scans, size_t n, bool (*stopped)(const void *ctx), const void *ctx, struct vf_err *err)
{
	struct scanning s = { .graph = g, .scans = scans, .n = n, .stopped = stopped, .ctx = ctx };

	s.width = vf_spread_width(bytes_to_read(g, scans, n) / SLICE_BYTES);
	return scan_by(&s, err);
}

int vf_graph_scan(struct vf_graph *g, const struct vf_search *search, struct vf_hit *hits, uint32_t *nhits,
                  struct vf_search_stats *stats, struct vf_err *err)
{
	struct vf_graph_scan one = { .search = *search, .hits = hits };
	struct scanning s = { .graph = g, .scans = &one, .n = 1, .width = 1 };
	int rc = scan_by(&s, err);

	*nhits = one.nhits;
	if (stats && rc == 0)
		*stats = one.stats;
	return rc;
}
