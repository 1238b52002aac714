/* SPDX-License-Identifier: MIT */
/* store_internal.h - what the files of src/store/ share.
 *
 * Files: ballast.c (room for removals), env.c (open, close, grow, copy), gate.c (who reads while the map is replaced), txn.c (transactions), table.c (rows),
 * scan.c (cursors), commit.c (group commit), fault.c (LMDB's codes in words), guard.c (reading what may be damaged), pages.c (what has
 * to be sound before it is written).
 *
 * The map is reserved once and large, but a file can outgrow it. LMDB moves the map then, so every read must have ended: the gate
 * counts readers and can be shut for a moment. The same way heals an environment that LMDB has given up after a failed write
 * of its meta page: it is closed and opened again.
 *
 * Order of locks: writer > gate; queue_lock alone. `env` and `tables` change only under both writer and gate, with no reader inside. */
#ifndef VECFS_STORE_INTERNAL_H
#define VECFS_STORE_INTERNAL_H

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "vecfs/store.h"

/* LMDB wants integer keys of the machine's word. */
_Static_assert(sizeof(size_t) == sizeof(uint64_t), "vecfs needs a 64-bit machine");

#define DATA_FILE          "data.mdb"
#define KEY_BYTES_MAX      511u
#define READERS_MAX        4096u         /* slots in lock.mdb, 64 bytes each */
#define IDLE_READERS_MAX   64u           /* kept for the next question */

/* First size of the map, and at least four times the file. A variable only for tests, which want to see it grow. */
extern size_t vf_store_map_first;
/* Of the pages of one write, what LMDB may keep. */
extern uint64_t vf_store_kept_max;

/* How long to wait until nobody reads: not at all, no longer than a question may be made to wait, or until there is no hope. */
enum vf_gate_patience { VF_GATE_LOOKS, VF_GATE_MOMENT, VF_GATE_WAITS };

struct vf_txn {
	struct vf_store *store;
	MDB_txn *mdb;
	bool writes;
	MDB_cursor *cursors[VF_TABLES];  /* of a write, as they are needed; LMDB closes them with it */
	struct vf_txn *next;             /* in the list of idle readers */
	int trouble;                     /* first code of LMDB that spoils a write; 0 */
	uint64_t changes, bytes;         /* put or deleted so far */
	uint64_t kept;                   /* of pages, about, that LMDB will keep */
	const uint8_t *limit;            /* where the rows that it sees end at the latest; see vf_env_holds */
};

struct vf_store {
	char *dir;                       /* as given, for messages */
	int dir_fd;
	char path[32];                   /* /proc/self/fd/N: right also after the directory was renamed; empty without /proc */
	bool read_only;
	struct vf_ballast *ballast;      /* lent; NULL: none */

	MDB_env *env;                    /* NULL only after a failed reopening, until the next try */
	MDB_dbi tables[VF_TABLES];
	uint64_t openings;               /* times that the file was opened */
	size_t map_bytes;
	const uint8_t *map;              /* where it lies */
	size_t page_bytes;
	size_t file_bytes;               /* at opening */
	bool pages_sound;                /* every page was looked at since the file was opened, or made here; under `writer` */

	pthread_mutex_t gate;
	pthread_cond_t drained;          /* readers is 0 */
	pthread_cond_t reopened;         /* shut is false */
	unsigned readers;
	bool shut;
	struct vf_txn *idle;
	unsigned idle_count;

	pthread_mutex_t writer;
	_Atomic uint64_t kept_bytes;     /* the largest `kept` of a write since the file was opened; set under `writer` */
	bool slim_waited;                /* for readers, since the write that `kept_bytes` is of; under `writer` */
	bool map_full;                   /* the last write found no room: grow before the next; under `writer` */
	bool stuck;                      /* the address space has no more: grow only when there is no other way; under `writer` */

	pthread_mutex_t queue_lock;
	struct vf_job *queue, **queue_end;
	bool led;                        /* a thread is leading a group */
};

/* ---- fault.c ---- */
/* Fills err for a code of LMDB or of the system. */
int vf_store_fault(const struct vf_store *store, int code, const char *doing, struct vf_err *err);
/* The same inside a transaction, which remembers what spoils it. */
int vf_txn_fault(struct vf_txn *txn, int code, const char *doing, struct vf_err *err);

/* ---- env.c ---- */
const char *vf_table_name(enum vf_table table);
unsigned vf_table_flags(enum vf_table table);
/* Fills txn->limit, once it has begun. */
int vf_env_limit(struct vf_txn *txn);
/* Whether a row lies where rows of this transaction may lie: what a damaged page says of a row's length is not to be followed. */
bool vf_env_holds(const struct vf_txn *txn, const MDB_val *row);
/* With `writer` held and no reader inside: closes the environment and opens it with `map_bytes`, or as near to it as the address space
 * allows. */
int vf_env_reopen(struct vf_store *store, size_t map_bytes, struct vf_err *err);
/* With `writer` held: makes the map larger in good time; waits for readers only when the last write has found it full. */
int vf_env_make_room(struct vf_store *store, struct vf_err *err);
/* With `writer` held: after MDB_PANIC. */
int vf_env_heal(struct vf_store *store, struct vf_err *err);
/* With `writer` held, between writes: gives the memory of large ones back, when readers let it and the file is still where it was. True: done.
 * `may_wait`: for readers, a moment, and once for each write that was large. */
bool vf_env_slim(struct vf_store *store, bool may_wait);
/* With `writer` held: what a failed write means. LMDB says EIO when a write was cut short, as a disk does that has just become full. */
int vf_env_write_code(const struct vf_txn *txn, int code);

/* Bytes of the file that will be free when this write is committed as it is, at least. A code of LMDB. */
int vf_env_free_bytes(const struct vf_txn *txn, uint64_t *bytes);

/* ---- ballast.c ---- */
/* How much is missing of it, after trying to fill it. */
uint64_t vf_ballast_lack(struct vf_ballast *ballast);
/* Gives it to the disk. False: there was nothing to give. */
bool vf_ballast_drop(struct vf_ballast *ballast);

/* ---- guard.c: LMDB's reading calls, MDB_CORRUPTED when they hit a bad address or an assertion ---- */
void vf_guard_env(MDB_env *env);
int vf_guard_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value);
int vf_guard_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **cursor);
int vf_guard_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op);
int vf_guard_dbi_open(MDB_txn *txn, const char *name, unsigned flags, MDB_dbi *dbi);
int vf_guard_stat(MDB_txn *txn, MDB_dbi dbi, MDB_stat *stat);
/* Anything that reads a map, calls none of these, and leaves nothing to be freed. */
int vf_guard_call(int (*call)(void *ctx), void *ctx);

/* ---- pages.c ---- */
/* The head pages of a file, before LMDB, which believes what they say, opens it. EIO. */
int vf_pages_check_head(const struct vf_store *store, struct vf_err *err);
/* With `writer` held, before the first change since opening: EIO when a page is not sound. */
int vf_pages_check_once(struct vf_store *store, struct vf_err *err);

/* ---- gate.c ---- */
/* Counts a reader in; *idle is a reset transaction to renew, or NULL. False, and not counted, when there is no environment. */
bool vf_gate_enter(struct vf_store *store, struct vf_txn **idle);
/* Counts it out; a non-NULL txn is kept for the next one. */
void vf_gate_leave(struct vf_store *store, struct vf_txn *txn);
/* Shut with no reader inside and the gate held: true. */
bool vf_gate_shut(struct vf_store *store, enum vf_gate_patience patience);
void vf_gate_open(struct vf_store *store);
/* Frees the idle readers; the gate is held. */
void vf_gate_drop_idle(struct vf_store *store);

/* ---- txn.c ---- */
/* With `writer` held: begins a write in *txn, which the caller owns. */
int vf_txn_begin_write(struct vf_store *store, struct vf_txn *txn, struct vf_err *err);
/* Commits or fails; the transaction has ended either way. *map_full: run again, there will be room. */
int vf_txn_finish_write(struct vf_txn *txn, bool *map_full, struct vf_err *err);
void vf_txn_drop_write(struct vf_txn *txn);

#endif
