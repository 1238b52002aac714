/* SPDX-License-Identifier: MIT */
/* memory.c - the graph of an index: loaded from disk, grown from flat to linked, dropped.
 *
 * A small index has a flat graph: exact float32 codes that every question scans. Past FLAT_VECTORS_MAX vectors, or
 * FLAT_BYTES_MAX of them, a quantizer is fitted to a sample and the graph is made anew, with the same slots, to be linked. Few
 * dimensions keep float codes: bytes would save nothing there. So do vectors that bytes cannot tell apart. */
#include <errno.h>
#include <stdlib.h>

#include "keeper.h"
#include "vecfs/clock.h"
#include "vecfs/spread.h"

#define FLAT_VECTORS_MAX   4096u
#define FLAT_BYTES_MAX     (32u << 20)
#define FLOAT_CODE_DIM_MAX 32u

int vf_keeper_new(struct vf_graph_keeper **out, struct vf_err *err)
{
	struct vf_graph_keeper *keeper = calloc(1, sizeof *keeper);

	*out = keeper;
	if (!keeper)
		return vf_oom(err);
	pthread_mutex_init(&keeper->chores, NULL);
	pthread_mutex_init(&keeper->measuring, NULL);
	pthread_mutex_init(&keeper->loading, NULL);
	atomic_store(&keeper->percent, -1);
	return 0;
}

void vf_keeper_free(struct vf_graph_keeper **keeper)
{
	if (!*keeper)
		return;
	pthread_mutex_destroy(&(*keeper)->chores);
	pthread_mutex_destroy(&(*keeper)->measuring);
	pthread_mutex_destroy(&(*keeper)->loading);
	free(*keeper);
	*keeper = NULL;
}

/* ---- flat or not ---- */

static bool fits_flat(uint64_t vectors, uint32_t dim)
{
	return vectors <= FLAT_VECTORS_MAX && vectors * dim * sizeof(float) <= FLAT_BYTES_MAX;
}

bool vf_graph_is_flat(const struct vf_graph *graph)
{
	const struct vf_quant *quant = vf_graph_quant(graph);
	struct vf_graph_counts counts;

	if (quant->code != VF_CODE_F32)
		return false;
	vf_graph_counts(graph, &counts);
	return counts.linked == 0 && fits_flat(counts.pending, quant->dim);
}

/* Float codes of many vectors, since bytes were tried and are not enough. */
static bool stays_with_floats(const struct vf_quant *quant)
{
	return quant->code == VF_CODE_F32 && quant->step > 0;
}

static enum vf_code code_for(uint64_t vectors, uint32_t dim)
{
	return fits_flat(vectors, dim) || dim <= FLOAT_CODE_DIM_MAX ? VF_CODE_F32 : VF_CODE_U8;
}

/* ---- loading ---- */

struct loading {
	struct vf_index *index;
	struct vf_txn *txn;
	const struct vf_config *config;
	struct vf_graph *graph;
	float *vector;                     /* one, aligned */
	uint64_t slots;                    /* expected */
};

/* Told only while somebody waits for the graph. */
static void progress(struct loading *l, int percent)
{
	if (atomic_load(&l->index->keeper->percent) >= 0)
		atomic_store(&l->index->keeper->percent, percent);
}

/* A graph has memory for every slot below its last. So one that is far behind the one before it is believed only when its record, which has
 * a checksum, says so too. */
#define SLOT_GAP 65536u

static int check_far_slot(struct loading *l, uint64_t slot, uint64_t serial, struct vf_err *err)
{
	struct vf_record_row row;
	int rc = vf_row_of_serial(l->txn, serial, &row, err);

	if (rc == 1 || (rc == 0 && row.slot != slot))
		return vf_fail(err, EIO, "slot %llu is that of serial %llu, whose record %s", (unsigned long long)slot,
		               (unsigned long long)serial, rc ? "is missing" : "has another");
	return rc;
}

static int expect_slot(struct loading *l, struct vf_span key, struct vf_span value, uint64_t *near, struct vf_err *err)
{
	uint64_t slot = key.len == 8 ? vf_load_u64(key.data) : VF_SLOTS_MAX;

	if (slot >= VF_SLOTS_MAX || value.len != 8)
		return vf_fail(err, EIO, "a row of the slot table has a key of %zu and a value of %zu bytes, or a slot past %u", key.len,
		               value.len, VF_SLOTS_MAX);
	uint64_t serial = vf_load_u64(value.data);
	int rc = slot < *near ? 0 : check_far_slot(l, slot, serial, err);
	*near = slot + SLOT_GAP;
	return rc ? rc : vf_graph_expect(l->graph, (uint32_t)slot, serial, err);
}

static int expect_slots(struct loading *l, struct vf_err *err)
{
	uint64_t near = SLOT_GAP;
	struct vf_span key, value;
	struct vf_scan *scan = NULL;
	int rc = vf_scan_open_u64(l->txn, VF_T_SLOTS, 0, &scan, err);

	while (rc == 0 && (rc = vf_scan_step(scan, &key, &value, err)) == 0)
		rc = expect_slot(l, key, value, &near, err);
	vf_scan_close(&scan);
	return rc < 0 ? rc : 0;
}

/* Chunks that are on their way from disk while as many are loaded: some megabytes. */
#define CHUNKS_AHEAD 64u

/* Rows as they are stored. */
struct chunk { uint64_t number; struct vf_span codes, links; bool has_links; };
struct window { struct loading *loading; struct chunk chunks[CHUNKS_AHEAD]; size_t n; };

/* By several threads. A chunk that cannot be read is as good as none: its slots are filled from the vectors and linked again. */
static int load_chunk(void *ctx, size_t i, unsigned worker, struct vf_err *err)
{
	struct window *window = ctx;
	const struct chunk *chunk = &window->chunks[i];
	struct vf_span codes, links = vf_span(NULL, 0);
	struct vf_err why = VF_ERR_INIT;

	(void)worker;
	if (chunk->number > UINT32_MAX || vf_chunk_open(chunk->codes, &codes) || (chunk->has_links && vf_chunk_open(chunk->links, &links)))
		why.code = EIO;
	else
		vf_graph_chunk_load(window->loading->graph, (uint32_t)chunk->number, codes, links, &why);
	if (why.code == ENOMEM)
		return vf_oom(err);
	if (why.code)
		vf_index_warn(window->loading->index, "chunk %llu of the graph is damaged, its vectors are linked again",
		              (unsigned long long)chunk->number);
	return 0;
}

static int load_window(struct window *window, struct vf_err *err)
{
	return vf_spread(vf_spread_width(window->n), window->n, load_chunk, window, err);
}

/* 1 at the end. */
static int gather(struct vf_scan *scan, struct window *window, struct vf_err *err)
{
	struct vf_span key;

	for (window->n = 0; window->n < CHUNKS_AHEAD; window->n++) {
		struct chunk *chunk = &window->chunks[window->n];
		int rc = vf_scan_step(scan, &key, &chunk->codes, err);
		if (rc)
			return rc;
		chunk->number = vf_load_u64(key.data);
		if ((rc = vf_get_u64(window->loading->txn, VF_T_LINKS, chunk->number, &chunk->links, err)) < 0)
			return rc;
		chunk->has_links = rc == 0;
		vf_row_expect(chunk->codes);
		if (chunk->has_links)
			vf_row_expect(chunk->links);
	}
	return 0;
}

static int load_each_chunk(struct loading *l, struct vf_scan *scan, struct vf_err *err)
{
	struct window windows[2] = { { .loading = l }, { .loading = l } };
	uint64_t of, done = 0;
	unsigned turn = 0;
	int rc = vf_count(l->txn, VF_T_CODES, &of, err), loaded;

	while (rc == 0) {
		if ((rc = gather(scan, &windows[turn], err)) < 0)
			return rc;
		done += windows[turn].n;
		turn ^= 1;
		if ((loaded = load_window(&windows[turn], err)))
			return loaded;
		progress(l, done < of ? (int)(90 * done / of) : 90);
	}
	return rc < 0 ? rc : load_window(&windows[turn ^ 1], err);
}

/* What is not known is taken for the worst. */
static int load_clamped(struct loading *l, struct vf_err *err)
{
	enum vf_clamped clamped = VF_CLAMPED_FAR;
	struct vf_span bytes;
	int rc = vf_get(l->txn, VF_T_META, vf_span_str(VF_META_CLAMPED), &bytes, err);

	if (rc == 0 && bytes.len == 1 && bytes.data[0] < VF_CLAMPED_FAR)
		clamped = (enum vf_clamped)bytes.data[0];
	vf_graph_clamp(l->graph, clamped);
	return rc < 0 ? rc : 0;
}

static int load_chunks(struct loading *l, struct vf_err *err)
{
	struct vf_scan *scan = NULL;
	int rc = load_clamped(l, err);

	if (rc == 0)
		rc = vf_scan_open_u64(l->txn, VF_T_CODES, 0, &scan, err);
	if (rc == 0)
		rc = load_each_chunk(l, scan, err);
	vf_scan_close(&scan);
	return rc;
}

static int add_missing(void *ctx, uint32_t slot, uint64_t serial, struct vf_err *err)
{
	struct loading *l = ctx;
	struct vf_span vector;
	int rc = vf_vector_of_serial(l->txn, serial, l->config->dim, &vector, err);

	if (rc == 1)
		return vf_fail(err, EIO, "the vector of slot %u (serial %llu) is missing", slot, (unsigned long long)serial);
	if (rc)
		return rc;
	memcpy(l->vector, vector.data, vector.len);
	return vf_graph_add(l->graph, slot, serial, l->vector, err);
}

/* The quantizer that the chunks on disk were made with, when it is one that this graph can use. 0, 1 there is none. */
static int saved_quant(struct vf_txn *txn, enum vf_code code, uint32_t dim, struct vf_quant *quant, struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;
	struct vf_span bytes;
	int rc = vf_get(txn, VF_T_META, vf_span_str(VF_META_QUANT), &bytes, err);

	if (rc)
		return rc;
	if (vf_quant_decode(quant, bytes, &why))
		return why.code == ENOMEM ? vf_oom(err) : 1;
	if ((quant->code == code || stays_with_floats(quant)) && quant->dim == dim)
		return 0;
	vf_quant_free(quant);
	return 1;
}

static int fill(struct loading *l, const struct vf_quant *quant, bool chunks, struct vf_err *err)
{
	struct vf_graph_params params = { .metric = l->config->metric, .dim = l->config->dim, .m = l->config->m,
	                                  .ef_construction = l->config->ef_construction };
	int rc;

	if ((rc = vf_graph_new(&params, quant, &l->graph, err)) || (rc = expect_slots(l, err)) || (chunks && (rc = load_chunks(l, err))))
		return rc;
	progress(l, 90);
	return vf_graph_load_end(l->graph, add_missing, l, err);
}

int vf_graph_make(struct vf_index *index, struct vf_txn *txn, const struct vf_config *config, const struct vf_coming *coming,
                  struct vf_graph **out, bool *chunks, struct vf_err *err)
{
	struct loading l = { .index = index, .txn = txn, .config = config };
	struct vf_quant quant = { .mean = NULL };
	uint64_t stored;
	int rc = vf_count(txn, VF_T_SLOTS, &stored, err);

	if (rc)
		return rc;
	l.vector = malloc(config->dim * sizeof(float));
	if (!l.vector)
		return vf_oom(err);
	enum vf_code code = code_for(stored + coming->n, config->dim);
	rc = *chunks ? saved_quant(txn, code, config->dim, &quant, err) : 1;
	*chunks = rc == 0;
	if (rc == 1)
		rc = vf_index_fit(&quant, code, config, txn, stored, coming, err);
	if (rc == 0 && (rc = fill(&l, &quant, *chunks, err)))
		vf_graph_free(&l.graph);
	*out = l.graph;
	vf_quant_free(&quant);
	free(l.vector);
	return rc;
}

/* Puts a graph in place of the current one, NULL for none. In the committer's turn. */
static void swap_graph(struct vf_index *index, struct vf_graph *graph, bool quant_saved)
{
	struct vf_graph_keeper *keeper = index->keeper;

	pthread_rwlock_wrlock(&index->graph_lock);
	struct vf_graph *old = index->graph;
	index->graph = graph;
	atomic_fetch_add(&keeper->generation, 1);
	atomic_store(&keeper->quant_saved, quant_saved);
	atomic_store(&keeper->replacing, false);
	atomic_store(&keeper->linked_since, 0);
	atomic_store(&keeper->measured_at, 0);
	atomic_store(&keeper->deaths_at, atomic_load(&index->deaths));
	atomic_store(&keeper->fitted_at, 0);
	atomic_store(&keeper->fitted_outliers, 0);
	atomic_store(&keeper->checkpoint_ns, vf_clock_mono_ns());
	pthread_rwlock_unlock(&index->graph_lock);
	vf_graph_free(&old);
}

static int load(struct vf_index *index, struct vf_txn *txn, struct vf_err *err)
{
	static const struct vf_coming nothing = { 0, NULL, NULL };
	struct vf_settings *settings = vf_settings_hold(index);
	struct vf_graph *graph = NULL;
	bool chunks = true;
	int rc = 0;

	if (settings->config.dim) {
		atomic_store(&index->keeper->percent, 0);
		rc = vf_graph_make(index, txn, &settings->config, &nothing, &graph, &chunks, err);
		if (rc == 0)
			swap_graph(index, graph, chunks);
		atomic_store(&index->keeper->percent, -1);
	}
	vf_settings_release(settings);
	if (rc) {
		char name[256];
		vf_index_name(index, name);
		return vf_wrap(err, "load index %s", name);
	}
	if (graph && index->linkers)
		vf_linkers_wake(index->linkers, index);
	return 0;
}

int vf_memory_load(struct vf_index *index, struct vf_txn *txn, struct vf_err *err)
{
	return index->graph ? 0 : load(index, txn, err);
}

static int load_job(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	return vf_memory_load(ctx, txn, err);
}

static int load_read_only(struct vf_index *index, struct vf_err *err)
{
	struct vf_txn *txn = NULL;
	int rc = 0;

	pthread_mutex_lock(&index->keeper->loading);
	if (!index->graph && (rc = vf_txn_read(index->store, &txn, err)) == 0)
		rc = load(index, txn, err);
	vf_txn_end(&txn);
	pthread_mutex_unlock(&index->keeper->loading);
	return rc;
}

/* ---- holding it ---- */

static bool has_dimension(struct vf_index *index)
{
	struct vf_settings *settings = vf_settings_hold(index);
	bool has = settings->config.dim != 0;

	vf_settings_release(settings);
	return has;
}

int vf_graph_hold(struct vf_index *index, struct vf_graph **out, struct vf_err *err)
{
	for (;;) {
		pthread_rwlock_rdlock(&index->graph_lock);
		*out = index->graph;
		if (*out || !has_dimension(index))
			return 0;
		pthread_rwlock_unlock(&index->graph_lock);
		struct vf_job job = { .write = load_job, .ctx = index };
		int rc = index->read_only ? load_read_only(index, err) : vf_index_commit(index, &job, err);
		if (rc)
			return rc;
	}
}

bool vf_graph_hold_loaded(struct vf_index *index, struct vf_graph **out)
{
	pthread_rwlock_rdlock(&index->graph_lock);
	*out = index->graph;
	if (!*out)
		pthread_rwlock_unlock(&index->graph_lock);
	return *out != NULL;
}

bool vf_graph_is_loaded(struct vf_index *index)
{
	struct vf_graph *graph;
	bool loaded = vf_graph_hold_loaded(index, &graph);

	if (loaded)
		vf_graph_release(index);
	return loaded;
}

void vf_graph_release(struct vf_index *index)
{
	pthread_rwlock_unlock(&index->graph_lock);
}

int vf_memory_loaded_percent(struct vf_index *index)
{
	int percent = atomic_load(&index->keeper->percent);

	if (percent >= 0)
		return percent;
	pthread_rwlock_rdlock(&index->graph_lock);
	bool loaded = index->graph != NULL;
	pthread_rwlock_unlock(&index->graph_lock);
	return loaded ? 100 : -1;
}

/* ---- growing, dropping: in the committer's turn ---- */

static int convert(struct vf_index *index, struct vf_txn *txn, const struct vf_coming *coming, struct vf_err *err)
{
	struct vf_graph *graph = NULL;
	bool chunks = false;
	int rc = vf_graph_make(index, txn, &index->settings->config, coming, &graph, &chunks, err);

	if (rc == 0)
		swap_graph(index, graph, false);
	return rc;
}

static bool outgrown(const struct vf_graph *graph, uint64_t coming)
{
	const struct vf_quant *quant = vf_graph_quant(graph);
	struct vf_graph_counts counts;

	if (quant->code != VF_CODE_F32 || stays_with_floats(quant))
		return false;
	vf_graph_counts(graph, &counts);
	return code_for(counts.pending + counts.linked + coming, quant->dim) != VF_CODE_F32;
}

int vf_memory_make_room(struct vf_index *index, struct vf_txn *txn, uint64_t n,
                        const float *(*vector)(void *ctx, uint64_t i), void *ctx, struct vf_err *err)
{
	struct vf_coming coming = { n, vector, ctx };

	/* Slots that others have taken would be unknown to the new graph: it is made once they are published. */
	if (!index->graph || index->inflight > 1 || !outgrown(index->graph, n))
		return 0;
	return convert(index, txn, &coming, err);
}

static void grow(struct vf_index *index)
{
	static const struct vf_coming nothing = { 0, NULL, NULL };
	struct vf_err err = VF_ERR_INIT;
	struct vf_txn *txn = NULL;

	if (vf_txn_read(index->store, &txn, &err) || convert(index, txn, &nothing, &err))
		vf_index_warn(index, "it stays without links for now: %s", err.text);
	vf_txn_end(&txn);
}

/* In place of the graph, the one that was built anew and written to disk. */
static void reload(struct vf_index *index)
{
	static const struct vf_coming nothing = { 0, NULL, NULL };
	struct vf_err err = VF_ERR_INIT;
	struct vf_graph *graph = NULL;
	struct vf_txn *txn = NULL;
	bool chunks = true;
	int rc;

	if ((rc = vf_txn_read(index->store, &txn, &err)) == 0)
		rc = vf_graph_make(index, txn, &index->settings->config, &nothing, &graph, &chunks, &err);
	vf_txn_end(&txn);
	if (rc == 0) {
		swap_graph(index, graph, chunks);
		return;
	}
	vf_index_warn(index, "the graph that was built anew is not used: %s", err.text);
	vf_checkpoint_own_again(index);
}

void vf_memory_drop(struct vf_index *index)
{
	swap_graph(index, NULL, false);
}

void vf_memory_published(struct vf_index *index)
{
	if (index->graph_broken)
		vf_memory_drop(index);
	else if (index->graph_rebuilt && index->graph)
		reload(index);
	index->graph_broken = index->graph_rebuilt = false;
	if (!index->graph)
		return;
	if (outgrown(index->graph, 0))
		grow(index);
	if (index->linkers)
		vf_linkers_wake(index->linkers, index);
}
