/* SPDX-License-Identifier: MIT */
/* value.h - one decoded value, whatever format it came in: what msgpack and JSON have in common.
 *
 * A tree of values lives in the arena that it was decoded into; strings and bins may point into the input.
 * Integers are signed 64-bit, exact. Maps keep the order of the input; names in one map are unique. */
#ifndef VECFS_VALUE_H
#define VECFS_VALUE_H

#include "vecfs/span.h"

enum vf_kind { VF_NULL, VF_BOOL, VF_INT, VF_FLOAT, VF_STRING, VF_BIN, VF_LIST, VF_MAP };

struct vf_entry;
struct vf_value {
	enum vf_kind kind;
	uint32_t count;                        /* items of a list, entries of a map */
	union {
		bool boolean;
		int64_t integer;
		double real;
		struct vf_span bytes;              /* VF_STRING (valid UTF-8), VF_BIN */
		struct vf_value *items;            /* VF_LIST */
		struct vf_entry *entries;          /* VF_MAP */
	};
};

struct vf_entry {
	struct vf_span name;
	struct vf_value value;
};

/* "null", "boolean", "integer", ... for messages. */
const char *vf_kind_name(enum vf_kind kind);
/* The value of a name in a map, or NULL. */
const struct vf_value *vf_value_find(const struct vf_value *map, const char *name);
/* -1, 0, 1: integers and floats compared exactly, also beyond 2^53. Neither is NaN. */
int vf_number_compare(const struct vf_value *a, const struct vf_value *b);

#endif
