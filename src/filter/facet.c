/* SPDX-License-Identifier: MIT */
/* facet.c - how often each value of a field stands in a set of records: the best few, in a heap no larger than asked.
 *
 * Counting goes through the field's terms; when they turn out to be many more than the records, through the records (tally.c). */
#include "filter_internal.h"

#include <errno.h>
#include <roaring/roaring.h>
#include <stdlib.h>

/* A value that may be among the best; its term is kept, and the value read out of it at the end. */
struct candidate {
	uint64_t count;
	uint32_t slot;                     /* one that has it, for values that were cut */
	struct vf_term term;
};

struct facet {
	struct vf_span field;
	const vf_bitmap *match;
	const struct vf_posting_source *source;
	struct candidate **heap;           /* the one to go first on top */
	uint32_t count, cap, most;
	struct candidate *spare;
	uint64_t terms_left;               /* to look at before the records are looked at instead */
	struct vf_arena arena;             /* of two values being compared */
	int rc;                            /* of a comparison that failed */
	struct vf_err *err;
};

static const struct vf_value *value_of(struct facet *f, const struct candidate *c, struct vf_value *out)
{
	int rc = vf_term_resolve(vf_term_span(&c->term), f->field, c->slot, f->source, &f->arena, out, f->err);

	if (rc)
		f->rc = rc;
	return rc ? NULL : out;
}

/* The order of terms is that of values, but for cut strings with one head. */
static int compare_values(struct facet *f, const struct candidate *a, const struct candidate *b)
{
	struct vf_term head;
	struct vf_value va, vb;
	int order = vf_span_compare(vf_term_span(&a->term), vf_term_span(&b->term));

	if (a->term.len != b->term.len)
		return order;
	vf_term_of_type(f->field, VF_TERM_STRING, &head);
	size_t same = head.len + VF_TERM_STRING_HEAD + 1;
	if (a->term.len <= same || memcmp(a->term.bytes, b->term.bytes, same) != 0)
		return order;
	vf_arena_reset(&f->arena);
	if (!value_of(f, a, &va) || !value_of(f, b, &vb))
		return order;
	return vf_span_compare(va.bytes, vb.bytes);
}

/* Whether a comes before b in the answer. */
static bool before(struct facet *f, const struct candidate *a, const struct candidate *b)
{
	return a->count != b->count ? a->count > b->count : compare_values(f, a, b) < 0;
}

static void sift_up(struct facet *f, uint32_t i)
{
	for (; i && before(f, f->heap[(i - 1) / 2], f->heap[i]); i = (i - 1) / 2) {
		struct candidate *parent = f->heap[(i - 1) / 2];
		f->heap[(i - 1) / 2] = f->heap[i];
		f->heap[i] = parent;
	}
}

static void sift_down(struct facet *f)
{
	for (uint32_t i = 0, child; (child = 2 * i + 1) < f->count; i = child) {
		if (child + 1 < f->count && before(f, f->heap[child], f->heap[child + 1]))
			child++;
		if (!before(f, f->heap[i], f->heap[child]))
			return;
		struct candidate *down = f->heap[i];
		f->heap[i] = f->heap[child];
		f->heap[child] = down;
	}
}

static int room_for_one(struct facet *f, struct vf_err *err)
{
	if (!f->spare && !(f->spare = malloc(sizeof *f->spare)))
		return vf_oom(err);
	if (f->count < f->cap)
		return 0;
	uint32_t cap = f->cap ? 2 * f->cap : 16;
	struct candidate **heap = realloc(f->heap, cap * sizeof *heap);
	if (!heap)
		return vf_oom(err);
	f->heap = heap;
	f->cap = cap;
	return 0;
}

static int offer(void *ctx, struct vf_span term, uint64_t count, uint32_t slot, struct vf_err *err)
{
	struct facet *f = ctx;
	int rc;

	if (f->count == f->most && count < f->heap[0]->count)
		return 0;
	if (term.len > VF_TERM_BYTES_MAX)
		return vf_fail(err, EIO, "a posting's key has %zu bytes, at most %u are possible", term.len, VF_TERM_BYTES_MAX);
	if ((rc = room_for_one(f, err)))
		return rc;
	f->spare->count = count;
	f->spare->slot = slot;
	f->spare->term.len = term.len;
	memcpy(f->spare->term.bytes, term.data, term.len);
	if (f->count < f->most) {
		f->heap[f->count++] = f->spare;
		f->spare = NULL;
		sift_up(f, f->count - 1);
	} else if (before(f, f->spare, f->heap[0])) {
		struct candidate *out = f->heap[0];
		f->heap[0] = f->spare;
		f->spare = out;
		sift_down(f);
	}
	return f->rc;
}

#define ENOUGH_TERMS 1

static int offer_posting(void *ctx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err)
{
	struct facet *f = ctx;
	uint64_t count = roaring_bitmap_and_cardinality(slots, f->match);

	if (f->terms_left-- == 0)
		return ENOUGH_TERMS;
	return count ? offer(f, term, count, roaring_bitmap_minimum(slots), err) : 0;
}

static int read_value(struct facet *f, const struct candidate *c, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	struct vf_term head;

	vf_term_of_type(f->field, VF_TERM_PRESENCE, &head);
	int rc = vf_term_value(vf_term_span(&c->term), head.len - 1, arena, out, err);
	return rc == 1 ? vf_term_resolve(vf_term_span(&c->term), f->field, c->slot, f->source, arena, out, err) : rc;
}

/* Takes the heap down, from the last of the answer to the first. */
static int take_down(struct facet *f, struct vf_arena *arena, struct vf_facet_value *values, struct vf_err *err)
{
	int rc = 0;

	while (f->count && !rc && !f->rc) {
		struct candidate *last = f->heap[0];
		f->heap[0] = f->heap[--f->count];
		sift_down(f);
		values[f->count].count = last->count;
		rc = read_value(f, last, arena, &values[f->count].value, err);
		free(last);
	}
	return rc ? rc : f->rc;
}

static void forget_all(struct facet *f)
{
	while (f->count)
		free(f->heap[--f->count]);
}

/* A look into a record costs as much as some eight terms. */
static int gather(struct facet *f, struct vf_err *err)
{
	struct vf_term from, to;

	f->terms_left = 64 + 8 * roaring_bitmap_get_cardinality(f->match);
	vf_term_of_type(f->field, VF_TERM_BOOLEAN, &from);
	vf_term_of_type(f->field, VF_TERM_STRING, &to);
	vf_term_step_over(&to);
	int rc = f->source->each(f->source->ctx, vf_term_span(&from), vf_term_span(&to), offer_posting, f, err);
	if (rc != ENOUGH_TERMS)
		return rc;
	forget_all(f);
	return vf_tally(f->field, f->match, f->source, offer, f, err);
}

int vf_facet(struct vf_span field, const vf_bitmap *match, uint32_t most, const struct vf_posting_source *source,
             struct vf_arena *arena, struct vf_facet_value **out, size_t *n, struct vf_err *err)
{
	struct facet f = { .field = field, .match = match, .source = source, .most = most, .arena = VF_ARENA_INIT, .err = err };
	int rc = most && !roaring_bitmap_is_empty(match) ? gather(&f, err) : 0;

	*out = NULL;
	*n = f.count;
	if (!rc && f.count && !(*out = vf_arena_alloc(arena, f.count * sizeof **out)))
		rc = vf_oom(err);
	if (!rc)
		rc = take_down(&f, arena, *out, err);
	forget_all(&f);
	free(f.heap);
	free(f.spare);
	vf_arena_free(&f.arena);
	return rc;
}
