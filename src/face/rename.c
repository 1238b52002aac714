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

/* What a scratch file holds, to where it belongs. */
static int commit(struct vf_call *call, const struct side *to, struct vf_span bytes, int64_t mtime_ns, bool replace)
{
	struct vf_saved saved;
	int rc = vf_call_hold(call, to->dir->site);

	if (rc)
		return rc;
	switch (to->what) {
	case RECORD:
		return vf_record_commit(call, to->dir->site, bytes, to->key, mtime_ns, replace);
	case SAVED:
		if (!replace && vf_index_saved_stat(call->index, to->name, &saved, &call->err) == 0)
			return vf_fail(&call->err, EEXIST, "%s is there already", to->name);
		rc = vf_index_saved_put(call->index, to->name, bytes, &call->err);
		return rc || !mtime_ns ? rc : vf_index_saved_set_mtime(call->index, to->name, mtime_ns, &call->err);
	case CONFIG:
		rc = vf_index_configure(call->index, bytes, &call->err);
		return rc || !mtime_ns ? rc : vf_index_set_config_mtime(call->index, mtime_ns, &call->err);
	case VERB:
		return bytes.len ? vf_fail(&call->err, EPERM, "%s takes what is written to it, not files that are renamed to it", to->name) : 0;
	case COMPUTED:
		return 0;
	case SCRATCH: case NOTHING:
		break;
	}
	return bad_name(call, to);
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

static uint64_t bytes_max(const struct side *to)
{
	switch (to->what) {
	case RECORD:  return VF_RECORD_FILE_BYTES_MAX;
	case SAVED:   return VF_SAVED_QUESTION_BYTES_MAX;
	case CONFIG:  return VF_CONFIG_BYTES_MAX;
	case SCRATCH: case VERB: case COMPUTED: case NOTHING: break;
	}
	return UINT64_MAX;
}

static int from_scratch(struct vf_call *call, const struct side *from, const struct side *to, bool replace)
{
	struct vf_buf bytes = VF_BUF_INIT;
	int64_t mtime_ns = 0;

	if (to->what == SCRATCH)
		return vf_scratch_rename(call, from->dir, from->name, to->dir, to->name, replace);
	struct vf_scratch *scratch = vf_scratch_find(call->face, from->dir, from->name);
	if (!scratch)
		return -ENOENT;
	int rc = !replace && stands_in_the_way(call, to) ? vf_fail(&call->err, EEXIST, "%s is there already", to->name)
	                                                 : vf_scratch_bytes(call, scratch, bytes_max(to), &bytes, &mtime_ns);
	if (rc == 0)
		rc = commit(call, to, vf_buf_span(&bytes), mtime_ns, replace);
	if (rc == 0) {
		show(call, to);
		vf_scratch_unlink(call, from->dir, from->name);
	}
	vf_buf_free(&bytes);
	vf_scratch_put(scratch);
	return rc;
}

/* The bytes that reading the file would give. */
static int bytes_of(struct vf_call *call, const struct side *side, struct vf_buf *out, int64_t *mtime_ns)
{
	struct vf_record record;
	struct vf_record_stat stat = { 0 };
	struct vf_saved saved = { 0 };
	struct vf_config config;
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
		if ((rc = vf_index_config(call->index, &config, &call->err)))
			return rc;
		rc = vf_config_render(&config, out, &call->err);
		vf_config_free(&config);
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

static int rekey(struct vf_call *call, const struct side *from, const struct side *to, bool replace)
{
	struct vf_site *site = from->dir->site;
	int rc = vf_call_hold(call, site);

	if (rc || vf_span_equal(from->key, to->key))
		return rc;
	rc = vf_index_rekey(call->index, from->key, to->key, replace, &call->err);
	if (rc && rc != -ENOENT)
		return rc;
	if (rc == 0)
		vf_writers_moved(call->face, site, to->key, vf_span(NULL, 0));
	/* A file that is being created has no record yet: its writer goes on under the new name. */
	if (!vf_writers_moved(call->face, site, from->key, to->key) && rc)
		return rc;
	vf_node_detached(call->face, VF_ROW_RECORD, site, from->key);
	vf_node_detached(call->face, VF_ROW_RECORD_JSON, site, from->key);
	vf_site_changed(call->face, site, call->index);
	return 0;
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
	case SAVED:  return vf_index_saved_rename(call->index, from->name, to->name, replace, &call->err);
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
