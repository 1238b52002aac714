/* SPDX-License-Identifier: MIT */
/* Changes of the tree: checked and prepared first, then on disk, then in memory, which cannot fail. A sync that fails after a rename is told,
 * but the rename is there, so memory follows it. */
#include "catalog_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vecfs/clock.h"
#include "vecfs/name.h"

static const char *kind(const char *index)
{
	return index ? "index" : "bucket";
}

static int check_writable(const struct vf_catalog *catalog, struct vf_err *err)
{
	return catalog->read_only ? vf_fail(err, EROFS, "store %s is open for reading only", catalog->path) : 0;
}

static int fail_change(struct vf_err *err, int code, const char *doing, const char *name)
{
	return vf_fail(err, code == EDQUOT ? ENOSPC : code, "cannot %s %s: %s", doing, name, strerror(code));
}

static int open_bucket_or_root(const struct vf_catalog *catalog, const struct vf_dir *dir, int *fd, struct vf_err *err)
{
	*fd = openat(catalog->fd, dir->parent ? dir->name : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *fd < 0 ? fail_change(err, errno, "open", dir->parent ? dir->name : catalog->path) : 0;
}

/* With the tree held: what is in it has changed. */
static void touch(struct vf_dir *dir)
{
	dir->attr.mtime_ns = dir->attr.ctime_ns = vf_clock_real_ns();
	dir->dirty = true;
}

static int reserve(struct vf_catalog *catalog, struct vf_dir *parent, struct vf_err *err)
{
	pthread_rwlock_wrlock(&catalog->tree);
	int rc = vf_dir_reserve(parent, err);
	pthread_rwlock_unlock(&catalog->tree);
	return rc;
}

/* ---- make ---- */

/* The whole directory under a name that nobody sees. */
static int build(struct vf_catalog *catalog, const char *new_name, bool is_index, const struct vf_dir_attr *attr, struct vf_err *err)
{
	char path[PATH_MAX];
	int fd, rc = vf_disk_mkdir(catalog->control_fd, new_name, &fd, err);

	if (rc)
		return rc;
	if (is_index && snprintf(path, sizeof path, "%s/" CONTROL_DIR "/%s", catalog->path, new_name) >= (int)sizeof path)
		rc = vf_fail(err, ENAMETOOLONG, "the path of the store is too long");
	else if (is_index)
		rc = vf_index_create(path, err);
	if (rc == 0)
		rc = vf_attr_write(fd, ATTR_FILE, attr, err);
	close(fd);
	return rc;
}

static int build_and_name(struct vf_catalog *catalog, const struct vf_dir *parent, const struct vf_dir *dir, bool is_index, bool *named,
                          struct vf_err *err)
{
	char new_name[ID_NAME_MAX];
	int parent_fd, rc = open_bucket_or_root(catalog, parent, &parent_fd, err);

	if (rc)
		return rc;
	snprintf(new_name, sizeof new_name, "new-%" PRIu64, dir->attr.id);
	rc = build(catalog, new_name, is_index, &dir->attr, err);
	if (rc == 0 && renameat(catalog->control_fd, new_name, parent_fd, dir->name))
		rc = fail_change(err, errno, "create", dir->name);
	*named = rc == 0;
	if (rc) {
		struct vf_err ignored;
		vf_disk_remove_tree(catalog->control_fd, new_name, &ignored);
	} else {
		rc = vf_disk_sync(parent_fd, err);
	}
	close(parent_fd);
	return rc;
}

static int make(struct vf_catalog *catalog, const char *bucket, const char *index, struct vf_dir_attr *attr, struct vf_err *err)
{
	const char *name = index ? index : bucket;
	struct vf_dir *parent, *dir;
	uint32_t id;
	bool named = false;
	int rc = vf_dir_find(catalog, index ? bucket : NULL, NULL, &parent, err);

	if (rc)
		return rc;
	if (vf_dir_child(parent, name))
		return vf_fail(err, EEXIST, "%s %s is there already", kind(index), name);
	if ((rc = reserve(catalog, parent, err)) || (rc = vf_id_take(catalog, &id, err)))
		return rc;
	attr->id = id;
	dir = vf_dir_new(name, attr);
	if (!dir)
		return vf_oom(err);
	rc = build_and_name(catalog, parent, dir, index != NULL, &named, err);
	if (!named) {
		vf_dir_free(&dir);
		return rc;
	}
	pthread_rwlock_wrlock(&catalog->tree);
	vf_dir_attach(parent, dir);
	touch(parent);
	pthread_rwlock_unlock(&catalog->tree);
	return rc;
}

int vf_catalog_make(struct vf_catalog *catalog, const char *bucket, const char *index, uid_t uid, gid_t gid, mode_t mode, struct vf_err *err)
{
	int64_t now = vf_clock_real_ns();
	struct vf_dir_attr attr = { .uid = uid, .gid = gid, .mode = mode & DIR_MODE_MASK, .mtime_ns = now, .ctime_ns = now };
	int rc;

	if ((rc = check_writable(catalog, err)) || (rc = vf_dir_name_check(index ? index : bucket, err)))
		return rc;
	pthread_mutex_lock(&catalog->change);
	rc = make(catalog, bucket, index, &attr, err);
	pthread_mutex_unlock(&catalog->change);
	return rc;
}

/* ---- remove ---- */

/* What is left to do for a removed directory when the locks are gone. */
struct remains { struct vf_index *idle, *sealed; char trash[ID_NAME_MAX]; bool ours; };

static void bury(struct vf_catalog *catalog, struct remains *remains)
{
	if (remains->idle)
		vf_index_close(&remains->idle);
	if (remains->sealed)
		vf_catalog_release(catalog, remains->sealed);
	if (remains->ours)
		vf_trash_empty(catalog, remains->trash);
}

/* With `change` and `opening` held. *dir is taken when it was moved. */
static int discard(struct vf_catalog *catalog, struct vf_dir **dir, struct remains *remains, struct vf_err *err)
{
	struct vf_dir *d = *dir, *parent = d->parent;
	int fd, rc = open_bucket_or_root(catalog, parent, &fd, err);

	if (rc)
		return rc;
	snprintf(remains->trash, sizeof remains->trash, "%" PRIu64, d->attr.id);
	if (renameat(fd, d->name, catalog->trash_fd, remains->trash)) {
		rc = fail_change(err, errno, "remove", d->name);
		close(fd);
		return rc;
	}
	if ((rc = vf_disk_sync(catalog->trash_fd, err)) == 0)
		rc = vf_disk_sync(fd, err);
	close(fd);
	remains->ours = vf_hold_detach(catalog, d, remains->trash, &remains->idle);
	pthread_rwlock_wrlock(&catalog->tree);
	vf_dir_detach(d);
	touch(parent);
	pthread_rwlock_unlock(&catalog->tree);
	vf_dir_free(dir);
	return rc;
}

int vf_catalog_remove(struct vf_catalog *catalog, const char *bucket, const char *index, struct vf_err *err)
{
	struct remains remains = { 0 };
	struct vf_dir *dir;
	int rc = check_writable(catalog, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&catalog->change);
	rc = vf_dir_find(catalog, bucket, index, &dir, err);
	if (rc == 0 && dir->count)
		rc = vf_fail(err, ENOTEMPTY, "bucket %s has %zu indexes, it is removed when it has none", bucket, dir->count);
	if (rc == 0) {
		pthread_rwlock_wrlock(&catalog->opening);
		rc = discard(catalog, &dir, &remains, err);
		pthread_rwlock_unlock(&catalog->opening);
	}
	pthread_mutex_unlock(&catalog->change);
	bury(catalog, &remains);
	return rc;
}

/* ---- rename ---- */

/* *out is held, also when it is not empty. */
static int seal_index(struct vf_catalog *catalog, const char *bucket, const char *name, struct vf_index **out, struct vf_err *err)
{
	int rc = vf_catalog_hold(catalog, bucket, name, out, err);

	return rc ? rc : vf_index_seal(*out, true, err);
}

/* Whether `existing` may give way. */
static int check_replace(struct vf_catalog *catalog, const struct vf_dir *existing, const char *bucket, const char *index, bool noreplace,
                         struct remains *remains, struct vf_err *err)
{
	if (noreplace)
		return vf_fail(err, EEXIST, "%s %s is there already", kind(index), existing->name);
	if (index)
		return seal_index(catalog, bucket, index, &remains->sealed, err);
	return existing->count ? vf_fail(err, ENOTEMPTY, "bucket %s is there and holds %zu indexes", bucket, existing->count) : 0;
}

static int rename_on_disk(struct vf_catalog *catalog, const struct vf_dir *dir, const struct vf_dir *to_parent, const char *to_name, bool *renamed,
                          struct vf_err *err)
{
	int from_fd, to_fd, rc = open_bucket_or_root(catalog, dir->parent, &from_fd, err);

	if (rc)
		return rc;
	rc = open_bucket_or_root(catalog, to_parent, &to_fd, err);
	if (rc) {
		close(from_fd);
		return rc;
	}
	*renamed = renameat(from_fd, dir->name, to_fd, to_name) == 0;
	if (!*renamed)
		rc = fail_change(err, errno, "rename", dir->name);
	else if ((rc = vf_disk_sync(to_fd, err)) == 0 && dir->parent != to_parent)
		rc = vf_disk_sync(from_fd, err);
	close(from_fd);
	close(to_fd);
	return rc;
}

/* With `change` and `opening` held. The one that gives way is empty: should we die between the two renames, nothing is lost. */
static int move(struct vf_catalog *catalog, struct vf_dir *dir, struct vf_dir *to_parent, const char *to_name, struct vf_dir *existing,
                struct remains *remains, struct vf_err *err)
{
	bool renamed = false;
	int rc;
	char *name = strdup(to_name);

	if (!name)
		return vf_oom(err);
	if ((rc = reserve(catalog, to_parent, err)) == 0 && existing)
		rc = discard(catalog, &existing, remains, err);
	if (rc == 0)
		rc = rename_on_disk(catalog, dir, to_parent, to_name, &renamed, err);
	if (!renamed) {
		free(name);
		return rc;
	}
	pthread_rwlock_wrlock(&catalog->tree);
	touch(dir->parent);
	touch(to_parent);
	vf_dir_detach(dir);
	free(dir->name);
	dir->name = name;
	dir->attr.ctime_ns = to_parent->attr.ctime_ns;
	dir->dirty = true;
	vf_dir_attach(to_parent, dir);
	pthread_rwlock_unlock(&catalog->tree);
	vf_hold_renamed(catalog, dir);
	return rc;
}

static int rename_locked(struct vf_catalog *catalog, const char *bucket, const char *index, const char *to_bucket, const char *to_index,
                         bool noreplace, struct remains *remains, struct vf_err *err)
{
	const char *to_name = to_index ? to_index : to_bucket;
	struct vf_dir *dir, *to_parent, *existing;
	int rc;

	if ((rc = vf_dir_find(catalog, bucket, index, &dir, err)) ||
	    (rc = vf_dir_find(catalog, to_index ? to_bucket : NULL, NULL, &to_parent, err)))
		return rc;
	existing = vf_dir_child(to_parent, to_name);
	if (existing == dir && !noreplace)
		return 0;
	if (existing && (rc = check_replace(catalog, existing, to_bucket, to_index, noreplace, remains, err)))
		return rc;
	pthread_rwlock_wrlock(&catalog->opening);
	rc = move(catalog, dir, to_parent, to_name, existing, remains, err);
	pthread_rwlock_unlock(&catalog->opening);
	if (remains->sealed && vf_dir_child(to_parent, to_name) == existing)
		vf_index_unseal(remains->sealed);
	return rc;
}

int vf_catalog_rename(struct vf_catalog *catalog, const char *bucket, const char *index, const char *to_bucket, const char *to_index,
                      bool noreplace, struct vf_err *err)
{
	struct remains remains = { 0 };
	int rc = check_writable(catalog, err);

	if (rc)
		return rc;
	if (!index != !to_index)
		return vf_fail(err, EINVAL, "a bucket becomes a bucket, an index an index");
	if ((rc = vf_dir_name_check(to_index ? to_index : to_bucket, err)))
		return rc;
	pthread_mutex_lock(&catalog->change);
	rc = rename_locked(catalog, bucket, index, to_bucket, to_index, noreplace, &remains, err);
	pthread_mutex_unlock(&catalog->change);
	bury(catalog, &remains);
	return rc;
}

/* ---- attributes ---- */

static int write_attr(struct vf_catalog *catalog, const struct vf_dir *dir, const struct vf_dir_attr *attr, struct vf_err *err)
{
	char path[PATH_MAX];
	int rc;

	if (!dir->parent)
		return vf_attr_write(catalog->control_fd, "root", attr, err);
	if ((rc = vf_dir_path(catalog, dir, path, err)))
		return rc;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail_change(err, errno, "open", dir->name);
	rc = vf_attr_write(fd, ATTR_FILE, attr, err);
	close(fd);
	return rc;
}

int vf_catalog_set_attr(struct vf_catalog *catalog, const char *bucket, const char *index, const struct vf_dir_attr *attr, struct vf_err *err)
{
	struct vf_dir_attr kept = *attr;
	struct vf_dir *dir;
	int rc = check_writable(catalog, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&catalog->change);
	rc = vf_dir_find(catalog, bucket, index, &dir, err);
	if (rc == 0) {
		kept.id = dir->attr.id;
		kept.mode &= DIR_MODE_MASK;
		rc = write_attr(catalog, dir, &kept, err);
	}
	if (rc == 0) {
		pthread_rwlock_wrlock(&catalog->tree);
		dir->attr = kept;
		dir->dirty = false;
		pthread_rwlock_unlock(&catalog->tree);
	}
	pthread_mutex_unlock(&catalog->change);
	return rc;
}

void vf_change_write_times(struct vf_catalog *catalog, struct vf_dir *dir)
{
	struct vf_err ignored;     /* times only */

	if (dir->dirty)
		write_attr(catalog, dir, &dir->attr, &ignored);
	for (size_t i = 0; i < dir->count; i++)
		vf_change_write_times(catalog, dir->children[i]);
}
