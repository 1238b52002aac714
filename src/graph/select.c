/* SPDX-License-Identifier: MIT */
/* Which of the near nodes become neighbours (HNSW paper, algorithm 4). */
#include <stdlib.h>

#include "graph_internal.h"

static int compare(const void *a, const void *b)
{
	const struct vf_candidate *x = a, *y = b;

	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return (x->link > y->link) - (x->link < y->link);
}

void vf_candidates_sort(struct vf_candidate *c, uint32_t count)
{
	if (count > VF_INSERTION_MAX) {
		qsort(c, count, sizeof *c, compare);
		return;
	}
	for (uint32_t i = 1; i < count; i++) {
		struct vf_candidate one = c[i];
		uint32_t k = i;
		for (; k > 0 && c[k - 1].distance > one.distance; k--)
			c[k] = c[k - 1];
		c[k] = one;
	}
}

/* Nearer to one already chosen than to the node itself: that one leads there. */
static bool is_led_to(const struct vf_graph *g, struct vf_walker *w, const struct vf_candidate *c, const uint32_t *slots, uint32_t chosen)
{
	const struct vf_rows *rows = &w->rows;
	const uint8_t *row = vf_row(rows, c->link & VF_LINK_SLOT);
	float distance[4];

	for (uint32_t i = 0; i < chosen; i += 4) {
		uint32_t n = chosen - i < 4 ? chosen - i : 4;
		g->gather(row, rows->base, rows->stride, slots + i, n, rows->numbers, distance);
		w->stats.distances += n;
		for (uint32_t k = 0; k < n; k++)
			if (distance[k] < c->distance)
				return true;
	}
	return false;
}

uint32_t vf_select(const struct vf_graph *g, struct vf_walker *w, const struct vf_candidate *candidates, uint32_t count, uint32_t most,
                   uint32_t *links)
{
	uint32_t slots[VF_DEGREE_MAX + 1], chosen = 0, marked = 0;

	for (uint32_t i = 0; i < count; i++)
		marked += (candidates[i].link & VF_LINK_MARKS) != 0;
	for (uint32_t i = 0; i < count && chosen < most; i++) {
		const struct vf_candidate *c = &candidates[i];
		bool mark = (c->link & VF_LINK_MARKS) != 0;
		marked -= mark;
		/* An unmarked one leaves room for the marked ones behind it. */
		if (!mark && (chosen + marked >= most || is_led_to(g, w, c, slots, chosen)))
			continue;
		slots[chosen] = c->link & VF_LINK_SLOT;
		links[chosen++] = c->link;
	}
	return chosen;
}
