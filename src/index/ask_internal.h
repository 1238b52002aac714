/* SPDX-License-Identifier: MIT */
/* ask_internal.h - a question under way: what the files that answer one share.
 *
 * Files: ask.c (snapshots, attempts), match.c (filter and prefix -> a set of slots), first.c (the first question), keys.c (keys in order), plan.c (which
 * way), settle.c, places.c and rank.c (candidates -> exact order), scan.c (every vector of the snapshot), select.c
 * (no vector), reply.c (the answer's rows), explain.c, near.c, effort.c.
 *
 * The law of snapshots. An answer is what one read transaction holds, and the transaction begins first. The graph is searched
 * beside writers, so it may be ahead of the transaction, and is never behind it but for records whose insert has not returned:
 * - Candidates are (slot, serial) pairs. A serial that the transaction has is alive in it, at that slot. One that it has not
 *   was committed later: it is lost, and a question that lost too many is asked again on a new transaction.
 * - A record of the transaction that died since is not among the candidates. The index notes the last deaths: they are
 *   candidates too.
 * - While the transaction knows of deaths that the graph was not told yet, a replaced record might be seen in neither its old
 *   nor its new slot: the question waits a moment. */
#ifndef VECFS_ASK_INTERNAL_H
#define VECFS_ASK_INTERNAL_H

#include "index_internal.h"
#include "vecfs/spread.h"

/* ---- keys.c ---- */
/* Keys in their own order: rows of long keys end in a hash, so those that share a head are put in order here. */
struct vf_key_walk;
struct vf_walked { struct vf_span key; uint64_t serial; };   /* lent by the transaction */
/* Before the first key >= from. */
int vf_key_walk_open(struct vf_txn *txn, struct vf_span from, struct vf_key_walk **out, struct vf_err *err);
int vf_key_walk_step(struct vf_key_walk *walk, struct vf_walked *out, struct vf_err *err);   /* 0 a key, 1 the end */
void vf_key_walk_close(struct vf_key_walk **walk);
int vf_walked_compare(const void *a, const void *b);         /* for qsort: by key */

/* ---- match.c ---- */
struct vf_match {
	bool all;                  /* neither filter nor prefix: the sets below are empty */
	vf_bitmap *bitmap;
	uint64_t *words;
	struct vf_slot_set set;    /* lends words */
	uint64_t count;
	uint32_t left_out;         /* VF_SLOT_NONE: none */
};
/* What filter and prefix select in the transaction. */
int vf_match_make(struct vf_index *index, const struct vf_question *question, struct vf_txn *txn, struct vf_match *out, struct vf_err *err);
/* Takes one slot out, when it is in. */
void vf_match_leave_out(struct vf_match *match, uint32_t slot);
/* The serials behind the slots, ascending; of a match that is not `all`. */
int vf_match_serials(const struct vf_match *match, struct vf_txn *txn, uint64_t **serials, size_t *n, struct vf_err *err);
/* The bitmap, also when all match: for facets. Owned by the match. */
int vf_match_bitmap(struct vf_match *match, struct vf_txn *txn, vf_bitmap **out, struct vf_err *err);
void vf_match_free(struct vf_match *match);

/* ---- rank.c ---- */
/* A query made ready. Distances are compared in the metric's line: squared for euclidean, 1 - cos, the negative product; what is
 * reported comes from vf_distance. */
struct vf_gauge {
	enum vf_metric metric;
	uint32_t dim;
	const float *query;
	double query_norm, gamma;
	double query_square;       /* summed in double */
	bool query_plain;          /* its square neither over- nor underflows float32 */
	const struct vf_kernels *kernels;
};
void vf_gauge_init(struct vf_gauge *gauge, const struct vf_config *config, const float *query);
/* The line by float kernels, and how far rounding can have put it from the truth. `row` need not be aligned. */
double vf_gauge_line(const struct vf_gauge *gauge, const void *row, double *slack);

/* The candidates, by their line, which is off by at most `slack` (0: exact), that may still be among the `want` nearest, ties at the end included. */
struct vf_kept { double line, slack; uint64_t serial; const void *row; uint32_t slot; };   /* VF_SLOT_NONE: not known */
struct vf_shortlist {
	uint64_t want;
	double *bounds;            /* a heap, the largest on top, of the `want` smallest line + slack */
	size_t nbounds, bounds_cap;
	struct vf_kept *rows;
	size_t n, cap, tidy_at;
};
void vf_shortlist_init(struct vf_shortlist *list, uint64_t want);
void vf_shortlist_free(struct vf_shortlist *list);
/* What is above it is not among the nearest; infinity while there are fewer than `want`. */
static inline double vf_shortlist_limit(const struct vf_shortlist *list)
{
	return list->nbounds == list->want && list->want ? list->bounds[0] : __builtin_inf();
}
int vf_shortlist_add(struct vf_shortlist *list, const struct vf_kept *kept, struct vf_err *err);

struct vf_ranked { double distance; uint64_t serial; uint32_t slot; };
struct vf_ranking { struct vf_ranked *rows; size_t n; };
/* Exact distances, order by (distance, key), at most `want`, none past max_distance (NULL: no bound). out->rows is owned by
 * the caller. */
int vf_shortlist_rank(const struct vf_shortlist *list, const struct vf_gauge *gauge, struct vf_txn *txn,
                      const double *max_distance, struct vf_ranking *out, struct vf_err *err);

/* ---- settle.c ---- */
/* How a distance of codes tells of the line: line = slope * code + bias, with an error of variance spread_line * line +
 * spread_fixed. */
struct vf_code_law {
	double slope, bias, spread_line, spread_fixed;
	bool rounds;               /* codes are floats: the error is that of the gauge */
};
void vf_code_law_init(struct vf_code_law *law, const struct vf_quant *quant, const struct vf_config *config, const float *query);

/* One query vector on its way to its answer. */
struct vf_probe {
	const float *vector;
	struct vf_hit *hits;
	uint32_t nhits, cap;
	bool early;                /* the search through the graph gave up */
	struct vf_code_law law;
	double bound;              /* of vf_graph_bound, when the plan is to be proven */
	struct vf_search_stats stats;
	uint64_t reranked;
	struct vf_ranking answer;
	uint32_t lost;             /* candidates that are not in the snapshot */
	bool narrow;               /* candidates ended while a further one could still have entered */
	bool missing;              /* there are fewer candidates than are wanted */
};
struct vf_settling {
	const struct vf_config *config;
	struct vf_txn *txn;
	struct vf_places *places;
	uint32_t slots;            /* of the graph that was searched */
	uint64_t want, self;       /* serial to leave out, 0: none */
	const uint64_t *dead;      /* serials that the graph could not show any more: candidates too */
	size_t ndead;
	const double *max_distance;
	double sigmas;             /* how unlikely an error of the codes has to be to be ruled out */
	bool proven;               /* only what is impossible is ruled out */
};
/* Candidates -> answer, as few vectors read as the law of codes allows. */
int vf_probe_settle(struct vf_probe *probe, const struct vf_settling *how, struct vf_err *err);

/* ---- plan.c ---- */
enum vf_way {
	VF_WAY_NONE,               /* nothing matches */
	VF_WAY_FLAT,               /* all float32 codes in memory */
	VF_WAY_GRAPH,
	VF_WAY_CODES,              /* codes of all that match, one by one */
	VF_WAY_FLOATS,             /* vectors of all that match, from the snapshot */
};
const char *vf_way_name(enum vf_way way);
struct vf_plan {
	enum vf_way way;
	uint32_t ef, candidates;
	double sigmas;
	bool exact, proven;        /* proven: by what codes prove, not by what is likely */
	double graph_ns, codes_ns;
};
struct vf_plan_facts {
	uint64_t records, matched, top_k;   /* top_k clipped to matched */
	bool filtered, flat;
	bool honest, bounded;               /* codes are off by little; they prove something */
	bool exact, certain;                /* asked for: the true answer; a recall of 1 */
	bool unknown;                       /* what the graph would miss was not measured, and cannot be told from what was */
	uint32_t dim, ef;
	enum vf_code code;
	unsigned row_ps, place_ps;          /* as measured in this index; 0: not measured */
};
void vf_plan_make(const struct vf_plan_facts *facts, struct vf_plan *out);
/* The next surer way. */
void vf_plan_widen(const struct vf_plan_facts *facts, struct vf_plan *plan);

/* ---- ask.c ---- */
struct vf_trace { int64_t match_ns, search_ns, rank_ns; uint32_t retries; };
struct vf_ask {
	struct vf_index *index;
	const struct vf_question *question;
	struct vf_settings *settings;
	const struct vf_config *config;    /* theirs */
	struct vf_arena arena;
	uint64_t top_k;            /* as asked */
	/* the snapshot */
	struct vf_txn *txn;
	struct vf_match match;
	uint64_t matched;          /* by filter and prefix, without `self` */
	uint64_t deaths;           /* of the index, before txn began */
	uint64_t *dead;            /* those since, of records that match */
	size_t ndead;
	uint64_t self;             /* serial of the record asked about, 0: none */
	float *self_vector;
	struct vf_span next;       /* of a listing that is cut off: its last key, lent by txn */
	/* the way */
	uint32_t slots;            /* of the graph */
	uint64_t pending;          /* in it */
	struct vf_plan_facts facts;
	struct vf_plan plan;
	bool plan_kept;            /* of an attempt before, widened */
	bool first;                /* does without the graph, which is not loaded */
	struct vf_trace trace;
};
/* Under the config of now. When one of the calls below comes to a snapshot of another one it fails with VF_OTHER_CONFIG: the question begins anew. To be
 * freed, also when it failed. */
int vf_ask_init(struct vf_ask *ask, struct vf_index *index, const struct vf_question *question, struct vf_err *err);
void vf_ask_free(struct vf_ask *ask);
/* A new read transaction. */
int vf_ask_begin(struct vf_ask *ask, struct vf_err *err);
/* The same, and what filter and prefix select in it. */
int vf_ask_snapshot(struct vf_ask *ask, struct vf_err *err);
/* The answers to `n` probes, exact distances and order, all of one snapshot, which stays open in ask->txn. */
int vf_ask_run(struct vf_ask *ask, struct vf_probe *probes, size_t n, struct vf_err *err);
void vf_probe_free(struct vf_probe *probe);

bool vf_ask_is_stopped(const struct vf_ask *ask);

/* ---- first.c ---- */
/* True, once in the life of an index: the graph is not loaded, and the question is answered sooner without. It has no transaction open. */
bool vf_first_take(const struct vf_ask *ask);
/* When that question has its answer. */
void vf_first_load_behind(struct vf_index *index);

/* A transaction is for one thread: workers get their own of the same snapshot, as many as can be had, the ask's own being the first. */
int vf_ask_twins(struct vf_ask *ask, struct vf_txn *twins[VF_SPREAD_MAX], unsigned *width, struct vf_err *err);
void vf_ask_end_twins(struct vf_txn *twins[VF_SPREAD_MAX], unsigned width);

/* ---- scan.c ---- */
/* Every vector of the snapshot but the record asked about, or those of the serials (serials NULL: all), against each list's query, in one pass, by
 * several threads when it is long. */
int vf_scan_floats(struct vf_ask *ask, const uint64_t *serials, size_t nserials, const struct vf_gauge *gauges, struct vf_shortlist *lists,
                   size_t nlists, uint64_t *scanned, struct vf_err *err);

/* ---- reply.c ---- */
/* The whole answer of one probe (NULL: a question without a vector, whose rows have no distance). */
int vf_reply(struct vf_ask *ask, struct vf_answer *answer, struct vf_spool *spool, const struct vf_probe *probe,
             const struct vf_ranking *rows, struct vf_err *err);

/* ---- select.c ---- */
int vf_ask_select(struct vf_ask *ask, struct vf_spool *spool, struct vf_err *err);

/* ---- explain.c ---- */
/* A VF_MAP in the arena of ask. probe NULL: a question without a vector. */
int vf_explain(struct vf_ask *ask, const struct vf_probe *probe, struct vf_value *out, struct vf_err *err);

#endif
