/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>

#include "codec.h"
#include "vecfs/ingest.h"

/* What the sink was given, as text: "key:n1,n2,...;" a record. */
struct seen {
	struct vf_buf text;
	uint64_t records;
	uint64_t refuse_at;            /* the record, from 1, at which the sink fails; 0 never */
	int refuse_code;
};

static int see(void *ctx, const struct vf_record *record, struct vf_err *err)
{
	struct seen *seen = ctx;
	struct vf_err oom = VF_ERR_INIT;

	if (++seen->records == seen->refuse_at)
		return vf_fail(err, seen->refuse_code, "the sink is full");
	ck_assert_uint_eq((uintptr_t)record->vector % 4, 0);
	vf_buf_printf(&seen->text, &oom, "%.*s:", (int)record->key.len, (const char *)record->key.data);
	for (uint32_t i = 0; i < record->dim; i++)
		vf_buf_printf(&seen->text, &oom, "%s%g", i ? "," : "", (double)record->vector[i]);
	vf_buf_printf(&seen->text, &oom, "%s%s;", record->if_absent ? "?" : "", record->metadata.len > 1 ? "+" : "");
	return 0;
}

static struct vf_ingest *begin(struct seen *seen)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_ingest *ingest = NULL;

	ck_ok(vf_ingest_new("demo", "docs", see, seen, &ingest, &err));
	return ingest;
}

/* The whole stream in pieces of `most` bytes at most (0: one piece; negative: random up to that), each in memory of its own size. */
static int feed_in_pieces(struct vf_ingest *ingest, struct vf_span stream, int most, uint64_t *seed, struct vf_err *err)
{
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < stream.len;) {
		size_t n = most > 0 ? (size_t)most : most < 0 ? 1 + random_next(seed) % (uint64_t)-most : stream.len;
		if (n > stream.len - at)
			n = stream.len - at;
		uint8_t *piece = malloc(n);
		memcpy(piece, stream.data + at, n);
		rc = vf_ingest_feed(ingest, vf_span(piece, n), err);
		free(piece);
		at += n;
	}
	return rc;
}

static int ingest_all(struct vf_span stream, int most, uint64_t *seed, struct seen *seen, enum vf_format *format, struct vf_err *err)
{
	struct vf_ingest *ingest = begin(seen);
	int rc = feed_in_pieces(ingest, stream, most, seed, err);

	if (rc == 0)
		rc = vf_ingest_end(ingest, err);
	if (format)
		*format = vf_ingest_format(ingest);
	vf_ingest_free(&ingest);
	return rc;
}

/* ---- streams ---- */

struct stream { struct vf_buf bytes; };

static void put(struct stream *s, const void *bytes, size_t len)
{
	struct vf_err err = VF_ERR_INIT;

	ck_ok(vf_buf_put(&s->bytes, bytes, len, &err));
}

static void put_text(struct stream *s, const char *text)
{
	put(s, text, strlen(text));
}

static void put_msgpack(struct stream *s, const char *json)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_span bytes = in_format(json, VF_MSGPACK, &arena);

	put(s, bytes.data, bytes.len);
	vf_arena_free(&arena);
}

/* A header of version 1, 2 or 3, padded as numpy pads it. */
static void put_npy_header(struct stream *s, unsigned version, const char *dict)
{
	size_t lead = version == 1 ? 10 : 12, len = (lead + strlen(dict) + 1 + 63) / 64 * 64 - lead;
	uint8_t head[12] = { 0x93, 'N', 'U', 'M', 'P', 'Y', (uint8_t)version, 0, (uint8_t)len, (uint8_t)(len >> 8) };

	put(s, head, lead);
	put_text(s, dict);
	for (size_t i = strlen(dict); i + 1 < len; i++)
		put_text(s, " ");
	put_text(s, "\n");
}

/* Only right on a little-endian machine, as the rest of the test's numbers are small integers: swapped when it is not. */
static void put_number(struct stream *s, double d, bool wide)
{
	float f = (float)d;
	uint8_t bytes[8];
	size_t n = wide ? 8 : 4;

	memcpy(bytes, wide ? (const void *)&d : (const void *)&f, n);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	for (size_t i = 0; i < n / 2; i++) {
		uint8_t b = bytes[i];
		bytes[i] = bytes[n - 1 - i];
		bytes[n - 1 - i] = b;
	}
#endif
	put(s, bytes, n);
}

static void put_npy(struct stream *s, unsigned version, const char *dict, unsigned numbers, bool wide)
{
	put_npy_header(s, version, dict);
	for (unsigned i = 0; i < numbers; i++)
		put_number(s, i, wide);
}

#define RECORD_A "{\"key\":\"a\",\"data\":[1,2]}"
#define RECORD_B "{\"key\":\"b\",\"data\":{\"float32\":[3,4.5]},\"metadata\":{\"t\":\"[{,\\\"\"},\"ifAbsent\":true}"

/* One way to write records, and what must come of it. */
struct form {
	const char *what;
	void (*write)(struct stream *s);
	const char *records;
	enum vf_format format;
};

static void write_nothing(struct stream *s) { (void)s; }
static void write_blanks(struct stream *s) { put_text(s, " \n\r\n\t "); }
static void write_lines(struct stream *s) { put_text(s, RECORD_A "\n" RECORD_B "\r\n\n" RECORD_A "\n"); }
static void write_lines_unended(struct stream *s) { put_text(s, "\n " RECORD_A "\n" RECORD_B); }
static void write_pretty(struct stream *s) { put_text(s, "{\n \"key\" : \"a\" ,\n \"data\" : [ 1 , 2 ]\n}\n" RECORD_A RECORD_B); }
static void write_json_list(struct stream *s) { put_text(s, " [ " RECORD_A " , " RECORD_B ",\n" RECORD_A " ] \n"); }
static void write_json_empty_list(struct stream *s) { put_text(s, "[ ]\n[]" RECORD_A); }
static void write_body(struct stream *s)
{
	put_text(s, "{\"vectorBucketName\":\"demo\",\"indexName\":\"docs\",\"vectors\": [" RECORD_A ", " RECORD_B "]}\n");
}
static void write_body_reversed(struct stream *s)
{
	put_text(s, RECORD_A "{ \"vectors\" : [" RECORD_A "," RECORD_B " ] , \"indexName\" : \"docs\" }" RECORD_B);
}
static void write_body_arn(struct stream *s)
{
	put_text(s, "{\"indexArn\":\"arn:aws:s3vectors:eu-central-1:123456789012:bucket/demo/index/docs\",\"vectors\":[]}");
}
static void write_msgpack(struct stream *s)
{
	put_msgpack(s, RECORD_A);
	put_msgpack(s, RECORD_B);
	put_msgpack(s, RECORD_A);
}
static void write_msgpack_list(struct stream *s)
{
	put_msgpack(s, "[" RECORD_A "," RECORD_B "]");
	put_msgpack(s, "[]");
	put_msgpack(s, RECORD_A);
}
static void write_msgpack_three(struct stream *s) { put_msgpack(s, "[" RECORD_A "," RECORD_A "," RECORD_B "]"); }
static void write_msgpack_wide(struct stream *s)
{
	put(s, "\xdd\0\0\0\x02", 5);
	put_msgpack(s, RECORD_A);
	put_msgpack(s, RECORD_B);
	put(s, "\xdc\0\x01", 3);
	put_msgpack(s, RECORD_A);
	put(s, "\xdc\0\0", 3);
}
static void write_msgpack_body(struct stream *s)
{
	put_msgpack(s, "{\"indexName\":\"docs\",\"vectors\":[" RECORD_A "," RECORD_B "," RECORD_A "]}");
	put_msgpack(s, "{\"vectors\":[]}");
	put_msgpack(s, RECORD_B);
}
static void write_msgpack_body_wide(struct stream *s)
{
	put(s, "\xde\0\x02\xa9indexName\xa4" "docs\xa7vectors", 26);
	put_msgpack(s, "[" RECORD_A "]");
	put(s, "\xdf\0\0\0\x01\xa7vectors", 13);
	put_msgpack(s, "[" RECORD_B "]");
}
static void write_msgpack_binary(struct stream *s)
{
	put(s, "\x82\xa3key\xa1" "a\xa4" "data\xc4\x08\0\0\x80\x3f\0\0\0\x40", 22);
}
static void write_npy_f4(struct stream *s) { put_npy(s, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }", 6, false); }
static void write_npy_f8(struct stream *s) { put_npy(s, 2, "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)}", 6, true); }
static void write_npy_odd(struct stream *s) { put_npy(s, 3, "{\"shape\":(2L,3L),\"descr\":\"<f4\",\"fortran_order\":False,}", 6, false); }
static void write_npy_fortran(struct stream *s) { put_npy(s, 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }", 6, false); }
static void write_npy_empty(struct stream *s)
{
	put_npy(s, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 384), }", 0, false);
	put_npy(s, 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 0), }", 0, false);
}
static void write_mixed(struct stream *s)
{
	put_text(s, RECORD_A "\n");
	put_msgpack(s, RECORD_B);
	write_npy_f4(s);
	put_text(s, "[" RECORD_A "]");
	put_msgpack(s, "[" RECORD_B "," RECORD_A "," RECORD_B "]");
	write_npy_fortran(s);
}

#define A "a:1,2;"
#define B "b:3,4.5?+;"
static const struct form forms[] = {
	{ "nothing", write_nothing, "", VF_JSON },
	{ "blanks", write_blanks, "", VF_JSON },
	{ "JSON Lines", write_lines, A B A, VF_JSON },
	{ "JSON Lines without the last newline", write_lines_unended, A B, VF_JSON },
	{ "JSON over several lines", write_pretty, A A B, VF_JSON },
	{ "a JSON list", write_json_list, A B A, VF_JSON },
	{ "empty JSON lists", write_json_empty_list, A, VF_JSON },
	{ "a JSON body", write_body, A B, VF_JSON },
	{ "a JSON body, names reversed, between records", write_body_reversed, A A B B, VF_JSON },
	{ "an empty JSON body with an ARN", write_body_arn, "", VF_JSON },
	{ "a msgpack stream", write_msgpack, A B A, VF_MSGPACK },
	{ "msgpack lists", write_msgpack_list, A B A, VF_MSGPACK },
	{ "a msgpack list of three, which begins like .npy", write_msgpack_three, A A B, VF_MSGPACK },
	{ "msgpack lists with long heads", write_msgpack_wide, A B A, VF_MSGPACK },
	{ "msgpack bodies, the list beginning like .npy", write_msgpack_body, A B A B, VF_MSGPACK },
	{ "msgpack bodies with long heads", write_msgpack_body_wide, A B, VF_MSGPACK },
	{ "a msgpack record with a binary vector", write_msgpack_binary, "a:1,2;", VF_MSGPACK },
	{ ".npy of float32", write_npy_f4, "0:0,1;1:2,3;2:4,5;", VF_JSON },
	{ ".npy of float64, version 2", write_npy_f8, "0:0,1,2;1:3,4,5;", VF_JSON },
	{ ".npy with an unusual header, version 3", write_npy_odd, "0:0,1,2;1:3,4,5;", VF_JSON },
	{ ".npy in Fortran order", write_npy_fortran, "0:0,3;1:1,4;2:2,5;", VF_JSON },
	{ "empty .npy", write_npy_empty, "", VF_JSON },
	{ "everything in one stream", write_mixed, A B "0:0,1;1:2,3;2:4,5;" A B A B "0:0,3;1:1,4;2:2,5;", VF_JSON },
};
#define FORMS (sizeof forms / sizeof forms[0])

START_TEST(every_form_gives_its_records_in_pieces_of_any_size)
{
	uint64_t seed = 1;

	for (size_t i = 0; i < FORMS; i++) {
		struct stream s = { VF_BUF_INIT };
		forms[i].write(&s);
		for (int round = 0; round < 40; round++) {
			struct vf_err err = VF_ERR_INIT;
			struct seen seen = { .records = 0 };
			enum vf_format format;
			int most = round < 6 ? round : -40;
			int rc = ingest_all(vf_buf_span(&s.bytes), most, &seed, &seen, &format, &err);
			ck_assert_msg(rc == 0, "%s, pieces of %d: %s", forms[i].what, most, err.text);
			ck_assert_msg(vf_span_is(vf_buf_span(&seen.text), forms[i].records), "%s, pieces of %d: %.*s", forms[i].what, most,
			              (int)seen.text.len, (const char *)seen.text.data);
			ck_assert_msg(format == forms[i].format, "%s: format", forms[i].what);
			vf_buf_free(&seen.text);
		}
		vf_buf_free(&s.bytes);
	}
}
END_TEST

/* What a stream that is cut at any byte may be: refused at its end, or complete with the first records. */
START_TEST(a_stream_cut_anywhere_gives_the_first_records_or_is_incomplete)
{
	uint64_t seed = 2;

	for (size_t i = 0; i < FORMS; i++) {
		struct stream s = { VF_BUF_INIT };
		forms[i].write(&s);
		for (size_t len = 0; len < s.bytes.len; len++) {
			struct vf_err err = VF_ERR_INIT;
			struct seen seen = { .records = 0 };
			struct vf_ingest *ingest = begin(&seen);
			ck_assert_msg(feed_in_pieces(ingest, vf_span(s.bytes.data, len), -20, &seed, &err) == 0, "%s cut at %zu: %s", forms[i].what, len,
			              err.text);
			bool boundary = vf_ingest_at_boundary(ingest);
			int rc = vf_ingest_end(ingest, &err);
			ck_assert_msg(rc == (boundary ? 0 : -EINVAL), "%s cut at %zu: %d", forms[i].what, len, rc);
			ck_assert_msg(seen.text.len == 0 || strncmp((char *)seen.text.data, forms[i].records, seen.text.len) == 0, "%s cut at %zu",
			              forms[i].what, len);
			if (rc)
				ck_assert_uint_eq(err.unit, VF_PLACE_BYTE);
			vf_ingest_free(&ingest);
			vf_buf_free(&seen.text);
		}
		vf_buf_free(&s.bytes);
	}
}
END_TEST

/* ---- what is wrong, where ---- */

struct bad {
	const char *json;              /* the stream; NULL: bytes */
	uint64_t place;
	int code;
	const char *records;           /* that came before */
	const char *says;
};

static const struct bad bads[] = {
	{ "hello", 0, EINVAL, "", "'h' is unexpected: a record is a map" },
	{ "\x01", 0, EINVAL, "", "byte 0x01 is unexpected" },
	{ "\"key\"", 0, EINVAL, "", "'\"' is unexpected" },
	{ "\xc1", 0, EINVAL, "", "byte 0xc1 is unexpected" },
	{ RECORD_A "\n" RECORD_A "garbage", 49, EINVAL, A A, "'g' is unexpected" },
	{ RECORD_A "," RECORD_A, 24, EINVAL, A, "',' is unexpected" },
	{ RECORD_A "\n" "{\"key\":\"b\",\"data\":[1,}", 25, EINVAL, A, "'}' closes no '{'" },
	{ RECORD_A "\n" "{\"key\":\"b\",\"data\":[1,]}\n" RECORD_A, 25, EINVAL, A, "JSON" },
	{ RECORD_A "\n" "{\"key\":\"b\",\"dota\":[1]}\n" RECORD_A, 25, EINVAL, A, "record 2 ('b'): unknown field 'dota'" },
	{ RECORD_A "\n" "{\"data\":[1e39]}\n" RECORD_A, 25, EINVAL, A, "record 2: data[0] is 1e+39" },
	{ "[" RECORD_A " " RECORD_A "]", 26, EINVAL, A, "'{' is unexpected: a ',' or a ']' follows a record in a list" },
	{ "[" RECORD_A ",]", 26, EINVAL, A, "']' is unexpected: a record in a list is a map" },
	{ "[,]", 1, EINVAL, "", "',' is unexpected: a record in a list is a map" },
	{ "[[1,2]]", 1, EINVAL, "", "'[' is unexpected: a record in a list is a map" },
	{ "[0.1,0.2]", 1, EINVAL, "", "'0' is unexpected: a record in a list is a map" },
	{ "[" RECORD_A ",{\"vectors\":[]}]", 26, EINVAL, A, "record 2: unknown field 'vectors'" },
	{ "{\"vectors\":{}}", 11, EINVAL, "", "vectors is not a list of records" },
	{ "{\"vectors\":7}", 11, EINVAL, "", "vectors is not a list of records" },
	{ "{\"vectors\":[7]}", 12, EINVAL, "", "'7' is unexpected: a record in a list is a map" },
	{ "{\"vectors\":[" RECORD_A "],\"key\":\"x\"}", 0, EINVAL, "", "unknown field 'key' beside vectors" },
	{ "{\"vectors\":[" RECORD_A "],\"vectors\":[]}", 0, EINVAL, "", "duplicate" },
	{ "{\"vectors\":[" RECORD_A ",{\"key\":\"z\",\"data\":[null]}]}", 37, EINVAL, A, "record 2 ('z'): data[0] is null" },
	{ RECORD_A "{\"vectors\":[" RECORD_A "],\"indexName\":\"other\"}", 24, EINVAL, A, "meant for index 'other', this is index 'docs'" },
	{ "{\"vectors\":[" RECORD_A "],\"indexName\":\"docs\"} x", 58, EINVAL, A, "'x' is unexpected" },
	{ "{\"vectors\":[],\"vectorBucketName\":\"other\"}", 0, EINVAL, "", "meant for bucket 'other', this is bucket 'demo'" },
	{ "{\"vectors\":[],\"indexArn\":\"arn:aws:s3vectors:x:1:bucket/demo/index/other\"}", 0, EINVAL, "", "meant for index 'other'" },
	{ "{\"vectors\":[],\"indexArn\":\"demo/docs\"}", 0, EINVAL, "", "indexArn is 'demo/docs'; it must be arn:aws:s3vectors:" },
	{ "{\"vectors\":[],\"indexName\":\"docs\",\"indexArn\":\"arn:aws:s3vectors:x:1:bucket/demo/index/d\"}", 0, EINVAL, "",
	  "indexArn names 'd', another field names 'docs'" },
	{ "{\"vectors\":[],\"indexName\":7}", 0, EINVAL, "", "indexName is an integer; it must be a string" },
};

START_TEST(what_is_wrong_is_told_with_its_place_and_stays)
{
	uint64_t seed = 3;

	for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
		for (int most = 0; most < 3; most++) {
			struct vf_err err = VF_ERR_INIT, again = VF_ERR_INIT;
			struct seen seen = { .records = 0 };
			struct vf_ingest *ingest = begin(&seen);
			int rc = feed_in_pieces(ingest, vf_span_str(bads[i].json), most, &seed, &err);
			ck_assert_msg(rc == -bads[i].code, "%s: %d", bads[i].json, rc);
			ck_says(err, bads[i].says);
			if (!strstr(bads[i].says, "JSON") && !strstr(bads[i].says, "closes") && !strstr(bads[i].says, "duplicate"))
				ck_assert_msg(err.unit == VF_PLACE_BYTE && err.place == bads[i].place, "%s: place %llu", bads[i].json,
				              (unsigned long long)err.place);
			else
				ck_assert(err.unit == VF_PLACE_BYTE && err.place >= bads[i].place);
			ck_assert_msg(vf_span_is(vf_buf_span(&seen.text), bads[i].records), "%s", bads[i].json);
			ck_assert(!vf_ingest_at_boundary(ingest));
			ck_fails(vf_ingest_feed(ingest, vf_span_str(RECORD_A), &again), bads[i].code);
			ck_assert_str_eq(again.text, err.text);
			ck_fails(vf_ingest_end(ingest, &again), bads[i].code);
			ck_assert_uint_eq(again.place, err.place);
			vf_ingest_free(&ingest);
			vf_buf_free(&seen.text);
		}
	}
}
END_TEST

START_TEST(msgpack_that_is_wrong_is_told_with_its_place)
{
	static const struct { const char *bytes; size_t len; uint64_t place; const char *says; } cases[] = {
		{ "\x81\xa3key\xa1" "a\x07", 8, 7, "byte 0x07 is unexpected" },
		{ "\x80\x81\xa3key\x07", 7, 1, "record 2: key is an integer" },
		{ "\x92\x80\x05", 3, 2, "byte 0x05 is unexpected: a record in a list is a map" },
		{ "\x93NUMPZ\x01\0", 8, 0, "begins like an .npy file, but is none" },
		{ "\x81\xa7vectors\xc0", 10, 9, "vectors is not a list of records" },
		{ "\x82\xa7vectors\x90\xa3" "abc\x01", 15, 0, "unknown field 'abc' beside vectors" },
		{ "\x81\xa7vectors\x93NUM", 13, 10, "'N' is unexpected: a record in a list is a map" },
		{ "\x81\xa3key\xa1\xff", 7, 0, "UTF-8" },
		{ "\x81\x01\x02", 3, 0, "a name in a map is a string" },
	};
	uint64_t seed = 4;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		for (int most = 0; most < 3; most++) {
			struct vf_err err = VF_ERR_INIT;
			struct seen seen = { .records = 0 };
			int rc = ingest_all(vf_span(cases[i].bytes, cases[i].len), most, &seed, &seen, NULL, &err);
			ck_assert_msg(rc == -EINVAL, "case %zu: %d", i, rc);
			ck_says(err, cases[i].says);
			ck_assert_msg(err.unit == VF_PLACE_BYTE && err.place >= cases[i].place && err.place < cases[i].len, "case %zu: place %llu", i,
			              (unsigned long long)err.place);
			vf_buf_free(&seen.text);
		}
	}
}
END_TEST

static const struct { unsigned version; const char *dict; int code; const char *says; } bad_npy[] = {
	{ 4, "{}", EINVAL, "version 4 is unknown" },
	{ 1, "", EINVAL, "the header is not a dict" },
	{ 1, "[]", EINVAL, "the header is not a dict" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, ", EINVAL, "not a dict of names and values" },
	{ 1, "{'descr' '<f4'}", EINVAL, "not a dict of names and values" },
	{ 1, "{'descr': '<f4' 'fortran_order': False}", EINVAL, "not a dict of names and values" },
	{ 1, "{'descr': '<f4', 'fortran_order': False}", EINVAL, "the header has no 'shape'" },
	{ 1, "{'fortran_order': False, 'shape': (1, 1)}", EINVAL, "the header has no 'descr'" },
	{ 1, "{'descr': '<f4', 'shape': (1, 1)}", EINVAL, "the header has no 'fortran_order'" },
	{ 1, "{'descr': '<f4', 'descr': '<f4'}", EINVAL, "two entries 'descr'" },
	{ 1, "{'descr': '<f4', 'kind': 'x'}", EINVAL, "unknown entry 'kind'" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1)} x", EINVAL, "text behind" },
	{ 1, "{'descr': '>f4', 'fortran_order': False, 'shape': (1, 1)}", EINVAL, "numbers are '>f4'; they must be '<f4' or '<f8'" },
	{ 1, "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 1)}", EINVAL, "numbers are '<i8'" },
	{ 1, "{'descr': '|O', 'fortran_order': False, 'shape': (1, 1)}", EINVAL, "numbers are '|O'" },
	{ 1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 1)}", EINVAL, "a structured array" },
	{ 1, "{'descr': '<f4', 'fortran_order': 0, 'shape': (1, 1)}", EINVAL, "fortran_order is neither True nor False" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': 3}", EINVAL, "shape is not a tuple" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, x)}", EINVAL, "shape is not a tuple of whole numbers" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 1)}", EINVAL, "shape is not a tuple of whole numbers" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 1)}", EINVAL, "shape is not a tuple of whole numbers" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': ()}", EINVAL, "the array has 0 dimensions" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", EINVAL, "the array has 1 dimensions" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5)}", EINVAL, "the array has 3 dimensions" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0)}", EINVAL, "rows have 0 numbers" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 16385)}", EINVAL, "rows have 16385 numbers" },
	{ 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (16777217, 1)}", EFBIG, "Fortran order" },
	{ 1, "{'descr': '<f8', 'fortran_order': True, 'shape': (18446744073709551615, 16384)}", EFBIG, "Fortran order" },
	{ 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2)}", EINVAL, "a matrix of 3 rows of 2 numbers ends after 0 rows and 0 bytes" },
	{ 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 16384)}", EINVAL, "ends after 0 rows and 0 bytes" },
};

START_TEST(an_npy_that_is_no_matrix_of_floats_is_refused)
{
	uint64_t seed = 5;

	for (size_t i = 0; i < sizeof bad_npy / sizeof bad_npy[0]; i++) {
		for (int most = 0; most < 2; most++) {
			struct vf_err err = VF_ERR_INIT;
			struct stream s = { VF_BUF_INIT };
			struct seen seen = { .records = 0 };
			put_npy_header(&s, bad_npy[i].version, bad_npy[i].dict);
			int rc = ingest_all(vf_buf_span(&s.bytes), most, &seed, &seen, NULL, &err);
			ck_assert_msg(rc == -bad_npy[i].code, "%s: %d", bad_npy[i].dict, rc);
			ck_says(err, bad_npy[i].says);
			vf_buf_free(&seen.text);
			vf_buf_free(&s.bytes);
		}
	}
}
END_TEST

START_TEST(an_npy_holds_exactly_its_declared_size)
{
	struct vf_err err = VF_ERR_INIT;
	struct stream s = { VF_BUF_INIT };
	struct seen seen = { .records = 0 };
	uint64_t seed = 6;

	write_npy_f4(&s);
	ck_fails(ingest_all(vf_span(s.bytes.data, s.bytes.len - 3), 0, &seed, &seen, NULL, &err), EINVAL);
	ck_says(err, "a matrix of 3 rows of 2 numbers ends after 2 rows and 5 bytes");
	ck_assert_uint_eq(err.place, s.bytes.len - 3);
	put_number(&s, 6, false);
	ck_fails(ingest_all(vf_buf_span(&s.bytes), 0, &seed, &seen, NULL, &err), EINVAL);
	ck_says(err, "is unexpected");
	ck_assert_uint_eq(err.place, s.bytes.len - 4);
	vf_buf_free(&seen.text);
	vf_buf_free(&s.bytes);
}
END_TEST

START_TEST(a_double_beyond_float32_names_its_row_and_column)
{
	struct vf_err err = VF_ERR_INIT;
	struct stream s = { VF_BUF_INIT };
	struct seen seen = { .records = 0 };
	uint64_t seed = 7;

	put_npy_header(&s, 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)}");
	size_t header = s.bytes.len;
	for (int i = 0; i < 4; i++)
		put_number(&s, i == 3 ? -1e39 : i, true);
	ck_fails(ingest_all(vf_buf_span(&s.bytes), 0, &seed, &seen, NULL, &err), EINVAL);
	ck_says(err, "row 1: data[1] is -1e+39, beyond what float32 holds");
	ck_assert_uint_eq(err.place, header + 16);
	ck_assert_uint_eq(seen.records, 1);
	vf_buf_free(&seen.text);
	vf_buf_free(&s.bytes);
}
END_TEST

START_TEST(the_sink_stops_the_stream)
{
	struct stream s = { VF_BUF_INIT };
	uint64_t seed = 8;

	write_lines(&s);
	for (int i = 0; i < 2; i++) {
		struct vf_err err = VF_ERR_INIT;
		struct seen seen = { .refuse_at = 2, .refuse_code = i ? ENOSPC : EINVAL };
		ck_fails(ingest_all(vf_buf_span(&s.bytes), 0, &seed, &seen, NULL, &err), seen.refuse_code);
		ck_assert_str_eq(err.text, i ? "the sink is full" : "record 2 ('b'): the sink is full");
		ck_assert_uint_eq(err.place, i ? 0 : 25);
		ck_assert_uint_eq(seen.records, 2);
		vf_buf_free(&seen.text);
	}
	vf_buf_free(&s.bytes);
}
END_TEST

START_TEST(after_its_end_a_stream_begins_anew)
{
	struct vf_err err = VF_ERR_INIT;
	struct seen seen = { .records = 0 };
	struct vf_ingest *ingest = begin(&seen);

	ck_ok(vf_ingest_end(ingest, &err));
	ck_ok(vf_ingest_feed(ingest, vf_span("\x80", 1), &err));
	ck_ok(vf_ingest_end(ingest, &err));
	ck_assert_int_eq(vf_ingest_format(ingest), VF_MSGPACK);
	ck_ok(vf_ingest_feed(ingest, vf_span_str("  " RECORD_A), &err));
	ck_assert(vf_ingest_at_boundary(ingest));
	ck_ok(vf_ingest_end(ingest, &err));
	ck_assert_int_eq(vf_ingest_format(ingest), VF_JSON);
	ck_ok(vf_ingest_feed(ingest, vf_span_str("{"), &err));
	ck_assert(!vf_ingest_at_boundary(ingest));
	ck_fails(vf_ingest_feed(ingest, vf_span_str("\"key\":[}"), &err), EINVAL);
	ck_assert_uint_eq(err.place, 8);
	vf_ingest_free(&ingest);
	vf_buf_free(&seen.text);
}
END_TEST

/* A body of some 6 MB: more than one record may have, so that it is taken apart without decoding it whole. */
START_TEST(a_long_body_is_taken_record_by_record)
{
	uint64_t seed = 9;

	for (size_t f = 0; f < 2; f++) {
		struct vf_err err = VF_ERR_INIT;
		struct stream s = { VF_BUF_INIT };
		struct seen seen = { .records = 0 };
		const uint32_t n = 3000;
		put_text(&s, f ? "\x83\xa9indexName\xa4" "docs\xa7vectors\xdd" : "{\"indexName\": \"docs\" , \"vectors\" : [");
		if (f)
			put(&s, (uint8_t[]){ 0, 0, n >> 8, n & 0xff }, 4);
		for (uint32_t i = 0; i < n; i++) {
			struct vf_buf record = VF_BUF_INIT;
			ck_ok(vf_buf_printf(&record, &err, "{\"key\":\"k%u\",\"data\":[%u],\"metadata\":{\"t\":\"%02000u\"}}%c", i, i, i, 0));
			if (f)
				put_msgpack(&s, (char *)record.data);
			else
				put_text(&s, (char *)record.data);
			if (!f && i + 1 < n)
				put_text(&s, ",");
			vf_buf_free(&record);
		}
		put_text(&s, f ? "\xb0vectorBucketName\xa4" "demo" : "], \"vectorBucketName\":\"demo\"}\n");
		ck_assert_uint_gt(s.bytes.len, VF_RECORD_FILE_BYTES_MAX);
		ck_ok(ingest_all(vf_buf_span(&s.bytes), 131072, &seed, &seen, NULL, &err));
		ck_assert_uint_eq(seen.records, n);
		ck_assert(strncmp((char *)seen.text.data, "k0:0+;k1:1+;k2:2+;", 18) == 0);
		/* The same, broken near its end: nothing of the list has gone to the sink when another field is wrong. */
		char *bucket = (char *)s.bytes.data + s.bytes.len - 8;
		memcpy(strstr(bucket, "demo") ? strstr(bucket, "demo") : bucket + 4, "nemo", 4);
		vf_buf_clear(&seen.text);
		ck_fails(ingest_all(vf_buf_span(&s.bytes), 0, &seed, &seen, NULL, &err), EINVAL);
		ck_says(err, "meant for bucket 'nemo'");
		ck_assert_uint_eq(seen.text.len, 0);
		vf_buf_free(&seen.text);
		vf_buf_free(&s.bytes);
	}
}
END_TEST

/* What is too long to be decoded whole is walked by our own eyes: blanks make it so long. */
START_TEST(a_long_body_is_as_strict_as_a_short_one)
{
	static const char *const cases[][3] = {
		{ "{\"vectors\":[" RECORD_A "],", "\"indexName\":\"docs\"}", NULL },
		{ "{", "\"vectors\":[" RECORD_A "]}", NULL },
		{ "{\"vectors\":", "[" RECORD_A "]}", NULL },
		{ "{\"vectors\":[" RECORD_A "],", "\"vectors\":[]}", "'vectors' is there twice" },
		{ "{\"vectors\":[" RECORD_A "]", "\"indexName\":\"docs\"}", "not JSON: ',' or '}' expected" },
		{ "{\"vectors\"", "[" RECORD_A "]}", "not JSON: ':' expected" },
		{ "{\"vectors\":[" RECORD_A "],", "}", "'}' closes no" },
		{ "{\"vectors\":[" RECORD_A "],", "7:1}", "a name in a map is an integer" },
		{ "{\"vectors\":[" RECORD_A "],", "\"indexName\":}", "closes no" },
		{ "{\"vectors\":[" RECORD_A "],", "\"indexName\":tru}", "JSON" },
		{ "{\"vectors\":[" RECORD_A "],", "\"key\":\"docs\"}", "unknown field 'key' beside vectors" },
		{ "{\"vectors\":", "{}}", "vectors is not a list of records" },
		{ "{\"vectors\":[" RECORD_A, ",]}", "']' is unexpected" },
	};
	const size_t blanks = VF_RECORD_FILE_BYTES_MAX;
	char *pad = malloc(blanks);
	uint64_t seed = 11;

	memset(pad, ' ', blanks);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct vf_err err = VF_ERR_INIT;
		struct stream s = { VF_BUF_INIT };
		struct seen seen = { .records = 0 };
		put_text(&s, cases[i][0]);
		put(&s, pad, blanks);
		put_text(&s, cases[i][1]);
		int rc = ingest_all(vf_buf_span(&s.bytes), 0, &seed, &seen, NULL, &err);
		ck_assert_msg(rc == (cases[i][2] ? -EINVAL : 0), "%s...%s: %d %s", cases[i][0], cases[i][1], rc, err.text);
		if (cases[i][2]) {
			ck_says(err, cases[i][2]);
			ck_assert(err.unit == VF_PLACE_BYTE && err.place <= s.bytes.len);
		} else {
			ck_span(vf_buf_span(&seen.text), A);
		}
		vf_buf_free(&seen.text);
		vf_buf_free(&s.bytes);
	}
	free(pad);
}
END_TEST

START_TEST(a_value_that_never_ends_is_refused_before_it_fills_the_memory)
{
	static const struct { const char *begin; uint64_t most; const char *says; } cases[] = {
		{ "{\"key\":\"", VF_VALUE_BYTES_MAX, "the map has more than 67108864 bytes" },
		{ "[{\"key\":\"", VF_RECORD_FILE_BYTES_MAX, "the record has more than 4194304 bytes" },
		{ "\x81\xa3key\xdb\xff\xff\xff\xff", VF_VALUE_BYTES_MAX, "the map has more than" },
	};
	static char piece[1 << 20];

	memset(piece, 'x', sizeof piece);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct vf_err err = VF_ERR_INIT;
		struct seen seen = { .records = 0 };
		struct vf_ingest *ingest = begin(&seen);
		uint64_t fed = 0;
		int rc = vf_ingest_feed(ingest, vf_span_str(cases[i].begin), &err);
		for (; rc == 0; fed += sizeof piece)
			rc = vf_ingest_feed(ingest, vf_span(piece, sizeof piece), &err);
		ck_assert_int_eq(rc, -EFBIG);
		ck_says(err, cases[i].says);
		ck_assert_uint_le(fed, cases[i].most + 2 * sizeof piece);
		vf_ingest_free(&ingest);
	}
	/* A record without "vectors" that is too big for one. */
	struct vf_err err = VF_ERR_INIT;
	struct seen seen = { .records = 0 };
	struct vf_ingest *ingest = begin(&seen);
	ck_ok(vf_ingest_feed(ingest, vf_span_str("{\"indexName\":\"docs\""), &err));
	for (int i = 0; i < 5; i++) {
		memset(piece, ' ', sizeof piece);
		ck_ok(vf_ingest_feed(ingest, vf_span(piece, sizeof piece), &err));
	}
	ck_fails(vf_ingest_feed(ingest, vf_span_str("}"), &err), EFBIG);
	ck_says(err, "at most 4194304 are taken");
	vf_ingest_free(&ingest);
}
END_TEST

/* Random bytes, and good streams with a few bytes changed: any verdict, but no crash, and the same in any pieces. */
START_TEST(noise_is_judged_the_same_in_any_pieces)
{
	uint64_t seed = 10;

	for (int round = 0; round < 6000; round++) {
		struct stream s = { VF_BUF_INIT };
		forms[random_next(&seed) % FORMS].write(&s);
		for (int k = 0; k < 3 && s.bytes.len; k++) {
			uint64_t at = random_next(&seed) % s.bytes.len;
			s.bytes.data[at] = round & 1 ? (uint8_t)(s.bytes.data[at] ^ 1u << random_next(&seed) % 8) : (uint8_t)random_next(&seed);
		}
		struct vf_err whole_err = VF_ERR_INIT, pieces_err = VF_ERR_INIT;
		struct seen whole = { .records = 0 }, pieces = { .records = 0 };
		int a = ingest_all(vf_buf_span(&s.bytes), 0, &seed, &whole, NULL, &whole_err);
		int b = ingest_all(vf_buf_span(&s.bytes), -9, &seed, &pieces, NULL, &pieces_err);
		ck_assert_msg(a == b, "round %d: %s | %s", round, whole_err.text, pieces_err.text);
		ck_assert_str_eq(whole_err.text, pieces_err.text);
		ck_assert_uint_eq(whole_err.place, pieces_err.place);
		ck_assert(vf_span_equal(vf_buf_span(&whole.text), vf_buf_span(&pieces.text)));
		vf_buf_free(&whole.text);
		vf_buf_free(&pieces.text);
		vf_buf_free(&s.bytes);
	}
}
END_TEST

CHECK_MAIN("ingest",
	every_form_gives_its_records_in_pieces_of_any_size, a_stream_cut_anywhere_gives_the_first_records_or_is_incomplete,
	what_is_wrong_is_told_with_its_place_and_stays, msgpack_that_is_wrong_is_told_with_its_place,
	an_npy_that_is_no_matrix_of_floats_is_refused, an_npy_holds_exactly_its_declared_size,
	a_double_beyond_float32_names_its_row_and_column, the_sink_stops_the_stream, after_its_end_a_stream_begins_anew,
	a_long_body_is_taken_record_by_record,
	a_long_body_is_as_strict_as_a_short_one, a_value_that_never_ends_is_refused_before_it_fills_the_memory,
	noise_is_judged_the_same_in_any_pieces)
