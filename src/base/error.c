/* SPDX-License-Identifier: MIT */
#include "vecfs/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int fill(struct vf_err *err, int code, enum vf_place unit, uint64_t place, const char *fmt, va_list ap)
{
	/* Formatted apart first: an argument may point into err->text. */
	char text[VF_ERR_TEXT_MAX];

	vsnprintf(text, sizeof text, fmt, ap);
	err->code = code;
	err->unit = unit;
	err->place = place;
	memcpy(err->text, text, sizeof text);
	return -code;
}

int vf_fail(struct vf_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int rc = fill(err, code, VF_PLACE_NONE, 0, fmt, ap);
	va_end(ap);
	return rc;
}

int vf_fail_at(struct vf_err *err, int code, enum vf_place unit, uint64_t place, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int rc = fill(err, code, unit, place, fmt, ap);
	va_end(ap);
	return rc;
}

int vf_wrap(struct vf_err *err, const char *fmt, ...)
{
	char head[VF_ERR_TEXT_MAX], whole[2 * VF_ERR_TEXT_MAX + 2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(head, sizeof head, fmt, ap);
	va_end(ap);
	snprintf(whole, sizeof whole, "%s: %s", head, err->text);
	memcpy(err->text, whole, sizeof err->text);
	err->text[sizeof err->text - 1] = '\0';
	return -err->code;
}

int vf_oom(struct vf_err *err)
{
	return vf_fail(err, ENOMEM, "out of memory");
}
