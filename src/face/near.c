/* SPDX-License-Identifier: MIT */
/* near/: a directory for every key, with links to its nearest neighbours. near/ lists nothing, and finding near/KEY costs no search; looking
 * inside does, once a version of the index. */
#include "face_internal.h"

#include <errno.h>

static int near_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	struct vf_record_stat stat;
	struct vf_err ignored = VF_ERR_INIT;
	struct vf_span key;

	if (strlen(name) > VF_FILE_NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (name[0] == '.')
		return -ENOENT;
	int rc = vf_call_key(call, vf_span_str(name), &key);
	if (rc)
		return rc == -EINVAL ? -ENOENT : rc;
	if ((rc = vf_call_hold(call, dir->site)))
		return rc;
	if ((rc = vf_index_stat(call->index, key, &stat, &ignored))) {
		if (rc != -ENOENT)
			call->err = ignored;
		return rc;
	}
	*out = (struct vf_found){ .row = &vf_tree[VF_ROW_NEAR_KEY], .site = vf_site_use(call->face, dir->site), .name = key };
	out->ino = vf_ino_hash(out->row, dir->site, key);
	return 0;
}

static int near_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	(void)call, (void)dir;
	list->end = true;
	return 0;
}

static int near_rmdir(struct vf_call *call, struct vf_node *dir, const char *name)
{
	(void)dir;
	return vf_fail(&call->err, EPERM, "near/%s is there as long as its record is", name);
}

const struct vf_dir_ops vf_near_dir = { .lookup = near_lookup, .list = near_list, .rmdir = near_rmdir };

/* ---- near/KEY: its rendering is the links, name NUL target NUL ... ---- */

/* An escaped key that is too long for a file name is cut where neither a character nor an escape is torn. */
static size_t fitting(struct vf_span escaped, size_t room)
{
	if (escaped.len <= room)
		return escaped.len;
	size_t n = room;
	while (n > 0 && (escaped.data[n] & 0xc0) == 0x80)
		n--;
	for (size_t back = 1; back <= 2 && back <= n; back++)
		if (escaped.data[n - back] == '%')
			return n - back;
	return n;
}

static int put_link(struct vf_call *call, struct vf_spool *out, size_t rank, struct vf_span key)
{
	struct vf_buf escaped = VF_BUF_INIT;
	char number[32];
	int n = snprintf(number, sizeof number, "%04zu-", rank), rc;

	(void)((rc = vf_key_escape(key, &escaped, &call->err)) || (rc = vf_spool_put(out, number, (size_t)n, &call->err)) ||
	       (rc = vf_spool_put(out, escaped.data, fitting(vf_buf_span(&escaped), VF_FILE_NAME_BYTES_MAX - (size_t)n - 8), &call->err)) ||
	       (rc = vf_spool_put(out, ".msgpack", 9, &call->err)) || (rc = vf_spool_put(out, "../../vectors/", 14, &call->err)) ||
	       (rc = vf_spool_put(out, escaped.data, escaped.len, &call->err)) || (rc = vf_spool_put(out, ".msgpack", 9, &call->err)));
	vf_buf_free(&escaped);
	return rc;
}

static int near_render(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	struct vf_config config;
	struct vf_neighbour *neighbours;
	size_t n = 0;
	int rc = vf_call_hold(call, site);

	if (rc || (rc = vf_index_config(call->index, &config, &call->err)))
		return rc;
	uint64_t top_k = config.top_k;
	vf_config_free(&config);
	rc = vf_index_near(call->index, name, top_k, &call->arena, &neighbours, &n, &call->err);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = put_link(call, out, i + 1, neighbours[i].key);
	return rc;
}

/* The links, copied into the call's arena. */
static int links_of(struct vf_call *call, struct vf_node *dir, struct vf_span *out)
{
	struct vf_rendering *rendering;
	int rc = vf_call_hold(call, dir->site);

	if (rc)
		return rc;
	rc = vf_rendering_get(call, dir->row, dir->site, dir->name, vf_index_version(call->index), &rendering);
	if (rc)
		return rc;
	size_t size = (size_t)vf_spool_size(&rendering->spool);
	uint8_t *bytes = vf_arena_alloc(&call->arena, size + 1);
	if (rendering->rc) {
		call->err = rendering->err;
		rc = rendering->rc;
	} else if (!bytes) {
		rc = vf_oom(&call->err);
	} else if (vf_spool_read(&rendering->spool, 0, bytes, size) != (int64_t)size) {
		rc = vf_fail(&call->err, EIO, "cannot read back %zu bytes of neighbours", size);
	}
	*out = vf_span(bytes, size);
	vf_rendering_put(rendering);
	return rc;
}

/* Takes the next string off. */
static struct vf_span take_string(struct vf_span *from)
{
	struct vf_span s = vf_span(from->data, strlen((const char *)from->data));

	*from = vf_span(from->data + s.len + 1, from->len - s.len - 1);
	return s;
}

/* What a link is known by: the key, its name and its target, so that another target is another node. */
static int link_identity(struct vf_call *call, struct vf_node *dir, struct vf_span name, struct vf_span target, struct vf_span *out)
{
	uint8_t *p = vf_arena_alloc(&call->arena, dir->name.len + name.len + target.len + 2);

	if (!p)
		return vf_oom(&call->err);
	*out = vf_span(p, dir->name.len + name.len + target.len + 2);
	memcpy(p, dir->name.data, dir->name.len);
	p += dir->name.len;
	*p++ = 0;
	memcpy(p, name.data, name.len);
	p += name.len;
	*p++ = 0;
	memcpy(p, target.data, target.len);
	return 0;
}

static int near_key_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	struct vf_span links, identity;
	int rc;

	if (name[0] < '0' || name[0] > '9')
		return -ENOENT;
	rc = links_of(call, dir, &links);
	while (rc == 0 && links.len) {
		struct vf_span link = take_string(&links), target = take_string(&links);
		if (!vf_span_is(link, name))
			continue;
		rc = link_identity(call, dir, link, target, &identity);
		if (rc)
			return rc;
		*out = (struct vf_found){ .row = &vf_tree[VF_ROW_NEAR_LINK], .site = vf_site_use(call->face, dir->site), .name = identity };
		out->ino = vf_ino_hash(out->row, dir->site, identity);
		out->size = target.len;
		out->mtime_ns = dir->site->changed_ns;
		return 0;
	}
	return rc ? rc : -ENOENT;
}

static int near_key_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	struct vf_span links, identity;
	int rc = 0;

	/* The first page takes the answer, so that all pages are of one. */
	if (list->phase++ == 0 && (rc = links_of(call, dir, &links)) == 0)
		rc = vf_dir_after(list, links, &call->err);
	links = vf_buf_span(&list->after);
	for (uint64_t skip = list->first ? list->first - 2 : 0; skip && links.len; skip--) {
		take_string(&links);
		take_string(&links);
	}
	while (rc == 0 && links.len && !vf_dir_full(list)) {
		struct vf_span link = take_string(&links), target = take_string(&links);
		rc = link_identity(call, dir, link, target, &identity);
		if (rc == 0 && !vf_dir_add(list, link, vf_ino_hash(&vf_tree[VF_ROW_NEAR_LINK], dir->site, identity), S_IFLNK))
			rc = vf_oom(&call->err);
	}
	list->end = links.len == 0;
	return rc;
}

const struct vf_dir_ops vf_near_key_dir = { .lookup = near_key_lookup, .list = near_key_list };
const struct vf_file_ops vf_near_key_file = { .render = near_render };

/* ---- a link ---- */

static int link_read(struct vf_call *call, struct vf_node *node, struct vf_buf *out)
{
	struct vf_span all = node->name;
	size_t at = all.len;

	while (at > 0 && all.data[at - 1])
		at--;
	return vf_buf_put(out, all.data + at, all.len - at, &call->err);
}

const struct vf_file_ops vf_link_file = { .readlink = link_read };
