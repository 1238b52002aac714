/* SPDX-License-Identifier: MIT */
/* bound.c - how far a distance of codes can be from the true one, as a proof: by the triangle inequality the two differ by no more than the
 * query and the stored vector were moved, together, when they became codes. Of 100,000 vectors some fifty are left then that could be among the ten
 * nearest, and reading these gives the answer of reading all. Products differ by what was moved times the lengths (Cauchy and Schwarz). */
#include <math.h>
#include <stdlib.h>

#include "graph_internal.h"

/* Float arithmetic puts a number, which is at most 128 steps, off by far less than this. */
#define ARITHMETIC_STEPS 1e-3
/* And a normalised one, before it is divided by the step, by a few roundings of the vector and of the mean. */
#define ARITHMETIC_UNIT  0x1p-21
/* Of a sum of products of rounded floats, relative to their lengths. */
#define FLOAT_SUM_OFF(dim) (((dim) + 16) * 0x1p-23)

enum vf_clamped vf_graph_clamped(const struct vf_graph *g)
{
	return (enum vf_clamped)atomic_load(&g->clamped);
}

void vf_graph_clamp(struct vf_graph *g, enum vf_clamped clamped)
{
	uint8_t most = atomic_load_explicit(&g->clamped, memory_order_relaxed);

	while (most < clamped && !atomic_compare_exchange_weak(&g->clamped, &most, (uint8_t)clamped))
		;
}

bool vf_graph_is_honest(const struct vf_graph *g)
{
	return g->quant.code == VF_CODE_F32 || vf_graph_clamped(g) != VF_CLAMPED_FAR;
}

bool vf_graph_is_bounded(const struct vf_graph *g)
{
	return g->quant.code == VF_CODE_U8 && vf_graph_is_honest(g);
}

static double norm(const float *numbers, uint32_t n)
{
	return sqrt(vf_square(numbers, n));
}

/* Every number is rounded by half a step at most; of clamping see vf_quant_apply. */
static double stored_moved_by(const struct vf_graph *g)
{
	double root = sqrt(g->quant.dim);

	return root * (0.5 + (vf_graph_clamped(g) == VF_CLAMPED_LITTLE ? sqrt(VF_ROUNDING) : 0));
}

/* `zero`: the unit that stands for 0. */
static double query_moved_by(const struct vf_graph *g, const float *units, double zero)
{
	double square = 0;

	for (uint32_t i = 0; i < g->quant.dim; i++) {
		double code = fmin(fmax(rint((double)units[i]), zero - VF_CODE_ZERO), zero + UINT8_MAX - VF_CODE_ZERO), off = (double)units[i] - code;
		square += off * off;
	}
	return sqrt(square);
}

static double arithmetic_moved_by(const struct vf_graph *g)
{
	double steps = sqrt(g->quant.dim) * ARITHMETIC_STEPS;

	return g->params.metric == VF_COSINE ? steps + ARITHMETIC_UNIT * (1 + norm(g->quant.mean, g->quant.dim)) / (double)g->quant.step : steps;
}

static double bound_of_distance(const struct vf_graph *g, const float *query, bool beyond_codes, float *units)
{
	vf_quant_units(g, query, units);
	return stored_moved_by(g) + (beyond_codes ? 0 : query_moved_by(g, units, VF_CODE_ZERO)) + 2 * arithmetic_moved_by(g);
}

/* No code is longer than one whose numbers are all the largest. Of vectors beyond the codes the product is that of floats, off by a share of the lengths. */
static double bound_of_product(struct vf_graph *g, const float *query, float *units)
{
	double longest = sqrt(g->quant.dim) * (VF_CODE_ZERO + 0.5), stored = stored_moved_by(g) + arithmetic_moved_by(g);

	vf_quant_query_units(g, query, units);
	double length = norm(units, g->quant.dim), moved = query_moved_by(g, units, 0) + arithmetic_moved_by(g);
	double of_codes = (length + moved) * stored + moved * (longest + stored);
	return fmax(of_codes, FLOAT_SUM_OFF(g->quant.dim) * length * vf_outliers_longest(g));
}

double vf_graph_bound(struct vf_graph *g, const float *query, bool beyond_codes)
{
	float *units = vf_graph_is_bounded(g) ? malloc(g->numbers * sizeof *units) : NULL;

	if (!units)
		return INFINITY;
	double bound = g->params.metric == VF_DOT ? bound_of_product(g, query, units) : bound_of_distance(g, query, beyond_codes, units);
	free(units);
	return bound;
}
