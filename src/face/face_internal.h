/* SPDX-License-Identifier: MIT */
/* face_internal.h - what the files of src/face/ share: nodes, sites, handles, renderings, and one request of the kernel.
 *
 * A node is one version of a file. The kernel looks a name up anew for every path (names of files are never cached); the name joins the node
 * that it had while that node's version is current, and gets a new node with the same st_ino after that. So an open descriptor, its cached pages and
 * its size go on with the bytes that it opened, whatever is written meanwhile. A writer gets a node that no name leads to: its open is refused once
 * with ESTALE, on which the kernel looks the name up again; so is a reader whose version has gone since, and gets the next one with its bytes.
 *
 * Files: tree.c (the table of nodes), ops.c (FUSE's calls), call.c (one request), node.c (nodes), site.c (buckets and indexes), attr.c (stat),
 * list.c (readdir), fixed.c (directories with fixed entries), vectors.c, queries.c, answers.c, near.c, computed.c (stats, errors, exports, ...),
 * rendering.c (what computed files hold), handle.c (open files), stage.c (bytes being written), writers.c (to which name), shadow.c (beside what is
 * there), record_file.c, whole_file.c (taken as a whole: config_file.c, saved_file.c), scratch.c (temporary files), become.c (renamed to proper names),
 * pages.c (their bytes), conversation.c (the verbs), ask.c, insert.c, change.c (update and delete), rename.c, hidden.c (unlinked and still there),
 * removals.c (deleted in a row), xattr.c, ring.c (errors), budget.c (memory of users), turns.c (long requests of users), metrics.c, loop.c (threads),
 * awake.c (processors), mount.c.
 *
 * Order of locks: handle > a scratch's commits > names (writers.c) > scratch > face->lock (nodes and sites) > the small ones (renderings, ring, budget, turns). */
#ifndef VECFS_FACE_INTERNAL_H
#define VECFS_FACE_INTERNAL_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <pthread.h>
#include <stdio.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "vecfs/face.h"
#include "vecfs/limits.h"
#include "vecfs/name.h"

#define VF_NAMES_PATH_MAX 1200      /* of a path inside the mount, for messages */

enum vf_row_id {
	VF_ROW_ROOT, VF_ROW_META, VF_ROW_METRICS, VF_ROW_RELEASE, VF_ROW_ALL_ERRORS,
	VF_ROW_BUCKET, VF_ROW_INDEX,
	VF_ROW_CONFIG, VF_ROW_VECTORS, VF_ROW_INSERT, VF_ROW_QUERY, VF_ROW_UPDATE, VF_ROW_DELETE,
	VF_ROW_QUERIES, VF_ROW_ANSWERS, VF_ROW_NEAR, VF_ROW_STATS, VF_ROW_ERRORS,
	VF_ROW_EXPORT_MSGPACK, VF_ROW_EXPORT_JSONL, VF_ROW_EXPORT_NPY, VF_ROW_EXPORT_KEYS,
	VF_ROW_RECORD, VF_ROW_RECORD_JSON, VF_ROW_SAVED, VF_ROW_ANSWER, VF_ROW_ANSWER_MSGPACK,
	VF_ROW_NEAR_KEY, VF_ROW_NEAR_LINK, VF_ROW_SCRATCH,
	VF_ROWS
};

struct vf_call;
struct vf_node;
struct vf_handle;
struct vf_found;
struct vf_dir;
struct vf_site;
struct vf_rendering;
struct vf_scratch;

/* ---- tree.c: one row a node of the tree ---- */
struct vf_dir_ops {
	/* The child of that name, 0 or -ENOENT (without words) ... */
	int (*lookup)(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out);
	/* Adds the next page of entries (list.c). */
	int (*list)(struct vf_call *call, struct vf_node *dir, struct vf_dir *list);
	/* A regular file; NULL and what follows: EPERM. */
	int (*create)(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode, int flags,
	              struct vf_node **node, struct vf_handle **handle);
	int (*make)(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode);
	int (*unlink)(struct vf_call *call, struct vf_node *dir, const char *name);
	int (*rmdir)(struct vf_call *call, struct vf_node *dir, const char *name);
};

struct vf_file_ops {
	int (*open)(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out);
	/* What a computed file holds. `name` is the node's. */
	int (*render)(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out);
	bool renders_long;           /* and so in a turn of the user (turns.c) */
	/* truncate(2) of a path; NULL: EPERM unless the size stays. */
	int (*truncate)(struct vf_call *call, struct vf_node *node, uint64_t size);
	int (*touch)(struct vf_call *call, struct vf_node *node, int64_t mtime_ns);      /* NULL: nothing to keep */
	int (*readlink)(struct vf_call *call, struct vf_node *node, struct vf_buf *out);
};

struct vf_row {
	const char *path;            /* where in the tree, for people */
	const char *name;            /* of a fixed entry; NULL: any name */
	enum vf_row_id parent;
	bool listed;
	mode_t type;                 /* S_IFDIR, S_IFREG, S_IFLNK */
	mode_t keep;                 /* the bits of the index's mode that it has */
	bool versioned;              /* readers and writers are never of one node */
	bool ask;                    /* who may read may write too: a question changes nothing */
	uint64_t ino;                /* of a fixed entry, in its index */
	double entry_s, attr_s;      /* how long the kernel may keep name and attributes */
	const struct vf_dir_ops *dir;
	const struct vf_file_ops *file;
};
extern const struct vf_row vf_tree[VF_ROWS];
static inline enum vf_row_id vf_row_id(const struct vf_row *row) { return (enum vf_row_id)(row - vf_tree); }

/* ---- call.c: one request of the kernel ---- */
struct vf_call {
	struct vf_face *face;
	fuse_req_t req;
	const char *op;
	uid_t uid; gid_t gid; pid_t pid;
	uint64_t lock_owner;         /* of FLUSH, WRITE: which process (its table of files) */
	bool fsync;                  /* this flush is an fsync */
	bool logged;                 /* the failure was told in `errors` before */
	struct vf_index *index;      /* held until the end of the call */
	struct vf_arena arena;
	struct vf_err err;
};
void vf_call_begin(struct vf_call *call, fuse_req_t req, const char *op);
void vf_call_end(struct vf_call *call);
/* The index of a site, held until the end of the call: call->index. */
int vf_call_hold(struct vf_call *call, struct vf_site *site);
/* The key that a file name without its ending stands for, in the call's arena. EINVAL. */
int vf_call_key(struct vf_call *call, struct vf_span escaped, struct vf_span *key);
/* Failure: into `errors` when it has words, and -> errno for the reply. */
int vf_call_failed(struct vf_call *call, struct vf_node *node, const char *child, int rc);
void vf_call_data(struct vf_call *call, const void *data, size_t len);
/* What a read of `len` bytes at `offset` gets of all of them. */
void vf_call_part(struct vf_call *call, struct vf_span all, uint64_t offset, size_t len);
void vf_call_spool(struct vf_call *call, const struct vf_spool *spool, uint64_t offset, size_t len);

/* ---- site.c: buckets and indexes that the kernel knows of ---- */
struct vf_site {
	struct vf_site *next;
	uint64_t id;                 /* in the catalog */
	bool is_index;               /* or a bucket */
	unsigned users;              /* face->lock */
	struct vf_dir_attr attr;     /* face->lock */
	char *bucket, *index;        /* face->lock; index NULL: a bucket */
	unsigned moves;              /* face->lock: how often they changed */
	bool gone;
	pid_t maker;                 /* face->lock: a cp -r that has made the index, to which fixed entries are not there until it makes them */
	uint32_t unmade;             /* face->lock: these rows, counted from VF_ROW_CONFIG */
	_Atomic int64_t changed_ns;  /* records last changed */
	_Atomic int64_t saved_ns;    /* saved questions last changed */
	_Atomic uint64_t vectors_node; /* the node of vectors/, to tell the kernel that its times moved; 0: not known */
};
struct vf_site_names { char bucket[256], index[256]; unsigned moves; };
/* The site of that name, with one user more. ENOENT. */
int vf_site_find(struct vf_call *call, const char *bucket, const char *index, struct vf_site **out);
struct vf_site *vf_site_use(struct vf_face *face, struct vf_site *site);
void vf_site_put(struct vf_face *face, struct vf_site *site);
void vf_site_names(struct vf_face *face, struct vf_site *site, struct vf_site_names *out);
struct vf_dir_attr vf_site_attr(struct vf_face *face, struct vf_site *site);
/* Reads the attributes from the catalog again. */
int vf_site_refresh(struct vf_call *call, struct vf_site *site);
int vf_site_set_attr(struct vf_call *call, struct vf_site *site, const struct vf_dir_attr *attr);
int vf_site_hold(struct vf_call *call, struct vf_site *site, struct vf_index **out);
/* Takes over from the index when its records and questions last changed. */
void vf_site_changed(struct vf_face *face, struct vf_site *site, struct vf_index *index);
/* After a rename or a removal in the catalog. */
/* Around the renaming in the catalog and that of the sites. */
void vf_site_naming_begin(struct vf_face *face);
void vf_site_naming_end(struct vf_face *face);
/* Whether the place was renamed since it had `names`, or is just being; then its new ones are put there. Who has found nothing under the old ones looks
 * again. */
bool vf_site_has_moved(struct vf_call *call, struct vf_site *site, struct vf_site_names *names);
void vf_site_renamed(struct vf_face *face, const char *bucket, const char *index, const char *to_bucket, const char *to_index);
void vf_site_gone(struct vf_face *face, const char *bucket, const char *index);
void vf_sites_free(struct vf_face *face);

/* ---- node.c ---- */
/* What changes is read and written under face->lock. */
struct vf_node {
	struct vf_node *next;        /* in its chain */
	struct vf_node *before, *behind;   /* in the list of all */
	const struct vf_row *row;
	struct vf_site *site;      /* NULL: root and .vecfs */
	uint64_t nlookup, generation;
	bool attached;               /* the name leads here */
	bool unlinked;
	bool pending;                /* created, never committed */
	bool flushed;                /* pending, and closed once: no longer shown */
	bool dirty;                  /* bytes are staged */
	bool moved;                  /* became another version: the kernel may have pages of the old one */
	uint32_t readers, writers;
	uint64_t ino, version, size, staged_size;
	int64_t mtime_ns, ctime_ns;
	int64_t mtime_wish_ns;       /* utimens while being written; 0: none */
	struct vf_rendering *rendering;   /* while it has readers, and until the first has come if it was looked up with its bytes */
	struct vf_scratch *scratch;
	struct vf_span name;         /* key, file name, ...; in the same piece of memory */
};

/* What a lookup has found: becomes a node. */
struct vf_found {
	const struct vf_row *row;
	struct vf_site *site;      /* a user of it, taken over by the node */
	struct vf_span name;         /* lent */
	uint64_t ino, version, size;
	int64_t mtime_ns, ctime_ns;
	bool pending;                /* not there, but perhaps being created */
	struct vf_rendering *rendering;   /* a use of it; the node of a process that was refused another one keeps it until it is opened */
	struct vf_scratch *scratch;       /* taken over */
};
#define VF_INO_HASHED (1ull << 63)
void vf_found_fixed(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_found *out);
void vf_found_drop(struct vf_face *face, struct vf_found *found);
uint64_t vf_ino_hash(const struct vf_row *row, const struct vf_site *site, struct vf_span name);
uint64_t vf_ino_local(const struct vf_site *site, uint64_t local);
uint64_t vf_hash_bytes(struct vf_span bytes);

int vf_nodes_init(struct vf_face *face, struct vf_err *err);
void vf_nodes_free(struct vf_face *face);
struct vf_node *vf_node_of(struct vf_face *face, fuse_ino_t ino);
fuse_ino_t vf_node_id(const struct vf_face *face, const struct vf_node *node);
/* The node for what was found, looked up once more; takes what `found` owns. -ENOENT: pending and nobody creates it. */
int vf_node_settle(struct vf_call *call, struct vf_found *found, struct vf_node **out);
void vf_node_forget(struct vf_face *face, struct vf_node *node, uint64_t nlookup);
/* Whether the process was just refused a node of this name: what is found now is given to it with the bytes (found->rendering), since it may be
 * another version again when it is opened. */
bool vf_node_was_refused(struct vf_call *call, const struct vf_found *found);
/* A handle more. False: a writer of a version that others can find, or the other way round; the kernel shall look the name up again. Who comes
 * back for the same node all the same has no name to look up, only a descriptor, and is let in. */
bool vf_node_open(struct vf_call *call, struct vf_node *node, bool writer);
/* The same for a reader of a rendering. Whoever has the node open already has one: then it is that. Of another version than was looked up, whose
 * size the kernel goes by: refused too. *keep: the kernel's pages and its size are of this rendering. */
bool vf_node_open_rendering(struct vf_call *call, struct vf_node *node, struct vf_rendering **rendering, bool *keep);
void vf_node_close(struct vf_face *face, struct vf_node *node, bool writer);
void vf_node_staged(struct vf_face *face, struct vf_node *node, uint64_t size, bool dirty);
/* A copy of what changes. */
struct vf_node_state { bool pending, unlinked; uint64_t version, size; };
struct vf_node_state vf_node_state(struct vf_face *face, struct vf_node *node);
/* Created, not committed yet. */
void vf_node_is_pending(struct vf_face *face, struct vf_node *node);
/* The kernel asks for the attributes again when the size has changed. */
void vf_node_resized(struct vf_face *face, struct vf_node *node, uint64_t size);
void vf_node_flushed(struct vf_face *face, struct vf_node *node);
/* A writer's commit: the node goes on as the version that now is. */
void vf_node_committed(struct vf_face *face, struct vf_node *node, uint64_t ino, uint64_t version, uint64_t size, int64_t mtime_ns);
/* True: it is being written, the time waits for the commit. */
bool vf_node_touched(struct vf_face *face, struct vf_node *node, int64_t mtime_ns);
/* utimens that waits for the commit; 0: none. Taken once. */
int64_t vf_node_take_wish(struct vf_face *face, struct vf_node *node);
/* The name (in the directory of `row`) is gone: whoever has it open keeps it without a name. */
void vf_node_unlinked(struct vf_face *face, enum vf_row_id row, struct vf_site *site, struct vf_span name);
/* The name leads elsewhere now. */
void vf_node_detached(struct vf_face *face, enum vf_row_id row, struct vf_site *site, struct vf_span name);
/* The rendering of a node, used once more by the caller; NULL: none. */
struct vf_rendering *vf_node_rendering(struct vf_face *face, struct vf_node *node);
/* "/bucket/index/vectors/name", for messages. */
void vf_node_path(struct vf_face *face, const struct vf_node *node, const char *child, char *out, size_t size);
/* The kernel shall ask for the attributes of every node of this site again. */
void vf_nodes_stale(struct vf_face *face, struct vf_site *site);
uint64_t vf_nodes_count(struct vf_face *face);

/* ---- attr.c ---- */
void vf_node_stat(struct vf_face *face, struct vf_node *node, struct stat *out);
void vf_node_entry(struct vf_face *face, struct vf_node *node, struct fuse_entry_param *out);
int vf_node_set_attr(struct vf_call *call, struct vf_node *node, struct vf_handle *handle, const struct stat *attr, int to_set);

/* ---- list.c: an open directory ---- */
struct vf_dir_entry { struct vf_span name; uint64_t ino; mode_t type; };
#define VF_DIR_PAGE 512u
struct vf_dir {
	struct vf_dir *before, *behind;     /* in the list of all */
	struct vf_node *node;
	pthread_mutex_t lock;
	struct vf_arena arena;              /* of the page */
	struct vf_dir_entry page[VF_DIR_PAGE];
	uint32_t npage;
	uint64_t first;                     /* the ordinal of page[0] */
	bool end;
	unsigned phase;                     /* of the lister: what comes next */
	struct vf_buf after;                /* of the lister: the last name that was looked at */
};
int vf_dir_open(struct vf_call *call, struct vf_node *node, struct vf_dir **out);
void vf_dir_close(struct vf_face *face, struct vf_dir *dir);
void vf_dirs_free(struct vf_face *face);   /* those that the kernel never released */
/* Replies. */
int vf_dir_read(struct vf_call *call, struct vf_dir *dir, size_t size, uint64_t offset);
/* For listers. False: the page is full, or out of memory. */
bool vf_dir_add(struct vf_dir *dir, struct vf_span name, uint64_t ino, mode_t type);
bool vf_dir_full(const struct vf_dir *dir);
int vf_dir_after(struct vf_dir *dir, struct vf_span name, struct vf_err *err);

/* ---- rendering.c ---- */
struct vf_rendering {
	atomic_uint users;
	int rc;                      /* why it could not be rendered: told by open */
	struct vf_err err;
	struct vf_spool spool;
	uint64_t version;            /* of the bytes; with a cached one, of the index */
	bool of_version;             /* of a record or a saved question: ino and mtime_ns are those of the bytes, too */
	uint64_t ino;
	int64_t mtime_ns;
	/* private to the cache */
	struct vf_rendering *next;
	const struct vf_row *row;
	uint64_t site_id;
	struct vf_span name;
	bool cached, finished;
	int64_t used_ns;
};
struct vf_renderings;
int vf_renderings_new(struct vf_renderings **out, struct vf_err *err);
void vf_renderings_free(struct vf_renderings **renderings);
struct vf_rendering *vf_rendering_new(struct vf_face *face);
void vf_rendering_put(struct vf_rendering *rendering);
/* Rendered now, or the one of that version; its users one more. Content that cannot be rendered (EINVAL) is a rendering with rc. */
int vf_rendering_get(struct vf_call *call, const struct vf_row *row, struct vf_site *site, struct vf_span name, uint64_t version,
                     struct vf_rendering **out);
/* Rendered now; its bytes are its version, and an equal one that is known is the one. */
int vf_rendering_make(struct vf_call *call, const struct vf_row *row, struct vf_site *site, struct vf_span name, uint64_t *version,
                      struct vf_rendering **out);
/* Lets go what has been idle for long. */
void vf_renderings_tidy(struct vf_renderings *renderings);

/* ---- handle.c: an open file ---- */
struct vf_handle_ops {
	void (*read)(struct vf_call *call, struct vf_handle *handle, size_t size, uint64_t offset);       /* replies */
	int (*write)(struct vf_call *call, struct vf_handle *handle, struct vf_span data, uint64_t offset);
	void (*ahead)(struct vf_call *call, struct vf_handle *handle);    /* prepares what will be read at once; NULL: nothing can be */
	int (*flush)(struct vf_call *call, struct vf_handle *handle);
	int (*truncate)(struct vf_call *call, struct vf_handle *handle, uint64_t size);
	void (*release)(struct vf_call *call, struct vf_handle *handle);                                   /* frees */
};
struct vf_handle {
	const struct vf_handle_ops *ops;
	atomic_uint users;           /* the kernel, and reads that are being answered from it */
	struct vf_handle *before, *behind; /* in the list of all */
	struct vf_node *node;
	struct vf_index *index;      /* held, or NULL */
	pthread_mutex_t lock;
	int flags;                   /* of open(2) */
	bool writer;                 /* counted as a writer of the node */
	bool direct, keep, noflush;  /* for the kernel */
	bool commits;                /* its close and fsync write to disk, in a turn of the user (turns.c) */
	bool lingers;                /* its next call is expected at once */
	atomic_bool ready;           /* its next read was prepared */
	atomic_bool plain;           /* its next read may be prepared: it takes a moment */
	atomic_bool reads_long;      /* its next read computes, and so in a turn of the user (turns.c) */
	pid_t opener;
	uid_t uid;
	uint64_t owner;              /* the opener's table of files, once seen */
	bool owner_known;
};
/* Allocates `size` bytes that begin with a handle, holds the index. */
int vf_handle_new(struct vf_call *call, struct vf_node *node, int flags, size_t size, const struct vf_handle_ops *ops, void *out);
/* Counts it as a reader or a writer of its node; -ESTALE: the kernel shall look the name up again (the handle is freed by the caller). */
int vf_handle_join(struct vf_call *call, struct vf_handle *handle);
/* The last step of every release; also for a handle that never joined. */
void vf_handle_free(struct vf_call *call, struct vf_handle *handle);
void vf_handle_seen(struct vf_call *call, struct vf_handle *handle);
/* Is this flush the opener's last word? A dup in a forked child, closed, is not. When that cannot be seen, and the opener had closed before: what is
 * left over is carried out by the release. */
bool vf_handle_flush_is_final(struct vf_call *call, struct vf_handle *handle);
/* Those that the kernel never released. */
void vf_handles_free(struct vf_face *face);
/* A reader of a rendering, whose use it takes over. One that may write is heard, and nothing comes of it. */
int vf_snapshot_open(struct vf_call *call, struct vf_node *node, int flags, struct vf_rendering *rendering, struct vf_handle **out);
static inline bool vf_flags_write(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }
static inline bool vf_flags_read(int flags) { return (flags & O_ACCMODE) != O_WRONLY; }

/* ---- budget.c: the memory that users may bind in the daemon ---- */
struct vf_budget;
int vf_budget_new(struct vf_budget **out, struct vf_err *err);
void vf_budget_free(struct vf_budget **budget);
int vf_budget_take(struct vf_budget *budget, uid_t uid, uint64_t bytes, struct vf_err *err);   /* ENOSPC */
void vf_budget_give(struct vf_budget *budget, uid_t uid, uint64_t bytes);
uint64_t vf_budget_used(struct vf_budget *budget);

/* ---- turns.c: what may take long, a few of each user at a time ---- */
enum vf_turn { VF_TURN_COMPUTE, VF_TURN_COMMIT, VF_TURNS };
struct vf_heavy {
	enum vf_turn turn;
	fuse_req_t req;
	void (*carry_out)(const struct vf_heavy *heavy);   /* replies */
	fuse_ino_t ino;
	size_t size;
	off_t offset;
	struct fuse_file_info fi;
	const char *name;            /* lent until the reply; NULL: none */
};
struct vf_turns;
struct vf_turns_count { unsigned limit, most; uint64_t waiting; };   /* of a user at once: may be, have been; of all: wait */
int vf_turns_new(struct vf_turns **out, struct vf_err *err);
void vf_turns_free(struct vf_turns **turns);
/* Carries it out, now (and then what waits for this thread: true) or, on another thread, when the user has less under way (false). */
bool vf_turns_take(struct vf_face *face, const struct vf_heavy *heavy);
struct vf_turns_count vf_turns_count(struct vf_turns *turns);

/* ---- stage.c: the bytes of a small file while it is written ---- */
struct vf_stage {
	struct vf_budget *budget;
	uid_t uid;
	uint64_t max, charged;
	struct vf_buf bytes;
};
void vf_stage_init(struct vf_stage *stage, struct vf_budget *budget, uid_t uid, uint64_t max);
void vf_stage_free(struct vf_stage *stage);
int vf_stage_write(struct vf_stage *stage, struct vf_span data, uint64_t offset, struct vf_err *err);
int vf_stage_cut(struct vf_stage *stage, uint64_t size, struct vf_err *err);      /* or lengthen, with zeros */
static inline struct vf_span vf_stage_span(const struct vf_stage *stage) { return vf_buf_span(&stage->bytes); }

/* ---- writers.c: the name that what is being written will go to ---- */
struct vf_writers;
struct vf_writer {
	struct vf_writers *all;            /* NULL: in no list */
	struct vf_writer *before, *behind;
	uint64_t site_id;
	enum vf_row_id dir;                /* VF_ROW_VECTORS: the name is a key; VF_ROW_QUERIES, VF_ROW_INDEX: that of a file */
	struct vf_buf name;                /* under the lock of the list; len 0: there is none any more */
	pthread_rwlock_t *held;            /* that of the name, while it is held */
};
int vf_writers_new(struct vf_writers **out, struct vf_err *err);
void vf_writers_free(struct vf_writers **writers);
int vf_writer_list(struct vf_face *face, struct vf_writer *w, const struct vf_site *site, enum vf_row_id dir, struct vf_span name, struct vf_err *err);
/* Also for one that was never listed. */
void vf_writer_unlist(struct vf_writer *w);
/* The name that it has now, in the call's arena, with a NUL behind it; len 0: none. Until vf_writer_release, which is always called, nobody renames
 * or removes it. */
int vf_writer_hold(struct vf_call *call, struct vf_writer *w, struct vf_span *name);
void vf_writer_release(struct vf_writer *w);
/* Around a change of what names lead to, and vf_writers_moved: no writer commits to them meanwhile. */
void vf_names_lock(struct vf_face *face, const struct vf_site *site, struct vf_span a, struct vf_span b);
void vf_names_unlock(struct vf_face *face, const struct vf_site *site, struct vf_span a, struct vf_span b);
/* The name `from` leads to what `to` names now, or (len 0) to nothing: who writes to `from` goes on there (true: somebody does). Whoever has written
 * to `to` until now goes on without a name, when a file (`there`) or a writer has taken it. */
bool vf_writers_moved(struct vf_face *face, const struct vf_site *site, enum vf_row_id dir, struct vf_span from, struct vf_span to, bool there);

/* ---- shadow.c: a file that is being written, beside what it is until then ---- */
struct vf_shadow;
struct vf_shadow_kind {
	const struct vf_handle_ops *ops;
	size_t size;                       /* of what begins with a shadow */
	uint64_t bytes_max;
	enum vf_row_id dir;                /* of its writer; VF_ROWS: its name never changes */
	int (*load)(struct vf_call *call, struct vf_shadow *shadow, struct vf_buf *out);   /* what is there now; -ENOENT: nothing */
};
struct vf_shadow {
	struct vf_handle handle;
	const struct vf_shadow_kind *kind;
	struct vf_writer name;
	struct vf_stage stage;
	bool loaded;                       /* the old bytes are staged, or there is nothing to load */
	bool dirty;                        /* staged bytes differ from what is committed */
	struct vf_err failed;              /* code 0: not */
};
/* kind->size bytes, zeroed but for the shadow that they begin with. */
int vf_shadow_open(struct vf_call *call, struct vf_node *node, int flags, const struct vf_shadow_kind *kind, void *out);
/* What a look has found, which is taken over, or what is made now (found->pending), opened for writing by `open`. */
typedef int vf_shadow_open_fn(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out);
int vf_shadow_create(struct vf_call *call, struct vf_found *found, int flags, vf_shadow_open_fn *open, struct vf_node **node, struct vf_handle **handle);
void vf_shadow_free(struct vf_call *call, struct vf_shadow *shadow);
int vf_shadow_load(struct vf_call *call, struct vf_shadow *shadow);
/* For who reads what he is writing: the staged bytes, or the old ones before the first write. */
void vf_shadow_read(struct vf_call *call, struct vf_handle *handle, size_t size, uint64_t offset);
/* An earlier failure that has been logged. */
int vf_shadow_say_again(struct vf_call *call, const struct vf_shadow *shadow);

/* ---- whole_file.c: files that are taken as a whole ---- */
struct vf_whole;
struct vf_whole_kind {
	struct vf_shadow_kind shadow;
	int (*commit)(struct vf_call *call, struct vf_whole *whole);
	int (*check)(struct vf_call *call, struct vf_whole *whole);   /* what was written so far, from its beginning on without a gap; NULL: nothing to check */
};
struct vf_whole {
	struct vf_shadow shadow;
	const struct vf_whole_kind *kind;
	bool emptied;                  /* truncated at open and not written since: taken at the close of whoever opened it, else at the end */
	uint64_t base, lowest;         /* bytes that were there; the lowest offset written since */
	bool scattered;                /* not written from its beginning to its end */
	bool spoiled;                  /* a write has failed: what is there is not what was meant */
};
int vf_whole_open(struct vf_call *call, struct vf_node *node, int flags, const struct vf_whole_kind *kind, struct vf_whole **out);
/* The staged bytes; without those that were there, when what follows was appended to them. */
struct vf_span vf_whole_news(const struct vf_whole *whole);
extern const struct vf_handle_ops vf_whole_ops;

/* ---- pages.c: the bytes of a scratch file, sparse ---- */
struct vf_pages {
	struct vf_budget *budget;
	uid_t uid;
	uint8_t **page;
	size_t npages;
	uint64_t size, charged;
};
void vf_pages_init(struct vf_pages *pages, struct vf_budget *budget, uid_t uid);
void vf_pages_free(struct vf_pages *pages);
int vf_pages_write(struct vf_pages *pages, struct vf_span data, uint64_t offset, struct vf_err *err);
size_t vf_pages_read(const struct vf_pages *pages, uint64_t offset, void *out, size_t len);
int vf_pages_cut(struct vf_pages *pages, uint64_t size, struct vf_err *err);

/* ---- scratch.c ---- */
struct vf_scratch {
	struct vf_scratch *before, *next;    /* in the list of all */
	struct vf_scratch *chained;          /* of those whose names have this hash */
	atomic_uint users;
	pthread_mutex_t lock;
	uint64_t site_id, ino;
	enum vf_row_id dir;
	struct vf_budget *budget;
	atomic_bool listed;
	unsigned opens;              /* handles; this and emptied: under the lock */
	bool emptied;                /* it has no name any more and nobody has it open: bytes and charge are gone */
	uid_t owner;                 /* who is charged */
	uid_t uid; gid_t gid; mode_t mode;
	int64_t mtime_ns, ctime_ns;
	bool mtime_set;              /* by utimens: goes into the record */
	struct vf_pages pages;
	bool committed;              /* it became a proper file, and what is written on goes there at once; under the lock */
	pthread_mutex_t commits;     /* taken before the lock: one commit after the other */
	struct vf_writer writer;     /* where to, while somebody has it open; under `commits` */
	char name[256];              /* this and dir: under the lock of the table */
};
struct vf_scratches;
int vf_scratches_new(struct vf_scratches **out, struct vf_err *err);
void vf_scratches_free(struct vf_scratches **scratches);
/* With one user more; NULL: none. */
struct vf_scratch *vf_scratch_find(struct vf_face *face, struct vf_node *dir, const char *name);
void vf_scratch_put(struct vf_scratch *scratch);
/* Where it is now. */
enum vf_row_id vf_scratch_where(struct vf_face *face, const struct vf_scratch *scratch, char name[256]);
int vf_scratch_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out);
int vf_scratch_create(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode, int flags,
                      struct vf_node **node, struct vf_handle **handle);
int vf_scratch_unlink(struct vf_call *call, struct vf_node *dir, const char *name);
/* A file of that name with these bytes (replaces): what a rename to a temporary name leaves. */
int vf_scratch_keep(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_span bytes, int64_t mtime_ns);
int vf_scratch_rename(struct vf_call *call, struct vf_node *from_dir, const char *from, struct vf_node *to_dir, const char *to, bool replace);
/* The whole content, at most `max` bytes (EFBIG), and the time that utimens gave it (0: none). */
int vf_scratch_bytes(struct vf_call *call, struct vf_scratch *scratch, uint64_t max, struct vf_buf *out, int64_t *mtime_ns);
uint64_t vf_scratch_size(struct vf_scratch *scratch);
/* Adds those of a directory to the lister's page: its last phase. */
#define VF_PHASE_SCRATCH 99u
int vf_scratch_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list);
/* Those of an index that is removed. */
void vf_scratch_drop_site(struct vf_face *face, struct vf_site *site);
extern const struct vf_file_ops vf_scratch_file;

/* ---- become.c: a temporary file that is renamed to a proper name ---- */
/* Commits what it holds as the file `name` of `dir` (see struct vf_writer); -EEXIST: it is there, and shall not be replaced. */
int vf_scratch_become(struct vf_call *call, struct vf_scratch *scratch, struct vf_site *site, enum vf_row_id dir, struct vf_span name, bool replace);
/* Its bytes changed after that. */
int vf_scratch_written_on(struct vf_call *call, struct vf_scratch *scratch, struct vf_site *site);
/* Its name is gone, or somebody has closed it: when nobody has it open any more it goes nowhere. */
void vf_scratch_left(struct vf_scratch *scratch);

/* ---- hidden.c: names that are always there, for a moment after they were unlinked; to the process that did it ---- */
void vf_hide_from_maker(struct vf_call *call, struct vf_site *site);
void vf_hide(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name);
bool vf_is_hidden(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name);
/* Shown again, and for a moment there in any case. */
void vf_show(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name);
bool vf_is_shown(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name);
#define VF_HIDDEN_MAX 256u
struct vf_hidden { uint64_t name; pid_t pid, process; bool made; int64_t ns; };

/* ---- removals.c: records that are deleted in a row ---- */
struct vf_removals;
int vf_removals_new(struct vf_removals **out, struct vf_err *err);
/* Carries out what waits. */
void vf_removals_free(struct vf_face *face);
/* Takes a removal over, to be carried out soon; -ENOENT: it waits already; 1: it is not one of a row, and is the caller's. call->index is held. */
int vf_removals_take(struct vf_call *call, struct vf_site *site, struct vf_span key);
bool vf_removals_has(struct vf_face *face, struct vf_site *site, struct vf_span key);
/* Carries out what waits for that index (NULL or a bucket: for any). A call that changes or reads more than names ends the row. */
bool vf_removals_wait(struct vf_face *face, struct vf_site *site, bool ends_row);     /* settling them may take a while */
void vf_removals_settle(struct vf_face *face, struct vf_site *site, bool ends_row);

/* ---- directories ---- */
extern const struct vf_dir_ops vf_root_dir, vf_meta_dir, vf_bucket_dir, vf_index_dir, vf_vectors_dir, vf_queries_dir, vf_answers_dir,
	vf_near_dir, vf_near_key_dir;
/* The fixed entry of that name, or VF_ROWS. */
enum vf_row_id vf_fixed_row(enum vf_row_id parent, const char *name);
int vf_fixed_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list);

/* vectors.c: what a name in vectors/ means. */
enum vf_name_kind { VF_NAME_SCRATCH, VF_NAME_GOOD, VF_NAME_OTHER };
/* VF_NAME_GOOD: *row and *key (in the call's arena) are filled. Negative: a bad escape or key. */
int vf_vectors_name(struct vf_call *call, const char *name, enum vf_name_kind *kind, enum vf_row_id *row, struct vf_span *key);
int vf_vectors_bad_name(struct vf_call *call, const char *name);
enum vf_name_kind vf_queries_name(const char *name);
int vf_queries_bad_name(struct vf_call *call, const char *name);
enum vf_format vf_saved_format(struct vf_span name);

/* ---- files ---- */
extern const struct vf_file_ops vf_record_file, vf_record_json_file, vf_config_file, vf_saved_file, vf_answer_file, vf_near_key_file,
	vf_link_file,
	vf_stats_file, vf_errors_file, vf_all_errors_file, vf_metrics_file, vf_release_file,
	vf_export_msgpack_file, vf_export_jsonl_file, vf_export_npy_file, vf_export_keys_file,
	vf_insert_file, vf_query_file, vf_update_file, vf_delete_file;
/* Fills version, size and rendering of a computed file. */
int vf_computed_find(struct vf_call *call, struct vf_found *found, uint64_t version);
int vf_volatile_find(struct vf_call *call, struct vf_found *found);
/* Opens what was rendered; writing is refused. */
int vf_computed_open(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out);
/* The same, but writing is accepted and changes nothing: a copy of an index that is restored brings these files along. */
int vf_restorable_open(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out);
int vf_restorable_truncate(struct vf_call *call, struct vf_node *node, uint64_t size);

/* record_file.c */
int vf_record_find(struct vf_call *call, struct vf_found *found);
int vf_record_create(struct vf_call *call, struct vf_node *dir, enum vf_row_id row, struct vf_span key, int flags,
                     struct vf_node **node, struct vf_handle **handle);
/* Decodes the bytes of a file and inserts them under `key`. mtime 0: now. */
int vf_record_commit(struct vf_call *call, struct vf_site *site, struct vf_span bytes, struct vf_span key, int64_t mtime_ns, bool replace);

/* What reading config gives. */
int vf_config_text(struct vf_call *call, struct vf_index *index, struct vf_buf *out);
/* The bytes as they are now, and of what version they are. */
int vf_saved_snapshot(struct vf_call *call, struct vf_site *site, const char *name, struct vf_rendering **out);
int vf_saved_create(struct vf_call *call, struct vf_node *dir, const char *name, int flags, struct vf_node **node, struct vf_handle **handle);

/* ---- conversation.c: insert, query, update, delete ---- */
struct vf_conversation;
struct vf_verb {
	size_t size;                                     /* of its conversation */
	int (*take)(struct vf_call *call, struct vf_conversation *c, struct vf_span data);
	bool (*complete)(struct vf_conversation *c);      /* between two values */
	/* What close, fsync and the first read do; NULL: nothing (query). */
	int (*commit)(struct vf_call *call, struct vf_conversation *c);
	int (*reply)(struct vf_call *call, struct vf_conversation *c);   /* into c->reply */
	void (*reset)(struct vf_conversation *c);         /* ready for the next request */
	void (*free)(struct vf_conversation *c);
	const char *what;                                /* "a question" */
};
struct vf_conversation {
	struct vf_handle handle;
	const struct vf_verb *verb;
	struct vf_spool reply;
	uint64_t end;                /* offset behind the last write */
	uint64_t begin;              /* offset at which the reply begins */
	bool pending;                /* written since the last read */
	bool unsettled;              /* written since the last commit */
	bool replied;
	bool told;                   /* that it is incomplete */
	uint64_t ahead_version;      /* of the index, when the reply was made ahead (handle.ready) */
	struct vf_err failed;        /* code 0: not */
	bool lost;                   /* what writes before the one that failed had said was taken */
	struct vf_site_names names; /* of the index when the request began */
	uint64_t charged, reply_charged;
};
int vf_conversation_open(struct vf_call *call, struct vf_node *node, int flags, const struct vf_verb *verb, struct vf_handle **out);
int vf_conversation_truncate(struct vf_call *call, struct vf_node *node, uint64_t size);
int vf_conversation_charge(struct vf_conversation *c, struct vf_face *face, uint64_t bytes, struct vf_err *err);

/* ---- rename.c, xattr.c ---- */
int vf_rename(struct vf_call *call, struct vf_node *from_dir, const char *from, struct vf_node *to_dir, const char *to, unsigned flags);
int vf_xattr_get(struct vf_call *call, struct vf_node *node, const char *name, struct vf_buf *out);
int vf_xattr_list(struct vf_call *call, struct vf_node *node, struct vf_buf *out);
int vf_xattr_set(struct vf_call *call, struct vf_node *node, const char *name, struct vf_span value, int flags);
int vf_xattr_remove(struct vf_call *call, struct vf_node *node, const char *name);

/* ---- ring.c: the last failures ---- */
struct vf_ring;
int vf_ring_new(struct vf_ring **out, struct vf_err *err);
void vf_ring_free(struct vf_ring **ring);
void vf_ring_add(struct vf_call *call, const struct vf_node *node, const char *path);
/* The lines of a site (NULL: of all) that `uid` may see, oldest first. */
int vf_ring_render(struct vf_ring *ring, const struct vf_site *site, uid_t uid, struct vf_spool *out, struct vf_err *err);
const char *vf_errno_name(int code);
/* The process of a thread (what a request calls pid is a thread); 0: it is gone. */
pid_t vf_process_of(pid_t thread);
void vf_command_of(pid_t pid, char *out, size_t size);

/* ---- metrics.c ---- */
struct vf_metrics;
int vf_metrics_new(struct vf_metrics **out, struct vf_err *err);
void vf_metrics_free(struct vf_metrics **metrics);
void vf_metrics_count(struct vf_metrics *metrics, const char *op, bool failed);
int vf_metrics_render(struct vf_call *call, struct vf_spool *out);

/* ---- awake.c ---- */
struct vf_awake {
	pthread_mutex_t lock;        /* of the wish */
	int fd;                      /* -1: not allowed to, or of no use */
	int timer;                   /* readable while on, every few milliseconds: then tick() */
	unsigned processors;
	_Atomic int64_t last_ns;     /* of the last request */
	atomic_uint in_a_row;
	atomic_bool on;
};
void vf_awake_begin(struct vf_awake *awake, bool allowed);
void vf_awake_end(struct vf_awake *awake);
void vf_awake_after_request(struct vf_awake *awake);
void vf_awake_tick(struct vf_awake *awake);

/* ---- loop.c ---- */
/* Answers the kernel until the session is over: 0, -errno, or the signal that has ended it. */
int vf_loop_run(struct vf_face *face);
/* What follows may take a while: requests that come meanwhile go to other threads. */
void vf_loop_share(struct vf_face *face);
/* The request that is being carried out will be followed by another one at once. */
void vf_loop_expect(struct vf_face *face);
/* Whether requests that come meanwhile may wait for this thread. */
bool vf_loop_attends(void);

/* ---- ops.c, mount.c ---- */
extern const struct fuse_lowlevel_ops vf_ops;
/* One client asks and nobody else. */
bool vf_is_alone(const struct vf_face *face);

/* Who was refused a node lately, and what it was called: gets one of its own when it looks the name up again. */
#define VF_REFUSED_MAX 1024u
struct vf_refused { pid_t pid; uint64_t name, generation; int64_t ns; };

struct vf_face {
	struct vf_catalog *catalog;
	struct vf_face_options options;
	struct fuse_session *session;
	char *mountpoint;
	bool mounted, watching;

	pthread_mutex_t naming;      /* taken before lock: a bucket or an index is being renamed */
	pthread_mutex_t lock;        /* nodes, sites, the lists of handles and directories */
	struct vf_node **chains;
	size_t nchains;
	uint64_t nnodes, generation;
	struct vf_hidden hidden[VF_HIDDEN_MAX];
	struct vf_refused refused[VF_REFUSED_MAX];
	struct vf_node *root, *all;  /* all: first of the list */
	struct vf_site *sites;
	struct vf_handle *handles;
	struct vf_dir *dirs;

	struct vf_renderings *renderings;
	struct vf_scratches *scratches;
	struct vf_writers *writers;
	struct vf_removals *removals;
	struct vf_budget *budget;
	struct vf_turns *turns;
	struct vf_ring *ring;
	struct vf_metrics *metrics;
	int64_t mounted_ns, started_ns;      /* by the clock on the wall; by the one that never steps */
	_Atomic(const struct vf_handle *) asker; /* who has asked last */
	atomic_uint asked;                   /* so many times in a row */
	struct vf_awake awake;
	struct vf_loop *loop;                /* while it runs */
};

#endif
