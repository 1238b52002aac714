/* SPDX-License-Identifier: MIT */
/* Writing both formats by the same calls. msgpack goes through the packer of msgpack-c, but for vectors, which are written at one go. */
#include <errno.h>
#include <msgpack/pack.h>
#include <stdio.h>

#include "codec_internal.h"

#define LEVELS (sizeof ((struct vf_emitter *)0)->level / sizeof ((struct vf_emitter *)0)->level[0])

static int put(void *ctx, const char *data, size_t len)
{
	struct vf_emitter *e = ctx;
	struct vf_err err;

	if (e->failed)
		return -1;
	if (vf_buf_put(e->out, data, len, &err)) {
		e->failed = err.code;
		return -1;
	}
	return 0;
}

static uint8_t *reserve(struct vf_emitter *e, size_t len)
{
	struct vf_err err;

	if (e->failed)
		return NULL;
	if (vf_buf_reserve(e->out, len, &err)) {
		e->failed = err.code;
		return NULL;
	}
	return e->out->data + e->out->len;
}

static msgpack_packer packer(struct vf_emitter *e)
{
	return (msgpack_packer){ .data = e, .callback = put };
}

/* What JSON wants before a value: nothing behind a name, a comma behind another item. */
static void separate(struct vf_emitter *e)
{
	if (e->depth == 0)
		return;
	if (e->level[e->depth - 1].name)
		e->level[e->depth - 1].name = false;
	else if (e->level[e->depth - 1].first)
		e->level[e->depth - 1].first = false;
	else
		put(e, ", ", 2);
}

static void put_escape(struct vf_emitter *e, uint8_t c)
{
	static const char hex[] = "0123456789abcdef";
	static const char letter[256] = { ['"'] = '"', ['\\'] = '\\', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['\b'] = 'b', ['\f'] = 'f' };

	if (letter[c])
		put(e, (char[]){ '\\', letter[c] }, 2);
	else
		put(e, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
}

static void put_json_string(struct vf_emitter *e, struct vf_span s)
{
	size_t from = 0;

	put(e, "\"", 1);
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.data[i];
		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		put(e, (const char *)s.data + from, i - from);
		put_escape(e, c);
		from = i + 1;
	}
	put(e, (const char *)s.data + from, s.len - from);
	put(e, "\"", 1);
}

static void put_msgpack_string(struct vf_emitter *e, struct vf_span s)
{
	msgpack_packer pk = packer(e);

	msgpack_pack_str(&pk, s.len);
	msgpack_pack_str_body(&pk, s.data, s.len);
}

/* ---- containers ---- */

static void open_level(struct vf_emitter *e, bool map)
{
	if (e->depth == LEVELS) {
		e->failed = EINVAL;
		return;
	}
	e->level[e->depth].map = map;
	e->level[e->depth].first = true;
	e->level[e->depth].name = false;
	e->depth++;
}

void vf_emit_begin(struct vf_emitter *e, enum vf_format format, struct vf_buf *out)
{
	e->format = format;
	e->out = out;
	e->depth = 0;
	e->failed = 0;
}

static void open_container(struct vf_emitter *e, bool map, uint32_t n)
{
	msgpack_packer pk = packer(e);

	switch (e->format) {
	case VF_MSGPACK:
		if (map)
			msgpack_pack_map(&pk, n);
		else
			msgpack_pack_array(&pk, n);
		break;
	case VF_JSON:
		separate(e);
		put(e, map ? "{" : "[", 1);
		break;
	}
	open_level(e, map);
}

void vf_emit_map(struct vf_emitter *e, uint32_t entries)
{
	open_container(e, true, entries);
}

void vf_emit_list(struct vf_emitter *e, uint32_t items)
{
	open_container(e, false, items);
}

void vf_emit_close(struct vf_emitter *e)
{
	if (e->failed)
		return;      /* perhaps it was not opened */
	e->depth--;
	if (e->format == VF_JSON)
		put(e, e->level[e->depth].map ? "}" : "]", 1);
}

static void emit_name(struct vf_emitter *e, struct vf_span name)
{
	switch (e->format) {
	case VF_MSGPACK:
		put_msgpack_string(e, name);
		break;
	case VF_JSON:
		separate(e);
		put_json_string(e, name);
		put(e, ": ", 2);
		if (!e->failed)
			e->level[e->depth - 1].name = true;
		break;
	}
}

void vf_emit_name(struct vf_emitter *e, const char *name)
{
	emit_name(e, vf_span_str(name));
}

/* ---- scalars ---- */

static void emit_text(struct vf_emitter *e, const char *text, size_t len)
{
	separate(e);
	put(e, text, len);
}

void vf_emit_string(struct vf_emitter *e, struct vf_span s)
{
	switch (e->format) {
	case VF_MSGPACK:
		put_msgpack_string(e, s);
		break;
	case VF_JSON:
		separate(e);
		put_json_string(e, s);
		break;
	}
}

void vf_emit_int(struct vf_emitter *e, int64_t i)
{
	msgpack_packer pk = packer(e);
	char text[24];

	switch (e->format) {
	case VF_MSGPACK:
		msgpack_pack_int64(&pk, i);
		break;
	case VF_JSON:
		emit_text(e, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)i));
		break;
	}
}

void vf_emit_bool(struct vf_emitter *e, bool b)
{
	switch (e->format) {
	case VF_MSGPACK:
		put(e, b ? "\xc3" : "\xc2", 1);
		break;
	case VF_JSON:
		emit_text(e, b ? "true" : "false", b ? 4 : 5);
		break;
	}
}

static void emit_null(struct vf_emitter *e)
{
	switch (e->format) {
	case VF_MSGPACK:
		put(e, "\xc0", 1);
		break;
	case VF_JSON:
		emit_text(e, "null", 4);
		break;
	}
}

void vf_emit_double(struct vf_emitter *e, double d)
{
	msgpack_packer pk = packer(e);
	char text[VF_NUMBER_TEXT_MAX];

	switch (e->format) {
	case VF_MSGPACK:
		msgpack_pack_double(&pk, d);
		break;
	case VF_JSON:
		emit_text(e, text, vf_text_of_double(d, text));
		break;
	}
}

/* ---- vectors ---- */

static void put_msgpack_floats(struct vf_emitter *e, const float *f, uint32_t n)
{
	uint8_t *p = reserve(e, 5 * (size_t)n);

	if (!p)
		return;
	for (uint32_t i = 0; i < n; i++, p += 5) {
		uint32_t bits;
		memcpy(&bits, &f[i], sizeof bits);
		p[0] = 0xca;
		p[1] = (uint8_t)(bits >> 24);
		p[2] = (uint8_t)(bits >> 16);
		p[3] = (uint8_t)(bits >> 8);
		p[4] = (uint8_t)bits;
	}
	e->out->len += 5 * (size_t)n;
}

static void put_json_floats(struct vf_emitter *e, const float *f, uint32_t n)
{
	uint8_t *p = reserve(e, (size_t)n * (VF_NUMBER_TEXT_MAX + 2));

	if (!p)
		return;
	for (uint32_t i = 0; i < n; i++) {
		if (i) {
			*p++ = ',';
			*p++ = ' ';
		}
		p += vf_text_of_float(f[i], (char *)p);
	}
	e->out->len = (size_t)(p - e->out->data);
}

void vf_emit_floats(struct vf_emitter *e, const float *f, uint32_t n)
{
	vf_emit_list(e, n);
	switch (e->format) {
	case VF_MSGPACK:
		put_msgpack_floats(e, f, n);
		break;
	case VF_JSON:
		put_json_floats(e, f, n);
		break;
	}
	vf_emit_close(e);
}

/* ---- values ---- */

/* JSON has no bytes: a list of them. */
static void emit_bin(struct vf_emitter *e, struct vf_span bin)
{
	msgpack_packer pk = packer(e);

	switch (e->format) {
	case VF_MSGPACK:
		msgpack_pack_bin(&pk, bin.len);
		msgpack_pack_bin_body(&pk, bin.data, bin.len);
		break;
	case VF_JSON:
		vf_emit_list(e, (uint32_t)bin.len);
		for (size_t i = 0; i < bin.len; i++)
			vf_emit_int(e, bin.data[i]);
		vf_emit_close(e);
		break;
	}
}

static void emit_list_of(struct vf_emitter *e, const struct vf_value *v)
{
	vf_emit_list(e, v->count);
	for (uint32_t i = 0; i < v->count && !e->failed; i++)
		vf_emit_value(e, &v->items[i]);
	vf_emit_close(e);
}

static void emit_map_of(struct vf_emitter *e, const struct vf_value *v)
{
	vf_emit_map(e, v->count);
	for (uint32_t i = 0; i < v->count && !e->failed; i++) {
		emit_name(e, v->entries[i].name);
		vf_emit_value(e, &v->entries[i].value);
	}
	vf_emit_close(e);
}

void vf_emit_value(struct vf_emitter *e, const struct vf_value *v)
{
	switch (v->kind) {
	case VF_NULL:
		emit_null(e);
		break;
	case VF_BOOL:
		vf_emit_bool(e, v->boolean);
		break;
	case VF_INT:
		vf_emit_int(e, v->integer);
		break;
	case VF_FLOAT:
		vf_emit_double(e, v->real);
		break;
	case VF_STRING:
		vf_emit_string(e, v->bytes);
		break;
	case VF_BIN:
		emit_bin(e, v->bytes);
		break;
	case VF_LIST:
		emit_list_of(e, v);
		break;
	case VF_MAP:
		emit_map_of(e, v);
		break;
	}
}

static void transcode(struct vf_emitter *e, struct vf_span canonical)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_value value;
	struct vf_err err;

	if (vf_value_decode(VF_MSGPACK, canonical, &arena, &value, &err) == 0)
		vf_emit_value(e, &value);
	else
		e->failed = err.code == ENOMEM ? ENOMEM : EIO;
	vf_arena_free(&arena);
}

void vf_emit_msgpack(struct vf_emitter *e, struct vf_span canonical)
{
	switch (e->format) {
	case VF_MSGPACK:
		put(e, (const char *)canonical.data, canonical.len);
		break;
	case VF_JSON:
		transcode(e, canonical);
		break;
	}
}

int vf_emit_end(struct vf_emitter *e, struct vf_err *err)
{
	if (e->failed == ENOMEM)
		return vf_oom(err);
	if (e->failed == EIO)
		return vf_fail(err, EIO, "stored metadata is damaged: it is not msgpack");
	if (e->failed)
		return vf_fail(err, e->failed, "value is nested more than %zu deep", LEVELS);
	return 0;
}
