/* SPDX-License-Identifier: MIT */
/* config. It is what it names: lines appended to the text that was there are taken alone. */
#include "face_internal.h"

#include <errno.h>

int vf_config_text(struct vf_call *call, struct vf_index *index, struct vf_buf *out)
{
	struct vf_config config;
	int rc = vf_index_config(index, &config, &call->err);

	if (rc)
		return rc;
	rc = vf_config_render(&config, out, &call->err);
	vf_config_free(&config);
	return rc;
}

static int render_config(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	int rc = vf_call_hold(call, site);

	(void)name;
	return rc ? rc : vf_config_text(call, call->index, &out->buf);
}

static int load_config(struct vf_call *call, struct vf_shadow *shadow, struct vf_buf *out)
{
	return vf_config_text(call, shadow->handle.index, out);
}

/* Whole lines that cannot hold: for a shell, which does not look at what close says. */
static int check_config(struct vf_call *call, struct vf_whole *w)
{
	struct vf_span text = vf_whole_news(w);

	while (text.len && text.data[text.len - 1] != '\n')
		text.len--;
	return text.len ? vf_index_config_check(w->shadow.handle.index, text, &call->err) : 0;
}

static int commit_config(struct vf_call *call, struct vf_whole *w)
{
	struct vf_handle *handle = &w->shadow.handle;
	int64_t mtime_ns = vf_node_take_wish(call->face, handle->node);
	int rc = vf_index_configure(handle->index, vf_whole_news(w), &call->err);

	if (rc == 0 && mtime_ns)
		rc = vf_index_set_config_mtime(handle->index, mtime_ns, &call->err);
	if (rc == 0)
		vf_node_staged(call->face, handle->node, vf_stage_span(&w->shadow.stage).len, false);
	return rc;
}

static const struct vf_whole_kind config_kind = {
	.shadow = { .ops = &vf_whole_ops, .size = sizeof(struct vf_whole), .bytes_max = VF_CONFIG_BYTES_MAX, .dir = VF_ROWS, .load = load_config },
	.commit = commit_config, .check = check_config,
};

static int open_config(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct vf_whole *w;

	if (!vf_flags_write(flags))
		return vf_computed_open(call, node, flags, out);
	int rc = vf_whole_open(call, node, flags, &config_kind, &w);
	if (rc == 0)
		*out = &w->shadow.handle;
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
