/* SPDX-License-Identifier: MIT */
/* dist_internal.h - what the rows of kernels share: the gather loop and the sums in double. */
#ifndef VECFS_DIST_INTERNAL_H
#define VECFS_DIST_INTERNAL_H

#include <string.h>

#include "vecfs/dist.h"

extern const struct vf_kernels vf_kernels_plain;
#if defined(__x86_64__)
extern const struct vf_kernels vf_kernels_avx2, vf_kernels_avx512;
#elif defined(__aarch64__)
extern const struct vf_kernels vf_kernels_neon;
#endif

vf_gather_fn vf_mixed_gather;
vf_place_fn vf_place;

bool vf_codes_u8(const float *vector, const float *mean, const struct vf_code_scale *scale, size_t n, uint8_t *code);
/* Half is added because a conversion cuts. */
#define VF_CODE_ROUND (VF_CODE_ZERO + 0.5f)
/* The last below the first that is above every byte. */
#define VF_CODE_TOP   255.99998f

/* A gather from `four`, which measures four rows at once; the last rows of a group are repeated to fill it, so that every
 * row goes through the same arithmetic. Four share each load of the query: 1.23 x on 768 dimensions. */
#define VF_GATHER(name, four, type, attribute)                                                                      \
	attribute static void name(const void *query, const void *rows, size_t stride, const uint32_t *ids,          \
	                           size_t count, size_t n, float *out)                                               \
	{                                                                                                            \
		const uint8_t *base = rows;                                                                          \
		const type *row[4];                                                                                  \
		float last[4];                                                                                       \
		size_t i = 0;                                                                                        \
		for (; i + 4 <= count; i += 4) {                                                                     \
			for (size_t k = 0; k < 4; k++)                                                               \
				row[k] = (const void *)(base + ids[i + k] * stride);                                 \
			four(query, row, n, out + i);                                                                \
		}                                                                                                    \
		if (i == count)                                                                                      \
			return;                                                                                      \
		for (size_t k = 0; k < 4; k++)                                                                       \
			row[k] = (const void *)(base + ids[i + k < count ? i + k : count - 1] * stride);             \
		four(query, row, n, last);                                                                           \
		for (size_t k = 0; i + k < count; k++)                                                               \
			out[i + k] = last[k];                                                                        \
	}

/* Sums in double go round eight lanes, then the lanes are added in a fixed order: the same operations in the same order, so the
 * same bits, on every instruction set (built with -ffp-contract=off, so that no multiply and add is fused). */
typedef double vf_lanes __attribute__((vector_size(32)));
typedef float vf_float_lanes __attribute__((vector_size(16), aligned(4), may_alias));

/* Four of the eight at a time: wider vectors gcc 12 takes to pieces, number by number, which was a quarter of a question's instructions
 * with AVX2. */
#define VF_LOAD_LANES(p) __builtin_convertvector(*(const vf_float_lanes *)(const void *)(p), vf_lanes)
#define VF_SUM_EIGHT(v) ((((v)[0] + (v)[1]) + ((v)[2] + (v)[3])) + (((v)[4] + (v)[5]) + ((v)[6] + (v)[7])))

#define VF_PUT_LANES(to, low, high) (memcpy((to), &(low), sizeof(low)), memcpy((to) + 4, &(high), sizeof(high)))

#define VF_EXACT_L2SQ(name, attribute)                                                                              \
	attribute static double name(const float *a, const float *b, size_t n)                                       \
	{                                                                                                            \
		vf_lanes low = { 0 }, high = { 0 };                                                                  \
		size_t i = 0;                                                                                        \
		for (; i + 8 <= n; i += 8) {                                                                         \
			vf_lanes d = VF_LOAD_LANES(a + i) - VF_LOAD_LANES(b + i);                                    \
			vf_lanes e = VF_LOAD_LANES(a + i + 4) - VF_LOAD_LANES(b + i + 4);                            \
			low += d * d;                                                                                \
			high += e * e;                                                                               \
		}                                                                                                    \
		double sum[8];                                                                                      \
		VF_PUT_LANES(sum, low, high);                                                                       \
		for (; i < n; i++) {                                                                                 \
			double d = (double)a[i] - (double)b[i];                                                      \
			sum[i % 8] += d * d;                                                                         \
		}                                                                                                    \
		return VF_SUM_EIGHT(sum);                                                                            \
	}

/* The numbers that fill no eight lanes, and the sums of the lanes. */
#define VF_EXACT_DOT_REST(a, b, i, n, lanes, sums)                                                                  \
	do {                                                                                                         \
		for (; i < n; i++) {                                                                                 \
			double x = a[i], y = b[i];                                                                   \
			lanes[0][i % 8] += x * y;                                                                    \
			lanes[1][i % 8] += y * y;                                                                    \
		}                                                                                                    \
		for (size_t k = 0; k < 2; k++)                                                                       \
			sums[k] = VF_SUM_EIGHT(lanes[k]);                                                            \
	} while (0)

#define VF_EXACT_DOT(name, attribute)                                                                               \
	attribute static void name(const float *a, const float *b, size_t n, double sums[2])                         \
	{                                                                                                            \
		vf_lanes ab = { 0 }, bb = { 0 }, ab2 = { 0 }, bb2 = { 0 };                                          \
		size_t i = 0;                                                                                       \
		for (; i + 8 <= n; i += 8) {                                                                        \
			vf_lanes x = VF_LOAD_LANES(a + i), y = VF_LOAD_LANES(b + i);                                       \
			vf_lanes u = VF_LOAD_LANES(a + i + 4), v = VF_LOAD_LANES(b + i + 4);                               \
			ab += x * y;                                                                                       \
			bb += y * y;                                                                                       \
			ab2 += u * v;                                                                                      \
			bb2 += v * v;                                                                                      \
		}                                                                                                   \
		double lanes[2][8];                                                                                 \
		VF_PUT_LANES(lanes[0], ab, ab2);                                                                    \
		VF_PUT_LANES(lanes[1], bb, bb2);                                                                    \
		VF_EXACT_DOT_REST(a, b, i, n, lanes, sums);                                                         \
	}

#endif
