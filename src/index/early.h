/* SPDX-License-Identifier: MIT */
/* early.h - the vectors of a long stream, on disk before their records.
 *
 * A stream is one transaction, and its verdict comes at its end. What weighs most of it are its vectors; so these are written while the rest of it is
 * still coming: in parts, by a thread of their own, each part in a transaction that gives them serials and nothing else. The transaction of the verdict
 * has only to give them their records. When it does not come to that they are deleted: by whoever drops the stream, or after a crash
 * by whoever opens the index for writing. Until then the row `early` of meta says which serials these are (doc/FORMAT.md), the
 * counters how many, and whoever goes through the table of vectors passes over them.
 *
 * A short stream is kept in memory whole. */
#ifndef VECFS_INDEX_EARLY_H
#define VECFS_INDEX_EARLY_H

#include "index_internal.h"

/* ---- early_rows.c: the rows ---- */

/* Serials first, first + 1, ... */
struct vf_serials { uint64_t first, n; };
/* Rising, none twice. `at` is NULL when there are none. */
struct vf_early_rows { struct vf_serials *at; size_t n; };

/* Those that a transaction finds. Free what `at` points to. */
int vf_early_load(struct vf_txn *txn, struct vf_early_rows *out, struct vf_err *err);
/* n more: serials for vectors that the caller puts in the same transaction. Has the counters written. */
int vf_early_give(struct vf_txn *txn, uint64_t n, uint64_t *first, struct vf_err *err);
bool vf_early_has(const struct vf_early_rows *rows, uint64_t serial);
/* There is room for one more, and it is larger than all. */
void vf_early_append(struct vf_early_rows *rows, struct vf_serials s);
/* Takes them out of the row and the counter: they have records now, or are gone. */
int vf_early_settle_rows(const struct vf_early_rows *settled, struct vf_txn *txn, struct vf_counters *counters, struct vf_err *err);
/* Deletes them, in a transaction of its own. */
int vf_early_discard(struct vf_index *index, const struct vf_early_rows *rows, struct vf_err *err);
/* Deletes all, when an index is opened: nobody is left who would give them records. */
int vf_early_clean(struct vf_index *index, struct vf_err *err);

/* Reading them back once they have records, in rising order. Zeroed it is closed. The vector is the reader's, aligned, until the next call. */
#define VF_EARLY_WINDOW 64u
struct vf_early_reader {
	struct vf_txn *txn;
	struct vf_scan *scan;
	float *vector;
	struct vf_row rows[VF_EARLY_WINDOW];   /* the next ones, on their way */
	size_t n, at;
};
int vf_early_read(struct vf_early_reader *reader, struct vf_index *index, uint64_t serial, uint32_t dim, const float **vector, struct vf_err *err);
void vf_early_read_end(struct vf_early_reader *reader);

/* ---- early.c: the vectors of one stream; used by one thread at a time ---- */

/* Of a part: enough that the disk is not asked for little, little enough that the last one is soon written. A variable only for tests, which want short
 * streams to be long. */
extern size_t vf_early_part_bytes;

struct vf_early {
	struct vf_index *index;
	size_t bytes;                      /* of a vector */
	uint64_t n;                        /* all that were added */
	struct vf_buf rows;                /* those that nobody writes yet */
	struct vf_early_rows written;      /* in the order in which they were added */
	uint64_t nwritten;
	struct vf_early_writer *writer;    /* NULL until the stream is a long one */
};

/* Zeroed, and told the index, it is empty. Every vector of it has dim numbers, which are copied. The n-th added is number n - 1. Waits while the
 * part before is being written. */
int vf_early_add(struct vf_early *early, const float *vector, uint32_t dim, struct vf_err *err);
/* Before any is looked at, and before the transaction of the verdict: waits for the part that is being written. */
int vf_early_finish(struct vf_early *early, struct vf_err *err);
/* After that: the serial of one that is on disk, 0: it is in memory, at the second. */
uint64_t vf_early_serial(const struct vf_early *early, uint64_t number);
const float *vf_early_vector(const struct vf_early *early, uint64_t number);
/* In the transaction of the verdict, when each has a record or is deleted. */
int vf_early_settle(const struct vf_early *early, struct vf_txn *txn, struct vf_counters *counters, struct vf_err *err);
/* Empties it. `settled`: the verdict is on disk. Otherwise the rows are deleted. */
void vf_early_reset(struct vf_early *early, bool settled);
/* Bytes of memory, more or less. */
uint64_t vf_early_held(const struct vf_early *early);

#endif
