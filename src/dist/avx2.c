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
	__m256 sum[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps() };
	float rest = 0;
	size_t i = 0;

	for (; i + 32 <= n; i += 32)
		for (size_t k = 0; k < 4; k++)
			sum[k] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8 * k), _mm256_loadu_ps(b + i + 8 * k), sum[k]);
	for (; i + 8 <= n; i += 8)
		sum[0] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), sum[0]);
	for (; i < n; i++)
		rest += a[i] * b[i];
	return sum_f32(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]))) + rest;
}

AVX2 static float l2sq_f32(const float *a, const float *b, size_t n)
{
	__m256 sum[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps() };
	float rest = 0;
	size_t i = 0;

	for (; i + 32 <= n; i += 32)
		for (size_t k = 0; k < 4; k++) {
			__m256 d = _mm256_sub_ps(_mm256_loadu_ps(a + i + 8 * k), _mm256_loadu_ps(b + i + 8 * k));
			sum[k] = _mm256_fmadd_ps(d, d, sum[k]);
		}
	for (; i + 8 <= n; i += 8) {
		__m256 d = _mm256_sub_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
		sum[0] = _mm256_fmadd_ps(d, d, sum[0]);
	}
	for (; i < n; i++)
		rest += (a[i] - b[i]) * (a[i] - b[i]);
	return sum_f32(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]))) + rest;
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

AVX2_INLINE void l2sq_u8_rows(const uint8_t *q, const uint8_t *const *row, size_t rows, size_t n, int32_t *out)
{
	__m256i sum[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256() };
	int32_t rest[4] = { 0 };
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m256i a = widen(q + i);
		for (size_t k = 0; k < rows; k++) {
			__m256i d = _mm256_sub_epi16(a, widen(row[k] + i));
			sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(d, d));
		}
	}
	for (; i < n; i++)
		for (size_t k = 0; k < rows; k++)
			rest[k] += (q[i] - row[k][i]) * (q[i] - row[k][i]);
	for (size_t k = 0; k < rows; k++)
		out[k] = sum_i32(sum[k]) + rest[k];
}

AVX2_INLINE void dot_u8_rows(const uint8_t *q, const uint8_t *const *row, size_t rows, size_t n, int32_t *out)
{
	__m256i sum[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256() };
	int32_t rest[4] = { 0 };
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m256i a = widen_signed(q + i);
		for (size_t k = 0; k < rows; k++)
			sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(a, widen_signed(row[k] + i)));
	}
	for (; i < n; i++)
		for (size_t k = 0; k < rows; k++)
			rest[k] += (q[i] - 128) * (row[k][i] - 128);
	for (size_t k = 0; k < rows; k++)
		out[k] = sum_i32(sum[k]) + rest[k];
}

AVX2 static uint32_t l2sq_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	int32_t sum;

	l2sq_u8_rows(a, &b, 1, n, &sum);
	return (uint32_t)sum;
}

AVX2 static int32_t dot_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	int32_t sum;

	dot_u8_rows(a, &b, 1, n, &sum);
	return sum;
}

AVX2_INLINE void l2sq_u8_four(const uint8_t *q, const uint8_t *const row[4], size_t n, float out[4])
{
	int32_t sum[4];

	l2sq_u8_rows(q, row, 4, n, sum);
	for (size_t k = 0; k < 4; k++)
		out[k] = (float)sum[k];
}

AVX2_INLINE void dot_u8_four(const uint8_t *q, const uint8_t *const row[4], size_t n, float out[4])
{
	int32_t sum[4];

	dot_u8_rows(q, row, 4, n, sum);
	for (size_t k = 0; k < 4; k++)
		out[k] = -(float)sum[k];
}

AVX2_INLINE void l2sq_f32_four(const float *q, const float *const row[4], size_t n, float out[4])
{
	__m256 sum[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps() };
	float rest[4] = { 0 };
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		for (size_t k = 0; k < 4; k++) {
			__m256 d = _mm256_sub_ps(_mm256_loadu_ps(q + i), _mm256_loadu_ps(row[k] + i));
			sum[k] = _mm256_fmadd_ps(d, d, sum[k]);
		}
	for (; i < n; i++)
		for (size_t k = 0; k < 4; k++)
			rest[k] += (q[i] - row[k][i]) * (q[i] - row[k][i]);
	for (size_t k = 0; k < 4; k++)
		out[k] = sum_f32(sum[k]) + rest[k];
}

AVX2_INLINE void dot_f32_four(const float *q, const float *const row[4], size_t n, float out[4])
{
	__m256 sum[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps() };
	float rest[4] = { 0 };
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		for (size_t k = 0; k < 4; k++)
			sum[k] = _mm256_fmadd_ps(_mm256_loadu_ps(q + i), _mm256_loadu_ps(row[k] + i), sum[k]);
	for (; i < n; i++)
		for (size_t k = 0; k < 4; k++)
			rest[k] += q[i] * row[k][i];
	for (size_t k = 0; k < 4; k++)
		out[k] = -(sum_f32(sum[k]) + rest[k]);
}

VF_GATHER(l2sq_f32_gather, l2sq_f32_four, float, AVX2)
VF_GATHER(dot_f32_gather, dot_f32_four, float, AVX2)
VF_GATHER(l2sq_u8_gather, l2sq_u8_four, uint8_t, AVX2)
VF_GATHER(dot_u8_gather, dot_u8_four, uint8_t, AVX2)
VF_EXACT(exact_l2sq, exact_dot, AVX2)

const struct vf_kernels vf_kernels_avx2 = {
	"avx2", dot_f32, l2sq_f32, l2sq_u8, dot_u8,
	l2sq_f32_gather, dot_f32_gather, l2sq_u8_gather, dot_u8_gather, exact_l2sq, exact_dot,
};
#else
typedef int vf_avx2_is_not_for_this_architecture;
#endif
