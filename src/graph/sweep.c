/* SPDX-License-Identifier: MIT */
/* A sweep takes the dead slots of this moment out of the graph (after FreshDiskANN, Singh et al., 2021, algorithm 4): every list
 * that links to one is made anew from its live neighbours and those of the dead ones. Recall stays where plain unlinking loses
 * seven points at 50 % deletes, at a fifth of the cost of a rebuild.
 *
 * 1. The dead are condemned, and all walks that began before are waited for: from then on nobody links to a condemned slot.
 * 2. Heads that are condemned hand over to a twin; lists are repaired; the entry and the tree are seen to.
 * 3. When all walks that may still stand at a condemned slot have ended, the slots are free. */
#include "graph_internal.h"

/* A list needs its nearest candidates, not all of two hops. */
#define CANDIDATES_PER_LINK 6u

/* Returns how many there is something to do about: the dead, and those without a parent. */
static uint64_t condemn(struct vf_graph *g, uint32_t slots)
{
	uint64_t n = 0;

	for (uint32_t slot = 0; slot < slots; slot++) {
		uint8_t is = vf_slot_is(g, slot);
		if ((is & VF_IS_STATE) == VF_SLOT_DEAD)
			atomic_fetch_or(&g->state[slot], VF_IS_CONDEMNED);
		n += (is & VF_IS_STATE) == VF_SLOT_DEAD || is & VF_IS_ORPHAN;
	}
	return n;
}

static bool is_condemned(const struct vf_graph *g, uint32_t slot)
{
	return vf_slot_is(g, slot) & VF_IS_CONDEMNED;
}

/* The first twin that stays; the chain from there on holds only such. Called with the head locked; a condemned twin keeps its own
 * link, for walks that stand at it. */
static uint32_t clean_chain(struct vf_graph *g, uint32_t head)
{
	uint32_t first = VF_SLOT_NONE, last = VF_SLOT_NONE;

	for (uint32_t slot = vf_slot_next_twin(g, head); slot != VF_SLOT_NONE; slot = vf_slot_next_twin(g, slot)) {
		if (is_condemned(g, slot))
			continue;
		if (last == VF_SLOT_NONE)
			first = slot;
		else
			atomic_store_explicit(&g->twin[last], slot, memory_order_release);
		last = slot;
	}
	if (last != VF_SLOT_NONE)
		atomic_store_explicit(&g->twin[last], VF_SLOT_NONE, memory_order_release);
	return first;
}

/* A twin takes the place of its condemned head: its list, its edges of the tree or that it has none, its chain. The head goes on naming it. */
static void succeed(struct vf_graph *g, uint32_t head, uint32_t heir)
{
	uint32_t links[VF_DEGREE_MAX], n = vf_list_count(g, head, 0), root = head;

	for (uint32_t i = 0; i < n; i++)
		links[i] = vf_list_at(vf_list(g, head, 0), i);
	vf_list_write(g, heir, 0, links, n);
	uint32_t rest = vf_slot_next_twin(g, heir);
	for (uint32_t slot = rest; slot != VF_SLOT_NONE; slot = vf_slot_next_twin(g, slot)) {
		vf_list_put(vf_list(g, slot, 0), 0, heir);
		vf_slot_touch(g, slot, VF_DIRTY_LINKS);
	}
	atomic_fetch_or(&g->state[heir], VF_IS_NODE | (rest != VF_SLOT_NONE ? VF_IS_HEAD : 0) | (vf_slot_is(g, head) & VF_IS_ORPHAN));
	atomic_fetch_and(&g->state[heir], (uint8_t)~VF_IS_TWIN);
	atomic_compare_exchange_strong(&g->root, &root, heir);
	vf_equal_replace(g, head, heir);
	vf_slot_touch(g, heir, VF_DIRTY_LINKS);
}

static void settle_chain(struct vf_graph *g, uint32_t head)
{
	vf_node_lock(g, head);
	uint32_t first = clean_chain(g, head);
	atomic_store_explicit(&g->twin[head], first, memory_order_release);
	if (first == VF_SLOT_NONE)
		atomic_fetch_and(&g->state[head], (uint8_t)~VF_IS_HEAD);
	else if (is_condemned(g, head))
		succeed(g, head, first);
	vf_node_unlock(g, head);
}

/* Who stands for a slot in a list now: itself, the heir of a condemned head, or nobody. */
static uint32_t heir_of(const struct vf_graph *g, uint32_t slot, uint32_t level)
{
	uint8_t is = vf_slot_is(g, slot);

	if (!(is & VF_IS_CONDEMNED))
		return slot;
	return is & VF_IS_HEAD && level == 0 ? vf_slot_next_twin(g, slot) : VF_SLOT_NONE;
}

struct repair { uint32_t slot, level, count, room; bool changed; };

static void consider(struct vf_graph *g, struct vf_walker *w, struct repair *r, uint32_t link)
{
	uint32_t slot = heir_of(g, link & VF_LINK_SLOT, r->level);

	if (slot == VF_SLOT_NONE || slot == r->slot || r->count >= r->room)
		return;
	/* A slot newer than the walker cannot be remembered as seen; only an edge of the tree is worth a link twice. */
	if (slot >= w->slots ? !(link & VF_LINK_MARKS) : !vf_walker_see(w, slot))
		return;
	w->candidates[r->count++].link = slot | (link & VF_LINK_MARKS);
}

static void consider_neighbours_of(struct vf_graph *g, struct vf_walker *w, struct repair *r, uint32_t dead)
{
	const vf_link *list = vf_list(g, dead, r->level);
	uint32_t room = vf_list_room(g, r->level);

	for (uint32_t i = 0; i < room; i++) {
		uint32_t link = vf_list_at(list, i);
		if (link == VF_SLOT_NONE)
			return;
		link &= VF_LINK_SLOT;
		/* One that died since is left to the next sweep, and not linked anew. */
		if ((vf_slot_is(g, link) & (VF_IS_STATE | VF_IS_CONDEMNED)) != VF_SLOT_DEAD)
			consider(g, w, r, link);
	}
}

/* Own links first, then those of the dead. */
static void gather(struct vf_graph *g, struct vf_walker *w, struct repair *r)
{
	const vf_link *list = vf_list(g, r->slot, r->level);
	uint32_t n = vf_list_count(g, r->slot, r->level);

	vf_walker_forget(w);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t link = vf_list_at(list, i);
		r->changed |= is_condemned(g, link & VF_LINK_SLOT);
		consider(g, w, r, link);
		if (link & VF_LINK_PARENT && heir_of(g, link & VF_LINK_SLOT, 0) == VF_SLOT_NONE)
			atomic_fetch_or(&g->state[r->slot], VF_IS_ORPHAN);
	}
	for (uint32_t i = 0; r->changed && i < n; i++) {
		uint32_t slot = vf_list_at(list, i) & VF_LINK_SLOT;
		if (heir_of(g, slot, r->level) == VF_SLOT_NONE)
			consider_neighbours_of(g, w, r, slot);
	}
}

static void measure(struct vf_graph *g, struct vf_walker *w, const struct repair *r)
{
	for (uint32_t i = 0; i < r->count; i += VF_FRESH_MAX) {
		uint32_t n = r->count - i < VF_FRESH_MAX ? r->count - i : VF_FRESH_MAX;
		for (uint32_t k = 0; k < n; k++)
			w->fresh[k] = w->candidates[i + k].link & VF_LINK_SLOT;
		g->gather(vf_row(&w->rows, r->slot), w->rows.base, w->rows.stride, w->fresh, n, w->rows.numbers, w->fresh_distance);
		for (uint32_t k = 0; k < n; k++)
			w->candidates[i + k].distance = w->fresh_distance[k];
	}
}

static void repair_list(struct vf_graph *g, struct vf_walker *w, uint32_t slot, uint32_t level)
{
	struct repair r = { .slot = slot, .level = level, .room = CANDIDATES_PER_LINK * vf_list_room(g, level) };
	uint32_t links[VF_DEGREE_MAX];

	vf_node_lock(g, slot);
	gather(g, w, &r);
	if (r.changed) {
		w->rows = w->walked;
		w->rows = vf_rows_to_choose_by(g, w, slot, w->candidates, r.count);
		measure(g, w, &r);
		vf_candidates_sort(w->candidates, r.count);
		uint32_t n = vf_select(g, w, w->candidates, r.count, vf_list_room(g, level), links);
		vf_list_write(g, slot, level, links, n);
	}
	vf_node_unlock(g, slot);
	if (r.changed)
		vf_slot_touch(g, slot, VF_DIRTY_LINKS);
}

static void repair_all(struct vf_graph *g, struct vf_walker *w)
{
	uint32_t slots = atomic_load(&g->slots);

	for (uint32_t slot = 0; slot < slots; slot++) {
		if ((vf_slot_is(g, slot) & (VF_IS_NODE | VF_IS_CONDEMNED)) != VF_IS_NODE)
			continue;
		for (uint32_t level = 0; level <= g->level[slot]; level++)
			repair_list(g, w, slot, level);
	}
}

/* Who looks for a copy finds no condemned one from here on; those without an heir are still in the table. */
static void forget_copies(struct vf_graph *g, uint32_t slots)
{
	for (uint32_t slot = 0; slot < slots; slot++)
		if (is_condemned(g, slot))
			vf_equal_replace(g, slot, VF_SLOT_NONE);
}

static void free_condemned(struct vf_graph *g, uint32_t slots)
{
	for (uint32_t slot = 0; slot < slots; slot++) {
		uint8_t is = vf_slot_is(g, slot);
		if (!(is & VF_IS_CONDEMNED))
			continue;
		if (is & VF_IS_NODE && g->level[slot] > 0)
			vf_upper_give(g, g->upper_at[slot], g->level[slot]);
		vf_slot_touch(g, slot, VF_DIRTY_LINKS);
		atomic_fetch_sub(&g->ndead, 1);
		vf_slot_free(g, slot);
	}
}

static int sweep(struct vf_graph *g, struct vf_err *err)
{
	uint32_t slots = atomic_load(&g->slots), width = atomic_load(&g->ef_construction);
	struct vf_walker *w;

	if (condemn(g, slots) == 0)
		return 0;
	vf_walker_grace(g);
	uint32_t room = CANDIDATES_PER_LINK * g->degree0 / 3 + 1;
	int rc = vf_walker_get(g, width > room ? width : room, &w, err);
	if (rc)
		return rc;   /* the condemned stay so; the next sweep goes on with them */
	for (uint32_t slot = 0; slot < slots; slot++)
		if (vf_slot_is(g, slot) & VF_IS_HEAD)
			settle_chain(g, slot);
	forget_copies(g, slots);
	repair_all(g, w);
	vf_entry_renew(g);
	vf_tree_adopt_orphans(g, w);
	vf_walker_put(g, w);
	vf_walker_grace(g);
	free_condemned(g, slots);
	/* Of linkers that found all places below their neighbours condemned, and said so only after the others were adopted. */
	if ((rc = vf_walker_get(g, width, &w, err)) == 0) {
		vf_tree_adopt_orphans(g, w);
		vf_walker_put(g, w);
	}
	return rc;
}

int vf_graph_sweep(struct vf_graph *g, struct vf_err *err)
{
	pthread_mutex_lock(&g->sweep_lock);
	int rc = sweep(g, err);
	pthread_mutex_unlock(&g->sweep_lock);
	return rc;
}
