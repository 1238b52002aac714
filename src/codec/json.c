/* SPDX-License-Identifier: MIT */
/* From JSON to values, by jansson. The scanner goes first: it bounds the nesting, and so the recursion here. */
#include <errno.h>
#include <jansson.h>

#include "codec_internal.h"

static int copy_value(const json_t *from, struct vf_arena *arena, struct vf_value *to);

static int copy_string(struct vf_span from, struct vf_arena *arena, struct vf_span *to)
{
	*to = vf_arena_copy(arena, from);
	return to->data ? 0 : -ENOMEM;
}

static int copy_list(const json_t *from, struct vf_arena *arena, struct vf_value *to)
{
	size_t n = json_array_size(from);

	to->items = n ? vf_arena_alloc(arena, n * sizeof *to->items) : NULL;
	if (n && !to->items)
		return -ENOMEM;
	for (; to->count < n; to->count++) {
		int rc = copy_value(json_array_get(from, to->count), arena, &to->items[to->count]);
		if (rc)
			return rc;
	}
	return 0;
}

/* jansson keeps the order of the input, and has refused a name that stands twice. */
static int copy_map(json_t *from, struct vf_arena *arena, struct vf_value *to)
{
	size_t n = json_object_size(from);

	to->entries = n ? vf_arena_alloc(arena, n * sizeof *to->entries) : NULL;
	if (n && !to->entries)
		return -ENOMEM;
	for (void *i = json_object_iter(from); i; i = json_object_iter_next(from, i)) {
		struct vf_entry *entry = &to->entries[to->count++];
		int rc = copy_string(vf_span_str(json_object_iter_key(i)), arena, &entry->name);
		if (!rc)
			rc = copy_value(json_object_iter_value(i), arena, &entry->value);
		if (rc)
			return rc;
	}
	return 0;
}

static int copy_value(const json_t *from, struct vf_arena *arena, struct vf_value *to)
{
	*to = (struct vf_value){ .kind = VF_NULL };
	switch (json_typeof(from)) {
	case JSON_NULL:
		return 0;
	case JSON_TRUE:
	case JSON_FALSE:
		to->kind = VF_BOOL;
		to->boolean = json_is_true(from);
		return 0;
	case JSON_INTEGER:
		to->kind = VF_INT;
		to->integer = json_integer_value(from);
		return 0;
	case JSON_REAL:
		to->kind = VF_FLOAT;
		to->real = json_real_value(from);
		return 0;
	case JSON_STRING:
		to->kind = VF_STRING;
		return copy_string(vf_span(json_string_value(from), json_string_length(from)), arena, &to->bytes);
	case JSON_ARRAY:
		to->kind = VF_LIST;
		return copy_list(from, arena, to);
	case JSON_OBJECT:
		to->kind = VF_MAP;
		return copy_map((json_t *)from, arena, to);
	}
	return 0;
}

/* Every item but the first of its container has a comma before it. Commas in strings are counted too: no value that is
 * of use comes near the limit. */
static int check_items(struct vf_span bytes, struct vf_err *err)
{
	size_t commas = 0;

	for (size_t i = 0; i < bytes.len; i++)
		commas += bytes.data[i] == ',';
	return commas < VF_VALUE_ITEMS_MAX ? 0 : vf_fail(err, EINVAL, "value has more than %u items", VF_VALUE_ITEMS_MAX);
}

static int check_shape(struct vf_span bytes, struct vf_err *err)
{
	struct vf_scanner scanner;
	size_t taken;

	vf_scanner_init(&scanner, VF_JSON);
	int rc = vf_scanner_feed(&scanner, bytes, &taken, err);
	if (rc < 0)
		return rc;
	if (rc == VF_SCAN_MORE && !scanner.in_scalar)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, bytes.len, "JSON value ends too early");
	return check_items(bytes, err);
}

int vf_json_decode(struct vf_span bytes, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	json_error_t why;
	int rc = check_shape(bytes, err);

	if (rc)
		return rc;
	json_t *root = json_loadb((const char *)bytes.data, bytes.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
	if (!root) {
		if (json_error_code(&why) == json_error_out_of_memory)
			return vf_oom(err);
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, (uint64_t)why.position, "JSON: %s", why.text);
	}
	rc = copy_value(root, arena, out) ? vf_oom(err) : 0;
	json_decref(root);
	return rc;
}
