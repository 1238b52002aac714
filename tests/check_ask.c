/* SPDX-License-Identifier: MIT */
/* Questions against brute force over a copy of all records that the tests keep. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "vecfs/index.h"

/* ---- a world: an index, and what is known to be in it ---- */

struct thing {
	char key[64];
	float *vector;
	struct vf_value metadata;      /* {"n": i, "tag": "a".."e"} */
	struct vf_entry entries[2];
	char tag[2];
	bool gone;
};

struct world {
	char dir[64];
	struct vf_linkers *linkers;
	struct vf_index *index;
	uint32_t dim;
	enum vf_metric metric;
	struct thing *things;
	size_t n;
	uint64_t random;
};

static uint64_t next_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15u;
	uint64_t x = *state;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static double uniform(uint64_t *state)
{
	return (double)(next_random(state) >> 11) * 0x1p-53;
}

static double gauss(uint64_t *state)
{
	return sqrt(-2 * log(uniform(state) + 1e-300)) * cos(2 * M_PI * uniform(state));
}

#define FIRST_CENTRE 17
#define LINKED_MIN   4500u   /* more than a flat graph takes */

/* Near one of 50 centres, as embeddings are. */
static void random_vector(struct world *w, float *out)
{
	uint64_t centre = next_random(&w->random) % 50 * 7919 + FIRST_CENTRE;

	for (uint32_t i = 0; i < w->dim; i++)
		out[i] = (float)(gauss(&centre) + 0.7 * gauss(&w->random));
}

static void world_open_index(struct world *w)
{
	struct vf_index_options options = { .bucket = "b", .name = "docs", .linkers = w->linkers };
	struct vf_err err = VF_ERR_INIT;

	ck_ok(vf_index_open(w->dir, &options, &w->index, &err));
}

static void world_open(struct world *w, uint32_t dim, enum vf_metric metric)
{
	struct vf_err err = VF_ERR_INIT;
	char text[100];

	*w = (struct world){ .dim = dim, .metric = metric, .random = 42 };
	strcpy(w->dir, "/tmp/vecfs-ask-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(w->dir));
	ck_ok(vf_linkers_new(2, &w->linkers, &err));
	ck_ok(vf_index_create(w->dir, &err));
	world_open_index(w);
	snprintf(text, sizeof text, "dimension = %u\nmetric = %s\n", dim, vf_metric_name(metric));
	ck_ok(vf_index_configure(w->index, vf_span_str(text), &err));
}

/* Brings its file into the page cache, where it most likely is. */
static void world_cache(struct world *w)
{
	char command[120];

	snprintf(command, sizeof command, "cat %s/data.mdb >/dev/null", w->dir);
	ck_assert_int_eq(system(command), 0);
}

static void world_close(struct world *w)
{
	char command[100];

	vf_index_close(&w->index);
	vf_linkers_free(&w->linkers);
	for (size_t i = 0; i < w->n; i++)
		free(w->things[i].vector);
	free(w->things);
	snprintf(command, sizeof command, "rm -r %s", w->dir);
	ck_assert_int_eq(system(command), 0);
}

static void batch_add(struct vf_batch *batch, const char *key, const float *vector, uint32_t dim, const struct vf_value *metadata)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf bytes = VF_BUF_INIT;
	struct vf_record record = { .key = vf_span_str(key), .vector = vector, .dim = dim };

	ck_ok(vf_metadata_encode(metadata, NULL, &bytes, &err));
	record.metadata = vf_buf_span(&bytes);
	ck_ok(vf_batch_put(batch, &record, &err));
	vf_buf_free(&bytes);
}

static void thing_tag(struct thing *t, int64_t n)
{
	t->tag[0] = (char)('a' + n % 5);
	t->entries[0] = (struct vf_entry){ vf_span_str("n"), { .kind = VF_INT, .integer = n } };
	t->entries[1] = (struct vf_entry){ vf_span_str("tag"), { .kind = VF_STRING, .bytes = vf_span_str(t->tag) } };
	t->metadata = (struct vf_value){ .kind = VF_MAP, .count = 2, .entries = t->entries };
}

/* Keys are k0000000, ...; `make` fills a vector. */
static void world_fill(struct world *w, size_t n, void (*make)(struct world *w, float *out))
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_receipt receipt;
	struct vf_batch *batch;

	w->things = calloc(n, sizeof *w->things);
	w->n = n;
	ck_ok(vf_batch_new(w->index, &batch, &err));
	for (size_t i = 0; i < n; i++) {
		struct thing *t = &w->things[i];
		/* Key order is not the order of insertion. */
		snprintf(t->key, sizeof t->key, "k%07zu", i * 7919 % 1000003);
		t->vector = malloc(w->dim * sizeof(float));
		make(w, t->vector);
		thing_tag(t, (int64_t)i);
		batch_add(batch, t->key, t->vector, w->dim, &t->metadata);
	}
	ck_ok(vf_batch_apply(batch, &receipt, &err));
	ck_assert_uint_eq(receipt.inserted, n);
	vf_batch_free(&batch);
}

static uint64_t stat_of(struct world *w, const char *name)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf text = VF_BUF_INIT;
	char line[64];

	ck_ok(vf_index_stats(w->index, &text, &err));
	ck_ok(vf_buf_put(&text, "", 1, &err));
	snprintf(line, sizeof line, "%s ", name);
	const char *at = strstr((const char *)text.data, line);
	ck_assert_msg(at != NULL, "no %s in stats", name);
	uint64_t value = strtoull(at + strlen(line), NULL, 10);
	vf_buf_free(&text);
	return value;
}

static void wait_for_stat(struct world *w, const char *name, bool zero)
{
	for (int i = 0; i < 60000 && (stat_of(w, name) == 0) != zero; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	ck_assert_msg((stat_of(w, name) == 0) == zero, "%s is %llu", name, (unsigned long long)stat_of(w, name));
}

/* ---- asking ---- */

struct asked {
	struct vf_arena arena;
	struct vf_question question;
	struct vf_value value;         /* the answer */
};

/* With a queryVector put into it, so that the decoder knows what is asked. */
static void decode_question(struct world *w, const char *json, bool vector, struct asked *out)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf text = VF_BUF_INIT;
	struct vf_config config;
	struct vf_value body;

	vf_config_init(&config);
	config.dim = w->dim;
	config.metric = w->metric;
	for (uint32_t i = 0; vector && i < w->dim; i++)
		ck_ok(vf_buf_put_str(&text, i ? ",1" : "{\"queryVector\":[1", &err));
	ck_ok(vf_buf_put_str(&text, !vector ? "" : strcmp(json, "{}") ? "]," : "]", &err));
	ck_ok(vf_buf_put_str(&text, json + vector, &err));
	struct vf_span copy = vf_arena_copy(&out->arena, vf_buf_span(&text));
	ck_ok(vf_value_decode(VF_JSON, copy, &out->arena, &body, &err));
	ck_ok(vf_question_from_value(&body, VF_MSGPACK, &config, "docs", &out->arena, &out->question, &err));
	vf_config_free(&config);
	vf_buf_free(&text);
}

static int try_to_ask(struct world *w, const char *json, const float *vectors, uint32_t nvectors, struct asked *out,
                      struct vf_err *err)
{
	struct vf_spool spool;
	int rc;

	*out = (struct asked){ .arena = VF_ARENA_INIT };
	decode_question(w, json, vectors != NULL, out);
	out->question.vectors = vectors;
	out->question.nvectors = nvectors;
	out->question.dim = vectors ? w->dim : 0;
	out->question.many = nvectors > 1;
	vf_spool_init(&spool, "/tmp");
	rc = vf_index_ask(w->index, &out->question, &spool, err);
	if (rc == 0) {
		uint64_t size = vf_spool_size(&spool);
		uint8_t *bytes = vf_arena_alloc(&out->arena, size + 1);
		ck_assert_int_eq(vf_spool_read(&spool, 0, bytes, size), (int64_t)size);
		rc = vf_value_decode(VF_MSGPACK, vf_span(bytes, size), &out->arena, &out->value, err);
		ck_assert_msg(rc == 0, "%s: the answer cannot be read: %s", json, err->text);
	}
	vf_spool_free(&spool);
	return rc;
}

static void ask(struct world *w, const char *json, const float *vectors, uint32_t nvectors, struct asked *out)
{
	struct vf_err err = VF_ERR_INIT;
	int rc = try_to_ask(w, json, vectors, nvectors, out, &err);

	ck_assert_msg(rc == 0, "%s: %d %s", json, rc, err.text);
}

static void asked_free(struct asked *a)
{
	vf_arena_free(&a->arena);
}

static const struct vf_value *member(const struct vf_value *map, const char *name)
{
	const struct vf_value *value = vf_value_find(map, name);

	ck_assert_msg(value != NULL, "no %s in the answer", name);
	return value;
}

/* ---- the oracle ---- */

struct truth { const struct thing *thing; double distance; };
struct truths { struct truth *at; size_t n; uint64_t matched; };

static int compare_truths(const void *a, const void *b)
{
	const struct truth *x = a, *y = b;

	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return strcmp(x->thing->key, y->thing->key);
}

static bool selected(const struct vf_question *q, const struct thing *t)
{
	struct vf_span key = vf_span_str(t->key);

	return !t->gone && !vf_span_equal(key, q->key) && (!q->filter || vf_filter_matches(q->filter, &t->metadata)) &&
	       vf_span_has_prefix(key, q->prefix);
}

/* All of an answer, in order. */
static struct truths brute_force(const struct world *w, const struct vf_question *q, const float *vector)
{
	struct truths truths = { .at = malloc((w->n + 1) * sizeof *truths.at) };

	for (size_t i = 0; i < w->n; i++) {
		const struct thing *t = &w->things[i];
		if (!selected(q, t))
			continue;
		double distance = vector ? vf_distance(w->metric, vector, t->vector, w->dim) : 0;
		truths.matched++;
		if (q->has_max_distance && distance > q->max_distance)
			continue;
		if (q->start_after.len && vf_span_compare(vf_span_str(t->key), q->start_after) <= 0)
			continue;
		truths.at[truths.n++] = (struct truth){ t, distance };
	}
	qsort(truths.at, truths.n, sizeof *truths.at, compare_truths);
	uint64_t top_k = q->has_top_k ? q->top_k : VF_TOP_K_DEFAULT;
	if (truths.n > top_k)
		truths.n = top_k;
	return truths;
}

static void expect_answer(const struct world *w, const struct asked *a, const struct vf_value *answer, const float *vector,
                          const char *what)
{
	struct truths truths = brute_force(w, &a->question, vector);
	const struct vf_value *rows = member(answer, "vectors");

	ck_assert_msg(rows->count == truths.n, "%s: %u rows, not %zu", what, rows->count, truths.n);
	for (uint32_t i = 0; i < rows->count; i++) {
		const struct vf_value *key = member(&rows->items[i], "key");
		ck_assert_msg(vf_span_is(key->bytes, truths.at[i].thing->key), "%s: row %u is %.*s, not %s (%.17g)", what, i,
		              VF_SPAN_ARG(key->bytes), truths.at[i].thing->key, truths.at[i].distance);
		if (vector && a->question.return_distance)
			ck_assert_double_eq(member(&rows->items[i], "distance")->real, truths.at[i].distance);
	}
	ck_assert_int_eq(member(answer, "matched")->integer, (int64_t)truths.matched);
	ck_assert(vf_span_is(member(answer, "distanceMetric")->bytes, vf_metric_name(w->metric)));
	free(truths.at);
}

/* Asks, and expects the true answer. `vector` is what the distances are measured from (of a key: its stored one). */
static void expect_true(struct world *w, const char *json, const float *vector)
{
	struct asked a;
	bool by_key = strstr(json, "\"key\"") != NULL;

	ask(w, json, by_key ? NULL : vector, vector && !by_key ? 1 : 0, &a);
	expect_answer(w, &a, &a.value, vector, json);
	ck_assert_msg(member(&a.value, "exact")->boolean, "%s: is not exact", json);
	asked_free(&a);
}

/* The share of the true neighbours among those answered; the answer must be as long as it has to be. */
static double recall_of(struct world *w, const char *json, const float *vector)
{
	struct asked a;

	ask(w, json, vector, 1, &a);
	struct truths truths = brute_force(w, &a.question, vector);
	const struct vf_value *rows = member(&a.value, "vectors");
	ck_assert_uint_eq(rows->count, truths.n);
	size_t found = 0;
	for (uint32_t i = 0; i < rows->count; i++)
		found += member(&rows->items[i], "distance")->real <= truths.at[truths.n - 1].distance;
	double recall = truths.n ? (double)found / (double)truths.n : 1;
	free(truths.at);
	asked_free(&a);
	return recall;
}

/* ---- small indexes ---- */

static const enum vf_metric metrics[] = { VF_COSINE, VF_EUCLIDEAN, VF_DOT };

static const char *const questions[] = {
	"{\"returnDistance\": true}",
	"{\"topK\": 0}",
	"{\"topK\": 1, \"returnDistance\": true}",
	"{\"topK\": 100, \"returnDistance\": true}",
	"{\"topK\": 1400, \"returnDistance\": true}",
	"{\"topK\": 1000000, \"returnDistance\": true}",
	"{\"topK\": 20, \"exact\": true, \"returnDistance\": true}",
	"{\"topK\": 7, \"filter\": {\"tag\": \"b\"}, \"returnDistance\": true}",
	"{\"topK\": 5000, \"filter\": {\"tag\": {\"$in\": [\"b\", \"c\"]}}, \"returnDistance\": true}",
	"{\"topK\": 7, \"filter\": {\"n\": {\"$lt\": 40}}, \"returnDistance\": true}",
	"{\"topK\": 7, \"filter\": {\"n\": 17}, \"returnDistance\": true}",
	"{\"topK\": 7, \"filter\": {\"n\": -17}, \"returnDistance\": true}",
	"{\"topK\": 7, \"filter\": {\"n\": {\"$lt\": 40}}, \"exact\": true, \"returnDistance\": true}",
	"{\"topK\": 7, \"prefix\": \"k00\", \"returnDistance\": true}",
	"{\"topK\": 7, \"prefix\": \"k0\", \"filter\": {\"tag\": \"e\"}, \"returnDistance\": true}",
	"{\"topK\": 7, \"prefix\": \"nothing\"}",
	"{\"topK\": 7, \"prefix\": \"k\", \"exact\": true, \"returnDistance\": true}",
};

static void ask_everything(struct world *w)
{
	float *vector = malloc(w->dim * sizeof *vector);

	for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++)
		for (int k = 0; k < 3; k++) {
			random_vector(w, vector);
			expect_true(w, questions[i], vector);
		}
	free(vector);
}

START_TEST(a_small_index_answers_as_brute_force_does)
{
	struct world w;

	for (size_t i = 0; i < 3; i++) {
		world_open(&w, 24, metrics[i]);
		world_fill(&w, 1500, random_vector);
		ask_everything(&w);
		world_close(&w);
	}
}
END_TEST

START_TEST(an_empty_index_has_an_empty_answer)
{
	static const float vector[3] = { 1, 2, 3 };
	struct world w;

	world_open(&w, 3, VF_COSINE);
	expect_true(&w, "{}", vector);
	expect_true(&w, "{\"exact\": true}", vector);
	expect_true(&w, "{\"filter\": {\"n\": 1}}", vector);
	expect_true(&w, "{}", NULL);
	world_close(&w);
}
END_TEST

START_TEST(max_distance_cuts_rows_and_leaves_matched)
{
	struct world w;
	float vector[16];
	char json[200];

	world_open(&w, 16, VF_EUCLIDEAN);
	world_fill(&w, 600, random_vector);
	for (int i = 0; i < 20; i++) {
		random_vector(&w, vector);
		double distance = vf_distance(VF_EUCLIDEAN, vector, w.things[i * 17].vector, 16);
		/* Just at a stored one's distance: it is in. */
		snprintf(json, sizeof json, "{\"topK\": 300, \"maxDistance\": %.17g, \"returnDistance\": true}", distance);
		expect_true(&w, json, vector);
		snprintf(json, sizeof json, "{\"topK\": 3, \"maxDistance\": %.17g, \"filter\": {\"tag\": \"a\"}}", distance);
		expect_true(&w, json, vector);
	}
	world_close(&w);
}
END_TEST

START_TEST(a_stored_vector_is_asked_about_without_itself)
{
	struct world w;
	char json[200];

	world_open(&w, 16, VF_DOT);
	world_fill(&w, 800, random_vector);
	for (int i = 0; i < 20; i++) {
		const struct thing *t = &w.things[i * 31];
		snprintf(json, sizeof json, "{\"key\": \"%s\", \"topK\": %d, \"returnDistance\": true}", t->key, i * 45);
		expect_true(&w, json, t->vector);
		snprintf(json, sizeof json,
		         "{\"key\": \"%s\", \"topK\": 9, \"exact\": true, \"filter\": {\"tag\": {\"$ne\": \"c\"}}}", t->key);
		expect_true(&w, json, t->vector);
		snprintf(json, sizeof json, "{\"key\": \"%s\", \"topK\": 9, \"prefix\": \"k0\", \"returnDistance\": true}",
		         t->key);
		expect_true(&w, json, t->vector);
	}
	world_close(&w);
}
END_TEST

START_TEST(near_names_the_neighbours_that_an_answer_has)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_neighbour *near;
	struct world w;
	size_t n;

	world_open(&w, 16, VF_COSINE);
	world_fill(&w, 500, random_vector);
	struct vf_question q = { .key = vf_span_str(w.things[3].key), .has_top_k = true, .top_k = 12 };
	struct truths truths = brute_force(&w, &q, w.things[3].vector);
	ck_ok(vf_index_near(w.index, q.key, 12, &arena, &near, &n, &err));
	ck_assert_uint_eq(n, 12);
	for (size_t i = 0; i < n; i++) {
		ck_assert(vf_span_is(near[i].key, truths.at[i].thing->key));
		ck_assert_double_eq(near[i].distance, truths.at[i].distance);
	}
	ck_fails(vf_index_near(w.index, vf_span_str("nobody"), 12, &arena, &near, &n, &err), ENOENT);
	free(truths.at);
	vf_arena_free(&arena);
	world_close(&w);
}
END_TEST

/* One of 20 vectors, so that each has many copies. */
static void one_of_twenty(struct world *w, float *out)
{
	uint64_t which = next_random(&w->random) % 20 * 104729 + 3;

	for (uint32_t i = 0; i < w->dim; i++)
		out[i] = (float)gauss(&which);
}

static void ask_among_copies(uint32_t dim, enum vf_metric metric, size_t n)
{
	static const char *const forms[] = {
		"{\"topK\": %d, \"returnDistance\": true, \"exact\": true}",
		"{\"topK\": %d, \"returnDistance\": true, \"exact\": true, \"filter\": {\"tag\": \"c\"}}",
		"{\"topK\": %d, \"returnDistance\": true, \"filter\": {\"tag\": {\"$in\": [\"a\", \"d\"]}}}",
	};
	struct world w;
	float *vector = malloc(dim * sizeof *vector);
	char json[200];

	world_open(&w, dim, metric);
	world_fill(&w, n, one_of_twenty);
	for (int k = 1; k < 600; k = k * 3 + 1)
		for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
			snprintf(json, sizeof json, forms[i], k);
			one_of_twenty(&w, vector);
			expect_true(&w, json, vector);
		}
	free(vector);
	world_close(&w);
}

START_TEST(ties_are_ordered_by_key_in_a_small_index)
{
	ask_among_copies(12, VF_EUCLIDEAN, 900);
}
END_TEST

START_TEST(ties_are_ordered_by_key_in_a_large_index)
{
	ask_among_copies(40, VF_COSINE, 5000);
}
END_TEST

/* Squares that float32 cannot hold, large and small. */
static void of_any_size(struct world *w, float *out)
{
	double size = pow(10, 25 * (2 * uniform(&w->random) - 1));

	for (uint32_t i = 0; i < w->dim; i++)
		out[i] = (float)(size * gauss(&w->random));
}

START_TEST(vectors_of_any_size_are_measured)
{
	struct world w;
	float vector[8];

	for (size_t i = 0; i < 3; i++) {
		world_open(&w, 8, metrics[i]);
		world_fill(&w, 300, of_any_size);
		for (int k = 0; k < 30; k++) {
			of_any_size(&w, vector);
			expect_true(&w, "{\"exact\": true, \"filter\": {\"n\": {\"$gte\": 0}}}", vector);
			expect_true(&w, "{\"topK\": 250, \"exact\": true, \"returnDistance\": true}", vector);
		}
		world_close(&w);
	}
}
END_TEST

/* ---- linked indexes ---- */

START_TEST(a_large_index_answers_exactly_where_it_says_so)
{
	static const char *const exact[] = {
		"{\"topK\": 10, \"exact\": true, \"returnDistance\": true}",
		"{\"topK\": 1000000, \"exact\": true, \"returnDistance\": true}",
		"{\"topK\": 5990, \"returnDistance\": true}",
		"{\"topK\": 1000000, \"returnDistance\": true}",
		"{\"topK\": 10, \"filter\": {\"tag\": \"b\"}, \"returnDistance\": true}",
		"{\"topK\": 1500, \"filter\": {\"tag\": \"b\"}, \"returnDistance\": true}",
		"{\"topK\": 300, \"filter\": {\"n\": {\"$gte\": 100}}, \"returnDistance\": true}",
		"{\"topK\": 10, \"filter\": {\"n\": {\"$lt\": 30}}, \"returnDistance\": true}",
		"{\"topK\": 10, \"filter\": {\"n\": {\"$lt\": 300}}, \"exact\": true, \"returnDistance\": true}",
		"{\"topK\": 10, \"prefix\": \"k00\", \"returnDistance\": true}",
		"{\"topK\": 10, \"prefix\": \"k\", \"filter\": {\"tag\": \"a\"}, \"returnDistance\": true}",
	};
	float vector[64];
	struct world w;

	for (size_t i = 0; i < 3; i++) {
		world_open(&w, 64, metrics[i]);
		world_fill(&w, scaled(6000, LINKED_MIN), random_vector);
		for (size_t k = 0; k < sizeof exact / sizeof exact[0]; k++)
			for (int times = 0; times < 3; times++) {
				random_vector(&w, vector);
				expect_true(&w, exact[k], vector);
			}
		world_close(&w);
	}
}
END_TEST

START_TEST(the_recall_that_is_promised_is_reached)
{
	double recall[4] = { 0 };
	float vector[64];
	struct world w;

	world_open(&w, 64, VF_COSINE);
	world_fill(&w, scaled(12000, LINKED_MIN), random_vector);
	wait_for_stat(&w, "pending", true);
	wait_for_stat(&w, "ef", false);
	for (int i = 0; i < 100; i++) {
		random_vector(&w, vector);
		recall[0] += recall_of(&w, "{\"returnDistance\": true}", vector) / 100;
		recall[1] += recall_of(&w, "{\"returnDistance\": true, \"topK\": 100}", vector) / 100;
		recall[2] += recall_of(&w, "{\"returnDistance\": true, \"topK\": 1}", vector) / 100;
		recall[3] += recall_of(&w, "{\"returnDistance\": true, \"recall\": 0.999}", vector) / 100;
	}
	ck_assert_msg(recall[0] >= 0.98, "10 neighbours: %.4f", recall[0]);
	ck_assert_msg(recall[1] >= 0.98, "100 neighbours: %.4f", recall[1]);
	ck_assert_msg(recall[2] >= 0.97, "1 neighbour: %.4f", recall[2]);
	ck_assert_msg(recall[3] >= 0.99, "with recall 0.999: %.4f", recall[3]);
	world_close(&w);
}
END_TEST

START_TEST(many_questions_have_the_answers_of_each)
{
	enum { MANY = 150 };
	struct world w;
	float *vectors = malloc(MANY * 48 * sizeof *vectors);
	struct asked a;

	world_open(&w, 48, VF_EUCLIDEAN);
	world_fill(&w, scaled(5000, LINKED_MIN), random_vector);
	for (size_t i = 0; i < MANY; i++)
		random_vector(&w, vectors + i * 48);
	static const char *const jsons[] = {
		"{\"topK\": 5, \"exact\": true, \"returnDistance\": true}",
		"{\"topK\": 5, \"filter\": {\"tag\": \"d\"}, \"returnDistance\": true}",
		"{\"topK\": 4990, \"returnDistance\": true}",
	};
	for (size_t k = 0; k < 3; k++) {
		uint32_t n = k == 2 ? 3 : MANY;
		ask(&w, jsons[k], vectors, n, &a);
		const struct vf_value *results = member(&a.value, "results");
		ck_assert_uint_eq(results->count, n);
		for (size_t i = 0; i < n; i++)
			expect_answer(&w, &a, &results->items[i], vectors + i * 48, jsons[k]);
		asked_free(&a);
	}
	free(vectors);
	world_close(&w);
}
END_TEST

/* ---- without a vector ---- */

START_TEST(records_are_selected_in_key_order)
{
	static const char *const jsons[] = {
		"{}", "{\"topK\": 3}", "{\"topK\": 0}", "{\"topK\": 100000}", "{\"startAfter\": \"k0500000\"}",
		"{\"startAfter\": \"zzz\"}",
		"{\"prefix\": \"k01\"}", "{\"prefix\": \"k01\", \"topK\": 1000}",
		"{\"prefix\": \"k01\", \"startAfter\": \"k0150000\", \"topK\": 4}",
		"{\"prefix\": \"k01\", \"startAfter\": \"a\"}", "{\"prefix\": \"x\"}", "{\"prefix\": \"a\"}",
		"{\"filter\": {\"n\": {\"$lt\": 7}}, \"topK\": 100}", "{\"filter\": {\"tag\": \"a\"}, \"topK\": 5}",
		"{\"filter\": {\"tag\": \"a\"}, \"topK\": 100000}",
		"{\"filter\": {\"tag\": \"a\"}, \"startAfter\": \"k0500000\", \"topK\": 6}",
		"{\"filter\": {\"tag\": \"a\"}, \"prefix\": \"k03\", \"topK\": 100000}",
		"{\"filter\": {\"tag\": {\"$ne\": \"a\"}}, \"prefix\": \"k03\", \"startAfter\": \"k0350000\", \"topK\": 2}",
	};
	struct world w;

	world_open(&w, 4, VF_COSINE);
	world_fill(&w, 2000, random_vector);
	for (size_t i = 0; i < sizeof jsons / sizeof jsons[0]; i++)
		expect_true(&w, jsons[i], NULL);
	world_close(&w);
}
END_TEST

START_TEST(long_keys_are_in_order_too)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_receipt receipt;
	struct vf_batch *batch;
	struct asked a;
	struct world w;
	static const float vector[2] = { 1, 0 };
	struct vf_value nothing = { .kind = VF_MAP };
	char key[1001], json[1100], last[1001] = "";

	world_open(&w, 2, VF_EUCLIDEAN);
	ck_ok(vf_batch_new(w.index, &batch, &err));
	for (int i = 0; i < 60; i++) {
		/* Lengths about 464 and 479, where rows change their form, and beyond; the end differs. */
		size_t len = 460 + (size_t)(i * 11 % 500);
		memset(key, 'x', len);
		if (len > 470)
			key[466] = (char)('a' + i * 7 % 26);
		key[len] = '\0';
		batch_add(batch, key, vector, 2, &nothing);
	}
	ck_ok(vf_batch_apply(batch, &receipt, &err));
	vf_batch_free(&batch);
	ask(&w, "{\"topK\": 1000}", NULL, 0, &a);
	const struct vf_value *rows = member(&a.value, "vectors");
	ck_assert_int_eq(member(&a.value, "matched")->integer, (int64_t)receipt.inserted);
	ck_assert_uint_eq(rows->count, receipt.inserted);
	for (uint32_t i = 1; i < rows->count; i++)
		ck_assert_int_lt(vf_span_compare(member(&rows->items[i - 1], "key")->bytes,
		                                 member(&rows->items[i], "key")->bytes), 0);
	/* Page by page, it is the same list. */
	for (uint32_t i = 0; i < rows->count; i++) {
		struct asked page;
		snprintf(json, sizeof json, i ? "{\"topK\": 1, \"startAfter\": \"%s\"}" : "{\"topK\": 1}", last);
		ask(&w, json, NULL, 0, &page);
		struct vf_span found = member(&member(&page.value, "vectors")->items[0], "key")->bytes;
		ck_assert(vf_span_equal(found, member(&rows->items[i], "key")->bytes));
		memcpy(last, found.data, found.len);
		last[found.len] = '\0';
		asked_free(&page);
	}
	asked_free(&a);
	world_close(&w);
}
END_TEST

START_TEST(given_keys_are_answered_in_their_order)
{
	struct asked a;
	struct world w;
	char json[200];

	world_open(&w, 4, VF_COSINE);
	world_fill(&w, 50, random_vector);
	snprintf(json, sizeof json, "{\"keys\": [\"%s\", \"nobody\", \"%s\"], \"returnData\": true, \"returnMetadata\": true}",
	         w.things[9].key,
	         w.things[2].key);
	ask(&w, json, NULL, 0, &a);
	const struct vf_value *rows = member(&a.value, "vectors");
	ck_assert_uint_eq(rows->count, 2);
	ck_assert(vf_span_is(member(&rows->items[0], "key")->bytes, w.things[9].key));
	ck_assert(vf_span_is(member(&rows->items[1], "key")->bytes, w.things[2].key));
	ck_assert_int_eq(member(member(&rows->items[0], "metadata"), "n")->integer, 9);
	const struct vf_value *data = member(member(&rows->items[0], "data"), "float32");
	for (uint32_t i = 0; i < 4; i++)
		ck_assert_float_eq((float)data->items[i].real, w.things[9].vector[i]);
	asked_free(&a);
	world_close(&w);
}
END_TEST

START_TEST(facets_count_what_matches)
{
	static const char *const jsons[] = {
		"{\"topK\": 1, \"facets\": [\"tag\"], \"filter\": {\"n\": {\"$lt\": 13}}}",
		"{\"topK\": 1, \"facets\": [\"tag\"], \"filter\": {\"n\": {\"$lt\": 13}}, \"key\": \"k0000000\"}",
	};
	struct asked a;
	struct world w;

	world_open(&w, 4, VF_COSINE);
	world_fill(&w, 100, random_vector);
	for (size_t i = 0; i < 2; i++) {
		/* 0 to 12: a, b, c three times, d and e twice; 0, which is an a, is left out when it is what is asked about. */
		ask(&w, jsons[i], NULL, 0, &a);
		const struct vf_value *tags = member(member(&a.value, "facets"), "tag");
		ck_assert_uint_eq(tags->count, 5);
		int64_t of_a = 0, all = 0;
		for (uint32_t k = 0; k < 5; k++) {
			int64_t count = member(&tags->items[k], "count")->integer;
			all += count;
			if (vf_span_is(member(&tags->items[k], "value")->bytes, "a"))
				of_a = count;
		}
		ck_assert_int_eq(of_a, 3 - (int64_t)i);
		ck_assert_int_eq(all, 13 - (int64_t)i);
		asked_free(&a);
	}
	ask(&w, "{\"topK\": 1, \"facets\": [\"tag\"]}", w.things[0].vector, 1, &a);
	ck_assert_int_eq(member(&member(member(&a.value, "facets"), "tag")->items[0], "count")->integer, 20);
	asked_free(&a);
	world_close(&w);
}
END_TEST

START_TEST(explain_names_the_way)
{
	static const struct { const char *json, *plan; bool vector; } cases[] = {
		{ "{\"explain\": true}", "keys in order", false },
		{ "{\"explain\": true}", "scan of vectors in memory", true },
		{ "{\"explain\": true, \"filter\": {\"n\": 3}}", "scan of vectors", true },
		{ "{\"explain\": true, \"filter\": {\"n\": -3}}", "nothing matches", true },
	};
	struct asked a;
	struct world w;

	world_open(&w, 16, VF_COSINE);
	world_fill(&w, 1000, random_vector);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		ask(&w, cases[i].json, cases[i].vector ? w.things[5].vector : NULL, cases[i].vector, &a);
		const struct vf_value *explain = member(&a.value, "explain");
		ck_assert_msg(vf_span_is(member(explain, "plan")->bytes, cases[i].plan), "case %zu: %.*s", i,
		              VF_SPAN_ARG(member(explain, "plan")->bytes));
		ck_assert_int_eq(member(explain, "matched")->integer, member(&a.value, "matched")->integer);
		member(explain, "microseconds");
		asked_free(&a);
	}
	world_close(&w);
}
END_TEST

static void expect_plan_of(struct world *w, const char *json, const float *vector, const char *plan)
{
	struct asked a;

	ask(w, json, vector, 1, &a);
	const struct vf_value *explain = member(&a.value, "explain");
	ck_assert_msg(vf_span_is(member(explain, "plan")->bytes, plan), "%s: %.*s", json, VF_SPAN_ARG(member(explain, "plan")->bytes));
	asked_free(&a);
}

static void expect_plan(struct world *w, const float *vector, const char *plan)
{
	struct asked a;

	ask(w, "{\"explain\": true}", vector, 1, &a);
	const struct vf_value *explain = member(&a.value, "explain");
	ck_assert_msg(vf_span_is(member(explain, "plan")->bytes, plan), "%.*s", VF_SPAN_ARG(member(explain, "plan")->bytes));
	ck_assert_uint_eq((uint64_t)member(explain, "records")->integer, w->n);
	asked_free(&a);
}

START_TEST(the_first_question_after_opening_does_without_the_graph)
{
	struct world w;
	float vector[24];

	for (size_t m = 0; m < 3; m++) {
		world_open(&w, 24, metrics[m]);
		world_fill(&w, 1500, random_vector);
		for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
			vf_index_close(&w.index);
			world_open_index(&w);
			random_vector(&w, vector);
			expect_true(&w, questions[i], vector);
			/* The second waits for it. */
			random_vector(&w, vector);
			expect_true(&w, questions[i], vector);
		}
		vf_index_close(&w.index);
		world_open_index(&w);
		world_cache(&w);
		expect_plan(&w, vector, "scan of vectors");
		expect_plan(&w, vector, "scan of vectors in memory");
		/* Closed while it is loaded behind a question. */
		vf_index_close(&w.index);
		world_open_index(&w);
		world_cache(&w);
		expect_plan(&w, vector, "scan of vectors");
		world_close(&w);
	}
}
END_TEST

/* Far from the origin, for their spread. */
static void far_vector(struct world *w, float *out)
{
	random_vector(w, out);
	for (uint32_t i = 0; i < w->dim; i++)
		out[i] += 500;
}

/* Some numbers are much larger than others. */
static void rough_vector(struct world *w, float *out)
{
	for (uint32_t i = 0; i < w->dim; i++) {
		double x = gauss(&w->random);
		out[i] = (float)(x * x * x);
	}
}

/* Hardly one without an equal, or nearly so. */
static void repeated_vector(struct world *w, float *out)
{
	uint64_t which = next_random(&w->random) % 40 + 1;

	for (uint32_t i = 0; i < w->dim; i++)
		out[i] = (float)(gauss(&which) + (next_random(&w->random) % 50 ? 0 : 1e-4));
}

START_TEST(exact_answers_are_proven_by_codes)
{
	static void (*const kinds[])(struct world *w, float *out) = { random_vector, far_vector, rough_vector, repeated_vector };
	static const char *const asked[] = {
		"{\"topK\": 10, \"exact\": true, \"returnDistance\": true}",
		"{\"topK\": 3, \"filter\": {\"tag\": \"b\"}, \"exact\": true, \"returnDistance\": true}",
		"{\"topK\": 10, \"recall\": 1, \"returnDistance\": true}",
	};
	const char *explained = "{\"exact\": true, \"explain\": true}";
	float vector[64];
	struct world w;

	for (size_t m = 0; m < 3; m++)
		for (size_t kind = 0; kind < 4; kind++) {
			world_open(&w, 64, metrics[m]);
			world_fill(&w, scaled(6000, LINKED_MIN), kinds[kind]);
			/* Before and after its codes were read from disk. */
			for (int opened = 0; opened < 2; opened++) {
				for (size_t i = 0; i < 5 * sizeof asked / sizeof asked[0]; i++) {
					kinds[kind](&w, vector);
					expect_true(&w, asked[i % (sizeof asked / sizeof asked[0])], vector);
				}
				/* Of equal vectors, and of long products, more may be nearest than are worth proving. */
				if (kind < (metrics[m] == VF_DOT ? 1 : 3))
					expect_plan_of(&w, explained, vector, "scan of codes");
				wait_for_stat(&w, "pending", true);
				vf_index_close(&w.index);
				world_open_index(&w);
			}
			world_close(&w);
		}
}
END_TEST

START_TEST(wrong_questions_are_refused)
{
	static const float vector[8] = { 1 };
	struct vf_err err = VF_ERR_INIT;
	struct vf_spool spool;
	struct asked a;
	struct world w;

	world_open(&w, 4, VF_COSINE);
	world_fill(&w, 10, random_vector);
	struct vf_question q = { .format = VF_JSON, .vectors = vector, .nvectors = 1, .dim = 8 };
	vf_spool_init(&spool, NULL);
	ck_fails(vf_index_ask(w.index, &q, &spool, &err), EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "8 numbers, index docs has 4"));
	ck_fails(try_to_ask(&w, "{\"key\": \"nobody\"}", NULL, 0, &a, &err), ENOENT);
	asked_free(&a);
	vf_spool_free(&spool);
	world_close(&w);
}
END_TEST

/* ---- beside writers ---- */

/* A writer that asks after each write finds what it wrote. */
struct writer {
	struct world *w;
	unsigned number, rounds, unseen;
	const char *json;
	pthread_t thread;
};

static void put_one(struct world *w, const char *key, const float *vector, int64_t n)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_receipt receipt;
	struct vf_batch *batch;
	struct thing t = { .gone = false };

	thing_tag(&t, n);
	ck_ok(vf_batch_new(w->index, &batch, &err));
	batch_add(batch, key, vector, w->dim, &t.metadata);
	ck_ok(vf_batch_apply(batch, &receipt, &err));
	vf_batch_free(&batch);
}

static bool is_seen(struct world *w, const char *json, const char *key, const float *vector, int64_t n)
{
	struct asked a;

	ask(w, json, vector, 1, &a);
	const struct vf_value *rows = member(&a.value, "vectors");
	ck_assert_uint_eq(rows->count, 5);
	bool seen = vf_span_is(member(&rows->items[0], "key")->bytes, key);
	if (seen) {
		ck_assert_double_eq(member(&rows->items[0], "distance")->real, 0);
		ck_assert_int_eq(member(member(&rows->items[0], "metadata"), "n")->integer, n);
	}
	asked_free(&a);
	return seen;
}

static void *write_and_ask(void *arg)
{
	struct writer *me = arg;
	struct world own = *me->w;
	float *vector = malloc(own.dim * sizeof *vector);
	char key[32];

	own.random = 1000 + me->number;
	for (unsigned round = 0; round < me->rounds; round++) {
		snprintf(key, sizeof key, "w%u-%u", me->number, round % 3);
		random_vector(&own, vector);
		put_one(me->w, key, vector, 1000000 + round);
		me->unseen += !is_seen(me->w, me->json, key, vector, 1000000 + round);
	}
	free(vector);
	return NULL;
}

static void write_beside_questions(size_t n, uint32_t dim)
{
	static const char *const jsons[] = {
		"{\"topK\": 5, \"ef\": 64, \"returnDistance\": true, \"returnMetadata\": true}",
		"{\"topK\": 5, \"filter\": {\"n\": {\"$gte\": 0}}, \"returnDistance\": true, \"returnMetadata\": true}",
		"{\"topK\": 5, \"filter\": {\"n\": {\"$gt\": 50}}, \"returnDistance\": true, \"returnMetadata\": true}",
	};
	struct writer writers[3];
	struct world w;

	world_open(&w, dim, VF_EUCLIDEAN);
	world_fill(&w, n, random_vector);
	for (unsigned i = 0; i < 3; i++) {
		writers[i] = (struct writer){ .w = &w, .number = i, .rounds = scaled(80, 20), .json = jsons[i] };
		ck_assert_int_eq(pthread_create(&writers[i].thread, NULL, write_and_ask, &writers[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(writers[i].thread, NULL);
		ck_assert_msg(writers[i].unseen == 0, "%s: %u of %u writes were not seen", jsons[i],
		              writers[i].unseen,
		              writers[i].rounds);
	}
	world_close(&w);
}

START_TEST(a_writer_sees_its_own_writes_in_a_small_index)
{
	write_beside_questions(300, 8);
}
END_TEST

START_TEST(a_writer_sees_its_own_writes_in_a_large_index)
{
	write_beside_questions(scaled(12000, LINKED_MIN), 40);
}
END_TEST

/* Ten records near one place, replaced again and again without leaving it, must all be in every answer. */
enum { RESTLESS = 10 };
static atomic_bool replacing;

static void find_place(uint32_t dim, float *place)
{
	uint64_t centre = FIRST_CENTRE;

	for (uint32_t i = 0; i < dim; i++)
		place[i] = (float)gauss(&centre);
}

static void *replace(void *arg)
{
	struct world *w = arg;
	uint64_t random = 5;
	float *vector = malloc(w->dim * sizeof *vector), *place = malloc(w->dim * sizeof *place);
	char key[32];

	find_place(w->dim, place);
	for (int round = 0, rounds = (int)scaled(200, 50); round < rounds; round++) {
		for (uint32_t i = 0; i < w->dim; i++)
			vector[i] = place[i] + (float)(0.001 * gauss(&random));
		snprintf(key, sizeof key, "restless-%d", round % RESTLESS);
		put_one(w, key, vector, 1000000);
	}
	atomic_store(&replacing, false);
	free(place);
	free(vector);
	return NULL;
}

static void replace_beside_questions(const char *json, size_t n, uint32_t dim)
{
	struct world w;
	pthread_t thread;
	float *place = malloc(dim * sizeof *place);
	char key[32];

	find_place(dim, place);
	world_open(&w, dim, VF_EUCLIDEAN);
	world_fill(&w, n, random_vector);
	for (int i = 0; i < RESTLESS; i++) {
		snprintf(key, sizeof key, "restless-%d", i);
		put_one(&w, key, place, 1000000);
	}
	atomic_store(&replacing, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, replace, &w), 0);
	while (atomic_load(&replacing)) {
		unsigned seen = 0;
		struct asked a;
		ask(&w, json, place, 1, &a);
		const struct vf_value *rows = member(&a.value, "vectors");
		for (uint32_t i = 0; i < rows->count; i++) {
			struct vf_span row = member(&rows->items[i], "key")->bytes;
			ck_assert_msg(vf_span_has_prefix(row, vf_span_str("restless-")), "%.*s is in the answer",
			              VF_SPAN_ARG(row));
			seen |= 1u << (row.data[9] - '0');
		}
		ck_assert_uint_eq(seen, (1u << RESTLESS) - 1);
		asked_free(&a);
	}
	pthread_join(thread, NULL);
	free(place);
	world_close(&w);
}

START_TEST(a_record_that_is_replaced_is_never_out_of_sight)
{
	replace_beside_questions("{\"topK\": 10}", 200, 8);
	/* Through the graph. */
	replace_beside_questions("{\"topK\": 10, \"ef\": 40}", scaled(12000, LINKED_MIN), 40);
}
END_TEST

START_TEST(a_record_that_is_replaced_is_never_out_of_a_filters_sight)
{
	replace_beside_questions("{\"topK\": 10, \"filter\": {\"n\": {\"$gte\": 0}}}", 200, 8);
	replace_beside_questions("{\"topK\": 10, \"filter\": {\"n\": {\"$gte\": 0}}}", scaled(5000, LINKED_MIN), 40);
}
END_TEST

START_TEST(records_that_are_gone_are_not_answered)
{
	struct vf_err err = VF_ERR_INIT;
	float vector[40];
	struct world w;

	world_open(&w, 40, VF_COSINE);
	world_fill(&w, scaled(5000, LINKED_MIN), random_vector);
	for (int round = 0; round < 4; round++) {
		for (size_t i = (size_t)round, end = scaled((unsigned)w.n, 1000); i < end; i += 7)
			if (!w.things[i].gone) {
				ck_ok(vf_index_remove(w.index, vf_span_str(w.things[i].key), &err));
				w.things[i].gone = true;
			}
		random_vector(&w, vector);
		expect_true(&w, "{\"topK\": 20, \"filter\": {\"tag\": {\"$ne\": \"a\"}}, \"returnDistance\": true}", vector);
		expect_true(&w, "{\"topK\": 4000, \"exact\": true, \"returnDistance\": true}", vector);
		ck_assert_double_ge(recall_of(&w, "{\"topK\": 20, \"ef\": 400, \"returnDistance\": true}", vector), 0.9);
	}
	world_close(&w);
}
END_TEST

CHECK_MAIN("ask",
	a_small_index_answers_as_brute_force_does, an_empty_index_has_an_empty_answer, max_distance_cuts_rows_and_leaves_matched,
	a_stored_vector_is_asked_about_without_itself, near_names_the_neighbours_that_an_answer_has,
	ties_are_ordered_by_key_in_a_small_index,
	ties_are_ordered_by_key_in_a_large_index, vectors_of_any_size_are_measured,
	a_large_index_answers_exactly_where_it_says_so, exact_answers_are_proven_by_codes,
	the_recall_that_is_promised_is_reached, many_questions_have_the_answers_of_each, records_are_selected_in_key_order,
	long_keys_are_in_order_too, given_keys_are_answered_in_their_order, facets_count_what_matches, explain_names_the_way,
	the_first_question_after_opening_does_without_the_graph,
	wrong_questions_are_refused, a_writer_sees_its_own_writes_in_a_small_index, a_writer_sees_its_own_writes_in_a_large_index,
	a_record_that_is_replaced_is_never_out_of_sight, a_record_that_is_replaced_is_never_out_of_a_filters_sight,
	records_that_are_gone_are_not_answered)
