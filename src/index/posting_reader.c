/* SPDX-License-Identifier: MIT */
/* posting_reader.c - what filters ask of postings, over one transaction. */
#include <errno.h>
#include <stdlib.h>

#include "index_internal.h"
#include "posting_row.h"
#include "range_cache.h"
#include "vecfs/record.h"

/* Slots of short rows come in the order of values, any slot after any other, and a bitmap would make room for each among those it has.
 * So they wait: few in a list, many as bits of their chunk (8 KiB, made when first needed), from where they come out in order. */
#define CHUNK_WORDS 1024u
#define LIST_SLOTS  256u

struct pile {
	vf_bitmap *out;
	uint64_t **chunks;
	uint32_t nchunks, count;
	uint32_t slots[LIST_SLOTS];
};

static int make_chunk(struct pile *pile, uint32_t chunk, struct vf_err *err)
{
	if (chunk >= pile->nchunks) {
		uint64_t **chunks = realloc(pile->chunks, (chunk + 1) * sizeof *chunks);
		if (!chunks)
			return vf_oom(err);
		for (pile->chunks = chunks; pile->nchunks <= chunk; pile->nchunks++)
			chunks[pile->nchunks] = NULL;
	}
	if (!pile->chunks[chunk] && !(pile->chunks[chunk] = calloc(CHUNK_WORDS, sizeof(uint64_t))))
		return vf_oom(err);
	return 0;
}

static int spread_list(struct pile *pile, struct vf_err *err)
{
	for (uint32_t i = 0; i < pile->count; i++) {
		uint32_t slot = pile->slots[i], chunk = slot >> 16, bit = slot & 0xffff;
		int rc = chunk < pile->nchunks && pile->chunks[chunk] ? 0 : make_chunk(pile, chunk, err);
		if (rc)
			return rc;
		pile->chunks[chunk][bit / 64] |= 1ull << bit % 64;
	}
	pile->count = 0;
	return 0;
}

static void collect_chunk(struct pile *pile, uint32_t chunk, vf_bitmap *into)
{
	for (uint32_t i = 0; i < CHUNK_WORDS; i++) {
		for (uint64_t word = pile->chunks[chunk][i]; word; word &= word - 1)
			pile->slots[pile->count++] = chunk << 16 | (i * 64 + (uint32_t)__builtin_ctzll(word));
		if (pile->count > LIST_SLOTS - 64) {
			roaring_bitmap_add_many(into, pile->count, pile->slots);
			pile->count = 0;
		}
	}
	roaring_bitmap_add_many(into, pile->count, pile->slots);
	pile->count = 0;
}

static void drop_chunks(struct pile *pile)
{
	for (uint32_t i = 0; i < pile->nchunks; i++)
		free(pile->chunks[i]);
	free(pile->chunks);
	pile->chunks = NULL;
	pile->nchunks = 0;
}

/* All that waits goes into the bitmap. */
static int settle(struct pile *pile, struct vf_err *err)
{
	int rc;

	if (!pile->chunks) {
		roaring_bitmap_add_many(pile->out, pile->count, pile->slots);
		pile->count = 0;
		return 0;
	}
	if ((rc = spread_list(pile, err)))
		return rc;
	roaring_bitmap_t *bits = roaring_bitmap_create();
	if (!bits)
		return vf_oom(err);
	for (uint32_t i = 0; i < pile->nchunks; i++)
		if (pile->chunks[i])
			collect_chunk(pile, i, bits);
	roaring_bitmap_or_inplace(pile->out, bits);
	roaring_bitmap_free(bits);
	drop_chunks(pile);
	return 0;
}

static int take_row(struct pile *pile, struct vf_span row, uint32_t chunk, struct vf_err *err)
{
	roaring_bitmap_t *slots;
	int rc;

	if (pile->count + VF_POSTING_LIST_MAX > LIST_SLOTS && (rc = spread_list(pile, err)))
		return rc;
	if ((rc = vf_posting_list(row, chunk, pile->slots + pile->count, err))) {
		pile->count += rc > 0 ? (uint32_t)rc : 0;
		return rc < 0 ? rc : 0;
	}
	if ((rc = vf_posting_bitmap(row, chunk, &slots, err)))
		return rc;
	roaring_bitmap_or_inplace(pile->out, slots);
	roaring_bitmap_free(slots);
	return 0;
}

/* The next row before `to`: 0, 1 there is none. */
static int step(struct vf_scan *scan, struct vf_span to, struct vf_span *term, uint32_t *chunk, struct vf_span *row, struct vf_err *err)
{
	struct vf_span name;
	int rc = vf_scan_step(scan, &name, row, err);

	if (rc)
		return rc;
	if (to.len && vf_span_compare(name, to) >= 0)
		return 1;
	return vf_posting_name_split(name, term, chunk, err);
}

static int read_rows(struct pile *pile, struct vf_scan *scan, struct vf_span to, uint64_t *rows, struct vf_err *err)
{
	struct vf_span term, row;
	uint32_t chunk;
	int rc;

	for (*rows = 0; (rc = step(scan, to, &term, &chunk, &row, err)) == 0; ++*rows)
		if ((rc = take_row(pile, row, chunk, err)))
			return rc;
	return rc < 0 ? rc : settle(pile, err);
}

static int read_range_rows(struct vf_txn *txn, struct vf_span from, struct vf_span to, vf_bitmap *out, uint64_t *rows, struct vf_err *err)
{
	struct vf_scan *scan = NULL;
	struct pile pile;
	int rc = vf_scan_open(txn, VF_T_POSTINGS, from, &scan, err);

	if (rc)
		return rc;
	pile.out = out;
	pile.chunks = NULL;
	pile.nchunks = pile.count = 0;
	rc = read_rows(&pile, scan, to, rows, err);
	drop_chunks(&pile);
	vf_scan_close(&scan);
	return rc;
}

/* Fewer rows are read again as fast as they are found in the cache. */
#define KEPT_ROWS_MIN 256u

static int read_range(void *ctx, struct vf_span from, struct vf_span to, vf_bitmap *out, struct vf_err *err)
{
	struct vf_postings_reader *reader = ctx;
	uint64_t snapshot, rows;

	if (!reader->cache)
		return read_range_rows(reader->txn, from, to, out, &rows, err);
	snapshot = vf_txn_snapshot(reader->txn);
	if (vf_range_cache_get(reader->cache, snapshot, from, to, out))
		return 0;
	roaring_bitmap_t *alone = roaring_bitmap_create();
	if (!alone)
		return vf_oom(err);
	int rc = read_range_rows(reader->txn, from, to, alone, &rows, err);
	if (!rc)
		roaring_bitmap_or_inplace(out, alone);
	if (!rc && rows >= KEPT_ROWS_MIN)
		vf_range_cache_keep(reader->cache, snapshot, from, to, alone);
	roaring_bitmap_free(alone);
	return rc;
}

/* A term with what was read of its posting so far. */
struct run {
	uint8_t bytes[VF_TERM_BYTES_MAX];
	size_t len;
	struct pile pile;
	int (*emit)(void *ctx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err);
	void *ctx;
};

static int end_run(struct run *run, struct vf_err *err)
{
	int rc;

	if (run->len == 0)
		return 0;
	if ((rc = settle(&run->pile, err)) || (rc = run->emit(run->ctx, vf_span(run->bytes, run->len), run->pile.out, err)))
		return rc;
	roaring_bitmap_clear(run->pile.out);
	return 0;
}

static int run_terms(struct run *run, struct vf_scan *scan, struct vf_span to, struct vf_err *err)
{
	struct vf_span term, row;
	uint32_t chunk;
	int rc;

	while ((rc = step(scan, to, &term, &chunk, &row, err)) == 0) {
		if (!vf_span_equal(term, vf_span(run->bytes, run->len))) {
			if ((rc = end_run(run, err)))
				return rc;
			memcpy(run->bytes, term.data, term.len);
			run->len = term.len;
		}
		if ((rc = take_row(&run->pile, row, chunk, err)))
			return rc;
	}
	return rc < 0 ? rc : end_run(run, err);
}

static int read_each(void *ctx, struct vf_span from, struct vf_span to,
                     int (*emit)(void *ectx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err), void *ectx,
                     struct vf_err *err)
{
	struct vf_postings_reader *reader = ctx;
	struct run run = { .len = 0, .emit = emit, .ctx = ectx };
	struct vf_scan *scan = NULL;
	int rc;

	if (!(run.pile.out = roaring_bitmap_create()))
		return vf_oom(err);
	if (!(rc = vf_scan_open(reader->txn, VF_T_POSTINGS, from, &scan, err)))
		rc = run_terms(&run, scan, to, err);
	vf_scan_close(&scan);
	drop_chunks(&run.pile);
	roaring_bitmap_free(run.pile.out);
	return rc;
}

static int read_metadata(void *ctx, uint32_t slot, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	struct vf_postings_reader *reader = ctx;
	struct vf_record_row row;
	struct vf_span serial;
	int rc = vf_get_u64(reader->txn, VF_T_SLOTS, slot, &serial, err);

	if (rc)
		return rc;
	if (serial.len != sizeof(uint64_t))
		return vf_fail(err, EIO, "slot %u has a row of %zu bytes", slot, serial.len);
	if ((rc = vf_row_of_serial(reader->txn, vf_load_u64(serial.data), &row, err)))
		return rc;
	return vf_metadata_decode(row.metadata, arena, out, err);
}

void vf_postings_reader_init(struct vf_postings_reader *reader, struct vf_txn *txn)
{
	reader->txn = txn;
	reader->cache = NULL;
	reader->source = (struct vf_posting_source){ read_range, read_metadata, read_each, reader };
}
