/* SPDX-License-Identifier: MIT */
/* fold.c - trees made simple and canonical, from below.
 *
 * What is folded: $and in $and and $or in $or, double $not, equal parts, an $or of $eq and $in on one field into one $in (and an $and
 * of $ne and $nin into one $nin), a part that another implies, and contradictions and tautologies into NOTHING and EVERYTHING.
 * Every rule holds for list fields too, where each operator may be met by another element. */
#include "filter_internal.h"

#include <stdlib.h>

/* Implications are looked for between the parts of one field, pair by pair, in groups and among items no larger than this. */
#define IMPLIED_PARTS_MAX 64u
#define IMPLIED_ITEMS_MAX 16u

static const struct vf_filter nothing = { .op = VF_OP_NOTHING }, everything = { .op = VF_OP_EVERYTHING };

static int by_value(const void *a, const void *b)
{
	return vf_scalar_compare(a, b);
}

static uint32_t thin(struct vf_value *items, uint32_t count)
{
	uint32_t kept = 0;

	qsort(items, count, sizeof *items, by_value);
	for (uint32_t i = 0; i < count; i++)
		if (kept == 0 || vf_scalar_compare(&items[kept - 1], &items[i]) != 0)
			items[kept++] = items[i];
	return kept;
}

const struct vf_filter *vf_filter_leaf(struct vf_arena *arena, enum vf_filter_op op, struct vf_span field,
                                       struct vf_value *items, uint32_t count)
{
	struct vf_filter *leaf = vf_arena_zalloc(arena, sizeof *leaf);

	if (!leaf)
		return NULL;
	for (uint32_t i = 0; i < count; i++)
		items[i] = vf_scalar_normal(&items[i]);
	leaf->op = op;
	leaf->field = field;
	leaf->items = items;
	leaf->count = count > 1 ? thin(items, count) : count;
	return leaf;
}

const struct vf_filter *vf_filter_inner(struct vf_arena *arena, enum vf_filter_op op, const struct vf_filter **parts, uint32_t count)
{
	struct vf_filter *f = vf_arena_zalloc(arena, sizeof *f);

	if (f) {
		f->op = op;
		f->parts = parts;
		f->count = count;
	}
	return f;
}

/* $ne is not the $not of $eq: the one wants the field, the other does not. */
static const struct vf_filter *negate(struct vf_arena *arena, const struct vf_filter *part)
{
	if (part->op == VF_OP_NOT)
		return part->parts[0];
	if (part->op == VF_OP_NOTHING)
		return &everything;
	if (part->op == VF_OP_EVERYTHING)
		return &nothing;
	if (part->op == VF_OP_EXISTS || part->op == VF_OP_MISSING)
		return vf_filter_leaf(arena, part->op == VF_OP_EXISTS ? VF_OP_MISSING : VF_OP_EXISTS, part->field, NULL, 0);
	const struct vf_filter **parts = vf_arena_alloc(arena, sizeof *parts);
	if (!parts)
		return NULL;
	parts[0] = part;
	return vf_filter_inner(arena, VF_OP_NOT, parts, 1);
}

/* ---- $and, $or ---- */

struct join {
	struct vf_arena *arena;
	enum vf_filter_op op;
	const struct vf_filter *decisive;      /* the constant that decides: NOTHING for $and */
	const struct vf_filter **parts;
	uint32_t count, cap;
	bool decided;
};

static int by_tree(const void *a, const void *b)
{
	return vf_filter_compare(*(const struct vf_filter *const *)a, *(const struct vf_filter *const *)b);
}

static bool same_field(const struct vf_filter *a, const struct vf_filter *b)
{
	return vf_filter_is_leaf(a) && vf_filter_is_leaf(b) && vf_span_equal(a->field, b->field);
}

static bool push(struct join *join, const struct vf_filter *part)
{
	if (join->count == join->cap) {
		uint32_t cap = join->cap ? 2 * join->cap : 8;
		const struct vf_filter **parts = vf_arena_alloc(join->arena, cap * sizeof *parts);
		if (!parts)
			return false;
		if (join->count)
			memcpy(parts, join->parts, join->count * sizeof *parts);
		join->parts = parts;
		join->cap = cap;
	}
	join->parts[join->count++] = part;
	return true;
}

/* A folded part: of the same kind gives its own parts, a constant decides or says nothing. */
static bool add(struct join *join, const struct vf_filter *part)
{
	if (part->op == VF_OP_NOTHING || part->op == VF_OP_EVERYTHING) {
		join->decided |= part == join->decisive;
		return true;
	}
	if (part->op != join->op)
		return push(join, part);
	for (uint32_t i = 0; i < part->count; i++)
		if (!push(join, part->parts[i]))
			return false;
	return true;
}

/* Nested nodes of the same kind are seen through before anything is folded, so that all their parts are looked at together. */
static bool collect(struct join *join, const struct vf_filter *raw)
{
	if (raw->op != join->op) {
		const struct vf_filter *part = vf_filter_fold(join->arena, raw);
		return part && add(join, part);
	}
	for (uint32_t i = 0; i < raw->count; i++)
		if (!collect(join, raw->parts[i]))
			return false;
	return true;
}

static const struct vf_filter *merge_items(struct join *join, uint32_t first, uint32_t end)
{
	uint32_t total = 0, at = 0;

	for (uint32_t i = first; i < end; i++)
		total += join->parts[i]->count;
	struct vf_value *items = vf_arena_alloc(join->arena, total * sizeof *items);
	if (!items)
		return NULL;
	for (uint32_t i = first; i < end; at += join->parts[i++]->count)
		memcpy(items + at, join->parts[i]->items, join->parts[i]->count * sizeof *items);
	return vf_filter_leaf(join->arena, join->parts[first]->op, join->parts[first]->field, items, total);
}

/* One of these or one of those: one of all. Neither of these nor of those: none of all. Sorted parts stay sorted. */
static bool merge_lists(struct join *join)
{
	enum vf_filter_op op = join->op == VF_OP_OR ? VF_OP_IN : VF_OP_NOT_IN;
	uint32_t kept = 0, end;

	for (uint32_t i = 0; i < join->count; i = end) {
		const struct vf_filter *part = join->parts[i];
		for (end = i + 1; part->op == op && end < join->count && join->parts[end]->op == op &&
		                  same_field(part, join->parts[end]);)
			end++;
		if (end - i > 1 && !(part = merge_items(join, i, end)))
			return false;
		join->parts[kept++] = part;
	}
	join->count = kept;
	return true;
}

static void drop_equal(struct join *join)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < join->count; i++)
		if (kept == 0 || vf_filter_compare(join->parts[kept - 1], join->parts[i]) != 0)
			join->parts[kept++] = join->parts[i];
	join->count = kept;
}

static bool all_meet(const struct vf_filter *list, const struct vf_filter *leaf)
{
	if (list->count > IMPLIED_ITEMS_MAX)
		return false;
	for (uint32_t i = 0; i < list->count; i++)
		if (!vf_filter_meets(leaf, &list->items[i]))
			return false;
	return true;
}

static bool is_lower_bound(const struct vf_filter *f) { return f->op == VF_OP_GT || f->op == VF_OP_GTE; }
static bool is_upper_bound(const struct vf_filter *f) { return f->op == VF_OP_LT || f->op == VF_OP_LTE; }

/* Whether whatever meets bound a meets bound b: a's own limit meets b, or is b's and both leave it out. */
static bool bound_implies(const struct vf_filter *a, const struct vf_filter *b)
{
	return vf_filter_meets(b, &a->items[0]) || (a->op == b->op && vf_scalar_compare(&a->items[0], &b->items[0]) == 0);
}

/* Both are leaves of one field. */
static bool implies(const struct vf_filter *a, const struct vf_filter *b)
{
	if (a->op == VF_OP_MISSING || b->op == VF_OP_MISSING)
		return false;
	if (b->op == VF_OP_EXISTS)
		return true;
	if (a->op == VF_OP_EXISTS || a->op == VF_OP_NOT_IN || b->op == VF_OP_NOT_IN)
		return false;
	if (a->op == VF_OP_IN)
		return all_meet(a, b);
	if (a->op == VF_OP_STARTS_WITH)
		return b->op == VF_OP_STARTS_WITH && vf_filter_meets(b, &a->items[0]);
	if ((is_lower_bound(a) && is_lower_bound(b)) || (is_upper_bound(a) && is_upper_bound(b)))
		return bound_implies(a, b);
	return false;
}

/* Under $and the implied part says nothing new, under $or the implying one. */
static bool is_idle(struct join *join, const struct vf_filter *part, const struct vf_filter *other)
{
	return join->op == VF_OP_AND ? implies(other, part) : implies(part, other);
}

static void drop_implied_in(struct join *join, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++)
		for (uint32_t j = first; j < end; j++)
			if (i != j && join->parts[j] && is_idle(join, join->parts[i], join->parts[j])) {
				join->parts[i] = NULL;
				break;
			}
}

static void drop_implied(struct join *join)
{
	uint32_t kept = 0, end;

	for (uint32_t i = 0; i < join->count; i = end) {
		for (end = i + 1; end < join->count && same_field(join->parts[i], join->parts[end]);)
			end++;
		if (end - i > 1 && end - i <= IMPLIED_PARTS_MAX)
			drop_implied_in(join, i, end);
		for (uint32_t j = i; j < end; j++)
			if (join->parts[j])
				join->parts[kept++] = join->parts[j];
	}
	join->count = kept;
}

/* A part and its $not; a field that is missing and looked into. MISSING sorts first of its field, EXISTS next. */
static bool is_contradictory(struct join *join)
{
	for (uint32_t i = 0; i < join->count; i++) {
		const struct vf_filter *part = join->parts[i];
		if (part->op == VF_OP_NOT &&
		    bsearch(&part->parts[0], join->parts, join->count, sizeof *join->parts, by_tree))
			return true;
		if (part->op == VF_OP_MISSING && i + 1 < join->count && same_field(part, join->parts[i + 1]) &&
		    (join->op == VF_OP_AND || join->parts[i + 1]->op == VF_OP_EXISTS))
			return true;
	}
	return false;
}

static const struct vf_filter *fold_join(struct vf_arena *arena, const struct vf_filter *raw)
{
	bool is_and = raw->op == VF_OP_AND;
	struct join join = { .arena = arena, .op = raw->op, .decisive = is_and ? &nothing : &everything };

	if (!collect(&join, raw))
		return NULL;
	if (join.count)
		qsort(join.parts, join.count, sizeof *join.parts, by_tree);
	if (!merge_lists(&join))
		return NULL;
	drop_equal(&join);
	drop_implied(&join);
	if (join.decided || is_contradictory(&join))
		return join.decisive;
	if (join.count == 0)
		return is_and ? &everything : &nothing;
	return join.count == 1 ? join.parts[0] : vf_filter_inner(arena, join.op, join.parts, join.count);
}

const struct vf_filter *vf_filter_fold(struct vf_arena *arena, const struct vf_filter *raw)
{
	if (raw->op == VF_OP_AND || raw->op == VF_OP_OR)
		return fold_join(arena, raw);
	if (raw->op != VF_OP_NOT)
		return raw;
	const struct vf_filter *part = vf_filter_fold(arena, raw->parts[0]);
	return part ? negate(arena, part) : NULL;
}
