/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/store/store_internal.h"
#include "check.h"

/* ---- faults of the disk: LMDB writes its meta page with pwrite to the first two pages, and syncs with fdatasync ---- */

static int fail_syncs, fail_metas;

__attribute__((visibility("default"))) int fdatasync(int fd)
{
	if (__atomic_load_n(&fail_syncs, __ATOMIC_RELAXED) > 0 && __atomic_fetch_sub(&fail_syncs, 1, __ATOMIC_RELAXED) > 0) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	if (offset < 8192 && __atomic_load_n(&fail_metas, __ATOMIC_RELAXED) > 0 && __atomic_fetch_sub(&fail_metas, 1, __ATOMIC_RELAXED) > 0) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, data, len, offset);
}

/* ---- a directory a test ---- */

static char dir[64];
static struct vf_store *store;
static struct vf_err err = VF_ERR_INIT;

static void begin(void)
{
	strcpy(dir, "/tmp/check_store.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_ok(vf_store_open(dir, true, false, &store, &err));
}

static void reopen(void)
{
	vf_store_close(&store);
	ck_ok(vf_store_open(dir, false, false, &store, &err));
}

static void path_of(const char *name, char path[128])
{
	snprintf(path, 128, "%s/%s", dir, name);
}

static void remove_dir(void)
{
	char path[128];

	path_of("data.mdb", path);
	unlink(path);
	path_of("lock.mdb", path);
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void end(void)
{
	vf_store_close(&store);
	remove_dir();
}

static uint64_t rows(enum vf_table table)
{
	struct vf_txn *txn;
	uint64_t n;

	ck_ok(vf_txn_read(store, &txn, &err));
	ck_ok(vf_count(txn, table, &n, &err));
	vf_txn_end(&txn);
	return n;
}

static uint32_t rnd(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* ---- one thread against a model ---- */

#define MODEL_KEYS 500

/* What the table should hold under key i: version 0 is nothing. The value tells its key and version, and has a length of its own. */
static size_t model_value(uint32_t key, uint32_t version, uint8_t *out)
{
	size_t len = (key * 7919u + version * 104729u) % 9000;

	memset(out, (int)(key ^ version), len + 8);
	memcpy(out, &key, 4);
	memcpy(out + 4, &version, 4);
	return len + 8;
}

static void check_row(struct vf_span value, uint32_t key, uint32_t version)
{
	uint8_t want[9008];
	size_t len = model_value(key, version, want);

	ck_assert_uint_eq(value.len, len);
	ck_assert_mem_eq(value.data, want, len);
}

static void check_model(const uint32_t *versions)
{
	struct vf_txn *txn;
	struct vf_scan *scan;
	struct vf_span key, value;

	ck_ok(vf_txn_read(store, &txn, &err));
	ck_ok(vf_scan_open_u64(txn, VF_T_VECTORS, 0, &scan, &err));
	for (uint32_t i = 0; i < MODEL_KEYS; i++) {
		int rc = vf_get_u64(txn, VF_T_VECTORS, i, &value, &err);
		ck_assert_int_eq(rc, versions[i] ? 0 : 1);
		if (!versions[i])
			continue;
		check_row(value, i, versions[i]);
		ck_assert_int_eq(vf_scan_step(scan, &key, &value, &err), 0);
		ck_assert_uint_eq(vf_row_u64(key), i);
		check_row(value, i, versions[i]);
	}
	ck_assert_int_eq(vf_scan_step(scan, &key, &value, &err), 1);
	vf_scan_close(&scan);
	vf_txn_end(&txn);
}

START_TEST(rows_are_those_of_a_model_also_after_reopening)
{
	uint32_t versions[MODEL_KEYS] = { 0 }, before[MODEL_KEYS], next = 1;
	uint8_t value[9008];
	uint64_t seed = 1;

	begin();
	for (int round = 0; round < 60; round++) {
		struct vf_txn *txn;
		memcpy(before, versions, sizeof before);
		ck_ok(vf_txn_write(store, &txn, &err));
		for (int i = 0; i < 40; i++) {
			uint32_t key = rnd(&seed) % MODEL_KEYS;
			if (rnd(&seed) % 3 == 0) {
				ck_assert_int_eq(vf_del_u64(txn, VF_T_VECTORS, key, &err), versions[key] ? 0 : 1);
				versions[key] = 0;
			} else {
				versions[key] = next++;
				size_t len = model_value(key, versions[key], value);
				ck_ok(vf_put_u64(txn, VF_T_VECTORS, key, vf_span(value, len), &err));
			}
		}
		if (round % 4 == 3) {
			vf_txn_end(&txn);
			memcpy(versions, before, sizeof before);
		} else {
			ck_ok(vf_txn_commit(&txn, &err));
		}
		if (round % 7 == 0)
			reopen();
		check_model(versions);
	}
	end();
}
END_TEST

START_TEST(a_scan_starts_at_the_first_key_not_below_and_can_be_moved)
{
	static const char *const keys[] = { "a", "ab", "b", "ba", "c" };
	struct vf_span key, value;
	struct vf_txn *txn;
	struct vf_scan *scan;

	begin();
	ck_ok(vf_txn_write(store, &txn, &err));
	for (int i = 0; i < 5; i++)
		ck_ok(vf_put(txn, VF_T_KEYS, vf_span_str(keys[i]), vf_span_str(keys[i]), &err));
	ck_ok(vf_txn_commit(&txn, &err));

	ck_ok(vf_txn_read(store, &txn, &err));
	ck_ok(vf_scan_open(txn, VF_T_KEYS, vf_span_str("aa"), &scan, &err));
	for (int i = 1; i < 5; i++) {
		ck_assert_int_eq(vf_scan_step(scan, &key, &value, &err), 0);
		ck_assert(vf_span_is(key, keys[i]));
	}
	ck_assert_int_eq(vf_scan_step(scan, &key, &value, &err), 1);
	ck_assert_int_eq(vf_scan_step(scan, &key, &value, &err), 1);
	ck_ok(vf_scan_seek(scan, vf_span_str("b"), &err));
	ck_assert_int_eq(vf_scan_step(scan, &key, &value, &err), 0);
	ck_assert(vf_span_is(key, "b"));
	ck_ok(vf_scan_seek(scan, vf_span("", 0), &err));
	ck_assert_int_eq(vf_scan_step(scan, &key, &value, &err), 0);
	ck_assert(vf_span_is(key, "a"));
	ck_ok(vf_scan_seek(scan, vf_span_str("d"), &err));
	ck_assert_int_eq(vf_scan_step(scan, &key, &value, &err), 1);
	vf_scan_close(&scan);
	vf_txn_end(&txn);
	end();
}
END_TEST

START_TEST(rows_can_be_deleted_under_a_scan)
{
	struct vf_span key, value;
	struct vf_txn *txn;
	struct vf_scan *scan;
	uint64_t seen = 0;

	begin();
	ck_ok(vf_txn_write(store, &txn, &err));
	for (uint64_t i = 0; i < 5000; i++)
		ck_ok(vf_put_u64(txn, VF_T_SLOTS, i, vf_span(&i, sizeof i), &err));
	ck_ok(vf_scan_open_u64(txn, VF_T_SLOTS, 0, &scan, &err));
	while (vf_scan_step(scan, &key, &value, &err) == 0) {
		uint64_t n = vf_row_u64(key);
		ck_assert_uint_eq(n, seen++);
		if (n % 3)
			ck_assert_int_eq(vf_del_u64(txn, VF_T_SLOTS, n, &err), 0);
	}
	vf_scan_close(&scan);
	ck_assert_uint_eq(seen, 5000);
	ck_ok(vf_txn_commit(&txn, &err));
	ck_assert_uint_eq(rows(VF_T_SLOTS), 1667);
	end();
}
END_TEST

/* Pages that a write has changed lie in the heap, here up to its very end. */
START_TEST(rows_that_a_write_has_just_put_are_scanned_many_at_a_time)
{
	static uint8_t value[200];
	struct vf_row some[64];
	struct vf_scan *scan;
	struct vf_txn *txn;
	uint64_t seen = 0;
	size_t n;
	int rc = 0;

	mallopt(M_TOP_PAD, 0);
	begin();
	ck_ok(vf_txn_write(store, &txn, &err));
	for (uint64_t i = 0; i < 5000; i++)
		ck_ok(vf_put_u64(txn, VF_T_SLOTS, i, vf_span(value, sizeof value), &err));
	ck_ok(vf_scan_open_u64(txn, VF_T_SLOTS, 0, &scan, &err));
	while (rc == 0) {
		rc = vf_scan_rows(scan, some, 64, &n, &err);
		ck_assert_msg(rc >= 0, "after %llu rows: %s", (unsigned long long)seen, err.text);
		for (size_t i = 0; i < n; i++)
			ck_assert_uint_eq(vf_row_u64(some[i].key), seen++);
	}
	ck_assert_uint_eq(seen, 5000);
	vf_scan_close(&scan);
	vf_txn_end(&txn);
	end();
}
END_TEST

/* Puts some rows, and more that are deleted again: pages that are taken and given back in one transaction are never written, so that the file may
 * end before what LMDB counts. True: it does. */
static bool put_and_give_back(uint64_t *next, uint64_t *kept, uint64_t *random)
{
	static uint8_t value[5000];
	uint64_t keep = rnd(random) % 400, drop = rnd(random) % 600, first = *next;
	struct vf_store_usage usage;
	struct vf_txn *txn;
	struct stat st;
	char path[128];

	ck_ok(vf_txn_write(store, &txn, &err));
	for (; *next < first + keep + drop; ++*next)
		ck_ok(vf_put_u64(txn, VF_T_VECTORS, *next, vf_span(value, sizeof value), &err));
	for (uint64_t i = first + keep; i < *next; i++)
		ck_ok(vf_del_u64(txn, VF_T_VECTORS, i, &err));
	ck_ok(vf_txn_commit(&txn, &err));
	*kept += keep;
	path_of("data.mdb", path);
	ck_ok(vf_store_usage(store, &usage, &err));
	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size < usage.live_bytes + usage.free_bytes;
}

static uint64_t rows_of_a_scan(void)
{
	struct vf_row some[64];
	struct vf_scan *scan;
	struct vf_txn *txn;
	uint64_t seen = 0;
	size_t n;
	int rc = 0;

	ck_ok(vf_txn_read(store, &txn, &err));
	ck_ok(vf_scan_open_u64(txn, VF_T_VECTORS, 0, &scan, &err));
	for (; rc == 0; seen += n) {
		rc = vf_scan_rows(scan, some, 64, &n, &err);
		ck_assert_msg(rc >= 0, "after %llu rows: %s", (unsigned long long)seen, err.text);
	}
	vf_scan_close(&scan);
	vf_txn_end(&txn);
	return seen;
}

START_TEST(a_scan_reads_a_file_that_ends_early)
{
	uint64_t random = 1;
	unsigned ends_early = 0;

	for (unsigned round = 0; round < 20; round++) {
		uint64_t next = 0, kept = 0;
		begin();
		for (unsigned i = 0; i < 6; i++) {
			ends_early += put_and_give_back(&next, &kept, &random);
			ck_assert_uint_eq(rows_of_a_scan(), kept);
		}
		end();
	}
	ck_assert_uint_gt(ends_early, 10);
}
END_TEST

START_TEST(a_read_sees_one_moment)
{
	struct vf_txn *old, *txn;
	struct vf_span value;

	begin();
	ck_ok(vf_txn_read(store, &old, &err));
	ck_ok(vf_txn_write(store, &txn, &err));
	ck_ok(vf_put_u64(txn, VF_T_SLOTS, 1, vf_span_str("one"), &err));
	ck_assert_int_eq(vf_get_u64(old, VF_T_SLOTS, 1, &value, &err), 1);
	ck_ok(vf_txn_commit(&txn, &err));
	ck_assert_int_eq(vf_get_u64(old, VF_T_SLOTS, 1, &value, &err), 1);
	vf_txn_end(&old);
	ck_ok(vf_txn_read(store, &txn, &err));
	ck_ok(vf_get_u64(txn, VF_T_SLOTS, 1, &value, &err));
	ck_assert(vf_span_is(value, "one"));
	vf_txn_end(&txn);
	end();
}
END_TEST

START_TEST(a_key_has_1_to_511_bytes)
{
	char longest[512];
	struct vf_span value;
	struct vf_txn *txn;
	struct vf_scan *scan;

	memset(longest, 'k', sizeof longest);
	begin();
	ck_ok(vf_txn_write(store, &txn, &err));
	ck_ok(vf_put(txn, VF_T_KEYS, vf_span(longest, 511), vf_span("", 0), &err));
	ck_fails(vf_put(txn, VF_T_KEYS, vf_span(longest, 512), vf_span("", 0), &err), EINVAL);
	ck_fails(vf_put(txn, VF_T_KEYS, vf_span("", 0), vf_span("", 0), &err), EINVAL);
	ck_fails(vf_scan_open(txn, VF_T_KEYS, vf_span(longest, 512), &scan, &err), EINVAL);
	ck_ok(vf_get(txn, VF_T_KEYS, vf_span(longest, 511), &value, &err));
	ck_assert_uint_eq(value.len, 0);
	ck_ok(vf_txn_commit(&txn, &err));
	ck_assert_uint_eq(rows(VF_T_KEYS), 1);
	end();
}
END_TEST

/* ---- group commit ---- */

#define THREADS 8
#define JOBS_EACH 150

enum fate { FATE_GOOD, FATE_FAILS_CLEAN, FATE_FAILS_LATE };

static uint64_t group_order;     /* counts calls of `done`; only the committer touches it */
static uint64_t group_rows;

struct group_job {
	struct vf_job job;
	uint64_t id, place;
	enum fate fate;
	unsigned writes, dones;
	bool told_ok;
};

/* Each good job appends a row behind the last of VF_T_RECORDS and one of its own, so the rows tell the order of writing. */
static int group_write(void *ctx, struct vf_txn *txn, struct vf_err *e)
{
	struct group_job *j = ctx;
	uint64_t n;
	int rc;

	j->writes++;
	if (j->fate == FATE_FAILS_CLEAN)
		return vf_fail(e, EEXIST, "job %d says no", (int)j->id);
	if ((rc = vf_count(txn, VF_T_RECORDS, &n, e)) || (rc = vf_put_u64(txn, VF_T_RECORDS, n, vf_span(&j->id, 8), e)) ||
	    (rc = vf_put_u64(txn, VF_T_VECTORS, j->id, vf_span(&n, 8), e)))
		return rc;
	j->place = n;
	return j->fate == FATE_FAILS_LATE ? vf_fail(e, ENOENT, "job %d changes its mind", (int)j->id) : 0;
}

static void group_done(void *ctx, bool ok)
{
	struct group_job *j = ctx;

	j->dones++;
	j->told_ok = ok;
	group_order++;
	if (ok)
		ck_assert_uint_eq(j->place, group_rows++);    /* in the order of the rows */
}

static void *group_thread(void *arg)
{
	uint64_t base = (uint64_t)(uintptr_t)arg * JOBS_EACH, seed = base + 7;

	for (uint64_t i = 0; i < JOBS_EACH; i++) {
		struct group_job j = { .job = { .write = group_write, .done = group_done }, .id = base + i };
		struct vf_err e = VF_ERR_INIT;
		uint32_t dice = rnd(&seed) % 10;

		j.job.ctx = &j;
		j.fate = dice == 0 ? FATE_FAILS_LATE : dice == 1 ? FATE_FAILS_CLEAN : FATE_GOOD;
		int rc = vf_commit(store, &j.job, &e);
		ck_assert_int_eq(rc, j.fate == FATE_GOOD ? 0 : j.fate == FATE_FAILS_LATE ? -ENOENT : -EEXIST);
		ck_assert_int_eq(e.code, -rc);
		ck_assert_uint_eq(j.dones, 1);
		ck_assert_int_eq(j.told_ok, rc == 0);
		ck_assert_uint_ge(j.writes, 1);
		if (j.fate != FATE_GOOD && vf_store_map_first > 1 << 20)     /* a failure is final, unless the map was full */
			ck_assert_uint_eq(j.writes, 1);
	}
	return NULL;
}

/* Reads while jobs commit: rows of VF_T_RECORDS are always without gaps and each has its counterpart. */
static void *watch_thread(void *arg)
{
	bool *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
		struct vf_err e = VF_ERR_INIT;
		struct vf_txn *txn;
		struct vf_scan *scan;
		struct vf_span key, value, back;
		uint64_t n = 0;

		ck_assert_int_eq(vf_txn_read(store, &txn, &e), 0);
		ck_assert_int_eq(vf_scan_open_u64(txn, VF_T_RECORDS, 0, &scan, &e), 0);
		while (vf_scan_step(scan, &key, &value, &e) == 0) {
			ck_assert_uint_eq(vf_row_u64(key), n);
			ck_assert_int_eq(vf_get_u64(txn, VF_T_VECTORS, vf_row_u64(value), &back, &e), 0);
			ck_assert_uint_eq(vf_row_u64(back), n++);
		}
		vf_scan_close(&scan);
		vf_txn_end(&txn);
	}
	return NULL;
}

static void run_group_threads(void)
{
	pthread_t threads[THREADS], watcher;
	bool stop = false;

	group_order = group_rows = 0;
	ck_assert_int_eq(pthread_create(&watcher, NULL, watch_thread, &stop), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, group_thread, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(watcher, NULL);
}

static void check_group_rows(void)
{
	uint64_t good = 0;

	for (uint64_t t = 0; t < THREADS; t++) {
		uint64_t seed = t * JOBS_EACH + 7;
		for (uint64_t i = 0; i < JOBS_EACH; i++) {
			struct vf_txn *txn;
			struct vf_span value;
			bool want = rnd(&seed) % 10 > 1;
			ck_ok(vf_txn_read(store, &txn, &err));
			ck_assert_int_eq(vf_get_u64(txn, VF_T_VECTORS, t * JOBS_EACH + i, &value, &err), want ? 0 : 1);
			vf_txn_end(&txn);
			good += want;
		}
	}
	ck_assert_uint_eq(group_order, THREADS * JOBS_EACH);
	ck_assert_uint_eq(group_rows, good);
	ck_assert_uint_eq(rows(VF_T_VECTORS), good);
	ck_assert_uint_eq(rows(VF_T_RECORDS), good);
}

START_TEST(jobs_of_many_threads_commit_in_order_and_a_failing_one_is_taken_back_alone)
{
	begin();
	run_group_threads();
	reopen();
	check_group_rows();
	end();
}
END_TEST

/* ---- growth ---- */

struct big_job { struct vf_job job; uint64_t first; unsigned rows; };

static int big_write(void *ctx, struct vf_txn *txn, struct vf_err *e)
{
	struct big_job *j = ctx;

	for (uint64_t i = 0; i < j->rows; i++) {
		void *space;
		int rc = vf_reserve_u64(txn, VF_T_CODES, j->first + i, 3000, false, &space, e);
		if (rc)
			return rc;
		memset(space, (int)(j->first + i), 3000);
	}
	return 0;
}

static int commit_big(uint64_t first, unsigned n, struct vf_err *e)
{
	struct big_job j = { .job = { .write = big_write }, .first = first, .rows = n };

	j.job.ctx = &j;
	return vf_commit(store, &j.job, e);
}

static void check_big(uint64_t n)
{
	struct vf_txn *txn;
	struct vf_span value;

	ck_assert_uint_eq(rows(VF_T_CODES), n);
	ck_ok(vf_txn_read(store, &txn, &err));
	for (uint64_t i = 0; i < n; i++) {
		ck_ok(vf_get_u64(txn, VF_T_CODES, i, &value, &err));
		ck_assert_uint_eq(value.len, 3000);
		ck_assert_uint_eq(value.data[0], i & 255);
		ck_assert_uint_eq(value.data[2999], i & 255);
	}
	vf_txn_end(&txn);
}

START_TEST(a_file_outgrows_its_map_and_nobody_hears_about_it)
{
	vf_store_map_first = 1 << 20;
	begin();
	ck_assert_uint_eq(store->map_bytes, 1 << 20);
	for (uint64_t i = 0; i < 10; i++)
		ck_ok(commit_big(i * 700, 700, &err));     /* 2 MB each: twice the first map */
	check_big(7000);
	ck_assert_uint_ge(store->map_bytes, 7000 * 4096);
	reopen();
	check_big(7000);
	end();
}
END_TEST

START_TEST(a_file_grows_after_its_directory_was_renamed)
{
	char renamed[80];

	vf_store_map_first = 1 << 20;
	begin();
	snprintf(renamed, sizeof renamed, "%s.renamed", dir);
	ck_assert_int_eq(rename(dir, renamed), 0);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	ck_ok(commit_big(0, 2000, &err));
	check_big(2000);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_int_eq(rename(renamed, dir), 0);
	end();
}
END_TEST

static void *read_thread(void *arg)
{
	bool *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
		struct vf_err e = VF_ERR_INIT;
		struct vf_txn *txn, *inner;
		struct vf_span value;
		uint64_t n;

		ck_assert_int_eq(vf_txn_read(store, &txn, &e), 0);
		ck_assert_int_eq(vf_txn_read(store, &inner, &e), 0);
		ck_assert_int_eq(vf_count(inner, VF_T_CODES, &n, &e), 0);
		vf_txn_end(&inner);
		ck_assert_int_eq(vf_count(txn, VF_T_CODES, &n, &e), 0);
		for (uint64_t i = 0; i < n; i += 97) {
			ck_assert_int_eq(vf_get_u64(txn, VF_T_CODES, i, &value, &e), 0);
			ck_assert_uint_eq(value.data[1500], i & 255);
		}
		vf_txn_end(&txn);
	}
	return NULL;
}

START_TEST(a_map_grows_among_readers)
{
	pthread_t threads[4];
	bool stop = false;

	vf_store_map_first = 1 << 20;
	begin();
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_thread, &stop), 0);
	for (uint64_t i = 0; i < 30; i++)
		ck_ok(commit_big(i * 100, 100, &err));
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	check_big(3000);
	end();
}
END_TEST

START_TEST(a_large_write_gives_its_memory_back)
{
	struct vf_txn *txn;

	begin();
	vf_store_kept_max = 1 << 20;
	ck_ok(commit_big(0, 100, &err));
	ck_assert_uint_eq(store->openings, 1);
	ck_ok(commit_big(100, 700, &err));
	ck_assert_uint_eq(store->openings, 2);
	ck_assert_uint_eq(store->kept_bytes, 0);
	/* One that reads is not disturbed, and the next write sees to it. */
	ck_ok(vf_txn_read(store, &txn, &err));
	ck_ok(commit_big(800, 700, &err));
	ck_assert_uint_eq(store->openings, 2);
	vf_txn_end(&txn);
	ck_ok(commit_big(1500, 1, &err));
	ck_assert_uint_eq(store->openings, 3);
	check_big(1501);
	/* Nor is what was not committed kept. */
	ck_ok(vf_txn_write(store, &txn, &err));
	ck_ok(big_write(&(struct big_job){ .first = 2000, .rows = 700 }, txn, &err));
	vf_txn_end(&txn);
	ck_ok(commit_big(1501, 1, &err));
	ck_assert_uint_eq(store->openings, 4);
	check_big(1502);
	end();
}
END_TEST

START_TEST(a_file_that_is_not_there_any_more_is_not_opened_anew)
{
	char path[100], away[100];

	begin();
	vf_store_kept_max = 1 << 20;
	snprintf(path, sizeof path, "%s/data.mdb", dir);
	snprintf(away, sizeof away, "%s/away", dir);
	ck_assert_int_eq(rename(path, away), 0);
	ck_ok(commit_big(0, 700, &err));
	ck_assert_uint_eq(store->openings, 1);
	/* Nor is another one in its place. */
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_ok(commit_big(700, 700, &err));
	ck_assert_uint_eq(store->openings, 1);
	check_big(1400);
	ck_assert_int_eq(rename(away, path), 0);
	ck_ok(commit_big(1400, 1, &err));
	ck_assert_uint_eq(store->openings, 2);
	check_big(1401);
	end();
}
END_TEST

START_TEST(a_file_is_opened_anew_among_readers_and_writers)
{
	begin();
	vf_store_kept_max = 0;
	run_group_threads();
	check_group_rows();
	ck_assert_uint_gt(store->openings, 1);
	end();
}
END_TEST

START_TEST(jobs_of_many_threads_commit_while_the_map_grows)
{
	vf_store_map_first = 1 << 16;
	begin();
	run_group_threads();
	check_group_rows();
	end();
}
END_TEST

#ifdef __SANITIZE_ADDRESS__
#define LIMITED_ADDRESS_SPACE 0       /* the sanitizers have reserved terabytes already */
#elif defined(__SANITIZE_THREAD__)
#define LIMITED_ADDRESS_SPACE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LIMITED_ADDRESS_SPACE 0
#endif
#endif
#ifndef LIMITED_ADDRESS_SPACE
#define LIMITED_ADDRESS_SPACE 1
#endif

START_TEST(a_process_with_little_address_space_gets_a_smaller_map)
{
	struct rlimit limit = { 512 << 20, 512 << 20 };

	if (!LIMITED_ADDRESS_SPACE)
		return;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	begin();
	ck_assert_uint_lt(store->map_bytes, 512 << 20);
	ck_assert_uint_gt(store->map_bytes, 64 << 20);
	ck_ok(commit_big(0, 1000, &err));
	check_big(1000);
	end();
}
END_TEST

/* ---- faults ---- */

START_TEST(a_full_disk_fails_the_commit_and_harms_nothing)
{
	struct rlimit whole, limit;

	begin();
	ck_ok(commit_big(0, 300, &err));
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &whole), 0);
	limit = whole;
	limit.rlim_cur = 2 << 20;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (int i = 0; i < 3; i++)
		ck_fails(commit_big(300, 1000, &err), ENOSPC);
	check_big(300);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &whole), 0);
	ck_ok(commit_big(300, 1000, &err));
	check_big(1300);
	reopen();
	check_big(1300);
	end();
}
END_TEST

START_TEST(a_failed_sync_fails_the_commit_and_harms_nothing)
{
	begin();
	ck_ok(commit_big(0, 100, &err));
	fail_syncs = 1;
	ck_fails(commit_big(100, 100, &err), EIO);
	check_big(100);
	ck_ok(commit_big(100, 200, &err));
	check_big(300);
	reopen();
	check_big(300);
	end();
}
END_TEST

START_TEST(a_failed_meta_page_fails_the_commit_and_the_store_goes_on)
{
	begin();
	ck_ok(commit_big(0, 100, &err));
	fail_metas = 1;
	ck_fails(commit_big(100, 100, &err), EIO);
	check_big(100);                   /* a reader heals it */
	fail_metas = 1;
	ck_fails(commit_big(100, 100, &err), EIO);
	ck_ok(commit_big(100, 200, &err));     /* a writer heals it */
	check_big(300);
	reopen();
	check_big(300);
	end();
}
END_TEST

START_TEST(what_is_no_store_is_refused_in_words)
{
	struct vf_store *other = NULL;
	char path[128], whole[128];

	begin();
	ck_ok(commit_big(0, 300, &err));
	vf_store_close(&store);
	ck_fails(vf_store_open("/nonexistent", true, false, &other, &err), ENOENT);
	path_of("data.mdb", path);
	path_of("lock.mdb", whole);

	/* Cut short: the lost pages are found damaged, without a signal. */
	ck_assert_int_eq(truncate(path, 3 * 4096), 0);
	int rc = vf_store_open(dir, false, false, &other, &err);
	if (rc == 0) {
		struct vf_txn *txn;
		struct vf_span value;
		ck_ok(vf_txn_read(other, &txn, &err));
		rc = vf_get_u64(txn, VF_T_CODES, 200, &value, &err);
		vf_txn_end(&txn);
		vf_store_close(&other);
	}
	ck_assert_int_eq(rc, -EIO);

	FILE *f = fopen(path, "w");
	for (int i = 0; i < 20000; i++)
		fputc('x', f);
	fclose(f);
	ck_fails(vf_store_open(dir, false, false, &other, &err), EIO);
	ck_assert_int_eq(truncate(path, 0), 0);
	ck_fails(vf_store_open(dir, false, false, &other, &err), EIO);
	ck_assert_int_eq(unlink(path), 0);
	ck_fails(vf_store_open(dir, false, false, &other, &err), ENOENT);
	ck_assert_int_eq(access(path, F_OK), -1);
	ck_assert_ptr_null(other);
	unlink(whole);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(a_store_opened_for_reading_refuses_to_write)
{
	struct vf_txn *txn;

	begin();
	ck_ok(commit_big(0, 10, &err));
	vf_store_close(&store);
	ck_ok(vf_store_open(dir, false, true, &store, &err));
	check_big(10);
	ck_fails(commit_big(10, 10, &err), EROFS);
	ck_fails(vf_txn_write(store, &txn, &err), EROFS);
	end();
}
END_TEST

/* ---- space ---- */

static int drop_write(void *ctx, struct vf_txn *txn, struct vf_err *e)
{
	const uint64_t *n = ctx;

	for (uint64_t i = n[0]; i < n[1]; i++) {
		int rc = vf_del_u64(txn, VF_T_CODES, i, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

START_TEST(a_copy_has_the_same_rows_in_less_space)
{
	struct vf_store_usage before, after;
	char copy[128], path[160];
	uint64_t range[2] = { 500, 5000 };
	struct vf_job drop = { .write = drop_write, .ctx = range };

	begin();
	ck_ok(commit_big(0, 5000, &err));
	ck_ok(vf_store_usage(store, &before, &err));
	ck_assert_uint_ge(before.live_bytes, 5000 * 3000);
	ck_assert_uint_lt(before.free_bytes, before.live_bytes / 10);
	ck_assert_uint_ge(before.file_bytes, before.live_bytes);
	ck_ok(vf_commit(store, &drop, &err));
	ck_ok(vf_store_usage(store, &before, &err));
	ck_assert_uint_ge(before.free_bytes, 4000 * 3000);

	path_of("copy", copy);
	ck_assert_int_eq(mkdir(copy, 0700), 0);
	ck_ok(vf_store_copy(store, copy, &err));
	check_big(500);
	vf_store_close(&store);
	ck_ok(vf_store_open(copy, false, false, &store, &err));
	check_big(500);
	ck_ok(vf_store_usage(store, &after, &err));
	ck_assert_uint_lt(after.file_bytes, before.file_bytes / 4);
	ck_assert_uint_le(after.live_bytes, before.live_bytes);
	vf_store_close(&store);
	snprintf(path, sizeof path, "%s/data.mdb", copy);
	unlink(path);
	snprintf(path, sizeof path, "%s/lock.mdb", copy);
	unlink(path);
	rmdir(copy);
	remove_dir();
}
END_TEST

/* ---- kill -9 ---- */

#define KILLED_THREADS 3

static int killed_out;

static void *killed_thread(void *arg)
{
	for (uint64_t i = (uint64_t)(uintptr_t)arg;; i += KILLED_THREADS) {
		struct vf_err e = VF_ERR_INIT;
		if (commit_big(i, 1, &e) || write(killed_out, &i, sizeof i) != sizeof i)
			_exit(1);
	}
}

static void run_until_killed(void)
{
	pthread_t thread;

	if (vf_store_open(dir, false, false, &store, &err))
		_exit(1);
	for (uintptr_t i = 0; i < KILLED_THREADS; i++)
		pthread_create(&thread, NULL, killed_thread, (void *)i);
	pause();
}

START_TEST(what_was_acknowledged_survives_kill_9)
{
	begin();
	vf_store_close(&store);
	for (int round = 0; round < 6; round++) {
		int fds[2], status;
		uint64_t id, acknowledged = 0;

		ck_assert_int_eq(pipe(fds), 0);
		pid_t pid = fork();
		if (pid == 0) {
			close(fds[0]);
			killed_out = fds[1];
			run_until_killed();
		}
		close(fds[1]);
		/* From the first acknowledgement on: a busy machine needs long until there is one. */
		ck_assert_int_eq(poll(&(struct pollfd){ .fd = fds[0], .events = POLLIN }, 1, -1), 1);
		usleep(150000 + 37000 * (unsigned)round);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		ck_ok(vf_store_open(dir, false, false, &store, &err));
		while (read(fds[0], &id, sizeof id) == sizeof id) {
			struct vf_txn *txn;
			struct vf_span value;
			ck_ok(vf_txn_read(store, &txn, &err));
			ck_assert_int_eq(vf_get_u64(txn, VF_T_CODES, id, &value, &err), 0);
			ck_assert_uint_eq(value.data[2999], id & 255);
			vf_txn_end(&txn);
			acknowledged++;
		}
		ck_assert_uint_gt(acknowledged, 0);
		vf_store_close(&store);
		close(fds[0]);
	}
	remove_dir();
}
END_TEST

CHECK_MAIN("store",
	rows_are_those_of_a_model_also_after_reopening, a_scan_starts_at_the_first_key_not_below_and_can_be_moved,
	rows_can_be_deleted_under_a_scan, rows_that_a_write_has_just_put_are_scanned_many_at_a_time,
	a_scan_reads_a_file_that_ends_early, a_read_sees_one_moment, a_key_has_1_to_511_bytes,
	jobs_of_many_threads_commit_in_order_and_a_failing_one_is_taken_back_alone, a_file_outgrows_its_map_and_nobody_hears_about_it,
	a_file_grows_after_its_directory_was_renamed, a_map_grows_among_readers, a_large_write_gives_its_memory_back,
	a_file_that_is_not_there_any_more_is_not_opened_anew,
	a_file_is_opened_anew_among_readers_and_writers, jobs_of_many_threads_commit_while_the_map_grows,
	a_process_with_little_address_space_gets_a_smaller_map, a_full_disk_fails_the_commit_and_harms_nothing,
	a_failed_sync_fails_the_commit_and_harms_nothing, a_failed_meta_page_fails_the_commit_and_the_store_goes_on,
	what_is_no_store_is_refused_in_words, a_store_opened_for_reading_refuses_to_write,
	a_copy_has_the_same_rows_in_less_space, what_was_acknowledged_survives_kill_9)
