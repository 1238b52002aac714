/* SPDX-License-Identifier: MIT */
/* format.h - msgpack and JSON: bytes to values and back, and where in a stream of bytes one value ends.
 *
 * Input is not trusted: nothing is allocated from a declared length, nesting is bounded by VF_VALUE_DEPTH_MAX. */
#ifndef VECFS_FORMAT_H
#define VECFS_FORMAT_H

#include "vecfs/arena.h"
#include "vecfs/limits.h"
#include "vecfs/value.h"

enum vf_format { VF_MSGPACK, VF_JSON };

/* By the first byte that is not JSON white space: '{', '[' and '"' are JSON, all else msgpack. False: nothing but white space yet. */
bool vf_format_guess(struct vf_span bytes, enum vf_format *out);

/* Finds the end of one value in bytes that come in pieces, each byte looked at once. */
struct vf_scanner {
	enum vf_format format;
	uint64_t used;                 /* bytes of the value so far */
	uint32_t depth;
	/* private: items left at each level (JSON: its bracket), the state inside a token */
	uint64_t left[VF_VALUE_DEPTH_MAX];
	uint64_t skip;
	uint8_t head[5];
	uint8_t head_len;
	bool started, map_begins, in_string, escaped, in_scalar;
};

enum vf_scan_result { VF_SCAN_MORE, VF_SCAN_DONE };

void vf_scanner_init(struct vf_scanner *scanner, enum vf_format format);
/* Looks at `bytes`; *taken is how many belong to the value (leading JSON white space included). VF_SCAN_DONE when the value ends there,
 * VF_SCAN_MORE when it wants more (all were taken), negative (EINVAL with the byte offset in the value) when broken. A JSON number
 * at top level ends at the byte behind it. */
int vf_scanner_feed(struct vf_scanner *scanner, struct vf_span bytes, size_t *taken, struct vf_err *err);

/* One value that fills `bytes` (JSON: white space around it). Strings and bins of msgpack point into bytes; those of JSON are in the arena.
 * EINVAL: broken, not UTF-8, a name twice in a map or not a string, an integer beyond signed 64 bits, too deep, bytes behind the end. */
int vf_value_decode(enum vf_format format, struct vf_span bytes, struct vf_arena *arena, struct vf_value *out, struct vf_err *err);

/* ---- writing, the same calls for both formats ----
 * Containers are opened with their exact number of items (msgpack needs it; JSON ignores it but for the commas). */
struct vf_emitter {
	enum vf_format format;
	struct vf_buf *out;
	/* private */
	uint32_t depth;
	struct { bool map; bool first; bool name; } level[VF_VALUE_DEPTH_MAX + 8];   /* a value as deep as may be, inside an answer */
	int failed;                    /* an errno, once: said by vf_emit_end */
};

void vf_emit_begin(struct vf_emitter *e, enum vf_format format, struct vf_buf *out);
void vf_emit_map(struct vf_emitter *e, uint32_t entries);
void vf_emit_list(struct vf_emitter *e, uint32_t items);
void vf_emit_close(struct vf_emitter *e);                  /* the innermost map or list */
void vf_emit_name(struct vf_emitter *e, const char *name);
void vf_emit_string(struct vf_emitter *e, struct vf_span s);
void vf_emit_int(struct vf_emitter *e, int64_t i);
void vf_emit_bool(struct vf_emitter *e, bool b);
void vf_emit_double(struct vf_emitter *e, double d);       /* JSON: shortest text that reads back the same, always with . or e */
void vf_emit_floats(struct vf_emitter *e, const float *f, uint32_t n);   /* a list: msgpack float32 each; JSON shortest that reads back the same float32 */
void vf_emit_value(struct vf_emitter *e, const struct vf_value *v);
/* Canonical msgpack (as metadata is stored): copied as it is, or as JSON. */
void vf_emit_msgpack(struct vf_emitter *e, struct vf_span canonical);
int vf_emit_end(struct vf_emitter *e, struct vf_err *err); /* ENOMEM, EINVAL (too deep), EIO (not msgpack) if any step failed. JSON at depth 0: adds no newline */

#endif
