/* SPDX-License-Identifier: MIT */
/* resolution.c - do bytes tell near from far? They do not where many vectors lie beyond their range, which every search would have to compare with.
 * And of vectors of very different lengths under euclidean, or of copies with a little noise, hundreds get the same code, and no walk over codes finds
 * the nearest of them. Tried on a sample: of ordinary vectors the ten nearest are among the sixteen nearest by codes (.997 and more of them), of such
 * vectors six in ten, or none. Float codes then cost four times the memory, and answers come from the graph (20,000 x 128, ten centres with noise: 25
 * times as many questions as by scans, at the recall that hnswlib has with the same effort). */
#include <math.h>
#include <stdlib.h>

#include "graph_internal.h"

#define QUERIES    16u
#define NEIGHBOURS 10u
#define CANDIDATES 16u
#define SHARE      0.9
/* Of so many one may lie beyond. */
#define BEYOND_PART 512u

struct try {
	uint32_t dim;
	size_t n, stride;          /* of codes, in bytes */
	size_t beyond;             /* of the n */
	float *rows;               /* as they are coded: normalised under cosine */
	uint8_t *codes;
	uint32_t *ids;
	float *near, *near_by_code;
	uint64_t *keys;
};

static int try_init(struct try *t, uint32_t dim, size_t n, struct vf_err *err)
{
	*t = (struct try){ .dim = dim, .n = n, .stride = (dim + 63) / 64 * 64 };
	t->rows = malloc(n * dim * sizeof *t->rows);
	t->codes = aligned_alloc(64, n * t->stride);
	t->ids = malloc(n * sizeof *t->ids);
	t->near = malloc(n * sizeof *t->near);
	t->near_by_code = malloc(n * sizeof *t->near_by_code);
	t->keys = malloc(n * sizeof *t->keys);
	return t->rows && t->codes && t->ids && t->near && t->near_by_code && t->keys ? 0 : vf_oom(err);
}

static void try_free(struct try *t)
{
	free(t->rows);
	free(t->codes);
	free(t->ids);
	free(t->near);
	free(t->near_by_code);
	free(t->keys);
}

static void code_all(struct try *t, const struct vf_quant *quant, enum vf_metric metric, const float *sample)
{
	for (size_t i = 0; i < t->n; i++) {
		const float *vector = sample + i * t->dim;
		float *row = t->rows + i * t->dim;
		double scale = vf_quant_scale(metric, vector, t->dim);
		for (uint32_t k = 0; k < t->dim; k++)
			row[k] = (float)(vector[k] * scale);
		t->beyond += vf_quant_bytes(quant, metric, vector, t->codes + i * t->stride) == VF_CLAMPED_FAR;
		t->ids[i] = (uint32_t)i;
	}
}

/* The `want` nearest, in any order, are the first of the keys. */
static void select_nearest(struct try *t, const float *near, size_t want)
{
	for (size_t i = 0; i < t->n; i++)
		t->keys[i] = vf_key_of(near[i], (uint32_t)i);
	vf_keys_select(t->keys, t->n, want);
}

/* How many of the nearest of `query`, which is itself left out, are among the nearest by codes. */
static uint32_t found_of(struct try *t, size_t query)
{
	const struct vf_kernels *kernels = vf_kernels();
	float farthest = 0;
	uint32_t found = 0;

	kernels->l2sq_f32_gather(t->rows + query * t->dim, t->rows, t->dim * sizeof(float), t->ids, t->n, t->dim, t->near);
	kernels->l2sq_u8_gather(t->codes + query * t->stride, t->codes, t->stride, t->ids, t->n, t->dim, t->near_by_code);
	t->near[query] = t->near_by_code[query] = INFINITY;
	select_nearest(t, t->near, NEIGHBOURS);
	for (uint32_t i = 0; i < NEIGHBOURS; i++)
		farthest = fmaxf(farthest, vf_key_distance(t->keys[i]));
	select_nearest(t, t->near_by_code, CANDIDATES);
	for (uint32_t i = 0; i < CANDIDATES; i++)
		found += t->near[vf_key_slot(t->keys[i])] <= farthest;
	return found < NEIGHBOURS ? found : NEIGHBOURS;
}

int vf_quant_try(const struct vf_quant *quant, enum vf_metric metric, const float *sample, size_t n, bool *tells, struct vf_err *err)
{
	struct try t;
	uint32_t found = 0;

	*tells = true;
	if (quant->code == VF_CODE_F32 || n <= CANDIDATES)
		return 0;
	int rc = try_init(&t, quant->dim, n, err);
	if (rc == 0) {
		code_all(&t, quant, metric, sample);
		*tells = t.beyond <= n / BEYOND_PART;
	}
	/* Under dot the nearest are the long ones, which bytes tell apart best. */
	if (rc == 0 && *tells && metric != VF_DOT) {
		for (size_t i = 0; i < QUERIES; i++)
			found += found_of(&t, i * n / QUERIES);
		*tells = found >= SHARE * QUERIES * NEIGHBOURS;
	}
	try_free(&t);
	return rc;
}
