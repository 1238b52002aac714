/* SPDX-License-Identifier: MIT */
/* FUSE's calls, each to the row of its node: begin, do, reply, end. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>

static struct vf_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct vf_handle *)(uintptr_t)fi->fh;
}

/* For calls that take no time at all. */
static struct vf_node *begin_short(struct vf_call *call, fuse_req_t req, fuse_ino_t ino, const char *op)
{
	vf_call_begin(call, req, op);
	vf_metrics_count(call->face->metrics, op, false);
	return vf_node_of(call->face, ino);
}

/* For calls that read or change no record, or know of removals that wait. */
static struct vf_node *begin_beside(struct vf_call *call, fuse_req_t req, fuse_ino_t ino, const char *op)
{
	vf_loop_share(fuse_req_userdata(req));
	return begin_short(call, req, ino, op);
}

static struct vf_node *begin(struct vf_call *call, fuse_req_t req, fuse_ino_t ino, const char *op)
{
	struct vf_node *node = begin_beside(call, req, ino, op);

	vf_removals_settle(call->face, node->site, true);
	return node;
}

/* For calls on names. */
static struct vf_node *begin_name(struct vf_call *call, fuse_req_t req, fuse_ino_t parent, const char *op)
{
	struct vf_node *dir = begin_beside(call, req, parent, op);

	if (dir->row != &vf_tree[VF_ROW_VECTORS] && dir->site && dir->site->is_index)
		vf_removals_settle(call->face, dir->site, false);
	return dir;
}

/* The reply of a call that says only how it went, and its end. */
static void finish(struct vf_call *call, struct vf_node *node, const char *child, int rc)
{
	int code = rc ? vf_call_failed(call, node, child, rc) : 0;

	fuse_reply_err(call->req, code);
	vf_call_end(call);
}

static int not_here(struct vf_call *call, struct vf_node *dir, const char *what)
{
	return vf_fail(&call->err, EPERM, "%s cannot be made in %s", what, dir->row->path);
}

/* ---- names ---- */

/* What is not a directory holds no names, whoever asks. */
static const struct vf_dir_ops *dir_ops(const struct vf_node *dir)
{
	static const struct vf_dir_ops none;

	return dir->row->dir ? dir->row->dir : &none;
}

static int look_up(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_node **out)
{
	struct vf_found found;

	int rc = dir_ops(dir)->lookup ? dir_ops(dir)->lookup(call, dir, name, &found) : -ENOTDIR;
	return rc ? rc : vf_node_settle(call, &found, out);
}

static void reply_entry(struct vf_call *call, struct vf_node *node)
{
	struct fuse_entry_param entry;

	vf_node_entry(call->face, node, &entry);
	if (fuse_reply_entry(call->req, &entry) == -ENOENT)
		vf_node_forget(call->face, node, 1);
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct vf_call call;
	struct vf_node *dir = begin_name(&call, req, parent, "lookup"), *node;
	int rc = look_up(&call, dir, name, &node);

	if (rc == -ENOENT) {
		fuse_reply_err(req, ENOENT);
		vf_call_end(&call);
	} else if (rc) {
		finish(&call, dir, name, rc);
	} else {
		reply_entry(&call, node);
		vf_call_end(&call);
	}
}

static void lookup_in_turn(const struct vf_heavy *h)
{
	lookup(h->req, h->ino, h->name);
}

/* Names are those of neighbours, which have to be found. */
static bool is_near_key(const struct vf_node *dir)
{
	return dir->row == &vf_tree[VF_ROW_NEAR_KEY];
}

/* What a name will stand for is rendered by its lookup. */
static bool looks_long(const struct vf_node *dir, const char *name)
{
	if (is_near_key(dir))
		return true;
	enum vf_row_id id = dir->row == &vf_tree[VF_ROW_ANSWERS] ? VF_ROW_ANSWER : vf_fixed_row(vf_row_id(dir->row), name);

	return id < VF_ROWS && vf_tree[id].file && vf_tree[id].file->renders_long;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct vf_face *face = fuse_req_userdata(req);

	if (looks_long(vf_node_of(face, parent), name))
		vf_turns_take(face, &(struct vf_heavy){ .req = req, .carry_out = lookup_in_turn, .ino = parent, .name = name });
	else
		lookup(req, parent, name);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct vf_face *face = fuse_req_userdata(req);

	vf_node_forget(face, vf_node_of(face, ino), nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct vf_face *face = fuse_req_userdata(req);

	for (size_t i = 0; i < count; i++)
		vf_node_forget(face, vf_node_of(face, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

/* ---- attributes ---- */

static void reply_attr(struct vf_call *call, struct vf_node *node)
{
	struct stat st;

	vf_node_stat(call->face, node, &st);
	fuse_reply_attr(call->req, &st, node->row->attr_s);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct vf_call call;
	struct vf_node *node = begin_beside(&call, req, ino, "getattr");

	(void)fi;
	/* A removed bucket or index has its last attributes for whoever stands in it. */
	if (node->row == &vf_tree[VF_ROW_BUCKET] || node->row == &vf_tree[VF_ROW_INDEX])
		vf_site_refresh(&call, node->site);
	reply_attr(&call, node);
	vf_call_end(&call);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct vf_call call;
	struct vf_node *node = begin(&call, req, ino, "setattr");
	struct vf_handle *handle = fi ? handle_of(fi) : NULL;

	if (to_set & FUSE_SET_ATTR_SIZE)
		call.op = "truncate";
	if (handle)
		pthread_mutex_lock(&handle->lock);
	int rc = vf_node_set_attr(&call, node, handle, attr, to_set);
	if (handle)
		pthread_mutex_unlock(&handle->lock);
	if (rc) {
		finish(&call, node, NULL, rc);
		return;
	}
	reply_attr(&call, node);
	vf_call_end(&call);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct vf_call call;
	struct vf_node *node = begin(&call, req, ino, "readlink");
	struct vf_buf target = VF_BUF_INIT;
	int rc = node->row->file && node->row->file->readlink ? node->row->file->readlink(&call, node, &target) : -EINVAL;

	if (rc == 0)
		rc = vf_buf_put(&target, "", 1, &call.err);
	if (rc) {
		finish(&call, node, NULL, rc);
	} else {
		fuse_reply_readlink(req, (char *)target.data);
		vf_call_end(&call);
	}
	vf_buf_free(&target);
}

/* ---- making and removing names ---- */

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct vf_call call;
	struct vf_node *dir = begin(&call, req, parent, "mkdir"), *node;
	const struct vf_dir_ops *ops = dir_ops(dir);
	int rc = ops->make ? ops->make(&call, dir, name, mode) : not_here(&call, dir, "a directory");

	if (rc == 0)
		rc = look_up(&call, dir, name, &node);
	if (rc) {
		finish(&call, dir, name, rc);
		return;
	}
	reply_entry(&call, node);
	vf_call_end(&call);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct vf_call call;
	struct vf_node *dir = begin_name(&call, req, parent, "unlink");
	const struct vf_dir_ops *ops = dir_ops(dir);
	int rc = ops->unlink ? ops->unlink(&call, dir, name) : vf_fail(&call.err, EPERM, "nothing can be deleted in %s", dir->row->path);

	finish(&call, dir, name, rc);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct vf_call call;
	struct vf_node *dir = begin(&call, req, parent, "rmdir");
	const struct vf_dir_ops *ops = dir_ops(dir);
	int rc = ops->rmdir ? ops->rmdir(&call, dir, name) : vf_fail(&call.err, EPERM, "nothing can be deleted in %s", dir->row->path);

	finish(&call, dir, name, rc);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct vf_call call;
	struct vf_node *dir = begin(&call, req, parent, "symlink");

	(void)target;
	finish(&call, dir, name, not_here(&call, dir, "a symbolic link"));
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct vf_call call;
	struct vf_node *dir = begin(&call, req, parent, "link");

	(void)ino;
	finish(&call, dir, name, not_here(&call, dir, "a hard link"));
}

/* In a rename wrong content or a wrong name is EPROTO: mv(1) says something else about EINVAL. */
static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	struct vf_call call;
	struct vf_node *dir = begin(&call, req, parent, "rename"), *to = vf_node_of(call.face, newparent);
	int rc = vf_rename(&call, dir, name, to, newname, flags);

	if (rc == -EINVAL && call.err.code == EINVAL) {
		rc = -EPROTO;
		call.err.code = EPROTO;
	}
	finish(&call, to, newname, rc);
}

/* ---- files ---- */

static void fill_info(struct fuse_file_info *fi, struct vf_handle *handle)
{
	fi->fh = (uint64_t)(uintptr_t)handle;
	fi->direct_io = handle->direct;
	fi->keep_cache = handle->keep;
	fi->noflush = handle->noflush;
}

static void release(struct vf_call *call, struct vf_handle *handle)
{
	if (atomic_fetch_sub(&handle->users, 1) == 1)
		handle->ops->release(call, handle);
}

static void open_file(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct vf_call call;
	struct vf_node *node = begin(&call, req, ino, "open");
	struct vf_handle *handle;
	int rc = node->row->file && node->row->file->open ? node->row->file->open(&call, node, fi->flags, &handle) : -EISDIR;

	if (rc) {
		finish(&call, node, NULL, rc);
		return;
	}
	fill_info(fi, handle);
	if (fuse_reply_open(req, fi) == -ENOENT)
		release(&call, handle);
	vf_call_end(&call);
}

static void open_in_turn(const struct vf_heavy *h)
{
	struct fuse_file_info fi = h->fi;

	open_file(h->req, h->ino, &fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct vf_face *face = fuse_req_userdata(req);
	const struct vf_row *row = vf_node_of(face, ino)->row;

	if (row->file && row->file->renders_long)
		vf_turns_take(face, &(struct vf_heavy){ .req = req, .carry_out = open_in_turn, .ino = ino, .fi = *fi });
	else
		open_file(req, ino, fi);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct vf_call call;
	struct vf_node *dir = begin(&call, req, parent, "create"), *node;
	struct vf_handle *handle;
	struct fuse_entry_param entry;
	const struct vf_dir_ops *ops = dir_ops(dir);
	int rc = ops->create ? ops->create(&call, dir, name, mode, fi->flags, &node, &handle) : not_here(&call, dir, "a file");

	if (rc) {
		finish(&call, dir, name, rc);
		return;
	}
	vf_node_entry(call.face, node, &entry);
	fill_info(fi, handle);
	if (fuse_reply_create(req, &entry, fi) == -ENOENT) {
		release(&call, handle);
		vf_node_forget(call.face, node, 1);
	}
	vf_call_end(&call);
}

/* An ordinary file is created and closed again, as by touch; tar with --xattrs begins so. */
static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct vf_call call;
	struct vf_node *dir = begin(&call, req, parent, "mknod"), *node;
	struct vf_handle *handle;
	struct fuse_entry_param entry;
	const struct vf_dir_ops *ops = dir_ops(dir);
	int rc;

	(void)rdev;
	if (!S_ISREG(mode) || !ops->create)
		rc = not_here(&call, dir, S_ISREG(mode) ? "a file" : "a special file");
	else
		rc = ops->create(&call, dir, name, mode, O_WRONLY | O_CREAT | O_EXCL, &node, &handle);
	if (rc) {
		finish(&call, dir, name, rc);
		return;
	}
	release(&call, handle);
	vf_node_entry(call.face, node, &entry);
	if (fuse_reply_entry(req, &entry) == -ENOENT)
		vf_node_forget(call.face, node, 1);
	vf_call_end(&call);
}

/* Returns with the lock of a handle that has one. No other thread is called for a word of a conversation; a question that takes longer than a
 * moment calls them itself (vf_question.lengthy). */
static void begin_read(struct vf_call *call, fuse_req_t req, fuse_ino_t ino, struct vf_handle *handle)
{
	struct vf_face *face = fuse_req_userdata(req);

	if (handle->lingers && !vf_removals_wait(face, vf_node_of(face, ino)->site, true) && pthread_mutex_trylock(&handle->lock) == 0) {
		begin_short(call, req, ino, "read");
		return;
	}
	begin(call, req, ino, "read");
	/* Renderings do not change: their readers need not wait for one another. */
	if (handle->ops->write)
		pthread_mutex_lock(&handle->lock);
}

/* The reply is sent from what the handle holds, under its lock; once it is sent, the kernel may release the handle. */
static void read_file(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct vf_handle *handle)
{
	struct vf_call call;

	begin_read(&call, req, ino, handle);
	handle->users++;
	handle->ops->read(&call, handle, size, (uint64_t)off);
	if (handle->ops->write)
		pthread_mutex_unlock(&handle->lock);
	release(&call, handle);
	vf_call_end(&call);
}

static void read_in_turn(const struct vf_heavy *h)
{
	read_file(h->req, h->ino, h->size, h->offset, handle_of(&h->fi));
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct vf_face *face = fuse_req_userdata(req);
	struct vf_handle *handle = handle_of(fi);
	bool lingers = handle->lingers;

	if (!handle->reads_long || handle->ready)
		read_file(req, ino, size, off, handle);
	else if (!vf_turns_take(face, &(struct vf_heavy){ .req = req, .carry_out = read_in_turn, .ino = ino, .size = size, .offset = off, .fi = *fi }))
		return;
	if (lingers)
		vf_loop_expect(face);
}

/* Notes down a question of some thousand numbers. */
#define WORD_BYTES_MAX (64u << 10)
/* So many words in a row, and nobody else is asking. */
#define ALONE_WORDS    8u

/* Returns with the lock of the handle. What only notes down a word of a conversation calls no other thread for that moment. */
static struct vf_node *begin_write(struct vf_call *call, fuse_req_t req, fuse_ino_t ino, size_t size, struct vf_handle *handle)
{
	if (handle->lingers && size <= WORD_BYTES_MAX && pthread_mutex_trylock(&handle->lock) == 0)
		return begin_short(call, req, ino, "write");
	struct vf_node *node = begin(call, req, ino, "write");
	pthread_mutex_lock(&handle->lock);
	return node;
}

bool vf_is_alone(const struct vf_face *face)
{
	return atomic_load_explicit(&face->asked, memory_order_relaxed) > ALONE_WORDS;
}

static void note_asker(struct vf_face *face, const struct vf_handle *handle)
{
	if (atomic_exchange_explicit(&face->asker, handle, memory_order_relaxed) != handle)
		atomic_store_explicit(&face->asked, 0, memory_order_relaxed);
	atomic_fetch_add_explicit(&face->asked, 1, memory_order_relaxed);
}

/* While nobody else asks, the answer is made on the way between the write of a client and its read, and other requests may wait for that. */
static bool goes_ahead(struct vf_face *face, const struct vf_handle *handle)
{
	if (!handle->lingers || !handle->ops->ahead)
		return false;
	note_asker(face, handle);
	return vf_is_alone(face) && vf_loop_attends();
}

/* Gives up the lock of the handle, which the kernel may release once it has the reply. */
static void reply_and_go_ahead(struct vf_call *call, struct vf_handle *handle, size_t size)
{
	if (!goes_ahead(call->face, handle)) {
		pthread_mutex_unlock(&handle->lock);
		fuse_reply_write(call->req, size);
	} else {
		handle->users++;
		fuse_reply_write(call->req, size);
		call->req = NULL;
		handle->ops->ahead(call, handle);
		pthread_mutex_unlock(&handle->lock);
		release(call, handle);
	}
	vf_call_end(call);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct vf_call call;
	struct vf_handle *handle = handle_of(fi);
	struct vf_node *node = begin_write(&call, req, ino, size, handle);
	bool lingers = handle->lingers;

	call.lock_owner = fi->lock_owner;
	vf_handle_seen(&call, handle);
	int rc = handle->ops->write ? handle->ops->write(&call, handle, vf_span(buf, size), (uint64_t)off) : -EBADF;
	if (rc) {
		pthread_mutex_unlock(&handle->lock);
		finish(&call, node, NULL, rc);
		return;
	}
	reply_and_go_ahead(&call, handle, size);
	if (lingers)
		vf_loop_expect(call.face);
}

static void flush(struct vf_call *call, struct vf_node *node, struct vf_handle *handle)
{
	int rc = 0;

	pthread_mutex_lock(&handle->lock);
	if (handle->ops->flush)
		rc = handle->ops->flush(call, handle);
	pthread_mutex_unlock(&handle->lock);
	finish(call, node, NULL, rc);
}

static void close_in_turn(const struct vf_heavy *h)
{
	struct vf_call call;
	struct vf_node *node = begin(&call, h->req, h->ino, "close");

	call.lock_owner = h->fi.lock_owner;
	flush(&call, node, handle_of(&h->fi));
}

static void fsync_in_turn(const struct vf_heavy *h)
{
	struct vf_call call;
	struct vf_node *node = begin(&call, h->req, h->ino, "fsync");

	call.fsync = true;
	flush(&call, node, handle_of(&h->fi));
}

/* Whoever wrote commits now, and waits for the disk. */
static void commit(const struct vf_heavy *heavy)
{
	if (handle_of(&heavy->fi)->commits)
		vf_turns_take(fuse_req_userdata(heavy->req), heavy);
	else
		heavy->carry_out(heavy);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	commit(&(struct vf_heavy){ .turn = VF_TURN_COMMIT, .req = req, .carry_out = close_in_turn, .ino = ino, .fi = *fi });
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	commit(&(struct vf_heavy){ .turn = VF_TURN_COMMIT, .req = req, .carry_out = fsync_in_turn, .ino = ino, .fi = *fi });
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct vf_call call;

	begin_beside(&call, req, ino, "release");
	release(&call, handle_of(fi));
	fuse_reply_err(req, 0);
	vf_call_end(&call);
}

/* ---- directories ---- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct vf_call call;
	struct vf_node *node = begin_beside(&call, req, ino, "opendir");
	struct vf_dir *dir;
	int rc = node->row->dir ? vf_dir_open(&call, node, &dir) : -ENOTDIR;

	if (rc) {
		finish(&call, node, NULL, rc);
		return;
	}
	fi->fh = (uint64_t)(uintptr_t)dir;
	if (fuse_reply_open(req, fi) == -ENOENT)
		vf_dir_close(call.face, dir);
	vf_call_end(&call);
}

static void read_dir(const struct vf_heavy *h)
{
	struct vf_call call;
	struct vf_node *node = begin_beside(&call, h->req, h->ino, "readdir");

	vf_removals_settle(call.face, node->site, false);
	int rc = vf_dir_read(&call, (struct vf_dir *)(uintptr_t)h->fi.fh, h->size, (uint64_t)h->offset);

	if (rc)
		finish(&call, node, NULL, rc);
	else
		vf_call_end(&call);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct vf_face *face = fuse_req_userdata(req);
	struct vf_heavy heavy = { .req = req, .carry_out = read_dir, .ino = ino, .size = size, .offset = off, .fi = *fi };

	if (is_near_key(vf_node_of(face, ino)))
		vf_turns_take(face, &heavy);
	else
		read_dir(&heavy);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	vf_dir_close(fuse_req_userdata(req), (struct vf_dir *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

/* All else that a directory shows is durable already. */
static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct vf_face *face = fuse_req_userdata(req);

	(void)datasync, (void)fi;
	vf_removals_settle(face, vf_node_of(face, ino)->site, false);
	fuse_reply_err(req, 0);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct vf_call call;
	struct vf_node *node = begin_beside(&call, req, ino, "statfs");
	struct statvfs st;

	/* Exports that nobody reads any more are to be free space. */
	vf_renderings_tidy(call.face->renderings);
	int rc = vf_catalog_statvfs(call.face->catalog, &st, &call.err);

	if (rc) {
		finish(&call, node, NULL, rc);
		return;
	}
	st.f_namemax = VF_FILE_NAME_BYTES_MAX;
	fuse_reply_statfs(req, &st);
	vf_call_end(&call);
}

/* ---- extended attributes: ENOSYS once, and the kernel never asks again ---- */

static bool no_xattr(struct vf_call *call)
{
	if (call->face->options.xattr)
		return false;
	fuse_reply_err(call->req, ENOSYS);
	vf_call_end(call);
	return true;
}

static void reply_xattr(struct vf_call *call, struct vf_node *node, struct vf_buf *value, size_t size, int rc)
{
	if (rc == 0 && size && value->len > size)
		rc = -ERANGE;
	if (rc) {
		finish(call, node, NULL, rc);
	} else {
		if (size)
			fuse_reply_buf(call->req, (char *)value->data, value->len);
		else
			fuse_reply_xattr(call->req, value->len);
		vf_call_end(call);
	}
	vf_buf_free(value);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct vf_call call;
	struct vf_node *node = begin(&call, req, ino, "getxattr");
	struct vf_buf value = VF_BUF_INIT;

	if (!no_xattr(&call))
		reply_xattr(&call, node, &value, size, vf_xattr_get(&call, node, name, &value));
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct vf_call call;
	struct vf_node *node = begin(&call, req, ino, "listxattr");
	struct vf_buf names = VF_BUF_INIT;

	if (!no_xattr(&call))
		reply_xattr(&call, node, &names, size, vf_xattr_list(&call, node, &names));
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct vf_call call;
	struct vf_node *node = begin(&call, req, ino, "setxattr");

	if (!no_xattr(&call))
		finish(&call, node, NULL, vf_xattr_set(&call, node, name, vf_span(value, size), flags));
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct vf_call call;
	struct vf_node *node = begin(&call, req, ino, "removexattr");

	if (!no_xattr(&call))
		finish(&call, node, NULL, vf_xattr_remove(&call, node, name));
}

/* ---- the connection ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	/* A node is one version: its pages never need to be thrown away for a new size or time. */
	conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
	conn->max_read = VF_READ_BYTES_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

const struct fuse_lowlevel_ops vf_ops = {
	.init = op_init,
	.lookup = op_lookup, .forget = op_forget, .forget_multi = op_forget_multi,
	.getattr = op_getattr, .setattr = op_setattr, .readlink = op_readlink,
	.mknod = op_mknod, .mkdir = op_mkdir, .unlink = op_unlink, .rmdir = op_rmdir, .symlink = op_symlink, .link = op_link, .rename = op_rename,
	.open = op_open, .create = op_create, .read = op_read, .write = op_write, .flush = op_flush, .fsync = op_fsync, .release = op_release,
	.opendir = op_opendir, .readdir = op_readdir, .releasedir = op_releasedir, .fsyncdir = op_fsyncdir, .statfs = op_statfs,
	.getxattr = op_getxattr, .listxattr = op_listxattr, .setxattr = op_setxattr, .removexattr = op_removexattr,
};
