/* SPDX-License-Identifier: MIT */
#include "vecfs/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void vf_spool_init(struct vf_spool *spool, const char *dir)
{
	*spool = (struct vf_spool){ .fd = -1, .dir = dir };
}

static void close_file(struct vf_spool *spool)
{
	if (spool->fd >= 0)
		close(spool->fd);
	spool->fd = -1;
	spool->file_len = 0;
}

void vf_spool_free(struct vf_spool *spool)
{
	close_file(spool);
	vf_buf_free(&spool->buf);
}

void vf_spool_clear(struct vf_spool *spool)
{
	close_file(spool);
	vf_buf_clear(&spool->buf);
}

static int fail_io(const struct vf_spool *spool, int code, struct vf_err *err)
{
	return vf_fail(err, code == EDQUOT ? ENOSPC : code, "cannot spool an answer to disk in %s: %s", spool->dir, strerror(code));
}

static int write_out(struct vf_spool *spool, struct vf_err *err)
{
	if (spool->fd < 0) {
		spool->fd = open(spool->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (spool->fd < 0)
			return fail_io(spool, errno, err);
	}
	for (size_t done = 0; done < spool->buf.len;) {
		ssize_t n = pwrite(spool->fd, spool->buf.data + done, spool->buf.len - done, (off_t)spool->file_len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail_io(spool, n < 0 ? errno : ENOSPC, err);
		done += (size_t)n;
		spool->file_len += (uint64_t)n;
	}
	vf_buf_clear(&spool->buf);
	return 0;
}

int vf_spool_flush_if_full(struct vf_spool *spool, struct vf_err *err)
{
	return spool->dir && spool->buf.len > VF_SPOOL_MEMORY_MAX ? write_out(spool, err) : 0;
}

int vf_spool_put(struct vf_spool *spool, const void *data, size_t len, struct vf_err *err)
{
	int rc = vf_buf_put(&spool->buf, data, len, err);

	return rc ? rc : vf_spool_flush_if_full(spool, err);
}

int vf_spool_finish(struct vf_spool *spool, struct vf_err *err)
{
	return spool->fd >= 0 && spool->buf.len ? write_out(spool, err) : 0;
}

uint64_t vf_spool_size(const struct vf_spool *spool)
{
	return spool->file_len + spool->buf.len;
}

int64_t vf_spool_read(const struct vf_spool *spool, uint64_t offset, void *out, size_t len)
{
	uint64_t size = vf_spool_size(spool);

	if (offset >= size)
		return 0;
	if (len > size - offset)
		len = (size_t)(size - offset);
	if (spool->fd < 0) {
		memcpy(out, spool->buf.data + offset, len);
		return (int64_t)len;
	}
	for (;;) {
		ssize_t n = pread(spool->fd, out, len, (off_t)offset);
		if (n >= 0)
			return n;
		if (errno != EINTR)
			return -errno;
	}
}
