/* SPDX-License-Identifier: MIT */
/* The root, .vecfs, buckets and the directory of an index: who comes from the catalog, and entries that are always there. */
#include "face_internal.h"

#include <errno.h>

enum vf_row_id vf_fixed_row(enum vf_row_id parent, const char *name)
{
	for (unsigned row = 0; row < VF_ROWS; row++)
		if (vf_tree[row].name && vf_tree[row].parent == parent && row != VF_ROW_ROOT && strcmp(vf_tree[row].name, name) == 0)
			return (enum vf_row_id)row;
	return VF_ROWS;
}

static int fixed_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	enum vf_row_id row = vf_fixed_row(vf_row_id(dir->row), name);

	if (row == VF_ROWS)
		return -ENOENT;
	vf_found_fixed(call, row, dir->site, out);
	return out->row->file && out->row->file->render ? vf_volatile_find(call, out) : 0;
}

int vf_fixed_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	for (unsigned row = 0; row < VF_ROWS; row++) {
		const struct vf_row *child = &vf_tree[row];
		if (!child->name || !child->listed || &vf_tree[child->parent] != dir->row ||
		    vf_is_hidden(call, (enum vf_row_id)row, dir->site, vf_span_str("")))
			continue;
		uint64_t ino = dir->site ? vf_ino_local(dir->site, child->ino) : vf_ino_hash(child, NULL, vf_span_str(""));
		if (!vf_dir_add(list, vf_span_str(child->name), ino, child->type))
			return vf_oom(&call->err);
	}
	return 0;
}

/* ---- names that the catalog has: the root lists buckets, a bucket lists indexes ---- */

static int catalog_lookup(struct vf_call *call, const char *bucket, const char *index, enum vf_row_id row, struct vf_found *out)
{
	struct vf_site *site;
	struct vf_err bad = VF_ERR_INIT;

	if (vf_dir_name_check(index ? index : bucket, &bad))
		return bad.code == ENAMETOOLONG ? -ENAMETOOLONG : -ENOENT;
	int rc = vf_site_find(call, bucket, index, &site);
	if (rc)
		return rc;
	*out = (struct vf_found){ .row = &vf_tree[row], .site = site, .ino = vf_ino_local(site, 0) };
	return 0;
}

struct catalog_list { struct vf_dir *list; struct vf_err *err; int rc; };

static int emit_name(void *ctx, const char *name, const struct vf_dir_attr *attr)
{
	struct catalog_list *c = ctx;

	if (vf_dir_full(c->list))
		return 1;
	if (!vf_dir_add(c->list, vf_span_str(name), attr->id << 40, S_IFDIR))
		c->rc = vf_oom(c->err);
	else
		c->rc = vf_dir_after(c->list, vf_span(name, strlen(name) + 1), c->err);
	return c->rc != 0;
}

static int list_catalog(struct vf_call *call, const char *bucket, struct vf_dir *list)
{
	struct catalog_list c = { list, &call->err, 0 };
	int rc = vf_catalog_list(call->face->catalog, bucket, list->after.len ? (char *)list->after.data : NULL, emit_name, &c, &call->err);

	list->end = !vf_dir_full(list);
	return rc < 0 ? rc : c.rc;
}

/* The mode and group of a new directory: as the kernel gives it, but for the set-group-ID bit of the parent. */
static void inherit(const struct vf_dir_attr *parent, mode_t *mode, gid_t *gid)
{
	*mode &= 07777;
	if (parent->mode & S_ISGID) {
		*gid = parent->gid;
		*mode |= S_ISGID;
	}
}

/* ---- / ---- */

static int root_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	if (vf_fixed_row(VF_ROW_ROOT, name) != VF_ROWS)
		return fixed_lookup(call, dir, name, out);
	return catalog_lookup(call, name, NULL, VF_ROW_BUCKET, out);
}

static int root_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	(void)dir;
	return list_catalog(call, NULL, list);
}

static int root_make(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode)
{
	struct vf_dir_attr parent = { .mode = 0 };
	gid_t gid = call->gid;

	(void)dir;
	int rc = vf_catalog_attr(call->face->catalog, NULL, NULL, &parent, &call->err);
	if (rc)
		return rc;
	inherit(&parent, &mode, &gid);
	return vf_catalog_make(call->face->catalog, name, NULL, call->uid, gid, mode, &call->err);
}

static int root_rmdir(struct vf_call *call, struct vf_node *dir, const char *name)
{
	(void)dir;
	if (vf_fixed_row(VF_ROW_ROOT, name) != VF_ROWS)
		return vf_fail(&call->err, EPERM, "%s is always there", name);
	int rc = vf_catalog_remove(call->face->catalog, name, NULL, &call->err);
	if (rc == 0)
		vf_site_gone(call->face, name, NULL);
	return rc;
}

const struct vf_dir_ops vf_root_dir = { .lookup = root_lookup, .list = root_list, .make = root_make, .rmdir = root_rmdir };

/* ---- /.vecfs ---- */

static int meta_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	list->end = true;
	return vf_fixed_list(call, dir, list);
}

const struct vf_dir_ops vf_meta_dir = { .lookup = fixed_lookup, .list = meta_list };

/* ---- /BUCKET ---- */

static int bucket_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	struct vf_site_names names;
	int rc;

	vf_site_names(call->face, dir->site, &names);
	do
		rc = catalog_lookup(call, names.bucket, name, VF_ROW_INDEX, out);
	while (rc == -ENOENT && vf_site_has_moved(call, dir->site, &names));
	return rc;
}

static int bucket_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	struct vf_site_names names;
	int rc;

	vf_site_names(call->face, dir->site, &names);
	do
		rc = list_catalog(call, names.bucket, list);
	while (rc == -ENOENT && vf_site_has_moved(call, dir->site, &names));
	return rc;
}

static int bucket_make(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode)
{
	struct vf_dir_attr parent = vf_site_attr(call->face, dir->site);
	struct vf_site_names names;
	struct vf_site *site;
	gid_t gid = call->gid;

	inherit(&parent, &mode, &gid);
	vf_site_names(call->face, dir->site, &names);
	int rc = vf_catalog_make(call->face->catalog, names.bucket, name, call->uid, gid, mode, &call->err);
	if (rc || (rc = vf_site_find(call, names.bucket, name, &site)))
		return rc;
	vf_hide_from_maker(call, site);
	vf_site_put(call->face, site);
	return 0;
}

static int has_listed(void *ctx, struct vf_span key, uint64_t ino)
{
	struct vf_buf escaped = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;
	bool *found = ctx;

	(void)ino;
	*found = vf_key_escape(key, &escaped, &err) == 0 && escaped.len + strlen(".msgpack") <= VF_FILE_NAME_BYTES_MAX;
	vf_buf_free(&escaped);
	return *found;
}

/* Keys without a file name do not keep a directory from being removed: rm -r could not meet them. */
static int check_no_records(struct vf_call *call, struct vf_site *site)
{
	bool found = false;
	int rc = vf_call_hold(call, site);

	if (rc == 0)
		rc = vf_index_list(call->index, vf_span(NULL, 0), has_listed, &found, &call->err);
	return rc < 0 ? rc : found ? -ENOTEMPTY : 0;
}

static int has_saved(void *ctx, const char *name, uint64_t ino)
{
	bool *found = ctx;

	(void)name, (void)ino;
	return *found = true;
}

static int check_no_saved(struct vf_call *call, struct vf_site *site)
{
	bool found = false;
	int rc = vf_call_hold(call, site);

	if (rc == 0)
		rc = vf_index_saved_list(call->index, NULL, has_saved, &found, &call->err);
	return rc < 0 ? rc : found ? -ENOTEMPTY : 0;
}

/* Keys without a file name do not keep it from being removed. That it is not empty needs no words. */
static int seal(struct vf_call *call, struct vf_site *site)
{
	int rc = vf_call_hold(call, site);

	if (rc == 0 && (rc = vf_index_seal(call->index, false, &call->err)) == -ENOTEMPTY)
		call->err = (struct vf_err)VF_ERR_INIT;
	return rc;
}

static int bucket_rmdir(struct vf_call *call, struct vf_node *dir, const char *name)
{
	struct vf_site_names names;
	struct vf_site *site;

	vf_site_names(call->face, dir->site, &names);
	int rc = vf_site_find(call, names.bucket, name, &site);
	if (rc)
		return rc;
	if ((rc = seal(call, site)) == 0 && (rc = vf_catalog_remove(call->face->catalog, names.bucket, name, &call->err)))
		vf_index_unseal(call->index);
	if (call->index)
		vf_catalog_release(call->face->catalog, call->index);
	call->index = NULL;
	if (rc == 0) {
		vf_scratch_drop_site(call->face, site);
		vf_site_gone(call->face, names.bucket, name);
	}
	vf_site_put(call->face, site);
	return rc;
}

const struct vf_dir_ops vf_bucket_dir = { .lookup = bucket_lookup, .list = bucket_list, .make = bucket_make, .rmdir = bucket_rmdir };

/* ---- /BUCKET/INDEX ---- */

static int export_find(struct vf_call *call, struct vf_found *found)
{
	int rc = vf_call_hold(call, found->site);

	found->mtime_ns = found->site->changed_ns;
	return rc ? rc : vf_computed_find(call, found, vf_index_version(call->index));
}

static int config_find(struct vf_call *call, struct vf_node *dir, struct vf_found *out)
{
	int64_t mtime_ns;
	int rc = vf_call_hold(call, dir->site);

	if (rc || (rc = vf_index_config_mtime(call->index, &mtime_ns, &call->err)))
		return rc;
	rc = fixed_lookup(call, dir, "config", out);
	/* One that was never written is as old as can be: rsync -a takes two of one size and one second for the same. */
	out->mtime_ns = out->ctime_ns = mtime_ns ? mtime_ns : 1;
	return rc;
}

static int index_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	enum vf_row_id row = vf_fixed_row(VF_ROW_INDEX, name);

	if (row == VF_ROWS)
		return vf_scratch_lookup(call, dir, name, out);
	if (vf_is_hidden(call, row, dir->site, vf_span_str("")))
		return -ENOENT;
	if (row == VF_ROW_CONFIG)
		return config_find(call, dir, out);
	/* Their times come with the index; when it does not open, they have those of its directory. */
	if (row == VF_ROW_VECTORS || row == VF_ROW_QUERIES || row == VF_ROW_ANSWERS)
		(void)vf_call_hold(call, dir->site);
	if (row < VF_ROW_EXPORT_MSGPACK || row > VF_ROW_EXPORT_KEYS)
		return fixed_lookup(call, dir, name, out);
	vf_found_fixed(call, row, dir->site, out);
	return export_find(call, out);
}

static int index_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	if (list->phase)
		return vf_scratch_list(call, dir, list);
	list->phase = 1;
	return vf_fixed_list(call, dir, list);
}

/* Only a name that was unlinked a moment ago gets here, or one that came back meanwhile. */
static int create_fixed(struct vf_call *call, struct vf_node *dir, enum vf_row_id row, int flags, struct vf_node **node, struct vf_handle **handle)
{
	struct vf_span none = vf_span_str("");
	struct vf_found found;
	bool hidden = vf_is_hidden(call, row, dir->site, none);

	if (!hidden && (flags & O_EXCL))
		return -EEXIST;
	vf_show(call, row, dir->site, none);
	int rc = index_lookup(call, dir, vf_tree[row].name, &found);
	if (rc || (rc = vf_node_settle(call, &found, node)))
		return rc;
	rc = vf_tree[row].file ? vf_tree[row].file->open(call, *node, flags, handle) : -EISDIR;
	if (rc) {
		vf_node_forget(call->face, *node, 1);
		if (hidden)
			vf_hide(call, row, dir->site, none);
	}
	return rc;
}

static int index_create(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode, int flags, struct vf_node **node,
                        struct vf_handle **handle)
{
	enum vf_row_id row = vf_fixed_row(VF_ROW_INDEX, name);

	if (row != VF_ROWS)
		return create_fixed(call, dir, row, flags, node, handle);
	if (vf_name_is_scratch(name))
		return vf_scratch_create(call, dir, name, mode, flags, node, handle);
	return vf_fail(&call->err, EINVAL, "the directory of an index has config, vectors, insert, query, update, delete, queries, answers, near, stats, "
	               "errors, and temporary files (.NAME, NAME~, NAME.tmp, NAME.part, NAME.swp); not '%s'", name);
}

/* The fixed entries accept it and stay, so that rm -r of an index can go on to the rmdir that counts. */
static int index_unlink(struct vf_call *call, struct vf_node *dir, const char *name)
{
	enum vf_row_id row = vf_fixed_row(VF_ROW_INDEX, name);

	if (row == VF_ROWS)
		return vf_scratch_unlink(call, dir, name);
	vf_hide(call, row, dir->site, vf_span_str(""));
	vf_node_detached(call->face, row, dir->site, vf_span_str(""));
	return 0;
}

/* The directories of an index are made by whoever does not see that they are there. */
static int index_make(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode)
{
	enum vf_row_id row = vf_fixed_row(VF_ROW_INDEX, name);

	(void)mode;
	if (row == VF_ROWS || vf_tree[row].type != S_IFDIR)
		return vf_fail(&call->err, EPERM, "an index has no further directories: '%s'", name);
	if (!vf_is_hidden(call, row, dir->site, vf_span_str("")))
		return -EEXIST;
	vf_show(call, row, dir->site, vf_span_str(""));
	return 0;
}

static int index_rmdir(struct vf_call *call, struct vf_node *dir, const char *name)
{
	enum vf_row_id row = vf_fixed_row(VF_ROW_INDEX, name);

	if (row == VF_ROW_VECTORS)
		return check_no_records(call, dir->site);
	if (row == VF_ROW_QUERIES)
		return check_no_saved(call, dir->site);
	return row == VF_ROWS ? -ENOENT : 0;
}

const struct vf_dir_ops vf_index_dir = {
	.lookup = index_lookup, .list = index_list, .create = index_create, .make = index_make, .unlink = index_unlink, .rmdir = index_rmdir,
};
