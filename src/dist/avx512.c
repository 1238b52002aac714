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

AVX512_INLINE __m128i sum_four_i32(__m512i v0, __m512i v1, __m512i v2, __m512i v3)
{
	return _mm_hadd_epi32(_mm_hadd_epi32(fold_i32(v0), fold_i32(v1)), _mm_hadd_epi32(fold_i32(v2), fold_i32(v3)));
}

AVX512_INLINE __m128 fold_f32(__m512 v)
{
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));

	return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

AVX512_INLINE __m128 sum_four_f32(__m512 v0, __m512 v1, __m512 v2, __m512 v3)
{
	return _mm_hadd_ps(_mm_hadd_ps(fold_f32(v0), fold_f32(v1)), _mm_hadd_ps(fold_f32(v2), fold_f32(v3)));
}

AVX512_INLINE __mmask16 tail16(size_t n) { return (__mmask16)((1u << n) - 1); }
AVX512_INLINE __mmask32 tail32(size_t n) { return (__mmask32)((1ull << n) - 1); }
AVX512_INLINE __mmask64 tail64(size_t n) { return (__mmask64)((1ull << n) - 1); }

AVX512 static float dot_f32(const float *a, const float *b, size_t n)
{
	__m512 even = _mm512_setzero_ps(), odd = even;
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		even = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), even);
		odd = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), odd);
	}
	for (; i < n; i += 16) {
		__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
		even = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), even);
	}
	return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
}

AVX512 static float l2sq_f32(const float *a, const float *b, size_t n)
{
	__m512 even = _mm512_setzero_ps(), odd = even;
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		__m512 d = _mm512_sub_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
		__m512 e = _mm512_sub_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16));
		even = _mm512_fmadd_ps(d, d, even);
		odd = _mm512_fmadd_ps(e, e, odd);
	}
	for (; i < n; i += 16) {
		__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
		__m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i));
		even = _mm512_fmadd_ps(d, d, even);
	}
	return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
}

AVX512_INLINE __m512i widen(const uint8_t *p)
{
	return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

AVX512_INLINE __m512i widen_tail(__mmask32 m, const uint8_t *p)
{
	return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(m, p));
}

/* Sums of four rows are four variables, not an array: gcc would keep an array in memory. */
#define FOUR_ROWS(step, sum, row, ...)                                                                              \
	do {                                                                                                        \
		sum##0 = step(sum##0, row[0], __VA_ARGS__);                                                         \
		sum##1 = step(sum##1, row[1], __VA_ARGS__);                                                         \
		sum##2 = step(sum##2, row[2], __VA_ARGS__);                                                         \
		sum##3 = step(sum##3, row[3], __VA_ARGS__);                                                         \
	} while (0)
#define SUMS(sum) __m512i sum##0 = _mm512_setzero_si512(), sum##1 = sum##0, sum##2 = sum##0, sum##3 = sum##0
#define STORE_SUMS(out, sum) _mm_storeu_ps(out, _mm_cvtepi32_ps(sum_four_i32(sum##0, sum##1, sum##2, sum##3)))

AVX512_INLINE __m512i l2sq_step(__m512i sum, const uint8_t *row, size_t i, __m512i a)
{
	__m512i d = _mm512_sub_epi16(a, widen(row + i));

	return add_words(sum, d, d);
}

AVX512_INLINE __m512i l2sq_tail(__m512i sum, const uint8_t *row, size_t i, __m512i a, __mmask32 m)
{
	__m512i d = _mm512_sub_epi16(a, widen_tail(m, row + i));

	return add_words(sum, d, d);
}

AVX512 static uint32_t l2sq_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	__m512i sum = _mm512_setzero_si512();
	size_t i = 0;

	for (; i + 32 <= n; i += 32)
		sum = l2sq_step(sum, b, i, widen(a + i));
	if (i < n)
		sum = l2sq_tail(sum, b, i, widen_tail(tail32(n - i), a + i), tail32(n - i));
	return (uint32_t)_mm512_reduce_add_epi32(sum);
}

AVX512_INLINE void l2sq_u8_four(const uint8_t *q, const uint8_t *const row[4], size_t n, float out[4])
{
	size_t i = 0;
	SUMS(sum);

	for (; i + 32 <= n; i += 32) {
		__m512i a = widen(q + i);
		FOUR_ROWS(l2sq_step, sum, row, i, a);
	}
	if (i < n) {
		__mmask32 m = tail32(n - i);
		__m512i a = widen_tail(m, q + i);
		FOUR_ROWS(l2sq_tail, sum, row, i, a, m);
	}
	STORE_SUMS(out, sum);
}

AVX512_INLINE void l2sq_u8_eight(const uint8_t *q, const uint8_t *const row[8], size_t n, float out[8])
{
	const uint8_t *const *more = row + 4;
	size_t i = 0;
	SUMS(sum);
	SUMS(top);

	for (; i + 32 <= n; i += 32) {
		__m512i a = widen(q + i);
		FOUR_ROWS(l2sq_step, sum, row, i, a);
		FOUR_ROWS(l2sq_step, top, more, i, a);
	}
	if (i < n) {
		__mmask32 m = tail32(n - i);
		__m512i a = widen_tail(m, q + i);
		FOUR_ROWS(l2sq_tail, sum, row, i, a, m);
		FOUR_ROWS(l2sq_tail, top, more, i, a, m);
	}
	STORE_SUMS(out, sum);
	STORE_SUMS(out + 4, top);
}

AVX512_INLINE void l2sq_u8_sixteen(const uint8_t *q, const uint8_t *const row[16], size_t n, float out[16])
{
	const uint8_t *const *row4 = row + 4, *const *row8 = row + 8, *const *row12 = row + 12;
	size_t i = 0;
	SUMS(a);
	SUMS(b);
	SUMS(c);
	SUMS(d);

	for (; i + 32 <= n; i += 32) {
		__m512i x = widen(q + i);
		FOUR_ROWS(l2sq_step, a, row, i, x);
		FOUR_ROWS(l2sq_step, b, row4, i, x);
		FOUR_ROWS(l2sq_step, c, row8, i, x);
		FOUR_ROWS(l2sq_step, d, row12, i, x);
	}
	if (i < n) {
		__mmask32 m = tail32(n - i);
		__m512i x = widen_tail(m, q + i);
		FOUR_ROWS(l2sq_tail, a, row, i, x, m);
		FOUR_ROWS(l2sq_tail, b, row4, i, x, m);
		FOUR_ROWS(l2sq_tail, c, row8, i, x, m);
		FOUR_ROWS(l2sq_tail, d, row12, i, x, m);
	}
	STORE_SUMS(out, a);
	STORE_SUMS(out + 4, b);
	STORE_SUMS(out + 8, c);
	STORE_SUMS(out + 12, d);
}

/* The more rows go side by side, the more of their lines are on the way at once: sixteen instead of four are 1.3 x on 512, 784 and
 * 1536 dimensions out of the cache, 1.1 x on 128. */
AVX512 static void l2sq_u8_gather(const void *query, const void *rows, size_t stride, const uint32_t *ids, size_t count, size_t n,
                                  float *out)
{
	const uint8_t *base = rows, *row[16];
	float sums[16];

	for (size_t i = 0, group; i < count; i += group) {
		size_t left = count - i;
		group = left > 12 ? 16 : left > 4 ? 8 : 4;
		for (size_t k = 0; k < group; k++)
			row[k] = base + ids[i + (k < left ? k : left - 1)] * stride;
		if (group == 16)
			l2sq_u8_sixteen(query, row, n, sums);
		else if (group == 8)
			l2sq_u8_eight(query, row, n, sums);
		else
			l2sq_u8_four(query, row, n, sums);
		for (size_t k = 0; k < group && k < left; k++)
			out[i + k] = sums[k];
	}
}

/* The sum of row * (q - 128) as bytes, less that of 128 * (q - 128), which the rows share. */
AVX512_INLINE __m512i dot_step(__m512i sum, const uint8_t *row, size_t i, __m512i a)
{
	return add_bytes(sum, _mm512_loadu_si512(row + i), a);
}

AVX512_INLINE __m512i dot_tail(__m512i sum, const uint8_t *row, size_t i, __m512i a, __mmask64 m)
{
	return add_bytes(sum, _mm512_maskz_loadu_epi8(m, row + i), a);
}

AVX512_INLINE void dot_u8_four_i32(const uint8_t *q, const uint8_t *const row[4], size_t n, __m512i out[4])
{
	const __m512i flip = _mm512_set1_epi8((char)0x80);
	__m512i sum0 = _mm512_setzero_si512(), sum1 = sum0, sum2 = sum0, sum3 = sum0, shared = sum0;
	size_t i = 0;

	for (; i + 64 <= n; i += 64) {
		__m512i a = _mm512_xor_si512(_mm512_loadu_si512(q + i), flip);
		shared = add_bytes(shared, flip, a);
		FOUR_ROWS(dot_step, sum, row, i, a);
	}
	if (i < n) {
		__mmask64 m = tail64(n - i);
		__m512i a = _mm512_xor_si512(_mm512_mask_loadu_epi8(flip, m, q + i), flip);
		shared = add_bytes(shared, flip, a);
		FOUR_ROWS(dot_tail, sum, row, i, a, m);
	}
	out[0] = _mm512_sub_epi32(shared, sum0);
	out[1] = _mm512_sub_epi32(shared, sum1);
	out[2] = _mm512_sub_epi32(shared, sum2);
	out[3] = _mm512_sub_epi32(shared, sum3);
}

AVX512 static int32_t dot_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
	const uint8_t *const row[4] = { b, b, b, b };
	__m512i negated[4];

	dot_u8_four_i32(a, row, n, negated);
	return -_mm512_reduce_add_epi32(negated[0]);
}

AVX512_INLINE void dot_u8_four(const uint8_t *q, const uint8_t *const row[4], size_t n, float out[4])
{
	__m512i negated[4];

	dot_u8_four_i32(q, row, n, negated);
	_mm_storeu_ps(out, _mm_cvtepi32_ps(sum_four_i32(negated[0], negated[1], negated[2], negated[3])));
}

AVX512_INLINE __m512 l2sq_f32_step(__m512 sum, const float *row, size_t i, __m512 a, __mmask16 m)
{
	__m512 d = _mm512_sub_ps(a, _mm512_maskz_loadu_ps(m, row + i));

	return _mm512_fmadd_ps(d, d, sum);
}

AVX512_INLINE __m512 dot_f32_step(__m512 sum, const float *row, size_t i, __m512 a, __mmask16 m)
{
	return _mm512_fnmadd_ps(a, _mm512_maskz_loadu_ps(m, row + i), sum);
}

AVX512_INLINE void l2sq_f32_four(const float *q, const float *const row[4], size_t n, float out[4])
{
	__m512 sum0 = _mm512_setzero_ps(), sum1 = sum0, sum2 = sum0, sum3 = sum0;

	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
		__m512 a = _mm512_maskz_loadu_ps(m, q + i);
		FOUR_ROWS(l2sq_f32_step, sum, row, i, a, m);
	}
	_mm_storeu_ps(out, sum_four_f32(sum0, sum1, sum2, sum3));
}

AVX512_INLINE void dot_f32_four(const float *q, const float *const row[4], size_t n, float out[4])
{
	__m512 sum0 = _mm512_setzero_ps(), sum1 = sum0, sum2 = sum0, sum3 = sum0;

	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
		__m512 a = _mm512_maskz_loadu_ps(m, q + i);
		FOUR_ROWS(dot_f32_step, sum, row, i, a, m);
	}
	_mm_storeu_ps(out, sum_four_f32(sum0, sum1, sum2, sum3));
}

AVX512_INLINE __m512 l2sq_mixed_step(__m512 sum, const uint8_t *row, size_t i, __m512 a, __mmask16 m)
{
	__m512 d = _mm512_sub_ps(a, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, row + i))));

	return _mm512_fmadd_ps(d, d, sum);
}

AVX512 static void l2sq_mixed_gather(const void *query, const void *rows, size_t stride, const uint32_t *ids, size_t count, size_t n, float *out)
{
	const float *q = query;
	const uint8_t *base = rows;

	for (size_t k = 0; k < count; k++) {
		__m512 sum = _mm512_setzero_ps();
		for (size_t i = 0; i < n; i += 16) {
			__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
			sum = l2sq_mixed_step(sum, base + ids[k] * stride, i, _mm512_maskz_loadu_ps(m, q + i), m);
		}
		out[k] = _mm512_reduce_add_ps(sum);
	}
}

/* Products and sums apart: fused they would round otherwise than on other CPUs. */
AVX512 static bool codes_u8(const float *vector, const float *mean, const struct vf_code_scale *s, size_t n, uint8_t *code)
{
	const __m512 scale = _mm512_set1_ps(s->scale), inverse = _mm512_set1_ps(s->inverse), zero = _mm512_setzero_ps();
	__mmask16 clamped = 0;

	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
		__m512 x = _mm512_sub_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(m, vector + i), scale), _mm512_maskz_loadu_ps(m, mean + i));
		x = _mm512_add_ps(_mm512_mul_ps(x, inverse), _mm512_set1_ps(VF_CODE_ROUND));
		clamped |= _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ) | _mm512_cmp_ps_mask(x, _mm512_set1_ps(256), _CMP_GE_OQ);
		x = _mm512_min_ps(_mm512_max_ps(x, zero), _mm512_set1_ps(VF_CODE_TOP));
		_mm512_mask_cvtepi32_storeu_epi8(code + i, m, _mm512_cvttps_epi32(x));
	}
	return clamped != 0;
}

VF_GATHER(l2sq_f32_gather, l2sq_f32_four, float, AVX512)
VF_GATHER(dot_f32_gather, dot_f32_four, float, AVX512)
VF_GATHER(dot_u8_gather, dot_u8_four, uint8_t, AVX512)

/* The eight lanes of VF_EXACT in one register. */
AVX512_INLINE __m512d load_lanes(const float *p)
{
	return _mm512_cvtps_pd(_mm256_loadu_ps(p));
}

AVX512_INLINE void put_lanes(double lanes[8], __m512d v) { _mm512_storeu_pd(lanes, v); }

AVX512 static double exact_l2sq(const float *a, const float *b, size_t n)
{
	__m512d sum = _mm512_setzero_pd();
	double lanes[8];
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		__m512d d = _mm512_sub_pd(load_lanes(a + i), load_lanes(b + i));
		sum = _mm512_add_pd(sum, _mm512_mul_pd(d, d));
	}
	put_lanes(lanes, sum);
	for (; i < n; i++) {
		double d = (double)a[i] - (double)b[i];
		lanes[i % 8] += d * d;
	}
	return VF_SUM_EIGHT(lanes);
}

/* The product of two floats is exact in double, so that fusing it with the sum changes no bit. */
AVX512 static void exact_dot(const float *a, const float *b, size_t n, double sums[2])
{
	__m512d ab = _mm512_setzero_pd(), bb = ab;
	double lanes[2][8];
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		__m512d x = load_lanes(a + i), y = load_lanes(b + i);
		ab = _mm512_fmadd_pd(x, y, ab);
		bb = _mm512_fmadd_pd(y, y, bb);
	}
	put_lanes(lanes[0], ab);
	put_lanes(lanes[1], bb);
	VF_EXACT_DOT_REST(a, b, i, n, lanes, sums);
}

/* Halved until comparing them all is cheaper than the next surprise. */
AVX512 static uint32_t rank_of(const float *near, uint32_t count, float distance)
{
	__m512 wanted = _mm512_set1_ps(distance);
	uint32_t below = 0, rank = 0;

	while (count > 64) {
		uint32_t half = count / 2;
		below += near[below + half - 1] <= distance ? half : 0;
		count -= half;
	}
	for (uint32_t i = 0; i < count; i += 16) {
		__mmask16 there = count - i < 16 ? tail16(count - i) : (__mmask16)0xffff;
		__m512 x = _mm512_maskz_loadu_ps(there, near + below + i);
		rank += (uint32_t)__builtin_popcount(_mm512_mask_cmp_ps_mask(there, x, wanted, _CMP_LE_OQ));
	}
	return below + rank;
}

/* Moved one up from the end, what is left by a mask. */
AVX512 static uint32_t place(float *near, uint32_t *node, uint32_t count, float distance, uint32_t id)
{
	uint32_t at = rank_of(near, count, distance), end = count;

	for (; end - at >= 16; end -= 16) {
		__m512 x = _mm512_loadu_ps(near + end - 16);
		__m512i y = _mm512_loadu_si512(node + end - 16);
		_mm512_storeu_ps(near + end - 15, x);
		_mm512_storeu_si512(node + end - 15, y);
	}
	__mmask16 left = tail16(end - at);
	__m512 x = _mm512_maskz_loadu_ps(left, near + at);
	__m512i y = _mm512_maskz_loadu_epi32(left, node + at);
	_mm512_mask_storeu_ps(near + at + 1, left, x);
	_mm512_mask_storeu_epi32(node + at + 1, left, y);
	near[at] = distance;
	node[at] = id;
	return at;
}

const struct vf_kernels vf_kernels_avx512 = {
	"avx512", dot_f32, l2sq_f32, l2sq_u8, dot_u8,
	l2sq_f32_gather, dot_f32_gather, l2sq_u8_gather, dot_u8_gather, l2sq_mixed_gather, codes_u8, exact_l2sq, exact_dot, place,
};
#else
typedef int vf_avx512_is_not_for_this_architecture;
#endif
