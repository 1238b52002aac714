/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "vecfs/question.h"

/* A row or a head is whole in the spool's buffer: now it may move to disk. */
static int settle(struct vf_answer *a, struct vf_err *err)
{
	int rc = vf_emit_end(&a->emitter, err);

	return rc ? rc : vf_spool_flush_if_full(a->spool, err);
}

static int end_line(struct vf_answer *a, struct vf_err *err)
{
	int rc = settle(a, err);

	return rc == 0 && a->emitter.format == VF_JSON ? vf_spool_put(a->spool, "\n", 1, err) : rc;
}

static void begin(struct vf_answer *a, const struct vf_question *q, struct vf_spool *spool)
{
	a->spool = spool;
	a->question = q;
	vf_emit_begin(&a->emitter, q->format, &spool->buf);
}

int vf_answer_begin_many(struct vf_answer *a, const struct vf_question *q, struct vf_spool *spool, uint32_t answers, struct vf_err *err)
{
	begin(a, q, spool);
	vf_emit_map(&a->emitter, 1);
	vf_emit_name(&a->emitter, "results");
	vf_emit_list(&a->emitter, answers);
	return settle(a, err);
}

/* Asked by distance: from a vector or from a stored one. */
static bool has_distances(const struct vf_question *q)
{
	return q->vectors || q->key.len;
}

int vf_answer_begin(struct vf_answer *a, const struct vf_question *q, struct vf_spool *spool, const struct vf_answer_head *head,
                    uint64_t rows, struct vf_err *err)
{
	if (rows > UINT32_MAX)
		return vf_fail(err, EFBIG, "an answer of %llu rows is too long", (unsigned long long)rows);
	if (!q->many)
		begin(a, q, spool);
	/* vectors, matched, exact; and what is there only sometimes. */
	vf_emit_map(&a->emitter, 3u + head->has_metric + (head->next.len > 0) + (head->nfacets > 0) + (head->explain != NULL));
	vf_emit_name(&a->emitter, "vectors");
	vf_emit_list(&a->emitter, (uint32_t)rows);
	return settle(a, err);
}

int vf_answer_row(struct vf_answer *a, const struct vf_answer_row *row, struct vf_err *err)
{
	const struct vf_question *q = a->question;
	struct vf_emitter *e = &a->emitter;
	bool distance = q->return_distance && has_distances(q);

	vf_emit_map(e, 1u + distance + q->return_metadata + q->return_data);
	vf_emit_name(e, "key");
	vf_emit_string(e, row->key);
	if (distance) {
		vf_emit_name(e, "distance");
		vf_emit_double(e, row->distance);
	}
	if (q->return_metadata) {
		vf_emit_name(e, "metadata");
		vf_emit_msgpack(e, row->metadata.len ? row->metadata : vf_span("\x80", 1));
	}
	if (q->return_data) {
		vf_emit_name(e, "data");
		vf_emit_map(e, 1);
		vf_emit_name(e, "float32");
		vf_emit_floats(e, row->vector, row->dim);
		vf_emit_close(e);
	}
	vf_emit_close(e);
	return settle(a, err);
}

static void emit_facet_value(struct vf_emitter *e, const struct vf_facet_value *value)
{
	vf_emit_map(e, 2);
	vf_emit_name(e, "value");
	vf_emit_value(e, &value->value);
	vf_emit_name(e, "count");
	vf_emit_int(e, (int64_t)value->count);
	vf_emit_close(e);
}

/* A name is written from a string with a NUL behind it, which a span has not. */
static int emit_facet(struct vf_answer *a, const struct vf_answer_facet *facet, struct vf_err *err)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_span name = vf_arena_copy(&arena, facet->field);
	int rc = name.data ? 0 : vf_oom(err);

	if (rc == 0) {
		vf_emit_name(&a->emitter, (const char *)name.data);
		vf_emit_list(&a->emitter, (uint32_t)facet->n);
	}
	for (size_t i = 0; rc == 0 && i < facet->n; i++) {
		emit_facet_value(&a->emitter, &facet->values[i]);
		rc = settle(a, err);
	}
	if (rc == 0)
		vf_emit_close(&a->emitter);
	vf_arena_free(&arena);
	return rc;
}

static int emit_facets(struct vf_answer *a, const struct vf_answer_head *head, struct vf_err *err)
{
	int rc = 0;

	vf_emit_name(&a->emitter, "facets");
	vf_emit_map(&a->emitter, (uint32_t)head->nfacets);
	for (size_t i = 0; rc == 0 && i < head->nfacets; i++)
		rc = emit_facet(a, &head->facets[i], err);
	if (rc == 0)
		vf_emit_close(&a->emitter);
	return rc;
}

int vf_answer_end(struct vf_answer *a, const struct vf_answer_head *head, struct vf_err *err)
{
	struct vf_emitter *e = &a->emitter;
	int rc;

	vf_emit_close(e);
	if (head->has_metric) {
		vf_emit_name(e, "distanceMetric");
		vf_emit_string(e, vf_span_str(vf_metric_name(head->metric)));
	}
	vf_emit_name(e, "matched");
	vf_emit_int(e, (int64_t)head->matched);
	vf_emit_name(e, "exact");
	vf_emit_bool(e, head->exact);
	if (head->next.len) {
		vf_emit_name(e, "nextToken");
		vf_emit_string(e, head->next);
	}
	if (head->nfacets && (rc = emit_facets(a, head, err)))
		return rc;
	if (head->explain) {
		vf_emit_name(e, "explain");
		vf_emit_value(e, head->explain);
	}
	vf_emit_close(e);
	return a->question->many ? settle(a, err) : end_line(a, err);
}

int vf_answer_end_many(struct vf_answer *a, struct vf_err *err)
{
	vf_emit_close(&a->emitter);
	vf_emit_close(&a->emitter);
	return end_line(a, err);
}
