/* SPDX-License-Identifier: MIT */
/* eval.c - from a tree to the set of slots that match, out of postings.
 *
 * Each node adds its slots to a set. $and goes from the cheapest part to the dearest, stops when nothing is left, takes $not and $ne
 * away instead of building what they leave, and looks into the records themselves once that is cheaper than the postings of the
 * next part: of 50 records of one user, those since May are found by 50 looks, not by the postings of every moment since May. */
#include "filter_internal.h"

#include <errno.h>
#include <roaring/roaring.h>
#include <stdlib.h>

struct eval {
	const struct vf_posting_source *source;
	struct vf_arena arena;             /* of one record at a time */
};

static int add(struct eval *e, const struct vf_filter *f, vf_bitmap *out, struct vf_err *err);

static int collect(struct eval *e, const struct vf_filter *f, vf_bitmap **out, struct vf_err *err)
{
	int rc = vf_bitmap_new(out, err);

	if (!rc && (rc = add(e, f, *out, err)))
		vf_bitmap_free(out);
	return rc;
}

static int add_range(struct eval *e, const struct vf_term *from, const struct vf_term *to, vf_bitmap *out, struct vf_err *err)
{
	return e->source->range(e->source->ctx, vf_term_span(from), vf_term_span(to), out, err);
}

/* All terms that begin with this one. */
static int add_under(struct eval *e, const struct vf_term *head, vf_bitmap *out, struct vf_err *err)
{
	struct vf_term to = *head;

	vf_term_step_over(&to);
	return add_range(e, head, &to, out, err);
}

static int add_every(struct eval *e, vf_bitmap *out, struct vf_err *err)
{
	struct vf_term term;

	vf_term_of_every(&term);
	return add_under(e, &term, out, err);
}

static int add_present(struct eval *e, struct vf_span field, vf_bitmap *out, struct vf_err *err)
{
	struct vf_term term;

	vf_term_of_type(field, VF_TERM_PRESENCE, &term);
	return add_under(e, &term, out, err);
}

static int add_items(struct eval *e, const struct vf_filter *leaf, vf_bitmap *out, struct vf_err *err)
{
	struct vf_term term;
	int rc = 0;

	for (uint32_t i = 0; i < leaf->count && !rc; i++) {
		vf_term_of_value(leaf->field, &leaf->items[i], &term);
		rc = add_under(e, &term, out, err);
	}
	return rc;
}

/* ---- ranges and prefixes ---- */

struct look {
	struct eval *eval;
	const struct vf_filter *leaf;
	vf_bitmap *out;
};

static int look_into(void *ctx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err)
{
	struct look *look = ctx;
	struct vf_value value;

	vf_arena_reset(&look->eval->arena);
	int rc = vf_term_resolve(term, look->leaf->field, roaring_bitmap_minimum(slots), look->eval->source, &look->eval->arena, &value, err);
	if (rc)
		return rc;
	if (vf_filter_meets(look->leaf, &value))
		roaring_bitmap_or_inplace(look->out, slots);
	return 0;
}

/* Cut strings whose head is the same as that of a long operand say only in their records whether they meet it: one look a term. */
static int add_cut(struct eval *e, const struct vf_filter *leaf, vf_bitmap *out, struct vf_err *err)
{
	struct look look = { e, leaf, out };
	struct vf_term from, to;

	vf_term_of_prefix(leaf->field, leaf->items[0].bytes, &from);
	to = from;
	vf_term_step_over(&to);
	return e->source->each(e->source->ctx, vf_term_span(&from), vf_term_span(&to), look_into, &look, err);
}

static int add_prefix(struct eval *e, const struct vf_filter *leaf, vf_bitmap *out, struct vf_err *err)
{
	struct vf_term term;

	if (vf_string_is_cut(leaf->items[0].bytes))
		return add_cut(e, leaf, out, err);
	vf_term_of_prefix(leaf->field, leaf->items[0].bytes, &term);
	return add_under(e, &term, out, err);
}

static bool is_lower(const struct vf_filter *leaf) { return leaf->op == VF_OP_GT || leaf->op == VF_OP_GTE; }
static bool is_upper(const struct vf_filter *leaf) { return leaf->op == VF_OP_LT || leaf->op == VF_OP_LTE; }

static bool limit_is_cut(const struct vf_filter *leaf)
{
	return leaf->items[0].kind == VF_STRING && vf_string_is_cut(leaf->items[0].bytes);
}

/* The term at which the range of a bound begins, or before which it ends. The group of a cut limit is left out of it. */
static void term_of_limit(const struct vf_filter *leaf, struct vf_term *out)
{
	bool cut = limit_is_cut(leaf), over = leaf->op == VF_OP_GT || leaf->op == VF_OP_LTE;

	if (cut)
		vf_term_of_prefix(leaf->field, leaf->items[0].bytes, out);
	else
		vf_term_of_value(leaf->field, &leaf->items[0], out);
	if (cut ? is_lower(leaf) : over)
		vf_term_step_over(out);
}

/* Numbers are ordered among numbers and strings among strings: the range ends where the type does. */
static int add_bound(struct eval *e, const struct vf_filter *leaf, vf_bitmap *out, struct vf_err *err)
{
	struct vf_term limit, end;

	term_of_limit(leaf, &limit);
	vf_term_of_type(leaf->field, leaf->items[0].kind == VF_STRING ? VF_TERM_STRING : VF_TERM_NUMBER, &end);
	if (is_lower(leaf))
		vf_term_step_over(&end);
	int rc = is_lower(leaf) ? add_range(e, &limit, &end, out, err) : add_range(e, &end, &limit, out, err);
	return rc || !limit_is_cut(leaf) ? rc : add_cut(e, leaf, out, err);
}

/* ---- taking away ---- */

/* Takes what a $not, an $exists: false or the values of a $ne name out of the set. */
static int take(struct eval *e, const struct vf_filter *f, vf_bitmap *from, struct vf_err *err)
{
	vf_bitmap *out = NULL;
	int rc;

	if (f->op == VF_OP_NOT) {
		rc = collect(e, f->parts[0], &out, err);
	} else if (!(rc = vf_bitmap_new(&out, err))) {
		rc = f->op == VF_OP_MISSING ? add_present(e, f->field, out, err) : add_items(e, f, out, err);
	}
	if (!rc)
		roaring_bitmap_andnot_inplace(from, out);
	vf_bitmap_free(&out);
	return rc;
}

/* All that could match, less what is taken away. */
static int add_rest(struct eval *e, const struct vf_filter *f, vf_bitmap *out, struct vf_err *err)
{
	vf_bitmap *rest = NULL;
	int rc;

	if (!(rc = vf_bitmap_new(&rest, err)) &&
	    !(rc = f->op == VF_OP_NOT_IN ? add_present(e, f->field, rest, err) : add_every(e, rest, err)) &&
	    !(rc = take(e, f, rest, err)))
		roaring_bitmap_or_inplace(out, rest);
	vf_bitmap_free(&rest);
	return rc;
}

/* ---- $and ---- */

/* In rows of postings that will be read. How many a range meets is not known before; a look into a record costs as much as 8. */
#define COST_RANGE  4096u
#define COST_WINDOW 1024u
#define COST_PREFIX 1024u
#define COST_LOOK   8u

static uint64_t cost_of(const struct vf_filter *f)
{
	uint64_t cost = f->op == VF_OP_NOT;

	switch (f->op) {
	case VF_OP_NOTHING:
		return 0;
	case VF_OP_EVERYTHING:
	case VF_OP_EXISTS:
		return 2;
	case VF_OP_MISSING:
		return 4;
	case VF_OP_IN:
		return f->count;
	case VF_OP_NOT_IN:
		return f->count + 2;
	case VF_OP_GT: case VF_OP_GTE: case VF_OP_LT: case VF_OP_LTE:
		return COST_RANGE;
	case VF_OP_STARTS_WITH:
		return COST_PREFIX;
	case VF_OP_NOT: case VF_OP_OR: case VF_OP_AND:
		for (uint32_t i = 0; i < f->count; i++)
			cost += cost_of(f->parts[i]);
		return cost + (f->op == VF_OP_NOT ? 4 : 0);
	}
	return 0;
}

/* A part of an $and; two when they are the ends of one window. */
struct priced {
	uint64_t cost;
	const struct vf_filter *part, *upper;
};

static int by_cost(const void *a, const void *b)
{
	const struct priced *x = a, *y = b;

	return (x->cost > y->cost) - (x->cost < y->cost);
}

static int narrow(struct eval *e, const struct vf_filter *part, vf_bitmap *set, struct vf_err *err)
{
	struct vf_filter present = { .op = VF_OP_EXISTS, .field = part->field };
	vf_bitmap *out = NULL;
	int rc;

	if (part->op == VF_OP_NOT || part->op == VF_OP_MISSING)
		return take(e, part, set, err);
	if (part->op == VF_OP_NOT_IN)
		return (rc = narrow(e, &present, set, err)) ? rc : take(e, part, set, err);
	if ((rc = collect(e, part, &out, err)))
		return rc;
	roaring_bitmap_and_inplace(set, out);
	vf_bitmap_free(&out);
	return 0;
}

static int slot_matches(struct eval *e, uint32_t slot, const struct priced *parts, uint32_t count, bool *matches, struct vf_err *err)
{
	struct vf_value metadata;

	vf_arena_reset(&e->arena);
	int rc = e->source->metadata(e->source->ctx, slot, &e->arena, &metadata, err);
	if (rc)
		return rc < 0 ? rc : vf_fail(err, EIO, "postings name slot %u, which no record has", slot);
	*matches = true;
	for (uint32_t i = 0; i < count && *matches; i++)
		*matches = vf_filter_matches(parts[i].part, &metadata) &&
		           (!parts[i].upper || vf_filter_matches(parts[i].upper, &metadata));
	return 0;
}

/* The parts that are left, by looking into each record of a small set. */
static int narrow_by_looks(struct eval *e, const struct priced *parts, uint32_t count, vf_bitmap *set, struct vf_err *err)
{
	size_t n = roaring_bitmap_get_cardinality(set);
	uint32_t *slots = malloc((n + 1) * sizeof *slots);
	bool matches = false;
	int rc = 0;

	if (!slots)
		return vf_oom(err);
	roaring_bitmap_to_uint32_array(set, slots);
	for (size_t i = 0; i < n && !rc; i++)
		if (!(rc = slot_matches(e, slots[i], parts, count, &matches, err)) && !matches)
			roaring_bitmap_remove(set, slots[i]);
	free(slots);
	return rc;
}

static uint64_t cost_of_all(const struct priced *parts, uint32_t count)
{
	uint64_t cost = 0;

	for (uint32_t i = 0; i < count; i++)
		cost += parts[i].cost;
	return cost;
}

static int collect_window(struct eval *e, const struct priced *window, vf_bitmap **out, struct vf_err *err);

static int narrow_by_window(struct eval *e, const struct priced *window, vf_bitmap *set, struct vf_err *err)
{
	vf_bitmap *out = NULL;
	int rc = collect_window(e, window, &out, err);

	if (!rc)
		roaring_bitmap_and_inplace(set, out);
	vf_bitmap_free(&out);
	return rc;
}

static int narrow_by_all(struct eval *e, const struct priced *parts, uint32_t count, vf_bitmap *set, struct vf_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < count && !rc; i++) {
		uint64_t left = roaring_bitmap_get_cardinality(set);
		if (left == 0)
			return 0;
		if (left * COST_LOOK < cost_of_all(parts + i, count - i))
			return narrow_by_looks(e, parts + i, count - i, set, err);
		rc = parts[i].upper ? narrow_by_window(e, &parts[i], set, err) : narrow(e, parts[i].part, set, err);
	}
	return rc;
}

/* What lies between two bounds, without reading all that lies above the one and all below the other. A list whose elements meet
 * the bounds one by one may have none between: the few fields of several elements are looked at apart. */
static int collect_window(struct eval *e, const struct priced *window, vf_bitmap **out, struct vf_err *err)
{
	struct priced bounds[] = { { COST_RANGE, window->part, NULL }, { COST_RANGE, window->upper, NULL } };
	struct vf_term from, to, several;
	vf_bitmap *lists = NULL;
	int rc;

	term_of_limit(window->part, &from);
	term_of_limit(window->upper, &to);
	vf_term_of_type(window->part->field, VF_TERM_SEVERAL, &several);
	if (!(rc = vf_bitmap_new(out, err)) && !(rc = vf_bitmap_new(&lists, err)) &&
	    !(rc = add_range(e, &from, &to, *out, err)) &&
	    !(rc = add_under(e, &several, lists, err)) &&
	    !(rc = narrow_by_all(e, bounds, 2, lists, err)))
		roaring_bitmap_or_inplace(*out, lists);
	vf_bitmap_free(&lists);
	return rc;
}

static bool is_window(const struct vf_filter *lower, const struct vf_filter *upper)
{
	return is_lower(lower) && is_upper(upper) && vf_span_equal(lower->field, upper->field) &&
	       (lower->items[0].kind == VF_STRING) == (upper->items[0].kind == VF_STRING) &&
	       !limit_is_cut(lower) && !limit_is_cut(upper);
}

static uint32_t price(const struct vf_filter *f, struct priced *parts)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < f->count; i++) {
		bool window = i + 1 < f->count && is_window(f->parts[i], f->parts[i + 1]);
		parts[count++] = (struct priced){ window ? COST_WINDOW : cost_of(f->parts[i]), f->parts[i], window ? f->parts[i + 1] : NULL };
		i += window;
	}
	qsort(parts, count, sizeof *parts, by_cost);
	return count;
}

static int add_and(struct eval *e, const struct vf_filter *f, vf_bitmap *out, struct vf_err *err)
{
	struct priced *parts = malloc(f->count * sizeof *parts);
	vf_bitmap *set = NULL;

	if (!parts)
		return vf_oom(err);
	uint32_t count = price(f, parts);
	int rc = parts[0].upper ? collect_window(e, &parts[0], &set, err) : collect(e, parts[0].part, &set, err);
	if (!rc && !(rc = narrow_by_all(e, parts + 1, count - 1, set, err)))
		roaring_bitmap_or_inplace(out, set);
	vf_bitmap_free(&set);
	free(parts);
	return rc;
}

static int add_or(struct eval *e, const struct vf_filter *f, vf_bitmap *out, struct vf_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < f->count && !rc; i++)
		rc = add(e, f->parts[i], out, err);
	return rc;
}

static int add(struct eval *e, const struct vf_filter *f, vf_bitmap *out, struct vf_err *err)
{
	switch (f->op) {
	case VF_OP_NOTHING:
		return 0;
	case VF_OP_EVERYTHING:
		return add_every(e, out, err);
	case VF_OP_EXISTS:
		return add_present(e, f->field, out, err);
	case VF_OP_IN:
		return add_items(e, f, out, err);
	case VF_OP_MISSING: case VF_OP_NOT_IN: case VF_OP_NOT:
		return add_rest(e, f, out, err);
	case VF_OP_GT: case VF_OP_GTE: case VF_OP_LT: case VF_OP_LTE:
		return add_bound(e, f, out, err);
	case VF_OP_STARTS_WITH:
		return add_prefix(e, f, out, err);
	case VF_OP_OR:
		return add_or(e, f, out, err);
	case VF_OP_AND:
		return add_and(e, f, out, err);
	}
	return 0;
}

int vf_filter_eval(const struct vf_filter *filter, const struct vf_posting_source *source, vf_bitmap **out, struct vf_err *err)
{
	static const struct vf_filter everything = { .op = VF_OP_EVERYTHING };
	struct eval e = { .source = source, .arena = VF_ARENA_INIT };
	int rc = collect(&e, filter ? filter : &everything, out, err);

	vf_arena_free(&e.arena);
	return rc;
}
