/* SPDX-License-Identifier: MIT */
#include "catalog_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct vf_dir *vf_dir_new(const char *name, const struct vf_dir_attr *attr)
{
	struct vf_dir *dir = calloc(1, sizeof *dir);

	if (!dir)
		return NULL;
	dir->attr = *attr;
	dir->name = strdup(name);
	if (!dir->name)
		vf_dir_free(&dir);
	return dir;
}

void vf_dir_free(struct vf_dir **dir)
{
	struct vf_dir *d = *dir;

	if (!d)
		return;
	for (size_t i = 0; i < d->count; i++)
		vf_dir_free(&d->children[i]);
	free(d->children);
	free(d->name);
	free(d);
	*dir = NULL;
}

/* The place of the first child whose name is not below `name`. */
static size_t lower_bound(const struct vf_dir *dir, const char *name)
{
	size_t low = 0, high = dir->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(dir->children[middle]->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct vf_dir *vf_dir_child(const struct vf_dir *dir, const char *name)
{
	size_t i = lower_bound(dir, name);

	return i < dir->count && strcmp(dir->children[i]->name, name) == 0 ? dir->children[i] : NULL;
}

struct vf_dir *vf_dir_child_after(const struct vf_dir *dir, const char *name)
{
	size_t i = name ? lower_bound(dir, name) : 0;

	if (name && i < dir->count && strcmp(dir->children[i]->name, name) == 0)
		i++;
	return i < dir->count ? dir->children[i] : NULL;
}

int vf_dir_reserve(struct vf_dir *dir, struct vf_err *err)
{
	if (dir->count < dir->cap)
		return 0;
	size_t cap = dir->cap ? 2 * dir->cap : 8;
	struct vf_dir **children = realloc(dir->children, cap * sizeof(struct vf_dir *));
	if (!children)
		return vf_oom(err);
	dir->children = children;
	dir->cap = cap;
	return 0;
}

void vf_dir_attach(struct vf_dir *parent, struct vf_dir *child)
{
	size_t i = lower_bound(parent, child->name);

	memmove(parent->children + i + 1, parent->children + i, (parent->count - i) * sizeof(struct vf_dir *));
	parent->children[i] = child;
	parent->count++;
	child->parent = parent;
}

void vf_dir_detach(struct vf_dir *child)
{
	struct vf_dir *parent = child->parent;
	size_t i = lower_bound(parent, child->name);

	parent->count--;
	memmove(parent->children + i, parent->children + i + 1, (parent->count - i) * sizeof(struct vf_dir *));
	child->parent = NULL;
}

int vf_dir_find(const struct vf_catalog *catalog, const char *bucket, const char *index, struct vf_dir **out, struct vf_err *err)
{
	struct vf_dir *dir = catalog->root;

	if (bucket) {
		dir = vf_dir_child(dir, bucket);
		if (!dir)
			return vf_fail(err, ENOENT, "there is no bucket %s", bucket);
	}
	if (index) {
		dir = vf_dir_child(dir, index);
		if (!dir)
			return vf_fail(err, ENOENT, "there is no index %s in bucket %s", index, bucket);
	}
	*out = dir;
	return 0;
}

int vf_dir_path(const struct vf_catalog *catalog, const struct vf_dir *dir, char out[PATH_MAX], struct vf_err *err)
{
	bool is_index = dir->parent && dir->parent->parent;
	int len = snprintf(out, PATH_MAX, "%s%s%s%s%s", catalog->path, is_index ? "/" : "", is_index ? dir->parent->name : "",
	                   dir->parent ? "/" : "", dir->name);

	return len < PATH_MAX ? 0 : vf_fail(err, ENAMETOOLONG, "the path of %s in the store is too long", dir->name);
}
