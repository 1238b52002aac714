/* SPDX-License-Identifier: MIT */
#include <roaring/roaring.h>

#include "filter_kit.h"
#include "vecfs/limits.h"

static struct vf_filter *parse(const struct vf_value *value, struct vf_arena *arena)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_filter *filter = NULL;

	ck_assert_msg(vf_filter_parse(value, &kit_rule, arena, &filter, &err) == 0, "%s: %s", kit_text(value), err.text);
	return filter;
}

static struct vf_filter *parse_text(const char *text, struct vf_arena *arena)
{
	struct vf_value *value = kit_alloc(arena, sizeof *value);

	*value = kit_value(text, strlen(text), arena);
	return parse(value, arena);
}

static const char *print(const struct vf_filter *filter, struct vf_arena *arena)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf text = VF_BUF_INIT;

	ck_ok(vf_filter_print(filter, &text, &err));
	const char *copy = (const char *)vf_arena_copy(arena, vf_buf_span(&text)).data;
	vf_buf_free(&text);
	return copy;
}

/* ---- postings in memory ---- */

struct posting { struct vf_span term; roaring_bitmap_t *slots; };

struct memory {
	struct vf_arena arena;
	struct posting *postings;
	size_t count, cap;
	const struct vf_value *records;
	uint32_t nrecords, spread;         /* record i is in slot i * spread */
	uint64_t ranges, looks;
};

static size_t find_posting(const struct memory *m, struct vf_span term)
{
	size_t low = 0, high = m->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (vf_span_compare(m->postings[middle].term, term) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct adding { struct memory *memory; uint32_t slot; };

static int add_posting(void *ctx, struct vf_span term, struct vf_err *err)
{
	struct adding *adding = ctx;
	struct memory *m = adding->memory;
	size_t at = find_posting(m, term);

	(void)err;
	ck_assert_uint_gt(term.len, 0);
	ck_assert_uint_le(term.len, VF_TERM_BYTES_MAX);
	if (at == m->count || !vf_span_equal(m->postings[at].term, term)) {
		if (m->count == m->cap) {
			m->cap = m->cap ? 2 * m->cap : 64;
			m->postings = realloc(m->postings, m->cap * sizeof *m->postings);
		}
		memmove(m->postings + at + 1, m->postings + at, (m->count - at) * sizeof *m->postings);
		m->postings[at] = (struct posting){ vf_arena_copy(&m->arena, term), roaring_bitmap_create() };
		m->count++;
	}
	ck_assert_msg(roaring_bitmap_add_checked(m->postings[at].slots, adding->slot), "a term came twice");
	return 0;
}

static int memory_range(void *ctx, struct vf_span from, struct vf_span to, vf_bitmap *out, struct vf_err *err)
{
	struct memory *m = ctx;

	(void)err;
	m->ranges++;
	for (size_t i = find_posting(m, from); i < m->count && (to.len == 0 || vf_span_compare(m->postings[i].term, to) < 0); i++)
		roaring_bitmap_or_inplace(out, m->postings[i].slots);
	return 0;
}

static int memory_metadata(void *ctx, uint32_t slot, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	struct memory *m = ctx;

	(void)arena, (void)err;
	m->looks++;
	if (slot % m->spread || slot / m->spread >= m->nrecords)
		return 1;
	*out = m->records[slot / m->spread];
	return 0;
}

static int memory_each(void *ctx, struct vf_span from, struct vf_span to,
                       int (*emit)(void *ectx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err), void *ectx,
                       struct vf_err *err)
{
	struct memory *m = ctx;
	int rc = 0;

	for (size_t i = find_posting(m, from); i < m->count && !rc && (to.len == 0 || vf_span_compare(m->postings[i].term, to) < 0); i++)
		rc = emit(ectx, m->postings[i].term, m->postings[i].slots, err);
	return rc;
}

static struct vf_posting_source source_of(struct memory *m)
{
	return (struct vf_posting_source){ memory_range, memory_metadata, memory_each, m };
}

static void fill(struct memory *m, const struct vf_value *records, uint32_t nrecords, uint32_t spread)
{
	struct vf_err err = VF_ERR_INIT;

	*m = (struct memory){ .records = records, .nrecords = nrecords, .spread = spread };
	for (uint32_t i = 0; i < nrecords; i++) {
		struct adding adding = { m, i * spread };
		ck_ok(vf_terms_of(&records[i], &kit_rule, add_posting, &adding, &err));
	}
}

static void empty(struct memory *m)
{
	for (size_t i = 0; i < m->count; i++)
		roaring_bitmap_free(m->postings[i].slots);
	free(m->postings);
	vf_arena_free(&m->arena);
}

static struct vf_value *random_records(struct kit_chance *c, uint32_t count, struct vf_arena *arena)
{
	struct vf_value *records = kit_alloc(arena, count * sizeof *records);

	for (uint32_t i = 0; i < count; i++)
		records[i] = kit_random_record(c, arena);
	return records;
}

/* ---- the cases in files ---- */

static bool evaluates(const struct vf_filter *filter, const struct vf_value *record)
{
	struct vf_err err = VF_ERR_INIT;
	vf_bitmap *set = NULL;
	struct memory memory;

	fill(&memory, record, 1, 1);
	struct vf_posting_source source = source_of(&memory);
	ck_ok(vf_filter_eval(filter, &source, &set, &err));
	bool in = vf_bitmap_count(set) == 1;
	vf_bitmap_free(&set);
	empty(&memory);
	return in;
}

static unsigned run_cases(const char *name, bool fenced)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_filter *filter = NULL;
	struct kit_case_reader cases;
	const char *word, *rest;
	unsigned done = 0;

	kit_cases_open(&cases, name, fenced);
	for (; kit_cases_next(&cases, &word, &rest); done++) {
		struct vf_value value = { 0 };
		if (strcmp(word, "filter") == 0) {
			struct vf_value *lasting = kit_alloc(&arena, sizeof *lasting);
			*lasting = kit_value(rest, strlen(rest), &arena);
			filter = NULL;
			err = (struct vf_err)VF_ERR_INIT;
			int rc = vf_filter_parse(lasting, &kit_rule, &arena, &filter, &err);
			ck_assert_msg(rc == -err.code && (rc == 0 || rc == -EINVAL), "%s:%u", name, cases.number);
			continue;
		}
		if (strcmp(word, "error") == 0) {
			ck_assert_msg(err.code == EINVAL && strstr(err.text, rest), "%s:%u: \"%s\" is not in \"%s\"", name, cases.number, rest, err.text);
			continue;
		}
		ck_assert_msg(filter != NULL, "%s:%u: %s", name, cases.number, err.text);
		value = kit_value(rest, strlen(rest), &arena);
		bool expected = strcmp(word, "yes") == 0;
		ck_assert_msg(vf_filter_matches(filter, &value) == expected, "%s:%u: matches", name, cases.number);
		ck_assert_msg(evaluates(filter, &value) == expected, "%s:%u: eval", name, cases.number);
	}
	kit_cases_close(&cases);
	vf_arena_free(&arena);
	return done;
}

START_TEST(every_case_has_its_verdict)
{
	ck_assert_uint_gt(run_cases("tests/files/filter-cases.txt", false), 500);
}
END_TEST

START_TEST(every_example_of_the_manual_is_true)
{
	ck_assert_uint_gt(run_cases("doc/FILTER.md", true), 50);
}
END_TEST

/* What no JSON text can say. */
START_TEST(infinities_nan_and_binary_are_refused)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_filter *filter = NULL;
	const struct vf_value bad[] = { { .kind = VF_FLOAT, .real = INFINITY }, { .kind = VF_FLOAT, .real = -INFINITY },
	                                { .kind = VF_FLOAT, .real = NAN }, { .kind = VF_BIN, .bytes = { (const uint8_t *)"x", 1 } } };
	static const char *const operators[] = { "$eq", "$ne", "$gt", "$lte" };

	for (size_t i = 0; i < 4; i++) {
		struct vf_err err = VF_ERR_INIT;
		struct vf_value direct = kit_map_of(&arena, vf_span_str("x"), bad[i]);
		ck_fails(vf_filter_parse(&direct, NULL, &arena, &filter, &err), EINVAL);
		for (size_t j = 0; j < 4; j++) {
			struct vf_value under = kit_map_of(&arena, vf_span_str("x"), kit_map_of(&arena, vf_span_str(operators[j]), bad[i]));
			ck_fails(vf_filter_parse(&under, NULL, &arena, &filter, &err), EINVAL);
		}
	}
	vf_arena_free(&arena);
}
END_TEST

/* ---- bounds ---- */

static struct vf_value list_of(struct vf_arena *arena, uint32_t count, struct vf_value item)
{
	struct vf_value list = { .kind = VF_LIST, .count = count, .items = kit_alloc(arena, count * sizeof *list.items) };

	for (uint32_t i = 0; i < count; i++)
		list.items[i] = item;
	return list;
}

START_TEST(a_filter_is_bounded_in_conditions_values_and_depth)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_filter *filter = NULL;
	struct vf_value one = kit_map_of(&arena, vf_span_str("x"), (struct vf_value){ .kind = VF_INT, .integer = 1 });
	struct vf_value many = kit_map_of(&arena, vf_span_str("$or"), list_of(&arena, VF_FILTER_NODES_MAX - 1, one));
	ck_ok(vf_filter_parse(&many, NULL, &arena, &filter, &err));
	many = kit_map_of(&arena, vf_span_str("$or"), list_of(&arena, VF_FILTER_NODES_MAX, one));
	ck_fails(vf_filter_parse(&many, NULL, &arena, &filter, &err), EINVAL);
	ck_assert_msg(strstr(err.text, "4096 conditions") != NULL, "%s", err.text);
	many = kit_map_of(&arena, vf_span_str("$or"), list_of(&arena, VF_FILTER_NODES_MAX + 1, one));
	ck_fails(vf_filter_parse(&many, NULL, &arena, &filter, &err), EINVAL);

	struct vf_value items = list_of(&arena, VF_FILTER_ITEMS_MAX, one.entries[0].value);
	struct vf_value in = kit_map_of(&arena, vf_span_str("x"), kit_map_of(&arena, vf_span_str("$in"), items));
	ck_ok(vf_filter_parse(&in, NULL, &arena, &filter, &err));
	struct vf_value twice = kit_map_of(&arena, vf_span_str("$or"), list_of(&arena, 2, in));
	ck_fails(vf_filter_parse(&twice, NULL, &arena, &filter, &err), EINVAL);
	ck_assert_msg(strstr(err.text, "values in all") != NULL, "%s", err.text);

	/* $not of $not folds away, so only the nesting of the value counts */
	struct vf_value deep = one;
	for (unsigned depth = 1; depth < VF_VALUE_DEPTH_MAX; depth++, deep = kit_map_of(&arena, vf_span_str("$not"), deep))
		ck_ok(vf_filter_parse(&deep, NULL, &arena, &filter, &err));
	ck_ok(vf_filter_parse(&deep, NULL, &arena, &filter, &err));
	deep = kit_map_of(&arena, vf_span_str("$not"), deep);
	ck_fails(vf_filter_parse(&deep, NULL, &arena, &filter, &err), EINVAL);
	ck_assert_msg(strstr(err.text, "nested more than 32 deep") != NULL, "%s", err.text);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(a_filter_as_deep_as_allowed_prints_no_deeper_than_can_be_read)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_err err = VF_ERR_INIT;
	struct vf_filter *filter = NULL;
	char text[2000] = "{\"f\": {\"$in\": [1, 2]}}", outer[2000];
	unsigned nested = 0;

	/* {"x14": 1, "$not": {"$or": [{"y": 1}, ...]}}: three kinds in one another, none of which folds */
	for (;; nested += 3) {
		struct vf_value value = kit_value(text, strlen(text), &arena);
		if (vf_filter_parse(&value, NULL, &arena, &filter, &err))
			break;
		unsigned depth = 0, deepest = 0;
		for (const char *p = print(filter, &arena); *p; p++) {
			depth += *p == '{' || *p == '[';
			depth -= *p == '}' || *p == ']';
			deepest = depth > deepest ? depth : deepest;
		}
		ck_assert_uint_le(deepest, VF_VALUE_DEPTH_MAX);
		snprintf(outer, sizeof outer, "{\"x%u\": 1, \"$not\": {\"$or\": [{\"y%u\": 1}, %s]}}", nested, nested, text);
		memcpy(text, outer, sizeof text);
	}
	ck_assert_msg(strstr(err.text, "in one another") != NULL, "%s", err.text);
	ck_assert_uint_eq(nested, VF_FILTER_DEPTH_MAX / 3 * 3 + 3);
	vf_arena_free(&arena);
}
END_TEST

/* ---- folding and printing ---- */

START_TEST(a_filter_folds_to_its_simplest_form)
{
	static const char *const pairs[][2] = {
		{ "{\"a\": 5.0}", "{\"a\": 5}" },
		{ "{\"a\": -0.0}", "{\"a\": 0}" },
		{ "{\"a\": {\"$eq\": \"x\"}}", "{\"a\": \"x\"}" },
		{ "{\"a\": {\"$in\": [7]}}", "{\"a\": 7}" },
		{ "{\"a\": {\"$in\": [\"b\", 2, true, 2.0, 1, \"a\"]}}", "{\"a\": {\"$in\": [true, 1, 2, \"a\", \"b\"]}}" },
		{ "{\"a\": {\"$nin\": [7, 7]}}", "{\"a\": {\"$ne\": 7}}" },
		{ "{\"a\": {\"$not\": {\"$exists\": true}}}", "{\"a\": {\"$exists\": false}}" },
		{ "{\"a\": {\"$not\": {\"$not\": {\"$gt\": 1}}}}", "{\"a\": {\"$gt\": 1}}" },
		{ "{\"$and\": [{\"$and\": [{\"b\": 1}]}, {\"a\": 2}]}", "{\"a\": 2, \"b\": 1}" },
		{ "{\"$or\": [{\"a\": 1}, {\"$or\": [{\"a\": 2}, {\"b\": 3}]}]}", "{\"$or\": [{\"a\": {\"$in\": [1, 2]}}, {\"b\": 3}]}" },
		{ "{\"$or\": [{\"a\": 1}, {\"a\": 2}]}", "{\"a\": {\"$in\": [1, 2]}}" },
		{ "{\"$and\": [{\"a\": {\"$ne\": 1}}, {\"a\": {\"$ne\": 2}}]}", "{\"a\": {\"$nin\": [1, 2]}}" },
		{ "{\"a\": {\"$gt\": 1, \"$gte\": 1, \"$exists\": true}}", "{\"a\": {\"$gt\": 1}}" },
		{ "{\"$and\": [{\"a\": {\"$gt\": 1}}, {\"a\": {\"$gt\": 3}}, {\"a\": {\"$lt\": 9}}]}", "{\"a\": {\"$gt\": 3, \"$lt\": 9}}" },
		{ "{\"$or\": [{\"a\": {\"$gt\": 1}}, {\"a\": {\"$gt\": 3}}, {\"a\": 7}]}", "{\"a\": {\"$gt\": 1}}" },
		{ "{\"a\": {\"$startsWith\": \"ab\", \"$gte\": \"\", \"$eq\": \"abc\"}}", "{\"a\": \"abc\"}" },
		{ "{\"$or\": [{\"a\": {\"$exists\": true}}, {\"a\": 1}]}", "{\"a\": {\"$exists\": true}}" },
		{ "{\"$not\": {\"$not\": {\"a\": 1, \"b\": 2}}}", "{\"a\": 1, \"b\": 2}" },
		{ "{\"$and\": [{\"a\": 1}, {\"a\": {\"$exists\": false}}]}", "{\"$and\": [{\"\": {\"$exists\": true}}, {\"\": {\"$exists\": false}}]}" },
		{ "{\"$or\": [{\"$not\": {\"a\": 1}}, {\"a\": 1}]}", "{\"$or\": [{\"\": {\"$exists\": true}}, {\"\": {\"$exists\": false}}]}" },
		{ "{\"$and\": [{\"a\": 1}, {\"a\": 2}, {\"b\": 3}]}", "{\"a\": 1, \"b\": 3, \"$and\": [{\"a\": 2}]}" },
		{ "{\"$not\": {\"a\": 1}, \"b\": {\"$gte\": 0.5, \"$lt\": 1e300}}", "{\"b\": {\"$gte\": 0.5, \"$lt\": 1e+300}, \"$not\": {\"a\": 1}}" },
		{ "{\"a\": 10000000000000000000.0}", "{\"a\": 1e+19}" },
		{ "{\"q\\\"\\\\\": \"\\u0000\\n\\u00e9\"}", "{\"q\\\"\\\\\": \"\\u0000\\u000a\xc3\xa9\"}" },
		{ "{\"a\": {\"$gt\": 5, \"$lt\": 3}}", "{\"a\": {\"$gt\": 5, \"$lt\": 3}}" },
	};
	struct vf_arena arena = VF_ARENA_INIT;

	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
		ck_assert_str_eq(print(parse_text(pairs[i][0], &arena), &arena), pairs[i][1]);
	vf_arena_free(&arena);
}
END_TEST

START_TEST(what_is_printed_parses_to_the_same_tree)
{
	struct kit_chance chance = { 1 };

	for (int round = 0; round < 10000; round++) {
		struct vf_arena arena = VF_ARENA_INIT;
		struct vf_value value = kit_random_filter(&chance, &arena, 3);
		const char *once = print(parse(&value, &arena), &arena);
		ck_assert_str_eq(print(parse_text(once, &arena), &arena), once);
		vf_arena_free(&arena);
	}
}
END_TEST

START_TEST(a_copy_outlives_what_it_was_made_of)
{
	struct kit_chance chance = { 8 };
	struct vf_err err = VF_ERR_INIT;

	for (int round = 0; round < 1000; round++) {
		struct vf_arena arena = VF_ARENA_INIT, lasting = VF_ARENA_INIT;
		struct vf_value value = kit_random_filter(&chance, &arena, 3);
		struct vf_filter *filter = parse(&value, &arena), *copy = NULL;
		ck_ok(vf_filter_copy(filter, &lasting, &copy, &err));
		const char *text = print(filter, &lasting);
		vf_arena_free(&arena);
		ck_assert_str_eq(print(copy, &lasting), text);
		vf_arena_free(&lasting);
	}
}
END_TEST

START_TEST(a_folded_filter_says_of_random_records_what_a_plain_reading_says)
{
	struct kit_chance chance = { 2 };
	unsigned yes = 0, no = 0;

	for (int round = 0; round < 1500; round++) {
		struct vf_arena arena = VF_ARENA_INIT;
		struct vf_value value = kit_random_filter(&chance, &arena, 3);
		struct vf_filter *filter = parse(&value, &arena);
		for (int i = 0; i < 60; i++) {
			struct vf_value record = kit_random_record(&chance, &arena);
			bool expected = judge(&value, &record);
			ck_assert_msg(vf_filter_matches(filter, &record) == expected, "%s is %d for %s", kit_text(&value), !expected, kit_text(&record));
			yes += expected;
			no += !expected;
		}
		vf_arena_free(&arena);
	}
	ck_assert_uint_gt(yes, 5000);
	ck_assert_uint_gt(no, 5000);
}
END_TEST

/* ---- terms ---- */

struct one_term { uint8_t bytes[VF_TERM_BYTES_MAX]; size_t len; unsigned count; };

/* Keeps the term of the value: every record's own, presence, then the value. */
static int keep_third(void *ctx, struct vf_span term, struct vf_err *err)
{
	struct one_term *kept = ctx;

	(void)err;
	if (kept->count++ == 2) {
		memcpy(kept->bytes, term.data, term.len);
		kept->len = term.len;
	}
	return 0;
}

static struct vf_span term_of(struct vf_span field, struct vf_value value, struct one_term *out)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_value map = kit_map_of(&arena, field, value);

	*out = (struct one_term){ .len = 0 };
	ck_ok(vf_terms_of(&map, NULL, keep_third, out, &err));
	ck_assert_uint_eq(out->count, 3);
	vf_arena_free(&arena);
	return vf_span(out->bytes, out->len);
}

START_TEST(terms_sort_as_their_values_do_and_none_begins_another)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct kit_chance chance = { 3 };

	for (int round = 0; round < 60000; round++) {
		struct vf_value a = kit_random_scalar(&chance, &arena), b = kit_random_scalar(&chance, &arena);
		struct vf_span field = kit_random_field(&chance, &arena), other = kit_random_field(&chance, &arena);
		struct one_term ta, tb, to;
		if (kit_random(&chance, 8) == 0)
			field = kit_random(&chance, 2) ? vf_span("a\0", 2) : vf_span("a\3b", 3);
		term_of(field, a, &ta);
		term_of(field, b, &tb);
		int order = judge_order(&a, &b), terms = vf_span_compare(vf_span(ta.bytes, ta.len), vf_span(tb.bytes, tb.len));
		bool both_cut = a.kind == VF_STRING && b.kind == VF_STRING && a.bytes.len > 192 && b.bytes.len > 192;
		ck_assert_msg((order == 0) == (terms == 0), "%s, %s", kit_text(&a), kit_text(&b));
		if (order != 2 && !both_cut)
			ck_assert_msg((order < 0) == (terms < 0), "%s, %s: %d %d", kit_text(&a), kit_text(&b), order, terms);
		ck_assert(terms == 0 || !vf_span_has_prefix(vf_span(ta.bytes, ta.len), vf_span(tb.bytes, tb.len)));
		term_of(other, a, &to);
		ck_assert_int_eq(vf_span_equal(field, other), vf_span_equal(vf_span(ta.bytes, ta.len), vf_span(to.bytes, to.len)));
		if (round % 1000 == 0)
			vf_arena_reset(&arena);
	}
	vf_arena_free(&arena);
}
END_TEST

/* The worked numbers of doc/FORMAT.md. */
START_TEST(terms_are_what_the_format_says_byte_by_byte)
{
	static const uint8_t year[] = { 4, 'y', 'e', 'a', 'r', 3, 0xc0, 0x9f, 0xa0, 0, 0, 0, 0, 0, 0x80, 0 };
	static const uint8_t beyond[] = { 1, 'n', 3, 0xc3, 0x40, 0, 0, 0, 0, 0, 0, 0x80, 1 };
	static const uint8_t minus[] = { 1, 'n', 3, 0x40, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x80, 0 };
	static const uint8_t text[] = { 0, 4, 'b', 'c', 0 }, truth[] = { 1, 'n', 2, 1 };
	struct one_term t;
	struct vf_span got;

	got = term_of(vf_span_str("year"), (struct vf_value){ .kind = VF_INT, .integer = 2024 }, &t);
	ck_assert(vf_span_equal(got, vf_span(year, sizeof year)));
	got = term_of(vf_span_str("n"), (struct vf_value){ .kind = VF_INT, .integer = (1LL << 53) + 1 }, &t);
	ck_assert(vf_span_equal(got, vf_span(beyond, sizeof beyond)));
	got = term_of(vf_span_str("n"), (struct vf_value){ .kind = VF_FLOAT, .real = -1.0 }, &t);
	ck_assert(vf_span_equal(got, vf_span(minus, sizeof minus)));
	got = term_of(vf_span("", 0), (struct vf_value){ .kind = VF_STRING, .bytes = vf_span_str("ab") }, &t);
	ck_assert(vf_span_equal(got, vf_span(text, sizeof text)));
	got = term_of(vf_span_str("n"), (struct vf_value){ .kind = VF_BOOL, .boolean = true }, &t);
	ck_assert(vf_span_equal(got, vf_span(truth, sizeof truth)));
}
END_TEST

/* ---- evaluation ---- */

static void check_eval(struct memory *m, const struct vf_value *value, struct vf_arena *arena)
{
	struct vf_posting_source source = source_of(m);
	struct vf_err err = VF_ERR_INIT;
	struct vf_filter *filter = parse(value, arena);
	vf_bitmap *set = NULL;
	uint64_t count = 0;

	ck_ok(vf_filter_eval(filter, &source, &set, &err));
	for (uint32_t i = 0; i < m->nrecords; i++) {
		bool expected = judge(value, &m->records[i]);
		ck_assert_msg(roaring_bitmap_contains(set, i * m->spread) == expected, "%s (%s) is %d for %s", kit_text(value), print(filter, arena),
		              !expected, kit_text(&m->records[i]));
		count += expected;
	}
	ck_assert_uint_eq(vf_bitmap_count(set), count);
	vf_bitmap_free(&set);
}

START_TEST(postings_select_what_a_reading_of_every_record_selects)
{
	struct kit_chance chance = { 4 };

	for (int round = 0; round < 12; round++) {
		struct vf_arena arena = VF_ARENA_INIT;
		struct memory memory;
		uint32_t count = round < 3 ? (uint32_t)round : 300;
		fill(&memory, random_records(&chance, count, &arena), count, round % 2 ? 1 : 70001);
		for (int i = 0; i < 400; i++) {
			struct vf_value value = kit_random_filter(&chance, &arena, 3);
			check_eval(&memory, &value, &arena);
		}
		empty(&memory);
		vf_arena_free(&arena);
	}
}
END_TEST

/* Windows with many records, so that both ways of $and are taken: reading postings and looking into records. */
START_TEST(windows_hold_where_many_records_match_and_where_few_do)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct kit_chance chance = { 5 };
	enum { COUNT = 6000 };
	struct vf_value *records = kit_alloc(&arena, COUNT * sizeof *records);
	struct memory memory;
	char text[300];

	for (int i = 0; i < COUNT; i++) {
		unsigned n = kit_random(&chance, 1000), other = kit_random(&chance, 1000), g = kit_random(&chance, 10) ? 1 : 2;
		if (kit_random(&chance, 3))
			snprintf(text, sizeof text, "{\"n\": %u, \"g\": %u}", n, g);
		else
			snprintf(text, sizeof text, "{\"n\": [%u, %u, \"%u\"], \"g\": %u}", n, other, other, g);
		records[i] = kit_value(text, strlen(text), &arena);
	}
	fill(&memory, records, COUNT, 3);
	for (int i = 0; i < 60; i++) {
		int low = (int)kit_random(&chance, 1000), high = low - 20 + (int)kit_random(&chance, 200);
		static const char *const forms[] = {
			"{\"n\": {\"$gte\": %d, \"$lt\": %d}}", "{\"n\": {\"$gt\": %d, \"$lte\": %d}, \"g\": 2}", "{\"n\": {\"$gt\": \"%d\", \"$lte\": \"%d\"}}",
			"{\"$not\": {\"n\": {\"$gt\": %d, \"$lte\": %d}}}", "{\"n\": {\"$gt\": %d, \"$lte\": %d}, \"$not\": {\"g\": 1}}",
			"{\"n\": {\"$gt\": %d, \"$lte\": \"%d\", \"$ne\": 7}}",
		};
		snprintf(text, sizeof text, forms[i % 6], low, high);
		struct vf_value value = kit_value(text, strlen(text), &arena);
		check_eval(&memory, &value, &arena);
	}
	empty(&memory);
	vf_arena_free(&arena);
}
END_TEST

/* Only what is asked of the source can be counted without a clock. */
START_TEST(an_and_of_few_records_and_a_wide_range_looks_into_the_few)
{
	struct vf_arena arena = VF_ARENA_INIT;
	enum { COUNT = 3000 };
	struct vf_value *records = kit_alloc(&arena, COUNT * sizeof *records);
	struct vf_err err = VF_ERR_INIT;
	struct memory memory;
	vf_bitmap *set = NULL;
	char text[100];

	for (int i = 0; i < COUNT; i++) {
		snprintf(text, sizeof text, "{\"user\": \"u%d\", \"at\": %d}", i % 300, i);
		records[i] = kit_value(text, strlen(text), &arena);
	}
	fill(&memory, records, COUNT, 1);
	struct vf_posting_source source = source_of(&memory);
	ck_ok(vf_filter_eval(parse_text("{\"at\": {\"$gte\": 1500}, \"user\": \"u7\"}", &arena), &source, &set, &err));
	ck_assert_uint_eq(vf_bitmap_count(set), 5);
	ck_assert_uint_eq(memory.ranges, 1);
	ck_assert_uint_eq(memory.looks, 10);
	vf_bitmap_free(&set);
	memory.ranges = 0;
	ck_ok(vf_filter_eval(parse_text("{\"user\": \"nobody\", \"at\": {\"$gte\": 1500}, \"$not\": {\"at\": 5}}", &arena), &source, &set, &err));
	ck_assert_uint_eq(vf_bitmap_count(set), 0);
	ck_assert_uint_eq(memory.ranges, 1);
	vf_bitmap_free(&set);
	ck_ok(vf_filter_eval(NULL, &source, &set, &err));
	ck_assert_uint_eq(vf_bitmap_count(set), COUNT);
	vf_bitmap_free(&set);
	empty(&memory);
	vf_arena_free(&arena);
}
END_TEST

static int broken_range(void *ctx, struct vf_span from, struct vf_span to, vf_bitmap *out, struct vf_err *err)
{
	int *left = ctx;

	(void)from, (void)to;
	roaring_bitmap_add(out, 1);
	return --*left ? 0 : vf_fail(err, EIO, "the disk is gone");
}

static int no_metadata(void *ctx, uint32_t slot, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	(void)ctx, (void)slot, (void)arena, (void)out, (void)err;
	return 1;
}

START_TEST(a_source_that_fails_is_an_error_and_loses_no_memory)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_filter *filter = parse_text("{\"a\": 1, \"b\": {\"$ne\": 2}, \"$or\": [{\"$not\": {\"c\": {\"$gt\": 1, \"$lt\": 2}}}, {\"d\": {\"$gt\": 5}}],"
	                                      " \"$not\": {\"e\": {\"$exists\": false}}}", &arena);
	int rc = -EIO, tries = 0;

	for (int at = 1; rc == -EIO && tries < 20; at++, tries++) {
		struct vf_err err = VF_ERR_INIT;
		int left = at;
		struct vf_posting_source source = { broken_range, no_metadata, NULL, &left };
		vf_bitmap *set = NULL;
		rc = vf_filter_eval(filter, &source, &set, &err);
		ck_assert_int_eq(err.code, -rc);
		/* a slot that no record has is damage too */
		ck_assert_msg(rc == -EIO && (strstr(err.text, "gone") || strstr(err.text, "slot 1")), "%s", err.text);
		ck_assert_ptr_null(set);
	}
	ck_assert_int_gt(tries, 1);
	vf_arena_free(&arena);
}
END_TEST

/* ---- bitmaps as words ---- */

START_TEST(words_have_the_bits_of_the_bitmap)
{
	struct kit_chance chance = { 6 };

	for (int round = 0; round < 24; round++) {
		struct vf_err err = VF_ERR_INIT;
		roaring_bitmap_t *bitmap = roaring_bitmap_create();
		uint32_t chunks = 1 + kit_random(&chance, 6);
		for (uint32_t chunk = 0; chunk < chunks; chunk++) {
			uint32_t base = chunk * 2 * 65536, many = (uint32_t[]){ 0, 1, 50, 4096, 9000, 60000 }[kit_random(&chance, 6)];
			for (uint32_t i = 0; i < many; i++)
				roaring_bitmap_add(bitmap, base + kit_random(&chance, 65536));
			if (kit_random(&chance, 3) == 0)
				roaring_bitmap_add_range_closed(bitmap, base + kit_random(&chance, 1000), base + 30000 + kit_random(&chance, 35000));
		}
		if (round % 2)
			roaring_bitmap_run_optimize(bitmap);
		uint64_t *words, left = roaring_bitmap_get_cardinality(bitmap);
		size_t nwords;
		ck_ok(vf_bitmap_words(bitmap, &words, &nwords, &err));
		for (size_t i = 0; i < nwords; i++)
			for (uint64_t word = words[i]; word; word &= word - 1, left--)
				ck_assert(roaring_bitmap_contains(bitmap, (uint32_t)(64 * i) + (uint32_t)__builtin_ctzll(word)));
		ck_assert_uint_eq(left, 0);
		free(words);
		roaring_bitmap_free(bitmap);
	}
}
END_TEST

/* ---- facets ---- */

static uint64_t count_value(const struct memory *m, const roaring_bitmap_t *match, struct vf_span field, const struct vf_value *value)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < m->nrecords; i++) {
		struct vf_value filter = { .kind = VF_MAP, .count = 1, .entries = &(struct vf_entry){ field, *value } };
		count += roaring_bitmap_contains(match, i * m->spread) && judge(&filter, &m->records[i]);
	}
	return count;
}

/* Every value of the field in the match set, best first, by plain counting. */
static size_t count_values(const struct memory *m, const roaring_bitmap_t *match, struct vf_span field, struct vf_facet_value *out, size_t most)
{
	size_t n = 0;

	for (uint32_t i = 0; i < m->nrecords; i++) {
		for (uint32_t j = 0; j < m->records[i].count; j++) {
			const struct vf_value *value = &m->records[i].entries[j].value;
			bool list = value->kind == VF_LIST;
			if (!vf_span_equal(m->records[i].entries[j].name, field) || !roaring_bitmap_contains(match, i * m->spread))
				continue;
			for (uint32_t k = 0; k < (list ? value->count : 1); k++) {
				const struct vf_value *item = list ? &value->items[k] : value;
				size_t at = 0;
				while (at < n && judge_order(&out[at].value, item) != 0)
					at++;
				if (at < n)
					continue;
				ck_assert_uint_lt(n, most);
				out[n++] = (struct vf_facet_value){ *item, count_value(m, match, field, item) };
			}
		}
	}
	return n;
}

static int kind_rank(const struct vf_value *v)
{
	return v->kind == VF_BOOL ? 0 : v->kind == VF_STRING ? 2 : 1;
}

static int facet_order(const void *a, const void *b)
{
	const struct vf_facet_value *x = a, *y = b;

	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	int kind = kind_rank(&x->value) - kind_rank(&y->value);
	if (kind)
		return kind;
	return x->value.kind == VF_BOOL ? x->value.boolean - y->value.boolean : judge_order(&x->value, &y->value);
}

START_TEST(facets_are_the_counts_of_plain_counting)
{
	struct kit_chance chance = { 7 };

	for (int round = 0; round < 40; round++) {
		struct vf_arena arena = VF_ARENA_INIT;
		struct vf_err err = VF_ERR_INIT;
		struct memory memory;
		struct vf_facet_value expected[500], *got;
		vf_bitmap *match = NULL;
		size_t n;
		fill(&memory, random_records(&chance, 250, &arena), 250, round % 2 ? 1 : 9001);
		struct vf_posting_source source = source_of(&memory);
		struct vf_value filter = kit_random_filter(&chance, &arena, 2);
		ck_ok(vf_filter_eval(round % 4 ? NULL : parse(&filter, &arena), &source, &match, &err));
		struct vf_span field = kit_random_field(&chance, &arena);
		size_t all = count_values(&memory, match, field, expected, 500);
		qsort(expected, all, sizeof *expected, facet_order);
		uint32_t most = round % 3 ? 1 + kit_random(&chance, 20) : 1000;
		ck_ok(vf_facet(field, match, most, &source, &arena, &got, &n, &err));
		ck_assert_uint_eq(n, all < most ? all : most);
		for (size_t i = 0; i < n; i++)
			ck_assert_msg(got[i].count == expected[i].count && judge_order(&got[i].value, &expected[i].value) == 0, "%zu: %s, expected %s", i,
			              kit_text(&got[i].value), kit_text(&expected[i].value));
		vf_bitmap_free(&match);
		empty(&memory);
		vf_arena_free(&arena);
	}
}
END_TEST

/* Of few records and many values: asked of the records, and the same counts. */
START_TEST(facets_of_few_records_look_into_the_few)
{
	struct vf_arena arena = VF_ARENA_INIT;
	enum { COUNT = 3000 };
	struct vf_value *records = kit_alloc(&arena, COUNT * sizeof *records);
	struct vf_err err = VF_ERR_INIT;
	struct vf_facet_value expected[100], *got;
	struct memory memory;
	vf_bitmap *match = NULL;
	char text[300];
	size_t n;

	for (int i = 0; i < COUNT; i++) {
		snprintf(text, sizeof text, "{\"user\": \"u%d\", \"at\": [%d, %d, %d.0, \"%0250d\"]}", i % 300, i, i % 2, i % 2, i / 600);
		records[i] = kit_value(text, strlen(text), &arena);
	}
	fill(&memory, records, COUNT, 7);
	struct vf_posting_source source = source_of(&memory);
	ck_ok(vf_filter_eval(parse_text("{\"user\": {\"$in\": [\"u7\", \"u12\"]}}", &arena), &source, &match, &err));
	size_t all = count_values(&memory, match, vf_span_str("at"), expected, 100);
	qsort(expected, all, sizeof *expected, facet_order);
	memory.looks = 0;
	ck_ok(vf_facet(vf_span_str("at"), match, 9, &source, &arena, &got, &n, &err));
	ck_assert_uint_eq(n, 9);
	ck_assert_uint_ge(memory.looks, 20);
	ck_assert_uint_le(memory.looks, 100);
	for (size_t i = 0; i < n; i++)
		ck_assert_msg(got[i].count == expected[i].count && judge_order(&got[i].value, &expected[i].value) == 0, "%zu: %s, expected %s", i,
		              kit_text(&got[i].value), kit_text(&expected[i].value));
	vf_bitmap_free(&match);
	empty(&memory);
	vf_arena_free(&arena);
}
END_TEST

CHECK_MAIN("filter",
	every_case_has_its_verdict, every_example_of_the_manual_is_true, infinities_nan_and_binary_are_refused,
	a_filter_is_bounded_in_conditions_values_and_depth, a_filter_as_deep_as_allowed_prints_no_deeper_than_can_be_read,
	a_filter_folds_to_its_simplest_form, what_is_printed_parses_to_the_same_tree, a_copy_outlives_what_it_was_made_of,
	a_folded_filter_says_of_random_records_what_a_plain_reading_says, terms_sort_as_their_values_do_and_none_begins_another,
	terms_are_what_the_format_says_byte_by_byte, postings_select_what_a_reading_of_every_record_selects,
	windows_hold_where_many_records_match_and_where_few_do, an_and_of_few_records_and_a_wide_range_looks_into_the_few,
	a_source_that_fails_is_an_error_and_loses_no_memory, words_have_the_bits_of_the_bitmap, facets_are_the_counts_of_plain_counting,
	facets_of_few_records_look_into_the_few)
