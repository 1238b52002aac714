/* SPDX-License-Identifier: MIT */
/* Streams whose vectors are written before their verdict, against a model: several at once, beside single writes, carried out, dropped, killed. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "../src/index/early.h"
#include "check.h"
#include "index_kit.h"

#define DIM     5u
#define KEYS    40u
#define STREAMS 3u
#define OPS_MAX 64u

struct op { unsigned key; uint64_t number; bool if_absent; };
struct stream { struct vf_batch *batch; struct op ops[OPS_MAX]; size_t n, vectors; };

static char dir[64];
static struct vf_index *idx;
static struct vf_linkers *linkers;
static struct vf_err err = VF_ERR_INIT;
static uint64_t model[KEYS];           /* the number of its vector; 0: not there */
static struct stream streams[STREAMS];
static uint64_t numbers, random_state = 7;

static unsigned rnd(unsigned below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(random_state >> 33) % below;
}

static void vector_of(uint64_t number, float out[DIM])
{
	for (uint32_t i = 0; i < DIM; i++)
		out[i] = (float)((number * (2 * i + 3)) % 1009) + 1;
}

static void add(struct vf_batch *batch, const struct op *op)
{
	float vector[DIM];
	char key[16];

	vector_of(op->number, vector);
	snprintf(key, sizeof key, "k%u", op->key);
	struct vf_record record = { .key = vf_span_str(key), .vector = vector, .dim = DIM, .metadata = vf_span("\x80", 1), .if_absent = op->if_absent };
	ck_ok(vf_batch_put(batch, &record, &err));
}

/* What it does to the model, and the receipt that tells so. Of equal keys the last wins, but one that is to be put only when absent never does. */
static struct vf_receipt model_apply(const struct op *ops, size_t n)
{
	struct vf_receipt receipt = { 0 };
	const struct op *last[KEYS] = { NULL };

	for (size_t i = 0; i < n; i++) {
		if (last[ops[i].key] && ops[i].if_absent)
			receipt.skipped++;
		else
			last[ops[i].key] = &ops[i];
	}
	for (unsigned key = 0; key < KEYS; key++) {
		if (!last[key])
			continue;
		if (model[key] && last[key]->if_absent) {
			receipt.skipped++;
			continue;
		}
		*(model[key] ? &receipt.replaced : &receipt.inserted) += 1;
		model[key] = last[key]->number;
	}
	return receipt;
}

static void carry_out(struct stream *stream)
{
	struct vf_receipt want = model_apply(stream->ops, stream->n), got;

	ck_ok(vf_batch_apply(stream->batch, &got, &err));
	ck_assert_uint_eq(got.inserted, want.inserted);
	ck_assert_uint_eq(got.replaced, want.replaced);
	ck_assert_uint_eq(got.skipped, want.skipped);
	stream->n = stream->vectors = 0;
}

static void drop(struct stream *stream)
{
	vf_batch_free(&stream->batch);
	stream->n = stream->vectors = 0;
}

static bool has_key(const struct stream *stream, unsigned key)
{
	for (size_t i = 0; i < stream->n; i++)
		if (stream->ops[i].key == key)
			return true;
	return false;
}

static void step(struct stream *stream)
{
	if (!stream->batch)
		ck_ok(vf_batch_new(idx, &stream->batch, &err));
	/* What was checked already is checked again. */
	if (rnd(60) == 0)
		ck_ok(vf_index_configure(idx, vf_span_str(rnd(2) ? "non_filterable = a\n" : "non_filterable = b\n"), &err));
	if (stream->n == OPS_MAX || rnd(30) == 0) {
		if (rnd(3))
			carry_out(stream);
		else
			drop(stream);
		return;
	}
	struct op *op = &stream->ops[stream->n];
	*op = (struct op){ .key = rnd(KEYS), .number = ++numbers, .if_absent = rnd(4) == 0 };
	/* The same vector again, now and then. */
	if (model[op->key] && rnd(3) == 0)
		op->number = model[op->key];
	stream->vectors += !op->if_absent || !has_key(stream, op->key);
	add(stream->batch, op);
	stream->n++;
}

static void remove_one(void)
{
	unsigned at = rnd(KEYS);
	char key[16];

	snprintf(key, sizeof key, "k%u", at);
	ck_assert_int_eq(vf_index_remove(idx, vf_span_str(key), &err), model[at] ? 0 : -ENOENT);
	model[at] = 0;
}

static void put_one(void)
{
	struct op op = { .key = rnd(KEYS), .number = ++numbers };
	struct vf_batch *batch = NULL;
	struct vf_receipt receipt;

	ck_ok(vf_batch_new(idx, &batch, &err));
	add(batch, &op);
	ck_ok(vf_batch_apply(batch, &receipt, &err));
	model_apply(&op, 1);
	vf_batch_free(&batch);
}

/* ---- what has to hold ---- */

static uint64_t rows_of(struct vf_txn *txn, enum vf_table table)
{
	uint64_t n;

	ck_ok(vf_count(txn, table, &n, &err));
	return n;
}

static void check_counts(uint64_t live, uint64_t early)
{
	struct vf_counters counters;
	struct vf_txn *txn = NULL;
	uint64_t deaths;

	ck_ok(vf_txn_read(idx->store, &txn, &err));
	ck_ok(vf_counters_get(txn, &counters, &err));
	ck_ok(vf_deaths_of(txn, &deaths, &err));
	ck_assert_uint_eq(counters.early, early);
	ck_assert_uint_eq(rows_of(txn, VF_T_KEYS), live);
	ck_assert_uint_eq(rows_of(txn, VF_T_RECORDS), live);
	ck_assert_uint_eq(rows_of(txn, VF_T_SLOTS), live);
	ck_assert_uint_eq(rows_of(txn, VF_T_VECTORS), live + counters.early);
	ck_assert_uint_eq(deaths, atomic_load(&idx->deaths_told));
	vf_txn_end(&txn);
}

static uint64_t check_records(void)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_record record;
	float vector[DIM];
	uint64_t live = 0;
	char key[16];

	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(key, sizeof key, "k%u", i);
		int rc = vf_index_get(idx, vf_span_str(key), &arena, &record, NULL, &err);
		ck_assert_int_eq(rc, model[i] ? 0 : -ENOENT);
		if (!model[i])
			continue;
		live++;
		vector_of(model[i], vector);
		ck_assert_mem_eq(record.vector, vector, sizeof vector);
	}
	vf_arena_free(&arena);
	return live;
}

static double distance_of(uint64_t number)
{
	float vector[DIM];
	double sum = 0;

	vector_of(number, vector);
	for (uint32_t i = 0; i < DIM; i++)
		sum += (vector[i] - 1 - i) * (vector[i] - 1 - i);
	return sum;
}

/* The nearest half of all that there are: no other record is nearer than the farthest of them. */
static void check_one_answer(uint64_t live, const char *exact)
{
	unsigned want = (unsigned)(live + 1) / 2, shown = 0, key;
	bool is_shown[KEYS] = { false };
	struct vf_spool answer;
	char question[140];
	double farthest = 0;

	vf_spool_init(&answer, dir);
	snprintf(question, sizeof question, "{\"queryVector\": {\"float32\": [1, 2, 3, 4, 5]}, \"topK\": %u, \"exact\": %s}", want ? want : 1, exact);
	ck_ok(kit_ask(idx, question, &answer, &err));
	for (const char *at = (const char *)answer.buf.data; (at = strstr(at, "\"k")); at++) {
		if (sscanf(at, "\"k%u\"", &key) != 1)
			continue;
		ck_assert(key < KEYS && model[key] && !is_shown[key]);
		ck_assert_double_ge(distance_of(model[key]), farthest);
		farthest = distance_of(model[key]);
		is_shown[key] = true;
		shown++;
	}
	ck_assert_uint_eq(shown, want);
	for (key = 0; key < KEYS; key++)
		ck_assert(!model[key] || is_shown[key] || distance_of(model[key]) >= farthest);
	vf_spool_free(&answer);
}

/* The first question after opening reads the table of vectors, the next one the graph. */
static void check_answer(uint64_t live)
{
	check_one_answer(live, "true");
	check_one_answer(live, "false");
}

/* Memory was told the vector of each, whichever way it came. */
static void check_graph(void)
{
	struct vf_graph *graph;
	struct vf_hit hit;
	float vector[DIM];
	uint32_t n;

	ck_ok(vf_graph_hold(idx, &graph, &err));
	for (unsigned i = 0; i < KEYS; i++) {
		if (!model[i])
			continue;
		vector_of(model[i], vector);
		ck_ok(vf_graph_scan(graph, &(struct vf_search){ .query = vector, .want = 1 }, &hit, &n, NULL, &err));
		ck_assert_uint_eq(n, 1);
		ck_assert_float_eq(hit.distance, 0);
	}
	vf_graph_release(idx);
}

/* Of so many vectors of a stream; a part goes when the vector after it comes. */
static uint64_t early_of(size_t vectors)
{
	size_t bytes = DIM * sizeof(float), part = (vf_early_part_bytes + bytes - 1) / bytes;

	return vectors ? (vectors - 1) / part * part : 0;
}

static uint64_t early_now(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < STREAMS; i++)
		n += early_of(streams[i].vectors);
	return n;
}

/* The threads come to rest. */
static void wait_for_early(uint64_t n)
{
	struct vf_counters counters;
	struct vf_txn *txn = NULL;

	do {
		ck_ok(vf_txn_read(idx->store, &txn, &err));
		ck_ok(vf_counters_get(txn, &counters, &err));
		vf_txn_end(&txn);
		ck_assert_uint_le(counters.early, n);
		usleep(1000);
	} while (counters.early < n);
}

static void check_all(void)
{
	uint64_t live = check_records();

	wait_for_early(early_now());
	check_counts(live, early_now());
	check_answer(live);
	check_graph();
}

/* Beside a stream that has written some. */
static void check_first_answer(void)
{
	struct stream *stream = &streams[0];

	ck_ok(vf_batch_new(idx, &stream->batch, &err));
	for (; stream->n < OPS_MAX / 2; stream->n++, stream->vectors++)
		add(stream->batch, &(struct op){ .key = (unsigned)stream->n % KEYS, .number = ++numbers });
	wait_for_early(early_now());
	ck_assert(!vf_graph_is_loaded(idx));
	check_answer(check_records());
	drop(stream);
}

static void report(void *ctx, const char *text)
{
	(void)ctx;
	ck_abort_msg("%s", text);
}

static void close_index(void)
{
	for (unsigned i = 0; i < STREAMS; i++)
		drop(&streams[i]);
	vf_index_close(&idx);
	ck_assert_int_eq(vf_index_audit(dir, report, NULL, &err), 0);
}

/* Without linkers there is no thread but those of the streams. */
static void begin(size_t part_bytes, bool linked)
{
	vf_early_part_bytes = part_bytes;
	memset(model, 0, sizeof model);
	ck_assert_ptr_nonnull(kit_make_dir(dir));
	ck_ok(vf_index_create(dir, &err));
	if (linked)
		ck_ok(vf_linkers_new(2, &linkers, &err));
	ck_ok(kit_open(dir, false, linkers, &idx, &err));
	ck_ok(vf_index_configure(idx, vf_span_str("dimension = 5\nmetric = euclidean\n"), &err));
}

static void end(void)
{
	close_index();
	if (linkers)
		vf_linkers_free(&linkers);
	kit_remove_dir(dir);
}

/* ---- the tests ---- */

static const size_t part_sizes[] = { 1, 100, 400, (size_t)8 << 20 };
#define PARTS (sizeof part_sizes / sizeof part_sizes[0])

static void run_beside_model(size_t part_bytes)
{
	begin(part_bytes, true);
	for (unsigned round = 0; round < 6; round++) {
		for (unsigned i = 0; i < 300; i++) {
			unsigned what = rnd(20);
			if (what == 0)
				remove_one();
			else if (what == 1)
				put_one();
			else
				step(&streams[rnd(STREAMS)]);
			if (i % 50 == 0)
				check_all();
		}
		close_index();
		ck_ok(kit_open(dir, false, linkers, &idx, &err));
		check_first_answer();
	}
	end();
}

START_TEST(streams_beside_each_other_do_what_the_model_says)
{
	for (size_t i = 0; i < PARTS; i++)
		run_beside_model(part_sizes[i]);
}
END_TEST

/* A stream of so many vectors, as far as it is written before its verdict. */
static struct vf_batch *long_stream(unsigned vectors)
{
	struct vf_batch *batch = NULL;

	ck_ok(vf_batch_new(idx, &batch, &err));
	for (unsigned i = 0; i < vectors; i++)
		add(batch, &(struct op){ .key = i % KEYS, .number = 5000 + i });
	wait_for_early(early_of(vectors));
	return batch;
}

START_TEST(a_long_stream_is_in_memory_no_more_than_a_short_one)
{
	begin(100, true);
	struct vf_batch *batch = long_stream(1000);
	ck_assert_uint_gt(vf_batch_bytes(batch) - vf_batch_held(batch), 1000 * (DIM - 1) * sizeof(float));
	vf_batch_free(&batch);
	check_counts(0, 0);
	end();
}
END_TEST

START_TEST(a_stream_whose_dimension_is_changed_comes_to_nothing)
{
	struct vf_receipt receipt;
	struct vf_spool answer;

	begin(100, true);
	struct vf_batch *batch = long_stream(OPS_MAX);
	ck_ok(vf_index_configure(idx, vf_span_str("dimension = 6\n"), &err));
	ck_ok(kit_insert(idx, "{\"key\": \"six\", \"data\": [1, 2, 3, 4, 5, 6]}", &err));
	vf_spool_init(&answer, dir);
	ck_ok(kit_ask(idx, "{\"queryVector\": {\"float32\": [1, 2, 3, 4, 5, 6]}, \"topK\": 1, \"exact\": true}", &answer, &err));
	ck_assert_ptr_nonnull(strstr((const char *)answer.buf.data, "\"six\""));
	vf_spool_free(&answer);
	ck_fails(vf_batch_apply(batch, &receipt, &err), EINVAL);
	check_counts(1, 0);
	vf_batch_free(&batch);
	end();
}
END_TEST

/* With one stream that has written early and is neither carried out nor dropped. */
static void be_killed(void)
{
	ck_ok(kit_open(dir, false, NULL, &idx, &err));
	long_stream(OPS_MAX);
	kill(getpid(), SIGKILL);
}

static void crash(size_t part_bytes, bool repaired)
{
	begin(part_bytes, false);
	for (unsigned i = 0; i < 20; i++)
		put_one();
	close_index();
	pid_t child = fork();
	if (child == 0)
		be_killed();
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	if (repaired) {
		ck_assert_int_eq(vf_index_repair(dir, report, NULL, &err), 0);
		ck_ok(kit_open(dir, false, linkers, &idx, &err));
		check_counts(check_records(), 0);
		struct vf_batch *batch = long_stream(OPS_MAX);
		vf_batch_free(&batch);
		end();
		return;
	}
	/* Whoever only reads leaves it, and does not see it. */
	ck_assert_int_eq(vf_index_audit(dir, report, NULL, &err), 0);
	ck_ok(kit_open(dir, true, NULL, &idx, &err));
	uint64_t live = check_records();
	check_counts(live, early_of(OPS_MAX));
	check_answer(live);
	vf_index_close(&idx);
	ck_ok(kit_open(dir, false, linkers, &idx, &err));
	check_counts(live, 0);
	check_answer(live);
	end();
}

START_TEST(what_a_crash_left_of_a_stream_is_in_nobodys_way_and_goes)
{
	for (size_t i = 0; i < PARTS; i++)
		crash(part_sizes[i], false);
}
END_TEST

START_TEST(a_repair_forgets_what_a_crash_left_of_a_stream)
{
	for (size_t i = 0; i < PARTS; i++)
		crash(part_sizes[i], true);
}
END_TEST

/* ---- so many at once that several threads tell the graph ---- */

#define MANY 12000u

/* Each number has a vector of its own. */
static void unique_vector(uint64_t number, float out[DIM])
{
	for (uint32_t i = 0; i < DIM; i++)
		out[i] = (float)(number % (7 + 30 * i)) + 1;
	out[DIM - 1] = (float)number;
}

/* Every `each`-th key gets the vector of its number plus `plus`. */
static void put_many(unsigned each, uint64_t plus)
{
	struct vf_receipt receipt;
	struct vf_batch *batch = NULL;
	float vector[DIM];
	char key[16];

	ck_ok(vf_batch_new(idx, &batch, &err));
	for (unsigned i = 0; i < MANY; i += each) {
		snprintf(key, sizeof key, "k%u", i);
		unique_vector(i + plus, vector);
		struct vf_record record = { .key = vf_span_str(key), .vector = vector, .dim = DIM, .metadata = vf_span("\x80", 1) };
		ck_ok(vf_batch_put(batch, &record, &err));
	}
	ck_ok(vf_batch_apply(batch, &receipt, &err));
	ck_assert_uint_eq(receipt.inserted + receipt.replaced, (MANY + each - 1) / each);
	vf_batch_free(&batch);
}

static float nearest_to(struct vf_graph *graph, uint64_t number)
{
	struct vf_hit hit;
	float vector[DIM];
	uint32_t n;

	unique_vector(number, vector);
	ck_ok(vf_graph_scan(graph, &(struct vf_search){ .query = vector, .want = 1 }, &hit, &n, NULL, &err));
	ck_assert_uint_eq(n, 1);
	return hit.distance;
}

/* Those of every third key were replaced. */
static void check_many(void)
{
	struct vf_graph_counts counts;
	struct vf_graph *graph;

	ck_ok(vf_graph_hold(idx, &graph, &err));
	/* One that is just linked counts twice for a moment. */
	for (int i = 0; i < 100000; i++) {
		vf_graph_counts(graph, &counts);
		if (counts.pending + counts.linked == MANY)
			break;
		sched_yield();
	}
	ck_assert_uint_eq(counts.pending + counts.linked, MANY);
	for (unsigned i = 0; i < MANY; i += 31) {
		ck_assert((nearest_to(graph, i) == 0) == (i % 3 != 0));
		ck_assert(i % 3 != 0 || nearest_to(graph, i + MANY) == 0);
	}
	vf_graph_release(idx);
	check_counts(MANY, 0);
}

START_TEST(many_thousand_that_come_at_once_are_all_found)
{
	begin(40000, true);
	put_many(1, 0);
	put_many(3, MANY);
	check_many();
	close_index();
	ck_ok(kit_open(dir, false, linkers, &idx, &err));
	check_many();
	end();
}
END_TEST

static void *apply_first_stream(void *unused)
{
	struct vf_err e = VF_ERR_INIT;
	struct vf_receipt receipt;

	(void)unused;
	ck_assert_int_eq(vf_batch_apply(streams[0].batch, &receipt, &e), 0);
	ck_assert_uint_eq(receipt.inserted, 20);
	return NULL;
}

static void *remove_some(void *unused)
{
	struct vf_err e = VF_ERR_INIT;

	(void)unused;
	ck_assert_int_eq(vf_index_remove(idx, vf_span_str("k1"), &e), 0);
	ck_assert_int_eq(vf_index_remove(idx, vf_span_str("k19"), &e), 0);
	return NULL;
}

/* One transaction for both, when the writer's turn was another's meanwhile: the graph is told of vectors that are gone already. */
START_TEST(what_is_removed_in_the_transaction_of_its_stream_costs_no_graph)
{
	struct vf_txn *others = NULL;
	struct vf_graph *graph;
	pthread_t threads[2];

	begin(100, false);
	ck_ok(vf_graph_hold(idx, &graph, &err));
	vf_graph_release(idx);
	ck_ok(vf_batch_new(idx, &streams[0].batch, &err));
	for (unsigned i = 0; i < 20; i++)
		add(streams[0].batch, &(struct op){ .key = i, .number = ++numbers });
	wait_for_early(early_of(20));
	ck_ok(vf_txn_write(idx->store, &others, &err));
	ck_assert_int_eq(pthread_create(&threads[0], NULL, apply_first_stream, NULL), 0);
	usleep(50000);
	ck_assert_int_eq(pthread_create(&threads[1], NULL, remove_some, NULL), 0);
	usleep(50000);
	vf_txn_end(&others);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	ck_assert(vf_graph_is_loaded(idx));
	for (unsigned i = 0; i < 20; i++)
		model[i] = i == 1 || i == 19 ? 0 : i + 1;
	vf_batch_free(&streams[0].batch);
	check_all();
	end();
}
END_TEST

START_TEST(a_row_of_early_vectors_that_cannot_be_is_refused)
{
	static const struct vf_serials wrong[][2] = { { { 3, 1 }, { 3, 1 } }, { { 5, 1 }, { 2, 1 } }, { { 1, 0 }, { 2, 2 } }, { { UINT64_MAX, 1 }, { 2, 1 } },
	                                              { { 1, 1 }, { 99, 1 } }, { { 1, 2 }, { 3, UINT64_MAX } } };
	struct vf_counters counters = { .next_serial = 20, .next_ino = VF_INO_FIRST, .next_version = 1, .early = 2 };
	struct vf_early_rows rows;
	struct vf_txn *txn = NULL;

	begin(100, true);
	ck_ok(vf_txn_write(idx->store, &txn, &err));
	ck_ok(vf_counters_put(txn, &counters, &err));
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		ck_ok(vf_put(txn, VF_T_META, vf_span_str(VF_META_EARLY), vf_span(wrong[i], sizeof wrong[i]), &err));
		ck_assert_int_eq(vf_early_load(txn, &rows, &err), -EIO);
		ck_assert_ptr_null(rows.at);
	}
	ck_ok(vf_put(txn, VF_T_META, vf_span_str(VF_META_EARLY), vf_span(wrong[0], 17), &err));
	ck_assert_int_eq(vf_early_load(txn, &rows, &err), -EIO);
	ck_ok(vf_put(txn, VF_T_META, vf_span_str(VF_META_EARLY), vf_span(&(struct vf_serials){ 7, 2 }, 16), &err));
	ck_ok(vf_early_load(txn, &rows, &err));
	ck_assert(vf_early_has(&rows, 7) && vf_early_has(&rows, 8) && !vf_early_has(&rows, 6) && !vf_early_has(&rows, 9));
	free(rows.at);
	vf_txn_end(&txn);
	end();
}
END_TEST

CHECK_MAIN("early", streams_beside_each_other_do_what_the_model_says, a_long_stream_is_in_memory_no_more_than_a_short_one,
	a_stream_whose_dimension_is_changed_comes_to_nothing, what_a_crash_left_of_a_stream_is_in_nobodys_way_and_goes,
	a_repair_forgets_what_a_crash_left_of_a_stream, many_thousand_that_come_at_once_are_all_found,
	what_is_removed_in_the_transaction_of_its_stream_costs_no_graph,
	a_row_of_early_vectors_that_cannot_be_is_refused)
