/* SPDX-License-Identifier: MIT */
/* copy.c - a tree that outlives what it was parsed from. */
#include "filter_internal.h"

static bool copy_span(struct vf_arena *arena, struct vf_span *s)
{
	*s = vf_arena_copy(arena, *s);
	return s->data != NULL;
}

static bool copy_items(struct vf_filter *f, struct vf_arena *arena)
{
	struct vf_value *items = f->count ? vf_arena_alloc(arena, f->count * sizeof *items) : NULL;

	if (f->count && !items)
		return false;
	for (uint32_t i = 0; i < f->count; i++) {
		items[i] = f->items[i];
		if (items[i].kind == VF_STRING && !copy_span(arena, &items[i].bytes))
			return false;
	}
	f->items = items;
	return copy_span(arena, &f->field);
}

static struct vf_filter *copy_tree(const struct vf_filter *f, struct vf_arena *arena);

static bool copy_parts(struct vf_filter *f, struct vf_arena *arena)
{
	const struct vf_filter **parts = f->count ? vf_arena_alloc(arena, f->count * sizeof *parts) : NULL;

	if (f->count && !parts)
		return false;
	for (uint32_t i = 0; i < f->count; i++)
		if (!(parts[i] = copy_tree(f->parts[i], arena)))
			return false;
	f->parts = parts;
	return true;
}

static struct vf_filter *copy_tree(const struct vf_filter *f, struct vf_arena *arena)
{
	struct vf_filter *copy = vf_arena_alloc(arena, sizeof *copy);

	if (!copy)
		return NULL;
	*copy = *f;
	return (vf_filter_is_leaf(f) ? copy_items(copy, arena) : copy_parts(copy, arena)) ? copy : NULL;
}

int vf_filter_copy(const struct vf_filter *filter, struct vf_arena *arena, struct vf_filter **out, struct vf_err *err)
{
	struct vf_filter *copy = copy_tree(filter, arena);

	if (!copy)
		return vf_oom(err);
	*out = copy;
	return 0;
}
