/* SPDX-License-Identifier: MIT */
/* insert, query, update, delete: write a request, read the reply on the same descriptor, and so on.
 *
 * Writes since the last read are one request, wherever they claim to stand. The first read after a write fixes where the reply begins: at 0 when it
 * asks for offset 0 (it was sought or is a pread), else at the end of the request, where the descriptor's offset stands. What is written without being
 * read is carried out at close. */
#include "face_internal.h"

#include <errno.h>

static struct vf_conversation *conversation_of(struct vf_handle *handle)
{
	return (struct vf_conversation *)handle;
}

int vf_conversation_charge(struct vf_conversation *c, struct vf_face *face, uint64_t bytes, struct vf_err *err)
{
	/* In steps: a request that fits in one costs no lock. */
	const uint64_t step = 1u << 20;
	uint64_t want = bytes <= step / 16 ? 0 : (bytes + step - 1) / step * step;

	if (want <= c->charged)
		return 0;
	int rc = vf_budget_take(face->budget, c->handle.uid, want - c->charged, err);
	if (rc == 0)
		c->charged = want;
	return rc;
}

#define KEPT_REPLY_MAX (64u << 10)

/* The reply is over: its memory is kept for the next one when it is small. */
static void clear_reply(struct vf_face *face, struct vf_conversation *c)
{
	if (c->reply.buf.cap > KEPT_REPLY_MAX)
		vf_spool_free(&c->reply);
	else
		vf_spool_clear(&c->reply);
	vf_budget_give(face->budget, c->handle.uid, c->reply_charged);
	c->reply_charged = 0;
}

/* A reply that waits to be read binds memory; beyond a megabyte it lies on disk. */
static int charge_reply(struct vf_call *call, struct vf_conversation *c)
{
	uint64_t bytes = c->reply.buf.cap > KEPT_REPLY_MAX ? c->reply.buf.cap : 0;
	int rc = bytes ? vf_budget_take(call->face->budget, c->handle.uid, bytes, &call->err) : 0;

	if (rc == 0)
		c->reply_charged = bytes;
	return rc;
}

static void forget_request(struct vf_call *call, struct vf_conversation *c)
{
	c->verb->reset(c);
	vf_budget_give(call->face->budget, c->handle.uid, c->charged);
	c->charged = 0;
	c->pending = c->told = c->unsettled = false;
	c->handle.ready = false;
}

/* The request has failed: what came of it is dropped, and the next one begins anew. */
static int fail(struct vf_call *call, struct vf_conversation *c, int rc)
{
	c->failed = call->err;
	c->failed.code = -rc;
	c->lost = c->unsettled && c->verb->commit;
	forget_request(call, c);
	return rc;
}

static int say_again(struct vf_call *call, struct vf_conversation *c)
{
	call->err = c->failed;
	call->logged = true;
	return -c->failed.code;
}

static int write_request(struct vf_call *call, struct vf_handle *handle, struct vf_span data, uint64_t offset)
{
	struct vf_conversation *c = conversation_of(handle);

	vf_handle_seen(call, handle);
	/* Whoever cannot read has one transaction from open to close: after a failure nothing of it counts. Whoever can has one up to the read: with what was
	 * taken before the failure is lost what follows it, until the read has told. A request that failed in its first write may be followed by the next. */
	if (c->failed.code && (c->lost || !vf_flags_read(handle->flags)))
		return say_again(call, c);
	c->failed.code = 0;
	if (c->replied || c->handle.ready)
		clear_reply(call->face, c);
	c->replied = false;
	c->handle.ready = false;
	if (!c->pending)
		vf_site_names(call->face, handle->node->site, &c->names);
	c->told = false;
	int rc = c->verb->take(call, c, data);
	if (rc)
		return fail(call, c, rc);
	c->pending = c->unsettled = true;
	c->end = offset + data.len;
	return 0;
}

static int incomplete(struct vf_call *call, struct vf_conversation *c)
{
	call->logged = c->told;
	c->told = true;
	return vf_fail(&call->err, EINVAL, "%s is not complete", c->verb->what);
}

/* The request is carried out and the reply made. */
static int reply(struct vf_call *call, struct vf_conversation *c)
{
	int rc = c->verb->complete(c) ? 0 : incomplete(call, c);

	if (rc == 0 && c->verb->commit)
		rc = c->verb->commit(call, c);
	if (rc == 0)
		rc = c->verb->reply(call, c);
	if (rc == 0)
		rc = vf_spool_finish(&c->reply, &call->err);
	if (rc == 0)
		rc = charge_reply(call, c);
	if (rc)
		clear_reply(call->face, c);
	return rc;
}

/* Between the write and the read of a question. Whatever fails is left to the read, which tells it. */
static void reply_ahead(struct vf_call *call, struct vf_handle *handle)
{
	struct vf_conversation *c = conversation_of(handle);

	if (!handle->plain)
		return;
	c->ahead_version = vf_index_version(handle->index);
	handle->ready = reply(call, c) == 0;
}

/* A reply made ahead counts when nothing was written since. */
static int reply_now(struct vf_call *call, struct vf_conversation *c)
{
	if (c->handle.ready && c->ahead_version == vf_index_version(c->handle.index))
		return 0;
	if (c->handle.ready)
		clear_reply(call->face, c);
	return reply(call, c);
}

static void read_reply(struct vf_call *call, struct vf_handle *handle, size_t size, uint64_t offset)
{
	struct vf_conversation *c = conversation_of(handle);
	int rc = 0;

	if (c->failed.code) {
		rc = say_again(call, c);
		c->failed.code = 0;
	} else if (c->pending) {
		rc = reply_now(call, c);
		/* A signal has ended it: it can be read again. */
		if (rc != -EINTR)
			forget_request(call, c);
		c->replied = rc == 0;
		c->begin = offset == 0 ? 0 : c->end;
	}
	if (rc)
		fuse_reply_err(call->req, vf_call_failed(call, handle->node, NULL, rc));
	else if (!c->replied || offset < c->begin)
		vf_call_data(call, NULL, 0);
	else
		vf_call_spool(call, &c->reply, offset - c->begin, size);
}

static int settle(struct vf_call *call, struct vf_conversation *c)
{
	int rc = c->verb->commit ? c->verb->commit(call, c) : 0;

	c->unsettled = false;
	return rc ? fail(call, c, rc) : 0;
}

static int flush_request(struct vf_call *call, struct vf_handle *handle)
{
	struct vf_conversation *c = conversation_of(handle);

	vf_handle_seen(call, handle);
	if (c->failed.code)
		return say_again(call, c);
	if (!c->pending || !vf_handle_flush_is_final(call, handle))
		return 0;
	if (!c->verb->complete(c))
		return incomplete(call, c);
	return settle(call, c);
}

static int truncate_request(struct vf_call *call, struct vf_handle *handle, uint64_t size)
{
	(void)call, (void)handle, (void)size;
	return 0;
}

int vf_conversation_truncate(struct vf_call *call, struct vf_node *node, uint64_t size)
{
	(void)call, (void)node, (void)size;
	return 0;
}

static void release_conversation(struct vf_call *call, struct vf_handle *handle)
{
	struct vf_conversation *c = conversation_of(handle);

	/* No close was taken for the last one. */
	if (c->unsettled && call->req && c->verb->complete(c) && settle(call, c))
		vf_call_failed(call, handle->node, NULL, -c->failed.code);
	c->verb->free(c);
	vf_spool_free(&c->reply);
	vf_budget_give(call->face->budget, c->handle.uid, c->charged + c->reply_charged);
	vf_handle_free(call, handle);
}

static const struct vf_handle_ops conversation_ops = {
	.read = read_reply, .write = write_request, .ahead = reply_ahead, .flush = flush_request, .truncate = truncate_request, .release = release_conversation,
};

int vf_conversation_open(struct vf_call *call, struct vf_node *node, int flags, const struct vf_verb *verb, struct vf_handle **out)
{
	struct vf_conversation *c;
	int rc = vf_handle_new(call, node, flags, verb->size, &conversation_ops, &c);

	if (rc)
		return rc;
	c->verb = verb;
	c->handle.direct = true;
	c->handle.commits = verb->commit != NULL;
	vf_spool_init(&c->reply, vf_catalog_path(call->face->catalog));
	rc = vf_handle_join(call, &c->handle);
	if (rc) {
		release_conversation(call, &c->handle);
		return rc;
	}
	*out = &c->handle;
	return 0;
}
