/* SPDX-License-Identifier: MIT */
#include "codec.h"
#include "vecfs/request.h"

static struct vf_config some_config(void)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_config config;

	vf_config_init(&config);
	ck_ok(vf_config_change(&config, vf_span_str("dimension = 2\nnon_filterable = body\n"), &err));
	return config;
}

/* ---- update ---- */

static const struct { const char *json; int code; const char *says; } bad_updates[] = {
	{ "[]", EINVAL, "an update is a map, this is a list" },
	{ "\"a\"", EINVAL, "an update is a map, this is a string" },
	{ "{}", EINVAL, "an update has a key, keys or filter" },
	{ "{\"set\":{\"a\":1}}", EINVAL, "an update has a key, keys or filter" },
	{ "{\"key\":\"k\"}", EINVAL, "fields to set or to unset, this one has neither" },
	{ "{\"key\":\"k\",\"set\":{}}", EINVAL, "fields to set or to unset, this one has neither" },
	{ "{\"key\":\"k\",\"keys\":[\"l\"],\"set\":{\"a\":1}}", EINVAL, "key and keys exclude one another" },
	{ "{\"keys\":[\"l\"],\"key\":\"k\",\"set\":{\"a\":1}}", EINVAL, "key and keys exclude one another" },
	{ "{\"keys\":[\"l\"],\"filter\":{\"a\":1},\"set\":{\"a\":1}}", EINVAL, "an update has only one of key, keys or filter" },
	{ "{\"filter\":{\"a\":1},\"key\":\"k\",\"set\":{\"a\":1}}", EINVAL, "an update has only one of key, keys or filter" },
	{ "{\"filter\":{},\"set\":{\"a\":1}}", EINVAL, "filter" },
	{ "{\"filter\":{\"body\":\"x\"},\"set\":{\"a\":1}}", EINVAL, "body" },
	{ "{\"keys\":[],\"set\":{\"a\":1}}", EINVAL, "keys is an empty list" },
	{ "{\"keys\":\"k\",\"set\":{\"a\":1}}", EINVAL, "keys is a string; it must be a list of strings" },
	{ "{\"keys\":[\"k\",1],\"set\":{\"a\":1}}", EINVAL, "keys[1] is an integer; it must be a string" },
	{ "{\"keys\":[\"k\",\"\"],\"set\":{\"a\":1}}", EINVAL, "keys[1]: a key has 1 to 1024 bytes" },
	{ "{\"key\":\"\",\"set\":{\"a\":1}}", EINVAL, "key: a key has 1 to 1024 bytes" },
	{ "{\"key\":[\"k\"],\"set\":{\"a\":1}}", EINVAL, "key is a list; it must be a string" },
	{ "{\"key\":\"k\",\"set\":[]}", EINVAL, "set is a list; it must be a map of fields and values" },
	{ "{\"key\":\"k\",\"set\":{\"a\":null}}", EINVAL, "set: metadata field 'a' is null" },
	{ "{\"key\":\"k\",\"set\":{\"a\":{\"b\":1}}}", EINVAL, "set: metadata field 'a' is a map" },
	{ "{\"key\":\"k\",\"unset\":\"a\"}", EINVAL, "unset is a string; it must be a list of strings" },
	{ "{\"key\":\"k\",\"unset\":[]}", EINVAL, "unset is an empty list" },
	{ "{\"key\":\"k\",\"unset\":[null]}", EINVAL, "unset[0] is null" },
	{ "{\"key\":\"k\",\"set\":{\"a\":1,\"b\":2},\"unset\":[\"c\",\"b\"]}", EINVAL, "field 'b' is in both set and unset" },
	{ "{\"key\":\"k\",\"set\":{\"a\":1},\"data\":[1]}", EINVAL, "unknown field 'data'; an update may have key, keys, filter, set, unset" },
	{ "{\"key\":\"k\",\"set\":{\"a\":1},\"indexName\":\"\"}", EINVAL, "indexName is empty" },
};

START_TEST(a_wrong_update_is_refused)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config();
	struct vf_update update;

	for (size_t i = 0; i < sizeof bad_updates / sizeof bad_updates[0]; i++) {
		for (size_t f = 0; f < 2; f++) {
			struct vf_err err = VF_ERR_INIT;
			struct vf_value value = decoded(bad_updates[i].json, both_formats[f], &arena);
			int rc = vf_update_from_value(&value, &config, &arena, &update, &err);
			ck_assert_msg(rc == -bad_updates[i].code, "%s: %d", bad_updates[i].json, rc);
			ck_says(err, bad_updates[i].says);
		}
	}
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(an_update_names_its_records_and_its_place)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config();
	struct vf_update update;
	struct vf_value value;

	for (size_t f = 0; f < 2; f++) {
		value = decoded("{\"key\":\"k\",\"set\":{\"a\":[1,\"x\"]},\"vectorBucketName\":\"b\",\"indexName\":\"i\"}", both_formats[f], &arena);
		ck_ok(vf_update_from_value(&value, &config, &arena, &update, &err));
		ck_assert(update.nkeys == 1 && !update.filter && update.set.count == 1 && update.nunset == 0);
		ck_span(update.keys[0], "k");
		ck_ok(vf_target_check(&update.target, "b", "i", &err));
		ck_fails(vf_target_check(&update.target, "b", "j", &err), EINVAL);
		ck_says(err, "the request is meant for index 'i', this is index 'j'");
		value = decoded("{\"keys\":[\"k\",\"l\"],\"unset\":[\"a\",\"b\"],\"set\":{}}", both_formats[f], &arena);
		ck_ok(vf_update_from_value(&value, &config, &arena, &update, &err));
		ck_assert(update.nkeys == 2 && update.set.kind == VF_MAP && update.set.count == 0 && update.nunset == 2);
		ck_span(update.keys[1], "l");
		ck_span(update.unset[1], "b");
		ck_ok(vf_target_check(&update.target, "any", "where", &err));
		value = decoded("{\"filter\":{\"a\":1},\"unset\":[\"a\"]}", both_formats[f], &arena);
		ck_ok(vf_update_from_value(&value, &config, &arena, &update, &err));
		ck_assert(update.nkeys == 0 && update.filter);
	}
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

/* Metadata before, the update, and the metadata after it. */
static const char *const updates[][3] = {
	{ "{}", "{\"key\":\"k\",\"set\":{\"a\":1}}", "{\"a\": 1}" },
	{ "{\"a\":1}", "{\"key\":\"k\",\"set\":{\"a\":\"x\"}}", "{\"a\": \"x\"}" },
	{ "{\"b\":1,\"d\":[true]}", "{\"key\":\"k\",\"set\":{\"c\":2.5,\"a\":false}}", "{\"a\": false, \"b\": 1, \"c\": 2.5, \"d\": [true]}" },
	{ "{\"a\":1,\"b\":2}", "{\"key\":\"k\",\"unset\":[\"a\"]}", "{\"b\": 2}" },
	{ "{\"a\":1}", "{\"key\":\"k\",\"unset\":[\"a\",\"zz\",\"a\"]}", "{}" },
	{ "{\"a\":1,\"b\":2,\"c\":3}", "{\"key\":\"k\",\"unset\":[\"a\"],\"set\":{\"b\":[]}}", "{\"b\": [], \"c\": 3}" },
};

START_TEST(an_update_leaves_what_it_does_not_name)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config();
	struct vf_buf before = VF_BUF_INIT, after = VF_BUF_INIT, text = VF_BUF_INIT;

	for (size_t i = 0; i < sizeof updates / sizeof updates[0]; i++) {
		struct vf_field_rule rule = vf_config_rule(&config);
		struct vf_value old = decoded(updates[i][0], VF_JSON, &arena), request = decoded(updates[i][1], VF_JSON, &arena), back;
		struct vf_update update;
		struct vf_emitter e;
		vf_buf_clear(&before);
		vf_buf_clear(&after);
		vf_buf_clear(&text);
		ck_ok(vf_metadata_encode(&old, &rule, &before, &err));
		ck_ok(vf_update_from_value(&request, &config, &arena, &update, &err));
		ck_ok(vf_update_apply(&update, vf_buf_span(&before), &rule, &after, &err));
		ck_ok(vf_metadata_decode(vf_buf_span(&after), &arena, &back, &err));
		vf_emit_begin(&e, VF_JSON, &text);
		vf_emit_value(&e, &back);
		ck_ok(vf_emit_end(&e, &err));
		ck_span(vf_buf_span(&text), updates[i][2]);
	}
	vf_buf_free(&before);
	vf_buf_free(&after);
	vf_buf_free(&text);
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

/* {"key": "k", "set": {prefix00: text, ...}} or, without a key, the map alone. */
static const char *fields_json(struct vf_arena *arena, const char *prefix, unsigned fields, unsigned bytes, bool update)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf out = VF_BUF_INIT;

	ck_ok(vf_buf_put_str(&out, update ? "{\"key\":\"k\",\"set\":{" : "{", &err));
	for (unsigned i = 0; i < fields; i++)
		ck_ok(vf_buf_printf(&out, &err, "%s\"%s%02u\":\"%0*u\"", i ? "," : "", prefix, i, (int)bytes, i));
	ck_ok(vf_buf_put_str(&out, update ? "}}" : "}", &err));
	struct vf_span copy = vf_arena_copy(arena, vf_buf_span(&out));
	vf_buf_free(&out);
	return (const char *)copy.data;
}

START_TEST(an_update_keeps_the_limits_of_metadata)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config();
	struct vf_field_rule rule = vf_config_rule(&config);
	const struct { unsigned old_fields, old_bytes; const char *prefix; unsigned fields, bytes; int decode, apply; const char *says; } cases[] = {
		{ 60, 2, "b", 4, 2, 0, 0, NULL },
		{ 60, 2, "b", 5, 2, 0, EFBIG, "metadata has 65 fields, at most 64 are taken" },
		{ 64, 2, "a", 64, 3, 0, 0, NULL },
		{ 0, 0, "b", 65, 2, EFBIG, 0, "set: metadata has 65 fields" },
		{ 0, 0, "b", 1, 2048, 0, 0, NULL },
		{ 0, 0, "b", 1, 2049, EFBIG, 0, "set: metadata field 'b00' has a string of 2049 bytes" },
		{ 0, 0, "body", 0, 0, EINVAL, 0, "neither" },
		{ 1, 30000, "b", 5, 2000, 0, 0, NULL },
		{ 1, 30000, "b", 6, 2000, 0, EFBIG, "at most 40960 are taken" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct vf_err err = VF_ERR_INIT;
		struct vf_buf before = VF_BUF_INIT, after = VF_BUF_INIT;
		struct vf_update update;
		struct vf_value old = decoded(fields_json(&arena, "a", cases[i].old_fields, cases[i].old_bytes, false), VF_JSON, &arena);
		struct vf_value request = decoded(fields_json(&arena, cases[i].prefix, cases[i].fields, cases[i].bytes, true), VF_JSON, &arena);
		ck_ok(vf_metadata_encode(&old, NULL, &before, &err));
		int rc = vf_update_from_value(&request, &config, &arena, &update, &err);
		ck_assert_msg(rc == -cases[i].decode, "case %zu: %d %s", i, rc, err.text);
		if (rc == 0) {
			rc = vf_update_apply(&update, vf_buf_span(&before), &rule, &after, &err);
			ck_assert_msg(rc == -cases[i].apply, "case %zu: %d %s", i, rc, err.text);
		}
		if (cases[i].says)
			ck_says(err, cases[i].says);
		vf_buf_free(&before);
		vf_buf_free(&after);
	}
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

/* ---- delete ---- */

START_TEST(a_deletion_is_a_key_or_keys_or_a_filter)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config();
	struct vf_delete request;
	struct vf_value value;

	for (size_t f = 0; f < 2; f++) {
		value = decoded("\"k\"", both_formats[f], &arena);
		ck_ok(vf_delete_from_value(&value, &config, &arena, &request, &err));
		ck_assert(request.nkeys == 1 && !request.filter);
		ck_span(request.keys[0], "k");
		value = decoded("{\"key\":\"l\"}", both_formats[f], &arena);
		ck_ok(vf_delete_from_value(&value, &config, &arena, &request, &err));
		ck_span(request.keys[0], "l");
		value = decoded("{\"vectorBucketName\":\"b\",\"indexName\":\"i\",\"keys\":[\"x\",\"y\",\"x\"]}", both_formats[f], &arena);
		ck_ok(vf_delete_from_value(&value, &config, &arena, &request, &err));
		ck_assert_uint_eq(request.nkeys, 3);
		ck_span(request.keys[1], "y");
		ck_span(request.target.bucket, "b");
		value = decoded("{\"filter\":{\"a\":1}}", both_formats[f], &arena);
		ck_ok(vf_delete_from_value(&value, &config, &arena, &request, &err));
		ck_assert(request.nkeys == 0 && request.filter);
	}
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

static const char *const bad_deletes[][2] = {
	{ "[\"a\"]", "a deletion is a map, this is a list" },
	{ "7", "a deletion is a map, this is an integer" },
	{ "null", "a deletion is a map, this is null" },
	{ "\"\"", "key: a key has 1 to 1024 bytes" },
	{ "{}", "a deletion has a key, keys or filter" },
	{ "{\"keys\":[]}", "keys is an empty list" },
	{ "{\"keys\":{\"a\":1}}", "keys is a map; it must be a list of strings" },
	{ "{\"keys\":[\"a\\u0000\"]}", "keys[0]: a key cannot hold a NUL byte" },
	{ "{\"filter\":{}}", "filter" },
	{ "{\"filter\":null}", "filter" },
	{ "{\"filter\":{\"body\":\"x\"}}", "body" },
	{ "{\"keys\":[\"a\"],\"filter\":{\"a\":1}}", "a deletion has only one of key, keys or filter" },
	{ "{\"key\":\"a\",\"keys\":[\"a\"]}", "key and keys exclude one another" },
	{ "{\"ids\":[\"a\"]}", "unknown field 'ids'; a deletion may have key, keys, filter, vectorBucketName, indexName, indexArn" },
	{ "{\"keys\":[\"a\"],\"indexArn\":\"arn:aws:s3vectors:r:1:bucket/b\"}", "indexArn is 'arn:aws:s3vectors:r:1:bucket/b'; it must be" },
	{ "{\"keys\":[\"a\"],\"indexArn\":\"arn:aws:s3:r:1:bucket/b/index/i\"}", "it must be arn:aws:s3vectors" },
	{ "{\"keys\":[\"a\"],\"indexArn\":\"arn:aws:s3vectors:r:1:bucket//index/i\"}", "it must be arn:aws:s3vectors" },
	{ "{\"keys\":[\"a\"],\"indexArn\":\"arn:aws:s3vectors:r:1:bucket/b/index/\"}", "it must be arn:aws:s3vectors" },
};

START_TEST(a_wrong_deletion_is_refused)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config = some_config();
	struct vf_delete request;

	for (size_t i = 0; i < sizeof bad_deletes / sizeof bad_deletes[0]; i++) {
		for (size_t f = 0; f < 2; f++) {
			struct vf_err err = VF_ERR_INIT;
			struct vf_value value = decoded(bad_deletes[i][0], both_formats[f], &arena);
			int rc = vf_delete_from_value(&value, &config, &arena, &request, &err);
			ck_assert_msg(rc == -EINVAL, "%s: %d", bad_deletes[i][0], rc);
			ck_says(err, bad_deletes[i][1]);
		}
	}
	vf_config_free(&config);
	vf_arena_free(&arena);
}
END_TEST

/* ---- receipts ---- */

START_TEST(a_receipt_counts_what_its_verb_did)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_receipt receipt = { 1, 2, 3, 4, 5, 6 };
	struct vf_buf out = VF_BUF_INIT;
	static const struct { enum vf_receipt_kind kind; const char *json; const char *msgpack; } cases[] = {
		{ VF_RECEIPT_INSERT, "{\"inserted\": 1, \"replaced\": 2, \"skipped\": 3}\n", "\x83\xa8inserted\x01\xa8replaced\x02\xa7skipped\x03" },
		{ VF_RECEIPT_UPDATE, "{\"updated\": 4, \"unknown\": 6}\n", "\x82\xa7updated\x04\xa7unknown\x06" },
		{ VF_RECEIPT_DELETE, "{\"deleted\": 5, \"unknown\": 6}\n", "\x82\xa7" "deleted\x05\xa7unknown\x06" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		vf_buf_clear(&out);
		ck_ok(vf_receipt_render(&receipt, cases[i].kind, VF_JSON, &out, &err));
		ck_span(vf_buf_span(&out), cases[i].json);
		vf_buf_clear(&out);
		ck_ok(vf_receipt_render(&receipt, cases[i].kind, VF_MSGPACK, &out, &err));
		ck_span(vf_buf_span(&out), cases[i].msgpack);
	}
	vf_buf_free(&out);
}
END_TEST

CHECK_MAIN("request",
	a_wrong_update_is_refused, an_update_names_its_records_and_its_place, an_update_leaves_what_it_does_not_name,
	an_update_keeps_the_limits_of_metadata, a_deletion_is_a_key_or_keys_or_a_filter, a_wrong_deletion_is_refused,
	a_receipt_counts_what_its_verb_did)
