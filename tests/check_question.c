/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>

#include "codec.h"
#include "vecfs/question.h"

static struct vf_config some_config(const char *text)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_config config;

	vf_config_init(&config);
	ck_ok(vf_config_change(&config, vf_span_str(text), &err));
	return config;
}

static int ask(const char *json, enum vf_format format, const struct vf_config *config, struct vf_arena *arena, struct vf_question *q,
               struct vf_err *err)
{
	struct vf_value value = decoded(json, format, arena);

	return vf_question_from_value(&value, format, config, "docs", arena, q, err);
}

/* A question in words, so that a table can say what was understood. */
static const char *in_words(const struct vf_question *q, struct vf_buf *out)
{
	struct vf_err err = VF_ERR_INIT;

	vf_buf_clear(out);
	for (uint32_t i = 0; i < q->nvectors * q->dim; i++)
		ck_ok(vf_buf_printf(out, &err, "%s%g", i == 0 ? "vector " : i % q->dim ? "," : " | ", (double)q->vectors[i]));
	if (q->many)
		ck_ok(vf_buf_put_str(out, " many", &err));
	if (q->key.len)
		ck_ok(vf_buf_printf(out, &err, " key %.*s", VF_SPAN_ARG(q->key)));
	for (size_t i = 0; i < q->nkeys; i++)
		ck_ok(vf_buf_printf(out, &err, " keys %.*s", VF_SPAN_ARG(q->keys[i])));
	if (q->has_top_k)
		ck_ok(vf_buf_printf(out, &err, " k %llu", (unsigned long long)q->top_k));
	if (q->filter) {
		ck_ok(vf_buf_put_str(out, " filter ", &err));
		ck_ok(vf_filter_print(q->filter, out, &err));
	}
	if (q->prefix.len)
		ck_ok(vf_buf_printf(out, &err, " prefix %.*s", VF_SPAN_ARG(q->prefix)));
	if (q->start_after.len)
		ck_ok(vf_buf_printf(out, &err, " after %.*s", VF_SPAN_ARG(q->start_after)));
	ck_ok(vf_buf_printf(out, &err, "%s%s%s%s%s", q->return_metadata ? " metadata" : "", q->return_distance ? " distance" : "",
	                    q->return_data ? " data" : "", q->exact ? " exact" : "", q->explain ? " explain" : ""));
	if (q->has_max_distance)
		ck_ok(vf_buf_printf(out, &err, " within %g", q->max_distance));
	if (q->ef)
		ck_ok(vf_buf_printf(out, &err, " ef %u", q->ef));
	if (q->recall > 0)
		ck_ok(vf_buf_printf(out, &err, " recall %g", q->recall));
	for (uint32_t i = 0; i < q->nfacets; i++)
		ck_ok(vf_buf_printf(out, &err, " facet %.*s", VF_SPAN_ARG(q->facets[i])));
	ck_ok(vf_buf_put(out, "", 1, &err));
	return (const char *)out->data;
}

static const char *const good[][2] = {
	{ "{}", "" },
	{ "{\"queryVector\":{\"float32\":[1,2]}}", "vector 1,2" },
	{ "{\"queryVector\":[0,0.5],\"topK\":3}", "vector 0,0.5 k 3" },
	{ "{\"vectorBucketName\":\"b\",\"indexName\":\"docs\",\"topK\":5,\"queryVector\":{\"float32\":[1,2]},\"filter\":{\"a\":1},"
	  "\"returnMetadata\":true,\"returnDistance\":true}", "vector 1,2 k 5 filter {\"a\": 1} metadata distance" },
	{ "{\"queryVectors\":[[1,2]]}", "vector 1,2 many" },
	{ "{\"queryVectors\":[[1,2],{\"float32\":[3,4]},[5,6]],\"exact\":true,\"maxDistance\":-1}", "vector 1,2 | 3,4 | 5,6 many exact within -1" },
	{ "{\"key\":\"doc-1\",\"returnData\":true,\"recall\":1,\"maxDistance\":0.25}", "key doc-1 data within 0.25 recall 1" },
	{ "{\"queryVector\":[1,2],\"ef\":65536}", "vector 1,2 ef 65536" },
	{ "{\"queryVector\":[1,2],\"ef\":1,\"exact\":false,\"explain\":true}", "vector 1,2 explain ef 1" },
	{ "{\"queryVector\":[1,2],\"recall\":0.5,\"prefix\":\"p/\"}", "vector 1,2 prefix p/ recall 0.5" },
	{ "{\"topK\":0,\"filter\":{\"a\":{\"$gt\":5}},\"facets\":[\"lang\",\"year\"]}", "k 0 filter {\"a\": {\"$gt\": 5}} facet lang facet year" },
	{ "{\"topK\":9223372036854775807}", "k 9223372036854775807" },
	{ "{\"prefix\":\"a\",\"startAfter\":\"abc\",\"returnMetadata\":false}", "prefix a after abc" },
	{ "{\"prefix\":\"\",\"startAfter\":\"\"}", "" },
	{ "{\"maxResults\":7,\"nextToken\":\"k7\",\"returnData\":true,\"returnMetadata\":true}", "k 7 after k7 metadata data" },
	{ "{\"keys\":[\"b\",\"a\",\"b\"],\"returnData\":true}", "keys b keys a keys b data" },
};

START_TEST(a_question_is_understood_the_same_in_both_formats)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf words = VF_BUF_INIT;
	struct vf_config config = some_config("dimension = 2\nmetric = dot\nnon_filterable = body");

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		for (size_t f = 0; f < 2; f++) {
			struct vf_err err = VF_ERR_INIT;
			struct vf_question q;
			int rc = ask(good[i][0], both_formats[f], &config, &arena, &q, &err);
			ck_assert_msg(rc == 0, "%s: %s", good[i][0], err.text);
			const char *got = in_words(&q, &words);
			ck_assert_str_eq(*got == ' ' ? got + 1 : got, good[i][1]);
			ck_assert_int_eq(q.format, both_formats[f]);
		}
	}
	vf_buf_free(&words);
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

#define V "\"queryVector\":[1,2]"
static const char *const bad[][2] = {
	{ "[1,2]", "a question is a map, this is a list" },
	{ "null", "a question is a map, this is null" },
	{ "{\"vector\":[1,2]}", "unknown field 'vector'; a question may have queryVector, queryVectors, key, keys, topK" },
	{ "{" V ",\"topk\":1}", "unknown field 'topk'" },
	{ "{" V ",\"segmentCount\":1,\"segmentIndex\":0}", "segmentCount and queryVector exclude one another" },
	{ "{\"segmentCount\":2}", "segmentCount and segmentIndex need one another" },
	{ "{\"segmentIndex\":0}", "segmentCount and segmentIndex need one another" },
	{ "{\"segmentCount\":2,\"segmentIndex\":2}", "segmentIndex is 2; of 2 segments the last is 1" },
	{ "{\"segmentCount\":17,\"segmentIndex\":2}", "segmentCount is 17; it must be 1 to 16" },
	{ "{\"segmentCount\":0,\"segmentIndex\":0}", "segmentCount is 0; it must be 1 to 16" },
	{ "{\"segmentCount\":2,\"segmentIndex\":\"0\"}", "segmentIndex is a string; it must be a whole number" },
	{ "{\"keys\":[\"a\"],\"segmentCount\":2,\"segmentIndex\":0}", "keys and segmentCount exclude one another" },
	{ "{" V ",\"topK\":-1}", "topK is -1; it must be 0 or more" },
	{ "{" V ",\"topK\":1.0}", "topK is a float; it must be a whole number" },
	{ "{" V ",\"topK\":\"10\"}", "topK is a string; it must be a whole number" },
	{ "{" V ",\"topK\":null}", "topK is null" },
	{ "{\"queryVector\":[1,2,3]}", "queryVector has 3 numbers, index docs has 2" },
	{ "{\"queryVector\":[]}", "queryVector has 0 numbers" },
	{ "{\"queryVector\":\"x\"}", "queryVector is a string; it must be {\"float32\": [...]}" },
	{ "{\"queryVector\":[1,\"2\"]}", "queryVector[1] is a string; it must be a number" },
	{ "{\"queryVector\":[1,1e39]}", "queryVector[1] is 1e+39, beyond what float32 holds" },
	{ "{\"queryVector\":[0,0]}", "queryVector is all zeros" },
	{ "{\"queryVector\":{\"float64\":[1,2]}}", "queryVector has the unknown field 'float64'" },
	{ "{\"queryVectors\":[1,2]}", "queryVectors[0] is an integer" },
	{ "{\"queryVectors\":[]}", "queryVectors has 0 vectors; 1 to 10000 are taken" },
	{ "{\"queryVectors\":{\"float32\":[1,2]}}", "queryVectors is a map; it must be a list of vectors" },
	{ "{\"queryVectors\":[[1,2],[1]]}", "queryVectors[1] has 1 numbers, index docs has 2" },
	{ "{\"queryVectors\":[[1,2],[0,0]]}", "queryVectors[1] is all zeros" },
	{ "{\"queryVectors\":[[1,2],[0,null]]}", "queryVectors[1][1] is null" },
	{ "{" V ",\"queryVectors\":[[1,2]]}", "queryVector and queryVectors exclude one another" },
	{ "{\"queryVectors\":[[1,2]]," V "}", "queryVectors and queryVector exclude one another" },
	{ "{\"key\":\"k\"," V "}", "key and queryVector exclude one another" },
	{ "{\"key\":\"k\",\"keys\":[\"k\"]}", "key and keys exclude one another" },
	{ "{\"keys\":[\"k\"]," V "}", "keys and queryVector exclude one another" },
	{ "{\"key\":\"\"}", "key: a key has 1 to 1024 bytes" },
	{ "{\"key\":5}", "key is an integer; it must be a string" },
	{ "{\"keys\":[]}", "keys is an empty list" },
	{ "{\"keys\":[\"k\"],\"filter\":{\"a\":1}}", "keys and filter exclude one another" },
	{ "{\"keys\":[\"k\"],\"prefix\":\"k\"}", "keys and prefix exclude one another" },
	{ "{\"keys\":[\"k\"],\"topK\":1}", "keys and topK exclude one another" },
	{ "{\"keys\":[\"k\"],\"startAfter\":\"a\"}", "keys and startAfter exclude one another" },
	{ "{\"keys\":[\"k\"],\"facets\":[\"a\"]}", "keys and facets exclude one another" },
	{ "{" V ",\"startAfter\":\"a\"}", "startAfter and queryVector exclude one another" },
	{ "{\"startAfter\":\"a\",\"key\":\"k\"}", "startAfter and key exclude one another" },
	{ "{" V ",\"startAfter\":\"\"}", "startAfter and queryVector exclude one another" },
	{ "{" V ",\"nextToken\":\"a\"}", "nextToken and queryVector exclude one another" },
	{ "{" V ",\"maxResults\":1}", "maxResults and queryVector exclude one another" },
	{ "{\"maxResults\":1,\"topK\":1}", "topK and maxResults exclude one another" },
	{ "{\"nextToken\":\"a\",\"startAfter\":\"b\"}", "startAfter and nextToken exclude one another" },
	{ "{\"startAfter\":1}", "startAfter is an integer; it must be a string" },
	{ "{\"prefix\":[\"a\"]}", "prefix is a list; it must be a string" },
	{ "{" V ",\"filter\":{}}", "filter" },
	{ "{" V ",\"filter\":null}", "filter" },
	{ "{" V ",\"filter\":{\"a\":{\"$foo\":1}}}", "$foo" },
	{ "{" V ",\"filter\":{\"$or\":[{\"a\":1},{\"body\":\"x\"}]}}", "body" },
	{ "{" V ",\"returnMetadata\":1}", "returnMetadata is an integer; it must be true or false" },
	{ "{" V ",\"returnDistance\":\"true\"}", "returnDistance is a string" },
	{ "{" V ",\"returnData\":null}", "returnData is null" },
	{ "{" V ",\"exact\":1}", "exact is an integer" },
	{ "{" V ",\"explain\":\"yes\"}", "explain is a string" },
	{ "{" V ",\"maxDistance\":\"1\"}", "maxDistance is a string; it must be a number" },
	{ "{\"maxDistance\":1}", "maxDistance needs a queryVector, queryVectors or key" },
	{ "{" V ",\"ef\":0}", "ef is 0; it must be 1 to 65536" },
	{ "{" V ",\"ef\":65537}", "ef is 65537" },
	{ "{" V ",\"ef\":64.0}", "ef is a float" },
	{ "{" V ",\"recall\":0}", "recall is 0; it must be above 0 and at most 1" },
	{ "{" V ",\"recall\":1.01}", "recall is 1.01" },
	{ "{" V ",\"recall\":-0.5}", "recall is -0.5" },
	{ "{" V ",\"recall\":\"high\"}", "recall is a string; it must be a number" },
	{ "{" V ",\"recall\":0.9,\"ef\":9}", "ef and recall exclude one another" },
	{ "{\"facets\":[]}", "facets is an empty list" },
	{ "{\"facets\":\"lang\"}", "facets is a string; it must be a list of strings" },
	{ "{\"facets\":[\"lang\",7]}", "facets[1] is an integer; it must be a string" },
	{ "{\"facets\":[\"lang\",\"body\"]}", "facets[1]: field 'body' is non_filterable in this index" },
	{ "{\"facets\":[\"lang\",\"year\",\"lang\"]}", "facets has the field 'lang' twice" },
	{ "{\"indexName\":7}", "indexName is an integer; it must be a string" },
};

START_TEST(a_wrong_question_is_refused_with_the_reason)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config("dimension = 2\nnon_filterable = body");

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		for (size_t f = 0; f < 2; f++) {
			struct vf_err err = VF_ERR_INIT;
			struct vf_question q;
			int rc = ask(bad[i][0], both_formats[f], &config, &arena, &q, &err);
			ck_assert_msg(rc == -EINVAL, "%s: %d", bad[i][0], rc);
			ck_says(err, bad[i][1]);
		}
	}
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(numbers_that_only_msgpack_has_are_refused)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config("dimension = 2");
	struct vf_question q;
	static const struct { const char *bytes; size_t len; const char *says; } cases[] = {
		{ "\x81\xabqueryVector\x92\x01\xca\x7f\xc0\0\0", 20, "queryVector[1] is NaN" },
		{ "\x81\xabqueryVector\x92\xca\xff\x80\0\0\x01", 20, "queryVector[0] is infinite" },
		{ "\x81\xabqueryVector\xc4\x08\0\0\x80\x3f\0\0\x80\x7f", 23, "queryVector[1] is infinite" },
		{ "\x81\xabqueryVector\xc4\x07\0\0\x80\x3f\0\0\x80", 22, "queryVector is binary of 7 bytes" },
		{ "\x82\xabqueryVector\x92\x01\x02\xabmaxDistance\xcb\x7f\xf0\0\0\0\0\0\0", 37, "maxDistance is inf; it must be a finite number" },
		{ "\x82\xabqueryVector\x92\x01\x02\xa6recall\xcb\x7f\xf8\0\0\0\0\0\0", 32, "recall is nan" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct vf_value value;
		ck_ok(vf_value_decode(VF_MSGPACK, vf_span(cases[i].bytes, cases[i].len), &arena, &value, &err));
		ck_fails(vf_question_from_value(&value, VF_MSGPACK, &config, "docs", &arena, &q, &err), EINVAL);
		ck_says(err, cases[i].says);
	}
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(a_question_to_an_index_without_dimension_says_so)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config("");
	struct vf_question q;

	ck_fails(ask("{\"queryVector\":[1,2,3]}", VF_JSON, &config, &arena, &q, &err), EINVAL);
	ck_says(err, "set the dimension first: write 'dimension = 3' to config");
	ck_ok(ask("{\"topK\":0}", VF_JSON, &config, &arena, &q, &err));
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(many_vectors_are_taken_up_to_the_limit)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config("dimension = 2");

	for (uint32_t n = VF_QUESTION_VECTORS_MAX; n <= VF_QUESTION_VECTORS_MAX + 1; n++) {
		struct vf_value number = { .kind = VF_INT, .integer = 1 }, pair[2] = { number, number };
		struct vf_value *rows = malloc(n * sizeof *rows);
		for (uint32_t i = 0; i < n; i++)
			rows[i] = (struct vf_value){ .kind = VF_LIST, .count = 2, .items = pair };
		struct vf_entry entry = { vf_span_str("queryVectors"), { .kind = VF_LIST, .count = n, .items = rows } };
		struct vf_value value = { .kind = VF_MAP, .count = 1, .entries = &entry };
		struct vf_question q;
		int rc = vf_question_from_value(&value, VF_JSON, &config, "docs", &arena, &q, &err);
		ck_assert_int_eq(rc, n <= VF_QUESTION_VECTORS_MAX ? 0 : -EINVAL);
		free(rows);
	}
	ck_says(err, "queryVectors has 10001 vectors; 1 to 10000 are taken");
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

/* ---- answers ---- */

static const float two[] = { 0.5f, -2 };
static const struct vf_answer_row rows[] = {
	{ .key = { (const uint8_t *)"doc-7", 5 }, .distance = 0.0625, .metadata = { (const uint8_t *)"\x81\xa1" "a\xc3", 4 }, .vector = two, .dim = 2 },
	{ .key = { (const uint8_t *)"doc\"8", 5 }, .distance = 1, .metadata = { (const uint8_t *)"\x80", 1 }, .vector = two, .dim = 2 },
};

static void write_answer(struct vf_answer *a, const struct vf_question *q, struct vf_spool *spool, const struct vf_answer_head *head,
                         size_t n)
{
	struct vf_err err = VF_ERR_INIT;

	ck_ok(vf_answer_begin(a, q, spool, head, n, &err));
	for (size_t i = 0; i < n; i++)
		ck_ok(vf_answer_row(a, &rows[i % 2], &err));
	ck_ok(vf_answer_end(a, head, &err));
}

/* The answer as JSON text, whatever format it was written in: equal in both when all counts of msgpack are right. */
static void ck_answer(const struct vf_spool *spool, enum vf_format format, const char *json)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf bytes = VF_BUF_INIT, text = VF_BUF_INIT;
	struct vf_value value;
	struct vf_emitter e;
	size_t size = (size_t)vf_spool_size(spool);

	ck_ok(vf_buf_reserve(&bytes, size, &err));
	ck_assert_int_eq(vf_spool_read(spool, 0, bytes.data, size), (int64_t)size);
	bytes.len = size;
	if (format == VF_JSON) {
		ck_span(vf_buf_span(&bytes), json);
	} else {
		ck_ok(vf_value_decode(format, vf_buf_span(&bytes), &arena, &value, &err));
		vf_emit_begin(&e, VF_JSON, &text);
		vf_emit_value(&e, &value);
		ck_ok(vf_emit_end(&e, &err));
		ck_ok(vf_buf_put_str(&text, "\n", &err));
		ck_span(vf_buf_span(&text), json);
	}
	vf_buf_free(&bytes);
	vf_buf_free(&text);
	vf_arena_free(&arena);
}

static struct vf_value integer(int64_t i) { return (struct vf_value){ .kind = VF_INT, .integer = i }; }
static struct vf_value string(const char *s) { return (struct vf_value){ .kind = VF_STRING, .bytes = vf_span_str(s) }; }

START_TEST(an_answer_has_what_the_question_asked_for)
{
	const float vector[] = { 1, 2 };
	struct vf_facet_value langs[] = { { string("en"), 7 }, { integer(5), 1 } };
	/* The names are cut out of longer texts: no NUL stands behind them. */
	struct vf_answer_facet facets[] = { { vf_span("language", 4), langs, 2 }, { vf_span("years", 4), NULL, 0 } };
	struct vf_entry plan[] = { { vf_span_str("plan"), string("scan") }, { vf_span_str("ef"), integer(64) } };
	struct vf_value explain = { .kind = VF_MAP, .count = 2, .entries = plan };
	const struct { struct vf_question q; struct vf_answer_head head; size_t n; const char *json; } cases[] = {
		{ { .vectors = vector }, { .has_metric = true, .metric = VF_COSINE, .matched = 812, .exact = true }, 2,
		  "{\"vectors\": [{\"key\": \"doc-7\"}, {\"key\": \"doc\\\"8\"}], \"distanceMetric\": \"cosine\", \"matched\": 812, \"exact\": true}\n" },
		{ { .vectors = vector, .return_distance = true }, { .has_metric = true, .metric = VF_DOT, .matched = 2 }, 2,
		  "{\"vectors\": [{\"key\": \"doc-7\", \"distance\": 0.0625}, {\"key\": \"doc\\\"8\", \"distance\": 1.0}], \"distanceMetric\": \"dot\", "
		  "\"matched\": 2, \"exact\": false}\n" },
		{ { .key = vf_span_str("k"), .return_distance = true, .return_metadata = true, .return_data = true },
		  { .has_metric = true, .metric = VF_EUCLIDEAN, .matched = 2 }, 2,
		  "{\"vectors\": [{\"key\": \"doc-7\", \"distance\": 0.0625, \"metadata\": {\"a\": true}, \"data\": {\"float32\": [0.5, -2.0]}}, "
		  "{\"key\": \"doc\\\"8\", \"distance\": 1.0, \"metadata\": {}, \"data\": {\"float32\": [0.5, -2.0]}}], \"distanceMetric\": \"euclidean\", "
		  "\"matched\": 2, \"exact\": false}\n" },
		{ { .return_distance = true, .return_metadata = true }, { .matched = 1, .exact = true }, 1,
		  "{\"vectors\": [{\"key\": \"doc-7\", \"metadata\": {\"a\": true}}], \"matched\": 1, \"exact\": true}\n" },
		{ { .format = VF_JSON }, { .exact = true }, 0, "{\"vectors\": [], \"matched\": 0, \"exact\": true}\n" },
		{ { .vectors = vector }, { .has_metric = true, .matched = 8, .facets = facets, .nfacets = 2, .explain = &explain }, 1,
		  "{\"vectors\": [{\"key\": \"doc-7\"}], \"distanceMetric\": \"cosine\", \"matched\": 8, \"exact\": false, "
		  "\"facets\": {\"lang\": [{\"value\": \"en\", \"count\": 7}, {\"value\": 5, \"count\": 1}], \"year\": []}, "
		  "\"explain\": {\"plan\": \"scan\", \"ef\": 64}}\n" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		for (size_t f = 0; f < 2; f++) {
			struct vf_question q = cases[i].q;
			struct vf_answer a;
			struct vf_spool spool;
			vf_spool_init(&spool, NULL);
			q.format = both_formats[f];
			write_answer(&a, &q, &spool, &cases[i].head, cases[i].n);
			ck_answer(&spool, q.format, cases[i].json);
			vf_spool_free(&spool);
		}
	}
}
END_TEST

START_TEST(answers_to_many_vectors_stand_in_one_list)
{
	const float vector[] = { 1, 2 };
	const struct vf_answer_head head = { .has_metric = true, .metric = VF_COSINE, .matched = 2, .exact = true };

	for (size_t f = 0; f < 2; f++) {
		struct vf_err err = VF_ERR_INIT;
		struct vf_question q = { .format = both_formats[f], .vectors = vector, .nvectors = 2, .dim = 1, .many = true };
		struct vf_answer a;
		struct vf_spool spool;
		vf_spool_init(&spool, NULL);
		ck_ok(vf_answer_begin_many(&a, &q, &spool, 2, &err));
		write_answer(&a, &q, &spool, &head, 1);
		write_answer(&a, &q, &spool, &head, 0);
		ck_ok(vf_answer_end_many(&a, &err));
		ck_answer(&spool, q.format, "{\"results\": [{\"vectors\": [{\"key\": \"doc-7\"}], \"distanceMetric\": \"cosine\", \"matched\": 2, \"exact\": true}, "
		          "{\"vectors\": [], \"distanceMetric\": \"cosine\", \"matched\": 2, \"exact\": true}]}\n");
		vf_spool_free(&spool);
	}
}
END_TEST

START_TEST(a_long_answer_goes_to_disk_and_keeps_little_in_memory)
{
	const struct vf_answer_head head = { .matched = 200000, .exact = true };

	for (size_t f = 0; f < 2; f++) {
		struct vf_err err = VF_ERR_INIT;
		struct vf_question q = { .format = both_formats[f], .return_metadata = true };
		struct vf_answer a;
		struct vf_spool spool;
		struct vf_arena arena = VF_ARENA_INIT;
		struct vf_value value;
		size_t most = 0;
		vf_spool_init(&spool, "/tmp");
		ck_ok(vf_answer_begin(&a, &q, &spool, &head, 200000, &err));
		for (int i = 0; i < 200000; i++) {
			ck_ok(vf_answer_row(&a, &rows[i % 2], &err));
			most = spool.buf.cap > most ? spool.buf.cap : most;
		}
		ck_ok(vf_answer_end(&a, &head, &err));
		ck_ok(vf_spool_finish(&spool, &err));
		ck_assert_uint_le(most, 4 * VF_SPOOL_MEMORY_MAX);
		size_t size = (size_t)vf_spool_size(&spool);
		ck_assert_uint_gt(size, 2 * VF_SPOOL_MEMORY_MAX);
		uint8_t *bytes = malloc(size);
		ck_assert_int_eq(vf_spool_read(&spool, 0, bytes, size), (int64_t)size);
		ck_ok(vf_value_decode(q.format, vf_span(bytes, size), &arena, &value, &err));
		ck_assert_uint_eq(vf_value_find(&value, "vectors")->count, 200000);
		ck_span(vf_value_find(&value, "vectors")->items[199998].entries[0].value.bytes, "doc-7");
		free(bytes);
		vf_arena_free(&arena);
		vf_spool_free(&spool);
	}
}
END_TEST

START_TEST(damaged_metadata_in_an_answer_is_told)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_question q = { .format = VF_JSON, .return_metadata = true };
	struct vf_answer_head head = { .matched = 1 };
	struct vf_answer_row row = { .key = vf_span_str("k"), .metadata = vf_span("\x81", 1) };
	struct vf_answer a;
	struct vf_spool spool;

	vf_spool_init(&spool, NULL);
	ck_ok(vf_answer_begin(&a, &q, &spool, &head, 1, &err));
	ck_fails(vf_answer_row(&a, &row, &err), EIO);
	vf_spool_free(&spool);
}
END_TEST

CHECK_MAIN("question",
	a_question_is_understood_the_same_in_both_formats, a_wrong_question_is_refused_with_the_reason,
	numbers_that_only_msgpack_has_are_refused, a_question_to_an_index_without_dimension_says_so,
	many_vectors_are_taken_up_to_the_limit, an_answer_has_what_the_question_asked_for,
	answers_to_many_vectors_stand_in_one_list, a_long_answer_goes_to_disk_and_keeps_little_in_memory,
	damaged_metadata_in_an_answer_is_told)
