/* SPDX-License-Identifier: MIT */
/* index.h - the seam: one index of vectors. The face knows files, the index knows vectors; nothing here is a file or a FUSE word.
 *
 * LMDB is the truth: a write is durable when its call returns, and seen by every question that starts after. The graph in
 * memory is loaded when a question or a write first needs it and can be lost at any time. All calls may come from any thread at once.
 * Errors: EINVAL, EFBIG (content), EBUSY (frozen setting), ENOENT, EEXIST, ENOSPC, EIO (damaged), EROFS. */
#ifndef VECFS_INDEX_H
#define VECFS_INDEX_H

#include "vecfs/question.h"
#include "vecfs/request.h"

#define VF_FORMAT_VERSION 1u

struct vf_index;
struct vf_linkers;       /* the threads that link, shared by all indexes of a process */

int vf_linkers_new(unsigned threads, struct vf_linkers **out, struct vf_err *err);   /* 0 threads: as many as processors */
void vf_linkers_free(struct vf_linkers **linkers);
/* One of them has something to do just now. */
bool vf_linkers_at_work(const struct vf_linkers *linkers);

struct vf_index_options {
	const char *bucket, *name;         /* for messages and explain; copied */
	bool read_only;
	struct vf_linkers *linkers;        /* NULL: nothing is linked in the background (tools) */
	struct vf_ballast *ballast;        /* disk space for removals; NULL: none. Lent */
};

int vf_index_create(const char *dir, struct vf_err *err);      /* in an existing, empty directory */
int vf_index_open(const char *dir, const struct vf_index_options *options, struct vf_index **out, struct vf_err *err);
/* Writes a last checkpoint. */
void vf_index_close(struct vf_index **index);
void vf_index_renamed(struct vf_index *index, const char *bucket, const char *name);
/* Nothing more is taken, if it holds nothing: ENOTEMPTY when it has a saved question or a record (with `unlisted` also one whose key has no file name).
 * What was taken before is there, and nobody's insert returns between the look and the removal. */
int vf_index_seal(struct vf_index *index, bool unlisted, struct vf_err *err);
/* It stays after all. */
void vf_index_unseal(struct vf_index *index);
/* Its directory is gone; whoever holds it can go on reading what it has opened, and is refused changes, which would be lost, and questions: ENOENT. */
void vf_index_removed(struct vf_index *index);

/* Grows with every committed change of records or config: what was computed at one version is valid while it lasts. */
uint64_t vf_index_version(struct vf_index *index);

/* ---- config ---- */
int vf_index_config(struct vf_index *index, struct vf_config *out, struct vf_err *err);   /* a copy; vf_config_free it */
int vf_index_configure(struct vf_index *index, struct vf_span text, struct vf_err *err);
/* What of its lines that would refuse as things are now; changes nothing. */
int vf_index_config_check(struct vf_index *index, struct vf_span text, struct vf_err *err);
/* When it was last changed, or what was set since; 0: never. */
int vf_index_config_mtime(struct vf_index *index, int64_t *mtime_ns, struct vf_err *err);
int vf_index_set_config_mtime(struct vf_index *index, int64_t mtime_ns, struct vf_err *err);

/* When records, or saved questions, last changed, or what was set since; 0: never. */
enum vf_index_part { VF_PART_RECORDS, VF_PART_SAVED, VF_PARTS };
int64_t vf_index_part_mtime(struct vf_index *index, enum vf_index_part part);
int vf_index_set_part_mtime(struct vf_index *index, enum vf_index_part part, int64_t mtime_ns, struct vf_err *err);

/* ---- writing ----
 * A batch is prepared without any lock: records are checked and encoded as they are added. Applying it is one transaction, all or nothing; of equal
 * keys the last wins. */
struct vf_batch;
int vf_batch_new(struct vf_index *index, struct vf_batch **out, struct vf_err *err);
void vf_batch_free(struct vf_batch **batch);
int vf_batch_put(struct vf_batch *batch, const struct vf_record *record, struct vf_err *err);        /* copies */
int vf_batch_remove(struct vf_batch *batch, struct vf_span key, struct vf_err *err);
int vf_batch_update(struct vf_batch *batch, const struct vf_update *update, struct vf_err *err);     /* copies */
int vf_batch_delete(struct vf_batch *batch, const struct vf_delete *request, struct vf_err *err);    /* copies */
uint64_t vf_batch_bytes(const struct vf_batch *batch);    /* decoded */
uint64_t vf_batch_held(const struct vf_batch *batch);     /* of them in memory, more or less: the vectors of a long one are on disk already */
/* Applies and empties it. Ops are carried out in order; filters see what came before them in the batch. */
int vf_batch_apply(struct vf_batch *batch, struct vf_receipt *receipt, struct vf_err *err);

/* ENOENT when there is none. */
int vf_index_remove(struct vf_index *index, struct vf_span key, struct vf_err *err);
/* Gives the record of `from` the key `to`; inode number, vector, metadata stay. ENOENT; EEXIST when `to` is there and !replace. */
int vf_index_rekey(struct vf_index *index, struct vf_span from, struct vf_span to, bool replace, struct vf_err *err);
int vf_index_set_mtime(struct vf_index *index, struct vf_span key, int64_t mtime_ns, struct vf_err *err);

/* ---- reading ---- */
struct vf_record_stat {
	uint64_t ino;            /* local to the index, from VF_INO_FIRST on; stays when the record is replaced; never reused */
	uint64_t version;        /* changes whenever the bytes of the record change; never repeats in this index */
	int64_t mtime_ns, ctime_ns;
	uint32_t key_bytes, dim, metadata_bytes;
};
#define VF_INO_FIRST 64u

/* ENOENT when there is none (err's text is not filled for it: absence is ordinary). */
int vf_index_stat(struct vf_index *index, struct vf_span key, struct vf_record_stat *out, struct vf_err *err);
/* The record, copied into the arena. stat may be NULL. A record whose checksum does not hold is EIO. */
int vf_index_get(struct vf_index *index, struct vf_span key, struct vf_arena *arena, struct vf_record *out,
                 struct vf_record_stat *stat, struct vf_err *err);
/* Keys in order, after `after` (len 0: from the first), a page at a time: emit returns 0 to go on, 1 to stop. No lock and no
 * transaction is held between two calls. */
int vf_index_list(struct vf_index *index, struct vf_span after,
                  int (*emit)(void *ctx, struct vf_span key, uint64_t ino), void *ctx, struct vf_err *err);
/* The whole answer into the spool. The question may have been decoded at an older config: its dimension is checked again. */
int vf_index_ask(struct vf_index *index, const struct vf_question *question, struct vf_spool *answer, struct vf_err *err);
/* The same question's key and distance pairs only, for near/: at most top_k. Keys are copied into the arena. */
struct vf_neighbour { struct vf_span key; double distance; };
int vf_index_near(struct vf_index *index, struct vf_span key, uint64_t top_k, struct vf_arena *arena,
                  struct vf_neighbour **out, size_t *n, struct vf_err *err);

/* The whole index as one file, in key order, one snapshot. */
enum vf_export { VF_EXPORT_MSGPACK, VF_EXPORT_JSONL, VF_EXPORT_NPY, VF_EXPORT_KEYS };
int vf_index_export(struct vf_index *index, enum vf_export what, struct vf_spool *out, struct vf_err *err);

/* ---- saved questions: files kept as they were written ---- */
struct vf_saved { uint64_t ino, version; int64_t mtime_ns; uint32_t bytes; };
int vf_index_saved_put(struct vf_index *index, const char *name, struct vf_span bytes, struct vf_err *err);
int vf_index_saved_stat(struct vf_index *index, const char *name, struct vf_saved *out, struct vf_err *err);
int vf_index_saved_get(struct vf_index *index, const char *name, struct vf_buf *out, struct vf_saved *stat, struct vf_err *err);
int vf_index_saved_remove(struct vf_index *index, const char *name, struct vf_err *err);
int vf_index_saved_rename(struct vf_index *index, const char *from, const char *to, bool replace, struct vf_err *err);
int vf_index_saved_set_mtime(struct vf_index *index, const char *name, int64_t mtime_ns, struct vf_err *err);
int vf_index_saved_list(struct vf_index *index, const char *after, int (*emit)(void *ctx, const char *name, uint64_t ino), void *ctx, struct vf_err *err);

/* ---- looking after it ---- */
/* `name value` lines: vectors, pending, dead, dimension, metric, ef, recall_target, recall_measured, memory_bytes, file_bytes, free_bytes, unlisted_keys,
 * last_checkpoint, loaded, ... */
int vf_index_stats(struct vf_index *index, struct vf_buf *out, struct vf_err *err);
int vf_index_checkpoint(struct vf_index *index, struct vf_err *err);
/* Every invariant of a store directory that nobody has open: keys, records, checksums, vectors, slots, postings, links. Changes nothing.
 * Returns the number of findings, or negative. */
int64_t vf_index_audit(const char *dir, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err);
/* The folders beside the data in which repair and compaction work. One that nobody works in was left by an interruption. */
#define VF_REPAIR_DIR  "repair.tmp"
#define VF_COMPACT_DIR "compact.tmp"
/* Writes an index that nobody has open anew from what can be read of it: all that is derived from records is made again, and what is lost is
 * told by its key. The damaged file is kept beside it when anything was lost. Swapped in by a rename. EIO when not even the config can
 * be read. Returns how much was lost, or negative. */
int64_t vf_index_repair(const char *dir, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err);
/* Rewrites the environment of an index that nobody has open without its free pages, and swaps it in by a rename: interrupted, the old
 * one stays. Sizes in bytes of the file. */
int vf_index_compact(const char *dir, uint64_t *bytes_before, uint64_t *bytes_after, struct vf_err *err);

#endif
