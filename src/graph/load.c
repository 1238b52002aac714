/* SPDX-License-Identifier: MIT */
/* The checkpoint's reading half. Chunks are not trusted, and may be of different ages: a row counts when its slot has the serial
 * that it names, a link when it leads to a node. While loading, the state of a slot says what is there of it: FREE nothing,
 * PENDING its code, LINKED its code and its row of links. */
#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "graph_internal.h"
#include "vecfs/spread.h"

/* Slots that one thread looks through at a time. */
#define PIECE_SLOTS 16384u
/* Numbers that a list's links hardly share when they differ. */
#define LOW_SLOTS   8192u

/* Bytes from the front; too few are the end, and stay so. */
struct reader { const uint8_t *at; size_t left; bool bad; };

static const uint8_t *take(struct reader *r, size_t bytes)
{
	if (r->bad || r->left < bytes) {
		r->bad = true;
		return NULL;
	}
	const uint8_t *at = r->at;
	r->at += bytes;
	r->left -= bytes;
	return at;
}

static uint64_t take_number(struct reader *r, size_t bytes)
{
	const uint8_t *at = take(r, bytes);
	uint64_t v = 0;

	if (at)
		memcpy(&v, at, bytes);
	return le64toh(v);
}

static void set_state(struct vf_graph *g, uint32_t slot, uint8_t is)
{
	atomic_store_explicit(&g->state[slot], is, memory_order_release);
}

int vf_graph_expect(struct vf_graph *g, uint32_t slot, uint64_t serial, struct vf_err *err)
{
	int rc = slot < VF_SLOTS_MAX ? vf_graph_make_room(g, slot, err) : vf_fail(err, EIO, "slot %u is out of range", slot);

	if (rc)
		return rc;
	if (slot >= atomic_load(&g->slots))
		atomic_store(&g->slots, slot + 1);
	if (vf_slot_is(g, slot) & VF_IS_EXPECTED)
		return vf_fail(err, EIO, "slot %u belongs to the serials %llu and %llu", slot,
		               (unsigned long long)atomic_load(&g->serial[slot]), (unsigned long long)serial);
	set_state(g, slot, VF_IS_EXPECTED | VF_SLOT_FREE);
	atomic_store_explicit(&g->serial[slot], serial, memory_order_relaxed);
	return 0;
}

/* The code of a slot of float32 must be numbers; any byte is a code. */
static bool fill_code(struct vf_graph *g, uint32_t slot, const uint8_t *bytes)
{
	uint8_t *code = g->codes + slot * g->code_stride;

	memset(code, g->quant.code == VF_CODE_U8 ? 128 : 0, g->code_stride);
	if (g->quant.code == VF_CODE_U8) {
		memcpy(code, bytes, g->code_bytes);
		return true;
	}
	for (size_t i = 0; i < g->code_bytes; i += 4) {
		uint32_t bits;
		float number;
		memcpy(&bits, bytes + i, 4);
		bits = le32toh(bits);
		memcpy(&number, &bits, 4);
		if (!isfinite(number))
			return false;
		memcpy(code + i, &bits, 4);
	}
	return true;
}

static bool load_codes(struct vf_graph *g, uint32_t first, struct vf_span bytes)
{
	struct reader r = { bytes.data, bytes.len, false };
	uint32_t slots = atomic_load(&g->slots);

	if (take_number(&r, 4) != VF_CODES_MAGIC || take_number(&r, 4) != g->code_bytes)
		return false;
	while (r.left && !r.bad) {
		uint64_t place = take_number(&r, 4), serial = take_number(&r, 8);
		const uint8_t *code = take(&r, g->code_bytes);
		if (!code || place >= g->chunk_slots)
			return false;
		if (first + place >= slots)
			continue;
		uint32_t slot = first + (uint32_t)place;
		uint8_t is = vf_slot_is(g, slot);
		/* One that nobody expects may be a dead node. */
		bool wanted = is & VF_IS_EXPECTED ? atomic_load(&g->serial[slot]) == serial : (is & VF_IS_STATE) == VF_SLOT_FREE;
		if (!wanted || !fill_code(g, slot, code))
			continue;
		atomic_store_explicit(&g->serial[slot], serial, memory_order_relaxed);
		set_state(g, slot, (is & VF_IS_EXPECTED) | VF_SLOT_PENDING);
	}
	return !r.bad;
}

static bool load_lists(struct vf_graph *g, struct reader *r, uint32_t slot, uint32_t level, bool use)
{
	uint32_t links[VF_DEGREE_MAX];

	if (use && level > 0 && (g->upper_at[slot] = vf_upper_take(g, level)) == VF_SLOT_NONE)
		use = false;
	for (uint32_t l = 0; l <= level; l++) {
		uint64_t n = take_number(r, 2);
		if (n > vf_list_room(g, l))
			return false;
		const uint8_t *at = take(r, 4 * n);
		for (uint64_t i = 0; at && i < n; i++) {
			memcpy(&links[i], at + 4 * i, 4);
			links[i] = le32toh(links[i]);
		}
		if (use && !r->bad) {
			g->level[slot] = (uint8_t)level;
			vf_list_write(g, slot, l, links, (uint32_t)n);
		}
	}
	return !r->bad;
}

/* A node is one only when all its lists were read. */
static bool load_links(struct vf_graph *g, uint32_t first, struct vf_span bytes)
{
	struct reader r = { bytes.data, bytes.len, false };
	uint32_t slots = atomic_load(&g->slots);

	if (take_number(&r, 4) != VF_LINKS_MAGIC || take_number(&r, 4) != g->params.m)
		return false;
	while (r.left && !r.bad) {
		uint64_t place = take_number(&r, 4), serial = take_number(&r, 8);
		uint64_t kind = take_number(&r, 1), level = take_number(&r, 1);
		if (r.bad || place >= g->chunk_slots || kind > VF_ROW_TWIN || level > VF_LEVEL_MAX || (kind == VF_ROW_TWIN && level))
			return false;
		uint32_t slot = first + (uint32_t)place;
		uint8_t is = slot < slots ? vf_slot_is(g, slot) : 0;
		bool use = slot < slots && (is & VF_IS_STATE) == VF_SLOT_PENDING && atomic_load(&g->serial[slot]) == serial;
		if (kind == VF_ROW_TWIN) {
			uint32_t head = (uint32_t)take_number(&r, 4);
			if (use && !r.bad)
				vf_list_write(g, slot, 0, &head, 1);
		} else if (!load_lists(g, &r, slot, (uint32_t)level, use)) {
			return false;
		}
		if (use && !r.bad)
			set_state(g, slot, (is & VF_IS_EXPECTED) | VF_SLOT_LINKED | (kind == VF_ROW_TWIN ? VF_IS_TWIN : VF_IS_NODE));
	}
	return !r.bad;
}

int vf_graph_chunk_load(struct vf_graph *g, uint32_t chunk, struct vf_span codes, struct vf_span links, struct vf_err *err)
{
	uint64_t first = (uint64_t)chunk * g->chunk_slots;

	if (first >= atomic_load(&g->slots))
		return 0;   /* nothing that is still there */
	if (codes.len && !load_codes(g, (uint32_t)first, codes))
		return vf_fail(err, EIO, "chunk %u of the codes is damaged", chunk);
	if (links.len && !load_links(g, (uint32_t)first, links))
		return vf_fail(err, EIO, "chunk %u of the links is damaged", chunk);
	return 0;
}

/* ---- the end of loading ---- */

static bool is_node(const struct vf_graph *g, uint32_t slot)
{
	return slot < atomic_load_explicit(&g->slots, memory_order_relaxed) && vf_slot_is(g, slot) & VF_IS_NODE;
}

static void set_pending(struct vf_graph *g, uint32_t slot)
{
	g->level[slot] = 0;
	vf_list_write(g, slot, 0, NULL, 0);
	set_state(g, slot, VF_SLOT_PENDING);
	atomic_fetch_add(&g->npending, 1);
	atomic_fetch_add(&g->crowd[slot / VF_CROWD_SLOTS], 1);
	atomic_fetch_or(&g->pending[slot / 64], 1ull << (slot % 64));
	vf_slot_unclaim(g, slot);
	vf_slot_touch(g, slot, VF_DIRTY_LINKS);
}

/* From what was loaded to what it means; the ones whose code is missing stay expected. */
static void settle_slot(struct vf_graph *g, uint32_t slot)
{
	uint8_t is = vf_slot_is(g, slot), state = is & VF_IS_STATE;

	atomic_store_explicit(&g->twin[slot], VF_SLOT_NONE, memory_order_relaxed);
	if (is & VF_IS_EXPECTED) {
		if (state == VF_SLOT_PENDING) {
			set_pending(g, slot);
		} else if (state == VF_SLOT_LINKED) {
			set_state(g, slot, is & ~VF_IS_EXPECTED);
			atomic_fetch_add(&g->nlinked, 1);
		}
	} else if (is & VF_IS_NODE) {
		set_state(g, slot, VF_SLOT_DEAD | VF_IS_NODE);
		atomic_fetch_add(&g->ndead, 1);
	} else {
		vf_slot_free(g, slot);
	}
}

static void settle_twin(struct vf_graph *g, uint32_t slot)
{
	uint32_t head = vf_list_at(vf_list(g, slot, 0), 0);

	if (is_node(g, head) && memcmp(vf_slot_code(g, head), vf_slot_code(g, slot), g->code_bytes) == 0) {
		atomic_store_explicit(&g->twin[slot], vf_slot_next_twin(g, head), memory_order_relaxed);
		atomic_store_explicit(&g->twin[head], slot, memory_order_relaxed);
		atomic_fetch_or(&g->state[head], VF_IS_HEAD);
	} else {
		atomic_fetch_sub(&g->nlinked, 1);
		set_pending(g, slot);
	}
}

/* The tree as the lists say: parents apart, so that lists are only read in order and the rest is random access to small numbers. */
struct mend {
	struct vf_graph *graph;
	uint32_t slots;
	uint64_t *nodes;       /* a bit a slot: small enough to stay in the cache */
	uint32_t *parent;      /* VF_SLOT_NONE: root or orphan */
	_Atomic uint8_t *known;   /* of a node: what follows */
};
enum { PARENT_KNOWS = 1, ON_THE_WAY = 2, LEADS_UP = 4 };

static bool may_link(const struct vf_graph *g, uint32_t slot, uint32_t to, uint32_t level)
{
	return is_node(g, to) && to != slot && (level == 0 || g->level[to] >= level);
}

/* That there is nothing to clean, which is nearly always so. Two links of equal low bits make it unsure: then the answer is no. */
static bool is_clean(const struct mend *m, uint32_t slot, uint32_t level)
{
	const struct vf_graph *g = m->graph;
	const vf_link *list = vf_list(g, slot, level);
	uint32_t n = vf_list_count(g, slot, level);
	uint64_t met[LOW_SLOTS / 64] = { 0 };
	bool clean = true;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t link = vf_list_at(list, i), to = link & VF_LINK_SLOT;
		uint64_t *word = &met[to % LOW_SLOTS / 64], bit = 1ull << (to % 64);
		clean &= to < m->slots && m->nodes[to / 64] & bit && !(*word & bit) && to != slot && (level == 0 || (link == to && g->level[to] >= level));
		*word |= bit;
	}
	return clean;
}

static void clean_list(struct mend *m, struct vf_walker *w, uint32_t slot, uint32_t level)
{
	struct vf_graph *g = m->graph;
	const vf_link *list = vf_list(g, slot, level);
	uint32_t links[VF_DEGREE_MAX], n = vf_list_count(g, slot, level), kept = 0;
	bool marked = false;

	if (is_clean(m, slot, level))
		return;
	vf_walker_forget(w);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t link = vf_list_at(list, i), to = link & VF_LINK_SLOT;
		if (may_link(g, slot, to, level) && vf_walker_see(w, to))
			links[kept++] = level == 0 ? link : to;
		marked |= level > 0 && link != to;
	}
	if (kept < n || marked) {
		vf_list_write(g, slot, level, links, kept);
		vf_slot_touch(g, slot, VF_DIRTY_LINKS);
	}
}

/* A node has one parent, and no link both marks. */
static void note_parent(struct mend *m, uint32_t slot)
{
	vf_link *list = vf_list(m->graph, slot, 0);
	uint32_t n = vf_list_count(m->graph, slot, 0);

	m->parent[slot] = VF_SLOT_NONE;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t link = vf_list_at(list, i), to = link & VF_LINK_SLOT;
		if (!(link & VF_LINK_PARENT))
			continue;
		if (link & VF_LINK_CHILD || m->parent[slot] != VF_SLOT_NONE)
			vf_list_put(list, i, to);
		else
			m->parent[slot] = to;
	}
}

/* A child is one when it knows its parent. */
static void note_children(struct mend *m, uint32_t slot)
{
	vf_link *list = vf_list(m->graph, slot, 0);
	uint32_t n = vf_list_count(m->graph, slot, 0), children = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t link = vf_list_at(list, i), to = link & VF_LINK_SLOT;
		if (!(link & VF_LINK_CHILD))
			continue;
		if (m->parent[to] == slot && children < m->graph->degree0 / 2) {
			atomic_store_explicit(&m->known[to], PARENT_KNOWS, memory_order_relaxed);
			children++;
		} else {
			vf_list_put(list, i, to);
		}
	}
}

static void unmark(struct vf_graph *g, uint32_t slot, uint32_t other)
{
	vf_link *list = vf_list(g, slot, 0);
	uint32_t n = vf_list_count(g, slot, 0);

	for (uint32_t i = 0; i < n; i++)
		if ((vf_list_at(list, i) & VF_LINK_SLOT) == other)
			vf_list_put(list, i, other);
}

/* Goes up from a node until a place known to lead to a root; a way that meets itself is cut open. */
static void cut_cycle(struct mend *m, uint32_t slot)
{
	uint32_t at = slot;

	while (at != VF_SLOT_NONE && !(m->known[at] & (ON_THE_WAY | LEADS_UP))) {
		m->known[at] |= ON_THE_WAY;
		uint32_t up = m->parent[at];
		if (up != VF_SLOT_NONE && m->known[up] & ON_THE_WAY) {
			unmark(m->graph, at, up);
			unmark(m->graph, up, at);
			up = m->parent[at] = VF_SLOT_NONE;
		}
		at = up;
	}
	for (at = slot; at != VF_SLOT_NONE && m->known[at] & ON_THE_WAY; at = m->parent[at])
		m->known[at] ^= ON_THE_WAY | LEADS_UP;
}

static void mend_tree(struct mend *m)
{
	struct vf_graph *g = m->graph;

	for (uint32_t slot = 0; slot < m->slots; slot++)
		if (is_node(g, slot) && m->parent[slot] != VF_SLOT_NONE && !(m->known[slot] & PARENT_KNOWS)) {
			unmark(g, slot, m->parent[slot]);
			m->parent[slot] = VF_SLOT_NONE;
		}
	for (uint32_t slot = 0; slot < m->slots; slot++)
		if (is_node(g, slot))
			cut_cycle(m, slot);
	for (uint32_t slot = 0; slot < m->slots; slot++)
		if (is_node(g, slot) && m->parent[slot] == VF_SLOT_NONE)
			atomic_fetch_or(&g->state[slot], VF_IS_ORPHAN);
}

/* Of a piece of the slots: lists without what is no link, and who is whose parent. */
static int clean_some(void *ctx, size_t piece, unsigned worker, struct vf_err *err)
{
	struct mend *m = ctx;
	struct vf_graph *g = m->graph;
	struct vf_walker *w;
	int rc = vf_walker_get(g, 0, &w, err);

	(void)worker;
	if (rc)
		return rc;
	for (uint32_t slot = (uint32_t)piece * PIECE_SLOTS; slot < m->slots && slot < (piece + 1) * PIECE_SLOTS; slot++) {
		for (uint32_t level = 0; is_node(g, slot) && level <= g->level[slot]; level++)
			clean_list(m, w, slot, level);
		if (is_node(g, slot))
			note_parent(m, slot);
	}
	vf_walker_forget(w);
	vf_walker_put(g, w);
	return 0;
}

/* When all parents are known. */
static int note_some_children(void *ctx, size_t piece, unsigned worker, struct vf_err *err)
{
	struct mend *m = ctx;

	(void)worker, (void)err;
	for (uint32_t slot = (uint32_t)piece * PIECE_SLOTS; slot < m->slots && slot < (piece + 1) * PIECE_SLOTS; slot++)
		if (is_node(m->graph, slot))
			note_children(m, slot);
	return 0;
}

static int mend(struct vf_graph *g, struct vf_walker *w, struct vf_err *err)
{
	struct mend m = { .graph = g, .slots = atomic_load(&g->slots) };
	int rc = 0;

	m.parent = malloc(((size_t)m.slots + 1) * sizeof *m.parent);
	m.known = calloc(1, (size_t)m.slots + 1);
	m.nodes = calloc((size_t)m.slots / 64 + 1, sizeof *m.nodes);
	if (!m.parent || !m.known || !m.nodes) {
		rc = vf_oom(err);
		goto out;
	}
	for (uint32_t slot = 0; slot < m.slots; slot++)
		if (vf_slot_is(g, slot) & VF_IS_TWIN)
			settle_twin(g, slot);
	for (uint32_t slot = 0; slot < m.slots; slot++)
		m.nodes[slot / 64] |= (uint64_t)is_node(g, slot) << (slot % 64);
	size_t pieces = ((size_t)m.slots + PIECE_SLOTS - 1) / PIECE_SLOTS;
	unsigned width = vf_spread_width(pieces);
	if ((rc = vf_spread(width, pieces, clean_some, &m, err)) || (rc = vf_spread(width, pieces, note_some_children, &m, err)))
		goto out;
	mend_tree(&m);
	vf_equal_forget(g);
	vf_entry_renew(g);
	vf_tree_adopt_orphans(g, w);
out:
	free(m.parent);
	free(m.known);
	free(m.nodes);
	return rc;
}

int vf_graph_load_end(struct vf_graph *g, int (*missing)(void *ctx, uint32_t slot, uint64_t serial, struct vf_err *err),
                      void *ctx, struct vf_err *err)
{
	uint32_t slots = atomic_load(&g->slots), width = atomic_load(&g->ef_construction);
	struct vf_walker *w;

	for (uint32_t slot = 0; slot < slots; slot++)
		settle_slot(g, slot);
	int rc = vf_walker_get(g, width, &w, err);
	if (rc)
		return rc;
	rc = mend(g, w, err);
	vf_walker_put(g, w);
	for (uint32_t slot = 0; slot < slots && !rc; slot++)
		if (vf_slot_is(g, slot) & VF_IS_EXPECTED) {
			set_state(g, slot, VF_SLOT_FREE);
			rc = missing(ctx, slot, atomic_load(&g->serial[slot]), err);
		}
	return rc;
}
