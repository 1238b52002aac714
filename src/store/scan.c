/* SPDX-License-Identifier: MIT */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct vf_scan {
	struct vf_txn *txn;
	MDB_cursor *cursor;
	enum vf_table table;
	uintptr_t page;                    /* of the last row */
	/* Where to begin is kept until the first step: in a write the rows may change before it. */
	bool fresh;
	size_t from_len;
	_Alignas(8) uint8_t from[KEY_BYTES_MAX + 1];
};

int vf_scan_seek(struct vf_scan *scan, struct vf_span from, struct vf_err *err)
{
	if (from.len > KEY_BYTES_MAX)
		return vf_txn_fault(scan->txn, MDB_BAD_VALSIZE, "scan", err);
	if (from.len)
		memcpy(scan->from, from.data, from.len);
	scan->from_len = from.len;
	scan->fresh = true;
	return 0;
}

int vf_scan_open(struct vf_txn *txn, enum vf_table table, struct vf_span from, struct vf_scan **out, struct vf_err *err)
{
	struct vf_scan *scan = malloc(sizeof *scan);

	if (!scan)
		return vf_oom(err);
	scan->txn = txn;
	scan->table = table;
	scan->page = 0;
	int rc = vf_scan_seek(scan, from, err);
	if (rc == 0) {
		rc = vf_guard_cursor_open(txn->mdb, txn->store->tables[table], &scan->cursor);
		if (rc)
			rc = vf_txn_fault(txn, rc, "scan", err);
	}
	if (rc)
		free(scan);
	else
		*out = scan;
	return rc;
}

int vf_scan_open_u64(struct vf_txn *txn, enum vf_table table, uint64_t from, struct vf_scan **out, struct vf_err *err)
{
	return vf_scan_open(txn, table, vf_span(&from, sizeof from), out, err);
}

static MDB_cursor_op next_op(const struct vf_scan *scan)
{
	return !scan->fresh ? MDB_NEXT : scan->from_len ? MDB_SET_RANGE : MDB_FIRST;
}

static bool holds(const struct vf_scan *scan, const MDB_val *key, const MDB_val *value)
{
	return vf_env_holds(scan->txn, key) && vf_env_holds(scan->txn, value);
}

static int fault(struct vf_scan *scan, int rc, struct vf_err *err)
{
	vf_txn_fault(scan->txn, rc, "scan", err);
	return vf_wrap(err, "table %s", vf_table_name(scan->table));
}

int vf_scan_step(struct vf_scan *scan, struct vf_span *key, struct vf_span *value, struct vf_err *err)
{
	MDB_val k = { scan->from_len, scan->from }, v;
	int rc = vf_guard_cursor_get(scan->cursor, &k, &v, next_op(scan));

	if (rc == MDB_NOTFOUND)
		return 1;
	if (rc == 0 && !holds(scan, &k, &v))
		rc = MDB_CORRUPTED;
	if (rc)
		return fault(scan, rc, err);
	scan->fresh = false;
	*key = vf_span(k.mv_data, k.mv_size);
	*value = vf_span(v.mv_data, v.mv_size);
	return 0;
}

/* The kernel maps so much of a file at a time, at the first touch. */
#define MAPPED_BYTES ((uintptr_t)64 << 10)
#define PAGES_AHEAD  2u

/* Rows that were put in order lie in pages that follow one another, and those of one length at the same places in each: so where a row begins two pages
 * on is known, and asked for. What is not mapped yet cannot be; so the kernel is told to map, of the pieces that it maps at once, the next but one: of the
 * file, not of the heap, where a write has what it has changed. Not by a touch: pages that were taken and given back in one transaction were never
 * written, so that the file may end before. (The first answer of a million x 128 takes two thirds of the time.) */
static void expect_next(struct vf_scan *scan, const MDB_val *key, const MDB_val *value)
{
	size_t page_bytes = scan->txn->store->page_bytes;
	uintptr_t page = (uintptr_t)value->mv_data & ~(uintptr_t)(page_bytes - 1), before = scan->page;

	if (value->mv_size <= page_bytes / 2)
		__builtin_prefetch((const uint8_t *)key->mv_data + PAGES_AHEAD * page_bytes, 0, 2);
	if (page == before)
		return;
	scan->page = page;
	bool follows = page - before <= MAPPED_BYTES && page / MAPPED_BYTES != before / MAPPED_BYTES;
	if (follows && page >= (uintptr_t)scan->txn->store->map && page + 2 * MAPPED_BYTES < (uintptr_t)scan->txn->limit)
		(void)madvise((void *)(page + 2 * MAPPED_BYTES), page_bytes, MADV_POPULATE_READ);
}

struct steps { struct vf_scan *scan; struct vf_row *rows; size_t most; size_t *n; };

static int take_steps(void *ctx)
{
	const struct steps *s = ctx;
	struct vf_scan *scan = s->scan;
	MDB_val k = { scan->from_len, scan->from }, v;

	for (; *s->n < s->most; ++*s->n) {
		int rc = mdb_cursor_get(scan->cursor, &k, &v, next_op(scan));
		if (rc == 0 && !holds(scan, &k, &v))
			rc = MDB_CORRUPTED;
		if (rc)
			return rc;
		scan->fresh = false;
		expect_next(scan, &k, &v);
		s->rows[*s->n] = (struct vf_row){ vf_span(k.mv_data, k.mv_size), vf_span(v.mv_data, v.mv_size) };
	}
	return 0;
}

int vf_scan_rows(struct vf_scan *scan, struct vf_row *rows, size_t most, size_t *n, struct vf_err *err)
{
	struct steps steps = { scan, rows, most, n };

	*n = 0;
	int rc = vf_guard_call(take_steps, &steps);
	if (rc == MDB_NOTFOUND)
		return 1;
	return rc ? fault(scan, rc, err) : 0;
}

void vf_scan_close(struct vf_scan **scan)
{
	if (!*scan)
		return;
	mdb_cursor_close((*scan)->cursor);
	free(*scan);
	*scan = NULL;
}
