/* SPDX-License-Identifier: MIT */
/* checkpoint.c - the work of the linker threads on one index: link, sweep, write changed chunks to disk, measure.
 *
 * A checkpoint is a saving of time, not of truth: chunks name the serials of their slots, so an old one is harmless, and what
 * is in none is linked again after the next start. Chunks are written in transactions of a few MiB, so that writers come in
 * between. */
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

#include "keeper.h"
#include "vecfs/clock.h"
#include "vecfs/heap.h"

#define MS               INT64_C(1000000)
#define SLICE_NS         (5 * MS)       /* of linking, between two looks at other work */
#define CHECKPOINT_NS    (10000 * MS)   /* from one to the next, while anything changes */
#define CHECKPOINT_LINKS 100000u        /* or after so many new links */
#define SWEEP_IDLE_NS    (5000 * MS)
#define SWEEP_BUSY_NS    (200 * MS)
#define SWEEP_DEAD_MIN   64u
#define CHUNK_TXN_BYTES  (8u << 20)

/* ---- the row of a chunk ---- */

int vf_chunk_open(struct vf_span row, struct vf_span *bytes)
{
	if (row.len < 8 || vf_load_u64(row.data) != XXH3_64bits(row.data + 8, row.len - 8))
		return 1;
	*bytes = vf_span(row.data + 8, row.len - 8);
	return 0;
}

void vf_chunk_seal(uint8_t *row, size_t len)
{
	vf_store_u64(row, XXH3_64bits(row + 8, len - 8));
}

/* ---- writing chunks ---- */

struct chunk_row {
	uint32_t chunk;
	size_t codes, codes_len, links, links_len;   /* offsets into the buffer of their kind */
};

struct chunk_write {
	struct vf_index *index;
	uint64_t generation;
	bool other;                        /* the chunks are of a graph that is not the index's yet */
	struct vf_buf quant;               /* empty: the one on disk is right */
	uint8_t clamped;                   /* enum vf_clamped, of all codes that are in the chunks now */
	struct vf_buf codes, links;
	struct chunk_row *rows;
	size_t nrows, cap;
};

static int room_for_row(struct chunk_write *w, struct vf_err *err)
{
	if (w->nrows < w->cap)
		return 0;
	size_t cap = w->cap ? 2 * w->cap : 64;
	struct chunk_row *rows = realloc(w->rows, cap * sizeof *rows);
	if (!rows)
		return vf_oom(err);
	w->rows = rows;
	w->cap = cap;
	return 0;
}

static int dump_chunk(struct chunk_write *w, struct vf_graph *graph, uint32_t chunk, struct vf_err *err)
{
	static const uint8_t no_sum[8];
	struct chunk_row row = { .chunk = chunk, .codes = w->codes.len, .links = w->links.len };
	int rc;

	if ((rc = room_for_row(w, err)) || (rc = vf_buf_put(&w->codes, no_sum, sizeof no_sum, err)) ||
	    (rc = vf_buf_put(&w->links, no_sum, sizeof no_sum, err)) ||
	    (rc = vf_graph_chunk_dump(graph, chunk, &w->codes, &w->links, err)))
		return rc;
	row.codes_len = w->codes.len - row.codes;
	row.links_len = w->links.len - row.links;
	vf_chunk_seal(w->codes.data + row.codes, row.codes_len);
	vf_chunk_seal(w->links.data + row.links, row.links_len);
	w->rows[w->nrows++] = row;
	return 0;
}

/* Changed chunks from *chunk on, up to the size of a transaction. */
static int gather(struct chunk_write *w, struct vf_graph *graph, uint32_t *chunk, bool with_quant, struct vf_err *err)
{
	int rc = 0;

	w->nrows = 0;
	vf_buf_clear(&w->codes);
	vf_buf_clear(&w->links);
	vf_buf_clear(&w->quant);
	if (with_quant)
		rc = vf_quant_encode(vf_graph_quant(graph), &w->quant, err);
	while (rc == 0 && w->codes.len + w->links.len < CHUNK_TXN_BYTES && vf_graph_chunk_dirty(graph, chunk))
		rc = dump_chunk(w, graph, (*chunk)++, err);
	w->clamped = (uint8_t)vf_graph_clamped(graph);
	return rc;
}

/* 1: there is nothing to write. */
static int gather_own(struct chunk_write *w, uint32_t *chunk, struct vf_err *err)
{
	struct vf_index *index = w->index;
	int rc = 1;

	pthread_rwlock_rdlock(&index->graph_lock);
	w->generation = atomic_load(&index->keeper->generation);
	if (index->graph && !vf_graph_is_flat(index->graph) && !atomic_load(&index->keeper->replacing))
		rc = gather(w, index->graph, chunk, !atomic_load(&index->keeper->quant_saved), err);
	pthread_rwlock_unlock(&index->graph_lock);
	return rc ? rc : w->nrows == 0 && w->quant.len == 0;
}

static int clear_table(struct vf_txn *txn, enum vf_table table, struct vf_err *err)
{
	struct vf_span key, value;
	uint64_t at = 0;

	for (;;) {
		struct vf_scan *scan = NULL;
		int rc = vf_scan_open_u64(txn, table, at, &scan, err);
		if (rc == 0 && (rc = vf_scan_step(scan, &key, &value, err)) == 0)
			at = vf_load_u64(key.data);
		vf_scan_close(&scan);
		if (rc)
			return rc < 0 ? rc : 0;
		if ((rc = vf_del_u64(txn, table, at, err)) < 0)
			return rc;
	}
}

/* Codes change only when slots are added, links often: a row that is on disk already is not written again. */
static int put_row(struct vf_txn *txn, enum vf_table table, uint32_t chunk, struct vf_span row, struct vf_err *err)
{
	struct vf_span old;
	int rc = vf_get_u64(txn, table, chunk, &old, err);

	if (rc < 0 || (rc == 0 && old.len == row.len && memcmp(old.data, row.data, 8) == 0))
		return rc;
	return vf_put_u64(txn, table, chunk, row, err);
}

static int put_quant(struct vf_txn *txn, const struct vf_buf *quant, struct vf_err *err)
{
	int rc;

	/* Chunks of another quantizer would be read with this one. */
	if ((rc = clear_table(txn, VF_T_CODES, err)) || (rc = clear_table(txn, VF_T_LINKS, err)))
		return rc;
	return vf_put(txn, VF_T_META, vf_span_str(VF_META_QUANT), vf_buf_span(quant), err);
}

static int write_chunks(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	struct chunk_write *w = ctx;
	uint8_t now[8];
	int rc = 0;

	if (w->generation != atomic_load(&w->index->keeper->generation))
		return 0;
	if (w->quant.len && (rc = put_quant(txn, &w->quant, err)))
		return rc;
	for (size_t i = 0; i < w->nrows && rc == 0; i++) {
		const struct chunk_row *row = &w->rows[i];
		if ((rc = put_row(txn, VF_T_CODES, row->chunk, vf_span(w->codes.data + row->codes, row->codes_len), err)) == 0)
			rc = put_row(txn, VF_T_LINKS, row->chunk, vf_span(w->links.data + row->links, row->links_len), err);
	}
	vf_store_u64(now, (uint64_t)vf_clock_real_ns());
	if (rc == 0)
		rc = vf_put(txn, VF_T_META, vf_span_str(VF_META_CLAMPED), vf_span(&w->clamped, 1), err);
	return rc ? rc : vf_put(txn, VF_T_META, vf_span_str(VF_META_CHECKPOINT), vf_span(now, sizeof now), err);
}

static void chunks_done(void *ctx, bool ok)
{
	struct chunk_write *w = ctx;

	if (ok && w->quant.len && !w->other && w->generation == atomic_load(&w->index->keeper->generation))
		atomic_store(&w->index->keeper->quant_saved, true);
}

static int commit_chunks(struct chunk_write *w, struct vf_err *err)
{
	struct vf_job job = { .write = write_chunks, .done = chunks_done, .ctx = w };

	return vf_index_commit(w->index, &job, err);
}

static void free_write(struct chunk_write *w)
{
	vf_buf_free(&w->quant);
	vf_buf_free(&w->codes);
	vf_buf_free(&w->links);
	free(w->rows);
}

/* What was gathered did not come to disk: the next checkpoint has it. By then the graph may be another one, to which it does no harm. */
static void touch_again(const struct chunk_write *w)
{
	struct vf_index *index = w->index;

	pthread_rwlock_rdlock(&index->graph_lock);
	for (size_t i = 0; index->graph && i < w->nrows; i++)
		vf_graph_chunk_touch(index->graph, w->rows[i].chunk);
	pthread_rwlock_unlock(&index->graph_lock);
}

/* chores is held. */
static int checkpoint(struct vf_index *index, struct vf_err *err)
{
	struct chunk_write w = { .index = index };
	uint32_t chunk = 0;
	int rc;

	atomic_store(&index->keeper->linked_since, 0);
	while ((rc = gather_own(&w, &chunk, err)) == 0 && (rc = commit_chunks(&w, err)) == 0)
		;
	if (rc < 0)
		touch_again(&w);
	atomic_store(&index->keeper->checkpoint_ns, vf_clock_mono_ns());
	free_write(&w);
	return rc < 0 ? rc : 0;
}

int vf_checkpoint_other(struct vf_index *index, struct vf_graph *graph, struct vf_err *err)
{
	struct chunk_write w = { .index = index, .other = true, .generation = atomic_load(&index->keeper->generation) };
	uint32_t chunk = 0;
	int rc = 0;

	atomic_store(&index->keeper->quant_saved, false);
	atomic_store(&index->keeper->replacing, true);
	for (bool first = true; rc == 0; first = false) {
		if ((rc = gather(&w, graph, &chunk, first, err)) || (w.nrows == 0 && !first))
			break;
		rc = commit_chunks(&w, err);
		if (rc == 0 && w.generation != atomic_load(&index->keeper->generation))
			rc = 1;
	}
	if (rc)
		vf_checkpoint_own_again(index);
	free_write(&w);
	return rc;
}

void vf_checkpoint_own_again(struct vf_index *index)
{
	pthread_rwlock_rdlock(&index->graph_lock);
	if (index->graph)
		vf_graph_touch_all(index->graph);
	pthread_rwlock_unlock(&index->graph_lock);
	atomic_store(&index->keeper->replacing, false);
}

int vf_index_checkpoint(struct vf_index *index, struct vf_err *err)
{
	if (index->read_only)
		return vf_fail(err, EROFS, "the store is open read-only");
	pthread_mutex_lock(&index->keeper->chores);
	int rc = checkpoint(index, err);
	pthread_mutex_unlock(&index->keeper->chores);
	return rc;
}

/* ---- a slice of work ---- */

struct state {
	struct vf_graph_counts counts;
	bool loaded, flat, dirty;
};

static void look(struct vf_index *index, struct state *state)
{
	uint32_t chunk = 0;

	*state = (struct state){ .loaded = false };
	pthread_rwlock_rdlock(&index->graph_lock);
	if (index->graph) {
		state->loaded = true;
		state->flat = vf_graph_is_flat(index->graph);
		vf_graph_counts(index->graph, &state->counts);
		state->dirty = !state->flat && !atomic_load(&index->keeper->replacing) && vf_graph_chunk_dirty(index->graph, &chunk);
	}
	pthread_rwlock_unlock(&index->graph_lock);
}

/* As many as fit in a slice by what one cost before. */
static uint32_t links_of_slice(const struct vf_graph_keeper *keeper)
{
	int64_t ns = atomic_load(&keeper->link_ns);

	return ns == 0 || ns > SLICE_NS ? 1 : ns * VF_LINKS_MAX < SLICE_NS ? VF_LINKS_MAX : (uint32_t)(SLICE_NS / ns);
}

static int link_some(struct vf_index *index, struct vf_err *err)
{
	int64_t start = vf_clock_mono_ns();
	int linked = vf_graph_link(index->graph, links_of_slice(index->keeper), err);

	if (linked > 0) {
		atomic_fetch_add(&index->keeper->linked_since, (uint64_t)linked);
		atomic_store(&index->keeper->link_ns, (vf_clock_mono_ns() - start) / linked);
	}
	return linked;
}

int vf_link_slice(struct vf_index *index, struct vf_err *err)
{
	int64_t end = vf_clock_mono_ns() + SLICE_NS;
	int rc = 0;

	pthread_rwlock_rdlock(&index->graph_lock);
	if (index->graph && !vf_graph_is_flat(index->graph))
		do
			rc = vf_graph_sketch(index->graph) ? 1 : link_some(index, err);
		while (rc > 0 && vf_clock_mono_ns() < end && !(index->linkers && vf_linkers_give_way(index->linkers)));
	pthread_rwlock_unlock(&index->graph_lock);
	return rc > 0 ? 1 : rc;
}

/* When a sweep is worth its while: 0 now, INT64_MAX never as things are. */
static int64_t sweep_after(struct vf_index *index, const struct vf_graph_counts *counts, int64_t now)
{
	uint64_t many = counts->linked / 50 > SWEEP_DEAD_MIN ? counts->linked / 50 : SWEEP_DEAD_MIN;

	if (counts->dead == 0)
		return INT64_MAX;
	/* A search that is still at a dead slot keeps it from being freed: the next sweep is not at once even when there are many. */
	int64_t due = atomic_load(&index->keeper->sweep_ns) + (counts->dead > many ? SWEEP_BUSY_NS : SWEEP_IDLE_NS);
	return now >= due ? 0 : due - now;
}

static void sweep(struct vf_index *index)
{
	struct vf_err err = VF_ERR_INIT;

	pthread_rwlock_rdlock(&index->graph_lock);
	if (index->graph && vf_graph_sweep(index->graph, &err) < 0)
		vf_index_warn(index, "sweeping waits: %s", err.text);
	pthread_rwlock_unlock(&index->graph_lock);
	atomic_store(&index->keeper->sweep_ns, vf_clock_mono_ns());
}

static int64_t checkpoint_after(struct vf_index *index, const struct state *state, int64_t now)
{
	if (index->read_only || !state->dirty)
		return INT64_MAX;
	int64_t due = atomic_load(&index->keeper->checkpoint_ns) + CHECKPOINT_NS;
	return now >= due || atomic_load(&index->keeper->linked_since) >= CHECKPOINT_LINKS ? 0 : due - now;
}

/* Linking has come to rest, and a tenth of the graph has changed since the effort was measured, or walks go over something else. */
static bool wants_measuring(struct vf_index *index, const struct state *state)
{
	uint64_t at = atomic_load(&index->keeper->measured_at);

	if (state->flat || state->counts.pending || state->counts.linked == 0)
		return false;
	return at == 0 || 10 * (state->counts.changes + 1 - at) > state->counts.linked || state->counts.sketchings != atomic_load(&index->keeper->measured_over);
}

void vf_memory_measure_again(struct vf_index *index)
{
	atomic_store(&index->keeper->measured_at, 0);
}

/* At rest only: what is pending is scanned beside the graph, and would be measured as found. */
static void measure(struct vf_index *index)
{
	struct vf_err err = VF_ERR_INIT;
	struct state state;

	look(index, &state);
	bool wanted = state.loaded && wants_measuring(index, &state), outgrown = state.loaded && vf_codes_outgrown(index, &state.counts);
	if (!(wanted || outgrown) || pthread_mutex_trylock(&index->keeper->measuring))
		return;
	if (wanted) {
		atomic_store(&index->keeper->measured_at, state.counts.changes + 1);
		atomic_store(&index->keeper->measured_over, state.counts.sketchings);
		if (vf_effort_measure(index, &err) < 0)
			vf_index_warn(index, "the effort of a search is not measured: %s", err.text);
	}
	vf_rebuild_when_due(index, &state.counts);
	pthread_mutex_unlock(&index->keeper->measuring);
}

/* chores is held. */
static int64_t do_chores(struct vf_index *index)
{
	struct vf_err err = VF_ERR_INIT;
	int64_t now = vf_clock_mono_ns();
	struct state state;

	look(index, &state);
	if (!state.loaded)
		return INT64_MAX;
	int64_t sweep_in = sweep_after(index, &state.counts, now), checkpoint_in = checkpoint_after(index, &state, now);
	if (sweep_in == 0) {
		sweep(index);
		return 0;
	}
	if (checkpoint_in == 0) {
		if (checkpoint(index, &err) < 0)
			vf_index_warn(index, "the checkpoint waits: %s", err.text);
		vf_heap_trim();
		return 0;
	}
	return sweep_in < checkpoint_in ? sweep_in : checkpoint_in;
}

int64_t vf_memory_work(struct vf_index *index)
{
	struct vf_err err = VF_ERR_INIT;
	int more = vf_link_slice(index, &err);

	if (more < 0) {
		vf_index_warn(index, "linking waits: %s", err.text);
		return 1000 * MS;
	}
	/* Another thread is at them. It may have looked before this one linked its last: come back. */
	if (pthread_mutex_trylock(&index->keeper->chores))
		return more ? 0 : 20 * MS;
	int64_t after = do_chores(index);
	pthread_mutex_unlock(&index->keeper->chores);
	if (more)
		return 0;
	if (after)
		measure(index);
	return after;
}
