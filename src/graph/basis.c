/* SPDX-License-Identifier: MIT */
/* basis.c - the directions along which the vectors of an index spread most, and sketches: a vector's code seen along these only. Vectors of many
 * dimensions mostly lie near a space of far fewer, so that a walk can tell near from far by a line or two of memory where the codes have a dozen
 * or two (principal components, used for searching a graph as by Tepper et al., "LeanVec", 2023).
 *
 * The directions are those that some of the codes spread along, by the power method on many at once. Whether they are enough is not told by how much
 * they keep, but by what they are for: other codes are asked for their neighbours, by whole codes and by sketches. */
#include <math.h>
#include <stdlib.h>

#include "graph_internal.h"

#define FIT_ROWS_MAX    2048u
#define FIT_NUMBERS_MAX (4u << 20)
#define TEST_ROWS_MAX   2048u
#define TEST_QUERIES    128u
/* Sketches are worth their memory where codes are this many times as long. */
#define SHORTER         3u
#define ROWS_MIN        VF_SKETCH_DIMS_MAX
/* Of this many nearest, so large a part must be among these and a few more by sketches; by so many a walk over sketches is wider. */
#define NEIGHBOURS      10u
#define FOUND_ENOUGH    0.99
#define SPARE_MAX       6u
/* One stored vector in a hundred of the test has as much outside of the basis, or more. */
#define STRAY_SHARE     0.01
/* Vectors to come may lie a little outside the sample. */
#define RANGE_MARGIN    1.1f

struct sample {
	size_t nfit, ntest, stride;
	uint8_t *codes;            /* rows to fit to, then rows to test with */
};

struct fit {
	size_t n, dim, dims;
	float *rows, *columns;     /* n x dim about the middle of the codes, and turned */
	float *basis, *products;   /* dims x dim, dims x n */
};

/* ---- the power method ---- */

/* out[j][i] = a[i] . b[j] */
static void multiply(const float *a, size_t na, const float *b, size_t nb, size_t len, float *out)
{
	enum { BLOCK = 32 };       /* rows of `a` that stay in the cache while `b` passes */

	for (size_t i = 0; i < na; i += BLOCK) {
		uint32_t ids[BLOCK];
		size_t n = na - i < BLOCK ? na - i : BLOCK;
		for (size_t k = 0; k < n; k++)
			ids[k] = (uint32_t)(i + k);
		for (size_t j = 0; j < nb; j++)
			vf_kernels()->dot_f32_gather(b + j * len, a, len * sizeof *a, ids, n, len, out + j * na + i);
	}
	/* Products come negated. */
	for (size_t i = 0; i < na * nb; i++)
		out[i] = -out[i];
}

typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));

static void add_scaled(float *to, const float *row, float by, size_t n)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		*(eight *)(void *)(to + i) += *(const eight *)(const void *)(row + i) * by;
	for (; i < n; i++)
		to[i] += row[i] * by;
}

/* Gram and Schmidt. A row that the ones before it span becomes 0. */
static void orthonormalize(float *rows, size_t n, size_t len)
{
	for (size_t j = 0; j < n; j++) {
		float *row = rows + j * len, before = vf_kernels()->dot_f32(row, row, len);
		for (size_t k = 0; k < j; k++)
			add_scaled(row, rows + k * len, -vf_kernels()->dot_f32(row, rows + k * len, len), len);
		float square = vf_kernels()->dot_f32(row, row, len), inverse = square > 1e-9f * before ? 1 / sqrtf(square) : 0;
		for (size_t i = 0; i < len; i++)
			row[i] *= inverse;
	}
}

/* xorshift64 */
static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* Sums of rows with random signs lie where the rows spread; each multiplication turns them further there. */
static void find_directions(struct fit *f)
{
	uint64_t random = 88172645463325252u;

	memset(f->basis, 0, f->dims * f->dim * sizeof *f->basis);
	for (size_t i = 0; i < f->n; i++)
		add_scaled(f->basis + i % f->dims * f->dim, f->rows + i * f->dim, next_random(&random) >> 63 ? 1 : -1, f->dim);
	orthonormalize(f->basis, f->dims, f->dim);
	multiply(f->rows, f->n, f->basis, f->dims, f->dim, f->products);
	multiply(f->columns, f->dim, f->products, f->dims, f->n, f->basis);
	orthonormalize(f->basis, f->dims, f->dim);
}

/* ---- as bytes ---- */

static void put_row(struct vf_basis *b, size_t stride, size_t j, const float *row, size_t dim, float scale)
{
	float top = 0;

	for (size_t i = 0; i < dim; i++)
		top = fmaxf(top, fabsf(row[i]));
	b->factor[j] = scale * top / 127;
	for (size_t i = 0; i < dim && top > 0; i++)
		b->rows[j * stride + i] = (uint8_t)(lrintf(row[i] * 127 / top) + VF_CODE_ZERO);
}

static float largest(const float *numbers, size_t n)
{
	float most = 0;

	for (size_t i = 0; i < n; i++)
		most = fmaxf(most, fabsf(numbers[i]));
	return most;
}

/* Turned at random: the first directions have most of the spread, and one scale has to do for all. */
static void rotate(const struct fit *f, size_t dims, float *turned, float *scratch)
{
	uint64_t random = 0x9e3779b97f4a7c15u;
	float *turn = scratch, *columns = scratch + dims * dims;

	for (size_t i = 0; i < dims * dims; i++) {
		turn[i] = 0;
		for (int k = 0; k < 4; k++)
			turn[i] += (float)(next_random(&random) >> 40) * 0x1p-24f - 0.5f;
	}
	orthonormalize(turn, dims, dims);
	for (size_t j = 0; j < dims; j++)
		for (size_t i = 0; i < f->dim; i++)
			columns[i * dims + j] = f->basis[j * f->dim + i];
	multiply(columns, f->dim, turn, dims, dims, turned);
}

/* The first `dims` directions as a basis of bytes. */
static int make_basis(const struct vf_graph *g, struct fit *f, size_t dims, struct vf_basis *out, struct vf_err *err)
{
	float *turned = malloc(dims * f->dim * sizeof *turned), *scratch = malloc((dims + f->dim) * dims * sizeof *scratch);

	*out = (struct vf_basis){ .dims = (uint32_t)dims, .factor = malloc(dims * sizeof *out->factor) };
	out->rows = aligned_alloc(64, (dims + 1) * g->code_stride);
	bool there = turned && scratch && out->factor && out->rows;
	if (there) {
		rotate(f, dims, turned, scratch);
		multiply(f->rows, f->n, turned, dims, f->dim, f->products);
		float most = largest(f->products, dims * f->n);
		out->scale = 127 / (RANGE_MARGIN * fmaxf(most, 1));
		memset(out->rows, VF_CODE_ZERO, (dims + 1) * g->code_stride);
		for (size_t j = 0; j < dims; j++)
			put_row(out, g->code_stride, j, turned + j * f->dim, f->dim, out->scale);
	} else {
		vf_basis_free(out);
	}
	free(turned);
	free(scratch);
	return there ? 0 : vf_oom(err);
}

void vf_basis_free(struct vf_basis *basis)
{
	free(basis->rows);
	free(basis->factor);
	*basis = (struct vf_basis){ 0 };
}

static uint8_t to_byte(float number)
{
	return (uint8_t)fminf(fmaxf(number + VF_CODE_ZERO + 0.5f, 0), UINT8_MAX);
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

void vf_basis_sketch(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, uint8_t *sketch)
{
	float numbers[VF_SKETCH_DIMS_MAX];

	along(g, b, code, numbers);
	for (uint32_t j = 0; j < b->dims; j++)
		sketch[j] = to_byte(numbers[j]);
}

void vf_basis_sketch_query(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, uint8_t *sketch)
{
	float numbers[VF_SKETCH_DIMS_MAX], scale = 1;

	along(g, b, code, numbers);
	/* A code with a scale of its own may lie anywhere. */
	if (g->params.metric == VF_DOT)
		scale = 127 / fmaxf(largest(numbers, b->dims), 1e-9f);
	for (uint32_t j = 0; j < b->dims; j++)
		sketch[j] = to_byte(numbers[j] * scale);
}

float vf_basis_outside(const struct vf_graph *g, const struct vf_basis *b, const uint8_t *code, const uint8_t *sketch)
{
	const uint8_t *zero = b->rows + b->dims * g->code_stride;
	float whole = (float)vf_kernels()->l2sq_u8(code, zero, g->numbers), kept = (float)vf_kernels()->l2sq_u8(sketch, zero, b->dims);

	return whole > 0 ? 1 - kept / (b->scale * b->scale * whole) : 0;
}

/* ---- whether it is enough ---- */

struct test {
	const struct vf_graph *g;
	const struct sample *sample;
	const uint8_t *codes;          /* ntest rows */
	uint8_t *sketches;
	uint32_t *all;
	float *distance, *by_sketch;
	uint64_t *keys;
};

/* The `want` nearest but the query itself, to the front of keys. */
static void nearest(const struct test *t, const float *distance, size_t query, size_t want)
{
	size_t n = 0;

	for (size_t i = 0; i < t->sample->ntest; i++)
		if (i != query)
			t->keys[n++] = vf_key_of(distance[i], (uint32_t)i);
	vf_keys_select(t->keys, n, want);
}

/* Where by sketches the nearest of one query come: adds to `at` how many at each place. One as near as the last of them is as good: there may be
 * copies. */
static void rank_nearest(const struct test *t, const struct vf_basis *b, size_t query, size_t at[NEIGHBOURS + SPARE_MAX])
{
	const struct vf_graph *g = t->g;
	size_t n = t->sample->ntest, found = 0;
	float last = -INFINITY;

	g->gather(t->codes + query * t->sample->stride, t->codes, t->sample->stride, t->all, n, g->numbers, t->distance);
	g->gather(t->sketches + query * b->dims, t->sketches, b->dims, t->all, n, b->dims, t->by_sketch);
	nearest(t, t->distance, query, NEIGHBOURS);
	for (size_t i = 0; i < NEIGHBOURS; i++)
		last = fmaxf(last, vf_key_distance(t->keys[i]));
	nearest(t, t->by_sketch, query, NEIGHBOURS + SPARE_MAX);
	vf_keys_sort(t->keys, NEIGHBOURS + SPARE_MAX);
	for (size_t i = 0; i < NEIGHBOURS + SPARE_MAX && found < NEIGHBOURS; i++)
		if (t->distance[vf_key_slot(t->keys[i])] <= last) {
			at[i]++;
			found++;
		}
}

/* The fewest that have to be looked at beyond the wanted; more than SPARE_MAX when these are not enough. */
static uint32_t spare_of(const struct test *t, const struct vf_basis *b)
{
	size_t at[NEIGHBOURS + SPARE_MAX] = { 0 }, found = 0;
	uint32_t places = 0;

	for (size_t i = 0; i < TEST_QUERIES; i++)
		rank_nearest(t, b, i * t->sample->ntest / TEST_QUERIES, at);
	while (places < NEIGHBOURS + SPARE_MAX && (double)found < FOUND_ENOUGH * NEIGHBOURS * TEST_QUERIES)
		found += at[places++];
	if ((double)found < FOUND_ENOUGH * NEIGHBOURS * TEST_QUERIES)
		return SPARE_MAX + 1;
	return places > NEIGHBOURS ? places - NEIGHBOURS : 0;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void note_strays(struct test *t, struct vf_basis *b)
{
	size_t n = t->sample->ntest;

	for (size_t i = 0; i < n; i++)
		t->distance[i] = vf_basis_outside(t->g, b, t->codes + i * t->sample->stride, t->sketches + i * b->dims);
	qsort(t->distance, n, sizeof *t->distance, compare);
	b->stray = t->distance[n - 1 - (size_t)((double)n * STRAY_SHARE)];
}

static bool passes(struct test *t, struct vf_basis *b)
{
	for (size_t i = 0; i < t->sample->ntest; i++)
		vf_basis_sketch(t->g, b, t->codes + i * t->sample->stride, t->sketches + i * b->dims);
	b->spare = spare_of(t, b);
	if (b->spare > SPARE_MAX)
		return false;
	note_strays(t, b);
	return true;
}

/* 0, 1 when it is not enough. */
static int test_basis(const struct vf_graph *g, const struct sample *sample, struct vf_basis *b, struct vf_err *err)
{
	size_t n = sample->ntest;
	struct test t = {
		.g = g, .sample = sample, .codes = sample->codes + sample->nfit * sample->stride, .sketches = aligned_alloc(64, n * b->dims),
		.all = malloc(n * sizeof *t.all), .distance = malloc(n * sizeof *t.distance), .by_sketch = malloc(n * sizeof *t.by_sketch),
		.keys = malloc(n * sizeof *t.keys),
	};
	int rc = t.sketches && t.all && t.distance && t.by_sketch && t.keys ? 0 : vf_oom(err);

	for (size_t i = 0; i < n && !rc; i++)
		t.all[i] = (uint32_t)i;
	if (!rc)
		rc = passes(&t, b) ? 0 : 1;
	free(t.sketches);
	free(t.all);
	free(t.distance);
	free(t.by_sketch);
	free(t.keys);
	return rc;
}

/* ---- fitting ---- */

/* Copies, since the rest takes long, and no slot may be reused while codes are read. */
static int take_sample(struct vf_graph *g, struct sample *s, struct vf_err *err)
{
	size_t fit = FIT_NUMBERS_MAX / g->quant.dim < FIT_ROWS_MAX ? FIT_NUMBERS_MAX / g->quant.dim : FIT_ROWS_MAX, most = fit + TEST_ROWS_MAX, n = 0;
	uint32_t slots = atomic_load(&g->slots);
	struct vf_walker *w;
	int rc;

	*s = (struct sample){ .stride = g->code_stride, .codes = aligned_alloc(64, most * g->code_stride) };
	if (!s->codes)
		return vf_oom(err);
	if ((rc = vf_walker_get_for_scan(g, &w, err)))
		return rc;
	for (size_t i = 0; i < most; i++) {
		/* Those to fit to lie between those to test with. */
		uint32_t slot = (uint32_t)((i < fit ? i * slots / fit : (2 * (i - fit) + 1) * slots / (2 * TEST_ROWS_MAX)));
		uint8_t state = vf_slot_is(g, slot) & VF_IS_STATE;
		if (state == VF_SLOT_PENDING || state == VF_SLOT_LINKED)
			memcpy(s->codes + n++ * s->stride, vf_slot_code(g, slot), s->stride);
		if (i + 1 == fit)
			s->nfit = n;
	}
	s->ntest = n - s->nfit;
	vf_walker_put(g, w);
	return 0;
}

static void free_fit(struct fit *f)
{
	free(f->rows);
	free(f->columns);
	free(f->basis);
	free(f->products);
}

static int init_fit(struct fit *f, const struct sample *s, size_t dim, size_t dims, struct vf_err *err)
{
	*f = (struct fit){ .n = s->nfit, .dim = dim, .dims = dims, .rows = malloc(s->nfit * dim * sizeof(float)),
	                   .columns = malloc(s->nfit * dim * sizeof(float)), .basis = malloc(dims * dim * sizeof(float)),
	                   .products = malloc(dims * s->nfit * sizeof(float)) };
	if (!f->rows || !f->columns || !f->basis || !f->products)
		return vf_oom(err);
	for (size_t r = 0; r < f->n; r++)
		for (size_t i = 0; i < dim; i++)
			f->columns[i * f->n + r] = f->rows[r * dim + i] = (float)s->codes[r * s->stride + i] - VF_CODE_ZERO;
	return 0;
}

/* The first of `least`, `least` + VF_SKETCH_STEP, ... `most` dimensions that are enough. */
static int fit_within(const struct vf_graph *g, const struct sample *sample, size_t least, size_t most, struct vf_basis *out, struct vf_err *err)
{
	struct fit f;
	int rc = init_fit(&f, sample, g->quant.dim, most, err);

	if (rc == 0) {
		find_directions(&f);
		rc = 1;
	}
	for (size_t dims = least; dims <= most && rc == 1; dims += VF_SKETCH_STEP) {
		if ((rc = make_basis(g, &f, dims, out, err)))
			break;
		if ((rc = test_basis(g, sample, out, err)))
			vf_basis_free(out);
	}
	free_fit(&f);
	return rc;
}

int vf_basis_fit(struct vf_graph *g, struct vf_basis *out, struct vf_err *err)
{
	size_t most = g->quant.dim / SHORTER / VF_SKETCH_STEP * VF_SKETCH_STEP;
	struct sample sample;
	int rc = take_sample(g, &sample, err);

	if (most > VF_SKETCH_DIMS_MAX)
		most = VF_SKETCH_DIMS_MAX;
	/* Many removed slots leave few rows. */
	bool enough = rc == 0 && sample.nfit >= ROWS_MIN && sample.ntest >= ROWS_MIN;
	/* Few directions are found faster, and mostly they do. */
	if (rc == 0)
		rc = enough ? fit_within(g, &sample, VF_SKETCH_STEP, VF_SKETCH_STEP, out, err) : 1;
	if (rc == 1 && enough && most > VF_SKETCH_STEP)
		rc = fit_within(g, &sample, 2 * VF_SKETCH_STEP, most, out, err);
	free(sample.codes);
	return rc;
}
