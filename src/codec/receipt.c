/* SPDX-License-Identifier: MIT */
#include "vecfs/request.h"

static void count(struct vf_emitter *e, const char *name, uint64_t n)
{
	vf_emit_name(e, name);
	vf_emit_int(e, (int64_t)n);
}

void vf_receipt_add(struct vf_receipt *sum, const struct vf_receipt *part)
{
	sum->inserted += part->inserted;
	sum->replaced += part->replaced;
	sum->skipped += part->skipped;
	sum->updated += part->updated;
	sum->deleted += part->deleted;
	sum->unknown += part->unknown;
}

int vf_receipt_render(const struct vf_receipt *receipt, enum vf_receipt_kind kind, enum vf_format format,
                      struct vf_buf *out, struct vf_err *err)
{
	struct vf_emitter e;

	vf_emit_begin(&e, format, out);
	switch (kind) {
	case VF_RECEIPT_INSERT:
		vf_emit_map(&e, 3);
		count(&e, "inserted", receipt->inserted);
		count(&e, "replaced", receipt->replaced);
		count(&e, "skipped", receipt->skipped);
		break;
	case VF_RECEIPT_UPDATE:
		vf_emit_map(&e, 2);
		count(&e, "updated", receipt->updated);
		count(&e, "unknown", receipt->unknown);
		break;
	case VF_RECEIPT_DELETE:
		vf_emit_map(&e, 2);
		count(&e, "deleted", receipt->deleted);
		count(&e, "unknown", receipt->unknown);
		break;
	}
	vf_emit_close(&e);
	int rc = vf_emit_end(&e, err);
	return rc == 0 && format == VF_JSON ? vf_buf_put_str(out, "\n", err) : rc;
}
