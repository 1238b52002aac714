/* SPDX-License-Identifier: MIT */
/* audit.c - every invariant of an index on disk, of a directory that nobody has open. Says what, where and the bound; changes
 * nothing.
 *
 * Postings are compared with what the records say by a sum of hashes over all (term, slot) pairs, which costs no memory; only
 * when the sums differ are they counted term by term, to say which. */
#include <errno.h>
#include <roaring/roaring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "early.h"
#include "change.h"
#include "keeper.h"

#define TERMS_REPORTED_MAX 20u

struct audit {
	struct vf_store *store;
	struct vf_txn *txn;
	struct vf_config config;
	struct vf_counters counters;
	struct vf_early_rows early;
	struct vf_arena arena;
	void (*report)(void *ctx, const char *text);
	void *ctx;
	int64_t findings;
	uint64_t *inos;                    /* of all records and saved questions */
	size_t ninos, cap;
	uint64_t keys, records, unlisted;
	float *vector;                     /* one, aligned */
	uint32_t slot;                     /* of the record whose terms are being summed */
	struct term_sums *sums;            /* NULL while only the whole is summed */
	uint64_t pairs, pair_sum;
};

static void find_fault(struct audit *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void find_fault(struct audit *a, const char *fmt, ...)
{
	char text[2 * VF_ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	a->findings++;
	a->report(a->ctx, text);
}

/* A failure that is a fault of the store is a finding, any other ends the audit. */
static int judge(struct audit *a, int rc, const struct vf_err *why, const char *what, struct vf_err *err)
{
	if (rc >= 0)
		return 0;
	if (rc != -EIO && rc != -EINVAL && rc != -EFBIG) {
		*err = *why;
		return rc;
	}
	find_fault(a, "%s: %s", what, why->text);
	return 0;
}

static int note_ino(struct audit *a, uint64_t ino, const char *what, struct vf_err *err)
{
	if (ino < VF_INO_FIRST || ino >= a->counters.next_ino)
		find_fault(a, "%s: inode number %llu is not in [%u, %llu)", what, (unsigned long long)ino, VF_INO_FIRST,
		           (unsigned long long)a->counters.next_ino);
	if (a->ninos == a->cap) {
		size_t cap = a->cap ? 2 * a->cap : 1024;
		uint64_t *inos = realloc(a->inos, cap * sizeof *inos);
		if (!inos)
			return vf_oom(err);
		a->inos = inos;
		a->cap = cap;
	}
	a->inos[a->ninos++] = ino;
	return 0;
}

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void check_inos(struct audit *a)
{
	if (a->ninos)
		qsort(a->inos, a->ninos, sizeof *a->inos, compare_u64);
	for (size_t i = 1; i < a->ninos; i++)
		if (a->inos[i] == a->inos[i - 1])
			find_fault(a, "inode number %llu is given twice", (unsigned long long)a->inos[i]);
}

/* ---- every row of a table ---- */

static int each_row(struct audit *a, enum vf_table table,
                    int (*check)(struct audit *a, struct vf_span key, struct vf_span value, struct vf_err *err),
                    struct vf_err *err)
{
	struct vf_scan *scan = NULL;
	struct vf_span key, value;
	int rc = vf_scan_open(a->txn, table, vf_span(NULL, 0), &scan, err);

	while (rc == 0 && (rc = vf_scan_step(scan, &key, &value, err)) == 0)
		rc = check(a, key, value, err);
	vf_scan_close(&scan);
	return rc < 0 ? rc : 0;
}

static int check_key(struct audit *a, struct vf_span name, struct vf_span value, struct vf_err *err)
{
	uint8_t right_name[VF_KEY_ROW_HEAD + 16];
	struct vf_err why = VF_ERR_INIT;
	struct vf_key_row row;
	struct vf_record_row record;
	char what[240];

	a->keys++;
	snprintf(what, sizeof what, "key %.*s", VF_SPAN_ARG(name));
	int rc = vf_key_row_decode(value, &row, &why);
	if (rc == 0 && (rc = vf_row_of_serial(a->txn, row.serial, &record, &why)) == 1)
		rc = vf_fail(&why, EIO, "its record, serial %llu, is missing", (unsigned long long)row.serial);
	if (rc)
		return judge(a, rc, &why, what, err);
	if (!vf_span_equal(vf_key_row_name(record.key, right_name), name))
		find_fault(a, "%s: the record with its serial %llu has the key %.*s", what, (unsigned long long)row.serial,
		           VF_SPAN_ARG(record.key));
	if (record.ino != row.ino)
		find_fault(a, "%s: inode number %llu, its record has %llu", what, (unsigned long long)row.ino, (unsigned long long)record.ino);
	a->unlisted += vf_key_unlisted(record.key);
	return note_ino(a, row.ino, what, err);
}

static int check_slot_of(struct audit *a, uint64_t serial, const struct vf_record_row *row, const char *what, struct vf_err *err)
{
	struct vf_span value;
	int rc = vf_get_u64(a->txn, VF_T_SLOTS, row->slot, &value, err);

	if (rc < 0)
		return rc;
	if (rc || value.len != 8)
		find_fault(a, "%s: its slot %u has no serial", what, row->slot);
	else if (vf_load_u64(value.data) != serial)
		find_fault(a, "%s: its slot %u belongs to serial %llu, not to its own %llu", what, row->slot,
		           (unsigned long long)vf_load_u64(value.data), (unsigned long long)serial);
	return 0;
}

static int check_content(struct audit *a, uint64_t serial, const struct vf_record_row *row, const char *what, struct vf_err *err)
{
	struct vf_record record = { .key = row->key, .vector = a->vector, .dim = row->dim, .metadata = row->metadata };
	struct vf_err why = VF_ERR_INIT;
	struct vf_span vector;
	int rc;

	if (row->dim != a->config.dim) {
		find_fault(a, "%s: vector has %u numbers, the config says %u", what, row->dim, a->config.dim);
		return 0;
	}
	rc = vf_vector_checked(a->txn, serial, row, &vector, &why);
	if (rc == 0) {
		memcpy(a->vector, vector.data, vector.len);
		rc = vf_record_check(&record, &a->config, "on disk", &why);
	}
	/* A field that became filterable later may hold longer values than it could be given now. */
	return rc == -EFBIG ? 0 : judge(a, rc, &why, what, err);
}

static int check_record(struct audit *a, struct vf_span key, struct vf_span value, struct vf_err *err)
{
	uint64_t serial = vf_load_u64(key.data);
	struct vf_err why = VF_ERR_INIT;
	struct vf_key_row key_row;
	struct vf_record_row row;
	char what[260];
	int rc;

	a->records++;
	snprintf(what, sizeof what, "record with serial %llu", (unsigned long long)serial);
	if ((rc = vf_record_row_decode(value, &row, &why)))
		return judge(a, rc, &why, what, err);
	snprintf(what, sizeof what, "record %.*s", VF_SPAN_ARG(row.key));
	rc = vf_row_of_key(a->txn, row.key, &key_row, &why);
	if (rc < 0)
		return judge(a, rc, &why, what, err);
	if (rc || key_row.serial != serial)
		find_fault(a, "%s: serial %llu, but the key leads to %s", what, (unsigned long long)serial, rc ? "none" : "another");
	if (serial >= a->counters.next_serial)
		find_fault(a, "%s: serial %llu was not given yet, the next is %llu", what, (unsigned long long)serial,
		           (unsigned long long)a->counters.next_serial);
	if (row.version >= a->counters.next_version)
		find_fault(a, "%s: version %llu was not given yet, the next is %llu", what, (unsigned long long)row.version,
		           (unsigned long long)a->counters.next_version);
	if ((rc = check_slot_of(a, serial, &row, what, err)))
		return rc;
	return check_content(a, serial, &row, what, err);
}

static int check_vector_row(struct audit *a, struct vf_span key, struct vf_span value, struct vf_err *err)
{
	struct vf_span record;
	int rc = vf_get(a->txn, VF_T_RECORDS, key, &record, err);

	if (rc == 1 && !vf_early_has(&a->early, vf_load_u64(key.data)))
		find_fault(a, "vector with serial %llu, %zu bytes: there is no such record", (unsigned long long)vf_load_u64(key.data),
		           value.len);
	return rc < 0 ? rc : 0;
}

static int check_slot_row(struct audit *a, struct vf_span key, struct vf_span value, struct vf_err *err)
{
	uint64_t slot = vf_load_u64(key.data);
	struct vf_span record;

	if (slot >= VF_SLOTS_MAX)
		find_fault(a, "slot %llu is past the largest, %u", (unsigned long long)slot, VF_SLOTS_MAX - 1);
	if (value.len != 8) {
		find_fault(a, "slot %llu: its row has %zu bytes instead of 8", (unsigned long long)slot, value.len);
		return 0;
	}
	int rc = vf_get(a->txn, VF_T_RECORDS, value, &record, err);
	if (rc == 1)
		find_fault(a, "slot %llu: there is no record with its serial %llu", (unsigned long long)slot,
		           (unsigned long long)vf_load_u64(value.data));
	return rc < 0 ? rc : 0;
}

static int check_saved(struct audit *a, struct vf_span name, struct vf_span value, struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;
	char what[300];
	uint64_t ino;

	snprintf(what, sizeof what, "saved question %.*s", VF_SPAN_ARG(name));
	int rc = vf_saved_row_check(value, &ino, &why);
	return rc ? judge(a, rc, &why, what, err) : note_ino(a, ino, what, err);
}

/* ---- postings ---- */

struct term_sum { uint64_t term, pairs, sum; };    /* term: its hash, 0 empty */
struct term_sums { struct term_sum *rows; size_t size, used; };

static uint64_t pair_hash(uint64_t term_hash, uint32_t slot)
{
	uint64_t pair[2] = { term_hash, slot };

	return XXH3_64bits(pair, sizeof pair);
}

static struct term_sum *sum_of(struct term_sums *sums, uint64_t term)
{
	size_t at = term & (sums->size - 1);

	while (sums->rows[at].term && sums->rows[at].term != term)
		at = (at + 1) & (sums->size - 1);
	return &sums->rows[at];
}

static int grow_sums(struct term_sums *sums, struct vf_err *err)
{
	struct term_sums larger = { .size = sums->size ? 2 * sums->size : 1024, .used = sums->used };

	larger.rows = calloc(larger.size, sizeof *larger.rows);
	if (!larger.rows)
		return vf_oom(err);
	for (size_t i = 0; i < sums->size; i++)
		if (sums->rows[i].term)
			*sum_of(&larger, sums->rows[i].term) = sums->rows[i];
	free(sums->rows);
	*sums = larger;
	return 0;
}

static uint64_t hash_of(struct vf_span term)
{
	uint64_t hash = XXH3_64bits(term.data, term.len);

	return hash ? hash : 1;
}

/* One pair that a record asks for. */
static int add_pair(void *ctx, struct vf_span term, struct vf_err *err)
{
	struct audit *a = ctx;
	uint64_t hash = hash_of(term), pair = pair_hash(hash, a->slot);

	a->pairs++;
	a->pair_sum += pair;
	if (!a->sums)
		return 0;
	if (2 * a->sums->used >= a->sums->size) {
		int rc = grow_sums(a->sums, err);
		if (rc)
			return rc;
	}
	struct term_sum *sum = sum_of(a->sums, hash);
	a->sums->used += sum->term == 0;
	sum->term = hash;
	sum->pairs++;
	sum->sum += pair;
	return 0;
}

/* A record that cannot be read was reported before. */
static int add_record_pairs(struct audit *a, struct vf_span key, struct vf_span value, struct vf_err *err)
{
	struct vf_field_rule rule = vf_config_rule(&a->config);
	struct vf_err why = VF_ERR_INIT;
	struct vf_record_row row;
	struct vf_value metadata;

	(void)key;
	vf_arena_reset(&a->arena);
	if (vf_record_row_decode(value, &row, &why))
		return 0;
	int rc = vf_metadata_decode(row.metadata, &a->arena, &metadata, &why);
	if (rc)
		return judge(a, rc, &why, "metadata of a record", err);
	a->slot = row.slot;
	return vf_terms_of(&metadata, &rule, add_pair, a, err);
}

struct stored_pairs { struct audit *audit; uint64_t pairs, sum; unsigned reported; };

static bool add_stored_pair(uint32_t slot, void *ctx)
{
	struct term_sum *sum = ctx;

	sum->pairs++;
	sum->sum += pair_hash(sum->term, slot);
	return true;
}

static void term_text(struct vf_span term, char out[200])
{
	size_t n = 0;

	for (size_t i = 0; i < term.len && n + 5 < 200; i++) {
		bool plain = term.data[i] >= 0x20 && term.data[i] < 0x7f;
		n += (size_t)snprintf(out + n, 200 - n, plain ? "%c" : "\\x%02x", term.data[i]);
	}
	out[n] = '\0';
}

static void compare_term(struct stored_pairs *s, struct vf_span term, const struct term_sum *stored)
{
	struct term_sum *said = s->audit->sums->size ? sum_of(s->audit->sums, stored->term) : NULL;
	uint64_t pairs = said && said->term ? said->pairs : 0;
	char text[200];

	if (pairs == stored->pairs && (pairs == 0 || said->sum == stored->sum)) {
		if (pairs)
			said->pairs = 0;
		return;
	}
	if (said && said->term)
		said->pairs = 0;
	term_text(term, text);
	if (s->reported++ < TERMS_REPORTED_MAX)
		find_fault(s->audit, "filter term %s: %llu slots are listed, the records say %llu%s", text, (unsigned long long)stored->pairs,
		           (unsigned long long)pairs, pairs == stored->pairs ? " others" : "");
}

static int add_term(void *ctx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err)
{
	struct stored_pairs *s = ctx;
	struct term_sum sum = { .term = hash_of(term) };

	(void)err;
	roaring_iterate(slots, add_stored_pair, &sum);
	s->pairs += sum.pairs;
	s->sum += sum.sum;
	if (s->audit->sums)
		compare_term(s, term, &sum);
	return 0;
}

static int sum_postings(struct audit *a, struct stored_pairs *s, struct vf_err *err)
{
	struct vf_postings_reader reader;
	int rc;

	a->pairs = a->pair_sum = 0;
	if ((rc = each_row(a, VF_T_RECORDS, add_record_pairs, err)))
		return rc;
	*s = (struct stored_pairs){ .audit = a };
	vf_postings_reader_init(&reader, a->txn);
	return reader.source.each(reader.source.ctx, vf_span(NULL, 0), vf_span(NULL, 0), add_term, s, err);
}

static int check_postings(struct audit *a, struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;
	struct term_sums sums = { NULL, 0, 0 };
	struct stored_pairs stored;
	int rc = sum_postings(a, &stored, &why);

	if (rc || (stored.pairs == a->pairs && stored.sum == a->pair_sum))
		return judge(a, rc, &why, "filter terms", err);
	a->sums = &sums;
	rc = sum_postings(a, &stored, &why);
	uint64_t missing = 0;
	for (size_t i = 0; rc == 0 && i < sums.size; i++)
		missing += sums.rows[i].pairs != 0;
	if (missing)
		find_fault(a, "%llu filter terms of the records are not listed at all", (unsigned long long)missing);
	if (stored.reported > TERMS_REPORTED_MAX)
		find_fault(a, "%u more filter terms differ from what the records say", stored.reported - TERMS_REPORTED_MAX);
	free(sums.rows);
	a->sums = NULL;
	return judge(a, rc, &why, "filter terms", err);
}

/* ---- the graph ---- */

static int check_chunk(struct audit *a, enum vf_table table, struct vf_span key, struct vf_span value)
{
	struct vf_span bytes;

	if (vf_chunk_open(value, &bytes))
		find_fault(a, "%s of chunk %llu, %zu bytes: the checksum does not hold", table == VF_T_CODES ? "codes" : "links",
		           (unsigned long long)vf_load_u64(key.data), value.len);
	return 0;
}

static int check_codes(struct audit *a, struct vf_span key, struct vf_span value, struct vf_err *err)
{
	(void)err;
	return check_chunk(a, VF_T_CODES, key, value);
}

static int check_links(struct audit *a, struct vf_span key, struct vf_span value, struct vf_err *err)
{
	(void)err;
	return check_chunk(a, VF_T_LINKS, key, value);
}

static void report_graph(void *ctx, const char *text)
{
	struct audit *a = ctx;

	find_fault(a, "graph: %s", text);
}

/* Loaded as a mount would load it, then looked through. */
static int check_graph(struct audit *a, const char *dir, struct vf_err *err)
{
	struct vf_index_options options = { .bucket = "", .name = "audit", .read_only = true };
	struct vf_index *index = NULL;
	struct vf_graph *graph = NULL;
	struct vf_err why = VF_ERR_INIT;
	int rc = vf_index_open(dir, &options, &index, &why);

	if (rc == 0 && (rc = vf_graph_hold(index, &graph, &why)) == 0) {
		if (graph)
			rc = vf_graph_audit(graph, report_graph, a, &why) < 0 ? -why.code : 0;
		vf_graph_release(index);
	}
	vf_index_close(&index);
	return judge(a, rc, &why, "graph", err);
}

/* ---- all of it ---- */

static int check_meta(struct audit *a, bool *readable, struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;
	int rc;

	*readable = false;
	if ((rc = vf_format_check(a->txn, &why)) == -EINVAL) {
		*err = why;
		return rc;
	}
	if (rc || (rc = vf_config_of_txn(a->txn, &a->config, &why)) || (rc = vf_counters_get(a->txn, &a->counters, &why)) ||
	    (rc = vf_early_load(a->txn, &a->early, &why)))
		return judge(a, rc, &why, "meta table", err);
	a->vector = malloc((a->config.dim + 1) * sizeof(float));
	*readable = true;
	return a->vector ? 0 : vf_oom(err);
}

static int check_tables(struct audit *a, struct vf_err *err)
{
	int rc;

	if ((rc = each_row(a, VF_T_KEYS, check_key, err)) || (rc = each_row(a, VF_T_RECORDS, check_record, err)) ||
	    (rc = each_row(a, VF_T_VECTORS, check_vector_row, err)) || (rc = each_row(a, VF_T_SLOTS, check_slot_row, err)) ||
	    (rc = each_row(a, VF_T_QUESTIONS, check_saved, err)) || (rc = check_postings(a, err)) ||
	    (rc = each_row(a, VF_T_CODES, check_codes, err)))
		return rc;
	return each_row(a, VF_T_LINKS, check_links, err);
}

static void check_totals(struct audit *a)
{
	if (a->keys != a->records)
		find_fault(a, "%llu keys lead to %llu records", (unsigned long long)a->keys, (unsigned long long)a->records);
	if (a->unlisted != a->counters.unlisted_keys)
		find_fault(a, "%llu keys are too long to be listed, the counter says %llu", (unsigned long long)a->unlisted,
		           (unsigned long long)a->counters.unlisted_keys);
	check_inos(a);
}

static void report_pages(void *ctx, const char *text)
{
	find_fault(ctx, "%s", text);
}

static int audit_store(struct audit *a, bool *readable, struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;
	int rc;

	/* Rows are looked at all the same: what can be read of them says more. */
	if ((rc = judge(a, vf_store_check_pages(a->store, report_pages, a, &why) < 0 ? -why.code : 0, &why, "pages", err)))
		return rc;
	if ((rc = vf_txn_read(a->store, &a->txn, err)) || (rc = check_meta(a, readable, err)) || !*readable)
		return rc;
	/* A page that LMDB cannot make sense of ends the walk; that is a finding as well. */
	if ((rc = judge(a, check_tables(a, &why), &why, "tables", err)) == 0)
		check_totals(a);
	return rc;
}

int64_t vf_index_audit(const char *dir, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err)
{
	struct audit a = { .arena = VF_ARENA_INIT, .report = report, .ctx = ctx };
	bool readable = false;
	int rc;

	vf_config_init(&a.config);
	if ((rc = vf_store_open(dir, false, true, &a.store, err)) == 0)
		rc = audit_store(&a, &readable, err);
	vf_txn_end(&a.txn);
	vf_store_close(&a.store);
	if (rc == 0 && readable)
		rc = check_graph(&a, dir, err);
	vf_config_free(&a.config);
	vf_arena_free(&a.arena);
	free(a.inos);
	free(a.early.at);
	free(a.vector);
	return rc ? rc : a.findings;
}
