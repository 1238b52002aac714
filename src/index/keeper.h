/* SPDX-License-Identifier: MIT */
/* keeper.h - what fit.c, memory.c, checkpoint.c and rebuild.c know of the graph besides the graph. */
#ifndef VECFS_INDEX_KEEPER_H
#define VECFS_INDEX_KEEPER_H

#include "index_internal.h"

struct vf_graph_keeper {
	pthread_mutex_t chores;            /* sweep and checkpoint: one thread at a time */
	pthread_mutex_t measuring;         /* the effort: likewise, and a checkpoint does not wait for it */
	pthread_mutex_t loading;           /* of a read-only index, which has no committer's turn */
	atomic_int percent;                /* of loading; -1 while nobody loads */
	_Atomic uint64_t generation;       /* of the graph: chunks of another one are worth nothing */
	atomic_bool quant_saved;           /* the quantizer on disk is this graph's */
	atomic_bool replacing;             /* the chunks on disk are those of the graph that will take this one's place */
	_Atomic uint64_t linked_since;     /* the last checkpoint */
	_Atomic int64_t link_ns;           /* what linking one took the last time */
	_Atomic int64_t checkpoint_ns;     /* monotonic; when the last checkpoint ended, or the graph was loaded */
	_Atomic int64_t sweep_ns;
	_Atomic uint64_t measured_at;      /* changes of the graph when the effort was measured, and 1; 0 never */
	_Atomic uint32_t measured_over;    /* sketchings of the graph then */
	_Atomic uint64_t fitted_at;        /* linked slots when the quantizer was last held against the vectors; 0 never */
	_Atomic uint32_t fitted_outliers;  /* of the graph then */
	_Atomic uint64_t deaths_at;        /* of the index, when the graph was made */
	/* first.c */
	atomic_bool first_taken;           /* there was a question that did without the graph */
	pthread_t loader;                  /* of that question's; joined before the index is closed */
	bool has_loader;
};

/* Vectors that are about to be put: `vector` gives the i-th, NULL when it is none. */
struct vf_coming {
	uint64_t n;
	const float *(*vector)(void *ctx, uint64_t i);
	void *ctx;
};

/* ---- fit.c ---- */
int vf_index_fit(struct vf_quant *quant, enum vf_code code, const struct vf_config *config, struct vf_txn *txn, uint64_t stored,
                 const struct vf_coming *coming, struct vf_err *err);

/* ---- memory.c ---- */
/* A graph of what `txn` sees, made for `coming` more. *chunks says in and out whether those on disk belong to it. */
int vf_graph_make(struct vf_index *index, struct vf_txn *txn, const struct vf_config *config, const struct vf_coming *coming,
                  struct vf_graph **out, bool *chunks, struct vf_err *err);

/* ---- rebuild.c ---- */
/* More vectors lie beyond the codes than is good, or than are told apart: it is time for vf_rebuild_when_due. */
bool vf_codes_outgrown(const struct vf_index *index, const struct vf_graph_counts *counts);

/* ---- checkpoint.c ---- */
/* Links pending slots for some milliseconds: 1 when more wait, 0 when none, or negative. */
int vf_link_slice(struct vf_index *index, struct vf_err *err);
/* Writes all chunks of a graph that is not the index's yet in place of those on disk; then no others are written until it is.
 * chores is held. 1: the index's own graph was changed for another meanwhile. */
int vf_checkpoint_other(struct vf_index *index, struct vf_graph *graph, struct vf_err *err);
/* Nothing came of that: the next checkpoint writes all chunks of the index's own graph. */
void vf_checkpoint_own_again(struct vf_index *index);

/* ---- rebuild.c ---- */
/* Builds the graph anew when it has become a poor one: in the background, beside the one in use. Called by one linker thread,
 * at rest. */
void vf_rebuild_when_due(struct vf_index *index, const struct vf_graph_counts *counts);

/* ---- checkpoint.c ---- */
/* A chunk's row: XXH3-64 of what follows, then the graph's bytes. 0, or 1 when the sum does not hold. */
int vf_chunk_open(struct vf_span row, struct vf_span *bytes);
void vf_chunk_seal(uint8_t *row, size_t len);

#endif
