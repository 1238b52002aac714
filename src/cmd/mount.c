/* SPDX-License-Identifier: MIT */
/* vecfs [mount] STORE MOUNTPOINT: opens the store, mounts it, and serves it from the background.
 *
 * The fork comes first, since threads do not survive one: the child does all the work and tells its parent over a pipe when
 * the mount is ready; errors are printed by the child while it still has the terminal. */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "last_words.h"
#include "mount_options.h"
#include "notify.h"
#include "sandbox.h"
#include "vecfs/face.h"
#include "vecfs/log.h"

#define USAGE "vecfs STORE MOUNTPOINT [-o OPTIONS] [-f] [-d] [-s]"

static int parse(int argc, char **argv, struct vf_mount_options *o, struct vf_err *err)
{
	int c, rc = 0;

	optind = 1;
	/* -n and -v come from mount(8) when it runs us as its helper. */
	while (rc == 0 && (c = getopt(argc, argv, "o:fdsnv")) != -1) {
		switch (c) {
		case 'o': rc = vf_mount_options_add(o, optarg, err); break;
		case 'f': o->foreground = true; break;
		case 'd': o->foreground = o->debug = true; break;
		case 's': o->single_thread = true; break;
		case 'n': case 'v': break;
		default: return vf_fail(err, EINVAL, "usage: %s", USAGE);
		}
	}
	if (rc == 0 && argc - optind != 2)
		return vf_fail(err, EINVAL, "usage: %s", USAGE);
	if (rc == 0) {
		o->store = argv[optind];
		o->mountpoint = argv[optind + 1];
	}
	return rc;
}

/* ---- the parent's side ---- */

static int wait_until_ready(int pipe_fd, pid_t child)
{
	unsigned char status;
	int left = VF_EXIT_FAILED;

	if (read(pipe_fd, &status, 1) == 1)
		return status;
	/* It ended without a word. */
	if (waitpid(child, &left, 0) == child && WIFEXITED(left))
		return WEXITSTATUS(left) ? WEXITSTATUS(left) : VF_EXIT_FAILED;
	return VF_EXIT_FAILED;
}

/* ---- the child's side ---- */

static void detach(int ready_fd)
{
	unsigned char ok = VF_EXIT_OK;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	vf_log_open(true, false);
	if (chdir("/"))
		vf_log(LOG_WARNING, "cannot change to /: %s", strerror(errno));
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	if (write(ready_fd, &ok, 1) != 1)
		vf_log(LOG_WARNING, "nobody waited for the mount");
	close(ready_fd);
}

/* Whether `path` is `dir` or lies in it; both are real paths. */
static bool is_in(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/' || dir[len - 1] == '/');
}

/* A store below its own mount would wait for itself: the daemon opens its files by their names. One that cannot be resolved is left to whoever
 * mounts to explain. */
static int check_apart(const char *store, const char *mountpoint, struct vf_err *err)
{
	char *real_store = realpath(store, NULL), *real_mount = realpath(mountpoint, NULL);
	int rc = 0;

	if (real_store && real_mount && (is_in(real_store, real_mount) || is_in(real_mount, real_store)))
		rc = vf_fail(err, EINVAL, "cannot mount on %s: store and mount point may not lie in each other (the store is %s)", mountpoint, real_store);
	free(real_store);
	free(real_mount);
	return rc;
}

/* The mount and the threads of the daemon come before and after the sandbox: it holds for the thread that enters it and for those that this one
 * starts. */
static int mount_and_serve(struct vf_catalog *catalog, const char *mountpoint, const struct vf_mount_options *o, int ready_fd, struct vf_err *err)
{
	struct vf_unmounter unmounter = { -1 };
	struct vf_face_options options = {
		.read_only = o->read_only, .allow_other = o->allow_other, .xattr = o->xattr, .awake = !o->no_awake,
		.single_thread = o->single_thread, .debug = o->debug, .kernel_options = o->kernel.len ? (char *)o->kernel.data : NULL,
	};
	struct vf_face *face = NULL;
	int rc = check_apart(vf_catalog_path(catalog), mountpoint, err);

	if (rc || (rc = vf_catalog_mounts_at(catalog, mountpoint, err)) || (!o->no_sandbox && (rc = vf_unmounter_start(mountpoint, &unmounter, err))))
		return rc;
	if (!o->no_sandbox) {
		options.unmount = vf_unmounter_unmount;
		options.unmount_ctx = &unmounter;
	}
	if ((rc = vf_face_mount(catalog, mountpoint, &options, &face, err))) {
		vf_unmounter_end(&unmounter);
		return rc;
	}
	if (!o->no_sandbox)
		vf_sandbox_enter(vf_catalog_path(catalog));
	if (ready_fd >= 0)
		detach(ready_fd);
	vf_notify("READY=1");
	rc = vf_face_serve(face, err);
	vf_notify("STOPPING=1");
	vf_face_free(&face);
	vf_unmounter_end(&unmounter);
	if (rc)
		vf_log(LOG_ERR, "%s", err->text);
	return rc;
}

static int run(const struct vf_mount_options *o, int ready_fd)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_catalog_options options = { .read_only = o->read_only, .create = !o->read_only };
	struct vf_catalog *catalog = NULL;
	char *store = NULL, *mountpoint = NULL;
	int rc;

	vf_log_open(false, o->debug);
	if ((rc = vf_cmd_absolute("store", o->store, &store, &err)) == 0 && (rc = vf_cmd_absolute("mount point", o->mountpoint, &mountpoint, &err)) == 0 &&
	    (rc = vf_face_check_mountpoint(mountpoint, &err)) == 0 && (rc = vf_catalog_open(store, &options, &catalog, &err)) == 0)
		rc = mount_and_serve(catalog, mountpoint, o, ready_fd, &err);
	vf_catalog_close(&catalog);
	free(store);
	free(mountpoint);
	return rc ? vf_cmd_failed(&err) : VF_EXIT_OK;
}

static int run_in_background(const struct vf_mount_options *o)
{
	struct vf_err err = VF_ERR_INIT;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) || fflush(NULL)) {
		vf_fail(&err, errno, "cannot go to the background: %s", strerror(errno));
		return vf_cmd_failed(&err);
	}
	pid_t child = fork();
	if (child < 0) {
		vf_fail(&err, errno, "cannot fork: %s", strerror(errno));
		return vf_cmd_failed(&err);
	}
	if (child > 0) {
		close(fds[1]);
		return wait_until_ready(fds[0], child);
	}
	close(fds[0]);
	setsid();
	return run(o, fds[1]);
}

int vf_cmd_mount(int argc, char **argv)
{
	struct vf_mount_options o = VF_MOUNT_OPTIONS_INIT;
	struct vf_err err = VF_ERR_INIT;
	int status;

	if (parse(argc, argv, &o, &err)) {
		vf_cmd_failed(&err);
		status = VF_EXIT_USAGE;
	} else {
		vf_last_words_prepare();
		signal(SIGHUP, SIG_IGN);
		signal(SIGPIPE, SIG_IGN);
		/* A file size limit is an error of the write, not our end. */
		signal(SIGXFSZ, SIG_IGN);
		status = o.foreground ? run(&o, -1) : run_in_background(&o);
	}
	vf_buf_free(&o.kernel);
	return status;
}
