/* SPDX-License-Identifier: MIT */
/* From numbers to bytes, where there is nothing better: four at a time, as wide as every CPU has vectors; the compiler takes wider ones to pieces. */
#include "dist_internal.h"

typedef float vf_four __attribute__((vector_size(16)));
typedef int32_t vf_four_ints __attribute__((vector_size(16)));

/* Four numbers, or the first n of them; notes which were clamped. */
static inline void code_four(const float *vector, const float *mean, const struct vf_code_scale *s, size_t n, uint8_t *code, vf_four_ints *clamped)
{
	vf_four x = { 0 }, m = { 0 };

	memcpy(&x, vector, n * sizeof *vector);
	memcpy(&m, mean, n * sizeof *mean);
	x = (x * s->scale - m) * s->inverse + VF_CODE_ROUND;
	vf_four_ints below = x < 0, above = x >= 256, ints = __builtin_convertvector(x, vf_four_ints);
	ints = (ints & ~below & ~above) | (above & 255);
	for (size_t i = 0; i < n; i++)
		code[i] = (uint8_t)ints[i];
	*clamped |= below | above;
}

bool vf_codes_u8(const float *vector, const float *mean, const struct vf_code_scale *scale, size_t n, uint8_t *code)
{
	vf_four_ints clamped = { 0 };
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		code_four(vector + i, mean + i, scale, 4, code + i, &clamped);
	if (i < n)
		code_four(vector + i, mean + i, scale, n - i, code + i, &clamped);
	return clamped[0] | clamped[1] | clamped[2] | clamped[3];
}
