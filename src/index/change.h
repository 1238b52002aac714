/* SPDX-License-Identifier: MIT */
/* change.h - changing records inside one write transaction, and letting memory follow once it is on disk.
 *
 * A change is one job of a group commit. Its `write` puts rows and gathers what the graph has to be told; when the transaction
 * is on disk, and only then, the graph is told: what came, then what died. An attempt may be repeated: whatever an attempt left is
 * taken back at the start of the next. */
#ifndef VECFS_INDEX_CHANGE_H
#define VECFS_INDEX_CHANGE_H

#include "index_internal.h"

/* What the graph is told: a slot filled, or a slot that died. The vector is the caller's and lives until the job is done; NULL: it is the store's. */
struct vf_effect {
	bool add;
	uint32_t slot;
	uint64_t serial;
	const float *vector;
};

/* A thread that has memory of the graph given while the rows are written. */
struct vf_populate { pthread_t thread; bool started; atomic_bool over; struct vf_index *index; struct vf_graph *graph; uint32_t first, end; };

struct vf_change {
	struct vf_index *index;
	struct vf_txn *txn;
	const struct vf_settings *settings;    /* those in force in this transaction */
	struct vf_counters counters;           /* as of this transaction, written at its end */
	struct vf_postings_change *postings;
	int64_t now_ns;
	struct vf_buf scratch;                 /* a key or metadata that would die at the next put */
	struct vf_effect *effects;
	size_t neffects, cap;
	uint64_t last_record;                  /* the largest serial in the table of records; 0 not looked for yet */
	uint64_t unused;                       /* serials of early vectors that no record got */
	struct vf_populate populate;
	bool moved;                            /* a record came, went, or has other bytes */
	bool inflight, holds_config;           /* counted in the index's counters of that name */
};

/* What a job does. `write` resets its own state at its start; `done` (may be NULL) follows disk, in the committer's turn. */
struct vf_change_kind {
	int (*write)(struct vf_change *change, void *ctx, struct vf_err *err);
	void (*done)(void *ctx, bool ok);
	void *ctx;
	bool needs_graph;                      /* slots are taken or removed */
	bool frees;                            /* records are removed, and nothing else is done: also on a full disk */
};

/* commit.c: one transaction. */
int vf_change_commit(struct vf_index *index, const struct vf_change_kind *kind, struct vf_err *err);
/* Until this job is done the config is not what memory says: others wait for it. */
void vf_change_holds_config(struct vf_change *change);

/* ---- populate.c: in the committer's turn ---- */

/* Of `n` records that are put: worth a thread when they are many. At the latest the end of the turn ends it. With none there need be no graph. */
void vf_populate_start(struct vf_populate *populate, struct vf_index *index, uint64_t n);
void vf_populate_end(struct vf_populate *populate);

/* ---- publish.c: what follows the transaction ---- */

void vf_change_publish(struct vf_change *change);

/* ---- change.c: the steps ---- */

struct vf_put {
	struct vf_span key, metadata;
	uint64_t number;                       /* of its vector in the batch */
	uint64_t serial;                       /* of the vector when it is in the store already, without a record; else 0 */
	const float *vector;                   /* else where it is */
	uint64_t vector_sum;
	uint32_t dim;
	bool if_absent;
	int64_t mtime_ns;                      /* 0: now */
};
enum vf_put_result { VF_PUT_INSERTED, VF_PUT_REPLACED, VF_PUT_SKIPPED };

int vf_change_put(struct vf_change *change, const struct vf_put *put, enum vf_put_result *result, struct vf_err *err);
/* The vector of one that is not put after all is deleted when it is in the store. */
int vf_change_drop(struct vf_change *change, const struct vf_put *put, struct vf_err *err);
/* 0, 1: there is none. */
int vf_change_remove(struct vf_change *change, struct vf_span key, struct vf_err *err);
int vf_change_update(struct vf_change *change, struct vf_span key, const struct vf_update *update, struct vf_err *err);
int vf_change_set_mtime(struct vf_change *change, struct vf_span key, int64_t mtime_ns, struct vf_err *err);
/* 0, 1: no `from`; EEXIST. */
int vf_change_rekey(struct vf_change *change, struct vf_span from, struct vf_span to, bool replace, struct vf_err *err);
/* Every slot that `filter` selects, as the transaction sees it; *done counts them. */
int vf_change_remove_matches(struct vf_change *change, const struct vf_filter *filter, uint64_t *done, struct vf_err *err);
int vf_change_update_matches(struct vf_change *change, const struct vf_update *update, uint64_t *done, struct vf_err *err);
/* The postings of every record, from one set of non-filterable fields to another. */
int vf_change_reindex(struct vf_change *change, const struct vf_config *from, const struct vf_config *to, struct vf_err *err);

/* True when the file name of a key would pass VF_FILE_NAME_BYTES_MAX. */
bool vf_key_unlisted(struct vf_span key);

#endif
