/* SPDX-License-Identifier: MIT */
/* postings.c - changes of postings, gathered over a transaction and written row by row in the order of their keys.
 *
 * Gathering is a table of terms, each with a chain of (slot, add or remove) in order of arrival: 8 bytes a pair, and some 45 beside its
 * own bytes for a new term. Writing sorts the terms, so that LMDB's tree is walked once from left to right, and one look tells where
 * the next stored key lies: all rows before it are new and need no look of their own. */
#include <errno.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "index_internal.h"
#include "posting_row.h"
#include "vecfs/record.h"

#define PAIRS_MAX (1u << 31)           /* what the chains can name */

struct pair {
	uint32_t slot;
	uint32_t next : 31, remove : 1;
};

struct term {
	size_t offset;                     /* into bytes */
	uint32_t hash, len;
	uint32_t first, last, count;       /* its chain of pairs */
};

struct vf_postings_change {
	struct vf_buf bytes;               /* of all terms, one behind the other */
	struct term *terms;
	struct pair *pairs;
	size_t nterms, terms_cap, npairs, pairs_cap;
	uint32_t *table;                   /* of terms by hash: place + 1, 0 empty; at most half full */
	size_t table_size;
	struct vf_arena arena;             /* of one record's metadata */
};

int vf_postings_change_new(struct vf_postings_change **out, struct vf_err *err)
{
	*out = calloc(1, sizeof **out);
	return *out ? 0 : vf_oom(err);
}

void vf_postings_change_free(struct vf_postings_change **change)
{
	struct vf_postings_change *c = *change;

	if (!c)
		return;
	vf_buf_free(&c->bytes);
	vf_arena_free(&c->arena);
	free(c->terms);
	free(c->pairs);
	free(c->table);
	free(c);
	*change = NULL;
}

size_t vf_postings_change_bytes(const struct vf_postings_change *change)
{
	return change->bytes.len + change->nterms * (sizeof *change->terms + 2 * sizeof *change->table) + change->npairs * sizeof *change->pairs;
}

/* ---- gathering ---- */

/* The array, moved when it had to grow; NULL when out of memory, the array as it was. */
static void *with_room(void *array, size_t *cap, size_t count, size_t size)
{
	if (count <= *cap)
		return array;
	size_t more = *cap ? 2 * *cap : 64;
	if (more < count)
		more = count;
	void *grown = more <= SIZE_MAX / size ? realloc(array, more * size) : NULL;
	if (grown)
		*cap = more;
	return grown;
}

static struct vf_span bytes_of(const struct vf_postings_change *c, const struct term *term)
{
	return vf_span(c->bytes.data + term->offset, term->len);
}

/* The place in the table of a term, or the empty one where it would stand. */
static uint32_t *look_up(const struct vf_postings_change *c, struct vf_span term, uint32_t hash)
{
	size_t mask = c->table_size - 1, at = hash & mask;

	for (; c->table[at]; at = (at + 1) & mask) {
		const struct term *found = &c->terms[c->table[at] - 1];
		if (found->hash == hash && vf_span_equal(bytes_of(c, found), term))
			break;
	}
	return &c->table[at];
}

static int widen_table(struct vf_postings_change *c, struct vf_err *err)
{
	size_t size = c->table_size ? 2 * c->table_size : 128, mask = size - 1;
	uint32_t *table = calloc(size, sizeof *table);

	if (!table)
		return vf_oom(err);
	for (size_t i = 0; i < c->nterms; i++) {
		size_t at = c->terms[i].hash & mask;
		while (table[at])
			at = (at + 1) & mask;
		table[at] = (uint32_t)i + 1;
	}
	free(c->table);
	c->table = table;
	c->table_size = size;
	return 0;
}

static int intern(struct vf_postings_change *c, struct vf_span term, struct term **out, struct vf_err *err)
{
	uint32_t hash = (uint32_t)XXH3_64bits(term.data, term.len);
	int rc;

	if (2 * (c->nterms + 1) > c->table_size && (rc = widen_table(c, err)))
		return rc;
	uint32_t *place = look_up(c, term, hash);
	if (!*place) {
		size_t offset = c->bytes.len;
		struct term *terms = with_room(c->terms, &c->terms_cap, c->nterms + 1, sizeof *terms);
		if (!terms)
			return vf_oom(err);
		c->terms = terms;
		if ((rc = vf_buf_put(&c->bytes, term.data, term.len, err)))
			return rc;
		c->terms[c->nterms++] = (struct term){ .offset = offset, .hash = hash, .len = (uint32_t)term.len };
		*place = (uint32_t)c->nterms;
	}
	*out = &c->terms[*place - 1];
	return 0;
}

static int gather(struct vf_postings_change *c, struct vf_span name, uint32_t slot, bool remove, struct vf_err *err)
{
	struct term *term = NULL;
	int rc;

	if (name.len == 0 || name.len > VF_TERM_BYTES_MAX)
		return vf_fail(err, EINVAL, "a filter term has 1 to %u bytes, not %zu", VF_TERM_BYTES_MAX, name.len);
	if (c->npairs == PAIRS_MAX)
		return vf_fail(err, ENOMEM, "more than %u postings change in one transaction", PAIRS_MAX);
	struct pair *pairs = with_room(c->pairs, &c->pairs_cap, c->npairs + 1, sizeof *pairs);
	if (!pairs)
		return vf_oom(err);
	c->pairs = pairs;
	if ((rc = intern(c, name, &term, err)))
		return rc;
	uint32_t at = (uint32_t)c->npairs++;
	c->pairs[at] = (struct pair){ .slot = slot, .remove = remove };
	if (term->count++)
		c->pairs[term->last].next = at & (PAIRS_MAX - 1);
	else
		term->first = at;
	term->last = at;
	return 0;
}

int vf_postings_add(struct vf_postings_change *change, struct vf_span term, uint32_t slot, struct vf_err *err)
{
	return gather(change, term, slot, false, err);
}

int vf_postings_remove(struct vf_postings_change *change, struct vf_span term, uint32_t slot, struct vf_err *err)
{
	return gather(change, term, slot, true, err);
}

struct emission { struct vf_postings_change *change; uint32_t slot; bool remove; };

static int gather_term(void *ctx, struct vf_span term, struct vf_err *err)
{
	struct emission *e = ctx;

	return gather(e->change, term, e->slot, e->remove, err);
}

static int gather_record(struct vf_postings_change *c, struct vf_span metadata, const struct vf_config *config, uint32_t slot,
                         bool remove, struct vf_err *err)
{
	struct emission e = { c, slot, remove };
	struct vf_field_rule rule = vf_config_rule(config);
	struct vf_value map;

	vf_arena_reset(&c->arena);
	int rc = vf_metadata_decode(metadata, &c->arena, &map, err);
	return rc ? rc : vf_terms_of(&map, &rule, gather_term, &e, err);
}

int vf_postings_add_record(struct vf_postings_change *change, struct vf_span metadata, const struct vf_config *config, uint32_t slot,
                           struct vf_err *err)
{
	return gather_record(change, metadata, config, slot, false, err);
}

int vf_postings_remove_record(struct vf_postings_change *change, struct vf_span metadata, const struct vf_config *config, uint32_t slot,
                              struct vf_err *err)
{
	return gather_record(change, metadata, config, slot, true, err);
}

/* ---- sorting terms: eight bytes at a time, since their beginnings, the names of fields, are mostly the same ---- */

struct sorted {
	uint64_t key;                      /* the eight bytes looked at now */
	const uint8_t *bytes;
	uint32_t len, term;
};

static int by_key(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static uint64_t key_at(const struct sorted *s, size_t depth)
{
	uint64_t key = 0;

	for (size_t i = depth; i < depth + 8; i++)
		key = key << 8 | (i < s->len ? s->bytes[i] : 0);
	return key;
}

static void sort_from(struct sorted *terms, size_t count, size_t depth)
{
	bool same = true, more = false;
	size_t end;

	for (size_t i = 0; i < count; i++) {
		terms[i].key = key_at(&terms[i], depth);
		same &= terms[i].key == terms[0].key;
		more |= terms[i].len > depth + 8;
	}
	if (!same)
		qsort(terms, count, sizeof *terms, by_key);
	for (size_t i = 0; more && i < count; i = end) {
		for (end = i + 1; end < count && terms[end].key == terms[i].key;)
			end++;
		if (end - i > 1)
			sort_from(terms + i, end - i, depth + 8);
	}
}

static struct sorted *sort_terms(const struct vf_postings_change *c)
{
	struct sorted *sorted = malloc(c->nterms * sizeof *sorted);

	if (!sorted)
		return NULL;
	for (size_t i = 0; i < c->nterms; i++)
		sorted[i] = (struct sorted){ .bytes = c->bytes.data + c->terms[i].offset, .len = c->terms[i].len, .term = (uint32_t)i };
	sort_from(sorted, c->nterms, 0);
	return sorted;
}

/* ---- looking up rows in rising order ---- */

struct rows {
	struct vf_txn *txn;
	struct vf_scan *scan;
	bool known, at_end;                /* what is stored next, seen from the last row looked up: `next`, or nothing more */
	uint8_t next[VF_POSTING_NAME_MAX];
	size_t next_len;
};

/* 0 with the stored value, 1 there is none. */
static int find_row(struct rows *rows, struct vf_span name, struct vf_span *value, struct vf_err *err)
{
	struct vf_span found;
	int rc;

	if (rows->known && (rows->at_end || vf_span_compare(name, vf_span(rows->next, rows->next_len)) < 0))
		return 1;
	if ((rc = vf_scan_seek(rows->scan, name, err)) || (rc = vf_scan_step(rows->scan, &found, value, err)) < 0)
		return rc;
	rows->at_end = rc == 1;
	rows->known = rows->at_end || !vf_span_equal(found, name);
	if (rows->at_end || !rows->known)
		return rc;
	if (found.len > sizeof rows->next)
		return vf_fail(err, EIO, "a row of postings has a key of %zu bytes", found.len);
	memcpy(rows->next, found.data, found.len);
	rows->next_len = found.len;
	return 1;
}

/* ---- changing a row ---- */

struct writer {
	struct rows rows;
	uint64_t *edits;                   /* of one term: slot, place in the chain, remove: 32, 31, 1 bits */
	uint32_t *slots;                   /* of one row, as it will be or as it is changed */
	size_t edits_cap, slots_cap;
	struct vf_buf row;
};

static uint32_t slot_of(uint64_t edit) { return (uint32_t)(edit >> 32); }
static bool removes(uint64_t edit) { return edit & 1; }

/* The rising `stored` and the rising edits, merged: the number of slots that are left. */
static size_t merge(const uint32_t *stored, size_t nstored, const uint64_t *edits, size_t nedits, uint32_t *out)
{
	size_t count = 0, i = 0;

	for (size_t j = 0; j < nedits; j++) {
		for (; i < nstored && stored[i] < slot_of(edits[j]); i++)
			out[count++] = stored[i];
		i += i < nstored && stored[i] == slot_of(edits[j]);
		if (!removes(edits[j]))
			out[count++] = slot_of(edits[j]);
	}
	for (; i < nstored; i++)
		out[count++] = stored[i];
	return count;
}

static int edit_list(struct writer *w, const uint32_t *stored, size_t nstored, const uint64_t *edits, size_t nedits, size_t *left,
                     struct vf_err *err)
{
	uint32_t *slots = with_room(w->slots, &w->slots_cap, nstored + nedits, sizeof *slots);

	if (!slots)
		return vf_oom(err);
	w->slots = slots;
	*left = merge(stored, nstored, edits, nedits, w->slots);
	return *left ? vf_posting_encode_list(w->slots, *left, &w->row, err) : 0;
}

/* Adds fill the array from the front, removes from the back. */
static int edit_bitmap(struct writer *w, roaring_bitmap_t *stored, const uint64_t *edits, size_t nedits, size_t *left, struct vf_err *err)
{
	uint32_t *slots = with_room(w->slots, &w->slots_cap, nedits, sizeof *slots);
	size_t adds = 0, removed = nedits;

	if (!slots)
		return vf_oom(err);
	w->slots = slots;
	for (size_t i = 0; i < nedits; i++)
		slots[removes(edits[i]) ? --removed : adds++] = slot_of(edits[i]);
	roaring_bitmap_add_many(stored, adds, slots);
	roaring_bitmap_remove_many(stored, nedits - removed, slots + removed);
	*left = roaring_bitmap_get_cardinality(stored);
	return *left ? vf_posting_encode_bitmap(stored, &w->row, err) : 0;
}

/* The row as it will be into w->row; *left is 0 when nothing is left of it. */
static int edit_row(struct writer *w, struct vf_span stored, uint32_t chunk, const uint64_t *edits, size_t nedits, size_t *left,
                    struct vf_err *err)
{
	uint32_t list[VF_POSTING_LIST_MAX];
	roaring_bitmap_t *bitmap;
	int rc = stored.len ? vf_posting_list(stored, chunk, list, err) : 0;

	if (rc < 0)
		return rc;
	if (rc > 0 || stored.len == 0)
		return edit_list(w, list, (size_t)rc, edits, nedits, left, err);
	if ((rc = vf_posting_bitmap(stored, chunk, &bitmap, err)))
		return rc;
	rc = edit_bitmap(w, bitmap, edits, nedits, left, err);
	roaring_bitmap_free(bitmap);
	return rc;
}

static int write_row(struct writer *w, struct vf_span term, uint32_t chunk, const uint64_t *edits, size_t nedits, struct vf_err *err)
{
	uint8_t bytes[VF_POSTING_NAME_MAX];
	struct vf_span name = vf_posting_name(term, chunk, bytes), stored = { NULL, 0 };
	size_t left = 0;
	int found = find_row(&w->rows, name, &stored, err), rc;

	if (found < 0 || (rc = edit_row(w, found ? vf_span(NULL, 0) : stored, chunk, edits, nedits, &left, err)))
		return found < 0 ? found : rc;
	if (left == 0)
		rc = found ? 0 : vf_del(w->rows.txn, VF_T_POSTINGS, name, err);
	else if (found || !vf_span_equal(stored, vf_buf_span(&w->row)))
		rc = vf_put(w->rows.txn, VF_T_POSTINGS, name, vf_buf_span(&w->row), err);
	return rc < 0 ? rc : 0;
}

/* ---- from chains to rows ---- */

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The edits of a term by slot; of several for one slot the last stays. */
static int order_edits(struct writer *w, const struct vf_postings_change *c, const struct term *term, size_t *count, struct vf_err *err)
{
	uint64_t *edits = with_room(w->edits, &w->edits_cap, term->count, sizeof *edits);
	bool rising = true;
	size_t kept = 0;

	if (!edits)
		return vf_oom(err);
	w->edits = edits;
	for (uint32_t i = 0, at = term->first; i < term->count; i++, at = c->pairs[at].next) {
		edits[i] = (uint64_t)c->pairs[at].slot << 32 | (uint64_t)i << 1 | c->pairs[at].remove;
		rising &= i == 0 || edits[i] > edits[i - 1];
	}
	if (!rising)
		qsort(edits, term->count, sizeof *edits, by_number);
	for (size_t i = 0; i < term->count; i++)
		if (i + 1 == term->count || slot_of(edits[i]) != slot_of(edits[i + 1]))
			edits[kept++] = edits[i];
	*count = kept;
	return 0;
}

static int write_term(struct writer *w, const struct vf_postings_change *c, const struct term *term, struct vf_err *err)
{
	size_t count = 0, end;
	int rc = order_edits(w, c, term, &count, err);

	for (size_t i = 0; i < count && !rc; i = end) {
		uint32_t chunk = slot_of(w->edits[i]) >> 16;
		for (end = i + 1; end < count && slot_of(w->edits[end]) >> 16 == chunk;)
			end++;
		rc = write_row(w, bytes_of(c, term), chunk, w->edits + i, end - i, err);
	}
	return rc;
}

static void clear(struct vf_postings_change *c)
{
	vf_buf_clear(&c->bytes);
	c->nterms = c->npairs = 0;
	memset(c->table, 0, c->table_size * sizeof *c->table);
}

static int write_terms(struct vf_postings_change *c, struct writer *w, struct vf_err *err)
{
	struct sorted *sorted = sort_terms(c);
	int rc = sorted ? 0 : vf_oom(err);

	for (size_t i = 0; i < c->nterms && !rc; i++)
		rc = write_term(w, c, &c->terms[sorted[i].term], err);
	free(sorted);
	return rc;
}

int vf_postings_write(struct vf_postings_change *change, struct vf_txn *txn, struct vf_err *err)
{
	struct writer writer = { .rows = { .txn = txn } };

	if (change->npairs == 0)
		return 0;
	int rc = vf_scan_open(txn, VF_T_POSTINGS, vf_span(NULL, 0), &writer.rows.scan, err);
	if (!rc && !(rc = write_terms(change, &writer, err)))
		clear(change);
	vf_scan_close(&writer.rows.scan);
	vf_buf_free(&writer.row);
	free(writer.edits);
	free(writer.slots);
	return rc;
}
