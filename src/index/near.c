/* SPDX-License-Identifier: MIT */
/* near.c - the neighbours of a stored vector, without an answer around them. */
#include "vecfs/index.h"

#include <errno.h>

#include "ask_internal.h"

static int copy_rows(struct vf_ask *ask, const struct vf_ranking *rows, struct vf_arena *arena, struct vf_neighbour *out,
                     struct vf_err *err)
{
	for (size_t i = 0; i < rows->n; i++) {
		struct vf_record_row record;
		int rc = vf_row_of_serial(ask->txn, rows->rows[i].serial, &record, err);
		if (rc == 1)
			return vf_fail(err, EIO, "vector %llu has no record", (unsigned long long)rows->rows[i].serial);
		if (rc)
			return rc;
		out[i] = (struct vf_neighbour){ vf_arena_copy(arena, record.key), rows->rows[i].distance };
		if (!out[i].key.data)
			return vf_oom(err);
	}
	return 0;
}

static int near_once(struct vf_index *index, struct vf_span key, uint64_t top_k, struct vf_arena *arena, struct vf_neighbour **out, size_t *n,
                     struct vf_err *err)
{
	struct vf_question question = { .key = key, .has_top_k = true, .top_k = top_k };
	struct vf_probe probe = { .vector = NULL };
	struct vf_ask ask;
	int rc = vf_ask_init(&ask, index, &question, err);

	if (!rc && (rc = vf_ask_run(&ask, &probe, 1, err)) == 0) {
		*n = probe.answer.n;
		*out = vf_arena_alloc(arena, (*n ? *n : 1) * sizeof **out);
		rc = *out ? copy_rows(&ask, &probe.answer, arena, *out, err) : vf_oom(err);
	}
	vf_probe_free(&probe);
	vf_ask_free(&ask);
	return rc;
}

int vf_index_near(struct vf_index *index, struct vf_span key, uint64_t top_k, struct vf_arena *arena, struct vf_neighbour **out, size_t *n,
                  struct vf_err *err)
{
	int rc;

	while ((rc = near_once(index, key, top_k, arena, out, n, err)) == VF_OTHER_CONFIG)
		*err = (struct vf_err)VF_ERR_INIT;
	return rc;
}
