/* SPDX-License-Identifier: MIT */
/* reply.c - an answer's rows, read from the snapshot one by one as they are encoded. */
#include <errno.h>

#include "ask_internal.h"
#include "places.h"

#define RECORDS_AHEAD 64u

/* Lends what it reads: the records of the rows of one answer. */
struct reader { struct vf_ask *ask; struct vf_places *places; float *vector; };

/* They lie anywhere in the file, so all are asked for before the first is read. */
static void expect_records(const struct reader *r, const struct vf_ranking *rows)
{
	for (size_t i = 0; r->places && i < rows->n && i < RECORDS_AHEAD; i++) {
		const char *record = vf_txn_at(r->ask->txn, vf_places_find(r->places, rows->rows[i].slot, rows->rows[i].serial).record);
		__builtin_prefetch(record);
		__builtin_prefetch(record + 64);
	}
}

static int read_record(const struct reader *r, const struct vf_ranked *ranked, struct vf_record_row *out, struct vf_err *err)
{
	struct vf_txn *txn = r->ask->txn;
	uint64_t place = r->places ? vf_places_find(r->places, ranked->slot, ranked->serial).record : 0;
	struct vf_span row;

	if (place)
		return vf_record_row_at(vf_txn_at(txn, place), out, err);
	int rc = vf_get_u64(txn, VF_T_RECORDS, ranked->serial, &row, err);
	if (rc == 1)
		return vf_fail(err, EIO, "vector %llu has no record", (unsigned long long)ranked->serial);
	if (rc || (rc = vf_record_row_decode(row, out, err)))
		return rc;
	if (r->places)
		vf_places_note(r->places, ranked->slot, ranked->serial, (struct vf_row_place){ .record = vf_txn_place(txn, row) });
	return 0;
}

static int put_row(const struct reader *r, struct vf_answer *answer, const struct vf_ranked *ranked, struct vf_err *err)
{
	struct vf_answer_row row = { .distance = ranked->distance, .dim = r->ask->config->dim };
	struct vf_record_row record;
	int rc = read_record(r, ranked, &record, err);

	if (rc)
		return rc;
	row.key = record.key;
	row.metadata = record.metadata;
	if (r->vector) {
		struct vf_span stored;
		if ((rc = vf_vector_checked(r->ask->txn, ranked->serial, &record, &stored, err)))
			return rc;
		if (stored.len != r->ask->config->dim * sizeof *r->vector)
			return vf_fail(err, EIO, "record %.*s has %u numbers, its index %u", VF_SPAN_ARG(record.key), record.dim, r->ask->config->dim);
		/* The store aligns to 2 only. */
		memcpy(r->vector, stored.data, stored.len);
		row.vector = r->vector;
		row.dim = record.dim;
	}
	return vf_answer_row(answer, &row, err);
}

static int put_rows(struct vf_ask *ask, struct vf_answer *answer, const struct vf_ranking *rows, struct vf_err *err)
{
	struct reader r = { .ask = ask };
	int rc = 0;

	if (ask->question->return_data && !(r.vector = vf_arena_alloc(&ask->arena, ask->config->dim * sizeof *r.vector)))
		return vf_oom(err);
	if (vf_places_hold(ask->index->places, vf_txn_snapshot(ask->txn), ask->slots))
		r.places = ask->index->places;
	expect_records(&r, rows);
	for (size_t i = 0; i < rows->n && !rc; i++)
		rc = put_row(&r, answer, &rows->rows[i], err);
	if (r.places)
		vf_places_release(r.places);
	return rc;
}

static int count_facets(struct vf_ask *ask, struct vf_answer_head *head, struct vf_err *err)
{
	const struct vf_question *q = ask->question;
	struct vf_answer_facet *facets = vf_arena_alloc(&ask->arena, q->nfacets * sizeof *facets);
	struct vf_postings_reader reader;
	vf_bitmap *slots;

	if (!facets)
		return vf_oom(err);
	int rc = vf_match_bitmap(&ask->match, ask->txn, &slots, err);
	vf_postings_reader_init(&reader, ask->txn);
	for (uint32_t i = 0; i < q->nfacets && !rc; i++) {
		facets[i].field = q->facets[i];
		rc = vf_facet(q->facets[i], slots, VF_FACET_VALUES_MAX, &reader.source, &ask->arena, &facets[i].values,
		              &facets[i].n, err);
	}
	head->facets = facets;
	head->nfacets = q->nfacets;
	return rc;
}

int vf_reply(struct vf_ask *ask, struct vf_answer *answer, struct vf_spool *spool, const struct vf_probe *probe,
             const struct vf_ranking *rows, struct vf_err *err)
{
	struct vf_answer_head head = { .has_metric = true, .metric = ask->config->metric, .matched = ask->matched, .next = ask->next };
	struct vf_value explained;
	int rc;

	head.exact = !probe || ask->plan.exact;
	if (ask->question->nfacets && (rc = count_facets(ask, &head, err)))
		return rc;
	if (ask->question->explain) {
		if ((rc = vf_explain(ask, probe, &explained, err)))
			return rc;
		head.explain = &explained;
	}
	if ((rc = vf_answer_begin(answer, ask->question, spool, &head, rows->n, err)) || (rc = put_rows(ask, answer, rows, err)))
		return rc;
	rc = vf_answer_end(answer, &head, err);
	/* What the answer was made of is in the spool. Facets of many answers are counted again for each, and so never pile
	 * up. */
	vf_arena_reset(&ask->arena);
	return rc;
}
