/* SPDX-License-Identifier: MIT */
/* What must hold of a graph at rest. */
#include <stdio.h>
#include <stdlib.h>

#include "graph_internal.h"

struct audit {
	struct vf_graph *graph;
	uint32_t slots;
	uint8_t *reached;
	int64_t findings;
	void (*report)(void *ctx, const char *text);
	void *ctx;
};

static void find(struct audit *a, const char *what, uint32_t slot, uint32_t level, uint64_t value)
{
	char text[160];

	snprintf(text, sizeof text, "slot %u level %u: %s (%llu)", slot, level, what, (unsigned long long)value);
	a->findings++;
	if (a->report)
		a->report(a->ctx, text);
}

static bool is_node(const struct audit *a, uint32_t slot)
{
	return slot < a->slots && vf_slot_is(a->graph, slot) & VF_IS_NODE;
}

static bool has(const struct audit *a, uint32_t slot, uint32_t link)
{
	const vf_link *list = vf_list(a->graph, slot, 0);
	uint32_t n = vf_list_count(a->graph, slot, 0);

	for (uint32_t i = 0; i < n; i++)
		if (vf_list_at(list, i) == link)
			return true;
	return false;
}

static void audit_marks(struct audit *a, uint32_t slot, uint32_t link)
{
	uint32_t to = link & VF_LINK_SLOT, mark = link & VF_LINK_MARKS;

	if (mark == VF_LINK_MARKS)
		find(a, "is parent and child of the same", slot, 0, to);
	else if (mark == VF_LINK_CHILD && !has(a, to, slot | VF_LINK_PARENT))
		find(a, "a child does not know it", slot, 0, to);
	else if (mark == VF_LINK_PARENT && !has(a, to, slot | VF_LINK_CHILD))
		find(a, "its parent does not know it", slot, 0, to);
}

static void audit_list(struct audit *a, uint32_t slot, uint32_t level)
{
	const struct vf_graph *g = a->graph;
	const vf_link *list = vf_list(g, slot, level);
	uint32_t n = vf_list_count(g, slot, level), room = vf_list_room(g, level), parents = 0;

	for (uint32_t i = n; i < room; i++)
		if (vf_list_at(list, i) != VF_SLOT_NONE)
			find(a, "a link behind the end of the list", slot, level, vf_list_at(list, i));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t link = vf_list_at(list, i), to = link & VF_LINK_SLOT;
		if (to >= a->slots)
			find(a, "a link out of range", slot, level, to);
		else if (to == slot)
			find(a, "a link to itself", slot, level, to);
		else if (!is_node(a, to))
			find(a, "a link to a slot that is not in the graph", slot, level, to);
		else if (g->level[to] < level)
			find(a, "a link to a node of a lower level", slot, level, to);
		else if (level == 0)
			audit_marks(a, slot, link);
		else if (link & VF_LINK_MARKS)
			find(a, "an edge of the tree above level 0", slot, level, to);
		for (uint32_t k = 0; k < i; k++)
			if ((vf_list_at(list, k) & VF_LINK_SLOT) == to)
				find(a, "the same link twice", slot, level, to);
		parents += level == 0 && link & VF_LINK_PARENT;
	}
	if (level == 0 && parents != (slot != atomic_load(&g->root)))
		find(a, "a number of parents", slot, 0, parents);
}

static void audit_twins(struct audit *a, uint32_t head)
{
	const struct vf_graph *g = a->graph;
	uint32_t n = 0;

	for (uint32_t slot = vf_slot_next_twin(g, head); slot != VF_SLOT_NONE; slot = vf_slot_next_twin(g, slot), n++) {
		if (n > a->slots || slot >= a->slots || !(vf_slot_is(g, slot) & VF_IS_TWIN)) {
			find(a, "a chain of equal vectors leads astray", head, 0, slot);
			return;
		}
		if (vf_list_at(vf_list(g, slot, 0), 0) != head || memcmp(vf_slot_code(g, slot), vf_slot_code(g, head), g->code_bytes))
			find(a, "a twin of another", slot, 0, head);
		a->reached[slot] = 1;
	}
	if (n == 0)
		find(a, "a head without twins", head, 0, 0);
}

/* On level 0 from the entry. */
static int reach(struct audit *a, struct vf_err *err)
{
	const struct vf_graph *g = a->graph;
	uint64_t entry = atomic_load(&g->entry);
	uint32_t *queue = malloc(((size_t)a->slots + 1) * sizeof *queue), count = 0;

	if (!queue)
		return vf_oom(err);
	if (entry != VF_ENTRY_NONE && is_node(a, (uint32_t)entry)) {
		a->reached[(uint32_t)entry] = 1;
		queue[count++] = (uint32_t)entry;
	}
	for (uint32_t i = 0; i < count; i++) {
		const vf_link *list = vf_list(g, queue[i], 0);
		uint32_t n = vf_list_count(g, queue[i], 0);
		for (uint32_t k = 0; k < n; k++) {
			uint32_t to = vf_list_at(list, k) & VF_LINK_SLOT;
			if (is_node(a, to) && !a->reached[to]) {
				a->reached[to] = 1;
				queue[count++] = to;
			}
		}
	}
	free(queue);
	return 0;
}

/* In the table, which every search reads. */
static void audit_outlier(struct audit *a, uint32_t slot)
{
	const struct vf_outliers *o = &a->graph->outliers;
	uint32_t count = atomic_load(&o->count), times = 0;

	for (uint32_t i = 0; i < count; i++)
		times += o->slots[i] == slot;
	if (times != 1)
		find(a, "linked, but neither in the graph nor once among the outliers", slot, 0, times);
	a->reached[slot] = 1;
}

static void audit_slot(struct audit *a, uint32_t slot, struct vf_graph_counts *seen)
{
	const struct vf_graph *g = a->graph;
	uint8_t is = vf_slot_is(g, slot);

	switch ((enum vf_slot_state)(is & VF_IS_STATE)) {
	case VF_SLOT_FREE:
		seen->free++;
		break;
	case VF_SLOT_PENDING:
		seen->pending++;
		break;
	case VF_SLOT_LINKED:
		seen->linked++;
		if (vf_slot_is_outlier(is))
			audit_outlier(a, slot);
		break;
	case VF_SLOT_DEAD:
		seen->dead++;
		break;
	}
	if ((is & VF_IS_STATE) != VF_SLOT_FREE && !vf_sketch_is_right(g, slot))
		find(a, "its sketch is that of another code", slot, 0, atomic_load(&g->serial[slot]));
	if (is & VF_IS_HEAD)
		audit_twins(a, slot);
	for (uint32_t level = 0; is & VF_IS_NODE && level <= g->level[slot]; level++)
		audit_list(a, slot, level);
}

static void audit_counts(struct audit *a, const struct vf_graph_counts *seen)
{
	struct vf_graph_counts counts;

	vf_graph_counts(a->graph, &counts);
	if (counts.outliers > counts.linked)
		find(a, "more outliers than linked slots", 0, 0, counts.outliers);
	if (counts.pending != seen->pending)
		find(a, "the count of pending slots is wrong", 0, 0, counts.pending);
	if (counts.linked != seen->linked)
		find(a, "the count of linked slots is wrong", 0, 0, counts.linked);
	if (counts.dead != seen->dead)
		find(a, "the count of dead slots is wrong", 0, 0, counts.dead);
}

int64_t vf_graph_audit(struct vf_graph *g, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err)
{
	struct audit a = { .graph = g, .slots = atomic_load(&g->slots), .report = report, .ctx = ctx };
	struct vf_graph_counts seen = { 0 };

	a.reached = calloc(1, (size_t)a.slots + 1);
	if (!a.reached)
		return vf_oom(err);
	int rc = reach(&a, err);
	for (uint32_t slot = 0; slot < a.slots && !rc; slot++)
		audit_slot(&a, slot, &seen);
	for (uint32_t slot = 0; slot < a.slots && !rc; slot++)
		if ((vf_slot_is(g, slot) & VF_IS_STATE) == VF_SLOT_LINKED && !a.reached[slot])
			find(&a, "no search can reach it", slot, 0, atomic_load(&g->serial[slot]));
	if (!rc)
		audit_counts(&a, &seen);
	free(a.reached);
	return rc ? rc : a.findings;
}
