/* SPDX-License-Identifier: MIT */
#include "store_internal.h"

#include <errno.h>

/* That many small changes take a page, about: more of them in order, one when they are scattered. */
#define CHANGES_A_PAGE 8u

static MDB_val lend(struct vf_span s)
{
	/* LMDB only reads what it is given. */
	return (MDB_val){ s.len, s.data ? (void *)(uintptr_t)s.data : "" };
}

/* What LMDB will keep of a change at least, for its next write: a part of a page of many rows, or a page of one row. Pages that belong together it
 * gives back. */
static uint64_t kept_of(const struct vf_store *store, size_t bytes)
{
	return bytes > store->page_bytes ? 0 : bytes > store->page_bytes / 2 ? store->page_bytes : store->page_bytes / CHANGES_A_PAGE;
}

static void count_change(struct vf_txn *txn, size_t bytes)
{
	txn->changes++;
	txn->bytes += bytes;
	txn->kept += kept_of(txn->store, bytes);
}

static MDB_dbi dbi_of(const struct vf_txn *txn, enum vf_table table)
{
	return txn->store->tables[table];
}

static int fault_in(struct vf_txn *txn, int code, const char *verb, enum vf_table table, struct vf_err *err)
{
	vf_txn_fault(txn, code, verb, err);
	return vf_wrap(err, "table %s", vf_table_name(table));
}

/* A write keeps its cursors: of a row beside the one before, the pages are at hand. */
static int cursor_on(struct vf_txn *txn, enum vf_table table, MDB_cursor **out)
{
	MDB_cursor **cursor = &txn->cursors[table];
	int rc = *cursor ? 0 : vf_guard_cursor_open(txn->mdb, dbi_of(txn, table), cursor);

	*out = *cursor;
	return rc;
}

static int get(struct vf_txn *txn, enum vf_table table, MDB_val *key, MDB_val *value)
{
	MDB_cursor *cursor;

	if (!txn->writes)
		return vf_guard_get(txn->mdb, dbi_of(txn, table), key, value);
	int rc = cursor_on(txn, table, &cursor);
	return rc ? rc : vf_guard_cursor_get(cursor, key, value, MDB_SET);
}

/* What looking for a row came to: 0, 1 there is none. */
static int judge(struct vf_txn *txn, enum vf_table table, int rc, const MDB_val *row, struct vf_err *err)
{
	if (rc == MDB_NOTFOUND)
		return 1;
	if (rc == 0 && !vf_env_holds(txn, row))
		rc = MDB_CORRUPTED;
	return rc ? fault_in(txn, rc, "read a row", table, err) : 0;
}

int vf_get(struct vf_txn *txn, enum vf_table table, struct vf_span key, struct vf_span *value, struct vf_err *err)
{
	MDB_val k = lend(key), v;
	int rc = judge(txn, table, get(txn, table, &k, &v), &v, err);

	if (rc == 0)
		*value = vf_span(v.mv_data, v.mv_size);
	return rc;
}

int vf_get_u64(struct vf_txn *txn, enum vf_table table, uint64_t key, struct vf_span *value, struct vf_err *err)
{
	return vf_get(txn, table, vf_span(&key, sizeof key), value, err);
}

int vf_last_u64(struct vf_txn *txn, enum vf_table table, uint64_t *key, struct vf_err *err)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc = cursor_on(txn, table, &cursor);

	rc = judge(txn, table, rc ? rc : vf_guard_cursor_get(cursor, &k, &v, MDB_LAST), &k, err);
	if (rc == 0)
		*key = vf_row_u64(vf_span(k.mv_data, k.mv_size));
	return rc;
}

int vf_count(struct vf_txn *txn, enum vf_table table, uint64_t *rows, struct vf_err *err)
{
	MDB_stat stat;
	int rc = vf_guard_stat(txn->mdb, dbi_of(txn, table), &stat);

	if (rc)
		return fault_in(txn, rc, "count the rows", table, err);
	*rows = stat.ms_entries;
	return 0;
}

/* LMDB writes by the numbers on the pages: from the first change on they have to be sound. */
static int begin_change(struct vf_txn *txn, struct vf_err *err)
{
	int rc = vf_pages_check_once(txn->store, err);

	/* Not being able to look is no damage. */
	if (rc && !txn->trouble)
		txn->trouble = rc == -ENOMEM ? ENOMEM : MDB_CORRUPTED;
	return rc;
}

static int put(struct vf_txn *txn, enum vf_table table, MDB_val *key, MDB_val *value, unsigned flags, struct vf_err *err)
{
	size_t bytes = key->mv_size + value->mv_size;
	MDB_cursor *cursor;
	int rc = begin_change(txn, err);

	if (rc)
		return rc;
	if ((rc = cursor_on(txn, table, &cursor)) || (rc = mdb_cursor_put(cursor, key, value, flags)))
		return fault_in(txn, rc, "write a row", table, err);
	count_change(txn, bytes);
	return 0;
}

int vf_put(struct vf_txn *txn, enum vf_table table, struct vf_span key, struct vf_span value, struct vf_err *err)
{
	MDB_val k = lend(key), v = lend(value);

	return put(txn, table, &k, &v, 0, err);
}

int vf_put_u64(struct vf_txn *txn, enum vf_table table, uint64_t key, struct vf_span value, struct vf_err *err)
{
	return vf_put(txn, table, vf_span(&key, sizeof key), value, err);
}

int vf_reserve_u64(struct vf_txn *txn, enum vf_table table, uint64_t key, size_t len, bool append, void **out, struct vf_err *err)
{
	MDB_val k = { sizeof key, &key }, v = { len, NULL };
	int rc = put(txn, table, &k, &v, MDB_RESERVE | (append ? MDB_APPEND : 0), err);

	*out = rc ? NULL : v.mv_data;
	return rc;
}

int vf_del(struct vf_txn *txn, enum vf_table table, struct vf_span key, struct vf_err *err)
{
	MDB_val k = lend(key);
	int rc = begin_change(txn, err);

	if (rc)
		return rc;
	rc = mdb_del(txn->mdb, dbi_of(txn, table), &k, NULL);
	if (rc == MDB_NOTFOUND)
		return 1;
	if (rc)
		return fault_in(txn, rc, "delete a row", table, err);
	count_change(txn, key.len);
	return 0;
}

int vf_del_u64(struct vf_txn *txn, enum vf_table table, uint64_t key, struct vf_err *err)
{
	return vf_del(txn, table, vf_span(&key, sizeof key), err);
}
