/* SPDX-License-Identifier: MIT */
/* hnswlib, in process, one thread: builds the set, then runs all queries once for every line "EF K" on standard input and prints
 * "QUERIES-PER-SECOND RECALL". The first line out is "built CPU-SECONDS BYTES". */
#include <hnswlib/hnswlib.h>

#include <cmath>
#include <memory>
#include <vector>

#include "set.h"

static void normalise(float *rows, size_t n, uint32_t dim)
{
	for (size_t i = 0; i < n; i++) {
		float *row = rows + i * dim, sum = 0;
		for (uint32_t d = 0; d < dim; d++)
			sum += row[d] * row[d];
		for (uint32_t d = 0; d < dim; d++)
			row[d] /= std::sqrt(sum);
	}
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	bench_set set = bench_load(argv[1]);
	std::unique_ptr<hnswlib::SpaceInterface<float>> space;
	if (strcmp(set.metric, "euclidean") == 0)
		space.reset(new hnswlib::L2Space(set.dim));
	else
		space.reset(new hnswlib::InnerProductSpace(set.dim));
	if (strcmp(set.metric, "cosine") == 0) {
		normalise(set.base, set.n, set.dim);
		normalise(set.queries, set.nqueries, set.dim);
	}
	hnswlib::HierarchicalNSW<float> graph(space.get(), set.n, 16, 200, 100);
	double start = bench_clock(CLOCK_PROCESS_CPUTIME_ID);
	for (size_t i = 0; i < set.n; i++)
		graph.addPoint(set.base + i * set.dim, i);
	printf("built %.3f %zu\n", bench_clock(CLOCK_PROCESS_CPUTIME_ID) - start,
	       set.n * (graph.size_data_per_element_ + sizeof(void *)));
	fflush(stdout);

	unsigned ef, k;
	while (scanf("%u %u", &ef, &k) == 2) {
		graph.setEf(ef);
		size_t hits = 0;
		std::vector<uint32_t> got;
		double begin = bench_clock(CLOCK_MONOTONIC), counting = 0;
		for (size_t q = 0; q < set.nqueries; q++) {
			auto found = graph.searchKnn(set.queries + q * set.dim, k);
			double pause = bench_clock(CLOCK_MONOTONIC);
			for (got.clear(); !found.empty(); found.pop())
				got.push_back((uint32_t)found.top().second);
			hits += bench_hits(&set, q, got.data(), got.size(), k);
			counting += bench_clock(CLOCK_MONOTONIC) - pause;
		}
		double seconds = bench_clock(CLOCK_MONOTONIC) - begin - counting;
		printf("%.1f %.5f\n", (double)set.nqueries / seconds, (double)hits / ((double)set.nqueries * k));
		fflush(stdout);
	}
	return 0;
}
