/* SPDX-License-Identifier: MIT */
#include "vecfs/value.h"

#include <math.h>

const char *vf_kind_name(enum vf_kind kind)
{
	switch (kind) {
	case VF_NULL:   return "null";
	case VF_BOOL:   return "boolean";
	case VF_INT:    return "integer";
	case VF_FLOAT:  return "float";
	case VF_STRING: return "string";
	case VF_BIN:    return "binary";
	case VF_LIST:   return "list";
	case VF_MAP:    return "map";
	}
	return "unknown";
}

const struct vf_value *vf_value_find(const struct vf_value *map, const char *name)
{
	for (uint32_t i = 0; i < map->count; i++)
		if (vf_span_is(map->entries[i].name, name))
			return &map->entries[i].value;
	return NULL;
}

static int sign_of(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

/* An integer beside a float, without rounding the integer: compare with the float's whole part, then look at its fraction. */
static int int_against_real(int64_t i, double d)
{
	if (d >= 0x1p63)
		return -1;
	if (d < -0x1p63)
		return 1;
	double whole = trunc(d);
	int order = sign_of(i, (int64_t)whole);
	if (order)
		return order;
	return (whole > d) - (whole < d);
}

int vf_number_compare(const struct vf_value *a, const struct vf_value *b)
{
	if (a->kind == VF_INT && b->kind == VF_INT)
		return sign_of(a->integer, b->integer);
	if (a->kind == VF_INT)
		return int_against_real(a->integer, b->real);
	if (b->kind == VF_INT)
		return -int_against_real(b->integer, a->real);
	return (a->real > b->real) - (a->real < b->real);
}
