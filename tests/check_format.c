/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "check.h"
#include "vecfs/format.h"

/* Check's own assertions cost a system call each: in inner loops only a failure calls them. */
#define must(condition) do { if (!(condition)) ck_abort_msg("%s", #condition); } while (0)

static const enum vf_format formats[] = { VF_MSGPACK, VF_JSON };

/* ---- random values ---- */

static uint64_t seed;

static uint64_t next(void)
{
	seed += 0x9e3779b97f4a7c15u;
	uint64_t z = seed;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static uint32_t below(uint32_t n) { return (uint32_t)(next() % n); }

static double any_double(void)
{
	double d;

	do {
		uint64_t bits = next();
		memcpy(&d, &bits, sizeof d);
	} while (!isfinite(d));
	return below(2) ? d : (double)(int64_t)below(2000) / 8 - 100;
}

static int64_t any_integer(void)
{
	static const int64_t edges[] = { 0, 1, -1, 127, 128, -32, -33, 255, 256, -128, -129, 65535, 65536, -32768, -32769, INT32_MAX, INT32_MIN,
	                                 UINT32_MAX, (int64_t)UINT32_MAX + 1, INT64_MAX, INT64_MIN };

	return below(2) ? edges[below(sizeof edges / sizeof edges[0])] : (int64_t)(next() >> below(64));
}

static struct vf_span any_string(struct vf_arena *arena)
{
	static const char *const pieces[] = { "a", "key", "\"", "\\", "\n", "\t", "\x01", "\x1f", "\x7f", "\xc3\xa9", "\xe2\x82\xac",
	                                      "\xf0\x9f\x98\x80", "/", " ", "{", "]", ",", ":" };
	uint32_t n = below(10) ? below(6) : below(400);
	char text[4 * 400], *p = text;

	for (uint32_t i = 0; i < n; i++) {
		const char *piece = pieces[below(sizeof pieces / sizeof pieces[0])];
		memcpy(p, piece, strlen(piece));
		p += strlen(piece);
	}
	return vf_arena_copy(arena, vf_span(text, (size_t)(p - text)));
}

static struct vf_value any_value(struct vf_arena *arena, uint32_t depth);

static struct vf_value any_list(struct vf_arena *arena, uint32_t depth)
{
	struct vf_value v = { .kind = VF_LIST, .count = below(20) ? below(5) : below(70) };

	v.items = vf_arena_alloc(arena, (v.count + 1) * sizeof *v.items);
	for (uint32_t i = 0; i < v.count; i++)
		v.items[i] = any_value(arena, depth + 1);
	return v;
}

static struct vf_value any_map(struct vf_arena *arena, uint32_t depth)
{
	struct vf_value v = { .kind = VF_MAP, .count = below(20) ? below(5) : below(70) };

	v.entries = vf_arena_alloc(arena, (v.count + 1) * sizeof *v.entries);
	for (uint32_t i = 0; i < v.count; i++) {
		struct vf_buf name = VF_BUF_INIT;
		struct vf_err err;
		struct vf_span text = any_string(arena);
		must(vf_buf_printf(&name, &err, "%.*s%u", (int)text.len, (const char *)text.data, i) == 0);
		v.entries[i].name = vf_arena_copy(arena, vf_buf_span(&name));
		v.entries[i].value = any_value(arena, depth + 1);
		vf_buf_free(&name);
	}
	return v;
}

static struct vf_value any_value(struct vf_arena *arena, uint32_t depth)
{
	switch (below(depth < 6 ? 8 : 5)) {
	case 0: return (struct vf_value){ .kind = VF_NULL };
	case 1: return (struct vf_value){ .kind = VF_BOOL, .boolean = below(2) };
	case 2: return (struct vf_value){ .kind = VF_INT, .integer = any_integer() };
	case 3: return (struct vf_value){ .kind = VF_FLOAT, .real = any_double() };
	case 4: return (struct vf_value){ .kind = VF_STRING, .bytes = any_string(arena) };
	case 5: return any_list(arena, depth);
	default: return any_map(arena, depth);
	}
}

static bool same(const struct vf_value *a, const struct vf_value *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case VF_NULL:
		return true;
	case VF_BOOL:
		return a->boolean == b->boolean;
	case VF_INT:
		return a->integer == b->integer;
	case VF_FLOAT:
		return memcmp(&a->real, &b->real, sizeof a->real) == 0;
	case VF_STRING:
	case VF_BIN:
		return vf_span_equal(a->bytes, b->bytes);
	case VF_LIST:
		for (uint32_t i = 0; i < a->count && a->count == b->count; i++)
			if (!same(&a->items[i], &b->items[i]))
				return false;
		return a->count == b->count;
	case VF_MAP:
		for (uint32_t i = 0; i < a->count && a->count == b->count; i++)
			if (!vf_span_equal(a->entries[i].name, b->entries[i].name) || !same(&a->entries[i].value, &b->entries[i].value))
				return false;
		return a->count == b->count;
	}
	return false;
}

static void encode(enum vf_format format, const struct vf_value *v, struct vf_buf *out)
{
	struct vf_emitter e;
	struct vf_err err = VF_ERR_INIT;

	vf_buf_clear(out);
	vf_emit_begin(&e, format, out);
	vf_emit_value(&e, v);
	must(vf_emit_end(&e, &err) == 0);
}

/* ---- values ---- */

START_TEST(a_random_value_comes_back_from_both_formats)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf text = VF_BUF_INIT, again = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;

	for (seed = 1; seed < 3000 * 1000u; seed = seed / 1000 * 1000 + 1001) {
		uint64_t run = seed;
		struct vf_value v = any_value(&arena, 0), back;
		for (size_t f = 0; f < 2; f++) {
			encode(formats[f], &v, &text);
			ck_ok(vf_value_decode(formats[f], vf_buf_span(&text), &arena, &back, &err));
			ck_assert_msg(same(&v, &back), "seed %" PRIu64 ", format %zu", run, f);
			encode(formats[f], &back, &again);
			ck_assert(vf_span_equal(vf_buf_span(&text), vf_buf_span(&again)));
		}
		vf_arena_reset(&arena);
		seed = run;
	}
	vf_buf_free(&text);
	vf_buf_free(&again);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(msgpack_is_transcoded_to_what_the_tree_gives)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf packed = VF_BUF_INIT, want = VF_BUF_INIT, got = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;

	seed = 7;
	for (int i = 0; i < 300; i++) {
		struct vf_value v = any_map(&arena, 0);
		encode(VF_MSGPACK, &v, &packed);
		for (size_t f = 0; f < 2; f++) {
			struct vf_emitter e;
			encode(formats[f], &v, &want);
			vf_buf_clear(&got);
			vf_emit_begin(&e, formats[f], &got);
			vf_emit_msgpack(&e, vf_buf_span(&packed));
			ck_ok(vf_emit_end(&e, &err));
			ck_assert(vf_span_equal(vf_buf_span(&want), vf_buf_span(&got)));
		}
		vf_arena_reset(&arena);
	}
	vf_buf_free(&packed);
	vf_buf_free(&want);
	vf_buf_free(&got);
	vf_arena_free(&arena);
}
END_TEST

static void check_text(const char *json, const char *want)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf text = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value v;

	ck_ok(vf_value_decode(VF_JSON, vf_span_str(json), &arena, &v, &err));
	encode(VF_JSON, &v, &text);
	ck_assert_msg(vf_span_is(vf_buf_span(&text), want), "%s gave %.*s, expected %s", json, (int)text.len, (char *)text.data, want);
	vf_buf_free(&text);
	vf_arena_free(&arena);
}

START_TEST(json_is_written_in_one_form)
{
	check_text("{\"b\":1,\"a\":[true,false,null]}", "{\"b\": 1, \"a\": [true, false, null]}");
	check_text(" [ ] ", "[]");
	check_text("{}\n", "{}");
	check_text("[[],{},[[1]]]", "[[], {}, [[1]]]");
	check_text("\"\\u00e9\\u0000\\u000b\\/\\\"\\\\\\b\"", "\"\xc3\xa9\\u0000\\u000b/\\\"\\\\\\b\"");
	check_text("\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"");
	check_text("1", "1");
	check_text("-0.0", "-0.0");
	check_text("1.0", "1.0");
	check_text("0.1", "0.1");
	check_text("1e2", "100.0");
	check_text("1e15", "1000000000000000.0");
	check_text("1e16", "1e16");
	check_text("12345678901234567890e0", "1.2345678901234567e19");
	check_text("0.0001", "0.0001");
	check_text("0.00001", "0.00001");
	check_text("0.000001", "1e-6");
	check_text("5e-324", "5e-324");
	check_text("1.7976931348623157e308", "1.7976931348623157e308");
	check_text("9223372036854775807", "9223372036854775807");
	check_text("-9223372036854775808", "-9223372036854775808");
}
END_TEST

/* ---- floats ---- */

static float float_of(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof f);
	return f;
}

static char *text_of_floats(const float *f, uint32_t n, struct vf_buf *out)
{
	struct vf_emitter e;
	struct vf_err err = VF_ERR_INIT;

	vf_buf_clear(out);
	vf_emit_begin(&e, VF_JSON, out);
	vf_emit_floats(&e, f, n);
	must(vf_emit_end(&e, &err) == 0);
	must(vf_buf_put(out, "", 1, &err) == 0);
	return (char *)out->data;
}

static int digits_in(const char *text)
{
	int n = 0, zeros = 0;

	for (; *text && *text != 'e' && *text != ',' && *text != ']'; text++) {
		if (*text < '0' || *text > '9')
			continue;
		if (*text == '0')
			zeros += n > 0;
		else
			n += 1 + zeros, zeros = 0;
	}
	return n;
}

/* The fewest digits that printf needs. */
static int digits_needed(float f)
{
	char text[40];

	for (int n = 1; n < 9; n++) {
		snprintf(text, sizeof text, "%.*e", n - 1, (double)f);
		if (strtof(text, NULL) == f)
			return n;
	}
	return 9;
}

static void check_float(float f, struct vf_buf *out)
{
	char *text = text_of_floats(&f, 1, out), *end;

	float back = strtof(text + 1, &end), by_double = (float)strtod(text + 1, NULL);
	if (memcmp(&back, &f, sizeof f) != 0 || memcmp(&by_double, &f, sizeof f) != 0 || strcmp(end, "]") != 0 || !strpbrk(text, ".e"))
		ck_abort_msg("%s instead of %.9g", text, (double)f);
}

START_TEST(a_million_random_float32_come_back_from_their_text)
{
	struct vf_buf out = VF_BUF_INIT;
	int done = 0;

	seed = 11;
	while (done < 1000000) {
		float f = float_of((uint32_t)next());
		if (!isfinite(f))
			continue;
		check_float(f, &out);
		done++;
	}
	vf_buf_free(&out);
}
END_TEST

START_TEST(float32_around_every_power_of_two_and_of_ten_come_back)
{
	struct vf_buf out = VF_BUF_INIT;

	for (uint32_t exponent = 0; exponent < 255; exponent++)
		for (int near = -2; near <= 2; near++) {
			uint32_t bits = (exponent << 23) + (uint32_t)near;
			if (isfinite(float_of(bits)))
				check_float(float_of(bits), &out);
		}
	for (int power = -45; power <= 38; power++) {
		char text[16];
		uint32_t bits;
		snprintf(text, sizeof text, "1e%d", power);
		float f = strtof(text, NULL);
		memcpy(&bits, &f, sizeof bits);
		for (uint32_t near = 0; near < 5; near++)
			if (bits + near >= 2)
				check_float(float_of(bits + near - 2), &out);
	}
	vf_buf_free(&out);
}
END_TEST

/* The float64 nearest to 7.038531e-26 lies in the middle between two float32, and goes the other way than the decimal. */
START_TEST(a_float32_comes_back_by_way_of_float64_too)
{
	struct vf_buf out = VF_BUF_INIT;

	ck_assert((float)strtod("7.038531e-26", NULL) != strtof("7.038531e-26", NULL));
	check_float(strtof("7.038531e-26", NULL), &out);
	vf_buf_free(&out);
}
END_TEST

START_TEST(the_text_of_a_float32_has_no_more_digits_than_it_needs)
{
	struct vf_buf out = VF_BUF_INIT;

	seed = 12;
	for (int i = 0; i < 100000; i++) {
		/* everyday numbers and any */
		float f = i % 2 ? (float)(int32_t)below(2000000) / 1000000 - 1 : float_of((uint32_t)next());
		if (!isfinite(f) || f == 0)
			continue;
		char *text = text_of_floats(&f, 1, &out);
		if (digits_in(text) > digits_needed(f))
			ck_abort_msg("%s for %.9g", text, (double)f);
	}
	vf_buf_free(&out);
}
END_TEST

START_TEST(random_float64_come_back_from_their_shortest_text)
{
	struct vf_buf out = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;

	seed = 13;
	for (int i = 0; i < 300000; i++) {
		double d = i % 3 ? any_double() : (double)below(1000000) / 1e6, back;
		struct vf_emitter e;
		char *end;
		vf_buf_clear(&out);
		vf_emit_begin(&e, VF_JSON, &out);
		vf_emit_double(&e, d);
		must(vf_emit_end(&e, &err) == 0);
		must(vf_buf_put(&out, "", 1, &err) == 0);
		back = strtod((char *)out.data, &end);
		if (memcmp(&back, &d, sizeof d) != 0 || *end || !strpbrk((char *)out.data, ".e"))
			ck_abort_msg("%s instead of %.17g", (char *)out.data, d);
		char text[40];
		snprintf(text, sizeof text, "%.*e", digits_in((char *)out.data) > 1 ? digits_in((char *)out.data) - 2 : 16, d);
		if (strtod(text, NULL) == d && d != 0 && digits_in((char *)out.data) > 1)
			ck_abort_msg("%s: %s is shorter", (char *)out.data, text);
	}
	vf_buf_free(&out);
}
END_TEST

START_TEST(a_vector_is_a_list_of_float32_in_both_formats)
{
	float f[] = { 1, 0.1f, -0.0f, 3.4028235e38f, 1.4e-45f };
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf out = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value v;

	ck_assert_str_eq(text_of_floats(f, 5, &out), "[1.0, 0.1, -0.0, 3.4028235e38, 1e-45]");
	for (size_t format = 0; format < 2; format++) {
		struct vf_emitter e;
		vf_buf_clear(&out);
		vf_emit_begin(&e, formats[format], &out);
		vf_emit_floats(&e, f, 5);
		ck_ok(vf_emit_end(&e, &err));
		ck_ok(vf_value_decode(formats[format], vf_buf_span(&out), &arena, &v, &err));
		ck_assert_uint_eq(v.count, 5);
		for (int i = 0; i < 5; i++) {
			float back = (float)v.items[i].real;
			ck_assert_int_eq(v.items[i].kind, VF_FLOAT);
			ck_assert(memcmp(&back, &f[i], sizeof back) == 0);
		}
		if (formats[format] == VF_MSGPACK)
			ck_assert_uint_eq(out.len, 1 + 5 * 5);
	}
	vf_arena_free(&arena);
	vf_buf_free(&out);
}
END_TEST

START_TEST(an_emitter_nests_and_separates)
{
	struct vf_buf out = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_emitter e;

	vf_emit_begin(&e, VF_JSON, &out);
	vf_emit_map(&e, 3);
	vf_emit_name(&e, "a");
	vf_emit_list(&e, 2);
	vf_emit_map(&e, 0);
	vf_emit_close(&e);
	vf_emit_int(&e, -5);
	vf_emit_close(&e);
	vf_emit_name(&e, "b");
	vf_emit_bool(&e, true);
	vf_emit_name(&e, "c");
	vf_emit_floats(&e, NULL, 0);
	vf_emit_close(&e);
	ck_ok(vf_emit_end(&e, &err));
	ck_assert(vf_span_is(vf_buf_span(&out), "{\"a\": [{}, -5], \"b\": true, \"c\": []}"));
	vf_buf_clear(&out);
	vf_emit_begin(&e, VF_JSON, &out);
	for (int i = 0; i < 1000; i++)
		vf_emit_list(&e, 1);
	for (int i = 0; i < 1000; i++)
		vf_emit_close(&e);
	ck_fails(vf_emit_end(&e, &err), EINVAL);
	vf_buf_free(&out);
}
END_TEST

/* ---- lists of numbers, which both decoders read by a way of their own ---- */

/* A float list with now and then something else in it, and what it must decode to. */
static struct vf_value any_packed_list(struct vf_arena *arena, struct vf_buf *out)
{
	struct vf_value v = { .kind = VF_LIST, .count = below(300) };
	uint32_t float64 = below(2), strange = below(3) ? 1000 : 30;
	struct vf_emitter e;

	v.items = vf_arena_alloc(arena, (v.count + 1) * sizeof *v.items);
	vf_buf_clear(out);
	vf_emit_begin(&e, VF_MSGPACK, out);
	vf_emit_list(&e, v.count);
	for (uint32_t i = 0; i < v.count; i++) {
		struct vf_value *item = &v.items[i];
		float f = (float)any_double();
		*item = (struct vf_value){ .kind = VF_FLOAT, .real = float64 ? any_double() : (double)f };
		if (below(strange) == 0)
			*item = any_value(arena, 5);
		vf_emit_value(&e, item);
		if (item->kind == VF_FLOAT && !float64 && item->real == (double)f) {
			/* as float32 */
			uint32_t bits;
			memcpy(&bits, &f, sizeof bits);
			out->len -= 9;
			uint8_t packed[] = { 0xca, (uint8_t)(bits >> 24), (uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits };
			struct vf_err err;
			must(vf_buf_put(out, packed, sizeof packed, &err) == 0);
		}
	}
	vf_emit_close(&e);
	return v;
}

START_TEST(packed_lists_of_floats_are_read_whatever_stands_between)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf text = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value back;

	seed = 41;
	for (int i = 0; i < 3000; i++) {
		struct vf_value v = any_packed_list(&arena, &text);
		ck_ok(vf_value_decode(VF_MSGPACK, vf_buf_span(&text), &arena, &back, &err));
		ck_assert(same(&v, &back));
		uint32_t len = below((uint32_t)text.len);
		uint8_t *cut = malloc(len + !len);
		memcpy(cut, text.data, len);
		ck_fails(vf_value_decode(VF_MSGPACK, vf_span(cut, len), &arena, &back, &err), EINVAL);
		free(cut);
		vf_arena_reset(&arena);
	}
	vf_buf_free(&text);
	vf_arena_free(&arena);
}
END_TEST

/* A JSON number of any look. */
static void any_number_text(char *out)
{
	char *p = out;
	uint32_t whole = below(4) ? below(3) : below(25), fraction = below(5) ? below(20) : below(40);

	if (below(2))
		*p++ = '-';
	if (whole == 0 || below(10) == 0) {
		*p++ = '0';
	} else {
		*p++ = (char)('1' + below(9));
		while (--whole > 0)
			*p++ = (char)('0' + below(10));
	}
	if (fraction) {
		*p++ = '.';
		for (uint32_t zeros = below(3) ? 0 : below(12); zeros > 0; zeros--)
			*p++ = '0';
		while (fraction-- > 0)
			*p++ = (char)('0' + below(10));
	}
	if (below(3) == 0)
		p += sprintf(p, "%c%s%u", below(2) ? 'e' : 'E', (const char *[]){ "", "+", "-" }[below(3)], below(4) ? below(30) : below(280));
	*p = 0;
}

/* With room behind it a number is read in larger pieces. */
static const char *const behind_number[] = { "", "                              " };

START_TEST(json_numbers_are_read_as_strtod_and_strtoll_read_them)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value v;
	int integers = 0;

	seed = 42;
	for (int i = 0; i < 500000; i++) {
		char number[120], text[160];
		any_number_text(number);
		snprintf(text, sizeof text, "[%s%s]", number, behind_number[i % 2]);
		errno = 0;
		long long whole = strtoll(number, NULL, 10);
		bool integer = strpbrk(number, ".eE") == NULL;
		int rc = vf_value_decode(VF_JSON, vf_span_str(text), &arena, &v, &err);
		if (integer && errno == ERANGE) {
			must(rc == -EINVAL && strstr(err.text, "too big"));
			continue;
		}
		must(rc == 0 && v.count == 1 && v.items[0].kind == (integer ? VF_INT : VF_FLOAT));
		if (integer)
			must(v.items[0].integer == whole);
		double d = strtod(number, NULL);
		if (!integer && memcmp(&d, &v.items[0].real, sizeof d) != 0)
			ck_abort_msg("%s read as %.17g", number, v.items[0].real);
		integers += integer;
		if (i % 1000 == 0)
			vf_arena_reset(&arena);
	}
	ck_assert_int_gt(integers, 1000);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(what_is_no_json_number_is_refused_in_a_list_too)
{
	static const char *const bad[] = { "01", "-", "+1", ".5", "5.", "1e", "1e+", "0x10", "1_0", "1 2", "Infinity", "-inf", "nan", "--1", "1.e3",
	                                   "1,", ",1", "1,,2", "00", "-01", "1.2.3", "1e5e5", "1e400", "-1e400", "9223372036854775808",
	                                   "99999999999999999999999", "1.5, 2.5,", "1.5 2.5", "\"", "1.5f", "1/2" };
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value v;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		for (size_t k = 0; k < 2; k++) {
			char text[96];
			snprintf(text, sizeof text, "[1.5, %s%s]", bad[i], behind_number[k]);
			ck_assert_msg(vf_value_decode(VF_JSON, vf_span_str(text), &arena, &v, &err) == -EINVAL, "%s", text);
		}
	}
	vf_arena_free(&arena);
}
END_TEST

START_TEST(lists_of_numbers_find_their_place_again)
{
	check_text("{\"a\":[1,2.5],\"b\":[],\"[3]\":\"[4,\\\"[5]\",\"c\":[[],[6],[\"x\",[7, -8]],{}]}",
	           "{\"a\": [1, 2.5], \"b\": [], \"[3]\": \"[4,\\\"[5]\", \"c\": [[], [6], [\"x\", [7, -8]], {}]}");
	check_text("[ 1 , 2\n,\t3 ]", "[1, 2, 3]");
	check_text("[[[1],2],[3,[4]],[null,5]]", "[[[1], 2], [3, [4]], [null, 5]]");
	check_text("[-0, 0, -0.0]", "[0, 0, -0.0]");
}
END_TEST

/* ---- the scanner ---- */

/* Feeds in pieces of `piece` bytes; the bytes taken, or -errno. */
static int64_t scan(enum vf_format format, struct vf_span bytes, size_t piece, struct vf_err *err)
{
	struct vf_scanner s;
	size_t at = 0, taken;

	vf_scanner_init(&s, format);
	while (at < bytes.len) {
		size_t n = bytes.len - at < piece ? bytes.len - at : piece;
		int rc = vf_scanner_feed(&s, vf_span(bytes.data + at, n), &taken, err);
		if (rc < 0)
			return rc;
		must(taken <= n);
		at += taken;
		must(s.used == at);
		if (rc == VF_SCAN_DONE)
			return (int64_t)at;
		must(taken == n);
	}
	return INT64_MAX;
}

static void expect_end(enum vf_format format, struct vf_span text, size_t len)
{
	static const size_t pieces[] = { 1, 2, 3, 5, 7, 16, 61, 64, SIZE_MAX };
	struct vf_err err = VF_ERR_INIT;

	for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++)
		ck_assert_int_eq(scan(format, text, pieces[p], &err), (int64_t)len);
}

START_TEST(a_value_ends_at_the_same_byte_whatever_the_pieces)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf text = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;

	seed = 21;
	for (int i = 0; i < 500; i++) {
		struct vf_value v = any_value(&arena, 0);
		for (size_t f = 0; f < 2; f++) {
			encode(formats[f], &v, &text);
			size_t len = text.len;
			if (formats[f] == VF_JSON && (v.kind == VF_INT || v.kind == VF_FLOAT || v.kind == VF_BOOL || v.kind == VF_NULL))
				ck_ok(vf_buf_put_str(&text, "\n", &err));
			else
				ck_ok(vf_buf_put_str(&text, "\xc1\x01 [{", &err));
			expect_end(formats[f], vf_buf_span(&text), len);
		}
		vf_arena_reset(&arena);
	}
	vf_buf_free(&text);
	vf_arena_free(&arena);
}
END_TEST

/* Runs of numbers are jumped over, in both formats and in either width. */
START_TEST(a_list_of_numbers_ends_at_the_same_byte_whatever_the_pieces)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf text = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;

	seed = 23;
	for (int i = 0; i < 1000; i++) {
		struct vf_value v = any_packed_list(&arena, &text);
		for (size_t f = 0; f < 2; f++) {
			/* JSON has no infinity. */
			for (uint32_t k = 0; k < v.count; k++)
				if (v.items[k].kind == VF_FLOAT && !isfinite(v.items[k].real))
					v.items[k].real = 0.25;
			if (formats[f] == VF_JSON)
				encode(VF_JSON, &v, &text);
			size_t len = text.len;
			ck_ok(vf_buf_put_str(&text, "\xca\xcb 1.5, 2.5, 3.5, 4.5", &err));
			expect_end(formats[f], vf_buf_span(&text), len);
		}
		vf_arena_reset(&arena);
	}
	vf_buf_free(&text);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(a_value_cut_anywhere_is_incomplete_and_never_decodes)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf text = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value back;

	seed = 22;
	for (int i = 0; i < 100; i++) {
		struct vf_value v = any_map(&arena, 3);
		for (size_t f = 0; f < 2; f++) {
			encode(formats[f], &v, &text);
			for (size_t len = 0; len < text.len; len++) {
				/* a copy of its own, so that a read beyond it is seen */
				uint8_t *cut = malloc(len + !len);
				memcpy(cut, text.data, len);
				ck_assert_int_eq(scan(formats[f], vf_span(cut, len), SIZE_MAX, &err), INT64_MAX);
				ck_fails(vf_value_decode(formats[f], vf_span(cut, len), &arena, &back, &err), EINVAL);
				free(cut);
			}
		}
		vf_arena_reset(&arena);
	}
	vf_buf_free(&text);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(white_space_before_json_belongs_to_it)
{
	struct vf_err err = VF_ERR_INIT;

	ck_assert_int_eq(scan(VF_JSON, vf_span_str(" \n\t{}x"), 1, &err), 5);
	ck_assert_int_eq(scan(VF_JSON, vf_span_str("\r\n \"}]\\\"\"x"), 1, &err), 9);
	ck_assert_int_eq(scan(VF_JSON, vf_span_str("12 13"), 1, &err), 2);
	ck_assert_int_eq(scan(VF_JSON, vf_span_str("true[]"), 1, &err), 4);
	ck_assert_int_eq(scan(VF_JSON, vf_span_str("  "), 1, &err), INT64_MAX);
}
END_TEST

START_TEST(json_that_cannot_be_completed_is_broken_at_once)
{
	static const struct { const char *text; uint64_t place; } broken[] = {
		{ "]", 0 }, { "}", 0 }, { "[}", 1 }, { "{\"a\": 1]", 7 }, { ",", 0 }, { "  :", 2 }, { "[1, \x80]", 4 }, { "\"a\nb\"", 2 },
		{ "[\x01", 1 }, { "\xef\xbb\xbf{}", 0 }, { "'a'", 0 }, { "{a", 1 }, { "{ 5", 2 }, { "[{,", 2 }, { "{{", 1 },
	};
	struct vf_err err = VF_ERR_INIT;

	for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
		for (size_t piece = 1; piece < 20; piece += 18) {
			ck_assert_msg(scan(VF_JSON, vf_span_str(broken[i].text), piece, &err) == -EINVAL, "%s", broken[i].text);
			ck_assert_int_eq(err.unit, VF_PLACE_BYTE);
			ck_assert_uint_eq(err.place, broken[i].place);
		}
}
END_TEST

START_TEST(the_format_is_told_by_the_first_byte)
{
	enum vf_format format;

	ck_assert(!vf_format_guess(vf_span_str(""), &format));
	ck_assert(!vf_format_guess(vf_span_str(" \r\n\t"), &format));
	for (const char *c = "{[\""; *c; c++) {
		char text[] = { '\n', *c };
		ck_assert(vf_format_guess(vf_span(text, 2), &format));
		ck_assert_int_eq(format, VF_JSON);
	}
	ck_assert(vf_format_guess(vf_span_str("\x81"), &format));
	ck_assert_int_eq(format, VF_MSGPACK);
}
END_TEST

/* ---- hostile input ---- */

static void refuse(enum vf_format format, const void *data, size_t len, uint64_t place, const char *word)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value v;
	uint8_t *copy = malloc(len + !len);

	memcpy(copy, data, len);
	ck_fails(vf_value_decode(format, vf_span(copy, len), &arena, &v, &err), EINVAL);
	ck_assert_msg(strstr(err.text, word) != NULL, "'%s' has no '%s'", err.text, word);
	ck_assert_int_eq(err.unit, VF_PLACE_BYTE);
	ck_assert_msg(err.place == place, "%s: at %" PRIu64 ", expected %" PRIu64, err.text, err.place, place);
	ck_assert_uint_lt(arena.bytes, 1u << 20);
	free(copy);
	vf_arena_free(&arena);
}

#define REFUSE(format, text, place, word) refuse(format, text, sizeof text - 1, place, word)

START_TEST(broken_msgpack_is_refused_with_its_place)
{
	REFUSE(VF_MSGPACK, "", 0, "too early");
	REFUSE(VF_MSGPACK, "\xc1", 0, "0xc1");
	REFUSE(VF_MSGPACK, "\x92\x01\xc1", 2, "0xc1");
	REFUSE(VF_MSGPACK, "\x91\x01\x02", 2, "1 bytes follow");
	REFUSE(VF_MSGPACK, "\xdd\xff\xff\xff\xff", 4, "4294967295 items");
	REFUSE(VF_MSGPACK, "\xdf\xff\xff\xff\xff", 4, "4294967295 items");
	REFUSE(VF_MSGPACK, "\xdb\xff\xff\xff\xff", 5, "too early");
	REFUSE(VF_MSGPACK, "\xc6\xff\xff\xff\xff", 5, "too early");
	REFUSE(VF_MSGPACK, "\xc8\xff\xff\x01", 4, "too early");
	REFUSE(VF_MSGPACK, "\x92\xdc\x00\x07\x01\x02\x03\x04", 3, "7 items");
	REFUSE(VF_MSGPACK, "\xd4\x01\x00", 1, "extension");
	REFUSE(VF_MSGPACK, "\x91\xd6\xff\x00\x00\x00\x00", 2, "extension");
	REFUSE(VF_MSGPACK, "\xcf\x80\x00\x00\x00\x00\x00\x00\x00", 8, "9223372036854775808");
	REFUSE(VF_MSGPACK, "\x92\xa1x\xa2\xc3(", 4, "UTF-8");
	REFUSE(VF_MSGPACK, "\x81\xa1\xff\x01", 2, "UTF-8");
	REFUSE(VF_MSGPACK, "\x81\x01\x02", 2, "an integer");
	REFUSE(VF_MSGPACK, "\x81\xc4\x01k\x02", 4, "a binary");
	REFUSE(VF_MSGPACK, "\x82\xa1k\x01\xa1k\x02", 5, "\"k\" stands twice");
	REFUSE(VF_MSGPACK, "\x82\xa0\x01\xa0\x02", 4, "\"\" stands twice");
}
END_TEST

START_TEST(broken_json_is_refused_with_its_place)
{
	REFUSE(VF_JSON, "", 0, "too early");
	REFUSE(VF_JSON, "  ", 2, "too early");
	REFUSE(VF_JSON, "{\"a\": ", 6, "too early");
	REFUSE(VF_JSON, "{} {}", 4, "end of file");
	REFUSE(VF_JSON, "[1,]", 4, "unexpected");
	REFUSE(VF_JSON, "[1 2]", 4, "expected");
	REFUSE(VF_JSON, "{\"a\": 1, \"a\": 2}", 12, "duplicate");
	REFUSE(VF_JSON, "[9223372036854775808]", 20, "too big");
	REFUSE(VF_JSON, "[-9223372036854775809]", 21, "too big");
	REFUSE(VF_JSON, "[1e999]", 6, "overflow");
	REFUSE(VF_JSON, "[nan]", 4, "invalid token");
	REFUSE(VF_JSON, "[01]", 2, "invalid");
	REFUSE(VF_JSON, "\"\xc3(\"", 1, "decode byte");
	REFUSE(VF_JSON, "\"\\ud800\"", 8, "Unicode");
	REFUSE(VF_JSON, "{a: 1}", 1, "double quotes");
	REFUSE(VF_JSON, "[[1, 2, 3], [4, 5, 6], x]", 24, "invalid token");
	REFUSE(VF_JSON, "{\"a\": [1, 2, 3], \"a\": [4]}", 20, "duplicate");
	REFUSE(VF_JSON, "[x, [1, 2, 3]]", 2, "invalid token");
	REFUSE(VF_JSON, "[[1.5, 2, 1e999]]", 15, "overflow");
}
END_TEST

static int decode_nested(enum vf_format format, uint32_t depth, struct vf_err *why)
{
	struct vf_buf text = VF_BUF_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value v;

	for (uint32_t i = 0; i + 1 < depth; i++)
		ck_ok(vf_buf_put(&text, format == VF_JSON ? "[" : "\x91", 1, &err));
	ck_ok(vf_buf_put_str(&text, format == VF_JSON ? "[]" : "\x90", &err));
	for (uint32_t i = 0; i + 1 < depth && format == VF_JSON; i++)
		ck_ok(vf_buf_put_str(&text, "]", &err));
	int rc = vf_value_decode(format, vf_buf_span(&text), &arena, &v, why);
	ck_assert(rc ? scan(format, vf_buf_span(&text), 1, &err) == rc : scan(format, vf_buf_span(&text), 1, &err) == (int64_t)text.len);
	vf_buf_free(&text);
	vf_arena_free(&arena);
	return rc;
}

START_TEST(nesting_is_bounded)
{
	struct vf_err err = VF_ERR_INIT;

	for (size_t f = 0; f < 2; f++) {
		ck_ok(decode_nested(formats[f], VF_VALUE_DEPTH_MAX, &err));
		ck_fails(decode_nested(formats[f], VF_VALUE_DEPTH_MAX + 1, &err), EINVAL);
		ck_assert_uint_eq(err.place, VF_VALUE_DEPTH_MAX);
		ck_fails(decode_nested(formats[f], 10000, &err), EINVAL);
		ck_assert(strstr(err.text, "32 deep"));
	}
}
END_TEST

START_TEST(huge_declared_lengths_make_the_scanner_wait_not_allocate)
{
	static const char *const heads[] = { "\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff",
	                                     "\xc9\xff\xff\xff\xff" };
	struct vf_err err = VF_ERR_INIT;

	for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
		uint8_t text[105];
		memset(text, 1, sizeof text);
		memcpy(text, heads[i], 5);
		ck_assert_int_eq(scan(VF_MSGPACK, vf_span(text, sizeof text), 1, &err), INT64_MAX);
	}
}
END_TEST

START_TEST(a_map_of_100000_names_has_its_one_duplicate_found)
{
	struct vf_buf text = VF_BUF_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value v;
	uint32_t n = 100000;

	ck_ok(vf_buf_put(&text, (uint8_t[]){ 0xdf, 0, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n }, 5, &err));
	for (uint32_t i = 0; i < n; i++)
		ck_ok(vf_buf_printf(&text, &err, "\xa8%08u\x01", i));
	ck_ok(vf_value_decode(VF_MSGPACK, vf_buf_span(&text), &arena, &v, &err));
	ck_assert_uint_eq(v.count, n);
	memcpy(text.data + 5 + 10 * 77777, "\xa8" "00000123", 9);
	ck_fails(vf_value_decode(VF_MSGPACK, vf_buf_span(&text), &arena, &v, &err), EINVAL);
	ck_assert_uint_eq(err.place, 5 + 10 * 77777 + 1);
	ck_assert(strstr(err.text, "\"00000123\" stands twice"));
	vf_buf_free(&text);
	vf_arena_free(&arena);
}
END_TEST

/* "[" piece piece ... "]" */
static int decode_many(const char *head, const char *piece, size_t n, size_t *arena_bytes, struct vf_err *why)
{
	struct vf_buf text = VF_BUF_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value v;
	size_t len = strlen(piece);

	ck_ok(vf_buf_put_str(&text, head, &err));
	ck_ok(vf_buf_reserve(&text, len * n + 1, &err));
	for (size_t i = 0; i < n; i++, text.len += len)
		memcpy(text.data + text.len, piece, len);
	if (head[0] == '[')
		text.data[text.len - 1] = ']';
	int rc = vf_value_decode(head[0] == '[' ? VF_JSON : VF_MSGPACK, vf_buf_span(&text), &arena, &v, why);
	*arena_bytes = arena.bytes;
	vf_buf_free(&text);
	vf_arena_free(&arena);
	return rc;
}

START_TEST(a_value_of_too_many_items_is_refused_before_it_is_built)
{
	struct vf_err err = VF_ERR_INIT;
	size_t bytes;

	ck_fails(decode_many("\xdd\x01\x01\x01\x01", "\x01", 0x01010101, &bytes, &err), EINVAL);
	ck_assert(strstr(err.text, "16777216 items"));
	ck_assert_uint_eq(bytes, 0);
	ck_fails(decode_many("[", "1,", VF_VALUE_ITEMS_MAX + 1, &bytes, &err), EINVAL);
	ck_assert(strstr(err.text, "16777216 numbers"));
	ck_assert_uint_eq(bytes, 0);
	ck_fails(decode_many("[", "\"\",", VF_JSON_ITEMS_MAX + 1, &bytes, &err), EINVAL);
	ck_assert(strstr(err.text, "2097152 items"));
	ck_fails(decode_many("[", "[],", VF_JSON_ITEMS_MAX / 2 + 1, &bytes, &err), EINVAL);
	ck_assert(strstr(err.text, "2097152 items"));
	ck_ok(decode_many("[", "1.5,", VF_JSON_ITEMS_MAX + 1, &bytes, &err));
}
END_TEST

/* Scanner and decoder agree about any bytes: what decodes is what scans to its end. */
START_TEST(garbage_is_refused_or_read_the_same_by_scanner_and_decoder)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf text = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_value v;

	seed = 31;
	for (int i = 0; i < 30000; i++) {
		enum vf_format format = formats[i % 2];
		struct vf_value from = any_value(&arena, 3);
		encode(format, &from, &text);
		for (uint32_t k = below(4) + 1; k > 0; k--)
			text.data[below((uint32_t)text.len)] = (uint8_t)next();
		uint8_t *copy = malloc(text.len);
		memcpy(copy, text.data, text.len);
		int64_t whole = scan(format, vf_span(copy, text.len), SIZE_MAX, &err), single = scan(format, vf_span(copy, text.len), 1, &err);
		ck_assert_int_eq(whole, single);
		int rc = vf_value_decode(format, vf_span(copy, text.len), &arena, &v, &err);
		if (rc == 0 && format == VF_MSGPACK)
			ck_assert_int_eq(whole, (int64_t)text.len);
		if (rc == 0)
			encode(format, &v, &text);
		free(copy);
		vf_arena_reset(&arena);
	}
	vf_buf_free(&text);
	vf_arena_free(&arena);
}
END_TEST

CHECK_MAIN("format",
	a_random_value_comes_back_from_both_formats, msgpack_is_transcoded_to_what_the_tree_gives, json_is_written_in_one_form,
	a_million_random_float32_come_back_from_their_text, float32_around_every_power_of_two_and_of_ten_come_back,
	a_float32_comes_back_by_way_of_float64_too, the_text_of_a_float32_has_no_more_digits_than_it_needs, random_float64_come_back_from_their_shortest_text,
	a_vector_is_a_list_of_float32_in_both_formats, an_emitter_nests_and_separates,
	packed_lists_of_floats_are_read_whatever_stands_between, json_numbers_are_read_as_strtod_and_strtoll_read_them,
	what_is_no_json_number_is_refused_in_a_list_too, lists_of_numbers_find_their_place_again,
	a_value_ends_at_the_same_byte_whatever_the_pieces, a_list_of_numbers_ends_at_the_same_byte_whatever_the_pieces, a_value_cut_anywhere_is_incomplete_and_never_decodes,
	white_space_before_json_belongs_to_it, json_that_cannot_be_completed_is_broken_at_once, the_format_is_told_by_the_first_byte,
	broken_msgpack_is_refused_with_its_place, broken_json_is_refused_with_its_place, nesting_is_bounded,
	huge_declared_lengths_make_the_scanner_wait_not_allocate, a_map_of_100000_names_has_its_one_duplicate_found,
	a_value_of_too_many_items_is_refused_before_it_is_built, garbage_is_refused_or_read_the_same_by_scanner_and_decoder)
