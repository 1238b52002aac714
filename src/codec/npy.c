/* SPDX-License-Identifier: MIT */
/* The .npy format: magic, version, length of the header, header (a Python dict as text), then the numbers.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "request_internal.h"

#define MAGIC_BYTES  8u                 /* \x93NUMPY, major, minor */
#define HEADER_BYTES_MAX (64u << 10)

void vf_npy_init(struct vf_npy *npy, vf_npy_sink sink, void *ctx)
{
	*npy = (struct vf_npy){ .part = VF_NPY_MAGIC, .need = MAGIC_BYTES, .sink = sink, .ctx = ctx };
}

void vf_npy_free(struct vf_npy *npy)
{
	vf_buf_free(&npy->got);
	free(npy->vector);
	npy->vector = NULL;
}

/* ---- the header: a dict of three entries ---- */

struct header_text { const char *at, *end; };

static void skip_blanks(struct header_text *t)
{
	while (t->at < t->end && (*t->at == ' ' || *t->at == '\n' || *t->at == '\t' || *t->at == '\r'))
		t->at++;
}

/* Takes the character c behind blanks when it is there. */
static bool take_char(struct header_text *t, char c)
{
	skip_blanks(t);
	if (t->at == t->end || *t->at != c)
		return false;
	t->at++;
	return true;
}

static bool take_word(struct header_text *t, const char *word)
{
	size_t len = strlen(word);

	skip_blanks(t);
	if ((size_t)(t->end - t->at) < len || memcmp(t->at, word, len) != 0)
		return false;
	t->at += len;
	return true;
}

static bool take_quoted(struct header_text *t, struct vf_span *out)
{
	skip_blanks(t);
	if (t->at == t->end || (*t->at != '\'' && *t->at != '"'))
		return false;
	const char *from = t->at + 1, *to = memchr(from, *t->at, (size_t)(t->end - from));
	if (!to)
		return false;
	*out = vf_span(from, (size_t)(to - from));
	t->at = to + 1;
	return true;
}

static bool take_count(struct header_text *t, uint64_t *out)
{
	skip_blanks(t);
	if (t->at == t->end || *t->at < '0' || *t->at > '9')
		return false;
	for (*out = 0; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++)
		if (__builtin_mul_overflow(*out, 10u, out) || __builtin_add_overflow(*out, (uint64_t)(*t->at - '0'), out))
			return false;
	take_char(t, 'L');      /* Python 2 wrote its long integers so */
	return true;
}

static int take_descr(struct vf_npy *npy, struct header_text *t, struct vf_err *err)
{
	struct vf_span descr;

	if (!take_quoted(t, &descr))
		return vf_fail(err, EINVAL, ".npy: a structured array is no matrix of numbers");
	if (vf_span_is(descr, "<f4"))
		npy->item = 4;
	else if (vf_span_is(descr, "<f8"))
		npy->item = 8;
	else
		return vf_fail(err, EINVAL, ".npy: numbers are '%.*s'; they must be '<f4' or '<f8' (array.astype('<f4') makes them so)",
		               VF_SPAN_ARG(descr));
	return 0;
}

static int take_order(struct vf_npy *npy, struct header_text *t, struct vf_err *err)
{
	npy->fortran = take_word(t, "True");
	if (npy->fortran || take_word(t, "False"))
		return 0;
	return vf_fail(err, EINVAL, ".npy: fortran_order is neither True nor False");
}

static int take_shape(struct vf_npy *npy, struct header_text *t, struct vf_err *err)
{
	uint64_t size[2] = { 0, 0 };
	unsigned n = 0;

	if (!take_char(t, '('))
		return vf_fail(err, EINVAL, ".npy: shape is not a tuple");
	while (!take_char(t, ')')) {
		uint64_t count;
		if ((n && !take_char(t, ',')) || !take_count(t, &count)) {
			if (take_char(t, ')'))
				break;          /* the comma behind a single one */
			return vf_fail(err, EINVAL, ".npy: shape is not a tuple of whole numbers");
		}
		if (n < 2)
			size[n] = count;
		n++;
	}
	if (n != 2)
		return vf_fail(err, EINVAL, ".npy: the array has %u dimensions; a matrix, with a row for each vector, has 2", n);
	npy->rows = size[0];
	if (size[0] && (size[1] == 0 || size[1] > VF_DIM_MAX))
		return vf_fail(err, EINVAL, ".npy: rows have %llu numbers; a vector has 1 to %u", (unsigned long long)size[1], VF_DIM_MAX);
	npy->dim = size[0] ? (uint32_t)size[1] : 0;
	return 0;
}

static int parse_header(struct vf_npy *npy, struct vf_span text, struct vf_err *err)
{
	static const char *const names[] = { "descr", "fortran_order", "shape" };
	static int (*const takes[])(struct vf_npy *, struct header_text *, struct vf_err *) = { take_descr, take_order, take_shape };
	struct header_text t = { (const char *)text.data, (const char *)text.data + text.len };
	bool seen[3] = { false, false, false };
	struct vf_span name;

	if (!take_char(&t, '{'))
		return vf_fail(err, EINVAL, ".npy: the header is not a dict");
	while (!take_char(&t, '}')) {
		size_t i = 0;
		if (!take_quoted(&t, &name) || !take_char(&t, ':'))
			return vf_fail(err, EINVAL, ".npy: the header is not a dict of names and values");
		while (i < 3 && !vf_span_is(name, names[i]))
			i++;
		if (i == 3 || seen[i])
			return vf_fail(err, EINVAL, ".npy: the header has %s '%.*s'", i == 3 ? "the unknown entry" : "two entries",
			               VF_SPAN_ARG(name));
		seen[i] = true;
		int rc = takes[i](npy, &t, err);
		if (rc)
			return rc;
		if (!take_char(&t, ',') && (skip_blanks(&t), t.at == t.end || *t.at != '}'))
			return vf_fail(err, EINVAL, ".npy: the header is not a dict of names and values");
	}
	skip_blanks(&t);
	if (t.at != t.end)
		return vf_fail(err, EINVAL, ".npy: text behind the header's dict");
	for (size_t i = 0; i < 3; i++)
		if (!seen[i])
			return vf_fail(err, EINVAL, ".npy: the header has no '%s'", names[i]);
	return 0;
}

/* ---- the numbers ---- */

static int load_doubles(struct vf_npy *npy, const uint8_t *bytes, size_t stride, struct vf_err *err)
{
	for (uint32_t i = 0; i < npy->dim; i++) {
		uint64_t bits;
		double d;
		memcpy(&bits, bytes + i * stride, sizeof bits);
		bits = le64toh(bits);
		memcpy(&d, &bits, sizeof d);
		npy->vector[i] = (float)d;
		if (isinf(npy->vector[i]) && !isinf(d))
			return vf_fail(err, EINVAL, "row %llu: data[%u] is %g, beyond what float32 holds", (unsigned long long)npy->row, i, d);
	}
	return 0;
}

/* One row, whose numbers lie `stride` bytes apart, goes to the sink. */
static int give_row(struct vf_npy *npy, const uint8_t *bytes, size_t stride, struct vf_err *err)
{
	int rc = 0;

	if (npy->item == 4)
		vf_vector_load(bytes, npy->dim, stride, npy->vector);
	else
		rc = load_doubles(npy, bytes, stride, err);
	if (rc == 0)
		rc = npy->sink(npy->ctx, npy->row, npy->vector, npy->dim, err);
	if (rc == 0)
		npy->row++;
	return rc;
}

static void enter(struct vf_npy *npy, enum vf_npy_part part, size_t need)
{
	npy->part = part;
	npy->need = need;
}

static int begin_numbers(struct vf_npy *npy, struct vf_err *err)
{
	size_t row_bytes = (size_t)npy->dim * npy->item;
	uint64_t bytes;

	if (npy->rows == 0) {
		enter(npy, VF_NPY_DONE, 0);
		return 0;
	}
	npy->vector = malloc(npy->dim * sizeof *npy->vector);
	if (!npy->vector)
		return vf_oom(err);
	if (!npy->fortran) {
		enter(npy, VF_NPY_ROW, row_bytes);
		return 0;
	}
	/* The first row is known only when the last column is there. */
	if (__builtin_mul_overflow(npy->rows, row_bytes, &bytes) || bytes > VF_VALUE_BYTES_MAX)
		return vf_fail(err, EFBIG, ".npy: a matrix in Fortran order is taken up to %u bytes; numpy.ascontiguousarray(array) "
		               "makes C order, which has no limit", VF_VALUE_BYTES_MAX);
	enter(npy, VF_NPY_MATRIX, bytes);
	return 0;
}

/* ---- the parts, one after the other ---- */

static int take_magic(struct vf_npy *npy, struct vf_span part, struct vf_err *err)
{
	uint8_t major = part.data[6];

	if (memcmp(part.data, "\x93NUMPY", 6) != 0)
		return vf_fail(err, EINVAL, "begins like an .npy file, but is none");
	if (major < 1 || major > 3)
		return vf_fail(err, EINVAL, ".npy: version %u is unknown; 1, 2 and 3 are taken", major);
	npy->length_bytes = major == 1 ? 2 : 4;
	enter(npy, VF_NPY_LENGTH, npy->length_bytes);
	return 0;
}

static int take_length(struct vf_npy *npy, struct vf_span part, struct vf_err *err)
{
	uint32_t length = 0;

	for (size_t i = part.len; i > 0; i--)
		length = length << 8 | part.data[i - 1];
	if (length == 0 || length > HEADER_BYTES_MAX)
		return vf_fail(err, EINVAL, ".npy: a header of %u bytes; 1 to %u are taken", length, HEADER_BYTES_MAX);
	enter(npy, VF_NPY_HEADER, length);
	return 0;
}

static int take_row(struct vf_npy *npy, struct vf_span part, struct vf_err *err)
{
	int rc = give_row(npy, part.data, npy->item, err);

	if (rc == 0 && npy->row == npy->rows)
		enter(npy, VF_NPY_DONE, 0);
	return rc;
}

static int take_matrix(struct vf_npy *npy, struct vf_span part, struct vf_err *err)
{
	int rc = 0;

	while (rc == 0 && npy->row < npy->rows)
		rc = give_row(npy, part.data + npy->row * npy->item, npy->rows * npy->item, err);
	if (rc == 0)
		enter(npy, VF_NPY_DONE, 0);
	return rc;
}

static int take_part(struct vf_npy *npy, struct vf_span part, struct vf_err *err)
{
	int rc;

	switch (npy->part) {
	case VF_NPY_MAGIC:  return take_magic(npy, part, err);
	case VF_NPY_LENGTH: return take_length(npy, part, err);
	case VF_NPY_HEADER: return (rc = parse_header(npy, part, err)) ? rc : begin_numbers(npy, err);
	case VF_NPY_ROW:    return take_row(npy, part, err);
	case VF_NPY_MATRIX: return take_matrix(npy, part, err);
	case VF_NPY_DONE:   break;
	}
	return 0;
}

int vf_npy_feed(struct vf_npy *npy, struct vf_span bytes, size_t *taken, struct vf_err *err)
{
	size_t want = npy->need - npy->got.len;
	int rc;

	*taken = bytes.len < want ? bytes.len : want;
	if (npy->got.len == 0 && bytes.len >= want)
		return take_part(npy, vf_span(bytes.data, want), err);
	if ((rc = vf_buf_put(&npy->got, bytes.data, *taken, err)) || npy->got.len < npy->need)
		return rc;
	rc = take_part(npy, vf_buf_span(&npy->got), err);
	vf_buf_clear(&npy->got);
	return rc;
}

int vf_npy_incomplete(const struct vf_npy *npy, struct vf_err *err)
{
	if (npy->part != VF_NPY_ROW && npy->part != VF_NPY_MATRIX)
		return vf_fail(err, EINVAL, ".npy: ends inside its header");
	uint64_t whole = npy->part == VF_NPY_ROW ? npy->row : 0;
	return vf_fail(err, EINVAL, ".npy: a matrix of %llu rows of %u numbers ends after %llu rows and %zu bytes",
	               (unsigned long long)npy->rows, npy->dim, (unsigned long long)whole, npy->got.len);
}
