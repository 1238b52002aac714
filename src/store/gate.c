/* SPDX-License-Identifier: MIT */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* A reader that waits at the shut gate may be the very one that another reader waits for, so the gate never stays shut for long:
 * it is tried again and again, and after all tries the writer fails instead of everybody standing still. */
#define SHUT_PAUSE_MS  20
static const struct { int tries, wait_ms; } patience_rows[] = {
	[VF_GATE_LOOKS]  = { 0, 0 },
	[VF_GATE_MOMENT] = { 1, 10 },
	[VF_GATE_WAITS]  = { 60, 2000 },
};

bool vf_gate_enter(struct vf_store *store, struct vf_txn **idle)
{
	pthread_mutex_lock(&store->gate);
	while (store->shut)
		pthread_cond_wait(&store->reopened, &store->gate);
	*idle = NULL;
	bool open = store->env != NULL;
	if (open) {
		store->readers++;
		*idle = store->idle;
	}
	if (*idle) {
		store->idle = (*idle)->next;
		store->idle_count--;
	}
	pthread_mutex_unlock(&store->gate);
	return open;
}

void vf_gate_leave(struct vf_store *store, struct vf_txn *txn)
{
	struct vf_txn *surplus = txn;

	/* An LMDB transaction must be gone before its environment may be closed: end it before the count falls. */
	pthread_mutex_lock(&store->gate);
	if (txn && store->idle_count < IDLE_READERS_MAX) {
		txn->next = store->idle;
		store->idle = txn;
		store->idle_count++;
		surplus = NULL;
	}
	if (surplus) {
		mdb_txn_abort(surplus->mdb);
		free(surplus);
	}
	if (--store->readers == 0)
		pthread_cond_signal(&store->drained);
	pthread_mutex_unlock(&store->gate);
}

static void add_ms(struct timespec *ts, long ms)
{
	ts->tv_sec += ms / 1000;
	ts->tv_nsec += ms % 1000 * 1000000;
	if (ts->tv_nsec >= 1000000000) {
		ts->tv_sec++;
		ts->tv_nsec -= 1000000000;
	}
}

/* The gate is held. */
static bool wait_drained(struct vf_store *store, int wait_ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	add_ms(&until, wait_ms);
	store->shut = true;
	while (store->readers && pthread_cond_timedwait(&store->drained, &store->gate, &until) != ETIMEDOUT)
		;
	return store->readers == 0;
}

bool vf_gate_shut(struct vf_store *store, enum vf_gate_patience patience)
{
	const struct timespec pause = { 0, SHUT_PAUSE_MS * 1000000L };

	pthread_mutex_lock(&store->gate);
	for (int try = 0; store->readers && try < patience_rows[patience].tries; try++) {
		if (wait_drained(store, patience_rows[patience].wait_ms))
			break;
		vf_gate_open(store);
		if (try + 1 < patience_rows[patience].tries)
			nanosleep(&pause, NULL);
		pthread_mutex_lock(&store->gate);
	}
	if (store->readers == 0) {
		store->shut = true;
		return true;
	}
	vf_gate_open(store);
	return false;
}

void vf_gate_open(struct vf_store *store)
{
	store->shut = false;
	pthread_cond_broadcast(&store->reopened);
	pthread_mutex_unlock(&store->gate);
}

void vf_gate_drop_idle(struct vf_store *store)
{
	while (store->idle) {
		struct vf_txn *txn = store->idle;
		store->idle = txn->next;
		mdb_txn_abort(txn->mdb);
		free(txn);
	}
	store->idle_count = 0;
}
