/* SPDX-License-Identifier: MIT */
/* change.c - the steps of a change: rows put and deleted, terms gathered, slots taken. Spans that came from the transaction die
 * at the next put, so each step first gathers what it needs of the old record and then puts. */
#include "change.h"

#include <errno.h>
#include <stdlib.h>

bool vf_key_unlisted(struct vf_span key)
{
	size_t len = strlen(".msgpack");

	for (size_t i = 0; i < key.len; i++) {
		uint8_t c = key.data[i];
		bool escaped = c == '/' || c == '%' || c < 0x20 || c == 0x7f || (i == 0 && c == '.');
		len += escaped ? 3 : 1;
	}
	return len > VF_FILE_NAME_BYTES_MAX;
}

/* ---- small steps ---- */

#define TERMS_BYTES_MAX (32u << 20)

/* Terms are gathered, so that a row of postings is written once for all records; but not without bound. Nothing that the
 * transaction lent may be needed afterwards. */
static int relieve(struct vf_change *change, struct vf_err *err)
{
	return vf_postings_change_bytes(change->postings) < TERMS_BYTES_MAX ? 0 : vf_postings_write(change->postings, change->txn, err);
}

struct found {
	struct vf_key_row key_row;
	struct vf_record_row record;   /* lent by the transaction */
};

/* 0, 1 not there. */
static int look_up(struct vf_change *change, struct vf_span key, struct found *out, struct vf_err *err)
{
	return vf_record_of_key(change->txn, key, &out->key_row, &out->record, err);
}

static int room_for_effect(struct vf_change *change, struct vf_err *err)
{
	if (change->neffects < change->cap)
		return 0;
	size_t cap = change->cap ? 2 * change->cap : 4;
	struct vf_effect *effects = realloc(change->effects, cap * sizeof *effects);
	if (!effects)
		return vf_oom(err);
	change->effects = effects;
	change->cap = cap;
	return 0;
}

static int take_slot(struct vf_change *change, uint64_t serial, const float *vector, uint32_t *slot, struct vf_err *err)
{
	int rc = room_for_effect(change, err);

	if (rc || (rc = vf_graph_slot_take(change->index->graph, slot, err)))
		return rc;
	change->effects[change->neffects++] = (struct vf_effect){ .add = true, .slot = *slot, .serial = serial, .vector = vector };
	return 0;
}

static int leave_slot(struct vf_change *change, uint32_t slot, struct vf_err *err)
{
	int rc = room_for_effect(change, err);

	if (rc)
		return rc;
	change->effects[change->neffects++] = (struct vf_effect){ .add = false, .slot = slot };
	return 0;
}

static int put_key_row(struct vf_change *change, struct vf_span key, const struct vf_key_row *row, struct vf_err *err)
{
	uint8_t name[VF_KEY_ROW_HEAD + 16], bytes[16];

	vf_key_row_encode(row, bytes);
	return vf_put(change->txn, VF_T_KEYS, vf_key_row_name(key, name), vf_span(bytes, sizeof bytes), err);
}

static int delete_key_row(struct vf_change *change, struct vf_span key, struct vf_err *err)
{
	uint8_t name[VF_KEY_ROW_HEAD + 16];
	int rc = vf_del(change->txn, VF_T_KEYS, vf_key_row_name(key, name), err);

	return rc < 0 ? rc : 0;
}

static int put_record_row(struct vf_change *change, uint64_t serial, const struct vf_record_row *row, bool append,
                          struct vf_err *err)
{
	void *p;
	int rc = vf_reserve_u64(change->txn, VF_T_RECORDS, serial, vf_record_row_size(row), append, &p, err);

	if (rc == 0)
		vf_record_row_encode(row, p);
	return rc;
}

/* Deletes everything of a record but its key row. */
static int take_away(struct vf_change *change, const struct found *old, struct vf_err *err)
{
	uint64_t serial = old->key_row.serial;
	uint32_t slot = old->record.slot;
	int rc;

	if ((rc = vf_postings_remove_record(change->postings, old->record.metadata, &change->settings->config, slot, err)) ||
	    (rc = leave_slot(change, slot, err)) || (rc = vf_del_u64(change->txn, VF_T_RECORDS, serial, err)) < 0 ||
	    (rc = vf_del_u64(change->txn, VF_T_VECTORS, serial, err)) < 0 || (rc = vf_del_u64(change->txn, VF_T_SLOTS, slot, err)) < 0)
		return rc;
	return 0;
}

/* ---- put ---- */

static int put_vector_row(struct vf_change *change, uint64_t serial, const struct vf_put *put, struct vf_err *err)
{
	size_t bytes = (size_t)put->dim * sizeof(float);
	void *p;
	int rc = vf_reserve_u64(change->txn, VF_T_VECTORS, serial, bytes, true, &p, err);

	if (rc == 0)
		memcpy(p, put->vector, bytes);
	return rc;
}

static int put_slot_row(struct vf_change *change, uint64_t serial, uint32_t slot, struct vf_err *err)
{
	uint8_t bytes[8];

	vf_store_u64(bytes, serial);
	return vf_put_u64(change->txn, VF_T_SLOTS, slot, vf_span(bytes, sizeof bytes), err);
}

/* Of a vector that was on disk before its record: others may have put records under larger serials meanwhile. */
static int comes_last(struct vf_change *change, uint64_t serial, bool *last, struct vf_err *err)
{
	int rc = change->last_record ? 0 : vf_last_u64(change->txn, VF_T_RECORDS, &change->last_record, err);

	*last = serial > change->last_record;
	if (*last)
		change->last_record = serial;
	return rc < 0 ? rc : 0;
}

int vf_change_drop(struct vf_change *change, const struct vf_put *put, struct vf_err *err)
{
	if (!put->serial)
		return 0;
	change->unused++;
	int rc = vf_del_u64(change->txn, VF_T_VECTORS, put->serial, err);
	return rc < 0 ? rc : 0;
}

/* A new vector, under a new serial and in a new slot. `ino` is kept when a record is replaced. */
static int insert(struct vf_change *change, const struct vf_put *put, uint64_t ino, struct vf_err *err)
{
	bool early = put->serial != 0, append = true;
	struct vf_key_row key_row = { .serial = early ? put->serial : change->counters.next_serial++, .ino = ino };
	struct vf_record_row row = {
		.vector_sum = put->vector_sum, .ino = ino, .version = change->counters.next_version++,
		.mtime_ns = put->mtime_ns ? put->mtime_ns : change->now_ns, .ctime_ns = change->now_ns,
		.dim = put->dim, .key = put->key, .metadata = put->metadata,
	};
	int rc = early ? comes_last(change, put->serial, &append, err) : 0;

	change->moved = true;
	if (rc || (rc = take_slot(change, key_row.serial, put->vector, &row.slot, err)) ||
	    (rc = vf_postings_add_record(change->postings, put->metadata, &change->settings->config, row.slot, err)) ||
	    (rc = put_record_row(change, key_row.serial, &row, append, err)) ||
	    (!early && (rc = put_vector_row(change, key_row.serial, put, err))) ||
	    (rc = put_slot_row(change, key_row.serial, row.slot, err)))
		return rc;
	return put_key_row(change, put->key, &key_row, err);
}

/* The vector stays, with its serial, its slot and its links. `key` and `metadata` are not the transaction's. The version names
 * the bytes of the record: it stays when they do. */
static int rewrite(struct vf_change *change, const struct found *old, struct vf_span key, struct vf_span metadata,
                   int64_t mtime_ns, struct vf_err *err)
{
	struct vf_record_row row = old->record;
	bool same_metadata = vf_span_equal(old->record.metadata, metadata);
	const struct vf_config *config = &change->settings->config;
	int rc;

	if (!same_metadata && ((rc = vf_postings_remove_record(change->postings, old->record.metadata, config, row.slot, err)) ||
	                       (rc = vf_postings_add_record(change->postings, metadata, config, row.slot, err))))
		return rc;
	if (!same_metadata || !vf_span_equal(old->record.key, key)) {
		row.version = change->counters.next_version++;
		change->moved = true;
	}
	row.key = key;
	row.metadata = metadata;
	row.mtime_ns = mtime_ns;
	row.ctime_ns = change->now_ns;
	return put_record_row(change, old->key_row.serial, &row, false, err);
}

/* 1 when the stored vector has the same bits, 0 when not. */
static int same_vector(struct vf_change *change, const struct found *old, const struct vf_put *put, struct vf_err *err)
{
	struct vf_span stored, given = vf_span(put->vector, put->dim * sizeof(float));
	int rc;

	if (old->record.dim != put->dim || old->record.vector_sum != put->vector_sum)
		return 0;
	if ((rc = vf_vector_of_serial(change->txn, old->key_row.serial, put->dim, &stored, err)) ||
	    (put->serial && (rc = vf_vector_of_serial(change->txn, put->serial, put->dim, &given, err))))
		return rc < 0 ? rc : 0;
	return vf_span_equal(stored, given);
}

static int replace(struct vf_change *change, const struct found *old, const struct vf_put *put, struct vf_err *err)
{
	int rc = same_vector(change, old, put, err);

	if (rc < 0)
		return rc;
	if (rc == 1) {
		rc = rewrite(change, old, put->key, put->metadata, put->mtime_ns ? put->mtime_ns : change->now_ns, err);
		return rc ? rc : vf_change_drop(change, put, err);
	}
	if ((rc = take_away(change, old, err)))
		return rc;
	return insert(change, put, old->key_row.ino, err);
}

int vf_change_put(struct vf_change *change, const struct vf_put *put, enum vf_put_result *result, struct vf_err *err)
{
	struct found old;
	int rc = relieve(change, err);

	if (rc || (rc = look_up(change, put->key, &old, err)) < 0)
		return rc;
	if (rc == 0 && put->if_absent) {
		*result = VF_PUT_SKIPPED;
		return vf_change_drop(change, put, err);
	}
	*result = rc ? VF_PUT_INSERTED : VF_PUT_REPLACED;
	if (rc == 0)
		return replace(change, &old, put, err);
	change->counters.unlisted_keys += vf_key_unlisted(put->key);
	return insert(change, put, change->counters.next_ino++, err);
}

/* ---- remove, update, rekey ---- */

static int remove_found(struct vf_change *change, struct vf_span key, const struct found *old, struct vf_err *err)
{
	int rc = take_away(change, old, err);

	if (rc)
		return rc;
	change->moved = true;
	change->counters.unlisted_keys -= vf_key_unlisted(key);
	return delete_key_row(change, key, err);
}

int vf_change_remove(struct vf_change *change, struct vf_span key, struct vf_err *err)
{
	struct found old;
	int rc;

	if ((rc = relieve(change, err)) || (rc = look_up(change, key, &old, err)))
		return rc;
	return remove_found(change, key, &old, err);
}

static int update_found(struct vf_change *change, struct vf_span key, const struct found *old, const struct vf_update *update,
                        struct vf_err *err)
{
	struct vf_field_rule rule = vf_config_rule(&change->settings->config);
	struct vf_buf metadata = VF_BUF_INIT;
	int rc = vf_update_apply(update, old->record.metadata, &rule, &metadata, err);

	if (rc)
		vf_wrap(err, "record %.*s", VF_SPAN_ARG(key));
	else
		rc = rewrite(change, old, key, vf_buf_span(&metadata), change->now_ns, err);
	vf_buf_free(&metadata);
	return rc;
}

int vf_change_update(struct vf_change *change, struct vf_span key, const struct vf_update *update, struct vf_err *err)
{
	struct found old;
	int rc;

	if ((rc = relieve(change, err)) || (rc = look_up(change, key, &old, err)))
		return rc;
	return update_found(change, key, &old, update, err);
}

/* A copy of metadata that the next put would take away. */
static int keep(struct vf_change *change, struct vf_span *s, struct vf_err *err)
{
	vf_buf_clear(&change->scratch);
	int rc = vf_buf_put(&change->scratch, s->data, s->len, err);

	*s = vf_buf_span(&change->scratch);
	return rc;
}

int vf_change_set_mtime(struct vf_change *change, struct vf_span key, int64_t mtime_ns, struct vf_err *err)
{
	struct found old;
	int rc = look_up(change, key, &old, err);

	if (rc)
		return rc;
	struct vf_span metadata = old.record.metadata;
	if ((rc = keep(change, &metadata, err)))
		return rc;
	return rewrite(change, &old, key, metadata, mtime_ns, err);
}

int vf_change_rekey(struct vf_change *change, struct vf_span from, struct vf_span to, bool replace_to, struct vf_err *err)
{
	struct vf_key_row there;
	struct found old;
	int rc;

	if ((rc = look_up(change, from, &old, err)) || vf_span_equal(from, to))
		return rc;
	rc = vf_row_of_key(change->txn, to, &there, err);
	if (rc == 0 && !replace_to)
		return vf_fail(err, EEXIST, "there is a record %.*s already", VF_SPAN_ARG(to));
	if (rc == 0)
		rc = vf_change_remove(change, to, err);
	/* Looked up again, since the removal may have moved what was lent. */
	if (rc < 0 || (rc = look_up(change, from, &old, err)))
		return rc;
	struct vf_span metadata = old.record.metadata;
	if ((rc = keep(change, &metadata, err)) || (rc = rewrite(change, &old, to, metadata, old.record.mtime_ns, err)) ||
	    (rc = delete_key_row(change, from, err)))
		return rc;
	change->counters.unlisted_keys += vf_key_unlisted(to);
	change->counters.unlisted_keys -= vf_key_unlisted(from);
	return put_key_row(change, to, &old.key_row, err);
}

/* ---- by filter ---- */

static int look_up_slot(struct vf_change *change, uint32_t slot, struct found *out, struct vf_err *err)
{
	struct vf_span bytes;
	int rc = vf_get_u64(change->txn, VF_T_SLOTS, slot, &bytes, err);

	if (rc < 0)
		return rc;
	if (rc || bytes.len != 8)
		return vf_fail(err, EIO, "the filter's postings name slot %u, which has no record", slot);
	out->key_row.serial = vf_load_u64(bytes.data);
	rc = vf_row_of_serial(change->txn, out->key_row.serial, &out->record, err);
	if (rc == 1)
		return vf_fail(err, EIO, "the record in slot %u (serial %llu) is missing", slot, (unsigned long long)out->key_row.serial);
	out->key_row.ino = out->record.ino;
	return rc;
}

/* The matches as words: evaluated whole before the first of them is changed. */
static int matches_of(struct vf_change *change, const struct vf_filter *filter, uint64_t **words, size_t *nwords,
                      struct vf_err *err)
{
	struct vf_postings_reader reader;
	vf_bitmap *matches = NULL;
	struct vf_field_rule rule = vf_config_rule(&change->settings->config);
	int rc;

	/* Under the config of this transaction, not of the moment when the request was written: a field without postings would match what it should not. */
	if ((rc = vf_filter_check_fields(filter, &rule, err)) || (rc = vf_postings_write(change->postings, change->txn, err)))
		return rc;
	vf_postings_reader_init(&reader, change->txn);
	if ((rc = vf_filter_eval(filter, &reader.source, &matches, err)) == 0)
		rc = vf_bitmap_words(matches, words, nwords, err);
	vf_bitmap_free(&matches);
	return rc;
}

/* `update` NULL: removed. */
static int change_slot(struct vf_change *change, uint32_t slot, const struct vf_update *update, struct vf_err *err)
{
	struct found old;
	int rc;

	if ((rc = relieve(change, err)) || (rc = look_up_slot(change, slot, &old, err)))
		return rc;
	struct vf_span key = old.record.key;
	if ((rc = keep(change, &key, err)))
		return rc;
	return update ? update_found(change, key, &old, update, err) : remove_found(change, key, &old, err);
}

static int change_matches(struct vf_change *change, const struct vf_filter *filter, const struct vf_update *update,
                          uint64_t *done, struct vf_err *err)
{
	uint64_t *words = NULL;
	size_t nwords = 0;
	int rc = matches_of(change, filter, &words, &nwords, err);

	for (size_t i = 0; i < nwords && rc == 0; i++)
		for (uint64_t left = words[i]; left && rc == 0; left &= left - 1) {
			rc = change_slot(change, (uint32_t)(64 * i) + (uint32_t)__builtin_ctzll(left), update, err);
			++*done;
		}
	free(words);
	return rc;
}

int vf_change_remove_matches(struct vf_change *change, const struct vf_filter *filter, uint64_t *done, struct vf_err *err)
{
	return change_matches(change, filter, NULL, done, err);
}

int vf_change_update_matches(struct vf_change *change, const struct vf_update *update, uint64_t *done, struct vf_err *err)
{
	return change_matches(change, update->filter, update, done, err);
}

/* ---- all of them ---- */

#define REINDEX_STRIDE 16384u   /* records whose terms are gathered before they are written */

static int reindex_row(struct vf_change *change, struct vf_span bytes, const struct vf_config *from, const struct vf_config *to,
                       struct vf_err *err)
{
	struct vf_record_row row;
	int rc;

	if ((rc = vf_record_row_decode(bytes, &row, err)))
		return rc;
	/* What becomes filterable has to be short enough for it: a record that is read can be written back. */
	if ((rc = vf_metadata_check(row.metadata, to, err)))
		return vf_wrap(err, "record %.*s", VF_SPAN_ARG(row.key));
	if ((rc = vf_postings_remove_record(change->postings, row.metadata, from, row.slot, err)))
		return rc;
	return vf_postings_add_record(change->postings, row.metadata, to, row.slot, err);
}

/* Gathers from *serial on; 1 when it came to the end, 0 when there is more from *serial on. */
static int reindex_stride(struct vf_change *change, uint64_t *serial, const struct vf_config *from, const struct vf_config *to,
                          struct vf_err *err)
{
	struct vf_scan *scan = NULL;
	struct vf_span key, bytes;
	int rc = vf_scan_open_u64(change->txn, VF_T_RECORDS, *serial, &scan, err);

	for (unsigned i = 0; i < REINDEX_STRIDE && rc == 0 && vf_postings_change_bytes(change->postings) < TERMS_BYTES_MAX; i++) {
		if ((rc = vf_scan_step(scan, &key, &bytes, err)))
			break;
		*serial = vf_load_u64(key.data) + 1;
		rc = reindex_row(change, bytes, from, to, err);
	}
	vf_scan_close(&scan);
	return rc;
}

int vf_change_reindex(struct vf_change *change, const struct vf_config *from, const struct vf_config *to, struct vf_err *err)
{
	uint64_t serial = 0;
	int more;

	while ((more = reindex_stride(change, &serial, from, to, err)) == 0) {
		int rc = vf_postings_write(change->postings, change->txn, err);
		if (rc)
			return rc;
	}
	return more < 0 ? more : 0;
}
