/* SPDX-License-Identifier: MIT */
/* hnswlib's filter functor, and a plain scan of the matches, in process, one thread. Builds the set, prints "built"; then for every line
 * "scan|graph MASK FIRST COUNT K EF OUT" asks COUNT queries from FIRST on: MASK has a byte a row of the set, not 0 for those that match.
 * OUT gets K row numbers a query, nearest first, -1 where there are fewer; printed are the microseconds of each query, on one line.
 * usage: peer_filtered SET-DIRECTORY */
#include "hnswlib.h"

#include <cmath>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <vector>

#include "set.h"

struct mask : hnswlib::BaseFilterFunctor {
	std::vector<char> bytes;
	bool operator()(hnswlib::labeltype row) override { return bytes[row]; }
};

using found = std::priority_queue<std::pair<float, hnswlib::labeltype>>;

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

static found scan(const bench_set &set, hnswlib::SpaceInterface<float> &space, const std::vector<uint32_t> &matches, const float *query, size_t k)
{
	auto distance = space.get_dist_func();
	found best;

	for (uint32_t row : matches) {
		float d = distance(query, set.base + (size_t)row * set.dim, space.get_dist_func_param());
		if (best.size() < k || d < best.top().first)
			best.emplace(d, row);
		if (best.size() > k)
			best.pop();
	}
	return best;
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
	for (size_t i = 0; i < set.n; i++)
		graph.addPoint(set.base + i * set.dim, i);
	std::cout << "built" << std::endl;

	std::string method, mask_path, out_path;
	size_t first, count, k, ef;
	while (std::cin >> method >> mask_path >> first >> count >> k >> ef >> out_path) {
		mask allowed;
		std::vector<uint32_t> matches;
		std::vector<int32_t> out(count * k, -1);
		std::ostringstream times;
		allowed.bytes.resize(set.n);
		std::ifstream(mask_path, std::ios::binary).read(allowed.bytes.data(), (std::streamsize)set.n);
		for (uint32_t row = 0; row < set.n; row++)
			if (allowed.bytes[row])
				matches.push_back(row);
		graph.setEf(ef);
		for (size_t i = 0; i < count; i++) {
			const float *query = set.queries + (first + i) * set.dim;
			double start = bench_clock(CLOCK_MONOTONIC);
			found best = method == "scan" ? scan(set, *space, matches, query, k) : graph.searchKnn(query, k, &allowed);
			times << 1e6 * (bench_clock(CLOCK_MONOTONIC) - start) << ' ';
			for (size_t n = best.size(); n > 0; best.pop())
				out[i * k + --n] = (int32_t)best.top().second;
		}
		std::ofstream(out_path, std::ios::binary).write((const char *)out.data(), (std::streamsize)(out.size() * sizeof out[0]));
		std::cout << times.str() << std::endl;
	}
	return 0;
}
