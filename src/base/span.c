/* SPDX-License-Identifier: MIT */
#include "vecfs/span.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

bool vf_span_equal(struct vf_span a, struct vf_span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool vf_span_is(struct vf_span a, const char *s)
{
	return vf_span_equal(a, vf_span_str(s));
}

int vf_span_compare(struct vf_span a, struct vf_span b)
{
	size_t common = a.len < b.len ? a.len : b.len;
	int order = common ? memcmp(a.data, b.data, common) : 0;

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

bool vf_span_has_prefix(struct vf_span a, struct vf_span prefix)
{
	return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.data, prefix.data, prefix.len) == 0);
}

void vf_buf_free(struct vf_buf *buf)
{
	free(buf->data);
	*buf = (struct vf_buf)VF_BUF_INIT;
}

int vf_buf_reserve(struct vf_buf *buf, size_t more, struct vf_err *err)
{
	if (buf->cap - buf->len >= more)
		return 0;
	if (more > SIZE_MAX / 2 - buf->len)
		return vf_oom(err);
	size_t cap = buf->len + more;
	if (cap < 2 * buf->cap)
		cap = 2 * buf->cap;
	if (cap < 64)
		cap = 64;
	uint8_t *data = realloc(buf->data, cap);
	if (!data)
		return vf_oom(err);
	buf->data = data;
	buf->cap = cap;
	return 0;
}

int vf_buf_put(struct vf_buf *buf, const void *data, size_t len, struct vf_err *err)
{
	int rc = vf_buf_reserve(buf, len, err);

	if (rc)
		return rc;
	if (len)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	return 0;
}

int vf_buf_put_str(struct vf_buf *buf, const char *s, struct vf_err *err)
{
	return vf_buf_put(buf, s, strlen(s), err);
}

int vf_buf_printf(struct vf_buf *buf, struct vf_err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int need = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	int rc = vf_buf_reserve(buf, (size_t)need + 1, err);
	if (rc)
		return rc;
	va_start(ap, fmt);
	vsnprintf((char *)buf->data + buf->len, (size_t)need + 1, fmt, ap);
	va_end(ap);
	buf->len += (size_t)need;
	return 0;
}
