/* SPDX-License-Identifier: MIT */
/* sketch.c - the table of sketches (basis.c) that walks go over where the vectors of a graph allow it: made by a linker beside everybody, made anew when
 * much has been linked since, or when what comes lies elsewhere. It follows from the codes, so it is not kept on disk; until it is there, and where there
 * is none, walks go over the codes.
 *
 * From the moment that a table is begun every vector that is added gets its sketch there, while those that were there before are filled in, some at a time.
 * Then the walks that begin get it, and the one before goes when the last walk over it has ended. */
#include <stdlib.h>

#include "graph_internal.h"

/* Of fewer dimensions codes are short themselves (128: no gain). */
#define DIM_MIN       192u
/* Enough to fit to and to test with. */
#define SLOTS_MIN     4096u
/* A basis is fitted anew when so many times the vectors that there were have been linked since; sooner when many of these lie outside of it. */
#define LINKS_FACTOR  3u
#define STRAYS_MIN    512u
#define STRAYS_PART   12u
/* Filled in one go, so that linkers come to other work, and in one hold of the lock that adds wait for. */
#define STEP_SLOTS    2048u
#define HOLD_SLOTS    64u

struct vf_sketches {
	struct vf_basis basis;
	struct vf_region region;
	uint32_t filled;           /* slots below have their sketch; the maker's */
};

static uint8_t *row_of(const struct vf_sketches *t, uint32_t slot)
{
	return t->region.base + (size_t)slot * t->basis.dims;
}

static void free_table(struct vf_sketches *t)
{
	if (!t)
		return;
	vf_basis_free(&t->basis);
	vf_region_free(&t->region);
	free(t);
}

void vf_sketching_init(struct vf_sketching *s)
{
	pthread_rwlockattr_t attr;

	/* Adds come one after the other; the maker has to get between them. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&s->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&s->making, NULL);
}

void vf_sketching_free(struct vf_sketching *s)
{
	free_table(s->tables[0]);
	free_table(s->tables[1]);
	pthread_rwlock_destroy(&s->lock);
	pthread_mutex_destroy(&s->making);
}

/* Who sees the slot sees what its rounding has raised. */
static void sketch(const struct vf_graph *g, struct vf_sketches *t, uint32_t slot)
{
	float off = vf_basis_sketch(g, &t->basis, vf_slot_code(g, slot), row_of(t, slot));
	uint32_t bits, most = atomic_load_explicit(&t->basis.rounding, memory_order_relaxed);

	memcpy(&bits, &off, sizeof bits);
	while (most < bits && !atomic_compare_exchange_weak(&t->basis.rounding, &most, bits))
		;
}

/* ---- for those who add; the lock is held for reading ---- */

int vf_sketch_make_room(struct vf_graph *g, uint32_t slots, struct vf_err *err)
{
	int rc = 0;

	for (int i = 0; i < 2 && !rc; i++)
		if (g->sketching.tables[i])
			rc = vf_region_use(&g->sketching.tables[i]->region, (size_t)slots * g->sketching.tables[i]->basis.dims, err);
	return rc;
}

void vf_sketch_slot(struct vf_graph *g, uint32_t slot)
{
	for (int i = 0; i < 2; i++)
		if (g->sketching.tables[i])
			sketch(g, g->sketching.tables[i], slot);
}

/* ---- for those who walk ---- */

static struct vf_rows rows_of_table(const struct vf_sketches *t)
{
	return (struct vf_rows){ t->region.base, t->basis.dims, t->basis.dims, &t->basis };
}

static struct vf_rows rows_of_codes(const struct vf_graph *g)
{
	return (struct vf_rows){ g->codes, g->code_stride, g->numbers, NULL };
}

struct vf_rows vf_rows_to_walk(const struct vf_graph *g)
{
	const struct vf_sketches *t = atomic_load_explicit(&g->sketching.walked, memory_order_acquire);

	return t ? rows_of_table(t) : rows_of_codes(g);
}

/* A query that reaches beyond codes has no sketch. */
void vf_walker_aim(const struct vf_graph *g, const float *vector, struct vf_walker *w)
{
	vf_quant_aim(g, vector, w);
	w->goal = w->aim;
	w->goal_gather = w->gather;
	if (w->rows.basis && w->aim == w->code) {
		w->sketch_off = vf_basis_sketch_query(g, w->rows.basis, w->code, w->sketch, &w->stray);
		w->goal = w->sketch;
	}
	if (w->goal != w->sketch)
		w->rows = rows_of_codes(g);
}

/* For a walk; a scan loses nothing. */
void vf_walker_aim_walk(const struct vf_graph *g, struct vf_walker *w)
{
	if (w->rows.basis && w->stray) {
		w->rows = rows_of_codes(g);
		w->goal = w->aim;
	}
}

/* Sketches tell nothing of how what lies outside of the basis lies to each other. */
struct vf_rows vf_rows_to_choose_by(const struct vf_graph *g, const struct vf_walker *w, uint32_t owner, const struct vf_candidate *candidates, uint32_t n)
{
	if (!w->rows.basis)
		return w->rows;
	bool stray = vf_sketch_excess(&w->rows, owner) > 0;
	for (uint32_t i = 0; i < n && !stray; i++)
		stray = vf_sketch_excess(&w->rows, candidates[i].link & VF_LINK_SLOT) > 0;
	return stray ? rows_of_codes(g) : w->rows;
}

void vf_walker_aim_at_slot(struct vf_graph *g, struct vf_walker *w, uint32_t slot)
{
	struct vf_sketching *s = &g->sketching;

	w->rows = w->walked;
	if (w->rows.basis && vf_basis_outside(g, w->rows.basis, vf_slot_code(g, slot), vf_row(&w->rows, slot)) > w->rows.basis->stray) {
		atomic_fetch_add_explicit(&s->strays, 1, memory_order_relaxed);
		w->rows = rows_of_codes(g);
	}
	atomic_fetch_add_explicit(&s->links, 1, memory_order_relaxed);
	w->goal = vf_row(&w->rows, slot);
	w->goal_gather = g->gather;
}

/* ---- making ---- */

static uint64_t count_of(struct vf_graph *g)
{
	return atomic_load_explicit(&g->npending, memory_order_relaxed) + atomic_load_explicit(&g->nlinked, memory_order_relaxed);
}

static bool is_due(struct vf_graph *g)
{
	const struct vf_sketching *s = &g->sketching;
	uint64_t at = atomic_load_explicit(&s->fitted_at, memory_order_relaxed);
	uint64_t strays = atomic_load_explicit(&s->strays, memory_order_relaxed);

	/* Under dot what lies outside of the basis cannot be kept away. */
	if (g->quant.code != VF_CODE_U8 || g->params.metric == VF_DOT || g->quant.dim < DIM_MIN || count_of(g) < SLOTS_MIN)
		return false;
	return at == 0 || atomic_load_explicit(&s->links, memory_order_relaxed) >= LINKS_FACTOR * at || (strays >= STRAYS_MIN && strays >= at / STRAYS_PART);
}

/* What is linked from now on is held against a new basis. */
static void watch_anew(struct vf_sketching *s)
{
	atomic_store(&s->links, 0);
	atomic_store(&s->strays, 0);
}

/* Walks go over this one from now on (NULL: over the codes). */
static void replace(struct vf_graph *g, struct vf_sketches *next)
{
	struct vf_sketching *s = &g->sketching;
	struct vf_sketches *before = atomic_load(&s->walked);

	atomic_store_explicit(&s->walked, next, memory_order_release);
	atomic_store(&s->dims, next ? next->basis.dims : 0);
	atomic_fetch_add(&s->replaced, 1);
	vf_walker_grace(g);
	watch_anew(s);
	pthread_rwlock_wrlock(&s->lock);
	s->tables[0] = next;
	s->tables[1] = NULL;
	pthread_rwlock_unlock(&s->lock);
	free_table(before);
}

static int open_table(struct vf_graph *g, struct vf_sketches *t, struct vf_err *err)
{
	int rc = vf_region_reserve(&t->region, (size_t)g->slots_room * t->basis.dims, err);

	if (rc)
		return rc;
	pthread_rwlock_wrlock(&g->sketching.lock);
	rc = vf_region_use(&t->region, (size_t)g->slots_usable * t->basis.dims, err);
	if (!rc)
		g->sketching.tables[1] = t;
	pthread_rwlock_unlock(&g->sketching.lock);
	return rc;
}

/* Without memory it is left at what there is until the graph has grown again: nothing but speed hangs on it. */
static void begin(struct vf_graph *g)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_sketching *s = &g->sketching;
	struct vf_sketches *t = calloc(1, sizeof *t);

	atomic_store(&s->fitted_at, count_of(g));
	watch_anew(s);
	int rc = t ? vf_basis_fit(g, &t->basis, &err) : vf_oom(&err);
	if (rc == 1 && atomic_load(&s->walked))
		replace(g, NULL);
	if (rc == 0 && (rc = open_table(g, t, &err)) == 0)
		atomic_store(&s->next, t);
	if (rc)
		free_table(t);
}

static void fill_some(struct vf_graph *g, struct vf_sketches *t)
{
	uint32_t slots = atomic_load(&g->slots), end = slots - t->filled < STEP_SLOTS ? slots : t->filled + STEP_SLOTS;

	while (t->filled < end) {
		pthread_rwlock_wrlock(&g->sketching.lock);
		for (uint32_t i = 0; i < HOLD_SLOTS && t->filled < end; i++, t->filled++)
			if ((vf_slot_is(g, t->filled) & VF_IS_STATE) != VF_SLOT_FREE)
				sketch(g, t, t->filled);
		pthread_rwlock_unlock(&g->sketching.lock);
	}
	if (end == slots) {
		replace(g, t);
		atomic_store(&g->sketching.next, NULL);
	}
}

bool vf_graph_sketch(struct vf_graph *g)
{
	struct vf_sketching *s = &g->sketching;
	struct vf_sketches *next;

	if ((!atomic_load_explicit(&s->next, memory_order_relaxed) && !is_due(g)) || pthread_mutex_trylock(&s->making))
		return false;
	if ((next = atomic_load(&s->next)))
		fill_some(g, next);
	else if (is_due(g))
		begin(g);
	pthread_mutex_unlock(&s->making);
	return true;
}

bool vf_sketch_is_right(const struct vf_graph *g, uint32_t slot)
{
	const struct vf_sketches *t = atomic_load(&g->sketching.walked);
	uint8_t expected[VF_SKETCH_DIMS_MAX];

	if (!t)
		return true;
	vf_basis_sketch(g, &t->basis, vf_slot_code(g, slot), expected);
	return memcmp(expected, row_of(t, slot), t->basis.dims) == 0;
}

uint64_t vf_sketch_bytes(struct vf_graph *g)
{
	uint64_t bytes = 0;

	pthread_rwlock_rdlock(&g->sketching.lock);
	for (int i = 0; i < 2; i++)
		if (g->sketching.tables[i])
			bytes += g->sketching.tables[i]->basis.dims * (atomic_load(&g->slots) + (uint64_t)g->code_stride);
	pthread_rwlock_unlock(&g->sketching.lock);
	return bytes;
}
