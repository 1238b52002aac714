/* SPDX-License-Identifier: MIT */
/* Outliers: vectors so far beyond the range of the codes that they would be clamped to another place. Each search compares with all of
 * them by their floats, so that none is missed and none is measured wrongly. When they become many the graph is built anew with other codes. */
#include <math.h>
#include <stdlib.h>

#include "graph_internal.h"

/* A search measures some thousands of codes; so many rows more, one after the other, are few beside that. Not tuned. */
#define OUTLIERS_MIN 256u
#define SLOTS_AN_OUTLIER 1024u

void vf_outliers_init(struct vf_outliers *outliers)
{
	pthread_rwlock_init(&outliers->lock, NULL);
}

void vf_outliers_free(struct vf_outliers *outliers)
{
	pthread_rwlock_destroy(&outliers->lock);
	free(outliers->slots);
	free(outliers->rows);
}

uint32_t vf_outliers_max(const struct vf_graph *g)
{
	return OUTLIERS_MIN + atomic_load_explicit(&g->slots, memory_order_relaxed) / SLOTS_AN_OUTLIER;
}

uint64_t vf_outliers_bytes(const struct vf_graph *g)
{
	return atomic_load(&g->outliers.count) * (sizeof(float) * (uint64_t)g->numbers + sizeof(uint32_t));
}

static int make_room(struct vf_graph *g, struct vf_err *err)
{
	struct vf_outliers *o = &g->outliers;

	if (atomic_load(&o->count) < o->room)
		return 0;
	uint32_t room = o->room ? 2 * o->room : 16;
	uint32_t *slots = realloc(o->slots, room * sizeof *slots);
	if (slots)
		o->slots = slots;
	float *rows = slots ? realloc(o->rows, room * g->numbers * sizeof *rows) : NULL;
	if (!rows)
		return vf_oom(err);
	o->rows = rows;
	o->room = room;
	return 0;
}

int vf_outliers_add(struct vf_graph *g, uint32_t slot, const float *vector, struct vf_err *err)
{
	struct vf_outliers *o = &g->outliers;

	pthread_rwlock_wrlock(&o->lock);
	uint32_t count = atomic_load(&o->count);
	int rc = make_room(g, err);
	if (rc == 0) {
		o->slots[count] = slot;
		vf_quant_units(g, vector, o->rows + count * g->numbers);
		atomic_store(&o->count, count + 1);
	}
	pthread_rwlock_unlock(&o->lock);
	return rc;
}

/* The last takes its place. */
void vf_outliers_remove(struct vf_graph *g, uint32_t slot)
{
	struct vf_outliers *o = &g->outliers;

	pthread_rwlock_wrlock(&o->lock);
	uint32_t last = atomic_load(&o->count) - 1, i = 0;
	while (i < last && o->slots[i] != slot)
		i++;
	o->slots[i] = o->slots[last];
	memmove(o->rows + i * g->numbers, o->rows + last * g->numbers, g->numbers * sizeof *o->rows);
	atomic_store(&o->count, last);
	pthread_rwlock_unlock(&o->lock);
}

double vf_outliers_longest(struct vf_graph *g)
{
	struct vf_outliers *o = &g->outliers;
	double most = 0;

	pthread_rwlock_rdlock(&o->lock);
	for (uint32_t i = 0; i < atomic_load(&o->count); i++)
		most = fmax(most, vf_square(o->rows + i * g->numbers, g->numbers));
	pthread_rwlock_unlock(&o->lock);
	return sqrt(most);
}

static void measure(struct vf_best *best, const struct vf_slot_set *only)
{
	struct vf_graph *g = best->graph;
	const struct vf_outliers *o = &g->outliers;
	const struct vf_kernels *k = vf_kernels();
	const float *units = best->walker->units;
	uint32_t count = atomic_load(&o->count);

	for (uint32_t i = 0; i < count; i++) {
		const float *row = o->rows + i * g->numbers;
		if (!vf_slot_in(only, o->slots[i]))
			continue;
		float distance = g->params.metric == VF_DOT ? -k->dot_f32(units, row, g->numbers) : k->l2sq_f32(units, row, g->numbers);
		vf_best_push(best, vf_key_of(distance, o->slots[i]));
	}
	best->walker->stats.scanned += count;
}

void vf_best_outliers(struct vf_best *best, const float *query, const struct vf_slot_set *only)
{
	struct vf_graph *g = best->graph;

	if (atomic_load(&g->outliers.count) == 0)
		return;
	vf_quant_query_units(g, query, best->walker->units);
	pthread_rwlock_rdlock(&g->outliers.lock);
	measure(best, only);
	pthread_rwlock_unlock(&g->outliers.lock);
}
