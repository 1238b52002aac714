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

/* Where to go when the store's disk is full or read-only: it can still be read then. */
static const char *const elsewhere[] = { "/var/tmp", "/tmp" };

static bool is_no_place(int code)
{
	return code == ENOSPC || code == EDQUOT || code == EROFS || code == EACCES || code == EOPNOTSUPP;
}

/* Returns an errno, as all of these. */
static int write_at(int fd, const uint8_t *bytes, size_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, bytes, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : ENOSPC;
		bytes += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int copy_to(const struct vf_spool *spool, int fd)
{
	uint8_t piece[1 << 14];
	int code = 0;

	for (uint64_t at = 0; code == 0 && at < spool->file_len;) {
		ssize_t n = pread(spool->fd, piece, sizeof piece, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : EIO;
		code = write_at(fd, piece, (size_t)n, at);
		at += (uint64_t)n;
	}
	return code;
}

/* From memory or from another directory. */
static int move_to(struct vf_spool *spool, const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int code = fd < 0 ? errno : copy_to(spool, fd);

	if (code == 0)
		code = write_at(fd, spool->buf.data, spool->buf.len, spool->file_len);
	if (code) {
		if (fd >= 0)
			close(fd);
		return code;
	}
	if (spool->fd >= 0)
		close(spool->fd);
	spool->fd = fd;
	return 0;
}

static int write_out(struct vf_spool *spool, struct vf_err *err)
{
	int code = spool->fd < 0 ? move_to(spool, spool->dir) : write_at(spool->fd, spool->buf.data, spool->buf.len, spool->file_len);

	for (size_t i = 0; is_no_place(code) && i < sizeof elsewhere / sizeof elsewhere[0]; i++)
		if (move_to(spool, elsewhere[i]) == 0)
			code = 0;
	if (code)
		return fail_io(spool, code, err);
	spool->file_len += spool->buf.len;
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
