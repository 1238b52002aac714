/* SPDX-License-Identifier: MIT */
#include "catalog_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOCK_FILE    "lock"
#define FORMAT_FILE  "format"
#define ID_FILE      "next-id"

/* ---- the lock ---- */

static int fail_in_use(const struct vf_catalog *catalog, struct vf_err *err)
{
	char pid[32] = "";

	if (vf_disk_read(catalog->control_fd, LOCK_FILE, pid, sizeof pid, err) == 0)
		pid[strcspn(pid, "\n")] = '\0';
	return vf_fail(err, EBUSY, "store %s is in use by process %s", catalog->path, pid[0] ? pid : "(unknown)");
}

static int write_pid(int fd)
{
	char pid[32];
	int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());

	return ftruncate(fd, 0) || pwrite(fd, pid, (size_t)len, 0) != len ? errno : 0;
}

/* The lock belongs to the open file: it goes with the process, however that ends. On a read-only disk it can only be shared, which still
 * keeps a writer out. */
static int lock(struct vf_catalog *catalog, struct vf_err *err)
{
	struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	catalog->lock_fd = openat(catalog->control_fd, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (catalog->lock_fd < 0 && catalog->read_only && (errno == EROFS || errno == EACCES)) {
		range.l_type = F_RDLCK;
		catalog->lock_fd = openat(catalog->control_fd, LOCK_FILE, O_RDONLY | O_CLOEXEC);
		if (catalog->lock_fd < 0 && errno == ENOENT)
			return 0;
	}
	if (catalog->lock_fd < 0)
		return vf_fail(err, errno, "cannot open the lock of store %s: %s", catalog->path, strerror(errno));
	if (fcntl(catalog->lock_fd, F_OFD_SETLK, &range)) {
		if (errno == EAGAIN || errno == EACCES)
			return fail_in_use(catalog, err);
		return vf_fail(err, errno, "cannot lock store %s: %s", catalog->path, strerror(errno));
	}
	int code = range.l_type == F_WRLCK ? write_pid(catalog->lock_fd) : 0;
	return code ? vf_fail(err, code, "cannot write the lock of store %s: %s", catalog->path, strerror(code)) : 0;
}

/* ---- the format ---- */

static bool is_ours_or_harmless(const char *name)
{
	static const char *const names[] = { ".", "..", CONTROL_DIR, TRASH_DIR, "lost+found" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Nobody's documents become a store by a slip of the hand. */
static int check_blank(const struct vf_catalog *catalog, struct vf_err *err)
{
	DIR *dir = opendir(catalog->path);
	const struct dirent *entry;
	int rc = 0;

	if (!dir)
		return vf_fail(err, errno, "cannot list %s: %s", catalog->path, strerror(errno));
	while (rc == 0 && (entry = readdir(dir)) != NULL)
		if (!is_ours_or_harmless(entry->d_name))
			rc = vf_fail(err, EINVAL, "%s is not a vecfs store and not empty (it holds %s)", catalog->path, entry->d_name);
	closedir(dir);
	return rc;
}

static int check_format(const struct vf_catalog *catalog, const char *text, struct vf_err *err)
{
	char *end;

	if (strncmp(text, "vecfs ", 6) != 0)
		return vf_fail(err, EIO, "store %s is damaged: " CONTROL_DIR "/" FORMAT_FILE " does not say vecfs", catalog->path);
	unsigned long version = strtoul(text + 6, &end, 10);
	if (end == text + 6 || *end != '\n' || version == 0)
		return vf_fail(err, EIO, "store %s is damaged: " CONTROL_DIR "/" FORMAT_FILE " has no number", catalog->path);
	if (version > STORE_FORMAT)
		return vf_fail(err, EINVAL, "store %s was written by a newer vecfs (format %lu; this one knows formats up to %u)",
		               catalog->path, version, STORE_FORMAT);
	return 0;
}

static int make_format(struct vf_catalog *catalog, struct vf_err *err)
{
	char text[32];
	int len = snprintf(text, sizeof text, "vecfs %u\n", STORE_FORMAT);
	int rc = check_blank(catalog, err);

	if (rc || (rc = vf_disk_write(catalog->control_fd, FORMAT_FILE, vf_span(text, (size_t)len), err)))
		return rc;
	return vf_disk_sync(catalog->fd, err);
}

static int open_control(struct vf_catalog *catalog, bool create, struct vf_err *err)
{
	catalog->control_fd = openat(catalog->fd, CONTROL_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (catalog->control_fd >= 0)
		return 0;
	if (errno != ENOENT)
		return vf_fail(err, errno, "cannot open %s/" CONTROL_DIR ": %s", catalog->path, strerror(errno));
	if (!create)
		return vf_fail(err, ENOENT, "%s is not a vecfs store", catalog->path);
	int rc = check_blank(catalog, err);
	return rc ? rc : vf_disk_mkdir(catalog->fd, CONTROL_DIR, &catalog->control_fd, err);
}

int vf_lock_take(struct vf_catalog *catalog, bool create, struct vf_err *err)
{
	char text[64];
	int rc;

	create = create && !catalog->read_only;
	if ((rc = open_control(catalog, create, err)) || (rc = lock(catalog, err)))
		return rc;
	rc = vf_disk_read(catalog->control_fd, FORMAT_FILE, text, sizeof text, err);
	if (rc == 0)
		return check_format(catalog, text, err);
	if (rc != -ENOENT)
		return rc;
	if (!create)
		return vf_fail(err, EIO, "store %s is damaged: it has no " CONTROL_DIR "/" FORMAT_FILE, catalog->path);
	return make_format(catalog, err);
}

/* ---- numbers ---- */

static int write_next(struct vf_catalog *catalog, uint32_t next, struct vf_err *err)
{
	char text[32];
	int len = snprintf(text, sizeof text, "%" PRIu32 "\n", next);

	return vf_disk_write(catalog->control_fd, ID_FILE, vf_span(text, (size_t)len), err);
}

int vf_id_take(struct vf_catalog *catalog, uint32_t *id, struct vf_err *err)
{
	if (catalog->next_id > DIR_ID_MAX)
		return vf_fail(err, ENOSPC, "store %s has given all its %u numbers of directories", catalog->path, DIR_ID_MAX);
	int rc = catalog->read_only ? 0 : write_next(catalog, catalog->next_id + 1, err);
	if (rc == 0)
		*id = catalog->next_id++;
	return rc;
}

int vf_id_load(struct vf_catalog *catalog, struct vf_err *err)
{
	char text[32], *end;
	int rc = vf_disk_read(catalog->control_fd, ID_FILE, text, sizeof text, err);

	catalog->next_id = 1;
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	/* A damaged number costs nothing: loading the tree raises it above every number in use. */
	unsigned long next = strtoul(text, &end, 10);
	if (end != text && next > 0 && next <= DIR_ID_MAX + 1ul)
		catalog->next_id = (uint32_t)next;
	return 0;
}
