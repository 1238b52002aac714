/* SPDX-License-Identifier: MIT */
/* Files that are computed when they are looked up: stats, errors, exports, metrics. They are read; what is written to them changes nothing. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>

/* The size of what is served; a rendering that failed has none and says why when it is opened. */
static void fill(struct vf_found *found, struct vf_rendering *rendering, uint64_t version)
{
	found->rendering = rendering;
	found->version = version;
	found->size = rendering->rc ? 0 : vf_spool_size(&rendering->spool);
}

int vf_computed_find(struct vf_call *call, struct vf_found *found, uint64_t version)
{
	struct vf_rendering *rendering;
	int rc = vf_rendering_get(call, found->row, found->site, found->name, version, &rendering);

	if (rc) {
		vf_found_drop(call->face, found);
		return rc;
	}
	fill(found, rendering, version);
	return 0;
}

/* Small files that change at any time are rendered at every lookup: their bytes are their version. */
int vf_volatile_find(struct vf_call *call, struct vf_found *found)
{
	struct vf_rendering *rendering;
	uint64_t version = 0;
	char user[16];
	int rc = 0;

	if (found->row->file == &vf_errors_file || found->row->file == &vf_all_errors_file) {
		/* Everybody has an own `errors`. */
		snprintf(user, sizeof user, "%u", (unsigned)call->uid);
		found->name = vf_arena_copy(&call->arena, vf_span_str(user));
		if (!found->name.data)
			rc = vf_oom(&call->err);
	}
	if (rc == 0)
		rc = vf_rendering_make(call, found->row, found->site, found->name, &version, &rendering);
	if (rc) {
		vf_found_drop(call->face, found);
		return rc;
	}
	fill(found, rendering, version);
	return 0;
}

int vf_computed_open(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct vf_rendering *rendering = vf_node_rendering(call->face, node);
	int rc = 0;

	if (vf_flags_write(flags)) {
		if (rendering)
			vf_rendering_put(rendering);
		return vf_fail(&call->err, EPERM, "%s is computed: it can be read only", node->row->path);
	}
	if (!rendering) {
		/* That of the lookup, unless it had to go since: then made again, and told when that gave another size. */
		rc = vf_rendering_get(call, node->row, node->site, node->name, node->version, &rendering);
		if (rc == 0 && rendering->rc == 0)
			vf_node_resized(call->face, node, vf_spool_size(&rendering->spool));
	}
	if (rc)
		return rc;
	if (rendering->rc) {
		rc = rendering->rc;
		call->err = rendering->err;
		vf_rendering_put(rendering);
		return rc;
	}
	return vf_snapshot_open(call, node, flags, rendering, out);
}

int vf_restorable_open(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct vf_rendering *rendering = vf_node_rendering(call->face, node);

	if (!vf_flags_write(flags)) {
		if (rendering)
			vf_rendering_put(rendering);
		return vf_computed_open(call, node, flags, out);
	}
	if (!rendering && !(rendering = vf_rendering_new(call->face)))
		return vf_oom(&call->err);
	return vf_snapshot_open(call, node, flags, rendering, out);
}

int vf_restorable_truncate(struct vf_call *call, struct vf_node *node, uint64_t size)
{
	(void)call, (void)node, (void)size;
	return 0;
}

/* ---- each of them ---- */

static int render_stats(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	int rc = vf_call_hold(call, site);

	(void)name;
	return rc ? rc : vf_index_stats(call->index, &out->buf, &call->err);
}

static uid_t user_of(struct vf_span name)
{
	return (uid_t)strtoul((const char *)name.data, NULL, 10);
}

static int render_errors(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	return vf_ring_render(call->face->ring, site, user_of(name), out, &call->err);
}

static int render_metrics(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	(void)site, (void)name;
	return vf_metrics_render(call, out);
}

static int render_version(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	(void)site, (void)name;
	return vf_buf_printf(&out->buf, &call->err, "vecfs %s\nformat %u\n", PACKAGE_VERSION, VF_STORE_FORMAT);
}

static int render_export(struct vf_call *call, struct vf_site *site, enum vf_export what, struct vf_spool *out)
{
	int rc = vf_call_hold(call, site);

	return rc ? rc : vf_index_export(call->index, what, out, &call->err);
}

static int render_msgpack(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	(void)name;
	return render_export(call, site, VF_EXPORT_MSGPACK, out);
}

static int render_jsonl(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	(void)name;
	return render_export(call, site, VF_EXPORT_JSONL, out);
}

static int render_npy(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	(void)name;
	return render_export(call, site, VF_EXPORT_NPY, out);
}

static int render_keys(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	(void)name;
	return render_export(call, site, VF_EXPORT_KEYS, out);
}

const struct vf_file_ops vf_stats_file = {
	.open = vf_restorable_open, .render = render_stats, .truncate = vf_restorable_truncate,
};
const struct vf_file_ops vf_errors_file = {
	.open = vf_restorable_open, .render = render_errors, .truncate = vf_restorable_truncate,
};
const struct vf_file_ops vf_all_errors_file = { .open = vf_computed_open, .render = render_errors };
const struct vf_file_ops vf_metrics_file = { .open = vf_computed_open, .render = render_metrics };
const struct vf_file_ops vf_release_file = { .open = vf_computed_open, .render = render_version };
const struct vf_file_ops vf_export_msgpack_file = { .open = vf_computed_open, .render = render_msgpack, .renders_long = true };
const struct vf_file_ops vf_export_jsonl_file = { .open = vf_computed_open, .render = render_jsonl, .renders_long = true };
const struct vf_file_ops vf_export_npy_file = { .open = vf_computed_open, .render = render_npy, .renders_long = true };
const struct vf_file_ops vf_export_keys_file = { .open = vf_computed_open, .render = render_keys, .renders_long = true };
