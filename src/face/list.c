/* SPDX-License-Identifier: MIT */
/* An open directory: entries come in pages, an offset is the ordinal of an entry behind "." and "..". The kernel asks again from
 * wherever its reader's buffer ended, which lies in the page at hand; whoever seeks further back is led there from the start. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>

int vf_dir_open(struct vf_call *call, struct vf_node *node, struct vf_dir **out)
{
	struct vf_dir *dir = calloc(1, sizeof *dir);

	if (!dir)
		return vf_oom(&call->err);
	dir->node = node;
	pthread_mutex_init(&dir->lock, NULL);
	pthread_mutex_lock(&call->face->lock);
	dir->behind = call->face->dirs;
	if (dir->behind)
		dir->behind->before = dir;
	call->face->dirs = dir;
	pthread_mutex_unlock(&call->face->lock);
	*out = dir;
	return 0;
}

void vf_dir_close(struct vf_face *face, struct vf_dir *dir)
{
	pthread_mutex_lock(&face->lock);
	if (dir->before)
		dir->before->behind = dir->behind;
	else
		face->dirs = dir->behind;
	if (dir->behind)
		dir->behind->before = dir->before;
	pthread_mutex_unlock(&face->lock);
	pthread_mutex_destroy(&dir->lock);
	vf_arena_free(&dir->arena);
	vf_buf_free(&dir->after);
	free(dir);
}

void vf_dirs_free(struct vf_face *face)
{
	while (face->dirs)
		vf_dir_close(face, face->dirs);
}

bool vf_dir_full(const struct vf_dir *dir)
{
	return dir->npage == VF_DIR_PAGE;
}

bool vf_dir_add(struct vf_dir *dir, struct vf_span name, uint64_t ino, mode_t type)
{
	struct vf_span copy = vf_arena_copy(&dir->arena, name);

	if (vf_dir_full(dir) || !copy.data)
		return false;
	dir->page[dir->npage++] = (struct vf_dir_entry){ copy, ino, type };
	return true;
}

int vf_dir_after(struct vf_dir *dir, struct vf_span name, struct vf_err *err)
{
	vf_buf_clear(&dir->after);
	return vf_buf_put(&dir->after, name.data, name.len, err);
}

static uint64_t parent_ino(struct vf_face *face, const struct vf_node *node)
{
	struct vf_site *site = node->site;

	if (!site || node->row == &vf_tree[VF_ROW_BUCKET])
		return 1;
	if (node->row == &vf_tree[VF_ROW_NEAR_KEY])
		return vf_ino_local(site, vf_tree[VF_ROW_NEAR].ino);
	if (node->row != &vf_tree[VF_ROW_INDEX])
		return vf_ino_local(site, 0);
	struct vf_site_names names;
	struct vf_dir_attr attr;
	struct vf_err err = VF_ERR_INIT;
	vf_site_names(face, site, &names);
	return vf_catalog_attr(face->catalog, names.bucket, NULL, &attr, &err) ? 1 : attr.id << 40;
}

static int first_page(struct vf_call *call, struct vf_dir *dir)
{
	dir->phase = 0;
	dir->first = 0;
	dir->npage = 0;
	dir->end = false;
	vf_buf_clear(&dir->after);
	vf_arena_reset(&dir->arena);
	if (!vf_dir_add(dir, vf_span_str("."), dir->node->ino, S_IFDIR) ||
	    !vf_dir_add(dir, vf_span_str(".."), parent_ino(call->face, dir->node), S_IFDIR))
		return vf_oom(&call->err);
	return 0;
}

static int next_page(struct vf_call *call, struct vf_dir *dir)
{
	const struct vf_dir_ops *ops = dir->node->row->dir;

	dir->first += dir->npage;
	dir->npage = 0;
	vf_arena_reset(&dir->arena);
	/* A page may come out empty: of keys that have no file name, say. */
	while (!dir->end && dir->npage == 0) {
		int rc = ops->list ? ops->list(call, dir->node, dir) : 0;
		if (rc)
			return rc;
		dir->end |= !ops->list;
	}
	return 0;
}

/* Makes the page the one that holds the entry of that ordinal. */
static int seek(struct vf_call *call, struct vf_dir *dir, uint64_t ordinal)
{
	int rc = 0;

	if (ordinal < dir->first || (dir->first == 0 && (ordinal == 0 || dir->npage == 0)))
		rc = first_page(call, dir);
	while (rc == 0 && ordinal >= dir->first + dir->npage && (!dir->end || dir->npage))
		rc = next_page(call, dir);
	return rc;
}

static size_t put_entry(struct vf_call *call, char *out, size_t room, const struct vf_dir_entry *entry, uint64_t next)
{
	struct stat st = { .st_ino = entry->ino, .st_mode = entry->type };

	return fuse_add_direntry(call->req, out, room, (const char *)entry->name.data, &st, (off_t)next);
}

static size_t put_page(struct vf_call *call, struct vf_dir *dir, uint64_t ordinal, char *out, size_t room)
{
	size_t used = 0;

	for (uint64_t i = ordinal - dir->first; i < dir->npage; i++) {
		size_t n = put_entry(call, out + used, room - used, &dir->page[i], dir->first + i + 1);
		if (n > room - used)
			break;
		used += n;
	}
	return used;
}

#define REPLY_MAX (1u << 17)

int vf_dir_read(struct vf_call *call, struct vf_dir *dir, size_t size, uint64_t offset)
{
	size_t room = size < REPLY_MAX ? size : REPLY_MAX;
	char *out = malloc(room ? room : 1);

	if (!out)
		return vf_oom(&call->err);
	pthread_mutex_lock(&dir->lock);
	int rc = seek(call, dir, offset);
	size_t used = rc == 0 && offset >= dir->first ? put_page(call, dir, offset, out, room) : 0;
	pthread_mutex_unlock(&dir->lock);
	if (rc == 0)
		vf_call_data(call, out, used);
	free(out);
	return rc;
}
