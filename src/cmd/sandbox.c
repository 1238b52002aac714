/* SPDX-License-Identifier: MIT */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "vecfs/log.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- capabilities ---- */

static int set_capabilities(uint64_t permitted, uint64_t effective)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ .permitted = (uint32_t)permitted, .effective = (uint32_t)effective },
		{ .permitted = (uint32_t)(permitted >> 32), .effective = (uint32_t)(effective >> 32) },
	};

	return (int)syscall(SYS_capset, &head, data);
}

static bool has_capability(int capability)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	return syscall(SYS_capget, &head, data) == 0 && (data[capability / 32].permitted >> capability % 32 & 1);
}

static void drop_capabilities(const char *store)
{
	const uint64_t reach = (uint64_t)1 << CAP_DAC_OVERRIDE;

	for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
	if (!has_capability(CAP_DAC_OVERRIDE)) {
		set_capabilities(0, 0);
		return;
	}
	/* Root may serve a store that is somebody else's, or lies behind a door that only its owner opens. */
	set_capabilities(reach, 0);
	bool ours = faccessat(AT_FDCWD, store, R_OK | W_OK | X_OK, AT_EACCESS) == 0;
	set_capabilities(ours ? 0 : reach, ours ? 0 : reach);
}

/* ---- Landlock: numbers of its ABI, which are newer than the headers of many systems ---- */

#define FS_WRITE_FILE  (1ull << 1)
#define FS_READ_FILE   (1ull << 2)
#define FS_READ_DIR    (1ull << 3)
#define FS_REMOVE_DIR  (1ull << 4)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_DIR    (1ull << 7)
#define FS_MAKE_REG    (1ull << 8)
#define FS_OF_ABI_1    ((1ull << 13) - 1)
#define FS_REFER       (1ull << 13)     /* ABI 2: renaming from one directory to another */
#define FS_TRUNCATE    (1ull << 14)     /* ABI 3 */
#define NET_TCP        3ull             /* ABI 4: binding and connecting */
#define SCOPE_SIGNAL   (1ull << 1)      /* ABI 6 */
#define ABI_MIN        2                /* a kernel that refuses to move an index between directories is of no use here */

#define FS_STORE (FS_WRITE_FILE | FS_READ_FILE | FS_READ_DIR | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER | FS_TRUNCATE)

struct ruleset { uint64_t fs, net, scoped; };
struct path_rule { uint64_t allowed; int32_t parent_fd; } __attribute__((packed));

static void allow(int rules, const char *path, uint64_t access, uint64_t handled)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	struct path_rule rule = { .allowed = access & handled, .parent_fd = fd };

	/* What is not there needs no rule. */
	if (fd < 0)
		return;
	if (syscall(SYS_landlock_add_rule, rules, 1, &rule, 0))
		vf_log(LOG_WARNING, "sandbox: no rule for %s: %s", path, strerror(errno));
	close(fd);
}

static void close_files(const char *store)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);

	if (abi < ABI_MIN)
		return;
	struct ruleset set = {
		.fs = FS_OF_ABI_1 | FS_REFER | (abi >= 3 ? FS_TRUNCATE : 0), .net = abi >= 4 ? NET_TCP : 0, .scoped = abi >= 6 ? SCOPE_SIGNAL : 0,
	};
	size_t size = abi >= 6 ? sizeof set : abi >= 4 ? offsetof(struct ruleset, scoped) : offsetof(struct ruleset, net);
	int rules = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
	if (rules < 0) {
		vf_log(LOG_WARNING, "sandbox: no Landlock: %s", strerror(errno));
		return;
	}
	allow(rules, store, FS_STORE, set.fs);
	allow(rules, "/proc", FS_READ_FILE | FS_READ_DIR, set.fs);                /* the command that a failure is told with */
	allow(rules, "/sys/devices/system/cpu", FS_READ_FILE | FS_READ_DIR, set.fs);
	allow(rules, "/dev/fuse", FS_READ_FILE | FS_WRITE_FILE, set.fs);
	allow(rules, "/dev/null", FS_READ_FILE | FS_WRITE_FILE, set.fs);
	/* Spools of a store whose disk is full. */
	allow(rules, "/var/tmp", FS_READ_FILE | FS_WRITE_FILE | FS_MAKE_REG, set.fs);
	allow(rules, "/tmp", FS_READ_FILE | FS_WRITE_FILE | FS_MAKE_REG, set.fs);
	if (syscall(SYS_landlock_restrict_self, rules, 0))
		vf_log(LOG_WARNING, "sandbox: no Landlock: %s", strerror(errno));
	close(rules);
}

/* ---- seccomp ---- */

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#define OUR_ARCH 0u
#endif

/* A sanitizer looks for leaks through ptrace. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static const int denied[] = {
	SYS_execve, SYS_execveat,
	SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_perf_event_open, SYS_bpf, SYS_userfaultfd, SYS_pidfd_getfd,
	SYS_mount, SYS_umount2, SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_open_tree, SYS_mount_setattr,
	SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns, SYS_open_by_handle_at, SYS_swapon, SYS_swapoff, SYS_quotactl, SYS_acct,
	SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_syslog,
	SYS_add_key, SYS_request_key, SYS_keyctl, SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex,
	SYS_sethostname, SYS_setdomainname, SYS_personality, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
	SYS_mknodat, SYS_symlinkat, SYS_linkat, SYS_fchownat, SYS_fchown, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr,
	SYS_bind, SYS_listen, SYS_accept, SYS_accept4,
#if !SANITIZED
	SYS_ptrace,
#endif
#if defined(__x86_64__)
	SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_mknod, SYS_symlink, SYS_link, SYS_chown, SYS_lchown, SYS_kexec_file_load,
#endif
};

#define NEW_NAMESPACES (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

struct program {
	struct sock_filter code[COUNT(denied) * 2 + 32];
	unsigned short len;
};

static void put(struct program *p, uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false)
{
	p->code[p->len++] = (struct sock_filter)BPF_JUMP(code, k, if_true, if_false);
}

static void load(struct program *p, size_t offset)
{
	put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(struct program *p, uint32_t what)
{
	put(p, BPF_RET | BPF_K, what, 0, 0);
}

static uint32_t refusal(int code)
{
	return SECCOMP_RET_ERRNO | ((uint32_t)code & SECCOMP_RET_DATA);
}

static void put_program(struct program *p)
{
	load(p, offsetof(struct seccomp_data, arch));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
	answer(p, refusal(EPERM));
	load(p, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
	/* The calls of x32 have a bit more. */
	put(p, BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
	answer(p, refusal(EPERM));
#endif
	for (size_t i = 0; i < COUNT(denied); i++) {
		put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)denied[i], 0, 1);
		answer(p, refusal(EPERM));
	}
	/* Its flags lie in memory, where no filter can see them; without it clone is used. */
	put(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1);
	answer(p, refusal(ENOSYS));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
	load(p, offsetof(struct seccomp_data, args[0]));
	put(p, BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 4);
	answer(p, refusal(EPERM));
	/* Sockets to the log and to the service manager only. */
	put(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 2);
	load(p, offsetof(struct seccomp_data, args[0]));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1);
	answer(p, SECCOMP_RET_ALLOW);
	answer(p, refusal(EAFNOSUPPORT));
}

static void close_calls(void)
{
	struct program program = { .len = 0 };
	struct sock_fprog prog = { .filter = program.code };

	if (OUR_ARCH == 0u)
		return;
	put_program(&program);
	prog.len = program.len;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) && errno != EINVAL)
		vf_log(LOG_WARNING, "sandbox: no seccomp: %s", strerror(errno));
}

/* ---- all of it ---- */

static void *sleep_on(void *unused)
{
	pause();
	return unused;
}

/* The first thread that is cancelled, as libfuse does at the end, makes the C library load another one: while it can. */
static void learn_to_cancel(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, sleep_on, NULL))
		return;
	pthread_cancel(thread);
	pthread_join(thread, NULL);
}

void vf_sandbox_enter(const char *store)
{
	/* The log stamps its lines with the local time, whose rules are read from a file. */
	tzset();
	learn_to_cancel();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		vf_log(LOG_WARNING, "sandbox: cannot give up new privileges: %s", strerror(errno));
		return;
	}
	drop_capabilities(store);
	close_files(store);
	close_calls();
}
