/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>

#include "codec.h"
#include "vecfs/record.h"

static struct vf_config config_of(uint32_t dim, enum vf_metric metric)
{
	struct vf_config config;

	vf_config_init(&config);
	config.dim = dim;
	config.metric = metric;
	return config;
}

static int read_record(const char *json, enum vf_format format, struct vf_arena *arena, struct vf_record *out, struct vf_err *err)
{
	struct vf_value value = decoded(json, format, arena);

	return vf_record_from_value(&value, arena, out, err);
}

/* What is written, and what is read back as JSON. */
static const char *const good_records[][2] = {
	{ "{\"key\":\"a\",\"data\":{\"float32\":[0.5,1,-2]},\"metadata\":{\"b\":1,\"a\":\"x\"}}",
	  "{\"key\": \"a\", \"data\": {\"float32\": [0.5, 1.0, -2.0]}, \"metadata\": {\"a\": \"x\", \"b\": 1}}\n" },
	{ "{\"metadata\":null,\"data\":[1],\"key\":\"k\"}", "{\"key\": \"k\", \"data\": {\"float32\": [1.0]}, \"metadata\": {}}\n" },
	{ "{\"data\":[0.1],\"key\":\"k\"}", "{\"key\": \"k\", \"data\": {\"float32\": [0.1]}, \"metadata\": {}}\n" },
	{ "{\"key\":\"k\",\"data\":[1],\"metadata\":{\"l\":[\"a\",true,1,2.5],\"e\":[],\"s\":\"\",\"\":false}}",
	  "{\"key\": \"k\", \"data\": {\"float32\": [1.0]}, \"metadata\": {\"\": false, \"e\": [], \"l\": [\"a\", true, 1, 2.5], \"s\": \"\"}}\n" },
	{ "{\"key\":\"k\",\"data\":[16777217],\"metadata\":{\"i\":9223372036854775807,\"j\":-9223372036854775808,\"f\":1.0}}",
	  "{\"key\": \"k\", \"data\": {\"float32\": [16777216.0]}, \"metadata\": {\"f\": 1.0, \"i\": 9223372036854775807, \"j\": -9223372036854775808}}\n" },
	{ "{\"key\":\"h\xc3\xa9/\\u0001\",\"data\":[3.4028235e38],\"metadata\":{\"n\\u00e9\":\"\\u0000\"}}",
	  "{\"key\": \"h\xc3\xa9/\\u0001\", \"data\": {\"float32\": [3.4028235e38]}, \"metadata\": {\"n\xc3\xa9\": \"\\u0000\"}}\n" },
};

START_TEST(a_record_is_read_the_same_from_both_formats)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf out = VF_BUF_INIT;
	struct vf_record record;

	for (size_t i = 0; i < sizeof good_records / sizeof good_records[0]; i++) {
		for (size_t f = 0; f < 2; f++) {
			ck_ok(read_record(good_records[i][0], both_formats[f], &arena, &record, &err));
			vf_buf_clear(&out);
			ck_ok(vf_record_render(&record, VF_JSON, &out, &err));
			ck_span(vf_buf_span(&out), good_records[i][1]);
		}
	}
	ck_assert(!record.if_absent);
	ck_ok(read_record("{\"ifAbsent\":true}", VF_JSON, &arena, &record, &err));
	ck_assert(record.if_absent && record.key.len == 0 && record.vector == NULL && record.metadata.len == 1);
	vf_buf_free(&out);
	vf_arena_free(&arena);
}
END_TEST

static const struct { const char *json; const char *says; } bad_records[] = {
	{ "[1,2]", "a record is a map, this is a list" },
	{ "\"x\"", "a record is a map, this is a string" },
	{ "{\"key\":\"a\",\"vector\":[1]}", "unknown field 'vector'; a record may have key, data, metadata, ifAbsent" },
	{ "{\"Key\":\"a\"}", "unknown field 'Key'" },
	{ "{\"key\":7}", "key is an integer; it must be a string" },
	{ "{\"key\":null}", "key is null; it must be a string" },
	{ "{\"ifAbsent\":1}", "ifAbsent is an integer; it must be true or false" },
	{ "{\"ifAbsent\":\"true\"}", "ifAbsent is a string" },
	{ "{\"data\":null}", "data is null; it must be {\"float32\": [...]}" },
	{ "{\"data\":\"1,2\"}", "data is a string" },
	{ "{\"data\":[]}", "data has 0 numbers; a vector has 1 to 16384" },
	{ "{\"data\":{}}", "data is an empty map" },
	{ "{\"data\":{\"float32\":[]}}", "data has 0 numbers" },
	{ "{\"data\":{\"float64\":[1]}}", "data has the unknown field 'float64'" },
	{ "{\"data\":{\"float32\":[1],\"int8\":[1]}}", "data has the unknown field 'int8'" },
	{ "{\"data\":{\"float32\":1}}", "data: float32 is neither a list of numbers nor binary" },
	{ "{\"data\":[1,\"2\"]}", "data[1] is a string; it must be a number" },
	{ "{\"data\":[1,null]}", "data[1] is null" },
	{ "{\"data\":[[1]]}", "data[0] is a list" },
	{ "{\"data\":[true]}", "data[0] is a boolean" },
	{ "{\"data\":[0,0,3.5e38]}", "data[2] is 3.5e+38, beyond what float32 holds" },
	{ "{\"data\":[-1e300]}", "data[0] is -1e+300" },
	{ "{\"metadata\":[]}", "metadata is a list; it must be a map" },
	{ "{\"metadata\":\"x\"}", "metadata is a string" },
	{ "{\"metadata\":{\"x\":null}}", "metadata field 'x' is null; values are strings, booleans, numbers, or lists of those" },
	{ "{\"metadata\":{\"x\":{}}}", "metadata field 'x' is a map" },
	{ "{\"metadata\":{\"a\":1,\"x\":[1,null]}}", "metadata field 'x' has an element that is null" },
	{ "{\"metadata\":{\"x\":[[1]]}}", "metadata field 'x' has an element that is a list" },
	{ "{\"metadata\":{\"x\":[{}]}}", "metadata field 'x' has an element that is a map" },
};

START_TEST(a_wrong_record_is_refused_with_the_field_and_the_reason)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_record record;

	for (size_t i = 0; i < sizeof bad_records / sizeof bad_records[0]; i++) {
		for (size_t f = 0; f < 2; f++) {
			struct vf_err err = VF_ERR_INIT;
			int rc = read_record(bad_records[i].json, both_formats[f], &arena, &record, &err);
			ck_assert_msg(rc == -EINVAL, "%s: %d", bad_records[i].json, rc);
			ck_says(err, bad_records[i].says);
		}
	}
	vf_arena_free(&arena);
}
END_TEST

static const struct { const char *json; uint32_t dim; enum vf_metric metric; const char *says; } checks[] = {
	{ "{\"key\":\"a\",\"data\":[1,2]}", 2, VF_COSINE, NULL },
	{ "{\"key\":\"a\",\"data\":[0,0]}", 2, VF_EUCLIDEAN, NULL },
	{ "{\"key\":\"a\",\"data\":[0,0]}", 2, VF_DOT, NULL },
	{ "{\"key\":\"a\",\"data\":[0,1e-45]}", 2, VF_COSINE, NULL },
	{ "{\"data\":[1,2]}", 2, VF_COSINE, "the record has no key" },
	{ "{\"key\":\"\",\"data\":[1,2]}", 2, VF_COSINE, "a key has 1 to 1024 bytes, this one is empty" },
	{ "{\"key\":\"a\\u0000b\",\"data\":[1,2]}", 2, VF_COSINE, "a key cannot hold a NUL byte" },
	{ "{\"key\":\"a\"}", 2, VF_COSINE, "the record has no data" },
	{ "{\"key\":\"a\",\"data\":[1,2,3]}", 4, VF_COSINE, "vector has 3 numbers, index docs has 4" },
	{ "{\"key\":\"a\",\"data\":[1,2,3]}", 2, VF_COSINE, "vector has 3 numbers, index docs has 2" },
	{ "{\"key\":\"a\",\"data\":[1,2,3]}", 0, VF_COSINE, "set the dimension first: write 'dimension = 3' to config" },
	{ "{\"key\":\"a\",\"data\":[0,-0.0]}", 2, VF_COSINE, "data is all zeros" },
	{ "{\"key\":\"a\",\"data\":[0,1e-46]}", 2, VF_COSINE, "data is all zeros" },
};

START_TEST(an_index_says_what_it_misses_in_a_record)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_record record;

	for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
		struct vf_err err = VF_ERR_INIT;
		struct vf_config config = config_of(checks[i].dim, checks[i].metric);
		ck_ok(read_record(checks[i].json, VF_JSON, &arena, &record, &err));
		int rc = vf_record_check(&record, &config, "docs", &err);
		ck_assert_msg(rc == (checks[i].says ? -EINVAL : 0), "%s: %d %s", checks[i].json, rc, err.text);
		if (checks[i].says)
			ck_says(err, checks[i].says);
		vf_config_free(&config);
	}
	vf_arena_free(&arena);
}
END_TEST

START_TEST(a_number_that_is_none_is_refused_with_its_place)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_config config = config_of(18, VF_EUCLIDEAN);
	float vector[18] = { 0 };
	struct vf_record record = { .key = vf_span_str("k"), .vector = vector, .dim = 18, .metadata = vf_span("\x80", 1) };

	ck_ok(vf_record_check(&record, &config, "docs", &err));
	vector[17] = NAN;
	ck_fails(vf_record_check(&record, &config, "docs", &err), EINVAL);
	ck_says(err, "data[17] is NaN");
	vector[3] = -INFINITY;
	ck_fails(vf_record_check(&record, &config, "docs", &err), EINVAL);
	ck_says(err, "data[3] is infinite");
	vf_config_free(&config);
}
END_TEST

START_TEST(a_binary_vector_is_taken_bit_by_bit_from_any_address)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	/* 1.0, -0.0, the smallest denormal, a NaN with a payload: little-endian, one byte off. */
	static const uint8_t bytes[] = { 0xff, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x80, 1, 0, 0, 0, 0x21, 0x43, 0xc5, 0x7f };
	static const uint32_t bits[] = { 0x3f800000, 0x80000000, 1, 0x7fc54321 };
	const float *vector;
	uint32_t dim;

	struct vf_value bin = { .kind = VF_BIN, .bytes = vf_span(bytes + 1, 16) };
	ck_ok(vf_vector_from_value(&bin, "data", &arena, &vector, &dim, &err));
	ck_assert_uint_eq(dim, 4);
	ck_assert_uint_eq((uintptr_t)vector % 4, 0);
	ck_assert_mem_eq(vector, bits, sizeof bits);
	/* Where a list of numbers may stand, too. */
	struct vf_entry entry = { vf_span_str("float32"), bin };
	struct vf_value form = { .kind = VF_MAP, .count = 1, .entries = &entry };
	const float *again;
	ck_ok(vf_vector_from_value(&form, "data", &arena, &again, &dim, &err));
	ck_assert_uint_eq(dim, 4);
	ck_assert_mem_eq(again, vector, 16);
	bin.bytes.len = 15;
	ck_fails(vf_vector_from_value(&bin, "queryVector", &arena, &vector, &dim, &err), EINVAL);
	ck_says(err, "queryVector is binary of 15 bytes; float32 takes a multiple of 4");
	bin.bytes.len = 0;
	ck_fails(vf_vector_from_value(&bin, "data", &arena, &vector, &dim, &err), EINVAL);
	vf_arena_free(&arena);
}
END_TEST

/* {"f": [text, text, ...]} with so many fields, list items and string bytes. */
static struct vf_value metadata_of(struct vf_arena *arena, uint32_t fields, uint32_t items, size_t bytes)
{
	struct vf_value map = { .kind = VF_MAP, .count = fields, .entries = vf_arena_alloc(arena, (fields + 1) * sizeof(struct vf_entry)) };
	char *text = vf_arena_alloc(arena, bytes + 1);

	memset(text, 'x', bytes);
	struct vf_value string = { .kind = VF_STRING, .bytes = vf_span(text, bytes) };
	for (uint32_t i = 0; i < fields; i++) {
		char name[16];
		snprintf(name, sizeof name, "f%02u", i);
		map.entries[i] = (struct vf_entry){ .name = vf_arena_copy(arena, vf_span_str(name)), .value = string };
		if (items == 0)
			continue;
		struct vf_value list = { .kind = VF_LIST, .count = items, .items = vf_arena_alloc(arena, items * sizeof list) };
		for (uint32_t k = 0; k < items; k++)
			list.items[k] = string;
		map.entries[i].value = list;
	}
	return map;
}

static bool filterable_but_f00(const void *ctx, struct vf_span field)
{
	(void)ctx;
	return !vf_span_is(field, "f00");
}

static bool always_filterable(const void *ctx, struct vf_span field)
{
	(void)ctx;
	(void)field;
	return true;
}

START_TEST(metadata_is_limited_in_fields_items_and_bytes)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf out = VF_BUF_INIT;
	struct vf_field_rule all = { always_filterable, NULL }, but_f00 = { filterable_but_f00, NULL };
	const struct { uint32_t fields, items; size_t bytes; const struct vf_field_rule *rule; int code; const char *says; } cases[] = {
		{ 64, 0, 1, NULL, 0, NULL },
		{ 65, 0, 1, NULL, EFBIG, "metadata has 65 fields, at most 64 are taken" },
		{ 1, 1024, 1, NULL, 0, NULL },
		{ 1, 1025, 1, NULL, EFBIG, "metadata field 'f00' is a list of 1025, at most 1024 are taken" },
		{ 1, 0, 2048, &all, 0, NULL },
		{ 1, 0, 2049, &all, EFBIG, "metadata field 'f00' has a string of 2049 bytes, a filterable one has at most 2048" },
		{ 1, 3, 2049, &all, EFBIG, "metadata field 'f00' has a string of 2049 bytes" },
		{ 1, 0, 2049, NULL, 0, NULL },
		{ 1, 0, 2049, &but_f00, 0, NULL },
		{ 2, 0, 2049, &but_f00, EFBIG, "metadata field 'f01'" },
		{ 1, 0, 40960 - 8, NULL, 0, NULL },                 /* map, "f00" and str16 take 1 + 4 + 3 */
		{ 1, 0, 40960 - 7, NULL, EFBIG, "metadata has 40961 bytes, at most 40960 are taken" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct vf_err err = VF_ERR_INIT;
		struct vf_value map = metadata_of(&arena, cases[i].fields, cases[i].items, cases[i].bytes);
		vf_buf_clear(&out);
		int rc = vf_metadata_encode(&map, cases[i].rule, &out, &err);
		ck_assert_msg(rc == -cases[i].code, "case %zu: %d %s", i, rc, err.text);
		if (cases[i].says)
			ck_says(err, cases[i].says);
		if (rc)
			ck_assert_uint_eq(out.len, 0);
	}
	vf_buf_free(&out);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(a_long_filterable_string_is_found_in_a_record_too)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf out = VF_BUF_INIT;
	struct vf_config config = config_of(1, VF_EUCLIDEAN);
	float one = 1;
	struct vf_record record = { .key = vf_span_str("k"), .vector = &one, .dim = 1 };

	for (size_t bytes = 2048; bytes <= 2049; bytes++) {
		struct vf_value map = metadata_of(&arena, 1, 0, bytes);
		vf_buf_clear(&out);
		ck_ok(vf_metadata_encode(&map, NULL, &out, &err));
		record.metadata = vf_buf_span(&out);
		ck_assert_int_eq(vf_record_check(&record, &config, "docs", &err), bytes == 2048 ? 0 : -EFBIG);
	}
	ck_ok(vf_config_change(&config, vf_span_str("non_filterable = f00"), &err));
	ck_ok(vf_record_check(&record, &config, "docs", &err));
	vf_config_free(&config);
	vf_buf_free(&out);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(metadata_that_is_no_number_or_name_is_refused)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf out = VF_BUF_INIT;
	struct vf_entry entry = { vf_span_str("x"), { .kind = VF_FLOAT, .real = NAN } };
	struct vf_value map = { .kind = VF_MAP, .count = 1, .entries = &entry };

	ck_fails(vf_metadata_encode(&map, NULL, &out, &err), EINVAL);
	ck_says(err, "metadata field 'x' is NaN; numbers are finite");
	entry.value.real = INFINITY;
	ck_fails(vf_metadata_encode(&map, NULL, &out, &err), EINVAL);
	ck_says(err, "metadata field 'x' is infinite");
	entry.value = (struct vf_value){ .kind = VF_BIN, .bytes = vf_span_str("abc") };
	ck_fails(vf_metadata_encode(&map, NULL, &out, &err), EINVAL);
	ck_says(err, "metadata field 'x' is binary");
	entry = (struct vf_entry){ vf_span("a\0b", 3), { .kind = VF_INT } };
	ck_fails(vf_metadata_encode(&map, NULL, &out, &err), EINVAL);
	ck_says(err, "NUL byte");
	ck_assert_uint_eq(out.len, 0);
	vf_buf_free(&out);
}
END_TEST

START_TEST(the_same_metadata_is_the_same_bytes)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf out = VF_BUF_INIT;
	static const char *const orders[] = {
		"{\"b\":[1,\"x\"],\"a\":200,\"ab\":1.5}", "{\"ab\":1.5,\"a\":200,\"b\":[1,\"x\"]}", "{\"a\":200,\"ab\":1.5,\"b\":[1,\"x\"]}",
	};
	static const uint8_t canonical[] = { 0x83, 0xa1, 'a', 0xcc, 200, 0xa2, 'a', 'b', 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0,
	                                     0xa1, 'b', 0x92, 1, 0xa1, 'x' };
	/* {"a": 5} with its integer in nine bytes and its name in a long string. */
	static const uint8_t wasteful[] = { 0xdf, 0, 0, 0, 1, 0xdb, 0, 0, 0, 1, 'a', 0xd3, 0, 0, 0, 0, 0, 0, 0, 5 };
	struct vf_value map;

	for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
		for (size_t f = 0; f < 2; f++) {
			map = decoded(orders[i], both_formats[f], &arena);
			vf_buf_clear(&out);
			ck_ok(vf_metadata_encode(&map, NULL, &out, &err));
			ck_assert_uint_eq(out.len, sizeof canonical);
			ck_assert_mem_eq(out.data, canonical, sizeof canonical);
		}
	}
	ck_ok(vf_value_decode(VF_MSGPACK, vf_span(wasteful, sizeof wasteful), &arena, &map, &err));
	vf_buf_clear(&out);
	ck_ok(vf_metadata_encode(&map, NULL, &out, &err));
	ck_assert_uint_eq(out.len, 4);
	ck_assert_mem_eq(out.data, "\x81\xa1" "a\x05", 4);
	ck_ok(vf_metadata_decode(vf_buf_span(&out), &arena, &map, &err));
	ck_assert(map.kind == VF_MAP && map.count == 1 && map.entries[0].value.integer == 5);
	vf_buf_free(&out);
	vf_arena_free(&arena);
}
END_TEST

/* ---- random records ---- */

static float random_float(uint64_t *seed)
{
	uint32_t bits;
	float f;

	do {
		bits = (uint32_t)(random_next(seed) >> 20);
		memcpy(&f, &bits, sizeof f);
	} while (!isfinite(f));
	return f;
}

static struct vf_value random_scalar(uint64_t *seed, struct vf_arena *arena)
{
	char text[40];

	switch (random_next(seed) % 5) {
	case 0:
		return (struct vf_value){ .kind = VF_BOOL, .boolean = random_next(seed) & 1 };
	case 1:
		return (struct vf_value){ .kind = VF_INT, .integer = (int64_t)(random_next(seed) >> random_next(seed) % 64) };
	case 2:
		return (struct vf_value){ .kind = VF_INT, .integer = -(int64_t)(random_next(seed) >> (1 + random_next(seed) % 63)) };
	case 3:
		return (struct vf_value){ .kind = VF_FLOAT, .real = (double)random_float(seed) * (double)random_float(seed) };
	default:
		snprintf(text, sizeof text, "%.*s\xe2\x82\xac", (int)(random_next(seed) % 36), "the quick brown \"fox\"\n jumps over \\ it");
		return (struct vf_value){ .kind = VF_STRING, .bytes = vf_arena_copy(arena, vf_span_str(text)) };
	}
}

static struct vf_value random_metadata(uint64_t *seed, struct vf_arena *arena)
{
	struct vf_value map = metadata_of(arena, (uint32_t)(random_next(seed) % 20), 0, 1);

	for (uint32_t i = 0; i < map.count; i++) {
		struct vf_value *v = &map.entries[i].value;
		*v = random_scalar(seed, arena);
		if (random_next(seed) % 4)
			continue;
		*v = (struct vf_value){ .kind = VF_LIST, .count = (uint32_t)(random_next(seed) % 40) };
		v->items = vf_arena_alloc(arena, (v->count + 1) * sizeof *v->items);
		for (uint32_t k = 0; k < v->count; k++)
			v->items[k] = random_scalar(seed, arena);
	}
	return map;
}

static const uint32_t key_sizes[] = { 1, 31, 32, 33, 255, 256, 257, 1024 };
static const uint32_t dims[] = { 1, 2, 15, 16, 17, 128, 1536 };

static struct vf_record random_record(uint64_t *seed, struct vf_arena *arena, struct vf_buf *metadata)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_value map = random_metadata(seed, arena);
	uint32_t key_len = key_sizes[random_next(seed) % (sizeof key_sizes / sizeof key_sizes[0])];
	uint32_t dim = dims[random_next(seed) % (sizeof dims / sizeof dims[0])];
	char *key = vf_arena_alloc(arena, key_len);
	float *vector = vf_arena_alloc(arena, dim * sizeof *vector);

	for (uint32_t i = 0; i < key_len; i++)
		key[i] = (char)(1 + random_next(seed) % 127);
	for (uint32_t i = 0; i < dim; i++)
		vector[i] = random_float(seed);
	vf_buf_clear(metadata);
	ck_ok(vf_metadata_encode(&map, NULL, metadata, &err));
	return (struct vf_record){ .key = vf_span(key, key_len), .vector = vector, .dim = dim, .metadata = vf_buf_span(metadata) };
}

START_TEST(what_is_read_back_is_the_record_bit_by_bit_and_of_the_announced_size)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf metadata = VF_BUF_INIT, file = VF_BUF_INIT, again = VF_BUF_INIT;
	uint64_t seed = 42;

	for (int i = 0; i < 400; i++) {
		struct vf_record record = random_record(&seed, &arena, &metadata), back;
		for (size_t f = 0; f < 2; f++) {
			struct vf_value value;
			vf_buf_clear(&file);
			vf_buf_clear(&again);
			ck_ok(vf_record_render(&record, both_formats[f], &file, &err));
			ck_ok(vf_value_decode(both_formats[f], vf_buf_span(&file), &arena, &value, &err));
			ck_ok(vf_record_from_value(&value, &arena, &back, &err));
			ck_assert(vf_span_equal(back.key, record.key));
			ck_assert_uint_eq(back.dim, record.dim);
			ck_assert_mem_eq(back.vector, record.vector, record.dim * sizeof(float));
			ck_assert(vf_span_equal(back.metadata, record.metadata));
			ck_ok(vf_record_render(&back, both_formats[f], &again, &err));
			ck_assert(vf_span_equal(vf_buf_span(&file), vf_buf_span(&again)));
		}
		ck_assert_uint_eq(file.len, vf_record_msgpack_size((uint32_t)record.key.len, record.dim, (uint32_t)record.metadata.len));
		vf_arena_reset(&arena);
	}
	vf_buf_free(&metadata);
	vf_buf_free(&file);
	vf_buf_free(&again);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(the_size_of_a_file_is_exact_at_every_length_of_a_header)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf file = VF_BUF_INIT;
	static const uint32_t sizes[] = { 1, 15, 16, 17, 16384, 65535, 65536 };
	static char key[65536];
	float *vector = calloc(65536, sizeof *vector);

	memset(key, 'k', sizeof key);
	for (uint32_t k = 0; k < 300; k++) {
		for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
			if (k > 2 && sizes[i] > 17)
				continue;
			struct vf_record record = { .key = vf_span(key, k), .vector = vector, .dim = sizes[i] };
			vf_buf_clear(&file);
			ck_ok(vf_record_render(&record, VF_MSGPACK, &file, &err));
			ck_assert_uint_eq(file.len, vf_record_msgpack_size(k, sizes[i], 0));
		}
	}
	for (uint32_t k = 65535; k <= 65536; k++) {
		struct vf_record record = { .key = vf_span(key, k), .vector = vector, .dim = 1 };
		vf_buf_clear(&file);
		ck_ok(vf_record_render(&record, VF_MSGPACK, &file, &err));
		ck_assert_uint_eq(file.len, vf_record_msgpack_size(k, 1, 1));
	}
	free(vector);
	vf_buf_free(&file);
}
END_TEST

START_TEST(a_record_cut_anywhere_is_refused)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf metadata = VF_BUF_INIT, file = VF_BUF_INIT;
	uint64_t seed = 7;
	struct vf_record record = random_record(&seed, &arena, &metadata);
	struct vf_value value;

	record.dim = 3;
	for (size_t f = 0; f < 2; f++) {
		vf_buf_clear(&file);
		ck_ok(vf_record_render(&record, both_formats[f], &file, &err));
		for (size_t len = 0; len + (both_formats[f] == VF_JSON) < file.len; len++) {
			/* Exactly as long as it is, so that a sanitizer sees every byte that is read too much. */
			uint8_t *cut = malloc(len + !len);
			memcpy(cut, file.data, len);
			ck_fails(vf_value_decode(both_formats[f], vf_span(cut, len), &arena, &value, &err), EINVAL);
			free(cut);
		}
	}
	vf_buf_free(&metadata);
	vf_buf_free(&file);
	vf_arena_free(&arena);
}
END_TEST

CHECK_MAIN("record",
	a_record_is_read_the_same_from_both_formats, a_wrong_record_is_refused_with_the_field_and_the_reason,
	an_index_says_what_it_misses_in_a_record, a_number_that_is_none_is_refused_with_its_place,
	a_binary_vector_is_taken_bit_by_bit_from_any_address, metadata_is_limited_in_fields_items_and_bytes,
	a_long_filterable_string_is_found_in_a_record_too, metadata_that_is_no_number_or_name_is_refused,
	the_same_metadata_is_the_same_bytes, what_is_read_back_is_the_record_bit_by_bit_and_of_the_announced_size,
	the_size_of_a_file_is_exact_at_every_length_of_a_header, a_record_cut_anywhere_is_refused)
