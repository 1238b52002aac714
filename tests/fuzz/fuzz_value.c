/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "vecfs/format.h"

static void emit(enum vf_format format, const struct vf_value *value, struct vf_buf *out)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_emitter e;

	vf_emit_begin(&e, format, out);
	vf_emit_value(&e, value);
	FUZZ_PROMISE(vf_emit_end(&e, &err) == 0);
}

/* A value that was decoded can be written in its format and decoded again, and is then written with the same bytes. */
static void round_trip(enum vf_format format, const struct vf_value *value)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf once = VF_BUF_INIT, twice = VF_BUF_INIT;
	struct vf_value again;

	emit(format, value, &once);
	FUZZ_PROMISE(vf_value_decode(format, vf_buf_span(&once), &arena, &again, &err) == 0);
	emit(format, &again, &twice);
	FUZZ_PROMISE(vf_span_equal(vf_buf_span(&once), vf_buf_span(&twice)));
	vf_buf_free(&once);
	vf_buf_free(&twice);
	vf_arena_free(&arena);
}

static bool is_plain(const struct vf_value *v)
{
	bool plain = true;

	switch (v->kind) {
	case VF_NULL: case VF_BOOL: case VF_INT: case VF_STRING:
		return true;
	case VF_FLOAT:
		return v->real - v->real == 0;   /* JSON has no infinity and no NaN */
	case VF_BIN:
		return false;                    /* and no binary */
	case VF_LIST:
		for (uint32_t i = 0; i < v->count; i++)
			plain = plain && is_plain(&v->items[i]);
		return plain;
	case VF_MAP:
		for (uint32_t i = 0; i < v->count; i++)
			plain = plain && is_plain(&v->entries[i].value);
		return plain;
	}
	return false;
}

void vf_fuzz_value(const uint8_t *data, size_t size)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_span bytes = vf_span(data, size);
	struct vf_scanner scanner;
	enum vf_format format;
	struct vf_value value;
	size_t taken;

	if (!vf_format_guess(bytes, &format))
		return;
	vf_scanner_init(&scanner, format);
	int scanned = vf_scanner_feed(&scanner, bytes, &taken, &err);
	FUZZ_PROMISE(scanned < 0 || taken <= size);
	if (vf_value_decode(format, bytes, &arena, &value, &err) == 0 && is_plain(&value))
		round_trip(format, &value);
	vf_arena_free(&arena);
}
