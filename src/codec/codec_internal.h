/* SPDX-License-Identifier: MIT */
/* codec_internal.h - what the files of the codec share among themselves. */
#ifndef VECFS_CODEC_INTERNAL_H
#define VECFS_CODEC_INTERNAL_H

#include "vecfs/format.h"

int vf_msgpack_decode(struct vf_span bytes, struct vf_arena *arena, struct vf_value *out, struct vf_err *err);
int vf_json_decode(struct vf_span bytes, struct vf_arena *arena, struct vf_value *out, struct vf_err *err);

/* The shortest text that reads back as the same number, always with '.' or 'e'. Finite numbers only.
 * Returns the length; no NUL behind it. */
#define VF_NUMBER_TEXT_MAX 32
size_t vf_text_of_double(double d, char out[VF_NUMBER_TEXT_MAX]);
size_t vf_text_of_float(float f, char out[VF_NUMBER_TEXT_MAX]);

#endif
