/* SPDX-License-Identifier: MIT */
/* rank.c - from candidates to the exact order. Float kernels sift, with a proven bound on their rounding; what is left is
 * summed in double. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "ask_internal.h"

/* ---- the gauge ---- */

/* Sums within these bounds have lost nothing to overflow or to subnormals. */
#define PLAIN_MIN 1e-28
#define PLAIN_MAX 1e37

static bool is_plain(double square)
{
	return square >= PLAIN_MIN && square <= PLAIN_MAX;
}

void vf_gauge_init(struct vf_gauge *gauge, const struct vf_config *config, const float *query)
{
	*gauge = (struct vf_gauge){ .metric = config->metric, .dim = config->dim, .query = query, .kernels = vf_kernels() };
	double square = gauge->kernels->dot_f32(query, query, config->dim);
	gauge->query_square = vf_square(query, config->dim);
	gauge->query_norm = sqrt(square);
	gauge->query_plain = is_plain(square);
	/* Higham, "Accuracy and Stability of Numerical Algorithms", 3.1: holds for every order of summation. */
	gauge->gamma = (config->dim + 8) * 0x1p-24;
}

/* The rare vectors whose squares float32 cannot hold. */
static double line_in_double(const struct vf_gauge *gauge, const void *row, double *slack)
{
	const float *q = gauge->query;
	double dot = 0, xx = 0, qq = 0, l2sq = 0;

	for (uint32_t i = 0; i < gauge->dim; i++) {
		float x;
		memcpy(&x, (const uint8_t *)row + i * sizeof x, sizeof x);
		dot += (double)q[i] * x;
		xx += (double)x * x;
		qq += (double)q[i] * q[i];
		l2sq += ((double)q[i] - x) * ((double)q[i] - x);
	}
	double gamma = (gauge->dim + 8) * 0x1p-52, norms = sqrt(qq) * sqrt(xx);
	switch (gauge->metric) {
	case VF_COSINE:
		*slack = 4 * gamma;
		return norms > 0 ? 1 - dot / norms : 1;
	case VF_EUCLIDEAN:
		*slack = gamma * l2sq;
		return l2sq;
	case VF_DOT:
		*slack = gamma * norms;
		return -dot;
	}
	return 0;
}

double vf_gauge_line(const struct vf_gauge *gauge, const void *row, double *slack)
{
	const struct vf_kernels *k = gauge->kernels;

	if (gauge->metric == VF_EUCLIDEAN) {
		double l2sq = k->l2sq_f32(gauge->query, row, gauge->dim);
		if (!is_plain(l2sq))
			return line_in_double(gauge, row, slack);
		*slack = gauge->gamma * l2sq;
		return l2sq;
	}
	double xx = k->dot_f32(row, row, gauge->dim);
	if (!gauge->query_plain || !is_plain(xx))
		return line_in_double(gauge, row, slack);
	double dot = k->dot_f32(gauge->query, row, gauge->dim), norms = gauge->query_norm * sqrt(xx);
	if (gauge->metric == VF_COSINE) {
		*slack = 4 * gauge->gamma;
		return 1 - dot / norms;
	}
	*slack = gauge->gamma * norms;
	return -dot;
}

/* ---- the shortlist ---- */

void vf_shortlist_init(struct vf_shortlist *list, uint64_t want)
{
	*list = (struct vf_shortlist){ .want = want };
}

void vf_shortlist_free(struct vf_shortlist *list)
{
	free(list->bounds);
	free(list->rows);
	*list = (struct vf_shortlist){ 0 };
}

static int grow(void **at, size_t *cap, size_t size, struct vf_err *err)
{
	size_t more = *cap ? 2 * *cap : 64;
	void *p = realloc(*at, more * size);

	if (!p)
		return vf_oom(err);
	*at = p;
	*cap = more;
	return 0;
}

static void sift_down(double *heap, size_t n, double value)
{
	size_t i = 0;

	for (size_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && heap[child + 1] > heap[child])
			child++;
		if (heap[child] <= value)
			break;
		heap[i] = heap[child];
	}
	heap[i] = value;
}

static void sift_up(double *heap, size_t i, double value)
{
	for (; i > 0 && heap[(i - 1) / 2] < value; i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = value;
}

static int add_bound(struct vf_shortlist *list, double bound, struct vf_err *err)
{
	if (list->nbounds == list->want) {
		if (list->want && bound < list->bounds[0])
			sift_down(list->bounds, list->nbounds, bound);
		return 0;
	}
	if (list->nbounds == list->bounds_cap) {
		int rc = grow((void **)&list->bounds, &list->bounds_cap, sizeof *list->bounds, err);
		if (rc)
			return rc;
	}
	sift_up(list->bounds, list->nbounds, bound);
	list->nbounds++;
	return 0;
}

/* Rows that were let in when the limit was higher go, each time the list has doubled. */
static void tidy(struct vf_shortlist *list)
{
	double limit = vf_shortlist_limit(list);
	size_t n = 0;

	for (size_t i = 0; i < list->n; i++)
		if (list->rows[i].line - list->rows[i].slack <= limit)
			list->rows[n++] = list->rows[i];
	list->n = n;
	list->tidy_at = 2 * n + 64;
}

int vf_shortlist_add(struct vf_shortlist *list, const struct vf_kept *kept, struct vf_err *err)
{
	int rc;

	if (list->want == 0 || kept->line - kept->slack > vf_shortlist_limit(list))
		return 0;
	if (list->n >= list->tidy_at)
		tidy(list);
	if (list->n == list->cap && (rc = grow((void **)&list->rows, &list->cap, sizeof *list->rows, err)))
		return rc;
	list->rows[list->n++] = *kept;
	return add_bound(list, kept->line + kept->slack, err);
}

/* ---- the order ---- */

static int compare_ranked(const void *a, const void *b)
{
	const struct vf_ranked *x = a, *y = b;
	int order = (x->distance > y->distance) - (x->distance < y->distance);

	return order ? order : (x->serial > y->serial) - (x->serial < y->serial);
}

static int sort_run_by_key(struct vf_ranked *run, size_t n, struct vf_txn *txn, struct vf_err *err)
{
	struct vf_walked *keys = malloc(n * sizeof *keys);
	int rc = keys ? 0 : vf_oom(err);

	for (size_t i = 0; i < n && !rc; i++) {
		struct vf_record_row row;
		rc = vf_row_of_serial(txn, run[i].serial, &row, err);
		if (rc == 1)
			rc = vf_fail(err, EIO, "vector %llu has no record", (unsigned long long)run[i].serial);
		if (!rc)
			keys[i] = (struct vf_walked){ row.key, run[i].serial };
	}
	if (!rc) {
		qsort(keys, n, sizeof *keys, vf_walked_compare);
		for (size_t i = 0; i < n; i++)
			run[i] = (struct vf_ranked){ run[i].distance, keys[i].serial, VF_SLOT_NONE };
	}
	free(keys);
	return rc;
}

/* Keys are read for equal distances only, and only where the answer shows them. */
static int order_ties(struct vf_ranking *ranking, uint64_t want, struct vf_txn *txn, struct vf_err *err)
{
	struct vf_ranked *rows = ranking->rows;

	for (size_t i = 0, end; i < ranking->n && i < want; i = end) {
		for (end = i + 1; end < ranking->n && rows[end].distance == rows[i].distance;)
			end++;
		int rc = end - i > 1 ? sort_run_by_key(rows + i, end - i, txn, err) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

static void measure_rows(const struct vf_shortlist *list, const struct vf_gauge *gauge, const double *max_distance,
                         struct vf_ranking *out)
{
	double limit = vf_shortlist_limit(list);

	for (size_t i = 0; i < list->n; i++) {
		const struct vf_kept *kept = &list->rows[i];
		if (kept->line - kept->slack > limit)
			continue;
		double line = kept->slack > 0 ? vf_line(gauge->metric, gauge->query, gauge->query_square, kept->row, gauge->dim) : kept->line;
		double distance = vf_distance_of_line(gauge->metric, line);
		if (!max_distance || distance <= *max_distance)
			out->rows[out->n++] = (struct vf_ranked){ distance, kept->serial, kept->slot };
	}
}

int vf_shortlist_rank(const struct vf_shortlist *list, const struct vf_gauge *gauge, struct vf_txn *txn,
                      const double *max_distance, struct vf_ranking *out, struct vf_err *err)
{
	*out = (struct vf_ranking){ .rows = malloc((list->n ? list->n : 1) * sizeof *out->rows) };
	if (!out->rows)
		return vf_oom(err);
	measure_rows(list, gauge, max_distance, out);
	qsort(out->rows, out->n, sizeof *out->rows, compare_ranked);
	int rc = order_ties(out, list->want, txn, err);
	if (rc) {
		free(out->rows);
		*out = (struct vf_ranking){ 0 };
	} else if (out->n > list->want) {
		out->n = list->want;
	}
	return rc;
}
