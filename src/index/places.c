/* SPDX-License-Identifier: MIT */
/* places.c - where vectors and records lie in the file, as one snapshot has them. Finding a row by its serial costs half a microsecond, as
 * much as ten nodes of the graph, and an answer reads a dozen vectors and ten records; while nothing is written, questions come back to the
 * same rows at the same places (20,000 x 512 at ef 16: 1.3 x as many questions for vectors, 1.12 x more for records).
 *
 * A table is for one snapshot, whose rows lie where they lie for ever; a question of another snapshot does not use it. It is
 * made once several questions in a row had the same snapshot. */
#include <stdlib.h>
#include <sys/mman.h>

#include "places.h"

#define ASKED_MIN 8u

/* All are 0, or what is true of the slot in this snapshot; what is written last makes the rest count. A slot has one serial in a snapshot. */
struct place { _Atomic uint64_t serial, vector, record; };

struct vf_places {
	pthread_rwlock_t lock;             /* shared: uses the table; exclusive: changes it */
	uint64_t snapshot;                 /* of the table */
	struct place *table;
	uint32_t slots;
	_Atomic uint64_t asked_snapshot;   /* by the last question */
	_Atomic uint32_t asked;            /* so many times in a row, more or less */
};

int vf_places_new(struct vf_places **out, struct vf_err *err)
{
	*out = calloc(1, sizeof **out);
	if (!*out)
		return vf_oom(err);
	pthread_rwlock_init(&(*out)->lock, NULL);
	return 0;
}

static void drop_table(struct vf_places *places)
{
	if (places->table)
		munmap(places->table, places->slots * sizeof *places->table);
	places->table = NULL;
	places->slots = 0;
}

void vf_places_free(struct vf_places **places)
{
	if (!*places)
		return;
	drop_table(*places);
	pthread_rwlock_destroy(&(*places)->lock);
	free(*places);
	*places = NULL;
}

/* Zeros that take memory only where they are written. Without memory there is no table. */
static void make_table(struct vf_places *places, uint64_t snapshot, uint32_t slots)
{
	drop_table(places);
	void *table = mmap(NULL, slots * sizeof *places->table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		return;
	places->table = table;
	places->slots = slots;
	places->snapshot = snapshot;
}

static bool is_worth_a_table(struct vf_places *places, uint64_t snapshot)
{
	if (atomic_exchange_explicit(&places->asked_snapshot, snapshot, memory_order_relaxed) != snapshot)
		atomic_store_explicit(&places->asked, 0, memory_order_relaxed);
	return atomic_fetch_add_explicit(&places->asked, 1, memory_order_relaxed) >= ASKED_MIN;
}

bool vf_places_hold(struct vf_places *places, uint64_t snapshot, uint32_t slots)
{
	pthread_rwlock_rdlock(&places->lock);
	if (places->table && places->snapshot == snapshot)
		return true;
	pthread_rwlock_unlock(&places->lock);
	/* Whoever uses the old one is not waited for; another question will come. */
	if (slots && is_worth_a_table(places, snapshot) && pthread_rwlock_trywrlock(&places->lock) == 0) {
		make_table(places, snapshot, slots);
		pthread_rwlock_unlock(&places->lock);
	}
	return false;
}

void vf_places_release(struct vf_places *places)
{
	pthread_rwlock_unlock(&places->lock);
}

struct vf_row_place vf_places_find(const struct vf_places *places, uint32_t slot, uint64_t serial)
{
	struct vf_row_place found = { 0 };

	if (slot >= places->slots || atomic_load_explicit(&places->table[slot].serial, memory_order_acquire) != serial)
		return found;
	found.vector = atomic_load_explicit(&places->table[slot].vector, memory_order_relaxed);
	found.record = atomic_load_explicit(&places->table[slot].record, memory_order_relaxed);
	return found;
}

void vf_places_note(struct vf_places *places, uint32_t slot, uint64_t serial, struct vf_row_place place)
{
	if (slot >= places->slots)
		return;
	if (place.vector)
		atomic_store_explicit(&places->table[slot].vector, place.vector, memory_order_relaxed);
	if (place.record)
		atomic_store_explicit(&places->table[slot].record, place.record, memory_order_relaxed);
	atomic_store_explicit(&places->table[slot].serial, serial, memory_order_release);
}

void vf_places_expect(const struct vf_places *places, uint32_t slot)
{
	if (slot < places->slots)
		__builtin_prefetch(&places->table[slot]);
}
