/* SPDX-License-Identifier: MIT */
/* Who is writing to which name. A file that is renamed while it is written goes on under its new name; one that is removed, or replaced by
 * another, has none any more, and what is written to it is kept by nobody, as with any unlinked file. */
#include "face_internal.h"

#include <stdlib.h>

struct vf_writers {
	pthread_mutex_t lock;
	struct vf_writer *first;
};

int vf_writers_new(struct vf_writers **out, struct vf_err *err)
{
	*out = calloc(1, sizeof **out);
	if (!*out)
		return vf_oom(err);
	pthread_mutex_init(&(*out)->lock, NULL);
	return 0;
}

void vf_writers_free(struct vf_writers **writers)
{
	if (*writers)
		pthread_mutex_destroy(&(*writers)->lock);
	free(*writers);
	*writers = NULL;
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

struct vf_span vf_writer_name(struct vf_call *call, struct vf_writer *w)
{
	pthread_mutex_lock(&call->face->writers->lock);
	struct vf_span name = vf_arena_copy(&call->arena, vf_buf_span(&w->name));
	pthread_mutex_unlock(&call->face->writers->lock);
	return name;
}

bool vf_writers_moved(struct vf_face *face, const struct vf_site *site, enum vf_row_id dir, struct vf_span from, struct vf_span to)
{
	struct vf_err err = VF_ERR_INIT;
	bool some = false;

	pthread_mutex_lock(&face->writers->lock);
	for (struct vf_writer *w = face->writers->first; w; w = w->behind) {
		if (w->site_id != site->id || w->dir != dir || !vf_span_equal(vf_buf_span(&w->name), from))
			continue;
		some = true;
		vf_buf_clear(&w->name);
		/* Out of memory: it goes on without a name. */
		vf_buf_put(&w->name, to.data, to.len, &err);
	}
	pthread_mutex_unlock(&face->writers->lock);
	return some;
}
