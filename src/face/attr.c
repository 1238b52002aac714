/* SPDX-License-Identifier: MIT */
/* What stat(2) says of a node, and what chmod, chown, utimens and truncate change. */
#include "face_internal.h"

#include <errno.h>

#include "vecfs/clock.h"

/* Where times are kept 0 stands for none; the first moment of 1970, which archives are fond of, is this there. */
#define EPOCH_NS (INT64_MIN + 1)

static struct timespec timespec_of(int64_t ns)
{
	int64_t rest = ns % 1000000000;

	if (ns == EPOCH_NS)
		return (struct timespec){ 0, 0 };
	/* Before 1970 the nanoseconds count forwards too. */
	return (struct timespec){ .tv_sec = ns / 1000000000 - (rest < 0), .tv_nsec = rest < 0 ? rest + 1000000000 : rest };
}

static struct vf_dir_attr dir_attr(struct vf_face *face, struct vf_node *node)
{
	struct vf_dir_attr attr = { .mode = 0755 };
	struct vf_err err = VF_ERR_INIT;

	if (node->site)
		return vf_site_attr(face, node->site);
	if (vf_catalog_attr(face->catalog, NULL, NULL, &attr, &err))
		attr.mtime_ns = attr.ctime_ns = face->mounted_ns;
	return attr;
}

static mode_t mode_of(const struct vf_row *row, mode_t index_mode)
{
	mode_t mode = index_mode & row->keep;

	if (row->type == S_IFLNK)
		return S_IFLNK | 0777;
	if (row->ask)
		mode |= (mode & 0444) >> 1;
	return row->type | mode;
}

static void scratch_stat(struct vf_scratch *scratch, struct stat *out)
{
	pthread_mutex_lock(&scratch->lock);
	out->st_mode = S_IFREG | scratch->mode;
	out->st_uid = scratch->uid;
	out->st_gid = scratch->gid;
	out->st_size = (off_t)scratch->pages.size;
	out->st_nlink = scratch->listed;
	out->st_mtim = out->st_atim = timespec_of(scratch->mtime_ns);
	out->st_ctim = timespec_of(scratch->ctime_ns);
	pthread_mutex_unlock(&scratch->lock);
}

/* The size and times of the node's own version; with a writer and no reader, those of what is being written. */
static void version_stat(struct vf_face *face, struct vf_node *node, struct stat *out)
{
	pthread_mutex_lock(&face->lock);
	bool written = node->writers && !node->readers;
	out->st_size = (off_t)(written ? node->staged_size : node->size);
	out->st_ino = node->ino;
	out->st_nlink = !node->unlinked;
	if (node->mtime_ns)
		out->st_mtim = out->st_atim = timespec_of(node->mtime_ns);
	if (node->ctime_ns)
		out->st_ctim = timespec_of(node->ctime_ns);
	pthread_mutex_unlock(&face->lock);
}

void vf_node_stat(struct vf_face *face, struct vf_node *node, struct stat *out)
{
	struct vf_dir_attr attr = dir_attr(face, node);
	int64_t mtime_ns = attr.mtime_ns;

	if (node->row == &vf_tree[VF_ROW_VECTORS]) {
		node->site->vectors_node = vf_node_id(face, node);
		mtime_ns = node->site->changed_ns;
	} else if (node->row == &vf_tree[VF_ROW_QUERIES] || node->row == &vf_tree[VF_ROW_ANSWERS]) {
		mtime_ns = node->site->saved_ns;
	}
	*out = (struct stat){
		.st_mode = mode_of(node->row, attr.mode), .st_uid = attr.uid, .st_gid = attr.gid, .st_blksize = 4096,
		.st_mtim = timespec_of(mtime_ns), .st_atim = timespec_of(mtime_ns),
		.st_ctim = timespec_of(mtime_ns > attr.ctime_ns ? mtime_ns : attr.ctime_ns),
	};
	version_stat(face, node, out);
	if (node->scratch)
		scratch_stat(node->scratch, out);
	if (S_ISDIR(out->st_mode))
		out->st_nlink = 1;
	out->st_blocks = (out->st_size + 511) / 512;
}

void vf_node_entry(struct vf_face *face, struct vf_node *node, struct fuse_entry_param *out)
{
	*out = (struct fuse_entry_param){
		.ino = vf_node_id(face, node), .generation = node->generation,
		.attr_timeout = node->row->attr_s, .entry_timeout = node->row->entry_s,
	};
	vf_node_stat(face, node, &out->attr);
}

/* ---- setting ---- */

/* Times that 64 bits of nanoseconds do not hold (before 1677, after 2262) are the nearest that they do. */
static int64_t time_of(const struct stat *attr, int to_set)
{
	int64_t ns;

	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		return vf_clock_real_ns();
	if (__builtin_mul_overflow((int64_t)attr->st_mtim.tv_sec, (int64_t)1000000000, &ns) || __builtin_add_overflow(ns, attr->st_mtim.tv_nsec, &ns))
		return attr->st_mtim.tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns ? ns : EPOCH_NS;
}

#define SETS_OWNER (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)
#define SETS_TIME (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)

static void merge(struct vf_dir_attr *to, const struct stat *attr, int to_set)
{
	if (to_set & FUSE_SET_ATTR_MODE)
		to->mode = attr->st_mode & 07777;
	if (to_set & FUSE_SET_ATTR_UID)
		to->uid = attr->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		to->gid = attr->st_gid;
	if (to_set & SETS_TIME)
		to->mtime_ns = time_of(attr, to_set);
	to->ctime_ns = vf_clock_real_ns();
}

static int set_dir(struct vf_call *call, struct vf_node *node, const struct stat *attr, int to_set)
{
	struct vf_dir_attr now = dir_attr(call->face, node);

	merge(&now, attr, to_set);
	if (node->site)
		return vf_site_set_attr(call, node->site, &now);
	return vf_catalog_set_attr(call->face->catalog, NULL, NULL, &now, &call->err);
}

static int set_scratch(struct vf_scratch *scratch, const struct stat *attr, int to_set)
{
	pthread_mutex_lock(&scratch->lock);
	struct vf_dir_attr now = { .uid = scratch->uid, .gid = scratch->gid, .mode = scratch->mode, .mtime_ns = scratch->mtime_ns };
	merge(&now, attr, to_set);
	scratch->uid = now.uid;
	scratch->gid = now.gid;
	scratch->mode = now.mode & 07777;
	scratch->mtime_ns = now.mtime_ns;
	scratch->ctime_ns = now.ctime_ns;
	scratch->mtime_set |= (to_set & SETS_TIME) != 0;
	pthread_mutex_unlock(&scratch->lock);
	return 0;
}

static int set_size(struct vf_call *call, struct vf_node *node, struct vf_handle *handle, uint64_t size)
{
	struct stat now;

	if (handle && handle->ops->truncate)
		return handle->ops->truncate(call, handle, size);
	if (node->row->file && node->row->file->truncate)
		return node->row->file->truncate(call, node, size);
	vf_node_stat(call->face, node, &now);
	if ((uint64_t)now.st_size == size)
		return 0;
	return vf_fail(&call->err, EPERM, "%s is computed: it cannot be truncated", node->row->path);
}

static int touch_part(struct vf_call *call, struct vf_site *site, enum vf_index_part part, int64_t mtime_ns)
{
	int rc = vf_call_hold(call, site);

	if (rc || (rc = vf_index_set_part_mtime(call->index, part, mtime_ns, &call->err)))
		return rc;
	vf_site_changed(call->face, site, call->index);
	return 0;
}

/* Owner and mode belong to buckets and indexes; what lies inside an index follows it, so chmod of a vector succeeds and changes nothing. */
int vf_node_set_attr(struct vf_call *call, struct vf_node *node, struct vf_handle *handle, const struct stat *attr, int to_set)
{
	enum vf_row_id row = vf_row_id(node->row);
	int rc = 0;

	if (to_set & FUSE_SET_ATTR_SIZE)
		rc = set_size(call, node, handle, (uint64_t)attr->st_size);
	if (rc || !(to_set & (SETS_OWNER | SETS_TIME)))
		return rc;
	if (row == VF_ROW_ROOT || row == VF_ROW_BUCKET || row == VF_ROW_INDEX)
		return set_dir(call, node, attr, to_set);
	if (node->scratch)
		return set_scratch(node->scratch, attr, to_set);
	if ((to_set & SETS_TIME) && (row == VF_ROW_VECTORS || row == VF_ROW_QUERIES))
		return touch_part(call, node->site, row == VF_ROW_VECTORS ? VF_PART_RECORDS : VF_PART_SAVED, time_of(attr, to_set));
	if ((to_set & SETS_TIME) && node->row->file && node->row->file->touch)
		return node->row->file->touch(call, node, time_of(attr, to_set));
	return 0;
}
