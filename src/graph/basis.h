/* SPDX-License-Identifier: MIT */
/* basis.h - what the making of a basis is divided into: directions.c finds the directions, basis.c keeps them as bytes, trial.c tells whether they are
 * enough. Rows of codes are `stride` bytes apart. */
#ifndef VECFS_BASIS_H
#define VECFS_BASIS_H

#include "graph_internal.h"

struct vf_directions {
	size_t n, dim, count;
	float *rows, *columns;     /* n x dim, about the middle of the codes, and turned */
	float *basis;              /* count x dim, orthonormal, those of most spread first */
	float *products;           /* count x n */
};

/* Free it also after a failure. */
int vf_directions_find(struct vf_directions *d, const uint8_t *codes, size_t n, size_t stride, size_t dim, size_t count, struct vf_err *err);
void vf_directions_free(struct vf_directions *d);
/* The space of the first `count` with other directions, among which spread is even: count x dim into `turned`, and the largest number that any row
 * has along these. The first directions have most of the spread, and one scale has to do for all. */
int vf_directions_turn(struct vf_directions *d, size_t count, float *turned, float *largest, struct vf_err *err);

/* So many rows a trial needs at least. */
#define VF_TRIAL_ROWS_MIN 256u
/* Whether sketches tell near from far among codes that the basis was not made of: 0, then `spare`, `stray` and `reach` are set, or 1. */
int vf_basis_try(const struct vf_graph *g, struct vf_basis *basis, const uint8_t *codes, size_t n, struct vf_err *err);

static inline float vf_largest(const float *numbers, size_t n)
{
	float most = 0;

	for (size_t i = 0; i < n; i++) {
		float size = numbers[i] < 0 ? -numbers[i] : numbers[i];
		most = size > most ? size : most;
	}
	return most;
}

#endif
