/* SPDX-License-Identifier: MIT */
#include "early.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

size_t vf_early_part_bytes = (size_t)8 << 20;

/* The thread that writes parts. All but `thread` and `started` under the lock. */
struct vf_early_writer {
	struct vf_early *early;
	pthread_mutex_t lock;
	pthread_cond_t moved;              /* a part was handed over or written, or it is over */
	pthread_t thread;
	bool started, ends;
	uint8_t *part;                     /* being written, or about to be; NULL: none */
	size_t nrows;
	uint8_t *spare;                    /* memory of the part before, for the next */
	struct vf_err failure;             /* the first; nothing is written after it */
};

/* ---- writing a part ---- */

struct part {
	const struct vf_early *early;
	const uint8_t *rows;
	size_t nrows;
	uint64_t first;                    /* serial; of the attempt */
};

static int write_rows(struct part *part, struct vf_txn *txn, struct vf_err *err)
{
	for (size_t i = 0; i < part->nrows; i++) {
		void *p;
		int rc = vf_reserve_u64(txn, VF_T_VECTORS, part->first + i, part->early->bytes, true, &p, err);
		if (rc)
			return rc;
		memcpy(p, part->rows + i * part->early->stride, part->early->bytes);
	}
	return 0;
}

static int write_part(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	struct part *part = ctx;
	struct vf_counters counters;
	struct vf_early_rows rows;
	int rc = vf_counters_get(txn, &counters, err);

	if (rc || (rc = vf_early_load_for(txn, &counters, 1, &rows, err)))
		return rc;
	part->first = counters.next_serial;
	vf_early_append(&rows, (struct vf_serials){ part->first, part->nrows });
	counters.next_serial += part->nrows;
	counters.early += part->nrows;
	if ((rc = write_rows(part, txn, err)) == 0 && (rc = vf_early_store(txn, &rows, err)) == 0)
		rc = vf_counters_put(txn, &counters, err);
	free(rows.at);
	return rc;
}

static int note_written(struct vf_early *early, const struct part *part, struct vf_err *err)
{
	struct vf_serials *at = realloc(early->written.at, (early->written.n + 1) * sizeof *at);

	if (!at)
		return vf_oom(err);
	early->written.at = at;
	vf_early_append(&early->written, (struct vf_serials){ part->first, part->nrows });
	early->nwritten += part->nrows;
	return 0;
}

/* What cannot be noted is deleted when the index is next opened. */
static int commit_part(struct vf_early *early, const uint8_t *rows, size_t nrows, struct vf_err *err)
{
	struct part part = { .early = early, .rows = rows, .nrows = nrows };
	struct vf_job job = { .write = write_part, .ctx = &part, .followed = true };
	int rc;

	if ((rc = vf_index_check_there(early->index, err)) || (rc = vf_index_commit(early->index, &job, err)))
		return rc;
	return note_written(early, &part, err);
}

/* ---- the thread ---- */

static void write_one(struct vf_early_writer *w)
{
	struct vf_err err = VF_ERR_INIT;

	if (w->failure.code == 0) {
		pthread_mutex_unlock(&w->lock);
		commit_part(w->early, w->part, w->nrows, &err);
		pthread_mutex_lock(&w->lock);
		w->failure = err;
	}
	w->spare = w->part;
	w->part = NULL;
	pthread_cond_broadcast(&w->moved);
}

static void *run(void *ctx)
{
	struct vf_early_writer *w = ctx;

	pthread_mutex_lock(&w->lock);
	while (!w->ends || w->part) {
		if (w->part)
			write_one(w);
		else
			pthread_cond_wait(&w->moved, &w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static bool start_thread(struct vf_early_writer *w)
{
	sigset_t all, before;

	/* Signals are for the thread that waits for them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	w->started = pthread_create(&w->thread, NULL, run, w) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return w->started;
}

static void end_thread(struct vf_early_writer *w)
{
	if (!w->started)
		return;
	pthread_mutex_lock(&w->lock);
	w->ends = true;
	pthread_cond_broadcast(&w->moved);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	w->started = false;
}

static int writer_new(struct vf_early *early, struct vf_err *err)
{
	struct vf_early_writer *w = calloc(1, sizeof *w);

	if (!w)
		return vf_oom(err);
	w->early = early;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->moved, NULL);
	early->writer = w;
	return 0;
}

static void writer_free(struct vf_early *early)
{
	struct vf_early_writer *w = early->writer;

	if (!w)
		return;
	end_thread(w);
	pthread_cond_destroy(&w->moved);
	pthread_mutex_destroy(&w->lock);
	free(w->spare);
	free(w);
	early->writer = NULL;
}

/* Until no part is being written. */
static int wait_for_part(struct vf_early_writer *w, struct vf_err *err)
{
	pthread_mutex_lock(&w->lock);
	while (w->part)
		pthread_cond_wait(&w->moved, &w->lock);
	int rc = -w->failure.code;
	if (rc)
		*err = w->failure;
	pthread_mutex_unlock(&w->lock);
	return rc;
}

/* Without a thread the caller writes. */
static int hand_over(struct vf_early *early, struct vf_err *err)
{
	int rc = early->writer ? 0 : writer_new(early, err);

	if (rc || (rc = wait_for_part(early->writer, err)))
		return rc;
	struct vf_early_writer *w = early->writer;
	if (!w->started && !start_thread(w)) {
		rc = commit_part(early, early->rows, early->nrows, err);
		early->nrows = 0;
		return rc;
	}
	pthread_mutex_lock(&w->lock);
	w->part = early->rows;
	w->nrows = early->nrows;
	early->rows = w->spare;
	early->nrows = 0;
	early->cap = w->spare ? early->cap : 0;
	w->spare = NULL;
	pthread_cond_broadcast(&w->moved);
	pthread_mutex_unlock(&w->lock);
	return 0;
}

/* ---- the vectors of one stream ---- */

/* Twice as much each time, up to a part. */
static int make_room(struct vf_early *early, struct vf_err *err)
{
	size_t most = vf_early_part_bytes / early->stride + 1, cap = early->writer ? most : 2 * early->cap + 1;

	if (cap > most)
		cap = most;
	uint8_t *rows = realloc(early->rows, cap * early->stride);
	if (!rows)
		return vf_oom(err);
	early->rows = rows;
	early->cap = cap;
	return 0;
}

int vf_early_add(struct vf_early *early, const float *vector, uint32_t dim, struct vf_err *err)
{
	int rc = 0;

	if (early->n == 0) {
		early->bytes = dim * sizeof(float);
		early->stride = (early->bytes + 15) & ~(size_t)15;
	}
	if (early->nrows * early->stride >= vf_early_part_bytes && (rc = hand_over(early, err)))
		return rc;
	if (early->nrows == early->cap && (rc = make_room(early, err)))
		return rc;
	memcpy(early->rows + early->nrows++ * early->stride, vector, early->bytes);
	early->n++;
	return 0;
}

int vf_early_finish(struct vf_early *early, struct vf_err *err)
{
	return early->writer ? wait_for_part(early->writer, err) : 0;
}

uint64_t vf_early_serial(const struct vf_early *early, uint64_t number)
{
	for (size_t i = 0; i < early->written.n; i++) {
		const struct vf_serials *s = &early->written.at[i];
		if (number < s->n)
			return s->first + number;
		number -= s->n;
	}
	return 0;
}

const float *vf_early_vector(const struct vf_early *early, uint64_t number)
{
	return (const float *)(const void *)(early->rows + (number - early->nwritten) * early->stride);
}

uint64_t vf_early_held(const struct vf_early *early)
{
	return early->cap * early->stride + (early->writer ? vf_early_part_bytes : 0);
}

/* ---- the end of it ---- */

int vf_early_settle(const struct vf_early *early, struct vf_txn *txn, struct vf_counters *counters, struct vf_err *err)
{
	return early->written.n ? vf_early_settle_rows(&early->written, txn, counters, err) : 0;
}

void vf_early_reset(struct vf_early *early, bool settled)
{
	struct vf_err err = VF_ERR_INIT;

	writer_free(early);
	if (!settled && !atomic_load(&early->index->removed) && vf_early_discard(early->index, &early->written, &err))
		vf_index_warn(early->index, "the vectors of a stream that came to nothing stay on disk until it is opened again: %s", err.text);
	free(early->written.at);
	free(early->rows);
	*early = (struct vf_early){ .index = early->index };
}
