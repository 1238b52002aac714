/* SPDX-License-Identifier: MIT */
/* Slots: taken, added, removed; and those that wait for a linker, kept as bits so that a search finds them in passing. */
#include "graph_internal.h"

static uint32_t pop_free(struct vf_graph *g)
{
	pthread_mutex_lock(&g->small_lock);
	uint32_t slot = g->free_slot;
	if (slot != VF_SLOT_NONE)
		g->free_slot = atomic_load_explicit(&g->twin[slot], memory_order_relaxed);
	pthread_mutex_unlock(&g->small_lock);
	return slot;
}

int vf_graph_slot_take(struct vf_graph *g, uint32_t *slot, struct vf_err *err)
{
	*slot = pop_free(g);
	if (*slot != VF_SLOT_NONE) {
		atomic_fetch_sub(&g->nfree, 1);
		return 0;
	}
	uint32_t next = atomic_load(&g->slots);
	int rc = vf_graph_make_room(g, next, err);
	if (rc)
		return rc;
	*slot = next;
	atomic_store(&g->slots, next + 1);
	return 0;
}

void vf_slot_free(struct vf_graph *g, uint32_t slot)
{
	atomic_store_explicit(&g->state[slot], VF_SLOT_FREE, memory_order_release);
	atomic_fetch_add(&g->nfree, 1);
	pthread_mutex_lock(&g->small_lock);
	atomic_store_explicit(&g->twin[slot], g->free_slot, memory_order_relaxed);
	g->free_slot = slot;
	pthread_mutex_unlock(&g->small_lock);
}

void vf_graph_slot_return(struct vf_graph *g, uint32_t slot)
{
	vf_slot_free(g, slot);
}

void vf_slot_touch(struct vf_graph *g, uint32_t slot, uint8_t what)
{
	_Atomic uint8_t *dirty = &g->dirty[slot / g->chunk_slots];

	/* Read first: a busy chunk's byte then stays shared between the cores. Who dumps clears it before it takes the
	 * node's lock, so no change is lost. */
	if ((atomic_load(dirty) & what) != what)
		atomic_fetch_or(dirty, what);
}

static int add(struct vf_graph *g, uint32_t slot, uint64_t serial, const float *vector, struct vf_err *err)
{
	enum vf_clamped clamped = vf_quant_apply(g, vector, g->codes + slot * g->code_stride);

	vf_sketch_slot(g, slot);
	atomic_store_explicit(&g->serial[slot], serial, memory_order_relaxed);
	atomic_store_explicit(&g->twin[slot], VF_SLOT_NONE, memory_order_relaxed);
	g->level[slot] = 0;
	vf_list_write(g, slot, 0, NULL, 0);
	if (clamped == VF_CLAMPED_FAR) {
		int rc = vf_outliers_add(g, slot, vector, err);
		if (rc)
			return rc;
		/* Not on disk either: loading finds its code missing, and adds it again. */
		atomic_store_explicit(&g->state[slot], VF_SLOT_LINKED, memory_order_release);
		atomic_fetch_add(&g->nlinked, 1);
		return 0;
	}
	/* Before anybody sees the slot. */
	vf_graph_clamp(g, clamped);
	atomic_store_explicit(&g->state[slot], VF_SLOT_PENDING, memory_order_release);
	/* The counts go up before the bits and down after them: who finds a count of 0 has missed nothing. */
	atomic_fetch_add(&g->npending, 1);
	atomic_fetch_add(&g->crowd[slot / VF_CROWD_SLOTS], 1);
	atomic_fetch_or(&g->pending[slot / 64], 1ull << (slot % 64));
	vf_slot_touch(g, slot, VF_DIRTY_CODES | VF_DIRTY_LINKS);
	vf_slot_unclaim(g, slot);
	return 0;
}

int vf_graph_add(struct vf_graph *g, uint32_t slot, uint64_t serial, const float *vector, struct vf_err *err)
{
	int rc = vf_graph_make_room(g, slot, err);

	if (rc)
		return rc;
	pthread_rwlock_rdlock(&g->sketching.lock);
	rc = add(g, slot, serial, vector, err);
	pthread_rwlock_unlock(&g->sketching.lock);
	return rc;
}

void vf_slot_settle(struct vf_graph *g, uint32_t slot)
{
	atomic_fetch_and(&g->pending[slot / 64], ~(1ull << (slot % 64)));
	atomic_fetch_sub(&g->crowd[slot / VF_CROWD_SLOTS], 1);
	atomic_fetch_sub(&g->npending, 1);
}

void vf_graph_remove(struct vf_graph *g, uint32_t slot)
{
	uint8_t is = vf_slot_is(g, slot), state;

	/* Counted first: who finds no dead links to whomever a walk meets, and a sweep may be at this slot at once. */
	atomic_fetch_add(&g->ndead, 1);
	do {
		state = is & VF_IS_STATE;
		if (state != VF_SLOT_PENDING && state != VF_SLOT_LINKED) {
			atomic_fetch_sub(&g->ndead, 1);
			return;
		}
	} while (!atomic_compare_exchange_weak(&g->state[slot], &is, (uint8_t)((is & ~VF_IS_STATE) | VF_SLOT_DEAD)));
	atomic_fetch_add(&g->nchanges, 1);
	if (state == VF_SLOT_PENDING) {
		/* A linker that has taken it already will find it dead. */
		atomic_fetch_and(&g->waiting[slot / 64], ~(1ull << (slot % 64)));
		vf_slot_settle(g, slot);
	} else {
		atomic_fetch_sub(&g->nlinked, 1);
		if (vf_slot_is_outlier(is))
			vf_outliers_remove(g, slot);
	}
	vf_slot_touch(g, slot, VF_DIRTY_LINKS);
}

void vf_slot_unclaim(struct vf_graph *g, uint32_t slot)
{
	atomic_fetch_or(&g->waiting[slot / 64], 1ull << (slot % 64));
}

bool vf_slot_claim_this(struct vf_graph *g, uint32_t slot)
{
	uint64_t bit = 1ull << (slot % 64);

	return atomic_fetch_and(&g->waiting[slot / 64], ~bit) & bit;
}

static uint32_t claim_in(struct vf_graph *g, uint32_t crowd)
{
	for (uint32_t i = crowd * (VF_CROWD_SLOTS / 64); i < (crowd + 1) * (VF_CROWD_SLOTS / 64); i++) {
		uint64_t word = atomic_load_explicit(&g->waiting[i], memory_order_relaxed);
		while (word) {
			uint32_t slot = i * 64 + (uint32_t)__builtin_ctzll(word);
			if (vf_slot_claim_this(g, slot))
				return slot;
			word = atomic_load_explicit(&g->waiting[i], memory_order_relaxed);
		}
	}
	return VF_SLOT_NONE;
}

uint32_t vf_slot_claim(struct vf_graph *g)
{
	uint32_t slots = atomic_load(&g->slots), crowds = (slots + VF_CROWD_SLOTS - 1) / VF_CROWD_SLOTS;

	if (atomic_load(&g->npending) == 0)
		return VF_SLOT_NONE;
	uint32_t first = atomic_load_explicit(&g->wait_cursor, memory_order_relaxed);
	for (uint32_t i = 0; i < crowds; i++) {
		uint32_t crowd = (first + i) % crowds;
		if (atomic_load_explicit(&g->crowd[crowd], memory_order_relaxed) == 0)
			continue;
		uint32_t slot = claim_in(g, crowd);
		if (slot != VF_SLOT_NONE) {
			atomic_store_explicit(&g->wait_cursor, crowd, memory_order_relaxed);
			return slot;
		}
	}
	return VF_SLOT_NONE;
}

static void each_in(const struct vf_graph *g, uint32_t crowd, const struct vf_slot_set *only,
                    void (*visit)(void *ctx, uint32_t slot), void *ctx)
{
	for (uint32_t i = crowd * (VF_CROWD_SLOTS / 64); i < (crowd + 1) * (VF_CROWD_SLOTS / 64); i++) {
		uint64_t word = atomic_load_explicit(&g->pending[i], memory_order_acquire);
		if (only)
			word &= i < only->nwords ? only->words[i] : 0;
		for (; word; word &= word - 1) {
			uint32_t slot = i * 64 + (uint32_t)__builtin_ctzll(word);
			if ((vf_slot_is(g, slot) & VF_IS_STATE) == VF_SLOT_PENDING)
				visit(ctx, slot);
		}
	}
}

void vf_slot_each_pending(const struct vf_graph *g, const struct vf_slot_set *only, void (*visit)(void *ctx, uint32_t slot), void *ctx)
{
	uint32_t slots = atomic_load(&g->slots), crowds = (slots + VF_CROWD_SLOTS - 1) / VF_CROWD_SLOTS;

	if (atomic_load(&g->npending) == 0)
		return;
	for (uint32_t crowd = 0; crowd < crowds; crowd++)
		if (atomic_load_explicit(&g->crowd[crowd], memory_order_relaxed))
			each_in(g, crowd, only, visit, ctx);
}
