/* SPDX-License-Identifier: MIT */
/* Kernels for NEON, which every 64-bit ARM has. */
#include "dist_internal.h"

#if defined(__aarch64__)
#include <arm_neon.h>

/* Loops over rows are unrolled by name: otherwise gcc keeps the sums in memory. */
#define NEON_INLINE static inline __attribute__((always_inline))

NEON_INLINE void l2sq_f32_rows(const float *q, const float *const *row, size_t rows, size_t n, float *out)
{
	float32x4_t sum[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
	float rest[4] = { 0 };
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
#pragma GCC unroll 4
		for (size_t k = 0; k < rows; k++) {
			float32x4_t d = vsubq_f32(vld1q_f32(q + i), vld1q_f32(row[k] + i));
			sum[k] = vfmaq_f32(sum[k], d, d);
		}
	for (; i < n; i++)
#pragma GCC unroll 4
		for (size_t k = 0; k < rows; k++)
			rest[k] += (q[i] - row[k][i]) * (q[i] - row[k][i]);
	for (size_t k = 0; k < rows; k++)
		out[k] = vaddvq_f32(sum[k]) + rest[k];
}

NEON_INLINE void dot_f32_rows(const float *q, const float *const *row, size_t rows, size_t n, float *out)
{
	float32x4_t sum[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
	float rest[4] = { 0 };
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
#pragma GCC unroll 4
		for (size_t k = 0; k < rows; k++)
			sum[k] = vfmaq_f32(sum[k], vld1q_f32(q + i), vld1q_f32(row[k] + i));
	for (; i < n; i++)
#pragma GCC unroll 4
		for (size_t k = 0; k < rows; k++)
			rest[k] += q[i] * row[k][i];
	for (size_t k = 0; k < rows; k++)
		out[k] = vaddvq_f32(sum[k]) + rest[k];
}

NEON_INLINE void l2sq_u8_rows(const uint8_t *q, const uint8_t *const *row, size_t rows, size_t n, uint32_t *out)
{
	uint32x4_t sum[4] = { vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0) };
	uint32_t rest[4] = { 0 };
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		uint8x16_t a = vld1q_u8(q + i);
#pragma GCC unroll 4
		for (size_t k = 0; k < rows; k++) {
			uint8x16_t d = vabdq_u8(a, vld1q_u8(row[k] + i));
			sum[k] = vpadalq_u16(sum[k], vmull_u8(vget_low_u8(d), vget_low_u8(d)));
			sum[k] = vpadalq_u16(sum[k], vmull_high_u8(d, d));
		}
	}
	for (; i < n; i++)
#pragma GCC unroll 4
		for (size_t k = 0; k < rows; k++)
			rest[k] += (uint32_t)((q[i] - row[k][i]) * (q[i] - row[k][i]));
	for (size_t k = 0; k < rows; k++)
		out[k] = vaddvq_u32(sum[k]) + rest[k];
}

NEON_INLINE void dot_u8_rows(const uint8_t *q, const uint8_t *const *row, size_t rows, size_t n, int32_t *out)
{
	int32x4_t sum[4] = { vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0) };
	const uint8x16_t flip = vdupq_n_u8(0x80);
	int32_t rest[4] = { 0 };
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		int8x16_t a = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(q + i), flip));
#pragma GCC unroll 4
		for (size_t k = 0; k < rows; k++) {
			int8x16_t b = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(row[k] + i), flip));
			sum[k] = vpadalq_s16(sum[k], vmull_s8(vget_low_s8(a), vget_low_s8(b)));
			sum[k] = vpadalq_s16(sum[k], vmull_high_s8(a, b));
		}
	}
	for (; i < n; i++)
#pragma GCC unroll 4
		for (size_t k = 0; k < rows; k++)
			rest[k] += (q[i] - 128) * (row[k][i] - 128);
	for (size_t k = 0; k < rows; k++)
		out[k] = vaddvq_s32(sum[k]) + rest[k];
}

#define ONE(name, rows, type, result)                                                            \
	static result name(const type *a, const type *b, size_t n)                                \
	{                                                                                         \
		result sum;                                                                       \
		rows(a, &b, 1, n, &sum);                                                          \
		return sum;                                                                       \
	}
#define FOUR(name, rows, type, result, sign)                                                     \
	static inline void name(const type *q, const type *const row[4], size_t n, float out[4])  \
	{                                                                                         \
		result sum[4];                                                                    \
		rows(q, row, 4, n, sum);                                                          \
		for (size_t k = 0; k < 4; k++)                                                    \
			out[k] = sign (float)sum[k];                                              \
	}

ONE(dot_f32, dot_f32_rows, float, float)
ONE(l2sq_f32, l2sq_f32_rows, float, float)
ONE(l2sq_u8, l2sq_u8_rows, uint8_t, uint32_t)
ONE(dot_u8, dot_u8_rows, uint8_t, int32_t)
FOUR(l2sq_f32_four, l2sq_f32_rows, float, float, +)
FOUR(dot_f32_four, dot_f32_rows, float, float, -)
FOUR(l2sq_u8_four, l2sq_u8_rows, uint8_t, uint32_t, +)
FOUR(dot_u8_four, dot_u8_rows, uint8_t, int32_t, -)
VF_GATHER(l2sq_f32_gather, l2sq_f32_four, float, )
VF_GATHER(dot_f32_gather, dot_f32_four, float, )
VF_GATHER(l2sq_u8_gather, l2sq_u8_four, uint8_t, )
VF_GATHER(dot_u8_gather, dot_u8_four, uint8_t, )
VF_EXACT_L2SQ(exact_l2sq, )
VF_EXACT_DOT(exact_dot, )

const struct vf_kernels vf_kernels_neon = {
	"neon", dot_f32, l2sq_f32, l2sq_u8, dot_u8,
	l2sq_f32_gather, dot_f32_gather, l2sq_u8_gather, dot_u8_gather, vf_mixed_gather, vf_codes_u8, exact_l2sq, exact_dot, vf_place,
};
#else
typedef int vf_neon_is_not_for_this_architecture;
#endif
