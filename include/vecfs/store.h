/* SPDX-License-Identifier: MIT */
/* store.h - one LMDB environment: tables of bytes by key, read and write transactions, group commit.
 *
 * The law of borrowed memory: a span from a transaction points into the map. It dies with the transaction, and in a
 * write transaction at the next put or del. Values are aligned to 2 bytes only: load unaligned, or copy.
 * Read transactions are not bound to threads and wait for nobody; keep them short, an old one keeps freed pages from reuse. A write
 * transaction begins and ends in one thread. Never wait for a write (vf_txn_write, vf_commit) while you hold a read of the same store: a
 * file that outgrows its map waits for the reads to end. After a failed commit the store goes on, and what was durable is there.
 * A damaged file is read as far as that goes; it is changed only when all of its pages are sound, which the first change after opening finds out.
 * Errors: ENOSPC (disk full, or no address space for a larger file), EIO (damaged), ENOMEM, EROFS, EBUSY (too many readers), EFBIG (one
 * transaction changes too much), EINVAL (a row key is not 1 to 511 bytes); ENOENT is said as 1 by get. */
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
struct vf_ballast;

struct vf_store_usage { uint64_t file_bytes, live_bytes, free_bytes; };

/* Opens (create: also makes) the environment in the existing directory `dir`. ENOENT when there is none. One process at a time. */
int vf_store_open(const char *dir, bool create, bool read_only, struct vf_store **out, struct vf_err *err);
void vf_store_close(struct vf_store **store);
/* Disk space that is kept back, in a file, for jobs that make room: one serves all stores of a disk. As much as can be had now; never fails for
 * want of space. */
int vf_ballast_open(int dir_fd, const char *name, struct vf_ballast **out, struct vf_err *err);
void vf_ballast_close(struct vf_ballast **ballast);
/* From now on jobs of this store that `frees` may use it up, and all others fail with ENOSPC rather than take what is missing of it. Lent. */
void vf_store_set_ballast(struct vf_store *store, struct vf_ballast *ballast);
/* A path of the directory that stays right when the directory is renamed: for temporary files. */
const char *vf_store_dir(const struct vf_store *store);
int vf_store_usage(struct vf_store *store, struct vf_store_usage *out, struct vf_err *err);
/* Looks at every page of the file, from outside of LMDB, before rows are read: what is wrong is told, and damage that LMDB would stumble over is
 * found. Returns the number of findings, or negative. */
int64_t vf_store_check_pages(const struct vf_store *store, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err);
/* The file begins with two heads, of which the newer counts. When only one of them is sound, or they do not belong together, the one that counts is written
 * over the other: of a store that nobody has open, to be repaired. 1: the other may have been the newer, so that its change is lost. */
int vf_store_mend_head(const char *dir, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err);
/* A compacted copy of the environment into an existing, empty directory, synced. */
int vf_store_copy(struct vf_store *store, const char *dir, struct vf_err *err);

/* ---- reading ---- */
int vf_txn_read(struct vf_store *store, struct vf_txn **out, struct vf_err *err);
void vf_txn_end(struct vf_txn **txn);    /* of a read; aborts a write */
/* Grows from one snapshot of this store to the next while it is open: reads with the same number see the same rows, at the
 * same places. */
uint64_t vf_txn_snapshot(const struct vf_txn *txn);

/* Where a row that a read has found begins, and what lies there in another read of the same snapshot. */
uint64_t vf_txn_place(const struct vf_txn *txn, struct vf_span row);
const void *vf_txn_at(const struct vf_txn *txn, uint64_t place);

/* Whether the file is in the page cache, as far as a sample of its pages tells; of a store that is only read it is not known: false. */
bool vf_txn_is_cached(const struct vf_txn *txn);

/* Begins to read a row from disk, for whoever comes to it soon. LMDB's file is read without reading ahead. */
void vf_row_expect(struct vf_span row);

/* 0 found, 1 not there, negative on failure. */
int vf_get(struct vf_txn *txn, enum vf_table table, struct vf_span key, struct vf_span *value, struct vf_err *err);
int vf_get_u64(struct vf_txn *txn, enum vf_table table, uint64_t key, struct vf_span *value, struct vf_err *err);
/* In a write, the largest key of a table with u64 keys: 0, 1 there is none. */
int vf_last_u64(struct vf_txn *txn, enum vf_table table, uint64_t *key, struct vf_err *err);
/* Rows of a table. */
int vf_count(struct vf_txn *txn, enum vf_table table, uint64_t *rows, struct vf_err *err);

/* A cursor stands before the first row with key >= from (from.len 0: the first of all); step gives it and moves on: 0 a row, 1 the end. */
int vf_scan_open(struct vf_txn *txn, enum vf_table table, struct vf_span from, struct vf_scan **out, struct vf_err *err);
int vf_scan_open_u64(struct vf_txn *txn, enum vf_table table, uint64_t from, struct vf_scan **out, struct vf_err *err);
/* In a write, rows may be put and deleted between two steps. A scan is closed before its transaction ends. */
int vf_scan_step(struct vf_scan *scan, struct vf_span *key, struct vf_span *value, struct vf_err *err);
/* Up to `most` steps at once, at less cost each; *n rows. 0, 1 the end came with them. */
struct vf_row { struct vf_span key, value; };
int vf_scan_rows(struct vf_scan *scan, struct vf_row *rows, size_t most, size_t *n, struct vf_err *err);
/* Moves an open cursor. */
int vf_scan_seek(struct vf_scan *scan, struct vf_span from, struct vf_err *err);
void vf_scan_close(struct vf_scan **scan);

/* The key of a row in a table with u64 keys. */
static inline uint64_t vf_row_u64(struct vf_span key)
{
	uint64_t n = 0;

	memcpy(&n, key.data, key.len < sizeof n ? key.len : sizeof n);
	return n;
}

/* ---- writing: one write transaction at a time in an environment ---- */
/* Waits for its turn, ahead or behind of groups. A write that finds the map full is the one case that fails without need, with ENOSPC: try
 * once more, there will be room (groups do so by themselves). */
int vf_txn_write(struct vf_store *store, struct vf_txn **out, struct vf_err *err);
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
 * (ok true) or has failed (ok false), so that memory follows disk. A job whose `write` fails is taken back alone.
 *
 * `write` may be called more than once before `done` (another job of the group had to be taken back, or the file had to grow): what it
 * wrote before is gone then, and it must begin anew, undoing what it noted in ctx the last time. A failure of its own is final: it is
 * not called again. It may not wait for another thread's commit. */
struct vf_job {
	/* 0, or negative with err filled: taken back. */
	int (*write)(void *ctx, struct vf_txn *txn, struct vf_err *err);
	void (*done)(void *ctx, bool ok);    /* may be NULL; called once for every job whose write was called */
	void *ctx;
	bool frees;                          /* it takes rows away and adds none: it works on a full disk, too */
	bool last;                           /* ends its transaction: what comes next is decided by what it has found */
	bool followed;                       /* soon by another as large: what LMDB keeps for it is not given back now */
	struct vf_err err;                   /* why, when vf_commit returns negative */
	/* private to the store: */
	struct vf_job *next;
	int rc;
	bool ran;
	uint32_t state;
};
/* Blocks until the job is durable or has failed. */
int vf_commit(struct vf_store *store, struct vf_job *job, struct vf_err *err);

#endif
