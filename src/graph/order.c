/* SPDX-License-Identifier: MIT */
/* The order of linking: vectors that lie near each other one after the other, so that each walk finds what it needs in the cache, where the one
 * before has been. Some thousands that wait are put into cells, each to the nearest of a few hundred of them, and linked cell by cell. 100,000 x 768: .6
 * to .7 of the CPU, 60,000 x 784: .7 to .8, 20,000 x 512 (which fit in the cache as they are): .9 to 1; with the same recall.
 *
 * It is a suggestion only: who takes a slot from here claims it like any other. */
#include <stdlib.h>

#include "graph_internal.h"

#define SLOTS_MAX     32768u
#define SLOTS_MIN     1024u
#define CELLS_MAX     256u
#define CELL_SLOTS    128u
/* Put into cells a call: some milliseconds at most. */
#define STEP_SLOTS    256u

void vf_order_init(struct vf_order *order)
{
	pthread_mutex_init(&order->lock, NULL);
}

static void clear(struct vf_order *order)
{
	free(order->rows);
	free(order->centres);
	order->rows = NULL;
	order->centres = NULL;
	order->n = order->next = order->placed = 0;
}

void vf_order_free(struct vf_order *order)
{
	clear(order);
	pthread_mutex_destroy(&order->lock);
}

/* ---- the lock is held ---- */

static uint64_t row_of(uint32_t cell, uint32_t slot)
{
	return (uint64_t)cell << 32 | slot;
}

static bool is_waiting(const struct vf_graph *g, uint32_t slot)
{
	return atomic_load_explicit(&g->waiting[slot / 64], memory_order_relaxed) >> (slot % 64) & 1 &&
	       (vf_slot_is(g, slot) & VF_IS_STATE) == VF_SLOT_PENDING;
}

static void note(void *ctx, uint32_t slot)
{
	struct vf_graph *g = ctx;

	if (g->order.n < g->order.most && is_waiting(g, slot))
		g->order.rows[g->order.n++] = row_of(0, slot);
}

/* Copies, since a slot may be used for something else before all are placed. */
static void choose_centres(struct vf_graph *g)
{
	struct vf_order *order = &g->order;

	order->cells = order->n / CELL_SLOTS < CELLS_MAX ? order->n / CELL_SLOTS : CELLS_MAX;
	for (uint32_t i = 0; i < order->cells; i++) {
		uint32_t slot = (uint32_t)order->rows[(uint64_t)i * order->n / order->cells];
		memcpy(order->centres + i * g->code_stride, vf_slot_code(g, slot), g->code_stride);
	}
}

/* With few that wait, or without memory, there is no order. At most as many as are linked: the first ones make the long links, which those of one
 * cell after the other would lack: questions far outside the vectors need them. */
static void collect(struct vf_graph *g)
{
	struct vf_order *order = &g->order;
	uint64_t linked = atomic_load(&g->nlinked);

	if (atomic_load(&g->npending) < SLOTS_MIN || linked < SLOTS_MIN) {
		clear(order);
		return;
	}
	order->n = order->next = order->placed = 0;
	order->most = linked < SLOTS_MAX ? (uint32_t)linked : SLOTS_MAX;
	if (!order->rows) {
		order->rows = malloc(SLOTS_MAX * sizeof *order->rows);
		order->centres = aligned_alloc(64, CELLS_MAX * g->code_stride);
	}
	if (!order->rows || !order->centres) {
		clear(order);
		return;
	}
	vf_slot_each_pending(g, NULL, note, g);
	if (order->n < SLOTS_MIN)
		clear(order);
	else
		choose_centres(g);
}

static uint32_t nearest_centre(const struct vf_graph *g, uint32_t slot, const uint32_t *all)
{
	float distance[CELLS_MAX];
	uint32_t best = 0;

	g->gather(vf_slot_code(g, slot), g->order.centres, g->code_stride, all, g->order.cells, g->numbers, distance);
	for (uint32_t i = 1; i < g->order.cells; i++)
		best = distance[i] < distance[best] ? i : best;
	return best;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void place_some(struct vf_graph *g)
{
	struct vf_order *order = &g->order;
	uint32_t all[CELLS_MAX], end = order->placed + STEP_SLOTS < order->n ? order->placed + STEP_SLOTS : order->n;

	for (uint32_t i = 0; i < order->cells; i++)
		all[i] = i;
	for (; order->placed < end; order->placed++) {
		uint32_t slot = (uint32_t)order->rows[order->placed];
		if (is_waiting(g, slot))
			order->rows[order->placed] = row_of(nearest_centre(g, slot, all), slot);
	}
	if (order->placed == order->n)
		qsort(order->rows, order->n, sizeof *order->rows, compare);
}

/* Of one cell. The last takes the order away with it. */
static uint32_t take(struct vf_graph *g, uint32_t *slots, uint32_t most)
{
	struct vf_order *order = &g->order;
	uint32_t n = 0;

	for (uint64_t cell = 0; n < most && order->next < order->n; order->next++) {
		uint64_t row = order->rows[order->next];
		if (n > 0 && row >> 32 != cell)
			break;
		if (vf_slot_claim_this(g, (uint32_t)row)) {
			cell = row >> 32;
			slots[n++] = (uint32_t)row;
		}
	}
	if (order->next == order->n)
		clear(order);
	return n;
}

/* ---- from outside ---- */

uint32_t vf_order_claim(struct vf_graph *g, uint32_t *slots, uint32_t most)
{
	struct vf_order *order = &g->order;
	uint32_t n = 0;

	/* Others need not wait while an order is made. */
	if (pthread_mutex_trylock(&order->lock) == 0) {
		if (order->next == order->n)
			collect(g);
		if (order->placed < order->n)
			place_some(g);
		else
			n = take(g, slots, most);
		pthread_mutex_unlock(&order->lock);
	}
	if (n == 0 && (slots[0] = vf_slot_claim(g)) != VF_SLOT_NONE)
		n = 1;
	return n;
}
