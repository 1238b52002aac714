/* SPDX-License-Identifier: MIT */
/* From float32 to codes: one step for all dimensions, centred on the mean, so that the squared difference of codes ranks as the
 * true distance does. Under cosine vectors are normalised first. */
#include <endian.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "graph_internal.h"

#define CODE_HALF   127.0f
#define BINS        4096u
/* Clipping at 4 sigma costs GloVe 1.3 points of recall, at 8 nothing. Up to 12 sigma the step stays fine enough that
 * the largest value decides; past that, values whose energy does not count are clipped. */
#define SIGMAS_FREE 12.0
#define ENERGY_LOST 1e-6
/* So few vectors of a sample may be left out that reach so many times as far as the one after them. */
#define GIANTS_PART 256u
#define GIANT       4.0f
/* Vectors to come may lie a little outside the sample. */
#define CLIP_MARGIN 1.1

double vf_quant_scale(enum vf_metric metric, const float *vector, uint32_t dim)
{
	if (metric != VF_COSINE)
		return 1;
	double square = vf_square(vector, dim);
	return square > 0 ? 1 / sqrt(square) : 1;
}

struct spread { double *mean; double max, energy; uint64_t count[BINS]; double sum[BINS]; };

/* Numbers are added up in lanes, which the compiler takes side by side. */
#define LANES 8u
struct lanes { double max[LANES], energy[LANES]; };

/* Rows of the sample that the fit is for. */
struct rows { const float **row; size_t n; uint32_t dim; enum vf_metric metric; };

static void fit_mean(struct spread *s, const struct rows *rows)
{
	memset(s->mean, 0, rows->dim * sizeof *s->mean);
	for (size_t r = 0; r < rows->n && rows->metric != VF_DOT; r++) {
		double scale = vf_quant_scale(rows->metric, rows->row[r], rows->dim);
		for (uint32_t i = 0; i < rows->dim; i++)
			s->mean[i] += rows->row[r][i] * scale;
	}
	for (uint32_t i = 0; rows->n > 0 && i < rows->dim; i++)
		s->mean[i] /= (double)rows->n;
}

static double off_mean(const struct spread *s, const float *row, double scale, uint32_t i)
{
	return fabs(row[i] * scale - s->mean[i]);
}

static void add_lane(struct lanes *lanes, uint32_t lane, double d)
{
	lanes->max[lane] = d > lanes->max[lane] ? d : lanes->max[lane];
	lanes->energy[lane] += d * d;
}

static void fit_spread(struct spread *s, const struct rows *rows)
{
	struct lanes lanes = { { 0 }, { 0 } };

	for (size_t r = 0; r < rows->n; r++) {
		const float *row = rows->row[r];
		double scale = vf_quant_scale(rows->metric, row, rows->dim);
		uint32_t i = 0;
		for (; i + LANES <= rows->dim; i += LANES)
			for (uint32_t lane = 0; lane < LANES; lane++)
				add_lane(&lanes, lane, off_mean(s, row, scale, i + lane));
		for (; i < rows->dim; i++)
			add_lane(&lanes, 0, off_mean(s, row, scale, i));
	}
	for (uint32_t lane = 0; lane < LANES; lane++) {
		s->max = fmax(s->max, lanes.max[lane]);
		s->energy += lanes.energy[lane];
	}
}

static void fit_bins(struct spread *s, const struct rows *rows)
{
	for (size_t r = 0; r < rows->n; r++) {
		double scale = vf_quant_scale(rows->metric, rows->row[r], rows->dim);
		for (uint32_t i = 0; i < rows->dim; i++) {
			double d = off_mean(s, rows->row[r], scale, i);
			uint32_t bin = (uint32_t)(d / s->max * (BINS - 1));
			s->count[bin]++;
			s->sum[bin] += d;
		}
	}
}

/* The smallest clip, not below `least`, that loses next to none of the energy. */
static double clip_by_energy(const struct spread *s, double least)
{
	double count = 0, sum = 0, squares = 0, clip = s->max;

	for (uint32_t bin = BINS; bin-- > 0;) {
		double edge = s->max * bin / (BINS - 1);
		if (s->count[bin]) {
			double middle = s->sum[bin] / (double)s->count[bin];
			count += (double)s->count[bin];
			sum += s->sum[bin];
			squares += middle * s->sum[bin];
		}
		if (edge < least || squares - 2 * edge * sum + edge * edge * count > ENERGY_LOST * s->energy)
			break;
		clip = edge;
	}
	return clip;
}

static float fit_step(struct spread *s, const struct rows *rows)
{
	fit_spread(s, rows);
	if (!(s->max > 0))
		return 1 / CODE_HALF;
	double least = SIGMAS_FREE * sqrt(s->energy / ((double)rows->n * rows->dim)), clip = s->max;
	if (clip > least) {
		fit_bins(s, rows);
		clip = clip_by_energy(s, least);
	}
	float step = (float)(clip * CLIP_MARGIN) / CODE_HALF;
	return step > 0 && isfinite(step) ? step : 1 / CODE_HALF;
}

/* ---- giants ---- */

static float reach_of(const struct spread *s, const struct rows *rows, size_t r)
{
	double scale = vf_quant_scale(rows->metric, rows->row[r], rows->dim), most = 0;

	for (uint32_t i = 0; i < rows->dim; i++)
		most = fmax(most, off_mean(s, rows->row[r], scale, i));
	return (float)most;
}

/* A few vectors that reach far beyond all the others are left out: with codes that reach as far the others would all have the same. They will be
 * outliers. `reach` and `sorted` have room for all. */
static void leave_out_giants(const struct spread *s, struct rows *rows, float *reach, float *sorted)
{
	size_t kept = 0, giants = rows->n / GIANTS_PART;

	for (size_t r = 0; r < rows->n; r++)
		sorted[r] = reach[r] = reach_of(s, rows, r);
	qsort(sorted, rows->n, sizeof *sorted, vf_compare_floats);
	for (size_t r = 0; r < rows->n; r++)
		if (!(reach[r] > GIANT * sorted[rows->n - 1 - giants]))
			rows->row[kept++] = rows->row[r];
	rows->n = kept;
}

static int fit(struct vf_quant *quant, struct spread *s, struct rows *rows, struct vf_err *err)
{
	float *reach = malloc((2 * rows->n + 1) * sizeof *reach);

	if (!reach)
		return vf_oom(err);
	fit_mean(s, rows);
	if (rows->n > 0)
		leave_out_giants(s, rows, reach, reach + rows->n);
	free(reach);
	fit_mean(s, rows);
	quant->step = fit_step(s, rows);
	for (uint32_t i = 0; i < rows->dim; i++)
		quant->mean[i] = (float)s->mean[i];
	return 0;
}

static int fit_sample(struct vf_quant *quant, enum vf_metric metric, const float *sample, size_t n, struct vf_err *err)
{
	struct rows rows = { .row = malloc((n + 1) * sizeof *rows.row), .n = n, .dim = quant->dim, .metric = metric };
	struct spread *spread = calloc(1, sizeof *spread);
	int rc = 0;

	if (rows.row && spread && (spread->mean = calloc(quant->dim, sizeof *spread->mean))) {
		for (size_t r = 0; r < n; r++)
			rows.row[r] = sample + r * quant->dim;
		rc = fit(quant, spread, &rows, err);
	} else {
		rc = vf_oom(err);
	}
	free(spread ? spread->mean : NULL);
	free(spread);
	free(rows.row);
	return rc;
}

int vf_quant_fit(struct vf_quant *quant, enum vf_code code, enum vf_metric metric, uint32_t dim,
                 const float *sample, size_t n, struct vf_err *err)
{
	*quant = (struct vf_quant){ .code = code, .dim = dim, .mean = calloc(dim, sizeof *quant->mean) };
	if (!quant->mean)
		return vf_oom(err);
	int rc = code == VF_CODE_F32 ? 0 : fit_sample(quant, metric, sample, n, err);
	if (rc)
		vf_quant_free(quant);
	return rc;
}

static void put_u32(uint8_t *at, uint32_t v)
{
	v = htole32(v);
	memcpy(at, &v, 4);
}

static uint32_t get_u32(const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, 4);
	return le32toh(v);
}

static void put_f32(uint8_t *at, float f)
{
	uint32_t v;

	memcpy(&v, &f, 4);
	put_u32(at, v);
}

static float get_f32(const uint8_t *at)
{
	uint32_t v = get_u32(at);
	float f;

	memcpy(&f, &v, 4);
	return f;
}

int vf_quant_encode(const struct vf_quant *quant, struct vf_buf *out, struct vf_err *err)
{
	int rc = vf_buf_reserve(out, 12 + 4 * (size_t)quant->dim, err);

	if (rc)
		return rc;
	uint8_t *at = out->data + out->len;
	put_u32(at, (uint32_t)quant->code);
	put_u32(at + 4, quant->dim);
	put_f32(at + 8, quant->step);
	for (uint32_t i = 0; i < quant->dim; i++)
		put_f32(at + 12 + 4 * (size_t)i, quant->mean[i]);
	out->len += 12 + 4 * (size_t)quant->dim;
	return 0;
}

int vf_quant_decode(struct vf_quant *quant, struct vf_span bytes, struct vf_err *err)
{
	if (bytes.len < 12)
		return vf_fail(err, EIO, "the quantizer has %zu bytes, fewer than its head of 12", bytes.len);
	uint32_t code = get_u32(bytes.data), dim = get_u32(bytes.data + 4);
	float step = get_f32(bytes.data + 8);
	if (code > VF_CODE_U8 || dim == 0 || dim > VF_DIM_MAX || bytes.len != 12 + 4 * (size_t)dim)
		return vf_fail(err, EIO, "the quantizer has code %u, dimension %u and %zu bytes", code, dim, bytes.len);
	if (!isfinite(step) || (code == VF_CODE_U8 && step <= 0))
		return vf_fail(err, EIO, "the quantizer has a step of %g", (double)step);
	float *mean = malloc(dim * sizeof *mean);
	if (!mean)
		return vf_oom(err);
	for (uint32_t i = 0; i < dim; i++) {
		mean[i] = get_f32(bytes.data + 12 + 4 * (size_t)i);
		if (!isfinite(mean[i])) {
			free(mean);
			return vf_fail(err, EIO, "the quantizer's mean of dimension %u is not a number", i);
		}
	}
	*quant = (struct vf_quant){ .code = (enum vf_code)code, .dim = dim, .step = step, .mean = mean };
	return 0;
}

void vf_quant_free(struct vf_quant *quant)
{
	free(quant->mean);
	*quant = (struct vf_quant){ 0 };
}

/* How vectors of one kind lie on the codes. */
struct scale {
	float lift, scale;         /* factors, one after the other */
	float step;
};

/* A length that no float has the inverse of. The power of two loses nothing of numbers that small. */
#define LIFT 0x1p100f

static struct scale scale_of_vector(const struct vf_quant *quant, enum vf_metric metric, const float *vector)
{
	double scale = vf_quant_scale(metric, vector, quant->dim);
	float lift = scale > (double)FLT_MAX ? LIFT : 1;

	return (struct scale){ lift, (float)(scale / (double)lift), quant->step };
}

static void apply_f32(const struct vf_graph *g, const float *vector, uint8_t *code)
{
	struct scale s = scale_of_vector(&g->quant, g->params.metric, vector);

	memset(code, 0, g->code_stride);
	for (uint32_t i = 0; i < g->quant.dim; i++) {
		float x = vector[i] * s.lift * s.scale + 0.0f;   /* no -0: equal vectors have equal bytes */
		memcpy(code + 4 * (size_t)i, &x, 4);
	}
}

static struct scale scale_of_query(const struct vf_graph *g, const float *vector)
{
	float most = 0;

	if (g->params.metric != VF_DOT)
		return scale_of_vector(&g->quant, g->params.metric, vector);
	for (uint32_t i = 0; i < g->quant.dim; i++)
		most = fabsf(vector[i]) > most ? fabsf(vector[i]) : most;
	float step = most / CODE_HALF;
	if (!(step > 0 && isfinite(1 / step)))
		step = 1;
	return (struct scale){ 1, 1, step };
}

static float unit_of(const struct vf_quant *quant, const float *vector, const struct scale *s, uint32_t i)
{
	return (vector[i] * s->lift * s->scale - quant->mean[i]) / s->step;
}

/* The squared way that clamping moves it. */
static double clamped_by(const struct vf_quant *quant, const float *vector, const struct scale *s)
{
	double square = 0;

	for (uint32_t i = 0; i < quant->dim; i++) {
		double unit = unit_of(quant, vector, s, i), beyond = fmax(unit - (CODE_HALF + 0.5), -VF_CODE_ZERO - 0.5 - unit);
		square += beyond > 0 ? beyond * beyond : 0;
	}
	return square;
}

/* What the kernels do, of a vector that has to be lifted. */
static bool bytes_of_lifted(const struct vf_quant *quant, const float *vector, const struct scale *s, uint8_t *code)
{
	bool clamped = false;

	for (uint32_t i = 0; i < quant->dim; i++) {
		float number = rintf(unit_of(quant, vector, s, i)) + VF_CODE_ZERO, byte = fminf(fmaxf(number, 0), UINT8_MAX);
		clamped |= byte != number;
		code[i] = (uint8_t)byte;
	}
	return clamped;
}

static enum vf_clamped bytes_of(const struct vf_quant *quant, const float *vector, const struct scale *s, uint8_t *code)
{
	const struct vf_code_scale on_codes = { s->scale, 1 / s->step };
	bool clamped = s->lift > 1 ? bytes_of_lifted(quant, vector, s, code) : vf_kernels()->codes_u8(vector, quant->mean, &on_codes, quant->dim, code);

	if (!clamped)
		return VF_CLAMPED_NOT;
	return clamped_by(quant, vector, s) > VF_ROUNDING * quant->dim ? VF_CLAMPED_FAR : VF_CLAMPED_LITTLE;
}

enum vf_clamped vf_quant_bytes(const struct vf_quant *quant, enum vf_metric metric, const float *vector, uint8_t *code)
{
	struct scale s = scale_of_vector(quant, metric, vector);

	return bytes_of(quant, vector, &s, code);
}

static enum vf_clamped apply_u8(const struct vf_graph *g, const float *vector, const struct scale *s, uint8_t *code)
{
	memset(code + g->quant.dim, VF_CODE_ZERO, g->code_stride - g->quant.dim);
	return bytes_of(&g->quant, vector, s, code);
}

enum vf_clamped vf_quant_apply(const struct vf_graph *g, const float *vector, uint8_t *code)
{
	struct scale s = scale_of_vector(&g->quant, g->params.metric, vector);

	if (g->quant.code == VF_CODE_U8)
		return apply_u8(g, vector, &s, code);
	apply_f32(g, vector, code);
	return VF_CLAMPED_NOT;
}

static void put_units(const struct vf_graph *g, const float *vector, const struct scale *s, float *units)
{
	float zero = g->params.metric == VF_DOT ? 0 : VF_CODE_ZERO;

	for (uint32_t i = 0; i < g->quant.dim; i++)
		units[i] = unit_of(&g->quant, vector, s, i) + zero;
	for (size_t i = g->quant.dim; i < g->numbers; i++)
		units[i] = zero;
}

void vf_quant_units(const struct vf_graph *g, const float *vector, float *units)
{
	struct scale s = scale_of_vector(&g->quant, g->params.metric, vector);

	put_units(g, vector, &s, units);
}

void vf_quant_query_units(const struct vf_graph *g, const float *vector, float *units)
{
	struct scale s = scale_of_query(g, vector);

	put_units(g, vector, &s, units);
}

void vf_quant_aim(const struct vf_graph *g, const float *vector, struct vf_walker *w)
{
	struct scale s = scale_of_query(g, vector);

	w->aim = w->code;
	w->gather = g->gather;
	if (g->quant.code == VF_CODE_F32) {
		vf_quant_apply(g, vector, w->code);
	} else if (apply_u8(g, vector, &s, w->code) == VF_CLAMPED_FAR && g->params.metric != VF_DOT) {
		put_units(g, vector, &s, w->units);
		w->aim = w->units;
		w->gather = vf_kernels()->l2sq_mixed_gather;
		w->stats.beyond_codes = true;
	}
}
