/* SPDX-License-Identifier: MIT */
/* rebuild.c - a graph built anew, in the background, when the one in use has become poor: because the vectors are no longer
 * like those that its quantizer was fitted to, or because so many were removed that the effort for the promised recall is not
 * enough.
 *
 * The new graph is made of a snapshot, linked, and written to disk in place of the old one's chunks; then it is loaded as after
 * a start, in the committer's turn, with whatever was put and removed meanwhile. A crash at any moment finds chunks that belong
 * together. */
#include <math.h>
#include <stdlib.h>

#include "keeper.h"

/* How far a fresh fit may differ before codes lose too much: a wider step says that values are clipped, a narrower one that
 * resolution is wasted; the mean counts in steps, of 256 that there are. */
#define STEP_WIDER    1.25
#define STEP_WIDER_OUTLIERS 1.02   /* when there are too many outliers */
#define STEP_NARROWER 0.5
#define MEAN_STEPS    32.0

#define LINKS_A_TURN  16u

static bool has_drifted(const struct vf_quant *used, const struct vf_quant *fresh, double wider)
{
	if (used->code != fresh->code)
		return true;
	if (used->code == VF_CODE_F32)
		return false;
	if (fresh->step > wider * used->step || fresh->step < STEP_NARROWER * used->step)
		return true;
	for (uint32_t i = 0; i < used->dim; i++)
		if (fabs((double)fresh->mean[i] - used->mean[i]) > MEAN_STEPS * used->step)
			return true;
	return false;
}

/* Whether bytes are or were tried. */
static bool is_fitted(struct vf_index *index)
{
	pthread_rwlock_rdlock(&index->graph_lock);
	bool fitted = index->graph && vf_graph_quant(index->graph)->step > 0;
	pthread_rwlock_unlock(&index->graph_lock);
	return fitted;
}

static int fit_fresh(struct vf_index *index, const struct vf_config *config, struct vf_quant *out, struct vf_err *err)
{
	static const struct vf_coming nothing = { 0, NULL, NULL };
	struct vf_txn *txn = NULL;
	uint64_t stored;
	int rc;

	if ((rc = vf_txn_read(index->store, &txn, err)) == 0 && (rc = vf_count(txn, VF_T_SLOTS, &stored, err)) == 0)
		rc = vf_index_fit(out, VF_CODE_U8, config, txn, stored, &nothing, err);
	vf_txn_end(&txn);
	return rc;
}

/* Every search compares with all outliers. Once more when they have grown by a quarter since the last look, which has found nothing better. */
bool vf_codes_outgrown(const struct vf_index *index, const struct vf_graph_counts *counts)
{
	return counts->clamped_far ||
	       (counts->outliers >= counts->outliers_max && counts->outliers / 5 > atomic_load(&index->keeper->fitted_outliers) / 4);
}

/* Looked at whenever the graph has doubled since the last look, and when outliers are many. */
static bool quantizer_is_poor(struct vf_index *index, const struct vf_config *config, const struct vf_graph_counts *counts)
{
	struct vf_quant fresh = { .mean = NULL };
	struct vf_err err = VF_ERR_INIT;
	uint64_t at = atomic_load(&index->keeper->fitted_at);
	bool poor = false, outgrown = vf_codes_outgrown(index, counts);

	if (counts->clamped_far)
		return true;
	if (!is_fitted(index) || (at && counts->linked < 2 * at && !outgrown))
		return false;
	atomic_store(&index->keeper->fitted_at, counts->linked);
	atomic_store(&index->keeper->fitted_outliers, counts->outliers);
	if (fit_fresh(index, config, &fresh, &err))
		return false;
	pthread_rwlock_rdlock(&index->graph_lock);
	if (index->graph && vf_graph_quant(index->graph)->dim == fresh.dim)
		poor = has_drifted(vf_graph_quant(index->graph), &fresh, outgrown ? STEP_WIDER_OUTLIERS : STEP_WIDER);
	pthread_rwlock_unlock(&index->graph_lock);
	vf_quant_free(&fresh);
	return poor;
}

/* What was removed is repaired around; when that is half of the graph, and no effort reaches the promise, repairs were not
 * enough. */
static bool links_are_poor(struct vf_index *index, const struct vf_config *config, uint64_t linked)
{
	double measured = atomic_load(&index->recall_measured);

	return measured >= 0 && measured < config->recall &&
	       atomic_load(&index->deaths) - atomic_load(&index->keeper->deaths_at) > linked / 2;
}

/* 1: the index is being closed. What is pending in the graph in use comes first: every question scans it. */
static int link_all(struct vf_index *index, struct vf_graph *graph, struct vf_err *err)
{
	int rc = 1;

	while (rc > 0) {
		int more = 1;
		while (more == 1 && !atomic_load(&index->closing))
			more = vf_link_slice(index, err);
		if (more)
			return more;
		rc = vf_graph_sketch(graph) ? 1 : vf_graph_link(graph, LINKS_A_TURN, err);
	}
	return rc;
}

/* Made of a snapshot and linked; 1: the index is being closed. */
static int build(struct vf_index *index, const struct vf_config *config, struct vf_graph **out, struct vf_err *err)
{
	static const struct vf_coming nothing = { 0, NULL, NULL };
	struct vf_txn *txn = NULL;
	bool chunks = false;
	int rc;

	if ((rc = vf_txn_read(index->store, &txn, err)) == 0)
		rc = vf_graph_make(index, txn, config, &nothing, out, &chunks, err);
	vf_txn_end(&txn);
	return rc ? rc : link_all(index, *out, err);
}

static void rebuilt(void *ctx, bool ok)
{
	struct vf_index *index = ctx;

	index->graph_rebuilt |= ok;
	if (index->inflight == 0)
		vf_memory_published(index);
}

static int nothing_to_write(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	(void)ctx, (void)txn, (void)err;
	return 0;
}

/* `generation`: of the graph when the config was taken. */
static int rebuild(struct vf_index *index, const struct vf_config *config, uint64_t generation, struct vf_err *err)
{
	struct vf_job job = { .write = nothing_to_write, .done = rebuilt, .ctx = index };
	struct vf_graph *graph = NULL;
	int rc = build(index, config, &graph, err);

	if (rc == 0) {
		pthread_mutex_lock(&index->keeper->chores);
		if (generation == atomic_load(&index->keeper->generation))
			rc = vf_checkpoint_other(index, graph, err);
		else
			rc = 1;
		vf_graph_free(&graph);
		if (rc == 0 && (rc = vf_index_commit(index, &job, err)))
			vf_checkpoint_own_again(index);
		pthread_mutex_unlock(&index->keeper->chores);
	}
	vf_graph_free(&graph);
	return rc;
}

void vf_rebuild_when_due(struct vf_index *index, const struct vf_graph_counts *counts)
{
	uint64_t generation = atomic_load(&index->keeper->generation);
	struct vf_settings *settings = vf_settings_hold(index);
	const struct vf_config *config = &settings->config;
	struct vf_err err = VF_ERR_INIT;

	if (!index->read_only && !atomic_load(&index->closing) &&
	    (quantizer_is_poor(index, config, counts) || links_are_poor(index, config, counts->linked)) && rebuild(index, config, generation, &err) < 0)
		vf_index_warn(index, "the graph is not built anew: %s", err.text);
	vf_settings_release(settings);
}
