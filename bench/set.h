/* SPDX-License-Identifier: MIT */
/* set.h - a benchmark set from disk (see sets.py), and how recall and time are counted. C and C++. */
#ifndef VECFS_BENCH_SET_H
#define VECFS_BENCH_SET_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

struct bench_set {
	char metric[32];
	uint32_t dim, truth_k;
	size_t n, nqueries;
	float *base, *queries;   /* row-major */
	int32_t *truth;
};

static void bench_die(const char *what)
{
	perror(what);
	exit(1);
}

/* fvecs and ivecs alike: rows of 4-byte values, each preceded by its length. */
static void *bench_read_vecs(const char *dir, const char *name, uint32_t *columns, size_t *rows)
{
	char path[4096];
	int32_t len;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *file = fopen(path, "rb");
	if (!file || fread(&len, 4, 1, file) != 1)
		bench_die(path);
	fseek(file, 0, SEEK_END);
	*columns = (uint32_t)len;
	*rows = (size_t)ftell(file) / (4 * ((size_t)len + 1));
	char *out = (char *)malloc(*rows * *columns * 4);
	rewind(file);
	for (size_t i = 0; i < *rows; i++)
		if (fread(&len, 4, 1, file) != 1 || fread(out + i * *columns * 4, 4, *columns, file) != *columns)
			bench_die(path);
	fclose(file);
	return out;
}

static struct bench_set bench_load(const char *dir)
{
	struct bench_set set;
	char path[4096];
	uint32_t columns;
	size_t rows;

	memset(&set, 0, sizeof set);
	snprintf(path, sizeof path, "%s/metric", dir);
	FILE *file = fopen(path, "r");
	if (!file || fscanf(file, "%31s", set.metric) != 1)
		bench_die(path);
	fclose(file);
	set.base = (float *)bench_read_vecs(dir, "base.fvecs", &set.dim, &set.n);
	set.queries = (float *)bench_read_vecs(dir, "query.fvecs", &columns, &set.nqueries);
	set.truth = (int32_t *)bench_read_vecs(dir, "truth.ivecs", &set.truth_k, &rows);
	return set;
}

/* How many of `got` are among the first k true ones. */
static size_t bench_hits(const struct bench_set *set, size_t query, const uint32_t *got, size_t ngot, uint32_t k)
{
	const int32_t *truth = set->truth + query * set->truth_k;
	size_t hits = 0;

	for (size_t i = 0; i < ngot; i++)
		for (uint32_t j = 0; j < k; j++)
			hits += (uint32_t)truth[j] == got[i];
	return hits;
}

#endif
