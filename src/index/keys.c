/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "ask_internal.h"

/* A walk holds one row ahead, or a group: the keys that share the head of a long one, sorted. Groups are rare, so most steps
 * copy nothing. */
struct vf_key_walk {
	struct vf_txn *txn;
	struct vf_scan *scan;
	struct vf_buf from;
	bool ahead;                /* `row` was read and not given */
	struct vf_span row;        /* name of a row in the table of keys */
	uint64_t serial;
	struct vf_walked *group;
	size_t n, at, cap;
};

int vf_walked_compare(const void *a, const void *b)
{
	return vf_span_compare(((const struct vf_walked *)a)->key, ((const struct vf_walked *)b)->key);
}

static struct vf_span head_of(struct vf_span s)
{
	return vf_span(s.data, s.len < VF_KEY_ROW_HEAD ? s.len : VF_KEY_ROW_HEAD);
}

int vf_key_walk_open(struct vf_txn *txn, struct vf_span from, struct vf_key_walk **out, struct vf_err *err)
{
	struct vf_key_walk *walk = calloc(1, sizeof *walk);

	if (!walk)
		return vf_oom(err);
	walk->txn = txn;
	int rc = vf_buf_put(&walk->from, from.data, from.len, err);
	/* The head, since a long key's row may stand before `from` and its key behind it. */
	if (!rc)
		rc = vf_scan_open(txn, VF_T_KEYS, head_of(from), &walk->scan, err);
	if (rc)
		vf_key_walk_close(&walk);
	*out = walk;
	return rc;
}

void vf_key_walk_close(struct vf_key_walk **walk)
{
	if (!*walk)
		return;
	vf_scan_close(&(*walk)->scan);
	vf_buf_free(&(*walk)->from);
	free((*walk)->group);
	free(*walk);
	*walk = NULL;
}

static int look_ahead(struct vf_key_walk *walk, struct vf_err *err)
{
	struct vf_span value;
	struct vf_key_row row;

	if (walk->ahead)
		return 0;
	int rc = vf_scan_step(walk->scan, &walk->row, &value, err);
	if (rc)
		return rc;
	rc = vf_key_row_decode(value, &row, err);
	if (rc)
		return rc;
	walk->serial = row.serial;
	walk->ahead = true;
	return 0;
}

static int whole_key(struct vf_key_walk *walk, struct vf_walked *out, struct vf_err *err)
{
	struct vf_record_row record;

	*out = (struct vf_walked){ walk->row, walk->serial };
	if (walk->row.len <= VF_KEY_ROW_MAX)
		return 0;
	int rc = vf_row_of_serial(walk->txn, walk->serial, &record, err);
	if (rc == 1)
		return vf_fail(err, EIO, "a long key names record %llu, which is not there", (unsigned long long)walk->serial);
	if (!rc)
		out->key = record.key;
	return rc;
}

static int group_push(struct vf_key_walk *walk, const struct vf_walked *key, struct vf_err *err)
{
	if (walk->n == walk->cap) {
		size_t cap = walk->cap ? 2 * walk->cap : 16;
		struct vf_walked *more = realloc(walk->group, cap * sizeof *more);
		if (!more)
			return vf_oom(err);
		walk->group = more;
		walk->cap = cap;
	}
	walk->group[walk->n++] = *key;
	return 0;
}

/* All rows with the head of the one ahead. */
static int gather_group(struct vf_key_walk *walk, struct vf_err *err)
{
	struct vf_span head = head_of(walk->row);
	int rc;

	walk->n = walk->at = 0;
	while ((rc = look_ahead(walk, err)) == 0 && vf_span_has_prefix(walk->row, head)) {
		struct vf_walked key;
		if ((rc = whole_key(walk, &key, err)) || (rc = group_push(walk, &key, err)))
			return rc;
		walk->ahead = false;
	}
	if (rc < 0)
		return rc;
	if (walk->n > 1)
		qsort(walk->group, walk->n, sizeof *walk->group, vf_walked_compare);
	return 0;
}

static int next_key(struct vf_key_walk *walk, struct vf_walked *out, struct vf_err *err)
{
	if (walk->at == walk->n) {
		int rc = look_ahead(walk, err);
		if (rc)
			return rc;
		if (walk->row.len < VF_KEY_ROW_HEAD) {
			walk->ahead = false;
			*out = (struct vf_walked){ walk->row, walk->serial };
			return 0;
		}
		rc = gather_group(walk, err);
		if (rc)
			return rc;
	}
	*out = walk->group[walk->at++];
	return 0;
}

int vf_key_walk_step(struct vf_key_walk *walk, struct vf_walked *out, struct vf_err *err)
{
	for (;;) {
		int rc = next_key(walk, out, err);
		if (rc || walk->from.len == 0)
			return rc;
		if (vf_span_compare(out->key, vf_buf_span(&walk->from)) >= 0) {
			vf_buf_clear(&walk->from);
			return 0;
		}
	}
}
