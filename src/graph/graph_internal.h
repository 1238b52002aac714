/* SPDX-License-Identifier: MIT */
/* graph_internal.h - what the files of src/graph/ share: the arrays, the links, the walkers.
 *
 * Files: graph.c (new, free, counts), region.c (memory that never moves), quant.c (float32 -> codes), outliers.c (what codes cannot
 * tell), directions.c, trial.c, basis.c and sketch.c (rows of few bytes to walk over), slots.c (take, add, remove, the pending ones), walker.c (a thread's scratch, epochs), beam.c (the walk), keys.c (the nearest by key), best.c (the nearest of many), bound.c (what codes prove), search.c, scan.c, select.c
 * (which neighbours), list.c (lists of links), equal.c (copies), link.c (insertion), order.c (who is linked after whom), tree.c (nobody is unreachable), sweep.c, dump.c, load.c, audit.c.
 *
 * Reachability. Pruning a list may take away the last link to a node. So a part of the links on level 0 are the edges of one
 * spanning tree: a node is linked from its parent (the entry is marked CHILD) and links back (marked PARENT), and no pruning
 * touches a marked entry. The edges go both ways, hence every node can be reached from every other. A new node is a leaf, so linkers cannot make
 * a cycle; only the sweep and the end of loading move subtrees.
 *
 * Equal vectors. Copies of one vector would fill each other's lists and shut a search in. One of them, the head, is in the
 * graph; the others are its twins, in a chain behind it, and are returned whenever the head is.
 *
 * Outliers. A vector that reaches beyond the range of the codes would be clamped to another place. It is not linked: its slot is
 * LINKED at once, neither node nor twin, and its floats lie in a small table that every search compares with. When the table is full the
 * index fits a new quantizer.
 *
 * Order of locks: sweep_lock > entry_lock > a node's lock > small_lock, equal.lock, outliers.lock. No two nodes are locked at once. */
#ifndef VECFS_GRAPH_INTERNAL_H
#define VECFS_GRAPH_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "vecfs/graph.h"
#include "vecfs/limits.h"

/* A link: a slot in the low 30 bits, and on level 0 the marks of the tree. VF_SLOT_NONE ends a list. */
#define VF_LINK_SLOT   0x3fffffffu
#define VF_LINK_CHILD  0x40000000u
#define VF_LINK_PARENT 0x80000000u
#define VF_LINK_MARKS  (VF_LINK_CHILD | VF_LINK_PARENT)
typedef _Atomic uint32_t vf_link;

#define VF_LEVEL_MAX   15u
#define VF_DEGREE_MAX  (2 * VF_M_MAX)
#define VF_FRESH_MAX   (2 * VF_DEGREE_MAX)   /* two lists of level 0 */

/* A slot's byte: its state and what else is known of it. */
#define VF_IS_STATE     0x03u
#define VF_IS_TWIN      0x04u    /* behind a head, not in the graph; links0[0] names the head */
#define VF_IS_HEAD      0x08u    /* has twins */
#define VF_IS_CONDEMNED 0x10u    /* dead, and a sweep is at work on it: nobody may link to it any more */
#define VF_IS_ORPHAN    0x20u    /* without a parent: sweep and load give it one */
#define VF_IS_EXPECTED  0x40u    /* while loading: is live on disk */
#define VF_IS_NODE      0x80u    /* has lists */

struct vf_candidate { float distance; uint32_t link; };

/* Directions that the codes spread along, as bytes: a code's product with a row, times its factor, is a number of its sketch. One more row is the
 * middle. */
struct vf_basis {
	uint32_t dims;                 /* bytes of a sketch; a multiple of VF_SKETCH_STEP */
	uint8_t *rows;                 /* dims + 1 of code_stride, aligned */
	float *factor;
	float scale;                   /* of lengths: in a sketch, of those in codes */
	float reach;                   /* the last byte is no direction, but how much longer than this the rest is that the directions lack */
	float stretch;                 /* two sketches are at most so many times as far apart as their codes, but for rounding */
	_Atomic uint32_t rounding;     /* the furthest that it has moved a sketch of the table, a float's bits, which rise as it does */
	uint32_t spare;                /* by so many a walk over sketches has to be wider */
	float stray;                   /* few of the vectors it was made for have so large a part of their square outside */
};
#define VF_SKETCH_STEP     64u
#define VF_SKETCH_DIMS_MAX 256u
/* What float arithmetic puts a length of sketches off by, at most and by far. */
#define VF_LENGTH_OFF      1e-5f

/* What a walk compares: a row a slot, sketches or codes. */
struct vf_rows {
	const uint8_t *base;
	size_t stride, numbers;        /* numbers that a kernel compares */
	const struct vf_basis *basis;  /* of sketches; NULL: these are the codes */
};

/* Address space reserved at once, made usable from the front in steps. */
struct vf_region {
	uint8_t *base;         /* aligned to a huge page */
	void *mapped;
	size_t mapped_bytes, usable_bytes;
};

/* A thread's scratch for one walk; kept by the graph between walks. Everything in it is the holder's alone but `entered`. */
struct vf_walker {
	struct vf_walker *next_of_all, *next_idle;
	uint64_t entered;              /* epoch at vf_walker_get, 0 when idle; under small_lock */
	uint8_t *code;                 /* of the query */
	float *units;                  /* the query in units of codes, `numbers` of them; under bytes only */
	/* What distances of codes are measured from, and how: a code, or units when the query reaches beyond codes. */
	const void *aim;
	vf_gather_fn *gather;
	/* And those of a walk. The rows are there as long as the walker is held. */
	struct vf_rows rows, walked;   /* those of this walk; those that walks go over */
	const void *goal;
	vf_gather_fn *goal_gather;
	uint8_t sketch[VF_SKETCH_DIMS_MAX];   /* of the query */
	float sketch_off;              /* what rounding has moved it by */
	bool stray;                    /* it tells little */
	uint64_t *seen;                /* a bit a slot below `slots` */
	uint32_t *touched;             /* words of `seen` that are not 0 */
	uint32_t ntouched, slots;
	/* The pool: what was found, nearest first, apart in two arrays. */
	float *near;
	uint32_t *node;
	struct vf_candidate *candidates;   /* as many */
	uint32_t pool_room;
	/* One step's new nodes. */
	uint32_t fresh[VF_FRESH_MAX];
	float fresh_distance[VF_FRESH_MAX];
	uint64_t *keys;
	size_t keys_room;
	uint64_t counted;              /* of its memory in walker_bytes */
	struct vf_search_stats stats;
};

/* Nodes by their codes. */
struct vf_equal {
	pthread_mutex_t lock;
	uint32_t *slots;
	size_t room, used;             /* room a power of two; used: not empty */
	uint64_t seed;
	atomic_bool forgotten;         /* the nodes there are must be entered first */
	_Atomic uint64_t bytes;        /* read without the lock, which may be held for long */
};

/* Vectors beyond the range of the codes, in units of codes; a row's place is that of its slot in `slots`. */
struct vf_outliers {
	pthread_rwlock_t lock;         /* who adds or removes writes, searches read */
	uint32_t *slots;
	float *rows;
	uint32_t room;
	_Atomic uint32_t count;
};

struct vf_sketches;

/* The table of sketches that is walked, and one that is being made. */
struct vf_sketching {
	pthread_rwlock_t lock;         /* adds read, up to when the slot is seen; who changes `tables` or fills one writes */
	struct vf_sketches *tables[2]; /* that adds write to: the walked one, the next */
	_Atomic(struct vf_sketches *) walked;   /* NULL: walks go over the codes */
	_Atomic uint32_t dims, replaced;        /* of it; times */
	pthread_mutex_t making;
	_Atomic(struct vf_sketches *) next;     /* being filled; written under `making` */
	_Atomic uint64_t fitted_at;    /* vectors there were */
	_Atomic uint64_t links, strays;         /* since then; and of these, what lay outside of the basis */
};

/* Some of those that wait, as `cell << 32 | slot`: `placed` of them have their cell, `next` were taken. */
struct vf_order {
	pthread_mutex_t lock;
	uint64_t *rows;                /* NULL when there is no order */
	uint8_t *centres;              /* a code a cell */
	uint32_t n, most, placed, next, cells;
};

struct vf_graph {
	struct vf_graph_params params;
	_Atomic uint32_t ef_construction;
	struct vf_quant quant;
	vf_gather_fn *gather;
	size_t numbers;                /* that a kernel compares */
	size_t code_bytes, code_stride;
	uint32_t degree, degree0, list0_words, chunk_slots;
	uint64_t level_bound[VF_LEVEL_MAX + 1];

	uint32_t slots_room;           /* reserved for */
	uint32_t slots_usable;         /* made usable; the committer's */
	_Atomic uint32_t slots;
	struct vf_region codes_region, links0_region, upper_region, state_region, level_region, lock_region, upper_at_region,
		serial_region, twin_region, pending_region, waiting_region, crowd_region, dirty_region;
	uint8_t *codes;
	vf_link *links0;
	vf_link *upper;                /* blocks of `degree` links; a node of level l has l of them in a row */
	_Atomic uint8_t *state;
	uint8_t *level;                /* written before the node is published */
	_Atomic uint8_t *lock;
	uint32_t *upper_at;
	_Atomic uint64_t *serial;
	_Atomic uint32_t *twin;        /* next in the chain; next free slot of a free one */
	_Atomic uint64_t *pending;     /* bits: scanned by searches */
	_Atomic uint64_t *waiting;     /* bits: pending, and no linker has taken it */
	_Atomic uint32_t *crowd;       /* pending slots of each 4096 */
	_Atomic uint8_t *dirty;        /* of a chunk: VF_DIRTY_* */

	_Atomic uint64_t entry;        /* level << 32 | slot; VF_ENTRY_NONE */
	_Atomic uint32_t root;         /* of the tree */
	pthread_mutex_t entry_lock;
	pthread_mutex_t sweep_lock;

	_Atomic uint8_t clamped;       /* enum vf_clamped, the most of any code */
	struct vf_equal equal;
	struct vf_outliers outliers;
	struct vf_order order;
	struct vf_sketching sketching;

	_Atomic uint64_t npending, nlinked, ndead, nfree, nchanges;
	_Atomic uint32_t wait_cursor;
	_Atomic uint64_t walker_bytes;

	pthread_mutex_t small_lock;    /* what follows */
	uint32_t free_slot;
	uint32_t upper_used, upper_room;
	uint32_t upper_free[VF_LEVEL_MAX + 1];
	struct vf_walker *walkers, *idle;
	uint64_t epoch;
};

#define VF_ENTRY_NONE  UINT64_MAX
#define VF_CROWD_SLOTS 4096u
#define VF_DIRTY_CODES 1u
#define VF_DIRTY_LINKS 2u

/* ---- region.c ---- */
int vf_region_reserve(struct vf_region *region, size_t bytes, struct vf_err *err);
int vf_region_use(struct vf_region *region, size_t bytes, struct vf_err *err);
/* Has the memory of [from, end), which is usable, given now: later it would be at each first touch. Beside whoever uses the region. */
void vf_region_populate(const struct vf_region *region, size_t from, size_t end);
void vf_region_free(struct vf_region *region);

/* ---- graph.c ---- */
int vf_graph_reserve(struct vf_graph *g, struct vf_err *err);

/* ---- quant.c ---- */
/* What rounding moves a number by, in steps, squared, on average. */
#define VF_ROUNDING (1.0 / 12)
/* What a vector is multiplied by before it is coded. */
double vf_quant_scale(enum vf_metric metric, const float *vector, uint32_t dim);
/* `code` has code_stride bytes, 64-byte aligned. FAR when the vector reaches so far beyond the range of codes that clamping moves it further than
 * rounding does: by more than VF_ROUNDING a dimension. */
enum vf_clamped vf_quant_apply(const struct vf_graph *g, const float *vector, uint8_t *code);
/* The same without a graph, for bytes; without what pads a row. */
enum vf_clamped vf_quant_bytes(const struct vf_quant *quant, enum vf_metric metric, const float *vector, uint8_t *code);
/* Aims the walker at a question. Under dot it has a scale of its own, since only the order matters. */
void vf_quant_aim(const struct vf_graph *g, const float *vector, struct vf_walker *w);
/* A vector, or a question, as the numbers that its code would be without rounding and clamping: `numbers` of them. Under dot they
 * are counted from 0. */
void vf_quant_units(const struct vf_graph *g, const float *vector, float *units);
void vf_quant_query_units(const struct vf_graph *g, const float *vector, float *units);

/* ---- basis.c ---- */
/* Fits one to codes of the graph. 1: no basis of few enough directions tells near from far. Beside everybody. */
int vf_basis_fit(struct vf_graph *g, struct vf_basis *out, struct vf_err *err);
void vf_basis_free(struct vf_basis *basis);
/* `sketch` has basis->dims bytes. Returns how far rounding has moved it. */
float vf_basis_sketch(const struct vf_graph *g, const struct vf_basis *basis, const uint8_t *code, uint8_t *sketch);
/* Of a query. A stray lies outside of the basis: sketches tell little of what is near it. */
float vf_basis_sketch_query(const struct vf_graph *g, const struct vf_basis *basis, const uint8_t *code, uint8_t *sketch, bool *stray);
static inline uint32_t vf_basis_directions(const struct vf_basis *basis) { return basis->dims - 1; }
/* How long the part of a code is that the directions lack, as long as in a sketch. */
float vf_basis_rest(const struct vf_graph *g, const struct vf_basis *basis, const uint8_t *code);
/* The share of a code's square that its sketch lacks. */
float vf_basis_outside(const struct vf_graph *g, const struct vf_basis *basis, const uint8_t *code, const uint8_t *sketch);

/* ---- sketch.c ---- */
void vf_sketching_init(struct vf_sketching *sketching);
void vf_sketching_free(struct vf_sketching *sketching);
/* By who adds, with sketching.lock held for reading. */
int vf_sketch_make_room(struct vf_graph *g, uint32_t slots, struct vf_err *err);
void vf_sketch_slot(struct vf_graph *g, uint32_t slot);
/* By who has a walker; they stay as long as it is held. */
struct vf_rows vf_rows_to_walk(const struct vf_graph *g);
/* Aims the walker at a question, its walk too: over sketches where there are some. */
void vf_walker_aim(const struct vf_graph *g, const float *vector, struct vf_walker *w);
/* A question that lies outside of the basis is walked over codes. */
void vf_walker_aim_walk(const struct vf_graph *g, struct vf_walker *w);
/* Aims the walker's walks at a slot that is to be linked; over codes when it lies outside of the basis. */
void vf_walker_aim_at_slot(struct vf_graph *g, struct vf_walker *w, uint32_t slot);
static inline const uint8_t *vf_row(const struct vf_rows *rows, uint32_t slot)
{
	return rows->base + slot * rows->stride;
}
/* 0 of what lies where the basis does. */
static inline uint8_t vf_sketch_excess(const struct vf_rows *rows, uint32_t slot)
{
	return vf_row(rows, slot)[vf_basis_directions(rows->basis)];
}
/* The walker's rows, or codes where a neighbour to choose, or who is chosen for, lies outside of the basis. */
struct vf_rows vf_rows_to_choose_by(const struct vf_graph *g, const struct vf_walker *w, uint32_t owner, const struct vf_candidate *candidates, uint32_t n);
/* For an audit. */
bool vf_sketch_is_right(const struct vf_graph *g, uint32_t slot);
uint64_t vf_sketch_bytes(struct vf_graph *g);

/* ---- order.c ---- */
void vf_order_init(struct vf_order *order);
void vf_order_free(struct vf_order *order);
/* Claims 1 to `most` slots that wait, near each other when many do; returns their number, 0 when none waits. The caller has a walker: no slot is
 * given to something else meanwhile. */
uint32_t vf_order_claim(struct vf_graph *g, uint32_t *slots, uint32_t most);

/* ---- outliers.c ---- */
void vf_outliers_init(struct vf_outliers *outliers);
void vf_outliers_free(struct vf_outliers *outliers);
/* So many are worth comparing with in every search. With more all is right, but slow: then it is time for other codes. */
uint32_t vf_outliers_max(const struct vf_graph *g);
int vf_outliers_add(struct vf_graph *g, uint32_t slot, const float *vector, struct vf_err *err);
void vf_outliers_remove(struct vf_graph *g, uint32_t slot);
uint64_t vf_outliers_bytes(const struct vf_graph *g);
/* The length of the longest, in units of codes. */
double vf_outliers_longest(struct vf_graph *g);
static inline bool vf_slot_is_outlier(uint8_t is)
{
	return (is & (VF_IS_STATE | VF_IS_NODE | VF_IS_TWIN)) == VF_SLOT_LINKED;
}

/* ---- slots.c ---- */
uint32_t vf_slot_claim(struct vf_graph *g);
/* False when it does not wait any more. */
bool vf_slot_claim_this(struct vf_graph *g, uint32_t slot);
void vf_slot_unclaim(struct vf_graph *g, uint32_t slot);
/* The slot is not pending any more. */
void vf_slot_settle(struct vf_graph *g, uint32_t slot);
void vf_slot_free(struct vf_graph *g, uint32_t slot);
/* Calls visit for each pending slot of `only`. */
void vf_slot_each_pending(const struct vf_graph *g, const struct vf_slot_set *only, void (*visit)(void *ctx, uint32_t slot), void *ctx);

static inline uint8_t vf_slot_is(const struct vf_graph *g, uint32_t slot)
{
	return atomic_load_explicit(&g->state[slot], memory_order_acquire);
}
static inline bool vf_slot_in(const struct vf_slot_set *only, uint32_t slot)
{
	return !only || (slot / 64 < only->nwords && only->words[slot / 64] >> (slot % 64) & 1);
}
/* Live as a question sees it. */
static inline bool vf_slot_linked_in(const struct vf_graph *g, const struct vf_slot_set *only, uint32_t slot)
{
	return (vf_slot_is(g, slot) & VF_IS_STATE) == VF_SLOT_LINKED && vf_slot_in(only, slot);
}
static inline const uint8_t *vf_slot_code(const struct vf_graph *g, uint32_t slot)
{
	return g->codes + slot * g->code_stride;
}
static inline uint32_t vf_slot_next_twin(const struct vf_graph *g, uint32_t slot)
{
	return atomic_load_explicit(&g->twin[slot], memory_order_acquire);
}
void vf_slot_touch(struct vf_graph *g, uint32_t slot, uint8_t what);

/* ---- walker.c ---- */
/* From get to put no slot that the walker can see is reused. `width`: of the pool. */
int vf_walker_get(struct vf_graph *g, uint32_t width, struct vf_walker **out, struct vf_err *err);
/* One that sees every slot once, and marks none as seen. */
int vf_walker_get_for_scan(struct vf_graph *g, struct vf_walker **out, struct vf_err *err);
void vf_walker_put(struct vf_graph *g, struct vf_walker *walker);
int vf_walker_want_keys(struct vf_walker *walker, size_t keys, struct vf_err *err);
void vf_walker_free(struct vf_walker *walker);
/* Returns when everyone who got a walker before the call has put it back. */
void vf_walker_grace(struct vf_graph *g);
/* True when the slot was not seen since the last forget. A slot newer than the walker counts as seen. */
static inline bool vf_walker_see(struct vf_walker *w, uint32_t slot)
{
	if (slot >= w->slots)
		return false;
	uint64_t bit = 1ull << (slot % 64), word = w->seen[slot / 64];
	if (word & bit)
		return false;
	if (!word)
		w->touched[w->ntouched++] = slot / 64;
	w->seen[slot / 64] = word | bit;
	return true;
}
void vf_walker_forget(struct vf_walker *walker);

/* ---- beam.c ---- */
/* In the pool a node carries these. */
#define VF_POOL_EXPANDED 0x80000000u
#define VF_POOL_GUIDE    0x40000000u   /* leads on, is not a result */
struct vf_beam {
	uint32_t level, width;
	bool sift;                     /* false: every node is a result */
	bool hop;                      /* walk over matches only, through the others to theirs */
	const struct vf_slot_set *only;
	double share;                  /* of the live slots, how many `only` has */
	uint64_t visits_max;           /* distances after which it gives up */
	uint32_t found;                /* out: entries of the pool */
	bool gave_up;                  /* out */
	uint64_t looked, matched;      /* out, of a walk that sifts: nodes tested, and those that are results */
	bool judged;                   /* the first of them were enough to say whether matches lie here */
};
/* The nearest node found going down from the entry to just above `level`. */
void vf_beam_descend(struct vf_graph *g, struct vf_walker *w, const struct vf_beam *beam, uint64_t entry, uint32_t *at, float *distance);
/* Fills the walker's pool, nearest to its aim first. */
void vf_beam_walk(struct vf_graph *g, struct vf_walker *w, struct vf_beam *beam, uint32_t at, float distance);

/* ---- list.c ---- */
static inline vf_link *vf_list(const struct vf_graph *g, uint32_t slot, uint32_t level)
{
	return level == 0 ? g->links0 + (size_t)slot * g->list0_words
	                  : g->upper + ((size_t)g->upper_at[slot] + level - 1) * g->degree;
}
static inline uint32_t vf_list_room(const struct vf_graph *g, uint32_t level)
{
	return level == 0 ? g->degree0 : g->degree;
}
/* An id is read with acquire: what it leads to was written before it (free on x86). */
static inline uint32_t vf_list_at(const vf_link *list, uint32_t i)
{
	return atomic_load_explicit(&list[i], memory_order_acquire);
}
static inline void vf_list_put(vf_link *list, uint32_t i, uint32_t link)
{
	atomic_store_explicit(&list[i], link, memory_order_release);
}
uint32_t vf_list_count(const struct vf_graph *g, uint32_t slot, uint32_t level);
/* Sets the list to these, the rest to none. */
void vf_list_write(struct vf_graph *g, uint32_t slot, uint32_t level, const uint32_t *links, uint32_t count);
void vf_node_lock(struct vf_graph *g, uint32_t slot);
void vf_node_unlock(struct vf_graph *g, uint32_t slot);
/* Puts a link into a list, pruning it when it is full. False when it was refused: a condemned owner, a list full of tree edges. A marked link is
 * never lost to the pruning. */
bool vf_list_add(struct vf_graph *g, struct vf_walker *w, uint32_t slot, uint32_t level, uint32_t link);
/* The first of so many blocks in a row; VF_SLOT_NONE when there is no memory (the node then stays on level 0). */
uint32_t vf_upper_take(struct vf_graph *g, uint32_t blocks);
void vf_upper_give(struct vf_graph *g, uint32_t at, uint32_t blocks);

/* Up to here sorting by insertion takes no longer than qsort in any order, and less than half when most is in order, as what a walk found is. */
#define VF_INSERTION_MAX 256u

/* ---- select.c ---- */
void vf_candidates_sort(struct vf_candidate *candidates, uint32_t count);
/* Of candidates sorted by distance to one node: those nearer to it than to any chosen before, and every marked one.
 * At most `most`. Returns how many, as links. Distances are those of the walker's rows. */
uint32_t vf_select(const struct vf_graph *g, struct vf_walker *w, const struct vf_candidate *candidates, uint32_t count, uint32_t most,
                   uint32_t *links);

/* ---- equal.c ---- */
void vf_equal_init(struct vf_equal *equal);
void vf_equal_free(struct vf_equal *equal);
/* The node with the same code; VF_SLOT_NONE when there is none: from now on it is this slot. */
uint32_t vf_equal_claim(struct vf_graph *g, uint32_t slot);
/* The node with this code, code_stride bytes; VF_SLOT_NONE when there is none, or when the table is being filled. */
uint32_t vf_equal_find(struct vf_graph *g, const uint8_t *code);
/* Puts another slot with the same code in its place, or nothing (VF_SLOT_NONE). */
void vf_equal_replace(struct vf_graph *g, uint32_t slot, uint32_t heir);
/* Loading leaves filling the table to the first linker, so that questions need not wait for it. */
void vf_equal_forget(struct vf_graph *g);
void vf_equal_recall(struct vf_graph *g);

/* ---- tree.c ---- */
/* VF_SLOT_NONE for the root and for orphans. */
uint32_t vf_tree_parent(const struct vf_graph *g, uint32_t slot);
/* Gives a node without a parent one: of the candidates (nearest first) the first that can take it, else another near it. */
bool vf_tree_adopt(struct vf_graph *g, struct vf_walker *w, uint32_t slot, const uint32_t *candidates, uint32_t count);
/* All nodes marked as orphans. */
void vf_tree_adopt_orphans(struct vf_graph *g, struct vf_walker *w);

/* ---- link.c ---- */
uint32_t vf_level_of(const struct vf_graph *g, uint64_t serial);
/* The level and the slot of a node as an entry. */
uint64_t vf_entry_of(const struct vf_graph *g, uint32_t slot);
/* A node of the highest level becomes the entry when the entry is condemned or none. */
void vf_entry_renew(struct vf_graph *g);
/* Searches for neighbours of a node and links them both ways, beside those it has. */
void vf_link_more(struct vf_graph *g, struct vf_walker *w, uint32_t slot);

/* ---- keys.c: distance and slot in one number that sorts as they do ---- */
uint64_t vf_key_of(float distance, uint32_t slot);
float vf_key_distance(uint64_t key);
static inline uint32_t vf_key_slot(uint64_t key) { return (uint32_t)key; }
void vf_keys_sort(uint64_t *keys, size_t count);
/* Moves the `want` smallest to the front, in any order. */
void vf_keys_select(uint64_t *keys, size_t count, size_t want);
/* For qsort. */
int vf_compare_floats(const void *a, const void *b);

/* ---- dump.c, load.c: a chunk as bytes, little-endian (doc/FORMAT.md) ----
 * codes: u32 VF_CODES_MAGIC, u32 code bytes, then for each slot in use: u32 place in the chunk, u64 serial, the code.
 * links: u32 VF_LINKS_MAGIC, u32 m, then for each slot in the graph: u32 place, u64 serial, u8 kind, u8 level, and for a twin u32
 * its head, for a node for each level from 0 on u16 count and u32 links (on level 0 with the marks of the tree). */
#define VF_CODES_MAGIC 0x31434756u
#define VF_LINKS_MAGIC 0x314c4756u
enum vf_row_kind { VF_ROW_NODE, VF_ROW_TWIN };

/* ---- best.c ---- */
/* The smallest keys of many: room for twice as many as wanted, cut to the wanted ones when full. */
#define VF_BEST_BATCH 16u
struct vf_best {
	struct vf_graph *graph;
	struct vf_walker *walker;
	size_t count, want, room;
	uint64_t limit;                /* a key not below it cannot be among them */
	float far;                     /* nor one of a distance above this */
	float sieve;                   /* nor one whose sketch has a distance above this */
	uint32_t ids[VF_BEST_BATCH];
	uint32_t nids;
	uint32_t left[VF_BEST_BATCH];  /* through the sieve */
	uint32_t nleft;
	uint32_t last, run;            /* the slot before, and how many have followed one another up to it */
};
int vf_best_init(struct vf_best *best, struct vf_graph *g, struct vf_walker *w, size_t want, size_t of, struct vf_err *err);
void vf_best_push(struct vf_best *best, uint64_t key);
/* Measures from the walker's aim, some at a time; flush measures the rest. */
void vf_best_measure(struct vf_best *best, uint32_t slot);
void vf_best_flush(struct vf_best *best);
/* Sorted, each slot once, at most `want`. */
uint32_t vf_best_hits(struct vf_best *best, uint32_t want, struct vf_hit *hits);

/* ---- outliers.c ---- */
/* Measures the outliers (of `only`). */
void vf_best_outliers(struct vf_best *best, const float *query, const struct vf_slot_set *only);

#endif
