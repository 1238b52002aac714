/* SPDX-License-Identifier: MIT */
/* -o xattr: user.vecfs.metadata.FIELD of a record's file reads and sets one metadata field.
 *
 * A string is its bytes; any other value is JSON. What is set is taken as JSON when it is a boolean, a number or a list, else as a string; in quotes
 * it is a string in any case. So a string that would be taken for something else is given in quotes: programs that copy attributes set what they got.
 *
 * A file that is still being written has no fields yet. Copiers set them all the same (rsync -X on its temporary file, tar before the first byte): that is
 * accepted and forgotten, since the bytes that they copy hold the fields. */
#include "face_internal.h"

#include <errno.h>
#include <linux/limits.h>
#include <sys/xattr.h>

#define PREFIX "user.vecfs.metadata."

static bool is_record(const struct vf_node *node)
{
	return node->row == &vf_tree[VF_ROW_RECORD] || node->row == &vf_tree[VF_ROW_RECORD_JSON];
}

static int metadata_of(struct vf_call *call, struct vf_node *node, struct vf_value *out)
{
	struct vf_record record;
	int rc = vf_call_hold(call, node->site);

	(void)(rc || (rc = vf_index_get(call->index, node->name, &call->arena, &record, NULL, &call->err)) ||
	       (rc = vf_metadata_decode(record.metadata, &call->arena, out, &call->err)));
	return rc;
}

static bool is_ours(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0 && name[strlen(PREFIX)] != '\0';
}

/* The field of an attribute name; NULL: not one of ours. */
static const char *field_of(const struct vf_node *node, const char *name)
{
	return is_record(node) && is_ours(name) ? name + strlen(PREFIX) : NULL;
}

/* Numbers, booleans, lists and quoted strings are JSON; all else is a string as it is. */
static int value_of(struct vf_call *call, struct vf_span bytes, struct vf_value *out)
{
	struct vf_err ignored = VF_ERR_INIT;

	if (bytes.len && vf_value_decode(VF_JSON, bytes, &call->arena, out, &ignored) == 0 && out->kind != VF_NULL && out->kind != VF_MAP)
		return 0;
	if (!vf_utf8_valid(bytes))
		return vf_fail(&call->err, EINVAL, "a metadata value is JSON or a string of valid UTF-8");
	*out = (struct vf_value){ .kind = VF_STRING, .bytes = bytes };
	return 0;
}

static bool reads_as_itself(struct vf_call *call, struct vf_span string)
{
	struct vf_value value;

	return value_of(call, string, &value) == 0 && value.kind == VF_STRING && vf_span_equal(value.bytes, string);
}

int vf_xattr_get(struct vf_call *call, struct vf_node *node, const char *name, struct vf_buf *out)
{
	const char *field = field_of(node, name);
	struct vf_value metadata;
	struct vf_emitter emitter;
	int rc;

	if (!field)
		return -ENODATA;
	rc = metadata_of(call, node, &metadata);
	if (rc)
		return rc;
	const struct vf_value *value = vf_value_find(&metadata, field);
	if (!value)
		return -ENODATA;
	if (value->kind == VF_STRING && reads_as_itself(call, value->bytes))
		return vf_buf_put(out, value->bytes.data, value->bytes.len, &call->err);
	vf_emit_begin(&emitter, VF_JSON, out);
	vf_emit_value(&emitter, value);
	return vf_emit_end(&emitter, &call->err);
}

int vf_xattr_list(struct vf_call *call, struct vf_node *node, struct vf_buf *out)
{
	struct vf_value metadata;
	int rc = is_record(node) ? metadata_of(call, node, &metadata) : 0;

	for (uint32_t i = 0; rc == 0 && is_record(node) && i < metadata.count; i++) {
		struct vf_span field = metadata.entries[i].name;
		/* A name that the system could not take back is left out. */
		if (field.len == 0 || field.len + strlen(PREFIX) > XATTR_NAME_MAX || memchr(field.data, 0, field.len))
			continue;
		(void)((rc = vf_buf_put_str(out, PREFIX, &call->err)) || (rc = vf_buf_put(out, field.data, field.len, &call->err)) ||
		       (rc = vf_buf_put(out, "", 1, &call->err)));
	}
	return rc;
}

static int apply(struct vf_call *call, const struct vf_update *update)
{
	struct vf_receipt receipt = { 0 };
	struct vf_batch *batch = NULL;
	int rc;

	(void)((rc = vf_batch_new(call->index, &batch, &call->err)) || (rc = vf_batch_update(batch, update, &call->err)) ||
	       (rc = vf_batch_apply(batch, &receipt, &call->err)));
	vf_batch_free(&batch);
	return rc;
}

static int exists(struct vf_call *call, struct vf_node *node, const char *field, bool *out)
{
	struct vf_value metadata;
	int rc = metadata_of(call, node, &metadata);

	*out = rc == 0 && vf_value_find(&metadata, field);
	return rc;
}

static int done(struct vf_call *call, struct vf_node *node, int rc)
{
	if (rc == 0)
		vf_site_changed(call->face, node->site, call->index);
	return rc;
}

int vf_xattr_set(struct vf_call *call, struct vf_node *node, const char *name, struct vf_span value, int flags)
{
	const char *field = field_of(node, name);
	struct vf_span key = node->name;
	struct vf_entry entry;
	bool there;

	if (node->row == &vf_tree[VF_ROW_SCRATCH] && is_ours(name))
		return 0;
	if (!field)
		return -ENOTSUP;
	entry.name = vf_span_str(field);
	int rc = exists(call, node, field, &there);
	/* A record that is still being written. */
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if ((flags & XATTR_CREATE) && there)
		return -EEXIST;
	if ((flags & XATTR_REPLACE) && !there)
		return -ENODATA;
	rc = value_of(call, value, &entry.value);
	struct vf_update update = { .keys = &key, .nkeys = 1, .set = { .kind = VF_MAP, .count = 1, .entries = &entry } };
	return rc ? rc : done(call, node, apply(call, &update));
}

int vf_xattr_remove(struct vf_call *call, struct vf_node *node, const char *name)
{
	const char *field = field_of(node, name);
	struct vf_span key = node->name, unset;
	bool there;

	if (!field)
		return -ENODATA;
	int rc = exists(call, node, field, &there);
	if (rc || !there)
		return rc ? rc : -ENODATA;
	unset = vf_span_str(field);
	struct vf_update update = { .keys = &key, .nkeys = 1, .set = { .kind = VF_MAP }, .unset = &unset, .nunset = 1 };
	return done(call, node, apply(call, &update));
}
