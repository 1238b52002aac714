/* SPDX-License-Identifier: MIT */
/* codec.h - for the tests of what is decoded: a table is written as JSON and tried in both formats. */
#ifndef VECFS_TESTS_CODEC_H
#define VECFS_TESTS_CODEC_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "vecfs/format.h"

static const enum vf_format both_formats[] = { VF_JSON, VF_MSGPACK };

/* JSON text in `format`: as it is, or through the decoder and the emitter. Broken JSON is a mistake of the test. */
static inline struct vf_span in_format(const char *json, enum vf_format format, struct vf_arena *arena)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf bytes = VF_BUF_INIT;
	struct vf_emitter e;
	struct vf_value value;

	if (format == VF_JSON)
		return vf_span_str(json);
	ck_assert_msg(vf_value_decode(VF_JSON, vf_span_str(json), arena, &value, &err) == 0, "%s: %s", json, err.text);
	vf_emit_begin(&e, format, &bytes);
	vf_emit_value(&e, &value);
	ck_ok(vf_emit_end(&e, &err));
	struct vf_span copy = vf_arena_copy(arena, vf_buf_span(&bytes));
	vf_buf_free(&bytes);
	return copy;
}

static inline struct vf_value decoded(const char *json, enum vf_format format, struct vf_arena *arena)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_value value;

	ck_assert_msg(vf_value_decode(format, in_format(json, format, arena), arena, &value, &err) == 0, "%s: %s", json, err.text);
	return value;
}

#define ck_says(err, fragment) \
	ck_assert_msg(strstr((err).text, fragment) != NULL, "expected '%s' in '%s'", fragment, (err).text)
#define ck_span(span, text) \
	ck_assert_msg(vf_span_is(span, text), "expected '%s', got '%.*s'", text, (int)(span).len, (const char *)(span).data)

/* Numbers that look random and are the same every time. */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
