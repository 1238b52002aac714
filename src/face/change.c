/* SPDX-License-Identifier: MIT */
/* update and delete: one request, or a stream of them in one transaction, which the first read, fsync or close carries out. */
#include "face_internal.h"

#include <errno.h>

struct changer {
	struct vf_conversation c;
	struct vf_buf bytes;           /* of the value that is not complete yet */
	struct vf_scanner scanner;
	bool guessed;
	enum vf_format format;
	uint64_t taken;                /* bytes of the request that were looked at */
	struct vf_batch *batch;
	struct vf_receipt receipt;
	struct vf_arena arena;
	/* One value of the stream, into the batch. */
	int (*add)(struct vf_call *call, struct changer *ch, const struct vf_value *value, const struct vf_config *config);
};

static struct changer *changer_of(struct vf_conversation *c)
{
	return (struct changer *)c;
}

static int add_update(struct vf_call *call, struct changer *ch, const struct vf_value *value, const struct vf_config *config)
{
	struct vf_site_names *names = &ch->c.names;
	struct vf_update update = { 0 };
	int rc;

	(void)((rc = vf_update_from_value(value, config, &ch->arena, &update, &call->err)) ||
	       (rc = vf_target_check(&update.target, names->bucket, names->index, &call->err)) ||
	       (rc = vf_batch_update(ch->batch, &update, &call->err)));
	return rc;
}

static int add_delete(struct vf_call *call, struct changer *ch, const struct vf_value *value, const struct vf_config *config)
{
	struct vf_site_names *names = &ch->c.names;
	struct vf_delete request = { 0 };
	int rc;

	(void)((rc = vf_delete_from_value(value, config, &ch->arena, &request, &call->err)) ||
	       (rc = vf_target_check(&request.target, names->bucket, names->index, &call->err)) ||
	       (rc = vf_batch_delete(ch->batch, &request, &call->err)));
	return rc;
}

static int decode(struct vf_call *call, struct changer *ch, struct vf_span bytes)
{
	struct vf_config config;
	struct vf_value value;
	int rc = ch->batch ? 0 : vf_batch_new(ch->c.handle.index, &ch->batch, &call->err);

	if (rc || (rc = vf_value_decode(ch->format, bytes, &ch->arena, &value, &call->err)))
		return rc;
	rc = vf_index_config(ch->c.handle.index, &config, &call->err);
	if (rc)
		return rc;
	rc = ch->add(call, ch, &value, &config);
	vf_config_free(&config);
	vf_arena_reset(&ch->arena);
	return rc ? rc : vf_conversation_charge(&ch->c, call->face, vf_batch_bytes(ch->batch), &call->err);
}

/* The place in an error of a value counts from its own first byte: made to count from that of the request. */
static int place_in_stream(struct vf_call *call, struct changer *ch, int rc)
{
	if (rc < 0 && call->err.unit == VF_PLACE_BYTE)
		call->err.place += ch->taken;
	return rc;
}

/* The bytes of a value are there: decoded, and the next one begins behind them. */
static int take_value(struct vf_call *call, struct changer *ch, struct vf_span bytes)
{
	int rc = place_in_stream(call, ch, decode(call, ch, bytes));

	ch->taken += bytes.len;
	ch->guessed = false;
	vf_buf_clear(&ch->bytes);
	return rc;
}

/* Keeps the beginning of a value until its end comes. */
static int keep(struct vf_call *call, struct changer *ch, struct vf_span data)
{
	if (data.len > VF_VALUE_BYTES_MAX - ch->bytes.len)
		return vf_fail(&call->err, EFBIG, "a request has at most %u bytes", VF_VALUE_BYTES_MAX);
	int rc = vf_conversation_charge(&ch->c, call->face, ch->bytes.len + data.len, &call->err);
	return rc ? rc : vf_buf_put(&ch->bytes, data.data, data.len, &call->err);
}

/* Looks at `data` up to the end of one value; *used says how far. A value that lies whole in it is decoded where it lies. */
static int step(struct vf_call *call, struct changer *ch, struct vf_span data, size_t *used)
{
	int rc;

	*used = data.len;
	if (!ch->guessed) {
		if (!vf_format_guess(data, &ch->format)) {
			ch->taken += data.len;   /* white space between values */
			return 0;
		}
		vf_scanner_init(&ch->scanner, ch->format);
		ch->guessed = true;
	}
	rc = vf_scanner_feed(&ch->scanner, data, used, &call->err);
	if (rc < 0)
		return place_in_stream(call, ch, rc);
	bool whole = rc == VF_SCAN_DONE && ch->bytes.len == 0;
	if (!whole && (rc == VF_SCAN_MORE || *used) && keep(call, ch, vf_span(data.data, *used)))
		return -call->err.code;
	if (rc == VF_SCAN_MORE)
		return 0;
	return take_value(call, ch, whole ? vf_span(data.data, *used) : vf_buf_span(&ch->bytes));
}

static int take(struct vf_call *call, struct vf_conversation *c, struct vf_span data)
{
	struct changer *ch = changer_of(c);
	int rc = 0;

	while (rc == 0 && data.len) {
		size_t used = 0;
		rc = step(call, ch, data, &used);
		data = vf_span(data.data + used, data.len - used);
	}
	return rc;
}

static bool complete(struct vf_conversation *c)
{
	return !changer_of(c)->guessed;
}

static int commit(struct vf_call *call, struct vf_conversation *c)
{
	struct changer *ch = changer_of(c);
	struct vf_receipt part = { 0 };
	int rc = ch->batch ? vf_batch_apply(ch->batch, &part, &call->err) : 0;

	if (rc)
		return rc;
	/* A shell's dup and close may have carried out the first part of the request before. */
	vf_receipt_add(&ch->receipt, &part);
	vf_site_changed(call->face, c->handle.node->site, c->handle.index);
	return 0;
}

static int reply_update(struct vf_call *call, struct vf_conversation *c)
{
	return vf_receipt_render(&changer_of(c)->receipt, VF_RECEIPT_UPDATE, changer_of(c)->format, &c->reply.buf, &call->err);
}

static int reply_delete(struct vf_call *call, struct vf_conversation *c)
{
	return vf_receipt_render(&changer_of(c)->receipt, VF_RECEIPT_DELETE, changer_of(c)->format, &c->reply.buf, &call->err);
}

static void reset(struct vf_conversation *c)
{
	struct changer *ch = changer_of(c);

	vf_buf_free(&ch->bytes);
	vf_batch_free(&ch->batch);
	vf_arena_free(&ch->arena);
	ch->guessed = false;
	ch->taken = 0;
	ch->receipt = (struct vf_receipt){ 0 };
}

static const struct vf_verb update_verb = {
	.size = sizeof(struct changer), .take = take, .complete = complete, .commit = commit, .reply = reply_update, .reset = reset, .free = reset,
	.what = "the update",
};

static const struct vf_verb delete_verb = {
	.size = sizeof(struct changer), .take = take, .complete = complete, .commit = commit, .reply = reply_delete, .reset = reset, .free = reset,
	.what = "the delete request",
};

static int open_update(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	int rc = vf_conversation_open(call, node, flags, &update_verb, out);

	if (rc == 0)
		((struct changer *)*out)->add = add_update;
	return rc;
}

static int open_delete(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	int rc = vf_conversation_open(call, node, flags, &delete_verb, out);

	if (rc == 0)
		((struct changer *)*out)->add = add_delete;
	return rc;
}

const struct vf_file_ops vf_update_file = { .open = open_update, .truncate = vf_conversation_truncate };
const struct vf_file_ops vf_delete_file = { .open = open_delete, .truncate = vf_conversation_truncate };
