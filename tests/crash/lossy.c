/* SPDX-License-Identifier: MIT */
/* lossy.c - a disk for tests that keeps nothing but what was synced: a FUSE filesystem in memory. A file is on the disk as it was at its last
 * fsync, a directory has on the disk the names that it had at its own last fsync. SIGUSR1 is the power cut: what is on the disk is laid down
 * in the directory OUT. LOSSY MOUNTPOINT OUT [IN]: begins with the files of IN, all of them synced. */
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct bytes { char *data; size_t len, cap; };
struct entry { char *name; struct node *node; };
struct names { struct entry *at; size_t n; };

/* A node stays until the end: tests are short. */
struct node {
	int is_dir;
	ino_t ino;
	mode_t mode;
	struct timespec mtime;
	struct bytes now, synced;
	struct names names, synced_names;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node *root;
static const char *out_dir;

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static struct node *new_node(int is_dir, mode_t mode)
{
	static ino_t last = 1;
	struct node *n = must(calloc(1, sizeof *n));

	n->is_dir = is_dir;
	n->ino = last++;
	n->mode = mode & 07777;
	clock_gettime(CLOCK_REALTIME, &n->mtime);
	return n;
}

/* ---- bytes and names ---- */

static void set_len(struct bytes *b, size_t len)
{
	if (len > b->cap) {
		b->cap = len + len / 2;
		b->data = must(realloc(b->data, b->cap));
	}
	if (len > b->len)
		memset(b->data + b->len, 0, len - b->len);
	b->len = len;
}

static void sync_file(struct node *n)
{
	n->synced.len = 0;
	set_len(&n->synced, n->now.len);
	if (n->now.len)
		memcpy(n->synced.data, n->now.data, n->now.len);
}

static void sync_names(struct node *dir)
{
	struct names *to = &dir->synced_names;

	for (size_t i = 0; i < to->n; i++)
		free(to->at[i].name);
	to->n = dir->names.n;
	to->at = to->n ? must(realloc(to->at, to->n * sizeof *to->at)) : to->at;
	for (size_t i = 0; i < to->n; i++)
		to->at[i] = (struct entry){ must(strdup(dir->names.at[i].name)), dir->names.at[i].node };
}

static struct entry *find(struct node *dir, const char *name)
{
	for (size_t i = 0; i < dir->names.n; i++)
		if (strcmp(dir->names.at[i].name, name) == 0)
			return &dir->names.at[i];
	return NULL;
}

static void add(struct node *dir, const char *name, struct node *node)
{
	struct names *names = &dir->names;

	names->at = must(realloc(names->at, (names->n + 1) * sizeof *names->at));
	names->at[names->n++] = (struct entry){ must(strdup(name)), node };
}

static void drop(struct node *dir, struct entry *entry)
{
	free(entry->name);
	*entry = dir->names.at[--dir->names.n];
}

/* The node of a path; with `last`, its directory and the last name. */
static struct node *walk(const char *path, const char **last)
{
	struct node *n = root;
	char name[NAME_MAX + 1];

	while (n && *path == '/' && path[1]) {
		size_t len = strcspn(path + 1, "/");
		if (last && !path[1 + len]) {
			*last = path + 1;
			return n;
		}
		snprintf(name, sizeof name, "%.*s", (int)len, path + 1);
		struct entry *e = n->is_dir ? find(n, name) : NULL;
		n = e ? e->node : NULL;
		path += 1 + len;
	}
	return n;
}

/* ---- the operations ---- */

#define LOCKED(...) do { pthread_mutex_lock(&lock); int rc = 0; { __VA_ARGS__ } pthread_mutex_unlock(&lock); return rc; } while (0)

static struct node *node_of(const char *path, struct fuse_file_info *fi)
{
	return fi && fi->fh ? (struct node *)(uintptr_t)fi->fh : walk(path, NULL);
}

static void fill_stat(const struct node *n, struct stat *st)
{
	*st = (struct stat){ .st_ino = n->ino, .st_mode = n->mode | (n->is_dir ? S_IFDIR : S_IFREG), .st_nlink = 1, .st_uid = getuid(), .st_gid = getgid(),
		.st_size = (off_t)n->now.len, .st_blocks = (blkcnt_t)((n->now.len + 511) / 512), .st_mtim = n->mtime, .st_ctim = n->mtime };
}

static int op_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	LOCKED({
		struct node *n = node_of(path, fi);
		if (n)
			fill_stat(n, st);
		else
			rc = -ENOENT;
	});
}

static int make(const char *path, int is_dir, mode_t mode, struct node **out)
{
	const char *name = "";
	struct node *dir = walk(path, &name);

	if (!dir || !*name)
		return -ENOENT;
	if (find(dir, name))
		return -EEXIST;
	*out = new_node(is_dir, mode);
	add(dir, name, *out);
	return 0;
}

static int op_mkdir(const char *path, mode_t mode)
{
	LOCKED({ struct node *n; rc = make(path, 1, mode, &n); });
}

static int op_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	LOCKED({
		struct node *n;
		rc = make(path, 0, mode, &n);
		if (rc == 0)
			fi->fh = (uintptr_t)n;
	});
}

static int op_open(const char *path, struct fuse_file_info *fi)
{
	LOCKED({
		struct node *n = walk(path, NULL);
		if (n && (fi->flags & O_TRUNC))
			set_len(&n->now, 0);
		fi->fh = (uintptr_t)n;
		rc = n ? 0 : -ENOENT;
	});
}

static int op_read(const char *path, char *buf, size_t size, off_t at, struct fuse_file_info *fi)
{
	LOCKED({
		struct node *n = node_of(path, fi);
		size_t left = (size_t)at < n->now.len ? n->now.len - (size_t)at : 0;
		rc = (int)(size < left ? size : left);
		if (rc)
			memcpy(buf, n->now.data + at, (size_t)rc);
	});
}

static int op_write(const char *path, const char *buf, size_t size, off_t at, struct fuse_file_info *fi)
{
	LOCKED({
		struct node *n = node_of(path, fi);
		if ((size_t)at + size > n->now.len)
			set_len(&n->now, (size_t)at + size);
		memcpy(n->now.data + at, buf, size);
		clock_gettime(CLOCK_REALTIME, &n->mtime);
		rc = (int)size;
	});
}

static int op_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	LOCKED({
		struct node *n = node_of(path, fi);
		if (n)
			set_len(&n->now, (size_t)size);
		else
			rc = -ENOENT;
	});
}

static int op_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)data_only;
	LOCKED({
		struct node *n = node_of(path, fi);
		if (n && !n->is_dir)
			sync_file(n);
	});
}

static int op_fsyncdir(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)data_only;
	(void)path;
	LOCKED({ sync_names((struct node *)(uintptr_t)fi->fh); });
}

static int take_name(const char *path, int is_dir)
{
	const char *name = "";
	struct node *dir = walk(path, &name);
	struct entry *e = dir && *name ? find(dir, name) : NULL;

	if (!e)
		return -ENOENT;
	if (is_dir && e->node->names.n)
		return -ENOTEMPTY;
	drop(dir, e);
	return 0;
}

static int op_unlink(const char *path)
{
	LOCKED({ rc = take_name(path, 0); });
}

static int op_rmdir(const char *path)
{
	LOCKED({ rc = take_name(path, 1); });
}

static int op_rename(const char *from, const char *to, unsigned flags)
{
	LOCKED({
		const char *name = "", *name2 = "";
		struct node *dir = walk(from, &name), *dir2 = walk(to, &name2);
		struct entry *e = dir && *name ? find(dir, name) : NULL, *there = dir2 && *name2 ? find(dir2, name2) : NULL;
		if (!e || !dir2 || !*name2)
			rc = -ENOENT;
		else if (flags || (there && there->node->names.n))
			rc = there && !flags ? -ENOTEMPTY : -EINVAL;
		else {
			struct node *node = e->node;
			if (there)
				drop(dir2, there);
			drop(dir, find(dir, name));
			add(dir2, name2, node);
		}
	});
}

static int op_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t at, struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	(void)path;
	(void)at;
	(void)flags;
	LOCKED({
		struct node *dir = (struct node *)(uintptr_t)fi->fh;
		fill(buf, ".", NULL, 0, 0);
		fill(buf, "..", NULL, 0, 0);
		for (size_t i = 0; i < dir->names.n; i++) {
			struct stat st;
			fill_stat(dir->names.at[i].node, &st);
			fill(buf, dir->names.at[i].name, &st, 0, 0);
		}
	});
}

static int op_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	LOCKED({ struct node *n = node_of(path, fi); if (n) n->mode = mode & 07777; else rc = -ENOENT; });
}

static int op_nothing(const char *path, const struct timespec tv[2], struct fuse_file_info *fi)
{
	(void)path;
	(void)tv;
	(void)fi;
	return 0;
}

static int op_statfs(const char *path, struct statvfs *st)
{
	(void)path;
	*st = (struct statvfs){ .f_bsize = 4096, .f_frsize = 4096, .f_blocks = 1 << 20, .f_bfree = 1 << 19, .f_bavail = 1 << 19, .f_namemax = NAME_MAX };
	return 0;
}

/* ---- the power cut, and what was there before ---- */

static void lay(const struct node *n, const char *path)
{
	char below[PATH_MAX];

	if (n->is_dir) {
		mkdir(path, 0700);
		for (size_t i = 0; i < n->synced_names.n; i++) {
			snprintf(below, sizeof below, "%s/%s", path, n->synced_names.at[i].name);
			lay(n->synced_names.at[i].node, below);
		}
		return;
	}
	FILE *f = must(fopen(path, "w"));
	if (fwrite(n->synced.data, 1, n->synced.len, f) != n->synced.len || fclose(f))
		abort();
}

static void take_in(struct node *dir, const char *path)
{
	char below[PATH_MAX], piece[1 << 16];
	DIR *d = must(opendir(path));
	struct dirent *e;

	while ((e = readdir(d)) != NULL) {
		struct stat st;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(below, sizeof below, "%s/%s", path, e->d_name);
		if (lstat(below, &st))
			abort();
		struct node *n = new_node(S_ISDIR(st.st_mode), st.st_mode);
		add(dir, e->d_name, n);
		if (n->is_dir) {
			take_in(n, below);
			continue;
		}
		FILE *f = must(fopen(below, "r"));
		for (size_t got; (got = fread(piece, 1, sizeof piece, f)) > 0;) {
			set_len(&n->now, n->now.len + got);
			memcpy(n->now.data + n->now.len - got, piece, got);
		}
		fclose(f);
		sync_file(n);
	}
	closedir(d);
	sync_names(dir);
}

/* Signals come to this thread alone. Done: OUT.done is there. */
static void *wait_for_cut(void *arg)
{
	char done[PATH_MAX];
	int sig;

	while (sigwait(arg, &sig) == 0) {
		pthread_mutex_lock(&lock);
		lay(root, out_dir);
		pthread_mutex_unlock(&lock);
		snprintf(done, sizeof done, "%s.done", out_dir);
		fclose(must(fopen(done, "w")));
	}
	return NULL;
}

static void *op_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
	static sigset_t set;
	pthread_t thread;

	(void)conn;
	config->use_ino = 1;
	config->hard_remove = 1;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (pthread_create(&thread, NULL, wait_for_cut, &set))
		abort();
	return NULL;
}

static const struct fuse_operations operations = {
	.init = op_init, .getattr = op_getattr, .mkdir = op_mkdir, .create = op_create, .open = op_open, .opendir = op_open, .read = op_read, .write = op_write,
	.truncate = op_truncate, .fsync = op_fsync, .fsyncdir = op_fsyncdir, .unlink = op_unlink, .rmdir = op_rmdir, .rename = op_rename,
	.readdir = op_readdir, .chmod = op_chmod, .utimens = op_nothing, .statfs = op_statfs,
};

int main(int argc, char **argv)
{
	char *args[] = { argv[0], (char *)"-f", (char *)"-omax_threads=8", argv[1], NULL };
	sigset_t set;

	if (argc < 3)
		return 2;
	out_dir = argv[2];
	root = new_node(1, 0755);
	if (argc > 3)
		take_in(root, argv[3]);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return fuse_main(4, args, &operations, NULL);
}
