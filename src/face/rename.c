/* SPDX-License-Identifier: MIT */
/* rename: of buckets and indexes in the catalog; inside an index of records (a new key), saved questions and temporary files. A temporary file
 * that is given a proper name is committed under it; a record that is given a temporary name becomes a temporary file. */
#include "face_internal.h"

#include <errno.h>

#include "vecfs/clock.h"
#include <fcntl.h>
#include <stdio.h>

/* One side of a rename. */
struct side {
	struct vf_node *dir;
	const char *name;
	enum { SCRATCH, RECORD, SAVED, CONFIG, VERB, COMPUTED, NOTHING } what;
	struct vf_span key;            /* RECORD */
};

/* ---- buckets and indexes ---- */

static int rename_bucket(struct vf_call *call, const char *from, const char *to, bool replace)
{
	if (vf_fixed_row(VF_ROW_ROOT, from) != VF_ROWS || vf_fixed_row(VF_ROW_ROOT, to) != VF_ROWS)
		return vf_fail(&call->err, EPERM, ".vecfs is always there");
	vf_site_naming_begin(call->face);
	int rc = vf_catalog_rename(call->face->catalog, from, NULL, to, NULL, !replace, &call->err);
	if (rc == 0 && strcmp(from, to) != 0) {
		vf_site_gone(call->face, to, NULL);
		vf_site_renamed(call->face, from, NULL, to, NULL);
	}
	vf_site_naming_end(call->face);
	return rc;
}

static int rename_index(struct vf_call *call, struct vf_node *from_dir, const char *from, struct vf_node *to_dir, const char *to, bool replace)
{
	struct vf_site_names a, b;

	vf_site_naming_begin(call->face);
	vf_site_names(call->face, from_dir->site, &a);
	vf_site_names(call->face, to_dir->site, &b);
	int rc = vf_catalog_rename(call->face->catalog, a.bucket, from, b.bucket, to, !replace, &call->err);
	if (rc == 0 && (strcmp(a.bucket, b.bucket) != 0 || strcmp(from, to) != 0)) {
		vf_site_gone(call->face, b.bucket, to);
		vf_site_renamed(call->face, a.bucket, from, b.bucket, to);
	}
	vf_site_naming_end(call->face);
	return rc;
}

/* ---- inside an index ---- */

/* What a fixed entry of an index is here. */
static int fixed_kind(const char *name)
{
	switch (vf_fixed_row(VF_ROW_INDEX, name)) {
	case VF_ROW_CONFIG: return CONFIG;
	case VF_ROW_INSERT: case VF_ROW_QUERY: case VF_ROW_UPDATE: case VF_ROW_DELETE: return VERB;
	case VF_ROW_STATS: case VF_ROW_ERRORS: return COMPUTED;
	default: return NOTHING;
	}
}

static int side_of(struct vf_call *call, struct vf_node *dir, const char *name, struct side *out)
{
	enum vf_row_id row = vf_row_id(dir->row);
	enum vf_name_kind kind = VF_NAME_OTHER;
	int rc = 0;

	*out = (struct side){ .dir = dir, .name = name, .what = NOTHING };
	if (row == VF_ROW_VECTORS)
		rc = vf_vectors_name(call, name, &kind, &row, &out->key);
	else if (row == VF_ROW_QUERIES || row == VF_ROW_ANSWERS)
		kind = vf_queries_name(name);
	else if (row == VF_ROW_INDEX && vf_name_is_scratch(name))
		kind = VF_NAME_SCRATCH;
	if (kind == VF_NAME_SCRATCH)
		out->what = SCRATCH;
	else if (kind == VF_NAME_GOOD)
		out->what = row == VF_ROW_QUERIES ? SAVED : row == VF_ROW_ANSWERS ? COMPUTED : RECORD;
	else if (row == VF_ROW_INDEX)
		out->what = fixed_kind(name);
	return rc;
}

static int bad_name(struct vf_call *call, const struct side *side)
{
	switch (vf_row_id(side->dir->row)) {
	case VF_ROW_VECTORS: return vf_vectors_bad_name(call, side->name);
	case VF_ROW_QUERIES: return vf_queries_bad_name(call, side->name);
	case VF_ROW_ANSWERS: return vf_fail(&call->err, EPERM, "answers are computed: %s cannot be renamed", side->name);
	default:             return vf_fail(&call->err, EPERM, "%s: only config and temporary files can be renamed here, and only to one another", side->name);
	}
}

/* Fixed entries and answers: there, unless they were unlinked a moment ago. */
static bool stands_in_the_way(struct vf_call *call, const struct side *to)
{
	struct vf_found found;

	if (to->what != CONFIG && to->what != VERB && to->what != COMPUTED)
		return false;
	if (to->dir->row->dir->lookup(call, to->dir, to->name, &found))
		return false;
	vf_found_drop(call->face, &found);
	return true;
}

static void show(struct vf_call *call, const struct side *to)
{
	if (vf_row_id(to->dir->row) == VF_ROW_INDEX)
		vf_show(call, vf_fixed_row(VF_ROW_INDEX, to->name), to->dir->site, vf_span_str(""));
}

/* What was copied over a fixed entry that only takes what is written to it: a copy of an index that is restored brings empty ones along. */
static int is_nothing(struct vf_call *call, struct vf_scratch *scratch, const struct side *to)
{
	return to->what == COMPUTED || vf_scratch_size(scratch) == 0
	       ? 0 : vf_fail(&call->err, EPERM, "%s takes what is written to it, not files that are renamed to it", to->name);
}

static int become(struct vf_call *call, struct vf_scratch *scratch, const struct side *to, bool replace)
{
	if (!replace && stands_in_the_way(call, to))
		return vf_fail(&call->err, EEXIST, "%s is there already", to->name);
	switch (to->what) {
	case RECORD: return vf_scratch_become(call, scratch, to->dir->site, VF_ROW_VECTORS, to->key, replace);
	case SAVED:  return vf_scratch_become(call, scratch, to->dir->site, VF_ROW_QUERIES, vf_span_str(to->name), replace);
	case CONFIG: return vf_scratch_become(call, scratch, to->dir->site, VF_ROW_INDEX, vf_span_str(to->name), replace);
	case VERB: case COMPUTED: return is_nothing(call, scratch, to);
	case SCRATCH: case NOTHING: break;
	}
	return bad_name(call, to);
}

static int from_scratch(struct vf_call *call, const struct side *from, const struct side *to, bool replace)
{
	if (to->what == SCRATCH)
		return vf_scratch_rename(call, from->dir, from->name, to->dir, to->name, replace);
	struct vf_scratch *scratch = vf_scratch_find(call->face, from->dir, from->name);
	if (!scratch)
		return -ENOENT;
	int rc = become(call, scratch, to, replace);
	if (rc == 0) {
		show(call, to);
		vf_scratch_unlink(call, from->dir, from->name);
		vf_scratch_left(scratch);
	}
	vf_scratch_put(scratch);
	return rc;
}

/* The bytes that reading the file would give. */
static int bytes_of(struct vf_call *call, const struct side *side, struct vf_buf *out, int64_t *mtime_ns)
{
	struct vf_record record;
	struct vf_record_stat stat = { 0 };
	struct vf_saved saved = { 0 };
	int rc = vf_call_hold(call, side->dir->site);

	*mtime_ns = 0;
	if (rc)
		return rc;
	switch (side->what) {
	case RECORD:
		rc = vf_index_get(call->index, side->key, &call->arena, &record, &stat, &call->err);
		*mtime_ns = stat.mtime_ns;
		return rc ? rc : vf_record_render(&record, vf_saved_format(vf_span_str(side->name)), out, &call->err);
	case SAVED:
		rc = vf_index_saved_get(call->index, side->name, out, &saved, &call->err);
		*mtime_ns = saved.mtime_ns;
		return rc;
	case CONFIG:
		rc = vf_config_text(call, call->index, out);
		return rc ? rc : vf_index_config_mtime(call->index, mtime_ns, &call->err);
	case SCRATCH: case VERB: case COMPUTED: case NOTHING:
		break;
	}
	return bad_name(call, side);
}

/* An editor moves the old file out of the way before it writes the new one, and deletes it when that has worked. config stays where it is. */
static int to_scratch(struct vf_call *call, const struct side *from, const struct side *to, bool replace)
{
	struct vf_buf bytes = VF_BUF_INIT;
	struct vf_scratch *there = replace ? NULL : vf_scratch_find(call->face, to->dir, to->name);
	int64_t mtime_ns;

	if (there) {
		vf_scratch_put(there);
		return -EEXIST;
	}
	int rc = bytes_of(call, from, &bytes, &mtime_ns);
	if (rc == 0)
		rc = vf_scratch_keep(call, to->dir, to->name, vf_buf_span(&bytes), mtime_ns);
	if (rc == 0 && from->what != CONFIG)
		rc = from->dir->row->dir->unlink(call, from->dir, from->name);
	vf_buf_free(&bytes);
	return rc;
}

/* In the directory of both, whatever is open: what `to` was has no name any more, what `from` was has that one. A file that is being created has
 * nothing on disk yet (-ENOENT): its writer goes on under the new name all the same. */
static int moved(struct vf_call *call, enum vf_row_id dir, struct vf_site *site, struct vf_span from, struct vf_span to, int rc)
{
	if (rc && rc != -ENOENT)
		return rc;
	return vf_writers_moved(call->face, site, dir, from, to, rc == 0) ? 0 : rc;
}

static int rekey(struct vf_call *call, const struct side *from, const struct side *to, bool replace)
{
	struct vf_site *site = from->dir->site;

	if (vf_span_equal(from->key, to->key))
		return 0;
	vf_names_lock(call->face, site, from->key, to->key);
	int rc = moved(call, VF_ROW_VECTORS, site, from->key, to->key, vf_index_rekey(call->index, from->key, to->key, replace, &call->err));
	vf_names_unlock(call->face, site, from->key, to->key);
	if (rc)
		return rc;
	vf_node_detached(call->face, VF_ROW_RECORD, site, from->key);
	vf_node_detached(call->face, VF_ROW_RECORD_JSON, site, from->key);
	return 0;
}

static int rename_saved(struct vf_call *call, const struct side *from, const struct side *to, bool replace)
{
	struct vf_site *site = from->dir->site;
	struct vf_span a = vf_span_str(from->name), b = vf_span_str(to->name);

	if (vf_span_equal(a, b))
		return 0;
	vf_names_lock(call->face, site, a, b);
	int rc = moved(call, VF_ROW_QUERIES, site, a, b, vf_index_saved_rename(call->index, from->name, to->name, replace, &call->err));
	vf_names_unlock(call->face, site, a, b);
	if (rc == 0)
		vf_node_detached(call->face, VF_ROW_SAVED, site, a);
	return rc;
}

static int inside(struct vf_call *call, const struct side *from, const struct side *to, bool replace)
{
	if (from->dir->site != to->dir->site)
		return -EXDEV;
	if (from->what == NOTHING || from->what == VERB || from->what == COMPUTED)
		return bad_name(call, from);
	if (to->what == NOTHING)
		return bad_name(call, to);
	if (from->what == SCRATCH)
		return from_scratch(call, from, to, replace);
	if (to->what == SCRATCH)
		return to_scratch(call, from, to, replace);
	if (to->what == VERB || to->what == COMPUTED)
		return bad_name(call, to);
	if (from->dir != to->dir)
		return -EXDEV;
	switch (from->what) {
	case RECORD: return rekey(call, from, to, replace);
	case SAVED:  return rename_saved(call, from, to, replace);
	case CONFIG: return 0;
	case SCRATCH: case VERB: case COMPUTED: case NOTHING: break;
	}
	return bad_name(call, from);
}

static bool holds_files(const struct vf_node *dir)
{
	enum vf_row_id row = vf_row_id(dir->row);

	return row == VF_ROW_INDEX || row == VF_ROW_VECTORS || row == VF_ROW_QUERIES || row == VF_ROW_ANSWERS;
}

int vf_rename(struct vf_call *call, struct vf_node *from_dir, const char *from, struct vf_node *to_dir, const char *to, unsigned flags)
{
	enum vf_row_id a = vf_row_id(from_dir->row), b = vf_row_id(to_dir->row);
	bool replace = !(flags & RENAME_NOREPLACE);
	struct side one, two;
	int rc;

	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	if (a == VF_ROW_ROOT && b == VF_ROW_ROOT)
		return rename_bucket(call, from, to, replace);
	if (a == VF_ROW_BUCKET && b == VF_ROW_BUCKET)
		return rename_index(call, from_dir, from, to_dir, to, replace);
	if (!holds_files(from_dir) || !holds_files(to_dir))
		return vf_fail(&call->err, EPERM, "%s and %s are not two names of one kind", from_dir->row->path, to_dir->row->path);
	if ((rc = side_of(call, from_dir, from, &one)) || (rc = side_of(call, to_dir, to, &two)) || (rc = vf_call_hold(call, from_dir->site)))
		return rc;
	rc = inside(call, &one, &two, replace);
	if (rc == 0)
		vf_site_changed(call->face, to_dir->site, call->index);
	return rc;
}
