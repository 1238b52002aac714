/* SPDX-License-Identifier: MIT */
/* Lists of links. Writers hold the node's lock; readers hold nothing and may meet a list half rewritten, which at worst hides
 * a link from one search. */
#include <sched.h>

#include "graph_internal.h"

#define SPINS_MAX 64u

void vf_node_lock(struct vf_graph *g, uint32_t slot)
{
	for (uint32_t spins = 0; atomic_exchange_explicit(&g->lock[slot], 1, memory_order_acquire); spins++)
		if (spins >= SPINS_MAX)
			sched_yield();
}

void vf_node_unlock(struct vf_graph *g, uint32_t slot)
{
	atomic_store_explicit(&g->lock[slot], 0, memory_order_release);
}

uint32_t vf_list_count(const struct vf_graph *g, uint32_t slot, uint32_t level)
{
	const vf_link *list = vf_list(g, slot, level);
	uint32_t room = vf_list_room(g, level), n = 0;

	while (n < room && vf_list_at(list, n) != VF_SLOT_NONE)
		n++;
	return n;
}

void vf_list_write(struct vf_graph *g, uint32_t slot, uint32_t level, const uint32_t *links, uint32_t count)
{
	vf_link *list = vf_list(g, slot, level);
	uint32_t room = vf_list_room(g, level);

	for (uint32_t i = 0; i < room; i++)
		vf_list_put(list, i, i < count ? links[i] : VF_SLOT_NONE);
}

/* Half of a list for children at most leaves every node room for its parent and for links that serve the search. */
static bool takes_child(const struct vf_graph *g, const vf_link *list, uint32_t count)
{
	uint32_t children = 0;

	for (uint32_t i = 0; i < count; i++)
		children += (vf_list_at(list, i) & VF_LINK_CHILD) != 0;
	return children < g->degree0 / 2;
}

static void prune_into(struct vf_graph *g, struct vf_walker *w, uint32_t slot, uint32_t level, uint32_t count, uint32_t link)
{
	const vf_link *list = vf_list(g, slot, level);
	struct vf_candidate candidates[VF_DEGREE_MAX + 1];
	uint32_t slots[VF_DEGREE_MAX + 1], links[VF_DEGREE_MAX + 1];
	float distance[VF_DEGREE_MAX + 1];

	for (uint32_t i = 0; i <= count; i++) {
		candidates[i].link = i < count ? vf_list_at(list, i) : link;
		slots[i] = candidates[i].link & VF_LINK_SLOT;
	}
	struct vf_rows rows = w->rows;
	w->rows = vf_rows_to_choose_by(g, w, slot, candidates, count + 1);
	g->gather(vf_row(&w->rows, slot), w->rows.base, w->rows.stride, slots, count + 1, w->rows.numbers, distance);
	w->stats.distances += count + 1;
	for (uint32_t i = 0; i <= count; i++)
		candidates[i].distance = distance[i];
	vf_candidates_sort(candidates, count + 1);
	uint32_t chosen = vf_select(g, w, candidates, count + 1, vf_list_room(g, level), links);
	w->rows = rows;
	vf_list_write(g, slot, level, links, chosen);
}

static bool add_locked(struct vf_graph *g, struct vf_walker *w, uint32_t slot, uint32_t level, uint32_t link)
{
	vf_link *list = vf_list(g, slot, level);
	uint32_t count = vf_list_count(g, slot, level);

	/* But a child that was condemned under way takes the parent that has taken it: no edge of the tree is made by half. */
	if (vf_slot_is(g, slot) & VF_IS_CONDEMNED && !(link & VF_LINK_PARENT))
		return false;
	if (link & VF_LINK_CHILD && !takes_child(g, list, count))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t have = vf_list_at(list, i);
		if ((have & VF_LINK_SLOT) == (link & VF_LINK_SLOT)) {
			vf_list_put(list, i, have | link);
			return true;
		}
	}
	if (count < vf_list_room(g, level))
		vf_list_put(list, count, link);
	else
		prune_into(g, w, slot, level, count, link);
	return true;
}

bool vf_list_add(struct vf_graph *g, struct vf_walker *w, uint32_t slot, uint32_t level, uint32_t link)
{
	vf_node_lock(g, slot);
	bool added = add_locked(g, w, slot, level, link);
	vf_node_unlock(g, slot);
	if (added)
		vf_slot_touch(g, slot, VF_DIRTY_LINKS);
	return added;
}

uint32_t vf_upper_take(struct vf_graph *g, uint32_t blocks)
{
	struct vf_err err = VF_ERR_INIT;   /* that it is missing says enough */
	uint32_t at = VF_SLOT_NONE;

	pthread_mutex_lock(&g->small_lock);
	if (g->upper_free[blocks] != VF_SLOT_NONE) {
		at = g->upper_free[blocks];
		g->upper_free[blocks] = vf_list_at(g->upper + (size_t)at * g->degree, 0);
	} else if (blocks <= g->upper_room - g->upper_used &&
	           vf_region_use(&g->upper_region, (size_t)(g->upper_used + blocks) * g->degree * sizeof(vf_link), &err) == 0) {
		at = g->upper_used;
		g->upper_used += blocks;
	}
	pthread_mutex_unlock(&g->small_lock);
	return at;
}

void vf_upper_give(struct vf_graph *g, uint32_t at, uint32_t blocks)
{
	pthread_mutex_lock(&g->small_lock);
	vf_list_put(g->upper + (size_t)at * g->degree, 0, g->upper_free[blocks]);
	g->upper_free[blocks] = at;
	pthread_mutex_unlock(&g->small_lock);
}
