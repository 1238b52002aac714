/* SPDX-License-Identifier: MIT */
/* Files that are staged and taken as a whole when they are closed or synced by whoever opened them: config and saved questions. */
#include "face_internal.h"

#include <errno.h>
#include <fcntl.h>

static void changed(struct vf_call *call, struct vf_whole *w, uint64_t offset)
{
	struct vf_shadow *s = &w->shadow;

	if (offset < w->lowest)
		w->lowest = offset;
	s->dirty = true;
	w->emptied = false;
	if (!w->spoiled)
		s->failed.code = 0;
	vf_node_staged(call->face, s->handle.node, s->stage.bytes.len, true);
}

/* Until it is cut to nothing, or for good: nothing of it is taken, and later writes, fsync and close say so. */
static void spoil(struct vf_call *call, struct vf_whole *w)
{
	w->spoiled = true;
	w->shadow.failed = call->err;
	w->emptied = false;
}

static int load(struct vf_call *call, struct vf_whole *w)
{
	if (w->shadow.loaded)
		return 0;
	int rc = vf_shadow_load(call, &w->shadow);
	w->base = w->shadow.stage.bytes.len;
	return rc;
}

static int write_whole(struct vf_call *call, struct vf_handle *handle, struct vf_span data, uint64_t offset)
{
	struct vf_whole *w = (struct vf_whole *)handle;
	struct vf_stage *stage = &w->shadow.stage;
	int rc = w->spoiled ? vf_shadow_say_again(call, &w->shadow) : load(call, w);

	if (rc)
		return rc;
	if (handle->flags & O_APPEND)
		offset = stage->bytes.len;
	w->scattered |= offset != stage->bytes.len;
	rc = vf_stage_write(stage, data, offset, &call->err);
	if (rc == 0) {
		changed(call, w, offset);
		if (w->kind->check && !w->scattered)
			rc = w->kind->check(call, w);
	}
	if (rc)
		spoil(call, w);
	return rc;
}

static int truncate_whole(struct vf_call *call, struct vf_handle *handle, uint64_t size)
{
	struct vf_whole *w = (struct vf_whole *)handle;
	int rc = 0;

	if (size == 0) {
		w->shadow.loaded = true;
		w->spoiled = w->scattered = false;
		w->base = 0;
	} else {
		rc = load(call, w);
	}
	if (rc == 0)
		rc = vf_stage_cut(&w->shadow.stage, size, &call->err);
	if (rc == 0)
		changed(call, w, size);
	return rc;
}

static int take(struct vf_call *call, struct vf_whole *w)
{
	int rc = w->kind->commit(call, w);

	if (rc) {
		w->shadow.failed = call->err;
		return rc;
	}
	w->shadow.dirty = w->emptied = false;
	/* What follows is new; what was taken stays in force. */
	w->base = w->shadow.stage.bytes.len;
	w->lowest = UINT64_MAX;
	return 0;
}

static int flush_whole(struct vf_call *call, struct vf_handle *handle)
{
	struct vf_whole *w = (struct vf_whole *)handle;

	vf_handle_seen(call, handle);
	if (w->shadow.failed.code)
		return vf_shadow_say_again(call, &w->shadow);
	if ((!w->shadow.dirty && !w->emptied) || !vf_handle_flush_is_final(call, handle))
		return 0;
	return take(call, w);
}

static void read_whole(struct vf_call *call, struct vf_handle *handle, size_t size, uint64_t offset)
{
	/* What fails here fails there too, and is said there. */
	(void)load(call, (struct vf_whole *)handle);
	vf_shadow_read(call, handle, size, offset);
}

static void release_whole(struct vf_call *call, struct vf_handle *handle)
{
	struct vf_whole *w = (struct vf_whole *)handle;

	/* The second: no close was taken for the last one. */
	bool left = w->emptied || (w->shadow.dirty && !w->shadow.failed.code && call->req);
	if (left && take(call, w))
		vf_call_failed(call, handle->node, NULL, -call->err.code);
	vf_shadow_free(call, &w->shadow);
}

const struct vf_handle_ops vf_whole_ops = {
	.read = read_whole, .write = write_whole, .flush = flush_whole, .truncate = truncate_whole, .release = release_whole,
};

struct vf_span vf_whole_news(const struct vf_whole *w)
{
	struct vf_span text = vf_stage_span(&w->shadow.stage);

	return w->lowest >= w->base && w->base <= text.len ? vf_span(text.data + w->base, text.len - w->base) : text;
}

int vf_whole_open(struct vf_call *call, struct vf_node *node, int flags, const struct vf_whole_kind *kind, struct vf_whole **out)
{
	int rc = vf_shadow_open(call, node, flags, &kind->shadow, out);

	if (rc)
		return rc;
	(*out)->kind = kind;
	(*out)->lowest = UINT64_MAX;
	return 0;
}
