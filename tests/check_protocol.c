/* SPDX-License-Identifier: MIT */
/* The FUSE protocol over a socket pair, with a kernel that has no manners: any operation on any node and any descriptor that it was given, odd
 * names, sizes, offsets and flags. Each request that wants a reply gets exactly one, well-formed, none says that the store is damaged, and the store is
 * whole afterwards. VECFS_PROTOCOL_REQUESTS sets how many requests a run has. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../src/catalog/catalog_internal.h"
#include "check.h"
#include "vecfs/face.h"

#define MESSAGE_MAX (160u << 10)
#define PAYLOAD_MAX (64u << 10)
#define KNOWN_MAX   200u
#define REPLY_MS    60000

/* What a kernel remembers: nodes with their counts of lookups, and what it has open. */
struct known_node { uint64_t id, lookups, parent; char name[32]; };
struct known_open { uint64_t node, fh; bool directory; };

static struct known_node nodes[KNOWN_MAX];
static struct known_open opened[KNOWN_MAX];
static unsigned node_count, open_count;
static int wire;
static uint64_t unique, interrupt, seed;
static uint32_t pid;
static uint32_t last_opcode;
static uint8_t reply[MESSAGE_MAX];
static size_t reply_len;
static char dir[64];
static struct vf_err err = VF_ERR_INIT;

static uint64_t any(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

/* ---- one request ---- */

static bool wants_reply(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

static void receive(void)
{
	struct pollfd fd = { .fd = wire, .events = POLLIN };

	ck_assert_msg(poll(&fd, 1, REPLY_MS) == 1, "no reply to request %llu, opcode %u", (unsigned long long)unique, last_opcode);
	ssize_t n = recv(wire, reply, sizeof reply, 0);
	ck_assert_msg(n >= (ssize_t)sizeof(struct fuse_out_header), "a reply of %zd bytes to opcode %u", n, last_opcode);
	reply_len = (size_t)n;
}

/* The daemon tells the kernel of its own accord what has changed; those messages are no replies. An interrupt of what is over by now may be answered by
 * EAGAIN, once. */
static bool is_aside(const struct fuse_out_header *out)
{
	if (out->unique != 0 && (out->unique != interrupt || out->error != -EAGAIN))
		return false;
	if (out->unique)
		interrupt = 0;
	return true;
}

static int32_t await_reply(void)
{
	struct fuse_out_header out;

	do {
		receive();
		memcpy(&out, reply, sizeof out);
	} while (is_aside(&out));
	ck_assert_msg(out.unique == unique, "a reply to %llu while %llu waits (opcode %u)", (unsigned long long)out.unique,
	              (unsigned long long)unique, last_opcode);
	ck_assert_uint_eq(out.len, reply_len);
	ck_assert_msg(out.error <= 0 && out.error > -512, "error %d of opcode %u", out.error, last_opcode);
	ck_assert_msg(out.error != -EIO, "opcode %u says that the store is damaged", last_opcode);
	ck_assert_msg(out.error == 0 || reply_len == sizeof out, "an error with a body, opcode %u", last_opcode);
	return out.error;
}

static int32_t request(uint32_t opcode, uint64_t node, const void *arg, size_t arg_len, const void *rest, size_t rest_len)
{
	static uint8_t message[MESSAGE_MAX];
	struct fuse_in_header in = {
		.len = (uint32_t)(sizeof in + arg_len + rest_len), .opcode = opcode, .unique = ++unique, .nodeid = node,
		.uid = any(8) ? 0 : 1000, .gid = any(8) ? 0 : 1000, .pid = pid,
	};

	last_opcode = opcode;
	memcpy(message, &in, sizeof in);
	if (arg_len)
		memcpy(message + sizeof in, arg, arg_len);
	if (rest_len)
		memcpy(message + sizeof in + arg_len, rest, rest_len);
	ck_assert_int_eq(send(wire, message, in.len, 0), (ssize_t)in.len);
	return wants_reply(opcode) ? await_reply() : 0;
}

static const void *body(void)
{
	return reply + sizeof(struct fuse_out_header);
}

/* ---- what comes back is remembered ---- */

static struct known_node *known(uint64_t id)
{
	for (unsigned i = 0; i < node_count; i++)
		if (nodes[i].id == id)
			return &nodes[i];
	return NULL;
}

/* Returns the node, 0 for a name that is not there. */
static uint64_t remember_entry(uint64_t parent, const char *name)
{
	struct fuse_entry_out entry;

	ck_assert_uint_ge(reply_len, sizeof(struct fuse_out_header) + sizeof entry);
	memcpy(&entry, body(), sizeof entry);
	struct known_node *node = known(entry.nodeid);
	if (entry.nodeid && !node) {
		ck_assert_uint_lt(node_count, KNOWN_MAX);
		node = &nodes[node_count++];
		*node = (struct known_node){ .id = entry.nodeid };
	}
	if (entry.nodeid) {
		node->lookups++;
		node->parent = parent;
		snprintf(node->name, sizeof node->name, "%s", name);
	}
	return entry.nodeid;
}

/* 0: it is not there. */
static uint64_t look_up(uint64_t parent, const char *name)
{
	return request(FUSE_LOOKUP, parent, NULL, 0, name, strlen(name) + 1) ? 0 : remember_entry(parent, name);
}

static void remember_open(uint64_t node, size_t offset, bool directory)
{
	struct fuse_open_out out;

	ck_assert_uint_eq(reply_len, sizeof(struct fuse_out_header) + offset + sizeof out);
	memcpy(&out, (const uint8_t *)body() + offset, sizeof out);
	opened[open_count++] = (struct known_open){ node, out.fh, directory };
}

static bool is_open(uint64_t node)
{
	for (unsigned i = 0; i < open_count; i++)
		if (opened[i].node == node)
			return true;
	return false;
}

/* ---- odd arguments ---- */

static const char *const names[] = {
	"b", "c", "i", "j", "config", "vectors", "insert", "query", "update", "delete", "queries", "answers", "near", "stats", "errors",
	"vectors.msgpack", "vectors.jsonl", "vectors.npy", "vectors.keys", "a.msgpack", "b.msgpack", "a.json", "q.json", "q.msgpack", "a", "%2F.msgpack",
	"0001-a.msgpack", ".x", "x~", "x.tmp", ".vecfs", "metrics", "version", ".", "..", "", "a/b", "/", "%", "\xff\xfe.msgpack", "sedAbCdEf", "4913",
};

static const char *const contents[] = {
	"{\"data\": [1, 2, 3], \"metadata\": {\"n\": 1}}", "{\"key\": \"a\", \"data\": [1, 2, 3]}", "{\"data\": [1, 2]}", "{", "{}", "[]", "\xc1", "top_k = 5\n",
	"dimension = 3\n", "bad", "{\"topK\": 2}", "{\"key\": \"a\"}", "{\"keys\": [\"a\", \"b\"]}", "{\"key\": \"a\", \"set\": {\"n\": 2}}",
	"{\"filter\": {\"n\": 1}}", "{\"vectors\": [{\"key\": \"b\", \"data\": [3, 2, 1]}]}", "\x93NUMPY\x01", "",
};

#define ANY_OF(list) ((list)[any(sizeof(list) / sizeof((list)[0]))])

/* With its NUL. */
static size_t put_name(char *out)
{
	if (any(12) == 0) {
		size_t n = (size_t)any(1024);
		memset(out, "aZ.%~\x01"[any(6)], n);
		out[n] = '\0';
	} else {
		strcpy(out, ANY_OF(names));
	}
	return strlen(out) + 1;
}

static uint64_t any_offset(void)
{
	static const uint64_t odd[] = { 0, 0, 0, 1, 7, 4096, 1u << 20, 1ull << 32, INT64_MAX - 5, UINT64_MAX };

	return ANY_OF(odd);
}

static uint64_t any_node(void)
{
	return nodes[any(node_count)].id;
}

/* ---- the operations ---- */

static void named(uint32_t opcode, const void *arg, size_t arg_len, bool gives_entry)
{
	char name[2100];
	size_t len = put_name(name);

	if (opcode == FUSE_RENAME2 || opcode == FUSE_SYMLINK)
		len += put_name(name + len);
	uint64_t parent = any_node();
	if (request(opcode, parent, arg, arg_len, name, len) == 0 && gives_entry)
		remember_entry(parent, name);
}

static void change_names(void)
{
	struct fuse_mkdir_in mkdir = { .mode = (uint32_t)any(01000), .umask = 022 };
	struct fuse_mknod_in mknod = { .mode = any(4) ? S_IFREG | 0644 : (uint32_t)any(1u << 16) };
	struct fuse_rename2_in rename = { .newdir = any_node(), .flags = any(3) ? 0 : (uint32_t)any(8) };
	struct fuse_link_in link = { .oldnodeid = any_node() };

	switch (any(7)) {
	case 0: named(FUSE_MKDIR, &mkdir, sizeof mkdir, true); break;
	case 1: named(FUSE_MKNOD, &mknod, sizeof mknod, true); break;
	case 2: named(FUSE_UNLINK, NULL, 0, false); break;
	case 3: named(FUSE_RMDIR, NULL, 0, false); break;
	case 4: named(FUSE_RENAME2, &rename, sizeof rename, false); break;
	case 5: named(FUSE_LINK, &link, sizeof link, true); break;
	default: named(FUSE_SYMLINK, NULL, 0, true);
	}
}

static void set_attributes(void)
{
	struct fuse_setattr_in set = { .valid = (uint32_t)any(1u << 11) & ~(uint32_t)FATTR_FH, .size = any_offset(), .mode = (uint32_t)any(1u << 16),
		.uid = (uint32_t)any(3), .gid = (uint32_t)any(3), .mtime = any_offset(), .mtimensec = (uint32_t)any(1000000000) };

	request(FUSE_SETATTR, any_node(), &set, sizeof set, NULL, 0);
}

static void look(void)
{
	struct fuse_getattr_in attr = { 0 };

	switch (any(4)) {
	case 0: request(FUSE_GETATTR, any_node(), &attr, sizeof attr, NULL, 0); break;
	case 1: request(FUSE_READLINK, any_node(), NULL, 0, NULL, 0); break;
	case 2: request(FUSE_STATFS, any_node(), NULL, 0, NULL, 0); break;
	default: named(FUSE_LOOKUP, NULL, 0, true);
	}
}

static void create(void)
{
	struct fuse_create_in in = { .flags = O_CREAT | (uint32_t)any(3) | (any(2) ? O_EXCL : 0) | (any(2) ? O_TRUNC : 0), .mode = 0644, .umask = 022 };
	char name[1100];
	size_t len = put_name(name);

	uint64_t parent = any_node();
	if (request(FUSE_CREATE, parent, &in, sizeof in, name, len) == 0)
		remember_open(remember_entry(parent, name), sizeof(struct fuse_entry_out), false);
}

/* As a kernel does: where a node is stale, its name leads to another one. */
static bool open_node(uint64_t node, uint32_t flags, bool directory)
{
	struct fuse_open_in in = { .flags = flags };
	uint32_t opcode = directory ? FUSE_OPENDIR : FUSE_OPEN;
	int32_t rc = request(opcode, node, &in, sizeof in, NULL, 0);

	if (rc == -ESTALE && known(known(node)->parent) && (node = look_up(known(node)->parent, known(node)->name)) != 0)
		rc = request(opcode, node, &in, sizeof in, NULL, 0);
	if (rc == 0)
		remember_open(node, 0, directory);
	return rc == 0;
}

static void open_one(void)
{
	static const uint32_t odd[] = { 0, 0, O_TRUNC, O_APPEND, O_DIRECT, O_NONBLOCK };
	bool directory = any(3) == 0;

	open_node(any_node(), (uint32_t)any(3) | (directory ? 0 : ANY_OF(odd)), directory);
}

static void use_directory(const struct known_open *o)
{
	struct fuse_read_in in = { .fh = o->fh, .offset = any(3) ? any(20) : any_offset(), .size = any(4) ? 4096 : (uint32_t)any(PAYLOAD_MAX) };
	struct fuse_fsync_in sync = { .fh = o->fh };

	if (any(5) == 0)
		request(FUSE_FSYNCDIR, o->node, &sync, sizeof sync, NULL, 0);
	else if (request(FUSE_READDIR, o->node, &in, sizeof in, NULL, 0) == 0)
		ck_assert_uint_le(reply_len - sizeof(struct fuse_out_header), in.size);
}

static void write_file(const struct known_open *o)
{
	static uint8_t noise[PAYLOAD_MAX];
	const char *text = ANY_OF(contents);
	size_t len = any(8) ? strlen(text) : (size_t)any(sizeof noise);
	struct fuse_write_in in = { .fh = o->fh, .offset = any(3) ? 0 : any_offset(), .size = (uint32_t)len };

	request(FUSE_WRITE, o->node, &in, sizeof in, len == strlen(text) ? (const void *)text : noise, len);
}

static void use_file(const struct known_open *o)
{
	struct fuse_read_in read = { .fh = o->fh, .offset = any_offset(), .size = any(4) ? 4096 : (uint32_t)any(PAYLOAD_MAX) };
	struct fuse_flush_in flush = { .fh = o->fh, .lock_owner = any(2) };
	struct fuse_fsync_in sync = { .fh = o->fh };
	struct fuse_setattr_in set = { .valid = FATTR_FH | FATTR_SIZE, .fh = o->fh, .size = any_offset() };

	switch (any(6)) {
	case 0: request(FUSE_FLUSH, o->node, &flush, sizeof flush, NULL, 0); break;
	case 1: request(FUSE_FSYNC, o->node, &sync, sizeof sync, NULL, 0); break;
	case 2: request(FUSE_SETATTR, o->node, &set, sizeof set, NULL, 0); break;
	case 3: if (request(FUSE_READ, o->node, &read, sizeof read, NULL, 0) == 0)
			ck_assert_uint_le(reply_len - sizeof(struct fuse_out_header), read.size);
		break;
	default: write_file(o);
	}
}

static void use_open(void)
{
	if (open_count == 0)
		return;
	const struct known_open *o = &opened[any(open_count)];
	if (o->directory)
		use_directory(o);
	else
		use_file(o);
}

static void close_one(unsigned i)
{
	struct known_open o = opened[i];
	struct fuse_flush_in flush = { .fh = o.fh };
	struct fuse_release_in in = { .fh = o.fh };

	if (!o.directory && any(4))
		request(FUSE_FLUSH, o.node, &flush, sizeof flush, NULL, 0);
	opened[i] = opened[--open_count];
	ck_assert_int_eq(request(o.directory ? FUSE_RELEASEDIR : FUSE_RELEASE, o.node, &in, sizeof in, NULL, 0), 0);
}

/* A kernel keeps a node as long as it is open. */
static void forget(unsigned i)
{
	struct known_node node = nodes[i];
	struct fuse_forget_in one = { .nlookup = node.lookups };
	struct { struct fuse_batch_forget_in head; struct fuse_forget_one one; } batch = { { .count = 1 }, { node.id, node.lookups } };

	if (node.id == FUSE_ROOT_ID || is_open(node.id))
		return;
	nodes[i] = nodes[--node_count];
	if (any(2))
		request(FUSE_FORGET, node.id, &one, sizeof one, NULL, 0);
	else
		request(FUSE_BATCH_FORGET, 0, &batch, sizeof batch, NULL, 0);
}

static void odd_one(void)
{
	struct fuse_interrupt_in over = { .unique = any(unique) };
	struct fuse_getxattr_in get = { .size = (uint32_t)any(300) };
	struct { struct fuse_setxattr_in in; char rest[64]; } set = { .in = { .size = 2 } };
	char name[] = "user.vecfs.metadata.n";
	uint8_t nothing[64] = { 0 };

	/* The short form of before FUSE_SETXATTR_EXT: what is negotiated here. */
	memcpy((char *)&set + FUSE_COMPAT_SETXATTR_IN_SIZE, name, sizeof name);
	memcpy((char *)&set + FUSE_COMPAT_SETXATTR_IN_SIZE + sizeof name, "17", 2);
	switch (any(6)) {
	case 0: request(FUSE_INTERRUPT, 0, &over, sizeof over, NULL, 0); interrupt = unique; request(FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, NULL, 0); break;
	case 1: request(FUSE_GETXATTR, any_node(), &get, sizeof get, name, sizeof name); break;
	case 2: request(FUSE_LISTXATTR, any_node(), &get, sizeof get, NULL, 0); break;
	case 3: request(FUSE_SETXATTR, any_node(), &set, FUSE_COMPAT_SETXATTR_IN_SIZE + sizeof name + 2, NULL, 0); break;
	case 4: request(FUSE_REMOVEXATTR, any_node(), NULL, 0, name, sizeof name); break;
	/* Operations that are not there: locks, ioctl, poll, numbers that mean nothing. */
	default: request(any(2) ? 1000 + (uint32_t)any(1000) : FUSE_LSEEK, any_node(), nothing, sizeof nothing, NULL, 0);
	}
}

static void one_step(void)
{
	pid = (uint32_t)any(3);
	if (node_count > KNOWN_MAX / 2)
		forget((unsigned)any(node_count));
	if (open_count > KNOWN_MAX / 4)
		close_one((unsigned)any(open_count));
	switch (any(12)) {
	case 0: change_names(); break;
	case 1: set_attributes(); break;
	case 2: case 3: look(); break;
	case 4: create(); break;
	case 5: case 6: open_one(); break;
	case 7: if (open_count) close_one((unsigned)any(open_count)); break;
	case 8: if (any(3) == 0) forget((unsigned)any(node_count)); break;
	case 9: if (any(2)) odd_one(); break;
	default: use_open();
	}
}

/* ---- the daemon at the other end ---- */

static void *serve(void *face)
{
	struct vf_err failed = VF_ERR_INIT;

	ck_ok(vf_face_serve(face, &failed));
	return NULL;
}

static void greet(void)
{
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_readahead = 131072,
		.flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ATOMIC_O_TRUNC | FUSE_EXPORT_SUPPORT };

	ck_assert_int_eq(request(FUSE_INIT, 0, &in, sizeof in, NULL, 0), 0);
	nodes[0] = (struct known_node){ .id = FUSE_ROOT_ID, .lookups = 1 };
	node_count = 1;
	open_count = 0;
}

static void put(uint64_t parent, const char *name, const char *text)
{
	struct fuse_write_in write = { .size = (uint32_t)strlen(text) };

	ck_assert(open_node(look_up(parent, name), O_WRONLY, false));
	struct known_open o = opened[open_count - 1];
	write.fh = o.fh;
	ck_assert_int_eq(request(FUSE_WRITE, o.node, &write, sizeof write, text, write.size), 0);
	close_one(open_count - 1);
}

static uint64_t make(uint64_t parent, const char *name)
{
	struct fuse_mkdir_in mkdir = { .mode = 0755 };

	ck_assert_int_eq(request(FUSE_MKDIR, parent, &mkdir, sizeof mkdir, name, strlen(name) + 1), 0);
	return remember_entry(parent, name);
}

/* An index with two records to begin with. */
static void furnish(void)
{
	static const char *const inside[] = { "vectors", "queries", "near", "answers" };
	uint64_t index = make(make(FUSE_ROOT_ID, "b"), "i");

	put(index, "config", "dimension = 3\n");
	put(index, "insert", "{\"key\": \"a\", \"data\": [1, 2, 3]} {\"key\": \"b\", \"data\": [3, 2, 1]}");
	for (unsigned n = 0; n < sizeof inside / sizeof inside[0]; n++)
		ck_assert(look_up(index, inside[n]) != 0);
}

/* ---- afterwards ---- */

static void complain(void *ctx, const char *finding)
{
	ck_abort_msg("%s: %s", (const char *)ctx, finding);
}

static char bucket_path[512], index_path[1024];

static int check_index(void *ctx, const char *name, const struct vf_dir_attr *attr)
{
	(void)ctx, (void)attr;
	snprintf(index_path, sizeof index_path, "%s/%s", bucket_path, name);
	ck_assert_msg(vf_index_audit(index_path, complain, index_path, &err) == 0, "%s", err.text);
	return 0;
}

static int check_bucket(void *ctx, const char *name, const struct vf_dir_attr *attr)
{
	(void)attr;
	snprintf(bucket_path, sizeof bucket_path, "%s/%s", dir, name);
	ck_ok(vf_catalog_list(ctx, name, NULL, check_index, NULL, &err));
	return 0;
}

static void check_store(void)
{
	struct vf_catalog_options options = { .linker_threads = 1 };
	struct vf_catalog *catalog;

	ck_ok(vf_catalog_open(dir, &options, &catalog, &err));
	ck_ok(vf_catalog_list(catalog, NULL, NULL, check_bucket, catalog, &err));
	vf_catalog_close(&catalog);
}

/* ---- the test ---- */

static unsigned requests(void)
{
	const char *wish = getenv("VECFS_PROTOCOL_REQUESTS");

	return wish ? (unsigned)strtoul(wish, NULL, 10) : 2000;
}

static void run(uint64_t from_seed, bool one_thread)
{
	struct vf_catalog_options store = { .create = true, .linker_threads = 1 };
	struct vf_face_options options = { .xattr = true, .single_thread = one_thread };
	struct vf_catalog *catalog;
	struct vf_face *face;
	pthread_t daemon;
	int ends[2];

	seed = 0x9e3779b97f4a7c15ull * from_seed;
	strcpy(dir, "/tmp/check_protocol.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	wire = ends[0];
	ck_ok(vf_catalog_open(dir, &store, &catalog, &err));
	ck_ok(vf_face_attach(catalog, ends[1], &options, &face, &err));
	ck_assert_int_eq(pthread_create(&daemon, NULL, serve, face), 0);
	greet();
	furnish();
	for (unsigned i = 0, n = requests(); i < n; i++)
		one_step();
	/* A second reply to the last request would be here by now, before this one. */
	ck_assert_int_eq(request(FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, NULL, 0), 0);
	/* What is still open and known ends with the face. */
	close(wire);
	ck_assert_int_eq(pthread_join(daemon, NULL), 0);
	vf_face_free(&face);
	vf_catalog_close(&catalog);
	check_store();
	ck_ok(vf_disk_remove_tree(AT_FDCWD, dir, &err));
}

START_TEST(every_request_gets_one_reply_and_the_store_stays_whole)
{
	for (uint64_t s = 1; s <= 4; s++)
		run(s, true);
}
END_TEST

START_TEST(the_same_with_many_threads_at_the_other_end)
{
	for (uint64_t s = 5; s <= 8; s++)
		run(s, false);
}
END_TEST

CHECK_MAIN("protocol", every_request_gets_one_reply_and_the_store_stays_whole, the_same_with_many_threads_at_the_other_end)
