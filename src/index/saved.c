/* SPDX-License-Identifier: MIT */
/* saved.c - saved questions: small files, kept as they were written. A row: XXH3-64 of what follows, inode number, version,
 * mtime, bytes. */
#include <errno.h>
#include <xxhash.h>

#include "index_internal.h"
#include "vecfs/clock.h"

#define SAVED_HEAD_BYTES 32u
#define LIST_PAGE_NAMES  256u

struct saved_row {
	struct vf_saved stat;
	struct vf_span bytes;              /* lent */
};

static int decode(struct vf_span row, struct saved_row *out, struct vf_err *err)
{
	if (row.len < SAVED_HEAD_BYTES || vf_load_u64(row.data) != XXH3_64bits(row.data + 8, row.len - 8))
		return vf_fail(err, EIO, "the checksum of its row of %zu bytes does not hold", row.len);
	out->bytes = vf_span(row.data + SAVED_HEAD_BYTES, row.len - SAVED_HEAD_BYTES);
	out->stat = (struct vf_saved){
		.ino = vf_load_u64(row.data + 8), .version = vf_load_u64(row.data + 16), .mtime_ns = (int64_t)vf_load_u64(row.data + 24),
		.bytes = (uint32_t)out->bytes.len,
	};
	return 0;
}

int vf_saved_row_check(struct vf_span row, uint64_t *ino, struct vf_err *err)
{
	struct saved_row saved;
	int rc = decode(row, &saved, err);

	if (rc == 0)
		*ino = saved.stat.ino;
	return rc;
}

/* 0, 1 not there. */
static int find(struct vf_txn *txn, const char *name, struct saved_row *out, struct vf_err *err)
{
	struct vf_span row;
	int rc = vf_get(txn, VF_T_QUESTIONS, vf_span_str(name), &row, err);

	if (rc)
		return rc;
	return decode(row, out, err) ? vf_wrap(err, "saved question %s", name) : 0;
}

/* ---- writing ---- */

struct saved_write {
	struct vf_index *index;
	int (*write)(void *ctx, struct vf_txn *txn, struct vf_err *err);
	int64_t now_ns;
	const char *name, *to;
	struct vf_span bytes;
	int64_t mtime_ns;
	bool replace;
};

/* saved->bytes must not be the transaction's. */
static int put_row(struct vf_txn *txn, const char *name, const struct saved_row *saved, struct vf_err *err)
{
	struct vf_buf row = VF_BUF_INIT;
	uint8_t head[SAVED_HEAD_BYTES];
	int rc;

	vf_store_u64(head + 8, saved->stat.ino);
	vf_store_u64(head + 16, saved->stat.version);
	vf_store_u64(head + 24, (uint64_t)saved->stat.mtime_ns);
	if ((rc = vf_buf_put(&row, head, sizeof head, err)) == 0 &&
	    (rc = vf_buf_put(&row, saved->bytes.data, saved->bytes.len, err)) == 0) {
		vf_store_u64(row.data, XXH3_64bits(row.data + 8, row.len - 8));
		rc = vf_put(txn, VF_T_QUESTIONS, vf_span_str(name), vf_buf_span(&row), err);
	}
	vf_buf_free(&row);
	return rc;
}

static int write_put(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	struct saved_write *w = ctx;
	struct saved_row saved;
	struct vf_counters counters;
	int rc = find(txn, w->name, &saved, err), rc2;

	if (rc < 0 || (rc2 = vf_counters_get(txn, &counters, err)))
		return rc < 0 ? rc : rc2;
	if (rc == 1)
		saved.stat.ino = counters.next_ino++;
	saved.stat.version = counters.next_version++;
	saved.stat.mtime_ns = vf_clock_real_ns();
	saved.bytes = w->bytes;
	rc = put_row(txn, w->name, &saved, err);
	return rc ? rc : vf_counters_put(txn, &counters, err);
}

static int write_remove(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	struct saved_write *w = ctx;
	int rc = vf_del(txn, VF_T_QUESTIONS, vf_span_str(w->name), err);

	return rc == 1 ? -ENOENT : rc;
}

/* A row with its bytes copied, so that it may be put again. */
static int find_copy(struct vf_txn *txn, const char *name, struct saved_row *saved, struct vf_buf *copy, struct vf_err *err)
{
	int rc = find(txn, name, saved, err);

	if (rc)
		return rc == 1 ? -ENOENT : rc;
	rc = vf_buf_put(copy, saved->bytes.data, saved->bytes.len, err);
	saved->bytes = vf_buf_span(copy);
	return rc;
}

static int write_rename(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	struct saved_write *w = ctx;
	struct vf_buf copy = VF_BUF_INIT;
	struct saved_row saved, there;
	int rc = find_copy(txn, w->name, &saved, &copy, err);

	if (rc == 0 && strcmp(w->name, w->to) != 0) {
		rc = find(txn, w->to, &there, err);
		if (rc == 0 && !w->replace)
			rc = vf_fail(err, EEXIST, "there is a saved question %s already", w->to);
		else if (rc >= 0 && (rc = put_row(txn, w->to, &saved, err)) == 0)
			rc = vf_del(txn, VF_T_QUESTIONS, vf_span_str(w->name), err);
	}
	vf_buf_free(&copy);
	return rc;
}

static int write_mtime(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	struct saved_write *w = ctx;
	struct vf_buf copy = VF_BUF_INIT;
	struct saved_row saved;
	int rc = find_copy(txn, w->name, &saved, &copy, err);

	if (rc == 0) {
		saved.stat.mtime_ns = w->mtime_ns;
		rc = put_row(txn, w->name, &saved, err);
	}
	vf_buf_free(&copy);
	return rc;
}

/* What is carried out moves the time of queries/, unless it sets that of a question. */
static int write_moving(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	struct saved_write *w = ctx;
	int rc = vf_index_check_there(w->index, err);

	if (rc == 0)
		rc = w->write(w, txn, err);
	w->now_ns = vf_clock_real_ns();
	return rc || w->write == write_mtime ? rc : vf_part_mtime_put(txn, VF_PART_SAVED, w->now_ns, err);
}

static void moved(void *ctx, bool ok)
{
	const struct saved_write *w = ctx;

	if (ok && w->write != write_mtime)
		atomic_store(&w->index->part_mtime_ns[VF_PART_SAVED], w->now_ns);
}

static int commit(struct vf_index *index, int (*write)(void *ctx, struct vf_txn *txn, struct vf_err *err), struct saved_write *w,
                  struct vf_err *err)
{
	struct vf_job job = { .write = write_moving, .done = moved, .ctx = w, .frees = write == write_remove };

	w->index = index;
	w->write = write;
	int rc = vf_index_check_there(index, err);
	return rc ? rc : vf_index_commit(index, &job, err);
}

static int check_name(const char *name, struct vf_err *err)
{
	size_t len = strlen(name);

	if (len == 0 || len > VF_FILE_NAME_BYTES_MAX)
		return vf_fail(err, len ? ENAMETOOLONG : EINVAL, "the name of a saved question has 1 to %u bytes, this one has %zu",
		               VF_FILE_NAME_BYTES_MAX, len);
	return 0;
}

int vf_index_saved_put(struct vf_index *index, const char *name, struct vf_span bytes, struct vf_err *err)
{
	struct saved_write w = { .name = name, .bytes = bytes };
	int rc = check_name(name, err);

	if (rc)
		return rc;
	if (bytes.len > VF_SAVED_QUESTION_BYTES_MAX)
		return vf_fail(err, EFBIG, "a saved question has at most %u bytes, %s has %zu", VF_SAVED_QUESTION_BYTES_MAX, name, bytes.len);
	return commit(index, write_put, &w, err);
}

int vf_index_saved_remove(struct vf_index *index, const char *name, struct vf_err *err)
{
	struct saved_write w = { .name = name };
	int rc = check_name(name, err);

	return rc ? rc : commit(index, write_remove, &w, err);
}

int vf_index_saved_rename(struct vf_index *index, const char *from, const char *to, bool replace, struct vf_err *err)
{
	struct saved_write w = { .name = from, .to = to, .replace = replace };
	int rc;

	if ((rc = check_name(from, err)) || (rc = check_name(to, err)))
		return rc;
	return commit(index, write_rename, &w, err);
}

int vf_index_saved_set_mtime(struct vf_index *index, const char *name, int64_t mtime_ns, struct vf_err *err)
{
	struct saved_write w = { .name = name, .mtime_ns = mtime_ns };
	int rc = check_name(name, err);

	return rc ? rc : commit(index, write_mtime, &w, err);
}

/* ---- reading ---- */

int vf_index_saved_get(struct vf_index *index, const char *name, struct vf_buf *out, struct vf_saved *stat, struct vf_err *err)
{
	struct vf_txn *txn = NULL;
	struct saved_row saved;
	int rc = check_name(name, err);

	if (rc || (rc = vf_txn_read(index->store, &txn, err)))
		return rc;
	rc = find(txn, name, &saved, err);
	if (rc == 1)
		rc = -ENOENT;
	if (rc == 0 && out)
		rc = vf_buf_put(out, saved.bytes.data, saved.bytes.len, err);
	if (rc == 0 && stat)
		*stat = saved.stat;
	vf_txn_end(&txn);
	return rc;
}

int vf_index_saved_stat(struct vf_index *index, const char *name, struct vf_saved *out, struct vf_err *err)
{
	return vf_index_saved_get(index, name, NULL, out, err);
}

struct page {
	struct vf_buf names;               /* each with a NUL behind it */
	uint64_t inos[LIST_PAGE_NAMES];
	unsigned n;
	char last[VF_FILE_NAME_BYTES_MAX + 1];
};

static int add_name(struct page *page, struct vf_span name, struct vf_span row, struct vf_err *err)
{
	struct saved_row saved;
	int rc;

	if (name.len > VF_FILE_NAME_BYTES_MAX)
		return vf_fail(err, EIO, "a saved question has a name of %zu bytes", name.len);
	if ((rc = decode(row, &saved, err)))
		return vf_wrap(err, "saved question %.*s", VF_SPAN_ARG(name));
	memcpy(page->last, name.data, name.len);
	page->last[name.len] = '\0';
	page->inos[page->n++] = saved.stat.ino;
	return vf_buf_put(&page->names, page->last, name.len + 1, err);
}

static int fill_page(struct vf_index *index, struct page *page, struct vf_err *err)
{
	struct vf_span last = vf_span_str(page->last), name, row;
	struct vf_txn *txn = NULL;
	struct vf_scan *scan = NULL;
	int rc;

	page->n = 0;
	vf_buf_clear(&page->names);
	if ((rc = vf_txn_read(index->store, &txn, err)) == 0)
		rc = vf_scan_open(txn, VF_T_QUESTIONS, last, &scan, err);
	while (rc == 0 && page->n < LIST_PAGE_NAMES && (rc = vf_scan_step(scan, &name, &row, err)) == 0)
		if (!(page->n == 0 && vf_span_equal(name, last)))
			rc = add_name(page, name, row, err);
	vf_scan_close(&scan);
	vf_txn_end(&txn);
	return rc < 0 ? rc : 0;
}

static bool emit_page(const struct page *page, int (*emit)(void *ctx, const char *name, uint64_t ino), void *ctx)
{
	const char *name = (const char *)page->names.data;

	for (unsigned i = 0; i < page->n; i++) {
		if (emit(ctx, name, page->inos[i]))
			return false;
		name += strlen(name) + 1;
	}
	return true;
}

int vf_index_saved_list(struct vf_index *index, const char *after, int (*emit)(void *ctx, const char *name, uint64_t ino),
                        void *ctx, struct vf_err *err)
{
	struct page page = { .names = VF_BUF_INIT };
	int rc = 0;

	if (after && *after) {
		if ((rc = check_name(after, err)))
			return rc;
		strcpy(page.last, after);
	}
	do
		rc = fill_page(index, &page, err);
	while (rc == 0 && emit_page(&page, emit, ctx) && page.n == LIST_PAGE_NAMES);
	vf_buf_free(&page.names);
	return rc;
}
