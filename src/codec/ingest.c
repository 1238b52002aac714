/* SPDX-License-Identifier: MIT */
/* A stream is a row of values: maps (records, or bodies with "vectors"), lists of records, .npy matrices. Lists are streamed element by
 * element; of a map only what has come so far is kept, and a map that lies whole in one piece is decoded where it lies. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "ingest_internal.h"

#define EXPECTED "a record is a map, in msgpack or JSON; also taken are lists of records, {\"vectors\": [...]} and .npy"

int vf_ingest_new(const char *bucket, const char *index, vf_record_sink sink, void *ctx, struct vf_ingest **out, struct vf_err *err)
{
	struct vf_ingest *ingest = calloc(1, sizeof *ingest);

	if (!ingest)
		return vf_oom(err);
	*ingest = (struct vf_ingest){ .bucket = bucket, .index = index, .sink = sink, .ctx = ctx, .first_format = VF_JSON };
	*out = ingest;
	return 0;
}

void vf_ingest_free(struct vf_ingest **ingest)
{
	if (!*ingest)
		return;
	vf_npy_free(&(*ingest)->npy);
	vf_buf_free(&(*ingest)->pending);
	vf_arena_free(&(*ingest)->arena);
	free(*ingest);
	*ingest = NULL;
}

enum vf_format vf_ingest_format(const struct vf_ingest *ingest)
{
	return ingest->first_format;
}

bool vf_ingest_at_boundary(const struct vf_ingest *ingest)
{
	return ingest->state == BETWEEN && ingest->failure.code == 0;
}

/* ---- one record ---- */

/* Says which record it was, for what is wrong with its content; a full disk has nothing to do with it. */
static int blame_record(const struct vf_ingest *ingest, struct vf_span key, struct vf_err *err)
{
	unsigned long long number = ingest->records + 1;

	if (err->code != EINVAL && err->code != EFBIG)
		return -err->code;
	err->unit = VF_PLACE_BYTE;
	err->place = ingest->value_start;
	if (key.len)
		return vf_wrap(err, "record %llu ('%.*s')", number, key.len < 60 ? (int)key.len : 60, (const char *)key.data);
	return vf_wrap(err, "record %llu", number);
}

static int give_record(struct vf_ingest *ingest, const struct vf_record *record, struct vf_err *err)
{
	if (ingest->sink(ingest->ctx, record, err))
		return blame_record(ingest, record->key, err);
	ingest->records++;
	return 0;
}

static int give_value(struct vf_ingest *ingest, const struct vf_value *value, struct vf_err *err)
{
	struct vf_record record;

	if (vf_record_from_value(value, &ingest->arena, &record, err))
		return blame_record(ingest, record.key, err);
	return give_record(ingest, &record, err);
}

static int give_row(void *ctx, uint64_t row, const float *vector, uint32_t dim, struct vf_err *err)
{
	struct vf_record record = { .vector = vector, .dim = dim, .metadata = vf_metadata_empty };
	char key[24];

	record.key = vf_span(key, (size_t)snprintf(key, sizeof key, "%llu", (unsigned long long)row));
	return give_record(ctx, &record, err);
}

/* ---- a whole value ---- */

/* Broken bytes: the place is where they break, not where the value begins. */
static int blame_bytes(const struct vf_ingest *ingest, struct vf_err *err)
{
	if (err->code != EINVAL && err->code != EFBIG)
		return -err->code;
	err->place = ingest->value_start + (err->unit == VF_PLACE_BYTE ? err->place : 0);
	err->unit = VF_PLACE_BYTE;
	return -err->code;
}

/* A small map is decoded first: nearly always it is a record. What is too big for one can only be a body. */
static int take_map(struct vf_ingest *ingest, struct vf_span bytes, struct vf_err *err)
{
	struct vf_value value;

	if (bytes.len > VF_RECORD_FILE_BYTES_MAX)
		return vf_body_take(ingest, bytes, err);
	if (vf_value_decode(ingest->format, bytes, &ingest->arena, &value, err))
		return blame_bytes(ingest, err);
	if (vf_value_find(&value, "vectors"))
		return vf_body_take(ingest, bytes, err);
	return give_value(ingest, &value, err);
}

static int take_element(struct vf_ingest *ingest, struct vf_span bytes, struct vf_err *err)
{
	struct vf_value value;

	if (vf_value_decode(ingest->format, bytes, &ingest->arena, &value, err))
		return blame_bytes(ingest, err);
	return give_value(ingest, &value, err);
}

/* ---- the stream ---- */

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool begins_map(enum vf_format format, uint8_t c)
{
	return format == VF_JSON ? c == '{' : (c & 0xf0) == 0x80 || c == 0xde || c == 0xdf;
}

static void skip(struct vf_ingest *ingest, struct vf_span *rest, size_t n)
{
	rest->data += n;
	rest->len -= n;
	ingest->offset += n;
}

static bool skip_blanks(struct vf_ingest *ingest, struct vf_span *rest)
{
	while (rest->len && is_blank(rest->data[0]))
		skip(ingest, rest, 1);
	return rest->len > 0;
}

static int refuse_byte(const struct vf_ingest *ingest, uint8_t c, const char *expected, struct vf_err *err)
{
	if (c > 0x20 && c < 0x7f)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, ingest->offset, "'%c' is unexpected: %s", c, expected);
	return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, ingest->offset, "byte 0x%02x is unexpected: %s", c, expected);
}

static void begin_value(struct vf_ingest *ingest, enum vf_ingest_state state)
{
	ingest->state = state;
	ingest->value_start = ingest->offset;
	vf_scanner_init(&ingest->scanner, ingest->format);
	vf_arena_reset(&ingest->arena);
}

static void note_format(struct vf_ingest *ingest, enum vf_format format)
{
	if (!ingest->started)
		ingest->first_format = format;
	ingest->started = true;
}

/* An empty list of msgpack, or one whose last element is there, ends without a further byte. */
static void close_list(struct vf_ingest *ingest)
{
	if (ingest->state == LIST && ingest->format == VF_MSGPACK && ingest->list_left == 0)
		ingest->state = BETWEEN;
}

/* Takes the first byte of a list: all of its head, or the lead of a longer one. False: it begins none. */
bool vf_ingest_open_list(struct vf_ingest *ingest, struct vf_span *rest)
{
	uint8_t c = rest->data[0];

	if (ingest->format == VF_JSON ? c != '[' : (c & 0xf0) != 0x90 && c != 0xdc && c != 0xdd)
		return false;
	ingest->list_start = ingest->offset;
	ingest->list_first = true;
	ingest->list_comma = false;
	ingest->list_head = c == 0xdc ? 2 : c == 0xdd ? 4 : 0;
	ingest->list_left = ingest->list_head ? 0 : c & 0x0f;
	ingest->state = ingest->list_head ? LIST_HEAD : LIST;
	close_list(ingest);
	skip(ingest, rest, 1);
	return true;
}

/* 0x93 opens a list of three in msgpack, and an .npy file; the next byte tells. */
static int step_between(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err)
{
	if (!skip_blanks(ingest, rest))
		return 0;
	uint8_t lead = rest->data[0];
	vf_format_guess(vf_span(rest->data, 1), &ingest->format);
	if (begins_map(ingest->format, lead))
		begin_value(ingest, MAP);
	else if (!vf_ingest_open_list(ingest, rest))
		return refuse_byte(ingest, lead, EXPECTED, err);
	if (lead == 0x93)
		ingest->state = NPY_OR_LIST;
	else
		note_format(ingest, ingest->format);
	return 0;
}

static int step_npy_or_list(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err)
{
	size_t taken;

	if (rest->data[0] != 'N') {
		ingest->state = LIST;
		note_format(ingest, VF_MSGPACK);
		return 0;
	}
	ingest->state = NPY;
	note_format(ingest, VF_JSON);
	vf_npy_init(&ingest->npy, give_row, ingest);
	return vf_npy_feed(&ingest->npy, vf_span("\x93", 1), &taken, err);
}

static int step_list_head(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err)
{
	(void)err;
	ingest->list_left = ingest->list_left << 8 | rest->data[0];
	skip(ingest, rest, 1);
	if (--ingest->list_head == 0)
		ingest->state = LIST;
	return 0;
}

static int step_msgpack_list(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err)
{
	if (!begins_map(VF_MSGPACK, rest->data[0]))
		return refuse_byte(ingest, rest->data[0], "a record in a list is a map", err);
	ingest->list_left--;
	begin_value(ingest, ELEMENT);
	return 0;
}

static int step_json_list(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err)
{
	if (!skip_blanks(ingest, rest))
		return 0;
	uint8_t c = rest->data[0];
	if (c == ']' && !ingest->list_comma) {
		skip(ingest, rest, 1);
		ingest->state = BETWEEN;
		return 0;
	}
	if (!ingest->list_first && !ingest->list_comma) {
		if (c != ',')
			return refuse_byte(ingest, c, "a ',' or a ']' follows a record in a list", err);
		skip(ingest, rest, 1);
		ingest->list_comma = true;
		return 0;
	}
	if (c != '{')
		return refuse_byte(ingest, c, "a record in a list is a map", err);
	ingest->list_first = ingest->list_comma = false;
	begin_value(ingest, ELEMENT);
	return 0;
}

static int step_value(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err)
{
	bool element = ingest->state == ELEMENT;
	uint64_t most = element ? VF_RECORD_FILE_BYTES_MAX : VF_VALUE_BYTES_MAX;
	struct vf_span from = *rest;
	size_t taken = 0;
	int rc = vf_scanner_feed(&ingest->scanner, from, &taken, err);

	if (rc < 0)
		return blame_bytes(ingest, err);
	skip(ingest, rest, taken);
	if (ingest->offset - ingest->value_start > most)
		return vf_fail_at(err, EFBIG, VF_PLACE_BYTE, ingest->value_start, "the %s has more than %llu bytes",
		                  element ? "record" : "map", (unsigned long long)most);
	if (rc == VF_SCAN_MORE)
		return vf_buf_put(&ingest->pending, from.data, taken, err);
	/* Taken out: a body runs its own list through these steps. */
	struct vf_buf whole = ingest->pending;
	ingest->pending = (struct vf_buf)VF_BUF_INIT;
	if (whole.len == 0 || (rc = vf_buf_put(&whole, from.data, taken, err)) == 0) {
		struct vf_span bytes = whole.len ? vf_buf_span(&whole) : vf_span(from.data, taken);
		ingest->state = element ? LIST : BETWEEN;
		rc = element ? take_element(ingest, bytes, err) : take_map(ingest, bytes, err);
	}
	ingest->pending = whole;
	vf_buf_clear(&ingest->pending);
	return rc;
}

static int step_npy(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err)
{
	size_t taken;

	if (ingest->npy.got.len == 0)
		ingest->value_start = ingest->offset;
	int rc = vf_npy_feed(&ingest->npy, *rest, &taken, err);
	if (rc && err->unit == VF_PLACE_NONE)
		blame_bytes(ingest, err);
	skip(ingest, rest, taken);
	if (rc == 0 && ingest->npy.part == VF_NPY_DONE) {
		vf_npy_free(&ingest->npy);
		ingest->state = BETWEEN;
	}
	return rc;
}

static int step(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err)
{
	switch (ingest->state) {
	case BETWEEN:     return step_between(ingest, rest, err);
	case NPY_OR_LIST: return step_npy_or_list(ingest, rest, err);
	case LIST_HEAD:   return step_list_head(ingest, rest, err);
	case LIST:        return ingest->format == VF_JSON ? step_json_list(ingest, rest, err) : step_msgpack_list(ingest, rest, err);
	case MAP:
	case ELEMENT:     return step_value(ingest, rest, err);
	case NPY:         return step_npy(ingest, rest, err);
	}
	return 0;
}

int vf_ingest_run(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err)
{
	int rc = step(ingest, rest, err);

	close_list(ingest);
	return rc;
}

int vf_ingest_feed(struct vf_ingest *ingest, struct vf_span bytes, struct vf_err *err)
{
	int rc = 0;

	if (ingest->failure.code) {
		*err = ingest->failure;
		return -err->code;
	}
	while (rc == 0 && bytes.len)
		rc = vf_ingest_run(ingest, &bytes, err);
	if (rc)
		ingest->failure = *err;
	return rc;
}

static int incomplete(const struct vf_ingest *ingest, struct vf_err *err)
{
	unsigned long long end = ingest->offset;

	switch (ingest->state) {
	case BETWEEN:
		return 0;
	case NPY_OR_LIST:
	case LIST_HEAD:
	case LIST:
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, ingest->list_start,
		                  "the list is incomplete: the stream ends at byte %llu", end);
	case MAP:
	case ELEMENT:
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, ingest->value_start,
		                  "the record is incomplete: the stream ends at byte %llu", end);
	case NPY:
		vf_npy_incomplete(&ingest->npy, err);
		err->unit = VF_PLACE_BYTE;
		err->place = ingest->offset;
		return -err->code;
	}
	return 0;
}

int vf_ingest_end(struct vf_ingest *ingest, struct vf_err *err)
{
	if (ingest->failure.code) {
		*err = ingest->failure;
		return -err->code;
	}
	int rc = incomplete(ingest, err);
	if (rc) {
		ingest->failure = *err;
		return rc;
	}
	ingest->offset = ingest->records = 0;
	ingest->started = false;
	return 0;
}
