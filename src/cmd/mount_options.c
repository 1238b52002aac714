/* SPDX-License-Identifier: MIT */
#include "mount_options.h"

#include <errno.h>

/* Words for mount(8) and systemd in an fstab line, and what is so anyway. */
static const char *const swallowed[] = {
	"defaults", "auto", "noauto", "nofail", "user", "nouser", "users", "owner", "group", "_netdev", "default_permissions",
	"async", "loud", "silent", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "diratime", "nodiratime", "mand", "nomand",
};

/* Words that the kernel understands. */
static const char *const for_kernel[] = {
	"suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "sync", "dirsync",
};

/* NAME=VALUE words that libfuse understands. */
static const char *const for_kernel_with_value[] = { "fsname=", "subtype=", "context=", "fscontext=", "defcontext=", "rootcontext=" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool is_one_of(struct vf_span word, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (vf_span_is(word, words[i]))
			return true;
	return false;
}

static bool begins_with_one_of(struct vf_span word, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (vf_span_has_prefix(word, vf_span_str(words[i])))
			return true;
	return false;
}

static int pass_on(struct vf_mount_options *o, struct vf_span word, struct vf_err *err)
{
	int rc;

	/* The NUL of the last time becomes the comma. */
	if (o->kernel.len)
		o->kernel.data[o->kernel.len - 1] = ',';
	if ((rc = vf_buf_put(&o->kernel, word.data, word.len, err)) == 0)
		rc = vf_buf_put(&o->kernel, "", 1, err);
	return rc;
}

static int add_word(struct vf_mount_options *o, struct vf_span word, struct vf_err *err)
{
	if (word.len == 0 || is_one_of(word, swallowed, COUNT(swallowed)) ||
	    vf_span_has_prefix(word, vf_span_str("x-")) || vf_span_has_prefix(word, vf_span_str("X-")) ||
	    vf_span_has_prefix(word, vf_span_str("comment=")))
		return 0;
	/* The last one holds, as with mount(8). */
	if (vf_span_is(word, "ro") || vf_span_is(word, "rw"))
		o->read_only = vf_span_is(word, "ro");
	else if (vf_span_is(word, "allow_other"))
		o->allow_other = true;
	else if (vf_span_is(word, "xattr"))
		o->xattr = true;
	else if (vf_span_is(word, "sandbox=no") || vf_span_is(word, "sandbox=yes"))
		o->no_sandbox = vf_span_is(word, "sandbox=no");
	else if (vf_span_is(word, "awake=no") || vf_span_is(word, "awake=yes"))
		o->no_awake = vf_span_is(word, "awake=no");
	else if (vf_span_is(word, "debug"))
		o->foreground = o->debug = true;
	else if (is_one_of(word, for_kernel, COUNT(for_kernel)) ||
	         begins_with_one_of(word, for_kernel_with_value, COUNT(for_kernel_with_value)))
		return pass_on(o, word, err);
	else
		return vf_fail(err, EINVAL, "unknown mount option '%.*s'", VF_SPAN_ARG(word));
	return 0;
}

int vf_mount_options_add(struct vf_mount_options *o, const char *list, struct vf_err *err)
{
	while (*list) {
		size_t len = strcspn(list, ",");
		int rc = add_word(o, vf_span(list, len), err);
		if (rc)
			return rc;
		list += len + (list[len] == ',');
	}
	return 0;
}
