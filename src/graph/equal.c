/* SPDX-License-Identifier: MIT */
/* Which node has the same code: a table of slots by the hash of their codes, so that copies are known without a search. Every node but
 * the rare one that lost a race is in it. Without memory for the table copies are linked like others. */
#include <stdlib.h>
#include <sys/random.h>

#include "graph_internal.h"

#define EMPTY    VF_SLOT_NONE
#define REMOVED  (VF_SLOT_NONE - 1)
#define ROOM_MIN 1024u

void vf_equal_init(struct vf_equal *equal)
{
	pthread_mutex_init(&equal->lock, NULL);
	/* Nobody outside can make codes that meet in one place. */
	if (getrandom(&equal->seed, sizeof equal->seed, GRND_NONBLOCK) != sizeof equal->seed)
		equal->seed = (uintptr_t)equal;
}

void vf_equal_free(struct vf_equal *equal)
{
	pthread_mutex_destroy(&equal->lock);
	free(equal->slots);
}

static uint64_t hash_of(const struct vf_graph *g, const uint8_t *code)
{
	uint64_t h = g->equal.seed;

	/* A row is padded to 64 bytes, all alike. */
	for (size_t i = 0; i < g->code_bytes; i += 8) {
		uint64_t word;
		memcpy(&word, code + i, sizeof word);
		h = (h ^ word) * 0x9e3779b97f4a7c15u;
		h ^= h >> 32;
	}
	return h;
}

static bool has_code(const struct vf_graph *g, uint32_t slot, const uint8_t *code)
{
	return vf_slot_code(g, slot) == code || memcmp(vf_slot_code(g, slot), code, g->code_bytes) == 0;
}

/* The place of the slot with this code; else one to put it. The table has empty places. */
static size_t place_of(const struct vf_graph *g, const uint8_t *code)
{
	const struct vf_equal *equal = &g->equal;
	size_t place = hash_of(g, code) & (equal->room - 1), hole = SIZE_MAX;

	for (; equal->slots[place] != EMPTY; place = (place + 1) & (equal->room - 1)) {
		if (equal->slots[place] == REMOVED)
			hole = hole == SIZE_MAX ? place : hole;
		else if (has_code(g, equal->slots[place], code))
			return place;
	}
	return hole == SIZE_MAX ? place : hole;
}

static void put(struct vf_graph *g, size_t place, uint32_t slot)
{
	g->equal.used += g->equal.slots[place] == EMPTY;
	g->equal.slots[place] = slot;
}

/* Room for one more with a quarter of the places empty. */
static bool make_room(struct vf_graph *g)
{
	struct vf_equal *equal = &g->equal;
	size_t kept = 0, room = ROOM_MIN, old_room = equal->room;
	uint32_t *old = equal->slots;

	if (equal->used + 1 <= equal->room / 4 * 3)
		return true;
	for (size_t i = 0; i < old_room; i++)
		kept += old[i] < REMOVED;
	while (room < 2 * (kept + 1))
		room *= 2;
	uint32_t *slots = malloc(room * sizeof *slots);
	if (!slots)
		return false;
	memset(slots, 0xff, room * sizeof *slots);
	equal->slots = slots;
	equal->room = room;
	equal->used = 0;
	atomic_store(&equal->bytes, room * sizeof *slots);
	for (size_t i = 0; i < old_room; i++)
		if (old[i] < REMOVED)
			put(g, place_of(g, vf_slot_code(g, old[i])), old[i]);
	free(old);
	return true;
}

/* One that is condemned is not entered; it would be taken out when it is freed. */
static void recall_nodes(struct vf_graph *g)
{
	uint32_t slots = atomic_load(&g->slots);

	for (uint32_t slot = 0; slot < slots && make_room(g); slot++)
		if ((vf_slot_is(g, slot) & (VF_IS_NODE | VF_IS_CONDEMNED)) == VF_IS_NODE) {
			size_t place = place_of(g, vf_slot_code(g, slot));
			if (g->equal.slots[place] >= REMOVED)
				put(g, place, slot);
		}
	atomic_store(&g->equal.forgotten, false);
}

void vf_equal_recall(struct vf_graph *g)
{
	if (!atomic_load_explicit(&g->equal.forgotten, memory_order_relaxed))
		return;
	pthread_mutex_lock(&g->equal.lock);
	if (atomic_load(&g->equal.forgotten))
		recall_nodes(g);
	pthread_mutex_unlock(&g->equal.lock);
}

void vf_equal_forget(struct vf_graph *g)
{
	atomic_store(&g->equal.forgotten, true);
}

uint32_t vf_equal_claim(struct vf_graph *g, uint32_t slot)
{
	uint32_t found = VF_SLOT_NONE;

	vf_equal_recall(g);
	pthread_mutex_lock(&g->equal.lock);
	if (make_room(g)) {
		size_t place = place_of(g, vf_slot_code(g, slot));
		if (g->equal.slots[place] < REMOVED)
			found = g->equal.slots[place];
		else
			put(g, place, slot);
	}
	pthread_mutex_unlock(&g->equal.lock);
	return found;
}

uint32_t vf_equal_find(struct vf_graph *g, const uint8_t *code)
{
	uint32_t found = VF_SLOT_NONE;

	/* Filling it takes long. */
	if (atomic_load_explicit(&g->equal.forgotten, memory_order_relaxed))
		return VF_SLOT_NONE;
	pthread_mutex_lock(&g->equal.lock);
	if (g->equal.room) {
		found = g->equal.slots[place_of(g, code)];
		found = found < REMOVED ? found : VF_SLOT_NONE;
	}
	pthread_mutex_unlock(&g->equal.lock);
	return found;
}

void vf_equal_replace(struct vf_graph *g, uint32_t slot, uint32_t heir)
{
	pthread_mutex_lock(&g->equal.lock);
	if (g->equal.room) {
		size_t place = place_of(g, vf_slot_code(g, slot));
		if (g->equal.slots[place] == slot)
			g->equal.slots[place] = heir == VF_SLOT_NONE ? REMOVED : heir;
	}
	pthread_mutex_unlock(&g->equal.lock);
}
