/* SPDX-License-Identifier: MIT */
/* Postings on disk, against sets kept in plain memory and against a reading of every record. */
#include <dirent.h>
#include <roaring/roaring.h>
#include <unistd.h>

#include "../src/index/index_internal.h"
#include "../src/index/posting_row.h"
#include "filter_kit.h"
#include "vecfs/record.h"

/* ---- a store of its own for each test ---- */

struct place {
	char dir[64];
	struct vf_store *store;
};

static void begin(struct place *p)
{
	struct vf_err err = VF_ERR_INIT;

	snprintf(p->dir, sizeof p->dir, "/tmp/vecfs-check-postings-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(p->dir));
	ck_ok(vf_store_open(p->dir, true, false, &p->store, &err));
}

static void end(struct place *p)
{
	vf_store_close(&p->store);
	DIR *dir = opendir(p->dir);
	for (struct dirent *entry; (entry = readdir(dir));)
		if (entry->d_name[0] != '.')
			ck_assert_int_eq(unlinkat(dirfd(dir), entry->d_name, 0), 0);
	closedir(dir);
	ck_assert_int_eq(rmdir(p->dir), 0);
}

static struct vf_txn *write_txn(struct place *p)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_txn *txn = NULL;

	ck_ok(vf_txn_write(p->store, &txn, &err));
	return txn;
}

static void commit(struct vf_txn *txn)
{
	struct vf_err err = VF_ERR_INIT;

	ck_ok(vf_txn_commit(&txn, &err));
}

/* ---- random changes against plain sets ---- */

enum { TERMS = 60, SLOTS = 200000 };

/* Of one length, so that none begins another; many share their first eight bytes. */
static struct vf_span term_named(unsigned i, char out[32])
{
	snprintf(out, 32, "%c-long-name-of-a-field-%c%03u", i % 3 ? 'f' : 'g', i % 7 ? 'x' : 'y', i);
	return vf_span(out, strlen(out));
}

struct model { roaring_bitmap_t *sets[TERMS]; };

/* Which sets there are to compare, and that they come in order. */
struct comparing { struct model *model; unsigned seen; struct one { char bytes[32]; size_t len; } last; };

static int compare_with_model(void *ctx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err)
{
	struct comparing *c = ctx;
	unsigned i = (unsigned)strtoul((const char *)term.data + term.len - 3, NULL, 10);
	char name[32];

	(void)err;
	ck_assert_uint_lt(i, TERMS);
	ck_assert(vf_span_equal(term_named(i, name), term));
	ck_assert(c->last.len == 0 || vf_span_compare(vf_span(c->last.bytes, c->last.len), term) < 0);
	memcpy(c->last.bytes, term.data, term.len);
	c->last.len = term.len;
	ck_assert_msg(roaring_bitmap_equals(slots, c->model->sets[i]), "term %u", i);
	c->seen++;
	return 0;
}

static void compare(struct place *p, struct model *model)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_postings_reader reader;
	struct comparing comparing = { .model = model };
	struct vf_txn *txn = NULL;
	unsigned filled = 0;
	char name[32];

	ck_ok(vf_txn_read(p->store, &txn, &err));
	vf_postings_reader_init(&reader, txn);
	ck_ok(reader.source.each(&reader, vf_span(NULL, 0), vf_span(NULL, 0), compare_with_model, &comparing, &err));
	for (unsigned i = 0; i < TERMS; i++) {
		struct vf_span term = term_named(i, name);
		uint8_t to[32];
		memcpy(to, term.data, term.len);
		to[term.len - 1]++;
		roaring_bitmap_t *got = roaring_bitmap_create();
		ck_ok(reader.source.range(&reader, term, vf_span(to, term.len), got, &err));
		ck_assert_msg(roaring_bitmap_equals(got, model->sets[i]), "term %u", i);
		roaring_bitmap_free(got);
		filled += !roaring_bitmap_is_empty(model->sets[i]);
	}
	ck_assert_uint_eq(comparing.seen, filled);
	vf_txn_end(&txn);
}

/* Slots lie where chunks meet, in a narrow band and far apart, so that rows are lists, arrays, bitsets and runs, and change between them. */
static uint32_t random_slot(struct kit_chance *c, unsigned term)
{
	switch (term % 4) {
	case 0:  return 65536 - 20 + kit_random(c, 40);
	case 1:  return kit_random(c, SLOTS);
	case 2:  return 65536 + kit_random(c, 9000);
	default: return 131000 + kit_random(c, 100);
	}
}

static void change_one(struct kit_chance *c, struct vf_postings_change *change, struct model *model, bool remove)
{
	struct vf_err err = VF_ERR_INIT;
	unsigned i = kit_random(c, TERMS);
	uint32_t slot = random_slot(c, i);
	char name[32];

	if (remove) {
		ck_ok(vf_postings_remove(change, term_named(i, name), slot, &err));
		roaring_bitmap_remove(model->sets[i], slot);
	} else {
		ck_ok(vf_postings_add(change, term_named(i, name), slot, &err));
		roaring_bitmap_add(model->sets[i], slot);
	}
}

/* A whole stretch of one term, there or gone. */
static void change_stretch(struct kit_chance *c, struct vf_postings_change *change, struct model *model, bool remove)
{
	struct vf_err err = VF_ERR_INIT;
	unsigned i = kit_random(c, TERMS);
	uint32_t first = kit_random(c, 120000), len = kit_random(c, 20000);
	char name[32];

	for (uint32_t slot = first; slot < first + len; slot++)
		ck_ok(remove ? vf_postings_remove(change, term_named(i, name), slot, &err) : vf_postings_add(change, term_named(i, name), slot, &err));
	if (remove)
		roaring_bitmap_remove_range(model->sets[i], first, first + len);
	else
		roaring_bitmap_add_range(model->sets[i], first, first + len);
}

START_TEST(postings_are_what_the_changes_make_of_plain_sets)
{
	struct kit_chance chance = { 11 };
	struct vf_err err = VF_ERR_INIT;
	struct vf_postings_change *change = NULL;
	struct model model;
	struct place place;

	begin(&place);
	for (unsigned i = 0; i < TERMS; i++)
		model.sets[i] = roaring_bitmap_create();
	ck_ok(vf_postings_change_new(&change, &err));
	for (int round = 0; round < 40; round++) {
		struct vf_txn *txn = write_txn(&place);
		unsigned removing = round % 10 < 6 ? 3 : 8;        /* of ten */
		for (uint32_t n = (uint32_t[]){ 1, 30, 3000, 20000 }[kit_random(&chance, 4)]; n > 0; n--)
			change_one(&chance, change, &model, kit_random(&chance, 10) < removing);
		for (uint32_t n = kit_random(&chance, 4); n > 0; n--)
			change_stretch(&chance, change, &model, kit_random(&chance, 10) < removing);
		/* some transactions write twice */
		ck_ok(vf_postings_write(change, txn, &err));
		if (round % 5 == 0) {
			change_stretch(&chance, change, &model, round % 2);
			ck_ok(vf_postings_write(change, txn, &err));
		}
		commit(txn);
		compare(&place, &model);
	}
	struct vf_txn *txn = write_txn(&place);
	char name[32];
	for (unsigned i = 0; i < TERMS; i++) {
		uint32_t slot;
		while (!roaring_bitmap_is_empty(model.sets[i])) {
			slot = roaring_bitmap_minimum(model.sets[i]);
			ck_ok(vf_postings_remove(change, term_named(i, name), slot, &err));
			roaring_bitmap_remove(model.sets[i], slot);
		}
		roaring_bitmap_free(model.sets[i]);
	}
	uint64_t rows = 1;
	ck_ok(vf_postings_write(change, txn, &err));
	ck_ok(vf_count(txn, VF_T_POSTINGS, &rows, &err));
	ck_assert_uint_eq(rows, 0);
	commit(txn);
	vf_postings_change_free(&change);
	end(&place);
}
END_TEST

START_TEST(of_changes_of_one_pair_the_last_wins)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_postings_change *change = NULL;
	struct vf_span term = vf_span_str("t"), row;
	uint8_t name[VF_POSTING_NAME_MAX];
	struct place place;

	begin(&place);
	struct vf_txn *txn = write_txn(&place);
	ck_ok(vf_postings_change_new(&change, &err));
	ck_ok(vf_postings_add(change, term, 9, &err));
	ck_ok(vf_postings_remove(change, term, 9, &err));
	ck_ok(vf_postings_write(change, txn, &err));
	ck_assert_int_eq(vf_get(txn, VF_T_POSTINGS, vf_posting_name(term, 0, name), &row, &err), 1);
	ck_ok(vf_postings_remove(change, term, 9, &err));
	ck_ok(vf_postings_add(change, term, 7, &err));
	ck_ok(vf_postings_add(change, term, 9, &err));
	ck_ok(vf_postings_write(change, txn, &err));
	ck_ok(vf_get(txn, VF_T_POSTINGS, vf_posting_name(term, 0, name), &row, &err));
	ck_assert(vf_span_equal(row, vf_span("\x01\x07\x00\x09\x00", 5)));
	ck_assert_uint_eq(vf_postings_change_bytes(change), 0);
	vf_postings_change_free(&change);
	vf_txn_end(&txn);
	end(&place);
}
END_TEST

/* ---- records ---- */

/* What commits do for a record, as far as filters look. */
static void put_record(struct vf_txn *txn, uint64_t serial, uint32_t slot, struct vf_span metadata)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_record_row row = { .slot = slot, .dim = 1, .key = vf_span_str("k"), .metadata = metadata };
	uint8_t serial_bytes[8];
	struct vf_buf bytes = VF_BUF_INIT;

	ck_ok(vf_buf_reserve(&bytes, vf_record_row_size(&row), &err));
	bytes.len = vf_record_row_size(&row);
	vf_record_row_encode(&row, bytes.data);
	vf_store_u64(serial_bytes, serial);
	ck_ok(vf_put_u64(txn, VF_T_RECORDS, serial, vf_buf_span(&bytes), &err));
	ck_ok(vf_put_u64(txn, VF_T_SLOTS, slot, vf_span(serial_bytes, sizeof serial_bytes), &err));
	vf_buf_free(&bytes);
}

struct records {
	struct vf_arena arena;
	struct vf_value *values;
	struct vf_span *metadata;
	bool *there;
	uint32_t count, spread;
};

static void random_records(struct records *r, struct kit_chance *chance, uint32_t count, uint32_t spread)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf bytes = VF_BUF_INIT;

	*r = (struct records){ .count = count, .spread = spread };
	r->values = kit_alloc(&r->arena, count * sizeof *r->values);
	r->metadata = kit_alloc(&r->arena, count * sizeof *r->metadata);
	r->there = kit_alloc(&r->arena, count * sizeof *r->there);
	for (uint32_t i = 0; i < count; i++) {
		r->values[i] = kit_random_record(chance, &r->arena);
		vf_buf_clear(&bytes);
		ck_ok(vf_metadata_encode(&r->values[i], NULL, &bytes, &err));
		r->metadata[i] = vf_arena_copy(&r->arena, vf_buf_span(&bytes));
	}
	vf_buf_free(&bytes);
}

static void check_filters(struct place *p, struct records *r, struct kit_chance *chance, int filters)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_postings_reader reader;
	struct vf_txn *txn = NULL;

	ck_ok(vf_txn_read(p->store, &txn, &err));
	vf_postings_reader_init(&reader, txn);
	for (; filters > 0; filters--) {
		struct vf_value value = kit_random_filter(chance, &arena, 3);
		struct vf_filter *filter = NULL;
		vf_bitmap *set = NULL;
		uint64_t count = 0;
		ck_ok(vf_filter_parse(&value, NULL, &arena, &filter, &err));
		ck_ok(vf_filter_eval(filter, &reader.source, &set, &err));
		for (uint32_t i = 0; i < r->count; i++) {
			bool expected = r->there[i] && judge(&value, &r->values[i]);
			ck_assert_msg(roaring_bitmap_contains(set, i * r->spread) == expected, "%s is %d for %s", kit_text(&value), !expected,
			              kit_text(&r->values[i]));
			count += expected;
		}
		ck_assert_uint_eq(vf_bitmap_count(set), count);
		vf_bitmap_free(&set);
		vf_arena_reset(&arena);
	}
	vf_txn_end(&txn);
	vf_arena_free(&arena);
}

START_TEST(filters_over_the_store_select_what_a_reading_of_every_record_selects)
{
	struct kit_chance chance = { 12 };
	struct vf_err err = VF_ERR_INIT;
	struct vf_postings_change *change = NULL;
	struct vf_config config;
	struct records records;
	struct place place;

	begin(&place);
	vf_config_init(&config);
	random_records(&records, &chance, 500, 331);
	ck_ok(vf_postings_change_new(&change, &err));
	for (int round = 0; round < 8; round++) {
		struct vf_txn *txn = write_txn(&place);
		for (uint32_t i = 0; i < records.count; i++) {
			if (kit_random(&chance, 3) == 0)
				continue;
			uint32_t slot = i * records.spread;
			if (records.there[i])
				ck_ok(vf_postings_remove_record(change, records.metadata[i], &config, slot, &err));
			else
				ck_ok(vf_postings_add_record(change, records.metadata[i], &config, slot, &err));
			records.there[i] = !records.there[i];
			if (records.there[i])
				put_record(txn, 1000 + i, slot, records.metadata[i]);
			else
				ck_ok(vf_del_u64(txn, VF_T_SLOTS, slot, &err));
		}
		ck_ok(vf_postings_write(change, txn, &err));
		commit(txn);
		check_filters(&place, &records, &chance, 120);
	}
	vf_postings_change_free(&change);
	vf_config_free(&config);
	vf_arena_free(&records.arena);
	end(&place);
}
END_TEST

/* A filter of an update sees what came before it in the same transaction. */
START_TEST(a_reader_sees_what_its_own_transaction_wrote)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_postings_change *change = NULL;
	struct vf_postings_reader reader;
	struct vf_config config;
	struct place place;
	vf_bitmap *set = NULL;

	begin(&place);
	vf_config_init(&config);
	struct vf_txn *txn = write_txn(&place);
	ck_ok(vf_postings_change_new(&change, &err));
	ck_ok(vf_postings_add_record(change, vf_span("\x81\xa1x\x05", 4), &config, 3, &err));
	ck_ok(vf_postings_add_record(change, vf_span("\x80", 1), &config, 70000, &err));
	ck_ok(vf_postings_write(change, txn, &err));
	vf_postings_reader_init(&reader, txn);
	ck_ok(vf_filter_eval(NULL, &reader.source, &set, &err));
	ck_assert_uint_eq(vf_bitmap_count(set), 2);
	ck_assert(roaring_bitmap_contains(set, 3) && roaring_bitmap_contains(set, 70000));
	vf_bitmap_free(&set);
	vf_txn_end(&txn);
	vf_postings_change_free(&change);
	vf_config_free(&config);
	end(&place);
}
END_TEST

START_TEST(a_record_has_the_rows_that_the_format_says)
{
	static const struct { const char *key; size_t key_len; } rows[] = {
		{ "\x04lang\x01\x00\x01", 8 }, { "\x04lang\x04\x66\x6f\x00\x00\x01", 11 }, { "\x04year\x01\x00\x01", 8 },
		{ "\x04year\x03\xc0\x9f\xa0\x00\x00\x00\x00\x00\x80\x00\x00\x01", 18 }, { "\xfe\x00\x01", 3 },
	};
	struct vf_err err = VF_ERR_INIT;
	struct vf_postings_change *change = NULL;
	struct vf_config config;
	struct place place;
	struct vf_span key, value;
	struct vf_scan *scan = NULL;

	begin(&place);
	vf_config_init(&config);
	struct vf_txn *txn = write_txn(&place);
	ck_ok(vf_postings_change_new(&change, &err));
	ck_ok(vf_postings_add_record(change, vf_span("\x82\xa4lang\xa2\x65n\xa4year\xcd\x07\xe8", 17), &config, 65536 + 3, &err));
	ck_ok(vf_postings_write(change, txn, &err));
	ck_ok(vf_scan_open(txn, VF_T_POSTINGS, vf_span(NULL, 0), &scan, &err));
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		ck_ok(vf_scan_step(scan, &key, &value, &err));
		ck_assert_msg(vf_span_equal(key, vf_span(rows[i].key, rows[i].key_len)), "row %zu", i);
		ck_assert(vf_span_equal(value, vf_span("\x01\x03\x00", 3)));
	}
	ck_assert_int_eq(vf_scan_step(scan, &key, &value, &err), 1);
	vf_scan_close(&scan);
	vf_txn_end(&txn);
	vf_postings_change_free(&change);
	vf_config_free(&config);
	end(&place);
}
END_TEST

/* ---- damage ---- */

static int refuse_nothing(void *ctx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err)
{
	(void)ctx, (void)term, (void)slots, (void)err;
	return 0;
}

/* Reads and changes the row with this value in every way there is; each must say EIO. */
static void must_be_damaged(struct vf_txn *txn, struct vf_span value)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_span name = vf_span("t\0\0", 3);
	struct vf_postings_change *change = NULL;
	struct vf_postings_reader reader;
	roaring_bitmap_t *set = roaring_bitmap_create();

	ck_ok(vf_put(txn, VF_T_POSTINGS, name, value, &err));
	vf_postings_reader_init(&reader, txn);
	ck_fails(reader.source.range(&reader, vf_span("t", 1), vf_span("u", 1), set, &err), EIO);
	ck_fails(reader.source.each(&reader, vf_span("t", 1), vf_span("u", 1), refuse_nothing, NULL, &err), EIO);
	ck_ok(vf_postings_change_new(&change, &err));
	ck_ok(vf_postings_add(change, vf_span("t", 1), 5, &err));
	ck_fails(vf_postings_write(change, txn, &err), EIO);
	vf_postings_change_free(&change);
	roaring_bitmap_free(set);
}

START_TEST(a_damaged_row_is_an_io_error_whichever_byte_it_is)
{
	static const struct vf_span bad[] = {
		{ (const uint8_t *)"\x01", 1 }, { (const uint8_t *)"\x00\x01\x00", 3 }, { (const uint8_t *)"\x03\x01\x00", 3 },
		{ (const uint8_t *)"\x01\x01", 2 }, { (const uint8_t *)"\x01\x02\x00\x02\x00", 5 }, { (const uint8_t *)"\x01\x02\x00\x01\x00", 5 },
		{ (const uint8_t *)"\x02", 1 }, { (const uint8_t *)"\x02\x00\x00\x00\x00\x00", 6 },
	};
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf row = VF_BUF_INIT;
	uint32_t slots[400];
	struct place place;

	begin(&place);
	struct vf_txn *txn = write_txn(&place);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		must_be_damaged(txn, bad[i]);
	for (uint32_t i = 0; i < 400; i++)
		slots[i] = 3 * i + (i > 100);
	ck_ok(vf_posting_encode_list(slots, 400, &row, &err));
	for (size_t i = 0; i < row.len; i++) {
		row.data[i] ^= 0x10;
		must_be_damaged(txn, vf_buf_span(&row));
		row.data[i] ^= 0x10;
	}
	for (size_t len = 0; len < row.len; len += 7)
		if (len)
			must_be_damaged(txn, vf_span(row.data, len));
	/* sound, but of another chunk */
	for (uint32_t i = 0; i < 400; i++)
		slots[i] += 65536;
	ck_ok(vf_posting_encode_list(slots, 400, &row, &err));
	must_be_damaged(txn, vf_buf_span(&row));
	vf_txn_end(&txn);
	vf_buf_free(&row);
	end(&place);
}
END_TEST

/* ---- many ---- */

START_TEST(a_hundred_thousand_records_are_one_change)
{
	enum { COUNT = 100000 };
	struct vf_err err = VF_ERR_INIT;
	struct vf_postings_change *change = NULL;
	struct vf_postings_reader reader;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf bytes = VF_BUF_INIT;
	struct vf_filter *filter = NULL;
	struct vf_config config;
	struct place place;
	vf_bitmap *set = NULL;
	char text[200];

	begin(&place);
	vf_config_init(&config);
	ck_ok(vf_postings_change_new(&change, &err));
	for (uint32_t i = 0; i < COUNT; i++) {
		int n = snprintf(text, sizeof text, "{\"at\": %u, \"lang\": \"l%u\", \"on\": %s, \"tags\": [\"t%u\", \"t%u\"], \"url\": \"http://x/%08x\"}",
		                 i, i % 10, i % 3 ? "true" : "false", i % 100, 100 + i % 7, i * 2654435761u);
		vf_arena_reset(&arena);
		struct vf_value value = kit_value(text, (size_t)n, &arena);
		vf_buf_clear(&bytes);
		ck_ok(vf_metadata_encode(&value, NULL, &bytes, &err));
		ck_ok(vf_postings_add_record(change, vf_buf_span(&bytes), &config, i, &err));
	}
	struct vf_txn *txn = write_txn(&place);
	ck_ok(vf_postings_write(change, txn, &err));
	commit(txn);
	txn = NULL;
	ck_ok(vf_txn_read(place.store, &txn, &err));
	vf_postings_reader_init(&reader, txn);
	static const struct { const char *filter; uint64_t count; } asked[] = {
		{ "{\"lang\": \"l3\"}", COUNT / 10 }, { "{\"on\": true}", COUNT - (COUNT + 2) / 3 }, { "{\"at\": {\"$gte\": 99000}}", 1000 },
		{ "{\"at\": {\"$gte\": 500, \"$lt\": 600}}", 100 }, { "{\"url\": {\"$startsWith\": \"http://x/\"}}", COUNT },
		{ "{\"tags\": {\"$ne\": \"t5\"}}", COUNT - COUNT / 100 }, { "{\"at\": {\"$exists\": false}}", 0 },
	};
	for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
		struct vf_value value = kit_value(asked[i].filter, strlen(asked[i].filter), &arena);
		ck_ok(vf_filter_parse(&value, NULL, &arena, &filter, &err));
		ck_ok(vf_filter_eval(filter, &reader.source, &set, &err));
		ck_assert_msg(vf_bitmap_count(set) == asked[i].count, "%s: %" PRIu64, asked[i].filter, vf_bitmap_count(set));
		vf_bitmap_free(&set);
	}
	vf_txn_end(&txn);
	vf_buf_free(&bytes);
	vf_arena_free(&arena);
	vf_postings_change_free(&change);
	vf_config_free(&config);
	end(&place);
}
END_TEST

CHECK_MAIN("postings",
	postings_are_what_the_changes_make_of_plain_sets, of_changes_of_one_pair_the_last_wins,
	filters_over_the_store_select_what_a_reading_of_every_record_selects, a_reader_sees_what_its_own_transaction_wrote,
	a_record_has_the_rows_that_the_format_says, a_damaged_row_is_an_io_error_whichever_byte_it_is, a_hundred_thousand_records_are_one_change)
