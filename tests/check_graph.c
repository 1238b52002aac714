/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "vecfs/graph.h"
#include "vecfs/limits.h"

#define K 10u

/* ---- random vectors ---- */

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static float uniform(void) { return (float)((double)(next_random(&random_state) >> 11) / (1ull << 53)); }

static float normal(void)
{
	float sum = 0;

	for (int i = 0; i < 12; i++)
		sum += uniform();
	return sum - 6;
}

static void fill_clustered(float *out, size_t n, uint32_t dim, const float *centres, uint32_t clusters)
{
	for (size_t r = 0; r < n; r++) {
		const float *centre = centres + (size_t)(next_random(&random_state) % clusters) * dim;
		for (uint32_t i = 0; i < dim; i++)
			out[r * dim + i] = centre[i] + 0.5f * normal();
	}
}

/* ---- a graph with its vectors and queries: slot s was added with vector s of `vectors` ---- */

struct world {
	struct vf_graph *graph;
	enum vf_metric metric;
	uint32_t dim, m, efc;
	size_t n, nqueries;
	float *vectors, *queries;
	bool *live;
	uint64_t refills;
};

static struct vf_err err = VF_ERR_INIT;

static void world_graph(struct world *w, enum vf_code code)
{
	struct vf_quant quant;
	struct vf_graph_params params = { w->metric, w->dim, w->m, w->efc };

	ck_ok(vf_quant_fit(&quant, code, w->metric, w->dim, w->vectors, w->n < 5000 ? w->n : 5000, &err));
	ck_ok(vf_graph_new(&params, &quant, &w->graph, &err));
	vf_quant_free(&quant);
}

static struct world world_new(enum vf_metric metric, uint32_t dim, size_t n, enum vf_code code)
{
	struct world w = { .metric = metric, .dim = dim, .m = 16, .efc = 100, .n = n, .nqueries = 100 };
	uint32_t clusters = 30;
	float *centres = malloc(clusters * dim * sizeof(float));

	for (size_t i = 0; i < (size_t)clusters * dim; i++)
		centres[i] = normal();
	w.vectors = malloc(n * dim * sizeof(float));
	w.queries = malloc(w.nqueries * dim * sizeof(float));
	w.live = calloc(n, sizeof *w.live);
	fill_clustered(w.vectors, n, dim, centres, clusters);
	fill_clustered(w.queries, w.nqueries, dim, centres, clusters);
	free(centres);
	world_graph(&w, code);
	return w;
}

static void world_free(struct world *w)
{
	vf_graph_free(&w->graph);
	free(w->vectors);
	free(w->queries);
	free(w->live);
}

static void add(struct world *w, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++) {
		uint32_t slot;
		ck_ok(vf_graph_slot_take(w->graph, &slot, &err));
		ck_assert_uint_eq(slot, i);
		ck_ok(vf_graph_add(w->graph, slot, 1000 + i, w->vectors + i * w->dim, &err));
		w->live[i] = true;
	}
}

/* Vectors anew in all slots that were swept, with serials that none had before. */
static void refill(struct world *w, void (*make)(float *vector, uint32_t dim, uint32_t slot))
{
	w->refills++;
	for (;;) {
		uint32_t slot;
		ck_ok(vf_graph_slot_take(w->graph, &slot, &err));
		if (slot >= w->n) {
			vf_graph_slot_return(w->graph, slot);
			return;
		}
		float *vector = w->vectors + (size_t)slot * w->dim;
		make(vector, w->dim, slot);
		ck_ok(vf_graph_add(w->graph, slot, 1000 + slot + w->refills * w->n, vector, &err));
		w->live[slot] = true;
	}
}

static void link_all(struct world *w)
{
	int rc;

	while ((rc = vf_graph_link(w->graph, VF_LINKS_MAX, &err)) > 0)
		;
	ck_assert_int_eq(rc, 0);
}

static void remove_slot(struct world *w, uint32_t slot)
{
	vf_graph_remove(w->graph, slot);
	w->live[slot] = false;
}

static void print_finding(void *ctx, const char *text)
{
	int *left = ctx;

	if ((*left)-- > 0)
		fprintf(stderr, "# %s\n", text);
}

static void audit(struct world *w)
{
	int left = 10;

	ck_assert_int_eq(vf_graph_audit(w->graph, print_finding, &left, &err), 0);
}

/* ---- the oracle: every vector compared, in double ---- */

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static bool in_set(const struct vf_slot_set *only, size_t slot)
{
	return !only || (slot / 64 < only->nwords && only->words[slot / 64] >> (slot % 64) & 1);
}

/* The distance of the k-th nearest; *k is lowered to how many there are. */
static double kth_distance(const struct world *w, const float *query, const struct vf_slot_set *only, size_t *k)
{
	double *all = malloc(w->n * sizeof *all), kth = 0;
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++)
		if (w->live[i] && in_set(only, i))
			all[n++] = vf_distance(w->metric, query, w->vectors + i * w->dim, w->dim);
	qsort(all, n, sizeof *all, compare_doubles);
	*k = *k < n ? *k : n;
	if (*k)
		kth = all[*k - 1];
	free(all);
	return kth;
}

/* Of the k truly nearest, the share among the hits, once these are ranked exactly. Every hit must be live, in the set, and there once. */
static double recall_of(const struct world *w, const float *query, const struct vf_slot_set *only, const struct vf_hit *hits, uint32_t nhits)
{
	bool *seen = calloc(w->n, 1);
	size_t k = K, found = 0;
	double kth = kth_distance(w, query, only, &k), last = -INFINITY;

	for (uint32_t i = 0; i < nhits; i++) {
		uint32_t slot = hits[i].slot;
		ck_assert(slot < w->n && w->live[slot] && in_set(only, slot) && !seen[slot]);
		ck_assert_uint_eq((hits[i].serial - 1000) % w->n, slot);
		ck_assert(hits[i].distance >= last);
		last = hits[i].distance;
		seen[slot] = true;
		found += vf_distance(w->metric, query, w->vectors + (size_t)slot * w->dim, w->dim) <= kth;
	}
	free(seen);
	return k == 0 ? 1 : (double)(found < k ? found : k) / (double)k;
}

/* Means over the queries; a search that gives up is followed by a scan, as an index would. */
static double recall(const struct world *w, uint32_t ef, const struct vf_slot_set *only)
{
	struct vf_hit hits[3 * K];
	double sum = 0;

	for (size_t q = 0; q < w->nqueries; q++) {
		struct vf_search search = { w->queries + q * w->dim, 3 * K, ef, only };
		uint32_t nhits;
		int rc = vf_graph_search(w->graph, &search, hits, &nhits, NULL, &err);
		ck_assert_int_ge(rc, 0);
		if (rc == 1)
			ck_ok(vf_graph_scan(w->graph, &search, hits, &nhits, NULL, &err));
		sum += recall_of(w, search.query, only, hits, nhits);
	}
	return sum / (double)w->nqueries;
}

static double recall_of_scan(const struct world *w, const struct vf_slot_set *only)
{
	struct vf_hit hits[3 * K];
	double sum = 0;

	for (size_t q = 0; q < w->nqueries; q++) {
		struct vf_search search = { w->queries + q * w->dim, 3 * K, 0, only };
		uint32_t nhits;
		ck_ok(vf_graph_scan(w->graph, &search, hits, &nhits, NULL, &err));
		sum += recall_of(w, search.query, only, hits, nhits);
	}
	return sum / (double)w->nqueries;
}

static void expect_recall(const char *what, double got, double least)
{
	ck_assert_msg(got >= least, "%s: recall %.4f, expected %.4f", what, got, least);
}

/* ---- tests ---- */

static const enum vf_metric metrics[] = { VF_COSINE, VF_EUCLIDEAN, VF_DOT };

START_TEST(a_search_finds_what_brute_force_finds)
{
	static const uint32_t dims[] = { 16, 100, 300 };
	char what[80];

	for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++)
		for (size_t m = 0; m < 3; m++) {
			struct world w = world_new(metrics[m], dims[d], scaled(dims[d] == 100 ? 8000 : 4000, 1000), VF_CODE_U8);
			add(&w, 0, w.n);
			link_all(&w);
			audit(&w);
			snprintf(what, sizeof what, "%s, %u dimensions", vf_metric_name(metrics[m]), dims[d]);
			expect_recall(what, recall(&w, 100, NULL), 0.95);
			expect_recall(what, recall_of_scan(&w, NULL), 0.995);
			world_free(&w);
		}
}
END_TEST

START_TEST(vectors_of_one_two_and_three_dimensions_are_found)
{
	for (uint32_t dim = 1; dim <= 3; dim++)
		for (size_t m = 0; m < 3; m++) {
			struct world w = world_new(metrics[m], dim, scaled(3000, 1000), VF_CODE_F32);
			add(&w, 0, w.n);
			link_all(&w);
			audit(&w);
			/* Under cosine one dimension has two directions, so any record of the right one is right. */
			expect_recall(vf_metric_name(metrics[m]), recall(&w, 100, NULL), 0.95);
			expect_recall(vf_metric_name(metrics[m]), recall_of_scan(&w, NULL), 0.999);
			world_free(&w);
		}
}
END_TEST

START_TEST(pending_vectors_are_found_before_they_are_linked)
{
	struct world w = world_new(VF_COSINE, 32, 3000, VF_CODE_U8);
	struct vf_graph_counts counts;

	expect_recall("empty", recall(&w, 100, NULL), 1);
	add(&w, 0, 500);
	expect_recall("all pending", recall(&w, 100, NULL), 0.999);
	link_all(&w);
	add(&w, 500, w.n);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(vf_graph_link(w.graph, 1, &err), 1);
	vf_graph_counts(w.graph, &counts);
	ck_assert_uint_eq(counts.pending, 1500);
	ck_assert_uint_eq(counts.linked, 1500);
	ck_assert_uint_eq(counts.slots, 3000);
	expect_recall("half pending", recall(&w, 100, NULL), 0.97);
	world_free(&w);
}
END_TEST

START_TEST(vectors_added_in_sorted_order_stay_reachable)
{
	struct world w = { .metric = VF_EUCLIDEAN, .dim = 8, .m = 8, .efc = 64, .n = 6000, .nqueries = 100 };

	w.vectors = malloc(w.n * w.dim * sizeof(float));
	w.queries = malloc(w.nqueries * w.dim * sizeof(float));
	w.live = calloc(w.n, 1);
	/* Along a line, a little beside it; then nothing near the middle. */
	for (size_t i = 0; i < w.n; i++)
		for (uint32_t k = 0; k < w.dim; k++)
			w.vectors[i * w.dim + k] = (float)i * (i > w.n / 2 ? 3.0f : 1.0f) + uniform();
	for (size_t q = 0; q < w.nqueries; q++)
		memcpy(w.queries + q * w.dim, w.vectors + q * 59 * w.dim, w.dim * sizeof(float));
	world_graph(&w, VF_CODE_F32);
	add(&w, 0, w.n);
	link_all(&w);
	audit(&w);
	expect_recall("sorted", recall(&w, 100, NULL), 0.97);
	world_free(&w);
}
END_TEST

/* Records over 20 points. */
static struct world world_of_copies(enum vf_metric metric)
{
	struct world w = { .metric = metric, .dim = 12, .m = 8, .efc = 64, .n = scaled(20000, 5000), .nqueries = 20 };

	w.vectors = malloc(w.n * w.dim * sizeof(float));
	w.queries = malloc(w.nqueries * w.dim * sizeof(float));
	w.live = calloc(w.n, 1);
	for (size_t i = 0; i < w.nqueries * w.dim; i++)
		w.queries[i] = normal();
	for (size_t i = 0; i < w.n; i++)
		memcpy(w.vectors + i * w.dim, w.queries + next_random(&random_state) % w.nqueries * w.dim, w.dim * sizeof(float));
	for (size_t i = 0; i < w.nqueries * w.dim; i++)
		w.queries[i] += 0.1f * normal();
	world_graph(&w, VF_CODE_U8);
	add(&w, 0, w.n);
	link_all(&w);
	return w;
}

START_TEST(copies_of_a_few_vectors_are_all_found)
{
	for (size_t m = 0; m < 3; m++) {
		struct world w = world_of_copies(metrics[m]);
		struct vf_hit *hits = malloc(1500 * sizeof *hits);
		uint32_t nhits;
		audit(&w);
		expect_recall("copies", recall(&w, 64, NULL), 1);
		/* More than one point has copies: the answer goes on with the next one's. */
		struct vf_search search = { w.queries, 1500, 1500, NULL };
		ck_ok(vf_graph_search(w.graph, &search, hits, &nhits, NULL, &err));
		ck_assert_uint_eq(nhits, 1500);
		recall_of(&w, w.queries, NULL, hits, nhits);
		free(hits);
		world_free(&w);
	}
}
END_TEST

START_TEST(copies_survive_the_removal_of_others_and_of_the_first)
{
	struct world w = world_of_copies(VF_EUCLIDEAN);
	struct vf_graph_counts counts;

	for (uint32_t slot = 0; slot < w.n / 2; slot++)
		remove_slot(&w, slot);
	expect_recall("dead copies", recall(&w, 64, NULL), 1);
	ck_ok(vf_graph_sweep(w.graph, &err));
	audit(&w);
	expect_recall("swept copies", recall(&w, 64, NULL), 1);
	for (uint32_t slot = (uint32_t)w.n / 2; slot < w.n; slot++)
		if (slot % 900 != 0)
			remove_slot(&w, slot);
	ck_ok(vf_graph_sweep(w.graph, &err));
	audit(&w);
	expect_recall("few copies", recall(&w, 64, NULL), 1);
	vf_graph_counts(w.graph, &counts);
	ck_assert_uint_eq(counts.dead, 0);
	ck_assert_uint_eq(counts.free + counts.linked, w.n);
	world_free(&w);
}
END_TEST

START_TEST(removed_vectors_are_never_returned_and_their_slots_are_used_again)
{
	struct world w = world_new(VF_EUCLIDEAN, 64, scaled(6000, 1500), VF_CODE_U8);
	struct vf_graph_counts counts;
	size_t removed = 0;

	add(&w, 0, w.n);
	link_all(&w);
	double fresh = recall(&w, 64, NULL);
	for (uint32_t slot = 0; slot < w.n; slot++)
		if (next_random(&random_state) % 2) {
			remove_slot(&w, slot);
			removed++;
		}
	expect_recall("dead", recall(&w, 64, NULL), fresh - 0.02);
	ck_ok(vf_graph_sweep(w.graph, &err));
	audit(&w);
	expect_recall("swept", recall(&w, 64, NULL), fresh - 0.02);
	vf_graph_counts(w.graph, &counts);
	ck_assert_uint_eq(counts.free, removed);
	ck_assert_uint_eq(counts.dead, 0);
	for (size_t i = 0; i < removed; i++) {
		uint32_t slot;
		ck_ok(vf_graph_slot_take(w.graph, &slot, &err));
		ck_assert(slot < w.n && !w.live[slot]);
		for (uint32_t k = 0; k < w.dim; k++)
			w.vectors[slot * w.dim + k] = w.vectors[(slot + 1) % w.n * w.dim + k] + 0.3f * normal();
		ck_ok(vf_graph_add(w.graph, slot, 1000 + slot, w.vectors + slot * w.dim, &err));
		w.live[slot] = true;
	}
	link_all(&w);
	audit(&w);
	expect_recall("churned", recall(&w, 64, NULL), fresh - 0.02);
	world_free(&w);
}
END_TEST

START_TEST(a_whole_cluster_can_be_removed)
{
	struct world w = world_new(VF_EUCLIDEAN, 24, scaled(6000, 1500), VF_CODE_U8);

	add(&w, 0, w.n);
	link_all(&w);
	/* Everything on one side of a plane, in two sweeps. */
	for (int side = 0; side < 2; side++) {
		for (uint32_t slot = 0; slot < w.n; slot++)
			if (w.live[slot] && w.vectors[slot * w.dim + (uint32_t)side] > 0)
				remove_slot(&w, slot);
		ck_ok(vf_graph_sweep(w.graph, &err));
		audit(&w);
		expect_recall("a side is gone", recall(&w, 100, NULL), 0.95);
	}
	world_free(&w);
}
END_TEST

START_TEST(a_graph_can_be_emptied_and_filled_again)
{
	struct world w = world_new(VF_COSINE, 16, 1000, VF_CODE_U8);
	struct vf_graph_counts counts;

	add(&w, 0, 500);
	for (int i = 0; i < 250; i++)
		ck_assert_int_eq(vf_graph_link(w.graph, 1, &err), 1);
	for (uint32_t slot = 0; slot < 500; slot++)
		remove_slot(&w, slot);
	expect_recall("all dead", recall(&w, 64, NULL), 1);
	/* Linked to dead nodes, for want of others. */
	add(&w, 500, 600);
	link_all(&w);
	expect_recall("some live", recall(&w, 64, NULL), 1);
	ck_ok(vf_graph_sweep(w.graph, &err));
	audit(&w);
	expect_recall("swept", recall(&w, 64, NULL), 1);
	for (uint32_t slot = 500; slot < 600; slot++)
		remove_slot(&w, slot);
	ck_ok(vf_graph_sweep(w.graph, &err));
	audit(&w);
	vf_graph_counts(w.graph, &counts);
	ck_assert_uint_eq(counts.free, 600);
	ck_assert_uint_eq(counts.linked + counts.pending + counts.dead, 0);
	for (int i = 0; i < 600; i++) {
		uint32_t slot;
		ck_ok(vf_graph_slot_take(w.graph, &slot, &err));
		ck_ok(vf_graph_add(w.graph, slot, 1000 + slot, w.vectors + slot * w.dim, &err));
		w.live[slot] = true;
	}
	link_all(&w);
	audit(&w);
	expect_recall("filled again", recall(&w, 64, NULL), 0.97);
	world_free(&w);
}
END_TEST

static struct vf_slot_set set_of_share(const struct world *w, uint64_t *words, double share)
{
	struct vf_slot_set set = { words, (w->n + 63) / 64, 0 };

	memset(words, 0, set.nwords * sizeof *words);
	for (size_t i = 0; i < w->n; i++)
		if (w->live[i] && uniform() < share) {
			words[i / 64] |= 1ull << (i % 64);
			set.count++;
		}
	return set;
}

START_TEST(a_filtered_search_finds_what_a_filtered_scan_finds)
{
	static const double shares[] = { 0.9, 0.5, 0.3, 0.1, 0.03, 0.002 };
	struct world w = world_new(VF_COSINE, 48, scaled(8000, 2000), VF_CODE_U8);
	uint64_t words[8000 / 64 + 1];
	char what[80];

	add(&w, 0, w.n);
	link_all(&w);
	for (size_t s = 0; s < sizeof shares / sizeof shares[0]; s++) {
		struct vf_slot_set set = set_of_share(&w, words, shares[s]);
		snprintf(what, sizeof what, "share %g", shares[s]);
		expect_recall(what, recall(&w, 100, &set), 0.96);
		expect_recall(what, recall_of_scan(&w, &set), 0.999);
	}
	/* What matches lies where the query does not. */
	struct vf_slot_set far = { words, 8000 / 64, 0 };
	memset(words, 0, sizeof words);
	for (size_t i = 0; i < w.n; i++)
		if (w.vectors[i * w.dim] > 1.5f) {
			words[i / 64] |= 1ull << (i % 64);
			far.count++;
		}
	expect_recall("correlated", recall(&w, 100, &far), 0.95);
	struct vf_slot_set none = { words, 0, 0 };
	expect_recall("nothing matches", recall(&w, 100, &none), 1);
	world_free(&w);
}
END_TEST

START_TEST(vectors_of_very_different_length_are_found_under_dot)
{
	struct world w = world_new(VF_DOT, 48, scaled(8000, 2000), VF_CODE_U8);
	uint64_t words[8000 / 64] = { 0 };
	struct vf_slot_set small = { words, 8000 / 64, 0 };

	vf_graph_free(&w.graph);
	for (size_t i = 0; i < w.n; i++) {
		float scale = expf(0.5f * normal());
		for (uint32_t k = 0; k < w.dim; k++)
			w.vectors[i * w.dim + k] *= scale;
		/* The short ones: nobody's nearest unless the others are left out. */
		if (scale < 0.7f) {
			words[i / 64] |= 1ull << (i % 64);
			small.count++;
		}
	}
	world_graph(&w, VF_CODE_U8);
	add(&w, 0, w.n);
	link_all(&w);
	audit(&w);
	expect_recall("all", recall(&w, 100, NULL), 0.95);
	expect_recall("the short ones", recall(&w, 100, &small), 0.95);
	world_free(&w);
}
END_TEST

START_TEST(a_scan_returns_as_many_as_there_are)
{
	struct world w = world_new(VF_EUCLIDEAN, 20, 3000, VF_CODE_U8);
	struct vf_hit *hits = malloc(2 * w.n * sizeof *hits);
	uint32_t nhits;

	add(&w, 0, w.n);
	link_all(&w);
	for (uint32_t slot = 0; slot < w.n; slot += 3)
		remove_slot(&w, slot);
	struct vf_search search = { w.queries, (uint32_t)(2 * w.n), 0, NULL };
	ck_ok(vf_graph_scan(w.graph, &search, hits, &nhits, NULL, &err));
	ck_assert_uint_eq(nhits, 2000);
	recall_of(&w, w.queries, NULL, hits, nhits);
	search.want = 700;
	ck_ok(vf_graph_scan(w.graph, &search, hits, &nhits, NULL, &err));
	ck_assert_uint_eq(nhits, 700);
	ck_assert(recall_of(&w, w.queries, NULL, hits, nhits) == 1);
	search.want = 0;
	ck_ok(vf_graph_scan(w.graph, &search, hits, &nhits, NULL, &err));
	ck_assert_uint_eq(nhits, 0);
	free(hits);
	world_free(&w);
}
END_TEST

START_TEST(values_far_above_the_others_keep_the_order)
{
	/* Dimension 0 carries most of the distance. */
	struct world w = world_new(VF_EUCLIDEAN, 64, 3000, VF_CODE_U8);

	for (size_t i = 0; i < w.n; i++)
		w.vectors[i * w.dim] = 40 * normal();
	for (size_t q = 0; q < w.nqueries; q++)
		w.queries[q * w.dim] = 40 * normal();
	vf_graph_free(&w.graph);
	world_graph(&w, VF_CODE_U8);
	add(&w, 0, w.n);
	link_all(&w);
	expect_recall("scan", recall_of_scan(&w, NULL), 0.97);
	expect_recall("search", recall(&w, 100, NULL), 0.95);
	world_free(&w);
}
END_TEST

/* ---- checkpoint ---- */

struct chunks { struct vf_buf codes[200], links[200]; uint32_t count; };

static void dump(struct world *w, struct chunks *c)
{
	struct vf_graph_counts counts;

	vf_graph_counts(w->graph, &counts);
	memset(c, 0, sizeof *c);
	c->count = (counts.slots + vf_graph_chunk_slots(w->graph) - 1) / vf_graph_chunk_slots(w->graph);
	ck_assert(c->count <= 200);
	for (uint32_t chunk = 0; vf_graph_chunk_dirty(w->graph, &chunk); chunk++) {
		ck_ok(vf_graph_chunk_dump(w->graph, chunk, &c->codes[chunk], &c->links[chunk], &err));
		ck_assert_uint_le(c->codes[chunk].len, 65536);
	}
	uint32_t none = 0;
	ck_assert(!vf_graph_chunk_dirty(w->graph, &none));
}

static void chunks_free(struct chunks *c)
{
	for (uint32_t i = 0; i < c->count; i++) {
		vf_buf_free(&c->codes[i]);
		vf_buf_free(&c->links[i]);
	}
}

static int add_missing(void *ctx, uint32_t slot, uint64_t serial, struct vf_err *e)
{
	struct world *w = ctx;

	return vf_graph_add(w->graph, slot, serial, w->vectors + (size_t)slot * w->dim, e);
}

static struct vf_graph *graph_like(const struct world *w)
{
	struct vf_graph_params params = { w->metric, w->dim, w->m, w->efc };
	struct vf_graph *graph;

	ck_ok(vf_graph_new(&params, vf_graph_quant(w->graph), &graph, &err));
	return graph;
}

/* A second world, whose graph is loaded from the chunks. */
static struct world load(const struct world *from, const struct chunks *c)
{
	struct world w = *from;

	w.graph = graph_like(from);
	for (uint32_t slot = (uint32_t)w.n; slot-- > 0;) {
		uint64_t serial;
		if (w.live[slot] && vf_graph_slot(from->graph, slot, &serial) != VF_SLOT_FREE)
			ck_ok(vf_graph_expect(w.graph, slot, serial, &err));
	}
	for (uint32_t i = 0; i < c->count; i++)
		ck_ok(vf_graph_chunk_load(w.graph, i, vf_buf_span(&c->codes[i]), vf_buf_span(&c->links[i]), &err));
	ck_ok(vf_graph_load_end(w.graph, add_missing, &w, &err));
	return w;
}

static void expect_same_answers(const struct world *a, const struct world *b)
{
	for (size_t q = 0; q < a->nqueries; q++) {
		struct vf_hit x[K], y[K];
		struct vf_search search = { a->queries + q * a->dim, K, 40, NULL };
		uint32_t nx, ny;
		ck_assert_int_ge(vf_graph_search(a->graph, &search, x, &nx, NULL, &err), 0);
		ck_assert_int_ge(vf_graph_search(b->graph, &search, y, &ny, NULL, &err), 0);
		ck_assert_uint_eq(nx, ny);
		for (uint32_t i = 0; i < nx; i++) {
			ck_assert_uint_eq(x[i].slot, y[i].slot);
			ck_assert_uint_eq(x[i].serial, y[i].serial);
			ck_assert(x[i].distance == y[i].distance);
		}
	}
}

/* ---- beyond the codes ---- */

#define FAR 150u   /* fewer than outliers may be */

/* The last FAR vectors lie far beyond the sample that the quantizer was fitted to, in pairs; the queries beside them. */
static struct world world_of_outliers(enum vf_metric metric)
{
	struct world w = world_new(metric, 48, 4000, VF_CODE_U8);

	for (size_t r = w.n - FAR; r < w.n; r++)
		for (uint32_t i = 0; i < w.dim; i++) {
			float *x = &w.vectors[r * w.dim + i];
			if (metric == VF_COSINE)
				*x = 0.02f * normal() + (i == r % w.dim ? 30 : 0);
			else
				*x = r % 2 ? x[-(ptrdiff_t)w.dim] + 0.3f * normal() : (20 + 40 * uniform()) * normal();
		}
	for (size_t q = 0; q < w.nqueries; q++)
		for (uint32_t i = 0; i < w.dim; i++)
			w.queries[q * w.dim + i] = w.vectors[(w.n - FAR + q) * w.dim + i] + 0.02f * normal();
	add(&w, 0, w.n);
	return w;
}

static uint32_t outliers_of(const struct world *w)
{
	struct vf_graph_counts counts;

	vf_graph_counts(w->graph, &counts);
	return counts.outliers;
}

START_TEST(vectors_beyond_the_codes_are_found_at_their_true_place)
{
	for (size_t m = 0; m < sizeof metrics / sizeof metrics[0]; m++) {
		/* From so far away the others are nearly equally near, which is hard for a walk. */
		double least = 0.9;
		struct world w = world_of_outliers(metrics[m]);
		ck_assert_uint_ge(outliers_of(&w), FAR * 9 / 10);
		link_all(&w);
		audit(&w);
		expect_recall("scan", recall_of_scan(&w, NULL), 0.99);
		expect_recall("search", recall(&w, 100, NULL), least);
		for (uint32_t slot = (uint32_t)w.n - FAR; slot < w.n; slot += 3)
			remove_slot(&w, slot);
		audit(&w);
		ck_assert_uint_le(outliers_of(&w), FAR * 2 / 3);
		expect_recall("search after removals", recall(&w, 100, NULL), least);
		ck_ok(vf_graph_sweep(w.graph, &err));
		audit(&w);
		expect_recall("search after a sweep", recall(&w, 100, NULL), least);
		world_free(&w);
	}
}
END_TEST

START_TEST(vectors_beyond_the_codes_come_back_after_loading)
{
	struct world w = world_of_outliers(VF_EUCLIDEAN);
	struct chunks c;

	link_all(&w);
	dump(&w, &c);
	struct world again = load(&w, &c);
	audit(&again);
	ck_assert_uint_eq(outliers_of(&again), outliers_of(&w));
	expect_same_answers(&w, &again);
	vf_graph_free(&again.graph);
	chunks_free(&c);
	world_free(&w);
}
END_TEST

START_TEST(questions_beyond_the_codes_are_measured_truly)
{
	struct world w = world_new(VF_EUCLIDEAN, 48, scaled(4000, 1000), VF_CODE_U8);

	for (size_t i = 0; i < w.nqueries * w.dim; i++)
		w.queries[i] = (5 + 20 * uniform()) * normal();
	add(&w, 0, w.n);
	expect_recall("scan", recall_of_scan(&w, NULL), 0.99);
	link_all(&w);
	expect_recall("search", recall(&w, 200, NULL), 0.97);
	world_free(&w);
}
END_TEST

static void expect_each_to_find_itself(const struct world *w)
{
	for (uint32_t slot = 0; slot < w->n; slot++) {
		struct vf_search search = { w->vectors + (size_t)slot * w->dim, 1, 1, NULL };
		struct vf_hit hit;
		uint32_t nhits;
		ck_assert_int_ge(vf_graph_search(w->graph, &search, &hit, &nhits, NULL, &err), 0);
		ck_assert(nhits == 1 && hit.slot == slot);
	}
}

START_TEST(who_asks_for_a_stored_vector_finds_it_at_the_smallest_effort)
{
	static const enum vf_metric distances[] = { VF_COSINE, VF_EUCLIDEAN };

	for (size_t m = 0; m < 2; m++) {
		struct world w = world_new(distances[m], 64, scaled(4000, 1000), VF_CODE_U8);
		struct chunks c;
		add(&w, 0, w.n);
		link_all(&w);
		expect_each_to_find_itself(&w);
		dump(&w, &c);
		struct world again = load(&w, &c);
		/* Nothing waits; but who is equal to whom is learnt. */
		ck_assert_int_eq(vf_graph_link(again.graph, 1, &err), 0);
		expect_each_to_find_itself(&again);
		vf_graph_free(&again.graph);
		chunks_free(&c);
		world_free(&w);
	}
}
END_TEST

static double distance_of(const struct world *w, uint32_t a, uint32_t b)
{
	return vf_distance(w->metric, w->vectors + (size_t)a * w->dim, w->vectors + (size_t)b * w->dim, w->dim);
}

/* Links some; the mean distance of each that is linked now to the next. 0: at most one. */
static double link_some(struct world *w, bool *linked)
{
	uint32_t before = VF_SLOT_NONE, pairs = 0;
	double sum = 0;
	uint64_t serial;

	ck_assert_int_gt(vf_graph_link(w->graph, VF_LINKS_MAX, &err), 0);
	for (uint32_t slot = 0; slot < w->n; slot++) {
		if (linked[slot] || vf_graph_slot(w->graph, slot, &serial) != VF_SLOT_LINKED)
			continue;
		linked[slot] = true;
		if (before != VF_SLOT_NONE) {
			sum += distance_of(w, before, slot);
			pairs++;
		}
		before = slot;
	}
	return pairs ? sum / pairs : 0;
}

START_TEST(those_who_wait_are_linked_near_ones_one_after_the_other)
{
	struct world w = world_new(VF_EUCLIDEAN, 32, 6000, VF_CODE_U8);
	struct vf_graph_counts counts;
	bool *linked = calloc(w.n, sizeof *linked);
	double apart = 0, sum = 0;
	unsigned runs = 0;

	for (uint32_t slot = 1; slot < w.n; slot++)
		apart += distance_of(&w, slot - 1, slot) / (double)(w.n - 1);
	add(&w, 0, w.n);
	for (vf_graph_counts(w.graph, &counts); counts.pending; vf_graph_counts(w.graph, &counts)) {
		double mean = link_some(&w, linked);
		sum += mean;
		runs += mean > 0;
		/* Who goes while an order holds is not linked, and another may have its slot by then. */
		for (uint32_t slot = 5000; slot < 5400 && runs == 3; slot++)
			if (w.live[slot])
				remove_slot(&w, slot);
		if (runs == 5)
			ck_ok(vf_graph_sweep(w.graph, &err));
	}
	ck_assert_uint_ge(runs, 30);
	/* A cell has some of the thirty clusters. */
	ck_assert_double_lt(sum / runs, 0.85 * apart);
	audit(&w);
	expect_recall("in order", recall(&w, 64, NULL), 0.97);
	free(linked);
	world_free(&w);
}
END_TEST

/* Codes that reached as far would be the same for all the others. */
START_TEST(a_few_giants_spoil_nothing)
{
	for (size_t i = 0; i < 3; i++) {
		struct world w = world_new(metrics[i], 48, 6000, VF_CODE_U8);
		for (size_t k = 0; k < 20; k++)
			for (uint32_t d = 0; d < w.dim; d++)
				w.vectors[k * 300 * w.dim + d] *= 300;
		vf_graph_free(&w.graph);
		world_graph(&w, VF_CODE_U8);
		add(&w, 0, w.n);
		link_all(&w);
		audit(&w);
		if (metrics[i] == VF_EUCLIDEAN)
			ck_assert_uint_eq(outliers_of(&w), 20);
		expect_recall("beside giants", recall(&w, 100, NULL), metrics[i] == VF_DOT ? 0.8 : 0.97);
		world_free(&w);
	}
}
END_TEST

static bool tells(enum vf_metric metric, uint32_t dim, void (*spoil)(struct world *w))
{
	struct world w = world_new(metric, dim, 3000, VF_CODE_U8);
	struct vf_quant quant;
	bool tells;

	if (spoil)
		spoil(&w);
	ck_ok(vf_quant_fit(&quant, VF_CODE_U8, metric, dim, w.vectors, w.n, &err));
	ck_ok(vf_quant_try(&quant, metric, w.vectors, w.n, &tells, &err));
	vf_quant_free(&quant);
	world_free(&w);
	return tells;
}

static void make_one_in_thirty_a_giant(struct world *w)
{
	for (size_t r = 0; r < w->n; r += 30)
		for (uint32_t i = 0; i < w->dim; i++)
			w->vectors[r * w->dim + i] *= 300;
}

static void make_five_in_many_shades(struct world *w)
{
	for (size_t r = 5; r < w->n; r++)
		for (uint32_t i = 0; i < w->dim; i++)
			w->vectors[r * w->dim + i] = w->vectors[(r % 5) * w->dim + i] + 1e-3f * normal();
}

static void make_five_and_copies(struct world *w)
{
	for (size_t r = 5; r < w->n; r++)
		memcpy(w->vectors + r * w->dim, w->vectors + (r % 5) * w->dim, w->dim * sizeof(float));
}

START_TEST(it_is_known_whether_bytes_tell_near_from_far)
{
	static const uint32_t dims[] = { 33, 100, 768 };

	for (size_t d = 0; d < 3; d++) {
		for (enum vf_metric metric = VF_COSINE; metric <= VF_DOT; metric++)
			ck_assert(tells(metric, dims[d], NULL));
		ck_assert(!tells(VF_EUCLIDEAN, dims[d], make_one_in_thirty_a_giant));
		ck_assert(tells(VF_COSINE, dims[d], make_one_in_thirty_a_giant));
		ck_assert(!tells(VF_EUCLIDEAN, dims[d], make_five_in_many_shades));
		ck_assert(!tells(VF_COSINE, dims[d], make_five_in_many_shades));
		ck_assert(tells(VF_EUCLIDEAN, dims[d], make_five_and_copies));
	}
}
END_TEST

/* A half that lies elsewhere than the sample did, all in one place: with clamped codes they would be told apart by nothing. */
START_TEST(outliers_past_their_number_are_found_like_others)
{
	for (size_t m = 0; m < sizeof metrics / sizeof metrics[0]; m++) {
		struct world w = world_new(metrics[m], 48, 4000, VF_CODE_U8);
		struct vf_graph_counts counts;
		for (size_t i = 2000 * w.dim; i < w.n * w.dim; i++)
			w.vectors[i] = (i % w.dim ? 0 : 300) + 5 * normal();
		for (size_t i = 0; i < w.nqueries * w.dim; i++)
			w.queries[i] = w.vectors[(w.n - w.nqueries) * w.dim + i] + 0.1f * normal();
		add(&w, 0, w.n);
		link_all(&w);
		audit(&w);
		vf_graph_counts(w.graph, &counts);
		ck_assert(vf_graph_is_honest(w.graph));
		ck_assert_uint_gt(counts.outliers, 2 * counts.outliers_max);
		ck_assert_uint_eq(counts.linked, w.n);
		expect_recall("near them", recall(&w, 10, NULL), 0.999);
		expect_recall("by a scan", recall_of_scan(&w, NULL), 0.999);
		world_free(&w);
	}
}
END_TEST

/* Under cosine the length does not matter, however small it is: of such a length no float has the inverse. */
START_TEST(the_shortest_vectors_are_found)
{
	for (enum vf_code code = VF_CODE_F32; code <= VF_CODE_U8; code++) {
		struct world w = world_new(VF_COSINE, 48, 2000, code);
		for (size_t i = 0; i < w.n * w.dim; i++)
			w.vectors[i] *= i / w.dim % 3 ? 1 : 0x1p-126f;
		for (size_t i = 0; i < w.nqueries * w.dim; i++)
			w.queries[i] *= i / w.dim % 2 ? 1 : 0x1p-127f;
		add(&w, 0, w.n);
		link_all(&w);
		audit(&w);
		expect_recall("by a scan", recall_of_scan(&w, NULL), 0.99);
		expect_recall("through the graph", recall(&w, 200, NULL), 0.95);
		world_free(&w);
	}
}
END_TEST

/* ---- what codes prove ---- */

static double norm_of(const float *x, uint32_t dim)
{
	double square = 0;

	for (uint32_t i = 0; i < dim; i++)
		square += (double)x[i] * x[i];
	return sqrt(square);
}

/* In steps of the quantizer, or of both it and the query's. */
static double true_product(const struct world *w, const float *query, uint32_t slot)
{
	double product = 0, most = 0;

	for (uint32_t i = 0; i < w->dim; i++) {
		product += (double)query[i] * w->vectors[slot * w->dim + i];
		most = fmax(most, fabs((double)query[i]));
	}
	return -product / (double)vf_graph_quant(w->graph)->step / (most / 127);
}

static double true_distance(const struct world *w, const float *query, uint32_t slot)
{
	const float *x = w->vectors + slot * w->dim;
	bool normal = w->metric == VF_COSINE;
	double square = 0, query_scale = normal ? 1 / norm_of(query, w->dim) : 1, scale = normal ? 1 / norm_of(x, w->dim) : 1;

	for (uint32_t i = 0; i < w->dim; i++) {
		double d = query[i] * query_scale - x[i] * scale;
		square += d * d;
	}
	return sqrt(square) / (double)vf_graph_quant(w->graph)->step;
}

static void expect_bounds(const struct world *w)
{
	struct vf_hit *hits = malloc(w->n * sizeof *hits);
	double root = sqrt(w->dim);

	ck_assert(vf_graph_is_bounded(w->graph));
	for (size_t q = 0; q < w->nqueries; q++) {
		const float *query = w->queries + q * w->dim;
		struct vf_search search = { .query = query, .want = (uint32_t)w->n };
		struct vf_search_stats stats;
		uint32_t nhits;
		ck_ok(vf_graph_scan(w->graph, &search, hits, &nhits, &stats, &err));
		ck_assert_uint_eq(nhits, w->n);
		double bound = vf_graph_bound(w->graph, query, stats.beyond_codes);
		/* Not so large that it could not fail: rounding moves a number by half a step, and clamping by no more on average. */
		double least = w->metric == VF_DOT ? 60 * root : 0.5 * root, most = w->metric == VF_DOT ? 130 * root * root : 2.5 * root;
		ck_assert_msg(bound > least && bound < most, "a bound of %g for %u numbers", bound, w->dim);
		for (uint32_t i = 0; i < nhits; i++) {
			double found = w->metric == VF_DOT ? (double)hits[i].distance : sqrt((double)hits[i].distance);
			double right = w->metric == VF_DOT ? true_product(w, query, hits[i].slot) : true_distance(w, query, hits[i].slot), off = fabs(found - right);
			ck_assert_msg(off <= bound + fabs(found) * 1e-5, "%g off, %g away, the bound is %g", off, found, bound);
		}
	}
	free(hits);
}

static void move_all(struct world *w, float by)
{
	for (size_t i = 0; i < w->n * w->dim; i++)
		w->vectors[i] += by;
	for (size_t i = 0; i < w->nqueries * w->dim; i++)
		w->queries[i] += by;
}

START_TEST(codes_are_no_further_off_than_their_bound)
{
	static const float moved_by[] = { 0, 20, 3000 };

	for (size_t m = 0; m < 3; m++)
		for (size_t k = 0; k < 3; k++) {
			struct world w = world_new(metrics[m], 48, 600, VF_CODE_U8);
			move_all(&w, moved_by[k]);
			vf_graph_free(&w.graph);
			world_graph(&w, VF_CODE_U8);
			add(&w, 0, w.n);
			expect_bounds(&w);
			world_free(&w);
		}
}
END_TEST

START_TEST(outliers_and_questions_beyond_the_codes_keep_the_bound)
{
	for (size_t m = 0; m < 3; m++) {
		struct world w = world_of_outliers(metrics[m]);
		expect_bounds(&w);
		world_free(&w);
	}
	/* A little beyond the sample: clamped, and no outliers. */
	struct world w = world_new(VF_EUCLIDEAN, 48, 2000, VF_CODE_U8);
	for (size_t r = 0; r < w.n; r += 5)
		w.vectors[r * w.dim + r % w.dim] += 4.5f + 0.5f * uniform();
	ck_assert_int_eq(vf_graph_clamped(w.graph), VF_CLAMPED_NOT);
	add(&w, 0, w.n);
	ck_assert_int_eq(vf_graph_clamped(w.graph), VF_CLAMPED_LITTLE);
	expect_bounds(&w);
	world_free(&w);
}
END_TEST

START_TEST(codes_without_a_bound_say_so)
{
	struct world w = world_of_outliers(VF_EUCLIDEAN);

	/* Of a version that kept only some of them apart. */
	vf_graph_clamp(w.graph, VF_CLAMPED_FAR);
	ck_assert(!vf_graph_is_bounded(w.graph) && isinf(vf_graph_bound(w.graph, w.queries, false)));
	vf_graph_clamp(w.graph, VF_CLAMPED_NOT);
	ck_assert_int_eq(vf_graph_clamped(w.graph), VF_CLAMPED_FAR);
	world_free(&w);
	w = world_new(VF_EUCLIDEAN, 48, 100, VF_CODE_F32);
	ck_assert(!vf_graph_is_bounded(w.graph));
	world_free(&w);
}
END_TEST

START_TEST(questions_that_share_a_pass_find_what_each_finds_alone)
{
	struct world w = world_new(VF_COSINE, 64, 5000, VF_CODE_U8);
	static struct vf_hit shared[VF_SCANS_MAX][300], alone[300];
	struct vf_graph_scan scans[VF_SCANS_MAX];
	uint64_t words[5000 / 64 + 1];
	uint32_t nalone;

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		words[i] = next_random(&random_state);
	struct vf_slot_set some = { words, sizeof words / sizeof words[0], 2500 };
	add(&w, 0, w.n);
	for (uint32_t slot = 0; slot < w.n; slot += 9)
		remove_slot(&w, slot);
	for (size_t i = 0; i < VF_SCANS_MAX; i++)
		scans[i] = (struct vf_graph_scan){ .search = { .query = w.queries + i * w.dim, .want = (uint32_t)(i * 9 + 1), .only = i % 3 ? NULL : &some }, .hits = shared[i] };
	ck_ok(vf_graph_scan_many(w.graph, scans, VF_SCANS_MAX, NULL, NULL, &err));
	for (size_t i = 0; i < VF_SCANS_MAX; i++) {
		ck_ok(vf_graph_scan(w.graph, &scans[i].search, alone, &nalone, NULL, &err));
		ck_assert_uint_eq(scans[i].nhits, nalone);
		for (uint32_t k = 0; k < nalone; k++)
			ck_assert(shared[i][k].slot == alone[k].slot && shared[i][k].distance == alone[k].distance);
	}
	world_free(&w);
}
END_TEST

/* ---- loaded from chunks ---- */

START_TEST(a_graph_loaded_from_its_chunks_answers_the_same)
{
	for (int code = VF_CODE_F32; code <= VF_CODE_U8; code++) {
		struct world w = world_new(VF_COSINE, 40, scaled(4000, 1000), (enum vf_code)code);
		struct chunks c;
		add(&w, 0, w.n - 100);
		link_all(&w);
		add(&w, w.n - 100, w.n);
		for (uint32_t slot = 0; slot < w.n; slot += 7)
			remove_slot(&w, slot);
		dump(&w, &c);
		struct world again = load(&w, &c);
		audit(&again);
		expect_same_answers(&w, &again);
		struct vf_graph_counts counts;
		vf_graph_counts(again.graph, &counts);
		ck_assert_uint_eq(counts.pending, 86);
		link_all(&again);
		ck_ok(vf_graph_sweep(again.graph, &err));
		audit(&again);
		expect_recall("loaded, linked, swept", recall(&again, 64, NULL), 0.96);
		vf_graph_free(&again.graph);
		chunks_free(&c);
		world_free(&w);
	}
}
END_TEST

START_TEST(copies_come_back_from_their_chunks)
{
	struct world w = world_of_copies(VF_EUCLIDEAN);
	struct chunks c;

	for (uint32_t slot = 0; slot < w.n / 4; slot++)
		remove_slot(&w, slot);
	dump(&w, &c);
	struct world again = load(&w, &c);
	audit(&again);
	expect_recall("copies", recall(&again, 64, NULL), 1);
	ck_ok(vf_graph_sweep(again.graph, &err));
	audit(&again);
	expect_recall("swept copies", recall(&again, 64, NULL), 1);
	vf_graph_free(&again.graph);
	chunks_free(&c);
	world_free(&w);
}
END_TEST

START_TEST(old_chunks_and_missing_ones_are_harmless)
{
	struct world w = world_new(VF_EUCLIDEAN, 40, 4000, VF_CODE_U8);
	struct chunks old, now;

	add(&w, 0, 3000);
	link_all(&w);
	dump(&w, &old);
	for (uint32_t slot = 0; slot < 3000; slot += 2)
		remove_slot(&w, slot);
	ck_ok(vf_graph_sweep(w.graph, &err));
	for (size_t i = 0; i < 1000; i++) {
		uint32_t slot;
		ck_ok(vf_graph_slot_take(w.graph, &slot, &err));
		ck_ok(vf_graph_add(w.graph, slot, 1000 + slot, w.vectors + slot * w.dim, &err));
		w.live[slot] = true;
	}
	link_all(&w);
	dump(&w, &now);
	/* The third part new, the third old, of the third nothing; then the old ones alone. */
	for (uint32_t i = 0; i < now.count; i++) {
		if (i % 3 == 0 || i >= old.count)
			continue;
		vf_buf_clear(&now.codes[i]);
		vf_buf_clear(&now.links[i]);
		if (i % 3 == 1) {
			ck_ok(vf_buf_put(&now.codes[i], old.codes[i].data, old.codes[i].len, &err));
			ck_ok(vf_buf_put(&now.links[i], old.links[i].data, old.links[i].len, &err));
		}
	}
	for (int round = 0; round < 2; round++) {
		struct world again = load(&w, round ? &old : &now);
		link_all(&again);
		audit(&again);
		expect_recall("mixed chunks", recall(&again, 100, NULL), 0.95);
		ck_ok(vf_graph_sweep(again.graph, &err));
		audit(&again);
		expect_recall("mixed chunks, swept", recall(&again, 100, NULL), 0.95);
		vf_graph_free(&again.graph);
	}
	chunks_free(&old);
	chunks_free(&now);
	world_free(&w);
}
END_TEST

START_TEST(damaged_chunks_neither_crash_nor_lose_a_vector)
{
	struct world w = world_new(VF_EUCLIDEAN, 16, 600, VF_CODE_U8);
	struct chunks c;

	w.nqueries = 5;
	add(&w, 0, w.n);
	link_all(&w);
	dump(&w, &c);
	for (int round = 0, rounds = (int)scaled(300, 60); round < rounds; round++) {
		struct world again = w;
		again.graph = graph_like(&w);
		for (uint32_t slot = 0; slot < w.n; slot++)
			ck_ok(vf_graph_expect(again.graph, slot, 1000 + slot, &err));
		for (uint32_t i = 0; i < c.count; i++) {
			uint8_t *codes = malloc(c.codes[i].len), *links = malloc(c.links[i].len);
			size_t nlinks = c.links[i].len;
			memcpy(codes, c.codes[i].data, c.codes[i].len);
			memcpy(links, c.links[i].data, c.links[i].len);
			for (int k = 0; k < 1 + round % 40; k++)
				links[next_random(&random_state) % nlinks] = (uint8_t)next_random(&random_state);
			if (round % 5 == 0)
				nlinks = next_random(&random_state) % nlinks;
			/* EIO or not: the caller goes on with what was read. */
			vf_graph_chunk_load(again.graph, i, vf_span(codes, c.codes[i].len), vf_span(links, nlinks), &err);
			free(codes);
			free(links);
		}
		ck_ok(vf_graph_load_end(again.graph, add_missing, &again, &err));
		link_all(&again);
		audit(&again);
		expect_recall("damaged links", recall(&again, 200, NULL), 0.9);
		vf_graph_free(&again.graph);
	}
	chunks_free(&c);
	world_free(&w);
}
END_TEST

START_TEST(a_quantizer_comes_back_from_its_bytes_and_refuses_others)
{
	struct world w = world_new(VF_EUCLIDEAN, 30, 100, VF_CODE_U8);
	const struct vf_quant *quant = vf_graph_quant(w.graph);
	struct vf_buf bytes = VF_BUF_INIT;
	struct vf_quant back;

	ck_ok(vf_quant_encode(quant, &bytes, &err));
	ck_assert_uint_eq(bytes.len, 12 + 4 * 30);
	ck_ok(vf_quant_decode(&back, vf_buf_span(&bytes), &err));
	ck_assert(back.code == VF_CODE_U8 && back.dim == 30 && back.step == quant->step);
	ck_assert_mem_eq(back.mean, quant->mean, 30 * sizeof(float));
	vf_quant_free(&back);
	for (size_t len = 0; len < bytes.len; len++)
		ck_fails(vf_quant_decode(&back, vf_span(bytes.data, len), &err), EIO);
	memset(bytes.data + 12, 0xff, 4);
	ck_fails(vf_quant_decode(&back, vf_buf_span(&bytes), &err), EIO);
	bytes.data[0] = 9;
	ck_fails(vf_quant_decode(&back, vf_buf_span(&bytes), &err), EIO);
	vf_buf_free(&bytes);
	world_free(&w);
}
END_TEST

/* ---- sketches ---- */

/* Vectors that lie in a space of `inner` dimensions, but for a little; `kind` says in which. */
static void fill_inner(float *out, size_t n, uint32_t dim, uint32_t inner, uint64_t kind)
{
	float *mix = malloc((size_t)inner * dim * sizeof *mix), at[64];

	for (size_t i = 0; i < (size_t)inner * dim; i++)
		mix[i] = (float)(next_random(&kind) >> 40) * 0x1p-24f - 0.5f;
	for (size_t r = 0; r < n; r++) {
		for (uint32_t k = 0; k < inner; k++)
			at[k] = normal() + (float)(r % 3);
		for (uint32_t i = 0; i < dim; i++) {
			out[r * dim + i] = 0.01f * normal();
			for (uint32_t k = 0; k < inner; k++)
				out[r * dim + i] += at[k] * mix[k * dim + i];
		}
	}
	free(mix);
}

#define WIDE 192u
#define MANY 4200u
#define KIND 0x9e3779b97f4a7c15u

static struct world world_of_few_directions(enum vf_metric metric, size_t n)
{
	struct world w = world_new(metric, WIDE, n, VF_CODE_U8);

	w.efc = 50;
	fill_inner(w.vectors, n, WIDE, 12, KIND);
	fill_inner(w.queries, w.nqueries, WIDE, 12, KIND);
	vf_graph_free(&w.graph);
	world_graph(&w, VF_CODE_U8);
	return w;
}

static uint32_t sketch_dims_of(const struct world *w)
{
	struct vf_graph_counts counts;

	vf_graph_counts(w->graph, &counts);
	return counts.sketch_dims;
}

static unsigned sketch_all(struct world *w)
{
	unsigned times = 0;

	while (vf_graph_sketch(w->graph))
		times++;
	return times;
}

/* A walk over sketches says the distances of codes. */
static void expect_distances_of_codes(const struct world *w)
{
	for (size_t q = 0; q < w->nqueries; q++) {
		struct vf_search search = { w->queries + q * WIDE, K, 200, NULL };
		struct vf_hit walked[K], scanned[K];
		uint32_t nwalked, nscanned;
		ck_assert_int_eq(vf_graph_search(w->graph, &search, walked, &nwalked, NULL, &err), 0);
		ck_assert_int_eq(vf_graph_scan(w->graph, &search, scanned, &nscanned, NULL, &err), 0);
		ck_assert_uint_eq(nwalked, K);
		ck_assert_uint_eq(nscanned, K);
		for (uint32_t i = 0; i < K; i++)
			for (uint32_t k = 0; k < K; k++)
				if (walked[i].slot == scanned[k].slot)
					ck_assert(walked[i].distance == scanned[k].distance);
	}
}

START_TEST(walks_over_sketches_find_what_brute_force_finds)
{
	for (size_t i = 0; i < scaled(3, 1); i++) {
		struct world w = world_of_few_directions(metrics[i], MANY);
		add(&w, 0, w.n / 2);
		link_all(&w);
		/* Too few. */
		ck_assert_uint_eq(sketch_all(&w), 0);
		add(&w, w.n / 2, w.n);
		sketch_all(&w);
		ck_assert_uint_eq(sketch_dims_of(&w), metrics[i] == VF_DOT ? 0 : 64);
		audit(&w);
		link_all(&w);
		audit(&w);
		expect_recall("walked over sketches", recall(&w, 64, NULL), metrics[i] == VF_DOT ? 0.8 : 0.98);
		expect_distances_of_codes(&w);
		uint64_t words[MANY / 64 + 1];
		struct vf_slot_set third = set_of_share(&w, words, 0.4);
		if (metrics[i] != VF_DOT)
			expect_recall("walked over sketches with a filter", recall(&w, 100, &third), 0.98);
		world_free(&w);
	}
}
END_TEST

static void expect_same_scans(const struct world *a, const struct world *b, const struct vf_slot_set *only)
{
	for (size_t q = 0; q < a->nqueries; q++) {
		struct vf_search search = { a->queries + q * WIDE, q % 2 ? K : 150, 1, only };
		struct vf_hit of_a[150], of_b[150];
		uint32_t na, nb;
		ck_ok(vf_graph_scan(a->graph, &search, of_a, &na, NULL, &err));
		ck_ok(vf_graph_scan(b->graph, &search, of_b, &nb, NULL, &err));
		ck_assert_uint_eq(na, nb);
		for (uint32_t i = 0; i < na; i++) {
			ck_assert_uint_eq(of_a[i].slot, of_b[i].slot);
			ck_assert(of_a[i].distance == of_b[i].distance);
		}
	}
}

/* Also where what is asked, and half of what comes later, lies outside of the basis. */
START_TEST(a_scan_that_sketches_shorten_finds_the_same)
{
	for (size_t i = 0; i < 3; i++) {
		struct world plain = world_of_few_directions(metrics[i], MANY + 600), w = plain;
		world_graph(&w, VF_CODE_U8);
		w.live = calloc(w.n, sizeof *w.live);
		for (size_t k = (size_t)(MANY + 300) * WIDE; k < w.n * WIDE; k++)
			w.vectors[k] = 0.5f * normal();
		for (size_t k = 0; k < w.nqueries / 3 * WIDE; k++)
			w.queries[k] += 0.2f * normal();
		add(&plain, 0, w.n);
		add(&w, 0, MANY);
		sketch_all(&w);
		ck_assert_uint_eq(sketch_dims_of(&w), metrics[i] == VF_DOT ? 0 : 64);
		add(&w, MANY, w.n);
		expect_same_scans(&plain, &w, NULL);
		uint64_t words[(MANY + 600) / 64 + 1];
		struct vf_slot_set third = set_of_share(&w, words, 0.3);
		expect_same_scans(&plain, &w, &third);
		free(w.live);
		vf_graph_free(&w.graph);
		world_free(&plain);
	}
}
END_TEST

START_TEST(vectors_that_spread_everywhere_have_no_sketches)
{
	struct world w = world_new(VF_EUCLIDEAN, WIDE, MANY, VF_CODE_U8);

	for (size_t i = 0; i < w.n * WIDE; i++)
		w.vectors[i] = normal();
	add(&w, 0, w.n);
	ck_assert_uint_eq(sketch_all(&w), 1);
	ck_assert_uint_eq(sketch_dims_of(&w), 0);
	/* It is not tried again at once. */
	ck_assert_uint_eq(sketch_all(&w), 0);
	world_free(&w);
}
END_TEST

START_TEST(sketches_are_made_anew_when_what_comes_lies_elsewhere)
{
	struct world w = world_of_few_directions(VF_EUCLIDEAN, MANY * 2);

	fill_inner(w.vectors + (size_t)MANY * WIDE, MANY, WIDE, 12, KIND + 2);
	add(&w, 0, MANY);
	sketch_all(&w);
	link_all(&w);
	ck_assert_uint_eq(sketch_all(&w), 0);
	add(&w, MANY, 2 * MANY);
	/* Until it is known that they do. */
	ck_assert_uint_eq(sketch_all(&w), 0);
	link_all(&w);
	ck_assert_uint_gt(sketch_all(&w), 0);
	ck_assert_uint_eq(sketch_dims_of(&w), 64);
	audit(&w);
	expect_recall("those from before", recall(&w, 64, NULL), 0.97);
	fill_inner(w.queries, w.nqueries, WIDE, 12, KIND + 2);
	expect_recall("those from elsewhere", recall(&w, 64, NULL), 0.97);
	world_free(&w);
}
END_TEST

/* Of `vectors`, where the next one stands behind it. */
static void make_like_the_next(float *vector, uint32_t dim, uint32_t slot)
{
	(void)slot;
	memcpy(vector, vector + dim, dim * sizeof *vector);
	vector[0] += 0.1f;
}

static void make_from_elsewhere(float *vector, uint32_t dim, uint32_t slot)
{
	(void)slot;
	fill_inner(vector, 1, dim, 12, KIND + 2);
}

START_TEST(who_comes_into_a_used_slot_has_a_sketch_of_its_own)
{
	struct world w = world_of_few_directions(VF_COSINE, MANY);

	add(&w, 0, w.n);
	sketch_all(&w);
	link_all(&w);
	ck_assert_uint_eq(sketch_dims_of(&w), 64);
	for (uint32_t slot = 0; slot < w.n; slot += 2)
		remove_slot(&w, slot);
	ck_ok(vf_graph_sweep(w.graph, &err));
	audit(&w);
	refill(&w, make_like_the_next);
	link_all(&w);
	audit(&w);
	expect_recall("in used slots", recall(&w, 64, NULL), 0.97);
	world_free(&w);
}
END_TEST

/* As long as the basis is that of those before. */
START_TEST(vectors_from_elsewhere_in_used_slots_are_found)
{
	struct world w = world_of_few_directions(VF_COSINE, MANY);

	add(&w, 0, w.n);
	sketch_all(&w);
	link_all(&w);
	for (uint32_t round = 0; round < 12; round++) {
		for (uint32_t slot = round; slot < w.n; slot += 16)
			remove_slot(&w, slot);
		ck_ok(vf_graph_sweep(w.graph, &err));
		refill(&w, make_from_elsewhere);
		link_all(&w);
	}
	ck_assert_uint_eq(sketch_dims_of(&w), 64);
	audit(&w);
	expect_recall("those from before", recall(&w, 100, NULL), 0.97);
	fill_inner(w.queries, w.nqueries, WIDE, 12, KIND + 2);
	expect_recall("those from elsewhere", recall(&w, 100, NULL), 0.97);
	world_free(&w);
}
END_TEST

/* A sketch has room for little more than there was. */
START_TEST(vectors_longer_than_those_before_are_found)
{
	struct world w = world_of_few_directions(VF_EUCLIDEAN, MANY + 400);

	for (size_t i = (size_t)MANY * WIDE; i < w.n * WIDE; i++)
		w.vectors[i] *= 2.5f;
	add(&w, 0, MANY);
	sketch_all(&w);
	add(&w, MANY, w.n);
	link_all(&w);
	ck_assert_uint_eq(sketch_dims_of(&w), 64);
	audit(&w);
	expect_recall("those as long as before", recall(&w, 64, NULL), 0.97);
	for (size_t i = 0; i < w.nqueries * WIDE; i++)
		w.queries[i] *= 2.5f;
	expect_recall("those that are longer", recall(&w, 64, NULL), 0.97);
	world_free(&w);
}
END_TEST

START_TEST(copies_are_found_by_way_of_sketches)
{
	struct world w = world_of_few_directions(VF_EUCLIDEAN, MANY);
	float *of = malloc(100 * WIDE * sizeof *of);

	memcpy(of, w.vectors, 100 * WIDE * sizeof *of);
	for (size_t i = 0; i < w.n; i++)
		memcpy(w.vectors + i * WIDE, of + i % 100 * WIDE, WIDE * sizeof *of);
	free(of);
	add(&w, 0, w.n);
	sketch_all(&w);
	ck_assert_uint_gt(sketch_dims_of(&w), 0);
	link_all(&w);
	audit(&w);
	expect_recall("copies", recall(&w, 64, NULL), 0.99);
	world_free(&w);
}
END_TEST

/* ---- threads ---- */

struct stress {
	struct world w;
	void (*make)(float *vector, uint32_t dim, uint32_t slot);
	int rounds, removals;      /* in each */
	uint32_t sketchings;       /* it goes on until there were so many */
	struct chunks disk;        /* as it is when all that is dirty was written */
	atomic_bool stop;
};

static void *stress_link(void *ctx)
{
	struct stress *s = ctx;
	struct vf_err e = VF_ERR_INIT;

	while (!atomic_load(&s->stop))
		if (vf_graph_link(s->w.graph, VF_LINKS_MAX, &e) == 0)
			sched_yield();
	return NULL;
}

static void *stress_search(void *ctx)
{
	struct stress *s = ctx;
	struct vf_err e = VF_ERR_INIT;
	struct vf_hit hits[K];
	uint32_t nhits;

	for (size_t q = 0; !atomic_load(&s->stop); q = (q + 1) % s->w.nqueries) {
		struct vf_search search = { s->w.queries + q * s->w.dim, K, 50, NULL };
		ck_assert_int_ge(vf_graph_search(s->w.graph, &search, hits, &nhits, NULL, &e), 0);
		for (uint32_t i = 0; i < nhits; i++)
			for (uint32_t k = 0; k < i; k++)
				ck_assert_uint_ne(hits[i].slot, hits[k].slot);
		struct vf_graph_counts counts;
		vf_graph_counts(s->w.graph, &counts);
		ck_assert_uint_le(counts.slots, s->w.n + 1);
		ck_assert_uint_le(counts.linked, s->w.n + 2);
		ck_assert_uint_le(counts.dead, s->w.n + 2);
		if (q % 16 == 0)
			ck_assert_int_eq(vf_graph_scan(s->w.graph, &search, hits, &nhits, NULL, &e), 0);
	}
	return NULL;
}

static void *stress_sweep(void *ctx)
{
	struct stress *s = ctx;
	struct vf_err e = VF_ERR_INIT;

	while (!atomic_load(&s->stop))
		ck_assert_int_eq(vf_graph_sweep(s->w.graph, &e), 0);
	return NULL;
}

static void write_dirty(struct stress *s)
{
	struct vf_err e = VF_ERR_INIT;

	for (uint32_t chunk = 0; vf_graph_chunk_dirty(s->w.graph, &chunk); chunk++) {
		ck_assert_uint_lt(chunk, 200);
		vf_buf_clear(&s->disk.codes[chunk]);
		vf_buf_clear(&s->disk.links[chunk]);
		ck_assert_int_eq(vf_graph_chunk_dump(s->w.graph, chunk, &s->disk.codes[chunk], &s->disk.links[chunk], &e), 0);
		if (chunk >= s->disk.count)
			s->disk.count = chunk + 1;
	}
}

static void *stress_write(void *ctx)
{
	struct stress *s = ctx;

	while (!atomic_load(&s->stop)) {
		write_dirty(s);
		sched_yield();
	}
	return NULL;
}

/* A table, and another for the vectors that lie elsewhere. */
static void *stress_sketch(void *ctx)
{
	struct stress *s = ctx;

	while (!atomic_load(&s->stop))
		if (!vf_graph_sketch(s->w.graph))
			sched_yield();
	return NULL;
}

/* One vector in eight is a copy of another. */
static void make_copies_among_others(float *vector, uint32_t dim, uint32_t slot)
{
	for (uint32_t k = 0; k < dim; k++)
		vector[k] = slot % 8 ? normal() : (float)(slot % 80);
}

/* Two kinds of copies of five vectors each. */
static void make_copies_in_a_small_graph(float *vector, uint32_t dim, uint32_t slot)
{
	for (uint32_t k = 0; k < dim; k++)
		vector[k] = slot % 4 ? normal() : (float)(slot % 8);
}

static uint32_t sketchings_of(const struct world *w)
{
	struct vf_graph_counts counts;

	vf_graph_counts(w->graph, &counts);
	return counts.sketchings;
}

static uint64_t dead_of(const struct world *w)
{
	struct vf_graph_counts counts;

	vf_graph_counts(w->graph, &counts);
	return counts.dead;
}

static void make_some_from_elsewhere(float *vector, uint32_t dim, uint32_t slot)
{
	fill_inner(vector, 1, dim, 12, slot % 4 ? KIND : KIND + 2);
}

/* The committer's part: with 2,500 removals what is live changes by more than half, so that thousands wait. */
static void stress_commit(struct stress *s)
{
	struct world *w = &s->w;

	for (int round = 0; round < s->rounds || sketchings_of(w) < s->sketchings; round++) {
		/* Sweeps follow, so that many live. */
		while (dead_of(w) > (uint64_t)s->removals)
			sched_yield();
		for (int i = 0; i < s->removals; i++) {
			uint32_t slot = (uint32_t)(next_random(&random_state) % w->n);
			if (w->live[slot])
				remove_slot(w, slot);
		}
		refill(w, s->make);
	}
}

/* Adds the vectors from `first` on, changes many, and holds what comes of it against the rules. */
static void run_stress(struct stress *s, size_t first)
{
	void *(*const work[])(void *) = { stress_link, stress_link, stress_search, stress_search, stress_sweep, stress_write, stress_sketch };
	pthread_t threads[sizeof work / sizeof *work];

	atomic_store(&s->stop, false);
	for (size_t i = 0; i < sizeof work / sizeof *work; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work[i], s), 0);
	add(&s->w, first, s->w.n);
	stress_commit(s);
	atomic_store(&s->stop, true);
	for (size_t i = 0; i < sizeof work / sizeof *work; i++)
		pthread_join(threads[i], NULL);
	link_all(&s->w);
	audit(&s->w);
	ck_ok(vf_graph_sweep(s->w.graph, &err));
	audit(&s->w);
	struct vf_graph_counts counts;
	vf_graph_counts(s->w.graph, &counts);
	ck_assert_uint_eq(counts.dead + counts.pending, 0);
	ck_assert_uint_eq(counts.linked + counts.free, counts.slots);
}

static void begin_stress(struct stress *s, size_t first)
{
	s->w.efc = 40;
	vf_graph_set_ef_construction(s->w.graph, 40);
	add(&s->w, 0, first);
}

static void end_stress(struct stress *s)
{
	chunks_free(&s->disk);
	world_free(&s->w);
}

/* What changed last is on disk, so that nothing has to be linked again. */
static void expect_all_on_disk(struct stress *s)
{
	struct vf_graph_counts counts;

	write_dirty(s);
	struct world again = load(&s->w, &s->disk);
	vf_graph_counts(again.graph, &counts);
	ck_assert_uint_eq(counts.pending, 0);
	audit(&again);
	vf_graph_free(&again.graph);
}

START_TEST(linkers_searches_removals_and_sweeps_run_side_by_side)
{
	struct stress s = { .w = world_new(VF_EUCLIDEAN, 16, 3000, VF_CODE_U8), .make = make_copies_among_others, .rounds = 8, .removals = 2500 };

	begin_stress(&s, 1000);
	run_stress(&s, 1000);
	expect_recall("after the stress", recall(&s.w, 100, NULL), 0.95);
	expect_all_on_disk(&s);
	end_stress(&s);
}
END_TEST

/* Where everything is condemned at once, and all know one another. */
START_TEST(a_small_graph_stands_all_of_them)
{
	struct stress s = { .w = world_new(VF_EUCLIDEAN, 8, 40, VF_CODE_U8), .make = make_copies_in_a_small_graph, .rounds = 20, .removals = 40 };

	vf_graph_free(&s.w.graph);
	s.w.m = 4;
	world_graph(&s.w, VF_CODE_U8);
	begin_stress(&s, 40);
	for (size_t i = 0; i < scaled(200, 40); i++) {
		run_stress(&s, 40);
		expect_all_on_disk(&s);
	}
	end_stress(&s);
}
END_TEST

START_TEST(sketches_are_made_beside_all_of_them)
{
	struct stress s = { .w = world_of_few_directions(VF_EUCLIDEAN, MANY + 2000), .make = make_some_from_elsewhere, .rounds = 2, .removals = 600, .sketchings = 2 };

	begin_stress(&s, 1000);
	run_stress(&s, 1000);
	expect_recall("after the stress", recall(&s.w, 200, NULL), 0.9);
	expect_all_on_disk(&s);
	end_stress(&s);
}
END_TEST

CHECK_MAIN("graph",
	codes_are_no_further_off_than_their_bound, outliers_and_questions_beyond_the_codes_keep_the_bound, codes_without_a_bound_say_so,
	questions_that_share_a_pass_find_what_each_finds_alone,
	a_search_finds_what_brute_force_finds, vectors_of_one_two_and_three_dimensions_are_found,
	pending_vectors_are_found_before_they_are_linked, vectors_added_in_sorted_order_stay_reachable,
	copies_of_a_few_vectors_are_all_found, copies_survive_the_removal_of_others_and_of_the_first,
	removed_vectors_are_never_returned_and_their_slots_are_used_again, a_whole_cluster_can_be_removed,
	a_graph_can_be_emptied_and_filled_again, a_filtered_search_finds_what_a_filtered_scan_finds,
	vectors_of_very_different_length_are_found_under_dot, a_scan_returns_as_many_as_there_are, values_far_above_the_others_keep_the_order,
	vectors_beyond_the_codes_are_found_at_their_true_place, vectors_beyond_the_codes_come_back_after_loading,
	questions_beyond_the_codes_are_measured_truly, who_asks_for_a_stored_vector_finds_it_at_the_smallest_effort,
	those_who_wait_are_linked_near_ones_one_after_the_other,
	outliers_past_their_number_are_found_like_others, the_shortest_vectors_are_found, a_few_giants_spoil_nothing, it_is_known_whether_bytes_tell_near_from_far,
	a_graph_loaded_from_its_chunks_answers_the_same, copies_come_back_from_their_chunks,
	old_chunks_and_missing_ones_are_harmless, damaged_chunks_neither_crash_nor_lose_a_vector,
	a_quantizer_comes_back_from_its_bytes_and_refuses_others,
	walks_over_sketches_find_what_brute_force_finds, a_scan_that_sketches_shorten_finds_the_same, vectors_that_spread_everywhere_have_no_sketches,
	sketches_are_made_anew_when_what_comes_lies_elsewhere, who_comes_into_a_used_slot_has_a_sketch_of_its_own,
	vectors_from_elsewhere_in_used_slots_are_found, vectors_longer_than_those_before_are_found, copies_are_found_by_way_of_sketches,
	linkers_searches_removals_and_sweeps_run_side_by_side, a_small_graph_stands_all_of_them, sketches_are_made_beside_all_of_them)
