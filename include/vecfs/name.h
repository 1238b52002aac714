/* SPDX-License-Identifier: MIT */
/* name.h - keys and the file names that stand for them.
 *
 * A key is 1 to VF_KEY_BYTES_MAX bytes of valid UTF-8 without NUL. Its file name is the key with '/', '%',
 * control bytes (0x01-0x1f, 0x7f) and a leading dot written as %XX (upper-case hex), plus an extension.
 * Reading a name accepts any %XX; a '%' not followed by two hex digits is EINVAL.
 * A key whose escaped name would be taken for a scratch name (ends in '~', ...) never is: the extension
 * .msgpack is always behind it. */
#ifndef VECFS_NAME_H
#define VECFS_NAME_H

#include "vecfs/span.h"

bool vf_utf8_valid(struct vf_span s);
/* Bytes of the character that s begins with; 0 when it begins with none. len is not 0. */
size_t vf_utf8_char(const uint8_t *s, size_t len);
/* EINVAL with the reason: empty, too long, NUL, not UTF-8. */
int vf_key_check(struct vf_span key, struct vf_err *err);
/* Appends the escaped key (no extension). */
int vf_key_escape(struct vf_span key, struct vf_buf *out, struct vf_err *err);
/* Appends the key that an escaped name (no extension) stands for, checked by vf_key_check. */
int vf_key_unescape(struct vf_span name, struct vf_buf *out, struct vf_err *err);
/* A bucket or an index: not empty, no leading dot, no '/', at most 255 bytes. EINVAL, ENAMETOOLONG. */
int vf_dir_name_check(const char *name, struct vf_err *err);
/* What rsync, editors, sed -i and atomic writers call their temporary files: begins with a dot, ends in ~ .tmp
 * .part .swp, or is vim's 4913, or what mkstemp made of sed, XX (perl -i), config or NAME.json. */
bool vf_name_is_scratch(const char *name);

#endif
