/* SPDX-License-Identifier: MIT */
/* Kernels in plain C: for every CPU, and what the others are checked against. */
#include "dist_internal.h"

static float dot_f32(const float *a, const float *b, size_t n)
{
	float sum[4] = { 0 };
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		for (size_t k = 0; k < 4; k++)
			sum[k] += a[i + k] * b[i + k];
	for (; i < n; i++)
		sum[0] += a[i] * b[i];
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static float l2sq_f32(const float *a, const float *b, size_t n)
{
	float sum[4] = { 0 };
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		for (size_t k = 0; k < 4; k++) {
			float d = a[i + k] - b[i + k];
			sum[k] += d * d;
		}
	for (; i < n; i++)
		sum[0] += (a[i] - b[i]) * (a[i] - b[i]);
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static uint32_t l2sq_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		int32_t d = (int32_t)a[i] - (int32_t)b[i];
		sum += (uint32_t)(d * d);
	}
	return sum;
}

static int32_t dot_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	int32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += ((int32_t)a[i] - 128) * ((int32_t)b[i] - 128);
	return sum;
}

#define FOUR(name, one, type, sign)                                                              \
	static void name(const type *q, const type *const row[4], size_t n, float out[4])         \
	{                                                                                         \
		for (size_t k = 0; k < 4; k++)                                                    \
			out[k] = sign (float)one(q, row[k], n);                                   \
	}

FOUR(l2sq_f32_four, l2sq_f32, float, +)
FOUR(dot_f32_four, dot_f32, float, -)
FOUR(l2sq_u8_four, l2sq_u8, uint8_t, +)
FOUR(dot_u8_four, dot_u8, uint8_t, -)
VF_GATHER(l2sq_f32_gather, l2sq_f32_four, float, )
VF_GATHER(dot_f32_gather, dot_f32_four, float, )
VF_GATHER(l2sq_u8_gather, l2sq_u8_four, uint8_t, )
VF_GATHER(dot_u8_gather, dot_u8_four, uint8_t, )
VF_EXACT_L2SQ(exact_l2sq, )
VF_EXACT_DOT(exact_dot, )

const struct vf_kernels vf_kernels_plain = {
	"plain", dot_f32, l2sq_f32, l2sq_u8, dot_u8,
	l2sq_f32_gather, dot_f32_gather, l2sq_u8_gather, dot_u8_gather, vf_mixed_gather, vf_codes_u8, exact_l2sq, exact_dot, vf_place,
};
