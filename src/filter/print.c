/* SPDX-License-Identifier: MIT */
/* print.c - a tree as JSON that parses back to the same tree. */
#include "filter_internal.h"

#include <stdio.h>
#include <stdlib.h>

static const char *name_of(const struct vf_filter *f)
{
	switch (f->op) {
	case VF_OP_MISSING:
	case VF_OP_EXISTS:      return "$exists";
	case VF_OP_IN:          return f->count == 1 ? "$eq" : "$in";
	case VF_OP_NOT_IN:      return f->count == 1 ? "$ne" : "$nin";
	case VF_OP_GT:          return "$gt";
	case VF_OP_GTE:         return "$gte";
	case VF_OP_LT:          return "$lt";
	case VF_OP_LTE:         return "$lte";
	case VF_OP_STARTS_WITH: return "$startsWith";
	case VF_OP_NOT:         return "$not";
	case VF_OP_OR:          return "$or";
	case VF_OP_AND:
	case VF_OP_NOTHING:
	case VF_OP_EVERYTHING:  return "$and";
	}
	return "";
}

static int print_string(struct vf_span s, struct vf_buf *out, struct vf_err *err)
{
	int rc = vf_buf_put(out, "\"", 1, err);

	for (size_t i = 0; i < s.len && !rc; i++) {
		uint8_t c = s.data[i];
		if (c == '"' || c == '\\')
			rc = vf_buf_printf(out, err, "\\%c", c);
		else if (c < 0x20)
			rc = vf_buf_printf(out, err, "\\u%04x", c);
		else
			rc = vf_buf_put(out, &c, 1, err);
	}
	return rc ? rc : vf_buf_put(out, "\"", 1, err);
}

/* The shortest text that reads back the same, and as a float: a normal float has a fraction or lies beyond 64-bit integers. */
static int print_real(double d, struct vf_buf *out, struct vf_err *err)
{
	char text[40];

	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, d);
		if (strtod(text, NULL) == d)
			break;
	}
	return vf_buf_printf(out, err, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static int print_scalar(const struct vf_value *v, struct vf_buf *out, struct vf_err *err)
{
	if (v->kind == VF_BOOL)
		return vf_buf_put_str(out, v->boolean ? "true" : "false", err);
	if (v->kind == VF_INT)
		return vf_buf_printf(out, err, "%lld", (long long)v->integer);
	return v->kind == VF_FLOAT ? print_real(v->real, out, err) : print_string(v->bytes, out, err);
}

static int print_list(const struct vf_filter *f, struct vf_buf *out, struct vf_err *err)
{
	int rc = vf_buf_put(out, "[", 1, err);

	for (uint32_t i = 0; i < f->count && !rc; i++)
		if (i == 0 || !(rc = vf_buf_put_str(out, ", ", err)))
			rc = print_scalar(&f->items[i], out, err);
	return rc ? rc : vf_buf_put(out, "]", 1, err);
}

static int print_operand(const struct vf_filter *leaf, struct vf_buf *out, struct vf_err *err)
{
	if (leaf->op == VF_OP_EXISTS || leaf->op == VF_OP_MISSING)
		return vf_buf_put_str(out, leaf->op == VF_OP_EXISTS ? "true" : "false", err);
	return leaf->count == 1 ? print_scalar(&leaf->items[0], out, err) : print_list(leaf, out, err);
}

/* "field": {"$gt": 5, "$lt": 9} for leaves of one field; "field": 5 for $eq alone. */
static int print_leaves(const struct vf_filter *const *leaves, uint32_t count, struct vf_buf *out, struct vf_err *err)
{
	bool bare = count == 1 && leaves[0]->op == VF_OP_IN && leaves[0]->count == 1;
	int rc;

	if ((rc = print_string(leaves[0]->field, out, err)) || (rc = vf_buf_put_str(out, bare ? ": " : ": {", err)))
		return rc;
	for (uint32_t i = 0; i < count; i++) {
		if (!bare && (rc = vf_buf_printf(out, err, "%s\"%s\": ", i ? ", " : "", name_of(leaves[i]))))
			return rc;
		if ((rc = print_operand(leaves[i], out, err)))
			return rc;
	}
	return bare ? 0 : vf_buf_put(out, "}", 1, err);
}

static int print_filters(const char *name, const struct vf_filter *const *parts, uint32_t count, struct vf_buf *out, struct vf_err *err)
{
	int rc = vf_buf_printf(out, err, "\"%s\": [", name);

	for (uint32_t i = 0; i < count && !rc; i++)
		if (i == 0 || !(rc = vf_buf_put_str(out, ", ", err)))
			rc = vf_filter_print(parts[i], out, err);
	return rc ? rc : vf_buf_put(out, "]", 1, err);
}

/* The entry of a map that an inner node is: "$or": [...]. */
static int print_inner(const struct vf_filter *f, struct vf_buf *out, struct vf_err *err)
{
	if (f->op == VF_OP_OR)
		return print_filters("$or", f->parts, f->count, out, err);
	int rc = vf_buf_put_str(out, "\"$not\": ", err);
	return rc ? rc : vf_filter_print(f->parts[0], out, err);
}

/* A name stands in a map once: a part that would write the same name as the one before it must go elsewhere. */
static bool same_place(const struct vf_filter *a, const struct vf_filter *b)
{
	if (vf_filter_is_leaf(a) != vf_filter_is_leaf(b) || strcmp(name_of(a), name_of(b)) != 0)
		return false;
	return !vf_filter_is_leaf(a) || vf_span_equal(a->field, b->field);
}

/* Parts [first, end) of an $and, which write distinct names, as entries of one map. */
static int print_entries(const struct vf_filter *const *parts, uint32_t count, struct vf_buf *out, struct vf_err *err)
{
	uint32_t end;
	int rc = 0;

	for (uint32_t i = 0; i < count && !rc; i = end) {
		for (end = i + 1; end < count && vf_filter_is_leaf(parts[i]) && vf_filter_is_leaf(parts[end]) &&
		                  vf_span_equal(parts[i]->field, parts[end]->field);)
			end++;
		if (i && (rc = vf_buf_put_str(out, ", ", err)))
			return rc;
		rc = vf_filter_is_leaf(parts[i]) ? print_leaves(parts + i, end - i, out, err) : print_inner(parts[i], out, err);
	}
	return rc;
}

/* One map, as a user would write it; what finds no place in it goes under "$and". */
static int print_and(const struct vf_filter *f, struct vf_buf *out, struct vf_err *err)
{
	const struct vf_filter **entries = malloc(2 * f->count * sizeof *entries), **rest = entries + f->count;
	uint32_t nentries = 0, nrest = 0;
	int rc;

	if (!entries)
		return vf_oom(err);
	for (uint32_t i = 0; i < f->count; i++) {
		if (i && same_place(f->parts[i - 1], f->parts[i]))
			rest[nrest++] = f->parts[i];
		else
			entries[nentries++] = f->parts[i];
	}
	rc = print_entries(entries, nentries, out, err);
	if (!rc && nrest && !(rc = vf_buf_put_str(out, ", ", err)))
		rc = print_filters("$and", rest, nrest, out, err);
	free(entries);
	return rc;
}

/* The language has no word for the constants: a field that exists and does not is nothing, one that exists or does not everything. */
static int print_constant(const struct vf_filter *f, struct vf_buf *out, struct vf_err *err)
{
	return vf_buf_printf(out, err, "\"%s\": [{\"\": {\"$exists\": true}}, {\"\": {\"$exists\": false}}]",
	                     f->op == VF_OP_NOTHING ? "$and" : "$or");
}

int vf_filter_print(const struct vf_filter *f, struct vf_buf *out, struct vf_err *err)
{
	int rc = vf_buf_put(out, "{", 1, err);

	if (rc)
		return rc;
	if (vf_filter_is_leaf(f))
		rc = print_leaves(&f, 1, out, err);
	else if (f->op == VF_OP_AND)
		rc = print_and(f, out, err);
	else if (f->op == VF_OP_NOT || f->op == VF_OP_OR)
		rc = print_inner(f, out, err);
	else
		rc = print_constant(f, out, err);
	return rc ? rc : vf_buf_put(out, "}", 1, err);
}
