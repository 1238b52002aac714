/* SPDX-License-Identifier: MIT */
/* settle.c - which of the candidates are the nearest. They come ordered by the distance of their codes; a vector costs 0.5 us
 * to look up, as much as ten nodes of the graph, so reading stops where no further candidate can enter. */
#include <math.h>

#include "ask_internal.h"
#include "places.h"
#include "vecfs/prefetch.h"

/* ---- the law of codes ---- */

/* Rounding moves each coordinate by at most half a step, evenly, in the vector and in the query: a variance of 1/12 each, in
 * steps. Over the dimensions these add up to noise along the line between the two (central limit), and to a bias: the square
 * of the noise, dim / 6. */
#define ROUNDING      (1.0 / 12)
#define SQUARE_SPREAD 0.0389       /* variance of the square of the sum of two roundings: 1/15 - 1/36 */
/* How large coordinates are, in steps, when the step is a 115th of the largest: of a vector's norm no more is known before it
 * is read. */
#define TYPICAL_STEPS 30.0

static void law_of_squares(struct vf_code_law *law, double step, double dim, double line_a_square)
{
	law->slope = line_a_square * step * step;
	law->bias = -2 * ROUNDING * dim * law->slope;
	law->spread_line = 4 * 2 * ROUNDING * law->slope;
	law->spread_fixed = SQUARE_SPREAD * dim * law->slope * law->slope;
}

/* The query has a step of its own. */
static void law_of_products(struct vf_code_law *law, double step, double dim, const float *query)
{
	double most = 0, square = 0;

	for (uint32_t i = 0; i < dim; i++) {
		most = fmax(most, fabs(query[i]));
		square += (double)query[i] * query[i];
	}
	double query_step = most / 127, stored = dim * TYPICAL_STEPS * TYPICAL_STEPS * step * step;
	law->slope = step * query_step;
	law->spread_fixed = ROUNDING * (step * step * square + query_step * query_step * stored) +
	                    ROUNDING * ROUNDING * dim * law->slope * law->slope;
}

/* Codes of floats differ from the line by rounding only, which the gauge knows. */
void vf_code_law_init(struct vf_code_law *law, const struct vf_quant *quant, const struct vf_config *config, const float *query)
{
	/* Of unit vectors: 1 - cos is half the squared distance. */
	double line_a_square = config->metric == VF_COSINE ? 0.5 : 1;

	*law = (struct vf_code_law){ .slope = config->metric == VF_DOT ? 1 : line_a_square, .rounds = quant->code == VF_CODE_F32 };
	if (quant->code == VF_CODE_F32)
		return;
	if (config->metric == VF_DOT)
		law_of_products(law, quant->step, quant->dim, query);
	else
		law_of_squares(law, quant->step, quant->dim, line_a_square);
}

/* ---- reading ---- */

/* What the vectors read so far say of the law: an error that theory does not know (clipping) shows here. */
struct residuals { size_t n; double mean, squares, slack; };

static void learn(struct residuals *seen, double residual, double slack)
{
	double step = residual - seen->mean;

	seen->n++;
	seen->mean += step / (double)seen->n;
	seen->squares += step * (residual - seen->mean);
	if (slack > seen->slack)
		seen->slack = slack;
}

/* What a candidate with this distance of codes is at least at, as far as can be told. */
static double floor_of(const struct vf_code_law *law, const struct residuals *seen, double code, double sigmas)
{
	double line = law->slope * code + law->bias;
	double variance = law->spread_line * fabs(line) + law->spread_fixed;
	double measured = seen->n > 1 ? seen->squares / (double)(seen->n - 1) : 0;

	return line + fmin(seen->mean, 0) - sigmas * sqrt(fmax(variance, measured)) - 2 * seen->slack;
}

/* What the reading of one probe's candidates shares. */
struct reading {
	struct vf_probe *probe;
	const struct vf_settling *how;
	struct vf_gauge gauge;
	struct vf_shortlist list;
	struct vf_places *places;      /* held; NULL: there is no table of this snapshot */
};

/* Relative, of a sum of codes; and of a line that is summed in double. */
#define SUM_OFF(dim) (((dim) + 8) * 0x1p-23)
#define LINE_OFF     1e-9
#define LINE_OFF_MIN 1e-15

/* What it is at least at, proven. Lines are squares of distances, or negative products, and vf_graph_bound says how far those of codes are off. */
static double proven_floor(const struct vf_probe *probe, const struct vf_gauge *gauge, double code)
{
	double off = SUM_OFF(gauge->dim);

	if (gauge->metric == VF_DOT)
		return probe->law.slope * (code - fabs(code) * off - probe->bound * (1 + off));
	double root = sqrt(code) * (1 - off) - probe->bound;
	return root > 0 ? probe->law.slope * root * root * (1 - LINE_OFF) - LINE_OFF_MIN : 0;
}

/* Codes whose arithmetic left the range of floats rule nothing out. */
static bool is_past(const struct reading *r, const struct residuals *seen, float code)
{
	const struct vf_probe *probe = r->probe;
	double limit = vf_shortlist_limit(&r->list);
	double floor = r->how->proven ? proven_floor(probe, &r->gauge, code) : floor_of(&probe->law, seen, code, r->how->sigmas);

	return isfinite(floor) && floor > limit;
}

/* Rows that are on their way while one is measured. */
#define ROWS_AHEAD   4u
#define PLACES_AHEAD 16u

/* This many are read beyond the wanted before the law is trusted. */
#define READ_BEYOND 1u

static int add_row(struct reading *r, uint64_t serial, uint32_t slot, const void *row, struct vf_kept *kept, struct vf_err *err)
{
	*kept = (struct vf_kept){ .serial = serial, .slot = slot, .row = row };
	/* Of the candidates of bytes most are reported. Of floats rounding has to be known too. */
	if (r->probe->law.rounds)
		kept->line = vf_gauge_line(&r->gauge, row, &kept->slack);
	else
		kept->line = vf_line(r->gauge.metric, r->gauge.query, r->gauge.query_square, row, r->gauge.dim);
	r->probe->reranked++;
	return vf_shortlist_add(&r->list, kept, err);
}

/* 0, 1 when it is not in the snapshot. */
static int read_row(struct reading *r, uint64_t serial, uint32_t slot, struct vf_kept *kept, struct vf_err *err)
{
	struct vf_span row;
	int rc = vf_vector_of_serial(r->how->txn, serial, r->gauge.dim, &row, err);

	if (rc)
		return rc;
	if (r->places)
		vf_places_note(r->places, slot, serial, (struct vf_row_place){ .vector = vf_txn_place(r->how->txn, row) });
	return add_row(r, serial, slot, row.data, kept, err);
}

static int read_hit(struct reading *r, const struct vf_hit *hit, struct vf_kept *kept, struct vf_err *err)
{
	uint64_t vector = r->places ? vf_places_find(r->places, hit->slot, hit->serial).vector : 0;

	return vector ? add_row(r, hit->serial, hit->slot, vf_txn_at(r->how->txn, vector), kept, err) :
	                read_row(r, hit->serial, hit->slot, kept, err);
}

/* Rows lie anywhere in the file: each is asked for before the one ahead of it is measured. */
static void expect_row(const struct reading *r, uint32_t i)
{
	uint64_t vector;

	if (!r->places || i >= r->probe->nhits || !(vector = vf_places_find(r->places, r->probe->hits[i].slot, r->probe->hits[i].serial).vector))
		return;
	vf_prefetch_row(vf_txn_at(r->how->txn, vector), r->gauge.dim * sizeof(float));
}

/* What reading always comes to, and a little more. */
static void expect_places(const struct reading *r)
{
	for (uint32_t i = 0; r->places && i < r->probe->nhits && i < r->how->want + PLACES_AHEAD; i++)
		vf_places_expect(r->places, r->probe->hits[i].slot);
	for (uint32_t i = 0; i < ROWS_AHEAD; i++)
		expect_row(r, i);
}

static int read_dead(struct reading *r, struct vf_err *err)
{
	struct vf_kept kept;
	int rc = 0;

	for (size_t i = 0; i < r->how->ndead && rc >= 0; i++)
		rc = read_row(r, r->how->dead[i], VF_SLOT_NONE, &kept, err);
	return rc < 0 ? rc : 0;
}

static bool is_read_already(const struct vf_settling *how, uint64_t serial)
{
	if (serial == how->self)
		return true;
	for (size_t i = 0; i < how->ndead; i++)
		if (how->dead[i] == serial)
			return true;
	return false;
}

static int read_hits(struct reading *r, struct vf_err *err)
{
	const struct vf_settling *how = r->how;
	struct vf_probe *probe = r->probe;
	struct residuals seen = { 0 };
	uint64_t read = how->ndead;
	struct vf_kept kept;

	expect_places(r);
	for (uint32_t i = 0; i < probe->nhits; i++) {
		const struct vf_hit *hit = &probe->hits[i];
		expect_row(r, i + ROWS_AHEAD);
		if (is_read_already(how, hit->serial))
			continue;
		if (read >= how->want + READ_BEYOND && is_past(r, &seen, hit->distance)) {
			probe->narrow = false;
			break;
		}
		int rc = read_hit(r, hit, &kept, err);
		if (rc < 0)
			return rc;
		if (rc) {
			probe->lost++;
			continue;
		}
		learn(&seen, kept.line - (probe->law.slope * hit->distance + probe->law.bias), kept.slack);
		read++;
	}
	probe->missing = read < how->want;
	return 0;
}

int vf_probe_settle(struct vf_probe *probe, const struct vf_settling *how, struct vf_err *err)
{
	struct reading r = { .probe = probe, .how = how };

	vf_gauge_init(&r.gauge, how->config, probe->vector);
	vf_shortlist_init(&r.list, how->want);
	probe->lost = 0;
	probe->missing = false;
	probe->narrow = true;
	probe->reranked = 0;
	if (how->places && vf_places_hold(how->places, vf_txn_snapshot(how->txn), how->slots))
		r.places = how->places;
	int rc = read_dead(&r, err);
	if (!rc)
		rc = read_hits(&r, err);
	if (r.places)
		vf_places_release(r.places);
	if (!rc)
		rc = vf_shortlist_rank(&r.list, &r.gauge, how->txn, how->max_distance, &probe->answer, err);
	vf_shortlist_free(&r.list);
	return rc;
}
