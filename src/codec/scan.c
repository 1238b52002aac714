/* SPDX-License-Identifier: MIT */
/* Where one value ends. Knows only as much of both formats as that needs: heads and lengths of msgpack, strings and brackets
 * of JSON. What lies between is checked by whoever decodes it. */
#include <errno.h>

#include "codec_internal.h"

/* ---- msgpack ---- */

enum head_kind { BODY, LIST, MAP, BROKEN };

/* What follows a first byte from 0xc0 on: so many bytes of length, big-endian, and then `length + more` bytes or items. */
struct head {
	uint8_t kind, length_bytes, more;
};

static const struct head heads[32] = {
	[0x00] = { BODY, 0, 0 },                                                    /* nil */
	[0x01] = { BROKEN, 0, 0 },                                                  /* never used */
	[0x02] = { BODY, 0, 0 }, [0x03] = { BODY, 0, 0 },                           /* false, true */
	[0x04] = { BODY, 1, 0 }, [0x05] = { BODY, 2, 0 }, [0x06] = { BODY, 4, 0 },  /* bin */
	[0x07] = { BODY, 1, 1 }, [0x08] = { BODY, 2, 1 }, [0x09] = { BODY, 4, 1 },  /* ext: the type is one byte more */
	[0x0a] = { BODY, 0, 4 }, [0x0b] = { BODY, 0, 8 },                           /* float32, float64 */
	[0x0c] = { BODY, 0, 1 }, [0x0d] = { BODY, 0, 2 }, [0x0e] = { BODY, 0, 4 }, [0x0f] = { BODY, 0, 8 },  /* unsigned */
	[0x10] = { BODY, 0, 1 }, [0x11] = { BODY, 0, 2 }, [0x12] = { BODY, 0, 4 }, [0x13] = { BODY, 0, 8 },  /* signed */
	[0x14] = { BODY, 0, 2 }, [0x15] = { BODY, 0, 3 }, [0x16] = { BODY, 0, 5 }, [0x17] = { BODY, 0, 9 },  /* fixext */
	[0x18] = { BODY, 0, 17 },
	[0x19] = { BODY, 1, 0 }, [0x1a] = { BODY, 2, 0 }, [0x1b] = { BODY, 4, 0 },  /* str */
	[0x1c] = { LIST, 2, 0 }, [0x1d] = { LIST, 4, 0 },
	[0x1e] = { MAP, 2, 0 }, [0x1f] = { MAP, 4, 0 },
};

static struct head head_of(uint8_t first)
{
	if (first <= 0x7f || first >= 0xe0)
		return (struct head){ BODY, 0, 0 };
	if (first <= 0x8f)
		return (struct head){ MAP, 0, first & 0x0f };
	if (first <= 0x9f)
		return (struct head){ LIST, 0, first & 0x0f };
	if (first <= 0xbf)
		return (struct head){ BODY, 0, first & 0x1f };
	return heads[first - 0xc0];
}

static int fail_deep(uint64_t at, struct vf_err *err)
{
	return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, at, "lists and maps are nested more than %u deep", VF_VALUE_DEPTH_MAX);
}

/* One item is complete: with it, perhaps, the containers that it was the last of. */
static enum vf_scan_result finish_item(struct vf_scanner *s)
{
	while (s->depth > 0) {
		if (--s->left[s->depth - 1] > 0)
			return VF_SCAN_MORE;
		s->depth--;
	}
	return VF_SCAN_DONE;
}

/* The whole head is there. */
static int finish_head(struct vf_scanner *s, struct head h, struct vf_err *err)
{
	uint64_t n = 0;

	for (unsigned i = 1; i <= h.length_bytes; i++)
		n = n << 8 | s->head[i];
	n += h.more;
	s->head_len = 0;
	if (h.kind == BODY) {
		s->skip = n;
		return n ? VF_SCAN_MORE : finish_item(s);
	}
	if (s->depth == VF_VALUE_DEPTH_MAX)
		return fail_deep(s->used, err);
	if (n == 0)
		return finish_item(s);
	s->left[s->depth++] = h.kind == MAP ? 2 * n : n;
	return VF_SCAN_MORE;
}

/* A vector is a long run of floats of one width, each a first byte and four or eight more: jump over all of them but the last of the list. */
static size_t skip_floats(struct vf_scanner *s, const uint8_t *p, size_t len)
{
	const uint8_t first = p[0];
	const size_t size = first == 0xca ? 5 : 9;
	uint64_t most = s->depth && (first == 0xca || first == 0xcb) ? s->left[s->depth - 1] - 1 : 0, n = 0;

	if (most > len / size)
		most = len / size;
	while (n < most && p[size * n] == first)
		n++;
	if (n)
		s->left[s->depth - 1] -= n;
	return size * n;
}

static int feed_body(struct vf_scanner *s, size_t len, size_t *step)
{
	*step = s->skip < len ? (size_t)s->skip : len;
	s->skip -= *step;
	return s->skip ? VF_SCAN_MORE : finish_item(s);
}

static int feed_head(struct vf_scanner *s, const uint8_t *p, size_t len, size_t *step, struct vf_err *err)
{
	*step = s->head_len ? 0 : skip_floats(s, p, len);
	if (*step)
		return VF_SCAN_MORE;
	s->started = true;
	s->head[s->head_len++] = p[0];
	struct head h = head_of(s->head[0]);
	if (h.kind == BROKEN)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, s->used, "byte 0x%02x begins no msgpack value", p[0]);
	int rc = s->head_len > h.length_bytes ? finish_head(s, h, err) : VF_SCAN_MORE;
	*step = 1;
	return rc;
}

static int feed_msgpack(struct vf_scanner *s, struct vf_span bytes, size_t *taken, struct vf_err *err)
{
	int rc = VF_SCAN_MORE;

	for (*taken = 0; *taken < bytes.len && rc == VF_SCAN_MORE;) {
		const uint8_t *p = bytes.data + *taken;
		size_t step = 0, len = bytes.len - *taken;
		rc = s->skip ? feed_body(s, len, &step) : feed_head(s, p, len, &step, err);
		*taken += step;
		s->used += step;
	}
	return rc;
}

/* ---- JSON ---- */

enum json_class { BAD, SPACE, SEPARATOR, SCALAR, QUOTE, OPEN, CLOSE };

static const uint8_t json_class[256] = {
	[' '] = SPACE, ['\t'] = SPACE, ['\n'] = SPACE, ['\r'] = SPACE,
	[','] = SEPARATOR, [':'] = SEPARATOR,
	['-'] = SCALAR, ['+'] = SCALAR, ['.'] = SCALAR, ['0' ... '9'] = SCALAR, ['a' ... 'z'] = SCALAR, ['A' ... 'Z'] = SCALAR,
	['"'] = QUOTE, ['{'] = OPEN, ['['] = OPEN, ['}'] = CLOSE, [']'] = CLOSE,
};

/* In a string; p[0] is a byte of it. */
static int feed_string(struct vf_scanner *s, const uint8_t *p, size_t len, size_t *step, struct vf_err *err)
{
	size_t i = 0;

	if (s->escaped) {
		s->escaped = false;
		i = 1;
	}
	while (i < len && p[i] != '"' && p[i] != '\\' && p[i] >= 0x20)
		i++;
	*step = i;
	if (i == len)
		return VF_SCAN_MORE;
	if (p[i] < 0x20)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, s->used + i, "control byte 0x%02x in a JSON string", p[i]);
	*step = i + 1;
	if (p[i] == '\\') {
		s->escaped = true;
		return VF_SCAN_MORE;
	}
	s->in_string = false;
	return s->depth == 0 ? VF_SCAN_DONE : VF_SCAN_MORE;
}

static int open_json(struct vf_scanner *s, uint8_t c, struct vf_err *err)
{
	if (s->depth == VF_VALUE_DEPTH_MAX)
		return fail_deep(s->used, err);
	s->left[s->depth++] = c;
	s->map_begins = c == '{';
	return VF_SCAN_MORE;
}

static int close_json(struct vf_scanner *s, uint8_t c, struct vf_err *err)
{
	uint8_t closes = c == '}' ? '{' : '[';

	if (s->depth == 0 || s->left[s->depth - 1] != closes)
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, s->used, "'%c' closes no '%c'", c, closes);
	s->depth--;
	return s->depth == 0 ? VF_SCAN_DONE : VF_SCAN_MORE;
}

/* Outside of strings; p[0] is neither white space nor, inside of a list or a map, a separator or a scalar, but where a map begins. */
static int feed_token(struct vf_scanner *s, uint8_t c, struct vf_err *err)
{
	s->started = true;
	/* A shell takes the quotes away: who does not look at close(2) has to hear of it from the write. */
	if (s->map_begins && c != '"' && c != '}')
		return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, s->used, "a map begins with a name in double quotes, not with byte 0x%02x", c);
	s->map_begins = false;
	switch ((enum json_class)json_class[c]) {
	case QUOTE:
		s->in_string = true;
		return VF_SCAN_MORE;
	case OPEN:
		return open_json(s, c, err);
	case CLOSE:
		return close_json(s, c, err);
	case SCALAR:
		s->in_scalar = true;
		return VF_SCAN_MORE;
	case SPACE:
		return VF_SCAN_MORE;
	case SEPARATOR:
	case BAD:
		break;
	}
	return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, s->used, "byte 0x%02x stands where JSON has no place for it", c);
}

/* A scalar that is no part of a list or a map ends before the byte that cannot belong to it. */
static int feed_top_scalar(struct vf_scanner *s, const uint8_t *p, size_t len, size_t *step)
{
	size_t i = 0;

	while (i < len && json_class[p[i]] == SCALAR)
		i++;
	*step = i;
	if (i == len)
		return VF_SCAN_MORE;
	s->in_scalar = false;
	return VF_SCAN_DONE;
}

typedef uint8_t text16 __attribute__((vector_size(16)));

/* Most of a vector is digits, signs, points and commas, with blanks and exponents here and there: sixteen of these at a time. */
static size_t skip_numbers(const uint8_t *p, size_t len)
{
	size_t i = 0;

	for (; len - i >= sizeof(text16); i += sizeof(text16)) {
		text16 c;
		uint64_t half[2];
		memcpy(&c, p + i, sizeof c);
		text16 known = ((text16)(c - '+' <= '9' - '+') & (text16)(c != '/')) | (text16)(c == ' ') | (text16)(c == 'e');
		memcpy(half, &known, sizeof half);
		if ((half[0] & half[1]) != UINT64_MAX)
			break;
	}
	return i;
}

static int feed_between(struct vf_scanner *s, const uint8_t *p, size_t len, size_t *step, struct vf_err *err)
{
	uint8_t last = s->depth && !s->map_begins ? SCALAR : SPACE;    /* classes up to this one need no look here */
	size_t i = last == SCALAR ? skip_numbers(p, len) : 0;

	while (i < len && json_class[p[i]] != BAD && json_class[p[i]] <= last)
		i++;
	*step = i;
	if (i == 0) {
		*step = 1;
		return feed_token(s, p[0], err);
	}
	return VF_SCAN_MORE;
}

static int feed_json(struct vf_scanner *s, struct vf_span bytes, size_t *taken, struct vf_err *err)
{
	int rc = VF_SCAN_MORE;

	for (*taken = 0; *taken < bytes.len && rc == VF_SCAN_MORE;) {
		const uint8_t *p = bytes.data + *taken;
		size_t step = 0, len = bytes.len - *taken;
		if (s->in_string)
			rc = feed_string(s, p, len, &step, err);
		else if (s->in_scalar)
			rc = feed_top_scalar(s, p, len, &step);
		else
			rc = feed_between(s, p, len, &step, err);
		*taken += step;
		s->used += step;
	}
	return rc;
}

/* ---- both ---- */

void vf_scanner_init(struct vf_scanner *scanner, enum vf_format format)
{
	/* left[] is written before it is read. */
	scanner->format = format;
	scanner->used = scanner->skip = 0;
	scanner->depth = 0;
	scanner->head_len = 0;
	scanner->started = scanner->map_begins = scanner->in_string = scanner->escaped = scanner->in_scalar = false;
}

int vf_scanner_feed(struct vf_scanner *scanner, struct vf_span bytes, size_t *taken, struct vf_err *err)
{
	return scanner->format == VF_JSON ? feed_json(scanner, bytes, taken, err) : feed_msgpack(scanner, bytes, taken, err);
}
