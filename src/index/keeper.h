/* SPDX-License-Identifier: MIT */
/* keeper.h - what memory.c and checkpoint.c know of the graph besides the graph. */
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
	_Atomic uint64_t linked_since;     /* the last checkpoint */
	_Atomic int64_t checkpoint_ns;     /* monotonic; when the last checkpoint ended, or the graph was loaded */
	_Atomic int64_t sweep_ns;
	_Atomic uint64_t measured_at;      /* linked slots when the effort was measured; 0 never */
};

/* A chunk's row: XXH3-64 of what follows, then the graph's bytes. 0, or 1 when the sum does not hold. */
int vf_chunk_open(struct vf_span row, struct vf_span *bytes);
void vf_chunk_seal(uint8_t *row, size_t len);

#endif
