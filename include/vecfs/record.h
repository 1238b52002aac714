/* SPDX-License-Identifier: MIT */
/* record.h - one record: key, vector, metadata; from any of the forms that users write to the canonical one.
 *
 * Metadata is kept as canonical msgpack: one map, names in byte order, integers in their shortest form, floats as float64,
 * empty map when there is none. Same metadata, same bytes. */
#ifndef VECFS_RECORD_H
#define VECFS_RECORD_H

#include "vecfs/config.h"
#include "vecfs/format.h"

struct vf_record {
	struct vf_span key;            /* len 0: none was given */
	const float *vector;           /* aligned to 4; NULL: no "data" (EINVAL to whoever needs it) */
	uint32_t dim;
	struct vf_span metadata;       /* canonical msgpack */
	bool if_absent;
	int64_t mtime_ns;              /* 0: now */
};

/* From a decoded map {"key", "data", "metadata", "ifAbsent"} into the arena. An unknown field is EINVAL. `key` may be missing here. */
int vf_record_from_value(const struct vf_value *value, struct vf_arena *arena, struct vf_record *out, struct vf_err *err);
/* What an index asks of a record: key present and valid, dimension ("vector has 383 numbers, index docs has 384"), finite numbers, no zero
 * vector under cosine, metadata limits (EFBIG). `index` is the name for the message. */
int vf_record_check(const struct vf_record *record, const struct vf_config *config, const char *index, struct vf_err *err);
/* Canonical metadata from a decoded map: EINVAL null, nesting, not finite; EFBIG past the limits. `rule` NULL: no limit per filterable value. */
int vf_metadata_encode(const struct vf_value *map, const struct vf_field_rule *rule, struct vf_buf *out, struct vf_err *err);
int vf_metadata_decode(struct vf_span canonical, struct vf_arena *arena, struct vf_value *out, struct vf_err *err);
/* EFBIG: more bytes than a record may have, or a string of a field that is filterable in this config that is longer than an index takes. */
int vf_metadata_check(struct vf_span canonical, const struct vf_config *config, struct vf_err *err);
/* {"float32": [...]}, a plain list of numbers, or (msgpack) a bin of little-endian float32. `what` names it in messages ("data", "queryVector").
 * A number beyond float32 is EINVAL. */
int vf_vector_from_value(const struct vf_value *value, const char *what, struct vf_arena *arena,
                         const float **vector, uint32_t *dim, struct vf_err *err);

/* The canonical file: {"key", "data": {"float32": [...]}, "metadata": {...}}; JSON ends in a newline. */
int vf_record_render(const struct vf_record *record, enum vf_format format, struct vf_buf *out, struct vf_err *err);
/* The exact size of the msgpack rendering, without rendering. */
uint64_t vf_record_msgpack_size(uint32_t key_bytes, uint32_t dim, uint32_t metadata_bytes);

#endif
