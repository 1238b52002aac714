/* SPDX-License-Identifier: MIT */
/* scan.c - every vector of the snapshot, one after the other, against all queries at once: the true answer where codes cannot prove it, at the speed of
 * memory. Long passes are cut into slices for several threads, each with lists of its own, which are put together at the end. */
#include <errno.h>
#include <stdlib.h>

#include "ask_internal.h"
#include "early.h"
#include "vecfs/prefetch.h"

/* Numbers compared that are worth a task, and slices a thread, since some are slower, and between two it is seen whether anybody still waits. */
#define TASK_NUMBERS  (1u << 18)
#define SLICES_EACH   8u

/* Of one thread. */
struct pass {
	const struct vf_gauge *gauges;
	struct vf_shortlist *lists;
	size_t nlists;
	uint64_t self, scanned;
	const struct vf_early_rows *early;     /* to pass over */
	struct vf_txn *txn;
};

struct scanning {
	struct vf_ask *ask;
	const uint64_t *serials;
	uint64_t from, end;        /* serials, or places in `serials` */
	size_t slices;
	struct vf_early_rows early;
	struct pass passes[VF_SPREAD_MAX];
};

static int meet(struct pass *pass, uint64_t serial, const void *row, struct vf_err *err)
{
	if (serial == pass->self)
		return 0;
	pass->scanned++;
	for (size_t i = 0; i < pass->nlists; i++) {
		struct vf_kept kept = { .serial = serial, .row = row, .slot = VF_SLOT_NONE };
		kept.line = vf_gauge_line(&pass->gauges[i], row, &kept.slack);
		if (kept.line - kept.slack > vf_shortlist_limit(&pass->lists[i]))
			continue;
		int rc = vf_shortlist_add(&pass->lists[i], &kept, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* The cursor stays up to twice as many rows ahead of the arithmetic, so that the next vectors are on their way from memory: of long rows few, of
 * short ones as many as make the steps of a cursor cheap. */
#define ROWS_AHEAD_MAX  64u
#define BYTES_AHEAD     8192u

struct window { struct vf_row rows[ROWS_AHEAD_MAX]; size_t n; };

static size_t rows_ahead(size_t bytes)
{
	size_t rows = BYTES_AHEAD / bytes;

	return rows < 4 ? 4 : rows > ROWS_AHEAD_MAX ? ROWS_AHEAD_MAX : rows;
}

/* 1 at the end. Of a row that is passed over the data is NULL. */
static int fill(const struct pass *pass, struct vf_scan *scan, uint64_t end, size_t bytes, struct window *window, struct vf_err *err)
{
	int rc = vf_scan_rows(scan, window->rows, rows_ahead(bytes), &window->n, err);

	for (size_t i = 0; rc >= 0 && i < window->n; i++) {
		struct vf_row *row = &window->rows[i];
		uint64_t serial = vf_load_u64(row->key.data);
		if (serial >= end) {
			window->n = i;
			return 1;
		}
		if (vf_early_has(pass->early, serial)) {
			row->value.data = NULL;
			continue;
		}
		if (row->value.len != bytes)
			return vf_fail(err, EIO, "vector %llu has %zu bytes, not %zu", (unsigned long long)serial, row->value.len, bytes);
		vf_prefetch_row(row->value.data, bytes);
	}
	return rc;
}

static int meet_all(struct pass *pass, const struct window *window, struct vf_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < window->n && rc == 0; i++)
		if (window->rows[i].value.data)
			rc = meet(pass, vf_load_u64(window->rows[i].key.data), window->rows[i].value.data, err);
	return rc;
}

static int pass_over_all(struct pass *pass, uint64_t from, uint64_t end, size_t bytes, struct vf_err *err)
{
	struct window windows[2];
	struct vf_scan *scan = NULL;
	unsigned turn = 0;
	int rc = vf_scan_open_u64(pass->txn, VF_T_VECTORS, from, &scan, err), met = 0;

	windows[1].n = 0;
	while (rc == 0 && met == 0 && (rc = fill(pass, scan, end, bytes, &windows[turn], err)) >= 0) {
		turn ^= 1;
		met = meet_all(pass, &windows[turn], err);
	}
	/* The last one filled. */
	if (rc == 1 && met == 0)
		met = meet_all(pass, &windows[turn ^ 1], err);
	vf_scan_close(&scan);
	return rc < 0 ? rc : met;
}

static int pass_over_some(struct pass *pass, const uint64_t *serials, size_t n, uint32_t dim, struct vf_err *err)
{
	for (size_t i = 0; i < n; i++) {
		struct vf_span row;
		int rc = vf_vector_of_serial(pass->txn, serials[i], dim, &row, err);
		if (rc == 1)
			return vf_fail(err, EIO, "a slot names vector %llu, which is not there", (unsigned long long)serials[i]);
		if (rc || (rc = meet(pass, serials[i], row.data, err)))
			return rc;
	}
	return 0;
}

static int pass_over_slice(void *ctx, size_t i, unsigned worker, struct vf_err *err)
{
	struct scanning *s = ctx;
	uint32_t dim = s->ask->config->dim;
	uint64_t each = (s->end - s->from + s->slices - 1) / s->slices, from = s->from + i * each, end = from + each < s->end ? from + each : s->end;

	if (from >= end)
		return 0;
	if (vf_ask_is_stopped(s->ask))
		return -EINTR;
	return s->serials ? pass_over_some(&s->passes[worker], s->serials + from, end - from, dim, err) :
	                    pass_over_all(&s->passes[worker], from, end, dim * sizeof(float), err);
}

/* ---- threads ---- */

/* The first has the lists of the caller. */
static int give_lists(struct scanning *s, unsigned width, struct vf_err *err)
{
	const struct pass *first = &s->passes[0];

	for (unsigned k = 1; k < width; k++) {
		s->passes[k] = *first;
		if (!(s->passes[k].lists = calloc(first->nlists, sizeof *first->lists)))
			return vf_oom(err);
		for (size_t i = 0; i < first->nlists; i++)
			vf_shortlist_init(&s->passes[k].lists[i], first->lists[i].want);
	}
	return 0;
}

static int take_in(struct pass *first, const struct pass *other, struct vf_err *err)
{
	int rc = 0;

	first->scanned += other->scanned;
	for (size_t i = 0; i < first->nlists; i++)
		for (size_t k = 0; k < other->lists[i].n && !rc; k++)
			rc = vf_shortlist_add(&first->lists[i], &other->lists[i].rows[k], err);
	return rc;
}

static int put_together(struct scanning *s, unsigned width, int rc, struct vf_err *err)
{
	for (unsigned k = 1; k < width; k++) {
		struct pass *pass = &s->passes[k];
		if (!pass->lists)
			continue;
		if (!rc)
			rc = take_in(&s->passes[0], pass, err);
		for (size_t i = 0; i < pass->nlists; i++)
			vf_shortlist_free(&pass->lists[i]);
		free(pass->lists);
	}
	return rc;
}

static int find_range(struct scanning *s, size_t nserials, struct vf_err *err)
{
	struct vf_counters counters;

	if (s->serials) {
		s->end = nserials;
		return 0;
	}
	int rc = vf_counters_get(s->ask->txn, &counters, err);
	s->from = 1;
	s->end = rc ? 1 : counters.next_serial;
	return rc;
}

static int scan_by(struct scanning *s, unsigned width, struct vf_err *err)
{
	struct vf_txn *twins[VF_SPREAD_MAX];
	int rc = vf_ask_twins(s->ask, twins, &width, err);

	s->slices = width * SLICES_EACH;
	if (!rc)
		rc = give_lists(s, width, err);
	for (unsigned k = 0; k < width; k++)
		s->passes[k].txn = twins[k];
	if (!rc)
		rc = vf_spread(width, s->slices, pass_over_slice, s, err);
	rc = put_together(s, width, rc, err);
	vf_ask_end_twins(twins, width);
	return rc;
}

int vf_scan_floats(struct vf_ask *ask, const uint64_t *serials, size_t nserials, const struct vf_gauge *gauges, struct vf_shortlist *lists,
                   size_t nlists, uint64_t *scanned, struct vf_err *err)
{
	struct scanning s = {
		.ask = ask, .serials = serials,
		.passes[0] = { .gauges = gauges, .lists = lists, .nlists = nlists, .self = ask->self },
	};
	int rc = find_range(&s, nserials, err);

	s.passes[0].early = &s.early;
	if (!rc && !serials)
		rc = vf_early_load(ask->txn, &s.early, err);
	if (!rc)
		rc = scan_by(&s, vf_spread_width((s.end - s.from) * ask->config->dim * nlists / TASK_NUMBERS), err);
	*scanned = s.passes[0].scanned;
	free(s.early.at);
	return rc;
}
