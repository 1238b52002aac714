/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "request_internal.h"
#include "vecfs/name.h"

static int take_data(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_record *record = d->out;

	return vf_vector_from_value(value, field->name, d->arena, &record->vector, &record->dim, err);
}

/* Encoded apart and then copied: its size is not known before. */
static int take_metadata(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err)
{
	struct vf_record *record = d->out;
	struct vf_buf canonical = VF_BUF_INIT;

	(void)field;
	if (value->kind == VF_NULL || (value->kind == VF_MAP && value->count == 0))
		return 0;
	int rc = vf_metadata_encode(value, NULL, &canonical, err);
	if (rc == 0) {
		record->metadata = vf_arena_copy(d->arena, vf_buf_span(&canonical));
		if (!record->metadata.data)
			rc = vf_oom(err);
	}
	vf_buf_free(&canonical);
	return rc;
}

/* The key is looked at by vf_record_check: a file name overrides it before. */
int vf_record_from_value(const struct vf_value *value, struct vf_arena *arena, struct vf_record *out, struct vf_err *err)
{
	static const struct vf_field fields[] = {
		{ "key", vf_field_string, offsetof(struct vf_record, key) },
		{ "data", take_data, 0 },
		{ "metadata", take_metadata, 0 },
		{ "ifAbsent", vf_field_bool, offsetof(struct vf_record, if_absent) },
	};
	struct vf_decoding d = { .arena = arena, .out = out };

	*out = (struct vf_record){ .metadata = vf_metadata_empty };
	return vf_fields_decode(value, "a record", fields, sizeof fields / sizeof fields[0], &d, err);
}

/* Only metadata that is longer than one string may be can hold a string that is too long: the others are not decoded for it. */
int vf_metadata_check(struct vf_span metadata, const struct vf_config *config, struct vf_err *err)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_value map;

	if (metadata.len > VF_METADATA_BYTES_MAX)
		return vf_fail(err, EFBIG, "metadata has %zu bytes, at most %u are taken", metadata.len, VF_METADATA_BYTES_MAX);
	if (metadata.len <= VF_FILTERABLE_BYTES_MAX)
		return 0;
	int rc = vf_metadata_decode(metadata, &arena, &map, err);
	if (rc == 0) {
		struct vf_field_rule rule = vf_config_rule(config);
		rc = vf_metadata_check_strings(&map, &rule, err);
	}
	vf_arena_free(&arena);
	return rc;
}

int vf_record_check(const struct vf_record *record, const struct vf_config *config, const char *index, struct vf_err *err)
{
	int rc;

	if (!record->key.data)
		return vf_fail(err, EINVAL, "the record has no key");
	if ((rc = vf_key_check(record->key, err)))
		return rc;
	if (!record->vector)
		return vf_fail(err, EINVAL, "the record has no data");
	if ((rc = vf_vector_check_dim(record->dim, "vector", config, index, err)) ||
	    (rc = vf_vector_check_numbers(record->vector, record->dim, "data", config->metric, err)))
		return rc;
	return vf_metadata_check(record->metadata, config, err);
}

int vf_record_render(const struct vf_record *record, enum vf_format format, struct vf_buf *out, struct vf_err *err)
{
	struct vf_emitter e;

	vf_emit_begin(&e, format, out);
	vf_emit_map(&e, 3);
	vf_emit_name(&e, "key");
	vf_emit_string(&e, record->key);
	vf_emit_name(&e, "data");
	vf_emit_map(&e, 1);
	vf_emit_name(&e, "float32");
	vf_emit_floats(&e, record->vector, record->dim);
	vf_emit_close(&e);
	vf_emit_name(&e, "metadata");
	vf_emit_msgpack(&e, record->metadata.len ? record->metadata : vf_metadata_empty);
	vf_emit_close(&e);
	int rc = vf_emit_end(&e, err);
	return rc == 0 && format == VF_JSON ? vf_buf_put_str(out, "\n", err) : rc;
}

/* The header of a msgpack string, and of a list: the shortest that holds the count. */
static uint64_t string_header(uint32_t bytes)
{
	return bytes < 32 ? 1 : bytes <= UINT8_MAX ? 2 : bytes <= UINT16_MAX ? 3 : 5;
}

static uint64_t list_header(uint32_t items)
{
	return items < 16 ? 1 : items <= UINT16_MAX ? 3 : 5;
}

uint64_t vf_record_msgpack_size(uint32_t key_bytes, uint32_t dim, uint32_t metadata_bytes)
{
	uint64_t names = sizeof "key" + sizeof "data" + sizeof "float32" + sizeof "metadata";   /* each with its one-byte header */
	uint64_t maps = 2;

	return maps + names + string_header(key_bytes) + key_bytes + list_header(dim) + 5 * (uint64_t)dim +
	       (metadata_bytes ? metadata_bytes : vf_metadata_empty.len);
}
