/* SPDX-License-Identifier: MIT */
/* error.h - how every function of vecfs says that it failed.
 *
 * The law: a function that can fail returns 0 on success or a negative errno, takes a
 * `struct vf_err *` (never NULL) as its last argument, leaves it untouched on success and fills it on
 * failure. The text is a sentence with the values in it, written for the user of the mount. */
#ifndef VECFS_ERROR_H
#define VECFS_ERROR_H

#include <stdint.h>

#define VF_ERR_TEXT_MAX 480

/* What `place` counts. */
enum vf_place { VF_PLACE_NONE, VF_PLACE_BYTE, VF_PLACE_LINE };

struct vf_err {
	int code;              /* a positive errno, 0 when nothing has failed */
	enum vf_place unit;    /* of `place` */
	uint64_t place;        /* byte offset from 0, or line from 1, in the input */
	char text[VF_ERR_TEXT_MAX];
};

#define VF_ERR_INIT { 0, VF_PLACE_NONE, 0, { 0 } }

/* Fill `err` and return -code. */
int vf_fail(struct vf_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, with the place in the input. */
int vf_fail_at(struct vf_err *err, int code, enum vf_place unit, uint64_t place, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Put "fmt: " before the text of a failure on its way up; returns -err->code. */
int vf_wrap(struct vf_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Out of memory is an error like others: returns -ENOMEM. */
int vf_oom(struct vf_err *err);

#endif
