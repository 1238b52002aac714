/* SPDX-License-Identifier: MIT */
/* read.c - one record, and the list of keys. */
#include <errno.h>

#include "index_internal.h"

#define LIST_PAGE_KEYS 512u    /* read in one transaction; none is open while they are emitted */

/* 0, -ENOENT without a sentence (absence is ordinary), or a failure with one. */
static int find(struct vf_txn *txn, struct vf_span key, uint64_t *serial, struct vf_record_row *row, struct vf_err *err)
{
	struct vf_key_row key_row;
	int rc = vf_record_of_key(txn, key, &key_row, row, err);

	if (rc)
		return rc == 1 ? -ENOENT : rc;
	*serial = key_row.serial;
	return 0;
}

static struct vf_record_stat stat_of(const struct vf_record_row *row)
{
	return (struct vf_record_stat){
		.ino = row->ino, .version = row->version, .mtime_ns = row->mtime_ns, .ctime_ns = row->ctime_ns,
		.key_bytes = (uint32_t)row->key.len, .dim = row->dim, .metadata_bytes = (uint32_t)row->metadata.len,
	};
}

int vf_index_stat(struct vf_index *index, struct vf_span key, struct vf_record_stat *out, struct vf_err *err)
{
	struct vf_txn *txn = NULL;
	struct vf_record_row row;
	uint64_t serial;
	int rc = vf_txn_read(index->store, &txn, err);

	if (rc == 0 && (rc = find(txn, key, &serial, &row, err)) == 0)
		*out = stat_of(&row);
	vf_txn_end(&txn);
	return rc;
}

int vf_vector_checked(struct vf_txn *txn, uint64_t serial, const struct vf_record_row *row, struct vf_span *vector,
                      struct vf_err *err)
{
	int rc = vf_vector_of_serial(txn, serial, row->dim, vector, err);

	if (rc == 0 && vf_vector_sum(vector->data, vector->len) != row->vector_sum)
		rc = vf_fail(err, EIO, "the checksum of its vector does not hold");
	else if (rc == 1)
		rc = vf_fail(err, EIO, "its vector (serial %llu) is missing", (unsigned long long)serial);
	return rc < 0 ? vf_wrap(err, "record %.*s", VF_SPAN_ARG(row->key)) : 0;
}

static int copy_record(const struct vf_record_row *row, struct vf_span vector, struct vf_arena *arena, struct vf_record *out,
                       struct vf_err *err)
{
	struct vf_span key = vf_arena_copy(arena, row->key), metadata = vf_arena_copy(arena, row->metadata);
	struct vf_span numbers = vf_arena_copy(arena, vector);

	if (!key.data || !metadata.data || !numbers.data)
		return vf_oom(err);
	/* The arena aligns to 16. */
	const void *floats = numbers.data;
	*out = (struct vf_record){ .key = key, .vector = floats, .dim = row->dim, .metadata = metadata, .mtime_ns = row->mtime_ns };
	return 0;
}

int vf_index_get(struct vf_index *index, struct vf_span key, struct vf_arena *arena, struct vf_record *out,
                 struct vf_record_stat *stat, struct vf_err *err)
{
	struct vf_txn *txn = NULL;
	struct vf_record_row row;
	struct vf_span vector;
	uint64_t serial;
	int rc;

	if ((rc = vf_txn_read(index->store, &txn, err)) == 0 && (rc = find(txn, key, &serial, &row, err)) == 0 &&
	    (rc = vf_vector_checked(txn, serial, &row, &vector, err)) == 0 &&
	    (rc = copy_record(&row, vector, arena, out, err)) == 0 && stat)
		*stat = stat_of(&row);
	vf_txn_end(&txn);
	return rc;
}

/* ---- the list ---- */

struct page {
	struct vf_buf keys;                /* one behind the other */
	struct { uint32_t len; uint64_t ino; } rows[LIST_PAGE_KEYS];
	unsigned n;
	uint8_t last[VF_KEY_ROW_HEAD + 16];    /* row key of the last */
	size_t last_len;
};

/* The key itself: a long one is in its record only. */
static int real_key(struct vf_txn *txn, struct vf_span name, uint64_t serial, struct vf_span *key, struct vf_err *err)
{
	struct vf_record_row row;

	*key = name;
	if (name.len <= VF_KEY_ROW_MAX)
		return 0;
	int rc = vf_row_of_serial(txn, serial, &row, err);
	if (rc == 1)
		return vf_fail(err, EIO, "the record with serial %llu is missing", (unsigned long long)serial);
	*key = row.key;
	return rc;
}

static int add_row(struct page *page, struct vf_txn *txn, struct vf_span name, struct vf_span bytes, struct vf_err *err)
{
	struct vf_key_row row;
	struct vf_span key;
	int rc;

	if (name.len > sizeof page->last)
		return vf_fail(err, EIO, "a row of the key table has a key of %zu bytes", name.len);
	if ((rc = vf_key_row_decode(bytes, &row, err)) || (rc = real_key(txn, name, row.serial, &key, err)) ||
	    (rc = vf_buf_put(&page->keys, key.data, key.len, err)))
		return rc;
	page->rows[page->n].len = (uint32_t)key.len;
	page->rows[page->n++].ino = row.ino;
	memcpy(page->last, name.data, name.len);
	page->last_len = name.len;
	return 0;
}

/* Rows behind page->last. */
static int fill_page(struct vf_index *index, struct page *page, struct vf_err *err)
{
	struct vf_span last = vf_span(page->last, page->last_len), name, bytes;
	struct vf_txn *txn = NULL;
	struct vf_scan *scan = NULL;
	int rc;

	page->n = 0;
	vf_buf_clear(&page->keys);
	if ((rc = vf_txn_read(index->store, &txn, err)) == 0)
		rc = vf_scan_open(txn, VF_T_KEYS, last, &scan, err);
	while (rc == 0 && page->n < LIST_PAGE_KEYS && (rc = vf_scan_step(scan, &name, &bytes, err)) == 0)
		if (!(page->n == 0 && vf_span_equal(name, last)))
			rc = add_row(page, txn, name, bytes, err);
	vf_scan_close(&scan);
	vf_txn_end(&txn);
	return rc < 0 ? rc : 0;
}

static bool emit_page(const struct page *page, int (*emit)(void *ctx, struct vf_span key, uint64_t ino), void *ctx)
{
	const uint8_t *key = page->keys.data;

	for (unsigned i = 0; i < page->n; i++) {
		if (emit(ctx, vf_span(key, page->rows[i].len), page->rows[i].ino))
			return false;
		key += page->rows[i].len;
	}
	return true;
}

int vf_index_list(struct vf_index *index, struct vf_span after,
                  int (*emit)(void *ctx, struct vf_span key, uint64_t ino), void *ctx, struct vf_err *err)
{
	struct page page = { .keys = VF_BUF_INIT };
	struct vf_span name = vf_key_row_name(after, page.last);
	int rc;

	if (name.len && name.data != page.last)
		memcpy(page.last, name.data, name.len);
	page.last_len = name.len;
	do
		rc = fill_page(index, &page, err);
	while (rc == 0 && emit_page(&page, emit, ctx) && page.n == LIST_PAGE_KEYS);
	vf_buf_free(&page.keys);
	return rc;
}
