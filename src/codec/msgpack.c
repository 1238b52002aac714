/* SPDX-License-Identifier: MIT */
/* From msgpack to values, by the parser of msgpack-c: its template calls back for every item, so that the tree is built once,
 * in the arena, without msgpack_object's in between. */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define MSGPACK_EMBED_STACK_SIZE VF_VALUE_DEPTH_MAX
#include <msgpack/unpack.h>
#include <msgpack/unpack_define.h>

#include "codec_internal.h"
#include "vecfs/name.h"

/* Every item takes at least one byte, so that all counts together cannot be more than the bytes: what a container
 * declares is taken out of this budget before it is allocated. */
struct reader {
	struct vf_arena *arena;
	struct vf_err *err;
	const uint8_t *data;
	size_t budget;
	uint32_t items;
	bool failed;         /* err is filled */
	bool has_place;
};

#define FAILED (-100)        /* apart from the codes of msgpack-c */

static int fail_here(struct reader *r)
{
	r->failed = true;
	return FAILED;
}

static int fail_at(struct reader *r, const void *where, const char *what)
{
	r->has_place = true;
	vf_fail_at(r->err, EINVAL, VF_PLACE_BYTE, (uint64_t)((const uint8_t *)where - r->data), "%s", what);
	return fail_here(r);
}

static int fail_oom(struct reader *r)
{
	r->has_place = true;
	vf_oom(r->err);
	return fail_here(r);
}

/* ---- names of one map are unique ---- */

static int by_length_and_bytes(const void *a, const void *b)
{
	const struct vf_span *x = a, *y = b;

	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return x->len ? memcmp(x->data, y->data, x->len) : 0;
}

static int fail_twice(struct reader *r, struct vf_span name)
{
	r->has_place = name.len > 0;
	vf_fail_at(r->err, EINVAL, VF_PLACE_BYTE, (uint64_t)(name.data - r->data), "name \"%.*s\" stands twice in one map",
	           VF_SPAN_ARG(name));
	return fail_here(r);
}

static int check_few_names(struct reader *r, const struct vf_entry *entries, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
		for (uint32_t k = 0; k < i; k++)
			if (vf_span_equal(entries[i].name, entries[k].name))
				return fail_twice(r, entries[i].name);
	return 0;
}

static int check_many_names(struct reader *r, const struct vf_entry *entries, uint32_t n)
{
	struct vf_span *names = malloc(n * sizeof *names);
	int rc = 0;

	if (!names)
		return fail_oom(r);
	for (uint32_t i = 0; i < n; i++)
		names[i] = entries[i].name;
	qsort(names, n, sizeof *names, by_length_and_bytes);
	for (uint32_t i = 1; i < n && !rc; i++)
		if (vf_span_equal(names[i - 1], names[i]))
			rc = fail_twice(r, names[i - 1].data > names[i].data ? names[i - 1] : names[i]);
	free(names);
	return rc;
}

#define FEW_NAMES 16u

static int check_names(struct reader *r, const struct vf_entry *entries, uint32_t n)
{
	return n <= FEW_NAMES ? check_few_names(r, entries, n) : check_many_names(r, entries, n);
}

/* ---- callbacks of the template ---- */

/* Stands before the entries of a map, so that the last one is known when it comes. */
struct map_head {
	uint32_t declared;
	_Alignas(16) struct vf_entry entries[];
};

static int spend(struct reader *r, size_t items, size_t bytes)
{
	if (bytes > r->budget) {
		vf_fail(r->err, EINVAL, "a list or map of %zu items begins where there are not so many bytes left", items);
		return fail_here(r);
	}
	if (items > VF_VALUE_ITEMS_MAX - r->items) {
		vf_fail(r->err, EINVAL, "value has more than %u items", VF_VALUE_ITEMS_MAX);
		return fail_here(r);
	}
	r->budget -= bytes;
	r->items += (uint32_t)items;
	return 0;
}

static inline struct vf_value on_root(struct reader *r)
{
	(void)r;
	return (struct vf_value){ .kind = VF_NULL };
}

static inline int on_nil(struct reader *r, struct vf_value *v)
{
	(void)r;
	*v = (struct vf_value){ .kind = VF_NULL };
	return 0;
}

static inline int on_bool(struct vf_value *v, bool b)
{
	*v = (struct vf_value){ .kind = VF_BOOL, .boolean = b };
	return 0;
}

static inline int on_true(struct reader *r, struct vf_value *v) { (void)r; return on_bool(v, true); }
static inline int on_false(struct reader *r, struct vf_value *v) { (void)r; return on_bool(v, false); }

static inline int on_int64(struct reader *r, int64_t i, struct vf_value *v)
{
	(void)r;
	*v = (struct vf_value){ .kind = VF_INT, .integer = i };
	return 0;
}

static inline int on_uint64(struct reader *r, uint64_t u, struct vf_value *v)
{
	if (u <= INT64_MAX)
		return on_int64(r, (int64_t)u, v);
	vf_fail(r->err, EINVAL, "integer %" PRIu64 " is beyond signed 64 bits", u);
	return fail_here(r);
}

static inline int on_double(struct reader *r, double d, struct vf_value *v)
{
	(void)r;
	*v = (struct vf_value){ .kind = VF_FLOAT, .real = d };
	return 0;
}

static inline int on_bin(struct reader *r, const char *base, const char *p, size_t len, struct vf_value *v)
{
	(void)r;
	*v = (struct vf_value){ .kind = VF_BIN, .bytes = vf_span(len ? p : base, len) };
	return 0;
}

static inline int on_str(struct reader *r, const char *base, const char *p, size_t len, struct vf_value *v)
{
	/* The parser has no place for what is empty. */
	*v = (struct vf_value){ .kind = VF_STRING, .bytes = vf_span(len ? p : base, len) };
	return vf_utf8_valid(v->bytes) ? 0 : fail_at(r, p, "string is not valid UTF-8");
}

static inline int on_ext(struct reader *r, const char *base, const char *p, size_t len, struct vf_value *v)
{
	(void)base;
	(void)len;
	(void)v;
	return fail_at(r, p, "msgpack extension types are not used here");
}

static inline int on_array(struct reader *r, size_t n, struct vf_value *v)
{
	*v = (struct vf_value){ .kind = VF_LIST };
	if (n == 0)
		return 0;
	if (spend(r, n, n))
		return FAILED;
	v->items = vf_arena_alloc(r->arena, n * sizeof *v->items);
	return v->items ? 0 : fail_oom(r);
}

static inline int on_array_item(struct reader *r, struct vf_value *list, struct vf_value item)
{
	(void)r;
	list->items[list->count++] = item;
	return 0;
}

static inline int on_map(struct reader *r, size_t n, struct vf_value *v)
{
	*v = (struct vf_value){ .kind = VF_MAP };
	if (n == 0)
		return 0;
	if (n > SIZE_MAX / 2 || spend(r, n, 2 * n))
		return FAILED;
	struct map_head *head = vf_arena_alloc(r->arena, sizeof *head + n * sizeof head->entries[0]);
	if (!head)
		return fail_oom(r);
	head->declared = (uint32_t)n;
	v->entries = head->entries;
	return 0;
}

static inline int on_map_item(struct reader *r, struct vf_value *map, struct vf_value name, struct vf_value value)
{
	const struct map_head *head = (const struct map_head *)((const char *)map->entries - offsetof(struct map_head, entries));

	if (name.kind != VF_STRING) {
		vf_fail(r->err, EINVAL, "a name in a map is a string, not %s %s", name.kind == VF_INT ? "an" : "a", vf_kind_name(name.kind));
		return fail_here(r);
	}
	map->entries[map->count++] = (struct vf_entry){ name.bytes, value };
	return map->count == head->declared ? check_names(r, map->entries, map->count) : 0;
}

/* Narrower numbers are the same values. */
#define on_uint8(r, i, v) on_int64(r, i, v)
#define on_uint16(r, i, v) on_int64(r, i, v)
#define on_uint32(r, i, v) on_int64(r, i, v)
#define on_int8(r, i, v) on_int64(r, i, v)
#define on_int16(r, i, v) on_int64(r, i, v)
#define on_int32(r, i, v) on_int64(r, i, v)
#define on_float(r, f, v) on_double(r, (double)(f), v)

#define msgpack_unpack_struct(name) struct parser##name
#define msgpack_unpack_func(type, name) static type parser##name
#define msgpack_unpack_callback(name) on##name
#define msgpack_unpack_object struct vf_value
#define msgpack_unpack_user struct reader
#include <msgpack/unpack_template.h>

/* ---- vectors ----
 * A vector is a list of hundreds of floats, 8 ns each in the parser and 1 ns here. The parser goes on at any byte where it was
 * stopped, so it is stopped every few bytes; when it then stands in a list before a float, all floats but the last are taken here. */

#define STEP_BYTES 48

static double load_float32(const uint8_t *p)
{
	uint32_t bits;
	float f;

	memcpy(&bits, p, sizeof bits);
	bits = be32toh(bits);
	memcpy(&f, &bits, sizeof f);
	return (double)f;
}

static double load_float64(const uint8_t *p)
{
	uint64_t bits;
	double d;

	memcpy(&bits, p, sizeof bits);
	bits = be64toh(bits);
	memcpy(&d, &bits, sizeof d);
	return d;
}

/* Field by field: a whole item made first and copied then would wait for its own halves. */
static void set_float(struct vf_value *item, double real)
{
	item->kind = VF_FLOAT;
	item->count = 0;
	item->real = real;
}

/* Bytes of those of at most n items that are floats like the first one. */
static size_t read_floats(struct vf_value *items, size_t n, const uint8_t *p, size_t len)
{
	const uint8_t first = p[0], *from = p, *end = p + len;

	if (first == 0xca)
		for (; n > 0 && end - p >= 5 && *p == first; n--, p += 5)
			set_float(items++, load_float32(p + 1));
	else if (first == 0xcb)
		for (; n > 0 && end - p >= 9 && *p == first; n--, p += 9)
			set_float(items++, load_float64(p + 1));
	return (size_t)(p - from);
}

static size_t take_floats(struct parser_context *parser, const uint8_t *p, size_t len)
{
	struct parser_stack *top = parser->top ? &parser->stack[parser->top - 1] : NULL;

	if (!top || len == 0 || parser->cs != MSGPACK_CS_HEADER || top->ct != MSGPACK_CT_ARRAY_ITEM || top->count < 2)
		return 0;
	size_t bytes = read_floats(top->obj.items + top->obj.count, top->count - 1, p, len), n = bytes / (p[0] == 0xca ? 5 : 9);
	top->obj.count += (uint32_t)n;
	top->count -= n;
	return bytes;
}

static int execute(struct parser_context *parser, struct vf_span bytes, size_t *at)
{
	size_t stop;
	int code;

	do {
		/* Within an item: to its end and not further, or it might never be stopped between two. */
		size_t ahead = parser->cs == MSGPACK_CS_HEADER ? STEP_BYTES : (size_t)parser->trail;
		stop = bytes.len - *at < ahead ? bytes.len : *at + ahead;
		code = parser_execute(parser, (const char *)bytes.data, stop, at);
		if (code == MSGPACK_UNPACK_CONTINUE)
			*at += take_floats(parser, bytes.data + *at, bytes.len - *at);
	} while (code == MSGPACK_UNPACK_CONTINUE && stop < bytes.len);
	return code;
}

/* ---- one value ---- */

/* What the parser itself refuses. `at` is where it stopped. */
static int fail_parse(int code, struct vf_span bytes, size_t at, struct vf_err *err)
{
	if (code == MSGPACK_UNPACK_CONTINUE)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, bytes.len, "msgpack value ends too early");
	if (code == MSGPACK_UNPACK_NOMEM_ERROR)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, at, "lists and maps are nested more than %u deep", VF_VALUE_DEPTH_MAX);
	return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, at, "byte 0x%02x begins no msgpack value", bytes.data[at]);
}

int vf_msgpack_decode(struct vf_span bytes, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	struct parser_context parser;       /* with a stack of kilobytes, which nobody needs cleared */
	size_t at = 0;

	parser.user = (struct reader){ .arena = arena, .err = err, .data = bytes.data, .budget = bytes.len };
	parser_init(&parser);
	int code = bytes.len ? execute(&parser, bytes, &at) : MSGPACK_UNPACK_CONTINUE;
	if (parser.user.failed) {
		if (!parser.user.has_place) {
			err->unit = VF_PLACE_BYTE;
			err->place = at;
		}
		return -err->code;
	}
	if (code != 1)
		return fail_parse(code, bytes, at, err);
	if (at < bytes.len)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, at, "%zu bytes follow the end of the msgpack value", bytes.len - at);
	*out = parser_data(&parser);
	return 0;
}
