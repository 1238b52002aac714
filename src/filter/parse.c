/* SPDX-License-Identifier: MIT */
/* parse.c - from a decoded map to a tree, with the place in every error: "filter.$and[1].year: ...". */
#include "filter_internal.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define OPERATOR_NAMES "$eq $ne $gt $gte $lt $lte $in $nin $exists $startsWith $not"

struct parser {
	const struct vf_field_rule *rule;
	struct vf_arena *arena;
	uint32_t nodes, items;
};

/* Where we stand: a name, or an index when name.data is NULL, below what `up` says. */
struct place {
	const struct place *up;
	struct vf_span name;
	uint32_t index, depth;
};

static struct place at_name(const struct place *up, struct vf_span name)
{
	return (struct place){ .up = up, .name = name, .depth = up->depth + 1 };
}

static struct place at_index(const struct place *up, uint32_t index)
{
	return (struct place){ .up = up, .index = index, .depth = up->depth + 1 };
}

static bool is_plain(struct vf_span name)
{
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = name.data[i];
		if (c <= ' ' || c == '.' || c == '[' || c == ']' || c == '"' || c == ':')
			return false;
	}
	return name.len > 0;
}

static size_t print_place(const struct place *place, char *out, size_t size)
{
	size_t len = place->up ? print_place(place->up, out, size) : 0;
	int more;

	if (len >= size)
		return len;
	if (!place->name.data)
		more = snprintf(out + len, size - len, "[%u]", place->index);
	else if (is_plain(place->name))
		more = snprintf(out + len, size - len, "%s%.*s", place->up ? "." : "", VF_SPAN_ARG(place->name));
	else
		more = snprintf(out + len, size - len, "[\"%.*s\"]", VF_SPAN_ARG(place->name));
	return len + (size_t)more;
}

static int wrong(const struct place *place, struct vf_err *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int wrong(const struct place *place, struct vf_err *err, const char *fmt, ...)
{
	char path[200], text[VF_ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	print_place(place, path, sizeof path);
	return vf_fail(err, EINVAL, "%s: %s", path, text);
}

static const char *a_kind(const struct vf_value *value)
{
	switch (value->kind) {
	case VF_NULL:   return "null";
	case VF_BOOL:   return "a boolean";
	case VF_INT:
	case VF_FLOAT:  return "a number";
	case VF_STRING: return "a string";
	case VF_BIN:    return "binary";
	case VF_LIST:   return "a list";
	case VF_MAP:    return "a map";
	}
	return "something unknown";
}

static int count_node(struct parser *p, const struct place *place, struct vf_err *err)
{
	if (++p->nodes > VF_FILTER_NODES_MAX)
		return wrong(place, err, "a filter has at most %u conditions, this one has more", VF_FILTER_NODES_MAX);
	return 0;
}

/* ---- operators: {"$gt": 5, ...} under a field ---- */

enum operand { SCALAR, ORDERED, STRING, BOOLEAN, SCALARS, OPERATORS };

static const struct operator {
	const char *name;
	enum vf_filter_op op;
	enum operand operand;
} operators[] = {
	{ "$eq",  VF_OP_IN,         SCALAR },  { "$ne",         VF_OP_NOT_IN,      SCALAR },
	{ "$gt",  VF_OP_GT,         ORDERED }, { "$gte",        VF_OP_GTE,         ORDERED },
	{ "$lt",  VF_OP_LT,         ORDERED }, { "$lte",        VF_OP_LTE,         ORDERED },
	{ "$in",  VF_OP_IN,         SCALARS }, { "$nin",        VF_OP_NOT_IN,      SCALARS },
	{ "$not", VF_OP_NOT,        OPERATORS }, { "$startsWith", VF_OP_STARTS_WITH, STRING },
	{ "$exists", VF_OP_EXISTS,  BOOLEAN },
};

static int operator_named(struct vf_span name, const struct place *place, const struct operator **out, struct vf_err *err)
{
	for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
		if (vf_span_is(name, operators[i].name)) {
			*out = &operators[i];
			return 0;
		}
	}
	return wrong(place, err, "unknown operator \"%.*s\"; under a field stand " OPERATOR_NAMES, VF_SPAN_ARG(name));
}

static int check_scalar(const struct vf_value *value, const char *operator, const struct place *place, struct vf_err *err)
{
	if (value->kind == VF_FLOAT && !isfinite(value->real))
		return wrong(place, err, "%s wants a finite number", operator);
	if (value->kind == VF_BOOL || value->kind == VF_STRING || vf_is_number(value))
		return 0;
	return wrong(place, err, "%s wants a string, a number or a boolean, not %s", operator, a_kind(value));
}

static int check_ordered(const struct vf_value *value, const char *operator, const struct place *place, struct vf_err *err)
{
	if (value->kind == VF_STRING || vf_is_number(value))
		return check_scalar(value, operator, place, err);
	return wrong(place, err, "%s wants a number or a string, not %s", operator, a_kind(value));
}

static int check_scalars(struct parser *p, const struct vf_value *value, const char *operator, const struct place *place,
                         struct vf_err *err)
{
	if (value->kind != VF_LIST)
		return wrong(place, err, "%s wants a list, not %s", operator, a_kind(value));
	if (value->count == 0)
		return wrong(place, err, "%s wants at least one value, this list is empty", operator);
	if (value->count > VF_FILTER_ITEMS_MAX - p->items)
		return wrong(place, err, "the lists of a filter have at most %u values in all, these have more", VF_FILTER_ITEMS_MAX);
	p->items += value->count;
	for (uint32_t i = 0; i < value->count; i++) {
		struct place item = at_index(place, i);
		int rc = check_scalar(&value->items[i], operator, &item, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int make_leaf(struct parser *p, enum vf_filter_op op, struct vf_span field, const struct vf_value *values, uint32_t count,
                     const struct vf_filter **out, struct vf_err *err)
{
	struct vf_value *items = count ? vf_arena_alloc(p->arena, count * sizeof *items) : NULL;

	if (count && !items)
		return vf_oom(err);
	if (count)
		memcpy(items, values, count * sizeof *items);
	*out = vf_filter_leaf(p->arena, op, field, items, count);
	return *out ? 0 : vf_oom(err);
}

static int make_inner(struct parser *p, enum vf_filter_op op, const struct vf_filter **parts, uint32_t count,
                      const struct vf_filter **out, struct vf_err *err)
{
	*out = vf_filter_inner(p->arena, op, parts, count);
	return *out ? 0 : vf_oom(err);
}

static int make_not(struct parser *p, const struct vf_filter *part, const struct vf_filter **out, struct vf_err *err)
{
	const struct vf_filter **parts = vf_arena_alloc(p->arena, sizeof *parts);

	if (!parts)
		return vf_oom(err);
	parts[0] = part;
	return make_inner(p, VF_OP_NOT, parts, 1, out, err);
}

static int parse_operators(struct parser *p, struct vf_span field, const struct vf_value *map, const struct place *place,
                           const struct vf_filter **out, struct vf_err *err);

static int parse_operator(struct parser *p, struct vf_span field, const struct vf_entry *entry, const struct place *up,
                          const struct vf_filter **out, struct vf_err *err)
{
	struct place place = at_name(up, entry->name);
	const struct vf_value *value = &entry->value;
	const struct operator *operator = NULL;
	int rc;

	if ((rc = operator_named(entry->name, up, &operator, err)) || (rc = count_node(p, &place, err)))
		return rc;
	switch (operator->operand) {
	case SCALAR:
		rc = check_scalar(value, operator->name, up, err);
		return rc ? rc : make_leaf(p, operator->op, field, value, 1, out, err);
	case ORDERED:
		rc = check_ordered(value, operator->name, up, err);
		return rc ? rc : make_leaf(p, operator->op, field, value, 1, out, err);
	case STRING:
		if (value->kind != VF_STRING)
			return wrong(up, err, "%s wants a string, not %s", operator->name, a_kind(value));
		return make_leaf(p, operator->op, field, value, 1, out, err);
	case BOOLEAN:
		if (value->kind != VF_BOOL)
			return wrong(up, err, "%s wants true or false, not %s", operator->name, a_kind(value));
		return make_leaf(p, value->boolean ? VF_OP_EXISTS : VF_OP_MISSING, field, NULL, 0, out, err);
	case SCALARS:
		rc = check_scalars(p, value, operator->name, &place, err);
		return rc ? rc : make_leaf(p, operator->op, field, value->items, value->count, out, err);
	case OPERATORS:
		if (value->kind != VF_MAP)
			return wrong(up, err, "%s under a field wants operators, like {\"$not\": {\"$eq\": 5}}, not %s", operator->name,
			             a_kind(value));
		rc = parse_operators(p, field, value, &place, out, err);
		return rc ? rc : make_not(p, *out, out, err);
	}
	return 0;
}

static int check_depth(const struct place *place, struct vf_err *err)
{
	if (place->depth > VF_VALUE_DEPTH_MAX)
		return wrong(place, err, "nested more than %u deep", VF_VALUE_DEPTH_MAX);
	return 0;
}

static int parse_operators(struct parser *p, struct vf_span field, const struct vf_value *map, const struct place *place,
                           const struct vf_filter **out, struct vf_err *err)
{
	int rc = check_depth(place, err);

	if (rc)
		return rc;
	if (map->count == 0)
		return wrong(place, err, "this map of operators is empty; there are " OPERATOR_NAMES);
	const struct vf_filter **parts = vf_arena_alloc(p->arena, map->count * sizeof *parts);
	if (!parts)
		return vf_oom(err);
	for (uint32_t i = 0; i < map->count; i++)
		if ((rc = parse_operator(p, field, &map->entries[i], place, &parts[i], err)))
			return rc;
	return make_inner(p, VF_OP_AND, parts, map->count, out, err);
}

/* ---- filters: {"field": ..., "$and": [...], ...} ---- */

static int parse_filter(struct parser *p, const struct vf_value *value, const struct place *place,
                        const struct vf_filter **out, struct vf_err *err);

static int parse_list(struct parser *p, enum vf_filter_op op, const struct vf_value *list, const struct place *place,
                      const struct vf_filter **out, struct vf_err *err)
{
	if (list->kind != VF_LIST)
		return wrong(place, err, "wants a list of filters, not %s", a_kind(list));
	if (list->count == 0)
		return wrong(place, err, "wants at least one filter, this list is empty");
	if (list->count > VF_FILTER_NODES_MAX)
		return wrong(place, err, "a filter has at most %u conditions, this list has %u", VF_FILTER_NODES_MAX, list->count);
	const struct vf_filter **parts = vf_arena_alloc(p->arena, list->count * sizeof *parts);
	if (!parts)
		return vf_oom(err);
	for (uint32_t i = 0; i < list->count; i++) {
		struct place item = at_index(place, i);
		int rc = parse_filter(p, &list->items[i], &item, &parts[i], err);
		if (rc)
			return rc;
	}
	return make_inner(p, op, parts, list->count, out, err);
}

static int parse_logical(struct parser *p, const struct vf_entry *entry, const struct place *place, const struct place *up,
                         const struct vf_filter **out, struct vf_err *err)
{
	if (vf_span_is(entry->name, "$and"))
		return parse_list(p, VF_OP_AND, &entry->value, place, out, err);
	if (vf_span_is(entry->name, "$or"))
		return parse_list(p, VF_OP_OR, &entry->value, place, out, err);
	if (vf_span_is(entry->name, "$not")) {
		int rc = parse_filter(p, &entry->value, place, out, err);
		return rc ? rc : make_not(p, *out, out, err);
	}
	return wrong(up, err, "unknown operator \"%.*s\"; here stand field names and $and $or $not (and under a field " OPERATOR_NAMES ")",
	             VF_SPAN_ARG(entry->name));
}

static int parse_field(struct parser *p, const struct vf_entry *entry, const struct place *place, const struct place *up,
                       const struct vf_filter **out, struct vf_err *err)
{
	const struct vf_value *value = &entry->value;

	if (entry->name.len && memchr(entry->name.data, 0, entry->name.len))
		return wrong(up, err, "a name holds a NUL byte, which no name of a field has");
	if (p->rule && !p->rule->filterable(p->rule->ctx, entry->name))
		return wrong(place, err, "this field is in non_filterable: it is stored, but cannot be filtered by");
	if (value->kind == VF_MAP)
		return parse_operators(p, entry->name, value, place, out, err);
	if (value->kind == VF_LIST)
		return wrong(place, err, "a field equals one value, not a list; for one of several use {\"$in\": [...]}");
	int rc = check_scalar(value, "a field", place, err);
	return rc ? rc : make_leaf(p, VF_OP_IN, entry->name, value, 1, out, err);
}

static int parse_entry(struct parser *p, const struct vf_entry *entry, const struct place *up,
                       const struct vf_filter **out, struct vf_err *err)
{
	struct place place = at_name(up, entry->name);
	int rc = count_node(p, &place, err);

	if (rc)
		return rc;
	if (entry->name.len && entry->name.data[0] == '$')
		return parse_logical(p, entry, &place, up, out, err);
	return parse_field(p, entry, &place, up, out, err);
}

static int parse_filter(struct parser *p, const struct vf_value *value, const struct place *place,
                        const struct vf_filter **out, struct vf_err *err)
{
	int rc = check_depth(place, err);

	if (rc)
		return rc;
	if (value->kind != VF_MAP)
		return wrong(place, err, "a filter is a map, like {\"year\": 2024}, not %s", a_kind(value));
	if (value->count == 0)
		return wrong(place, err, "a filter has at least one entry, this map is empty");
	if (value->count > VF_FILTER_NODES_MAX)
		return wrong(place, err, "a filter has at most %u conditions, this map has %u", VF_FILTER_NODES_MAX, value->count);
	const struct vf_filter **parts = vf_arena_alloc(p->arena, value->count * sizeof *parts);
	if (!parts)
		return vf_oom(err);
	for (uint32_t i = 0; i < value->count; i++)
		if ((rc = parse_entry(p, &value->entries[i], place, &parts[i], err)))
			return rc;
	return make_inner(p, VF_OP_AND, parts, value->count, out, err);
}

static uint32_t depth_of(const struct vf_filter *f)
{
	uint32_t deepest = 0;

	if (f->op < VF_OP_NOT)
		return 0;
	for (uint32_t i = 0; i < f->count; i++) {
		uint32_t depth = depth_of(f->parts[i]);
		deepest = depth > deepest ? depth : deepest;
	}
	return deepest + 1;
}

int vf_filter_parse(const struct vf_value *value, const struct vf_field_rule *rule, struct vf_arena *arena,
                    struct vf_filter **out, struct vf_err *err)
{
	struct parser parser = { .rule = rule, .arena = arena };
	struct place top = { .name = vf_span_str("filter"), .depth = 1 };
	const struct vf_filter *raw = NULL;
	int rc = parse_filter(&parser, value, &top, &raw, err);

	if (rc)
		return rc;
	const struct vf_filter *folded = vf_filter_fold(arena, raw);
	if (!folded)
		return vf_oom(err);
	if (depth_of(folded) > VF_FILTER_DEPTH_MAX)
		return wrong(&top, err, "$and, $or and $not stand in one another %u deep, at most %u are allowed", depth_of(folded),
		             VF_FILTER_DEPTH_MAX);
	/* The tree is ours until now, and constants are never written to. */
	*out = (struct vf_filter *)(uintptr_t)folded;
	return 0;
}
