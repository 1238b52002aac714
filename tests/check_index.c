/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/index/index_internal.h"
#include "check.h"

#define DIM 8u

static char dir[64];
static struct vf_index *idx;
static struct vf_linkers *linkers;
static struct vf_err err = VF_ERR_INIT;

/* ---- an index a test ---- */

static void open_index(bool read_only)
{
	struct vf_index_options options = { .bucket = "b", .name = "docs", .read_only = read_only, .linkers = linkers };

	ck_ok(vf_index_open(dir, &options, &idx, &err));
}

static void reopen(void)
{
	vf_index_close(&idx);
	open_index(false);
}

static void configure(const char *text)
{
	ck_ok(vf_index_configure(idx, vf_span_str(text), &err));
}

static void begin(const char *config)
{
	strcpy(dir, "/tmp/check_index.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_ok(vf_index_create(dir, &err));
	open_index(false);
	if (config)
		configure(config);
}

static unsigned findings;
static char last_finding[1024];
static const char *sought;             /* in any finding */
static bool sought_found;

static void note_finding(void *ctx, const char *text)
{
	(void)ctx;
	findings++;
	snprintf(last_finding, sizeof last_finding, "%s", text);
	sought_found |= sought && strstr(text, sought);
}

static int64_t audit(void)
{
	findings = 0;
	last_finding[0] = '\0';
	int64_t n = vf_index_audit(dir, note_finding, NULL, &err);
	ck_assert_msg(n >= 0, "audit: %s", err.text);
	ck_assert_int_eq(n, findings);
	return n;
}

static void audit_is_clean(void)
{
	int64_t n = audit();

	ck_assert_msg(n == 0, "%lld findings, the last: %s", (long long)n, last_finding);
}

static void remove_dir(void)
{
	char path[128];

	snprintf(path, sizeof path, "%s/data.mdb", dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/lock.mdb", dir);
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void end(void)
{
	vf_index_close(&idx);
	audit_is_clean();
	remove_dir();
}

/* ---- records ---- */

static uint64_t seed_state = 1;

static uint64_t rnd(void)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return seed_state;
}

/* The vector that a number stands for; never zero. */
static void vector_of(uint64_t number, uint32_t dim, float *out)
{
	uint64_t x = (number + 1) * 0x9e3779b97f4a7c15u;

	for (uint32_t i = 0; i < dim; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = (float)(x % 20001) / 10000.0f - 1.0f;
	}
	out[0] += 3.0f;
}

static struct vf_span json_metadata(const char *json, struct vf_arena *arena)
{
	struct vf_value value;
	struct vf_buf bytes = VF_BUF_INIT;

	ck_ok(vf_value_decode(VF_JSON, vf_span_str(json), arena, &value, &err));
	ck_ok(vf_metadata_encode(&value, NULL, &bytes, &err));
	struct vf_span copy = vf_arena_copy(arena, vf_buf_span(&bytes));
	vf_buf_free(&bytes);
	return copy;
}

static void add_to(struct vf_batch *batch, const char *key, uint64_t vector, const char *metadata, bool if_absent)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config;

	ck_ok(vf_index_config(idx, &config, &err));
	float *numbers = calloc(config.dim, sizeof *numbers);
	vector_of(vector, config.dim, numbers);
	struct vf_record record = { .key = vf_span_str(key), .vector = numbers, .dim = config.dim, .if_absent = if_absent,
	                            .metadata = json_metadata(metadata, &arena) };
	ck_ok(vf_batch_put(batch, &record, &err));
	free(numbers);
	vf_config_free(&config);
	vf_arena_free(&arena);
}

static struct vf_receipt apply(struct vf_batch **batch)
{
	struct vf_receipt receipt;

	ck_ok(vf_batch_apply(*batch, &receipt, &err));
	vf_batch_free(batch);
	return receipt;
}

static struct vf_batch *new_batch(void)
{
	struct vf_batch *batch;

	ck_ok(vf_batch_new(idx, &batch, &err));
	return batch;
}

static struct vf_receipt put(const char *key, uint64_t vector, const char *metadata)
{
	struct vf_batch *batch = new_batch();

	add_to(batch, key, vector, metadata, false);
	return apply(&batch);
}

static void update_json(struct vf_batch *batch, const char *json)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config;
	struct vf_value value;
	struct vf_update update;

	ck_ok(vf_index_config(idx, &config, &err));
	ck_ok(vf_value_decode(VF_JSON, vf_span_str(json), &arena, &value, &err));
	ck_ok(vf_update_from_value(&value, &config, &arena, &update, &err));
	ck_ok(vf_batch_update(batch, &update, &err));
	vf_config_free(&config);
	vf_arena_free(&arena);
}

static void delete_json(struct vf_batch *batch, const char *json)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config;
	struct vf_value value;
	struct vf_delete request;

	ck_ok(vf_index_config(idx, &config, &err));
	ck_ok(vf_value_decode(VF_JSON, vf_span_str(json), &arena, &value, &err));
	ck_ok(vf_delete_from_value(&value, &config, &arena, &request, &err));
	ck_ok(vf_batch_delete(batch, &request, &err));
	vf_config_free(&config);
	vf_arena_free(&arena);
}

static struct vf_record_stat stat_of(const char *key)
{
	struct vf_record_stat stat;

	ck_ok(vf_index_stat(idx, vf_span_str(key), &stat, &err));
	return stat;
}

static bool exists(const char *key)
{
	struct vf_record_stat stat;
	int rc = vf_index_stat(idx, vf_span_str(key), &stat, &err);

	ck_assert(rc == 0 || rc == -ENOENT);
	return rc == 0;
}

/* The record has this vector and this metadata, bit by bit. */
static void ck_record(const char *key, uint64_t vector, const char *metadata)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_record record;
	struct vf_record_stat stat;

	ck_ok(vf_index_get(idx, vf_span_str(key), &arena, &record, &stat, &err));
	float *numbers = calloc(record.dim, sizeof *numbers);
	vector_of(vector, record.dim, numbers);
	ck_assert(vf_span_is(record.key, key));
	ck_assert_mem_eq(record.vector, numbers, record.dim * sizeof(float));
	ck_assert_msg(vf_span_equal(record.metadata, json_metadata(metadata, &arena)), "metadata of %s is not %s", key, metadata);
	ck_assert_uint_eq(stat.dim, record.dim);
	ck_assert_uint_eq(stat.metadata_bytes, record.metadata.len);
	ck_assert_uint_eq(stat.key_bytes, strlen(key));
	free(numbers);
	vf_arena_free(&arena);
}

struct listing { struct vf_buf text; unsigned n, stop_at; };

static int add_listed(void *ctx, struct vf_span key, uint64_t ino)
{
	struct listing *l = ctx;

	ck_assert_uint_ge(ino, VF_INO_FIRST);
	ck_ok(vf_buf_put(&l->text, key.data, key.len, &err));
	ck_ok(vf_buf_put_str(&l->text, "\n", &err));
	return ++l->n == l->stop_at;
}

static struct listing list(const char *after)
{
	struct listing l = { .text = VF_BUF_INIT };

	ck_ok(vf_index_list(idx, vf_span_str(after), add_listed, &l, &err));
	ck_ok(vf_buf_put(&l.text, "", 1, &err));
	return l;
}

/* What memory holds is what is on disk: as many live slots as rows, each with the vector of its serial. */
static void ck_memory_agrees(uint64_t records)
{
	struct vf_graph_counts counts;
	struct vf_graph *graph;
	struct vf_txn *txn;
	struct vf_scan *scan;
	struct vf_span key, value;

	ck_ok(vf_graph_hold(idx, &graph, &err));
	ck_assert_ptr_nonnull(graph);
	/* One that is just linked counts twice for a moment. */
	for (int i = 0; i < 100000; i++) {
		vf_graph_counts(graph, &counts);
		if (counts.pending + counts.linked == records)
			break;
		sched_yield();
	}
	ck_assert_uint_eq(counts.pending + counts.linked, records);
	ck_ok(vf_txn_read(idx->store, &txn, &err));
	ck_ok(vf_scan_open_u64(txn, VF_T_SLOTS, 0, &scan, &err));
	while (vf_scan_step(scan, &key, &value, &err) == 0) {
		uint64_t serial = 0;
		enum vf_slot_state state = vf_graph_slot(graph, (uint32_t)vf_load_u64(key.data), &serial);
		ck_assert(state == VF_SLOT_PENDING || state == VF_SLOT_LINKED);
		ck_assert_uint_eq(serial, vf_load_u64(value.data));
		records--;
	}
	ck_assert_uint_eq(records, 0);
	vf_scan_close(&scan);
	vf_txn_end(&txn);
	vf_graph_release(idx);
}

static uint64_t count_in(enum vf_slot_state state)
{
	struct vf_graph_counts counts;
	struct vf_graph *graph;

	ck_ok(vf_graph_hold(idx, &graph, &err));
	vf_graph_counts(graph, &counts);
	vf_graph_release(idx);
	switch (state) {
	case VF_SLOT_FREE:    return counts.free;
	case VF_SLOT_PENDING: return counts.pending;
	case VF_SLOT_LINKED:  return counts.linked;
	case VF_SLOT_DEAD:    return counts.dead;
	}
	return 0;
}

static void stat_row(const char *key, struct vf_key_row *key_row, struct vf_record_row *row)
{
	struct vf_txn *txn;

	ck_ok(vf_txn_read(idx->store, &txn, &err));
	ck_ok(vf_row_of_key(txn, vf_span_str(key), key_row, &err));
	ck_ok(vf_row_of_serial(txn, key_row->serial, row, &err));
	vf_txn_end(&txn);
}

/* ---- writing and reading ---- */

START_TEST(a_record_reads_back_as_it_was_put)
{
	begin("dimension = 8");
	struct vf_receipt receipt = put("doc/1", 7, "{\"lang\": \"en\", \"year\": 2024, \"tags\": [\"a\", \"b\"], \"x\": 1.5, \"ok\": true}");
	ck_assert_uint_eq(receipt.inserted, 1);
	ck_record("doc/1", 7, "{\"ok\": true, \"x\": 1.5, \"tags\": [\"a\", \"b\"], \"year\": 2024, \"lang\": \"en\"}");
	ck_assert_uint_eq(stat_of("doc/1").ino, VF_INO_FIRST);
	ck_assert(!exists("doc/2"));
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_record record;
	ck_assert_int_eq(vf_index_get(idx, vf_span_str("doc/2"), &arena, &record, NULL, &err), -ENOENT);
	reopen();
	ck_record("doc/1", 7, "{\"ok\": true, \"x\": 1.5, \"tags\": [\"a\", \"b\"], \"year\": 2024, \"lang\": \"en\"}");
	ck_memory_agrees(1);
	end();
}
END_TEST

START_TEST(wrong_records_are_refused_with_the_values)
{
	float numbers[DIM + 1] = { 1 };
	struct vf_batch *batch;

	begin(NULL);
	ck_ok(vf_batch_new(idx, &batch, &err));
	struct vf_record record = { .key = vf_span_str("a"), .vector = numbers, .dim = DIM, .metadata = vf_span("\x80", 1) };
	ck_fails(vf_batch_put(batch, &record, &err), EINVAL);
	vf_batch_free(&batch);
	configure("dimension = 8");
	ck_ok(vf_batch_new(idx, &batch, &err));
	record.dim = DIM + 1;
	ck_fails(vf_batch_put(batch, &record, &err), EINVAL);
	ck_assert_msg(strstr(err.text, "9 numbers") && strstr(err.text, "docs has 8"), "%s", err.text);
	record.dim = DIM;
	numbers[3] = NAN;
	ck_fails(vf_batch_put(batch, &record, &err), EINVAL);
	numbers[0] = numbers[3] = 0;
	ck_fails(vf_batch_put(batch, &record, &err), EINVAL);
	vf_batch_free(&batch);
	end();
}
END_TEST

START_TEST(of_equal_keys_in_a_batch_the_last_wins)
{
	begin("dimension = 8");
	put("old", 1, "{}");
	struct vf_batch *batch = new_batch();
	add_to(batch, "a", 10, "{}", false);
	add_to(batch, "old", 11, "{}", false);
	add_to(batch, "a", 12, "{\"n\": 2}", false);
	add_to(batch, "old", 13, "{}", true);
	add_to(batch, "new", 14, "{}", true);
	add_to(batch, "new", 15, "{}", true);
	struct vf_receipt receipt = apply(&batch);
	ck_assert_uint_eq(receipt.inserted, 2);
	ck_assert_uint_eq(receipt.replaced, 1);
	ck_assert_uint_eq(receipt.skipped, 2);
	ck_record("a", 12, "{\"n\": 2}");
	ck_record("old", 11, "{}");
	ck_record("new", 14, "{}");
	ck_memory_agrees(3);
	batch = new_batch();
	add_to(batch, "new", 20, "{}", true);
	receipt = apply(&batch);
	ck_assert_uint_eq(receipt.skipped, 1);
	ck_record("new", 14, "{}");
	end();
}
END_TEST

START_TEST(an_equal_vector_keeps_its_slot_and_serial)
{
	struct vf_key_row key_row[3];
	struct vf_record_row row[3];

	begin("dimension = 8");
	put("a", 1, "{\"n\": 1}");
	stat_row("a", &key_row[0], &row[0]);
	struct vf_record_stat first = stat_of("a");
	put("a", 1, "{\"n\": 2}");
	stat_row("a", &key_row[1], &row[1]);
	ck_assert_uint_eq(key_row[0].serial, key_row[1].serial);
	ck_assert_uint_eq(row[0].slot, row[1].slot);
	ck_assert_uint_ne(first.version, stat_of("a").version);
	uint64_t version = stat_of("a").version;
	put("a", 1, "{\"n\": 2}");
	ck_assert_uint_eq(version, stat_of("a").version);
	put("a", 2, "{\"n\": 2}");
	stat_row("a", &key_row[2], &row[2]);
	ck_assert_uint_gt(key_row[2].serial, key_row[1].serial);
	ck_assert_uint_ne(version, stat_of("a").version);
	ck_assert_uint_eq(first.ino, stat_of("a").ino);
	ck_record("a", 2, "{\"n\": 2}");
	ck_memory_agrees(1);
	end();
}
END_TEST

START_TEST(a_record_keeps_inode_and_vector_under_another_key)
{
	begin("dimension = 8");
	put("a", 1, "{\"n\": 1}");
	put("b", 2, "{\"n\": 2}");
	uint64_t ino = stat_of("a").ino;
	ck_fails(vf_index_rekey(idx, vf_span_str("a"), vf_span_str("b"), false, &err), EEXIST);
	ck_assert_int_eq(vf_index_rekey(idx, vf_span_str("x"), vf_span_str("b"), true, &err), -ENOENT);
	ck_ok(vf_index_rekey(idx, vf_span_str("a"), vf_span_str("a"), false, &err));
	ck_record("b", 2, "{\"n\": 2}");
	ck_ok(vf_index_rekey(idx, vf_span_str("a"), vf_span_str("b"), true, &err));
	ck_record("b", 1, "{\"n\": 1}");
	ck_assert(!exists("a"));
	ck_assert_uint_eq(stat_of("b").ino, ino);
	ck_memory_agrees(1);
	ck_ok(vf_index_set_mtime(idx, vf_span_str("b"), 1234567890123456789, &err));
	ck_assert_int_eq(stat_of("b").mtime_ns, 1234567890123456789);
	ck_assert_int_eq(vf_index_set_mtime(idx, vf_span_str("a"), 1, &err), -ENOENT);
	ck_assert_int_eq(vf_index_remove(idx, vf_span_str("a"), &err), -ENOENT);
	ck_ok(vf_index_remove(idx, vf_span_str("b"), &err));
	ck_memory_agrees(0);
	end();
}
END_TEST

START_TEST(requests_by_filter_see_what_came_before_them_in_the_batch)
{
	begin("dimension = 8");
	struct vf_batch *batch = new_batch();
	for (int i = 0; i < 20; i++) {
		char key[16], metadata[64];
		snprintf(key, sizeof key, "k%02d", i);
		snprintf(metadata, sizeof metadata, "{\"n\": %d, \"kind\": \"%s\"}", i, i % 2 ? "odd" : "even");
		add_to(batch, key, (uint64_t)i, metadata, false);
	}
	update_json(batch, "{\"filter\": {\"kind\": \"odd\"}, \"set\": {\"kind\": \"strange\", \"seen\": true}, \"unset\": [\"n\"]}");
	update_json(batch, "{\"keys\": [\"k00\", \"none\"], \"set\": {\"kind\": \"zero\"}}");
	delete_json(batch, "{\"filter\": {\"n\": {\"$gte\": 10}}}");
	delete_json(batch, "{\"keys\": [\"k02\", \"k02\"]}");
	struct vf_receipt receipt = apply(&batch);
	ck_assert_uint_eq(receipt.inserted, 20);
	ck_assert_uint_eq(receipt.updated, 11);
	ck_assert_uint_eq(receipt.deleted, 6);
	ck_assert_uint_eq(receipt.unknown, 2);
	ck_record("k01", 1, "{\"kind\": \"strange\", \"seen\": true}");
	ck_record("k00", 0, "{\"kind\": \"zero\", \"n\": 0}");
	ck_assert(!exists("k02") && !exists("k10") && exists("k11") && exists("k08"));
	ck_memory_agrees(14);
	batch = new_batch();
	delete_json(batch, "{\"filter\": {\"kind\": {\"$in\": [\"even\", \"zero\"]}}}");
	ck_assert_uint_eq(apply(&batch).deleted, 4);
	ck_memory_agrees(10);
	end();
}
END_TEST

START_TEST(a_batch_that_fails_changes_nothing)
{
	begin("dimension = 8");
	put("a", 1, "{\"big\": 0}");
	struct vf_batch *batch = new_batch();
	struct vf_receipt receipt;
	struct vf_buf json = VF_BUF_INIT;
	add_to(batch, "b", 2, "{}", false);
	delete_json(batch, "{\"keys\": [\"a\"]}");
	add_to(batch, "c", 3, "{\"m\": \"x\"}", false);
	for (int i = 0; i < 60; i++) {
		char one[64];
		snprintf(one, sizeof one, "{\"key\": \"c\", \"set\": {\"field%d\": \"", i);
		vf_buf_clear(&json);
		ck_ok(vf_buf_put_str(&json, one, &err));
		for (int n = 0; n < 1000; n++)
			ck_ok(vf_buf_put_str(&json, "x", &err));
		ck_ok(vf_buf_put(&json, "\"}}", 4, &err));
		update_json(batch, (const char *)json.data);
	}
	ck_fails(vf_batch_apply(batch, &receipt, &err), EFBIG);
	vf_batch_free(&batch);
	vf_buf_free(&json);
	ck_assert(exists("a") && !exists("b") && !exists("c"));
	ck_memory_agrees(1);
	put("d", 4, "{}");
	ck_memory_agrees(2);
	end();
}
END_TEST

/* ---- listing ---- */

static void long_key(char *out, size_t len, int number)
{
	memset(out, 'm', len);
	snprintf(out + len - 8, 9, "%08d", number);
}

START_TEST(keys_are_listed_in_order_page_by_page)
{
	begin("dimension = 8");
	struct vf_batch *batch = new_batch();
	for (int i = 0; i < 2000; i++) {
		char key[16];
		snprintf(key, sizeof key, "k%05d", (i * 37) % 2000);
		add_to(batch, key, (uint64_t)i, "{}", false);
	}
	apply(&batch);
	struct listing l = list("");
	ck_assert_uint_eq(l.n, 2000);
	for (int i = 0; i < 2000; i++) {
		char line[16];
		snprintf(line, sizeof line, "k%05d\n", i);
		ck_assert_mem_eq(l.text.data + i * 7, line, 7);
	}
	vf_buf_free(&l.text);
	l = list("k01997");
	ck_assert_str_eq((char *)l.text.data, "k01998\nk01999\n");
	vf_buf_free(&l.text);
	l = list("k01997x");
	ck_assert_str_eq((char *)l.text.data, "k01998\nk01999\n");
	vf_buf_free(&l.text);
	l = (struct listing){ .text = VF_BUF_INIT, .stop_at = 3 };
	ck_ok(vf_index_list(idx, vf_span_str(""), add_listed, &l, &err));
	ck_assert_uint_eq(l.n, 3);
	vf_buf_free(&l.text);
	end();
}
END_TEST

START_TEST(long_keys_work_and_those_without_a_file_name_are_counted)
{
	static const size_t lengths[] = { 246, 247, 248, 463, 464, 479, 480, 481, 1024 };
	const size_t n = sizeof lengths / sizeof lengths[0];
	char key[VF_KEY_BYTES_MAX + 1];

	begin("dimension = 8");
	for (size_t i = 0; i < n; i++)
		for (int number = 0; number < 3; number++) {
			long_key(key, lengths[i], number);
			put(key, i * 3 + (size_t)number, "{}");
		}
	reopen();
	for (size_t i = 0; i < n; i++)
		for (int number = 0; number < 3; number++) {
			long_key(key, lengths[i], number);
			ck_record(key, i * 3 + (size_t)number, "{}");
		}
	struct listing l = list("");
	ck_assert_uint_eq(l.n, 3 * n);
	vf_buf_free(&l.text);
	ck_assert_uint_eq(atomic_load(&idx->unlisted_keys), 3 * (n - 2));
	long_key(key, 1024, 1);
	ck_ok(vf_index_rekey(idx, vf_span_str(key), vf_span_str("short"), false, &err));
	ck_assert_uint_eq(atomic_load(&idx->unlisted_keys), 3 * (n - 2) - 1);
	ck_record("short", (n - 1) * 3 + 1, "{}");
	long_key(key, 481, 2);
	ck_ok(vf_index_remove(idx, vf_span_str(key), &err));
	ck_assert_uint_eq(atomic_load(&idx->unlisted_keys), 3 * (n - 2) - 2);
	ck_ok(vf_index_rekey(idx, vf_span_str("short"), vf_span_str(key), false, &err));
	ck_record(key, (n - 1) * 3 + 1, "{}");
	end();
}
END_TEST

/* ---- a model beside it ---- */

#define MODEL_KEYS 60u

struct modelled { bool there; uint64_t vector, ino; int kind; };
static struct modelled model[MODEL_KEYS];

static void model_key(unsigned i, char out[600])
{
	/* Some are long, some differ only far behind. */
	if (i % 10 == 9)
		memset(out, 'z', 500), snprintf(out + 500, 100, "%u", i);
	else
		snprintf(out, 600, "key-%u%%/%c", i, i % 3 ? 'a' : '\n');
}

static void model_metadata(int kind, char out[64])
{
	snprintf(out, 64, "{\"kind\": %d, \"name\": \"n%d\"}", kind, kind % 3);
}

static void model_put(unsigned i)
{
	char key[600], metadata[64];
	struct modelled *m = &model[i];
	bool same_vector = m->there && rnd() % 3 == 0;

	m->vector = same_vector ? m->vector : rnd() % 1000;
	m->kind = (int)(rnd() % 5);
	model_key(i, key);
	model_metadata(m->kind, metadata);
	struct vf_receipt receipt = put(key, m->vector, metadata);
	ck_assert_uint_eq(receipt.inserted, !m->there);
	ck_assert_uint_eq(receipt.replaced, m->there);
	if (!m->there)
		m->ino = stat_of(key).ino;
	m->there = true;
}

static void model_remove(unsigned i)
{
	char key[600];

	model_key(i, key);
	ck_assert_int_eq(vf_index_remove(idx, vf_span_str(key), &err), model[i].there ? 0 : -ENOENT);
	model[i].there = false;
}

static void model_rekey(unsigned i, unsigned to)
{
	char key[600], to_key[600];

	model_key(i, key);
	model_key(to, to_key);
	int rc = vf_index_rekey(idx, vf_span_str(key), vf_span_str(to_key), true, &err);
	ck_assert_int_eq(rc, model[i].there ? 0 : -ENOENT);
	if (rc || i == to)
		return;
	model[to] = model[i];
	model[i].there = false;
}

static void model_delete_kind(int kind)
{
	struct vf_batch *batch = new_batch();
	uint64_t gone = 0;
	char json[64];

	snprintf(json, sizeof json, "{\"filter\": {\"kind\": %d}}", kind);
	delete_json(batch, json);
	for (unsigned i = 0; i < MODEL_KEYS; i++)
		if (model[i].there && model[i].kind == kind) {
			model[i].there = false;
			gone++;
		}
	ck_assert_uint_eq(apply(&batch).deleted, gone);
}

static void model_update_kind(int from, int to)
{
	struct vf_batch *batch = new_batch();
	uint64_t n = 0;
	char json[128];

	snprintf(json, sizeof json, "{\"filter\": {\"kind\": {\"$eq\": %d}}, \"set\": {\"kind\": %d, \"name\": \"n%d\"}}", from, to, to % 3);
	update_json(batch, json);
	for (unsigned i = 0; i < MODEL_KEYS; i++)
		if (model[i].there && model[i].kind == from) {
			model[i].kind = to;
			n++;
		}
	ck_assert_uint_eq(apply(&batch).updated, n);
}

static void ck_model(void)
{
	char key[600], metadata[64];
	uint64_t live = 0;

	for (unsigned i = 0; i < MODEL_KEYS; i++) {
		model_key(i, key);
		ck_assert_int_eq(exists(key), model[i].there);
		if (!model[i].there)
			continue;
		live++;
		model_metadata(model[i].kind, metadata);
		ck_record(key, model[i].vector, metadata);
		ck_assert_uint_eq(stat_of(key).ino, model[i].ino);
	}
	struct listing l = list("");
	ck_assert_uint_eq(l.n, live);
	vf_buf_free(&l.text);
	ck_memory_agrees(live);
}

static void model_step(void)
{
	switch (rnd() % 16) {
	case 0: case 1: case 2: model_remove((unsigned)(rnd() % MODEL_KEYS)); break;
	case 3: case 4:         model_rekey((unsigned)(rnd() % MODEL_KEYS), (unsigned)(rnd() % MODEL_KEYS)); break;
	case 5:                 model_delete_kind((int)(rnd() % 20)); break;
	case 6:                 model_update_kind((int)(rnd() % 5), (int)(rnd() % 5)); break;
	default:                model_put((unsigned)(rnd() % MODEL_KEYS)); break;
	}
}

START_TEST(random_changes_agree_with_a_model_across_reopening)
{
	ck_ok(vf_linkers_new(2, &linkers, &err));
	memset(model, 0, sizeof model);
	begin("dimension = 8\nnon_filterable = title");
	for (int round = 0; round < 8; round++) {
		for (int i = 0; i < 80; i++)
			model_step();
		ck_model();
		vf_index_close(&idx);
		audit_is_clean();
		open_index(false);
		/* Every second time the graph is loaded by a write, not by a question. */
		if (round % 2)
			ck_model();
	}
	end();
	vf_linkers_free(&linkers);
}
END_TEST

/* ---- config ---- */

START_TEST(the_shape_is_frozen_once_there_are_vectors)
{
	begin("dimension = 8");
	configure("dimension = 4\nmetric = dot\nm = 8");
	configure("dimension = 8\nmetric = cosine\nm = 16");
	put("a", 1, "{}");
	ck_fails(vf_index_configure(idx, vf_span_str("dimension = 9"), &err), EBUSY);
	ck_fails(vf_index_configure(idx, vf_span_str("metric = dot"), &err), EBUSY);
	ck_fails(vf_index_configure(idx, vf_span_str("m = 8"), &err), EBUSY);
	ck_fails(vf_index_configure(idx, vf_span_str("top_k = 5\nnonsense = 1"), &err), EINVAL);
	configure("dimension = 8\ntop_k = 5\nef_construction = 100");
	reopen();
	struct vf_config config;
	ck_ok(vf_index_config(idx, &config, &err));
	ck_assert_uint_eq(config.top_k, 5);
	ck_assert_uint_eq(config.ef_construction, 100);
	vf_config_free(&config);
	/* Empty again, it may take another shape, also while the graph is loaded. */
	ck_ok(vf_index_remove(idx, vf_span_str("a"), &err));
	configure("dimension = 12\nmetric = dot");
	put("a", 1, "{}");
	ck_memory_agrees(1);
	ck_assert_uint_eq(stat_of("a").dim, 12);
	end();
}
END_TEST

START_TEST(fields_become_filterable_and_stop_being_so)
{
	begin("dimension = 8\nnon_filterable = kind");
	for (int i = 0; i < 10; i++)
		put((char[]){ (char)('a' + i), 0 }, (uint64_t)i, i % 2 ? "{\"kind\": \"odd\", \"n\": 1}" : "{\"kind\": \"even\"}");
	configure("non_filterable = n");
	vf_index_close(&idx);
	audit_is_clean();
	open_index(false);
	struct vf_batch *batch = new_batch();
	delete_json(batch, "{\"filter\": {\"kind\": \"odd\"}}");
	ck_assert_uint_eq(apply(&batch).deleted, 5);
	ck_memory_agrees(5);
	end();
}
END_TEST

START_TEST(the_version_grows_with_every_change)
{
	begin("dimension = 8");
	uint64_t version = vf_index_version(idx), now;
	put("a", 1, "{}");
	ck_assert_uint_gt(now = vf_index_version(idx), version);
	version = now;
	configure("top_k = 7");
	ck_assert_uint_gt(now = vf_index_version(idx), version);
	version = now;
	ck_fails(vf_index_configure(idx, vf_span_str("dimension = 9"), &err), EBUSY);
	ck_assert_int_eq(vf_index_remove(idx, vf_span_str("none"), &err), -ENOENT);
	ck_assert_uint_eq(vf_index_version(idx), version);
	end();
}
END_TEST

/* An index that nobody uses is closed: what was computed of it must not count as that of another state once it is opened again. */
START_TEST(the_version_never_goes_back_over_an_opening)
{
	begin("dimension = 8");
	put("a", 1, "{}");
	put("b", 2, "{}");
	reopen();
	uint64_t version = vf_index_version(idx);
	ck_ok(vf_index_remove(idx, vf_span_str("a"), &err));
	ck_assert_uint_gt(vf_index_version(idx), version);
	version = vf_index_version(idx);
	reopen();
	ck_assert_uint_ge(vf_index_version(idx), version);
	version = vf_index_version(idx);
	configure("top_k = 3");
	configure("top_k = 4");
	reopen();
	ck_assert_uint_gt(vf_index_version(idx), version);
	end();
}
END_TEST

/* ---- emptiness ---- */

static int insert_one(struct vf_err *e)
{
	struct vf_batch *batch = NULL;
	struct vf_receipt receipt;
	float vector[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	struct vf_record record = { .key = vf_span_str("a"), .vector = vector, .dim = 8, .metadata = vf_span("\x80", 1) };
	int rc;

	(void)((rc = vf_batch_new(idx, &batch, e)) || (rc = vf_batch_put(batch, &record, e)) || (rc = vf_batch_apply(batch, &receipt, e)));
	vf_batch_free(&batch);
	return rc;
}

static void *insert_beside(void *out)
{
	struct vf_err e = VF_ERR_INIT;

	*(int *)out = insert_one(&e);
	return NULL;
}

START_TEST(an_index_that_is_sealed_takes_nothing_more)
{
	begin("dimension = 8");
	ck_ok(vf_index_seal(idx, true, &err));
	ck_assert_int_eq(insert_one(&err), -ENOENT);
	ck_assert_int_eq(vf_index_saved_put(idx, "q.json", vf_span_str("{}"), &err), -ENOENT);
	ck_assert_int_eq(vf_index_configure(idx, vf_span_str("top_k = 3"), &err), -ENOENT);
	vf_index_unseal(idx);
	ck_ok(vf_index_saved_put(idx, "q.json", vf_span_str("{}"), &err));
	ck_assert_int_eq(vf_index_seal(idx, true, &err), -ENOTEMPTY);
	ck_ok(vf_index_saved_remove(idx, "q.json", &err));
	ck_ok(insert_one(&err));
	ck_assert_int_eq(vf_index_seal(idx, true, &err), -ENOTEMPTY);
	ck_ok(vf_index_remove(idx, vf_span_str("a"), &err));
	ck_ok(vf_index_seal(idx, true, &err));
	vf_index_unseal(idx);
	/* Of an insert and a removal at the same time one comes too late. */
	for (int i = 0; i < 300; i++) {
		pthread_t thread;
		int inserted;
		ck_assert_int_eq(pthread_create(&thread, NULL, insert_beside, &inserted), 0);
		for (volatile int k = 0; k < i * 500; k++)
			;
		int rc = vf_index_seal(idx, true, &err);
		pthread_join(thread, NULL);
		ck_assert(inserted == 0 ? rc == -ENOTEMPTY : inserted == -ENOENT && rc == 0);
		vf_index_unseal(idx);
		if (inserted == 0)
			ck_ok(vf_index_remove(idx, vf_span_str("a"), &err));
	}
	end();
}
END_TEST

static int write_slowly(void *ctx, struct vf_txn *txn, struct vf_err *e)
{
	(void)ctx, (void)txn, (void)e;
	usleep(100000);
	return 0;
}

static int write_and_fail(void *ctx, struct vf_txn *txn, struct vf_err *e)
{
	(void)ctx;
	ck_ok(vf_put(txn, VF_T_META, vf_span_str("nothing"), vf_span("", 1), e));
	return vf_fail(e, ENOSPC, "the disk is full");
}

struct beside { enum { SLOW, REMOVE, SEAL, FAIL } what; int rc; };

static void *do_beside(void *ctx)
{
	struct beside *b = ctx;
	struct vf_err e = VF_ERR_INIT;
	struct vf_job job = { .write = b->what == SLOW ? write_slowly : write_and_fail };

	if (b->what == REMOVE)
		b->rc = vf_index_remove(idx, vf_span_str("a"), &e);
	else if (b->what == SEAL)
		b->rc = vf_index_seal(idx, true, &e);
	else
		b->rc = vf_index_commit(idx, &job, &e);
	return NULL;
}

/* What is written beside the seal may have to be written once more, without one that failed. */
START_TEST(a_seal_is_none_before_its_transaction_is_through)
{
	struct beside all[] = { { .what = SLOW }, { .what = REMOVE }, { .what = SEAL }, { .what = FAIL } };
	pthread_t threads[4];

	begin("dimension = 8");
	ck_ok(insert_one(&err));
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, do_beside, &all[i]), 0);
		usleep(20000);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(all[REMOVE].rc, 0);
	ck_assert(all[SEAL].rc == 0 || all[SEAL].rc == -ENOTEMPTY);
	ck_assert_int_lt(all[FAIL].rc, 0);
	vf_index_unseal(idx);
	ck_assert_int_eq(vf_index_remove(idx, vf_span_str("a"), &err), -ENOENT);
	end();
}
END_TEST

/* ---- questions beside changes of the config ---- */

static void (*meanwhile)(void);

/* Between the look at the config and the snapshot. */
static void do_meanwhile(void *ctx)
{
	void (*now)(void) = meanwhile;

	(void)ctx;
	meanwhile = NULL;
	if (now)
		now();
}

static void become_larger(void)
{
	vf_index_remove(idx, vf_span_str("a"), &err);
	vf_index_remove(idx, vf_span_str("b"), &err);
	configure("dimension = 2000");
	put("c", 3, "{\"t\": 1}");
	put("d", 4, "{\"t\": 1}");
}

static void hide_a_field(void)
{
	configure("non_filterable = t");
}

static int ask_and_change(const char *json, void (*change)(void), struct vf_spool *answer)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_question question;
	struct vf_config config;
	struct vf_value value;

	begin("dimension = 8\nmetric = euclidean");
	put("a", 1, "{\"t\": 1}");
	put("b", 2, "{\"t\": 1}");
	ck_ok(vf_index_config(idx, &config, &err));
	ck_ok(vf_value_decode(VF_JSON, vf_span_str(json), &arena, &value, &err));
	ck_ok(vf_question_from_value(&value, VF_JSON, &config, "docs", &arena, &question, &err));
	question.lengthy = do_meanwhile;
	meanwhile = change;
	vf_spool_init(answer, NULL);
	int rc = vf_index_ask(idx, &question, answer, &err);
	ck_assert(!meanwhile);
	vf_config_free(&config);
	vf_arena_free(&arena);
	return rc;
}

START_TEST(a_question_is_answered_under_the_config_of_its_snapshot)
{
	struct vf_spool answer;
	struct vf_buf *text = &answer.buf;

	ck_ok(ask_and_change("{\"topK\": 3, \"returnData\": true}", become_larger, &answer));
	ck_ok(vf_buf_put(text, "", 1, &err));
	ck_assert(strstr((char *)text->data, "\"c\"") && strstr((char *)text->data, "\"d\"") && !strstr((char *)text->data, "\"a\""));
	vf_spool_free(&answer);
	end();
	ck_assert_int_eq(ask_and_change("{\"queryVectors\": [[1,2,3,4,5,6,7,8], [1,2,3,4,5,6,7,9]], \"topK\": 3}", become_larger, &answer), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "8 numbers"));
	vf_spool_free(&answer);
	end();
	ck_assert_int_eq(ask_and_change("{\"filter\": {\"$not\": {\"t\": 1}}}", hide_a_field, &answer), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "'t' is in non_filterable now"));
	vf_spool_free(&answer);
	end();
}
END_TEST

/* ---- the graph: flat, linked, loaded ---- */

static void put_many(unsigned from, unsigned n)
{
	struct vf_batch *batch = new_batch();

	for (unsigned i = from; i < from + n; i++) {
		char key[16];
		snprintf(key, sizeof key, "k%06u", i);
		add_to(batch, key, i, "{}", false);
	}
	ck_assert_uint_eq(apply(&batch).inserted, n);
}

static void wait_until_linked(uint64_t n)
{
	for (int i = 0; i < 6000 && count_in(VF_SLOT_LINKED) != n; i++)
		usleep(10000);
	ck_assert_uint_eq(count_in(VF_SLOT_LINKED), n);
}

/* The nearest to a stored vector is itself, by the scan and, when there is one, by the graph. */
static void ck_each_finds_itself(unsigned n, unsigned step, uint32_t dim)
{
	float *query = calloc(dim, sizeof *query);
	struct vf_graph *graph;

	ck_ok(vf_graph_hold(idx, &graph, &err));
	for (unsigned i = 0; i < n; i += step) {
		struct vf_search search = { .query = query, .want = 1, .ef = 64 };
		struct vf_hit hit;
		uint32_t nhits;
		vector_of(i, dim, query);
		ck_assert_int_ge(vf_graph_scan(graph, &search, &hit, &nhits, NULL, &err), 0);
		ck_assert_uint_eq(nhits, 1);
		ck_assert_uint_eq(hit.serial, i + 1);
	}
	vf_graph_release(idx);
	free(query);
}

static void ck_code(enum vf_code code, bool flat)
{
	struct vf_graph *graph;

	ck_ok(vf_graph_hold(idx, &graph, &err));
	ck_assert_int_eq(vf_graph_quant(graph)->code, code);
	ck_assert_int_eq(vf_graph_is_flat(graph), flat);
	vf_graph_release(idx);
}

START_TEST(an_index_grows_out_of_the_flat_graph_and_answers_all_the_while)
{
	begin("dimension = 40\nm = 8\nef_construction = 40\nmetric = euclidean");
	put_many(0, 4000);
	ck_code(VF_CODE_F32, true);
	ck_each_finds_itself(4000, 13, 40);
	put_many(4000, 50);
	ck_code(VF_CODE_F32, true);
	put_many(4050, 950);
	ck_code(VF_CODE_U8, false);
	ck_memory_agrees(5000);
	ck_each_finds_itself(5000, 13, 40);
	/* One at a time passes the bound as well. */
	end();
	begin("dimension = 40\nm = 8\nef_construction = 40\nmetric = euclidean");
	put_many(0, 4094);
	for (unsigned i = 4094; i < 4099; i++)
		put_many(i, 1);
	ck_code(VF_CODE_U8, false);
	ck_memory_agrees(4099);
	ck_each_finds_itself(4099, 13, 40);
	end();
}
END_TEST

START_TEST(links_are_loaded_not_made_again)
{
	ck_ok(vf_linkers_new(2, &linkers, &err));
	begin("dimension = 40\nm = 8\nef_construction = 40");
	put_many(0, 5000);
	wait_until_linked(5000);
	ck_ok(vf_index_remove(idx, vf_span_str("k000017"), &err));
	struct vf_linkers *mine = linkers;
	linkers = NULL;
	reopen();
	ck_assert_uint_eq(count_in(VF_SLOT_LINKED), 4999);
	ck_assert_uint_eq(count_in(VF_SLOT_PENDING), 0);
	ck_memory_agrees(4999);
	/* What came after the checkpoint is pending, what was replaced is not taken for what it was. */
	put("k000018", 99999, "{}");
	put_many(5000, 10);
	reopen();
	ck_assert_uint_eq(count_in(VF_SLOT_PENDING), 11);
	ck_memory_agrees(5009);
	end();
	vf_linkers_free(&mine);
}
END_TEST

static void link_everything(void)
{
	struct vf_graph *graph;

	ck_ok(vf_graph_hold(idx, &graph, &err));
	while (vf_graph_link(graph, VF_LINKS_MAX, &err) > 0)
		;
	vf_graph_release(idx);
}

/* With a limit on the size of files, as on a disk that is full. */
static int checkpoint_on_a_full_disk(void)
{
	struct rlimit whole, limit;

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &whole), 0);
	limit = (struct rlimit){ 4096, whole.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	int rc = vf_index_checkpoint(idx, &err);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &whole), 0);
	return rc;
}

START_TEST(a_checkpoint_that_failed_is_made_up_for_by_the_next)
{
	begin("dimension = 40\nm = 8\nef_construction = 40");
	put_many(0, 5000);
	link_everything();
	ck_assert_int_eq(checkpoint_on_a_full_disk(), -ENOSPC);
	ck_ok(vf_index_checkpoint(idx, &err));
	reopen();
	ck_assert_uint_eq(count_in(VF_SLOT_LINKED), 5000);
	ck_assert_uint_eq(count_in(VF_SLOT_PENDING), 0);
	end();
}
END_TEST

START_TEST(few_dimensions_are_linked_with_float_codes)
{
	ck_ok(vf_linkers_new(2, &linkers, &err));
	begin("dimension = 6\nm = 8\nef_construction = 40");
	put_many(0, 4500);
	ck_code(VF_CODE_F32, false);
	wait_until_linked(4500);
	reopen();
	ck_code(VF_CODE_F32, false);
	ck_assert_uint_eq(count_in(VF_SLOT_LINKED), 4500);
	end();
	vf_linkers_free(&linkers);
}
END_TEST

START_TEST(dead_slots_are_swept_and_used_again)
{
	ck_ok(vf_linkers_new(1, &linkers, &err));
	begin("dimension = 8");
	put_many(0, 200);
	struct vf_batch *batch = new_batch();
	for (unsigned i = 0; i < 150; i++) {
		char key[16];
		snprintf(key, sizeof key, "k%06u", i);
		ck_ok(vf_batch_remove(batch, vf_span_str(key), &err));
	}
	ck_assert_uint_eq(apply(&batch).deleted, 150);
	for (int i = 0; i < 3000 && count_in(VF_SLOT_DEAD); i++)
		usleep(10000);
	ck_assert_uint_eq(count_in(VF_SLOT_DEAD), 0);
	put_many(1000, 100);
	ck_memory_agrees(150);
	struct vf_graph_counts counts;
	vf_graph_counts(idx->graph, &counts);
	ck_assert_uint_eq(counts.slots, 200);
	end();
	vf_linkers_free(&linkers);
}
END_TEST

static float step_of_graph(void)
{
	struct vf_graph *graph;

	ck_ok(vf_graph_hold(idx, &graph, &err));
	float step = vf_graph_quant(graph)->step;
	vf_graph_release(idx);
	return step;
}

static void put_scaled(unsigned from, unsigned n, float (*scale)(unsigned i))
{
	struct vf_batch *batch = new_batch();
	float numbers[40];

	for (unsigned i = from; i < from + n; i++) {
		char key[16];
		snprintf(key, sizeof key, "k%06u", i);
		vector_of(i, 40, numbers);
		for (int d = 0; d < 40; d++)
			numbers[d] *= scale(i);
		struct vf_record record = { .key = vf_span_str(key), .vector = numbers, .dim = 40, .metadata = vf_span("\x80", 1) };
		ck_ok(vf_batch_put(batch, &record, &err));
	}
	ck_assert_uint_eq(apply(&batch).inserted, n);
}

static float twenty(unsigned i)
{
	(void)i;
	return 20;
}

/* Vectors twenty times as long as the first ones, while a writer goes on. */
static void put_long_ones(unsigned from, unsigned n)
{
	put_scaled(from, n, twenty);
}

static float some_are_giants(unsigned i)
{
	return i % 30 ? 1 : 300;
}

/* Noise, of which it is the harder to find the nearest the more dimensions it has. */
static unsigned rough_effort_for(unsigned dim)
{
	char config[64];

	snprintf(config, sizeof config, "dimension = %u\nmetric = euclidean", dim);
	begin(config);
	put_many(0, 5000);
	link_everything();
	ck_assert_uint_eq(atomic_load(&idx->ef_rough), 0);
	ck_ok(vf_effort_measure(idx, &err));
	unsigned rough = atomic_load(&idx->ef_rough), ef = atomic_load(&idx->ef);
	ck_assert_uint_gt(ef, 0);
	end();
	return rough;
}

START_TEST(a_few_samples_say_first_whether_the_usual_effort_is_enough)
{
	ck_assert_uint_eq(rough_effort_for(10), 256);
	ck_assert_uint_gt(rough_effort_for(300), 256);
}
END_TEST

START_TEST(vectors_that_bytes_cannot_tell_apart_have_float_codes)
{
	begin("dimension = 40\nm = 6\nef_construction = 20\nmetric = euclidean");
	put_scaled(0, 5000, some_are_giants);
	ck_code(VF_CODE_F32, false);
	link_everything();
	ck_memory_agrees(5000);
	ck_assert_uint_eq(count_in(VF_SLOT_LINKED), 5000);
	reopen();
	ck_code(VF_CODE_F32, false);
	ck_assert_uint_eq(count_in(VF_SLOT_LINKED), 5000);
	put_many(5000, 100);
	ck_code(VF_CODE_F32, false);
	ck_memory_agrees(5100);
	end();
}
END_TEST

START_TEST(a_graph_whose_vectors_have_changed_is_built_anew)
{
	ck_ok(vf_linkers_new(2, &linkers, &err));
	begin("dimension = 40\nm = 6\nef_construction = 20\nmetric = euclidean");
	put_many(0, 4200);
	wait_until_linked(4200);
	float first = step_of_graph();
	put_long_ones(4200, 5000);
	/* Some are put while it is built. */
	for (unsigned i = 0; i < 45000 && step_of_graph() < 5 * first; i++) {
		if (i % 4 == 0)
			put_long_ones(9200 + i, 1);
		usleep(20000);
	}
	ck_assert(step_of_graph() > 5 * first);
	uint64_t n;
	ck_ok(vf_index_remove(idx, vf_span_str("k000100"), &err));
	struct vf_txn *txn;
	ck_ok(vf_txn_read(idx->store, &txn, &err));
	ck_ok(vf_count(txn, VF_T_KEYS, &n, &err));
	vf_txn_end(&txn);
	wait_until_linked(n);
	ck_memory_agrees(n);
	reopen();
	ck_assert(step_of_graph() > 5 * first);
	ck_assert_uint_lt(count_in(VF_SLOT_PENDING), 100);
	ck_memory_agrees(n);
	end();
	vf_linkers_free(&linkers);
}
END_TEST

START_TEST(a_damaged_chunk_costs_links_only)
{
	struct vf_txn *txn;
	struct vf_span value;

	ck_ok(vf_linkers_new(2, &linkers, &err));
	begin("dimension = 40\nm = 8\nef_construction = 40");
	put_many(0, 5000);
	wait_until_linked(5000);
	vf_index_close(&idx);
	vf_linkers_free(&linkers);
	struct vf_store *store;
	ck_ok(vf_store_open(dir, false, false, &store, &err));
	ck_ok(vf_txn_write(store, &txn, &err));
	ck_ok(vf_get_u64(txn, VF_T_CODES, 0, &value, &err));
	uint8_t *bad = malloc(value.len);
	size_t len = value.len;
	memcpy(bad, value.data, len);
	bad[len / 2] ^= 1;
	ck_ok(vf_put_u64(txn, VF_T_CODES, 0, vf_span(bad, len), &err));
	ck_ok(vf_txn_commit(&txn, &err));
	vf_store_close(&store);
	free(bad);
	ck_assert_int_ge(audit(), 1);
	open_index(false);
	ck_memory_agrees(5000);
	ck_assert_uint_gt(count_in(VF_SLOT_PENDING), 0);
	ck_assert_uint_gt(count_in(VF_SLOT_LINKED), 0);
	vf_index_close(&idx);
	remove_dir();
}
END_TEST

/* ---- recovery ---- */

#define CHILD_BATCH 7u

/* Writes batches until it is killed; says on the pipe which ones are acknowledged. */
static void write_until_killed(int fd)
{
	open_index(false);
	for (uint32_t n = 0;; n++) {
		struct vf_batch *batch = new_batch();
		for (unsigned i = 0; i < CHILD_BATCH; i++) {
			char key[32];
			snprintf(key, sizeof key, "b%u-%u", n % 50, i);
			add_to(batch, key, n, "{\"kind\": \"x\"}", false);
		}
		apply(&batch);
		if (write(fd, &n, sizeof n) != sizeof n)
			_exit(1);
	}
}

/* The number that all records of a batch have; -1 when it is not there, and never a mixture. */
static int64_t batch_number(unsigned n)
{
	int64_t number = -2;

	for (unsigned i = 0; i < CHILD_BATCH; i++) {
		char key[32];
		struct vf_arena arena = VF_ARENA_INIT;
		struct vf_record record;
		snprintf(key, sizeof key, "b%u-%u", n, i);
		int rc = vf_index_get(idx, vf_span_str(key), &arena, &record, NULL, &err);
		int64_t got = -1;
		for (uint32_t of = n; rc == 0 && got < 0; of += 50) {
			float expected[DIM];
			vector_of(of, DIM, expected);
			if (memcmp(expected, record.vector, sizeof expected) == 0)
				got = of;
			ck_assert_uint_lt(of, 1000000);
		}
		ck_assert(number == -2 || number == got);
		number = got;
		vf_arena_free(&arena);
	}
	return number;
}

START_TEST(a_killed_writer_leaves_whole_batches_and_all_that_were_acknowledged)
{
	begin("dimension = 8");
	vf_index_close(&idx);
	for (int round = 0; round < 5; round++) {
		int fds[2];
		ck_assert_int_eq(pipe(fds), 0);
		pid_t child = fork();
		if (child == 0)
			write_until_killed(fds[1]);
		close(fds[1]);
		uint32_t acknowledged = 0, n;
		unsigned wait_for = 20 + (unsigned)(rnd() % 60);
		while (wait_for-- && read(fds[0], &n, sizeof n) == sizeof n)
			acknowledged = n;
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		while (read(fds[0], &n, sizeof n) == sizeof n)
			acknowledged = n;
		close(fds[0]);
		audit_is_clean();
		open_index(false);
		for (unsigned i = 0; i < 50; i++) {
			/* The last acknowledged batch of this number, or one later. */
			int64_t least = acknowledged < i ? -1 : (int64_t)(acknowledged - (acknowledged - i) % 50);
			ck_assert_int_ge(batch_number(i), least);
		}
		/* Emptied, so that the next round's numbers are its own. */
		struct vf_batch *batch = new_batch();
		delete_json(batch, "{\"filter\": {\"kind\": \"x\"}}");
		apply(&batch);
		vf_index_close(&idx);
	}
	open_index(false);
	end();
}
END_TEST

/* Puts, removes, links and writes checkpoints until it is killed. */
static void link_until_killed(unsigned from)
{
	ck_ok(vf_linkers_new(2, &linkers, &err));
	open_index(false);
	for (unsigned round = 0;; round++) {
		put_many(from + round * 200, 200);
		char key[16];
		snprintf(key, sizeof key, "k%06u", from + round * 200 + 7);
		ck_ok(vf_index_remove(idx, vf_span_str(key), &err));
		ck_ok(vf_index_checkpoint(idx, &err));
	}
}

START_TEST(a_graph_that_was_killed_is_whole_after_the_next_start)
{
	uint64_t n;

	begin("dimension = 40\nm = 6\nef_construction = 20\nmetric = euclidean");
	put_many(0, 5000);
	vf_index_close(&idx);
	for (unsigned round = 1; round <= 4; round++) {
		pid_t child = fork();
		if (child == 0)
			link_until_killed(round * 100000);
		usleep(200000 + (unsigned)(rnd() % 300000));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		audit_is_clean();
		open_index(false);
		struct vf_txn *txn;
		ck_ok(vf_txn_read(idx->store, &txn, &err));
		ck_ok(vf_count(txn, VF_T_KEYS, &n, &err));
		vf_txn_end(&txn);
		ck_assert_uint_ge(n, 5000);
		ck_memory_agrees(n);
		vf_index_close(&idx);
	}
	ck_ok(vf_linkers_new(2, &linkers, &err));
	open_index(false);
	wait_until_linked(n);
	end();
	vf_linkers_free(&linkers);
}
END_TEST

/* ---- many at once ---- */

static atomic_bool stop_reading;

static void *write_many(void *ctx)
{
	unsigned self = *(unsigned *)ctx;
	struct vf_err my_err = VF_ERR_INIT;
	float numbers[40];

	for (unsigned i = 0; i < 120; i++) {
		struct vf_batch *batch;
		struct vf_receipt receipt;
		ck_assert_int_eq(vf_batch_new(idx, &batch, &my_err), 0);
		for (unsigned j = 0; j < 12; j++) {
			char key[32];
			snprintf(key, sizeof key, "w%u-%u", self, i * 12 + j);
			vector_of(self * 100000 + i * 12 + j, 40, numbers);
			struct vf_record record = { .key = vf_span_str(key), .vector = numbers, .dim = 40, .metadata = vf_span("\x80", 1) };
			ck_assert_int_eq(vf_batch_put(batch, &record, &my_err), 0);
		}
		ck_assert_msg(vf_batch_apply(batch, &receipt, &my_err) == 0, "%s", my_err.text);
		ck_assert_uint_eq(receipt.inserted, 12);
		vf_batch_free(&batch);
		if (i % 4 == 3) {
			char key[32];
			snprintf(key, sizeof key, "w%u-%u", self, i * 12);
			ck_assert_int_eq(vf_index_remove(idx, vf_span_str(key), &my_err), 0);
		}
	}
	return NULL;
}

static void *read_many(void *ctx)
{
	struct vf_err my_err = VF_ERR_INIT;
	float query[40];
	uint64_t seen = 0;

	(void)ctx;
	vector_of(5, 40, query);
	while (!atomic_load(&stop_reading)) {
		struct vf_search search = { .query = query, .want = 5, .ef = 32 };
		struct vf_hit hits[5];
		struct vf_graph *graph;
		uint32_t nhits;
		ck_assert_int_eq(vf_graph_hold(idx, &graph, &my_err), 0);
		ck_assert_int_ge(vf_graph_search(graph, &search, hits, &nhits, NULL, &my_err), 0);
		vf_graph_release(idx);
		struct vf_buf stats = VF_BUF_INIT;
		ck_assert_int_eq(vf_index_stats(idx, &stats, &my_err), 0);
		vf_buf_free(&stats);
		uint64_t version = vf_index_version(idx);
		ck_assert_uint_ge(version, seen);
		seen = version;
	}
	return NULL;
}

START_TEST(many_writers_and_readers_at_once_lose_nothing)
{
	pthread_t writers[4], readers[2];
	unsigned numbers[4] = { 0, 1, 2, 3 };

	ck_ok(vf_linkers_new(2, &linkers, &err));
	begin("dimension = 40\nm = 6\nef_construction = 20");
	atomic_store(&stop_reading, false);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&readers[i], NULL, read_many, NULL), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&writers[i], NULL, write_many, &numbers[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(writers[i], NULL);
	ck_ok(vf_index_checkpoint(idx, &err));
	atomic_store(&stop_reading, true);
	for (int i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	ck_memory_agrees(4 * (120 * 12 - 30));
	wait_until_linked(4 * (120 * 12 - 30));
	end();
	vf_linkers_free(&linkers);
}
END_TEST

static void *write_kinds(void *ctx)
{
	unsigned self = *(unsigned *)ctx;
	struct vf_err my_err = VF_ERR_INIT;
	/* {"kind": "odd"} */
	static const uint8_t metadata[] = { 0x81, 0xa4, 'k', 'i', 'n', 'd', 0xa3, 'o', 'd', 'd' };
	float numbers[DIM];

	for (unsigned i = 0; i < 150; i++) {
		struct vf_batch *batch;
		struct vf_receipt receipt;
		char key[32];
		snprintf(key, sizeof key, "w%u-%u", self, i % 40);
		vector_of(self * 1000 + i, DIM, numbers);
		struct vf_record record = { .key = vf_span_str(key), .vector = numbers, .dim = DIM, .metadata = vf_span(metadata, sizeof metadata) };
		ck_assert_int_eq(vf_batch_new(idx, &batch, &my_err), 0);
		ck_assert_int_eq(vf_batch_put(batch, &record, &my_err), 0);
		ck_assert_msg(vf_batch_apply(batch, &receipt, &my_err) == 0, "%s", my_err.text);
		ck_assert_uint_eq(receipt.inserted + receipt.replaced, 1);
		vf_batch_free(&batch);
	}
	return NULL;
}

START_TEST(postings_follow_a_config_that_changes_beside_writers)
{
	pthread_t writers[4];
	unsigned numbers[4] = { 0, 1, 2, 3 };

	begin("dimension = 8");
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&writers[i], NULL, write_kinds, &numbers[i]), 0);
	for (int i = 0; i < 40; i++)
		configure(i % 2 ? "non_filterable =" : "non_filterable = kind");
	for (int i = 0; i < 4; i++)
		pthread_join(writers[i], NULL);
	ck_memory_agrees(160);
	vf_index_close(&idx);
	audit_is_clean();
	open_index(false);
	struct vf_batch *batch = new_batch();
	delete_json(batch, "{\"filter\": {\"kind\": \"odd\"}}");
	ck_assert_uint_eq(apply(&batch).deleted, 160);
	end();
}
END_TEST

/* ---- exports ---- */

static struct vf_span export_of(enum vf_export what, struct vf_arena *arena)
{
	struct vf_spool spool;

	vf_spool_init(&spool, dir);
	ck_ok(vf_index_export(idx, what, &spool, &err));
	size_t size = vf_spool_size(&spool);
	uint8_t *bytes = vf_arena_alloc(arena, size + 1);
	ck_assert_int_eq(vf_spool_read(&spool, 0, bytes, size), (int64_t)size);
	bytes[size] = 0;
	vf_spool_free(&spool);
	return vf_span(bytes, size);
}

START_TEST(exports_are_one_snapshot_in_key_order)
{
	struct vf_arena arena = VF_ARENA_INIT;
	float row[2][DIM];

	begin("dimension = 8");
	struct vf_span npy = export_of(VF_EXPORT_NPY, &arena);
	ck_assert_ptr_nonnull(strstr((const char *)npy.data + 10, "'shape': (0, 8)"));
	put("b%\n", 2, "{\"n\": 1}");
	put("a", 1, "{}");
	npy = export_of(VF_EXPORT_NPY, &arena);
	ck_assert_mem_eq(npy.data, "\x93NUMPY\x01\x00", 8);
	size_t head = 10 + npy.data[8] + 256u * npy.data[9];
	ck_assert_uint_eq(head % 64, 0);
	ck_assert_int_eq(npy.data[head - 1], '\n');
	ck_assert_ptr_nonnull(strstr((const char *)npy.data + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 8), }"));
	ck_assert_uint_eq(npy.len, head + sizeof row);
	vector_of(1, DIM, row[0]);
	vector_of(2, DIM, row[1]);
	ck_assert_mem_eq(npy.data + head, row, sizeof row);
	ck_assert(vf_span_is(export_of(VF_EXPORT_KEYS, &arena), "a\nb%%0A\n"));
	struct vf_record record = { .key = vf_span_str("a"), .vector = row[0], .dim = DIM, .metadata = vf_span("\x80", 1) };
	struct vf_buf expected = VF_BUF_INIT;
	for (int i = 0; i < 2; i++) {
		enum vf_format format = i ? VF_JSON : VF_MSGPACK;
		vf_buf_clear(&expected);
		ck_ok(vf_record_render(&record, format, &expected, &err));
		struct vf_span all = export_of(i ? VF_EXPORT_JSONL : VF_EXPORT_MSGPACK, &arena);
		ck_assert_uint_gt(all.len, expected.len);
		ck_assert_mem_eq(all.data, expected.data, expected.len);
	}
	vf_buf_free(&expected);
	vf_arena_free(&arena);
	end();
}
END_TEST

START_TEST(an_export_inserted_elsewhere_gives_the_same_export)
{
	struct vf_arena arena = VF_ARENA_INIT;

	begin("dimension = 8");
	for (unsigned i = 0; i < 700; i++) {
		char key[32], metadata[64];
		snprintf(key, sizeof key, "k%u", (unsigned)(rnd() % 100000));
		snprintf(metadata, sizeof metadata, "{\"i\": %u, \"f\": %u.5}", i, i);
		put(key, i, metadata);
	}
	struct vf_span all = export_of(VF_EXPORT_MSGPACK, &arena);
	end();
	begin("dimension = 8");
	struct vf_batch *batch = new_batch();
	struct vf_ingest *ingest;
	ck_ok(vf_ingest_new("b", "docs", (vf_record_sink)vf_batch_put, batch, &ingest, &err));
	ck_ok(vf_ingest_feed(ingest, all, &err));
	ck_ok(vf_ingest_end(ingest, &err));
	vf_ingest_free(&ingest);
	apply(&batch);
	ck_assert(vf_span_equal(all, export_of(VF_EXPORT_MSGPACK, &arena)));
	vf_arena_free(&arena);
	end();
}
END_TEST

/* ---- saved questions ---- */

static int add_saved(void *ctx, const char *name, uint64_t ino)
{
	struct vf_buf *text = ctx;

	ck_assert_uint_ge(ino, VF_INO_FIRST);
	ck_ok(vf_buf_printf(text, &err, "%s ", name));
	return 0;
}

static void ck_saved(const char *name, const char *text)
{
	struct vf_buf bytes = VF_BUF_INIT;

	ck_ok(vf_index_saved_get(idx, name, &bytes, NULL, &err));
	ck_assert(vf_span_is(vf_buf_span(&bytes), text));
	vf_buf_free(&bytes);
}

START_TEST(saved_questions_are_files_kept_as_they_were_written)
{
	struct vf_saved first, second;
	struct vf_buf names = VF_BUF_INIT;

	begin("dimension = 8");
	ck_ok(vf_index_saved_put(idx, "q.json", vf_span_str("{ }\n"), &err));
	ck_ok(vf_index_saved_stat(idx, "q.json", &first, &err));
	ck_assert_uint_eq(first.bytes, 4);
	ck_ok(vf_index_saved_put(idx, "q.json", vf_span_str("{\"topK\": 3}"), &err));
	ck_ok(vf_index_saved_put(idx, "empty.json", vf_span_str(""), &err));
	ck_ok(vf_index_saved_stat(idx, "q.json", &second, &err));
	ck_assert_uint_eq(first.ino, second.ino);
	ck_assert_uint_ne(first.version, second.version);
	ck_ok(vf_index_saved_set_mtime(idx, "q.json", 42, &err));
	reopen();
	ck_saved("q.json", "{\"topK\": 3}");
	ck_saved("empty.json", "");
	ck_ok(vf_index_saved_stat(idx, "q.json", &second, &err));
	ck_assert_int_eq(second.mtime_ns, 42);
	ck_ok(vf_index_saved_list(idx, NULL, add_saved, &names, &err));
	ck_assert(vf_span_is(vf_buf_span(&names), "empty.json q.json "));
	vf_buf_clear(&names);
	ck_ok(vf_index_saved_list(idx, "empty.json", add_saved, &names, &err));
	ck_assert(vf_span_is(vf_buf_span(&names), "q.json "));
	ck_fails(vf_index_saved_rename(idx, "q.json", "empty.json", false, &err), EEXIST);
	ck_ok(vf_index_saved_rename(idx, "q.json", "empty.json", true, &err));
	ck_saved("empty.json", "{\"topK\": 3}");
	ck_assert_int_eq(vf_index_saved_stat(idx, "q.json", &second, &err), -ENOENT);
	ck_assert_int_eq(vf_index_saved_rename(idx, "q.json", "x.json", false, &err), -ENOENT);
	ck_ok(vf_index_saved_stat(idx, "empty.json", &second, &err));
	ck_assert_uint_eq(second.ino, first.ino);
	ck_ok(vf_index_saved_remove(idx, "empty.json", &err));
	ck_assert_int_eq(vf_index_saved_remove(idx, "empty.json", &err), -ENOENT);
	vf_buf_free(&names);
	end();
}
END_TEST

START_TEST(many_saved_questions_are_listed_page_by_page)
{
	struct vf_buf names = VF_BUF_INIT, expected = VF_BUF_INIT;

	begin("dimension = 8");
	for (int i = 0; i < 600; i++) {
		char name[32];
		snprintf(name, sizeof name, "q%04d.json", i);
		ck_ok(vf_index_saved_put(idx, name, vf_span_str("{}"), &err));
		ck_ok(vf_buf_printf(&expected, &err, "%s ", name));
	}
	ck_ok(vf_index_saved_list(idx, NULL, add_saved, &names, &err));
	ck_assert(vf_span_equal(vf_buf_span(&names), vf_buf_span(&expected)));
	vf_buf_free(&names);
	vf_buf_free(&expected);
	end();
}
END_TEST

/* ---- stats, formats, read-only ---- */

static void ck_stat_line(const char *line)
{
	struct vf_buf stats = VF_BUF_INIT;

	ck_ok(vf_index_stats(idx, &stats, &err));
	ck_ok(vf_buf_put(&stats, "", 1, &err));
	const char *at = strstr((const char *)stats.data, line);
	ck_assert_msg(at && (at == (const char *)stats.data || at[-1] == '\n') && at[strlen(line)] == '\n', "no '%s' in\n%s", line,
	              (const char *)stats.data);
	vf_buf_free(&stats);
}

START_TEST(stats_say_what_is_there)
{
	begin(NULL);
	ck_stat_line("vectors 0");
	ck_stat_line("dimension 0");
	ck_stat_line("loaded no");
	configure("dimension = 8\nmetric = l2\nrecall = 0.9");
	put("a", 1, "{}");
	ck_stat_line("vectors 1");
	ck_stat_line("pending 0");
	ck_stat_line("dimension 8");
	ck_stat_line("metric euclidean");
	ck_stat_line("code f32");
	ck_stat_line("recall_target 0.9");
	ck_stat_line("recall_measured unknown");
	ck_stat_line("last_checkpoint never");
	ck_stat_line("loaded yes");
	ck_stat_line("unlisted_keys 0");
	end();
}
END_TEST

START_TEST(a_newer_format_is_refused)
{
	struct vf_index_options options = { .bucket = "b", .name = "docs" };
	struct vf_store *store;
	struct vf_txn *txn;

	begin("dimension = 8");
	vf_index_close(&idx);
	ck_ok(vf_store_open(dir, false, false, &store, &err));
	ck_ok(vf_txn_write(store, &txn, &err));
	ck_ok(vf_put(txn, VF_T_META, vf_span_str("format"), vf_span("\x02\0\0\0", 4), &err));
	ck_ok(vf_txn_commit(&txn, &err));
	vf_store_close(&store);
	ck_fails(vf_index_open(dir, &options, &idx, &err), EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "format 2"));
	ck_assert_int_eq(vf_index_audit(dir, note_finding, NULL, &err), -EINVAL);
	remove_dir();
}
END_TEST

START_TEST(a_read_only_index_reads_and_refuses_to_write)
{
	begin("dimension = 8");
	put("a", 1, "{}");
	ck_ok(vf_index_saved_put(idx, "q.json", vf_span_str("{}"), &err));
	vf_index_close(&idx);
	open_index(true);
	ck_record("a", 1, "{}");
	ck_memory_agrees(1);
	struct vf_batch *batch = new_batch();
	struct vf_receipt receipt;
	add_to(batch, "b", 2, "{}", false);
	ck_fails(vf_batch_apply(batch, &receipt, &err), EROFS);
	vf_batch_free(&batch);
	ck_fails(vf_index_configure(idx, vf_span_str("top_k = 3"), &err), EROFS);
	ck_fails(vf_index_saved_put(idx, "x", vf_span_str(""), &err), EROFS);
	ck_fails(vf_index_checkpoint(idx, &err), EROFS);
	end();
}
END_TEST

/* The worked numbers of doc/FORMAT.md. */
START_TEST(rows_are_the_bytes_that_the_format_document_shows)
{
	static const uint8_t expected[] = {
		0x59, 0x8e, 0xae, 0x78, 0xe1, 0xbb, 0xd5, 0xba, 0x40, 0xda, 0x72, 0x93, 0x72, 0x4d, 0xc7, 0x9b, 0x40, 0, 0, 0, 0, 0, 0, 0,
		1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2a, 0x36, 0xfe, 0x9c, 0x97, 0x17, 0, 0, 0x2a, 0x36, 0xfe, 0x9c, 0x97, 0x17, 0, 0, 0, 0,
		3, 0, 0, 0, 5, 0, 0, 0, 0x11, 0, 0, 0, 'd', 'o', 'c', '-', '1', 0x82, 0xa4, 'l', 'a', 'n', 'g', 0xa2, 'e', 'n',
		0xa4, 'y', 'e', 'a', 'r', 0xcd, 0x07, 0xe8,
	};
	static const uint8_t tail[] = { 0x4e, 0x36, 0x73, 0xa2, 0xdc, 0x31, 0x4a, 0xf9, 0xee, 0x55, 0x3d, 0x08, 0xa1, 0x43, 0x85, 0x93 };
	const float vector[] = { 1, 0.5f, -2 };
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_record_row back, row = {
		.vector_sum = vf_vector_sum(vector, sizeof vector), .ino = VF_INO_FIRST, .version = 1, .mtime_ns = 1700000000000000000,
		.ctime_ns = 1700000000000000000, .dim = 3, .key = vf_span_str("doc-1"),
		.metadata = json_metadata("{\"year\": 2024, \"lang\": \"en\"}", &arena),
	};
	uint8_t bytes[sizeof expected], long_name[VF_KEY_ROW_HEAD + 16], a[480];

	ck_assert_uint_eq(vf_record_row_size(&row), sizeof expected);
	vf_record_row_encode(&row, bytes);
	ck_assert_mem_eq(bytes, expected, sizeof expected);
	ck_ok(vf_record_row_decode(vf_span(bytes, sizeof bytes), &back, &err));
	ck_assert(vf_span_is(back.key, "doc-1") && back.mtime_ns == row.mtime_ns && back.vector_sum == row.vector_sum);
	for (size_t i = 0; i < sizeof bytes; i++) {
		bytes[i] ^= 1;
		ck_fails(vf_record_row_decode(vf_span(bytes, sizeof bytes), &back, &err), EIO);
		ck_fails(vf_record_row_decode(vf_span(bytes, i), &back, &err), EIO);
		bytes[i] ^= 1;
	}
	memset(a, 'a', sizeof a);
	struct vf_span name = vf_key_row_name(vf_span(a, sizeof a), long_name);
	ck_assert_uint_eq(name.len, 480);
	ck_assert_mem_eq(name.data, a, VF_KEY_ROW_HEAD);
	ck_assert_mem_eq(name.data + VF_KEY_ROW_HEAD, tail, sizeof tail);
	vf_arena_free(&arena);
}
END_TEST

/* ---- the audit finds what is wrong ---- */

static struct vf_txn *damage;

static void copy_row(enum vf_table table, uint64_t key, struct vf_buf *out)
{
	struct vf_span value;

	ck_ok(vf_get_u64(damage, table, key, &value, &err));
	ck_ok(vf_buf_put(out, value.data, value.len, &err));
}

static void flip(enum vf_table table, uint64_t key, size_t at)
{
	struct vf_buf row = VF_BUF_INIT;

	copy_row(table, key, &row);
	row.data[at] ^= 0x40;
	ck_ok(vf_put_u64(damage, table, key, vf_buf_span(&row), &err));
	vf_buf_free(&row);
}

static void flip_record_key(void)   { flip(VF_T_RECORDS, 1, 64); }
static void flip_vector(void)       { flip(VF_T_VECTORS, 2, 5); }
static void flip_slot(void)         { flip(VF_T_SLOTS, 1, 0); }
static void lose_vector(void)       { ck_ok(vf_del_u64(damage, VF_T_VECTORS, 2, &err)); }
static void lose_record(void)       { ck_ok(vf_del_u64(damage, VF_T_RECORDS, 3, &err)); }
static void lose_slot(void)         { ck_ok(vf_del_u64(damage, VF_T_SLOTS, 2, &err)); }
static void lose_key(void)          { ck_ok(vf_del(damage, VF_T_KEYS, vf_span_str("b"), &err)); }
static void lose_config(void)       { ck_ok(vf_del(damage, VF_T_META, vf_span_str("config"), &err)); }
static void lose_counters(void)     { ck_ok(vf_del(damage, VF_T_META, vf_span_str("counters"), &err)); }
static void orphan_vector(void)     { ck_ok(vf_put_u64(damage, VF_T_VECTORS, 77, vf_span("12345678901234567890123456789012", 32), &err)); }
static void bad_saved(void)         { ck_ok(vf_put(damage, VF_T_QUESTIONS, vf_span_str("q"), vf_span("1234567890123456789012345678901234", 34), &err)); }
static void wrong_key_row(void)     { ck_ok(vf_put(damage, VF_T_KEYS, vf_span_str("a"), vf_span("\2\0\0\0\0\0\0\0\100\0\0\0\0\0\0\0", 16), &err)); }

static void old_counters(void)
{
	uint8_t bytes[32] = { 2, 0, 0, 0, 0, 0, 0, 0, 65 };

	ck_ok(vf_put(damage, VF_T_META, vf_span_str("counters"), vf_span(bytes, sizeof bytes), &err));
}

static void lose_posting(void)
{
	struct vf_scan *scan;
	struct vf_span key, value;
	struct vf_buf copy = VF_BUF_INIT;

	ck_ok(vf_scan_open(damage, VF_T_POSTINGS, vf_span(NULL, 0), &scan, &err));
	ck_ok(vf_scan_step(scan, &key, &value, &err));
	ck_ok(vf_buf_put(&copy, key.data, key.len, &err));
	vf_scan_close(&scan);
	ck_ok(vf_del(damage, VF_T_POSTINGS, vf_buf_span(&copy), &err));
	vf_buf_free(&copy);
}

static void wrong_posting(void)
{
	struct vf_postings_change *change;

	ck_ok(vf_postings_change_new(&change, &err));
	ck_ok(vf_postings_add(change, vf_span_str("\x01xnonsense"), 2, &err));
	ck_ok(vf_postings_write(change, damage, &err));
	vf_postings_change_free(&change);
}

START_TEST(the_audit_finds_planted_damage)
{
	static const struct { void (*plant)(void); const char *says; } cases[] = {
		{ flip_record_key, "checksum" }, { flip_vector, "checksum of its vector" }, { flip_slot, "serial" }, { lose_vector, "vector" },
		{ lose_record, "missing" }, { lose_slot, "slot" }, { lose_key, "key" }, { lose_config, "config" }, { lose_counters, "counters" },
		{ orphan_vector, "serial 77" }, { bad_saved, "saved question q" }, { wrong_key_row, "key" }, { old_counters, "not given yet" },
		{ lose_posting, "term" }, { wrong_posting, "term" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct vf_store *store;
		begin("dimension = 8");
		put("a", 1, "{\"n\": 1}");
		put("b", 2, "{\"n\": 2}");
		put("c", 3, "{\"n\": 2}");
		vf_index_close(&idx);
		audit_is_clean();
		ck_ok(vf_store_open(dir, false, false, &store, &err));
		ck_ok(vf_txn_write(store, &damage, &err));
		cases[i].plant();
		ck_ok(vf_txn_commit(&damage, &err));
		vf_store_close(&store);
		sought = cases[i].says;
		sought_found = false;
		ck_assert_msg(audit() > 0 && sought_found, "case %zu (%s) was not found, but: %s", i, cases[i].says, last_finding);
		sought = NULL;
		remove_dir();
	}
}
END_TEST

START_TEST(a_damaged_record_is_an_error_that_names_it)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_record record;
	struct vf_store *store;

	begin("dimension = 8");
	put("a", 1, "{}");
	put("b", 2, "{}");
	vf_index_close(&idx);
	ck_ok(vf_store_open(dir, false, false, &store, &err));
	ck_ok(vf_txn_write(store, &damage, &err));
	flip_vector();
	flip_record_key();
	ck_ok(vf_txn_commit(&damage, &err));
	vf_store_close(&store);
	open_index(false);
	ck_fails(vf_index_get(idx, vf_span_str("b"), &arena, &record, NULL, &err), EIO);
	ck_assert_ptr_nonnull(strstr(err.text, "record b"));
	ck_fails(vf_index_get(idx, vf_span_str("a"), &arena, &record, NULL, &err), EIO);
	vf_arena_free(&arena);
	vf_index_close(&idx);
	remove_dir();
}
END_TEST

CHECK_MAIN("index",
	a_record_reads_back_as_it_was_put, wrong_records_are_refused_with_the_values, of_equal_keys_in_a_batch_the_last_wins,
	an_equal_vector_keeps_its_slot_and_serial, a_record_keeps_inode_and_vector_under_another_key,
	requests_by_filter_see_what_came_before_them_in_the_batch, a_batch_that_fails_changes_nothing,
	keys_are_listed_in_order_page_by_page, long_keys_work_and_those_without_a_file_name_are_counted,
	random_changes_agree_with_a_model_across_reopening, the_shape_is_frozen_once_there_are_vectors,
	fields_become_filterable_and_stop_being_so, the_version_grows_with_every_change,
	the_version_never_goes_back_over_an_opening, an_index_that_is_sealed_takes_nothing_more,
	a_seal_is_none_before_its_transaction_is_through, a_question_is_answered_under_the_config_of_its_snapshot,
	an_index_grows_out_of_the_flat_graph_and_answers_all_the_while, links_are_loaded_not_made_again, a_checkpoint_that_failed_is_made_up_for_by_the_next,
	few_dimensions_are_linked_with_float_codes, a_few_samples_say_first_whether_the_usual_effort_is_enough,
	vectors_that_bytes_cannot_tell_apart_have_float_codes, a_graph_whose_vectors_have_changed_is_built_anew,
	dead_slots_are_swept_and_used_again, a_damaged_chunk_costs_links_only,
	a_killed_writer_leaves_whole_batches_and_all_that_were_acknowledged,
	a_graph_that_was_killed_is_whole_after_the_next_start, many_writers_and_readers_at_once_lose_nothing,
	postings_follow_a_config_that_changes_beside_writers,
	exports_are_one_snapshot_in_key_order, an_export_inserted_elsewhere_gives_the_same_export,
	saved_questions_are_files_kept_as_they_were_written, many_saved_questions_are_listed_page_by_page, stats_say_what_is_there,
	rows_are_the_bytes_that_the_format_document_shows, a_newer_format_is_refused, a_read_only_index_reads_and_refuses_to_write, the_audit_finds_planted_damage,
	a_damaged_record_is_an_error_that_names_it)
