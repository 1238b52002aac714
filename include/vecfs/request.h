/* SPDX-License-Identifier: MIT */
/* request.h - what is written to update and delete, and the receipts of all verbs. */
#ifndef VECFS_REQUEST_H
#define VECFS_REQUEST_H

#include "vecfs/ingest.h"

/* {"key": K | "keys": [...] | "filter": {...}, "set": {field: value}, "unset": [field]} */
struct vf_update {
	struct vf_span *keys; size_t nkeys;
	struct vf_filter *filter;              /* NULL: by keys */
	struct vf_value set;                   /* VF_MAP, count 0 when none; values checked as metadata */
	struct vf_span *unset; size_t nunset;
	struct vf_target target;
};
int vf_update_from_value(const struct vf_value *value, const struct vf_config *config, struct vf_arena *arena,
                         struct vf_update *out, struct vf_err *err);
/* The metadata after the update, canonical. EFBIG past the limits. */
int vf_update_apply(const struct vf_update *update, struct vf_span metadata, const struct vf_field_rule *rule,
                    struct vf_buf *out, struct vf_err *err);

/* {"keys": [...]} | {"filter": {...}} | a key string (a stream of them is several requests in one transaction) */
struct vf_delete {
	struct vf_span *keys; size_t nkeys;
	struct vf_filter *filter;
	struct vf_target target;
};
int vf_delete_from_value(const struct vf_value *value, const struct vf_config *config, struct vf_arena *arena,
                         struct vf_delete *out, struct vf_err *err);

struct vf_receipt { uint64_t inserted, replaced, skipped, updated, deleted, unknown; };
/* For requests that are carried out in parts. */
void vf_receipt_add(struct vf_receipt *sum, const struct vf_receipt *part);
enum vf_receipt_kind { VF_RECEIPT_INSERT, VF_RECEIPT_UPDATE, VF_RECEIPT_DELETE };
/* JSON ends in a newline. */
int vf_receipt_render(const struct vf_receipt *receipt, enum vf_receipt_kind kind, enum vf_format format,
                      struct vf_buf *out, struct vf_err *err);

#endif
