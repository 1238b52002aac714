/* SPDX-License-Identifier: MIT */
/* shim.c - a block device for tests, put between a program and the C library with LD_PRELOAD.
 *
 * It writes down, in the order in which they are issued, every change of a file or a directory below $SHIM_STORE, and where each sync begins
 * and ends; from that, cut.py builds the stores that a power cut may leave. And it can be told to fail: the file $SHIM_CONTROL holds a
 * struct control, shared with the test.
 *
 * A record in $SHIM_LOG is a struct record and then its bytes. A write is noted before it is carried out, and both under one lock: so a
 * sync covers what was noted before it began, and nothing else is promised. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITE = 1, TRUNCATE, SYNC_BEGIN, SYNC_END, DURABLE, ENTRY, RENAME, UNLINK, ROOT };

struct record {
	uint32_t kind, is_dir;
	uint64_t ino;              /* the file; the directory of a name */
	uint64_t other;            /* ENTRY: what the name leads to; RENAME: the new directory; SYNC_*: which sync */
	int64_t offset;            /* WRITE: where; TRUNCATE: the new size */
	uint32_t len, len2;        /* bytes, or a name; RENAME: the new name behind it */
};

/* Every `every`-th change of a file fails with `code`, once `after` have passed; 0: none. A sync takes `sync_us` longer. The clock on the wall is
 * `clock_ns` ahead. */
struct control { uint32_t code, after, every, calls, failed, sync_us; int64_t clock_ns; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char store[PATH_MAX];
static size_t store_len;
static uint64_t syncs;
static struct control *control;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void put(const struct record *r, const void *bytes, const void *bytes2)
{
	static __typeof__(&writev) real;
	struct iovec iov[3] = { { (void *)r, sizeof *r }, { (void *)bytes, r->len }, { (void *)bytes2, r->len2 } };

	if (log_fd < 0)
		return;
	if (!real)
		real = REAL(writev);
	if (real(log_fd, iov, 3) != (ssize_t)(sizeof *r + r->len + r->len2))
		abort();
}

__attribute__((constructor)) static void begin(void)
{
	const char *log = getenv("SHIM_LOG"), *root = getenv("SHIM_STORE"), *shared = getenv("SHIM_CONTROL");
	struct stat st;

	if (!root || !realpath(root, store) || stat(store, &st))
		return;
	store_len = strlen(store);
	if (log)
		log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (shared) {
		int fd = REAL(open)(shared, O_RDWR | O_CLOEXEC);
		void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		control = map == MAP_FAILED ? NULL : map;
		close(fd);
	}
	struct record r = { .kind = ROOT, .ino = st.st_ino };
	put(&r, NULL, NULL);
}

/* ---- which file ---- */

static int fd_path(int fd, char path[PATH_MAX])
{
	char link[64];

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, PATH_MAX - 1);
	path[n > 0 ? n : 0] = '\0';
	return n > 0 && store_len && strncmp(path, store, store_len) == 0 && (path[store_len] == '/' || !path[store_len]) &&
	       !strstr(path, " (deleted)");
}

static int is_ours(int fd, uint64_t *ino)
{
	char path[PATH_MAX];
	struct stat st;
	int saved = errno;
	int ours = fd >= 0 && fd_path(fd, path) && fstat(fd, &st) == 0;

	if (ours)
		*ino = st.st_ino;
	errno = saved;
	return ours;
}

/* The directory that `path` has its name in. */
static int parent_of(int at, const char *path, uint64_t *ino, char name[NAME_MAX + 1])
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int saved = errno, ours;

	snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
	snprintf(name, NAME_MAX + 1, "%s", slash ? slash + 1 : path);
	int fd = REAL(openat)(at, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ours = is_ours(fd, ino);
	if (fd >= 0)
		close(fd);
	errno = saved;
	return ours;
}

/* ---- failing on demand ---- */

static int shall_fail(void)
{
	if (!control || !control->code)
		return 0;
	uint32_t call = __atomic_add_fetch(&control->calls, 1, __ATOMIC_RELAXED);
	if (call <= control->after || (call - control->after) % (control->every ? control->every : 1))
		return 0;
	__atomic_add_fetch(&control->failed, 1, __ATOMIC_RELAXED);
	errno = (int)control->code;
	return 1;
}

/* ---- a slow disk, a clock that is set ---- */

static void be_slow(void)
{
	uint32_t us = control ? __atomic_load_n(&control->sync_us, __ATOMIC_RELAXED) : 0;

	if (us)
		usleep(us);
}

int clock_gettime(clockid_t id, struct timespec *out)
{
	static __typeof__(&clock_gettime) real;

	if (!real)
		real = REAL(clock_gettime);
	int rc = real(id, out);
	if (rc == 0 && id == CLOCK_REALTIME && control) {
		int64_t ns = (int64_t)out->tv_sec * 1000000000 + out->tv_nsec + __atomic_load_n(&control->clock_ns, __ATOMIC_RELAXED);
		out->tv_sec = ns / 1000000000;
		out->tv_nsec = ns % 1000000000;
	}
	return rc;
}

/* ---- changes of a file ---- */

static void note_write(int fd, uint64_t ino, const struct iovec *iov, int n, off_t offset)
{
	(void)fd;
	for (int i = 0; i < n; i++) {
		struct record r = { .kind = WRITE, .ino = ino, .offset = offset, .len = (uint32_t)iov[i].iov_len };
		put(&r, iov[i].iov_base, NULL);
		offset += (off_t)iov[i].iov_len;
	}
}

static void note_durable(int fd, uint64_t ino, int writes)
{
	if (!(fcntl(fd, F_GETFL) & O_DSYNC))
		return;
	struct record r = { .kind = DURABLE, .ino = ino, .other = (uint64_t)writes };
	put(&r, NULL, NULL);
}

static ssize_t change(int fd, const struct iovec *iov, int n, off_t offset, ssize_t (*carry_out)(int, const struct iovec *, int, off_t))
{
	uint64_t ino;

	if (!is_ours(fd, &ino))
		return carry_out(fd, iov, n, offset);
	if (shall_fail())
		return -1;
	pthread_mutex_lock(&lock);
	off_t at = offset >= 0 ? offset : fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
	note_write(fd, ino, iov, n, at);
	ssize_t done = carry_out(fd, iov, n, offset);
	int saved = errno;
	note_durable(fd, ino, n);
	pthread_mutex_unlock(&lock);
	errno = saved;
	return done;
}

static ssize_t do_write(int fd, const struct iovec *iov, int n, off_t offset)
{
	(void)n;
	(void)offset;
	return REAL(write)(fd, iov->iov_base, iov->iov_len);
}

static ssize_t do_writev(int fd, const struct iovec *iov, int n, off_t offset)
{
	(void)offset;
	return REAL(writev)(fd, iov, n);
}

static ssize_t do_pwrite(int fd, const struct iovec *iov, int n, off_t offset)
{
	(void)n;
	return REAL(pwrite)(fd, iov->iov_base, iov->iov_len, offset);
}

static ssize_t do_pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return REAL(pwritev)(fd, iov, n, offset);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	struct iovec iov = { (void *)buf, len };

	return change(fd, &iov, 1, -1, do_write);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	return change(fd, iov, n, -1, do_writev);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	struct iovec iov = { (void *)buf, len };

	return change(fd, &iov, 1, offset, do_pwrite);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	return pwrite(fd, buf, len, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return change(fd, iov, n, offset, do_pwritev);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t offset)
{
	return pwritev(fd, iov, n, offset);
}

int ftruncate(int fd, off_t size)
{
	uint64_t ino;

	if (!is_ours(fd, &ino))
		return REAL(ftruncate)(fd, size);
	if (shall_fail())
		return -1;
	struct record r = { .kind = TRUNCATE, .ino = ino, .offset = size };
	pthread_mutex_lock(&lock);
	put(&r, NULL, NULL);
	int rc = REAL(ftruncate)(fd, size);
	pthread_mutex_unlock(&lock);
	return rc;
}

int ftruncate64(int fd, off_t size)
{
	return ftruncate(fd, size);
}

int truncate(const char *path, off_t size)
{
	int fd = REAL(open)(path, O_WRONLY | O_CLOEXEC);
	int rc = fd < 0 ? -1 : ftruncate(fd, size);

	if (fd >= 0)
		close(fd);
	return rc;
}

int truncate64(const char *path, off_t size)
{
	return truncate(path, size);
}

/* ---- syncs ---- */

static int sync_with(int fd, int (*real)(int))
{
	struct record r = { .kind = SYNC_BEGIN };

	if (!is_ours(fd, &r.ino))
		return real(fd);
	if (shall_fail())
		return -1;
	pthread_mutex_lock(&lock);
	r.other = ++syncs << 22 | ((uint64_t)getpid() & ((1u << 22) - 1));
	put(&r, NULL, NULL);
	pthread_mutex_unlock(&lock);
	be_slow();
	int rc = real(fd), saved = errno;
	if (rc == 0) {
		r.kind = SYNC_END;
		pthread_mutex_lock(&lock);
		put(&r, NULL, NULL);
		pthread_mutex_unlock(&lock);
	}
	errno = saved;
	return rc;
}

int fsync(int fd)
{
	return sync_with(fd, REAL(fsync));
}

int fdatasync(int fd)
{
	return sync_with(fd, REAL(fdatasync));
}

/* ---- names ---- */

static void note_entry(int at, const char *path, uint64_t ino, int is_dir)
{
	char name[NAME_MAX + 1];
	struct record r = { .kind = ENTRY, .is_dir = (uint32_t)is_dir, .other = ino };

	if (!parent_of(at, path, &r.ino, name))
		return;
	r.len = (uint32_t)strlen(name);
	pthread_mutex_lock(&lock);
	put(&r, name, NULL);
	pthread_mutex_unlock(&lock);
}

static int open_noted(int at, const char *path, int flags, mode_t mode)
{
	struct stat before;
	int saved = errno;
	int is_new = store_len && (flags & O_CREAT) && fstatat(at, path, &before, 0) != 0;
	uint64_t ino;

	errno = saved;
	int fd = REAL(openat)(at, path, flags, mode);
	if (fd >= 0 && is_new && is_ours(fd, &ino))
		note_entry(at, path, ino, 0);
	if (fd >= 0 && (flags & O_TRUNC) && !is_new && is_ours(fd, &ino)) {
		struct record r = { .kind = TRUNCATE, .ino = ino };
		pthread_mutex_lock(&lock);
		put(&r, NULL, NULL);
		pthread_mutex_unlock(&lock);
	}
	return fd;
}

#define MODE_OF(flags) mode_t mode = 0; do { \
	if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list ap; va_start(ap, flags); mode = va_arg(ap, mode_t); va_end(ap); } } while (0)

int open(const char *path, int flags, ...)
{
	MODE_OF(flags);
	return open_noted(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	MODE_OF(flags);
	return open_noted(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
	MODE_OF(flags);
	return open_noted(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
	MODE_OF(flags);
	return open_noted(at, path, flags, mode);
}

int mkdirat(int at, const char *path, mode_t mode)
{
	struct stat st;
	int rc = REAL(mkdirat)(at, path, mode), saved = errno;

	if (rc == 0 && fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		note_entry(at, path, st.st_ino, 1);
	errno = saved;
	return rc;
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
	char name[NAME_MAX + 1], name2[NAME_MAX + 1];
	struct record r = { .kind = RENAME };
	int ours = parent_of(from_at, from, &r.ino, name) && parent_of(to_at, to, &r.other, name2);

	if (ours && shall_fail())
		return -1;
	pthread_mutex_lock(&lock);
	int rc = REAL(renameat)(from_at, from, to_at, to), saved = errno;
	if (rc == 0 && ours) {
		r.len = (uint32_t)strlen(name);
		r.len2 = (uint32_t)strlen(name2);
		put(&r, name, name2);
	}
	pthread_mutex_unlock(&lock);
	errno = saved;
	return rc;
}

int rename(const char *from, const char *to)
{
	return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int unlinkat(int at, const char *path, int flags)
{
	char name[NAME_MAX + 1];
	struct record r = { .kind = UNLINK };
	int ours = parent_of(at, path, &r.ino, name);

	pthread_mutex_lock(&lock);
	int rc = REAL(unlinkat)(at, path, flags), saved = errno;
	if (rc == 0 && ours) {
		r.len = (uint32_t)strlen(name);
		put(&r, name, NULL);
	}
	pthread_mutex_unlock(&lock);
	errno = saved;
	return rc;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
