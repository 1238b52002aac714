/* SPDX-License-Identifier: MIT */
/* terms.c - values as sorted keys: field, type, value; in the order of values, no key the beginning of another. doc/FORMAT.md. */
#include "filter_internal.h"

#include <errno.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define FIELD_WHOLE_MAX 128u
#define FIELD_HASHED    0xff
#define EVERY           0xfe
#define STRING_END      0x00
#define STRING_CUT      0xff
#define HASH_BYTES      16u
#define NUMBER_BYTES    10u

_Static_assert(1 + FIELD_WHOLE_MAX + 1 + VF_TERM_STRING_HEAD + 1 + HASH_BYTES <= VF_TERM_BYTES_MAX, "the longest term");

static void put_byte(struct vf_term *t, uint8_t byte)
{
	t->bytes[t->len++] = byte;
}

static void put_bytes(struct vf_term *t, const void *bytes, size_t len)
{
	if (len)
		memcpy(t->bytes + t->len, bytes, len);
	t->len += len;
}

static void put_hash(struct vf_term *t, struct vf_span s)
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(s.data, s.len));
	put_bytes(t, &canonical, HASH_BYTES);
}

static void put_big_endian(struct vf_term *t, uint64_t number, int bytes)
{
	while (bytes-- > 0)
		put_byte(t, (uint8_t)(number >> 8 * bytes));
}

static uint64_t get_big_endian(const uint8_t *p, int bytes)
{
	uint64_t number = 0;

	for (int i = 0; i < bytes; i++)
		number = number << 8 | p[i];
	return number;
}

static void put_field(struct vf_term *t, struct vf_span field)
{
	t->len = 0;
	if (field.len <= FIELD_WHOLE_MAX) {
		put_byte(t, (uint8_t)field.len);
		put_bytes(t, field.data, field.len);
	} else {
		put_byte(t, FIELD_HASHED);
		put_hash(t, field);
	}
}

/* ---- numbers: the nearest double, then what the integer has more than it ---- */

static void put_number(struct vf_term *t, const struct vf_value *v)
{
	double nearest = v->kind == VF_INT ? (double)v->integer : v->real;
	int64_t more = 0;
	uint64_t bits;

	/* Modular, since the nearest double may be 2^63. */
	if (v->kind == VF_INT)
		more = (int64_t)((uint64_t)v->integer - (nearest < 0 ? (uint64_t)(int64_t)nearest : (uint64_t)nearest));
	nearest += 0.0;                /* -0.0 becomes 0.0 */
	memcpy(&bits, &nearest, sizeof bits);
	put_big_endian(t, bits >> 63 ? ~bits : bits | 1ull << 63, 8);
	put_big_endian(t, (uint64_t)(more + 0x8000), 2);
}

static struct vf_value get_number(const uint8_t *p)
{
	uint64_t bits = get_big_endian(p, 8);
	int64_t more = (int64_t)get_big_endian(p + 8, 2) - 0x8000;
	struct vf_value v = { .kind = VF_FLOAT };

	bits = bits >> 63 ? bits & ~(1ull << 63) : ~bits;
	memcpy(&v.real, &bits, sizeof v.real);
	if (more == 0)
		return vf_scalar_normal(&v);
	uint64_t whole = v.real < 0 ? (uint64_t)(int64_t)v.real : (uint64_t)v.real;
	return (struct vf_value){ .kind = VF_INT, .integer = (int64_t)(whole + (uint64_t)more) };
}

/* ---- strings: each byte plus one, so that zero is free to end them; UTF-8 has no 0xff ---- */

static void put_text(struct vf_term *t, struct vf_span s)
{
	for (size_t i = 0; i < s.len; i++)
		put_byte(t, (uint8_t)(s.data[i] + 1));
}

static void put_string(struct vf_term *t, struct vf_span s)
{
	if (!vf_string_is_cut(s)) {
		put_text(t, s);
		put_byte(t, STRING_END);
		return;
	}
	put_text(t, vf_span(s.data, VF_TERM_STRING_HEAD));
	put_byte(t, STRING_CUT);
	put_hash(t, s);
}

static enum vf_term_type type_of(const struct vf_value *scalar)
{
	if (vf_is_number(scalar))
		return VF_TERM_NUMBER;
	return scalar->kind == VF_BOOL ? VF_TERM_BOOLEAN : VF_TERM_STRING;
}

static void put_scalar(struct vf_term *t, const struct vf_value *scalar)
{
	put_byte(t, (uint8_t)type_of(scalar));
	if (vf_is_number(scalar))
		put_number(t, scalar);
	else if (scalar->kind == VF_BOOL)
		put_byte(t, scalar->boolean);
	else
		put_string(t, scalar->bytes);
}

/* ---- whole terms ---- */

void vf_term_of_every(struct vf_term *out)
{
	out->len = 0;
	put_byte(out, EVERY);
}

void vf_term_of_type(struct vf_span field, enum vf_term_type type, struct vf_term *out)
{
	put_field(out, field);
	put_byte(out, (uint8_t)type);
}

void vf_term_of_value(struct vf_span field, const struct vf_value *scalar, struct vf_term *out)
{
	put_field(out, field);
	put_scalar(out, scalar);
}

void vf_term_of_prefix(struct vf_span field, struct vf_span prefix, struct vf_term *out)
{
	vf_term_of_type(field, VF_TERM_STRING, out);
	if (!vf_string_is_cut(prefix)) {
		put_text(out, prefix);
		return;
	}
	put_text(out, vf_span(prefix.data, VF_TERM_STRING_HEAD));
	put_byte(out, STRING_CUT);
}

void vf_term_step_over(struct vf_term *term)
{
	/* A term begins with a field's length or 0xff and goes on with a type: it never is all 0xff. */
	while (term->bytes[term->len - 1] == 0xff)
		term->len--;
	term->bytes[term->len - 1]++;
}

int vf_term_value(struct vf_span term, size_t field_len, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	const uint8_t *p = term.data + field_len + 1;
	size_t len = term.len - field_len - 1;

	if (term.len <= field_len)
		return vf_fail(err, EIO, "a posting's key is too short");
	if (p[-1] == VF_TERM_BOOLEAN && len == 1) {
		*out = (struct vf_value){ .kind = VF_BOOL, .boolean = p[0] != 0 };
		return 0;
	}
	if (p[-1] == VF_TERM_NUMBER && len == NUMBER_BYTES) {
		*out = get_number(p);
		return 0;
	}
	if (p[-1] != VF_TERM_STRING || len == 0)
		return vf_fail(err, EIO, "a posting's key has type %u and %zu bytes behind it", p[-1], len);
	if (p[len - 1] != STRING_END || len > VF_TERM_STRING_HEAD + 1)
		return 1;
	uint8_t *text = vf_arena_alloc(arena, len);
	if (!text)
		return vf_oom(err);
	for (size_t i = 0; i < len; i++)
		text[i] = (uint8_t)(p[i] - 1);
	text[len - 1] = 0;
	*out = (struct vf_value){ .kind = VF_STRING, .bytes = { text, len - 1 } };
	return 0;
}

/* ---- all terms of a record ---- */

struct emission {
	int (*emit)(void *ctx, struct vf_span term, struct vf_err *err);
	void *ctx;
	struct vf_term term;
	size_t field_len;
};

static int emit_scalar(struct emission *e, const struct vf_value *scalar, struct vf_err *err)
{
	e->term.len = e->field_len;
	put_scalar(&e->term, scalar);
	return e->emit(e->ctx, vf_term_span(&e->term), err);
}

static int by_value(const void *a, const void *b)
{
	return vf_scalar_compare(*(const struct vf_value *const *)a, *(const struct vf_value *const *)b);
}

static int emit_sorted(struct emission *e, const struct vf_value **sorted, uint32_t count, struct vf_err *err)
{
	uint32_t distinct = 0;
	int rc = 0;

	qsort(sorted, count, sizeof *sorted, by_value);
	for (uint32_t i = 0; i < count && !rc; i++) {
		if (i && vf_scalar_compare(sorted[i - 1], sorted[i]) == 0)
			continue;
		distinct++;
		rc = emit_scalar(e, sorted[i], err);
	}
	if (rc || distinct < 2)
		return rc;
	e->term.len = e->field_len;
	put_byte(&e->term, VF_TERM_SEVERAL);
	return e->emit(e->ctx, vf_term_span(&e->term), err);
}

static int emit_list(struct emission *e, const struct vf_value *list, struct vf_err *err)
{
	const struct vf_value **sorted = malloc((list->count + 1) * sizeof *sorted);

	if (!sorted)
		return vf_oom(err);
	for (uint32_t i = 0; i < list->count; i++)
		sorted[i] = &list->items[i];
	int rc = emit_sorted(e, sorted, list->count, err);
	free(sorted);
	return rc;
}

static int emit_field(struct emission *e, const struct vf_entry *entry, struct vf_err *err)
{
	put_field(&e->term, entry->name);
	e->field_len = e->term.len;
	put_byte(&e->term, VF_TERM_PRESENCE);
	int rc = e->emit(e->ctx, vf_term_span(&e->term), err);
	if (rc)
		return rc;
	return entry->value.kind == VF_LIST ? emit_list(e, &entry->value, err) : emit_scalar(e, &entry->value, err);
}

int vf_terms_of(const struct vf_value *metadata, const struct vf_field_rule *rule,
                int (*emit)(void *ctx, struct vf_span term, struct vf_err *err), void *ctx, struct vf_err *err)
{
	struct emission e = { .emit = emit, .ctx = ctx };

	vf_term_of_every(&e.term);
	int rc = emit(ctx, vf_term_span(&e.term), err);
	for (uint32_t i = 0; i < metadata->count && !rc; i++)
		if (!rule || rule->filterable(rule->ctx, metadata->entries[i].name))
			rc = emit_field(&e, &metadata->entries[i], err);
	return rc;
}

/* ---- back from a cut term to its string ---- */

static bool is_string_of(const struct vf_value *v, struct vf_span field, struct vf_span term)
{
	struct vf_term own;

	if (v->kind != VF_STRING || !vf_string_is_cut(v->bytes))
		return false;
	vf_term_of_value(field, v, &own);
	return vf_span_equal(vf_term_span(&own), term);
}

static const struct vf_value *string_of(const struct vf_value *v, struct vf_span field, struct vf_span term)
{
	if (v->kind != VF_LIST)
		return is_string_of(v, field, term) ? v : NULL;
	for (uint32_t i = 0; i < v->count; i++)
		if (is_string_of(&v->items[i], field, term))
			return &v->items[i];
	return NULL;
}

int vf_term_resolve(struct vf_span term, struct vf_span field, uint32_t slot, const struct vf_posting_source *source,
                    struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	struct vf_value metadata;
	int rc = source->metadata(source->ctx, slot, arena, &metadata, err);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < metadata.count; i++) {
		const struct vf_value *found = NULL;
		if (vf_span_equal(metadata.entries[i].name, field))
			found = string_of(&metadata.entries[i].value, field, term);
		if (found) {
			*out = *found;
			return 0;
		}
	}
	return vf_fail(err, EIO, "postings say that slot %u has a value of field \"%.*s\" that its record does not have", slot, VF_SPAN_ARG(field));
}
