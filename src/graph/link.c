/* SPDX-License-Identifier: MIT */
/* Insertion (HNSW paper, algorithm 1), in two parts: the plan, which only reads, and its application, which cannot fail. */
#include <sched.h>

#include "graph_internal.h"
#include "vecfs/scramble.h"

struct plan {
	uint32_t slot, level;
	uint32_t count[VF_LEVEL_MAX + 1];
	uint32_t links[VF_LEVEL_MAX + 1][VF_M_MAX];
};

/* A level is drawn by hashing the serial, so that the same vectors make the same graph. */
uint32_t vf_level_of(const struct vf_graph *g, uint64_t serial)
{
	uint64_t h = vf_scramble(serial);
	uint32_t level = 0;

	while (level < VF_LEVEL_MAX && h < g->level_bound[level + 1])
		level++;
	return level;
}

uint64_t vf_entry_of(const struct vf_graph *g, uint32_t slot)
{
	return (uint64_t)g->level[slot] << 32 | slot;
}

/* Whoever the walk has found, without those that a sweep is at: a condemned head leads to its live twins, but only until it is freed. */
static uint32_t candidates_among(struct vf_graph *g, struct vf_walker *w, const struct vf_beam *beam, uint32_t self, uint32_t flags)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < beam->found; i++) {
		uint32_t slot = w->node[i] & VF_LINK_SLOT;
		if (w->node[i] & flags || slot == self || (beam->sift && vf_slot_is(g, slot) & VF_IS_CONDEMNED))
			continue;
		w->candidates[n++] = (struct vf_candidate){ w->near[i], slot };
	}
	return n;
}

/* Live nodes; when there is none, dead ones: they still lead on. */
static uint32_t candidates_of(struct vf_graph *g, struct vf_walker *w, const struct vf_beam *beam, uint32_t self)
{
	uint32_t n = candidates_among(g, w, beam, self, VF_POOL_GUIDE);

	return n ? n : candidates_among(g, w, beam, self, 0);
}

static struct vf_beam link_beam(struct vf_graph *g, struct vf_walker *w, uint32_t slot, uint32_t width)
{
	vf_walker_aim_at_slot(g, w, slot);
	return (struct vf_beam){
		.width = width,
		.sift = atomic_load_explicit(&g->ndead, memory_order_relaxed) > 0, .visits_max = UINT64_MAX,
	};
}

/* False when there is nobody to link to. */
static bool make_plan(struct vf_graph *g, struct vf_walker *w, uint64_t entry, struct plan *plan)
{
	struct vf_beam beam = link_beam(g, w, plan->slot, atomic_load_explicit(&g->ef_construction, memory_order_relaxed));
	uint32_t top = (uint32_t)(entry >> 32), at;
	float distance;

	beam.level = plan->level < top ? plan->level : top;
	for (uint32_t l = beam.level + 1; l <= plan->level; l++)
		plan->count[l] = 0;
	vf_beam_descend(g, w, &beam, entry, &at, &distance);
	for (uint32_t level = beam.level + 1; level-- > 0;) {
		beam.level = level;
		vf_beam_walk(g, w, &beam, at, distance);
		uint32_t n = candidates_of(g, w, &beam, plan->slot);
		plan->count[level] = vf_select(g, w, w->candidates, n, g->degree, plan->links[level]);
		at = w->node[0] & VF_LINK_SLOT;
		distance = w->near[0];
	}
	return plan->count[0] > 0;
}

/* Becomes the twin of an equal vector that is in the graph. */
static bool join(struct vf_graph *g, uint32_t slot)
{
	uint32_t head = vf_equal_claim(g, slot);

	if (head == VF_SLOT_NONE || head == slot)
		return false;
	vf_node_lock(g, head);
	bool can = (vf_slot_is(g, head) & (VF_IS_NODE | VF_IS_CONDEMNED)) == VF_IS_NODE;
	if (can) {
		vf_list_put(vf_list(g, slot, 0), 0, head);
		atomic_fetch_or(&g->state[slot], VF_IS_TWIN);
		atomic_store_explicit(&g->twin[slot], vf_slot_next_twin(g, head), memory_order_relaxed);
		atomic_store_explicit(&g->twin[head], slot, memory_order_release);
		atomic_fetch_or(&g->state[head], VF_IS_HEAD);
	}
	vf_node_unlock(g, head);
	/* One that is about to be swept, or not yet in the graph. */
	if (!can)
		vf_equal_replace(g, head, slot);
	return can;
}

static void become_node(struct vf_graph *g, struct plan *plan)
{
	uint32_t at = plan->level ? vf_upper_take(g, plan->level) : 0;

	if (at == VF_SLOT_NONE)
		plan->level = 0;
	g->upper_at[plan->slot] = at;
	g->level[plan->slot] = (uint8_t)plan->level;
	for (uint32_t l = 0; l <= plan->level; l++)
		vf_list_write(g, plan->slot, l, plan->links[l], plan->count[l]);
	atomic_fetch_or(&g->state[plan->slot], VF_IS_NODE);
}

static void apply(struct vf_graph *g, struct vf_walker *w, struct plan *plan)
{
	become_node(g, plan);
	/* A sweep may have condemned all of them since. It waits for this walk, and finds a place for orphans then. */
	if (!vf_tree_adopt(g, w, plan->slot, plan->links[0], plan->count[0]))
		atomic_fetch_or(&g->state[plan->slot], VF_IS_ORPHAN);
	for (uint32_t l = 0; l <= plan->level; l++)
		for (uint32_t i = 0; i < plan->count[l]; i++)
			vf_list_add(g, w, plan->links[l][i], l, plan->slot);
}

static void become_first(struct vf_graph *g, struct plan *plan)
{
	memset(plan->count, 0, sizeof plan->count);
	become_node(g, plan);
	atomic_store(&g->root, plan->slot);
}

/* PENDING -> LINKED, unless it was removed meanwhile: then it is a dead node like others. */
static void finish(struct vf_graph *g, uint32_t slot)
{
	uint8_t is = vf_slot_is(g, slot);
	bool pending;

	/* Counted first: it may be removed at once. */
	atomic_fetch_add(&g->nlinked, 1);
	while ((pending = (is & VF_IS_STATE) == VF_SLOT_PENDING) &&
	       !atomic_compare_exchange_weak(&g->state[slot], &is, (uint8_t)((is & ~VF_IS_STATE) | VF_SLOT_LINKED)))
		;
	/* Behind the change of state, which a dump may have missed else. */
	vf_slot_touch(g, slot, VF_DIRTY_LINKS);
	if (pending) {
		atomic_fetch_add(&g->nchanges, 1);
		vf_slot_settle(g, slot);
	} else {
		atomic_fetch_sub(&g->nlinked, 1);
	}
}

/* Who will be the entry keeps the others from becoming it meanwhile. */
static bool rises(struct vf_graph *g, const struct plan *plan, uint64_t *entry)
{
	*entry = atomic_load(&g->entry);
	if (*entry != VF_ENTRY_NONE && plan->level <= *entry >> 32)
		return false;
	pthread_mutex_lock(&g->entry_lock);
	*entry = atomic_load(&g->entry);
	if (*entry == VF_ENTRY_NONE || plan->level > *entry >> 32)
		return true;
	pthread_mutex_unlock(&g->entry_lock);
	return false;
}

static void link_slot(struct vf_graph *g, struct vf_walker *w, uint32_t slot)
{
	struct plan plan = { .slot = slot, .level = vf_level_of(g, atomic_load_explicit(&g->serial[slot], memory_order_relaxed)) };
	uint64_t entry;

	if (join(g, slot)) {
		finish(g, slot);
		return;
	}
	bool rising = rises(g, &plan, &entry), linked = true;

	if (entry == VF_ENTRY_NONE)
		become_first(g, &plan);
	else if ((linked = make_plan(g, w, entry, &plan)))
		apply(g, w, &plan);
	if (linked && rising && vf_slot_is(g, slot) & VF_IS_NODE && (entry == VF_ENTRY_NONE || plan.level > entry >> 32))
		atomic_store(&g->entry, vf_entry_of(g, slot));
	if (rising)
		pthread_mutex_unlock(&g->entry_lock);
	if (linked) {
		finish(g, slot);
	} else {
		/* Every node is condemned: wait until the sweep has emptied the graph. */
		vf_slot_unclaim(g, slot);
		if ((vf_slot_is(g, slot) & VF_IS_STATE) != VF_SLOT_PENDING)
			vf_slot_claim_this(g, slot);   /* removed: who comes into the slot next says when it waits */
		sched_yield();
	}
}

int vf_graph_link(struct vf_graph *g, uint32_t most, struct vf_err *err)
{
	struct vf_walker *w;
	uint32_t slots[VF_LINKS_MAX], n;
	int rc;

	if (atomic_load(&g->npending) == 0 && !atomic_load(&g->equal.forgotten))
		return 0;
	if ((rc = vf_walker_get(g, atomic_load(&g->ef_construction), &w, err)))
		return rc;
	/* After loading, for questions too. */
	vf_equal_recall(g);
	/* Claimed after entering, so that a sweep that begins now waits for these links. */
	n = vf_order_claim(g, slots, most < VF_LINKS_MAX ? most : VF_LINKS_MAX);
	for (uint32_t i = 0; i < n; i++)
		if ((vf_slot_is(g, slots[i]) & VF_IS_STATE) == VF_SLOT_PENDING)
			link_slot(g, w, slots[i]);
	vf_walker_put(g, w);
	return (int)n;
}

void vf_link_more(struct vf_graph *g, struct vf_walker *w, uint32_t slot)
{
	struct vf_beam beam = link_beam(g, w, slot, atomic_load_explicit(&g->ef_construction, memory_order_relaxed));
	uint64_t entry = atomic_load(&g->entry);
	uint32_t links[VF_M_MAX], at;
	float distance;

	if (entry == VF_ENTRY_NONE)
		return;
	vf_beam_descend(g, w, &beam, entry, &at, &distance);
	vf_beam_walk(g, w, &beam, at, distance);
	uint32_t n = candidates_of(g, w, &beam, slot);
	n = vf_select(g, w, w->candidates, n, g->degree, links);
	for (uint32_t i = 0; i < n; i++)
		if (vf_list_add(g, w, links[i], 0, slot))
			vf_list_add(g, w, slot, 0, links[i]);
}

static uint64_t best_entry(const struct vf_graph *g)
{
	uint32_t slots = atomic_load(&g->slots);
	uint64_t best = VF_ENTRY_NONE, second = VF_ENTRY_NONE;

	for (uint32_t slot = 0; slot < slots; slot++) {
		uint8_t is = vf_slot_is(g, slot);
		if ((is & (VF_IS_NODE | VF_IS_CONDEMNED)) != VF_IS_NODE)
			continue;
		uint64_t *which = (is & VF_IS_STATE) == VF_SLOT_LINKED ? &best : &second;
		if (*which == VF_ENTRY_NONE || g->level[slot] > *which >> 32)
			*which = vf_entry_of(g, slot);
	}
	return best != VF_ENTRY_NONE ? best : second;
}

void vf_entry_renew(struct vf_graph *g)
{
	pthread_mutex_lock(&g->entry_lock);
	uint64_t entry = atomic_load(&g->entry);
	if (entry == VF_ENTRY_NONE || vf_slot_is(g, (uint32_t)entry) & VF_IS_CONDEMNED) {
		entry = best_entry(g);
		atomic_store(&g->entry, entry);
		if (entry == VF_ENTRY_NONE)
			atomic_store(&g->root, VF_SLOT_NONE);
	}
	pthread_mutex_unlock(&g->entry_lock);
}
