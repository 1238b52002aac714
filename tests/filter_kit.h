/* SPDX-License-Identifier: MIT */
/* filter_kit.h - what the tests of filters share: values from JSON text, the cases in files, random records and filters, and a
 * judge of filters that knows nothing of src/filter/. */
#ifndef VECFS_TESTS_FILTER_KIT_H
#define VECFS_TESTS_FILTER_KIT_H

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "check.h"
#include "vecfs/filter.h"

/* ---- JSON text -> value ---- */

static inline void *kit_alloc(struct vf_arena *arena, size_t size)
{
	void *p = vf_arena_zalloc(arena, size ? size : 1);

	ck_assert_ptr_nonnull(p);
	return p;
}

static inline struct vf_value kit_from_json(const json_t *json, struct vf_arena *arena)
{
	struct vf_value v = { .kind = VF_NULL };
	const char *name;
	json_t *item;

	switch (json_typeof(json)) {
	case JSON_NULL:
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		v.kind = VF_BOOL;
		v.boolean = json_is_true(json);
		break;
	case JSON_INTEGER:
		v.kind = VF_INT;
		v.integer = json_integer_value(json);
		break;
	case JSON_REAL:
		v.kind = VF_FLOAT;
		v.real = json_real_value(json);
		break;
	case JSON_STRING:
		v.kind = VF_STRING;
		v.bytes = vf_arena_copy(arena, vf_span(json_string_value(json), json_string_length(json)));
		break;
	case JSON_ARRAY:
		v.kind = VF_LIST;
		v.items = kit_alloc(arena, json_array_size(json) * sizeof *v.items);
		for (size_t i = 0; i < json_array_size(json); i++)
			v.items[v.count++] = kit_from_json(json_array_get(json, i), arena);
		break;
	case JSON_OBJECT:
		v.kind = VF_MAP;
		v.entries = kit_alloc(arena, json_object_size(json) * sizeof *v.entries);
		for (void *at = json_object_iter((json_t *)(uintptr_t)json); at; at = json_object_iter_next((json_t *)(uintptr_t)json, at)) {
			name = json_object_iter_key(at);
			item = json_object_iter_value(at);
			v.entries[v.count].name = vf_arena_copy(arena, vf_span(name, json_object_iter_key_len(at)));
			v.entries[v.count++].value = kit_from_json(item, arena);
		}
		break;
	}
	return v;
}

static inline struct vf_value kit_value(const void *text, size_t len, struct vf_arena *arena)
{
	json_error_t error;
	json_t *json = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);

	ck_assert_msg(json != NULL, "%s in %.*s", error.text, (int)len, (const char *)text);
	struct vf_value v = kit_from_json(json, arena);
	json_decref(json);
	return v;
}

/* ---- value -> JSON text, for messages and for filters to be read again ---- */

static inline void kit_show_string(FILE *out, struct vf_span s)
{
	fputc('"', out);
	for (size_t i = 0; i < s.len; i++) {
		if (s.data[i] < 0x20 || s.data[i] == '"' || s.data[i] == '\\')
			fprintf(out, "\\u%04x", s.data[i]);
		else
			fputc(s.data[i], out);
	}
	fputc('"', out);
}

static inline void kit_show(FILE *out, const struct vf_value *v)
{
	switch (v->kind) {
	case VF_NULL:   fputs("null", out); break;
	case VF_BOOL:   fputs(v->boolean ? "true" : "false", out); break;
	case VF_INT:    fprintf(out, "%" PRId64, v->integer); break;
	case VF_FLOAT:  fprintf(out, fabs(v->real) < 1e15 && v->real == floor(v->real) ? "%.1f" : "%.17g", v->real); break;
	case VF_STRING:
	case VF_BIN:    kit_show_string(out, v->bytes); break;
	case VF_LIST:
		fputc('[', out);
		for (uint32_t i = 0; i < v->count; i++) {
			fputs(i ? ", " : "", out);
			kit_show(out, &v->items[i]);
		}
		fputc(']', out);
		break;
	case VF_MAP:
		fputc('{', out);
		for (uint32_t i = 0; i < v->count; i++) {
			fputs(i ? ", " : "", out);
			kit_show_string(out, v->entries[i].name);
			fputs(": ", out);
			kit_show(out, &v->entries[i].value);
		}
		fputc('}', out);
		break;
	}
}

/* Lives until the next call but three. */
static inline const char *kit_text(const struct vf_value *v)
{
	static char *texts[4];
	static unsigned turn;
	size_t size;
	char **text = &texts[turn++ % 4];

	free(*text);
	FILE *out = open_memstream(text, &size);
	kit_show(out, v);
	fclose(out);
	return *text;
}

/* ---- the rule: all fields but one ---- */

static inline bool kit_filterable(const void *ctx, struct vf_span field)
{
	(void)ctx;
	return !vf_span_is(field, "non_filterable");
}

static const struct vf_field_rule kit_rule = { kit_filterable, NULL };

/* ---- cases in files: filter, yes, no, error; in documents between ``` fences ---- */

struct kit_case_reader {
	FILE *file;
	bool fenced, inside;
	char *line;
	size_t size;
	unsigned number;
};

static inline void kit_cases_open(struct kit_case_reader *r, const char *name, bool fenced)
{
	char path[4096];
	const char *source = getenv("SRCDIR");

	snprintf(path, sizeof path, "%s/%s", source ? source : ".", name);
	*r = (struct kit_case_reader){ .file = fopen(path, "r"), .fenced = fenced };
	ck_assert_msg(r->file != NULL, "%s: %s", path, strerror(errno));
}

/* The next line that says something, cut into its word and the rest. */
static inline bool kit_cases_next(struct kit_case_reader *r, const char **word, const char **rest)
{
	static const char *const words[] = { "filter", "yes", "no", "error" };
	ssize_t len;

	while ((len = getline(&r->line, &r->size, r->file)) >= 0) {
		r->number++;
		while (len && (r->line[len - 1] == '\n' || r->line[len - 1] == ' '))
			r->line[--len] = '\0';
		if (r->fenced && strncmp(r->line, "```", 3) == 0) {
			r->inside = !r->inside && strcmp(r->line, "```filter") == 0;
			continue;
		}
		if ((r->fenced && !r->inside) || len == 0 || r->line[0] == '#')
			continue;
		for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
			size_t n = strlen(words[i]);
			if (strncmp(r->line, words[i], n) == 0 && r->line[n] == ' ') {
				*word = words[i];
				*rest = r->line + n + strspn(r->line + n, " ");
				return true;
			}
		}
		ck_abort_msg("line %u: %s", r->number, r->line);
	}
	return false;
}

static inline void kit_cases_close(struct kit_case_reader *r)
{
	free(r->line);
	fclose(r->file);
}

/* ---- chance ---- */

struct kit_chance { uint64_t state; };

static inline uint32_t kit_random(struct kit_chance *c, uint32_t below)
{
	uint64_t z = c->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (uint32_t)((z ^ (z >> 31)) >> 32) % below;
}

/* Names and values from small sets, so that filters and records meet; the sets hold what is awkward. */
static inline struct vf_span kit_random_field(struct kit_chance *c, struct vf_arena *arena)
{
	static const char *const names[] = { "a", "b", "c", "tags", "a.b", "first name", "\xc3\xa9" };
	uint32_t pick = kit_random(c, 14);

	if (pick > 9)
		return vf_span_str("a");
	if (pick < 7)
		return vf_span_str(names[pick]);
	if (pick == 7)
		return vf_span("", 0);
	/* 128 bytes is the longest name that stands in a term itself */
	size_t len = 127 + kit_random(c, 3);
	char *name = kit_alloc(arena, len);
	memset(name, 'n', len);
	return vf_span(name, len);
}

/* Long strings with one head that differ only behind where a term is cut, and around that length. */
static inline struct vf_span kit_random_long(struct kit_chance *c, struct vf_arena *arena)
{
	static const size_t lens[] = { 190, 191, 192, 193, 194, 250, 2048 };
	size_t len = lens[kit_random(c, 7)];
	char *s = kit_alloc(arena, len);

	memset(s, 'l', len);
	if (kit_random(c, 2))
		s[len - 1] = (char)('k' + kit_random(c, 3));
	if (kit_random(c, 8) == 0)
		s[190] = 'm';
	return vf_span(s, len);
}

static inline struct vf_value kit_random_scalar(struct kit_chance *c, struct vf_arena *arena)
{
	static const int64_t integers[] = { 0, 1, 2, 3, -1, -2, 9007199254740992, 9007199254740993, 9007199254740994, INT64_MAX,
	                                    INT64_MAX - 1, INT64_MIN, INT64_MIN + 1 };
	static const double reals[] = { 0.0, -0.0, 1.0, 1.5, -1.5, 2.0, 0x1p53, 0x1p53 + 2, 0x1p63, -0x1p63, 1e300, -1e300, 5e-324, -5e-324,
	                                0.1, -0x1p63 - 2048 };
	static const char *const strings[] = { "", "a", "ab", "abc", "b", "1", "true", "\xc3\xa9", "\xf4\x8f\xbf\xbf", "\x01" };
	struct vf_value v = { .kind = VF_BOOL };

	switch (kit_random(c, 8)) {
	case 0:
		v.boolean = kit_random(c, 2);
		return v;
	case 1: case 2:
		v.kind = VF_INT;
		v.integer = integers[kit_random(c, 13)];
		return v;
	case 3: case 4:
		v.kind = VF_FLOAT;
		v.real = reals[kit_random(c, 16)];
		return v;
	case 5:
		v.kind = VF_STRING;
		v.bytes = kit_random(c, 3) ? kit_random_long(c, arena) : kit_random(c, 2) ? vf_span("a\0", 2) : vf_span("\0\0b", 3);
		return v;
	default:
		v.kind = VF_STRING;
		v.bytes = vf_span_str(strings[kit_random(c, 10)]);
		return v;
	}
}

static inline struct vf_value kit_random_record(struct kit_chance *c, struct vf_arena *arena)
{
	struct vf_value map = { .kind = VF_MAP, .entries = kit_alloc(arena, 8 * sizeof *map.entries) };

	for (uint32_t tries = kit_random(c, 8); tries > 0; tries--) {
		struct vf_entry entry = { .name = kit_random_field(c, arena) };
		bool taken = false;
		for (uint32_t i = 0; i < map.count; i++)
			taken |= vf_span_equal(map.entries[i].name, entry.name);
		if (taken)
			continue;
		if (kit_random(c, 3)) {
			entry.value = kit_random_scalar(c, arena);
		} else {
			entry.value = (struct vf_value){ .kind = VF_LIST, .items = kit_alloc(arena, 4 * sizeof *entry.value.items) };
			for (uint32_t n = kit_random(c, 5); n > 0; n--)
				entry.value.items[entry.value.count++] = kit_random_scalar(c, arena);
		}
		map.entries[map.count++] = entry;
	}
	return map;
}

static inline struct vf_value kit_map_of(struct vf_arena *arena, struct vf_span name, struct vf_value value)
{
	struct vf_value map = { .kind = VF_MAP, .count = 1, .entries = kit_alloc(arena, sizeof *map.entries) };

	map.entries[0] = (struct vf_entry){ name, value };
	return map;
}

static inline struct vf_value kit_random_operators(struct kit_chance *c, struct vf_arena *arena, int depth)
{
	static const char *const names[] = { "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$startsWith", "$in", "$nin", "$exists", "$not" };
	struct vf_value map = { .kind = VF_MAP, .entries = kit_alloc(arena, 11 * sizeof *map.entries) };
	bool used[11] = { false };

	for (uint32_t n = 1 + kit_random(c, kit_random(c, 2) ? 1 : 3); n > 0; n--) {
		uint32_t pick = kit_random(c, depth > 0 ? 11 : 10);
		struct vf_value operand = kit_random_scalar(c, arena);
		if (used[pick])
			continue;
		used[pick] = true;
		while ((pick >= 2 && pick <= 5 && operand.kind == VF_BOOL) || (pick == 6 && operand.kind != VF_STRING))
			operand = kit_random_scalar(c, arena);
		if (pick == 7 || pick == 8) {
			operand = (struct vf_value){ .kind = VF_LIST, .items = kit_alloc(arena, 4 * sizeof *operand.items) };
			for (uint32_t i = 1 + kit_random(c, 4); i > 0; i--)
				operand.items[operand.count++] = kit_random_scalar(c, arena);
		} else if (pick == 9) {
			operand = (struct vf_value){ .kind = VF_BOOL, .boolean = kit_random(c, 2) };
		} else if (pick == 10) {
			operand = kit_random_operators(c, arena, depth - 1);
		}
		map.entries[map.count++] = (struct vf_entry){ vf_span_str(names[pick]), operand };
	}
	return map;
}

static inline struct vf_value kit_random_filter(struct kit_chance *c, struct vf_arena *arena, int depth)
{
	struct vf_value map = { .kind = VF_MAP, .entries = kit_alloc(arena, 6 * sizeof *map.entries) };
	bool used[3] = { false };
	static const char *const logical[] = { "$and", "$or", "$not" };

	for (uint32_t n = 1 + kit_random(c, 3); n > 0; n--) {
		uint32_t pick = kit_random(c, depth > 0 ? 6 : 3);
		struct vf_entry entry = { 0 };
		if (pick < 3) {
			entry.name = kit_random_field(c, arena);
			entry.value = kit_random(c, 3) ? kit_random_operators(c, arena, 2) : kit_random_scalar(c, arena);
		} else if (used[pick - 3]) {
			continue;
		} else {
			used[pick - 3] = true;
			entry.name = vf_span_str(logical[pick - 3]);
			entry.value = kit_random_filter(c, arena, depth - 1);
			if (pick < 5) {
				struct vf_value list = { .kind = VF_LIST, .count = 1 + kit_random(c, 3) };
				list.items = kit_alloc(arena, list.count * sizeof *list.items);
				list.items[0] = entry.value;
				for (uint32_t i = 1; i < list.count; i++)
					list.items[i] = kit_random_filter(c, arena, depth - 1);
				entry.value = list;
			}
		}
		bool taken = false;
		for (uint32_t i = 0; i < map.count; i++)
			taken |= vf_span_equal(map.entries[i].name, entry.name);
		if (!taken)
			map.entries[map.count++] = entry;
	}
	return map;
}

/* ---- the judge: reads the filter as the user wrote it, with its own idea of order ---- */

static inline int judge_int_and_real(int64_t i, double d)
{
	if (fabs(d) >= 0x1p64)
		return d > 0 ? -1 : 1;
	__int128 floor_of_d = (__int128)floor(d);
	if (i != floor_of_d)
		return i < floor_of_d ? -1 : 1;
	return d > floor(d) ? -1 : 0;
}

static inline int judge_numbers(const struct vf_value *a, const struct vf_value *b)
{
	if (a->kind == VF_INT && b->kind == VF_INT)
		return a->integer < b->integer ? -1 : a->integer > b->integer;
	if (a->kind == VF_FLOAT && b->kind == VF_FLOAT)
		return a->real < b->real ? -1 : a->real > b->real;
	return a->kind == VF_INT ? judge_int_and_real(a->integer, b->real) : -judge_int_and_real(b->integer, a->real);
}

/* 2: no order between them. */
static inline int judge_order(const struct vf_value *a, const struct vf_value *b)
{
	bool number_a = a->kind == VF_INT || a->kind == VF_FLOAT, number_b = b->kind == VF_INT || b->kind == VF_FLOAT;

	if (number_a && number_b)
		return judge_numbers(a, b);
	if (a->kind != b->kind)
		return 2;
	if (a->kind == VF_BOOL)
		return a->boolean == b->boolean ? 0 : 2;
	size_t shorter = a->bytes.len < b->bytes.len ? a->bytes.len : b->bytes.len;
	for (size_t i = 0; i < shorter; i++)
		if (a->bytes.data[i] != b->bytes.data[i])
			return a->bytes.data[i] < b->bytes.data[i] ? -1 : 1;
	return a->bytes.len < b->bytes.len ? -1 : a->bytes.len > b->bytes.len;
}

static inline bool judge_element(const char *op, const struct vf_value *operand, const struct vf_value *element)
{
	if (strcmp(op, "$in") == 0) {
		for (uint32_t i = 0; i < operand->count; i++)
			if (judge_order(element, &operand->items[i]) == 0)
				return true;
		return false;
	}
	if (strcmp(op, "$startsWith") == 0)
		return element->kind == VF_STRING && element->bytes.len >= operand->bytes.len &&
		       (operand->bytes.len == 0 || memcmp(element->bytes.data, operand->bytes.data, operand->bytes.len) == 0);
	int order = judge_order(element, operand);
	if (order == 2)
		return false;
	return strcmp(op, "$eq") == 0 ? order == 0 : strcmp(op, "$gt") == 0 ? order > 0 : strcmp(op, "$gte") == 0 ? order >= 0 :
	       strcmp(op, "$lt") == 0 ? order < 0 : order <= 0;
}

static inline bool judge_operator(const char *op, const struct vf_value *operand, const struct vf_value *value);

static inline bool judge_operators(const struct vf_value *operators, const struct vf_value *value)
{
	for (uint32_t i = 0; i < operators->count; i++) {
		char op[20];
		snprintf(op, sizeof op, "%.*s", VF_SPAN_ARG(operators->entries[i].name));
		if (!judge_operator(op, &operators->entries[i].value, value))
			return false;
	}
	return true;
}

static inline bool judge_operator(const char *op, const struct vf_value *operand, const struct vf_value *value)
{
	if (strcmp(op, "$not") == 0)
		return !judge_operators(operand, value);
	if (strcmp(op, "$exists") == 0)
		return operand->boolean == (value != NULL);
	if (!value)
		return false;
	if (strcmp(op, "$ne") == 0)
		return !judge_operator("$eq", operand, value);
	if (strcmp(op, "$nin") == 0)
		return !judge_operator("$in", operand, value);
	if (value->kind != VF_LIST)
		return judge_element(op, operand, value);
	for (uint32_t i = 0; i < value->count; i++)
		if (judge_element(op, operand, &value->items[i]))
			return true;
	return false;
}

static inline bool judge(const struct vf_value *filter, const struct vf_value *record)
{
	for (uint32_t i = 0; i < filter->count; i++) {
		const struct vf_entry *entry = &filter->entries[i];
		bool met;
		if (vf_span_is(entry->name, "$not")) {
			met = !judge(&entry->value, record);
		} else if (vf_span_is(entry->name, "$and") || vf_span_is(entry->name, "$or")) {
			uint32_t yes = 0;
			for (uint32_t j = 0; j < entry->value.count; j++)
				yes += judge(&entry->value.items[j], record);
			met = vf_span_is(entry->name, "$and") ? yes == entry->value.count : yes > 0;
		} else {
			const struct vf_value *value = NULL;
			for (uint32_t j = 0; j < record->count; j++)
				if (vf_span_equal(record->entries[j].name, entry->name))
					value = &record->entries[j].value;
			met = entry->value.kind == VF_MAP ? judge_operators(&entry->value, value) : judge_operator("$eq", &entry->value, value);
		}
		if (!met)
			return false;
	}
	return true;
}

#endif
