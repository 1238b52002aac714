/* SPDX-License-Identifier: MIT */
/* When records, and when saved questions, last changed: the times of vectors/ and queries/. Each is written in the transaction that changes them, and
 * kept in memory for those that ask. */
#include <errno.h>

#include "index_internal.h"
#include "vecfs/format.h"

static const char *const row_of[] = { [VF_PART_RECORDS] = "records_mtime", [VF_PART_SAVED] = "saved_mtime" };

int vf_part_mtime_put(struct vf_txn *txn, enum vf_index_part part, int64_t mtime_ns, struct vf_err *err)
{
	uint8_t bytes[8];

	vf_store_u64(bytes, (uint64_t)mtime_ns);
	return vf_put(txn, VF_T_META, vf_span_str(row_of[part]), vf_span(bytes, sizeof bytes), err);
}

int vf_part_mtimes_load(struct vf_index *index, struct vf_txn *txn, struct vf_err *err)
{
	struct vf_span bytes;

	for (int part = 0; part < VF_PARTS; part++) {
		int rc = vf_get(txn, VF_T_META, vf_span_str(row_of[part]), &bytes, err);
		if (rc < 0)
			return rc;
		atomic_store(&index->part_mtime_ns[part], rc == 0 && bytes.len == 8 ? (int64_t)vf_load_u64(bytes.data) : 0);
	}
	return 0;
}

int64_t vf_index_part_mtime(struct vf_index *index, enum vf_index_part part)
{
	return atomic_load(&index->part_mtime_ns[part]);
}

struct touch {
	struct vf_index *index;
	enum vf_index_part part;
	int64_t mtime_ns;
};

static int write_touch(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	const struct touch *t = ctx;

	return vf_part_mtime_put(txn, t->part, t->mtime_ns, err);
}

static void touch_done(void *ctx, bool ok)
{
	const struct touch *t = ctx;

	if (ok)
		atomic_store(&t->index->part_mtime_ns[t->part], t->mtime_ns);
}

int vf_index_set_part_mtime(struct vf_index *index, enum vf_index_part part, int64_t mtime_ns, struct vf_err *err)
{
	struct touch t = { index, part, mtime_ns };
	struct vf_job job = { .write = write_touch, .done = touch_done, .ctx = &t };

	return vf_index_commit(index, &job, err);
}
