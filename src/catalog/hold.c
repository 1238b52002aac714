/* SPDX-License-Identifier: MIT */
/* Indexes open and closed. An index is open once, whoever holds it; those that nobody holds stay open, up to a bound, and the one that
 * was released first goes first. Opening and closing take time and happen without open_lock: meanwhile the index says OPENED_STARTS or
 * OPENED_ENDS, and who wants it waits. */
#include "catalog_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "vecfs/log.h"

/* ---- from index to what we know of it ---- */

static struct vf_opened **hash_row(struct vf_catalog *catalog, const struct vf_index *index)
{
	uint64_t n = (uint64_t)(uintptr_t)index * 0x9e3779b97f4a7c15u;

	return &catalog->opened[n >> 32 & (OPENED_HASH_ROWS - 1)];
}

static void hash_add(struct vf_catalog *catalog, struct vf_opened *o)
{
	struct vf_opened **row = hash_row(catalog, o->index);

	o->hash_next = *row;
	*row = o;
}

static struct vf_opened **hash_find(struct vf_catalog *catalog, const struct vf_index *index)
{
	struct vf_opened **at = hash_row(catalog, index);

	while (*at && (*at)->index != index)
		at = &(*at)->hash_next;
	return at;
}

static void hash_remove(struct vf_catalog *catalog, const struct vf_opened *o)
{
	struct vf_opened **at = hash_find(catalog, o->index);

	*at = o->hash_next;
}

/* ---- those that nobody holds, newest first ---- */

static void idle_add(struct vf_catalog *catalog, struct vf_opened *o)
{
	o->newer = NULL;
	o->older = catalog->newest;
	if (o->older)
		o->older->newer = o;
	else
		catalog->oldest = o;
	catalog->newest = o;
	catalog->idle++;
}

static void idle_remove(struct vf_catalog *catalog, struct vf_opened *o)
{
	*(o->newer ? &o->newer->older : &catalog->newest) = o->older;
	*(o->older ? &o->older->newer : &catalog->oldest) = o->newer;
	o->newer = o->older = NULL;
	catalog->idle--;
}

/* ---- hold ---- */

static void take(struct vf_catalog *catalog, struct vf_opened *o)
{
	if (o->holders++ == 0)
		idle_remove(catalog, o);
}

/* The catalog's tree is locked. `id` 0: whichever has the name. */
static int find(struct vf_catalog *catalog, const char *bucket, const char *index, uint64_t id, struct vf_dir **out, struct vf_err *err)
{
	int rc = vf_dir_find(catalog, bucket, index, out, err);

	if (rc == 0 && id && (*out)->attr.id != id)
		return vf_fail(err, ENOENT, "index %s in bucket %s is another one now", index, bucket);
	return rc;
}

/* Looks without waiting for an opening: 0 held, 1 it is not open and nobody opens it, negative. */
static int hold_if_open(struct vf_catalog *catalog, const char *bucket, const char *index, uint64_t id, struct vf_index **out, struct vf_err *err)
{
	for (;;) {
		struct vf_dir *dir;
		pthread_rwlock_rdlock(&catalog->tree);
		int rc = find(catalog, bucket, index, id, &dir, err);
		if (rc) {
			pthread_rwlock_unlock(&catalog->tree);
			return rc;
		}
		pthread_mutex_lock(&catalog->open_lock);
		struct vf_opened *o = dir->opened;
		bool busy = o && o->state != OPENED_READY;
		if (o && !busy) {
			take(catalog, o);
			*out = o->index;
		}
		pthread_rwlock_unlock(&catalog->tree);
		if (busy)
			pthread_cond_wait(&catalog->open_changed, &catalog->open_lock);
		pthread_mutex_unlock(&catalog->open_lock);
		if (!busy)
			return o ? 0 : 1;
	}
}

/* With `opening` held: marks the index as being opened. 0 and *out, 1 when another was faster, negative. */
static int announce(struct vf_catalog *catalog, const char *bucket, const char *index, uint64_t id, struct vf_opened **out, char path[PATH_MAX],
                    struct vf_err *err)
{
	struct vf_opened *o = calloc(1, sizeof *o);
	struct vf_dir *dir;
	int rc;

	if (!o)
		return vf_oom(err);
	pthread_rwlock_rdlock(&catalog->tree);
	if ((rc = find(catalog, bucket, index, id, &dir, err)) == 0 && (rc = vf_dir_path(catalog, dir, path, err)) == 0) {
		pthread_mutex_lock(&catalog->open_lock);
		o->dir = dir;
		if (dir->opened)
			rc = 1;
		else
			dir->opened = o;
		pthread_mutex_unlock(&catalog->open_lock);
	}
	pthread_rwlock_unlock(&catalog->tree);
	if (rc)
		free(o);
	else
		*out = o;
	return rc;
}

/* 0 held, 1 look again, negative. */
static int open_and_hold(struct vf_catalog *catalog, const char *bucket, const char *index, uint64_t id, struct vf_index **out, struct vf_err *err)
{
	struct vf_index_options options = {
		.bucket = bucket, .name = index, .read_only = catalog->read_only, .linkers = catalog->linkers, .ballast = catalog->ballast,
	};
	char path[PATH_MAX];
	struct vf_opened *o = NULL;

	pthread_rwlock_rdlock(&catalog->opening);
	int rc = announce(catalog, bucket, index, id, &o, path, err);
	if (rc == 0) {
		rc = vf_index_open(path, &options, &o->index, err);
		pthread_mutex_lock(&catalog->open_lock);
		if (rc) {
			o->dir->opened = NULL;
			free(o);
		} else {
			o->state = OPENED_READY;
			o->holders = 1;
			hash_add(catalog, o);
			*out = o->index;
		}
		pthread_cond_broadcast(&catalog->open_changed);
		pthread_mutex_unlock(&catalog->open_lock);
	}
	pthread_rwlock_unlock(&catalog->opening);
	return rc;
}

int vf_catalog_hold_id(struct vf_catalog *catalog, const char *bucket, const char *index, uint64_t id, struct vf_index **out, struct vf_err *err)
{
	int rc;

	do {
		rc = hold_if_open(catalog, bucket, index, id, out, err);
		if (rc == 1)
			rc = open_and_hold(catalog, bucket, index, id, out, err);
	} while (rc == 1);
	return rc;
}

int vf_catalog_hold(struct vf_catalog *catalog, const char *bucket, const char *index, struct vf_index **out, struct vf_err *err)
{
	return vf_catalog_hold_id(catalog, bucket, index, 0, out, err);
}

/* ---- release ---- */

/* With open_lock held, which is let go: the oldest of too many idle ones. */
static void close_oldest(struct vf_catalog *catalog)
{
	struct vf_opened *o = catalog->oldest;

	idle_remove(catalog, o);
	hash_remove(catalog, o);
	o->state = OPENED_ENDS;
	pthread_mutex_unlock(&catalog->open_lock);
	vf_index_close(&o->index);
	pthread_mutex_lock(&catalog->open_lock);
	o->dir->opened = NULL;
	free(o);
	pthread_cond_broadcast(&catalog->open_changed);
	pthread_mutex_unlock(&catalog->open_lock);
}

static void close_removed(struct vf_catalog *catalog, struct vf_opened *o)
{
	vf_index_close(&o->index);
	vf_trash_empty(catalog, o->trash);
	free(o);
}

void vf_catalog_release(struct vf_catalog *catalog, struct vf_index *index)
{
	pthread_mutex_lock(&catalog->open_lock);
	struct vf_opened *o = *hash_find(catalog, index);
	bool last = --o->holders == 0;
	if (last && !o->dir) {
		hash_remove(catalog, o);
		pthread_mutex_unlock(&catalog->open_lock);
		close_removed(catalog, o);
		return;
	}
	if (last)
		idle_add(catalog, o);
	if (catalog->idle > catalog->idle_max)
		close_oldest(catalog);
	else
		pthread_mutex_unlock(&catalog->open_lock);
}

/* ---- changes of the tree ---- */

bool vf_hold_detach(struct vf_catalog *catalog, struct vf_dir *dir, const char *trash, struct vf_index **idle)
{
	bool nobody = true;

	*idle = NULL;
	pthread_mutex_lock(&catalog->open_lock);
	while (dir->opened && dir->opened->state != OPENED_READY)
		pthread_cond_wait(&catalog->open_changed, &catalog->open_lock);
	struct vf_opened *o = dir->opened;
	dir->opened = NULL;
	if (o && o->holders) {
		vf_index_removed(o->index);
		o->dir = NULL;
		snprintf(o->trash, sizeof o->trash, "%s", trash);
		nobody = false;
	} else if (o) {
		idle_remove(catalog, o);
		hash_remove(catalog, o);
		*idle = o->index;
		free(o);
	}
	pthread_mutex_unlock(&catalog->open_lock);
	return nobody;
}

void vf_hold_renamed(struct vf_catalog *catalog, struct vf_dir *dir)
{
	pthread_mutex_lock(&catalog->open_lock);
	if (dir->opened && dir->opened->state == OPENED_READY)
		vf_index_renamed(dir->opened->index, dir->parent->name, dir->name);
	for (size_t i = 0; i < dir->count; i++) {
		struct vf_opened *o = dir->children[i]->opened;
		if (o && o->state == OPENED_READY)
			vf_index_renamed(o->index, dir->name, dir->children[i]->name);
	}
	pthread_mutex_unlock(&catalog->open_lock);
}

void vf_hold_close_all(struct vf_catalog *catalog)
{
	for (size_t i = 0; i < OPENED_HASH_ROWS; i++) {
		while (catalog->opened[i]) {
			struct vf_opened *o = catalog->opened[i];
			catalog->opened[i] = o->hash_next;
			if (o->dir) {
				vf_index_close(&o->index);
				free(o);
			} else {
				close_removed(catalog, o);
			}
		}
	}
}

void vf_trash_empty(struct vf_catalog *catalog, const char *trash)
{
	struct vf_err err = VF_ERR_INIT;

	if (vf_disk_remove_tree(catalog->trash_fd, trash, &err))
		vf_log(LOG_WARNING, "%s/" TRASH_DIR "/%s stays until the next start: %s", catalog->path, trash, err.text);
}
