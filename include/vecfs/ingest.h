/* SPDX-License-Identifier: MIT */
/* ingest.h - the stream that is written to `insert`, in pieces of any size, to records one after the other.
 *
 * Told apart by content: a msgpack stream of records (concatenated streams too), a msgpack array of records, JSON Lines, a JSON array,
 * {"vectors": [...]} in either format, a NumPy .npy matrix of float32 or float64 (C or Fortran order; keys are the row numbers). Only the piece of a record
 * that is not complete yet is kept (a record has at most VF_RECORD_FILE_BYTES_MAX); a {"vectors": ...} body is kept whole
 * (VF_VALUE_BYTES_MAX), and so is a matrix in Fortran order. */
#ifndef VECFS_INGEST_H
#define VECFS_INGEST_H

#include "vecfs/record.h"

/* Called for each record as soon as it is complete; the record is lent for the call. A failure stops the stream. */
typedef int (*vf_record_sink)(void *ctx, const struct vf_record *record, struct vf_err *err);

/* Where a request says it is meant for; compared by the face with where it was written. */
struct vf_target { struct vf_span bucket, index; };   /* len 0: not said; indexArn sets both */
int vf_target_check(const struct vf_target *target, const char *bucket, const char *index, struct vf_err *err);

struct vf_ingest;
/* `bucket` and `index` name the place, for vf_target_check; lent until free. */
int vf_ingest_new(const char *bucket, const char *index, vf_record_sink sink, void *ctx, struct vf_ingest **out, struct vf_err *err);
void vf_ingest_free(struct vf_ingest **ingest);
/* After a failure every later call fails the same way. Errors of content carry the byte offset in the whole stream at which the record begins
 * and its number, counted from 1; broken bytes the offset at which they break. What the sink says is told the same way when it is EINVAL
 * or EFBIG, and as it is otherwise. */
int vf_ingest_feed(struct vf_ingest *ingest, struct vf_span bytes, struct vf_err *err);
/* The stream has ended: EINVAL when a record is incomplete. Nothing written at all is 0. Ready for the next stream. */
int vf_ingest_end(struct vf_ingest *ingest, struct vf_err *err);
/* The format that a receipt is due in: JSON for JSON and .npy. */
enum vf_format vf_ingest_format(const struct vf_ingest *ingest);
/* True between values: what came so far is complete. */
bool vf_ingest_at_boundary(const struct vf_ingest *ingest);

#endif
