/* SPDX-License-Identifier: MIT */
/* repair.c - a damaged index is written anew from what can be read of it. Records and saved questions whose checksums hold are taken over as
 * they are, with their keys, inode numbers, versions and times; all that is derived from them (keys, slots, postings) is made again, and the
 * graph is linked again by the next mount. What cannot be read is told by its key. The new file takes the place of the old one by a
 * rename; the old one is kept beside it when anything was lost. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "change.h"

#define KEPT_FILE     "data.mdb.damaged"
#define BATCH_BYTES   (32u << 20)
#define POSTINGS_MAX  (64u << 20)
#define MISSES_MAX    (1u << 20)       /* rows that are not there or cannot be read, one after the other: then it is over */

struct repair {
	struct vf_store *old, *new;
	struct vf_txn *from, *to;
	struct vf_config config;
	struct vf_counters counters;
	struct vf_postings_change *postings;
	uint64_t slots, written;           /* of the new index; bytes in the open transaction */
	uint64_t lost;
	struct vf_buf row;
	void (*report)(void *ctx, const char *text);
	void *ctx;
};

static void tell(struct repair *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void tell(struct repair *r, const char *fmt, ...)
{
	char text[2 * VF_ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	r->report(r->ctx, text);
}

static bool is_damage(int rc)
{
	return rc == -EIO || rc == -EINVAL || rc == -EFBIG;
}

static uint64_t at_least(uint64_t number, uint64_t used)
{
	return number > used ? number : used + 1;
}

/* ---- writing ---- */

static int begin_batch(struct repair *r, struct vf_err *err)
{
	int rc = vf_txn_write(r->new, &r->to, err);

	r->written = 0;
	return rc ? rc : vf_postings_change_new(&r->postings, err);
}

static int end_batch(struct repair *r, struct vf_err *err)
{
	int rc = vf_postings_write(r->postings, r->to, err);

	vf_postings_change_free(&r->postings);
	return rc ? rc : vf_txn_commit(&r->to, err);
}

static int next_batch_if_full(struct repair *r, struct vf_err *err)
{
	int rc;

	if (r->written < BATCH_BYTES && vf_postings_change_bytes(r->postings) < POSTINGS_MAX)
		return 0;
	return (rc = end_batch(r, err)) ? rc : begin_batch(r, err);
}

/* A key that is there already belongs to a record with a larger version, or gives way. 1: it stays. */
static int settle_twin(struct repair *r, const struct vf_record_row *row, struct vf_err *err)
{
	struct vf_record_row there;
	struct vf_key_row key;
	int rc = vf_record_of_key(r->to, row->key, &key, &there, err);

	if (rc)
		return rc == 1 ? 0 : rc;
	tell(r, "key %.*s leads to two records, the one with the larger version stays", VF_SPAN_ARG(row->key));
	if (there.version >= row->version)
		return 1;
	/* Gathered pairs of the same slot are taken away behind those that were added. */
	if ((rc = vf_postings_remove_record(r->postings, there.metadata, &r->config, there.slot, err)) ||
	    (rc = vf_del_u64(r->to, VF_T_SLOTS, there.slot, err)) < 0 || (rc = vf_del_u64(r->to, VF_T_VECTORS, key.serial, err)) < 0 ||
	    (rc = vf_del_u64(r->to, VF_T_RECORDS, key.serial, err)) < 0)
		return rc;
	return 0;
}

static int put_rows(struct repair *r, uint64_t serial, struct vf_record_row *row, struct vf_span vector, struct vf_err *err)
{
	uint8_t name[VF_KEY_ROW_HEAD + 16], key_row[16], slot_row[8];
	size_t size = vf_record_row_size(row);
	int rc;

	row->slot = (uint32_t)r->slots;
	vf_buf_clear(&r->row);
	if ((rc = vf_buf_reserve(&r->row, size, err)))
		return rc;
	vf_record_row_encode(row, r->row.data);
	vf_key_row_encode(&(struct vf_key_row){ serial, row->ino }, key_row);
	vf_store_u64(slot_row, serial);
	if ((rc = vf_put_u64(r->to, VF_T_RECORDS, serial, vf_span(r->row.data, size), err)) ||
	    (rc = vf_put_u64(r->to, VF_T_VECTORS, serial, vector, err)) ||
	    (rc = vf_put(r->to, VF_T_KEYS, vf_key_row_name(row->key, name), vf_span(key_row, sizeof key_row), err)) ||
	    (rc = vf_put_u64(r->to, VF_T_SLOTS, row->slot, vf_span(slot_row, sizeof slot_row), err)))
		return rc;
	r->slots++;
	r->written += size + vector.len;
	return vf_postings_add_record(r->postings, row->metadata, &r->config, row->slot, err);
}

static int keep_record(struct repair *r, uint64_t serial, struct vf_record_row *row, struct vf_span vector, struct vf_err *err)
{
	int rc = settle_twin(r, row, err);

	if (rc)
		return rc < 0 ? rc : 0;
	if ((rc = put_rows(r, serial, row, vector, err)))
		return rc;
	r->counters.next_serial = at_least(r->counters.next_serial, serial);
	r->counters.next_ino = at_least(r->counters.next_ino, row->ino);
	r->counters.next_version = at_least(r->counters.next_version, row->version);
	return next_batch_if_full(r, err);
}

/* ---- reading ---- */

/* A record that is whole, or not at all: what is damaged is told later, by its key. */
static int take_record(struct repair *r, uint64_t serial, struct vf_span bytes, struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;
	struct vf_record_row row;
	struct vf_span vector;
	int rc;

	if ((rc = vf_record_row_decode(bytes, &row, &why)) == 0 && (rc = vf_vector_checked(r->from, serial, &row, &vector, &why)) == 0) {
		if (row.dim == r->config.dim)
			return keep_record(r, serial, &row, vector, err);
		rc = vf_fail(&why, EIO, "record %.*s: vector has %u numbers, the config says %u", VF_SPAN_ARG(row.key), row.dim, r->config.dim);
	}
	tell(r, "serial %llu: %s", (unsigned long long)serial, why.text);
	if (is_damage(rc))
		return 0;
	*err = why;
	return rc;
}

/* The rows of a page that cannot be read are stepped over one by one, until there are rows again. */
static int take_records(struct repair *r, struct vf_err *err)
{
	struct vf_span key, value;
	struct vf_scan *scan = NULL;
	uint64_t next = 0;
	unsigned misses = 0;
	int rc = vf_scan_open_u64(r->from, VF_T_RECORDS, 0, &scan, err);

	while (rc == 0 && misses < MISSES_MAX) {
		struct vf_err why = VF_ERR_INIT;
		rc = vf_scan_step(scan, &key, &value, &why);
		if (rc == 1 && misses == 0)
			break;
		if (rc == 0 && key.len == 8 && vf_row_u64(key) >= next) {
			misses = 0;
			next = vf_row_u64(key) + 1;
			rc = take_record(r, next - 1, value, err);
			continue;
		}
		if (rc < 0 && !is_damage(rc)) {
			*err = why;
			break;
		}
		misses++;
		rc = next < UINT64_MAX ? vf_scan_seek(scan, vf_span(&next, sizeof next), err) : 1;
		next++;
	}
	vf_scan_close(&scan);
	return rc < 0 ? rc : 0;
}

/* Rows with names: settings, saved questions. A page of them that cannot be read ends it. */
static int take_named(struct repair *r, enum vf_table table, int (*take)(struct repair *r, struct vf_span name, struct vf_span value, struct vf_err *err),
                      struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;
	struct vf_span name, value;
	struct vf_scan *scan = NULL;
	int rc = vf_scan_open(r->from, table, vf_span(NULL, 0), &scan, &why), taken = 0;

	while (rc == 0 && taken == 0 && (rc = vf_scan_step(scan, &name, &value, &why)) == 0)
		taken = take(r, name, value, err);
	vf_scan_close(&scan);
	if (taken)
		return taken;
	if (is_damage(rc)) {
		tell(r, "%s", why.text);
		r->lost++;
		return 0;
	}
	if (rc < 0)
		*err = why;
	return rc < 0 ? rc : 0;
}

/* The config and what goes with it; the rest of the table is made again. */
static int take_setting(struct repair *r, struct vf_span name, struct vf_span value, struct vf_err *err)
{
	static const char *const made_again[] = { VF_META_FORMAT, VF_META_COUNTERS, VF_META_QUANT, VF_META_CLAMPED, VF_META_CHECKPOINT,
	                                          VF_META_EARLY };

	for (size_t i = 0; i < sizeof made_again / sizeof made_again[0]; i++)
		if (vf_span_is(name, made_again[i]))
			return 0;
	return vf_put(r->to, VF_T_META, name, value, err);
}

static int take_question(struct repair *r, struct vf_span name, struct vf_span value, struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;
	uint64_t ino;

	if (vf_saved_row_check(value, &ino, &why)) {
		tell(r, "saved question %.*s is lost: %s", VF_SPAN_ARG(name), why.text);
		r->lost++;
		return 0;
	}
	r->counters.next_ino = at_least(r->counters.next_ino, ino);
	r->counters.next_version = at_least(r->counters.next_version, vf_load_u64(value.data + 16));
	return vf_put(r->to, VF_T_QUESTIONS, name, value, err);
}

/* A key that led to something and is not there any more is a lost record. */
static int miss_key(struct repair *r, struct vf_span name, struct vf_span value, struct vf_err *err)
{
	struct vf_span there;
	/* A row key that no key has is none of a record. */
	int rc = name.len == 0 || name.len > VF_KEY_ROW_MAX + 1 ? 1 : vf_get(r->to, VF_T_KEYS, name, &there, err);

	(void)value;
	if (rc == 1) {
		tell(r, "record %.*s is lost", VF_SPAN_ARG(name));
		r->lost++;
		return 0;
	}
	return rc;
}

/* ---- the parts in their order ---- */

/* Without its config an index cannot be understood: the dimension could be guessed, but not the metric. */
static int take_settings(struct repair *r, struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;
	int rc;

	if ((rc = vf_format_check(r->from, err)) || (rc = vf_config_of_txn(r->from, &r->config, err)))
		return rc;
	if (vf_counters_get(r->from, &r->counters, &why)) {
		tell(r, "%s", why.text);
		r->counters = (struct vf_counters){ .next_serial = 1, .next_ino = VF_INO_FIRST, .next_version = 1 };
	}
	r->counters.unlisted_keys = r->counters.early = 0;
	return take_named(r, VF_T_META, take_setting, err);
}

static int count_unlisted(struct repair *r, struct vf_err *err)
{
	struct vf_span key, value;
	struct vf_scan *scan = NULL;
	struct vf_record_row row;
	int rc = vf_scan_open(r->to, VF_T_RECORDS, vf_span(NULL, 0), &scan, err);

	while (rc == 0 && (rc = vf_scan_step(scan, &key, &value, err)) == 0)
		if ((rc = vf_record_row_decode(value, &row, err)) == 0)
			r->counters.unlisted_keys += vf_key_unlisted(row.key);
	vf_scan_close(&scan);
	return rc < 0 ? rc : 0;
}

static int put_format(struct repair *r, struct vf_err *err)
{
	uint8_t version[4];

	vf_store_u32(version, VF_FORMAT_VERSION);
	return vf_put(r->to, VF_T_META, vf_span_str(VF_META_FORMAT), vf_span(version, sizeof version), err);
}

static int copy(struct repair *r, struct vf_err *err)
{
	int rc;

	if ((rc = vf_txn_read(r->old, &r->from, err)) || (rc = begin_batch(r, err)) || (rc = take_settings(r, err)) ||
	    (rc = put_format(r, err)) || (rc = take_records(r, err)) || (rc = take_named(r, VF_T_QUESTIONS, take_question, err)) ||
	    (rc = take_named(r, VF_T_KEYS, miss_key, err)) || (rc = count_unlisted(r, err)) || (rc = vf_counters_put(r->to, &r->counters, err)))
		return rc;
	return end_batch(r, err);
}

static int write_anew(struct repair *r, const char *dir, const char *new_dir, struct vf_err *err)
{
	int rc = vf_store_mend_head(dir, r->report, r->ctx, err);

	if (rc > 0)
		r->lost++;
	if (rc >= 0 && (rc = vf_store_open(dir, false, true, &r->old, err)) == 0 &&
	    (rc = vf_store_open(new_dir, true, false, &r->new, err)) == 0)
		rc = copy(r, err);
	vf_postings_change_free(&r->postings);
	vf_txn_end(&r->from);
	vf_txn_end(&r->to);
	vf_store_close(&r->old);
	vf_store_close(&r->new);
	vf_config_free(&r->config);
	vf_buf_free(&r->row);
	return rc;
}

enum { NEW_DIR, NEW_DATA, NEW_LOCK, DATA, KEPT, PATHS };
static const char *const names[PATHS] = { VF_REPAIR_DIR, VF_REPAIR_DIR "/data.mdb", VF_REPAIR_DIR "/lock.mdb", "data.mdb", KEPT_FILE };

#define KEPT_MAX 1000u

/* A link: there is no moment without a file. Beside what an earlier repair has kept. */
static int keep_damaged(struct repair *r, const char *data, const char *kept, struct vf_err *err)
{
	char name[PATH_MAX];

	for (unsigned i = 0; i < KEPT_MAX; i++) {
		if (snprintf(name, sizeof name, i ? "%s.%u" : "%s", kept, i) >= (int)sizeof name)
			return vf_fail(err, ENAMETOOLONG, "the path of the store is too long: %s", kept);
		if (link(data, name) == 0) {
			tell(r, "the damaged file is kept as %s", name);
			return 0;
		}
		if (errno != EEXIST)
			break;
	}
	return vf_fail(err, errno, "cannot keep the damaged file as %s: %s", name, strerror(errno));
}

static int64_t repair(struct repair *r, const char *dir, char *const path[PATHS], struct vf_err *err)
{
	const char *new_dir = path[NEW_DIR], *new_data = path[NEW_DATA], *data = path[DATA], *kept = path[KEPT];
	int rc;

	/* What an interrupted run left behind. */
	unlink(new_data);
	if (mkdir(new_dir, 0700) && errno != EEXIST)
		return vf_fail(err, errno, "cannot create %s: %s", new_dir, strerror(errno));
	if ((rc = write_anew(r, dir, new_dir, err)) == 0 && r->lost)
		rc = keep_damaged(r, data, kept, err);
	if (rc == 0)
		rc = vf_data_swap(new_data, data, dir, err);
	unlink(new_data);
	unlink(path[NEW_LOCK]);
	rmdir(new_dir);
	return rc ? rc : (int64_t)r->lost;
}

int64_t vf_index_repair(const char *dir, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err)
{
	struct repair r = { .report = report, .ctx = ctx, .row = VF_BUF_INIT };
	char *path[PATHS] = { NULL };
	int64_t lost = 0;

	vf_config_init(&r.config);
	for (int i = 0; lost == 0 && i < PATHS; i++)
		if (asprintf(&path[i], "%s/%s", dir, names[i]) < 0) {
			path[i] = NULL;
			lost = vf_oom(err);
		}
	if (lost == 0)
		lost = repair(&r, dir, path, err);
	for (int i = 0; i < PATHS; i++)
		free(path[i]);
	return lost;
}
