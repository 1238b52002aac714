/* SPDX-License-Identifier: MIT */
/* config and queries/NAME.json: files that are staged and taken as a whole when they are closed or synced by whoever opened them.
 *
 * A config is what it names: lines appended to the text that was there are taken alone. A saved question is kept as it was written. */
#include "face_internal.h"

#include <errno.h>
#include <fcntl.h>

#include "vecfs/clock.h"

struct whole;
struct kind {
	int (*load)(struct vf_call *call, struct whole *w, struct vf_buf *out);      /* what is there now; -ENOENT */
	int (*commit)(struct vf_call *call, struct whole *w);
	int (*check)(struct vf_call *call, struct whole *w);     /* what was written so far, from its beginning on without a gap; NULL: nothing to check */
	uint64_t bytes_max;
};

struct whole {
	struct vf_handle handle;
	const struct kind *kind;
	struct vf_writer name;         /* of a saved question */
	struct vf_stage stage;
	bool loaded, dirty;
	bool emptied;                  /* truncated at open and not written since: taken at the close of whoever opened it, else at the end */
	uint64_t base, lowest;         /* bytes that were there; the lowest offset written since */
	bool scattered;                /* not written from its beginning to its end */
	bool spoiled;                  /* a write has failed: what is there is not what was meant */
	struct vf_err failed;          /* code 0: not */
};

static int load(struct vf_call *call, struct whole *w)
{
	struct vf_buf old = VF_BUF_INIT;

	if (w->loaded)
		return 0;
	int rc = w->kind->load(call, w, &old);
	if (rc == 0)
		rc = vf_stage_write(&w->stage, vf_buf_span(&old), 0, &call->err);
	else if (rc == -ENOENT)
		rc = 0;
	vf_buf_free(&old);
	w->base = w->stage.bytes.len;
	w->loaded = rc == 0;
	return rc;
}

static void changed(struct vf_call *call, struct whole *w, uint64_t offset)
{
	if (offset < w->lowest)
		w->lowest = offset;
	w->dirty = true;
	w->emptied = false;
	if (!w->spoiled)
		w->failed.code = 0;
	vf_node_staged(call->face, w->handle.node, w->stage.bytes.len, true);
}

static int say_again(struct vf_call *call, const struct whole *w)
{
	call->err = w->failed;
	call->logged = true;
	return -w->failed.code;
}

/* Until it is cut to nothing, or for good: nothing of it is taken, and later writes, fsync and close say so. */
static void spoil(struct vf_call *call, struct whole *w)
{
	w->spoiled = true;
	w->failed = call->err;
	w->emptied = false;
}

static int write_whole(struct vf_call *call, struct vf_handle *handle, struct vf_span data, uint64_t offset)
{
	struct whole *w = (struct whole *)handle;
	int rc = w->spoiled ? say_again(call, w) : load(call, w);

	if (rc)
		return rc;
	if (handle->flags & O_APPEND)
		offset = w->stage.bytes.len;
	w->scattered |= offset != w->stage.bytes.len;
	rc = vf_stage_write(&w->stage, data, offset, &call->err);
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
	struct whole *w = (struct whole *)handle;
	int rc = 0;

	if (size == 0) {
		w->loaded = true;
		w->spoiled = w->scattered = false;
		w->base = 0;
	} else {
		rc = load(call, w);
	}
	if (rc == 0)
		rc = vf_stage_cut(&w->stage, size, &call->err);
	if (rc == 0)
		changed(call, w, size);
	return rc;
}

static int take(struct vf_call *call, struct whole *w)
{
	int rc = w->kind->commit(call, w);

	if (rc) {
		w->failed = call->err;
		return rc;
	}
	w->dirty = w->emptied = false;
	/* What follows is new; what was taken stays in force. */
	w->base = w->stage.bytes.len;
	w->lowest = UINT64_MAX;
	return 0;
}

static int flush_whole(struct vf_call *call, struct vf_handle *handle)
{
	struct whole *w = (struct whole *)handle;

	vf_handle_seen(call, handle);
	if (w->failed.code)
		return say_again(call, w);
	if ((!w->dirty && !w->emptied) || !vf_handle_flush_is_final(call, handle))
		return 0;
	return take(call, w);
}

static void read_whole(struct vf_call *call, struct vf_handle *handle, size_t size, uint64_t offset)
{
	struct whole *w = (struct whole *)handle;
	int rc = load(call, w);

	if (rc)
		fuse_reply_err(call->req, vf_call_failed(call, handle->node, NULL, rc));
	else
		vf_call_part(call, vf_stage_span(&w->stage), offset, size);
}

static void release_whole(struct vf_call *call, struct vf_handle *handle)
{
	struct whole *w = (struct whole *)handle;

	/* The second: no close was taken for the last one. */
	bool left = w->emptied || (w->dirty && !w->failed.code && call->req);
	if (left && handle->node && take(call, w))
		vf_call_failed(call, handle->node, NULL, -call->err.code);
	vf_writer_unlist(&w->name);
	vf_stage_free(&w->stage);
	vf_handle_free(call, handle);
}

static const struct vf_handle_ops whole_ops = {
	.read = read_whole, .write = write_whole, .flush = flush_whole, .truncate = truncate_whole, .release = release_whole,
};

static int open_whole(struct vf_call *call, struct vf_node *node, int flags, const struct kind *kind, struct whole **out)
{
	struct whole *w;
	int rc = vf_handle_new(call, node, flags, sizeof *w, &whole_ops, &w);

	if (rc)
		return rc;
	w->kind = kind;
	w->handle.direct = true;
	w->lowest = UINT64_MAX;
	w->loaded = (flags & O_TRUNC) || vf_node_state(call->face, node).pending;
	vf_stage_init(&w->stage, call->face->budget, call->uid, kind->bytes_max);
	rc = vf_handle_join(call, &w->handle);
	if (rc) {
		release_whole(call, &w->handle);
		return rc;
	}
	if (flags & O_TRUNC)
		vf_node_staged(call->face, node, 0, false);
	*out = w;
	return 0;
}

/* ---- config ---- */

static int render_config(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	struct vf_config config;
	int rc = vf_call_hold(call, site);

	(void)name;
	if (rc || (rc = vf_index_config(call->index, &config, &call->err)))
		return rc;
	rc = vf_config_render(&config, &out->buf, &call->err);
	vf_config_free(&config);
	return rc;
}

static int load_config(struct vf_call *call, struct whole *w, struct vf_buf *out)
{
	struct vf_config config;
	int rc = vf_index_config(w->handle.index, &config, &call->err);

	if (rc)
		return rc;
	rc = vf_config_render(&config, out, &call->err);
	vf_config_free(&config);
	return rc;
}

static struct vf_span text_of(const struct whole *w)
{
	struct vf_span text = vf_stage_span(&w->stage);

	return w->lowest >= w->base && w->base <= text.len ? vf_span(text.data + w->base, text.len - w->base) : text;
}

/* Whole lines that cannot hold: for a shell, which does not look at what close says. */
static int check_config(struct vf_call *call, struct whole *w)
{
	struct vf_span text = text_of(w);

	while (text.len && text.data[text.len - 1] != '\n')
		text.len--;
	return text.len ? vf_index_config_check(w->handle.index, text, &call->err) : 0;
}

static int commit_config(struct vf_call *call, struct whole *w)
{
	int64_t mtime_ns = vf_node_take_wish(call->face, w->handle.node);
	int rc = vf_index_configure(w->handle.index, text_of(w), &call->err);
	if (rc == 0 && mtime_ns)
		rc = vf_index_set_config_mtime(w->handle.index, mtime_ns, &call->err);
	if (rc == 0)
		vf_node_staged(call->face, w->handle.node, vf_stage_span(&w->stage).len, false);
	return rc;
}

static const struct kind config_kind = { load_config, commit_config, check_config, VF_CONFIG_BYTES_MAX };

static int open_config(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct whole *w;

	if (!vf_flags_write(flags))
		return vf_computed_open(call, node, flags, out);
	int rc = open_whole(call, node, flags, &config_kind, &w);
	if (rc == 0)
		*out = &w->handle;
	return rc;
}

static int truncate_config(struct vf_call *call, struct vf_node *node, uint64_t size)
{
	if (size == 0 || size == vf_node_state(call->face, node).size)
		return 0;
	return vf_fail(&call->err, EINVAL, "config cannot be cut to %llu bytes", (unsigned long long)size);
}

static int touch_config(struct vf_call *call, struct vf_node *node, int64_t mtime_ns)
{
	int rc = 0;

	if (!vf_node_touched(call->face, node, mtime_ns)) {
		rc = vf_call_hold(call, node->site);
		if (rc == 0)
			rc = vf_index_set_config_mtime(call->index, mtime_ns, &call->err);
	}
	return rc;
}

const struct vf_file_ops vf_config_file = {
	.open = open_config, .render = render_config, .truncate = truncate_config, .touch = touch_config,
};

/* ---- saved questions ---- */

static const char *name_of(const struct vf_node *node)
{
	return (const char *)node->name.data;
}

static int load_saved(struct vf_call *call, struct whole *w, struct vf_buf *out)
{
	struct vf_span name = vf_writer_name(call, &w->name);
	struct vf_saved stat;

	return name.len ? vf_index_saved_get(w->handle.index, (const char *)name.data, out, &stat, &call->err) : -ENOENT;
}

static int put_saved(struct vf_call *call, struct vf_index *index, struct vf_node *node, const char *name, struct vf_span bytes, int64_t mtime_ns)
{
	struct vf_saved stat;
	int rc;

	if ((rc = vf_index_saved_put(index, name, bytes, &call->err)) ||
	    (mtime_ns && (rc = vf_index_saved_set_mtime(index, name, mtime_ns, &call->err))) ||
	    (rc = vf_index_saved_stat(index, name, &stat, &call->err)))
		return rc;
	vf_site_changed(call->face, node->site, index);
	vf_node_committed(call->face, node, vf_ino_local(node->site, stat.ino), stat.version, stat.bytes, stat.mtime_ns);
	return 0;
}

static int commit_saved(struct vf_call *call, struct whole *w)
{
	struct vf_span name = vf_writer_name(call, &w->name);

	if (name.len == 0)
		return 0;
	int64_t mtime_ns = vf_node_take_wish(call->face, w->handle.node);
	return put_saved(call, w->handle.index, w->handle.node, (const char *)name.data, vf_stage_span(&w->stage), mtime_ns);
}

static const struct kind saved_kind = { load_saved, commit_saved, NULL, VF_SAVED_QUESTION_BYTES_MAX };

static int saved_snapshot(struct vf_call *call, struct vf_node *node, struct vf_rendering **out)
{
	struct vf_saved stat;
	struct vf_rendering *r = vf_node_rendering(call->face, node);
	struct vf_node_state state = vf_node_state(call->face, node);
	int rc = r ? 0 : vf_call_hold(call, node->site);

	*out = r;
	if (r || rc)
		return rc;
	r = vf_rendering_new(call->face);
	if (!r)
		return vf_oom(&call->err);
	r->finished = true;
	rc = state.pending ? 0 : vf_index_saved_get(call->index, name_of(node), &r->spool.buf, &stat, &call->err);
	if (rc) {
		vf_rendering_put(r);
		return rc;
	}
	if (!state.pending) {
		r->of_version = true;
		r->version = stat.version;
		r->ino = vf_ino_local(node->site, stat.ino);
		r->mtime_ns = stat.mtime_ns;
	}
	*out = r;
	return 0;
}

static int open_saved_writer(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct whole *w;
	int rc = open_whole(call, node, flags, &saved_kind, &w);

	if (rc)
		return rc;
	struct vf_node_state state = vf_node_state(call->face, node);
	rc = vf_writer_list(call->face, &w->name, node->site, VF_ROW_QUERIES, state.unlinked ? vf_span(NULL, 0) : node->name, &call->err);
	if (rc) {
		release_whole(call, &w->handle);
		return rc;
	}
	w->dirty = state.pending;
	w->emptied = (flags & O_TRUNC) && !w->dirty;
	*out = &w->handle;
	return 0;
}

static int open_saved(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct vf_rendering *rendering;

	if (vf_flags_write(flags))
		return open_saved_writer(call, node, flags, out);
	int rc = saved_snapshot(call, node, &rendering);
	return rc ? rc : vf_snapshot_open(call, node, flags, rendering, out);
}

int vf_saved_create(struct vf_call *call, struct vf_node *dir, const char *name, int flags, struct vf_node **node, struct vf_handle **handle)
{
	struct vf_found found;
	int rc = vf_queries_dir.lookup(call, dir, name, &found);

	if (rc)
		return rc;
	bool created = found.pending;
	if (!created && (flags & O_EXCL)) {
		vf_found_drop(call->face, &found);
		return -EEXIST;
	}
	if (created) {
		found.pending = false;
		found.ino = vf_ino_hash(found.row, found.site, found.name);
	}
	rc = vf_node_settle(call, &found, node);
	if (rc)
		return rc;
	if (created)
		vf_node_is_pending(call->face, *node);
	rc = open_saved_writer(call, *node, flags, handle);
	if (rc)
		vf_node_forget(call->face, *node, 1);
	return rc;
}

static int truncate_saved(struct vf_call *call, struct vf_node *node, uint64_t size)
{
	struct vf_stage stage;
	struct vf_saved stat;
	struct vf_buf old = VF_BUF_INIT;
	int rc = vf_call_hold(call, node->site);

	if (rc)
		return rc;
	vf_stage_init(&stage, call->face->budget, call->uid, VF_SAVED_QUESTION_BYTES_MAX);
	if ((rc = vf_index_saved_get(call->index, name_of(node), &old, &stat, &call->err)) == 0 &&
	    (rc = vf_stage_write(&stage, vf_buf_span(&old), 0, &call->err)) == 0 && (rc = vf_stage_cut(&stage, size, &call->err)) == 0)
		rc = put_saved(call, call->index, node, name_of(node), vf_stage_span(&stage), 0);
	vf_buf_free(&old);
	vf_stage_free(&stage);
	return rc;
}

static int touch_saved(struct vf_call *call, struct vf_node *node, int64_t mtime_ns)
{
	int rc = 0;

	if (!vf_node_touched(call->face, node, mtime_ns)) {
		rc = vf_call_hold(call, node->site);
		if (rc == 0)
			rc = vf_index_saved_set_mtime(call->index, name_of(node), mtime_ns, &call->err);
	}
	return rc == -ENOENT ? 0 : rc;
}

const struct vf_file_ops vf_saved_file = { .open = open_saved, .truncate = truncate_saved, .touch = touch_saved };
