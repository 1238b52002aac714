/* SPDX-License-Identifier: MIT */
/* catalog.h - the store on disk: buckets and indexes as directories, who owns them, which are open.
 *
 * STORE/BUCKET/INDEX/ holds one LMDB environment. Each bucket and index directory has a file `.attr` (text: id, uid, gid, mode,
 * times), so that owners and modes do not depend on what the host directory allows. Ids are never reused; they make inode
 * numbers. Creating, renaming and removing are atomic and durable: an index is removed by a rename into STORE/.trash.
 * All names and attributes are in memory: looking up and listing cost no disk. All calls but open and close may come from any thread. */
#ifndef VECFS_CATALOG_H
#define VECFS_CATALOG_H

#include <sys/statvfs.h>
#include <sys/types.h>

#include "vecfs/index.h"

struct vf_catalog;

#define VF_STORE_FORMAT 2u

struct vf_catalog_options {
	bool read_only, create;
	unsigned linker_threads;
	/* Told what is damaged, at opening; NULL: only the log is. `renewed`: opened for writing, it has new attributes now. */
	void (*damaged)(void *ctx, const char *text, bool renewed);
	void *damaged_ctx;
};

/* Takes the lock of the store: EBUSY with the pid of the owner. Finishes interrupted removals and clears what an interrupted compaction left,
 * unless read_only: then nothing on the disk is changed. ENOENT: no store there (create makes it, in
 * a missing or an empty directory); EINVAL: something else is there, or a newer format. Starts no threads before an index is used.
 * Raises the soft limit of open files to the hard one. */
int vf_catalog_open(const char *path, const struct vf_catalog_options *options, struct vf_catalog **out, struct vf_err *err);
/* Says where the store is going to be mounted (an existing directory). From then on a second process that finds the store locked while that mount is gone
 * waits for the owner to end, instead of failing: an unmount returns before the daemon has written its last checkpoint. */
int vf_catalog_mounts_at(struct vf_catalog *catalog, const char *mountpoint, struct vf_err *err);
/* Everything held must have been released. */
void vf_catalog_close(struct vf_catalog **catalog);
/* Threads of its own are at work just now. */
bool vf_catalog_is_at_work(const struct vf_catalog *catalog);
const char *vf_catalog_path(const struct vf_catalog *catalog);
int vf_catalog_statvfs(struct vf_catalog *catalog, struct statvfs *out, struct vf_err *err);

struct vf_dir_attr {
	uint64_t id;                       /* < 2^23, never reused in a store; 0 is the root */
	uid_t uid; gid_t gid; mode_t mode; /* permission bits only */
	int64_t mtime_ns, ctime_ns;
};

/* index NULL: the bucket. ENOENT, EEXIST, ENOTEMPTY, EINVAL (name). */
int vf_catalog_make(struct vf_catalog *catalog, const char *bucket, const char *index, uid_t uid, gid_t gid, mode_t mode, struct vf_err *err);
int vf_catalog_remove(struct vf_catalog *catalog, const char *bucket, const char *index, struct vf_err *err);
/* Buckets to buckets, indexes to indexes (also in another bucket). EEXIST when `to` is there and noreplace, ENOTEMPTY when it holds
 * anything: an index a record or a saved question. */
int vf_catalog_rename(struct vf_catalog *catalog, const char *bucket, const char *index, const char *to_bucket, const char *to_index,
                      bool noreplace, struct vf_err *err);
int vf_catalog_attr(struct vf_catalog *catalog, const char *bucket, const char *index, struct vf_dir_attr *out, struct vf_err *err);
/* bucket NULL: the root, which is kept too. attr->id is ignored. */
int vf_catalog_set_attr(struct vf_catalog *catalog, const char *bucket, const char *index, const struct vf_dir_attr *attr, struct vf_err *err);
/* Names in byte order, after `after` (NULL: all); bucket NULL: the buckets. emit returns 0 to go on, 1 to stop, and may call the catalog. */
int vf_catalog_list(struct vf_catalog *catalog, const char *bucket, const char *after,
                    int (*emit)(void *ctx, const char *name, const struct vf_dir_attr *attr), void *ctx, struct vf_err *err);

/* An open index, held until released. Indexes nobody holds stay open up to VF_INDEXES_OPEN_MAX, least recently used closed first.
 * A removed or renamed index that is held stays usable by its holders until released. */
int vf_catalog_hold(struct vf_catalog *catalog, const char *bucket, const char *index, struct vf_index **out, struct vf_err *err);
/* ENOENT also when another index has that name now. */
int vf_catalog_hold_id(struct vf_catalog *catalog, const char *bucket, const char *index, uint64_t id, struct vf_index **out, struct vf_err *err);
void vf_catalog_release(struct vf_catalog *catalog, struct vf_index *index);

#endif
