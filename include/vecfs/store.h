/* SPDX-License-Identifier: MIT */
/* store.h - one LMDB environment: tables of bytes by key, read and write transactions, group commit.
 *
 * The law of borrowed memory: a span from a transaction points into the map. It dies with the transaction, and in a
 * write transaction at the next put or del. Values are aligned to 2 bytes only: load unaligned, or copy.
 * Read transactions are not bound to threads and cost no lock; keep them short, an old one keeps freed pages from reuse.
 * Errors: ENOSPC (disk full or map cannot grow), EIO (damaged), ENOMEM, EROFS; ENOENT is said as 1 by get. */
#ifndef VECFS_STORE_H
#define VECFS_STORE_H

#include "vecfs/span.h"

enum vf_table {
	VF_T_META,        /* name -> bytes: format, config, counters, quantizer */
	VF_T_KEYS,        /* key (long ones: prefix and hash) -> serial, inode number */
	VF_T_RECORDS,     /* serial (u64) -> header, key, metadata */
	VF_T_VECTORS,     /* serial (u64) -> float32[dim] */
	VF_T_SLOTS,       /* slot (as u64) -> serial */
	VF_T_POSTINGS,    /* field, type, value, chunk -> roaring container */
	VF_T_CODES,       /* chunk (u64) -> serials and codes of its slots */
	VF_T_LINKS,       /* chunk (u64) -> links of its slots */
	VF_T_QUESTIONS,   /* file name in queries/ -> inode number, times, bytes */
	VF_TABLES
};

struct vf_store;
struct vf_txn;
struct vf_scan;   /* a cursor */

struct vf_store_usage { uint64_t file_bytes, live_bytes, free_bytes; };

/* Opens (create: also makes) the environment in the directory `dir`. */
int vf_store_open(const char *dir, bool create, bool read_only, struct vf_store **out, struct vf_err *err);
void vf_store_close(struct vf_store **store);
int vf_store_usage(struct vf_store *store, struct vf_store_usage *out, struct vf_err *err);
/* A compacted copy of the environment into an existing, empty directory, synced. */
int vf_store_copy(struct vf_store *store, const char *dir, struct vf_err *err);

/* ---- reading ---- */
int vf_txn_read(struct vf_store *store, struct vf_txn **out, struct vf_err *err);
void vf_txn_end(struct vf_txn **txn);    /* of a read; aborts a write */

/* 0 found, 1 not there, negative on failure. */
int vf_get(struct vf_txn *txn, enum vf_table table, struct vf_span key, struct vf_span *value, struct vf_err *err);
int vf_get_u64(struct vf_txn *txn, enum vf_table table, uint64_t key, struct vf_span *value, struct vf_err *err);
/* Rows of a table. */
int vf_count(struct vf_txn *txn, enum vf_table table, uint64_t *rows, struct vf_err *err);

/* A cursor stands before the first row with key >= from (from.len 0: the first of all); step gives it and moves on: 0 a row, 1 the end. */
int vf_scan_open(struct vf_txn *txn, enum vf_table table, struct vf_span from, struct vf_scan **out, struct vf_err *err);
int vf_scan_open_u64(struct vf_txn *txn, enum vf_table table, uint64_t from, struct vf_scan **out, struct vf_err *err);
int vf_scan_step(struct vf_scan *scan, struct vf_span *key, struct vf_span *value, struct vf_err *err);
/* Moves an open cursor. */
int vf_scan_seek(struct vf_scan *scan, struct vf_span from, struct vf_err *err);
void vf_scan_close(struct vf_scan **scan);

/* ---- writing: one write transaction at a time in an environment ---- */
int vf_txn_write(struct vf_store *store, struct vf_txn **out, struct vf_err *err);
/* A part of a write that can be taken back alone. */
int vf_txn_nested(struct vf_txn *parent, struct vf_txn **out, struct vf_err *err);
int vf_txn_commit(struct vf_txn **txn, struct vf_err *err);   /* on disk when it returns 0; ended either way */

int vf_put(struct vf_txn *txn, enum vf_table table, struct vf_span key, struct vf_span value, struct vf_err *err);
int vf_put_u64(struct vf_txn *txn, enum vf_table table, uint64_t key, struct vf_span value, struct vf_err *err);
/* Space for a value of `len` bytes to be filled in place before the next put. `append`: the caller promises the key is the largest. */
int vf_reserve_u64(struct vf_txn *txn, enum vf_table table, uint64_t key, size_t len, bool append, void **out, struct vf_err *err);
int vf_del(struct vf_txn *txn, enum vf_table table, struct vf_span key, struct vf_err *err);      /* 1: was not there */
int vf_del_u64(struct vf_txn *txn, enum vf_table table, uint64_t key, struct vf_err *err);

/* ---- group commit ----
 * Waiting jobs of all threads go into one transaction with one sync. Each job writes in the committer's thread,
 * in the order of arrival; `done` is called in that same order, still under the writer's lock, after the commit is on disk
 * (ok true) or has failed (ok false), so that memory follows disk. A job whose `write` fails is taken back alone. */
struct vf_job {
	int (*write)(void *ctx, struct vf_txn *txn, struct vf_err *err);
	void (*done)(void *ctx, bool ok);    /* may be NULL; called for every job whose write was called */
	void *ctx;
	struct vf_err err;                   /* why, when vf_commit returns negative */
	/* private to the store: */
	struct vf_job *next;
	int rc;
	bool finished;
};
/* Blocks until the job is durable or has failed. */
int vf_commit(struct vf_store *store, struct vf_job *job, struct vf_err *err);

#endif
