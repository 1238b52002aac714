/* SPDX-License-Identifier: MIT */
/* early_rows.c - which vectors have no record yet: the row `early` of meta, how they are deleted, and how they are read back. */
#include "early.h"

#include <errno.h>
#include <stdlib.h>

#include "vecfs/prefetch.h"

static uint64_t count(const struct vf_early_rows *rows)
{
	uint64_t n = 0;

	for (size_t i = 0; i < rows->n; i++)
		n += rows->at[i].n;
	return n;
}

static int check_rows(const struct vf_early_rows *rows, const struct vf_counters *counters, struct vf_err *err)
{
	uint64_t end = 1, n = count(rows);

	for (size_t i = 0; i < rows->n; i++) {
		const struct vf_serials *s = &rows->at[i];
		if (s->first < end || s->n == 0 || s->n > counters->next_serial || s->first > counters->next_serial - s->n)
			return vf_fail(err, EIO, "the row `early` names %llu vectors from serial %llu on, between %llu and %llu", (unsigned long long)s->n,
			               (unsigned long long)s->first, (unsigned long long)end, (unsigned long long)counters->next_serial);
		end = s->first + s->n;
	}
	if (n != counters->early)
		return vf_fail(err, EIO, "the row `early` names %llu vectors, the counter says %llu", (unsigned long long)n, (unsigned long long)counters->early);
	return 0;
}

/* Also when there are none, with room for so many more. */
static int load_for(struct vf_txn *txn, const struct vf_counters *counters, size_t more, struct vf_early_rows *out, struct vf_err *err)
{
	struct vf_span bytes = vf_span(NULL, 0);
	int rc = vf_get(txn, VF_T_META, vf_span_str(VF_META_EARLY), &bytes, err);

	if (rc < 0)
		return rc;
	if (bytes.len % sizeof *out->at)
		return vf_fail(err, EIO, "the row `early` has %zu bytes, not a multiple of %zu", bytes.len, sizeof *out->at);
	out->n = bytes.len / sizeof *out->at;
	if (!(out->at = malloc((out->n + more + 1) * sizeof *out->at)))
		return vf_oom(err);
	if (bytes.len)
		memcpy(out->at, bytes.data, bytes.len);
	rc = check_rows(out, counters, err);
	if (rc) {
		free(out->at);
		out->at = NULL;
	}
	return rc;
}

int vf_early_load(struct vf_txn *txn, struct vf_early_rows *out, struct vf_err *err)
{
	struct vf_counters counters;
	int rc = vf_counters_get(txn, &counters, err);

	*out = (struct vf_early_rows){ NULL, 0 };
	return rc || counters.early == 0 ? rc : load_for(txn, &counters, 0, out, err);
}

static int store(struct vf_txn *txn, const struct vf_early_rows *rows, struct vf_err *err)
{
	int rc;

	if (rows->n)
		return vf_put(txn, VF_T_META, vf_span_str(VF_META_EARLY), vf_span(rows->at, rows->n * sizeof *rows->at), err);
	rc = vf_del(txn, VF_T_META, vf_span_str(VF_META_EARLY), err);
	return rc < 0 ? rc : 0;
}

bool vf_early_has(const struct vf_early_rows *rows, uint64_t serial)
{
	for (size_t i = 0; i < rows->n; i++)
		if (serial - rows->at[i].first < rows->at[i].n)
			return true;
	return false;
}

void vf_early_append(struct vf_early_rows *rows, struct vf_serials s)
{
	struct vf_serials *last = rows->n ? &rows->at[rows->n - 1] : NULL;

	if (last && last->first + last->n == s.first)
		last->n += s.n;
	else
		rows->at[rows->n++] = s;
}

int vf_early_give(struct vf_txn *txn, uint64_t n, uint64_t *first, struct vf_err *err)
{
	struct vf_counters counters;
	struct vf_early_rows rows;
	int rc = vf_counters_get(txn, &counters, err);

	if (rc || (rc = load_for(txn, &counters, 1, &rows, err)))
		return rc;
	*first = counters.next_serial;
	vf_early_append(&rows, (struct vf_serials){ *first, n });
	counters.next_serial += n;
	counters.early += n;
	if ((rc = store(txn, &rows, err)) == 0)
		rc = vf_counters_put(txn, &counters, err);
	free(rows.at);
	return rc;
}

/* Without those of `less`, which lie in them. There is room for one more for each of `less`. */
static void subtract(struct vf_early_rows *rows, const struct vf_early_rows *less)
{
	for (size_t k = 0; k < less->n; k++) {
		struct vf_serials s = less->at[k], *at = rows->at;
		while (at < rows->at + rows->n && s.first - at->first >= at->n)
			at++;
		if (at == rows->at + rows->n)
			continue;
		struct vf_serials before = { at->first, s.first - at->first }, after = { s.first + s.n, at->first + at->n - s.first - s.n };
		struct vf_serials rest[2];
		size_t nrest = 0, behind = (size_t)(rows->at + rows->n - at) - 1;
		if (before.n)
			rest[nrest++] = before;
		if (after.n)
			rest[nrest++] = after;
		memmove(at + nrest, at + 1, behind * sizeof *at);
		memcpy(at, rest, nrest * sizeof *at);
		rows->n += nrest - 1;
	}
}

int vf_early_settle_rows(const struct vf_early_rows *settled, struct vf_txn *txn, struct vf_counters *counters, struct vf_err *err)
{
	struct vf_early_rows all;
	int rc = load_for(txn, counters, settled->n, &all, err);

	if (rc)
		return rc;
	subtract(&all, settled);
	counters->early = count(&all);
	rc = store(txn, &all, err);
	free(all.at);
	return rc;
}

/* ---- deleting them ---- */

struct discard { struct vf_index *index; const struct vf_early_rows *rows; };

static int delete_rows(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	const struct discard *d = ctx;
	struct vf_counters counters;
	int rc = vf_counters_get(txn, &counters, err);

	for (size_t i = 0; i < d->rows->n; i++)
		for (uint64_t k = 0; k < d->rows->at[i].n && rc >= 0; k++)
			rc = vf_del_u64(txn, VF_T_VECTORS, d->rows->at[i].first + k, err);
	if (rc < 0 || (rc = vf_early_settle_rows(d->rows, txn, &counters, err)))
		return rc;
	return vf_counters_put(txn, &counters, err);
}

/* Serials that are no more: memory counts them as the transaction does. */
static void deleted(void *ctx, bool ok)
{
	const struct discard *d = ctx;

	if (ok)
		atomic_fetch_add(&d->index->deaths_told, count(d->rows));
}

int vf_early_discard(struct vf_index *index, const struct vf_early_rows *rows, struct vf_err *err)
{
	struct discard d = { index, rows };
	struct vf_job job = { .write = delete_rows, .done = deleted, .ctx = &d, .frees = true };

	return rows->n ? vf_index_commit(index, &job, err) : 0;
}

int vf_early_clean(struct vf_index *index, struct vf_err *err)
{
	struct vf_early_rows rows;
	struct vf_txn *txn = NULL;
	int rc = vf_txn_read(index->store, &txn, err);

	if (rc)
		return rc;
	rc = vf_early_load(txn, &rows, err);
	vf_txn_end(&txn);
	if (rc == 0)
		rc = vf_early_discard(index, &rows, err);
	free(rows.at);
	return rc;
}

/* ---- reading ---- */

/* 1 at the end. */
static int next_row(struct vf_early_reader *reader, struct vf_row **out, struct vf_err *err)
{
	if (reader->at == reader->n) {
		int rc = vf_scan_rows(reader->scan, reader->rows, VF_EARLY_WINDOW, &reader->n, err);
		reader->at = 0;
		if (rc < 0 || reader->n == 0)
			return rc < 0 ? rc : 1;
		for (size_t i = 0; i < reader->n; i++)
			vf_prefetch_row(reader->rows[i].value.data, reader->rows[i].value.len);
	}
	*out = &reader->rows[reader->at++];
	return 0;
}

/* Another change of the same transaction has replaced or removed it, and its slot is given back as soon as this one is told to the graph. */
static int read_as_gone(struct vf_early_reader *reader, uint64_t serial, uint32_t dim, struct vf_err *err)
{
	struct vf_record_row record;
	int rc = vf_row_of_serial(reader->txn, serial, &record, err);

	if (rc == 0)
		return vf_fail(err, EIO, "vector %llu, which was written early, is not there", (unsigned long long)serial);
	memset(reader->vector, 0, dim * sizeof(float));
	return rc < 0 ? rc : 0;
}

int vf_early_read(struct vf_early_reader *reader, struct vf_index *index, uint64_t serial, uint32_t dim, const float **vector, struct vf_err *err)
{
	struct vf_row *row;
	int rc = 0;

	if (!reader->vector && !(reader->vector = malloc(dim * sizeof(float))))
		return vf_oom(err);
	if (!reader->txn && ((rc = vf_txn_read(index->store, &reader->txn, err)) ||
	                     (rc = vf_scan_open_u64(reader->txn, VF_T_VECTORS, serial, &reader->scan, err))))
		return rc;
	do {
		if ((rc = next_row(reader, &row, err)) < 0)
			return rc;
	} while (rc == 0 && vf_row_u64(row->key) < serial);
	*vector = reader->vector;
	if (rc == 0 && vf_row_u64(row->key) == serial && row->value.len == dim * sizeof(float)) {
		memcpy(reader->vector, row->value.data, row->value.len);
		return 0;
	}
	/* It is that of one behind. */
	if (rc == 0)
		reader->at--;
	return read_as_gone(reader, serial, dim, err);
}

void vf_early_read_end(struct vf_early_reader *reader)
{
	vf_scan_close(&reader->scan);
	vf_txn_end(&reader->txn);
	free(reader->vector);
	reader->vector = NULL;
	reader->n = reader->at = 0;
}
