/* SPDX-License-Identifier: MIT */
/* tally.c - the values of a field counted by looking into the records, for when these are few and the field's values are many. */
#include "filter_internal.h"

#include <errno.h>
#include <roaring/roaring.h>
#include <stdlib.h>

struct mention { const uint8_t *bytes; uint32_t len, slot; };

struct tally {
	size_t field_len;                  /* what the field takes of a term */
	uint32_t slot;
	struct mention *mentions;
	size_t count, cap;
	struct vf_arena terms;
};

static int note(void *ctx, struct vf_span term, struct vf_err *err)
{
	struct tally *t = ctx;

	/* The term that every record has, presence, and several are no values. */
	if (term.len <= t->field_len || term.data[t->field_len] < VF_TERM_BOOLEAN || term.data[t->field_len] > VF_TERM_STRING)
		return 0;
	if (t->count == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 256;
		struct mention *mentions = realloc(t->mentions, cap * sizeof *mentions);
		if (!mentions)
			return vf_oom(err);
		t->mentions = mentions;
		t->cap = cap;
	}
	struct vf_span copy = vf_arena_copy(&t->terms, term);
	if (!copy.data)
		return vf_oom(err);
	t->mentions[t->count++] = (struct mention){ copy.data, (uint32_t)copy.len, t->slot };
	return 0;
}

static int note_record(struct tally *t, struct vf_span field, const struct vf_value *metadata, struct vf_err *err)
{
	for (uint32_t i = 0; i < metadata->count; i++) {
		struct vf_value one = { .kind = VF_MAP, .count = 1, .entries = &metadata->entries[i] };
		if (vf_span_equal(metadata->entries[i].name, field))
			return vf_terms_of(&one, NULL, note, t, err);
	}
	return 0;
}

static int note_all(struct tally *t, struct vf_span field, const vf_bitmap *match, const struct vf_posting_source *source,
                    struct vf_err *err)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_value metadata;
	roaring_uint32_iterator_t at;
	int rc = 0;

	for (roaring_init_iterator(match, &at); at.has_value && !rc; roaring_advance_uint32_iterator(&at)) {
		vf_arena_reset(&arena);
		t->slot = at.current_value;
		if ((rc = source->metadata(source->ctx, t->slot, &arena, &metadata, err)) == 0)
			rc = note_record(t, field, &metadata, err);
		else if (rc == 1)
			rc = vf_fail(err, EIO, "postings name slot %u, which no record has", t->slot);
	}
	vf_arena_free(&arena);
	return rc;
}

static int by_term(const void *a, const void *b)
{
	const struct mention *x = a, *y = b;

	return vf_span_compare(vf_span(x->bytes, x->len), vf_span(y->bytes, y->len));
}

static int offer_all(const struct tally *t, int (*offer)(void *ctx, struct vf_span term, uint64_t count, uint32_t slot, struct vf_err *err),
                     void *ctx, struct vf_err *err)
{
	size_t end;
	int rc = 0;

	for (size_t i = 0; i < t->count && !rc; i = end) {
		const struct mention *m = &t->mentions[i];
		for (end = i + 1; end < t->count && by_term(m, &t->mentions[end]) == 0;)
			end++;
		rc = offer(ctx, vf_span(m->bytes, m->len), end - i, m->slot, err);
	}
	return rc;
}

int vf_tally(struct vf_span field, const vf_bitmap *match, const struct vf_posting_source *source,
             int (*offer)(void *ctx, struct vf_span term, uint64_t count, uint32_t slot, struct vf_err *err), void *ctx, struct vf_err *err)
{
	struct tally tally = { .terms = VF_ARENA_INIT };
	struct vf_term head;

	vf_term_of_type(field, VF_TERM_PRESENCE, &head);
	tally.field_len = head.len - 1;
	int rc = note_all(&tally, field, match, source, err);
	if (!rc && tally.count) {
		qsort(tally.mentions, tally.count, sizeof *tally.mentions, by_term);
		rc = offer_all(&tally, offer, ctx, err);
	}
	free(tally.mentions);
	vf_arena_free(&tally.terms);
	return rc;
}
