/* SPDX-License-Identifier: MIT */
/* answers/: for every question NAME in queries/ what it asks for, now. NAME.json is listed; NAME.msgpack exists when asked for. What is written here
 * changes nothing: a copy of an index that is restored brings its answers along. */
#include "face_internal.h"

#include <errno.h>
#include <stdio.h>

#define STEM_MAX 256u

/* "NAME" of "NAME.json": into out; false when it ends in neither. */
static bool stem_of(const char *name, char out[STEM_MAX], enum vf_row_id *row)
{
	size_t len = strlen(name);
	bool msgpack = len > 8 && strcmp(name + len - 8, ".msgpack") == 0, json = len > 5 && strcmp(name + len - 5, ".json") == 0;

	if ((!msgpack && !json) || len >= STEM_MAX || vf_name_is_scratch(name))
		return false;
	snprintf(out, STEM_MAX, "%.*s", (int)(len - (msgpack ? 8 : 5)), name);
	*row = msgpack ? VF_ROW_ANSWER_MSGPACK : VF_ROW_ANSWER;
	return true;
}

/* The question of that stem: the one with the answer's own ending, else the other. */
static int saved_of(struct vf_call *call, const char *stem, enum vf_row_id row, char name[STEM_MAX + 16], struct vf_saved *out)
{
	const char *first = row == VF_ROW_ANSWER ? "json" : "msgpack", *second = row == VF_ROW_ANSWER ? "msgpack" : "json";

	snprintf(name, STEM_MAX + 16, "%s.%s", stem, first);
	int rc = vf_index_saved_stat(call->index, name, out, &call->err);
	if (rc != -ENOENT)
		return rc;
	snprintf(name, STEM_MAX + 16, "%s.%s", stem, second);
	return vf_index_saved_stat(call->index, name, out, &call->err);
}

/* An answer is that of one version of the question and one of the index. */
static uint64_t version_of(uint64_t index_version, const struct vf_saved *saved)
{
	uint64_t both[3] = { index_version, saved->version, saved->ino };

	return vf_hash_bytes(vf_span(both, sizeof both));
}

/* An answer that was just written and has no question yet. */
static int find_empty(struct vf_call *call, struct vf_node *dir, enum vf_row_id row, const char *name, struct vf_found *out)
{
	struct vf_rendering *rendering = vf_rendering_new(call->face);

	if (!rendering)
		return vf_oom(&call->err);
	rendering->finished = true;
	*out = (struct vf_found){ .row = &vf_tree[row], .site = vf_site_use(call->face, dir->site), .name = vf_span_str(name), .rendering = rendering };
	out->ino = vf_ino_hash(out->row, dir->site, out->name);
	return 0;
}

static int answers_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	char stem[STEM_MAX], question[STEM_MAX + 16];
	enum vf_row_id row;
	struct vf_saved saved;

	if (strlen(name) > VF_FILE_NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (vf_name_is_scratch(name))
		return vf_scratch_lookup(call, dir, name, out);
	if (!stem_of(name, stem, &row) || vf_is_hidden(call, row, dir->site, vf_span_str(name)))
		return -ENOENT;
	int rc = vf_call_hold(call, dir->site);
	if (rc == 0)
		rc = saved_of(call, stem, row, question, &saved);
	if (rc == -ENOENT && vf_is_shown(call, row, dir->site, vf_span_str(name)))
		return find_empty(call, dir, row, name, out);
	if (rc)
		return rc;
	struct vf_span identity = vf_arena_copy(&call->arena, vf_span_str(name));
	if (!identity.data)
		return vf_oom(&call->err);
	*out = (struct vf_found){ .row = &vf_tree[row], .site = vf_site_use(call->face, dir->site), .name = identity };
	out->ino = vf_ino_hash(out->row, dir->site, identity);
	out->mtime_ns = saved.mtime_ns > dir->site->changed_ns ? saved.mtime_ns : dir->site->changed_ns;
	return vf_computed_find(call, out, version_of(vf_index_version(call->index), &saved));
}

/* ---- the question ---- */

static int decode(struct vf_call *call, struct vf_site *site, const char *name, struct vf_span bytes, enum vf_format want, struct vf_arena *arena,
                  struct vf_config *config, struct vf_question *out)
{
	struct vf_site_names names;
	struct vf_value *value = vf_arena_zalloc(arena, sizeof *value);
	enum vf_format format;
	int rc;

	if (!value)
		return vf_oom(&call->err);
	vf_site_names(call->face, site, &names);
	if (!vf_format_guess(bytes, &format))
		return vf_fail(&call->err, EINVAL, "queries/%s is empty", name);
	if ((rc = vf_index_config(call->index, config, &call->err)) ||
	    (rc = vf_value_decode(format, bytes, arena, value, &call->err)) ||
	    (rc = vf_question_from_value(value, want, config, names.index, arena, out, &call->err)) ||
	    (rc = vf_target_check(&out->target, names.bucket, names.index, &call->err)))
		return vf_wrap(&call->err, "queries/%s", name);
	return 0;
}

/* ---- listing ---- */

/* A copy of the whole index does not end at an answer that there is none for; who asks for it by name is told why. */
static bool is_answerable(struct vf_call *call, struct vf_site *site, const char *name)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf bytes = VF_BUF_INIT;
	struct vf_question question;
	struct vf_config config;
	struct vf_saved saved;
	struct vf_record_stat record;

	vf_config_init(&config);
	bool is = vf_index_saved_get(call->index, name, &bytes, &saved, &call->err) == 0 &&
	          decode(call, site, name, vf_buf_span(&bytes), VF_JSON, &arena, &config, &question) == 0 &&
	          (question.key.len == 0 || vf_index_stat(call->index, question.key, &record, &call->err) == 0);
	vf_config_free(&config);
	vf_buf_free(&bytes);
	vf_arena_free(&arena);
	return is;
}

struct answer_list { struct vf_call *call; struct vf_node *dir; struct vf_dir *list; int rc; };

static int emit_answer(void *ctx, const char *name, uint64_t ino)
{
	struct answer_list *a = ctx;
	char stem[STEM_MAX], json[STEM_MAX + 16];
	enum vf_row_id row;
	struct vf_saved twin;

	(void)ino;
	if (vf_dir_full(a->list))
		return 1;
	a->rc = vf_dir_after(a->list, vf_span(name, strlen(name) + 1), &a->call->err);
	if (a->rc || !stem_of(name, stem, &row))
		return a->rc != 0;
	snprintf(json, sizeof json, "%s.json", stem);
	/* Of two questions with one stem the answer is listed once. */
	if (row == VF_ROW_ANSWER_MSGPACK && vf_index_saved_stat(a->call->index, json, &twin, &a->call->err) == 0)
		return 0;
	if (vf_is_hidden(a->call, VF_ROW_ANSWER, a->dir->site, vf_span_str(json)) || !is_answerable(a->call, a->dir->site, name))
		return 0;
	uint64_t number = vf_ino_hash(&vf_tree[VF_ROW_ANSWER], a->dir->site, vf_span_str(json));
	if (!vf_dir_add(a->list, vf_span_str(json), number, S_IFREG))
		a->rc = vf_oom(&a->call->err);
	return a->rc != 0;
}

static int answers_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	struct answer_list a = { call, dir, list, 0 };

	if (list->phase)
		return vf_scratch_list(call, dir, list);
	int rc = vf_call_hold(call, dir->site);

	if (rc == 0)
		rc = vf_index_saved_list(call->index, list->after.len ? (char *)list->after.data : NULL, emit_answer, &a, &call->err);
	if (!vf_dir_full(list))
		list->phase = 1;
	return rc < 0 ? rc : a.rc;
}

/* A file without a name, in which nothing is kept: its question may come later. */
static int create_answer(struct vf_call *call, struct vf_node *dir, const char *name, enum vf_row_id row, int flags, struct vf_node **node,
                         struct vf_handle **handle)
{
	struct vf_found found = { .row = &vf_tree[row], .site = vf_site_use(call->face, dir->site), .name = vf_span_str(name) };

	found.ino = vf_ino_hash(found.row, found.site, found.name);
	vf_show(call, row, dir->site, found.name);
	int rc = vf_node_settle(call, &found, node);
	if (rc)
		return rc;
	vf_node_is_pending(call->face, *node);
	rc = vf_restorable_open(call, *node, flags, handle);
	if (rc)
		vf_node_forget(call->face, *node, 1);
	return rc;
}

static int answers_create(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode, int flags, struct vf_node **node,
                          struct vf_handle **handle)
{
	char stem[STEM_MAX];
	enum vf_row_id row;

	if (vf_name_is_scratch(name))
		return vf_scratch_create(call, dir, name, mode, flags, node, handle);
	if (stem_of(name, stem, &row))
		return create_answer(call, dir, name, row, flags, node, handle);
	return vf_fail(&call->err, EINVAL, "answers/ has NAME.json for every question in queries/, and temporary files; not '%s'", name);
}

/* Accepted, for rm -r: the answer is there as long as its question is. */
static int answers_unlink(struct vf_call *call, struct vf_node *dir, const char *name)
{
	char stem[STEM_MAX];
	enum vf_row_id row;

	if (vf_name_is_scratch(name))
		return vf_scratch_unlink(call, dir, name);
	if (!stem_of(name, stem, &row))
		return -ENOENT;
	vf_hide(call, row, dir->site, vf_span_str(name));
	return 0;
}

const struct vf_dir_ops vf_answers_dir = {
	.lookup = answers_lookup, .list = answers_list, .create = answers_create, .unlink = answers_unlink,
};

/* ---- the answer itself ---- */

static int answer_render(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	char stem[STEM_MAX], question_name[STEM_MAX + 16];
	struct vf_config config;
	struct vf_question question;
	struct vf_saved saved;
	struct vf_buf bytes = VF_BUF_INIT;
	enum vf_row_id row = VF_ROW_ANSWER;

	vf_config_init(&config);
	stem_of((const char *)name.data, stem, &row);
	int rc = vf_call_hold(call, site);
	if (rc == 0)
		rc = saved_of(call, stem, row, question_name, &saved);
	if (rc == 0)
		rc = vf_index_saved_get(call->index, question_name, &bytes, &saved, &call->err);
	if (rc == 0)
		rc = decode(call, site, question_name, vf_buf_span(&bytes), row == VF_ROW_ANSWER ? VF_JSON : VF_MSGPACK, &call->arena, &config, &question);
	if (rc == 0 && (rc = vf_index_ask(call->index, &question, out, &call->err)) != 0 && call->err.code)
		rc = vf_wrap(&call->err, "queries/%s", question_name);
	vf_buf_free(&bytes);
	vf_config_free(&config);
	return rc;
}

const struct vf_file_ops vf_answer_file = {
	.open = vf_restorable_open, .render = answer_render, .renders_long = true, .truncate = vf_restorable_truncate,
};
