/* SPDX-License-Identifier: MIT */
/* filter_internal.h - the tree that a filter becomes, and what the files of src/filter/ share.
 *
 * Files: parse.c (map -> tree), compare.c (orders of values and of trees), fold.c (trees made simple and canonical), match.c (the
 * verdict on one record), print.c (tree -> JSON), copy.c, fields.c (fields against a rule), terms.c (values -> sorted keys), eval.c (tree -> slots), facet.c and tally.c
 * (counts), bitmap.c.
 *
 * A folded tree is canonical: values are normal (5.0 is 5), the values of $in are sorted and distinct, parts are sorted and
 * distinct, nothing in it is implied by something beside it. So two filters that differ only in writing are one tree. */
#ifndef VECFS_FILTER_INTERNAL_H
#define VECFS_FILTER_INTERNAL_H

#include "vecfs/filter.h"
#include "vecfs/limits.h"

enum vf_filter_op {
	VF_OP_NOTHING,                 /* what is contradictory folds to */
	VF_OP_EVERYTHING,
	/* leaves, about one field; in the order in which parts are sorted and printed */
	VF_OP_MISSING,                 /* $exists: false */
	VF_OP_EXISTS,
	VF_OP_IN,                      /* $eq is $in of one value */
	VF_OP_NOT_IN,                  /* $ne likewise; the field exists */
	VF_OP_GT, VF_OP_GTE, VF_OP_LT, VF_OP_LTE,
	VF_OP_STARTS_WITH,
	/* inner nodes */
	VF_OP_NOT, VF_OP_OR, VF_OP_AND
};

struct vf_filter {
	enum vf_filter_op op;
	uint32_t count;                /* of items or of parts */
	struct vf_span field;          /* leaves */
	union {
		struct vf_value *items;               /* leaves but MISSING and EXISTS */
		const struct vf_filter **parts;       /* inner nodes; NOT has one */
	};
};

static inline bool vf_filter_is_leaf(const struct vf_filter *f)
{
	return f->op >= VF_OP_MISSING && f->op <= VF_OP_STARTS_WITH;
}

/* ---- compare.c ---- */
/* Booleans before numbers before strings; numbers exactly, strings by bytes. Scalars only. */
int vf_scalar_compare(const struct vf_value *a, const struct vf_value *b);
static inline bool vf_is_number(const struct vf_value *v) { return v->kind == VF_INT || v->kind == VF_FLOAT; }
/* 5.0 becomes 5, -0.0 becomes 0: equal numbers, one form. */
struct vf_value vf_scalar_normal(const struct vf_value *v);
/* The order of parts: leaves by field, then $not, $or, $and; 0 only for equal trees. */
int vf_filter_compare(const struct vf_filter *a, const struct vf_filter *b);

/* ---- fold.c: NULL when out of memory ---- */
/* Takes over `items` (arena memory): normalizes, sorts and thins them. */
const struct vf_filter *vf_filter_leaf(struct vf_arena *arena, enum vf_filter_op op, struct vf_span field,
                                       struct vf_value *items, uint32_t count);
const struct vf_filter *vf_filter_inner(struct vf_arena *arena, enum vf_filter_op op, const struct vf_filter **parts, uint32_t count);
/* From the tree as it was written (leaves made by vf_filter_leaf) to the canonical one. */
const struct vf_filter *vf_filter_fold(struct vf_arena *arena, const struct vf_filter *raw);

/* ---- match.c ---- */
/* Whether one scalar meets a leaf; for NOT_IN, whether it is one of the items. */
bool vf_filter_meets(const struct vf_filter *leaf, const struct vf_value *scalar);

/* ---- terms.c: doc/FORMAT.md has them byte by byte ---- */
struct vf_term {
	size_t len;
	uint8_t bytes[VF_TERM_BYTES_MAX];
};
enum vf_term_type { VF_TERM_PRESENCE = 1, VF_TERM_BOOLEAN, VF_TERM_NUMBER, VF_TERM_STRING, VF_TERM_SEVERAL };
#define VF_TERM_STRING_HEAD 192u       /* longer strings are cut after this many bytes and end in a hash */

static inline struct vf_span vf_term_span(const struct vf_term *term) { return vf_span(term->bytes, term->len); }
void vf_term_of_every(struct vf_term *out);
/* What all terms of a field and type begin with; the term itself when the type is PRESENCE or SEVERAL. */
void vf_term_of_type(struct vf_span field, enum vf_term_type type, struct vf_term *out);
void vf_term_of_value(struct vf_span field, const struct vf_value *scalar, struct vf_term *out);
/* What all terms of strings with this prefix begin with; of a prefix longer than VF_TERM_STRING_HEAD, that of its head and a cut behind. */
void vf_term_of_prefix(struct vf_span field, struct vf_span prefix, struct vf_term *out);
static inline bool vf_string_is_cut(struct vf_span s) { return s.len > VF_TERM_STRING_HEAD; }
/* From a term to the end of all that begin with it. */
void vf_term_step_over(struct vf_term *term);
/* The value in a term, given what its field part takes: 0; 1 when it was cut; negative when it is no term. Strings are copied to the arena. */
int vf_term_value(struct vf_span term, size_t field_len, struct vf_arena *arena, struct vf_value *out, struct vf_err *err);
/* The string of a slot that a cut term stands for; EIO when the slot has none. */
int vf_term_resolve(struct vf_span term, struct vf_span field, uint32_t slot, const struct vf_posting_source *source,
                    struct vf_arena *arena, struct vf_value *out, struct vf_err *err);

/* ---- tally.c ---- */
/* Each term of a value of the field in these records, in order, with how many of them have it and one that does. */
int vf_tally(struct vf_span field, const vf_bitmap *match, const struct vf_posting_source *source,
             int (*offer)(void *ctx, struct vf_span term, uint64_t count, uint32_t slot, struct vf_err *err), void *ctx, struct vf_err *err);

/* ---- bitmap.c ---- */
int vf_bitmap_new(vf_bitmap **out, struct vf_err *err);

#endif
