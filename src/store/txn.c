/* SPDX-License-Identifier: MIT */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vecfs/heap.h"

/* ---- reading ---- */

static int new_reader(struct vf_store *store, struct vf_txn **out)
{
	struct vf_txn *txn = calloc(1, sizeof *txn);

	if (!txn)
		return ENOMEM;
	txn->store = store;
	int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn->mdb);
	if (rc) {
		free(txn);
		return rc;
	}
	*out = txn;
	return vf_env_limit(txn);
}

/* A reader that was used before has its slot and its memory: it starts without a lock. Returns a code of LMDB. */
static int start_reader(struct vf_store *store, struct vf_txn *idle, struct vf_txn **out)
{
	if (!idle)
		return new_reader(store, out);
	int rc = mdb_txn_renew(idle->mdb);
	if (rc) {
		mdb_txn_abort(idle->mdb);
		free(idle);
		return rc;
	}
	*out = idle;
	return vf_env_limit(idle);
}

/* As long as a writer waits for old reads at the most (gate.c), and not for ever: it may be waiting for us. */
#define WRITER_PATIENCE_S 125

/* LMDB refuses readers too after a fatal write. A thread that has the writer's lock will see to it; otherwise do it here. */
static int heal_for_reader(struct vf_store *store, struct vf_err *err)
{
	struct timespec until;
	int rc = 0;

	if (pthread_mutex_trylock(&store->writer) == 0) {
		rc = vf_env_heal(store, err);
	} else {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += WRITER_PATIENCE_S;
		if (pthread_mutex_clocklock(&store->writer, CLOCK_MONOTONIC, &until))
			return vf_store_fault(store, MDB_PANIC, "read", err);
	}
	pthread_mutex_unlock(&store->writer);
	return rc;
}

/* After a writer that did not have to heal it, somebody else has. */
#define HEALINGS 2u

int vf_txn_read(struct vf_store *store, struct vf_txn **out, struct vf_err *err)
{
	for (unsigned healed = 0;; healed++) {
		struct vf_txn *idle;
		int rc = MDB_PANIC;
		if (vf_gate_enter(store, &idle)) {
			rc = start_reader(store, idle, out);
			if (rc == 0)
				return 0;
			vf_gate_leave(store, NULL);
		}
		if (rc != MDB_PANIC || healed == HEALINGS)
			return vf_store_fault(store, rc, "read", err);
		rc = heal_for_reader(store, err);
		if (rc)
			return rc;
	}
}

/* LMDB counts transactions, but begins again at the last durable one when it is opened anew. */
#define TRANSACTIONS_BITS 40

uint64_t vf_txn_snapshot(const struct vf_txn *txn)
{
	return txn->store->openings << TRANSACTIONS_BITS | (mdb_txn_id(txn->mdb) & ((1ull << TRANSACTIONS_BITS) - 1));
}

uint64_t vf_txn_place(const struct vf_txn *txn, struct vf_span row)
{
	return (uint64_t)((const uint8_t *)row.data - txn->store->map);
}

const void *vf_txn_at(const struct vf_txn *txn, uint64_t place)
{
	return txn->store->map + place;
}

/* A few pages may never have been written. */
#define SAMPLE_PAGES 64u
#define SAMPLE_ENOUGH 60u

bool vf_txn_is_cached(const struct vf_txn *txn)
{
	const struct vf_store *store = txn->store;
	const uint8_t *map = store->map;
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size_t)(txn->limit - map) / page;
	unsigned there = 0;

	/* Of a file that is not its own a process is told that all of it is there. */
	for (size_t i = 0; i < SAMPLE_PAGES && !store->read_only; i++) {
		unsigned char is = 0;
		if (mincore((void *)(uintptr_t)(map + i * pages / SAMPLE_PAGES * page), page, &is) == 0)
			there += is & 1;
	}
	return there >= SAMPLE_ENOUGH;
}

void vf_row_expect(struct vf_span row)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)row.data & ~(page - 1);

	madvise((void *)from, (uintptr_t)row.data + row.len - from, MADV_WILLNEED);
}

/* ---- writing ---- */

int vf_txn_begin_write(struct vf_store *store, struct vf_txn *txn, struct vf_err *err)
{
	int rc = 0;

	*txn = (struct vf_txn){ .store = store, .writes = true };
	if ((!store->env && (rc = vf_env_heal(store, err))) || (rc = vf_env_make_room(store, err)))
		return rc;
	rc = mdb_txn_begin(store->env, NULL, 0, &txn->mdb);
	if (rc == MDB_PANIC) {
		rc = vf_env_heal(store, err);
		if (rc)
			return rc;
		rc = mdb_txn_begin(store->env, NULL, 0, &txn->mdb);
	}
	if (rc == 0)
		rc = vf_env_limit(txn);
	return rc ? vf_store_fault(store, rc, "write", err) : 0;
}

static void note_kept(const struct vf_txn *txn)
{
	if (txn->kept <= txn->store->kept_bytes)
		return;
	txn->store->kept_bytes = txn->kept;
	txn->store->slim_waited = false;
}

void vf_txn_drop_write(struct vf_txn *txn)
{
	note_kept(txn);
	mdb_txn_abort(txn->mdb);
	txn->mdb = NULL;
}

int vf_txn_finish_write(struct vf_txn *txn, bool *map_full, struct vf_err *err)
{
	int rc = txn->trouble;

	note_kept(txn);
	/* A spoiled transaction would refuse to commit with a poorer word for it. */
	if (rc)
		mdb_txn_abort(txn->mdb);
	else
		rc = mdb_txn_commit(txn->mdb);
	txn->mdb = NULL;
	*map_full = rc == MDB_MAP_FULL;
	if (*map_full)
		txn->store->map_full = true;
	return rc ? vf_store_fault(txn->store, vf_env_write_code(txn, rc), "commit", err) : 0;
}

int vf_txn_write(struct vf_store *store, struct vf_txn **out, struct vf_err *err)
{
	if (store->read_only)
		return vf_fail(err, EROFS, "%s is open for reading only", store->dir);
	struct vf_txn *txn = malloc(sizeof *txn);
	if (!txn)
		return vf_oom(err);
	pthread_mutex_lock(&store->writer);
	int rc = vf_txn_begin_write(store, txn, err);
	if (rc) {
		pthread_mutex_unlock(&store->writer);
		free(txn);
		return rc;
	}
	*out = txn;
	return 0;
}

int vf_txn_commit(struct vf_txn **txn, struct vf_err *err)
{
	struct vf_txn *t = *txn;
	bool map_full;
	int rc = vf_txn_finish_write(t, &map_full, err);

	vf_env_slim(t->store, true);
	pthread_mutex_unlock(&t->store->writer);
	free(t);
	*txn = NULL;
	return rc;
}

/* Its thread may read on in another transaction, so it must not wait. */
static void slim_after_read(struct vf_store *store)
{
	if (store->read_only || atomic_load_explicit(&store->kept_bytes, memory_order_relaxed) <= vf_store_kept_max ||
	    pthread_mutex_trylock(&store->writer))
		return;
	bool done = vf_env_slim(store, false);
	pthread_mutex_unlock(&store->writer);
	if (done)
		vf_heap_trim();
}

void vf_txn_end(struct vf_txn **txn)
{
	struct vf_txn *t = *txn;

	if (!t)
		return;
	*txn = NULL;
	if (!t->writes) {
		struct vf_store *store = t->store;
		mdb_txn_reset(t->mdb);
		vf_gate_leave(store, t);
		slim_after_read(store);
		return;
	}
	if (t->trouble == MDB_MAP_FULL)
		t->store->map_full = true;
	vf_txn_drop_write(t);
	pthread_mutex_unlock(&t->store->writer);
	free(t);
}
