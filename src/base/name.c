/* SPDX-License-Identifier: MIT */
#include "vecfs/name.h"

#include <errno.h>

#include "vecfs/limits.h"

/* Bytes of the sequence that begins at s, 0 when it is not valid UTF-8 (RFC 3629: no surrogates, shortest form). */
size_t vf_utf8_char(const uint8_t *s, size_t len)
{
	uint8_t c = s[0], low = 0x80, high = 0xbf;
	size_t need;

	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		need = 2;
	else if (c >= 0xe0 && c <= 0xef)
		need = 3;
	else if (c >= 0xf0 && c <= 0xf4)
		need = 4;
	else
		return 0;
	if (len < need)
		return 0;
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < need; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return need;
}

bool vf_utf8_valid(struct vf_span s)
{
	for (size_t i = 0; i < s.len;) {
		size_t n = vf_utf8_char(s.data + i, s.len - i);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

int vf_key_check(struct vf_span key, struct vf_err *err)
{
	if (key.len == 0)
		return vf_fail(err, EINVAL, "a key has 1 to %u bytes, this one is empty", VF_KEY_BYTES_MAX);
	if (key.len > VF_KEY_BYTES_MAX)
		return vf_fail(err, EINVAL, "a key has 1 to %u bytes, this one has %zu", VF_KEY_BYTES_MAX, key.len);
	if (memchr(key.data, 0, key.len))
		return vf_fail(err, EINVAL, "a key cannot hold a NUL byte");
	if (!vf_utf8_valid(key))
		return vf_fail(err, EINVAL, "key is not valid UTF-8");
	return 0;
}

static bool needs_escape(uint8_t c, bool first)
{
	return c == '/' || c == '%' || c < 0x20 || c == 0x7f || (first && c == '.');
}

int vf_key_escape(struct vf_span key, struct vf_buf *out, struct vf_err *err)
{
	static const char hex[] = "0123456789ABCDEF";
	int rc = vf_buf_reserve(out, 3 * key.len, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < key.len; i++) {
		uint8_t c = key.data[i];
		if (needs_escape(c, i == 0)) {
			out->data[out->len++] = '%';
			out->data[out->len++] = (uint8_t)hex[c >> 4];
			out->data[out->len++] = (uint8_t)hex[c & 15];
		} else {
			out->data[out->len++] = c;
		}
	}
	return 0;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int vf_key_unescape(struct vf_span name, struct vf_buf *out, struct vf_err *err)
{
	size_t start = out->len;
	int rc = vf_buf_reserve(out, name.len + 1, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = name.data[i];
		if (c == '%') {
			int high = i + 1 < name.len ? hex_digit(name.data[i + 1]) : -1;
			int low = i + 2 < name.len ? hex_digit(name.data[i + 2]) : -1;
			if (high < 0 || low < 0) {
				out->len = start;
				return vf_fail_at(err, EINVAL, VF_PLACE_BYTE, i, "'%%' in a file name is followed by two hex digits "
				                  "(a key's own %% is written %%25)");
			}
			c = (uint8_t)(high << 4 | low);
			i += 2;
		}
		out->data[out->len++] = c;
	}
	rc = vf_key_check(vf_span(out->data + start, out->len - start), err);
	if (rc)
		out->len = start;
	return rc;
}

int vf_dir_name_check(const char *name, struct vf_err *err)
{
	size_t len = strlen(name);

	if (len == 0 || name[0] == '.')
		return vf_fail(err, EINVAL, "the name of a bucket or an index is not empty and does not begin with a dot: '%s'", name);
	if (len > VF_FILE_NAME_BYTES_MAX)
		return vf_fail(err, ENAMETOOLONG, "a name has at most %u bytes, this one has %zu", VF_FILE_NAME_BYTES_MAX, len);
	if (strchr(name, '/'))
		return vf_fail(err, EINVAL, "the name of a bucket or an index holds no '/': '%s'", name);
	return 0;
}

static bool ends_in(const char *name, size_t len, const char *end)
{
	size_t n = strlen(end);

	return len >= n && memcmp(name + len - n, end, n) == 0;
}

/* What mkstemp(3) fills in behind a name: sedXXXXXX of sed -i, XXXXXXXX of perl -i, configXXXXXX of busybox. */
static bool is_made_up(const char *name, size_t len)
{
	if (len < 6)
		return false;
	size_t stem = len - 6;
	bool known = (stem == 3 && memcmp(name, "sed", 3) == 0) || (stem == 2 && memcmp(name, "XX", 2) == 0) ||
	             (stem == 6 && memcmp(name, "config", 6) == 0) || ends_in(name, stem, ".json") || ends_in(name, stem, ".msgpack");
	if (!known)
		return false;
	for (size_t i = stem; i < len; i++) {
		char c = name[i];
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
			return false;
	}
	return true;
}

bool vf_name_is_scratch(const char *name)
{
	size_t len = strlen(name);

	return name[0] == '.' || ends_in(name, len, "~") || ends_in(name, len, ".tmp") || ends_in(name, len, ".part") ||
	       ends_in(name, len, ".swp") || is_made_up(name, len) || strcmp(name, "4913") == 0;
}
