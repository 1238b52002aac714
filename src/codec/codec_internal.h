/* SPDX-License-Identifier: MIT */
/* codec_internal.h - what the files of the codec share among themselves. */
#ifndef VECFS_CODEC_INTERNAL_H
#define VECFS_CODEC_INTERNAL_H

#include "vecfs/format.h"

int vf_msgpack_decode(struct vf_span bytes, struct vf_arena *arena, struct vf_value *out, struct vf_err *err);
int vf_json_decode(struct vf_span bytes, struct vf_arena *arena, struct vf_value *out, struct vf_err *err);

/* The shortest text that reads back as the same number (a float also by way of a double), always with '.' or 'e'. Finite numbers only.
 * Returns the length; no NUL behind it. */
#define VF_NUMBER_TEXT_MAX 32
size_t vf_text_of_double(double d, char out[VF_NUMBER_TEXT_MAX]);
size_t vf_text_of_float(float f, char out[VF_NUMBER_TEXT_MAX]);
/* A JSON number, VF_INT or VF_FLOAT. Returns what is behind it, which is before `end`; NULL: not one, or it does not fit. */
const char *vf_number_read(const char *text, const char *end, struct vf_value *out);

/* Lists that hold nothing but numbers, taken out of a JSON text. */
struct vf_number_lists {
	struct vf_buf text;       /* what remains: "[]" stands for each of them */
	struct vf_buf lists;      /* struct vf_number_list, in the order of the text; empty lists too */
	uint64_t numbers;         /* in all of them */
};
struct vf_number_list {
	uint64_t at;              /* behind its '[', in what remains */
	uint64_t removed;         /* bytes, with those of the lists before it */
	uint32_t count;
	struct vf_value *items;
};
/* `json` is one whole value as the scanner sees it. Free the lists in any case. */
int vf_number_lists_take(struct vf_number_lists *lists, struct vf_span json, struct vf_arena *arena, struct vf_err *err);
void vf_number_lists_free(struct vf_number_lists *lists);

#endif
