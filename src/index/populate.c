/* SPDX-License-Identifier: MIT */
/* populate.c - memory for what is about to come into the graph. The kernel clears memory when it is first touched, which for new vectors by the
 * ten thousand takes longer than making their codes (100,000 x 128 in memory that the machine had not used before: 76 of 96 ms, by a profile).
 * While one thread writes their rows, another has it done. */
#include <time.h>

#include "change.h"
#include "vecfs/thread.h"

#define PUTS_WORTH_A_THREAD 8192u
#define PAUSE_NS            500000

/* As many slots ahead of those that were taken as were taken: how many there will be is not known, since a vector that did not change needs none. */
static uint32_t wanted(const struct vf_populate *populate)
{
	uint64_t slots = vf_graph_slots(populate->graph), ahead = slots + (slots - populate->first);

	return ahead < populate->end ? (uint32_t)ahead : populate->end;
}

static void *run(void *ctx)
{
	const struct timespec pause = { 0, PAUSE_NS };
	struct vf_populate *populate = ctx;
	struct vf_index *index = populate->index;
	uint32_t done = populate->first;

	/* The lock is never kept: this turn's thread may be told to put another graph in place. */
	while (!atomic_load(&populate->over)) {
		pthread_rwlock_rdlock(&index->graph_lock);
		uint32_t end = index->graph == populate->graph ? wanted(populate) : done;
		if (end > done) {
			vf_graph_populate(populate->graph, done, end);
			done = end;
		}
		pthread_rwlock_unlock(&index->graph_lock);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

void vf_populate_start(struct vf_populate *populate, struct vf_index *index, uint64_t n)
{
	struct vf_err ignored = VF_ERR_INIT;

	if (n < PUTS_WORTH_A_THREAD || n > VF_SLOTS_MAX)
		return;
	uint32_t first = vf_graph_slots(index->graph);
	/* Who takes the slots tells when there is no room. */
	if (n > VF_SLOTS_MAX - first || vf_graph_make_room(index->graph, first + (uint32_t)n - 1, &ignored))
		return;
	populate->index = index;
	populate->graph = index->graph;
	populate->first = first;
	populate->end = first + (uint32_t)n;
	atomic_store(&populate->over, false);
	populate->started = vf_thread_start(&populate->thread, run, populate) == 0;
}

void vf_populate_end(struct vf_populate *populate)
{
	if (!populate->started)
		return;
	atomic_store(&populate->over, true);
	pthread_join(populate->thread, NULL);
	populate->started = false;
}
