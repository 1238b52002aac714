/* SPDX-License-Identifier: MIT */
/* insert: a stream of records into one transaction, which the first read, fsync or close carries out. A stream that is larger than a
 * transaction may be is committed in parts, and the receipt and `errors` say how far it came. */
#include "face_internal.h"

#include <errno.h>

struct inserter {
	struct vf_conversation c;
	struct vf_ingest *ingest;
	struct vf_batch *batch;
	struct vf_receipt receipt;     /* of what is committed since the last read */
	uint64_t parts;                /* committed before the stream ended */
	enum vf_format format;
	struct vf_call *call;          /* during take */
};

static struct inserter *inserter_of(struct vf_conversation *c)
{
	return (struct inserter *)c;
}

/* Commits what the batch holds. A stream has several parts when it is long, or when a shell's dup and close came between its writes. */
static int apply(struct inserter *in, struct vf_face *face, struct vf_err *err)
{
	struct vf_receipt part = { 0 };
	int rc = in->batch ? vf_batch_apply(in->batch, &part, err) : 0;

	if (rc)
		return rc;
	vf_receipt_add(&in->receipt, &part);
	vf_site_changed(face, in->c.handle.node->site, in->c.handle.index);
	return 0;
}

static int sink(void *ctx, const struct vf_record *record, struct vf_err *err)
{
	struct inserter *in = ctx;
	int rc = vf_batch_put(in->batch, record, err);

	if (rc)
		return rc;
	rc = vf_conversation_charge(&in->c, in->call->face, vf_batch_held(in->batch), err);
	if (rc || vf_batch_bytes(in->batch) < VF_BATCH_BYTES_MAX)
		return rc;
	rc = apply(in, in->call->face, err);
	in->parts += rc == 0;
	return rc;
}

static int begin(struct vf_call *call, struct inserter *in)
{
	int rc = 0;

	if (!in->batch)
		rc = vf_batch_new(in->c.handle.index, &in->batch, &call->err);
	if (rc == 0 && !in->ingest)
		rc = vf_ingest_new(in->c.names.bucket, in->c.names.index, sink, in, &in->ingest, &call->err);
	return rc;
}

/* A failure after parts were committed says so: they stay. */
static int tell_parts(struct vf_call *call, struct inserter *in, int rc)
{
	const struct vf_receipt *r = &in->receipt;

	if (rc == 0 || in->parts == 0)
		return rc;
	char text[320];
	snprintf(text, sizeof text, "%.319s", call->err.text);
	snprintf(call->err.text, sizeof call->err.text, "%s; before it %llu records were committed in %llu parts", text,
	         (unsigned long long)(r->inserted + r->replaced + r->skipped), (unsigned long long)in->parts);
	return rc;
}

static int take(struct vf_call *call, struct vf_conversation *c, struct vf_span data)
{
	struct inserter *in = inserter_of(c);
	int rc = begin(call, in);

	if (rc)
		return rc;
	in->call = call;
	rc = vf_ingest_feed(in->ingest, data, &call->err);
	in->call = NULL;
	return tell_parts(call, in, rc);
}

static bool complete(struct vf_conversation *c)
{
	struct inserter *in = inserter_of(c);

	return !in->ingest || vf_ingest_at_boundary(in->ingest);
}

static int commit(struct vf_call *call, struct vf_conversation *c)
{
	struct inserter *in = inserter_of(c);

	if (!in->ingest)
		return 0;
	in->format = vf_ingest_format(in->ingest);
	in->call = call;
	int rc = vf_ingest_end(in->ingest, &call->err);
	in->call = NULL;
	if (rc == 0)
		rc = apply(in, call->face, &call->err);
	return tell_parts(call, in, rc);
}

static int reply(struct vf_call *call, struct vf_conversation *c)
{
	struct inserter *in = inserter_of(c);

	return vf_receipt_render(&in->receipt, VF_RECEIPT_INSERT, in->format, &c->reply.buf, &call->err);
}

static void reset(struct vf_conversation *c)
{
	struct inserter *in = inserter_of(c);

	vf_ingest_free(&in->ingest);
	vf_batch_free(&in->batch);
	in->receipt = (struct vf_receipt){ 0 };
	in->parts = 0;
}

static const struct vf_verb insert_verb = {
	.size = sizeof(struct inserter), .take = take, .complete = complete, .commit = commit, .reply = reply, .reset = reset, .free = reset,
	.what = "the stream of records",
};

static int open_insert(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	return vf_conversation_open(call, node, flags, &insert_verb, out);
}

const struct vf_file_ops vf_insert_file = { .open = open_insert, .truncate = vf_conversation_truncate };
