/* SPDX-License-Identifier: MIT */
/* Places: the buckets and indexes that the kernel knows of, by their id in the catalog. Their names may change under open files. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "vecfs/clock.h"

static void free_site(struct vf_site *site)
{
	free(site->bucket);
	free(site->index);
	free(site);
}

static struct vf_site *new_site(const char *bucket, const char *index, const struct vf_dir_attr *attr)
{
	struct vf_site *site = calloc(1, sizeof *site);

	if (!site)
		return NULL;
	site->bucket = strdup(bucket);
	site->index = index ? strdup(index) : NULL;
	if (!site->bucket || (index && !site->index)) {
		free_site(site);
		return NULL;
	}
	site->id = attr->id;
	site->is_index = index != NULL;
	site->attr = *attr;
	site->changed_ns = site->saved_ns = attr->mtime_ns;
	return site;
}

/* face->lock is held. */
static struct vf_site *known_site(struct vf_face *face, uint64_t id)
{
	for (struct vf_site *site = face->sites; site; site = site->next)
		if (site->id == id)
			return site;
	return NULL;
}

int vf_site_find(struct vf_call *call, const char *bucket, const char *index, struct vf_site **out)
{
	struct vf_face *face = call->face;
	struct vf_dir_attr attr;
	int rc = vf_catalog_attr(face->catalog, bucket, index, &attr, &call->err);

	if (rc)
		return rc;
	pthread_mutex_lock(&face->lock);
	struct vf_site *site = known_site(face, attr.id);
	if (!site && (site = new_site(bucket, index, &attr))) {
		site->next = face->sites;
		face->sites = site;
	}
	if (site) {
		site->attr = attr;
		site->users++;
	}
	pthread_mutex_unlock(&face->lock);
	*out = site;
	return site ? 0 : vf_oom(&call->err);
}

struct vf_site *vf_site_use(struct vf_face *face, struct vf_site *site)
{
	if (site) {
		pthread_mutex_lock(&face->lock);
		site->users++;
		pthread_mutex_unlock(&face->lock);
	}
	return site;
}

/* A site stays known until it is removed: when its records last changed is worth more than the few bytes. */
void vf_site_put(struct vf_face *face, struct vf_site *site)
{
	if (!site)
		return;
	pthread_mutex_lock(&face->lock);
	if (--site->users == 0 && site->gone)
		free_site(site);
	pthread_mutex_unlock(&face->lock);
}

void vf_sites_free(struct vf_face *face)
{
	while (face->sites) {
		struct vf_site *next = face->sites->next;
		free_site(face->sites);
		face->sites = next;
	}
}

void vf_site_names(struct vf_face *face, struct vf_site *site, struct vf_site_names *out)
{
	pthread_mutex_lock(&face->lock);
	snprintf(out->bucket, sizeof out->bucket, "%s", site->bucket);
	snprintf(out->index, sizeof out->index, "%s", site->index ? site->index : "");
	out->moves = site->moves;
	pthread_mutex_unlock(&face->lock);
}

struct vf_dir_attr vf_site_attr(struct vf_face *face, struct vf_site *site)
{
	pthread_mutex_lock(&face->lock);
	struct vf_dir_attr attr = site->attr;
	pthread_mutex_unlock(&face->lock);
	return attr;
}

static bool is_gone(struct vf_face *face, struct vf_site *site)
{
	pthread_mutex_lock(&face->lock);
	bool gone = site->gone;
	pthread_mutex_unlock(&face->lock);
	return gone;
}

void vf_site_naming_begin(struct vf_face *face)
{
	pthread_mutex_lock(&face->naming);
}

void vf_site_naming_end(struct vf_face *face)
{
	pthread_mutex_unlock(&face->naming);
}

bool vf_site_has_moved(struct vf_call *call, struct vf_site *site, struct vf_site_names *names)
{
	unsigned before = names->moves;

	vf_site_naming_begin(call->face);
	vf_site_naming_end(call->face);
	vf_site_names(call->face, site, names);
	if (is_gone(call->face, site) || names->moves == before)
		return false;
	call->err = (struct vf_err)VF_ERR_INIT;
	return true;
}

int vf_site_refresh(struct vf_call *call, struct vf_site *site)
{
	struct vf_site_names names;
	struct vf_dir_attr attr;
	int rc;

	if (is_gone(call->face, site))
		return 0;
	vf_site_names(call->face, site, &names);
	do
		rc = vf_catalog_attr(call->face->catalog, names.bucket, names.index[0] ? names.index : NULL, &attr, &call->err);
	while (rc == -ENOENT && vf_site_has_moved(call, site, &names));
	if (rc)
		return rc;
	pthread_mutex_lock(&call->face->lock);
	if (attr.id == site->id)
		site->attr = attr;
	pthread_mutex_unlock(&call->face->lock);
	return 0;
}

int vf_site_set_attr(struct vf_call *call, struct vf_site *site, const struct vf_dir_attr *attr)
{
	struct vf_site_names names;

	if (is_gone(call->face, site))
		return -ENOENT;
	vf_site_naming_begin(call->face);
	vf_site_names(call->face, site, &names);
	int rc = vf_catalog_set_attr(call->face->catalog, names.bucket, names.index[0] ? names.index : NULL, attr, &call->err);
	vf_site_naming_end(call->face);
	if (rc == 0)
		rc = vf_site_refresh(call, site);
	if (rc == 0 && names.index[0])
		vf_nodes_stale(call->face, site);
	return rc;
}

/* An index in which nothing ever changed has none: then they are its own. */
static void take_times(struct vf_site *site, struct vf_index *index)
{
	int64_t records = vf_index_part_mtime(index, VF_PART_RECORDS), saved = vf_index_part_mtime(index, VF_PART_SAVED);

	if (records)
		site->changed_ns = records;
	if (saved)
		site->saved_ns = saved;
}

int vf_site_hold(struct vf_call *call, struct vf_site *site, struct vf_index **out)
{
	struct vf_site_names names;
	int rc;

	if (is_gone(call->face, site))
		return -ENOENT;
	vf_site_names(call->face, site, &names);
	/* Its name may have been given to another index since. */
	do
		rc = vf_catalog_hold_id(call->face->catalog, names.bucket, names.index, site->id, out, &call->err);
	while (rc == -ENOENT && vf_site_has_moved(call, site, &names));
	if (rc == 0)
		take_times(site, *out);
	return rc;
}

void vf_site_changed(struct vf_face *face, struct vf_site *site, struct vf_index *index)
{
	uint64_t node = atomic_exchange(&site->vectors_node, 0);

	take_times(site, index);
	if (node)
		fuse_lowlevel_notify_inval_inode(face->session, node, -1, 0);
}

/* ---- names change ---- */

static void give_name(char **slot, const char *name)
{
	char *copy = strdup(name);

	/* Out of memory: the old name stays in messages; the catalog answers ENOENT for it. */
	if (copy) {
		free(*slot);
		*slot = copy;
	}
}

void vf_site_renamed(struct vf_face *face, const char *bucket, const char *index, const char *to_bucket, const char *to_index)
{
	pthread_mutex_lock(&face->lock);
	for (struct vf_site *site = face->sites; site; site = site->next) {
		if (strcmp(site->bucket, bucket) != 0 || (index && (!site->index || strcmp(site->index, index) != 0)))
			continue;
		site->moves++;
		give_name(&site->bucket, to_bucket);
		if (index)
			give_name(&site->index, to_index);
	}
	pthread_mutex_unlock(&face->lock);
}

void vf_site_gone(struct vf_face *face, const char *bucket, const char *index)
{
	pthread_mutex_lock(&face->lock);
	for (struct vf_site **at = &face->sites; *at;) {
		struct vf_site *site = *at;
		bool same = strcmp(site->bucket, bucket) == 0 && (index ? site->index && strcmp(site->index, index) == 0 : !site->index);
		if (!same) {
			at = &site->next;
			continue;
		}
		*at = site->next;
		site->next = NULL;
		site->gone = true;
		if (site->users == 0)
			free_site(site);
	}
	pthread_mutex_unlock(&face->lock);
}
