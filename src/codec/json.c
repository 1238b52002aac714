/* SPDX-License-Identifier: MIT */
/* From JSON to values, by jansson, but for lists of numbers (number_lists.c). The scanner goes first: it bounds the nesting,
 * and so the recursion here. */
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>

#include "codec_internal.h"

struct copy {
	struct vf_arena *arena;
	const struct vf_number_list *next;      /* of the lists that jansson sees as empty */
};

static int copy_value(struct copy *copy, const json_t *from, struct vf_value *to);

static int copy_string(struct copy *copy, struct vf_span from, struct vf_span *to)
{
	*to = vf_arena_copy(copy->arena, from);
	return to->data ? 0 : -ENOMEM;
}

static int copy_list(struct copy *copy, const json_t *from, struct vf_value *to)
{
	size_t n = json_array_size(from);

	if (n == 0) {
		to->count = copy->next->count;
		to->items = copy->next->items;
		copy->next++;
		return 0;
	}
	to->items = vf_arena_alloc(copy->arena, n * sizeof *to->items);
	if (!to->items)
		return -ENOMEM;
	for (; to->count < n; to->count++) {
		int rc = copy_value(copy, json_array_get(from, to->count), &to->items[to->count]);
		if (rc)
			return rc;
	}
	return 0;
}

/* jansson keeps the order of the input, and has refused a name that stands twice. */
static int copy_map(struct copy *copy, json_t *from, struct vf_value *to)
{
	size_t n = json_object_size(from);

	to->entries = n ? vf_arena_alloc(copy->arena, n * sizeof *to->entries) : NULL;
	if (n && !to->entries)
		return -ENOMEM;
	for (void *i = json_object_iter(from); i; i = json_object_iter_next(from, i)) {
		struct vf_entry *entry = &to->entries[to->count++];
		int rc = copy_string(copy, vf_span_str(json_object_iter_key(i)), &entry->name);
		if (!rc)
			rc = copy_value(copy, json_object_iter_value(i), &entry->value);
		if (rc)
			return rc;
	}
	return 0;
}

static int copy_value(struct copy *copy, const json_t *from, struct vf_value *to)
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
		return copy_string(copy, vf_span(json_string_value(from), json_string_length(from)), &to->bytes);
	case JSON_ARRAY:
		to->kind = VF_LIST;
		return copy_list(copy, from, to);
	case JSON_OBJECT:
		to->kind = VF_MAP;
		return copy_map(copy, (json_t *)from, to);
	}
	return 0;
}

/* jansson takes up to 200 bytes for an item of three. Every item but the first of a list or map has a comma before it. Those in
 * strings are counted too: no value that is of use comes near the limit. */
static int check_items(struct vf_span text, struct vf_err *err)
{
	size_t items = 0;

	for (size_t i = 0; i < text.len; i++)
		items += (text.data[i] == ',') + (text.data[i] == '[') + (text.data[i] == '{');
	return items <= VF_JSON_ITEMS_MAX ? 0 : vf_fail_at(err, EINVAL, VF_PLACE_BYTE, 0, "JSON value has more than %u items besides numbers in lists",
	                                                   VF_JSON_ITEMS_MAX);
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
	return 0;
}

/* Where a byte of what jansson saw stands in the whole text. */
static uint64_t whole_place(const struct vf_number_lists *lists, uint64_t place)
{
	const struct vf_number_list *list = (const struct vf_number_list *)lists->lists.data;
	uint64_t removed = 0;

	for (size_t n = lists->lists.len / sizeof *list; n > 0 && list->at < place; n--, list++)
		removed = list->removed;
	return place + removed;
}

/* jansson does not survive every allocation that fails (it goes on with a buffer that could not grow). So it gets its memory from an arena and
 * never hears of a failure: it is left on the spot, and all that it had made goes with the arena. */
static _Thread_local struct { struct vf_arena *arena; jmp_buf out_of_memory; } jansson;

static void *give(size_t size)
{
	void *p = vf_arena_alloc(jansson.arena, size);

	if (!p)
		longjmp(jansson.out_of_memory, 1);
	return p;
}

static void take_back(void *p)
{
	(void)p;
}

static void employ(void)
{
	json_set_alloc_funcs(give, take_back);
}

/* *root lives in the arena. */
static int load(const struct vf_number_lists *lists, struct vf_arena *arena, json_t **root, struct vf_err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	json_error_t why;

	pthread_once(&once, employ);
	jansson.arena = arena;
	if (setjmp(jansson.out_of_memory))
		return vf_oom(err);
	*root = json_loadb((const char *)lists->text.data, lists->text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
	if (*root)
		return 0;
	return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, whole_place(lists, (uint64_t)why.position), "JSON: %s", why.text);
}

int vf_json_decode(struct vf_span bytes, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	struct vf_number_lists lists = { VF_BUF_INIT, VF_BUF_INIT, 0 };
	struct vf_arena tree = VF_ARENA_INIT;
	json_t *root = NULL;
	int rc;

	if ((rc = check_shape(bytes, err)) == 0 && (rc = vf_number_lists_take(&lists, bytes, arena, err)) == 0 &&
	    (rc = check_items(vf_buf_span(&lists.text), err)) == 0)
		rc = load(&lists, &tree, &root, err);
	if (rc == 0) {
		struct copy copy = { arena, (const struct vf_number_list *)lists.lists.data };
		if (copy_value(&copy, root, out))
			rc = vf_oom(err);
	}
	vf_arena_free(&tree);
	vf_number_lists_free(&lists);
	return rc;
}
