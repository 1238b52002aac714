/* SPDX-License-Identifier: MIT */
/* queries/NAME.json: a saved question, kept as it was written. */
#include "face_internal.h"

#include <errno.h>
#include <fcntl.h>

static const char *name_of(const struct vf_node *node)
{
	return (const char *)node->name.data;
}

/* ---- writing ---- */

static int load_saved(struct vf_call *call, struct vf_shadow *shadow, struct vf_buf *out)
{
	struct vf_span name;
	struct vf_saved stat;
	int rc = vf_writer_hold(call, &shadow->name, &name);

	if (rc == 0)
		rc = name.len ? vf_index_saved_get(shadow->handle.index, (const char *)name.data, out, &stat, &call->err) : -ENOENT;
	vf_writer_release(&shadow->name);
	return rc;
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

static int commit_saved(struct vf_call *call, struct vf_whole *w)
{
	struct vf_handle *handle = &w->shadow.handle;
	struct vf_span name;
	int rc = vf_writer_hold(call, &w->shadow.name, &name);

	if (rc == 0 && name.len) {
		int64_t mtime_ns = vf_node_take_wish(call->face, handle->node);
		rc = put_saved(call, handle->index, handle->node, (const char *)name.data, vf_stage_span(&w->shadow.stage), mtime_ns);
	}
	vf_writer_release(&w->shadow.name);
	return rc;
}

static const struct vf_whole_kind saved_kind = {
	.shadow = { .ops = &vf_whole_ops, .size = sizeof(struct vf_whole), .bytes_max = VF_SAVED_QUESTION_BYTES_MAX, .dir = VF_ROW_QUERIES,
	            .load = load_saved },
	.commit = commit_saved,
};

static int open_writer(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct vf_whole *w;
	int rc = vf_whole_open(call, node, flags, &saved_kind, &w);

	if (rc)
		return rc;
	w->shadow.dirty = vf_node_state(call->face, node).pending;
	w->emptied = (flags & O_TRUNC) && !w->shadow.dirty;
	*out = &w->shadow.handle;
	return 0;
}

/* ---- reading ---- */

int vf_saved_snapshot(struct vf_call *call, struct vf_site *site, const char *name, struct vf_rendering **out)
{
	struct vf_saved stat;
	int rc = vf_call_hold(call, site);

	if (rc)
		return rc;
	struct vf_rendering *r = vf_rendering_new(call->face);
	if (!r)
		return vf_oom(&call->err);
	r->finished = true;
	rc = vf_index_saved_get(call->index, name, &r->spool.buf, &stat, &call->err);
	if (rc) {
		vf_rendering_put(r);
		return rc;
	}
	r->of_version = true;
	r->version = stat.version;
	r->ino = vf_ino_local(site, stat.ino);
	r->mtime_ns = stat.mtime_ns;
	*out = r;
	return 0;
}

static int open_saved(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	bool pending = vf_node_state(call->face, node).pending;
	struct vf_rendering *rendering;
	int rc = 0;

	if (vf_flags_write(flags))
		return open_writer(call, node, flags, out);
	/* Being created by another: there is nothing to read yet. */
	if (pending)
		rc = (rendering = vf_rendering_new(call->face)) ? 0 : vf_oom(&call->err);
	else if (!(rendering = vf_node_rendering(call->face, node)))
		rc = vf_saved_snapshot(call, node->site, name_of(node), &rendering);
	if (rc || (rc = vf_snapshot_open(call, node, flags, rendering, out)))
		return rc;
	if (pending)
		(*out)->keep = false;
	return 0;
}

int vf_saved_create(struct vf_call *call, struct vf_node *dir, const char *name, int flags, struct vf_node **node, struct vf_handle **handle)
{
	struct vf_found found;
	int rc = vf_queries_dir.lookup(call, dir, name, &found);

	return rc ? rc : vf_shadow_create(call, &found, flags, open_writer, node, handle);
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
