/* SPDX-License-Identifier: MIT */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAP_BYTES_MIN ((size_t)1 << 20)
#define FREE_TABLE 0u      /* LMDB's own: of free pages, of tables */
#define MAIN_TABLE 1u

/* Address space, not memory or disk. Thousands of environments of this size fit into 47 bits. */
size_t vf_store_map_first = (size_t)64 << 30;
uint64_t vf_store_kept_max = (uint64_t)4 << 20;

static const struct { const char *name; unsigned flags; } table_rows[VF_TABLES] = {
	[VF_T_META]      = { "meta", 0 },
	[VF_T_KEYS]      = { "keys", 0 },
	[VF_T_RECORDS]   = { "records", MDB_INTEGERKEY },
	[VF_T_VECTORS]   = { "vectors", MDB_INTEGERKEY },
	[VF_T_SLOTS]     = { "slots", MDB_INTEGERKEY },
	[VF_T_POSTINGS]  = { "postings", 0 },
	[VF_T_CODES]     = { "codes", MDB_INTEGERKEY },
	[VF_T_LINKS]     = { "links", MDB_INTEGERKEY },
	[VF_T_QUESTIONS] = { "questions", 0 },
};

const char *vf_table_name(enum vf_table table)
{
	return table_rows[table].name;
}

unsigned vf_table_flags(enum vf_table table)
{
	return table_rows[table].flags;
}

/* ---- opening ---- */

/* vf_store_open has checked that it fits. */
static const char *data_path(const char *dir, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/" DATA_FILE, dir);
	return path;
}

/* A failed mdb_env_open leaves nothing but mdb_env_close to do. */
static int try_open(const struct vf_store *store, size_t map_bytes, unsigned flags, MDB_env **out)
{
	MDB_env *env;
	int rc = mdb_env_create(&env);

	if (rc)
		return rc;
	vf_guard_env(env);
	if ((rc = mdb_env_set_maxdbs(env, VF_TABLES)) || (rc = mdb_env_set_maxreaders(env, READERS_MAX)) ||
	    (rc = mdb_env_set_mapsize(env, map_bytes)) || (rc = mdb_env_open(env, vf_store_dir(store), flags, 0600))) {
		mdb_env_close(env);
		return rc;
	}
	*out = env;
	return 0;
}

/* As large as the address space and its limits allow, from map_bytes downwards. Who only reads does not write lock.mdb either: the catalog's
 * lock keeps writers out. */
static int open_env(const struct vf_store *store, size_t map_bytes, MDB_env **out)
{
	unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (store->read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
	int rc;

	/* Under valgrind a map that is too large is EINVAL. */
	while (((rc = try_open(store, map_bytes, flags, out)) == ENOMEM || rc == EINVAL) && map_bytes > MAP_BYTES_MIN)
		map_bytes -= map_bytes / 4;
	return rc;
}

static int open_tables(struct vf_store *store, MDB_env *env, bool create)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(env, NULL, create ? 0 : MDB_RDONLY, &txn);

	if (rc)
		return rc;
	for (int i = 0; i < VF_TABLES; i++) {
		rc = vf_guard_dbi_open(txn, table_rows[i].name, table_rows[i].flags | (create ? MDB_CREATE : 0), &store->tables[i]);
		if (rc) {
			mdb_txn_abort(txn);
			return rc == MDB_NOTFOUND ? MDB_INVALID : rc;
		}
	}
	return mdb_txn_commit(txn);
}

/* A file that ends before its last page would kill the reader with SIGBUS. Extended with zeros its lost pages are found damaged instead;
 * and a page that was freed in the transaction that took it is never written, so a short file can be a sound one. */
static int mend_length(const struct vf_store *store, MDB_env *env)
{
	char path[PATH_MAX];
	MDB_envinfo info;
	MDB_stat main_stat;
	struct stat st;
	int rc;

	if ((rc = mdb_env_info(env, &info)) || (rc = mdb_env_stat(env, &main_stat)))
		return rc;
	off_t need = (off_t)((info.me_last_pgno + 1) * main_stat.ms_psize);
	data_path(vf_store_dir(store), path);
	/* Who only reads changes nothing; a read past the end is caught (guard.c). */
	if (store->read_only)
		return 0;
	if (stat(path, &st))
		return errno;
	return st.st_size >= need || truncate(path, need) == 0 ? 0 : MDB_INVALID;
}

static int see_magic(void *ctx)
{
	static const uint8_t magic[4] = { 0xde, 0xc0, 0xef, 0xbe };
	const struct vf_store *store = ctx;

	return memcmp(store->map + 16, magic, sizeof magic) ? MDB_CORRUPTED : 0;
}

/* LMDB does not say where its map is, but a page has its number on it: here the page with the row of the first table. */
static int find_map(struct vf_store *store, MDB_env *env)
{
	MDB_val key = { strlen(table_rows[0].name), (void *)(uintptr_t)table_rows[0].name }, value;
	MDB_stat main_stat;
	MDB_txn *txn;
	uint64_t number;
	int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);

	if (rc)
		return rc;
	if ((rc = mdb_env_stat(env, &main_stat)) == 0 && (rc = vf_guard_get(txn, MAIN_TABLE, &key, &value)) == 0) {
		store->page_bytes = main_stat.ms_psize;
		const uint8_t *page = (const uint8_t *)((uintptr_t)value.mv_data & ~(uintptr_t)(store->page_bytes - 1));
		memcpy(&number, page, sizeof number);
		store->map = (const uint8_t *)((uintptr_t)page - number * store->page_bytes);
		rc = vf_guard_call(see_magic, store);
	}
	mdb_txn_abort(txn);
	return rc == MDB_NOTFOUND ? MDB_INVALID : rc;
}

/* What follows a short file is not there to be read. Who writes has made it long enough. */
int vf_env_limit(struct vf_txn *txn)
{
	const struct vf_store *store = txn->store;
	MDB_envinfo info;
	int rc = mdb_env_info(store->env, &info);
	size_t bytes = rc ? 0 : (info.me_last_pgno + 1) * store->page_bytes;

	if (store->read_only && bytes > store->file_bytes)
		bytes = store->file_bytes;
	txn->limit = store->map + bytes;
	return rc;
}

bool vf_env_holds(const struct vf_txn *txn, const MDB_val *row)
{
	const uint8_t *from = row->mv_data;

	/* What was changed lies in memory, or past the end; and before a change every page was looked at. */
	return txn->changes || (from >= txn->store->map && from < txn->limit && row->mv_size <= (size_t)(txn->limit - from));
}

/* `is_new`: there is no file yet. */
static int open_whole(struct vf_store *store, size_t map_bytes, bool is_new, struct vf_err *err)
{
	MDB_env *env = NULL;
	MDB_envinfo info;
	int rc, dead;

	if (!is_new && (rc = vf_pages_check_head(store, err)))
		return rc;
	if ((rc = open_env(store, map_bytes, &env)) || (rc = mend_length(store, env)) ||
	    (rc = open_tables(store, env, is_new)) || (rc = find_map(store, env)) || (rc = mdb_reader_check(env, &dead)) || (rc = mdb_env_info(env, &info))) {
		if (env)
			mdb_env_close(env);
		return vf_store_fault(store, rc, "open the data", err);
	}
	store->env = env;
	store->openings++;
	store->kept_bytes = 0;
	store->map_bytes = info.me_mapsize;
	return 0;
}

static int sync_dir(const char *dir, struct vf_err *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) ? errno : 0;

	if (fd >= 0)
		close(fd);
	return rc ? vf_fail(err, rc, "cannot sync the directory %s: %s", dir, strerror(rc)) : 0;
}

/* Its size, 0 when it is to be made. LMDB would make a missing file unasked. */
static int data_size(const char *dir, bool create, size_t *size, struct vf_err *err)
{
	char path[PATH_MAX];
	struct stat st;

	*size = 0;
	if (strlen(dir) + sizeof "/" DATA_FILE > PATH_MAX)
		return vf_fail(err, ENAMETOOLONG, "the path of the store is too long: %s", dir);
	if (stat(data_path(dir, path), &st) == 0)
		*size = (size_t)st.st_size;
	else if (errno != ENOENT || !create)
		return vf_fail(err, errno, "cannot open %s: %s", path, strerror(errno));
	if (*size == 0 && !create)
		return vf_fail(err, EIO, "the store in %s is damaged: " DATA_FILE " is empty", dir);
	return 0;
}

static void init_locks(struct vf_store *store)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&store->gate, NULL);
	pthread_cond_init(&store->drained, &attr);
	pthread_cond_init(&store->reopened, NULL);
	pthread_mutex_init(&store->writer, NULL);
	pthread_mutex_init(&store->queue_lock, NULL);
	pthread_condattr_destroy(&attr);
}

static int open_dir(struct vf_store *store, const char *dir, struct vf_err *err)
{
	store->dir = strdup(dir);
	if (!store->dir)
		return vf_oom(err);
	store->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (store->dir_fd < 0)
		return vf_fail(err, errno, "cannot open %s: %s", dir, strerror(errno));
	snprintf(store->path, sizeof store->path, "/proc/self/fd/%d", store->dir_fd);
	if (access(store->path, X_OK))
		store->path[0] = '\0';
	return 0;
}

const char *vf_store_dir(const struct vf_store *store)
{
	return store->path[0] ? store->path : store->dir;
}

int vf_store_open(const char *dir, bool create, bool read_only, struct vf_store **out, struct vf_err *err)
{
	size_t size;
	int rc = data_size(dir, create, &size, err);

	if (rc)
		return rc;
	struct vf_store *store = calloc(1, sizeof *store);
	if (!store)
		return vf_oom(err);
	store->read_only = read_only;
	store->dir_fd = -1;
	store->queue_end = &store->queue;
	store->file_bytes = size;
	store->pages_sound = size == 0;
	init_locks(store);
	size_t map_bytes = size > vf_store_map_first / 4 ? 4 * size : vf_store_map_first;
	if ((rc = open_dir(store, dir, err)) == 0 && (rc = open_whole(store, map_bytes, size == 0, err)) == 0 && size == 0)
		rc = sync_dir(dir, err);
	if (rc)
		vf_store_close(&store);
	else
		*out = store;
	return rc;
}

void vf_store_set_ballast(struct vf_store *store, struct vf_ballast *ballast)
{
	store->ballast = ballast;
}

void vf_store_close(struct vf_store **store)
{
	struct vf_store *s = *store;

	if (!s)
		return;
	vf_gate_drop_idle(s);
	if (s->env)
		mdb_env_close(s->env);
	pthread_mutex_destroy(&s->gate);
	pthread_cond_destroy(&s->drained);
	pthread_cond_destroy(&s->reopened);
	pthread_mutex_destroy(&s->writer);
	pthread_mutex_destroy(&s->queue_lock);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	free(s->dir);
	free(s);
	*store = NULL;
}

/* ---- growing and healing ---- */

int vf_env_reopen(struct vf_store *store, size_t map_bytes, struct vf_err *err)
{
	vf_gate_drop_idle(store);
	if (store->env)
		mdb_env_close(store->env);
	store->env = NULL;
	return open_whole(store, map_bytes, false, err);
}

static int grow(struct vf_store *store, bool patient, struct vf_err *err)
{
	size_t before = store->map_bytes;

	if (!vf_gate_shut(store, patient ? VF_GATE_WAITS : VF_GATE_LOOKS))
		return patient ? vf_fail(err, ENOSPC, "the file in %s cannot grow while an old read goes on", store->dir) : 0;
	int rc = vf_env_reopen(store, 2 * before, err);
	vf_gate_open(store);
	if (rc)
		return rc;
	store->stuck = store->map_bytes <= before;
	return store->stuck && patient ? vf_store_fault(store, MDB_MAP_FULL, "write", err) : 0;
}

int vf_env_make_room(struct vf_store *store, struct vf_err *err)
{
	MDB_envinfo info;
	MDB_stat main_stat;
	int rc;

	if (store->map_full) {
		store->map_full = false;
		return grow(store, true, err);
	}
	if ((rc = mdb_env_info(store->env, &info)) || (rc = mdb_env_stat(store->env, &main_stat)))
		return vf_store_fault(store, rc, "write", err);
	/* From the half on whenever nobody reads: so that nobody ever has to wait for it. */
	if ((info.me_last_pgno + 1) * main_stat.ms_psize > store->map_bytes / 2 && !store->stuck)
		return grow(store, false, err);
	return 0;
}

int vf_env_heal(struct vf_store *store, struct vf_err *err)
{
	if (!vf_gate_shut(store, VF_GATE_WAITS))
		return vf_fail(err, EIO, "the store in %s cannot be opened again while an old read goes on", store->dir);
	int rc = vf_env_reopen(store, store->map_bytes, err);
	vf_gate_open(store);
	return rc;
}

/* Not when it became unwritable meanwhile, nor when there is another one in its place: what is open goes on being read. */
static bool can_open_again(const struct vf_store *store)
{
	char path[PATH_MAX];
	struct stat ours, theirs;
	mdb_filehandle_t have;
	int fd = open(data_path(vf_store_dir(store), path), O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	bool same = mdb_env_get_fd(store->env, &have) == 0 && fstat(have, &ours) == 0 && fstat(fd, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
	            ours.st_ino == theirs.st_ino;
	close(fd);
	return same;
}

/* The pages that a write changes are kept by LMDB for the next one, for as long as the file is open: after a load of 40,000 x 768 the process
 * had 215 MB where the index needs 37. While somebody reads that has to wait: the next write tries again, and who has read. */
bool vf_env_slim(struct vf_store *store, bool may_wait)
{
	struct vf_err err = VF_ERR_INIT;

	if (store->kept_bytes <= vf_store_kept_max || !store->env || !can_open_again(store))
		return false;
	bool waits = may_wait && !store->slim_waited;
	store->slim_waited |= waits;
	if (!vf_gate_shut(store, waits ? VF_GATE_MOMENT : VF_GATE_LOOKS))
		return false;
	/* A file that cannot be opened after all is tried again by whoever needs it, who tells why not. */
	vf_env_reopen(store, store->map_bytes, &err);
	vf_gate_open(store);
	return true;
}

/* Less room than the write may have wanted: its rows, and the pages above and around them. */
static bool is_short_of(const struct vf_store *store, uint64_t bytes)
{
	struct statvfs fs;

	return statvfs(vf_store_dir(store), &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < 2 * bytes + MAP_BYTES_MIN;
}

/* Tries to make the file longer: what a quota or a limit of the process allows is known in no other way. */
static bool is_full(const struct vf_store *store)
{
	static const uint8_t zeros[1 << 16];
	char path[PATH_MAX];
	struct stat st;
	int fd = open(data_path(vf_store_dir(store), path), O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	bool full = false;
	if (fstat(fd, &st) == 0) {
		ssize_t n = pwrite(fd, zeros, sizeof zeros, st.st_size);
		full = n < 0 ? errno != EIO : (size_t)n < sizeof zeros;
		if (n > 0 && ftruncate(fd, st.st_size))
			full = false;
	}
	close(fd);
	return full;
}

int vf_env_write_code(const struct vf_txn *txn, int code)
{
	return code == EIO && (is_short_of(txn->store, txn->bytes) || is_full(txn->store)) ? ENOSPC : code;
}

/* ---- usage and copy ---- */

static int live_pages(const struct vf_store *store, MDB_txn *txn, uint64_t *pages)
{
	/* The two meta pages belong to none. */
	MDB_dbi all[2 + VF_TABLES] = { FREE_TABLE, MAIN_TABLE };

	memcpy(all + 2, store->tables, sizeof store->tables);
	*pages = 2;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		MDB_stat stat;
		int rc = vf_guard_stat(txn, all[i], &stat);
		if (rc)
			return rc;
		*pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
	}
	return 0;
}

int vf_env_free_bytes(const struct vf_txn *txn, uint64_t *bytes)
{
	MDB_envinfo info;
	uint64_t live;
	int rc = live_pages(txn->store, txn->mdb, &live);

	if (rc || (rc = mdb_env_info(txn->store->env, &info)))
		return rc;
	uint64_t taken = (uint64_t)info.me_last_pgno + 1;
	*bytes = taken > live ? (taken - live) * txn->store->page_bytes : 0;
	return 0;
}

int vf_store_usage(struct vf_store *store, struct vf_store_usage *out, struct vf_err *err)
{
	struct vf_txn *txn;
	mdb_filehandle_t fd;
	MDB_envinfo info;
	MDB_stat stat;
	struct stat st;
	uint64_t live;
	int rc = vf_txn_read(store, &txn, err);

	if (rc)
		return rc;
	if ((rc = live_pages(store, txn->mdb, &live)) || (rc = mdb_env_info(store->env, &info)) ||
	    (rc = mdb_env_stat(store->env, &stat)) || (rc = mdb_env_get_fd(store->env, &fd)) || (rc = fstat(fd, &st) ? errno : 0)) {
		rc = vf_store_fault(store, rc, "measure the data", err);
	} else {
		uint64_t taken = (uint64_t)info.me_last_pgno + 1;
		out->file_bytes = (uint64_t)st.st_blocks * 512;
		out->live_bytes = live * stat.ms_psize;
		out->free_bytes = taken > live ? (taken - live) * stat.ms_psize : 0;
	}
	vf_txn_end(&txn);
	return rc;
}

static int sync_copy(const char *dir, struct vf_err *err)
{
	char path[PATH_MAX];

	if (strlen(dir) + sizeof "/" DATA_FILE > PATH_MAX)
		return vf_fail(err, ENAMETOOLONG, "the path of the copy is too long: %s", dir);
	int fd = open(data_path(dir, path), O_RDWR | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) ? errno : 0;
	if (fd >= 0)
		close(fd);
	return rc ? vf_fail(err, rc, "cannot sync %s: %s", path, strerror(rc)) : sync_dir(dir, err);
}

int vf_store_copy(struct vf_store *store, const char *dir, struct vf_err *err)
{
	struct vf_txn *txn;
	/* Our own read keeps the map where it is while LMDB copies. */
	int rc = vf_txn_read(store, &txn, err);

	if (rc)
		return rc;
	/* LMDB copies in a thread of its own, out of reach of the guard. */
	if ((rc = vf_pages_check_once(store, err)) == 0 && (rc = mdb_env_copy2(store->env, dir, MDB_CP_COMPACT)) != 0)
		rc = vf_store_fault(store, rc, "copy the data", err);
	vf_txn_end(&txn);
	return rc ? rc : sync_copy(dir, err);
}
