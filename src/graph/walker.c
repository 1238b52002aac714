/* SPDX-License-Identifier: MIT */
/* Walkers: the scratch of one walk, kept between walks so that a search allocates nothing, and the epochs by which a sweep
 * knows when nobody can be at a slot any more.
 *
 * Getting and putting take a short lock, 20 ns each beside tens of microseconds of walking; the lock also orders a walk against a sweep: who
 * gets a walker after the sweep has looked at them sees every link that the sweep changed before. */
#include <stdlib.h>
#include <time.h>

#include "graph_internal.h"

#define SLOTS_SLACK   4096u
#define KEYS_KEPT_MAX 65536u
#define POOL_SLACK    VF_PLACE_SCRATCH

static uint64_t bytes_of(const struct vf_walker *w)
{
	return sizeof *w + w->slots / 8 + w->slots / 16 + 16 * (uint64_t)w->pool_room + 8 * (uint64_t)w->keys_room;
}

/* Counted apart, since whoever counts may not look into a walker that is in use. */
static void recount(struct vf_graph *g, struct vf_walker *w)
{
	uint64_t bytes = bytes_of(w);

	if (bytes != w->counted)
		atomic_fetch_add(&g->walker_bytes, bytes - w->counted);
	w->counted = bytes;
}

static int more_slots(struct vf_walker *w, uint32_t slots, struct vf_err *err)
{
	if (slots <= w->slots)
		return 0;
	size_t room = ((size_t)slots + slots / 4 + SLOTS_SLACK + 63) / 64;
	uint64_t *seen = calloc(room, sizeof *seen);
	uint32_t *touched = malloc((room + 1) * sizeof *touched);   /* one is written ahead */
	if (!seen || !touched) {
		free(seen);
		free(touched);
		return vf_oom(err);
	}
	free(w->seen);
	free(w->touched);
	w->seen = seen;
	w->touched = touched;
	w->ntouched = 0;
	w->slots = (uint32_t)(room * 64);
	return 0;
}

static int more_pool(struct vf_walker *w, uint32_t room, struct vf_err *err)
{
	if (room <= w->pool_room)
		return 0;
	float *near = malloc((room + POOL_SLACK) * sizeof *near);
	uint32_t *node = malloc((room + POOL_SLACK) * sizeof *node);
	struct vf_candidate *candidates = malloc(room * sizeof *candidates);
	if (!near || !node || !candidates) {
		free(near);
		free(node);
		free(candidates);
		return vf_oom(err);
	}
	free(w->near);
	free(w->node);
	free(w->candidates);
	w->candidates = candidates;
	w->near = near;
	w->node = node;
	w->pool_room = room;
	return 0;
}

int vf_walker_want_keys(struct vf_walker *w, size_t keys, struct vf_err *err)
{
	if (keys <= w->keys_room)
		return 0;
	uint64_t *more = malloc(keys * sizeof *more);
	if (!more)
		return vf_oom(err);
	free(w->keys);
	w->keys = more;
	w->keys_room = keys;
	return 0;
}

void vf_walker_free(struct vf_walker *w)
{
	free(w->code);
	free(w->units);
	free(w->seen);
	free(w->touched);
	free(w->near);
	free(w->node);
	free(w->candidates);
	free(w->keys);
	free(w);
}

static struct vf_walker *make(struct vf_graph *g)
{
	struct vf_walker *w = calloc(1, sizeof *w);

	if (w) {
		w->code = aligned_alloc(64, g->code_stride);
		w->units = malloc(g->numbers * sizeof *w->units);
	}
	if (w && (!w->code || !w->units)) {
		vf_walker_free(w);
		w = NULL;
	}
	return w;
}

static struct vf_walker *take_idle(struct vf_graph *g)
{
	pthread_mutex_lock(&g->small_lock);
	struct vf_walker *w = g->idle;
	if (w) {
		g->idle = w->next_idle;
		w->entered = g->epoch;
	}
	pthread_mutex_unlock(&g->small_lock);
	return w;
}

static void enlist(struct vf_graph *g, struct vf_walker *w)
{
	pthread_mutex_lock(&g->small_lock);
	w->next_of_all = g->walkers;
	g->walkers = w;
	w->entered = g->epoch;
	pthread_mutex_unlock(&g->small_lock);
}

/* `slots`: how many it can see are looked up once it has entered, so that no newer ones than come from then on are missing. NULL: none. */
static int get(struct vf_graph *g, const _Atomic uint32_t *slots, uint32_t width, struct vf_walker **out, struct vf_err *err)
{
	struct vf_walker *w = take_idle(g);
	int rc;

	if (!w) {
		w = make(g);
		if (!w)
			return vf_oom(err);
		enlist(g, w);
	}
	w->stats = (struct vf_search_stats){ 0 };
	w->rows = w->walked = vf_rows_to_walk(g);
	/* Three times the width: room for guides between the results. */
	if ((rc = more_slots(w, slots ? atomic_load(slots) : 0, err)) || (rc = more_pool(w, 3 * width + 64, err)))
		vf_walker_put(g, w);
	else
		*out = w;
	return rc;
}

int vf_walker_get(struct vf_graph *g, uint32_t width, struct vf_walker **out, struct vf_err *err)
{
	return get(g, &g->slots, width, out, err);
}

int vf_walker_get_for_scan(struct vf_graph *g, struct vf_walker **out, struct vf_err *err)
{
	return get(g, NULL, 0, out, err);
}

/* What one question for very many needed is not kept. */
static void trim(struct vf_walker *w)
{
	if (w->keys_room <= KEYS_KEPT_MAX)
		return;
	free(w->keys);
	w->keys = NULL;
	w->keys_room = 0;
}

void vf_walker_put(struct vf_graph *g, struct vf_walker *w)
{
	trim(w);
	recount(g, w);
	pthread_mutex_lock(&g->small_lock);
	w->entered = 0;
	w->next_idle = g->idle;
	g->idle = w;
	pthread_mutex_unlock(&g->small_lock);
}

/* Only what was set: a walk sees some thousands of a graph's millions. */
void vf_walker_forget(struct vf_walker *w)
{
	for (uint32_t i = 0; i < w->ntouched; i++)
		w->seen[w->touched[i]] = 0;
	w->ntouched = 0;
}

static bool entered_before(struct vf_graph *g, uint64_t epoch)
{
	bool found = false;

	pthread_mutex_lock(&g->small_lock);
	for (const struct vf_walker *w = g->walkers; w && !found; w = w->next_of_all)
		found = w->entered && w->entered < epoch;
	pthread_mutex_unlock(&g->small_lock);
	return found;
}

void vf_walker_grace(struct vf_graph *g)
{
	const struct timespec pause = { 0, 100000 };

	pthread_mutex_lock(&g->small_lock);
	uint64_t epoch = ++g->epoch;
	pthread_mutex_unlock(&g->small_lock);
	while (entered_before(g, epoch))
		nanosleep(&pause, NULL);
}
