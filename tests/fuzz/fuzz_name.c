/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "vecfs/limits.h"
#include "vecfs/name.h"

/* Every valid key has one file name, free of '/' and NUL, that leads back to it; no name leads outside. */
void vf_fuzz_name(const uint8_t *data, size_t size)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf name = VF_BUF_INIT, key = VF_BUF_INIT;

	if (vf_key_check(vf_span(data, size), &err) == 0) {
		FUZZ_PROMISE(vf_key_escape(vf_span(data, size), &name, &err) == 0);
		FUZZ_PROMISE(!memchr(name.data, '/', name.len) && !memchr(name.data, 0, name.len) && name.data[0] != '.');
		FUZZ_PROMISE(vf_key_unescape(vf_buf_span(&name), &key, &err) == 0);
		FUZZ_PROMISE(vf_span_equal(vf_buf_span(&key), vf_span(data, size)));
	}
	vf_buf_clear(&key);
	if (vf_key_unescape(vf_span(data, size), &key, &err) == 0)
		FUZZ_PROMISE(key.len >= 1 && key.len <= VF_KEY_BYTES_MAX && vf_utf8_valid(vf_buf_span(&key)));
	vf_buf_free(&name);
	vf_buf_free(&key);
}
