/* SPDX-License-Identifier: MIT */
/* span.h - bytes lent (span) and bytes owned (buf). A span never owns, a buf always does. */
#ifndef VECFS_SPAN_H
#define VECFS_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vecfs/error.h"

struct vf_span {
	const uint8_t *data;
	size_t len;
};

static inline struct vf_span vf_span(const void *data, size_t len)
{
	return (struct vf_span){ data, len };
}

static inline struct vf_span vf_span_str(const char *s)
{
	return (struct vf_span){ (const uint8_t *)s, strlen(s) };
}

bool vf_span_equal(struct vf_span a, struct vf_span b);
bool vf_span_is(struct vf_span a, const char *s);
/* By bytes, the shorter first: the order of keys everywhere. <0, 0, >0. */
int vf_span_compare(struct vf_span a, struct vf_span b);
bool vf_span_has_prefix(struct vf_span a, struct vf_span prefix);

/* For "%.*s": the length as int, cut to 200 so that messages stay short. */
#define VF_SPAN_ARG(s) (int)((s).len < 200 ? (s).len : 200), (const char *)(s).data

struct vf_buf {
	uint8_t *data;
	size_t len, cap;
};

#define VF_BUF_INIT { NULL, 0, 0 }

void vf_buf_free(struct vf_buf *buf);   /* and leaves it empty and usable */
static inline void vf_buf_clear(struct vf_buf *buf) { buf->len = 0; }
static inline struct vf_span vf_buf_span(const struct vf_buf *buf) { return vf_span(buf->data, buf->len); }

/* Room for `more` bytes behind len. Errors: ENOMEM, the buffer unchanged. */
int vf_buf_reserve(struct vf_buf *buf, size_t more, struct vf_err *err);
int vf_buf_put(struct vf_buf *buf, const void *data, size_t len, struct vf_err *err);
int vf_buf_put_str(struct vf_buf *buf, const char *s, struct vf_err *err);
int vf_buf_printf(struct vf_buf *buf, struct vf_err *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
