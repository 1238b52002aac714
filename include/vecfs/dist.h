/* SPDX-License-Identifier: MIT */
/* dist.h - the three metrics, and the kernels that compute them on this CPU.
 *
 * Nearer is always smaller: cosine is 1 - cos, in [0, 2]; euclidean is the true L2 distance; dot is the negative
 * inner product. */
#ifndef VECFS_DIST_H
#define VECFS_DIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vf_metric { VF_COSINE, VF_EUCLIDEAN, VF_DOT };

const char *vf_metric_name(enum vf_metric metric);                 /* "cosine", "euclidean", "dot" */
bool vf_metric_parse(const char *name, enum vf_metric *out);       /* aliases: l2, ip, dotproduct */

/* The distance that answers report: summed in double from the float32 vectors as stored, the same bits on every CPU. */
double vf_distance(enum vf_metric metric, const float *a, const float *b, size_t dim);
/* What it is made from, which ranks the same and costs no root: the square under euclidean. Many are measured from one vector, whose square is
 * summed once. */
double vf_square(const float *a, size_t dim);
double vf_line(enum vf_metric metric, const float *a, double a_square, const float *b, size_t dim);
double vf_distance_of_line(enum vf_metric metric, double line);

/* Distances of one query to `count` rows at rows + ids[i] * stride, nearer is smaller (a dot product comes negated). The same
 * row gives the same bits wherever in `ids` it stands. n counts numbers, not bytes. */
typedef void vf_gather_fn(const void *query, const void *rows, size_t stride, const uint32_t *ids, size_t count, size_t n, float *out);

/* How numbers lie on codes: (number * scale - mean) / step, from the middle of the bytes on. */
struct vf_code_scale { float scale, inverse; };   /* 1 / step */
#define VF_CODE_ZERO 128

/* Puts a pair into two arrays of `count`, of which `near` rises: behind all that are as near. Returns its place. VF_PLACE_SCRATCH numbers behind the
 * arrays are written to; no NaN. */
typedef uint32_t vf_place_fn(float *near, uint32_t *node, uint32_t count, float distance, uint32_t id);
#define VF_PLACE_SCRATCH 9u

/* One row an instruction set; every function may be given unaligned pointers and any n.
 * Kernels differ from plain C by rounding only; the integer ones, the exact ones and those that make codes not at all. */
struct vf_kernels {
	const char *name;                                              /* "avx512", "avx2", "neon", "plain" */
	float (*dot_f32)(const float *a, const float *b, size_t n);
	float (*l2sq_f32)(const float *a, const float *b, size_t n);
	/* Codes: unsigned bytes. Sum of (a-b)^2, at most VF_DIM_MAX * 255^2 < 2^31. */
	uint32_t (*l2sq_u8)(const uint8_t *a, const uint8_t *b, size_t n);
	/* Sum of a*b with both taken as signed about 128: (a-128)*(b-128). */
	int32_t (*dot_u8)(const uint8_t *a, const uint8_t *b, size_t n);
	/* What the graph walks with: four rows at a time. */
	vf_gather_fn *l2sq_f32_gather, *dot_f32_gather, *l2sq_u8_gather, *dot_u8_gather;
	/* A query of floats, rows of bytes: for what bytes cannot tell. Slower than bytes against bytes. */
	vf_gather_fn *l2sq_mixed_gather;
	/* Rounded to the nearest byte. True when one was clamped. Finite numbers. */
	bool (*codes_u8)(const float *vector, const float *mean, const struct vf_code_scale *scale, size_t n, uint8_t *code);
	/* What answers report, in double: sum of (a-b)^2; sums of a*b and b*b. */
	double (*exact_l2sq)(const float *a, const float *b, size_t n);
	void (*exact_dot)(const float *a, const float *b, size_t n, double sums[2]);
	/* With a pool of 200 a fifth of linking's CPU. With AVX-512: .92 of it all for 20,000 x 512, .97 for 100,000 x 128. */
	vf_place_fn *place;
};

/* The best for this CPU, chosen once; VECFS_KERNELS=plain|avx2|avx512|neon in the environment overrides. */
const struct vf_kernels *vf_kernels(void);
/* Every row that this CPU can run, plain C first; for tests and bench. Returns their number. */
size_t vf_kernels_available(const struct vf_kernels *rows[4]);

#endif
