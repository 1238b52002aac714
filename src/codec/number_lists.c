/* SPDX-License-Identifier: MIT */
/* A vector in JSON is a list of hundreds of numbers. jansson makes an allocated object of each, a quarter of a microsecond a number;
 * read here they cost a tenth of that. So every list that holds numbers only (or nothing) is read here, and jansson gets "[]" in
 * its place. Whatever is not quite such a list is left to jansson, which has the words for what is wrong with it. */
#include <errno.h>

#include "codec_internal.h"

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

/* The numbers behind a '[', to `items`; *p moves to the ']'. 1: no such list. */
static int read_list(const char **p, const char *end, struct vf_buf *items, struct vf_err *err)
{
	const char *at = skip_space(*p, end);

	vf_buf_clear(items);
	if (at < end && *at == ']') {
		*p = at;
		return 0;
	}
	for (;; at++) {
		int rc = vf_buf_reserve(items, sizeof(struct vf_value), err);
		if (rc)
			return rc;
		at = vf_number_read(skip_space(at, end), end, (struct vf_value *)(items->data + items->len));
		if (!at)
			return 1;
		items->len += sizeof(struct vf_value);
		at = skip_space(at, end);
		if (at == end || (*at != ',' && *at != ']'))
			return 1;
		if (*at == ']') {
			*p = at;
			return 0;
		}
	}
}

static int keep_list(struct vf_number_lists *lists, struct vf_span items, uint64_t removed, struct vf_arena *arena, struct vf_err *err)
{
	size_t before = lists->lists.len;
	const struct vf_number_list *last = before ? (const struct vf_number_list *)(lists->lists.data + before) - 1 : NULL;
	struct vf_number_list list = { .at = lists->text.len, .removed = removed + (last ? last->removed : 0) };

	lists->numbers += items.len / sizeof *list.items;
	if (lists->numbers > VF_VALUE_ITEMS_MAX)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, list.at + list.removed, "JSON value has more than %u numbers in lists", VF_VALUE_ITEMS_MAX);
	if (items.len) {
		list.count = (uint32_t)(items.len / sizeof *list.items);
		list.items = vf_arena_alloc(arena, items.len);
		if (!list.items)
			return vf_oom(err);
		memcpy(list.items, items.data, items.len);
	}
	return vf_buf_put(&lists->lists, &list, sizeof list, err);
}

/* Behind the string that begins at p. */
static const char *skip_string(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p < end ? p + 1 : end;
}

static const char *find_list_or_string(const char *p, const char *end)
{
	while (p < end && *p != '[' && *p != '"')
		p++;
	return p;
}

/* There is room in the text for all of the input. */
static void keep_text(struct vf_number_lists *lists, const char *from, const char *to)
{
	memcpy(lists->text.data + lists->text.len, from, (size_t)(to - from));
	lists->text.len += (size_t)(to - from);
}

static int take_lists(struct vf_number_lists *lists, const char *p, const char *end, struct vf_buf *items, struct vf_arena *arena,
                      struct vf_err *err)
{
	const char *from = p;

	while ((p = find_list_or_string(p, end)) < end) {
		if (*p == '"') {
			p = skip_string(p, end);
			continue;
		}
		const char *open = p + 1, *close = open;
		p = open;
		int rc = read_list(&close, end, items, err);
		if (rc < 0)
			return rc;
		if (rc > 0)
			continue;
		keep_text(lists, from, open);
		if ((rc = keep_list(lists, vf_buf_span(items), (uint64_t)(close - open), arena, err)))
			return rc;
		p = from = close;
	}
	keep_text(lists, from, end);
	return 0;
}

int vf_number_lists_take(struct vf_number_lists *lists, struct vf_span json, struct vf_arena *arena, struct vf_err *err)
{
	struct vf_buf items = VF_BUF_INIT;
	const char *p = (const char *)json.data;
	int rc = vf_buf_reserve(&lists->text, json.len, err);

	if (rc == 0)
		rc = take_lists(lists, p, p + json.len, &items, arena, err);
	vf_buf_free(&items);
	return rc;
}

void vf_number_lists_free(struct vf_number_lists *lists)
{
	vf_buf_free(&lists->text);
	vf_buf_free(&lists->lists);
}
