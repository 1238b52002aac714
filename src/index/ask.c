/* SPDX-License-Identifier: MIT */
/* ask.c - a question from plan to answer. An attempt is: a snapshot and what matches in it, a plan, candidates from memory, exact
 * distances from the snapshot, a verdict. See the law of snapshots in ask_internal.h. */
#include "vecfs/index.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "ask_internal.h"
#include "vecfs/clock.h"

/* After so many attempts the vectors of the snapshot itself are read. */
#define ATTEMPTS_MAX 8u
#define PAUSE_NS     20000
/* Probes of one attempt: enough to keep the threads busy, few enough that a write between search and snapshot costs little. */
#define ROUND_PROBES 64u
#define ROUND_ROWS   (1u << 20)

static int64_t now_ns(const struct vf_ask *ask)
{
	return ask->question->explain ? vf_clock_mono_ns() : 0;
}

/* What a question may take before others need not wait for it. */
#define MOMENT_NS 200000.0

static void tell_lengthy(const struct vf_question *question)
{
	if (question->lengthy)
		question->lengthy(question->lengthy_ctx);
}

bool vf_ask_is_stopped(const struct vf_ask *ask)
{
	return ask->question->stopped && ask->question->stopped(ask->question->stopped_ctx);
}

/* ---- the snapshot ---- */

/* What was filterable when the question was written may not be any more, and has no postings then. */
static int check_fields(const struct vf_question *question, const struct vf_config *config, struct vf_err *err)
{
	struct vf_field_rule rule = vf_config_rule(config);

	for (uint32_t i = 0; i < question->nfacets; i++)
		if (!rule.filterable(rule.ctx, question->facets[i]))
			return vf_fail(err, EINVAL, "facets[%u]: field '%.*s' is in non_filterable now", i, VF_SPAN_ARG(question->facets[i]));
	return vf_filter_check_fields(question->filter, &rule, err);
}

int vf_ask_init(struct vf_ask *ask, struct vf_index *index, const struct vf_question *question, struct vf_err *err)
{
	struct vf_settings *settings = vf_settings_hold(index);
	const struct vf_config *config = &settings->config;
	char name[256];

	*ask = (struct vf_ask){ .index = index, .question = question, .settings = settings, .config = config };
	ask->top_k = question->has_top_k ? question->top_k : config->top_k;
	int rc = check_fields(question, config, err);
	if (rc)
		return rc;
	if (!question->vectors || question->dim == config->dim)
		return 0;
	vf_index_name(index, name);
	return vf_fail(err, EINVAL, "queryVector has %u numbers, index %s has %u", question->dim, name, config->dim);
}

static void end_snapshot(struct vf_ask *ask)
{
	vf_match_free(&ask->match);
	vf_txn_end(&ask->txn);
}

void vf_ask_free(struct vf_ask *ask)
{
	end_snapshot(ask);
	free(ask->self_vector);
	free(ask->dead);
	vf_arena_free(&ask->arena);
	vf_settings_release(ask->settings);
	if (ask->first)
		vf_first_load_behind(ask->index);
}

void vf_probe_free(struct vf_probe *probe)
{
	free(probe->hits);
	free(probe->answer.rows);
	*probe = (struct vf_probe){ 0 };
}

/* The stored vector that is asked about, copied; its record does not match itself. */
static int find_self(struct vf_ask *ask, struct vf_err *err)
{
	struct vf_span key = ask->question->key, vector;
	struct vf_key_row row;
	struct vf_record_row record;
	int rc = vf_row_of_key(ask->txn, key, &row, err);

	if (rc == 1)
		return vf_fail(err, ENOENT, "there is no record with the key %.*s", VF_SPAN_ARG(key));
	if (rc || (rc = vf_row_of_serial(ask->txn, row.serial, &record, err)) < 0)
		return rc;
	if (rc == 1)
		return vf_fail(err, EIO, "record %.*s (serial %llu) is missing", VF_SPAN_ARG(key),
		               (unsigned long long)row.serial);
	if ((rc = vf_vector_checked(ask->txn, row.serial, &record, &vector, err)))
		return rc;
	if (vector.len != ask->config->dim * sizeof(float))
		return vf_fail(err, EIO, "record %.*s has %u numbers, its index %u", VF_SPAN_ARG(key), record.dim,
		               ask->config->dim);
	if (!ask->self_vector && !(ask->self_vector = malloc(vector.len)))
		return vf_oom(err);
	memcpy(ask->self_vector, vector.data, vector.len);
	ask->self = row.serial;
	vf_match_leave_out(&ask->match, record.slot);
	return 0;
}

int vf_ask_begin(struct vf_ask *ask, struct vf_err *err)
{
	end_snapshot(ask);
	ask->deaths = atomic_load(&ask->index->deaths);
	int rc = vf_txn_read(ask->index->store, &ask->txn, err);
	return rc ? rc : vf_settings_fit(ask->index, ask->settings, ask->txn, err);
}

/* What filter and prefix select in it. */
static int fill_snapshot(struct vf_ask *ask, struct vf_err *err)
{
	int64_t start = now_ns(ask);
	int rc = vf_match_make(ask->index, ask->question, ask->txn, &ask->match, err);

	if (rc || (ask->question->key.len && (rc = find_self(ask, err))))
		return rc;
	ask->matched = ask->match.count;
	ask->trace.match_ns += now_ns(ask) - start;
	return 0;
}

int vf_ask_snapshot(struct vf_ask *ask, struct vf_err *err)
{
	int rc = vf_ask_begin(ask, err);

	return rc ? rc : fill_snapshot(ask, err);
}

enum verdict { ANSWERED, AGAIN, WIDER };

/* ---- candidates ---- */

struct searching {
	const struct vf_ask *ask;
	struct vf_graph *graph;
	struct vf_probe *probes;
};

static int make_room(struct vf_probe *probe, uint32_t candidates, struct vf_err *err)
{
	if (probe->cap >= candidates)
		return 0;
	struct vf_hit *hits = realloc(probe->hits, candidates * sizeof *hits);
	if (!hits)
		return vf_oom(err);
	probe->hits = hits;
	probe->cap = candidates;
	return 0;
}

static struct vf_search search_of(const struct vf_ask *ask, const struct vf_probe *probe)
{
	return (struct vf_search){ .query = probe->vector, .want = ask->plan.candidates, .ef = ask->plan.ef, .only = ask->match.all ? NULL : &ask->match.set };
}

static int begin_probe(const struct searching *s, struct vf_probe *probe, struct vf_err *err)
{
	probe->stats = (struct vf_search_stats){ 0 };
	probe->nhits = 0;
	probe->early = false;
	vf_code_law_init(&probe->law, vf_graph_quant(s->graph), s->ask->config, probe->vector);
	return make_room(probe, s->ask->plan.candidates, err);
}

static int walk_one(void *ctx, size_t i, unsigned worker, struct vf_err *err)
{
	struct searching *s = ctx;
	struct vf_probe *probe = &s->probes[i];
	struct vf_search search = search_of(s->ask, probe);
	int rc = begin_probe(s, probe, err);

	(void)worker;
	if (rc)
		return rc;
	rc = vf_graph_search(s->graph, &search, probe->hits, &probe->nhits, &probe->stats, err);
	probe->early = rc == 1;
	return rc == 1 ? vf_graph_scan(s->graph, &search, probe->hits, &probe->nhits, &probe->stats, err) : rc;
}

static bool nobody_waits(const void *ask)
{
	return vf_ask_is_stopped(ask);
}

static int scan_some(struct searching *s, struct vf_probe *probes, size_t n, struct vf_err *err)
{
	struct vf_graph_scan scans[VF_SCANS_MAX];

	for (size_t i = 0; i < n; i++) {
		int rc = begin_probe(s, &probes[i], err);
		if (rc)
			return rc;
		scans[i] = (struct vf_graph_scan){ .search = search_of(s->ask, &probes[i]), .hits = probes[i].hits };
	}
	int rc = vf_graph_scan_many(s->graph, scans, n, nobody_waits, s->ask, err);
	for (size_t i = 0; i < n && rc == 0; i++) {
		probes[i].nhits = scans[i].nhits;
		probes[i].stats = scans[i].stats;
		if (s->ask->plan.proven)
			probes[i].bound = vf_graph_bound(s->graph, probes[i].vector, probes[i].stats.beyond_codes);
	}
	return rc;
}

static int scan_all(struct searching *s, size_t n, struct vf_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i += VF_SCANS_MAX)
		rc = scan_some(s, s->probes + i, n - i < VF_SCANS_MAX ? n - i : VF_SCANS_MAX, err);
	return rc;
}

/* Under dot, links lead to long vectors. The nearest ten are found; of more, and of those that a filter leaves, a walk may miss a third
 * (70,000 x 48, lengths lognormal: .75 of 100, .55 without the longest fifth) and hardly finds them with ten times the effort. */
#define DOT_NEIGHBOURS 10u

static bool is_unknown(const struct vf_ask *ask)
{
	return ask->config->metric == VF_DOT && !ask->question->ef && (!ask->match.all || ask->top_k > DOT_NEIGHBOURS);
}

static void plan(struct vf_ask *ask, struct vf_graph *graph)
{
	struct vf_plan_facts *facts = &ask->facts;
	const struct vf_question *q = ask->question;
	struct vf_graph_counts counts = { 0 };

	if (graph)
		vf_graph_counts(graph, &counts);
	ask->slots = counts.slots;
	ask->pending = counts.pending;
	*facts = (struct vf_plan_facts){
		.records = counts.pending + counts.linked, .matched = ask->matched, .filtered = !ask->match.all,
		.exact = q->exact,
		.certain = !q->ef && (q->recall > 0 ? q->recall : ask->config->recall) >= 1, .dim = ask->config->dim,
		.ef = vf_effort_for(ask->index, ask->config, q, ask->top_k), .row_ps = atomic_load(&ask->index->row_ps),
		.place_ps = atomic_load(&ask->index->place_ps),
		.flat = graph && vf_graph_is_flat(graph), .honest = !graph || vf_graph_is_honest(graph),
		.bounded = graph && vf_graph_is_bounded(graph), .code = graph ? vf_graph_quant(graph)->code : VF_CODE_F32,
	};
	facts->unknown = is_unknown(ask);
	facts->top_k = ask->top_k < facts->matched ? ask->top_k : facts->matched;
	if (!ask->plan_kept)
		vf_plan_make(facts, &ask->plan);
	/* The record that is asked about is found too, and left out. */
	if (q->key.len && ask->plan.candidates)
		ask->plan.candidates++;
}

/* As planned, and what is not linked yet is compared with beside the graph. */
static bool is_lengthy(const struct vf_ask *ask)
{
	const struct vf_plan *plan = &ask->plan;
	double pending_ns = ask->pending ? plan->codes_ns * (double)ask->pending / (double)ask->facts.records : 0;

	return (plan->way == VF_WAY_GRAPH ? plan->graph_ns + pending_ns : plan->codes_ns) > MOMENT_NS;
}

static int do_without_graph(struct vf_ask *ask, struct vf_err *err)
{
	plan(ask, NULL);
	tell_lengthy(ask->question);
	return vf_count(ask->txn, VF_T_KEYS, &ask->facts.records, err);
}

/* The graph may be of another shape than the snapshot: the index was emptied, and given another config, since. */
static int search(struct vf_ask *ask, struct vf_probe *probes, size_t n, enum verdict *verdict, struct vf_err *err)
{
	struct searching s = { .ask = ask, .probes = probes };
	int64_t start = now_ns(ask);

	if (ask->first)
		return do_without_graph(ask, err);
	/* Dropped since it was looked for: it is loaded again without a transaction open. */
	if (!vf_graph_hold_loaded(ask->index, &s.graph)) {
		*verdict = AGAIN;
		return 0;
	}
	if (!vf_graph_is_of(s.graph, ask->config)) {
		vf_graph_release(ask->index);
		*verdict = AGAIN;
		return 0;
	}
	int rc = 0;
	plan(ask, s.graph);
	if (is_lengthy(ask))
		tell_lengthy(ask->question);
	if (ask->plan.candidates)
		rc = ask->plan.way == VF_WAY_GRAPH ? vf_spread(vf_spread_width(n), n, walk_one, &s, err) : scan_all(&s, n, err);
	vf_graph_release(ask->index);
	ask->trace.search_ns += now_ns(ask) - start;
	return rc;
}

/* ---- exact distances ---- */

struct settling {
	struct vf_probe *probes;
	struct vf_settling how[VF_SPREAD_MAX];     /* one a worker, each with its own transaction */
};

static int settle_one(void *ctx, size_t i, unsigned worker, struct vf_err *err)
{
	struct settling *s = ctx;

	return vf_probe_settle(&s->probes[i], &s->how[worker], err);
}

/* What tells two snapshots of the vectors apart: nothing is inserted without a new serial, nothing removed without one record
 * less or more. */
static int same_snapshot(struct vf_txn *a, struct vf_txn *b, bool *same, struct vf_err *err)
{
	struct vf_counters x, y;
	uint64_t records_x, records_y;
	int rc;

	if ((rc = vf_counters_get(a, &x, err)) || (rc = vf_counters_get(b, &y, err)) ||
	    (rc = vf_count(a, VF_T_KEYS, &records_x, err)) || (rc = vf_count(b, VF_T_KEYS, &records_y, err)))
		return rc;
	*same = x.next_serial == y.next_serial && x.next_version == y.next_version && records_x == records_y;
	return 0;
}

int vf_ask_twins(struct vf_ask *ask, struct vf_txn *twins[VF_SPREAD_MAX], unsigned *width, struct vf_err *err)
{
	twins[0] = ask->txn;
	for (unsigned i = 1; i < *width; i++) {
		bool same = false;
		int rc = vf_txn_read(ask->index->store, &twins[i], err);
		if (!rc)
			rc = same_snapshot(ask->txn, twins[i], &same, err);
		if (rc || !same) {
			vf_txn_end(&twins[i]);
			*width = i;
			return rc;
		}
	}
	return 0;
}

void vf_ask_end_twins(struct vf_txn *twins[VF_SPREAD_MAX], unsigned width)
{
	for (unsigned i = 1; i < width; i++)
		vf_txn_end(&twins[i]);
}

static int settle(struct vf_ask *ask, struct vf_probe *probes, size_t n, uint64_t want, struct vf_err *err)
{
	const double *max_distance = ask->question->has_max_distance ? &ask->question->max_distance : NULL;
	struct settling s = { .probes = probes };
	struct vf_txn *twins[VF_SPREAD_MAX];
	unsigned width = vf_spread_width(n);
	int rc = vf_ask_twins(ask, twins, &width, err);

	for (unsigned i = 0; i < width; i++)
		s.how[i] = (struct vf_settling){ .config = ask->config, .txn = twins[i], .want = want, .self = ask->self, .places = ask->index->places,
		                                 .slots = ask->slots, .dead = ask->dead, .ndead = ask->ndead, .max_distance = max_distance,
		                                 .sigmas = ask->plan.sigmas, .proven = ask->plan.proven };
	if (!rc)
		rc = vf_spread(width, n, settle_one, &s, err);
	vf_ask_end_twins(twins, width);
	return rc;
}

struct reading { struct vf_gauge *gauges; struct vf_shortlist *lists; uint64_t *serials; size_t nserials; };

static int read_all(struct vf_ask *ask, struct vf_probe *probes, size_t n, uint64_t want, struct reading *r, struct vf_err *err)
{
	const double *max_distance = ask->question->has_max_distance ? &ask->question->max_distance : NULL;
	uint64_t scanned = 0;
	int rc = 0;

	for (size_t i = 0; i < n; i++) {
		vf_gauge_init(&r->gauges[i], ask->config, probes[i].vector);
		vf_shortlist_init(&r->lists[i], want);
	}
	if (!ask->match.all)
		rc = vf_match_serials(&ask->match, ask->txn, &r->serials, &r->nserials, err);
	if (!rc)
		rc = vf_scan_floats(ask, r->serials, r->nserials, r->gauges, r->lists, n, &scanned, err);
	for (size_t i = 0; i < n && !rc; i++) {
		probes[i].stats = (struct vf_search_stats){ .scanned = scanned };
		probes[i].lost = 0;
		rc = vf_shortlist_rank(&r->lists[i], &r->gauges[i], ask->txn, max_distance, &probes[i].answer, err);
	}
	return rc;
}

static int settle_from_floats(struct vf_ask *ask, struct vf_probe *probes, size_t n, uint64_t want, struct vf_err *err)
{
	struct reading r = { .gauges = malloc(n * sizeof *r.gauges), .lists = calloc(n, sizeof *r.lists) };
	int rc = r.gauges && r.lists ? read_all(ask, probes, n, want, &r, err) : vf_oom(err);

	for (size_t i = 0; r.lists && i < n; i++)
		vf_shortlist_free(&r.lists[i]);
	free(r.gauges);
	free(r.lists);
	free(r.serials);
	return rc;
}

/* ---- attempts ---- */

/* A question that lost many candidates to a writer was answered from a thinner index than it is. */
#define LOST_SHARE 4u

static enum verdict judge_probe(const struct vf_ask *ask, const struct vf_probe *probe)
{
	/* A scan is exact by promise; a beam may end anywhere. */
	bool wanting = probe->missing || (probe->narrow && ask->plan.exact && probe->nhits == ask->plan.candidates);

	if (probe->lost && (wanting || probe->lost > probe->nhits / LOST_SHARE))
		return AGAIN;
	return wanting ? WIDER : ANSWERED;
}

static enum verdict judge(const struct vf_ask *ask, const struct vf_probe *probes, size_t n)
{
	enum verdict verdict = ANSWERED;

	if (ask->plan.way == VF_WAY_NONE || ask->plan.way == VF_WAY_FLOATS)
		return ANSWERED;
	for (size_t i = 0; i < n && verdict != AGAIN; i++) {
		enum verdict one = judge_probe(ask, &probes[i]);
		verdict = one == ANSWERED ? verdict : one;
	}
	return verdict;
}

static void drop_answers(struct vf_probe *probes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(probes[i].answer.rows);
		probes[i].answer = (struct vf_ranking){ 0 };
	}
}

/* Slower, and never in doubt. */
static void read_the_vectors(struct vf_ask *ask)
{
	ask->plan = (struct vf_plan){ .way = VF_WAY_FLOATS, .exact = true };
	ask->plan_kept = true;
}

/* Loading takes the writer's turn, and a writer may have to wait for readers: so not with a transaction open. */
static int load_graph(struct vf_ask *ask, struct vf_err *err)
{
	struct vf_graph *graph;

	if (ask->first || vf_graph_is_loaded(ask->index))
		return 0;
	if ((ask->first = vf_first_take(ask))) {
		read_the_vectors(ask);
		return 0;
	}
	tell_lengthy(ask->question);
	int rc = vf_graph_hold(ask->index, &graph, err);

	if (!rc)
		vf_graph_release(ask->index);
	return rc;
}

/* A snapshot that the graph has caught up with. Later rounds of a question with many vectors keep it while the notes of deaths
 * reach back. */
static int look(struct vf_ask *ask, enum verdict *verdict, struct vf_err *err)
{
	uint64_t deaths;
	int rc;

	if (ask->txn && atomic_load(&ask->index->deaths) - ask->deaths < VF_DEATHS_KEPT / 8)
		return 0;
	end_snapshot(ask);
	if ((rc = load_graph(ask, err)) || (rc = vf_ask_begin(ask, err)) || (rc = vf_deaths_of(ask->txn, &deaths, err)))
		return rc;
	if (deaths <= atomic_load(&ask->index->deaths_told) || (ask->plan_kept && ask->plan.way == VF_WAY_FLOATS))
		return fill_snapshot(ask, err);
	*verdict = AGAIN;
	return 0;
}

static int add_dead(struct vf_ask *ask, uint64_t serial, struct vf_err *err)
{
	const struct vf_slot_set *set = &ask->match.set;
	struct vf_record_row row;
	int rc = vf_row_of_serial(ask->txn, serial, &row, err);

	if (rc || serial == ask->self)
		return rc < 0 ? rc : 0;
	if (ask->match.all || (row.slot / 64 < set->nwords && set->words[row.slot / 64] >> row.slot % 64 & 1))
		ask->dead[ask->ndead++] = serial;
	return 0;
}

/* Who died since the snapshot, and is alive in it. */
static int gather_dead(struct vf_ask *ask, enum verdict *verdict, struct vf_err *err)
{
	struct vf_index *index = ask->index;
	uint64_t now = atomic_load(&index->deaths);
	int rc = 0;

	ask->ndead = 0;
	if (now == ask->deaths)
		return 0;
	if (!ask->dead && !(ask->dead = malloc(VF_DEATHS_KEPT * sizeof *ask->dead)))
		return vf_oom(err);
	if (now - ask->deaths >= VF_DEATHS_KEPT)
		*verdict = AGAIN;
	for (uint64_t i = ask->deaths; i < now && *verdict == ANSWERED && !rc; i++)
		rc = add_dead(ask, atomic_load(&index->dead[i % VF_DEATHS_KEPT]), err);
	/* Notes may have been written over while they were read. */
	if (atomic_load(&index->deaths) - ask->deaths >= VF_DEATHS_KEPT)
		*verdict = AGAIN;
	return rc;
}

static int settle_attempt(struct vf_ask *ask, struct vf_probe *probes, size_t n, enum verdict *verdict, struct vf_err *err)
{
	uint64_t want = ask->top_k < ask->matched ? ask->top_k : ask->matched;
	int64_t start = now_ns(ask);
	int rc = 0;

	if (want == 0)
		ask->plan.way = VF_WAY_NONE;
	if (ask->plan.way == VF_WAY_FLOATS)
		rc = settle_from_floats(ask, probes, n, want, err);
	else if (ask->plan.way != VF_WAY_NONE && (rc = gather_dead(ask, verdict, err)) == 0 && *verdict == ANSWERED)
		rc = settle(ask, probes, n, want, err);
	ask->trace.rank_ns += now_ns(ask) - start;
	return rc;
}

static int attempt(struct vf_ask *ask, struct vf_probe *probes, size_t n, enum verdict *verdict, struct vf_err *err)
{
	int rc;

	*verdict = ANSWERED;
	drop_answers(probes, n);
	if ((rc = look(ask, verdict, err)) || *verdict != ANSWERED)
		return rc;
	if (ask->question->key.len)
		probes[0].vector = ask->self_vector;
	if ((rc = search(ask, probes, n, verdict, err)) || *verdict != ANSWERED || (rc = settle_attempt(ask, probes, n, verdict, err)) || *verdict != ANSWERED)
		return rc;
	*verdict = judge(ask, probes, n);
	return 0;
}

static void pause_before(unsigned attempts)
{
	struct timespec ts = { .tv_nsec = (long)PAUSE_NS << attempts };

	nanosleep(&ts, NULL);
}

int vf_ask_run(struct vf_ask *ask, struct vf_probe *probes, size_t n, struct vf_err *err)
{
	enum verdict verdict;

	ask->plan_kept = false;
	for (unsigned attempts = 0;; attempts++) {
		int rc = attempt(ask, probes, n, &verdict, err);
		if (rc || verdict == ANSWERED)
			return rc;
		ask->trace.retries++;
		tell_lengthy(ask->question);
		if (verdict == WIDER) {
			vf_plan_widen(&ask->facts, &ask->plan);
			ask->plan_kept = true;
			continue;
		}
		end_snapshot(ask);
		if (attempts >= ATTEMPTS_MAX)
			read_the_vectors(ask);
		else if (attempts > 0)
			pause_before(attempts);
	}
}

/* ---- all of a question ---- */

static size_t round_size(const struct vf_ask *ask, size_t left)
{
	size_t most = ask->top_k < ROUND_ROWS ? ROUND_ROWS / (size_t)(ask->top_k + 1) : 1;

	if (most > ROUND_PROBES)
		most = ROUND_PROBES;
	return most == 0 ? 1 : left < most ? left : most;
}

static int answer_round(struct vf_ask *ask, struct vf_probe *probes, size_t n, struct vf_answer *answer, struct vf_spool *spool,
                        struct vf_err *err)
{
	int rc = vf_ask_run(ask, probes, n, err);

	for (size_t i = 0; i < n && !rc; i++)
		rc = vf_reply(ask, answer, spool, &probes[i], &probes[i].answer, err);
	return rc;
}

static int answer_vectors(struct vf_ask *ask, struct vf_spool *spool, struct vf_err *err)
{
	const struct vf_question *q = ask->question;
	struct vf_probe one = { .vector = NULL }, *probes = q->many ? calloc(ROUND_PROBES, sizeof *probes) : &one;
	struct vf_answer answer;
	size_t total = q->vectors ? q->nvectors : 1, n;
	int rc = !probes ? vf_oom(err) : q->many ? vf_answer_begin_many(&answer, q, spool, q->nvectors, err) : 0;

	for (size_t first = 0; first < total && !rc; first += n) {
		n = round_size(ask, total - first);
		if (first > 0 && vf_ask_is_stopped(ask)) {
			rc = -EINTR;
			break;
		}
		for (size_t i = 0; i < n; i++)
			probes[i].vector = q->vectors ? q->vectors + (first + i) * q->dim : NULL;
		rc = answer_round(ask, probes, n, &answer, spool, err);
	}
	for (size_t i = 0; probes && i < (q->many ? ROUND_PROBES : 1); i++)
		vf_probe_free(&probes[i]);
	if (q->many)
		free(probes);
	return rc || !q->many ? rc : vf_answer_end_many(&answer, err);
}

static int ask_once(struct vf_index *index, const struct vf_question *question, struct vf_spool *answer, struct vf_err *err)
{
	struct vf_ask ask;
	int rc = vf_ask_init(&ask, index, question, err);

	/* Of an index that is gone "nothing is near" would be no answer. */
	if (!rc)
		rc = vf_index_check_there(index, err);
	if (!vf_question_is_plain(question))
		tell_lengthy(question);
	if (!rc)
		rc = question->vectors || question->key.len ? answer_vectors(&ask, answer, err)
		                                            : vf_ask_select(&ask, answer, err);
	vf_ask_free(&ask);
	return rc;
}

int vf_index_ask(struct vf_index *index, const struct vf_question *question, struct vf_spool *answer, struct vf_err *err)
{
	int rc;

	if (index->linkers)
		vf_linkers_asked(index->linkers);
	while ((rc = ask_once(index, question, answer, err)) == VF_OTHER_CONFIG) {
		*err = (struct vf_err)VF_ERR_INIT;
		vf_spool_clear(answer);
		pause_before(1);
	}
	return rc ? rc : vf_spool_finish(answer, err);
}
