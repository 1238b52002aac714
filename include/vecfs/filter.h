/* SPDX-License-Identifier: MIT */
/* filter.h - the filter language: a map becomes a checked tree, a tree becomes a set of slots.
 *
 * A filter is a map whose entries are ANDed; `field: value` is $eq. Operators: $eq $ne $gt $gte $lt $lte $in $nin $exists
 * $startsWith $and $or $not. Types are strict: 5 is not "5", true is not 1; 5 equals 5.0, integers and floats compare exactly.
 * A list field matches an operator when one of its elements does; $ne and $nin when none equals.
 * A missing field matches nothing but $exists: false and what $not turns round.
 *
 * The index keeps, for every filterable field of every record, a posting: a sorted key (field, type, value) -> the slots that
 * have it. Terms are how filter.h names those keys; it never reads a table itself. */
#ifndef VECFS_FILTER_H
#define VECFS_FILTER_H

#include "vecfs/arena.h"
#include "vecfs/value.h"

struct vf_filter;
typedef struct roaring_bitmap_s vf_bitmap;     /* CRoaring's; whoever looks inside includes roaring.h */

/* Bounds of one filter beside VF_FILTER_NODES_MAX (limits.h): values of all $in and $nin together, and how deep $and, $or and $not
 * stand in one another (so that what is printed stays within VF_VALUE_DEPTH_MAX). */
#define VF_FILTER_ITEMS_MAX (1u << 18)
#define VF_FILTER_DEPTH_MAX 14u

/* Which fields are stored but not indexed. A NULL rule: every field is filterable. */
struct vf_field_rule {
	bool (*filterable)(const void *ctx, struct vf_span field);
	const void *ctx;
};

/* EINVAL with where: "filter.$and[1].year: $gt wants a number or a string, not a boolean". The tree lives in the arena
 * and points into `value`, which must live as long. */
int vf_filter_parse(const struct vf_value *value, const struct vf_field_rule *rule, struct vf_arena *arena,
                    struct vf_filter **out, struct vf_err *err);
/* EINVAL when the tree asks about a field that `rule` does not let be filtered by: the rule may be another one than it was parsed under. NULL: no filter. */
int vf_filter_check_fields(const struct vf_filter *filter, const struct vf_field_rule *rule, struct vf_err *err);
/* The same tree, all of it in the arena. */
int vf_filter_copy(const struct vf_filter *filter, struct vf_arena *arena, struct vf_filter **out, struct vf_err *err);
/* As JSON text that parses back to the same tree (after folding). */
int vf_filter_print(const struct vf_filter *filter, struct vf_buf *out, struct vf_err *err);
/* The verdict on one record's metadata (a VF_MAP): the oracle, and the way of a scan. */
bool vf_filter_matches(const struct vf_filter *filter, const struct vf_value *metadata);

/* ---- terms: the sorted keys of postings ---- */
#define VF_TERM_BYTES_MAX 480       /* longer values are cut and end in a hash */

/* Calls emit for every term of the metadata, each once: presence of each field, each value (of a list: each distinct element), that
 * a list has several, and the one term that every record has. Non-filterable fields have no terms. No term is the beginning of
 * another, so a key may go on behind its term (with a chunk number) and still sort as its term does. */
int vf_terms_of(const struct vf_value *metadata, const struct vf_field_rule *rule,
                int (*emit)(void *ctx, struct vf_span term, struct vf_err *err), void *ctx, struct vf_err *err);

/* Where postings come from. */
struct vf_posting_source {
	/* The union of the postings of the terms in [from, to) is added to `out`. to.len 0: no end. from may lie behind to: nothing. */
	int (*range)(void *ctx, struct vf_span from, struct vf_span to, vf_bitmap *out, struct vf_err *err);
	/* The metadata of a slot, decoded into the arena, for the few values that were cut: 0, 1 (no such slot). */
	int (*metadata)(void *ctx, uint32_t slot, struct vf_arena *arena, struct vf_value *out, struct vf_err *err);
	/* Every term in [from, to) with its posting, in order; stops when emit returns non-zero. The bitmap is lent for the call. */
	int (*each)(void *ctx, struct vf_span from, struct vf_span to,
	            int (*emit)(void *ectx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err), void *ectx,
	            struct vf_err *err);
	void *ctx;
};

/* The slots that match, exactly. *out is owned by the caller (roaring_bitmap_free, or vf_bitmap_free). A NULL filter: all slots. */
int vf_filter_eval(const struct vf_filter *filter, const struct vf_posting_source *source, vf_bitmap **out, struct vf_err *err);
void vf_bitmap_free(vf_bitmap **bitmap);
uint64_t vf_bitmap_count(const vf_bitmap *bitmap);
/* As 64-bit words (calloc'ed, owned by the caller), at least to the highest slot. */
int vf_bitmap_words(const vf_bitmap *bitmap, uint64_t **words, size_t *nwords, struct vf_err *err);

/* Counts of the values of `field` over the slots of `match`, most frequent first, ties by value; at most `most` of them. */
struct vf_facet_value { struct vf_value value; uint64_t count; };
int vf_facet(struct vf_span field, const vf_bitmap *match, uint32_t most, const struct vf_posting_source *source,
             struct vf_arena *arena, struct vf_facet_value **out, size_t *n, struct vf_err *err);

#endif
