/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "request_internal.h"

static int take_keys(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_update *update = d->out;

	if (update->nkeys)
		return vf_fail(err, EINVAL, "key and keys exclude one another");
	if (strcmp(field->name, "keys") == 0)
		return vf_keys_decode(value, field->name, d->arena, &update->keys, &update->nkeys, err);
	return vf_key_decode(value, field->name, d->arena, &update->keys, &update->nkeys, err);
}

static int take_set(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_update *update = d->out;
	struct vf_field_rule rule = vf_config_rule(d->config);
	struct vf_buf checked = VF_BUF_INIT;

	if (value->kind != VF_MAP)
		return vf_kind_refuse(value, field->name, "a map of fields and values", err);
	int rc = vf_metadata_encode(value, &rule, &checked, err);
	vf_buf_free(&checked);
	if (rc)
		return vf_wrap(err, "%s", field->name);
	update->set = *value;
	return 0;
}

static int take_unset(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_update *update = d->out;

	if (value->kind == VF_LIST && value->count > VF_LIST_ITEMS_MAX)
		return vf_fail(err, EFBIG, "unset is a list of %u, at most %u are taken", value->count, VF_LIST_ITEMS_MAX);
	return vf_strings_decode(value, field->name, d->arena, &update->unset, &update->nunset, err);
}

static bool is_unset(const struct vf_update *update, struct vf_span name)
{
	for (size_t i = 0; i < update->nunset; i++)
		if (vf_span_equal(update->unset[i], name))
			return true;
	return false;
}

static bool is_set(const struct vf_update *update, struct vf_span name)
{
	for (uint32_t i = 0; i < update->set.count; i++)
		if (vf_span_equal(update->set.entries[i].name, name))
			return true;
	return false;
}

static int check_whole(const struct vf_update *update, struct vf_err *err)
{
	if (!update->nkeys == !update->filter)
		return vf_fail(err, EINVAL, "an update has %s key, keys or filter", update->filter ? "only one of" : "a");
	if (update->set.count == 0 && update->nunset == 0)
		return vf_fail(err, EINVAL, "an update has fields to set or to unset, this one has neither");
	for (uint32_t i = 0; i < update->set.count; i++)
		if (is_unset(update, update->set.entries[i].name))
			return vf_fail(err, EINVAL, "field '%.*s' is in both set and unset", VF_SPAN_ARG(update->set.entries[i].name));
	return 0;
}

int vf_update_from_value(const struct vf_value *value, const struct vf_config *config, struct vf_arena *arena,
                         struct vf_update *out, struct vf_err *err)
{
	static const struct vf_field fields[] = {
		{ "key", take_keys, 0 },
		{ "keys", take_keys, 0 },
		{ "filter", vf_field_filter, offsetof(struct vf_update, filter) },
		{ "set", take_set, 0 },
		{ "unset", take_unset, 0 },
		VF_TARGET_FIELDS(struct vf_update),
	};
	struct vf_decoding d = { .config = config, .arena = arena, .out = out };

	*out = (struct vf_update){ .set = { .kind = VF_MAP } };
	int rc = vf_fields_decode(value, "an update", fields, sizeof fields / sizeof fields[0], &d, err);
	return rc ? rc : check_whole(out, err);
}

/* The old entries that stay, then those that are set. */
static int merge(const struct vf_update *update, const struct vf_value *old, struct vf_arena *arena, struct vf_value *out,
                 struct vf_err *err)
{
	*out = (struct vf_value){ .kind = VF_MAP };
	out->entries = vf_arena_alloc(arena, ((size_t)old->count + update->set.count) * sizeof *out->entries);
	if (!out->entries)
		return vf_oom(err);
	for (uint32_t i = 0; i < old->count; i++)
		if (!is_unset(update, old->entries[i].name) && !is_set(update, old->entries[i].name))
			out->entries[out->count++] = old->entries[i];
	for (uint32_t i = 0; i < update->set.count; i++)
		out->entries[out->count++] = update->set.entries[i];
	return 0;
}

int vf_update_apply(const struct vf_update *update, struct vf_span metadata, const struct vf_field_rule *rule,
                    struct vf_buf *out, struct vf_err *err)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_value old, merged;
	int rc;

	/* The rule is for what is set: a field may have become filterable since its long value was stored. */
	if ((rc = vf_metadata_decode(metadata, &arena, &old, err)) == 0 &&
	    (!rule || (rc = vf_metadata_check_strings(&update->set, rule, err)) == 0) &&
	    (rc = merge(update, &old, &arena, &merged, err)) == 0)
		rc = vf_metadata_encode(&merged, NULL, out, err);
	vf_arena_free(&arena);
	return rc;
}
