/* SPDX-License-Identifier: MIT */
/* Float queries against rows of bytes, where there is nothing better: portable vectors, which the compiler makes the best of that every CPU of
 * its kind has. */
#include "dist_internal.h"

#define LANES 16u

typedef float vf_floats __attribute__((vector_size(4 * LANES)));
typedef uint8_t vf_bytes __attribute__((vector_size(LANES)));

static float l2sq(const float *query, const uint8_t *row, size_t n)
{
	vf_floats sum = { 0 };
	float total = 0;
	size_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		vf_floats q;
		vf_bytes bytes;
		memcpy(&q, query + i, sizeof q);
		memcpy(&bytes, row + i, sizeof bytes);
		vf_floats d = q - __builtin_convertvector(bytes, vf_floats);
		sum += d * d;
	}
	for (; i < n; i++)
		total += (query[i] - (float)row[i]) * (query[i] - (float)row[i]);
	for (i = 0; i < LANES; i++)
		total += sum[i];
	return total;
}

void vf_mixed_gather(const void *query, const void *rows, size_t stride, const uint32_t *ids, size_t count, size_t n, float *out)
{
	const uint8_t *base = rows;

	for (size_t i = 0; i < count; i++)
		out[i] = l2sq(query, base + ids[i] * stride, n);
}
