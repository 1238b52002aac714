/* SPDX-License-Identifier: MIT */
/* vectors/: a record a file, and temporary files. */
#include "face_internal.h"

#include <errno.h>

static bool ends_in(struct vf_span name, const char *end)
{
	size_t n = strlen(end);

	return name.len > n && memcmp(name.data + name.len - n, end, n) == 0;
}

int vf_vectors_name(struct vf_call *call, const char *name, enum vf_name_kind *kind, enum vf_row_id *row, struct vf_span *key)
{
	struct vf_span s = vf_span_str(name);

	*kind = VF_NAME_OTHER;
	if (s.len > VF_FILE_NAME_BYTES_MAX)
		return vf_fail(&call->err, ENAMETOOLONG, "a file name has at most %u bytes, this one has %zu", VF_FILE_NAME_BYTES_MAX, s.len);
	if (vf_name_is_scratch(name)) {
		*kind = VF_NAME_SCRATCH;
		return 0;
	}
	bool msgpack = ends_in(s, ".msgpack");
	if (!msgpack && !ends_in(s, ".json"))
		return 0;
	*kind = VF_NAME_GOOD;
	*row = msgpack ? VF_ROW_RECORD : VF_ROW_RECORD_JSON;
	return vf_call_key(call, vf_span(s.data, s.len - strlen(msgpack ? ".msgpack" : ".json")), key);
}

int vf_vectors_bad_name(struct vf_call *call, const char *name)
{
	return vf_fail(&call->err, EINVAL, "vectors/ has KEY.msgpack and KEY.json, and temporary files (.NAME, NAME~, NAME.tmp, NAME.part, NAME.swp); "
	               "not '%s'", name);
}

static int vectors_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	enum vf_name_kind kind;
	enum vf_row_id row;
	struct vf_span key;
	int rc = vf_vectors_name(call, name, &kind, &row, &key);

	/* A name that cannot be is not there; only creating it is wrong. */
	if (rc == -ENAMETOOLONG || rc == -ENOMEM)
		return rc;
	if (kind == VF_NAME_SCRATCH)
		return vf_scratch_lookup(call, dir, name, out);
	if (rc || kind == VF_NAME_OTHER)
		return -ENOENT;
	*out = (struct vf_found){ .row = &vf_tree[row], .site = vf_site_use(call->face, dir->site), .name = key };
	return vf_record_find(call, out);
}

/* ---- listing: keys in order, a page at a time; behind the last one the temporary files ---- */

struct key_list { struct vf_dir *list; struct vf_buf name; struct vf_err *err; int rc; };

static int emit_key(void *ctx, struct vf_span key, uint64_t ino)
{
	struct key_list *k = ctx;
	struct vf_dir *list = k->list;

	if (vf_dir_full(list))
		return 1;
	vf_buf_clear(&k->name);
	if ((k->rc = vf_key_escape(key, &k->name, k->err)) || (k->rc = vf_buf_put_str(&k->name, ".msgpack", k->err)))
		return 1;
	/* Too long for a file name: not listed, but counted in stats. */
	if (k->name.len <= VF_FILE_NAME_BYTES_MAX &&
	    !vf_dir_add(list, vf_buf_span(&k->name), vf_ino_local(list->node->site, ino), S_IFREG)) {
		k->rc = vf_oom(k->err);
		return 1;
	}
	k->rc = vf_dir_after(list, key, k->err);
	return k->rc != 0;
}

static int vectors_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	struct key_list k = { .list = list, .err = &call->err };

	if (list->phase)
		return vf_scratch_list(call, dir, list);
	int rc = vf_call_hold(call, dir->site);
	if (rc == 0)
		rc = vf_index_list(call->index, vf_buf_span(&list->after), emit_key, &k, &call->err);
	vf_buf_free(&k.name);
	if (!vf_dir_full(list))
		list->phase = 1;
	return rc < 0 ? rc : k.rc;
}

static int vectors_create(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode, int flags, struct vf_node **node,
                          struct vf_handle **handle)
{
	enum vf_name_kind kind;
	enum vf_row_id row;
	struct vf_span key;
	int rc = vf_vectors_name(call, name, &kind, &row, &key);

	if (rc)
		return rc;
	switch (kind) {
	case VF_NAME_SCRATCH: return vf_scratch_create(call, dir, name, mode, flags, node, handle);
	case VF_NAME_GOOD:    return vf_record_create(call, dir, row, key, flags, node, handle);
	case VF_NAME_OTHER:   break;
	}
	return vf_vectors_bad_name(call, name);
}

static int remove_record(struct vf_call *call, struct vf_node *dir, struct vf_span key)
{
	int rc = vf_call_hold(call, dir->site);

	if (rc)
		return rc;
	vf_names_lock(call->face, dir->site, key, key);
	rc = vf_removals_take(call, dir->site, key);
	if (rc > 0)
		rc = vf_index_remove(call->index, key, &call->err);
	bool writers = vf_writers_moved(call->face, dir->site, VF_ROW_VECTORS, key, vf_span(NULL, 0), false);
	vf_names_unlock(call->face, dir->site, key, key);
	if (rc && !(rc == -ENOENT && writers))
		return rc;
	vf_node_unlinked(call->face, VF_ROW_RECORD, dir->site, key);
	vf_node_unlinked(call->face, VF_ROW_RECORD_JSON, dir->site, key);
	if (rc == 0)
		vf_site_changed(call->face, dir->site, call->index);
	return 0;
}

static int vectors_unlink(struct vf_call *call, struct vf_node *dir, const char *name)
{
	enum vf_name_kind kind;
	enum vf_row_id row;
	struct vf_span key;
	int rc = vf_vectors_name(call, name, &kind, &row, &key);

	if (rc)
		return rc;
	switch (kind) {
	case VF_NAME_SCRATCH: return vf_scratch_unlink(call, dir, name);
	case VF_NAME_GOOD:    return remove_record(call, dir, key);
	case VF_NAME_OTHER:   break;
	}
	return -ENOENT;
}

const struct vf_dir_ops vf_vectors_dir = {
	.lookup = vectors_lookup, .list = vectors_list, .create = vectors_create, .unlink = vectors_unlink,
};
