/* SPDX-License-Identifier: MIT */
/* Comparing with every live slot. Codes stream through at the speed of memory; the nearest are kept in a buffer twice as
 * large as wanted, which is cut to the nearest half when full, so that most keys cost one comparison. */
#include "graph_internal.h"

#define SLACK      64u
#define WIDE_BYTES 256u

int vf_best_init(struct vf_best *best, struct vf_graph *g, struct vf_walker *w, size_t want, size_t of, struct vf_err *err)
{
	want = want < of ? want : of;
	*best = (struct vf_best){ .graph = g, .walker = w, .want = want, .room = 2 * want + SLACK, .limit = UINT64_MAX };
	return vf_walker_want_keys(w, best->room, err);
}

void vf_best_push(struct vf_best *best, uint64_t key)
{
	uint64_t *keys = best->walker->keys;

	if (key >= best->limit)
		return;
	keys[best->count++] = key;
	if (best->count < best->room)
		return;
	vf_keys_select(keys, best->count, best->want);
	best->count = best->want;
	best->limit = 0;
	for (size_t i = 0; i < best->count; i++)
		best->limit = keys[i] > best->limit ? keys[i] : best->limit;
}

/* Wide rows that follow one another stream best one by one (784 dimensions: 31 ns each, four at a time 55 to 90), without any gap: of 768
 * dimensions every other row so costs 85 ns, together 45. Narrow ones, and rows here and there, go together with their lines prefetched (128
 * dimensions: 6.7 ns, without prefetching 7.3). Only where the order of summing does not show in the sum. */
static bool streams(const struct vf_best *best)
{
	const struct vf_graph *g = best->graph;

	return best->walker->gather == g->gather && g->quant.code == VF_CODE_U8 && g->code_stride > WIDE_BYTES && best->nids > 0 &&
	       best->ids[best->nids - 1] - best->ids[0] < best->nids;
}

static void stream(const struct vf_best *best, float *distance)
{
	const struct vf_graph *g = best->graph;
	const struct vf_kernels *k = vf_kernels();
	const uint8_t *code = best->walker->code;

	for (uint32_t i = 0; i < best->nids; i++) {
		const uint8_t *row = vf_slot_code(g, best->ids[i]);
		distance[i] = g->params.metric == VF_DOT ? -(float)k->dot_u8(code, row, g->numbers) : (float)k->l2sq_u8(code, row, g->numbers);
	}
}

void vf_best_flush(struct vf_best *best)
{
	struct vf_graph *g = best->graph;
	float distance[VF_BEST_BATCH];

	if (streams(best))
		stream(best, distance);
	else
		best->walker->gather(best->walker->aim, g->codes, g->code_stride, best->ids, best->nids, g->numbers, distance);
	for (uint32_t i = 0; i < best->nids; i++)
		vf_best_push(best, vf_key_of(distance[i], best->ids[i]));
	best->walker->stats.scanned += best->nids;
	best->nids = 0;
}

void vf_best_measure(struct vf_best *best, uint32_t slot)
{
	const uint8_t *code = vf_slot_code(best->graph, slot);
	size_t stride = best->graph->code_stride;
	bool next = best->nids > 0 && best->ids[best->nids - 1] + 1 == slot;

	/* A wide row that is the next, and the rest of any, the processor fetches by itself, better than when it is asked. */
	for (size_t i = 0; i < (stride <= WIDE_BYTES ? stride : next ? 0 : 64); i += 64)
		__builtin_prefetch(code + i);
	best->ids[best->nids++] = slot;
	if (best->nids == VF_BEST_BATCH)
		vf_best_flush(best);
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

/* Outliers are live, and measured apart. */
static bool is_live(const struct vf_graph *g, uint32_t slot)
{
	uint8_t is = vf_slot_is(g, slot), state = is & VF_IS_STATE;

	return (state == VF_SLOT_PENDING || state == VF_SLOT_LINKED) && !vf_slot_is_outlier(is);
}

static void scan_all(struct vf_best *best, uint32_t slots)
{
	for (uint32_t slot = 0; slot < slots; slot++)
		if (is_live(best->graph, slot))
			vf_best_measure(best, slot);
}

static void scan_only(struct vf_best *best, const struct vf_slot_set *only, uint32_t slots)
{
	for (size_t i = 0; i < only->nwords && i * 64 < slots; i++)
		for (uint64_t word = only->words[i]; word; word &= word - 1) {
			uint32_t slot = (uint32_t)i * 64 + (uint32_t)__builtin_ctzll(word);
			if (slot < slots && is_live(best->graph, slot))
				vf_best_measure(best, slot);
		}
}

int vf_graph_scan(struct vf_graph *g, const struct vf_search *search, struct vf_hit *hits, uint32_t *nhits,
                  struct vf_search_stats *stats, struct vf_err *err)
{
	struct vf_walker *w;
	struct vf_best best;
	int rc = vf_walker_get(g, 0, &w, err);

	*nhits = 0;
	if (rc)
		return rc;
	uint32_t slots = atomic_load(&g->slots);
	rc = vf_best_init(&best, g, w, search->want, search->only ? search->only->count : slots, err);
	if (!rc) {
		vf_quant_aim(g, search->query, w);
		if (search->only)
			scan_only(&best, search->only, slots);
		else
			scan_all(&best, slots);
		vf_best_flush(&best);
		vf_best_outliers(&best, search->query, search->only);
		*nhits = vf_best_hits(&best, search->want, hits);
		if (stats)
			*stats = w->stats;
	}
	vf_walker_put(g, w);
	return rc;
}
