/* SPDX-License-Identifier: MIT */
/* plan.c - which way a question goes: what each would cost, from the exact number of matches.
 *
 * What a row of a scan and a place of a beam cost is measured in each index along with its effort. Until then these constants
 * stand for it: nanoseconds on one machine, of which only the ratios matter. */
#include <math.h>

#include "ask_internal.h"

/* A beam computes some 16 distances a place, each a miss. */
#define DISTANCES_A_PLACE 16.0
#define MISS_NS           20.0
#define BYTE_NS           0.045
/* With a filter that few pass it goes over neighbours of neighbours. */
#define TWO_HOP_FACTOR    4.0
#define SHARE_FOR_TWO_HOP (1.0 / 3)
/* A scan goes straight: 5 ns at 128 bytes, 30 at 768. */
#define SCAN_ROW_NS       1.0
#define SCAN_BYTE_NS      0.036
#define RERANK_NS         700.0

/* Up to this many matches the answer is a scan's, whatever the graph would cost: recall is 1 there. */
#define ALWAYS_SCANNED    20000u
/* Up to this many the vectors themselves are read: no window of candidates to get wrong. */
#define VECTORS_READ      64u
#define FILTERED_EF_MIN   100u

/* An error of the codes this unlikely is taken as impossible: through the graph, and when every code was seen. */
#define SIGMAS_GRAPH 3.5
#define SIGMAS_SCAN  6.0
/* Of 100,000 vectors some fifty could be among the ten nearest, as far as codes tell for certain; of 50,000 without any structure, five hundred. */
#define PROOF_CANDIDATES 256.0

const char *vf_way_name(enum vf_way way)
{
	switch (way) {
	case VF_WAY_NONE:   return "nothing matches";
	case VF_WAY_FLAT:   return "scan of vectors in memory";
	case VF_WAY_GRAPH:  return "graph";
	case VF_WAY_CODES:  return "scan of codes";
	case VF_WAY_FLOATS: return "scan of vectors";
	}
	return "unknown";
}

static double code_bytes(const struct vf_plan_facts *facts)
{
	switch (facts->code) {
	case VF_CODE_F32: return 4.0 * facts->dim;
	case VF_CODE_U8:  return facts->dim;
	}
	return 0;
}

static double graph_cost(const struct vf_plan_facts *facts, uint32_t ef)
{
	double share = facts->records ? (double)facts->matched / (double)facts->records : 1, effort = ef;
	double place = facts->place_ps ? facts->place_ps / 1e3 : DISTANCES_A_PLACE * (MISS_NS + BYTE_NS * code_bytes(facts));

	if (facts->filtered)
		effort *= share >= SHARE_FOR_TWO_HOP ? 1 / share : TWO_HOP_FACTOR;
	return effort * place;
}

static double scan_cost(const struct vf_plan_facts *facts)
{
	return (double)facts->matched * (facts->row_ps ? facts->row_ps / 1e3 : SCAN_ROW_NS + SCAN_BYTE_NS * code_bytes(facts));
}

static uint32_t cut(double x)
{
	return x < (double)VF_SLOTS_MAX ? (uint32_t)x : VF_SLOTS_MAX;
}

/* A scan that ranks k by codes wants some more to rank again; a beam has ef of them anyway. */
static uint32_t scan_candidates(const struct vf_plan_facts *facts)
{
	double k = (double)facts->top_k, matched = (double)facts->matched;

	return cut(fmin(matched, 1.25 * k + 64));
}

static uint32_t graph_ef(const struct vf_plan_facts *facts)
{
	uint32_t ef = facts->ef < FILTERED_EF_MIN && facts->filtered ? FILTERED_EF_MIN : facts->ef;

	return facts->top_k + 1 > ef ? cut((double)facts->top_k + 1) : ef;
}

static void scan(const struct vf_plan_facts *facts, struct vf_plan *plan, enum vf_way way)
{
	/* Such codes tell nothing for certain. */
	if (!facts->honest)
		way = VF_WAY_FLOATS;
	plan->way = way;
	plan->exact = true;
	plan->sigmas = SIGMAS_SCAN;
	plan->candidates = way == VF_WAY_FLOATS ? 0 : scan_candidates(facts);
}

/* Every code is looked at, and the vectors of all that could be among the nearest. */
static void prove(const struct vf_plan_facts *facts, struct vf_plan *plan)
{
	scan(facts, plan, VF_WAY_CODES);
	plan->proven = true;
	plan->candidates = cut(fmin((double)facts->matched, 2 * (double)facts->top_k + PROOF_CANDIDATES));
}

/* Reading all vectors beats a scan of codes when most of them would be read again. */
static bool floats_are_cheaper(const struct vf_plan_facts *facts)
{
	double again = RERANK_NS * fmin((double)facts->matched, (double)facts->top_k + 4);
	double each = facts->filtered ? RERANK_NS : 40 + 4 * SCAN_BYTE_NS * facts->dim;

	return (double)facts->matched * each <= again + scan_cost(facts);
}

void vf_plan_make(const struct vf_plan_facts *facts, struct vf_plan *out)
{
	uint32_t ef = graph_ef(facts);

	*out = (struct vf_plan){ .ef = ef, .candidates = ef, .sigmas = SIGMAS_GRAPH };
	out->graph_ns = graph_cost(facts, ef) + (facts->top_k > 64 ? RERANK_NS * (double)facts->top_k : 0);
	out->codes_ns = scan_cost(facts) + (facts->top_k > 64 ? RERANK_NS * (double)facts->top_k : 0);
	if (facts->matched == 0 || facts->top_k == 0) {
		out->way = VF_WAY_NONE;
		out->exact = true;
	} else if ((facts->exact && !facts->bounded) || (facts->filtered && facts->matched <= VECTORS_READ) || floats_are_cheaper(facts)) {
		scan(facts, out, VF_WAY_FLOATS);
	} else if (facts->bounded && (facts->exact || facts->certain)) {
		prove(facts, out);
	} else if (facts->flat) {
		scan(facts, out, VF_WAY_FLAT);
	} else if (facts->certain || facts->unknown || (facts->filtered && facts->matched <= ALWAYS_SCANNED) || ef >= facts->matched ||
	           out->codes_ns <= out->graph_ns) {
		scan(facts, out, VF_WAY_CODES);
	} else {
		out->way = VF_WAY_GRAPH;
	}
}

void vf_plan_widen(const struct vf_plan_facts *facts, struct vf_plan *plan)
{
	uint64_t wider = 4 * (uint64_t)plan->candidates;

	switch (plan->way) {
	case VF_WAY_NONE:
	case VF_WAY_FLOATS:
		break;
	case VF_WAY_GRAPH:
		scan(facts, plan, VF_WAY_CODES);
		break;
	case VF_WAY_FLAT:
	case VF_WAY_CODES:
		/* Nearly all equal, or codes too coarse for these vectors: then the vectors themselves. */
		if (wider > facts->matched / 2 || (double)wider * RERANK_NS > (double)facts->matched * 200)
			scan(facts, plan, VF_WAY_FLOATS);
		else
			plan->candidates = (uint32_t)wider;
		break;
	}
}
