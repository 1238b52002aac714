/* SPDX-License-Identifier: MIT */
/* match.c - the verdict on one record. */
#include "filter_internal.h"

static bool is_item(const struct vf_filter *leaf, const struct vf_value *scalar)
{
	uint32_t low = 0, high = leaf->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = vf_scalar_compare(&leaf->items[middle], scalar);
		if (order == 0)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* Numbers are ordered among numbers and strings among strings; nothing else has an order. */
static bool comparable(const struct vf_value *a, const struct vf_value *b)
{
	return vf_is_number(a) ? vf_is_number(b) : a->kind == VF_STRING && b->kind == VF_STRING;
}

bool vf_filter_meets(const struct vf_filter *leaf, const struct vf_value *scalar)
{
	if (leaf->op == VF_OP_IN || leaf->op == VF_OP_NOT_IN)
		return is_item(leaf, scalar);
	if (leaf->op == VF_OP_EXISTS)
		return true;
	if (leaf->op == VF_OP_MISSING || !comparable(&leaf->items[0], scalar))
		return false;
	if (leaf->op == VF_OP_STARTS_WITH)
		return vf_span_has_prefix(scalar->bytes, leaf->items[0].bytes);
	int order = vf_scalar_compare(scalar, &leaf->items[0]);
	if (leaf->op == VF_OP_GT || leaf->op == VF_OP_GTE)
		return order > 0 || (order == 0 && leaf->op == VF_OP_GTE);
	return order < 0 || (order == 0 && leaf->op == VF_OP_LTE);
}

static const struct vf_value *find(const struct vf_value *metadata, struct vf_span field)
{
	for (uint32_t i = 0; i < metadata->count; i++)
		if (vf_span_equal(metadata->entries[i].name, field))
			return &metadata->entries[i].value;
	return NULL;
}

static bool any_meets(const struct vf_filter *leaf, const struct vf_value *value)
{
	if (value->kind != VF_LIST)
		return vf_filter_meets(leaf, value);
	for (uint32_t i = 0; i < value->count; i++)
		if (vf_filter_meets(leaf, &value->items[i]))
			return true;
	return false;
}

static bool leaf_matches(const struct vf_filter *leaf, const struct vf_value *metadata)
{
	const struct vf_value *value = find(metadata, leaf->field);

	if (leaf->op == VF_OP_MISSING || leaf->op == VF_OP_EXISTS)
		return (value != NULL) == (leaf->op == VF_OP_EXISTS);
	return value && any_meets(leaf, value) == (leaf->op != VF_OP_NOT_IN);
}

/* For $and the first part that does not match decides, for $or the first that does. */
static bool parts_match(const struct vf_filter *f, const struct vf_value *metadata)
{
	bool decisive = f->op == VF_OP_OR;

	for (uint32_t i = 0; i < f->count; i++)
		if (vf_filter_matches(f->parts[i], metadata) == decisive)
			return decisive;
	return !decisive;
}

bool vf_filter_matches(const struct vf_filter *f, const struct vf_value *metadata)
{
	if (vf_filter_is_leaf(f))
		return leaf_matches(f, metadata);
	if (f->op == VF_OP_NOT)
		return !vf_filter_matches(f->parts[0], metadata);
	if (f->op == VF_OP_OR || f->op == VF_OP_AND)
		return parts_match(f, metadata);
	return f->op == VF_OP_EVERYTHING;
}
