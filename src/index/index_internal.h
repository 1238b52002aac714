/* SPDX-License-Identifier: MIT */
/* index_internal.h - what the files of src/index/ share: the index in memory, its rows on disk, and who may touch what.
 *
 * Files: index.c (open, close, names, version), settings.c (config), rows.c (rows <-> bytes); writing: batch.c (prepare), early.c, early_rows.c (the vectors of long streams), change.c
 * (the steps), commit.c, populate.c, publish.c (a change from its turn to its end), postings.c, posting_row.c, posting_reader.c (filter terms <-> roaring
 * containers), range_cache.c (long ranges of them kept), saved.c; reading: read.c (get, stat, list), export.c, and the answering of questions, whose files ask_internal.h
 * lists; the graph: memory.c (load, grow, swap), first.c (loaded behind a question), fit.c (the quantizer), checkpoint.c, rebuild.c, linkers.c (threads); looking after
 * it: stats.c, audit.c, compact.c.
 *
 * Order of locks: store's writer > graph_lock > the small mutexes. Nothing is locked while waiting for a commit. */
#ifndef VECFS_INDEX_INTERNAL_H
#define VECFS_INDEX_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "vecfs/graph.h"
#include "vecfs/index.h"
#include "vecfs/limits.h"
#include "vecfs/store.h"

/* An immutable config with a count of users: a question keeps the one that it began with. */
struct vf_settings {
	atomic_uint users;
	struct vf_config config;
};

#define VF_EFFORT_STEPS 32u
#define VF_DEATHS_KEPT  1024u

struct vf_index {
	struct vf_store *store;
	bool read_only;
	struct vf_linkers *linkers;

	pthread_mutex_t small_lock;        /* bucket, name, settings (the pointer), and other small things */
	char *bucket, *name;
	_Atomic(struct vf_settings *) settings;    /* changed in the committer's turn, under small_lock */

	struct vf_range_cache *ranges;

	_Atomic uint64_t version;
	/* Serials that were given and are no more, counted once the graph was told. A transaction has the same count (vf_deaths_of); what it
	 * has more the graph has still to hear. */
	_Atomic uint64_t deaths_told;
	/* The last of them, death i in place i % VF_DEATHS_KEPT, noted before the graph is told. */
	_Atomic uint64_t deaths;
	_Atomic uint64_t dead[VF_DEATHS_KEPT];

	/* The graph: NULL until first needed. A holder of graph_lock (shared) may use it and the pointer stays; it is loaded, swapped
	 * or dropped under the exclusive lock only, and only in the committer's turn: the committer itself needs no lock to use it.
	 * The lock prefers writers, so a thread that holds it shared must not take it again. */
	pthread_rwlock_t graph_lock;
	struct vf_graph *graph;
	struct vf_graph_keeper *keeper;    /* memory.c: checkpoint state, load progress */

	atomic_uint ef;                    /* effort.c: what reaches the recall target; 0 not measured yet */
	_Atomic double recall_measured;    /* negative: not measured yet */
	atomic_uint row_ps, place_ps;      /* measured too: to scan one code, to widen a beam by one place; 0 not measured */
	atomic_uint ef_rough;              /* by a few samples, until effort_ppm is known; 0 not known either */
	atomic_uint effort_ppm[VF_EFFORT_STEPS];   /* recall in parts of a million that each step of effort.c reaches; 0 not measured */

	struct vf_places *places;          /* places.c */

	_Atomic int64_t part_mtime_ns[VF_PARTS];
	_Atomic uint64_t unlisted_keys;    /* file name would pass 255 bytes */

	/* The committer's, touched in its turn only. */
	unsigned inflight;                 /* jobs that wrote and are not done: their slots are taken and not published yet */
	atomic_uint config_pending;        /* of those, the ones that change the config: until settings are what is on disk (read by everybody) */
	bool graph_broken;                 /* memory could not follow disk: dropped, and loaded again, when nothing is in flight */
	bool graph_rebuilt;                /* there is a better one on disk: loaded in its place when nothing is in flight */

	/* linkers.c, under its lock */
	struct vf_index *ring_next;
	bool in_ring;
	bool forgotten;
	_Atomic bool closing;              /* long work in the background stops early */
	_Atomic bool removed;              /* its directory is gone, or about to go */
	unsigned workers;
	uint64_t wakes;
	int64_t due_ns;                    /* monotonic; INT64_MAX: no work */
};

/* ---- index.c ---- */
/* A word for the operator: "index NAME: ...". */
void vf_index_warn(struct vf_index *index, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* EINVAL for a format newer than this program, EIO for no format at all. */
int vf_format_check(struct vf_txn *txn, struct vf_err *err);

/* ---- settings.c ---- */
struct vf_settings *vf_settings_hold(struct vf_index *index);
void vf_settings_release(struct vf_settings *settings);
int vf_settings_load(struct vf_index *index, struct vf_err *err);
/* VF_OTHER_CONFIG when a transaction was begun under another shape or other filterable fields than the held settings say: the question begins again. */
#define VF_OTHER_CONFIG (-ESTALE)
int vf_settings_fit(struct vf_index *index, const struct vf_settings *settings, struct vf_txn *txn, struct vf_err *err);
/* "docs" for messages, copied into out[256]. */
void vf_index_name(struct vf_index *index, char out[256]);

/* The config as a transaction sees it. */
int vf_config_of_txn(struct vf_txn *txn, struct vf_config *out, struct vf_err *err);

/* ---- times.c ---- */
int vf_part_mtime_put(struct vf_txn *txn, enum vf_index_part part, int64_t mtime_ns, struct vf_err *err);
int vf_part_mtimes_load(struct vf_index *index, struct vf_txn *txn, struct vf_err *err);

/* ---- rows.c: see doc/FORMAT.md ---- */
#define VF_META_FORMAT     "format"
#define VF_META_CONFIG     "config"
#define VF_META_COUNTERS   "counters"
#define VF_META_QUANT      "quant"
#define VF_META_CLAMPED    "clamped"
#define VF_META_CHECKPOINT "checkpoint"
#define VF_META_EARLY      "early"

/* early: serials that were given to vectors and have no record yet (early.h). */
struct vf_counters { uint64_t next_serial, next_ino, next_version, unlisted_keys, early; };
int vf_counters_get(struct vf_txn *txn, struct vf_counters *out, struct vf_err *err);
int vf_counters_put(struct vf_txn *txn, const struct vf_counters *counters, struct vf_err *err);
/* Serials that were given and are no more, as the transaction sees it. */
int vf_deaths_of(struct vf_txn *txn, uint64_t *out, struct vf_err *err);
#define VF_KEY_ROW_MAX   479u          /* keys up to this many bytes are their own row key */
#define VF_KEY_ROW_HEAD  464u          /* longer ones: these first bytes, then the 16 bytes of their XXH3-128 */

struct vf_key_row { uint64_t serial, ino; };
struct vf_record_row {
	uint64_t vector_sum;               /* XXH3-64 of the vector row */
	uint64_t ino, version;
	int64_t mtime_ns, ctime_ns;
	uint32_t slot, dim;
	struct vf_span key, metadata;      /* lent, as the bytes they came from */
};
uint64_t vf_load_u64(const void *p);
uint32_t vf_load_u32(const void *p);
void vf_store_u64(void *p, uint64_t v);
void vf_store_u32(void *p, uint32_t v);
/* out has room for VF_KEY_ROW_HEAD + 16 bytes; returns the span of it. */
struct vf_span vf_key_row_name(struct vf_span key, uint8_t *out);
void vf_key_row_encode(const struct vf_key_row *row, uint8_t out[16]);
int vf_key_row_decode(struct vf_span bytes, struct vf_key_row *out, struct vf_err *err);
size_t vf_record_row_size(const struct vf_record_row *row);
void vf_record_row_encode(const struct vf_record_row *row, uint8_t *out);           /* its own XXH3-64 first */
/* Of a place where one was decoded before. */
int vf_record_row_at(const void *row, struct vf_record_row *out, struct vf_err *err);
int vf_record_row_decode(struct vf_span bytes, struct vf_record_row *out,
                         struct vf_err *err);   /* EIO when the sum does not hold */
uint64_t vf_vector_sum(const void *vector, size_t bytes);
/* The rows of a key or a serial in a transaction: 0, 1 not there, negative. */
int vf_row_of_key(struct vf_txn *txn, struct vf_span key, struct vf_key_row *out, struct vf_err *err);
int vf_row_of_serial(struct vf_txn *txn, uint64_t serial, struct vf_record_row *out, struct vf_err *err);
/* Both; EIO when one does not lead to the other. */
int vf_record_of_key(struct vf_txn *txn, struct vf_span key, struct vf_key_row *key_row, struct vf_record_row *out, struct vf_err *err);
/* The vector's bytes, lent, aligned to 2 only; EIO when its length is not dim * 4. */
int vf_vector_of_serial(struct vf_txn *txn, uint64_t serial, uint32_t dim, struct vf_span *out, struct vf_err *err);

/* read.c: the vector of a record, lent, its checksum verified; EIO with the key. */
int vf_vector_checked(struct vf_txn *txn, uint64_t serial, const struct vf_record_row *row, struct vf_span *vector,
                      struct vf_err *err);

/* ---- saved.c ---- */
/* EIO when the checksum of the row of a saved question does not hold; its inode number. */
int vf_saved_row_check(struct vf_span row, uint64_t *ino, struct vf_err *err);

/* ---- postings.c ---- */
/* A set of (term, slot) pairs to add or take away, gathered over a batch so that each container is written once a transaction. */
struct vf_postings_change;
int vf_postings_change_new(struct vf_postings_change **out, struct vf_err *err);
void vf_postings_change_free(struct vf_postings_change **change);
int vf_postings_add(struct vf_postings_change *change, struct vf_span term, uint32_t slot, struct vf_err *err);
int vf_postings_remove(struct vf_postings_change *change, struct vf_span term, uint32_t slot, struct vf_err *err);
/* All terms of a record's canonical metadata. */
int vf_postings_add_record(struct vf_postings_change *change, struct vf_span metadata, const struct vf_config *config,
                           uint32_t slot, struct vf_err *err);
int vf_postings_remove_record(struct vf_postings_change *change, struct vf_span metadata, const struct vf_config *config,
                              uint32_t slot, struct vf_err *err);
/* What it holds, in bytes of memory: a change of many records is written now and then, or it grows with them. */
size_t vf_postings_change_bytes(const struct vf_postings_change *change);
/* Writes what was gathered (sorted; later changes of the same pair win) and empties it. */
int vf_postings_write(struct vf_postings_change *change, struct vf_txn *txn, struct vf_err *err);
/* What filter.h asks for, over one transaction. The source lives as long as the struct. */
struct vf_range_cache;
struct vf_postings_reader {
	struct vf_txn *txn;
	struct vf_posting_source source;
	struct vf_range_cache *cache;      /* of a read: NULL, or what keeps long ranges */
};
void vf_postings_reader_init(struct vf_postings_reader *reader, struct vf_txn *txn);

/* ---- first.c ---- */
/* Before the index is closed: nobody loads it behind a question any more. */
void vf_first_end(struct vf_index *index);

/* ---- memory.c ---- */
int vf_keeper_new(struct vf_graph_keeper **out, struct vf_err *err);
void vf_keeper_free(struct vf_graph_keeper **keeper);
/* The graph, loaded when it was not, with graph_lock held shared: vf_graph_release when done. NULL, and the lock held all the
 * same, while the index has no dimension. Not to be nested. On failure nothing is held. */
int vf_graph_hold(struct vf_index *index, struct vf_graph **out, struct vf_err *err);
bool vf_graph_is_loaded(struct vf_index *index);        /* holding it takes no time */
/* The same without loading, by who has a transaction open: loading takes the writer's turn, and a writer may have to wait for readers. False: not held. */
bool vf_graph_hold_loaded(struct vf_index *index, struct vf_graph **out);
void vf_graph_release(struct vf_index *index);
/* True when the graph is small enough that a scan of exact float32 codes answers (no links are made). */
bool vf_graph_is_flat(const struct vf_graph *graph);
/* Of the shape that a config says. */
static inline bool vf_graph_is_of(const struct vf_graph *graph, const struct vf_config *config)
{
	return vf_graph_quant(graph)->dim == config->dim && vf_graph_metric(graph) == config->metric;
}
/* In the committer's turn: loads the graph, as `txn` sees the index, when it is not. Nothing that changes slots may be in
 * flight. */
int vf_memory_load(struct vf_index *index, struct vf_txn *txn, struct vf_err *err);
/* In the committer's turn, before up to `coming` vectors are added: when they make the graph too large to be flat, it is made a
 * linked one. `vector` gives the i-th of them (NULL: it is none), for the quantizer to be fitted to. */
int vf_memory_make_room(struct vf_index *index, struct vf_txn *txn, uint64_t coming,
                        const float *(*vector)(void *ctx, uint64_t i), void *ctx, struct vf_err *err);
/* Called by the committer when nothing is in flight any more: drops a broken graph, grows a flat one into a linked one, wakes
 * the linkers. */
void vf_memory_published(struct vf_index *index);
/* The effort is measured again, since what it has to reach has changed. */
void vf_memory_measure_again(struct vf_index *index);
/* In the committer's turn: forgets the graph; the next who needs it loads it. */
void vf_memory_drop(struct vf_index *index);
/* -1 not loaded, 0 to 99 loading, 100 loaded. */
int vf_memory_loaded_percent(struct vf_index *index);
/* Called by a linker thread: a slice of work. Returns after how many ns there is more: 0 now, INT64_MAX when there is none. */
int64_t vf_memory_work(struct vf_index *index);

/* ---- linkers.c ---- */
/* Tells the threads that this index has work (pending slots, a sweep, a checkpoint). */
void vf_linkers_wake(struct vf_linkers *linkers, struct vf_index *index);
/* Somebody asks a question. */
void vf_linkers_asked(struct vf_linkers *linkers);
/* For who is linking: others suffice while somebody asks. */
bool vf_linkers_give_way(const struct vf_linkers *linkers);
/* Waits until no thread works on the index, and forgets it. */
void vf_linkers_forget(struct vf_linkers *linkers, struct vf_index *index);

/* ---- effort.c ---- */
/* The ef for a question: its own, or the smallest known to reach its recall (or else the config's) for top_k neighbours. */
uint32_t vf_effort_for(struct vf_index *index, const struct vf_config *config, const struct vf_question *question,
                       uint64_t top_k);
/* Called by a linker thread when linking has come to rest: sampled vectors asked exactly and through the graph. 1: the index is
 * being closed. */
int vf_effort_measure(struct vf_index *index, struct vf_err *err);

/* ---- compact.c ---- */
/* Puts a whole and synced file in place of another in the directory `dir`, durably. */
int vf_data_swap(const char *from, const char *to, const char *dir, struct vf_err *err);

/* ---- seal.c ---- */
/* ENOENT when it is being removed; in the committer's turn it stays as it is until the change is done. */
int vf_index_check_there(struct vf_index *index, struct vf_err *err);

/* ---- commit.c ---- */
/* Runs a job in the writer's turn. */
int vf_index_commit(struct vf_index *index, struct vf_job *job, struct vf_err *err);

#endif
