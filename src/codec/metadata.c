/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "request_internal.h"

#define ALLOWED "values are strings, booleans, numbers, or lists of those"

const struct vf_span vf_metadata_empty = { (const uint8_t *)"\x80", 1 };

static int check_scalar(struct vf_span field, const struct vf_value *value, const char *in_list, struct vf_err *err)
{
	switch (value->kind) {
	case VF_BOOL:
	case VF_INT:
	case VF_STRING:
		return 0;
	case VF_FLOAT:
		if (isfinite(value->real))
			return 0;
		return vf_fail(err, EINVAL, "metadata field '%.*s' %sis %s; numbers are finite", VF_SPAN_ARG(field), in_list,
		               isnan(value->real) ? "NaN" : "infinite");
	case VF_NULL:
	case VF_BIN:
	case VF_LIST:
	case VF_MAP:
		break;
	}
	return vf_fail(err, EINVAL, "metadata field '%.*s' %sis %s; " ALLOWED, VF_SPAN_ARG(field), in_list,
	               vf_kind_phrase(value->kind));
}

/* JSON as it is read here has no NUL in a name: what is stored must be readable in both formats. */
static int check_name(struct vf_span field, struct vf_err *err)
{
	return field.len && memchr(field.data, 0, field.len) ? vf_fail(err, EINVAL, "the name of a metadata field holds a NUL byte") : 0;
}

static int check_value(struct vf_span field, const struct vf_value *value, struct vf_err *err)
{
	int rc = 0;

	if (value->kind != VF_LIST)
		return check_scalar(field, value, "", err);
	if (value->count > VF_LIST_ITEMS_MAX)
		return vf_fail(err, EFBIG, "metadata field '%.*s' is a list of %u, at most %u are taken", VF_SPAN_ARG(field), value->count,
		               VF_LIST_ITEMS_MAX);
	for (uint32_t i = 0; rc == 0 && i < value->count; i++)
		rc = check_scalar(field, &value->items[i], "has an element that ", err);
	return rc;
}

static int check_map(const struct vf_value *map, struct vf_err *err)
{
	int rc = 0;

	if (map->kind != VF_MAP)
		return vf_kind_refuse(map, "metadata", "a map", err);
	if (map->count > VF_METADATA_FIELDS_MAX)
		return vf_fail(err, EFBIG, "metadata has %u fields, at most %u are taken", map->count, VF_METADATA_FIELDS_MAX);
	for (uint32_t i = 0; rc == 0 && i < map->count; i++)
		if ((rc = check_name(map->entries[i].name, err)) == 0)
			rc = check_value(map->entries[i].name, &map->entries[i].value, err);
	return rc;
}

static int check_string(struct vf_span field, const struct vf_value *value, struct vf_err *err)
{
	if (value->kind != VF_STRING || value->bytes.len <= VF_FILTERABLE_BYTES_MAX)
		return 0;
	return vf_fail(err, EFBIG, "metadata field '%.*s' has a string of %zu bytes, a filterable one has at most %u; name the field in "
	               "non_filterable in config to store longer ones", VF_SPAN_ARG(field), value->bytes.len, VF_FILTERABLE_BYTES_MAX);
}

int vf_metadata_check_strings(const struct vf_value *map, const struct vf_field_rule *rule, struct vf_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < map->count; i++) {
		const struct vf_entry *entry = &map->entries[i];
		if (!rule->filterable(rule->ctx, entry->name))
			continue;
		rc = check_string(entry->name, &entry->value, err);
		if (entry->value.kind == VF_LIST)
			for (uint32_t k = 0; rc == 0 && k < entry->value.count; k++)
				rc = check_string(entry->name, &entry->value.items[k], err);
	}
	return rc;
}

static int by_name(const void *a, const void *b)
{
	return vf_span_compare(((const struct vf_entry *)a)->name, ((const struct vf_entry *)b)->name);
}

int vf_metadata_encode(const struct vf_value *map, const struct vf_field_rule *rule, struct vf_buf *out, struct vf_err *err)
{
	struct vf_entry sorted[VF_METADATA_FIELDS_MAX];
	struct vf_emitter e;
	size_t start = out->len;
	int rc = check_map(map, err);

	if (rc || (rule && (rc = vf_metadata_check_strings(map, rule, err))))
		return rc;
	if (map->count) {
		memcpy(sorted, map->entries, map->count * sizeof *sorted);
		qsort(sorted, map->count, sizeof *sorted, by_name);
	}
	vf_emit_begin(&e, VF_MSGPACK, out);
	vf_emit_value(&e, &(struct vf_value){ .kind = VF_MAP, .count = map->count, .entries = sorted });
	rc = vf_emit_end(&e, err);
	if (rc == 0 && out->len - start > VF_METADATA_BYTES_MAX)
		rc = vf_fail(err, EFBIG, "metadata has %zu bytes, at most %u are taken", out->len - start, VF_METADATA_BYTES_MAX);
	if (rc)
		out->len = start;
	return rc;
}

int vf_metadata_decode(struct vf_span canonical, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	/* Most records have none: no parser is made for it. */
	if (canonical.len > vf_metadata_empty.len)
		return vf_value_decode(VF_MSGPACK, canonical, arena, out, err);
	*out = (struct vf_value){ .kind = VF_MAP };
	return canonical.len && canonical.data[0] != vf_metadata_empty.data[0]
	           ? vf_fail(err, EINVAL, "metadata of one byte, 0x%02x, is no map", canonical.data[0]) : 0;
}
