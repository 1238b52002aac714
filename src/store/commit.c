/* SPDX-License-Identifier: MIT */
/* Group commit. A thread that finds nobody leading leads: it takes every waiting job, writes them in one transaction, syncs once, tells
 * each, and hands the lead to the first of those who came meanwhile. So the disk is never idle while somebody waits, and with
 * one thread alone a commit costs what it costs LMDB.
 *
 * Jobs write straight into the one transaction: nested ones would cost each job two copies of its pages. A job that fails before it
 * has changed anything needs no taking back. One that fails later ends the group: the transaction is dropped, what stood before
 * it is written again, and what stands behind it waits for the next group. */
#include "store_internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GROUP_JOBS_MAX   4096u
#define GROUP_BYTES_MAX  (64u << 20)     /* past this the rest waits: LMDB keeps changed pages in memory */

enum job_state { JOB_WAITS, JOB_LEADS, JOB_FINISHED };

static void job_signal(struct vf_job *job, enum job_state state)
{
	/* The job may be gone as soon as its thread sees the state; waking an address where nobody sleeps does no harm. */
	uint32_t *word = &job->state;

	__atomic_store_n(word, state, __ATOMIC_RELEASE);
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static enum job_state job_wait(struct vf_job *job)
{
	for (;;) {
		uint32_t state = __atomic_load_n(&job->state, __ATOMIC_ACQUIRE);
		if (state != JOB_WAITS)
			return (enum job_state)state;
		syscall(SYS_futex, &job->state, FUTEX_WAIT_PRIVATE, JOB_WAITS, NULL, NULL, 0);
	}
}

/* ---- the queue ---- */

/* True: the caller leads. */
static bool enqueue(struct vf_store *store, struct vf_job *job)
{
	pthread_mutex_lock(&store->queue_lock);
	*store->queue_end = job;
	store->queue_end = &job->next;
	bool lead = !store->led;
	store->led = true;
	pthread_mutex_unlock(&store->queue_lock);
	return lead;
}

static struct vf_job *take_group(struct vf_store *store)
{
	pthread_mutex_lock(&store->queue_lock);
	struct vf_job *first = store->queue, *last = first;
	for (unsigned n = 1; last->next && n < GROUP_JOBS_MAX; n++)
		last = last->next;
	store->queue = last->next;
	if (!store->queue)
		store->queue_end = &store->queue;
	last->next = NULL;
	pthread_mutex_unlock(&store->queue_lock);
	return first;
}

/* Ends the group behind `last`; what follows goes back to the front of the queue. */
static void cut_group(struct vf_store *store, struct vf_job *last)
{
	struct vf_job *rest = last->next, *end = rest;

	if (!rest)
		return;
	last->next = NULL;
	while (end->next)
		end = end->next;
	pthread_mutex_lock(&store->queue_lock);
	end->next = store->queue;
	if (!store->queue)
		store->queue_end = &end->next;
	store->queue = rest;
	pthread_mutex_unlock(&store->queue_lock);
}

static void pass_lead(struct vf_store *store)
{
	pthread_mutex_lock(&store->queue_lock);
	struct vf_job *next = store->queue;
	store->led = next != NULL;
	pthread_mutex_unlock(&store->queue_lock);
	if (next)
		job_signal(next, JOB_LEADS);
}

/* ---- one group ---- */

static void fail_job(struct vf_job *job, const struct vf_err *why)
{
	job->rc = -why->code;
	job->err = *why;
}

static void fail_rest(struct vf_job *group, const struct vf_err *why)
{
	for (struct vf_job *job = group; job; job = job->next)
		if (job->rc == 0)
			fail_job(job, why);
}

static bool has_work(const struct vf_job *group)
{
	for (; group; group = group->next)
		if (group->rc == 0)
			return true;
	return false;
}

/* ---- on a full disk ---- */

static bool adds(const struct vf_job *group)
{
	for (; group; group = group->next)
		if (group->rc == 0 && !group->frees)
			return true;
	return false;
}

/* What is missing of the ballast must be free inside of the file. */
static int check_ballast(struct vf_txn *txn, const struct vf_job *group, struct vf_err *err)
{
	struct vf_ballast *ballast = txn->store->ballast;
	uint64_t lack = ballast && txn->changes && adds(group) ? vf_ballast_lack(ballast) : 0, bytes;
	int rc = lack ? vf_env_free_bytes(txn, &bytes) : 0;

	if (rc)
		return vf_store_fault(txn->store, rc, "commit", err);
	return lack && bytes < lack ? vf_store_fault(txn->store, ENOSPC, "commit", err) : 0;
}

/* Freed pages are used again when nobody reads any more what they were. */
static bool outwait_readers(struct vf_store *store, bool *waited)
{
	if (*waited || !vf_gate_shut(store, VF_GATE_WAITS))
		return false;
	vf_gate_open(store);
	return *waited = true;
}

/* The disk was full: those that add fail, those that free try again, without the ballast and in the end without readers. False: to no avail. */
static bool make_way(struct vf_store *store, struct vf_job *group, bool *waited, const struct vf_err *why)
{
	bool added = adds(group);

	for (struct vf_job *job = group; job; job = job->next)
		if (job->rc == 0 && !job->frees)
			fail_job(job, why);
	return has_work(group) && (added || (store->ballast && vf_ballast_drop(store->ballast)) || outwait_readers(store, waited));
}

/* Writes every job that has not failed yet. Returns the one that has to be taken back, or NULL. */
static struct vf_job *write_group(struct vf_txn *txn, struct vf_job *group)
{
	for (struct vf_job *job = group; job; job = job->next) {
		if (job->rc < 0)
			continue;
		uint64_t changes = txn->changes;
		job->ran = true;
		int rc = job->write(job->ctx, txn, &job->err);
		if (rc < 0 && txn->trouble != MDB_MAP_FULL)
			job->rc = rc;
		if (txn->trouble || (rc < 0 && txn->changes != changes))
			return job;
		if (job->last || txn->bytes > GROUP_BYTES_MAX)
			cut_group(txn->store, job);
	}
	return NULL;
}

/* Of what spoiled its transaction the job is told again: it may have taken it for success. A full disk is no failure yet of one that frees. */
static void take_back(struct vf_txn *txn, struct vf_job *spoiler, struct vf_job *group, bool *waited)
{
	struct vf_err err = VF_ERR_INIT;

	if (txn->trouble) {
		vf_store_fault(txn->store, vf_env_write_code(txn, txn->trouble), "commit", &err);
		spoiler->rc = 0;
		if (err.code != ENOSPC || !spoiler->frees || !make_way(txn->store, group, waited, &err))
			fail_job(spoiler, &err);
	}
	cut_group(txn->store, spoiler);
}

/* One transaction. True: to be tried again, with more room or without the job that failed. */
static bool try_group(struct vf_store *store, struct vf_job *group, bool *waited)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_txn txn;
	bool map_full;

	if (vf_txn_begin_write(store, &txn, &err)) {
		fail_rest(group, &err);
		return false;
	}
	struct vf_job *spoiler = write_group(&txn, group);
	if (spoiler && txn.trouble != MDB_MAP_FULL) {
		vf_txn_drop_write(&txn);
		take_back(&txn, spoiler, group, waited);
		return true;
	}
	if (!txn.trouble && check_ballast(&txn, group, &err)) {
		vf_txn_drop_write(&txn);
		if (err.code == ENOSPC && make_way(store, group, waited, &err))
			return true;
		fail_rest(group, &err);
		return false;
	}
	if (vf_txn_finish_write(&txn, &map_full, &err) == 0)
		return false;
	if (map_full || (err.code == ENOSPC && make_way(store, group, waited, &err)))
		return true;
	fail_rest(group, &err);
	return false;
}

static bool is_followed(const struct vf_job *group)
{
	while (group && group->followed)
		group = group->next;
	return !group;
}

static void lead(struct vf_store *store)
{
	pthread_mutex_lock(&store->writer);
	struct vf_job *group = take_group(store);
	bool waited = false;
	while (has_work(group) && try_group(store, group, &waited))
		;
	for (struct vf_job *job = group; job; job = job->next)
		if (job->ran && job->done)
			job->done(job->ctx, job->rc == 0);
	if (!is_followed(group))
		vf_env_slim(store, true);
	pthread_mutex_unlock(&store->writer);
	pass_lead(store);
	while (group) {
		struct vf_job *job = group;
		group = job->next;
		job_signal(job, JOB_FINISHED);
	}
}

int vf_commit(struct vf_store *store, struct vf_job *job, struct vf_err *err)
{
	job->next = NULL;
	job->rc = 0;
	job->ran = false;
	job->state = JOB_WAITS;
	if (store->read_only)
		return vf_fail(err, EROFS, "%s is open for reading only", store->dir);
	/* The lead is always taken together with the first place in the queue, so the leader's own job is in its group. */
	if (enqueue(store, job) || job_wait(job) == JOB_LEADS)
		lead(store);
	if (job->rc < 0)
		*err = job->err;
	return job->rc;
}
