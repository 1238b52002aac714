/* SPDX-License-Identifier: MIT */
/* basis.c - the directions along which the vectors of an index spread most, and sketches: a vector's code seen along these only. Vectors of many
 * dimensions mostly lie near a space of far fewer, so that a walk can tell near from far by a line or two of memory where the codes have a dozen
 * or two (Tepper et al., "LeanVec", 2023, search a graph so). */
#include <math.h>
#include <stdlib.h>

#include "basis.h"

#define FIT_ROWS_MAX    2048u
#define FIT_NUMBERS_MAX (4u << 20)
#define TRIAL_ROWS_MAX  2048u
/* Sketches are worth their memory where codes are this many times as long. */
#define SHORTER         3u
/* Vectors to come may lie a little outside the sample. */
#define RANGE_MARGIN    1.1f
/* What float arithmetic puts a length off by, at most and by far. */
#define FLOAT_OFF       1e-5

struct sample {
	size_t nfit, ntrial;
	uint8_t *codes;            /* rows to fit to, then rows to try with */
};

void vf_basis_free(struct vf_basis *basis)
{
	free(basis->rows);
	free(basis->factor);
	*basis = (struct vf_basis){ 0 };
}

/* ---- sketches ---- */

/* Numbers that are too large are clamped, which moves no two apart, then rounded. Not fminf: gcc calls it. */
static float to_bytes(const float *numbers, size_t n, float scale, uint8_t *bytes)
{
	float square = 0;

	for (size_t i = 0; i < n; i++) {
		float number = numbers[i] * scale + (VF_CODE_ZERO + 0.5f);
		number = number > 0 ? number : 0;
		number = number < UINT8_MAX ? number : UINT8_MAX;
		bytes[i] = (uint8_t)number;
		float off = number - (float)bytes[i] - 0.5f;
		square += off * off;
	}
	return sqrtf(square);
}

static void along(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, float *numbers)
{
	uint32_t all[VF_SKETCH_DIMS_MAX];

	for (uint32_t j = 0; j < b->dims; j++)
		all[j] = j;
	vf_kernels()->dot_u8_gather(code, b->rows, g->code_stride, all, b->dims, g->numbers, numbers);
	for (uint32_t j = 0; j < b->dims; j++)
		numbers[j] *= -b->factor[j];
}

float vf_basis_sketch(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, uint8_t *sketch)
{
	float numbers[VF_SKETCH_DIMS_MAX];

	along(g, b, code, numbers);
	return to_bytes(numbers, b->dims, 1, sketch);
}

float vf_basis_sketch_query(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, uint8_t *sketch)
{
	float numbers[VF_SKETCH_DIMS_MAX], scale = 1;

	along(g, b, code, numbers);
	/* A code with a scale of its own may lie anywhere. */
	if (g->params.metric == VF_DOT)
		scale = 127 / fmaxf(vf_largest(numbers, b->dims), 1e-9f);
	return to_bytes(numbers, b->dims, scale, sketch);
}

float vf_basis_outside(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, const uint8_t *sketch)
{
	const uint8_t *zero = b->rows + b->dims * g->code_stride;
	float whole = (float)vf_kernels()->l2sq_u8(code, zero, g->numbers), kept = (float)vf_kernels()->l2sq_u8(sketch, zero, b->dims);

	return whole > 0 ? 1 - kept / (b->scale * b->scale * whole) : 0;
}

/* ---- fitting ---- */

static void put_row(struct vf_basis *b, size_t stride, size_t j, const float *row, size_t dim, float scale)
{
	float top = vf_largest(row, dim);

	b->factor[j] = scale * top / 127;
	for (size_t i = 0; i < dim && top > 0; i++)
		b->rows[j * stride + i] = (uint8_t)(lrintf(row[i] * 127 / top) + VF_CODE_ZERO);
}

/* The root of what no eigenvalue of the rows' products with each other exceeds (Gershgorin). */
static float stretch_of(const struct vf_graph *g, const struct vf_basis *b)
{
	double most = 0;

	for (size_t i = 0; i < b->dims; i++) {
		double sum = 0;
		for (size_t j = 0; j < b->dims; j++)
			sum += fabs((double)b->factor[i] * b->factor[j] * vf_kernels()->dot_u8(b->rows + i * g->code_stride, b->rows + j * g->code_stride, g->numbers));
		most = sum > most ? sum : most;
	}
	return (float)(sqrt(most) * (1 + FLOAT_OFF));
}

static void put_rows(const struct vf_graph *g, struct vf_basis *b, const float *directions, float largest)
{
	b->scale = 127 / (RANGE_MARGIN * (largest > 1 ? largest : 1));
	memset(b->rows, VF_CODE_ZERO, (b->dims + 1) * g->code_stride);
	for (size_t j = 0; j < b->dims; j++)
		put_row(b, g->code_stride, j, directions + j * g->quant.dim, g->quant.dim, b->scale);
	b->stretch = stretch_of(g, b);
}

/* Of the first `dims` directions. Free it also after a failure. */
static int make_basis(const struct vf_graph *g, struct vf_directions *d, size_t dims, struct vf_basis *out, struct vf_err *err)
{
	float *turned = malloc(dims * d->dim * sizeof *turned), largest;

	*out = (struct vf_basis){ .dims = (uint32_t)dims, .factor = malloc(dims * sizeof *out->factor), .rows = aligned_alloc(64, (dims + 1) * g->code_stride) };
	int rc = turned && out->factor && out->rows ? vf_directions_turn(d, dims, turned, &largest, err) : vf_oom(err);
	if (rc == 0)
		put_rows(g, out, turned, largest);
	free(turned);
	return rc;
}

/* One of `of` rows spread over the slots; half a row further on with `between`. */
static uint32_t slot_of(uint64_t slots, size_t row, size_t of, bool between)
{
	return (uint32_t)((2 * row + between) * slots / (2 * of));
}

/* Returns how many of them are there. */
static size_t copy_rows(const struct vf_graph *g, size_t rows, bool between, uint8_t *to)
{
	uint32_t slots = atomic_load(&g->slots);
	size_t n = 0;

	for (size_t i = 0; i < rows; i++) {
		uint32_t slot = slot_of(slots, i, rows, between);
		uint8_t state = vf_slot_is(g, slot) & VF_IS_STATE;
		if (state == VF_SLOT_PENDING || state == VF_SLOT_LINKED)
			memcpy(to + n++ * g->code_stride, vf_slot_code(g, slot), g->code_stride);
	}
	return n;
}

/* Copies, since the rest takes long, and no slot may be reused while codes are read. */
static int take_sample(struct vf_graph *g, struct sample *s, struct vf_err *err)
{
	size_t fit = FIT_NUMBERS_MAX / g->quant.dim < FIT_ROWS_MAX ? FIT_NUMBERS_MAX / g->quant.dim : FIT_ROWS_MAX;
	struct vf_walker *w;
	int rc;

	s->codes = aligned_alloc(64, (fit + TRIAL_ROWS_MAX) * g->code_stride);
	if (!s->codes)
		return vf_oom(err);
	if ((rc = vf_walker_get_for_scan(g, &w, err)))
		return rc;
	s->nfit = copy_rows(g, fit, false, s->codes);
	s->ntrial = copy_rows(g, TRIAL_ROWS_MAX, true, s->codes + s->nfit * g->code_stride);
	vf_walker_put(g, w);
	return 0;
}

/* The first of `least`, `least` + VF_SKETCH_STEP, ... `most` dimensions that are enough. */
static int fit_within(const struct vf_graph *g, const struct sample *s, size_t least, size_t most, struct vf_basis *out, struct vf_err *err)
{
	struct vf_directions d;
	int rc = vf_directions_find(&d, s->codes, s->nfit, g->code_stride, g->quant.dim, most, err);

	if (rc == 0)
		rc = 1;
	for (size_t dims = least; dims <= most && rc == 1; dims += VF_SKETCH_STEP) {
		if ((rc = make_basis(g, &d, dims, out, err)) == 0)
			rc = vf_basis_try(g, out, s->codes + s->nfit * g->code_stride, s->ntrial, err);
		if (rc)
			vf_basis_free(out);
	}
	vf_directions_free(&d);
	return rc;
}

/* Few directions are found faster, and mostly they do. */
static int fit(const struct vf_graph *g, const struct sample *s, struct vf_basis *out, struct vf_err *err)
{
	size_t most = g->quant.dim / SHORTER / VF_SKETCH_STEP * VF_SKETCH_STEP;

	/* Many removed slots leave few rows. */
	if (s->nfit < VF_SKETCH_DIMS_MAX || s->ntrial < VF_TRIAL_ROWS_MIN)
		return 1;
	if (most > VF_SKETCH_DIMS_MAX)
		most = VF_SKETCH_DIMS_MAX;
	int rc = fit_within(g, s, VF_SKETCH_STEP, VF_SKETCH_STEP, out, err);
	return rc == 1 && most > VF_SKETCH_STEP ? fit_within(g, s, 2 * VF_SKETCH_STEP, most, out, err) : rc;
}

int vf_basis_fit(struct vf_graph *g, struct vf_basis *out, struct vf_err *err)
{
	struct sample sample = { .codes = NULL };
	int rc = take_sample(g, &sample, err);

	if (rc == 0)
		rc = fit(g, &sample, out, err);
	free(sample.codes);
	return rc;
}
