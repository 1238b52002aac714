/* SPDX-License-Identifier: MIT */
/* basis.c - the directions along which the vectors of an index spread most, and sketches: a vector's code seen along these only. Vectors of many
 * dimensions mostly lie near a space of far fewer, so that a walk can tell near from far by a line or two of memory where the codes have a dozen
 * or two (Tepper et al., "LeanVec", 2023, search a graph so). */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "basis.h"
#include "vecfs/scramble.h"

#define SAMPLE_ROWS_MAX  4096u
#define SAMPLE_BYTES_MAX (16u << 20)
/* To find a direction by. */
#define ROWS_A_DIRECTION 2u
/* Sketches are worth their memory where codes are this many times as long. */
#define SHORTER          3u
/* Vectors to come may lie a little outside the sample. */
#define RANGE_MARGIN     1.1f
/* Of a byte from the middle. */
#define REACH            127.0f

struct sample {
	size_t nfit, ntrial;
	uint8_t *codes, *trial;    /* rows to fit to; and behind them those to try with */
};

void vf_basis_free(struct vf_basis *basis)
{
	free(basis->rows);
	free(basis->factor);
	*basis = (struct vf_basis){ 0 };
}

/* ---- sketches ---- */

/* Numbers that are too large are clamped, which moves no two apart, then rounded. Not fminf: gcc calls it. */
static float to_bytes(const float *numbers, size_t n, uint8_t *bytes)
{
	float square = 0;

	for (size_t i = 0; i < n; i++) {
		float number = numbers[i] + (VF_CODE_ZERO + 0.5f);
		number = number > 0 ? number : 0;
		number = number < UINT8_MAX ? number : UINT8_MAX;
		bytes[i] = (uint8_t)number;
		float off = number - (float)bytes[i] - 0.5f;
		square += off * off;
	}
	return sqrtf(square);
}

/* About the middle. */
static const uint8_t *middle_of(const struct vf_graph *g, const struct vf_basis *b)
{
	return b->rows + b->dims * g->code_stride;
}

/* Squares: of a code, as long as in a sketch, and of its numbers along the directions as far as a sketch reaches. */
struct seen { double whole, kept; };

static double whole_of(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code)
{
	return (double)b->scale * b->scale * vf_kernels()->l2sq_u8(code, middle_of(g, b), g->numbers);
}

/* The code along the directions. */
static struct seen look(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, float *numbers)
{
	struct seen seen = { whole_of(g, b, code), 0 };
	uint32_t all[VF_SKETCH_DIMS_MAX], n = vf_basis_directions(b);

	for (uint32_t j = 0; j < n; j++)
		all[j] = j;
	vf_kernels()->dot_u8_gather(code, b->rows, g->code_stride, all, n, g->numbers, numbers);
	for (uint32_t j = 0; j < n; j++) {
		numbers[j] *= -b->factor[j];
		double kept = fabsf(numbers[j]) < REACH ? numbers[j] : REACH;
		seen.kept += kept * kept;
	}
	return seen;
}

static double rest_of(const struct seen *seen)
{
	return seen->whole > seen->kept ? sqrt(seen->whole - seen->kept) : 0;
}

/* Along the directions what lies outside of them is in the middle of all, where walks would take it for near. By how much longer its rest is than that of any
 * vector of the trial keeps it away: less than it is away in truth. */
static uint8_t excess_of(const struct vf_basis *b, const struct seen *seen)
{
	double excess = rest_of(seen) - (double)b->reach;

	return (uint8_t)(excess < 0 ? 0 : excess > UINT8_MAX ? UINT8_MAX : excess);
}

static float put_sketch(const struct vf_basis *b, const struct seen *seen, const float *numbers, uint8_t *sketch)
{
	sketch[b->dims - 1] = excess_of(b, seen);
	return to_bytes(numbers, vf_basis_directions(b), sketch);
}

float vf_basis_sketch(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, uint8_t *sketch)
{
	float numbers[VF_SKETCH_DIMS_MAX];
	struct seen seen = look(g, b, code, numbers);

	return put_sketch(b, &seen, numbers, sketch);
}

/* Of the sketch itself, rounded as it is, so that all are held to the same. */
static float outside_of(const struct vf_graph *g, const struct vf_basis *b, double whole, const uint8_t *sketch)
{
	double kept = vf_kernels()->l2sq_u8(sketch, middle_of(g, b), vf_basis_directions(b));

	return whole > 0 ? (float)(1 - kept / whole) : 0;
}

float vf_basis_sketch_query(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, uint8_t *sketch, bool *stray)
{
	float numbers[VF_SKETCH_DIMS_MAX];
	struct seen seen = look(g, b, code, numbers);
	float off = put_sketch(b, &seen, numbers, sketch);

	*stray = outside_of(g, b, seen.whole, sketch) > b->stray;
	return off;
}

float vf_basis_outside(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, const uint8_t *sketch)
{
	return outside_of(g, b, whole_of(g, b, code), sketch);
}

float vf_basis_rest(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code)
{
	float numbers[VF_SKETCH_DIMS_MAX];
	struct seen seen = look(g, b, code, numbers);

	return (float)rest_of(&seen);
}

/* ---- fitting ---- */

static void put_row(struct vf_basis *b, size_t stride, size_t j, const float *row, size_t dim, float scale)
{
	float top = vf_largest(row, dim);

	b->factor[j] = scale * top / REACH;
	for (size_t i = 0; i < dim && top > 0; i++)
		b->rows[j * stride + i] = (uint8_t)(lrintf(row[i] * REACH / top) + VF_CODE_ZERO);
}

/* As floats from kernels. */
static void square(float *m, size_t n, float *out)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j <= i; j++)
			out[i * n + j] = out[j * n + i] = vf_kernels()->dot_f32(m + i * n, m + j * n, n);
}

/* The root of what no eigenvalue of the rows' products with each other exceeds: the largest of the squares, and the norm of the rest, which is at most the
 * fourth root of the Frobenius norm of its fourth power (with 64 directions a third, with 256 a sixth of what circles around the squares would say). */
static int stretch_of(const struct vf_graph *g, struct vf_basis *b, struct vf_err *err)
{
	size_t n = vf_basis_directions(b);
	float *products = malloc(2 * n * n * sizeof *products), *power = products + n * n;
	double largest = 0, norm = 0;

	if (!products)
		return vf_oom(err);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++) {
			double product = (double)b->factor[i] * b->factor[j] * vf_kernels()->dot_u8(b->rows + i * g->code_stride, b->rows + j * g->code_stride, g->numbers);
			largest = i == j && product > largest ? product : largest;
			products[i * n + j] = i == j ? 0 : (float)product;
		}
	square(products, n, power);
	square(power, n, products);
	for (size_t i = 0; i < n * n; i++)
		norm += (double)products[i] * products[i];
	b->stretch = (float)(sqrt(largest + pow(norm, 0.125)) * (1 + VF_LENGTH_OFF));
	free(products);
	return 0;
}

static void put_rows(const struct vf_graph *g, struct vf_basis *b, const float *directions, float largest)
{
	b->scale = REACH / (RANGE_MARGIN * (largest > 1 ? largest : 1));
	memset(b->rows, VF_CODE_ZERO, (b->dims + 1) * g->code_stride);
	for (size_t j = 0; j < vf_basis_directions(b); j++)
		put_row(b, g->code_stride, j, directions + j * g->quant.dim, g->quant.dim, b->scale);
}

/* Of the first directions. Free it also after a failure. */
static int make_basis(const struct vf_graph *g, struct vf_directions *d, size_t dims, struct vf_basis *out, struct vf_err *err)
{
	float *turned = malloc(dims * d->dim * sizeof *turned), largest;

	*out = (struct vf_basis){ .dims = (uint32_t)dims, .factor = malloc(dims * sizeof *out->factor), .rows = aligned_alloc(64, (dims + 1) * g->code_stride) };
	int rc = turned && out->factor && out->rows ? vf_directions_turn(d, vf_basis_directions(out), turned, &largest, err) : vf_oom(err);
	if (rc == 0) {
		put_rows(g, out, turned, largest);
		rc = stretch_of(g, out, err);
	}
	free(turned);
	return rc;
}

/* One slot of each of as many equal parts, anywhere in it and for either use: what comes in turn (titles and texts) is not taken for all there is. */
static void copy_rows(const struct vf_graph *g, struct sample *s, size_t rows)
{
	uint64_t slots = atomic_load(&g->slots);
	size_t end = rows;

	for (size_t i = 0; i < rows; i++) {
		uint64_t random = vf_scramble(i), from = i * slots / rows, part = (i + 1) * slots / rows - from;
		uint32_t slot = (uint32_t)(from + (random >> 1) % (part ? part : 1));
		uint8_t state = vf_slot_is(g, slot) & VF_IS_STATE;
		if (state != VF_SLOT_PENDING && state != VF_SLOT_LINKED)
			continue;
		size_t at = random & 1 ? s->nfit++ : --end;
		memcpy(s->codes + at * g->code_stride, vf_slot_code(g, slot), g->code_stride);
	}
	s->trial = s->codes + end * g->code_stride;
	s->ntrial = rows - end;
}

/* Copies, since the rest takes long, and no slot may be reused while codes are read. */
static int take_sample(struct vf_graph *g, struct sample *s, struct vf_err *err)
{
	size_t rows = SAMPLE_BYTES_MAX / g->code_stride < SAMPLE_ROWS_MAX ? SAMPLE_BYTES_MAX / g->code_stride : SAMPLE_ROWS_MAX;
	struct vf_walker *w;
	int rc;

	s->codes = aligned_alloc(64, rows * g->code_stride);
	if (!s->codes)
		return vf_oom(err);
	if ((rc = vf_walker_get_for_scan(g, &w, err)))
		return rc;
	copy_rows(g, s, rows);
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
			rc = vf_basis_try(g, out, s->trial, s->ntrial, err);
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

	if (most > s->nfit / ROWS_A_DIRECTION / VF_SKETCH_STEP * VF_SKETCH_STEP)
		most = s->nfit / ROWS_A_DIRECTION / VF_SKETCH_STEP * VF_SKETCH_STEP;
	if (most > VF_SKETCH_DIMS_MAX)
		most = VF_SKETCH_DIMS_MAX;
	if (most == 0 || s->ntrial < VF_TRIAL_ROWS_MIN)
		return vf_fail(err, EAGAIN, "most slots are free: %zu codes are too few to fit a basis to, or %zu to try it with", s->nfit, s->ntrial);
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
