/* SPDX-License-Identifier: MIT */
/* The metrics: their names, and the distance that answers report. */
#include <math.h>
#include <string.h>

#include "vecfs/dist.h"

static const struct { const char *name; enum vf_metric metric; } names[] = {
	{ "cosine", VF_COSINE }, { "euclidean", VF_EUCLIDEAN }, { "dot", VF_DOT },
	{ "l2", VF_EUCLIDEAN }, { "ip", VF_DOT }, { "dotproduct", VF_DOT },
};

const char *vf_metric_name(enum vf_metric metric)
{
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (names[i].metric == metric)
			return names[i].name;
	return "?";
}

bool vf_metric_parse(const char *name, enum vf_metric *out)
{
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(names[i].name, name) == 0) {
			*out = names[i].metric;
			return true;
		}
	return false;
}

/* sqrt(x * x) is x exactly, so a vector is at 0 from itself. A zero vector has no direction: 1, as if orthogonal. */
static double cosine(const float *a, double a_square, const float *b, size_t dim)
{
	double sums[2];

	vf_kernels()->exact_dot(a, b, dim, sums);
	double norms = sqrt(a_square * sums[1]);
	if (norms == 0)
		return 1;
	double distance = 1 - sums[0] / norms;
	return distance < 0 ? 0 : distance > 2 ? 2 : distance;
}

static double dot(const float *a, const float *b, size_t dim)
{
	double sums[2];

	vf_kernels()->exact_dot(a, b, dim, sums);
	return 0 - sums[0];   /* never -0 */
}

double vf_square(const float *a, size_t dim)
{
	double sums[2];

	vf_kernels()->exact_dot(a, a, dim, sums);
	return sums[1];
}

double vf_line(enum vf_metric metric, const float *a, double a_square, const float *b, size_t dim)
{
	switch (metric) {
	case VF_COSINE:
		return cosine(a, a_square, b, dim);
	case VF_EUCLIDEAN:
		return vf_kernels()->exact_l2sq(a, b, dim);
	case VF_DOT:
		return dot(a, b, dim);
	}
	return 0;
}

double vf_distance_of_line(enum vf_metric metric, double line)
{
	return metric == VF_EUCLIDEAN ? sqrt(line) : line;
}

double vf_distance(enum vf_metric metric, const float *a, const float *b, size_t dim)
{
	return vf_distance_of_line(metric, vf_line(metric, a, vf_square(a, dim), b, dim));
}
