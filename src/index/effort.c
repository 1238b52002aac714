/* SPDX-License-Identifier: MIT */
/* effort.c - the promise of recall: which width of the beam reaches it in this index.
 *
 * Sampled questions are asked exactly and through the graph, with ever wider beams. A stored vector would be too easy a
 * question, since its own links lead to its neighbours: at the same beam it misses 3 to 50 times less than a new vector does.
 * So it is moved by the difference of two of its neighbours: a new vector that lies among the stored ones as they lie among
 * each other, with as many degrees of freedom. */
#include <math.h>
#include <stdlib.h>

#include "ask_internal.h"
#include "vecfs/clock.h"
#include "vecfs/scramble.h"

#define EF_DEFAULT     256u    /* before anything was measured: rather too wide than short of the promise */
#define ROUGH_SAMPLES  24u     /* say in some tens of milliseconds whether that is wide enough */
#define EF_FIRST       16u
#define EF_LAST        4096u
#define EF_GROWTH      1.2
#define NEIGHBOURS     10u
#define RECALL_FILTERED 0.99
#define SAMPLES_MAX    250u
#define SAMPLES_MIN    24u
#define TRIES_A_SAMPLE 20u
#define TRUTH_NS       3000000000ll          /* of this thread's time, for the exact answers; and the same again for the beams */
#define CANDIDATES     128u
#define WIDER          8u
#define NARROW         2
#define EF_NEIGHBOURS  64u     /* finds the neighbours that a sample is moved by; they need not be the nearest */
#define SIGMAS_TRUTH   6.0
#define SIGMAS_GRAPH   3.5

static uint32_t ef_of_step(unsigned step)
{
	double ef = round(EF_FIRST * pow(EF_GROWTH, step));

	return ef < EF_LAST ? (uint32_t)ef : EF_LAST;
}

/* Half of the misses that are allowed is kept for samples that are luckier than the questions to come (12,700 x 64 without any structure, cosine:
 * .988 to .992 of the samples' neighbours and .974 to .978 of new questions' were found). */
static unsigned goal_ppm(double recall)
{
	return (unsigned)(1e6 * (1 - (1 - recall) / 2));
}

/* ---- asking ---- */

static uint32_t ef_for_recall(struct vf_index *index, double recall)
{
	unsigned rough = atomic_load_explicit(&index->ef_rough, memory_order_relaxed);
	uint32_t widest = rough ? rough : EF_DEFAULT;

	for (unsigned step = 0; step < VF_EFFORT_STEPS; step++) {
		unsigned ppm = atomic_load_explicit(&index->effort_ppm[step], memory_order_relaxed);
		if (ppm == 0)
			break;
		widest = ef_of_step(step);
		if (ppm >= goal_ppm(recall))
			return widest;
	}
	/* More is asked than was seen: twice what came nearest. */
	return atomic_load_explicit(&index->effort_ppm[0], memory_order_relaxed) ? 2 * widest : widest;
}

uint32_t vf_effort_for(struct vf_index *index, const struct vf_config *config, const struct vf_question *question, uint64_t top_k)
{
	if (question->ef)
		return question->ef;
	double recall = question->recall > 0 ? question->recall : config->recall;
	/* With a filter the matches near the query are reached on longer ways. */
	if (question->recall <= 0 && (question->filter || question->prefix.len))
		recall = fmax(recall, RECALL_FILTERED);
	double ef = ef_for_recall(index, recall);
	/* Measured for NEIGHBOURS; the recall of more wants a beam that is wider by twice their number, or twice as wide for
	 * ten times as many. */
	if (top_k > NEIGHBOURS)
		ef = fmax(ef + 2 * ((double)top_k - NEIGHBOURS), ef * pow((double)top_k / NEIGHBOURS, 0.3));
	return ef < VF_EF_MAX ? (uint32_t)ef : VF_EF_MAX;
}

/* ---- measuring ---- */

struct sample {
	float *vector;             /* into the measure's vectors */
	double reach;              /* distance of the last true neighbour */
	unsigned neighbours;
};

struct measure {
	struct vf_index *index;
	const struct vf_config *config;
	struct vf_txn *txn;
	struct sample samples[SAMPLES_MAX];
	unsigned n, most;
	unsigned looked, known;    /* of the n: asked exactly; of these, the first ones, have an answer */
	float *vectors;
	float *neighbours;         /* two, while a sample is moved */
	/* Of this thread's time: what scans and beams took, over how many rows and places; of samples that have codes, as questions mostly do. */
	int64_t scan_ns, beam_ns;
	uint64_t rows, places;
};

static int add_sample(struct measure *m, uint64_t serial, struct vf_err *err)
{
	struct vf_span row;
	int rc = vf_vector_of_serial(m->txn, serial, m->config->dim, &row, err);

	if (rc)
		return rc < 0 ? rc : 0;
	float *vector = m->vectors + (size_t)m->n * m->config->dim;
	memcpy(vector, row.data, row.len);
	m->samples[m->n++] = (struct sample){ .vector = vector };
	return 0;
}

static unsigned samples_worth(const struct vf_graph *graph, const struct vf_graph_counts *counts)
{
	const struct vf_quant *quant = vf_graph_quant(graph);
	double row_ns = 2 + 0.04 * quant->dim * (quant->code == VF_CODE_F32 ? 4 : 1);
	double most = (double)TRUTH_NS / (row_ns * (double)(counts->linked + counts->pending) + 100000);

	return most < SAMPLES_MIN ? SAMPLES_MIN : most > SAMPLES_MAX ? SAMPLES_MAX : (unsigned)most;
}

/* The same slots each time, so that two measures differ by what changed. graph_lock is held. */
static int pick(struct measure *m, const struct vf_graph *graph, struct vf_err *err)
{
	struct vf_graph_counts counts;
	int rc = 0;

	vf_graph_counts(graph, &counts);
	if (vf_graph_is_flat(graph) || counts.linked <= NEIGHBOURS || !vf_graph_is_of(graph, m->config))
		return 0;
	m->most = samples_worth(graph, &counts);
	m->vectors = malloc((m->most + 2) * (size_t)m->config->dim * sizeof *m->vectors);
	if (!m->vectors)
		return vf_oom(err);
	m->neighbours = m->vectors + (size_t)m->most * m->config->dim;
	for (unsigned i = 0; i < TRIES_A_SAMPLE * m->most && m->n < m->most && !rc; i++) {
		uint64_t serial;
		if (vf_graph_slot(graph, (uint32_t)(vf_scramble(i) % counts.slots), &serial) == VF_SLOT_LINKED)
			rc = add_sample(m, serial, err);
	}
	return rc;
}

static int pick_samples(struct measure *m, struct vf_err *err)
{
	struct vf_graph *graph;
	int rc;

	if ((rc = vf_txn_read(m->index->store, &m->txn, err)))
		return rc;
	if (vf_graph_hold_loaded(m->index, &graph)) {
		rc = pick(m, graph, err);
		vf_graph_release(m->index);
	}
	/* An old transaction keeps pages from reuse: each question takes its own. */
	vf_txn_end(&m->txn);
	return rc;
}

static int walk(struct measure *m, struct vf_graph *graph, const struct vf_search *search, struct vf_probe *probe,
                struct vf_err *err)
{
	int64_t start = vf_clock_thread_cpu_ns();
	int rc = vf_graph_search(graph, search, probe->hits, &probe->nhits, &probe->stats, err);

	if (probe->stats.beyond_codes)
		return rc;
	m->beam_ns += vf_clock_thread_cpu_ns() - start;
	m->places += search->ef;
	return rc;
}

static int scan(struct measure *m, struct vf_graph *graph, const struct vf_search *search, struct vf_probe *probe,
                struct vf_err *err)
{
	int64_t start = vf_clock_thread_cpu_ns();
	int rc = vf_graph_scan(graph, search, probe->hits, &probe->nhits, &probe->stats, err);

	if (probe->stats.beyond_codes)
		return rc;
	m->scan_ns += vf_clock_thread_cpu_ns() - start;
	m->rows += probe->stats.scanned;
	return rc;
}

/* One sample asked; ef 0: exactly, by as many candidates as there is room for. 1 when the question could not be answered as the index is now, NARROW when
 * more candidates are needed to be sure. */
static int ask_sample(struct measure *m, struct vf_probe *probe, const struct sample *sample, uint32_t ef, struct vf_err *err)
{
	struct vf_search search = { .query = sample->vector, .want = !ef ? probe->cap : ef > CANDIDATES ? CANDIDATES : ef, .ef = ef };
	struct vf_settling how = { .config = m->config, .want = NEIGHBOURS, .sigmas = ef ? SIGMAS_GRAPH : SIGMAS_TRUTH };
	struct vf_graph *graph;
	int rc = vf_graph_hold(m->index, &graph, err);

	if (rc)
		return rc;
	free(probe->answer.rows);
	probe->answer = (struct vf_ranking){ 0 };
	probe->vector = sample->vector;
	probe->nhits = 0;
	if (!graph || !vf_graph_is_of(graph, m->config)) {
		vf_graph_release(m->index);
		return 1;
	}
	vf_code_law_init(&probe->law, vf_graph_quant(graph), m->config, sample->vector);
	rc = ef ? walk(m, graph, &search, probe, err) : scan(m, graph, &search, probe, err);
	vf_graph_release(m->index);
	if (rc < 0 || (rc = vf_txn_read(m->index->store, &how.txn, err)))
		return rc;
	rc = vf_probe_settle(probe, &how, err);
	vf_txn_end(&how.txn);
	if (rc == 0 && probe->lost > 0)
		return 1;
	return rc == 0 && !ef && probe->narrow && probe->nhits == probe->cap ? NARROW : rc;
}

/* Codes that tell little need many candidates; without more of them the samples that are left would be those that are easily answered. */
static int ask_exactly(struct measure *m, struct vf_probe *probe, const struct sample *sample, struct vf_err *err)
{
	int rc = ask_sample(m, probe, sample, 0, err);

	while (rc == NARROW && probe->cap < VF_SLOTS_MAX / WIDER) {
		struct vf_hit *more = realloc(probe->hits, (size_t)probe->cap * WIDER * sizeof *more);
		if (!more)
			return vf_oom(err);
		probe->hits = more;
		probe->cap *= WIDER;
		rc = ask_sample(m, probe, sample, 0, err);
	}
	return rc;
}

/* Under cosine a vector counts by its direction. */
static double scale_of(const struct measure *m, const float *vector)
{
	double square = 0;

	for (uint32_t i = 0; m->config->metric == VF_COSINE && i < m->config->dim; i++)
		square += (double)vector[i] * vector[i];
	return square > 0 ? 1 / sqrt(square) : 1;
}

/* The difference is taken whole: the beam then misses what it does for new vectors (340,000 words: .941 and .936 at 143, .981
 * and .980 at 426; clusters and planes in noise, 64 to 512 dimensions: 0.7 to 1.5 times as much); shortened to half it misses
 * half. 1 when one is gone. */
static int move_sample(struct measure *m, struct sample *sample, uint64_t plus, uint64_t minus, struct vf_err *err)
{
	uint32_t dim = m->config->dim;
	float *neighbours = m->neighbours;
	struct vf_txn *txn = NULL;
	struct vf_span a, b;
	int rc;

	if ((rc = vf_txn_read(m->index->store, &txn, err)) == 0 && (rc = vf_vector_of_serial(txn, plus, dim, &a, err)) == 0 &&
	    (rc = vf_vector_of_serial(txn, minus, dim, &b, err)) == 0) {
		memcpy(neighbours, a.data, a.len);
		memcpy(neighbours + dim, b.data, b.len);
		double s = scale_of(m, sample->vector), sa = scale_of(m, neighbours), sb = scale_of(m, neighbours + dim);
		for (uint32_t i = 0; i < dim; i++)
			sample->vector[i] = (float)(s * sample->vector[i] + sa * neighbours[i] - sb * neighbours[dim + i]);
	}
	vf_txn_end(&txn);
	return rc;
}

/* 0, 1 when there is no truth to be had. */
static int truth_of(struct measure *m, struct vf_probe *probe, struct sample *sample, uint64_t draw, struct vf_err *err)
{
	int rc = ask_sample(m, probe, sample, EF_NEIGHBOURS, err);

	if (rc || probe->answer.n < 3)
		return rc ? rc : 1;
	/* The first is the sample itself. */
	size_t others = probe->answer.n - 1, plus = draw % others, minus = (plus + 1 + draw / others % (others - 1)) % others;
	const struct vf_ranked *rows = probe->answer.rows + 1;
	if ((rc = move_sample(m, sample, rows[plus].serial, rows[minus].serial, err)) ||
	    (rc = ask_exactly(m, probe, sample, err)))
		return rc;
	sample->neighbours = (unsigned)probe->answer.n;
	sample->reach = probe->answer.n ? probe->answer.rows[probe->answer.n - 1].distance : 0;
	return probe->answer.n == 0;
}

/* Of the first `end` samples; those that have one stay, from the first on. */
static int find_truth(struct measure *m, struct vf_probe *probe, unsigned end, struct vf_err *err)
{
	int64_t deadline = vf_clock_thread_cpu_ns() + TRUTH_NS;

	for (; m->looked < end; m->looked++) {
		if (atomic_load(&m->index->closing))
			return 1;
		int rc = truth_of(m, probe, &m->samples[m->looked], vf_scramble(m->looked) >> 8, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			m->samples[m->known++] = m->samples[m->looked];
		if (m->known >= SAMPLES_MIN / 2 && vf_clock_thread_cpu_ns() > deadline)
			break;
	}
	return 0;
}

/* Neighbours found of those there are, over all samples: in parts of a million, 0 when nothing could be asked. */
static int recall_at(struct measure *m, struct vf_probe *probe, uint32_t ef, unsigned *ppm, struct vf_err *err)
{
	uint64_t found = 0, of = 0;

	for (unsigned i = 0; i < m->known; i++) {
		const struct sample *sample = &m->samples[i];
		if (atomic_load(&m->index->closing))
			return 1;
		int rc = ask_sample(m, probe, sample, ef, err);
		if (rc < 0)
			return rc;
		if (rc)
			continue;
		of += sample->neighbours;
		for (size_t k = 0; k < probe->answer.n && k < sample->neighbours; k++)
			found += probe->answer.rows[k].distance <= sample->reach;
	}
	*ppm = of ? (unsigned)(found * 1000000 / of) : 0;
	return 0;
}

/* Until the first measure is over, which takes seconds where neighbours are hard to find (in noise without clusters, or among lengths of all sizes):
 * a width that keeps the promise by a few samples. Where none does, questions are answered by scans. */
static int measure_roughly(struct measure *m, struct vf_probe *probe, struct vf_err *err)
{
	uint32_t ef = EF_DEFAULT;
	unsigned ppm = 0;
	int rc = find_truth(m, probe, m->n < ROUGH_SAMPLES ? m->n : ROUGH_SAMPLES, err);

	for (; rc == 0 && ef <= EF_LAST; ef *= 2)
		if ((rc = recall_at(m, probe, ef, &ppm, err)) == 0 && (ppm == 0 || ppm >= 1e6 * m->config->recall))
			break;
	if (rc == 0)
		atomic_store(&m->index->ef_rough, ef <= EF_LAST ? ef : VF_EF_MAX);
	return rc;
}

/* A step that could not be afforded has 0, like all behind it. */
static int climb(struct measure *m, struct vf_probe *probe, unsigned ppm[VF_EFFORT_STEPS], struct vf_err *err)
{
	int64_t deadline = vf_clock_thread_cpu_ns() + TRUTH_NS;

	for (unsigned step = 0; step < VF_EFFORT_STEPS; step++) {
		int rc = recall_at(m, probe, ef_of_step(step), &ppm[step], err);
		if (rc || ppm[step] == 0)
			return rc;
		if (ppm[step] >= 999500 || ef_of_step(step) == EF_LAST)
			return 0;
		if (ppm[step] >= goal_ppm(m->config->recall) && vf_clock_thread_cpu_ns() > deadline)
			return 0;
	}
	return 0;
}

/* Rounded up: 0 stands for not measured. */
static unsigned each_ps(int64_t ns, uint64_t of)
{
	double ps = of ? 1e3 * (double)ns / (double)of + 1 : 0;

	return ps < 1e9 ? (unsigned)ps : 1000000000u;
}

static void publish(struct measure *m, const unsigned ppm[VF_EFFORT_STEPS])
{
	struct vf_index *index = m->index;
	uint32_t ef = 0;
	unsigned best = 0;

	for (unsigned step = 0; step < VF_EFFORT_STEPS; step++)
		atomic_store(&index->effort_ppm[step], ppm[step]);
	for (unsigned step = 0; step < VF_EFFORT_STEPS && ppm[step]; step++) {
		ef = ef_of_step(step);
		best = ppm[step];
		if (best >= goal_ppm(m->config->recall))
			break;
	}
	if (ef == 0)
		return;
	atomic_store(&index->row_ps, each_ps(m->scan_ns, m->rows));
	atomic_store(&index->place_ps, each_ps(m->beam_ns, m->places));
	atomic_store(&index->ef, ef);
	atomic_store(&index->recall_measured, best / 1e6);
}

static int measure(struct measure *m, struct vf_err *err)
{
	struct vf_probe probe = { .hits = malloc(CANDIDATES * sizeof *probe.hits), .cap = CANDIDATES };
	unsigned ppm[VF_EFFORT_STEPS] = { 0 };
	int rc = probe.hits ? pick_samples(m, err) : vf_oom(err);

	if (rc == 0 && m->n && atomic_load(&m->index->recall_measured) < 0)
		rc = measure_roughly(m, &probe, err);
	if (rc == 0 && m->n && (rc = find_truth(m, &probe, m->n, err)) == 0 && m->known &&
	    (rc = climb(m, &probe, ppm, err)) == 0)
		publish(m, ppm);
	free(probe.answer.rows);
	free(probe.hits);
	return rc;
}

int vf_effort_measure(struct vf_index *index, struct vf_err *err)
{
	struct vf_settings *settings = vf_settings_hold(index);
	struct measure *m = calloc(1, sizeof *m);
	int rc;

	if (m) {
		m->index = index;
		m->config = &settings->config;
		rc = measure(m, err);
		free(m->vectors);
	} else {
		rc = vf_oom(err);
	}
	free(m);
	vf_settings_release(settings);
	return rc;
}
