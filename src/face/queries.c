/* SPDX-License-Identifier: MIT */
/* queries/: saved questions, ordinary files, and temporary files. */
#include "face_internal.h"

#include <errno.h>

#include "vecfs/clock.h"

static bool ends_in(struct vf_span name, const char *end)
{
	size_t n = strlen(end);

	return name.len > n && memcmp(name.data + name.len - n, end, n) == 0;
}

enum vf_name_kind vf_queries_name(const char *name)
{
	struct vf_span s = vf_span_str(name);

	if (vf_name_is_scratch(name))
		return VF_NAME_SCRATCH;
	return ends_in(s, ".json") || ends_in(s, ".msgpack") ? VF_NAME_GOOD : VF_NAME_OTHER;
}

enum vf_format vf_saved_format(struct vf_span name)
{
	return ends_in(name, ".msgpack") ? VF_MSGPACK : VF_JSON;
}

int vf_queries_bad_name(struct vf_call *call, const char *name)
{
	return vf_fail(&call->err, EINVAL, "queries/ has NAME.json and NAME.msgpack, and temporary files (.NAME, NAME~, NAME.tmp, NAME.part, NAME.swp); "
	               "not '%s'", name);
}

static int queries_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	struct vf_saved saved;

	if (strlen(name) > VF_FILE_NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (vf_queries_name(name) != VF_NAME_GOOD)
		return vf_scratch_lookup(call, dir, name, out);
	int rc = vf_call_hold(call, dir->site);
	if (rc)
		return rc;
	rc = vf_index_saved_stat(call->index, name, &saved, &call->err);
	if (rc && rc != -ENOENT)
		return rc;
	*out = (struct vf_found){ .row = &vf_tree[VF_ROW_SAVED], .site = vf_site_use(call->face, dir->site), .name = vf_span_str(name) };
	out->pending = rc == -ENOENT;
	if (rc)
		return 0;
	/* What it was given before was another version when it came to open it. */
	if (vf_node_was_refused(call, out) && vf_saved_snapshot(call, dir->site, name, &out->rendering) == 0)
		saved = (struct vf_saved){ saved.ino, out->rendering->version, out->rendering->mtime_ns, (uint32_t)vf_spool_size(&out->rendering->spool) };
	out->ino = vf_ino_local(dir->site, saved.ino);
	out->version = saved.version;
	out->size = saved.bytes;
	out->mtime_ns = out->ctime_ns = saved.mtime_ns;
	return 0;
}

struct saved_list { struct vf_dir *list; struct vf_err *err; int rc; };

static int emit_saved(void *ctx, const char *name, uint64_t ino)
{
	struct saved_list *s = ctx;

	if (vf_dir_full(s->list))
		return 1;
	if (!vf_dir_add(s->list, vf_span_str(name), vf_ino_local(s->list->node->site, ino), S_IFREG))
		s->rc = vf_oom(s->err);
	else
		s->rc = vf_dir_after(s->list, vf_span(name, strlen(name) + 1), s->err);
	return s->rc != 0;
}

static int queries_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	struct saved_list s = { list, &call->err, 0 };

	if (list->phase)
		return vf_scratch_list(call, dir, list);
	int rc = vf_call_hold(call, dir->site);
	if (rc == 0)
		rc = vf_index_saved_list(call->index, list->after.len ? (char *)list->after.data : NULL, emit_saved, &s, &call->err);
	if (!vf_dir_full(list))
		list->phase = 1;
	return rc < 0 ? rc : s.rc;
}

static int queries_create(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode, int flags, struct vf_node **node,
                          struct vf_handle **handle)
{
	if (strlen(name) > VF_FILE_NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	switch (vf_queries_name(name)) {
	case VF_NAME_SCRATCH: return vf_scratch_create(call, dir, name, mode, flags, node, handle);
	case VF_NAME_GOOD:    return vf_saved_create(call, dir, name, flags, node, handle);
	case VF_NAME_OTHER:   break;
	}
	return vf_queries_bad_name(call, name);
}

static int queries_unlink(struct vf_call *call, struct vf_node *dir, const char *name)
{
	if (vf_queries_name(name) != VF_NAME_GOOD)
		return vf_scratch_unlink(call, dir, name);
	struct vf_span key = vf_span_str(name);
	int rc = vf_call_hold(call, dir->site);
	if (rc)
		return rc;
	vf_names_lock(call->face, dir->site, key, key);
	rc = vf_index_saved_remove(call->index, name, &call->err);
	/* One that is being created has a name, and nothing on disk. */
	bool writers = (rc == 0 || rc == -ENOENT) && vf_writers_moved(call->face, dir->site, VF_ROW_QUERIES, key, vf_span(NULL, 0), false);
	vf_names_unlock(call->face, dir->site, key, key);
	if (rc && rc != -ENOENT)
		return rc;
	vf_node_unlinked(call->face, VF_ROW_SAVED, dir->site, key);
	if (rc == 0)
		vf_site_changed(call->face, dir->site, call->index);
	return writers ? 0 : rc;
}

const struct vf_dir_ops vf_queries_dir = {
	.lookup = queries_lookup, .list = queries_list, .create = queries_create, .unlink = queries_unlink,
};
