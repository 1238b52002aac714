/* SPDX-License-Identifier: MIT */
/* A file that is being written: its new bytes are staged apart, and those that are there stay until all of the new ones are taken. */
#include "face_internal.h"

#include <errno.h>
#include <fcntl.h>

/* Who has no name any more when it is opened (by way of another descriptor) does not get one. */
static int list(struct vf_call *call, struct vf_shadow *shadow, enum vf_row_id dir)
{
	struct vf_node *node = shadow->handle.node;
	struct vf_span name = vf_node_state(call->face, node).unlinked ? vf_span(NULL, 0) : node->name;

	return dir == VF_ROWS ? 0 : vf_writer_list(call->face, &shadow->name, node->site, dir, name, &call->err);
}

int vf_shadow_open(struct vf_call *call, struct vf_node *node, int flags, const struct vf_shadow_kind *kind, void *out)
{
	struct vf_shadow *s;
	int rc = vf_handle_new(call, node, flags, kind->size, kind->ops, &s);

	if (rc)
		return rc;
	s->kind = kind;
	s->handle.direct = true;
	s->loaded = (flags & O_TRUNC) || vf_node_state(call->face, node).pending;
	vf_stage_init(&s->stage, call->face->budget, call->uid, kind->bytes_max);
	if ((rc = vf_handle_join(call, &s->handle)) || (rc = list(call, s, kind->dir))) {
		vf_shadow_free(call, s);
		return rc;
	}
	if (flags & O_TRUNC)
		vf_node_staged(call->face, node, 0, false);
	memcpy(out, &s, sizeof s);
	return 0;
}

int vf_shadow_create(struct vf_call *call, struct vf_found *found, int flags, vf_shadow_open_fn *open, struct vf_node **node, struct vf_handle **handle)
{
	bool created = found->pending;

	if (!created && (flags & O_EXCL)) {
		vf_found_drop(call->face, found);
		return -EEXIST;
	}
	if (created) {
		found->pending = false;
		found->ino = vf_ino_hash(found->row, found->site, found->name);
	}
	int rc = vf_node_settle(call, found, node);
	if (rc)
		return rc;
	if (created)
		vf_node_is_pending(call->face, *node);
	rc = open(call, *node, flags, handle);
	if (rc)
		vf_node_forget(call->face, *node, 1);
	return rc;
}

void vf_shadow_free(struct vf_call *call, struct vf_shadow *shadow)
{
	vf_writer_unlist(&shadow->name);
	vf_stage_free(&shadow->stage);
	vf_handle_free(call, &shadow->handle);
}

int vf_shadow_load(struct vf_call *call, struct vf_shadow *shadow)
{
	struct vf_buf old = VF_BUF_INIT;

	if (shadow->loaded)
		return 0;
	int rc = shadow->kind->load(call, shadow, &old);
	if (rc == 0)
		rc = vf_stage_write(&shadow->stage, vf_buf_span(&old), 0, &call->err);
	else if (rc == -ENOENT)
		rc = 0;
	vf_buf_free(&old);
	shadow->loaded = rc == 0;
	return rc;
}

void vf_shadow_read(struct vf_call *call, struct vf_handle *handle, size_t size, uint64_t offset)
{
	struct vf_shadow *s = (struct vf_shadow *)handle;
	int rc = vf_shadow_load(call, s);

	if (rc)
		fuse_reply_err(call->req, vf_call_failed(call, handle->node, NULL, rc));
	else
		vf_call_part(call, vf_stage_span(&s->stage), offset, size);
}

int vf_shadow_say_again(struct vf_call *call, const struct vf_shadow *shadow)
{
	call->err = shadow->failed;
	call->logged = true;
	return -shadow->failed.code;
}
