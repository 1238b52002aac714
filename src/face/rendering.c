/* SPDX-License-Identifier: MIT */
/* Renderings: what a computed file holds, made when its name is looked up, so that its size is exact.
 *
 * The kernel looks a name up for stat and for open, and may remember the node for long; so it is not the node that keeps a rendering, but its
 * readers, and without any the cache for a few seconds: up to a number and a size, the newest in any case. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "vecfs/clock.h"

#define IDLE_MAX 64u
#define IDLE_BYTES_MAX (64u << 20)
#define IDLE_NS 10000000000

struct vf_renderings {
	pthread_mutex_t lock;
	pthread_cond_t finished;
	struct vf_rendering *first;      /* most recently used first */
};

int vf_renderings_new(struct vf_renderings **out, struct vf_err *err)
{
	struct vf_renderings *all = calloc(1, sizeof *all);

	if (!all)
		return vf_oom(err);
	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->finished, NULL);
	*out = all;
	return 0;
}

struct vf_rendering *vf_rendering_new(struct vf_face *face)
{
	struct vf_rendering *rendering = calloc(1, sizeof *rendering);

	if (rendering) {
		rendering->users = 1;
		vf_spool_init(&rendering->spool, vf_catalog_path(face->catalog));
	}
	return rendering;
}

void vf_rendering_put(struct vf_rendering *rendering)
{
	if (atomic_fetch_sub(&rendering->users, 1) != 1)
		return;
	vf_spool_free(&rendering->spool);
	free((void *)rendering->name.data);
	free(rendering);
}

void vf_renderings_free(struct vf_renderings **renderings)
{
	struct vf_renderings *all = *renderings;

	if (!all)
		return;
	while (all->first) {
		struct vf_rendering *next = all->first->next;
		vf_rendering_put(all->first);
		all->first = next;
	}
	pthread_cond_destroy(&all->finished);
	pthread_mutex_destroy(&all->lock);
	free(all);
	*renderings = NULL;
}

/* ---- the cache; its lock is held ---- */

static struct vf_rendering **find(struct vf_renderings *all, const struct vf_row *row, uint64_t site_id, struct vf_span name, uint64_t version)
{
	struct vf_rendering **at = &all->first;

	while (*at && ((*at)->row != row || (*at)->site_id != site_id || (*at)->version != version || !vf_span_equal((*at)->name, name)))
		at = &(*at)->next;
	return at;
}

static void drop(struct vf_rendering **at)
{
	struct vf_rendering *rendering = *at;

	*at = rendering->next;
	rendering->next = NULL;
	rendering->cached = false;
	vf_rendering_put(rendering);
}

static void drop_idle(struct vf_renderings *all)
{
	int64_t now = vf_clock_mono_ns();
	uint64_t bytes = 0;
	unsigned idle = 0;

	for (struct vf_rendering **at = &all->first; *at;) {
		struct vf_rendering *r = *at;
		if (!r->finished || r->users > 1) {
			at = &r->next;
			continue;
		}
		bytes += vf_spool_size(&r->spool);
		if (now - r->used_ns > IDLE_NS || (idle && (idle >= IDLE_MAX || bytes > IDLE_BYTES_MAX))) {
			drop(at);
		} else {
			idle++;
			at = &r->next;
		}
	}
}

static void to_front(struct vf_renderings *all, struct vf_rendering **at)
{
	struct vf_rendering *rendering = *at;

	*at = rendering->next;
	rendering->next = all->first;
	all->first = rendering;
	rendering->used_ns = vf_clock_mono_ns();
}

/* Into the cache, which becomes a user of it. */
static int enter(struct vf_renderings *all, struct vf_rendering *r, const struct vf_row *row, uint64_t site_id, struct vf_span name, uint64_t version)
{
	uint8_t *copy = malloc(name.len + 1);

	if (!copy)
		return -ENOMEM;
	if (name.len)
		memcpy(copy, name.data, name.len);
	copy[name.len] = '\0';
	r->row = row;
	r->site_id = site_id;
	r->name = vf_span(copy, name.len);
	r->version = version;
	r->users++;
	r->cached = true;
	r->used_ns = vf_clock_mono_ns();
	r->next = all->first;
	all->first = r;
	return 0;
}

static struct vf_rendering *begin(struct vf_call *call, const struct vf_row *row, uint64_t site_id, struct vf_span name, uint64_t version)
{
	struct vf_rendering *r = vf_rendering_new(call->face);

	if (r && enter(call->face->renderings, r, row, site_id, name, version)) {
		vf_rendering_put(r);
		return NULL;
	}
	return r;
}

static void finish(struct vf_renderings *all, struct vf_rendering *r, bool keep)
{
	pthread_mutex_lock(&all->lock);
	r->finished = true;
	r->used_ns = vf_clock_mono_ns();
	struct vf_rendering **at = &all->first;
	while (*at && *at != r)
		at = &(*at)->next;
	if (!keep && *at)
		drop(at);
	drop_idle(all);
	pthread_cond_broadcast(&all->finished);
	pthread_mutex_unlock(&all->lock);
}

/* The one of that version, finished or being made by another thread; NULL: none. Outdated ones go as idle ones do. */
static struct vf_rendering *look(struct vf_renderings *all, const struct vf_row *row, uint64_t site_id, struct vf_span name, uint64_t version)
{
	struct vf_rendering **at = find(all, row, site_id, name, version), *r = *at;

	if (!r)
		return NULL;
	r->users++;
	to_front(all, at);
	while (!r->finished)
		pthread_cond_wait(&all->finished, &all->lock);
	return r;
}

static int render(struct vf_call *call, const struct vf_row *row, struct vf_site *site, struct vf_span name, struct vf_rendering *r)
{
	struct vf_err err = VF_ERR_INIT, outer = call->err;

	call->err = err;
	r->rc = row->file->render(call, site, name, &r->spool);
	if (r->rc == 0)
		r->rc = vf_spool_finish(&r->spool, &call->err);
	if (r->rc) {
		vf_spool_clear(&r->spool);
		r->err = call->err;
	}
	call->err = outer;
	return r->rc;
}

/* Bad content is a fact about the file: it has a size (0) and fails when opened. All else is a failure of this call. */
static int settle(struct vf_call *call, struct vf_rendering *r, struct vf_rendering **out)
{
	if (r->rc == 0 || r->rc == -EINVAL || r->rc == -EFBIG || r->rc == -ENOENT) {
		*out = r;
		return 0;
	}
	int rc = r->rc;
	call->err = r->err;
	vf_rendering_put(r);
	return rc;
}

int vf_rendering_get(struct vf_call *call, const struct vf_row *row, struct vf_site *site, struct vf_span name, uint64_t version,
                     struct vf_rendering **out)
{
	struct vf_renderings *all = call->face->renderings;
	uint64_t site_id = site ? site->id : 0;

	pthread_mutex_lock(&all->lock);
	struct vf_rendering *r = look(all, row, site_id, name, version);
	bool mine = !r && (r = begin(call, row, site_id, name, version));
	pthread_mutex_unlock(&all->lock);
	if (!r)
		return vf_oom(&call->err);
	if (mine) {
		render(call, row, site, name, r);
		finish(all, r, r->rc == 0 || r->rc == -EINVAL || r->rc == -ENOENT);
	}
	return settle(call, r, out);
}

int vf_rendering_make(struct vf_call *call, const struct vf_row *row, struct vf_site *site, struct vf_span name, uint64_t *version,
                      struct vf_rendering **out)
{
	struct vf_renderings *all = call->face->renderings;
	struct vf_rendering *r = vf_rendering_new(call->face);
	uint64_t site_id = site ? site->id : 0;

	if (!r)
		return vf_oom(&call->err);
	r->finished = true;
	render(call, row, site, name, r);
	int rc = settle(call, r, &r);
	if (rc)
		return rc;
	*version = r->spool.fd < 0 ? vf_hash_bytes(vf_buf_span(&r->spool.buf)) : vf_spool_size(&r->spool);
	pthread_mutex_lock(&all->lock);
	struct vf_rendering **at = find(all, row, site_id, name, *version), *known = *at;
	if (known && known->finished) {
		known->users++;
		to_front(all, at);
	} else if (known) {
		known = NULL;   /* being made by an open that found none: this one is as good */
	} else if (enter(all, r, row, site_id, name, *version)) {
		rc = vf_oom(&call->err);
	}
	drop_idle(all);
	pthread_mutex_unlock(&all->lock);
	if (known || rc)
		vf_rendering_put(r);
	*out = known ? known : r;
	return rc;
}

void vf_renderings_tidy(struct vf_renderings *all)
{
	pthread_mutex_lock(&all->lock);
	drop_idle(all);
	pthread_mutex_unlock(&all->lock);
}
