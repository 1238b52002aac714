/* SPDX-License-Identifier: MIT */
/* reply.c - an answer's rows, read from the snapshot one by one as they are encoded. */
#include <errno.h>

#include "ask_internal.h"

static int put_row(struct vf_ask *ask, struct vf_answer *answer, const struct vf_ranked *ranked, float *vector,
                   struct vf_err *err)
{
	struct vf_answer_row row = { .distance = ranked->distance, .dim = ask->config->dim };
	struct vf_record_row record;
	int rc = vf_row_of_serial(ask->txn, ranked->serial, &record, err);

	if (rc == 1)
		return vf_fail(err, EIO, "vector %llu has no record", (unsigned long long)ranked->serial);
	if (rc)
		return rc;
	row.key = record.key;
	row.metadata = record.metadata;
	if (ask->question->return_data) {
		struct vf_span stored;
		if ((rc = vf_vector_checked(ask->txn, ranked->serial, &record, &stored, err)))
			return rc;
		/* The store aligns to 2 only. */
		memcpy(vector, stored.data, stored.len);
		row.vector = vector;
		row.dim = record.dim;
	}
	return vf_answer_row(answer, &row, err);
}

static int put_rows(struct vf_ask *ask, struct vf_answer *answer, const struct vf_ranking *rows, struct vf_err *err)
{
	float *vector = NULL;

	if (ask->question->return_data && !(vector = vf_arena_alloc(&ask->arena, ask->config->dim * sizeof *vector)))
		return vf_oom(err);
	for (size_t i = 0; i < rows->n; i++) {
		int rc = put_row(ask, answer, &rows->rows[i], vector, err);
		if (rc)
			return rc;
	}
	return 0;
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
