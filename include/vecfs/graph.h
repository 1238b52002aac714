/* SPDX-License-Identifier: MIT */
/* graph.h - the graph of near neighbours, in memory. Searching writes nothing that another thread sees.
 *
 * A slot is a 32-bit place in the graph, reused; a serial is the 64-bit name of one version of one vector, never reused.
 * A slot is FREE, PENDING (has its code, is scanned by every search), LINKED (is in the graph) or DEAD (was removed: still
 * leads to others, is never returned, until a sweep has taken every link to it away).
 *
 * Vectors enter as float32 and are kept as codes (one byte a dimension, or float32 where bytes would lose too much);
 * distances that a search returns are those of the codes, to rank candidates by, not to report.
 *
 * Threads: any number may search, scan and link at once. add, remove and slot_take exclude one another (the index's
 * committer calls them). sweep and dump may run beside all of them; loading and audit beside none.
 * Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using HNSW", 2016. */
#ifndef VECFS_GRAPH_H
#define VECFS_GRAPH_H

#include "vecfs/dist.h"
#include "vecfs/span.h"

#define VF_SLOT_NONE UINT32_MAX
#define VF_SLOTS_MAX (1u << 30)

enum vf_code { VF_CODE_F32, VF_CODE_U8 };
enum vf_slot_state { VF_SLOT_FREE, VF_SLOT_PENDING, VF_SLOT_LINKED, VF_SLOT_DEAD };

/* How float32 becomes a code: (x - mean[i]) / step + 128, clamped, after normalising under cosine. */
struct vf_quant {
	enum vf_code code;
	uint32_t dim;
	float step;            /* for VF_CODE_F32 0, or that of the bytes that did not tell near from far */
	float *mean;           /* dim floats, owned; all 0 under dot and for VF_CODE_F32 */
};

/* Fit to a sample of n vectors (row-major, stride dim). Under F32 nothing is fitted. */
int vf_quant_fit(struct vf_quant *quant, enum vf_code code, enum vf_metric metric, uint32_t dim,
                 const float *sample, size_t n, struct vf_err *err);
/* Whether its codes tell near from far, tried on the sample that it was fitted to (resolution.c). */
int vf_quant_try(const struct vf_quant *quant, enum vf_metric metric, const float *sample, size_t n, bool *tells, struct vf_err *err);
/* As kept on disk: little-endian u32 code, u32 dim, f32 step, f32 mean[dim]. */
int vf_quant_encode(const struct vf_quant *quant, struct vf_buf *out, struct vf_err *err);
int vf_quant_decode(struct vf_quant *quant, struct vf_span bytes, struct vf_err *err);
void vf_quant_free(struct vf_quant *quant);

struct vf_graph_params {
	enum vf_metric metric;
	uint32_t dim;
	uint32_t m;                /* links a node above level 0; 2*m on level 0 */
	uint32_t ef_construction;
};

struct vf_graph;

/* Takes a copy of quant. Memory is reserved (address space) for VF_SLOTS_MAX and committed as slots are used. */
int vf_graph_new(const struct vf_graph_params *params, const struct vf_quant *quant,
                 struct vf_graph **out, struct vf_err *err);
void vf_graph_free(struct vf_graph **graph);
void vf_graph_set_ef_construction(struct vf_graph *graph, uint32_t ef_construction);
const struct vf_quant *vf_graph_quant(const struct vf_graph *graph);
enum vf_metric vf_graph_metric(const struct vf_graph *graph);

/* ---- slots: called by one committer at a time ---- */

/* The slot that the next add will use: a swept one, else a new one. ENOSPC past VF_SLOTS_MAX. */
int vf_graph_slot_take(struct vf_graph *graph, uint32_t *slot, struct vf_err *err);
/* Where the slots end that were ever taken. */
uint32_t vf_graph_slots(const struct vf_graph *graph);
/* Room for the slot and all below it: address space that may be used, and no memory yet. */
int vf_graph_make_room(struct vf_graph *graph, uint32_t slot, struct vf_err *err);
/* Has the memory of the slots [first, end), for which there is room, given now, not at each first touch: the kernel's clearing of it takes
 * longer than what will be written there. Beside everybody. */
void vf_graph_populate(struct vf_graph *graph, uint32_t first, uint32_t end);
/* Gives back a taken slot that was not added (the transaction failed). */
void vf_graph_slot_return(struct vf_graph *graph, uint32_t slot);
/* FREE -> PENDING. When it returns every search that starts sees the slot. Several threads may add slots that were taken, each its own. */
int vf_graph_add(struct vf_graph *graph, uint32_t slot, uint64_t serial, const float *vector, struct vf_err *err);
/* PENDING or LINKED -> DEAD. */
void vf_graph_remove(struct vf_graph *graph, uint32_t slot);

/* ---- linking: any thread ---- */

/* Links 1 to `most` (at most VF_LINKS_MAX) pending slots that no other thread has taken, when many wait such as lie near each other. Returns
 * how many were taken, 0 when none waits, negative on ENOMEM. A vector equal to a linked one becomes its twin, which costs a search only. */
#define VF_LINKS_MAX 64u
int vf_graph_link(struct vf_graph *graph, uint32_t most, struct vf_err *err);
/* Some work at what walks go over where the vectors allow it: sketches, rows of few bytes that are enough to tell near from far. False when there is
 * nothing to do. Beside everybody; without it walks go over the codes. Distances of hits are those of the codes either way. */
bool vf_graph_sketch(struct vf_graph *graph);
/* One sweep: takes away every link to the slots that are dead now, repairs the neighbourhoods, and makes the slots
 * FREE once no search can still be at them. Runs beside searches and linking; one sweep at a time. */
int vf_graph_sweep(struct vf_graph *graph, struct vf_err *err);

/* ---- questions: any thread ---- */

struct vf_hit {
	float distance;        /* of the codes; comparable inside one search only */
	uint32_t slot;
	uint64_t serial;
};

/* A set of slots as bits, 64 a word; a slot past nwords is not in the set. */
struct vf_slot_set {
	const uint64_t *words;
	size_t nwords;
	uint64_t count;        /* bits set */
};

struct vf_search {
	const float *query;        /* dim float32, as the user gave it */
	uint32_t want;             /* hits to return at most, nearest first */
	uint32_t ef;               /* width of the beam, raised to `want` */
	const struct vf_slot_set *only;   /* NULL: every live slot */
};

struct vf_search_stats {
	uint64_t distances;    /* computed */
	uint64_t hops;         /* nodes expanded */
	uint64_t scanned;      /* slots compared one by one (pending, outliers, or all of a scan) */
	bool beyond_codes;     /* the query has no code: its distances took several times as long */
};

/* Through the graph, with the pending slots scanned beside it. hits has room for `want`; *nhits of them are filled.
 * With `only`, nodes outside still lead to others, but are not returned; it stops when it has visited more nodes than
 * the set has. stats may be NULL. Returns 0, or 1 when the caller had better scan: it stopped early, found fewer than min(want, live,
 * only->count), met far fewer matches than their share (they lie apart from the query), or was asked for a beam wider than VF_EF_MAX. Negative on ENOMEM. */
int vf_graph_search(struct vf_graph *graph, const struct vf_search *search, struct vf_hit *hits, uint32_t *nhits,
                    struct vf_search_stats *stats, struct vf_err *err);
/* By comparing with every live slot (of `only`): the `want` nearest by code. In this thread. */
int vf_graph_scan(struct vf_graph *graph, const struct vf_search *search, struct vf_hit *hits, uint32_t *nhits,
                  struct vf_search_stats *stats, struct vf_err *err);
/* The same for several questions, which share one pass over the codes, by several threads when it is long. -EINTR when
 * `stopped`, asked now and then, says so (NULL: never). */
struct vf_graph_scan {
	struct vf_search search;
	struct vf_hit *hits;       /* room for search.want */
	uint32_t nhits;
	struct vf_search_stats stats;
};
#define VF_SCANS_MAX 32u
int vf_graph_scan_many(struct vf_graph *graph, struct vf_graph_scan *scans, size_t n, bool (*stopped)(const void *ctx), const void *ctx,
                       struct vf_err *err);

struct vf_graph_counts {
	uint64_t pending, linked, dead, free;
	uint32_t outliers, outliers_max;   /* of the linked, those beyond the range of codes; when they are more than is good, fit anew */
	bool clamped_far;                  /* some of the codes are of vectors beyond their range: of a version before they were all outliers */
	uint32_t slots;            /* used so far: every slot in use is below it */
	uint32_t top_level;
	uint32_t sketch_dims;      /* bytes a vector of the sketches that walks go over; 0: they go over the codes */
	uint64_t changes;          /* vectors linked and removed since the graph was made or loaded */
	uint32_t sketchings;       /* how often what walks go over was replaced */
	uint64_t bytes;            /* committed memory */
};
void vf_graph_counts(const struct vf_graph *graph, struct vf_graph_counts *out);
/* How far clamping has moved any code that is stored: not at all; no further than rounding does; without bound (until it is fitted anew). */
enum vf_clamped { VF_CLAMPED_NOT, VF_CLAMPED_LITTLE, VF_CLAMPED_FAR };
enum vf_clamped vf_graph_clamped(const struct vf_graph *graph);
/* At least so; for codes that are loaded. */
void vf_graph_clamp(struct vf_graph *graph, enum vf_clamped clamped);
/* Whether codes are off by rounding only, or by as much. */
bool vf_graph_is_honest(const struct vf_graph *graph);
/* Whether the codes prove anything of distances: bytes that are honest. */
bool vf_graph_is_bounded(const struct vf_graph *graph);
/* In steps of the quantizer, how far the root of a hit's distance can be from the true (under cosine: of the normalised vectors) one, but for the
 * rounding of its sum; under dot how far its distance itself, in steps of both. Infinite when it is not bounded. Asked after the scan it holds for all slots that were scanned; `beyond_codes`
 * as the scan's stats say. */
double vf_graph_bound(struct vf_graph *graph, const float *query, bool beyond_codes);

/* A slot's state and serial as of now. */
enum vf_slot_state vf_graph_slot(const struct vf_graph *graph, uint32_t slot, uint64_t *serial);

/* ---- checkpoint: chunks of slots as bytes ----
 * A chunk names the serial of every slot that it holds, so an old chunk is harmless: a slot whose serial is not
 * the one expected is taken as never linked. */

/* Slots a chunk: a power of two such that codes of a chunk stay at or below 64 KiB (at least 1). */
uint32_t vf_graph_chunk_slots(const struct vf_graph *graph);
/* The next chunk from *chunk on that changed since its last dump; false when there is none. */
bool vf_graph_chunk_dirty(struct vf_graph *graph, uint32_t *chunk);
/* What was dumped of it did not come to disk: it has changed since its last dump. Of a chunk that there is not: nothing. */
void vf_graph_chunk_touch(struct vf_graph *graph, uint32_t chunk);
/* All chunks: what is on disk is not of this graph. */
void vf_graph_touch_all(struct vf_graph *graph);
/* Appends the chunk's codes (serials and codes) and its links, and marks it clean. Beside linkers, searches and the committer; a sweep is waited for. */
int vf_graph_chunk_dump(struct vf_graph *graph, uint32_t chunk, struct vf_buf *codes, struct vf_buf *links, struct vf_err *err);
/* Loading, before any other thread knows the graph: first vf_graph_expect for every live slot (any order), then the
 * chunks; a slot whose code was in no chunk is filled by vf_graph_add as ever. A slot in a chunk that is not expected comes back
 * as DEAD, since others may link to it: sweep. Chunk bytes are not trusted: EIO says that a chunk was damaged; what was read before the damage is
 * used, and loading may go on. */
int vf_graph_expect(struct vf_graph *graph, uint32_t slot, uint64_t serial, struct vf_err *err);
int vf_graph_chunk_load(struct vf_graph *graph, uint32_t chunk, struct vf_span codes, struct vf_span links, struct vf_err *err);
/* Ends loading: drops links to slots that are not there, makes slots with a code but without links pending.
 * Calls `missing` for every expected slot whose code was not loaded (the caller adds it). */
int vf_graph_load_end(struct vf_graph *graph, int (*missing)(void *ctx, uint32_t slot, uint64_t serial, struct vf_err *err),
                      void *ctx, struct vf_err *err);

/* ---- audit ---- */
/* Calls report for everything wrong: links out of range, to itself, to free slots, twice, above a node's level, counts beyond
 * the maximum, live nodes that no search can reach. Returns the number of findings, or negative. Not beside writers. */
int64_t vf_graph_audit(struct vf_graph *graph, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err);

#endif
