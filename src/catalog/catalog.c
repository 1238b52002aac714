/* SPDX-License-Identifier: MIT */
#include "catalog_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- open and close ---- */

#define DESCRIPTORS_AN_INDEX  6u       /* four for the store, and what a question spools */
#define DESCRIPTORS_OURS      128u

/* Many open indexes need many descriptors: takes what the hard limit grants and keeps within it. */
static unsigned choose_idle_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 16;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) && getrlimit(RLIMIT_NOFILE, &limit))
		return 16;
	if (limit.rlim_cur >= DESCRIPTORS_OURS + VF_INDEXES_OPEN_MAX * DESCRIPTORS_AN_INDEX)
		return VF_INDEXES_OPEN_MAX;
	return limit.rlim_cur > DESCRIPTORS_OURS ? (unsigned)(limit.rlim_cur - DESCRIPTORS_OURS) / DESCRIPTORS_AN_INDEX : 0;
}

static void init_rwlock(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	/* Lookups never pause; a change must get its turn all the same. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

static struct vf_catalog *allocate(bool read_only)
{
	struct vf_catalog *catalog = calloc(1, sizeof *catalog);

	if (!catalog)
		return NULL;
	catalog->fd = catalog->control_fd = catalog->trash_fd = catalog->lock_fd = -1;
	catalog->read_only = read_only;
	catalog->idle_max = choose_idle_max();
	pthread_mutex_init(&catalog->change, NULL);
	init_rwlock(&catalog->opening);
	init_rwlock(&catalog->tree);
	pthread_mutex_init(&catalog->open_lock, NULL);
	pthread_cond_init(&catalog->open_changed, NULL);
	return catalog;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* The store's own name has to be on the disk as well, before anything in it is promised. */
static int make_dir(const char *path, struct vf_err *err)
{
	char parent[PATH_MAX];

	if (mkdir(path, 0700))
		return errno == EEXIST ? 0 : vf_fail(err, errno, "cannot create store %s: %s", path, strerror(errno));
	if (snprintf(parent, sizeof parent, "%s/..", path) >= (int)sizeof parent)
		return vf_fail(err, ENAMETOOLONG, "the path of store %s is too long", path);
	int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* A directory that others keep may not be readable. */
	int rc = fd < 0 ? (errno == EACCES ? 0 : vf_fail(err, errno, "cannot open %s: %s", parent, strerror(errno))) : vf_disk_sync(fd, err);
	close_fd(fd);
	return rc;
}

static int open_dir(struct vf_catalog *catalog, const char *path, bool create, struct vf_err *err)
{
	int rc = create && !catalog->read_only ? make_dir(path, err) : 0;

	if (rc)
		return rc;
	catalog->path = realpath(path, NULL);
	if (catalog->path)
		catalog->fd = open(catalog->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return catalog->fd < 0 ? vf_fail(err, errno, "cannot open store %s: %s", path, strerror(errno)) : 0;
}

static int open_for_changes(struct vf_catalog *catalog, struct vf_err *err)
{
	int rc;

	if (catalog->read_only)
		return 0;
	if ((rc = vf_disk_mkdir(catalog->fd, TRASH_DIR, &catalog->trash_fd, err)) || (rc = vf_load_clean(catalog, err)))
		return rc;
	return vf_ballast_open(catalog->control_fd, BALLAST_FILE, &catalog->ballast, err);
}

int vf_catalog_open(const char *path, const struct vf_catalog_options *options, struct vf_catalog **out, struct vf_err *err)
{
	struct vf_catalog *catalog = allocate(options->read_only);
	int rc;

	if (!catalog)
		return vf_oom(err);
	if ((rc = open_dir(catalog, path, options->create, err)) || (rc = vf_lock_take(catalog, options->create, err)) ||
	    (rc = open_for_changes(catalog, err)) || (rc = vf_load_tree(catalog, options, err)) ||
	    (rc = vf_linkers_new(options->linker_threads, &catalog->linkers, err))) {
		vf_catalog_close(&catalog);
		return rc;
	}
	*out = catalog;
	return 0;
}

bool vf_catalog_is_at_work(const struct vf_catalog *catalog)
{
	return catalog->linkers && vf_linkers_at_work(catalog->linkers);
}

void vf_catalog_close(struct vf_catalog **catalog)
{
	struct vf_catalog *c = *catalog;

	if (!c)
		return;
	vf_hold_close_all(c);
	if (c->linkers)
		vf_linkers_free(&c->linkers);
	vf_ballast_close(&c->ballast);
	if (c->root && !c->read_only)
		vf_change_write_times(c, c->root);
	vf_dir_free(&c->root);
	pthread_mutex_destroy(&c->change);
	pthread_rwlock_destroy(&c->opening);
	pthread_rwlock_destroy(&c->tree);
	pthread_mutex_destroy(&c->open_lock);
	pthread_cond_destroy(&c->open_changed);
	close_fd(c->trash_fd);
	close_fd(c->lock_fd);
	close_fd(c->control_fd);
	close_fd(c->fd);
	free(c->path);
	free(c);
	*catalog = NULL;
}

/* ---- look up ---- */

const char *vf_catalog_path(const struct vf_catalog *catalog)
{
	return catalog->path;
}

int vf_catalog_statvfs(struct vf_catalog *catalog, struct statvfs *out, struct vf_err *err)
{
	return fstatvfs(catalog->fd, out) ? vf_fail(err, errno, "cannot ask the disk of %s: %s", catalog->path, strerror(errno)) : 0;
}

int vf_catalog_attr(struct vf_catalog *catalog, const char *bucket, const char *index, struct vf_dir_attr *out, struct vf_err *err)
{
	struct vf_dir *dir;

	pthread_rwlock_rdlock(&catalog->tree);
	int rc = vf_dir_find(catalog, bucket, index, &dir, err);
	if (rc == 0)
		*out = dir->attr;
	pthread_rwlock_unlock(&catalog->tree);
	return rc;
}

/* The next name behind `name`, into `name`: 1, 0 at the end, negative. */
static int next_name(struct vf_catalog *catalog, const char *bucket, bool first, char name[NAME_MAX + 1], struct vf_dir_attr *attr,
                     struct vf_err *err)
{
	struct vf_dir *dir;
	bool found = false;

	pthread_rwlock_rdlock(&catalog->tree);
	int rc = vf_dir_find(catalog, bucket, NULL, &dir, err);
	if (rc == 0 && (dir = vf_dir_child_after(dir, first ? NULL : name)) != NULL) {
		snprintf(name, NAME_MAX + 1, "%s", dir->name);
		*attr = dir->attr;
		found = true;
	}
	pthread_rwlock_unlock(&catalog->tree);
	return rc ? rc : found;
}

int vf_catalog_list(struct vf_catalog *catalog, const char *bucket, const char *after,
                    int (*emit)(void *ctx, const char *name, const struct vf_dir_attr *attr), void *ctx, struct vf_err *err)
{
	char name[NAME_MAX + 1];
	struct vf_dir_attr attr;
	int rc;

	if (after)
		snprintf(name, sizeof name, "%s", after);
	/* One at a time and unlocked between, so that emit may call the catalog. */
	for (bool first = !after; (rc = next_name(catalog, bucket, first, name, &attr, err)) > 0; first = false)
		if (emit(ctx, name, &attr))
			return 0;
	return rc;
}
