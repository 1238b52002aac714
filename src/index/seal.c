/* SPDX-License-Identifier: MIT */
/* seal.c - an index that is going to be removed, or is. Whether it is empty is looked at in the writers' turn, and from then on their turn is none:
 * so no insert can return between that look and the removal, and be lost. The look is the last of its transaction, and holds when that has
 * succeeded: it may have to be tried again, with writers in it that were there before. */
#include <errno.h>

#include "index_internal.h"

struct seal { struct vf_index *index; bool unlisted; };

static int write_seal(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	const struct seal *seal = ctx;
	struct vf_counters counters;
	uint64_t records, questions;
	char name[256];
	int rc;

	if ((rc = vf_counters_get(txn, &counters, err)) || (rc = vf_count(txn, VF_T_KEYS, &records, err)) ||
	    (rc = vf_count(txn, VF_T_QUESTIONS, &questions, err)))
		return rc;
	if (!seal->unlisted)
		records -= counters.unlisted_keys < records ? counters.unlisted_keys : records;
	if (records || questions) {
		vf_index_name(seal->index, name);
		return vf_fail(err, ENOTEMPTY, "index %s holds %llu records and %llu saved questions", name, (unsigned long long)records,
		               (unsigned long long)questions);
	}
	return 0;
}

static void sealed(void *ctx, bool ok)
{
	const struct seal *seal = ctx;

	if (ok)
		atomic_store(&seal->index->removed, true);
}

int vf_index_seal(struct vf_index *index, bool unlisted, struct vf_err *err)
{
	struct seal seal = { index, unlisted };
	struct vf_job job = { .write = write_seal, .done = sealed, .ctx = &seal, .frees = true, .last = true };
	int rc = vf_index_check_there(index, err);

	return rc ? rc : vf_index_commit(index, &job, err);
}

void vf_index_unseal(struct vf_index *index)
{
	atomic_store(&index->removed, false);
}

void vf_index_removed(struct vf_index *index)
{
	atomic_store(&index->removed, true);
}

int vf_index_check_there(struct vf_index *index, struct vf_err *err)
{
	char name[256];

	if (!atomic_load(&index->removed))
		return 0;
	vf_index_name(index, name);
	return vf_fail(err, ENOENT, "index %s was removed", name);
}
