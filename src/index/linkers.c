/* SPDX-License-Identifier: MIT */
/* linkers.c - the threads that link, shared by all indexes of a process: they go round the indexes that have work, a slice at a
 * time, several at one index when the others rest. They run at a lower priority than who asks and writes, and while somebody asks only half of them
 * run at all: a thread that is woken waits for the processor of a linker longer than a question takes (99th percentile of a client's waits while
 * 50,000 x 128 are linked by two: 2.7 and 3.1 ms, in turn 1.7 and 2.0). They begin with the first work: what the process gives up before then holds
 * for them too. */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "index_internal.h"
#include "vecfs/clock.h"
#include "vecfs/log.h"
#include "vecfs/thread.h"

#define LINKER_NICE    10
#define THREADS_MAX    256u
#define ASKED_NS       20000000     /* a question tells of more for so long */

struct vf_linkers {
	pthread_mutex_t lock;
	pthread_cond_t work, left;         /* there is some; a worker has left an index */
	struct vf_index *ring;             /* indexes that were ever woken; the first is looked at first */
	pthread_t *threads;
	unsigned nthreads, wanted;         /* started; as many as there shall be */
	atomic_uint working;               /* threads at an index */
	atomic_llong asked_ns;             /* the last question, when somebody was working */
	bool stop;
};

/* ---- the ring; the lock is held ---- */

static void append(struct vf_linkers *linkers, struct vf_index *index)
{
	struct vf_index **at = &linkers->ring;

	while (*at)
		at = &(*at)->ring_next;
	index->ring_next = NULL;
	*at = index;
}

static void take_out(struct vf_linkers *linkers, struct vf_index *index)
{
	struct vf_index **at = &linkers->ring;

	while (*at && *at != index)
		at = &(*at)->ring_next;
	if (*at)
		*at = index->ring_next;
}

/* The first index whose time has come, moved to the end of the ring; else when the next one's comes. */
static struct vf_index *pick(struct vf_linkers *linkers, int64_t *next_ns)
{
	int64_t now = vf_clock_mono_ns();

	*next_ns = INT64_MAX;
	for (struct vf_index *index = linkers->ring; index; index = index->ring_next) {
		if (index->due_ns <= now) {
			take_out(linkers, index);
			append(linkers, index);
			return index;
		}
		if (index->due_ns < *next_ns)
			*next_ns = index->due_ns;
	}
	return NULL;
}

static void wait_until(struct vf_linkers *linkers, int64_t ns)
{
	if (ns == INT64_MAX) {
		pthread_cond_wait(&linkers->work, &linkers->lock);
		return;
	}
	struct timespec until = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
	pthread_cond_timedwait(&linkers->work, &linkers->lock, &until);
}

/* There is work now: for one more thread, too, which calls the next. */
static void call(struct vf_linkers *linkers, struct vf_index *index)
{
	index->wakes++;
	index->due_ns = 0;
	pthread_cond_signal(&linkers->work);
}

static void work_on(struct vf_linkers *linkers, struct vf_index *index)
{
	uint64_t wakes = index->wakes;

	index->workers++;
	atomic_fetch_add(&linkers->working, 1);
	pthread_mutex_unlock(&linkers->lock);
	int64_t after = vf_memory_work(index);
	int64_t now = vf_clock_mono_ns();
	pthread_mutex_lock(&linkers->lock);
	atomic_fetch_sub(&linkers->working, 1);
	index->workers--;
	/* Who found more overrules those who meanwhile found nothing: what hangs on the last one (the measure of recall) is still to come. */
	if (after == 0)
		call(linkers, index);
	else if (wakes == index->wakes)
		index->due_ns = after == INT64_MAX ? INT64_MAX : now + after;
	pthread_cond_broadcast(&linkers->left);
}

/* Whether with so many at work the others rest. */
static bool are_enough(const struct vf_linkers *linkers, unsigned working)
{
	return working >= (linkers->wanted + 1) / 2 && vf_clock_mono_ns() - atomic_load_explicit(&linkers->asked_ns, memory_order_relaxed) < ASKED_NS;
}

static void *run(void *ctx)
{
	struct vf_linkers *linkers = ctx;
	int64_t next_ns;

	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), LINKER_NICE);
	pthread_mutex_lock(&linkers->lock);
	while (!linkers->stop) {
		if (are_enough(linkers, atomic_load(&linkers->working))) {
			wait_until(linkers, vf_clock_mono_ns() + ASKED_NS);
			continue;
		}
		struct vf_index *index = pick(linkers, &next_ns);
		if (index)
			work_on(linkers, index);
		else
			wait_until(linkers, next_ns);
	}
	pthread_mutex_unlock(&linkers->lock);
	return NULL;
}

/* ---- from outside ---- */

bool vf_linkers_at_work(const struct vf_linkers *linkers)
{
	return atomic_load_explicit(&linkers->working, memory_order_relaxed) > 0;
}

void vf_linkers_asked(struct vf_linkers *linkers)
{
	if (vf_linkers_at_work(linkers))
		atomic_store_explicit(&linkers->asked_ns, vf_clock_mono_ns(), memory_order_relaxed);
}

bool vf_linkers_give_way(const struct vf_linkers *linkers)
{
	return are_enough(linkers, atomic_load_explicit(&linkers->working, memory_order_relaxed) - 1);
}

/* The lock is held. Without a single one there is no linking until it is tried again, and answers all the same. */
static void start(struct vf_linkers *linkers)
{
	while (linkers->nthreads < linkers->wanted) {
		int code = vf_thread_start(&linkers->threads[linkers->nthreads], run, linkers);
		if (code) {
			vf_log(LOG_WARNING, "cannot start linker thread %u of %u: %s", linkers->nthreads + 1, linkers->wanted, strerror(code));
			return;
		}
		linkers->nthreads++;
	}
}

void vf_linkers_wake(struct vf_linkers *linkers, struct vf_index *index)
{
	pthread_mutex_lock(&linkers->lock);
	if (!index->forgotten) {
		if (!index->in_ring)
			append(linkers, index);
		index->in_ring = true;
		start(linkers);
		call(linkers, index);
	}
	pthread_mutex_unlock(&linkers->lock);
}

void vf_linkers_forget(struct vf_linkers *linkers, struct vf_index *index)
{
	pthread_mutex_lock(&linkers->lock);
	index->forgotten = true;
	take_out(linkers, index);
	index->in_ring = false;
	while (index->workers)
		pthread_cond_wait(&linkers->left, &linkers->lock);
	pthread_mutex_unlock(&linkers->lock);
}

static void init_conditions(struct vf_linkers *linkers)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&linkers->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&linkers->work, &attr);
	pthread_cond_init(&linkers->left, NULL);
	pthread_condattr_destroy(&attr);
}

int vf_linkers_new(unsigned threads, struct vf_linkers **out, struct vf_err *err)
{
	struct vf_linkers *linkers = calloc(1, sizeof *linkers);
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	*out = NULL;
	if (!linkers)
		return vf_oom(err);
	if (threads == 0)
		threads = processors > 0 ? (unsigned)processors : 1;
	if (threads > THREADS_MAX)
		threads = THREADS_MAX;
	init_conditions(linkers);
	linkers->wanted = threads;
	atomic_store(&linkers->asked_ns, -ASKED_NS);
	linkers->threads = calloc(threads, sizeof *linkers->threads);
	if (!linkers->threads) {
		vf_linkers_free(&linkers);
		return vf_oom(err);
	}
	*out = linkers;
	return 0;
}

void vf_linkers_free(struct vf_linkers **linkers)
{
	struct vf_linkers *l = *linkers;

	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_broadcast(&l->work);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->nthreads; i++)
		pthread_join(l->threads[i], NULL);
	pthread_cond_destroy(&l->work);
	pthread_cond_destroy(&l->left);
	pthread_mutex_destroy(&l->lock);
	free(l->threads);
	free(l);
	*linkers = NULL;
}
