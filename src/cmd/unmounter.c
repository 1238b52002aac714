/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox.h"

/* Keeps nothing of the daemon's open: neither its lock nor the mount would end with it. */
static void close_all_but(int fd)
{
	int null = open("/dev/null", O_RDWR);

	for (int i = 0; i < 3 && null >= 0; i++)
		dup2(null, i);
	/* Above the three standard ones. */
	dup2(fd, 3);
	if (syscall(SYS_close_range, 4u, ~0u, 0u) == 0)
		return;
	for (int i = 4, n = (int)sysconf(_SC_OPEN_MAX); i < n; i++)
		close(i);
}

static void unmount(const char *mountpoint)
{
	if (geteuid() == 0) {
		umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-q", "-z", "--", mountpoint, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* In a list of processes it is not to be taken for the daemon. The arguments lie in a row, before the environment. */
static void take_name(const char *name)
{
	char *from = program_invocation_name, *to = environ ? environ[0] : NULL;

	prctl(PR_SET_NAME, name);
	if (from && to > from && (size_t)(to - from) > strlen(name)) {
		memset(from, 0, (size_t)(to - from));
		strcpy(from, name);
	}
}

static _Noreturn void serve(int fd, const char *mountpoint)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
	char word;

	/* What ends the daemon must not end who unmounts for it. */
	for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		signal(ignored[i], SIG_IGN);
	take_name("vecfs-unmount");
	close_all_but(fd);
	if (chdir("/") == 0)
		while (read(3, &word, 1) == 1) {
			unmount(mountpoint);
			if (write(3, &word, 1) != 1)
				break;
		}
	_exit(0);
}

int vf_unmounter_start(const char *mountpoint, struct vf_unmounter *out, struct vf_err *err)
{
	int fds[2];

	out->fd = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return vf_fail(err, errno, "cannot start the process that unmounts: %s", strerror(errno));
	pid_t pid = fork();
	if (pid == 0)
		serve(fds[1], mountpoint);
	int code = errno;
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return vf_fail(err, code, "cannot start the process that unmounts: %s", strerror(code));
	}
	out->fd = fds[0];
	return 0;
}

void vf_unmounter_unmount(void *ctx)
{
	struct vf_unmounter *unmounter = ctx;
	char word = 'u';

	if (send(unmounter->fd, &word, 1, MSG_NOSIGNAL) == 1)
		while (read(unmounter->fd, &word, 1) < 0 && errno == EINTR)
			;
}

void vf_unmounter_end(struct vf_unmounter *unmounter)
{
	if (unmounter->fd >= 0)
		close(unmounter->fd);
	unmounter->fd = -1;
}
