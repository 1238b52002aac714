/* SPDX-License-Identifier: MIT */
/* A question: through the graph, with the pending slots beside it. */
#include "graph_internal.h"
#include "vecfs/prefetch.h"

/* From this share of matches on, nodes outside the set are walked like the others, and only not returned; below it too much of
 * the walk would be spent on them, and it goes over matches only (100,000 x 128: at 50 % 18,757 questions/s against 3,705, at 10 % 4,238
 * against 4,455 with better recall). */
#define WALK_SHARE 3u
#define HOP_SHARE_MIN 16u
/* A walk over matches only sees a thinner graph. */
#define HOP_WIDTH_MIN 100u
/* The same slot may come from the pending ones, from the copies, from the walk and, while a sweep replaces a head, from a chain. */
#define SAME_MAX 4u

static void measure_pending(void *ctx, uint32_t slot)
{
	vf_best_measure(ctx, slot);
}

static void push_chain(struct vf_best *best, const struct vf_slot_set *only, uint32_t head, float distance)
{
	const struct vf_graph *g = best->graph;

	for (uint32_t slot = vf_slot_next_twin(g, head); slot != VF_SLOT_NONE; slot = vf_slot_next_twin(g, slot))
		if (vf_slot_linked_in(g, only, slot))
			vf_best_push(best, vf_key_of(distance, slot));
}

/* Who asks for a stored vector finds it, whatever way the walk takes. */
static void push_copies(struct vf_best *best, const struct vf_slot_set *only)
{
	struct vf_graph *g = best->graph;
	const struct vf_walker *w = best->walker;

	/* Under dot the nearest are not the copies, and a query that reaches beyond codes has none. */
	if (g->params.metric == VF_DOT || w->aim != w->code)
		return;
	uint32_t head = vf_equal_find(g, w->code);
	if (head == VF_SLOT_NONE)
		return;
	if (vf_slot_linked_in(g, only, head))
		vf_best_push(best, vf_key_of(0, head));
	push_chain(best, only, head, 0);
}

/* The pool is sorted: once `want` are taken only as near ones can still matter. */
static void push_found(struct vf_best *best, const struct vf_beam *beam, uint32_t want)
{
	const struct vf_walker *w = best->walker;
	uint32_t taken = 0;
	float last = 0;

	for (uint32_t i = 0; i < beam->found; i++) {
		uint32_t slot = w->node[i] & VF_LINK_SLOT;
		uint8_t is = vf_slot_is(best->graph, slot);
		if (taken >= want && w->near[i] > last)
			break;
		if (is & VF_IS_HEAD)
			push_chain(best, beam->only, slot, w->near[i]);
		if ((is & VF_IS_STATE) != VF_SLOT_LINKED || !vf_slot_in(beam->only, slot))
			continue;
		vf_best_push(best, vf_key_of(w->near[i], slot));
		last = w->near[i];
		taken++;
	}
}

/* Few enough matches that a walk goes over them only. */
static bool hops(const struct vf_search *search, uint64_t live)
{
	return search->only && search->only->count * WALK_SHARE < live;
}

/* Two hops reach too few matches when hardly any match (of 1 % recall .80), and under dot, where links lead to long vectors, so
 * that short matches are hardly linked to one another (recall .42 when it is these that match). The caller scans. */
static bool hops_well(const struct vf_graph *g, const struct vf_search *search, uint64_t live)
{
	return g->params.metric != VF_DOT && search->only->count * HOP_SHARE_MIN >= live;
}

/* Sketches have led there; codes say what is nearest. */
static void measure_found(const struct vf_graph *g, struct vf_walker *w, uint32_t found)
{
	for (uint32_t i = 0; i < found; i += VF_FRESH_MAX) {
		uint32_t n = found - i < VF_FRESH_MAX ? found - i : VF_FRESH_MAX;
		for (uint32_t k = 0; k < n; k++) {
			w->fresh[k] = w->node[i + k] & VF_LINK_SLOT;
			vf_prefetch_row(vf_slot_code(g, w->fresh[k]), g->code_stride);
		}
		w->gather(w->aim, g->codes, g->code_stride, w->fresh, n, g->numbers, w->fresh_distance);
		for (uint32_t k = 0; k < n; k++)
			w->candidates[i + k] = (struct vf_candidate){ w->fresh_distance[k], w->node[i + k] };
	}
	vf_candidates_sort(w->candidates, found);
	for (uint32_t i = 0; i < found; i++) {
		w->near[i] = w->candidates[i].distance;
		w->node[i] = w->candidates[i].link;
	}
	w->stats.distances += found;
}

static bool walk(struct vf_graph *g, struct vf_walker *w, const struct vf_search *search, uint64_t live, struct vf_beam *beam)
{
	const struct vf_slot_set *only = search->only;
	uint64_t entry = atomic_load(&g->entry);
	uint32_t at;
	float distance;

	if (entry == VF_ENTRY_NONE)
		return true;
	beam->only = only;
	beam->sift = only || atomic_load_explicit(&g->ndead, memory_order_relaxed) > 0;
	beam->hop = hops(search, live);
	beam->share = only ? (double)only->count / (double)live : 1;
	beam->visits_max = only ? only->count : UINT64_MAX;
	vf_walker_aim_walk(g, w);
	beam->width += w->rows.basis ? w->rows.basis->spare : 0;
	vf_beam_descend(g, w, beam, entry, &at, &distance);
	vf_beam_walk(g, w, beam, at, distance);
	if (w->rows.basis && !beam->gave_up)
		measure_found(g, w, beam->found);
	return !beam->gave_up;
}

static uint32_t width_of(const struct vf_search *search, uint64_t live)
{
	uint32_t width = search->ef > search->want ? search->ef : search->want;

	if (hops(search, live) && width < HOP_WIDTH_MIN)
		width = HOP_WIDTH_MIN;
	return width ? width : 1;
}

static int ask(struct vf_graph *g, struct vf_walker *w, const struct vf_search *search, uint64_t live, struct vf_beam *beam,
               struct vf_hit *hits, uint32_t *nhits, struct vf_err *err)
{
	uint64_t matches = search->only ? search->only->count : live;
	struct vf_best best;
	int rc = vf_best_init(&best, g, w, SAME_MAX * (size_t)search->want, SIZE_MAX, err);

	if (rc)
		return rc;
	vf_walker_aim(g, search->query, w);
	/* Pending first: a slot that a linker finishes meanwhile is then found twice rather than not at all. */
	vf_slot_each_pending(g, search->only, measure_pending, &best);
	vf_best_flush(&best);
	vf_best_outliers(&best, search->query, search->only);
	push_copies(&best, search->only);
	if (!walk(g, w, search, live, beam))
		return 1;
	push_found(&best, beam, search->want);
	*nhits = vf_best_hits(&best, search->want, hits);
	return *nhits < search->want && *nhits < matches;
}

int vf_graph_search(struct vf_graph *g, const struct vf_search *search, struct vf_hit *hits, uint32_t *nhits,
                    struct vf_search_stats *stats, struct vf_err *err)
{
	uint64_t live = atomic_load(&g->npending) + atomic_load(&g->nlinked);
	struct vf_beam beam = { .width = width_of(search, live) };
	struct vf_walker *w;

	*nhits = 0;
	if (stats)
		*stats = (struct vf_search_stats){ 0 };
	/* Keeping so many sorted costs more than a scan. */
	if (beam.width > VF_EF_MAX || (hops(search, live) && !hops_well(g, search, live)))
		return 1;
	int rc = vf_walker_get(g, beam.width, &w, err);
	if (rc)
		return rc;
	rc = ask(g, w, search, live, &beam, hits, nhits, err);
	if (stats)
		*stats = w->stats;
	vf_walker_put(g, w);
	return rc;
}
