/* SPDX-License-Identifier: MIT */
/* Kernels for AVX-512 with VNNI. Tails are loaded under a mask. */
#include "dist_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define AVX512_INLINE AVX512 static inline __attribute__((always_inline))

/* As assembly because gcc 12 puts a copy of the sum before each intrinsic (PR 94663). */
AVX512_INLINE __m512i add_words(__m512i sum, __m512i a, __m512i b)
{
	__asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
	return sum;
}

/* Sum of unsigned bytes a times signed bytes b. */
AVX512_INLINE __m512i add_bytes(__m512i sum, __m512i a, __m512i b)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
	return sum;
}

AVX512_INLINE __m128i fold_i32(__m512i v)
{
	__m256i half = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));

	return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

AVX512_INLINE __m128i sum_four_i32(const __m512i v[4])
{
	return _mm_hadd_epi32(_mm_hadd_epi32(fold_i32(v[0]), fold_i32(v[1])), _mm_hadd_epi32(fold_i32(v[2]), fold_i32(v[3])));
}

AVX512_INLINE __m128 fold_f32(__m512 v)
{
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));

	return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

AVX512_INLINE __m128 sum_four_f32(const __m512 v[4])
{
	return _mm_hadd_ps(_mm_hadd_ps(fold_f32(v[0]), fold_f32(v[1])), _mm_hadd_ps(fold_f32(v[2]), fold_f32(v[3])));
}

AVX512_INLINE __mmask16 tail16(size_t n) { return (__mmask16)((1u << n) - 1); }
AVX512_INLINE __mmask32 tail32(size_t n) { return (__mmask32)((1ull << n) - 1); }
AVX512_INLINE __mmask64 tail64(size_t n) { return (__mmask64)((1ull << n) - 1); }

AVX512 static float dot_f32(const float *a, const float *b, size_t n)
{
	__m512 sum[4] = { _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps() };
	size_t i = 0;

	for (; i + 64 <= n; i += 64)
		for (size_t k = 0; k < 4; k++)
			sum[k] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16 * k), _mm512_loadu_ps(b + i + 16 * k), sum[k]);
	for (; i + 16 <= n; i += 16)
		sum[0] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), sum[0]);
	if (i < n) {
		__mmask16 m = tail16(n - i);
		sum[1] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), sum[1]);
	}
	return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

AVX512 static float l2sq_f32(const float *a, const float *b, size_t n)
{
	__m512 sum[4] = { _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps() };
	size_t i = 0;

	for (; i + 64 <= n; i += 64)
		for (size_t k = 0; k < 4; k++) {
			__m512 d = _mm512_sub_ps(_mm512_loadu_ps(a + i + 16 * k), _mm512_loadu_ps(b + i + 16 * k));
			sum[k] = _mm512_fmadd_ps(d, d, sum[k]);
		}
	for (; i < n; i += 16) {
		__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
		__m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i));
		sum[0] = _mm512_fmadd_ps(d, d, sum[0]);
	}
	return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

AVX512_INLINE __m512i widen(const uint8_t *p)
{
	return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

AVX512_INLINE __m512i widen_tail(__mmask32 m, const uint8_t *p)
{
	return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(m, p));
}

AVX512_INLINE void l2sq_u8_rows(const uint8_t *q, const uint8_t *const *row, size_t rows, size_t n, __m512i sum[4])
{
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		__m512i a = widen(q + i);
		for (size_t k = 0; k < rows; k++) {
			__m512i d = _mm512_sub_epi16(a, widen(row[k] + i));
			sum[k] = add_words(sum[k], d, d);
		}
	}
	if (i < n) {
		__mmask32 m = tail32(n - i);
		__m512i a = widen_tail(m, q + i);
		for (size_t k = 0; k < rows; k++) {
			__m512i d = _mm512_sub_epi16(a, widen_tail(m, row[k] + i));
			sum[k] = add_words(sum[k], d, d);
		}
	}
}

/* Sum of row * (q - 128) as bytes, less 128 * (q - 128), which the rows share. */
AVX512_INLINE __m512i dot_u8_rows(const uint8_t *q, const uint8_t *const *row, size_t rows, size_t n, __m512i sum[4])
{
	const __m512i flip = _mm512_set1_epi8((char)0x80);
	__m512i shared = _mm512_setzero_si512();
	size_t i = 0;

	for (; i + 64 <= n; i += 64) {
		__m512i a = _mm512_xor_si512(_mm512_loadu_si512(q + i), flip);
		shared = add_bytes(shared, flip, a);
		for (size_t k = 0; k < rows; k++)
			sum[k] = add_bytes(sum[k], _mm512_loadu_si512(row[k] + i), a);
	}
	if (i < n) {
		__mmask64 m = tail64(n - i);
		__m512i a = _mm512_xor_si512(_mm512_mask_loadu_epi8(flip, m, q + i), flip);
		shared = add_bytes(shared, flip, a);
		for (size_t k = 0; k < rows; k++)
			sum[k] = add_bytes(sum[k], _mm512_maskz_loadu_epi8(m, row[k] + i), a);
	}
	return shared;
}

AVX512 static uint32_t l2sq_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	__m512i sum[4] = { _mm512_setzero_si512() };

	l2sq_u8_rows(a, &b, 1, n, sum);
	return (uint32_t)_mm512_reduce_add_epi32(sum[0]);
}

AVX512 static int32_t dot_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	__m512i sum[4] = { _mm512_setzero_si512() };
	__m512i shared = dot_u8_rows(a, &b, 1, n, sum);

	return _mm512_reduce_add_epi32(_mm512_sub_epi32(sum[0], shared));
}

AVX512_INLINE void l2sq_u8_four(const uint8_t *q, const uint8_t *const row[4], size_t n, float out[4])
{
	__m512i sum[4] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };

	l2sq_u8_rows(q, row, 4, n, sum);
	_mm_storeu_ps(out, _mm_cvtepi32_ps(sum_four_i32(sum)));
}

AVX512_INLINE void dot_u8_four(const uint8_t *q, const uint8_t *const row[4], size_t n, float out[4])
{
	__m512i sum[4] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };
	__m512i shared = dot_u8_rows(q, row, 4, n, sum);

	for (size_t k = 0; k < 4; k++)
		sum[k] = _mm512_sub_epi32(shared, sum[k]);
	_mm_storeu_ps(out, _mm_cvtepi32_ps(sum_four_i32(sum)));
}

AVX512_INLINE void l2sq_f32_four(const float *q, const float *const row[4], size_t n, float out[4])
{
	__m512 sum[4] = { _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps() };

	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
		__m512 a = _mm512_maskz_loadu_ps(m, q + i);
		for (size_t k = 0; k < 4; k++) {
			__m512 d = _mm512_sub_ps(a, _mm512_maskz_loadu_ps(m, row[k] + i));
			sum[k] = _mm512_fmadd_ps(d, d, sum[k]);
		}
	}
	_mm_storeu_ps(out, sum_four_f32(sum));
}

AVX512_INLINE void dot_f32_four(const float *q, const float *const row[4], size_t n, float out[4])
{
	__m512 sum[4] = { _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps() };

	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
		__m512 a = _mm512_maskz_loadu_ps(m, q + i);
		for (size_t k = 0; k < 4; k++)
			sum[k] = _mm512_fnmadd_ps(a, _mm512_maskz_loadu_ps(m, row[k] + i), sum[k]);
	}
	_mm_storeu_ps(out, sum_four_f32(sum));
}

VF_GATHER(l2sq_f32_gather, l2sq_f32_four, float, AVX512)
VF_GATHER(dot_f32_gather, dot_f32_four, float, AVX512)
VF_GATHER(l2sq_u8_gather, l2sq_u8_four, uint8_t, AVX512)
VF_GATHER(dot_u8_gather, dot_u8_four, uint8_t, AVX512)
VF_EXACT(exact_l2sq, exact_dot, AVX512)

const struct vf_kernels vf_kernels_avx512 = {
	"avx512", dot_f32, l2sq_f32, l2sq_u8, dot_u8,
	l2sq_f32_gather, dot_f32_gather, l2sq_u8_gather, dot_u8_gather, exact_l2sq, exact_dot,
};
#else
typedef int vf_avx512_is_not_for_this_architecture;
#endif
