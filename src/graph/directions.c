/* SPDX-License-Identifier: MIT */
/* directions.c - the directions along which rows spread most (principal components), by the power method on many at once: a product with the rows and
 * back turns any directions towards them. */
#include <math.h>
#include <stdlib.h>

#include "basis.h"
#include "vecfs/scramble.h"

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

/* Sums of rows with random signs lie where the rows spread; one more product turns them further there (a second one changes recall by .002). */
static void find(struct vf_directions *d)
{
	memset(d->basis, 0, d->count * d->dim * sizeof *d->basis);
	for (size_t i = 0; i < d->n; i++)
		add_scaled(d->basis + i % d->count * d->dim, d->rows + i * d->dim, vf_scramble(i) >> 63 ? 1 : -1, d->dim);
	orthonormalize(d->basis, d->count, d->dim);
	multiply(d->rows, d->n, d->basis, d->count, d->dim, d->products);
	multiply(d->columns, d->dim, d->products, d->count, d->n, d->basis);
	orthonormalize(d->basis, d->count, d->dim);
}

int vf_directions_find(struct vf_directions *d, const uint8_t *codes, size_t n, size_t stride, size_t dim, size_t count, struct vf_err *err)
{
	*d = (struct vf_directions){ .n = n, .dim = dim, .count = count, .rows = malloc(n * dim * sizeof(float)), .columns = malloc(n * dim * sizeof(float)),
	                             .basis = malloc(count * dim * sizeof(float)), .products = malloc(count * n * sizeof(float)) };
	if (!d->rows || !d->columns || !d->basis || !d->products)
		return vf_oom(err);
	for (size_t r = 0; r < n; r++)
		for (size_t i = 0; i < dim; i++)
			d->columns[i * n + r] = d->rows[r * dim + i] = (float)codes[r * stride + i] - VF_CODE_ZERO;
	find(d);
	return 0;
}

void vf_directions_free(struct vf_directions *d)
{
	free(d->rows);
	free(d->columns);
	free(d->basis);
	free(d->products);
}

/* Sums of four are near enough to normal. */
static void fill_random(float *numbers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		numbers[i] = 0;
		for (size_t k = 0; k < 4; k++)
			numbers[i] += (float)(vf_scramble(4 * i + k) >> 40) * 0x1p-24f - 0.5f;
	}
}

int vf_directions_turn(struct vf_directions *d, size_t count, float *turned, float *largest, struct vf_err *err)
{
	float *turn = malloc(count * count * sizeof *turn), *columns = malloc(d->dim * count * sizeof *columns);
	int rc = turn && columns ? 0 : vf_oom(err);

	if (rc == 0) {
		fill_random(turn, count * count);
		orthonormalize(turn, count, count);
		for (size_t j = 0; j < count; j++)
			for (size_t i = 0; i < d->dim; i++)
				columns[i * count + j] = d->basis[j * d->dim + i];
		multiply(columns, d->dim, turn, count, count, turned);
		multiply(d->rows, d->n, turned, count, d->dim, d->products);
		*largest = vf_largest(d->products, count * d->n);
	}
	free(turn);
	free(columns);
	return rc;
}
