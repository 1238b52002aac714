/* SPDX-License-Identifier: MIT */
/* One request of the kernel: who asks, the index it holds meanwhile, how it fails. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>

void vf_call_begin(struct vf_call *call, fuse_req_t req, const char *op)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	call->face = fuse_req_userdata(req);
	call->req = req;
	call->op = op;
	call->uid = ctx->uid;
	call->gid = ctx->gid;
	call->pid = ctx->pid;
	call->lock_owner = 0;
	call->fsync = call->logged = false;
	call->index = NULL;
	call->arena = (struct vf_arena)VF_ARENA_INIT;
	call->err.code = 0;
	call->err.unit = VF_PLACE_NONE;
	call->err.text[0] = '\0';
}

void vf_call_end(struct vf_call *call)
{
	if (call->index)
		vf_catalog_release(call->face->catalog, call->index);
	vf_arena_free(&call->arena);
}

int vf_call_hold(struct vf_call *call, struct vf_site *site)
{
	return call->index ? 0 : vf_site_hold(call, site, &call->index);
}

int vf_call_key(struct vf_call *call, struct vf_span escaped, struct vf_span *key)
{
	struct vf_buf buf = VF_BUF_INIT;
	int rc = vf_key_unescape(escaped, &buf, &call->err);

	if (rc == 0) {
		*key = vf_arena_copy(&call->arena, vf_buf_span(&buf));
		if (!key->data)
			rc = vf_oom(&call->err);
	}
	vf_buf_free(&buf);
	return rc;
}

int vf_call_failed(struct vf_call *call, struct vf_node *node, const char *child, int rc)
{
	char path[VF_NAMES_PATH_MAX];

	vf_metrics_count(call->face->metrics, call->op, true);
	if (call->err.text[0] == '\0' || call->err.code != -rc || call->logged)
		return -rc;
	vf_node_path(call->face, node, child, path, sizeof path);
	vf_ring_add(call, node, path);
	return -rc;
}

void vf_call_data(struct vf_call *call, const void *data, size_t len)
{
	fuse_reply_buf(call->req, data, len);
}

void vf_call_part(struct vf_call *call, struct vf_span all, uint64_t offset, size_t len)
{
	size_t from = offset < all.len ? (size_t)offset : all.len, left = all.len - from;

	/* Of an empty span there is no address to go on from. */
	vf_call_data(call, left ? all.data + from : NULL, len < left ? len : left);
}

void vf_call_spool(struct vf_call *call, const struct vf_spool *spool, uint64_t offset, size_t len)
{
	uint64_t size = vf_spool_size(spool);

	if (offset >= size) {
		vf_call_data(call, NULL, 0);
	} else if (spool->fd < 0) {
		vf_call_part(call, vf_buf_span(&spool->buf), offset, len);
	} else {
		void *out = malloc(len);
		int64_t n = out ? vf_spool_read(spool, offset, out, len) : -ENOMEM;
		if (n < 0)
			fuse_reply_err(call->req, (int)-n);
		else
			vf_call_data(call, out, (size_t)n);
		free(out);
	}
}
