/* SPDX-License-Identifier: MIT */
/* The walk: from a node to the nearest ones, always expanding the nearest not yet expanded (HNSW paper, algorithm 2).
 *
 * What makes it fast, in the order of gain: the new nodes of a step are gathered first and their rows prefetched, then
 * measured four at a time; the pool is a sorted array, distances apart from nodes, not a heap; seen nodes are bits; two candidates are
 * expanded a step, so that more misses are under way at once. */
#include <math.h>

#include "graph_internal.h"
#include "vecfs/prefetch.h"

/* Matches met may be half of what their share says. */
#define SHARE_SLACK    2.0
/* So many of the nodes nearest to the query tell whether matches lie there. */
#define LOOKED_ENOUGH  128u

struct pool {
	float *near;
	uint32_t *node;
	vf_place_fn *place;
	uint32_t count, room, results, width, cursor;
	float limit;           /* what is not nearer does not get in */
};

/* A guide behind the last of `width` results leads nowhere nearer. */
static void drop_tail(struct pool *p)
{
	while (p->results > p->width)
		if (!(p->node[--p->count] & VF_POOL_GUIDE))
			p->results--;
	while (p->results == p->width && p->count > 0 && p->node[p->count - 1] & VF_POOL_GUIDE)
		p->count--;
}

/* Returns the place. */
static inline uint32_t put(struct pool *p, float distance, uint32_t node)
{
	if (p->count == p->room && !(p->node[--p->count] & VF_POOL_GUIDE))
		p->results--;
	uint32_t at = p->place(p->near, p->node, p->count++, distance, node);
	p->results += !(node & VF_POOL_GUIDE);
	if (p->results > p->width || (node & VF_POOL_GUIDE))
		drop_tail(p);
	if (p->results == p->width || p->count == p->room)
		p->limit = p->near[p->count - 1];
	if (at < p->cursor)
		p->cursor = at;
	return at;
}

static inline void prefetch_list(const struct vf_graph *g, uint32_t node, uint32_t level)
{
	vf_prefetch_row(vf_list(g, node & VF_LINK_SLOT, level), vf_list_room(g, level) * sizeof(vf_link));
}

static inline void prefetch_row(const struct vf_walker *w, uint32_t slot)
{
	vf_prefetch_row(vf_row(&w->rows, slot), w->rows.stride);
}

/* Any of a chain of equal vectors. */
static bool has_result(const struct vf_graph *g, const struct vf_slot_set *only, uint32_t slot)
{
	if (vf_slot_linked_in(g, only, slot))
		return true;
	if (!(vf_slot_is(g, slot) & VF_IS_HEAD))
		return false;
	for (slot = vf_slot_next_twin(g, slot); slot != VF_SLOT_NONE; slot = vf_slot_next_twin(g, slot))
		if (vf_slot_linked_in(g, only, slot))
			return true;
	return false;
}

static bool accepts(const struct vf_graph *g, struct vf_beam *beam, uint32_t slot)
{
	bool result = has_result(g, beam->only, slot);

	beam->looked++;
	beam->matched += result;
	return result;
}

/* Appends the neighbours not seen before. Whether one is new is as good as random, so nothing here branches on it. */
static inline uint32_t gather(struct vf_graph *g, struct vf_walker *w, uint32_t node, uint32_t level, uint32_t nfresh)
{
	const vf_link *list = vf_list(g, node, level);
	uint32_t room = vf_list_room(g, level), before = nfresh, ntouched = w->ntouched;

	for (uint32_t i = 0; i < room; i++) {
		uint32_t link = vf_list_at(list, i);
		if (link == VF_SLOT_NONE)
			break;
		link &= VF_LINK_SLOT;
		if (link >= w->slots)
			continue;   /* newer than the walk */
		uint64_t word = w->seen[link / 64], bit = 1ull << (link % 64);
		w->touched[ntouched] = link / 64;
		ntouched += word == 0;
		w->seen[link / 64] = word | bit;
		w->fresh[nfresh] = link;
		nfresh += !(word & bit);
	}
	w->ntouched = ntouched;
	for (uint32_t i = before; i < nfresh; i++)
		prefetch_row(w, w->fresh[i]);
	return nfresh;
}

/* ACORN's way (Patel et al., 2024): neighbours that match, and through those that do not, theirs that do. */
static uint32_t gather_matches(struct vf_graph *g, struct vf_walker *w, struct vf_beam *beam, uint32_t node)
{
	const vf_link *list = vf_list(g, node, 0);
	uint32_t through[VF_DEGREE_MAX], nthrough = 0, nfresh = 0;

	for (uint32_t i = 0; i < g->degree0; i++) {
		uint32_t link = vf_list_at(list, i);
		if (link == VF_SLOT_NONE)
			break;
		link &= VF_LINK_SLOT;
		if (!vf_walker_see(w, link))
			continue;
		if (accepts(g, beam, link)) {
			w->fresh[nfresh++] = link;
			prefetch_row(w, link);
		} else {
			through[nthrough++] = link;
			prefetch_list(g, link, 0);
		}
	}
	for (uint32_t k = 0; k < nthrough; k++) {
		list = vf_list(g, through[k], 0);
		for (uint32_t i = 0; i < g->degree0 && nfresh < VF_FRESH_MAX; i++) {
			uint32_t link = vf_list_at(list, i);
			if (link == VF_SLOT_NONE)
				break;
			link &= VF_LINK_SLOT;
			if (accepts(g, beam, link) && vf_walker_see(w, link)) {
				w->fresh[nfresh++] = link;
				prefetch_row(w, link);
			}
		}
	}
	return nfresh;
}

/* The nearest not yet expanded, marked as expanded; the slot, or none. */
static inline uint32_t next_of(struct pool *p)
{
	while (p->cursor < p->count && p->node[p->cursor] & VF_POOL_EXPANDED)
		p->cursor++;
	if (p->cursor >= p->count)
		return VF_SLOT_NONE;
	uint32_t node = p->node[p->cursor];
	p->node[p->cursor++] = node | VF_POOL_EXPANDED;
	return node & VF_LINK_SLOT;
}

static inline uint32_t expand(struct vf_graph *g, struct vf_walker *w, struct vf_beam *beam, struct pool *p)
{
	uint32_t node = next_of(p), nfresh;

	if (node == VF_SLOT_NONE)
		return 0;
	w->stats.hops++;
	if (beam->hop) {
		/* A step without a match is no end. */
		while ((nfresh = gather_matches(g, w, beam, node)) == 0 && (node = next_of(p)) != VF_SLOT_NONE)
			w->stats.hops++;
		return nfresh;
	}
	/* The second first: it is known for longer, so that its list is in the cache, while the nearest may just have been found. */
	uint32_t second = next_of(p);
	nfresh = second == VF_SLOT_NONE ? 0 : gather(g, w, second, beam->level, 0);
	nfresh = gather(g, w, node, beam->level, nfresh);
	w->stats.hops += second != VF_SLOT_NONE;
	while (nfresh == 0 && (node = next_of(p)) != VF_SLOT_NONE) {
		w->stats.hops++;
		nfresh = gather(g, w, node, beam->level, 0);
	}
	return nfresh;
}

static void measure(struct vf_walker *w, uint32_t nfresh)
{
	w->goal_gather(w->goal, w->rows.base, w->rows.stride, w->fresh, nfresh, w->rows.numbers, w->fresh_distance);
	w->stats.distances += nfresh;
}

/* Most are too far: sorted out first, without a branch, those that are left are inserted. */
static inline uint32_t keep_nearer(struct vf_walker *w, uint32_t nfresh, float limit)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < nfresh; i++) {
		float distance = w->fresh_distance[i];
		w->fresh[kept] = w->fresh[i];
		w->fresh_distance[kept] = distance;
		kept += distance < limit;
	}
	return kept;
}

static inline void offer(const struct vf_graph *g, struct vf_beam *beam, struct pool *p, float distance, uint32_t node)
{
	/* The limit may have come down meanwhile. */
	if (!(distance < p->limit))
		return;
	if (beam->sift && !beam->hop && !accepts(g, beam, node))
		node |= VF_POOL_GUIDE;
	if (put(p, distance, node) < p->cursor + 2)
		prefetch_list(g, node, beam->level);
}

/* Matches that lie apart from where the query leads (another cluster; under dot the short vectors) are met far less often than their share.
 * The nodes that lead to them may have been crowded out of the pool then, so only a scan is sure of the nearest. */
static bool is_off_the_matches(const struct vf_beam *beam)
{
	return beam->only && (double)beam->matched * SHARE_SLACK < (double)beam->looked * beam->share;
}

/* Judged early, where the query is: a walk that came through to matches far away meets many there, and has missed others (a third of
 * 100,000 x 128 in clusters, none of them the query's: recall .944). */
static bool goes_on(const struct vf_walker *w, struct vf_beam *beam, uint64_t before)
{
	if (w->stats.distances - before > beam->visits_max)
		return false;
	if (beam->judged || beam->looked < LOOKED_ENOUGH)
		return true;
	beam->judged = true;
	return !is_off_the_matches(beam);
}

void vf_beam_walk(struct vf_graph *g, struct vf_walker *w, struct vf_beam *beam, uint32_t at, float distance)
{
	struct pool p = { .near = w->near, .node = w->node, .place = vf_kernels()->place, .room = w->pool_room, .width = beam->width, .limit = INFINITY };
	uint64_t before = w->stats.distances;
	uint32_t nfresh;

	vf_walker_forget(w);
	vf_walker_see(w, at);
	put(&p, distance, at | (beam->sift && !accepts(g, beam, at) ? VF_POOL_GUIDE : 0));
	beam->judged = beam->gave_up = false;
	while ((nfresh = expand(g, w, beam, &p)) > 0) {
		/* Likely the next ones. */
		for (uint32_t i = p.cursor; i < p.count && i < p.cursor + 2; i++)
			prefetch_list(g, p.node[i], beam->level);
		measure(w, nfresh);
		nfresh = keep_nearer(w, nfresh, p.limit);
		for (uint32_t i = 0; i < nfresh; i++)
			offer(g, beam, &p, w->fresh_distance[i], w->fresh[i]);
		if (!goes_on(w, beam, before)) {
			beam->gave_up = true;
			break;
		}
	}
	beam->gave_up |= is_off_the_matches(beam);
	beam->found = p.count;
}

/* Greedy (algorithm 5, the upper levels): a width of 1 is enough to find a place to begin. Who was measured before, on this level or above, is no
 * nearer, and is not measured again. */
void vf_beam_descend(struct vf_graph *g, struct vf_walker *w, const struct vf_beam *beam, uint64_t entry, uint32_t *at, float *distance)
{
	uint32_t node = (uint32_t)entry & VF_LINK_SLOT;

	vf_walker_forget(w);
	vf_walker_see(w, node);
	w->fresh[0] = node;
	measure(w, 1);
	*distance = w->fresh_distance[0];
	for (uint32_t level = (uint32_t)(entry >> 32); level > beam->level; level--)
		for (bool nearer = true; nearer;) {
			const vf_link *list = vf_list(g, node, level);
			uint32_t n = 0;
			nearer = false;
			for (uint32_t i = 0, link; i < g->degree && (link = vf_list_at(list, i)) != VF_SLOT_NONE; i++)
				if (vf_walker_see(w, link & VF_LINK_SLOT)) {
					w->fresh[n++] = link & VF_LINK_SLOT;
					prefetch_row(w, link & VF_LINK_SLOT);
				}
			measure(w, n);
			for (uint32_t i = 0; i < n; i++)
				if (w->fresh_distance[i] < *distance) {
					*distance = w->fresh_distance[i];
					node = w->fresh[i];
					nearer = true;
				}
		}
	*at = node;
}
