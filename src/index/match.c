/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <roaring/roaring.h>
#include <stdlib.h>

#include "ask_internal.h"

/* A record row read costs some 1 us, a row of the table of slots some 0.1: past this share of all records the table is walked. */
#define SLOT_WALK_SHARE 10u

struct serials { uint64_t *at; size_t n, cap; };

static int serials_push(struct serials *s, uint64_t serial, struct vf_err *err)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 256;
		uint64_t *more = realloc(s->at, cap * sizeof *more);
		if (!more)
			return vf_oom(err);
		s->at = more;
		s->cap = cap;
	}
	s->at[s->n++] = serial;
	return 0;
}

static int prefix_serials(struct vf_txn *txn, struct vf_span prefix, struct serials *out, struct vf_err *err)
{
	struct vf_key_walk *walk = NULL;
	struct vf_walked key;
	int rc = vf_key_walk_open(txn, prefix, &walk, err);

	while (!rc && (rc = vf_key_walk_step(walk, &key, err)) == 0) {
		if (!vf_span_has_prefix(key.key, prefix))
			break;
		rc = serials_push(out, key.serial, err);
	}
	vf_key_walk_close(&walk);
	return rc < 0 ? rc : 0;
}

static int compare_serials(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int slots_by_record(struct vf_txn *txn, const struct serials *serials, roaring_bitmap_t *out, struct vf_err *err)
{
	for (size_t i = 0; i < serials->n; i++) {
		struct vf_record_row row;
		int rc = vf_row_of_serial(txn, serials->at[i], &row, err);
		if (rc == 1)
			return vf_fail(err, EIO, "a key names record %llu, which is not there",
			               (unsigned long long)serials->at[i]);
		if (rc)
			return rc;
		roaring_bitmap_add(out, row.slot);
	}
	return 0;
}

static int slots_by_walk(struct vf_txn *txn, struct serials *serials, roaring_bitmap_t *out, struct vf_err *err)
{
	struct vf_scan *scan = NULL;
	struct vf_span key, value;
	int rc = vf_scan_open_u64(txn, VF_T_SLOTS, 0, &scan, err);

	qsort(serials->at, serials->n, sizeof *serials->at, compare_serials);
	while (!rc && (rc = vf_scan_step(scan, &key, &value, err)) == 0) {
		uint64_t serial = value.len == 8 ? vf_load_u64(value.data) : 0, slot = vf_load_u64(key.data);
		if (slot >= VF_SLOTS_MAX)
			rc = vf_fail(err, EIO, "slot %llu is past the largest, %u", (unsigned long long)slot, VF_SLOTS_MAX - 1);
		else if (bsearch(&serial, serials->at, serials->n, sizeof serial, compare_serials))
			roaring_bitmap_add(out, (uint32_t)slot);
	}
	vf_scan_close(&scan);
	return rc < 0 ? rc : 0;
}

static int prefix_slots(struct vf_txn *txn, struct vf_span prefix, roaring_bitmap_t *out, struct vf_err *err)
{
	struct serials serials = { 0 };
	uint64_t records;
	int rc;

	if ((rc = vf_count(txn, VF_T_KEYS, &records, err)) == 0 && (rc = prefix_serials(txn, prefix, &serials, err)) == 0)
		rc = serials.n > records / SLOT_WALK_SHARE ? slots_by_walk(txn, &serials, out, err)
		                                           : slots_by_record(txn, &serials, out, err);
	free(serials.at);
	return rc;
}

static int filter_slots(struct vf_range_cache *cache, const struct vf_filter *filter, struct vf_txn *txn, vf_bitmap **out,
                        struct vf_err *err)
{
	struct vf_postings_reader reader;

	vf_postings_reader_init(&reader, txn);
	reader.cache = cache;
	return vf_filter_eval(filter, &reader.source, out, err);
}

static int narrow_to_prefix(struct vf_match *match, const struct vf_question *question, struct vf_txn *txn, struct vf_err *err)
{
	roaring_bitmap_t *slots = roaring_bitmap_create();

	if (!slots)
		return vf_oom(err);
	int rc = prefix_slots(txn, question->prefix, slots, err);
	if (!rc && match->bitmap) {
		roaring_bitmap_and_inplace(match->bitmap, slots);
	} else if (!rc) {
		match->bitmap = slots;
		slots = NULL;
	}
	vf_bitmap_free(&slots);
	return rc;
}

int vf_match_make(struct vf_index *index, const struct vf_question *question, struct vf_txn *txn, struct vf_match *out,
                  struct vf_err *err)
{
	int rc = 0;

	*out = (struct vf_match){ .all = !question->filter && question->prefix.len == 0, .left_out = VF_SLOT_NONE };
	if (out->all)
		return vf_count(txn, VF_T_KEYS, &out->count, err);
	if (question->filter)
		rc = filter_slots(index->ranges, question->filter, txn, &out->bitmap, err);
	if (!rc && question->prefix.len)
		rc = narrow_to_prefix(out, question, txn, err);
	if (!rc)
		rc = vf_bitmap_words(out->bitmap, &out->words, &out->set.nwords, err);
	if (rc) {
		vf_match_free(out);
		return rc;
	}
	out->count = vf_bitmap_count(out->bitmap);
	out->set.words = out->words;
	out->set.count = out->count;
	return 0;
}

void vf_match_leave_out(struct vf_match *match, uint32_t slot)
{
	match->left_out = slot;
	if (match->all) {
		match->count -= match->count > 0;
		return;
	}
	if (!roaring_bitmap_contains(match->bitmap, slot))
		return;
	roaring_bitmap_remove(match->bitmap, slot);
	match->words[slot / 64] &= ~(1ull << slot % 64);
	match->set.count = --match->count;
}

int vf_match_serials(const struct vf_match *match, struct vf_txn *txn, uint64_t **serials, size_t *n, struct vf_err *err)
{
	struct serials found = { 0 };
	int rc = 0;

	for (size_t i = 0; i < match->set.nwords && !rc; i++)
		for (uint64_t left = match->words[i]; left && !rc; left &= left - 1) {
			uint64_t slot = 64 * i + (uint64_t)__builtin_ctzll(left);
			struct vf_span value;
			rc = vf_get_u64(txn, VF_T_SLOTS, slot, &value, err);
			if (rc == 1 || (!rc && value.len != 8))
				rc = vf_fail(err, EIO, "slot %llu matches and has no record", (unsigned long long)slot);
			if (!rc)
				rc = serials_push(&found, vf_load_u64(value.data), err);
		}
	if (rc) {
		free(found.at);
		return rc;
	}
	/* In the order in which the vectors lie on disk. */
	if (found.n > 1)
		qsort(found.at, found.n, sizeof *found.at, compare_serials);
	*serials = found.at;
	*n = found.n;
	return 0;
}

int vf_match_bitmap(struct vf_match *match, struct vf_txn *txn, vf_bitmap **out, struct vf_err *err)
{
	if (!match->bitmap) {
		int rc = filter_slots(NULL, NULL, txn, &match->bitmap, err);
		if (rc)
			return rc;
		roaring_bitmap_remove(match->bitmap, match->left_out);
	}
	*out = match->bitmap;
	return 0;
}

void vf_match_free(struct vf_match *match)
{
	vf_bitmap_free(&match->bitmap);
	free(match->words);
	*match = (struct vf_match){ 0 };
}
