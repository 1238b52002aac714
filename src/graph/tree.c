/* SPDX-License-Identifier: MIT */
/* The spanning tree in the links of level 0: its edges are never pruned, so nobody is unreachable. */
#include "graph_internal.h"

static uint32_t marked(const struct vf_graph *g, uint32_t slot, uint32_t mark)
{
	const vf_link *list = vf_list(g, slot, 0);

	for (uint32_t i = 0; i < g->degree0; i++) {
		uint32_t link = vf_list_at(list, i);
		if (link == VF_SLOT_NONE)
			break;
		if (link & mark)
			return link & VF_LINK_SLOT;
	}
	return VF_SLOT_NONE;
}

uint32_t vf_tree_parent(const struct vf_graph *g, uint32_t slot)
{
	return marked(g, slot, VF_LINK_PARENT);
}

/* Does the way up from `slot` end elsewhere than at `orphan`: at the root, or at another orphan? The tree is flat, some tens of steps. */
static bool leads_elsewhere(const struct vf_graph *g, uint32_t slot, uint32_t orphan)
{
	uint32_t up;

	while (slot != orphan && (up = vf_tree_parent(g, slot)) != VF_SLOT_NONE)
		slot = up;
	return slot != orphan && (slot == atomic_load(&g->root) || vf_slot_is(g, slot) & VF_IS_ORPHAN);
}

static bool attach(struct vf_graph *g, struct vf_walker *w, uint32_t parent, uint32_t child)
{
	/* The child always has room for its parent: at most half of its list are children. */
	return vf_list_add(g, w, parent, 0, child | VF_LINK_CHILD) && vf_list_add(g, w, child, 0, parent | VF_LINK_PARENT);
}

static uint32_t first_child(struct vf_graph *g, uint32_t slot)
{
	vf_node_lock(g, slot);
	uint32_t child = marked(g, slot, VF_LINK_CHILD);
	vf_node_unlock(g, slot);
	return child;
}

bool vf_tree_adopt(struct vf_graph *g, struct vf_walker *w, uint32_t slot, const uint32_t *candidates, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (attach(g, w, candidates[i] & VF_LINK_SLOT, slot))
			return true;
	/* All have as many children as a node may have: then below them, where somebody has none. */
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = first_child(g, candidates[i] & VF_LINK_SLOT);
		for (; at != VF_SLOT_NONE; at = first_child(g, at))
			if (attach(g, w, at, slot))
				return true;
	}
	return false;
}

static uint32_t own_neighbours(struct vf_graph *g, struct vf_walker *w, uint32_t slot, uint32_t *out)
{
	const vf_link *list = vf_list(g, slot, 0);
	uint32_t n = 0, kept = 0;

	for (uint32_t link; n < g->degree0 && (link = vf_list_at(list, n)) != VF_SLOT_NONE; n++)
		w->fresh[n] = link & VF_LINK_SLOT;
	g->gather(vf_row(&w->rows, slot), w->rows.base, w->rows.stride, w->fresh, n, w->rows.numbers, w->fresh_distance);
	for (uint32_t i = 0; i < n; i++)
		w->candidates[i] = (struct vf_candidate){ w->fresh_distance[i], w->fresh[i] };
	vf_candidates_sort(w->candidates, n);
	for (uint32_t i = 0; i < n; i++)
		if (leads_elsewhere(g, w->candidates[i].link, slot))
			out[kept++] = w->candidates[i].link;
	return kept;
}

static void adopt_orphan(struct vf_graph *g, struct vf_walker *w, uint32_t slot)
{
	uint32_t near[VF_DEGREE_MAX], n = own_neighbours(g, w, slot, near), root = atomic_load(&g->root);

	if (vf_tree_adopt(g, w, slot, near, n))
		return;
	/* An island: look for the others from the entry on. */
	vf_link_more(g, w, slot);
	n = own_neighbours(g, w, slot, near);
	if (!vf_tree_adopt(g, w, slot, near, n) && !vf_tree_adopt(g, w, slot, &root, 1))
		atomic_fetch_or(&g->state[slot], VF_IS_ORPHAN);
}

static bool is_root(const struct vf_graph *g, uint32_t root)
{
	return root != VF_SLOT_NONE && (vf_slot_is(g, root) & (VF_IS_NODE | VF_IS_CONDEMNED)) == VF_IS_NODE;
}

void vf_tree_adopt_orphans(struct vf_graph *g, struct vf_walker *w)
{
	uint32_t slots = atomic_load(&g->slots);

	for (uint32_t slot = 0; slot < slots; slot++) {
		if ((vf_slot_is(g, slot) & (VF_IS_ORPHAN | VF_IS_CONDEMNED)) != VF_IS_ORPHAN)
			continue;
		atomic_fetch_and(&g->state[slot], (uint8_t)~VF_IS_ORPHAN);
		if (!is_root(g, atomic_load(&g->root)))
			atomic_store(&g->root, slot);
		else
			adopt_orphan(g, w, slot);
	}
}
