/* SPDX-License-Identifier: MIT */
/* The mount: its options, its session, its threads and how it ends. */
#include "face_internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#include "vecfs/clock.h"
#include "vecfs/log.h"

/* What libfuse says goes into the error of the mount. */
static char said[VF_ERR_TEXT_MAX];

static void listen_to_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	size_t used = strlen(said);

	(void)level;
	if (used + 1 < sizeof said)
		vsnprintf(said + used, sizeof said - used, fmt, ap);
	for (char *end = said + strlen(said); end > said && end[-1] == '\n'; end--)
		end[-1] = '\0';
}

static void speak_to_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[512];
	int n = vsnprintf(text, sizeof text, fmt, ap);

	for (; n > 0 && (size_t)n < sizeof text && text[n - 1] == '\n'; n--)
		text[n - 1] = '\0';
	vf_log(level == FUSE_LOG_DEBUG ? LOG_DEBUG : LOG_WARNING, "%s", text);
}

/* 0 or an errno. The attributes of a dead mount may still be cached; asking for the filesystem goes to its daemon. */
static int probe(const char *mountpoint)
{
	struct stat st;
	struct statvfs fs;

	if (stat(mountpoint, &st) || statvfs(mountpoint, &fs))
		return errno;
	return S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
}

static bool is_dead(int code)
{
	return code == ENOTCONN || code == ECONNABORTED;
}

int vf_face_check_mountpoint(const char *mountpoint, struct vf_err *err)
{
	int code = probe(mountpoint);

	if (is_dead(code))
		return vf_fail(err, ENOTCONN, "cannot mount on %s: a dead mount is left there (its daemon was killed). Clear it with: fusermount3 -u %s",
		               mountpoint, mountpoint);
	return code ? vf_fail(err, code, "cannot mount on %s: %s", mountpoint, strerror(code)) : 0;
}

/* ---- options ---- */

/* A comma in a value would end it. */
static int put_escaped(struct vf_buf *out, const char *s, struct vf_err *err)
{
	int rc = 0;

	for (; rc == 0 && *s; s++)
		rc = *s == ',' || *s == '\\' ? vf_buf_printf(out, err, "\\%c", *s) : vf_buf_put(out, s, 1, err);
	return rc;
}

static bool names_source(const char *kernel_options)
{
	return kernel_options && (strncmp(kernel_options, "fsname=", 7) == 0 || strstr(kernel_options, ",fsname="));
}

static int build_options(const struct vf_face *face, struct vf_buf *out, struct vf_err *err)
{
	const struct vf_face_options *o = &face->options;
	/* The kernel pins as many pages of the reader's buffer as one request may fill, before it knows how short the answer is: with a buffer of a
	 * megabyte a third of a question's time. */
	int rc = vf_buf_printf(out, err, "default_permissions,subtype=vecfs,max_read=%u", VF_READ_BYTES_MAX);

	if (rc == 0 && !names_source(o->kernel_options)) {
		rc = vf_buf_put_str(out, ",fsname=", err);
		if (rc == 0)
			rc = put_escaped(out, vf_catalog_path(face->catalog), err);
	}
	if (rc == 0 && o->allow_other)
		rc = vf_buf_put_str(out, ",allow_other", err);
	if (rc == 0 && o->read_only)
		rc = vf_buf_put_str(out, ",ro", err);
	if (rc == 0 && o->kernel_options && o->kernel_options[0])
		rc = vf_buf_printf(out, err, ",%s", o->kernel_options);
	return rc ? rc : vf_buf_put(out, "", 1, err);
}

static int start_session(struct vf_face *face, struct vf_err *err)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct vf_buf options = VF_BUF_INIT;
	int rc = build_options(face, &options, err);

	if (rc == 0 && (fuse_opt_add_arg(&args, "vecfs") || fuse_opt_add_arg(&args, "-o") || fuse_opt_add_arg(&args, (char *)options.data) ||
	                (face->options.debug && fuse_opt_add_arg(&args, "-d"))))
		rc = vf_oom(err);
	if (rc == 0) {
		face->session = fuse_session_new(&args, &vf_ops, sizeof vf_ops, face);
		if (!face->session)
			rc = vf_fail(err, EINVAL, "cannot start with the options %s: %s", (char *)options.data, said);
	}
	fuse_opt_free_args(&args);
	vf_buf_free(&options);
	return rc;
}

/* Before anybody can know of the mount: a signal from now on ends it, and not the process without it. */
static int watch_signals(struct vf_face *face, struct vf_err *err)
{
	signal(SIGHUP, SIG_IGN);
	/* Who is started in the background of a script has it ignored, and libfuse would leave it so. */
	signal(SIGINT, SIG_DFL);
	if (fuse_set_signal_handlers(face->session))
		return vf_fail(err, EINVAL, "cannot watch for signals");
	face->watching = true;
	return 0;
}

static int mount_session(struct vf_face *face, struct vf_err *err)
{
	errno = 0;
	if (fuse_session_mount(face->session, face->mountpoint) == 0) {
		face->mounted = true;
		return 0;
	}
	int code = errno ? errno : EPERM;
	return vf_fail(err, code, "cannot mount on %s: %s", face->mountpoint, said[0] ? said : strerror(code));
}

/* ---- begin and end ---- */

static int make_parts(struct vf_face *face, struct vf_err *err)
{
	int rc;

	(void)((rc = vf_budget_new(&face->budget, err)) || (rc = vf_turns_new(&face->turns, err)) || (rc = vf_ring_new(&face->ring, err)) ||
	       (rc = vf_metrics_new(&face->metrics, err)) ||
	       (rc = vf_renderings_new(&face->renderings, err)) || (rc = vf_scratches_new(&face->scratches, err)) ||
	       (rc = vf_writers_new(&face->writers, err)) || (rc = vf_removals_new(&face->removals, err)) || (rc = vf_nodes_init(face, err)));
	return rc;
}

static struct vf_face *new_face(struct vf_catalog *catalog, const struct vf_face_options *options)
{
	struct vf_face *face = calloc(1, sizeof *face);

	if (!face)
		return NULL;
	face->catalog = catalog;
	face->options = *options;
	face->mounted_ns = vf_clock_real_ns();
	face->started_ns = vf_clock_mono_ns();
	vf_awake_begin(&face->awake, options->awake);
	pthread_mutex_init(&face->naming, NULL);
	pthread_mutex_init(&face->lock, NULL);
	said[0] = '\0';
	fuse_set_log_func(listen_to_fuse);
	return face;
}

/* What begins a face ends with the face, or with nothing. */
static int begun(struct vf_face *face, int rc, struct vf_face **out)
{
	fuse_set_log_func(speak_to_log);
	if (rc)
		vf_face_free(&face);
	else
		*out = face;
	return rc;
}

int vf_face_mount(struct vf_catalog *catalog, const char *mountpoint, const struct vf_face_options *options, struct vf_face **out, struct vf_err *err)
{
	struct vf_face *face = new_face(catalog, options);
	int rc;

	if (!face)
		return vf_oom(err);
	face->mountpoint = strdup(mountpoint);
	rc = face->mountpoint ? 0 : vf_oom(err);
	(void)(rc || (rc = make_parts(face, err)) || (rc = start_session(face, err)) || (rc = watch_signals(face, err)) ||
	       (rc = mount_session(face, err)));
	return begun(face, rc, out);
}

/* ---- a socket instead of a mount ---- */

static ssize_t receive(int fd, void *buf, size_t len, void *ctx)
{
	ssize_t n = read(fd, buf, len);

	(void)ctx;
	/* Nobody is there any more: as when a mount is gone. */
	if (n == 0) {
		errno = ENODEV;
		return -1;
	}
	return n;
}

static ssize_t reply(int fd, struct iovec *iov, int count, void *ctx)
{
	struct pollfd space = { .fd = fd, .events = POLLOUT };
	ssize_t n;

	(void)ctx;
	/* The loop reads without waiting, which holds for writing too. */
	while ((n = writev(fd, iov, count)) < 0 && errno == EAGAIN)
		poll(&space, 1, -1);
	return n;
}

int vf_face_attach(struct vf_catalog *catalog, int socket, const struct vf_face_options *options, struct vf_face **out, struct vf_err *err)
{
	static const struct fuse_custom_io io = { .writev = reply, .read = receive };
	struct vf_face *face = new_face(catalog, options);
	int rc;

	if (!face)
		return vf_oom(err);
	if ((rc = make_parts(face, err)) == 0 && (rc = start_session(face, err)) == 0 && fuse_session_custom_io(face->session, &io, socket))
		rc = vf_fail(err, EINVAL, "cannot serve a socket: %s", said);
	return begun(face, rc, out);
}

int vf_face_serve(struct vf_face *face, struct vf_err *err)
{
	int rc = vf_loop_run(face);

	/* A positive number is the signal that ended it: not a failure. */
	return rc < 0 ? vf_fail(err, -rc, "serving %s has ended: %s", face->mountpoint, strerror(-rc)) : 0;
}

/* Somebody else has unmounted it, and something else may be there by now. After umount -f of a mount in use it is still there, and dead. */
static bool is_unmounted(const struct vf_face *face)
{
	struct pollfd fd = { .fd = fuse_session_fd(face->session) };

	return poll(&fd, 1, 0) == 1 && fd.revents & POLLERR && !is_dead(probe(face->mountpoint));
}

static void unmount(struct vf_face *face)
{
	if (face->options.unmount && !is_unmounted(face))
		face->options.unmount(face->options.unmount_ctx);
	/* Finds it unmounted then, and frees what libfuse keeps of it. */
	fuse_session_unmount(face->session);
}

void vf_face_free(struct vf_face **out)
{
	struct vf_face *face = *out;

	if (!face)
		return;
	if (face->mounted)
		unmount(face);
	if (face->watching)
		fuse_remove_signal_handlers(face->session);
	vf_awake_end(&face->awake);
	vf_removals_free(face);
	if (face->writers)
		vf_handles_free(face);
	vf_dirs_free(face);
	vf_nodes_free(face);
	vf_scratches_free(&face->scratches);
	vf_renderings_free(&face->renderings);
	vf_sites_free(face);
	vf_writers_free(&face->writers);
	vf_budget_free(&face->budget);
	vf_turns_free(&face->turns);
	vf_ring_free(&face->ring);
	vf_metrics_free(&face->metrics);
	if (face->session)
		fuse_session_destroy(face->session);
	pthread_mutex_destroy(&face->lock);
	free(face->mountpoint);
	free(face);
	*out = NULL;
}
