/* SPDX-License-Identifier: MIT */
#include "catalog_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOCK_FILE    "lock"
#define FORMAT_FILE  "format"
#define ID_FILE      "next-id"

/* How long a daemon that was just unmounted may take to end before a second one gives up. */
#define LEAVING_MS_MAX  60000
#define LEAVING_STEP_MS 10

/* ---- the lock ---- */

/* What the last owner said of itself: its pid, and where it is mounted (as /proc/self/mountinfo writes it) or nothing. A tool that only reads
 * says nothing, so the one that holds the lock may be another. */
struct owner {
	char text[64 + 4 * PATH_MAX];
	const char *pid, *mount;
	bool lives;
};

static bool lives(const char *pid)
{
	long number = strtol(pid, NULL, 10);

	return number > 0 && number <= INT_MAX && (kill((pid_t)number, 0) == 0 || errno != ESRCH);
}

static void read_owner(const struct vf_catalog *catalog, struct owner *owner)
{
	struct vf_err ignored = VF_ERR_INIT;

	owner->text[0] = '\0';
	vf_disk_read(catalog->control_fd, LOCK_FILE, owner->text, sizeof owner->text, &ignored);
	char *line = strchr(owner->text, '\n');
	owner->pid = owner->text;
	owner->mount = line ? line + 1 : "";
	if (line)
		*line = '\0';
	if (line && (line = strchr(line + 1, '\n')) != NULL)
		*line = '\0';
	owner->lives = lives(owner->pid);
}

static bool is_mounted(const char *mount)
{
	char line[8 * PATH_MAX], at[4 * PATH_MAX + 1];
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	bool found = false;

	while (mounts && !found && fgets(line, sizeof line, mounts))
		found = sscanf(line, "%*s %*s %*s %*s %16384s", at) == 1 && strcmp(at, mount) == 0 && strstr(line, " - fuse.vecfs ");
	if (mounts)
		fclose(mounts);
	return found;
}

/* fusermount3 -u returns before the daemon has written its last checkpoint: an owner whose mount is gone is on its way out. */
static bool is_leaving(const struct vf_catalog *catalog)
{
	struct owner owner;

	read_owner(catalog, &owner);
	return owner.lives && owner.mount[0] && !is_mounted(owner.mount);
}

static int fail_in_use(const struct vf_catalog *catalog, struct vf_err *err)
{
	struct owner owner;

	read_owner(catalog, &owner);
	if (!owner.lives)
		return vf_fail(err, EBUSY, "store %s is in use by another process", catalog->path);
	return vf_fail(err, EBUSY, "store %s is in use by process %s%s%s", catalog->path, owner.pid,
	               owner.mount[0] ? ", mounted at " : "", owner.mount);
}

static int write_owner(int fd, const char *mount)
{
	char text[64 + 4 * PATH_MAX];
	int len = snprintf(text, sizeof text, "%ld\n%s\n", (long)getpid(), mount);

	return ftruncate(fd, 0) || pwrite(fd, text, (size_t)len, 0) != len ? errno : 0;
}

static bool try_lock(int fd, struct flock *range, const struct vf_catalog *catalog)
{
	for (int waited_ms = 0; fcntl(fd, F_OFD_SETLK, range); waited_ms += LEAVING_STEP_MS) {
		if ((errno != EAGAIN && errno != EACCES) || waited_ms >= LEAVING_MS_MAX || !is_leaving(catalog))
			return false;
		usleep(LEAVING_STEP_MS * 1000);
	}
	return true;
}

/* The lock belongs to the open file: it goes with the process, however that ends. On a read-only disk it can only be shared, which still
 * keeps a writer out. Who only reads leaves no trace in the file. */
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
	if (!try_lock(catalog->lock_fd, &range, catalog)) {
		if (errno == EAGAIN || errno == EACCES)
			return fail_in_use(catalog, err);
		return vf_fail(err, errno, "cannot lock store %s: %s", catalog->path, strerror(errno));
	}
	int code = catalog->read_only ? 0 : write_owner(catalog->lock_fd, "");
	return code ? vf_fail(err, code, "cannot write the lock of store %s: %s", catalog->path, strerror(code)) : 0;
}

int vf_catalog_mounts_at(struct vf_catalog *catalog, const char *mountpoint, struct vf_err *err)
{
	char real[PATH_MAX], escaped[4 * PATH_MAX];
	size_t len = 0;

	/* One that cannot be resolved is left to whoever mounts to explain. */
	if (catalog->lock_fd < 0 || (fcntl(catalog->lock_fd, F_GETFL) & O_ACCMODE) == O_RDONLY || !realpath(mountpoint, real))
		return 0;
	for (const char *c = real; *c; c++)
		if (strchr(" \t\n\\", *c))
			len += (size_t)sprintf(escaped + len, "\\%03o", (unsigned char)*c);
		else
			escaped[len++] = *c;
	escaped[len] = '\0';
	int code = write_owner(catalog->lock_fd, escaped);
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

static int write_format(struct vf_catalog *catalog, struct vf_err *err)
{
	char text[32];
	int len = snprintf(text, sizeof text, "vecfs %u\n", VF_STORE_FORMAT);

	return vf_disk_write(catalog->control_fd, FORMAT_FILE, vf_span(text, (size_t)len), err);
}

static int check_format(struct vf_catalog *catalog, const char *text, struct vf_err *err)
{
	char *end;

	if (strncmp(text, "vecfs ", 6) != 0)
		return vf_fail(err, EIO, "store %s is damaged: " CONTROL_DIR "/" FORMAT_FILE " does not say vecfs", catalog->path);
	unsigned long version = strtoul(text + 6, &end, 10);
	if (end == text + 6 || *end != '\n' || version == 0)
		return vf_fail(err, EIO, "store %s is damaged: " CONTROL_DIR "/" FORMAT_FILE " has no number", catalog->path);
	if (version > VF_STORE_FORMAT)
		return vf_fail(err, EINVAL, "store %s was written by a newer vecfs (format %lu; this one knows formats up to %u)",
		               catalog->path, version, VF_STORE_FORMAT);
	catalog->format = (unsigned)version;
	return 0;
}

int vf_format_renew(struct vf_catalog *catalog, struct vf_err *err)
{
	int rc = catalog->format < VF_STORE_FORMAT ? write_format(catalog, err) : 0;

	if (rc == 0)
		catalog->format = VF_STORE_FORMAT;
	return rc;
}

static int make_format(struct vf_catalog *catalog, struct vf_err *err)
{
	int rc = check_blank(catalog, err);

	if (rc || (rc = vf_format_renew(catalog, err)))
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
