/* SPDX-License-Identifier: MIT */
/* Open files: what all handles have in common, whose close is the last word, and the readers of a rendering. */
#include "face_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

int vf_handle_new(struct vf_call *call, struct vf_node *node, int flags, size_t size, const struct vf_handle_ops *ops, void *out)
{
	struct vf_handle *handle = calloc(1, size);
	int rc = 0;

	if (!handle)
		return vf_oom(&call->err);
	pthread_mutex_init(&handle->lock, NULL);
	handle->ops = ops;
	handle->users = 1;
	handle->flags = flags;
	handle->commits = vf_flags_write(flags);
	handle->opener = call->pid;
	handle->uid = call->uid;
	if (node->site && node->site->is_index)
		rc = vf_site_hold(call, node->site, &handle->index);
	if (rc) {
		vf_handle_free(call, handle);
		return rc;
	}
	handle->node = node;
	memcpy(out, &handle, sizeof handle);
	return 0;
}

static int joined(struct vf_call *call, struct vf_handle *handle, bool opened)
{
	struct vf_face *face = call->face;

	if (!opened) {
		handle->node = NULL;
		return -ESTALE;
	}
	pthread_mutex_lock(&face->lock);
	handle->behind = face->handles;
	if (face->handles)
		face->handles->before = handle;
	face->handles = handle;
	pthread_mutex_unlock(&face->lock);
	return 0;
}

static void take_out(struct vf_face *face, struct vf_handle *handle)
{
	pthread_mutex_lock(&face->lock);
	if (handle->before)
		handle->before->behind = handle->behind;
	else if (face->handles == handle)
		face->handles = handle->behind;
	if (handle->behind)
		handle->behind->before = handle->before;
	pthread_mutex_unlock(&face->lock);
}

void vf_handle_free(struct vf_call *call, struct vf_handle *handle)
{
	struct vf_face *face = call->face;

	take_out(face, handle);
	if (handle->node)
		vf_node_close(face, handle->node, handle->writer);
	if (handle->index)
		vf_catalog_release(face->catalog, handle->index);
	pthread_mutex_destroy(&handle->lock);
	free(handle);
}

void vf_handles_free(struct vf_face *face)
{
	struct vf_call call = { .face = face, .op = "release", .arena = VF_ARENA_INIT };

	while (face->handles)
		face->handles->ops->release(&call, face->handles);
	vf_arena_free(&call.arena);
}

int vf_handle_join(struct vf_call *call, struct vf_handle *handle)
{
	handle->writer = vf_flags_write(handle->flags);
	return joined(call, handle, vf_node_open(call, handle->node, handle->writer));
}

/* ---- whose close is it ---- */

void vf_handle_seen(struct vf_call *call, struct vf_handle *handle)
{
	if (call->pid == handle->opener && call->lock_owner && !handle->owner_known) {
		handle->owner = call->lock_owner;
		handle->owner_known = true;
	}
}

/* 1: the descriptor leads to that path, 0: elsewhere, negative: not ours to see. */
static int leads_here(int dir, const char *fd, const char *path)
{
	char target[4096];
	ssize_t n = readlinkat(dir, fd, target, sizeof target - 1);

	if (n <= 0)
		return n < 0 && (errno == EACCES || errno == EPERM) ? -1 : 0;
	target[n] = '\0';
	return strstr(target, path) != NULL;
}

/* Whether a process may have the file open still: yes too when we may not look, as in a sandbox. Only links are read: a stat would come back to this
 * very daemon. */
static bool may_have_open(pid_t process, const char *path)
{
	char name[64];
	int found = 0;

	snprintf(name, sizeof name, "/proc/%d/fd", (int)process);
	DIR *dir = opendir(name);
	if (!dir)
		return true;
	for (struct dirent *entry; !found && (entry = readdir(dir));)
		found = entry->d_name[0] == '.' ? 0 : leads_here(dirfd(dir), entry->d_name, path);
	closedir(dir);
	return found != 0;
}

static bool is_alive(pid_t thread)
{
	return kill(thread, 0) == 0 || errno != ESRCH;
}

bool vf_handle_flush_is_final(struct vf_call *call, struct vf_handle *handle)
{
	char path[VF_NAMES_PATH_MAX];

	vf_handle_seen(call, handle);
	if (call->fsync || call->pid == handle->opener || (handle->owner_known && handle->owner == call->lock_owner))
		return true;
	if (!is_alive(handle->opener))
		return true;
	pid_t opener = vf_process_of(handle->opener);
	/* A thread that has opened it and ended just now. */
	if (!opener && !is_alive(handle->opener))
		return true;
	if (opener && opener == vf_process_of(call->pid))
		return true;
	vf_node_path(call->face, handle->node, NULL, path, sizeof path);
	return !may_have_open(opener ? opener : handle->opener, path);
}

/* ---- readers of a rendering ---- */

struct snapshot {
	struct vf_handle handle;
	struct vf_rendering *rendering;
};

static void read_snapshot(struct vf_call *call, struct vf_handle *handle, size_t size, uint64_t offset)
{
	struct snapshot *snapshot = (struct snapshot *)handle;

	vf_call_spool(call, &snapshot->rendering->spool, offset, size);
}

static void release_snapshot(struct vf_call *call, struct vf_handle *handle)
{
	struct snapshot *snapshot = (struct snapshot *)handle;

	vf_rendering_put(snapshot->rendering);
	vf_handle_free(call, handle);
}

static int ignore_write(struct vf_call *call, struct vf_handle *handle, struct vf_span data, uint64_t offset)
{
	(void)call, (void)handle, (void)data, (void)offset;
	return 0;
}

static int ignore_truncate(struct vf_call *call, struct vf_handle *handle, uint64_t size)
{
	(void)call, (void)handle, (void)size;
	return 0;
}

static const struct vf_handle_ops snapshot_ops = { .read = read_snapshot, .release = release_snapshot };
static const struct vf_handle_ops deaf_ops = {
	.read = read_snapshot, .write = ignore_write, .truncate = ignore_truncate, .release = release_snapshot,
};

int vf_snapshot_open(struct vf_call *call, struct vf_node *node, int flags, struct vf_rendering *rendering, struct vf_handle **out)
{
	struct snapshot *snapshot;
	bool deaf = vf_flags_write(flags);
	int rc = vf_handle_new(call, node, flags, sizeof *snapshot, deaf ? &deaf_ops : &snapshot_ops, &snapshot);

	if (rc) {
		vf_rendering_put(rendering);
		return rc;
	}
	/* It holds bytes, not the index. */
	if (snapshot->handle.index)
		vf_catalog_release(call->face->catalog, snapshot->handle.index);
	snapshot->handle.index = NULL;
	snapshot->handle.direct = deaf;
	snapshot->handle.keep = !deaf;
	snapshot->handle.noflush = true;
	snapshot->rendering = rendering;
	if (deaf) {
		rc = vf_handle_join(call, &snapshot->handle);
	} else {
		bool keep;
		rc = joined(call, &snapshot->handle, vf_node_open_rendering(call, node, &snapshot->rendering, &keep));
		snapshot->handle.keep = keep;
		snapshot->handle.direct = !keep;
	}
	if (rc) {
		release_snapshot(call, &snapshot->handle);
		return rc;
	}
	*out = &snapshot->handle;
	return 0;
}
