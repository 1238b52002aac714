/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "request_internal.h"

static int take_keys(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_delete *request = d->out;

	if (request->nkeys)
		return vf_fail(err, EINVAL, "key and keys exclude one another");
	if (strcmp(field->name, "keys") == 0)
		return vf_keys_decode(value, field->name, d->arena, &request->keys, &request->nkeys, err);
	return vf_key_decode(value, field->name, d->arena, &request->keys, &request->nkeys, err);
}

int vf_delete_from_value(const struct vf_value *value, const struct vf_config *config, struct vf_arena *arena,
                         struct vf_delete *out, struct vf_err *err)
{
	static const struct vf_field fields[] = {
		{ "key", take_keys, 0 },
		{ "keys", take_keys, 0 },
		{ "filter", vf_field_filter, offsetof(struct vf_delete, filter) },
		VF_TARGET_FIELDS(struct vf_delete),
	};
	struct vf_decoding d = { .config = config, .arena = arena, .out = out };

	*out = (struct vf_delete){ .keys = NULL };
	if (value->kind == VF_STRING)
		return vf_key_decode(value, "key", arena, &out->keys, &out->nkeys, err);
	int rc = vf_fields_decode(value, "a deletion", fields, sizeof fields / sizeof fields[0], &d, err);
	if (rc)
		return rc;
	if (!out->nkeys == !out->filter)
		return vf_fail(err, EINVAL, "a deletion has %s key, keys or filter", out->filter ? "only one of" : "a");
	return 0;
}
