/* SPDX-License-Identifier: MIT */
/* Kernels for AVX2 with FMA. */
#include "dist_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE AVX2 static inline __attribute__((always_inline))

AVX2_INLINE float sum_f32(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

AVX2_INLINE int32_t sum_i32(__m256i v)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

AVX2 static float dot_f32(const float *a, const float *b, size_t n)
{
	__m256 even = _mm256_setzero_ps(), odd = even;
	float rest = 0;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		even = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), even);
		odd = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), odd);
	}
	for (; i < n; i++)
		rest += a[i] * b[i];
	return sum_f32(_mm256_add_ps(even, odd)) + rest;
}

AVX2 static float l2sq_f32(const float *a, const float *b, size_t n)
{
	__m256 even = _mm256_setzero_ps(), odd = even;
	float rest = 0;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m256 d = _mm256_sub_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
		__m256 e = _mm256_sub_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
		even = _mm256_fmadd_ps(d, d, even);
		odd = _mm256_fmadd_ps(e, e, odd);
	}
	for (; i < n; i++)
		rest += (a[i] - b[i]) * (a[i] - b[i]);
	return sum_f32(_mm256_add_ps(even, odd)) + rest;
}

/* Sixteen codes as 16-bit numbers. */
AVX2_INLINE __m256i widen(const uint8_t *p)
{
	return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

AVX2_INLINE __m256i widen_signed(const uint8_t *p)
{
	__m128i flip = _mm_set1_epi8((char)0x80);

	return _mm256_cvtepi8_epi16(_mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)p), flip));
}

/* Sums of four rows are four variables, not an array: gcc would keep an array in memory. */
#define FOUR_ROWS(step, sum, row, ...)                                                                              \
	do {                                                                                                        \
		sum##0 = step(sum##0, row[0], __VA_ARGS__);                                                         \
		sum##1 = step(sum##1, row[1], __VA_ARGS__);                                                         \
		sum##2 = step(sum##2, row[2], __VA_ARGS__);                                                         \
		sum##3 = step(sum##3, row[3], __VA_ARGS__);                                                         \
	} while (0)

AVX2_INLINE __m256i l2sq_step(__m256i sum, const uint8_t *row, size_t i, __m256i a)
{
	__m256i d = _mm256_sub_epi16(a, widen(row + i));

	return _mm256_add_epi32(sum, _mm256_madd_epi16(d, d));
}

AVX2_INLINE __m256i dot_step(__m256i sum, const uint8_t *row, size_t i, __m256i a)
{
	return _mm256_add_epi32(sum, _mm256_madd_epi16(a, widen_signed(row + i)));
}

AVX2_INLINE __m256 l2sq_f32_step(__m256 sum, const float *row, size_t i, __m256 a)
{
	__m256 d = _mm256_sub_ps(a, _mm256_loadu_ps(row + i));

	return _mm256_fmadd_ps(d, d, sum);
}

AVX2_INLINE __m256 dot_f32_step(__m256 sum, const float *row, size_t i, __m256 a)
{
	return _mm256_fmadd_ps(a, _mm256_loadu_ps(row + i), sum);
}

static int32_t l2sq_rest(const uint8_t *a, const uint8_t *b, size_t i, size_t n)
{
	int32_t sum = 0;

	for (; i < n; i++)
		sum += (a[i] - b[i]) * (a[i] - b[i]);
	return sum;
}

static int32_t dot_rest(const uint8_t *a, const uint8_t *b, size_t i, size_t n)
{
	int32_t sum = 0;

	for (; i < n; i++)
		sum += (a[i] - 128) * (b[i] - 128);
	return sum;
}

static float l2sq_f32_rest(const float *a, const float *b, size_t i, size_t n)
{
	float sum = 0;

	for (; i < n; i++)
		sum += (a[i] - b[i]) * (a[i] - b[i]);
	return sum;
}

static float dot_f32_rest(const float *a, const float *b, size_t i, size_t n)
{
	float sum = 0;

	for (; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

AVX2 static uint32_t l2sq_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	__m256i sum = _mm256_setzero_si256();
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		sum = l2sq_step(sum, b, i, widen(a + i));
	return (uint32_t)(sum_i32(sum) + l2sq_rest(a, b, i, n));
}

AVX2 static int32_t dot_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	__m256i sum = _mm256_setzero_si256();
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		sum = dot_step(sum, b, i, widen_signed(a + i));
	return sum_i32(sum) + dot_rest(a, b, i, n);
}

#define FOUR(name, type, vector, zero, width, load, step, total, rest, sign)                                        \
	AVX2_INLINE void name(const type *q, const type *const row[4], size_t n, float out[4])                       \
	{                                                                                                            \
		vector sum0 = zero, sum1 = zero, sum2 = zero, sum3 = zero;                                           \
		size_t i = 0;                                                                                        \
		for (; i + width <= n; i += width) {                                                                 \
			vector a = load(q + i);                                                                      \
			FOUR_ROWS(step, sum, row, i, a);                                                             \
		}                                                                                                    \
		out[0] = sign (float)(total(sum0) + rest(q, row[0], i, n));                                          \
		out[1] = sign (float)(total(sum1) + rest(q, row[1], i, n));                                          \
		out[2] = sign (float)(total(sum2) + rest(q, row[2], i, n));                                          \
		out[3] = sign (float)(total(sum3) + rest(q, row[3], i, n));                                          \
	}

FOUR(l2sq_u8_four, uint8_t, __m256i, _mm256_setzero_si256(), 16, widen, l2sq_step, sum_i32, l2sq_rest, +)
FOUR(dot_u8_four, uint8_t, __m256i, _mm256_setzero_si256(), 16, widen_signed, dot_step, sum_i32, dot_rest, -)
FOUR(l2sq_f32_four, float, __m256, _mm256_setzero_ps(), 8, _mm256_loadu_ps, l2sq_f32_step, sum_f32, l2sq_f32_rest, +)
FOUR(dot_f32_four, float, __m256, _mm256_setzero_ps(), 8, _mm256_loadu_ps, dot_f32_step, sum_f32, dot_f32_rest, -)

AVX2 static void l2sq_mixed_gather(const void *query, const void *rows, size_t stride, const uint32_t *ids, size_t count, size_t n, float *out)
{
	const float *q = query;
	const uint8_t *base = rows;

	for (size_t k = 0; k < count; k++) {
		const uint8_t *row = base + ids[k] * stride;
		__m256 sum = _mm256_setzero_ps();
		size_t i = 0;
		for (; i + 8 <= n; i += 8) {
			__m256 b = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(row + i))));
			__m256 d = _mm256_sub_ps(_mm256_loadu_ps(q + i), b);
			sum = _mm256_fmadd_ps(d, d, sum);
		}
		float total = sum_f32(sum);
		for (; i < n; i++)
			total += (q[i] - (float)row[i]) * (q[i] - (float)row[i]);
		out[k] = total;
	}
}

VF_GATHER(l2sq_f32_gather, l2sq_f32_four, float, AVX2)
VF_GATHER(dot_f32_gather, dot_f32_four, float, AVX2)
VF_GATHER(l2sq_u8_gather, l2sq_u8_four, uint8_t, AVX2)
VF_GATHER(dot_u8_gather, dot_u8_four, uint8_t, AVX2)
VF_EXACT_L2SQ(exact_l2sq, AVX2)

AVX2_INLINE __m256d load_lanes(const float *p)
{
	return _mm256_cvtps_pd(_mm_loadu_ps(p));
}

/* The product of two floats is exact in double, so that fusing it with the sum changes no bit. */
AVX2 static void exact_dot(const float *a, const float *b, size_t n, double sums[2])
{
	__m256d ab = _mm256_setzero_pd(), bb = ab, ab2 = ab, bb2 = ab;
	double lanes[2][8];
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		__m256d x = load_lanes(a + i), y = load_lanes(b + i), u = load_lanes(a + i + 4), v = load_lanes(b + i + 4);
		ab = _mm256_fmadd_pd(x, y, ab);
		bb = _mm256_fmadd_pd(y, y, bb);
		ab2 = _mm256_fmadd_pd(u, v, ab2);
		bb2 = _mm256_fmadd_pd(v, v, bb2);
	}
	VF_PUT_LANES(lanes[0], ab, ab2);
	VF_PUT_LANES(lanes[1], bb, bb2);
	VF_EXACT_DOT_REST(a, b, i, n, lanes, sums);
}

AVX2_INLINE __m256 code_eight(const float *vector, const float *mean, const struct vf_code_scale *s)
{
	__m256 x = _mm256_sub_ps(_mm256_mul_ps(_mm256_loadu_ps(vector), _mm256_set1_ps(s->scale)), _mm256_loadu_ps(mean));

	return _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(s->inverse)), _mm256_set1_ps(VF_CODE_ROUND));
}

/* Products and sums apart: fused they would round otherwise than on other CPUs. */
AVX2 static bool codes_u8(const float *vector, const float *mean, const struct vf_code_scale *scale, size_t n, uint8_t *code)
{
	const __m256 zero = _mm256_setzero_ps(), top = _mm256_set1_ps(VF_CODE_TOP);
	__m256 clamped = zero;
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		__m256 x = code_eight(vector + i, mean + i, scale), kept = _mm256_min_ps(_mm256_max_ps(x, zero), top);
		clamped = _mm256_or_ps(clamped, _mm256_cmp_ps(x, zero, _CMP_LT_OQ));
		clamped = _mm256_or_ps(clamped, _mm256_cmp_ps(x, _mm256_set1_ps(256), _CMP_GE_OQ));
		__m256i ints = _mm256_cvttps_epi32(kept);
		__m128i words = _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1));
		_mm_storel_epi64((__m128i *)(void *)(code + i), _mm_packus_epi16(words, words));
	}
	bool rest = vf_codes_u8(vector + i, mean + i, scale, n - i, code + i);
	return rest || _mm256_movemask_ps(clamped);
}

const struct vf_kernels vf_kernels_avx2 = {
	"avx2", dot_f32, l2sq_f32, l2sq_u8, dot_u8,
	l2sq_f32_gather, dot_f32_gather, l2sq_u8_gather, dot_u8_gather, l2sq_mixed_gather, codes_u8, exact_l2sq, exact_dot, vf_place,
};
#else
typedef int vf_avx2_is_not_for_this_architecture;
#endif
