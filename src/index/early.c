/* SPDX-License-Identifier: MIT */
#include "early.h"

#include <stdlib.h>

#include "vecfs/thread.h"

size_t vf_early_part_bytes = (size_t)8 << 20;

/* The thread that writes parts. All but `thread` and `started` under the lock. */
struct vf_early_writer {
	struct vf_early *early;
	pthread_mutex_t lock;
	pthread_cond_t moved;              /* a part was handed over or written, or it is over */
	pthread_t thread;
	bool started, ends;
	struct vf_buf part;                /* being written, or about to be, while len is not 0; else memory for the next */
	struct vf_err failure;             /* the first; nothing is written after it */
};

/* ---- writing a part ---- */

struct part {
	const struct vf_early *early;
	const struct vf_buf *rows;
	uint64_t first;                    /* serial; of the attempt */
};

static int write_part(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	struct part *part = ctx;
	size_t bytes = part->early->bytes, nrows = part->rows->len / bytes;
	int rc = vf_early_give(txn, nrows, &part->first, err);

	for (size_t i = 0; i < nrows && rc == 0; i++) {
		void *p;
		rc = vf_reserve_u64(txn, VF_T_VECTORS, part->first + i, bytes, true, &p, err);
		if (rc == 0)
			memcpy(p, part->rows->data + i * bytes, bytes);
	}
	return rc;
}

static int note_written(struct vf_early *early, const struct part *part, struct vf_err *err)
{
	struct vf_serials *at = realloc(early->written.at, (early->written.n + 1) * sizeof *at);

	if (!at)
		return vf_oom(err);
	early->written.at = at;
	vf_early_append(&early->written, (struct vf_serials){ part->first, part->rows->len / early->bytes });
	early->nwritten += part->rows->len / early->bytes;
	return 0;
}

/* What cannot be noted is deleted when the index is next opened. */
static int commit_part(struct vf_early *early, const struct vf_buf *rows, struct vf_err *err)
{
	struct part part = { .early = early, .rows = rows };
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
		commit_part(w->early, &w->part, &err);
		pthread_mutex_lock(&w->lock);
		w->failure = err;
	}
	vf_buf_clear(&w->part);
	pthread_cond_broadcast(&w->moved);
}

static void *run(void *ctx)
{
	struct vf_early_writer *w = ctx;

	pthread_mutex_lock(&w->lock);
	while (!w->ends || w->part.len) {
		if (w->part.len)
			write_one(w);
		else
			pthread_cond_wait(&w->moved, &w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
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
	vf_buf_free(&w->part);
	free(w);
	early->writer = NULL;
}

/* Until no part is being written. */
static int wait_for_part(struct vf_early_writer *w, struct vf_err *err)
{
	pthread_mutex_lock(&w->lock);
	while (w->part.len)
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
	if (!w->started)
		w->started = vf_thread_start(&w->thread, run, w) == 0;
	if (!w->started) {
		rc = commit_part(early, &early->rows, err);
		if (rc)
			w->failure = *err;
		vf_buf_clear(&early->rows);
		return rc;
	}
	pthread_mutex_lock(&w->lock);
	struct vf_buf empty = w->part;
	w->part = early->rows;
	early->rows = empty;
	pthread_cond_broadcast(&w->moved);
	pthread_mutex_unlock(&w->lock);
	return 0;
}

/* ---- the vectors of one stream ---- */

int vf_early_add(struct vf_early *early, const float *vector, uint32_t dim, struct vf_err *err)
{
	int rc = early->rows.len >= vf_early_part_bytes ? hand_over(early, err) : 0;

	/* Once, since the thread reads it. */
	if (early->n == 0)
		early->bytes = dim * sizeof *vector;
	if (rc || (rc = vf_buf_put(&early->rows, vector, early->bytes, err)))
		return rc;
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
	return (const float *)(const void *)(early->rows.data + (number - early->nwritten) * early->bytes);
}

uint64_t vf_early_held(const struct vf_early *early)
{
	return early->writer ? 2 * vf_early_part_bytes : early->rows.len;
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
	vf_buf_free(&early->rows);
	*early = (struct vf_early){ .index = early->index };
}
