/* SPDX-License-Identifier: MIT */
/* Who is writing to which name. A file that is renamed while it is written goes on under its new name; one that is removed, or replaced by
 * another, has none any more, and what is written to it is kept by nobody, as with any unlinked file. */
#include "face_internal.h"

#include <stdlib.h>

/* Names that share a lock wait for one another: few do. */
#define NAME_LOCKS 256u

struct vf_writers {
	pthread_mutex_t lock;
	struct vf_writer *first;
	pthread_rwlock_t names[NAME_LOCKS];    /* for reading by who commits to a name, for writing by who changes what it leads to; taken before lock */
};

int vf_writers_new(struct vf_writers **out, struct vf_err *err)
{
	*out = calloc(1, sizeof **out);
	if (!*out)
		return vf_oom(err);
	pthread_mutex_init(&(*out)->lock, NULL);
	for (unsigned i = 0; i < NAME_LOCKS; i++)
		pthread_rwlock_init(&(*out)->names[i], NULL);
	return 0;
}

void vf_writers_free(struct vf_writers **writers)
{
	if (*writers) {
		pthread_mutex_destroy(&(*writers)->lock);
		for (unsigned i = 0; i < NAME_LOCKS; i++)
			pthread_rwlock_destroy(&(*writers)->names[i]);
	}
	free(*writers);
	*writers = NULL;
}

static unsigned lock_of(uint64_t site_id, struct vf_span name)
{
	return (unsigned)((vf_hash_bytes(name) + site_id) % NAME_LOCKS);
}

void vf_names_lock(struct vf_face *face, const struct vf_site *site, struct vf_span a, struct vf_span b)
{
	unsigned i = lock_of(site->id, a), k = lock_of(site->id, b);

	pthread_rwlock_wrlock(&face->writers->names[i < k ? i : k]);
	if (i != k)
		pthread_rwlock_wrlock(&face->writers->names[i < k ? k : i]);
}

void vf_names_unlock(struct vf_face *face, const struct vf_site *site, struct vf_span a, struct vf_span b)
{
	unsigned i = lock_of(site->id, a), k = lock_of(site->id, b);

	pthread_rwlock_unlock(&face->writers->names[i]);
	if (i != k)
		pthread_rwlock_unlock(&face->writers->names[k]);
}

int vf_writer_list(struct vf_face *face, struct vf_writer *w, const struct vf_site *site, enum vf_row_id dir, struct vf_span name, struct vf_err *err)
{
	struct vf_writers *all = face->writers;
	int rc = vf_buf_put(&w->name, name.data, name.len, err);

	if (rc)
		return rc;
	w->site_id = site->id;
	w->dir = dir;
	pthread_mutex_lock(&all->lock);
	w->all = all;
	w->before = NULL;
	w->behind = all->first;
	if (w->behind)
		w->behind->before = w;
	all->first = w;
	pthread_mutex_unlock(&all->lock);
	return 0;
}

void vf_writer_unlist(struct vf_writer *w)
{
	struct vf_writers *all = w->all;

	if (all) {
		pthread_mutex_lock(&all->lock);
		if (w->before)
			w->before->behind = w->behind;
		else
			all->first = w->behind;
		if (w->behind)
			w->behind->before = w->before;
		pthread_mutex_unlock(&all->lock);
	}
	w->all = NULL;
	vf_buf_free(&w->name);
}

static struct vf_span name_of(struct vf_call *call, struct vf_writer *w)
{
	pthread_mutex_lock(&call->face->writers->lock);
	struct vf_span name = vf_arena_copy(&call->arena, vf_buf_span(&w->name));
	pthread_mutex_unlock(&call->face->writers->lock);
	return name;
}

int vf_writer_hold(struct vf_call *call, struct vf_writer *w, struct vf_span *name)
{
	for (;;) {
		*name = name_of(call, w);
		w->held = name->data ? &call->face->writers->names[lock_of(w->site_id, *name)] : NULL;
		if (!w->held)
			return vf_oom(&call->err);
		pthread_rwlock_rdlock(w->held);
		/* It may have got another one while we waited. */
		pthread_mutex_lock(&call->face->writers->lock);
		bool same = vf_span_equal(vf_buf_span(&w->name), *name);
		pthread_mutex_unlock(&call->face->writers->lock);
		if (same)
			return 0;
		vf_writer_release(w);
	}
}

void vf_writer_release(struct vf_writer *w)
{
	if (w->held)
		pthread_rwlock_unlock(w->held);
	w->held = NULL;
}

static bool writes_to(const struct vf_writer *w, const struct vf_site *site, enum vf_row_id dir, struct vf_span name)
{
	return w->site_id == site->id && w->dir == dir && vf_span_equal(vf_buf_span(&w->name), name);
}

/* The lock is held. Out of memory: it goes on without a name. True: there were some. */
static bool give(struct vf_writers *all, const struct vf_site *site, enum vf_row_id dir, struct vf_span from, struct vf_span to)
{
	struct vf_err err = VF_ERR_INIT;
	bool some = false;

	for (struct vf_writer *w = all->first; w; w = w->behind) {
		if (!writes_to(w, site, dir, from))
			continue;
		some = true;
		vf_buf_clear(&w->name);
		vf_buf_put(&w->name, to.data, to.len, &err);
	}
	return some;
}

static bool some_writes_to(struct vf_writers *all, const struct vf_site *site, enum vf_row_id dir, struct vf_span name)
{
	struct vf_writer *w = all->first;

	while (w && !writes_to(w, site, dir, name))
		w = w->behind;
	return w != NULL;
}

bool vf_writers_moved(struct vf_face *face, const struct vf_site *site, enum vf_row_id dir, struct vf_span from, struct vf_span to, bool there)
{
	struct vf_writers *all = face->writers;

	pthread_mutex_lock(&all->lock);
	if (to.len && (there || some_writes_to(all, site, dir, from)))
		give(all, site, dir, to, vf_span(NULL, 0));
	bool some = give(all, site, dir, from, to);
	pthread_mutex_unlock(&all->lock);
	return some;
}
