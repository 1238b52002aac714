/* SPDX-License-Identifier: MIT */
/* The bytes of a small file while it is written: any order, gaps are zeros, one piece of memory so that it can be decoded. */
#include "face_internal.h"

#include <errno.h>

/* Memory is asked of the budget in steps, so that a file written byte by byte does not ask for each. */
#define STEP 4096u

void vf_stage_init(struct vf_stage *stage, struct vf_budget *budget, uid_t uid, uint64_t max)
{
	*stage = (struct vf_stage){ .budget = budget, .uid = uid, .max = max };
}

void vf_stage_free(struct vf_stage *stage)
{
	vf_buf_free(&stage->bytes);
	vf_budget_give(stage->budget, stage->uid, stage->charged);
	stage->charged = 0;
}

static int lengthen(struct vf_stage *stage, uint64_t size, struct vf_err *err)
{
	int rc = 0;

	if (size > stage->max)
		return vf_fail(err, EFBIG, "the file has at most %llu bytes, %llu were asked for", (unsigned long long)stage->max, (unsigned long long)size);
	if (size <= stage->bytes.len)
		return 0;
	if (size > stage->charged) {
		uint64_t want = (size + size / 2 + STEP - 1) / STEP * STEP;
		rc = vf_budget_take(stage->budget, stage->uid, want - stage->charged, err);
		if (rc)
			return rc;
		stage->charged = want;
	}
	rc = vf_buf_reserve(&stage->bytes, size - stage->bytes.len, err);
	if (rc)
		return rc;
	memset(stage->bytes.data + stage->bytes.len, 0, size - stage->bytes.len);
	stage->bytes.len = size;
	return 0;
}

int vf_stage_write(struct vf_stage *stage, struct vf_span data, uint64_t offset, struct vf_err *err)
{
	if (data.len == 0)
		return 0;
	int rc = offset > UINT64_MAX - data.len ? vf_fail(err, EFBIG, "offset %llu is too far", (unsigned long long)offset)
	                                        : lengthen(stage, offset + data.len, err);

	if (rc == 0)
		memcpy(stage->bytes.data + offset, data.data, data.len);
	return rc;
}

int vf_stage_cut(struct vf_stage *stage, uint64_t size, struct vf_err *err)
{
	if (size >= stage->bytes.len)
		return lengthen(stage, size, err);
	stage->bytes.len = size;
	return 0;
}
