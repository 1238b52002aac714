/* SPDX-License-Identifier: MIT */
/* posting_row.h - one row of postings: the slots of a term in one chunk of 65,536. doc/FORMAT.md has it byte by byte.
 *
 * Most terms that are a record's own have one slot: those rows are three bytes and never become a bitmap object. */
#ifndef VECFS_POSTING_ROW_H
#define VECFS_POSTING_ROW_H

#include <roaring/roaring.h>

#include "vecfs/filter.h"

#define VF_POSTING_LIST_MAX 32u        /* more slots than these are a bitmap */
#define VF_POSTING_NAME_MAX (VF_TERM_BYTES_MAX + 2u)

/* A row's key into out[VF_POSTING_NAME_MAX]; the term is not longer than VF_TERM_BYTES_MAX. */
struct vf_span vf_posting_name(struct vf_span term, uint32_t chunk, uint8_t *out);
/* And back; EIO when it is none. */
int vf_posting_name_split(struct vf_span name, struct vf_span *term, uint32_t *chunk, struct vf_err *err);

/* A row's slots, rising, into out[VF_POSTING_LIST_MAX] when they are a list: their number; 0 when they are a bitmap. EIO when damaged. */
int vf_posting_list(struct vf_span row, uint32_t chunk, uint32_t *out, struct vf_err *err);
/* The slots of a row that is a bitmap. */
int vf_posting_bitmap(struct vf_span row, uint32_t chunk, roaring_bitmap_t **out, struct vf_err *err);

/* Rows of 1 and more slots, all in one chunk; `out` is overwritten. The rising list may be longer than VF_POSTING_LIST_MAX. */
int vf_posting_encode_list(const uint32_t *slots, size_t count, struct vf_buf *out, struct vf_err *err);
/* Run-optimizes the bitmap. */
int vf_posting_encode_bitmap(roaring_bitmap_t *slots, struct vf_buf *out, struct vf_err *err);

#endif
