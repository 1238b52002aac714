/* SPDX-License-Identifier: MIT */
/* Records that are deleted in a row. A removal is on disk when unlink(2) returns, which takes a sync; rm -r of an index would take one for each of its
 * files. So whoever deletes one file after the other and does nothing else to the index is answered at once, from the 64th file on, and
 * the removals go to disk together, a moment later.
 *
 * Until then they wait here. Only looking up and deleting names in vectors/ can come between, and these know; anything else that is asked of the index
 * has them carried out first. If that fails (a full disk) the records are there again, and the log says why. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <syslog.h>
#include <time.h>

#include "vecfs/clock.h"
#include "vecfs/log.h"
#include "vecfs/thread.h"

#define ROW_MIN 64u                /* removals of a row that are carried out at once */
#define ROW_GAP_NS 100000000       /* between two of a row */
#define WAIT_NS 50000000
#define WAITING_MAX 512u

struct waiting { uint64_t hash; struct vf_span key; };

struct vf_removals {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;              /* carries out what has waited long enough */
	bool started, over;
	/* the row */
	_Atomic(struct vf_site *) row; /* NULL: none. Compared, not followed */
	pid_t pid;
	unsigned length;
	int64_t last_ns;
	/* what waits */
	_Atomic(struct vf_site *) site; /* NULL: nothing */
	struct vf_index *index;
	struct vf_batch *batch;
	struct vf_arena arena;         /* of the keys */
	struct waiting waiting[WAITING_MAX];
	unsigned n;
	int64_t since_ns;
};

int vf_removals_new(struct vf_removals **out, struct vf_err *err)
{
	struct vf_removals *r = calloc(1, sizeof *r);
	pthread_condattr_t attr;

	if (!r)
		return vf_oom(err);
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->wake, &attr);
	pthread_condattr_destroy(&attr);
	r->arena = (struct vf_arena)VF_ARENA_INIT;
	*out = r;
	return 0;
}

/* ---- carrying them out; the lock is held by those below ---- */

/* On a full disk a few rows find room where many do not. */
static int apply_each(struct vf_removals *r, struct vf_err *err)
{
	struct vf_receipt receipt;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < r->n; i++)
		if ((rc = vf_batch_remove(r->batch, r->waiting[i].key, err)) == 0)
			rc = vf_batch_apply(r->batch, &receipt, err);
	return rc;
}

static void carry_out(struct vf_face *face)
{
	struct vf_removals *r = face->removals;
	struct vf_receipt receipt;
	struct vf_err err = VF_ERR_INIT;

	if (!r->site)
		return;
	int rc = vf_batch_apply(r->batch, &receipt, &err);
	if (rc == -ENOSPC)
		rc = apply_each(r, &err);
	if (rc) {
		vf_log(LOG_ERR, "of %u records that were deleted some are there again: %s", r->n, err.text);
		r->row = NULL;
	}
	vf_batch_free(&r->batch);
	vf_site_changed(face, r->site, r->index);
	vf_catalog_release(face->catalog, r->index);
	vf_site_put(face, r->site);
	vf_arena_free(&r->arena);
	r->site = NULL;
	r->n = 0;
}

static void *run(void *arg)
{
	struct vf_face *face = arg;
	struct vf_removals *r = face->removals;

	pthread_mutex_lock(&r->lock);
	while (!r->over) {
		int64_t due = r->since_ns + WAIT_NS;
		struct timespec at = { .tv_sec = due / 1000000000, .tv_nsec = due % 1000000000 };
		if (!r->site)
			pthread_cond_wait(&r->wake, &r->lock);
		else if (vf_clock_mono_ns() < due)
			pthread_cond_timedwait(&r->wake, &r->lock, &at);
		else
			carry_out(face);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* NULL, or what is not below an index: all of them. */
static bool are_all(const struct vf_site *site)
{
	return !site || !site->is_index;
}

bool vf_removals_wait(struct vf_face *face, struct vf_site *site, bool ends_row)
{
	struct vf_removals *r = face->removals;
	bool all = are_all(site);

	return (r->site && (all || r->site == site)) || (ends_row && r->row && (all || r->row == site));
}

void vf_removals_settle(struct vf_face *face, struct vf_site *site, bool ends_row)
{
	struct vf_removals *r = face->removals;
	bool all = are_all(site);

	if (!vf_removals_wait(face, site, ends_row))
		return;
	pthread_mutex_lock(&r->lock);
	if (all || r->site == site)
		carry_out(face);
	if (ends_row && (all || r->row == site))
		r->row = NULL;
	pthread_mutex_unlock(&r->lock);
}

void vf_removals_free(struct vf_face *face)
{
	struct vf_removals *r = face->removals;

	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	carry_out(face);
	r->over = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	if (r->started)
		pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
	face->removals = NULL;
}

/* ---- a removal more ---- */

static bool is_waiting(const struct vf_removals *r, const struct vf_site *site, struct vf_span key)
{
	uint64_t hash = vf_hash_bytes(key);

	if (r->site != site)
		return false;
	for (unsigned i = 0; i < r->n; i++)
		if (r->waiting[i].hash == hash && vf_span_equal(r->waiting[i].key, key))
			return true;
	return false;
}

bool vf_removals_has(struct vf_face *face, struct vf_site *site, struct vf_span key)
{
	struct vf_removals *r = face->removals;

	if (r->site != site)
		return false;
	pthread_mutex_lock(&r->lock);
	bool has = is_waiting(r, site, key);
	pthread_mutex_unlock(&r->lock);
	return has;
}

/* Whether this removal is one of a row that has become long. */
static bool is_in_row(struct vf_removals *r, const struct vf_call *call, struct vf_site *site)
{
	int64_t now = vf_clock_mono_ns();

	if (r->row != site || r->pid != call->pid || now - r->last_ns > ROW_GAP_NS)
		r->length = 0;
	r->row = site;
	r->pid = call->pid;
	r->last_ns = now;
	return ++r->length > ROW_MIN;
}

static int begin(struct vf_call *call, struct vf_site *site)
{
	struct vf_removals *r = call->face->removals;

	if (!r->started)
		r->started = vf_thread_start(&r->thread, run, call->face) == 0;
	if (!r->started)
		return 1;
	int rc = vf_site_hold(call, site, &r->index);
	if (rc)
		return rc;
	rc = vf_batch_new(r->index, &r->batch, &call->err);
	if (rc) {
		vf_catalog_release(call->face->catalog, r->index);
		return rc;
	}
	r->site = vf_site_use(call->face, site);
	r->since_ns = vf_clock_mono_ns();
	pthread_cond_signal(&r->wake);
	return 0;
}

static int add(struct vf_call *call, struct vf_site *site, struct vf_span key)
{
	struct vf_removals *r = call->face->removals;
	int rc;

	if (r->site && r->site != site)
		carry_out(call->face);
	if (!r->site && (rc = begin(call, site)))
		return rc;
	struct vf_span copy = vf_arena_copy(&r->arena, key);
	if (!copy.data)
		return vf_oom(&call->err);
	if ((rc = vf_batch_remove(r->batch, key, &call->err)))
		return rc;
	r->waiting[r->n++] = (struct waiting){ vf_hash_bytes(key), copy };
	if (r->n == WAITING_MAX)
		carry_out(call->face);
	return 0;
}

int vf_removals_take(struct vf_call *call, struct vf_site *site, struct vf_span key)
{
	struct vf_removals *r = call->face->removals;
	struct vf_record_stat stat;
	int rc;

	pthread_mutex_lock(&r->lock);
	if (is_waiting(r, site, key))
		rc = -ENOENT;
	else if (!is_in_row(r, call, site))
		rc = 1;
	else if ((rc = vf_index_stat(call->index, key, &stat, &call->err)) == 0)
		rc = add(call, site, key);
	else if (rc == -ENOENT)
		rc = 1;
	pthread_mutex_unlock(&r->lock);
	return rc;
}
