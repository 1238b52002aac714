/* SPDX-License-Identifier: MIT */
/* select.c - questions without a vector: records in key order, or the records of given keys. */
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

#include "ask_internal.h"

struct selecting {
	struct vf_ask *ask;
	struct vf_ranking rows;
	size_t cap;
	uint64_t want;
};

static int push(struct selecting *s, uint64_t serial, struct vf_err *err)
{
	if (s->rows.n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 64;
		struct vf_ranked *more = realloc(s->rows.rows, cap * sizeof *more);
		if (!more)
			return vf_oom(err);
		s->rows.rows = more;
		s->cap = cap;
	}
	s->rows.rows[s->rows.n++] = (struct vf_ranked){ .serial = serial, .slot = VF_SLOT_NONE };
	return 0;
}

static int record_of(struct vf_ask *ask, uint64_t serial, struct vf_record_row *out, struct vf_err *err)
{
	int rc = vf_row_of_serial(ask->txn, serial, out, err);

	return rc == 1 ? vf_fail(err, EIO, "the record with serial %llu is missing", (unsigned long long)serial) : rc;
}

/* Behind where the listing begins, and in its segment: keys are dealt out by their hash. */
static bool is_listed(const struct vf_question *q, struct vf_span key)
{
	return (q->start_after.len == 0 || vf_span_compare(key, q->start_after) > 0) &&
	       (q->segments == 0 || XXH3_64bits(key.data, key.len) % q->segments == q->segment);
}

static int passes(struct selecting *s, uint64_t serial, bool *yes, struct vf_err *err)
{
	const struct vf_slot_set *set = &s->ask->match.set;
	struct vf_record_row record;

	*yes = true;
	if (s->ask->match.all)
		return 0;
	int rc = record_of(s->ask, serial, &record, err);
	*yes = !rc && record.slot / 64 < set->nwords && (set->words[record.slot / 64] >> record.slot % 64 & 1);
	return rc;
}

/* ---- the keys in their order, those that match ---- */

static int walk(struct selecting *s, struct vf_err *err)
{
	const struct vf_question *q = s->ask->question;
	bool after_prefix = vf_span_compare(q->start_after, q->prefix) > 0;
	struct vf_key_walk *keys = NULL;
	struct vf_walked key;
	int rc = vf_key_walk_open(s->ask->txn, after_prefix ? q->start_after : q->prefix, &keys, err);

	while (!rc && s->rows.n < s->want && (rc = vf_key_walk_step(keys, &key, err)) == 0) {
		bool yes;
		if (!vf_span_has_prefix(key.key, q->prefix) && vf_span_compare(key.key, q->prefix) > 0)
			break;
		if (is_listed(q, key.key) && (rc = passes(s, key.serial, &yes, err)) == 0 && yes)
			rc = push(s, key.serial, err);
	}
	vf_key_walk_close(&keys);
	return rc < 0 ? rc : 0;
}

/* Without a filter a prefix is a stretch of the keys: no set is made, its keys are counted as they go by. */
static int walk_prefix(struct selecting *s, struct vf_err *err)
{
	const struct vf_question *q = s->ask->question;
	struct vf_key_walk *keys = NULL;
	struct vf_walked key;
	int rc = vf_key_walk_open(s->ask->txn, q->prefix, &keys, err);

	while (!rc && (rc = vf_key_walk_step(keys, &key, err)) == 0 && vf_span_has_prefix(key.key, q->prefix)) {
		s->ask->matched++;
		if (s->rows.n < s->want && is_listed(q, key.key))
			rc = push(s, key.serial, err);
	}
	vf_key_walk_close(&keys);
	return rc < 0 ? rc : 0;
}

/* ---- the matches, their keys sorted ---- */

static int keys_of(struct selecting *s, const uint64_t *serials, size_t n, struct vf_walked *keys, size_t *kept,
                   struct vf_err *err)
{
	*kept = 0;
	for (size_t i = 0; i < n; i++) {
		struct vf_record_row record;
		int rc = record_of(s->ask, serials[i], &record, err);
		if (rc)
			return rc;
		if (is_listed(s->ask->question, record.key))
			keys[(*kept)++] = (struct vf_walked){ record.key, serials[i] };
	}
	return 0;
}

static int sort(struct selecting *s, struct vf_err *err)
{
	uint64_t *serials = NULL;
	struct vf_walked *keys = NULL;
	size_t n = 0, kept = 0;
	int rc = vf_match_serials(&s->ask->match, s->ask->txn, &serials, &n, err);

	if (!rc && !(keys = malloc((n + 1) * sizeof *keys)))
		rc = vf_oom(err);
	if (!rc && (rc = keys_of(s, serials, n, keys, &kept, err)) == 0) {
		qsort(keys, kept, sizeof *keys, vf_walked_compare);
		for (size_t i = 0; i < kept && s->rows.n < s->want && !rc; i++)
			rc = push(s, keys[i].serial, err);
	}
	free(keys);
	free(serials);
	return rc;
}

/* A walk reads a record for each key that it passes until it has enough; sorting reads one for each match. */
static bool sorting_is_cheaper(const struct selecting *s, uint64_t records)
{
	double matched = (double)s->ask->matched;

	return !s->ask->match.all && matched * matched <= (double)s->want * (double)records;
}

static int select_in_order(struct selecting *s, struct vf_err *err)
{
	const struct vf_question *q = s->ask->question;
	int rc;

	bool stretch = q->prefix.len && !q->filter && !q->nfacets;
	/* One more tells whether the listing goes on. */
	s->want = s->ask->top_k + q->paged;
	if ((rc = stretch ? vf_ask_begin(s->ask, err) : vf_ask_snapshot(s->ask, err)) ||
	    (rc = vf_count(s->ask->txn, VF_T_KEYS, &s->ask->facts.records, err)))
		return rc;
	if (stretch)
		return walk_prefix(s, err);
	if (s->want > s->ask->matched)
		s->want = s->ask->matched;
	return sorting_is_cheaper(s, s->ask->facts.records) ? sort(s, err) : walk(s, err);
}

/* ---- given keys ---- */

static int select_keys(struct selecting *s, struct vf_err *err)
{
	const struct vf_question *q = s->ask->question;
	int rc = vf_ask_begin(s->ask, err);

	for (size_t i = 0; i < q->nkeys && rc >= 0; i++) {
		struct vf_key_row row;
		rc = vf_row_of_key(s->ask->txn, q->keys[i], &row, err);
		if (rc == 0)
			rc = push(s, row.serial, err);
	}
	s->ask->matched = s->rows.n;
	return rc < 0 ? rc : 0;
}

/* ---- the whole ---- */

/* The row too many goes; the key of the one before it is what the next page starts after. */
static int cut_page(struct selecting *s, struct vf_err *err)
{
	uint64_t page = s->ask->top_k;
	struct vf_record_row last;

	if (s->ask->question->nkeys || s->rows.n <= page)
		return 0;
	s->rows.n = page;
	if (page == 0)
		return 0;
	int rc = record_of(s->ask, s->rows.rows[page - 1].serial, &last, err);
	s->ask->next = last.key;
	return rc;
}

int vf_ask_select(struct vf_ask *ask, struct vf_spool *spool, struct vf_err *err)
{
	struct selecting s = { .ask = ask };
	struct vf_answer answer;
	int rc = ask->question->nkeys ? select_keys(&s, err) : select_in_order(&s, err);

	if (!rc)
		rc = cut_page(&s, err);
	if (!rc)
		rc = vf_reply(ask, &answer, spool, NULL, &s.rows, err);
	free(s.rows.rows);
	return rc;
}
