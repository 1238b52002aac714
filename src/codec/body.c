/* SPDX-License-Identifier: MIT */
/* The body of PutVectors. Its names may come in any order, so it is kept whole; but it is never decoded whole: a tree of values takes
 * many times the bytes that it came from. */
#include <errno.h>

#include "ingest_internal.h"

/* The entries of a map, as the bytes of their names and values. */
struct walk {
	enum vf_format format;
	struct vf_span rest;
	uint64_t at;                   /* of rest, in the map */
	uint64_t left;                 /* msgpack: entries still to come */
	bool first;
};

static void advance(struct walk *w, size_t n)
{
	w->rest.data += n;
	w->rest.len -= n;
	w->at += n;
}

static void open_map(struct walk *w, enum vf_format format, struct vf_span bytes)
{
	*w = (struct walk){ .format = format, .rest = bytes, .first = true };
	if (format == VF_JSON) {
		advance(w, 1);
		return;
	}
	uint8_t c = bytes.data[0];
	size_t more = c == 0xde ? 2 : c == 0xdf ? 4 : 0;
	w->left = more ? 0 : c & 0x0f;
	for (size_t i = 1; i <= more; i++)
		w->left = w->left << 8 | bytes.data[i];
	advance(w, 1 + more);
}

static bool next_is(struct walk *w, char c)
{
	while (w->rest.len && memchr(" \n\t\r", w->rest.data[0], 4))
		advance(w, 1);
	if (w->rest.len == 0 || w->rest.data[0] != (uint8_t)c)
		return false;
	advance(w, 1);
	return true;
}

static int take_value(struct walk *w, struct vf_span *out, struct vf_err *err)
{
	struct vf_scanner scanner;
	size_t taken = 0;

	vf_scanner_init(&scanner, w->format);
	int rc = vf_scanner_feed(&scanner, w->rest, &taken, err);
	if (rc < 0) {
		err->place += w->at;
		return rc;
	}
	if (rc == VF_SCAN_MORE)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, w->at, "a value is incomplete");
	*out = vf_span(w->rest.data, taken);
	advance(w, taken);
	return 0;
}

static int refuse_syntax(const struct walk *w, const char *expected, struct vf_err *err)
{
	return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, w->at, "not JSON: %s expected", expected);
}

/* Is there a further entry? 1, 0 or negative. */
static int more_entries(struct walk *w, struct vf_err *err)
{
	if (w->format == VF_MSGPACK)
		return w->left > 0;
	if (next_is(w, '}'))
		return 0;
	if (!w->first && !next_is(w, ','))
		return refuse_syntax(w, "',' or '}'", err);
	w->first = false;
	return 1;
}

/* 1: *name and *value are the next ones'; 0: there is none; negative. */
static int next_entry(struct walk *w, struct vf_arena *arena, struct vf_value *name, struct vf_span *value, struct vf_err *err)
{
	struct vf_span bytes;
	int rc = more_entries(w, err);

	if (rc <= 0)
		return rc;
	uint64_t name_at = w->at;
	if ((rc = take_value(w, &bytes, err)))
		return rc;
	if ((rc = vf_value_decode(w->format, bytes, arena, name, err))) {
		err->place += name_at;
		return rc;
	}
	if (name->kind != VF_STRING)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, name_at, "a name in a map is %s; it must be a string", vf_kind_phrase(name->kind));
	if (w->format == VF_JSON && !next_is(w, ':'))
		return refuse_syntax(w, "':'", err);
	w->left--;
	rc = take_value(w, value, err);
	return rc ? rc : 1;
}

struct body {
	struct vf_target target;
	struct vf_span vectors;
	uint64_t vectors_at;
};

static int take_target(struct vf_ingest *ingest, struct body *body, const struct vf_value *name, struct vf_span bytes, struct vf_err *err)
{
	static const char *const names[] = { "vectorBucketName", "indexName", "indexArn" };
	struct vf_value value;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (!vf_span_is(name->bytes, names[i]))
			continue;
		int rc = bytes.len > VF_RECORD_FILE_BYTES_MAX ? vf_fail(err, EINVAL, "%s has %zu bytes", names[i], bytes.len) :
		         vf_value_decode(ingest->format, bytes, &ingest->arena, &value, err);
		return rc ? rc : vf_target_take(&body->target, names[i], &value, err);
	}
	return vf_fail(err, EINVAL, "unknown field '%.*s' beside vectors; there may be vectorBucketName, indexName, indexArn",
	               VF_SPAN_ARG(name->bytes));
}

static int read_body(struct vf_ingest *ingest, struct vf_span bytes, struct body *body, struct vf_err *err)
{
	struct walk w;
	struct vf_value name;
	struct vf_span value;
	int rc;

	open_map(&w, ingest->format, bytes);
	while ((rc = next_entry(&w, &ingest->arena, &name, &value, err)) > 0) {
		uint64_t value_at = w.at - value.len;
		if (!vf_span_is(name.bytes, "vectors")) {
			rc = take_target(ingest, body, &name, value, err);
			if (rc)
				return rc;
			continue;
		}
		if (body->vectors.data)
			return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, value_at, "'vectors' is there twice");
		body->vectors = value;
		body->vectors_at = value_at;
	}
	return rc;
}

/* The list goes through the steps of the stream, with the stream's own offsets. */
static int run_list(struct vf_ingest *ingest, const struct body *body, struct vf_err *err)
{
	struct vf_span rest = body->vectors;
	uint64_t resume = ingest->offset;
	int rc = 0;

	ingest->offset = ingest->value_start + body->vectors_at;
	while (rest.len && memchr(" \n\t\r", rest.data[0], 4) && ingest->format == VF_JSON) {
		rest = vf_span(rest.data + 1, rest.len - 1);
		ingest->offset++;
	}
	if (!vf_ingest_open_list(ingest, &rest))
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, ingest->offset, "vectors is not a list of records");
	while (rc == 0 && rest.len)
		rc = vf_ingest_run(ingest, &rest, err);
	if (rc == 0 && ingest->state != BETWEEN)
		rc = vf_fail_at(err, EINVAL, VF_PLACE_BYTE, ingest->offset, "the list of vectors is incomplete");
	ingest->offset = resume;
	return rc;
}

int vf_body_take(struct vf_ingest *ingest, struct vf_span bytes, struct vf_err *err)
{
	struct body body = { .vectors_at = 0 };
	int rc = read_body(ingest, bytes, &body, err);

	if (rc == 0 && !body.vectors.data)
		rc = vf_fail(err, EFBIG, "a record has %zu bytes, at most %u are taken", bytes.len, VF_RECORD_FILE_BYTES_MAX);
	if (rc == 0)
		rc = vf_target_check(&body.target, ingest->bucket, ingest->index, err);
	if (rc) {
		err->place = ingest->value_start + (err->unit == VF_PLACE_BYTE ? err->place : 0);
		err->unit = VF_PLACE_BYTE;
		return rc;
	}
	return run_list(ingest, &body, err);
}
