/* SPDX-License-Identifier: MIT */
/* vecfs - vector search as files.
 *
 * Where is what (a floor includes only what stands below it; doc/ARCHITECTURE.md):
 *
 *   7  main.c, cmd/     options and commands: mount, check, dump, compact
 *   6  face/            the tree of files, over FUSE: nodes, handles, staging, verbs, views, the errors ring
 *   5  catalog/         the store on disk: buckets and indexes, its lock, which indexes are open
 *   4  index/           one index: commit, questions (plan, rank, answer), linkers, checkpoint, audit
 *   3  codec/           records, questions, receipts, config <-> msgpack, JSON, npy, text
 *   2  filter/          the filter language: tree, terms, sets of slots
 *   2  graph/           the HNSW graph in memory: insert, search, scan, sweep, audit
 *   1  store/           LMDB: tables, transactions, group commit
 *   1  dist/            the metrics and their kernels, one file an instruction set
 *   0  base/            errors, spans, arenas, spools, names, values, clocks, the log
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "vecfs/heap.h"

static const char help[] =
	"vecfs " PACKAGE_VERSION " - vector search as files\n"
	"\n"
	"  vecfs STORE MOUNTPOINT [-o OPTIONS] [-f] [-d] [-s]   mount (vecfs mount ... is the same)\n"
	"  vecfs check [--repair] STORE                         verify every invariant; 0 clean, 4 damaged\n"
	"  vecfs dump STORE BUCKET/INDEX                        msgpack stream of all records on stdout\n"
	"  vecfs compact STORE [BUCKET/INDEX]                   give freed disk space back\n"
	"  vecfs --help | --version\n"
	"\n"
	"STORE is a directory on a local disk, created when missing. Unmount with fusermount3 -u MOUNTPOINT.\n"
	"\n"
	"  -f        stay in the foreground\n"
	"  -d        debug: every request on stderr (implies -f)\n"
	"  -s        one thread\n"
	"  -o LIST   ro, allow_other, xattr, awake=no, sandbox=no, fsname=NAME, nosuid, nodev, noexec, noatime, ...\n"
	"\n"
	"man vecfs(1) has the commands, man vecfs(5) the files.\n";

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "mount", vf_cmd_mount },
	{ "check", vf_cmd_check },
	{ "dump", vf_cmd_dump },
	{ "compact", vf_cmd_compact },
};

static int print(const char *text)
{
	fputs(text, stdout);
	return VF_EXIT_OK;
}

/* Who was started with one of them closed would get a file of the store there, and lose it when the daemon goes to the background. What is printed
 * on one that was closed fails, as it would have. */
static bool have_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			return false;
	return true;
}

/* A script that asks whether all is well hears when the answer could not be printed. */
static int printed(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	fprintf(stderr, "vecfs: cannot write to standard output: %s\n", strerror(errno));
	return code == VF_EXIT_OK ? VF_EXIT_FAILED : code;
}

static int run(int argc, char **argv)
{
	if (argc < 2)
		return vf_cmd_usage("vecfs STORE MOUNTPOINT [-o OPTIONS], or vecfs --help");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return print(help);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return print("vecfs " PACKAGE_VERSION "\n");
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	return vf_cmd_mount(argc, argv);
}

int main(int argc, char **argv)
{
	if (!have_standard_descriptors())
		return VF_EXIT_FAILED;
	vf_heap_set_up();
	return printed(run(argc, argv));
}
