/* SPDX-License-Identifier: MIT */
/* query: a question is decoded in the write that completes it and run in the read, so that many clients run side by side. What a handle needs is
 * kept from one question to the next: a descriptor that stays open allocates nothing. */
#include "face_internal.h"

#include <errno.h>

struct asker {
	struct vf_conversation c;
	struct vf_buf bytes;
	struct vf_scanner scanner;
	bool guessed, complete;
	struct vf_arena arena;
	struct vf_value value;
	struct vf_question question;
	bool has_config;
	uint64_t config_version;
	struct vf_config config;
};

static struct asker *asker_of(struct vf_conversation *c)
{
	return (struct asker *)c;
}

/* The config as of now; copied again only after the index has changed. */
static int refresh_config(struct vf_call *call, struct asker *a)
{
	uint64_t version = vf_index_version(a->c.handle.index);

	if (a->has_config && a->config_version == version)
		return 0;
	if (a->has_config)
		vf_config_free(&a->config);
	a->has_config = false;
	int rc = vf_index_config(a->c.handle.index, &a->config, &call->err);
	a->has_config = rc == 0;
	a->config_version = version;
	return rc;
}

static int decode(struct vf_call *call, struct asker *a)
{
	struct vf_site_names *names = &a->c.names;
	enum vf_format format = a->scanner.format;
	int rc;

	(void)((rc = refresh_config(call, a)) || (rc = vf_value_decode(format, vf_buf_span(&a->bytes), &a->arena, &a->value, &call->err)) ||
	       (rc = vf_question_from_value(&a->value, format, &a->config, names->index, &a->arena, &a->question, &call->err)) ||
	       (rc = vf_target_check(&a->question.target, names->bucket, names->index, &call->err)));
	return rc;
}

static bool only_blanks(const struct asker *a, struct vf_span rest)
{
	if (a->scanner.format != VF_JSON)
		return rest.len == 0;
	for (size_t i = 0; i < rest.len; i++)
		if (!strchr(" \t\r\n", rest.data[i]) || rest.data[i] == 0)
			return false;
	return true;
}

/* Bytes behind the end of the question: white space, or too much. */
static int take_rest(struct vf_call *call, struct asker *a, struct vf_span rest)
{
	if (only_blanks(a, rest))
		return 0;
	return vf_fail_at(&call->err, EINVAL, VF_PLACE_BYTE, a->bytes.len, "there are bytes behind the end of the question; its answer is to be read first");
}

static int append(struct vf_call *call, struct asker *a, struct vf_span data)
{
	if (data.len > VF_QUESTION_BYTES_MAX - a->bytes.len)
		return vf_fail(&call->err, EFBIG, "a question has at most %u bytes", VF_QUESTION_BYTES_MAX);
	int rc = vf_conversation_charge(&a->c, call->face, a->bytes.len + data.len, &call->err);
	return rc ? rc : vf_buf_put(&a->bytes, data.data, data.len, &call->err);
}

static int take(struct vf_call *call, struct vf_conversation *c, struct vf_span data)
{
	struct asker *a = asker_of(c);
	enum vf_format format;
	size_t taken = 0, seen = a->bytes.len;
	int rc;

	if (a->complete)
		return take_rest(call, a, data);
	rc = append(call, a, data);
	if (rc)
		return rc;
	if (!a->guessed) {
		if (!vf_format_guess(vf_buf_span(&a->bytes), &format))
			return 0;
		vf_scanner_init(&a->scanner, format);
		a->guessed = true;
		seen = 0;
	}
	rc = vf_scanner_feed(&a->scanner, vf_span(a->bytes.data + seen, a->bytes.len - seen), &taken, &call->err);
	if (rc != VF_SCAN_DONE)
		return rc < 0 ? rc : 0;
	struct vf_span rest = vf_span(a->bytes.data + seen + taken, a->bytes.len - seen - taken);
	a->bytes.len = seen + taken;
	rc = take_rest(call, a, rest);
	if (rc == 0)
		rc = decode(call, a);
	a->complete = rc == 0;
	atomic_store(&c->handle.reads_long, a->complete);
	atomic_store(&c->handle.plain, a->complete && vf_question_is_plain(&a->question));
	return rc;
}

static bool complete(struct vf_conversation *c)
{
	struct asker *a = asker_of(c);

	return a->complete || !a->guessed;
}

static void call_others(void *face)
{
	vf_loop_share(face);
}

static bool is_interrupted(void *req)
{
	return fuse_req_interrupted(req);
}

static int answer(struct vf_call *call, struct vf_conversation *c)
{
	struct asker *a = asker_of(c);

	if (!a->complete)
		return vf_fail(&call->err, EINVAL, "the question is empty");
	a->question.lengthy = call_others;
	a->question.lengthy_ctx = call->face;
	/* What is made ahead nobody waits for yet. */
	a->question.stopped = call->req ? is_interrupted : NULL;
	a->question.stopped_ctx = call->req;
	return vf_index_ask(c->handle.index, &a->question, &c->reply, &call->err);
}

/* What an idle handle keeps for its next question: as much as one of 1536 numbers in JSON needs. */
#define KEPT_BYTES_MAX (64u << 10)

static void reset(struct vf_conversation *c)
{
	struct asker *a = asker_of(c);

	if (a->bytes.cap > KEPT_BYTES_MAX)
		vf_buf_free(&a->bytes);
	vf_buf_clear(&a->bytes);
	if (a->arena.bytes > 2 * KEPT_BYTES_MAX)
		vf_arena_free(&a->arena);
	vf_arena_reset(&a->arena);
	a->guessed = a->complete = false;
	atomic_store(&c->handle.reads_long, false);
	atomic_store(&c->handle.plain, false);
}

static void free_asker(struct vf_conversation *c)
{
	struct asker *a = asker_of(c);

	vf_buf_free(&a->bytes);
	vf_arena_free(&a->arena);
	if (a->has_config)
		vf_config_free(&a->config);
}

static const struct vf_verb query_verb = {
	.size = sizeof(struct asker), .take = take, .complete = complete, .reply = answer, .reset = reset, .free = free_asker, .what = "the question",
};

static int open_query(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	int rc = vf_conversation_open(call, node, flags, &query_verb, out);

	if (rc == 0)
		(*out)->lingers = vf_flags_read(flags);
	return rc;
}

const struct vf_file_ops vf_query_file = { .open = open_query, .truncate = vf_conversation_truncate };
