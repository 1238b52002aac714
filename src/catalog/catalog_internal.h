/* SPDX-License-Identifier: MIT */
/* catalog_internal.h - what the files of src/catalog/ share.
 *
 * Files: catalog.c (open, close, look up, list), load.c (a store directory into memory), change.c (make, remove, rename, set attributes),
 * hold.c (indexes open and closed), tree.c (directories in memory), attr.c (attributes as text), disk.c (durable files and renames),
 * lock.c (one process a store, its format, its numbers).
 *
 *   STORE/.vecfs/lock      locked by the owner, holds its pid
 *   STORE/.vecfs/format    "vecfs 2"
 *   STORE/.vecfs/next-id   the next number of a directory
 *   STORE/.vecfs/root      attributes of the root
 *   STORE/.vecfs/ballast   space kept back for removals on a full disk
 *   STORE/.vecfs/new-ID/   a bucket or an index in the making: complete and synced before it gets its name
 *   STORE/.trash/ID/       removed; emptied at the next start at the latest
 *   STORE/BUCKET/.attr, STORE/BUCKET/INDEX/.attr, STORE/BUCKET/INDEX/data.mdb
 *
 * Names and attributes are all in memory; a change is on disk first, then in memory.
 * Order of locks: change > opening > tree > open_lock. No lookup waits for the disk; opening one index does not wait for another. */
#ifndef VECFS_CATALOG_INTERNAL_H
#define VECFS_CATALOG_INTERNAL_H

#include <limits.h>
#include <pthread.h>

#include "vecfs/catalog.h"
#include "vecfs/limits.h"
#include "vecfs/store.h"

#define DIR_ID_MAX         VF_DIRECTORIES_MAX
#define CONTROL_DIR        ".vecfs"
#define BALLAST_FILE       "ballast"
#define TRASH_DIR          ".trash"
#define ATTR_FILE          ".attr"
#define DIR_MODE_MASK      07777
#define OPENED_HASH_ROWS   1024u       /* a power of two */
#define ID_NAME_MAX        32u

struct vf_opened;

/* The root, a bucket or an index. */
struct vf_dir {
	char *name;                          /* "" for the root */
	struct vf_dir_attr attr;
	bool dirty;                          /* times changed since the attributes were written */
	struct vf_dir *parent;
	struct vf_dir **children;            /* by name */
	size_t count, cap;
	struct vf_opened *opened;            /* under open_lock */
};

enum opened_state { OPENED_STARTS, OPENED_READY, OPENED_ENDS };

/* An index that is open, being opened or being closed. */
struct vf_opened {
	enum opened_state state;
	struct vf_index *index;
	struct vf_dir *dir;                  /* NULL: removed, lives on for its holders */
	char trash[ID_NAME_MAX];             /* then: what to delete after the last of them */
	unsigned holders;
	struct vf_opened *hash_next;
	struct vf_opened *newer, *older;     /* among those nobody holds */
};

struct vf_catalog {
	char *path;                          /* absolute */
	int fd, control_fd, trash_fd, lock_fd;
	bool read_only;
	unsigned format;                  /* of the store, as it was found until all is renewed */
	uint32_t next_id;
	struct vf_linkers *linkers;
	struct vf_ballast *ballast;

	pthread_mutex_t change;              /* whoever changes the tree, from disk to memory */
	pthread_rwlock_t opening;            /* shared while an index is opened by its path, exclusive while a path changes */
	pthread_rwlock_t tree;
	struct vf_dir *root;

	pthread_mutex_t open_lock;
	pthread_cond_t open_changed;         /* an index left OPENED_STARTS or OPENED_ENDS */
	struct vf_opened *opened[OPENED_HASH_ROWS];
	struct vf_opened *newest, *oldest;
	unsigned idle, idle_max;
};

/* ---- disk.c: `where` is for messages ---- */
int vf_disk_mkdir(int at, const char *name, int *fd, struct vf_err *err);        /* opened; there already: fine */
/* Replaces a small file as a whole; synced, with its directory. */
int vf_disk_write(int at, const char *name, struct vf_span text, struct vf_err *err);
/* At most cap - 1 bytes and a NUL; ENOENT without a message when there is none. */
int vf_disk_read(int at, const char *name, char *out, size_t cap, struct vf_err *err);
int vf_disk_sync(int fd, struct vf_err *err);
int vf_disk_remove_tree(int at, const char *name, struct vf_err *err);
/* Calls each for every directory in `at` except "." and "..". */
int vf_disk_each_dir(int at, int (*each)(void *ctx, int at, const char *name, struct vf_err *err), void *ctx, struct vf_err *err);

/* ---- attr.c ---- */
int vf_attr_write(int at, const char *name, const struct vf_dir_attr *attr, struct vf_err *err);
/* ENOENT: none. EIO: damaged, or without the sum that there should be. */
int vf_attr_read(int at, const char *name, bool with_sum, struct vf_dir_attr *out, struct vf_err *err);

/* ---- lock.c ---- */
/* Makes or checks .vecfs and takes the lock. */
int vf_lock_take(struct vf_catalog *catalog, bool create, struct vf_err *err);
/* Once all is in today's format. */
int vf_format_renew(struct vf_catalog *catalog, struct vf_err *err);
/* A number that was never given, durably. */
int vf_id_take(struct vf_catalog *catalog, uint32_t *id, struct vf_err *err);
int vf_id_load(struct vf_catalog *catalog, struct vf_err *err);

/* ---- tree.c ---- */
struct vf_dir *vf_dir_new(const char *name, const struct vf_dir_attr *attr);
void vf_dir_free(struct vf_dir **dir);                  /* with all below */
struct vf_dir *vf_dir_child(const struct vf_dir *dir, const char *name);
/* The first child behind `name`, or NULL; name NULL: the first of all. */
struct vf_dir *vf_dir_child_after(const struct vf_dir *dir, const char *name);
/* Room for one more child, so that attaching it cannot fail. */
int vf_dir_reserve(struct vf_dir *dir, struct vf_err *err);
void vf_dir_attach(struct vf_dir *parent, struct vf_dir *child);
void vf_dir_detach(struct vf_dir *child);
/* bucket NULL: the root; index NULL: the bucket. */
int vf_dir_find(const struct vf_catalog *catalog, const char *bucket, const char *index, struct vf_dir **out, struct vf_err *err);
/* The path of a directory. */
int vf_dir_path(const struct vf_catalog *catalog, const struct vf_dir *dir, char out[PATH_MAX], struct vf_err *err);

/* ---- load.c ---- */
int vf_load_tree(struct vf_catalog *catalog, const struct vf_catalog_options *options, struct vf_err *err);
int vf_load_clean(struct vf_catalog *catalog, struct vf_err *err);       /* what was interrupted: trash, new-ID */

/* ---- change.c ---- */
/* At closing: the times of what has changed since its attributes were written. */
void vf_change_write_times(struct vf_catalog *catalog, struct vf_dir *dir);

/* ---- hold.c ---- */
/* With `change` and `opening` held, after the directory became STORE/.trash/`trash`. True: nobody holds the index, the caller closes
 * *idle (which may be NULL) and empties the trash, without any lock. False: its last holder will. */
bool vf_hold_detach(struct vf_catalog *catalog, struct vf_dir *dir, const char *trash, struct vf_index **idle);
/* With `change` held: tells the open indexes of a bucket, or the one index, their names. */
void vf_hold_renamed(struct vf_catalog *catalog, struct vf_dir *dir);
void vf_hold_close_all(struct vf_catalog *catalog);
/* Deletes STORE/.trash/`trash`; what fails is left to the next start. */
void vf_trash_empty(struct vf_catalog *catalog, const char *trash);

#endif
