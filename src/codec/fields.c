/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include "request_internal.h"
#include "vecfs/name.h"

const char *vf_kind_phrase(enum vf_kind kind)
{
	switch (kind) {
	case VF_NULL:   return "null";
	case VF_BOOL:   return "a boolean";
	case VF_INT:    return "an integer";
	case VF_FLOAT:  return "a float";
	case VF_STRING: return "a string";
	case VF_BIN:    return "binary";
	case VF_LIST:   return "a list";
	case VF_MAP:    return "a map";
	}
	return "unknown";
}

int vf_kind_refuse(const struct vf_value *value, const char *name, const char *wanted, struct vf_err *err)
{
	return vf_fail(err, EINVAL, "%s is %s; it must be %s", name, vf_kind_phrase(value->kind), wanted);
}

static int refuse_unknown(struct vf_span name, const char *what, const struct vf_field *fields, size_t nfields, struct vf_err *err)
{
	char known[400];
	size_t len = 0;

	for (size_t i = 0; i < nfields && len < sizeof known; i++)
		len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", i ? ", " : "", fields[i].name);
	return vf_fail(err, EINVAL, "unknown field '%.*s'; %s may have %s", name.len < 60 ? (int)name.len : 60,
	               (const char *)name.data, what, known);
}

static const struct vf_field *find(struct vf_span name, const struct vf_field *fields, size_t nfields)
{
	for (size_t i = 0; i < nfields; i++)
		if (vf_span_is(name, fields[i].name))
			return &fields[i];
	return NULL;
}

int vf_fields_decode(const struct vf_value *map, const char *what, const struct vf_field *fields, size_t nfields,
                     struct vf_decoding *d, struct vf_err *err)
{
	if (map->kind != VF_MAP)
		return vf_fail(err, EINVAL, "%s is a map, this is %s", what, vf_kind_phrase(map->kind));
	for (uint32_t i = 0; i < map->count; i++) {
		const struct vf_field *field = find(map->entries[i].name, fields, nfields);
		if (!field)
			return refuse_unknown(map->entries[i].name, what, fields, nfields, err);
		int rc = field->take(d, field, &map->entries[i].value, err);
		if (rc)
			return rc;
	}
	return 0;
}

static void *place_of(const struct vf_decoding *d, const struct vf_field *field)
{
	return (char *)d->out + field->at;
}

int vf_field_bool(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	if (value->kind != VF_BOOL)
		return vf_kind_refuse(value, field->name, "true or false", err);
	*(bool *)place_of(d, field) = value->boolean;
	return 0;
}

int vf_field_string(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	if (value->kind != VF_STRING)
		return vf_kind_refuse(value, field->name, "a string", err);
	*(struct vf_span *)place_of(d, field) = value->bytes;
	return 0;
}

static int check_key(const struct vf_value *value, const char *name, struct vf_err *err)
{
	if (value->kind != VF_STRING)
		return vf_kind_refuse(value, name, "a string", err);
	return vf_key_check(value->bytes, err) ? vf_wrap(err, "%s", name) : 0;
}

int vf_field_key(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	int rc = check_key(value, field->name, err);

	return rc ? rc : vf_field_string(d, field, value, err);
}

int vf_field_filter(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_field_rule rule = vf_config_rule(d->config);

	return vf_filter_parse(value, &rule, d->arena, place_of(d, field), err);
}

int vf_field_target(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	return vf_target_take(place_of(d, field), field->name, value, err);
}

int vf_strings_decode(const struct vf_value *value, const char *name, struct vf_arena *arena, struct vf_span **out, size_t *n,
                      struct vf_err *err)
{
	if (value->kind != VF_LIST)
		return vf_kind_refuse(value, name, "a list of strings", err);
	if (value->count == 0)
		return vf_fail(err, EINVAL, "%s is an empty list", name);
	struct vf_span *spans = vf_arena_alloc(arena, value->count * sizeof *spans);
	if (!spans)
		return vf_oom(err);
	for (uint32_t i = 0; i < value->count; i++) {
		const struct vf_value *item = &value->items[i];
		if (item->kind != VF_STRING)
			return vf_fail(err, EINVAL, "%s[%u] is %s; it must be a string", name, i, vf_kind_phrase(item->kind));
		spans[i] = item->bytes;
	}
	*out = spans;
	*n = value->count;
	return 0;
}

int vf_keys_decode(const struct vf_value *value, const char *name, struct vf_arena *arena, struct vf_span **out, size_t *n,
                   struct vf_err *err)
{
	int rc = vf_strings_decode(value, name, arena, out, n, err);

	for (size_t i = 0; rc == 0 && i < *n; i++)
		if ((rc = vf_key_check((*out)[i], err)))
			rc = vf_wrap(err, "%s[%zu]", name, i);
	return rc;
}

int vf_key_decode(const struct vf_value *value, const char *name, struct vf_arena *arena, struct vf_span **out, size_t *n,
                  struct vf_err *err)
{
	int rc = check_key(value, name, err);

	if (rc)
		return rc;
	*out = vf_arena_alloc(arena, sizeof **out);
	if (!*out)
		return vf_oom(err);
	(*out)[0] = value->bytes;
	*n = 1;
	return 0;
}
