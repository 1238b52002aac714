/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "vecfs/spread.h"
#include "vecfs/thread.h"

/* A thread costs some 20 us to start, a question some 30: fewer than these are not worth one. */
#define TASKS_WORTH_THREADS 8u

struct spread {
	size_t tasks;
	int (*task)(void *ctx, size_t i, unsigned worker, struct vf_err *err);
	void *ctx;
	atomic_size_t next;
	atomic_bool failed;
};

struct worker {
	struct spread *spread;
	unsigned number;
	int rc;
	struct vf_err err;
	pthread_t thread;
	bool started;
};

unsigned vf_spread_width(size_t tasks)
{
	long processors = tasks < TASKS_WORTH_THREADS ? 1 : sysconf(_SC_NPROCESSORS_ONLN);

	if (processors < 1)
		return 1;
	if ((size_t)processors > tasks / (TASKS_WORTH_THREADS / 2))
		processors = (long)(tasks / (TASKS_WORTH_THREADS / 2));
	return processors < 1 ? 1 : processors > (long)VF_SPREAD_MAX ? VF_SPREAD_MAX : (unsigned)processors;
}

static void *work(void *arg)
{
	struct worker *self = arg;
	struct spread *spread = self->spread;

	while (!atomic_load_explicit(&spread->failed, memory_order_relaxed)) {
		size_t i = atomic_fetch_add(&spread->next, 1);
		if (i >= spread->tasks)
			break;
		self->rc = spread->task(spread->ctx, i, self->number, &self->err);
		if (self->rc) {
			atomic_store(&spread->failed, true);
			break;
		}
	}
	return NULL;
}

static int run_alone(size_t tasks, int (*task)(void *, size_t, unsigned, struct vf_err *), void *ctx, struct vf_err *err)
{
	for (size_t i = 0; i < tasks; i++) {
		int rc = task(ctx, i, 0, err);
		if (rc)
			return rc;
	}
	return 0;
}

int vf_spread(unsigned width, size_t tasks, int (*task)(void *ctx, size_t i, unsigned worker, struct vf_err *err), void *ctx,
              struct vf_err *err)
{
	struct spread spread = { .tasks = tasks, .task = task, .ctx = ctx };
	struct worker workers[VF_SPREAD_MAX];

	if (width <= 1)
		return run_alone(tasks, task, ctx, err);
	for (unsigned i = 0; i < width; i++)
		workers[i] = (struct worker){ .spread = &spread, .number = i };
	/* A thread that cannot be had is no failure: the others take its share. */
	for (unsigned i = 1; i < width; i++)
		workers[i].started = vf_thread_start(&workers[i].thread, work, &workers[i]) == 0;
	work(&workers[0]);
	int rc = 0;
	for (unsigned i = 0; i < width; i++) {
		if (workers[i].started)
			pthread_join(workers[i].thread, NULL);
		if (workers[i].rc && !rc) {
			rc = workers[i].rc;
			*err = workers[i].err;
		}
	}
	return rc;
}
