/* SPDX-License-Identifier: MIT */
/* posting_reader.c - what filters ask of postings, over one transaction. */
#include <errno.h>

#include "index_internal.h"
#include "posting_row.h"
#include "vecfs/record.h"

/* Slots of short rows wait here, so that the bitmap is asked once for many. */
struct waiting {
	vf_bitmap *out;
	size_t count;
	uint32_t slots[4096];
};

static void settle(struct waiting *w)
{
	roaring_bitmap_add_many(w->out, w->count, w->slots);
	w->count = 0;
}

static int take_row(struct waiting *w, struct vf_span row, uint32_t chunk, struct vf_err *err)
{
	roaring_bitmap_t *slots;

	if (w->count + VF_POSTING_LIST_MAX > sizeof w->slots / sizeof w->slots[0])
		settle(w);
	int n = vf_posting_list(row, chunk, w->slots + w->count, err);
	if (n) {
		w->count += n > 0 ? (size_t)n : 0;
		return n < 0 ? n : 0;
	}
	int rc = vf_posting_bitmap(row, chunk, &slots, err);
	if (rc)
		return rc;
	roaring_bitmap_or_inplace(w->out, slots);
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

static int read_range(void *ctx, struct vf_span from, struct vf_span to, vf_bitmap *out, struct vf_err *err)
{
	struct vf_postings_reader *reader = ctx;
	struct waiting waiting;
	struct vf_scan *scan = NULL;
	struct vf_span term, row;
	uint32_t chunk;
	int rc = vf_scan_open(reader->txn, VF_T_POSTINGS, from, &scan, err);

	if (rc)
		return rc;
	waiting.out = out;
	waiting.count = 0;
	while ((rc = step(scan, to, &term, &chunk, &row, err)) == 0)
		if ((rc = take_row(&waiting, row, chunk, err)))
			break;
	settle(&waiting);
	vf_scan_close(&scan);
	return rc < 0 ? rc : 0;
}

/* A term with what was read of its posting so far. */
struct run {
	uint8_t bytes[VF_TERM_BYTES_MAX];
	size_t len;
	struct waiting waiting;
};

struct each {
	int (*emit)(void *ctx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err);
	void *ctx;
};

static int end_run(struct run *run, const struct each *each, struct vf_err *err)
{
	if (run->len == 0)
		return 0;
	settle(&run->waiting);
	int rc = each->emit(each->ctx, vf_span(run->bytes, run->len), run->waiting.out, err);
	roaring_bitmap_clear(run->waiting.out);
	run->len = 0;
	return rc;
}

static int run_terms(struct run *run, struct vf_scan *scan, struct vf_span to, const struct each *each, struct vf_err *err)
{
	struct vf_span term, row;
	uint32_t chunk;
	int rc;

	while ((rc = step(scan, to, &term, &chunk, &row, err)) == 0) {
		if (!vf_span_equal(term, vf_span(run->bytes, run->len))) {
			if ((rc = end_run(run, each, err)))
				return rc;
			memcpy(run->bytes, term.data, term.len);
			run->len = term.len;
		}
		if ((rc = take_row(&run->waiting, row, chunk, err)))
			return rc;
	}
	return rc < 0 ? rc : end_run(run, each, err);
}

static int read_each(void *ctx, struct vf_span from, struct vf_span to,
                     int (*emit)(void *ectx, struct vf_span term, const vf_bitmap *slots, struct vf_err *err), void *ectx,
                     struct vf_err *err)
{
	struct vf_postings_reader *reader = ctx;
	struct each each = { emit, ectx };
	struct vf_scan *scan = NULL;
	struct run run;
	int rc;

	run.len = run.waiting.count = 0;
	if (!(run.waiting.out = roaring_bitmap_create()))
		return vf_oom(err);
	if (!(rc = vf_scan_open(reader->txn, VF_T_POSTINGS, from, &scan, err)))
		rc = run_terms(&run, scan, to, &each, err);
	vf_scan_close(&scan);
	roaring_bitmap_free(run.waiting.out);
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
	reader->source = (struct vf_posting_source){ read_range, read_metadata, read_each, reader };
}
