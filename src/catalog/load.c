/* SPDX-License-Identifier: MIT */
#include "catalog_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "vecfs/clock.h"
#include "vecfs/log.h"
#include "vecfs/name.h"

/* Numbers met while loading: each directory has its own. */
struct loading {
	struct vf_catalog *catalog;
	const struct vf_catalog_options *options;
	struct vf_dir *parent;
	uint8_t *ids;              /* a bit each */
	bool stays_old;            /* not all could be renewed */
	struct vf_dir **anew;      /* those that need a number and attributes; lent */
	size_t anew_count, anew_cap;
};

static bool id_is_free(struct loading *loading, uint64_t id)
{
	uint8_t *byte = &loading->ids[id / 8], bit = (uint8_t)(1u << id % 8);
	bool is_free = id != 0 && !(*byte & bit);

	*byte |= bit;
	return is_free;
}

static int add_anew(struct loading *loading, struct vf_dir *dir, struct vf_err *err)
{
	if (loading->anew_count == loading->anew_cap) {
		size_t cap = loading->anew_cap ? 2 * loading->anew_cap : 8;
		struct vf_dir **anew = realloc(loading->anew, cap * sizeof(struct vf_dir *));
		if (!anew)
			return vf_oom(err);
		loading->anew = anew;
		loading->anew_cap = cap;
	}
	loading->anew[loading->anew_count++] = dir;
	return 0;
}

static struct vf_dir_attr own_attr(void)
{
	int64_t now = vf_clock_real_ns();

	return (struct vf_dir_attr){ .uid = geteuid(), .gid = getegid(), .mode = 0700, .mtime_ns = now, .ctime_ns = now };
}

#define NEW_ONES ": opened for writing it gets new ones, those of whoever does that"

/* parent NULL: a bucket, or the root. */
static void tell(const struct loading *loading, const struct vf_dir *parent, const char *name, const char *what, bool renews)
{
	char text[PATH_MAX];

	snprintf(text, sizeof text, "%s%s%s: %s", parent ? parent->name : "", parent ? "/" : "", name, what);
	vf_log(LOG_WARNING, "%s: %s", loading->catalog->path, text);
	if (loading->options->damaged)
		loading->options->damaged(loading->options->damaged_ctx, text, renews && !loading->catalog->read_only);
}

/* Those of the first format get their sum, unless the disk is full: then another time. */
static int read_attr(struct loading *loading, int fd, const char *name, struct vf_dir_attr *out, struct vf_err *err)
{
	bool old = loading->catalog->format < VF_STORE_FORMAT;
	int rc = vf_attr_read(fd, name, !old, out, err);

	if (rc == 0 && old && !loading->catalog->read_only)
		loading->stays_old |= vf_attr_write(fd, name, out, err) != 0;
	return rc;
}

/* A lost .attr costs owner and mode, not the data: the directory becomes ours alone. A number that is there twice (somebody
 * copied a directory within the store) is kept by the first. */
static int load_dir(struct loading *loading, int fd, const char *name, struct vf_dir **out, struct vf_err *err)
{
	struct vf_dir_attr attr;
	struct vf_err why = VF_ERR_INIT;
	int rc = read_attr(loading, fd, ATTR_FILE, &attr, &why);
	bool sound = rc == 0 && id_is_free(loading, attr.id);

	if (rc) {
		tell(loading, loading->parent->name[0] ? loading->parent : NULL, name, rc == -ENOENT ? "its attributes are missing" NEW_ONES :
		     "its attributes are damaged" NEW_ONES, true);
		attr = own_attr();
	}
	struct vf_dir *dir = vf_dir_new(name, &attr);
	if (!dir)
		return vf_oom(err);
	if ((!sound && (rc = add_anew(loading, dir, err))) || (rc = vf_dir_reserve(loading->parent, err))) {
		vf_dir_free(&dir);
		return rc;
	}
	vf_dir_attach(loading->parent, dir);
	if (sound && attr.id >= loading->catalog->next_id)
		loading->catalog->next_id = (uint32_t)attr.id + 1;
	*out = dir;
	return 0;
}

/* Found before anybody can have begun anew: the store is locked. */
static int clean_index(int fd, struct vf_err *err)
{
	int rc = vf_disk_remove_tree(fd, VF_COMPACT_DIR, err);

	return rc ? rc : vf_disk_remove_tree(fd, VF_REPAIR_DIR, err);
}

static int load_index(void *ctx, int at, const char *name, struct vf_err *err)
{
	struct loading *loading = ctx;
	struct vf_err why;
	struct vf_dir *dir;
	struct stat st;

	if (vf_dir_name_check(name, &why))
		return 0;
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return vf_fail(err, errno, "cannot open %s/%s: %s", loading->parent->name, name, strerror(errno));
	int rc = loading->catalog->read_only ? 0 : clean_index(fd, err);
	if (rc == 0 && fstatat(fd, "data.mdb", &st, 0) == 0)
		rc = load_dir(loading, fd, name, &dir, err);
	else if (rc == 0)
		tell(loading, loading->parent, name, "it has no data and is left out", false);
	close(fd);
	return rc;
}

/* ext4 makes one at the top of a disk, which only root may look into. A bucket of that name has attributes, since it was made with them. */
static bool is_of_the_disk(int at, const char *name)
{
	return strcmp(name, "lost+found") == 0 && faccessat(at, "lost+found/" ATTR_FILE, F_OK, 0) != 0;
}

static int load_bucket(void *ctx, int at, const char *name, struct vf_err *err)
{
	struct loading *loading = ctx;
	struct vf_err why;
	struct vf_dir *bucket;

	if (vf_dir_name_check(name, &why) || is_of_the_disk(at, name))
		return 0;
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return vf_fail(err, errno, "cannot open %s/%s: %s", loading->catalog->path, name, strerror(errno));
	int rc = load_dir(loading, fd, name, &bucket, err);
	if (rc == 0) {
		struct vf_dir *root = loading->parent;
		loading->parent = bucket;
		rc = vf_disk_each_dir(fd, load_index, loading, err);
		loading->parent = root;
	}
	close(fd);
	return rc;
}

/* Only now, when every number in use is known. */
static int give_ids(struct loading *loading, struct vf_err *err)
{
	struct vf_catalog *catalog = loading->catalog;

	for (size_t i = 0; i < loading->anew_count; i++) {
		char path[PATH_MAX];
		uint32_t id;
		int fd, rc = vf_id_take(catalog, &id, err);
		if (rc || (rc = vf_dir_path(catalog, loading->anew[i], path, err)))
			return rc;
		loading->anew[i]->attr.id = id;
		if (catalog->read_only)
			continue;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return vf_fail(err, errno, "cannot open %s: %s", path, strerror(errno));
		rc = vf_attr_write(fd, ATTR_FILE, &loading->anew[i]->attr, err);
		close(fd);
		if (rc)
			return rc;
	}
	return 0;
}

static int load_root(struct loading *loading, struct vf_err *err)
{
	struct vf_catalog *catalog = loading->catalog;
	struct vf_dir_attr attr;
	int rc = read_attr(loading, catalog->control_fd, "root", &attr, err);

	if (rc) {
		if (rc != -ENOENT)
			tell(loading, NULL, "the root of the mount", "its attributes are damaged" NEW_ONES, true);
		attr = own_attr();
		attr.mode = 0755;
		if (!catalog->read_only && (rc = vf_attr_write(catalog->control_fd, "root", &attr, err)))
			return rc;
	}
	attr.id = 0;
	catalog->root = vf_dir_new("", &attr);
	return catalog->root ? 0 : vf_oom(err);
}

int vf_load_tree(struct vf_catalog *catalog, const struct vf_catalog_options *options, struct vf_err *err)
{
	struct loading loading = { .catalog = catalog, .options = options, .ids = calloc((DIR_ID_MAX + 1) / 8, 1) };
	int rc = loading.ids ? 0 : vf_oom(err);

	if (rc || (rc = load_root(&loading, err)) || (rc = vf_id_load(catalog, err)))
		goto out;
	loading.parent = catalog->root;
	if ((rc = vf_disk_each_dir(catalog->fd, load_bucket, &loading, err)) == 0)
		rc = give_ids(&loading, err);
	if (rc == 0 && !catalog->read_only && !loading.stays_old)
		rc = vf_format_renew(catalog, err);
out:
	free(loading.anew);
	free(loading.ids);
	return rc;
}

/* ---- what was interrupted ---- */

static int clean_new(void *ctx, int at, const char *name, struct vf_err *err)
{
	(void)ctx;
	return strncmp(name, "new-", 4) == 0 ? vf_disk_remove_tree(at, name, err) : 0;
}

static int clean_trash(void *ctx, int at, const char *name, struct vf_err *err)
{
	(void)ctx;
	return vf_disk_remove_tree(at, name, err);
}

int vf_load_clean(struct vf_catalog *catalog, struct vf_err *err)
{
	int rc = vf_disk_each_dir(catalog->control_fd, clean_new, NULL, err);

	return rc ? rc : vf_disk_each_dir(catalog->trash_fd, clean_trash, NULL, err);
}
