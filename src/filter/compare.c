/* SPDX-License-Identifier: MIT */
/* compare.c - the orders of values and of trees. */
#include "filter_internal.h"

static int rank_of(const struct vf_value *v)
{
	switch (v->kind) {
	case VF_BOOL:   return 0;
	case VF_INT:
	case VF_FLOAT:  return 1;
	case VF_STRING: return 2;
	case VF_NULL:
	case VF_BIN:
	case VF_LIST:
	case VF_MAP:    return 3;
	}
	return 3;
}

int vf_scalar_compare(const struct vf_value *a, const struct vf_value *b)
{
	int rank = rank_of(a), order = rank - rank_of(b);

	if (order)
		return order;
	if (rank == 0)
		return a->boolean - b->boolean;
	return rank == 1 ? vf_number_compare(a, b) : vf_span_compare(a->bytes, b->bytes);
}

struct vf_value vf_scalar_normal(const struct vf_value *v)
{
	if (v->kind == VF_FLOAT && v->real >= -0x1p63 && v->real < 0x1p63 && (double)(int64_t)v->real == v->real)
		return (struct vf_value){ .kind = VF_INT, .integer = (int64_t)v->real };
	return *v;
}

static int compare_u32(uint32_t a, uint32_t b)
{
	return (a > b) - (a < b);
}

static int compare_leaves(const struct vf_filter *a, const struct vf_filter *b)
{
	int order = vf_span_compare(a->field, b->field);

	if (order || (order = (int)a->op - (int)b->op) || (order = compare_u32(a->count, b->count)))
		return order;
	for (uint32_t i = 0; i < a->count && !order; i++)
		order = vf_scalar_compare(&a->items[i], &b->items[i]);
	return order;
}

int vf_filter_compare(const struct vf_filter *a, const struct vf_filter *b)
{
	bool leaf = vf_filter_is_leaf(a);

	if (leaf != vf_filter_is_leaf(b))
		return leaf ? -1 : 1;
	if (leaf)
		return compare_leaves(a, b);
	int order = (int)a->op - (int)b->op;
	if (order || (order = compare_u32(a->count, b->count)))
		return order;
	for (uint32_t i = 0; i < a->count && !order; i++)
		order = vf_filter_compare(a->parts[i], b->parts[i]);
	return order;
}
