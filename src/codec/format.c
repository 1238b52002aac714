/* SPDX-License-Identifier: MIT */
#include "codec_internal.h"

static bool is_json_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool vf_format_guess(struct vf_span bytes, enum vf_format *out)
{
	for (size_t i = 0; i < bytes.len; i++) {
		uint8_t c = bytes.data[i];
		if (is_json_space(c))
			continue;
		/* A request, a record or a key is never a small number: in msgpack that would be a printable byte. */
		*out = c > ' ' && c < 0x7f ? VF_JSON : VF_MSGPACK;
		return true;
	}
	return false;
}

int vf_value_decode(enum vf_format format, struct vf_span bytes, struct vf_arena *arena, struct vf_value *out, struct vf_err *err)
{
	return format == VF_JSON ? vf_json_decode(bytes, arena, out, err) : vf_msgpack_decode(bytes, arena, out, err);
}
