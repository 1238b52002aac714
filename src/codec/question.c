/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "request_internal.h"

/* ---- vectors ---- */

static int take_row(const struct vf_decoding *d, const char *name, const struct vf_value *value, float *row, struct vf_err *err)
{
	int rc = vf_vector_fill(value, name, row, err);

	return rc ? rc : vf_vector_check_numbers(row, d->config->dim, name, d->config->metric, err);
}

static int count_row(const struct vf_decoding *d, const char *name, const struct vf_value *value, struct vf_err *err)
{
	uint32_t dim;
	int rc = vf_vector_count(value, name, &dim, err);

	return rc ? rc : vf_vector_check_dim(dim, name, d->config, d->index, err);
}

static float *place_rows(struct vf_decoding *d, uint32_t rows)
{
	struct vf_question *q = d->out;
	float *floats = vf_arena_alloc(d->arena, (size_t)rows * d->config->dim * sizeof *floats);

	q->vectors = floats;
	q->nvectors = rows;
	q->dim = d->config->dim;
	return floats;
}

static int refuse_second(const struct vf_decoding *d, const char *name, struct vf_err *err)
{
	const struct vf_question *q = d->out;
	const char *other = q->many ? "queryVectors" : q->vectors ? "queryVector" : q->nkeys ? "keys" : q->key.len ? "key" : NULL;

	return other ? vf_fail(err, EINVAL, "%s and %s exclude one another", other, name) : 0;
}

static int take_vector(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	int rc;

	if ((rc = refuse_second(d, field->name, err)) || (rc = count_row(d, field->name, value, err)))
		return rc;
	float *row = place_rows(d, 1);
	return row ? take_row(d, field->name, value, row, err) : vf_oom(err);
}

static int take_vectors(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	char name[40];
	int rc = refuse_second(d, field->name, err);

	if (rc)
		return rc;
	if (value->kind != VF_LIST)
		return vf_kind_refuse(value, field->name, "a list of vectors", err);
	if (value->count == 0 || value->count > VF_QUESTION_VECTORS_MAX)
		return vf_fail(err, EINVAL, "queryVectors has %u vectors; 1 to %u are taken", value->count, VF_QUESTION_VECTORS_MAX);
	/* All are counted before there is room for any. */
	for (uint32_t i = 0; i < value->count; i++) {
		snprintf(name, sizeof name, "queryVectors[%u]", i);
		if ((rc = count_row(d, name, &value->items[i], err)))
			return rc;
	}
	float *rows = place_rows(d, value->count);
	if (!rows)
		return vf_oom(err);
	for (uint32_t i = 0; rc == 0 && i < value->count; i++) {
		snprintf(name, sizeof name, "queryVectors[%u]", i);
		rc = take_row(d, name, &value->items[i], rows + (size_t)i * d->config->dim, err);
	}
	((struct vf_question *)d->out)->many = true;
	return rc;
}

static int take_key(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	int rc = refuse_second(d, field->name, err);

	return rc ? rc : vf_field_key(d, field, value, err);
}

static int take_keys(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_question *q = d->out;
	int rc = refuse_second(d, field->name, err);

	return rc ? rc : vf_keys_decode(value, field->name, d->arena, &q->keys, &q->nkeys, err);
}

/* ---- numbers ---- */

/* maxResults is what a listing of the hosted APIs calls it. */
static int take_top_k(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_question *q = d->out;

	if (value->kind != VF_INT)
		return vf_kind_refuse(value, field->name, "a whole number", err);
	if (value->integer < 0)
		return vf_fail(err, EINVAL, "%s is %lld; it must be 0 or more", field->name, (long long)value->integer);
	if (q->has_top_k)
		return vf_fail(err, EINVAL, "topK and maxResults exclude one another");
	q->has_top_k = true;
	q->top_k = (uint64_t)value->integer;
	return 0;
}

static int number_of(const struct vf_value *value, const char *name, double *out, struct vf_err *err)
{
	if (value->kind != VF_INT && value->kind != VF_FLOAT)
		return vf_kind_refuse(value, name, "a number", err);
	*out = value->kind == VF_INT ? (double)value->integer : value->real;
	return 0;
}

static int take_max_distance(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_question *q = d->out;
	int rc = number_of(value, field->name, &q->max_distance, err);

	if (rc == 0 && !isfinite(q->max_distance))
		rc = vf_fail(err, EINVAL, "maxDistance is %g; it must be a finite number", q->max_distance);
	q->has_max_distance = true;
	return rc;
}

static int take_recall(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_question *q = d->out;
	int rc = number_of(value, field->name, &q->recall, err);

	if (rc == 0 && !(q->recall > 0 && q->recall <= 1))
		rc = vf_fail(err, EINVAL, "recall is %g; it must be above 0 and at most 1", q->recall);
	return rc;
}

static int take_ef(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_question *q = d->out;

	if (value->kind != VF_INT)
		return vf_kind_refuse(value, field->name, "a whole number", err);
	if (value->integer < 1 || value->integer > (int64_t)VF_EF_MAX)
		return vf_fail(err, EINVAL, "ef is %lld; it must be 1 to %u", (long long)value->integer, VF_EF_MAX);
	q->ef = (uint32_t)value->integer;
	return 0;
}

/* ---- facets ---- */

static int check_facet(const struct vf_question *q, uint32_t i, const struct vf_config *config, struct vf_err *err)
{
	struct vf_field_rule rule = vf_config_rule(config);

	if (q->facets[i].len && memchr(q->facets[i].data, 0, q->facets[i].len))
		return vf_fail(err, EINVAL, "facets[%u] holds a NUL byte, which no name of a field has", i);
	if (!rule.filterable(rule.ctx, q->facets[i]))
		return vf_fail(err, EINVAL, "facets[%u]: field '%.*s' is non_filterable in this index", i, VF_SPAN_ARG(q->facets[i]));
	for (uint32_t k = 0; k < i; k++)
		if (vf_span_equal(q->facets[k], q->facets[i]))
			return vf_fail(err, EINVAL, "facets has the field '%.*s' twice", VF_SPAN_ARG(q->facets[i]));
	return 0;
}

static int take_facets(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_question *q = d->out;
	size_t n;
	int rc;

	if (value->kind == VF_LIST && value->count > VF_METADATA_FIELDS_MAX)
		return vf_fail(err, EINVAL, "facets has %u fields, at most %u are taken", value->count, VF_METADATA_FIELDS_MAX);
	if ((rc = vf_strings_decode(value, field->name, d->arena, &q->facets, &n, err)))
		return rc;
	q->nfacets = (uint32_t)n;
	for (uint32_t i = 0; rc == 0 && i < q->nfacets; i++)
		rc = check_facet(q, i, d->config, err);
	return rc;
}

/* nextToken is what a listing of the hosted APIs calls it: the key that the last page ended with. */
static int take_start(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_question *q = d->out;

	if (q->start_after.len)
		return vf_fail(err, EINVAL, "startAfter and nextToken exclude one another");
	return vf_field_string(d, field, value, err);
}

static int take_segments(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	bool is_count = strcmp(field->name, "segmentCount") == 0;
	int64_t least = is_count, most = is_count ? VF_SEGMENTS_MAX : VF_SEGMENTS_MAX - 1;

	if (value->kind != VF_INT)
		return vf_kind_refuse(value, field->name, "a whole number", err);
	if (value->integer < least || value->integer > most)
		return vf_fail(err, EINVAL, "%s is %lld; it must be %lld to %lld", field->name, (long long)value->integer, (long long)least,
		               (long long)most);
	*(uint32_t *)((char *)d->out + field->at) = (uint32_t)value->integer;
	return 0;
}

/* ---- the whole ---- */

static int excludes(const char *a, bool has_a, const char *b, bool has_b, struct vf_err *err)
{
	return has_a && has_b ? vf_fail(err, EINVAL, "%s and %s exclude one another", a, b) : 0;
}

static int check_segments(const struct vf_question *q, const struct vf_value *value, struct vf_err *err)
{
	bool has_index = vf_value_find(value, "segmentIndex");

	if (has_index != (q->segments > 0))
		return vf_fail(err, EINVAL, "segmentCount and segmentIndex need one another");
	if (has_index && q->segment >= q->segments)
		return vf_fail(err, EINVAL, "segmentIndex is %u; of %u segments the last is %u", q->segment, q->segments, q->segments - 1);
	return 0;
}

static int check_whole(const struct vf_question *q, const struct vf_value *value, struct vf_err *err)
{
	const char *near = q->many ? "queryVectors" : q->vectors ? "queryVector" : "key";
	bool by_distance = q->vectors || q->key.len, by_keys = q->nkeys > 0;
	int rc;

	if ((rc = excludes("startAfter", vf_value_find(value, "startAfter"), near, by_distance, err)) ||
	    (rc = excludes("nextToken", vf_value_find(value, "nextToken"), near, by_distance, err)) ||
	    (rc = excludes("maxResults", vf_value_find(value, "maxResults"), near, by_distance, err)) ||
	    (rc = excludes("segmentCount", q->segments, near, by_distance, err)) || (rc = check_segments(q, value, err)) ||
	    (rc = excludes("ef", q->ef, "recall", q->recall > 0, err)) ||
	    (rc = excludes("keys", by_keys, "filter", q->filter, err)) ||
	    (rc = excludes("keys", by_keys, "prefix", q->prefix.len, err)) ||
	    (rc = excludes("keys", by_keys, "startAfter", q->start_after.len, err)) ||
	    (rc = excludes("keys", by_keys, "segmentCount", q->segments, err)) ||
	    (rc = excludes("keys", by_keys, "topK", q->has_top_k, err)) ||
	    (rc = excludes("keys", by_keys, "facets", q->nfacets, err)))
		return rc;
	if (q->has_max_distance && !by_distance)
		return vf_fail(err, EINVAL, "maxDistance needs a queryVector, queryVectors or key to measure from");
	return 0;
}

int vf_question_from_value(const struct vf_value *value, enum vf_format format, const struct vf_config *config, const char *index,
                           struct vf_arena *arena, struct vf_question *out, struct vf_err *err)
{
	static const struct vf_field fields[] = {
		{ "queryVector", take_vector, 0 },
		{ "queryVectors", take_vectors, 0 },
		{ "key", take_key, offsetof(struct vf_question, key) },
		{ "keys", take_keys, 0 },
		{ "topK", take_top_k, 0 },
		{ "filter", vf_field_filter, offsetof(struct vf_question, filter) },
		{ "prefix", vf_field_string, offsetof(struct vf_question, prefix) },
		{ "startAfter", take_start, offsetof(struct vf_question, start_after) },
		{ "returnMetadata", vf_field_bool, offsetof(struct vf_question, return_metadata) },
		{ "returnDistance", vf_field_bool, offsetof(struct vf_question, return_distance) },
		{ "returnData", vf_field_bool, offsetof(struct vf_question, return_data) },
		{ "maxDistance", take_max_distance, 0 },
		{ "exact", vf_field_bool, offsetof(struct vf_question, exact) },
		{ "ef", take_ef, 0 },
		{ "recall", take_recall, 0 },
		{ "facets", take_facets, 0 },
		{ "explain", vf_field_bool, offsetof(struct vf_question, explain) },
		{ "maxResults", take_top_k, 0 },
		{ "nextToken", take_start, offsetof(struct vf_question, start_after) },
		{ "segmentCount", take_segments, offsetof(struct vf_question, segments) },
		{ "segmentIndex", take_segments, offsetof(struct vf_question, segment) },
		VF_TARGET_FIELDS(struct vf_question),
	};
	struct vf_decoding d = { .config = config, .index = index, .arena = arena, .out = out };

	*out = (struct vf_question){ .format = format };
	int rc = vf_fields_decode(value, "a question", fields, sizeof fields / sizeof fields[0], &d, err);
	if (rc)
		return rc;
	out->paged = vf_value_find(value, "maxResults") || vf_value_find(value, "nextToken") || out->segments || out->target.bucket.len ||
	             out->target.index.len;
	return check_whole(out, value, err);
}

#define PLAIN_TOP_K 100u

bool vf_question_is_plain(const struct vf_question *q)
{
	bool one = (q->vectors && q->nvectors == 1 && !q->many) || q->key.len;

	return one && !q->filter && !q->prefix.len && !q->nfacets && !q->exact && !q->return_data && (!q->has_top_k || q->top_k <= PLAIN_TOP_K);
}
