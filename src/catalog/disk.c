/* SPDX-License-Identifier: MIT */
#include "catalog_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail_file(struct vf_err *err, int code, const char *doing, const char *name)
{
	return vf_fail(err, code == EDQUOT ? ENOSPC : code, "cannot %s %s: %s", doing, name, strerror(code));
}

int vf_disk_mkdir(int at, const char *name, int *fd, struct vf_err *err)
{
	if (mkdirat(at, name, 0700) && errno != EEXIST)
		return fail_file(err, errno, "create the directory", name);
	*fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *fd < 0 ? fail_file(err, errno, "open the directory", name) : 0;
}

int vf_disk_sync(int fd, struct vf_err *err)
{
	return fsync(fd) ? fail_file(err, errno, "sync", "a directory of the store") : 0;
}

static int write_all(int fd, struct vf_span text)
{
	while (text.len) {
		ssize_t n = write(fd, text.data, text.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : ENOSPC;
		text.data += n;
		text.len -= (size_t)n;
	}
	return fsync(fd) ? errno : 0;
}

int vf_disk_write(int at, const char *name, struct vf_span text, struct vf_err *err)
{
	char temporary[NAME_MAX + 1];

	snprintf(temporary, sizeof temporary, "%s.new", name);
	int fd = openat(at, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fail_file(err, errno, "write", name);
	int rc = write_all(fd, text);
	if (close(fd) && rc == 0)
		rc = errno;
	if (rc == 0 && renameat(at, temporary, at, name))
		rc = errno;
	if (rc) {
		unlinkat(at, temporary, 0);
		return fail_file(err, rc, "write", name);
	}
	return vf_disk_sync(at, err);
}

int vf_disk_read(int at, const char *name, char *out, size_t cap, struct vf_err *err)
{
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : fail_file(err, errno, "read", name);
	while (len < cap - 1 && (n = read(fd, out + len, cap - 1 - len)) != 0) {
		if (n > 0)
			len += (size_t)n;
		else if (errno != EINTR)
			break;
	}
	int code = n < 0 ? errno : 0;
	close(fd);
	out[len] = '\0';
	return code ? fail_file(err, code, "read", name) : 0;
}

/* ---- walking ---- */

static DIR *open_dir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static bool is_directory(int at, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_DIR;
	return fstatat(at, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

int vf_disk_each_dir(int at, int (*each)(void *ctx, int at, const char *name, struct vf_err *err), void *ctx, struct vf_err *err)
{
	DIR *dir = open_dir(at, ".");
	struct dirent *entry;
	int rc = 0;

	if (!dir)
		return fail_file(err, errno, "list", "a directory of the store");
	while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL)
		if (!is_dots(entry->d_name) && is_directory(dirfd(dir), entry))
			rc = each(ctx, dirfd(dir), entry->d_name, err);
	if (rc == 0 && errno)
		rc = fail_file(err, errno, "list", "a directory of the store");
	closedir(dir);
	return rc;
}

int vf_disk_remove_tree(int at, const char *name, struct vf_err *err)
{
	DIR *dir = open_dir(at, name);
	struct dirent *entry;
	int rc = 0;

	if (!dir)
		return errno == ENOENT ? 0 : fail_file(err, errno, "delete", name);
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		if (is_dots(entry->d_name))
			continue;
		if (is_directory(dirfd(dir), entry))
			rc = vf_disk_remove_tree(dirfd(dir), entry->d_name, err);
		else if (unlinkat(dirfd(dir), entry->d_name, 0) && errno != ENOENT)
			rc = fail_file(err, errno, "delete", entry->d_name);
	}
	closedir(dir);
	if (rc == 0 && unlinkat(at, name, AT_REMOVEDIR) && errno != ENOENT)
		rc = fail_file(err, errno, "delete", name);
	return rc;
}
