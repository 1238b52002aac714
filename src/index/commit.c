/* SPDX-License-Identifier: MIT */
/* commit.c - one change from its turn to its end: begun, written, told to memory (publish.c). */
#include <errno.h>
#include <stdlib.h>

#include "change.h"
#include "vecfs/clock.h"

int vf_index_commit(struct vf_index *index, struct vf_job *job, struct vf_err *err)
{
	if (index->read_only)
		return vf_fail(err, EROFS, "the store is open read-only");
	return vf_commit(index->store, job, err);
}

struct writing {
	struct vf_change change;
	const struct vf_change_kind *kind;
	bool again;                            /* not in this transaction, but in the next one */
};

/* ---- in the committer's turn, before the commit ---- */

static void return_slots(struct vf_change *change)
{
	for (size_t i = change->neffects; i-- > 0;)
		if (change->effects[i].add)
			vf_graph_slot_return(change->index->graph, change->effects[i].slot);
	change->neffects = 0;
}

static int begin(struct vf_change *change, struct vf_txn *txn, bool needs_graph, struct vf_err *err)
{
	struct vf_index *index = change->index;
	int rc;

	vf_populate_end(&change->populate);
	return_slots(change);
	vf_postings_change_free(&change->postings);
	if (needs_graph && (rc = vf_memory_load(index, txn, err)))
		return rc;
	if (!change->inflight)
		index->inflight++;
	change->inflight = true;
	change->txn = txn;
	change->settings = index->settings;
	change->now_ns = vf_clock_real_ns();
	change->moved = false;
	change->last_record = change->unused = 0;
	if ((rc = vf_counters_get(txn, &change->counters, err)))
		return rc;
	return vf_postings_change_new(&change->postings, err);
}

static int write_change(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	struct writing *w = ctx;
	int rc;

	if ((rc = vf_index_check_there(w->change.index, err)))
		return rc;
	/* What memory says of the config is older than what this transaction holds. */
	w->again = atomic_load(&w->change.index->config_pending) > (w->change.holds_config ? 1u : 0u);
	if (w->again)
		return vf_fail(err, EAGAIN, "the config is being changed");
	if ((rc = begin(&w->change, txn, w->kind->needs_graph, err)) || (rc = w->kind->write(&w->change, w->kind->ctx, err)) ||
	    (rc = vf_postings_write(w->change.postings, txn, err)) ||
	    (w->change.moved && (rc = vf_part_mtime_put(txn, VF_PART_RECORDS, w->change.now_ns, err))))
		return rc;
	/* The version in memory grows by one with each change: that on disk, from which it begins after opening, never lags behind. */
	w->change.counters.next_version++;
	return vf_counters_put(txn, &w->change.counters, err);
}

void vf_change_holds_config(struct vf_change *change)
{
	if (!change->holds_config)
		atomic_fetch_add(&change->index->config_pending, 1);
	change->holds_config = true;
}

/* ---- in the committer's turn, after it ---- */

static void change_done(void *ctx, bool ok)
{
	struct writing *w = ctx;
	struct vf_change *change = &w->change;
	struct vf_index *index = change->index;

	vf_populate_end(&change->populate);
	if (ok)
		vf_change_publish(change);
	else
		return_slots(change);
	if (w->kind->done)
		w->kind->done(w->kind->ctx, ok);
	if (change->holds_config)
		atomic_fetch_sub(&index->config_pending, 1);
	change->holds_config = false;
	/* Last: who sees the new number sees all of the change, its config too. */
	if (ok)
		atomic_fetch_add(&index->version, 1);
	if (change->inflight)
		index->inflight--;
	change->inflight = false;
	if (index->inflight == 0)
		vf_memory_published(index);
}

int vf_change_commit(struct vf_index *index, const struct vf_change_kind *kind, struct vf_err *err)
{
	struct writing w = { .change = { .index = index }, .kind = kind };
	int rc = vf_index_check_there(index, err);

	if (rc)
		return rc;
	do {
		/* The job may fail without being asked to write. */
		w.again = false;
		struct vf_job job = { .write = write_change, .done = change_done, .ctx = &w, .frees = kind->frees };
		rc = vf_index_commit(index, &job, err);
	} while (rc && w.again);
	vf_postings_change_free(&w.change.postings);
	vf_buf_free(&w.change.scratch);
	free(w.change.effects);
	return rc;
}
