/* SPDX-License-Identifier: MIT */
/* Nodes: what the kernel has looked up and not forgotten yet. The node's address is its id; the root's is 1. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "vecfs/clock.h"

#define CHAINS_MIN 1024u

/* ---- numbers ---- */

static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	/* FNV-1a, finished by a multiply-xorshift so that short names spread over all bits. */
	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

static uint64_t hash_of(const struct vf_row *row, const struct vf_site *site, struct vf_span name)
{
	uint64_t head[2] = { (uint64_t)vf_row_id(row), site ? site->id : 0 };

	return mix(mix(0xcbf29ce484222325ull, head, sizeof head), name.data, name.len);
}

uint64_t vf_hash_bytes(struct vf_span bytes)
{
	return mix(0xcbf29ce484222325ull, bytes.data, bytes.len);
}

uint64_t vf_ino_hash(const struct vf_row *row, const struct vf_site *site, struct vf_span name)
{
	return hash_of(row, site, name) | VF_INO_HASHED;
}

uint64_t vf_ino_local(const struct vf_site *site, uint64_t local)
{
	return site->id << 40 | local;
}

struct vf_node *vf_node_of(struct vf_face *face, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? face->root : (struct vf_node *)(uintptr_t)ino;
}

fuse_ino_t vf_node_id(const struct vf_face *face, const struct vf_node *node)
{
	return node == face->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)node;
}

/* ---- found ---- */

void vf_found_fixed(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_found *out)
{
	*out = (struct vf_found){ .row = &vf_tree[row], .site = vf_site_use(call->face, site) };
	if (site && vf_tree[row].ino)
		out->ino = vf_ino_local(site, vf_tree[row].ino);
	else
		out->ino = vf_ino_hash(out->row, site, vf_span_str(""));
}

void vf_found_drop(struct vf_face *face, struct vf_found *found)
{
	vf_site_put(face, found->site);
	if (found->rendering)
		vf_rendering_put(found->rendering);
	if (found->scratch)
		vf_scratch_put(found->scratch);
	*found = (struct vf_found){ .row = NULL };
}

/* ---- the table; face->lock is held by those below ---- */

static struct vf_node **chain_of(struct vf_face *face, uint64_t hash)
{
	return &face->chains[hash & (face->nchains - 1)];
}

static bool is_named(const struct vf_node *node, const struct vf_row *row, const struct vf_site *site, struct vf_span name)
{
	return node->row == row && node->site == site && vf_span_equal(node->name, name);
}

/* The node that the name leads to. Those that it led to before stay in the chain. */
static struct vf_node **find(struct vf_face *face, const struct vf_row *row, const struct vf_site *site, struct vf_span name)
{
	struct vf_node **at = chain_of(face, hash_of(row, site, name));

	while (*at && (!(*at)->attached || !is_named(*at, row, site, name)))
		at = &(*at)->next;
	return at;
}

static void grow(struct vf_face *face)
{
	size_t n = face->nchains * 2;
	struct vf_node **old = face->chains, **chains = calloc(n, sizeof *chains);

	if (!chains)
		return;   /* longer chains, but right */
	face->chains = chains;
	size_t nold = face->nchains;
	face->nchains = n;
	for (size_t i = 0; i < nold; i++) {
		while (old[i]) {
			struct vf_node *node = old[i];
			old[i] = node->next;
			struct vf_node **chain = chain_of(face, hash_of(node->row, node->site, node->name));
			node->next = *chain;
			*chain = node;
		}
	}
	free(old);
}

static void attach(struct vf_face *face, struct vf_node *node)
{
	if (face->nnodes > face->nchains)
		grow(face);
	struct vf_node **chain = chain_of(face, hash_of(node->row, node->site, node->name));
	node->next = *chain;
	*chain = node;
	node->attached = true;
}

static struct vf_node *new_node(struct vf_face *face, struct vf_found *found)
{
	struct vf_node *node = calloc(1, sizeof *node + found->name.len + 1);

	if (!node)
		return NULL;
	char *name = (char *)(node + 1);
	if (found->name.len)
		memcpy(name, found->name.data, found->name.len);
	node->name = vf_span(name, found->name.len);
	node->row = found->row;
	node->site = found->site;
	node->scratch = found->scratch;
	node->generation = ++face->generation;
	node->behind = face->all;
	if (face->all)
		face->all->before = node;
	face->all = node;
	face->nnodes++;
	found->site = NULL;
	found->scratch = NULL;
	return node;
}

static void fill(struct vf_node *node, const struct vf_found *found)
{
	node->ino = found->ino;
	node->version = found->version;
	node->size = found->size;
	node->mtime_ns = found->mtime_ns;
	node->ctime_ns = found->ctime_ns;
}

static bool may_join(const struct vf_node *node, const struct vf_found *found)
{
	if (found->pending)
		return node->pending && !node->flushed && !node->unlinked;
	if (node->scratch || found->scratch)
		return node->scratch == found->scratch;
	return node->writers == 0 && !node->pending && node->version == found->version;
}

static void join(struct vf_node *node, struct vf_found *found)
{
	if (found->pending)
		return;
	node->mtime_ns = found->mtime_ns;
	node->ctime_ns = found->ctime_ns;
}

#define REFUSAL_NS (60 * (int64_t)1000000000)     /* coming back takes long when many want something */
#define REFUSAL_TRIES 8u

/* Who asks: a thread; in another namespace of processes than ours nobody has a number, and it is whoever wants that name. */
static pid_t asker(const struct vf_call *call, uint64_t name)
{
	return call->pid ? call->pid : -1 - (pid_t)(name & INT32_MAX >> 1);
}

/* The place of a process, or the one that it may take: the oldest of some. */
static struct vf_refused *refusal_of(struct vf_face *face, pid_t pid)
{
	struct vf_refused *oldest = NULL;

	for (uint32_t i = 0; i < REFUSAL_TRIES; i++) {
		struct vf_refused *r = &face->refused[((uint32_t)pid + i) % VF_REFUSED_MAX];
		if (r->pid == pid)
			return r;
		if (!oldest || r->ns < oldest->ns)
			oldest = r;
	}
	return oldest;
}

/* It was just refused a node of this name, and is coming back for another one. The kernel looks twice when the first answer is another node than
 * it knew: so this holds until a node is opened. */
static bool was_refused(struct vf_call *call, const struct vf_found *found)
{
	uint64_t name = hash_of(found->row, found->site, found->name);
	pid_t pid = asker(call, name);
	struct vf_refused *r = refusal_of(call->face, pid);

	return r->pid == pid && r->name == name && vf_clock_mono_ns() - r->ns < REFUSAL_NS;
}

bool vf_node_was_refused(struct vf_call *call, const struct vf_found *found)
{
	pthread_mutex_lock(&call->face->lock);
	bool refused = was_refused(call, found);
	pthread_mutex_unlock(&call->face->lock);
	return refused;
}

/* It comes back for the very node: there is no name that the kernel could have looked up. */
static bool has_come_back(const struct vf_refused *r, pid_t pid, const struct vf_node *node)
{
	return r->pid == pid && r->generation == node->generation;
}

static struct vf_node *settle(struct vf_call *call, struct vf_found *found)
{
	struct vf_face *face = call->face;
	struct vf_node *node = *find(face, found->row, found->site, found->name);
	/* Of its own: no name leads there, so that nobody else can be in the way again. */
	bool apart = found->row->versioned && was_refused(call, found);

	if (node && !apart && may_join(node, found)) {
		join(node, found);
		return node;
	}
	if (found->pending)
		return NULL;
	if (node && !apart)
		node->attached = false;
	struct vf_found fields = *found;
	node = new_node(face, found);
	if (node) {
		fill(node, &fields);
		attach(face, node);
		node->attached = !apart;
		if (apart && fields.rendering) {
			node->rendering = fields.rendering;
			node->rendering->users++;
		}
	}
	return node;
}

int vf_node_settle(struct vf_call *call, struct vf_found *found, struct vf_node **out)
{
	bool pending = found->pending;

	pthread_mutex_lock(&call->face->lock);
	struct vf_node *node = settle(call, found);
	if (node)
		node->nlookup++;
	pthread_mutex_unlock(&call->face->lock);
	vf_found_drop(call->face, found);
	*out = node;
	if (node)
		return 0;
	return pending ? -ENOENT : vf_oom(&call->err);
}

/* ---- the end of a node ---- */

static void free_node(struct vf_face *face, struct vf_node *node)
{
	vf_site_put(face, node->site);
	if (node->rendering)
		vf_rendering_put(node->rendering);
	if (node->scratch)
		vf_scratch_put(node->scratch);
	free(node);
}

static void take_out(struct vf_face *face, struct vf_node *node)
{
	struct vf_node **at = chain_of(face, hash_of(node->row, node->site, node->name));

	while (*at && *at != node)
		at = &(*at)->next;
	if (*at)
		*at = node->next;
	if (node->before)
		node->before->behind = node->behind;
	else
		face->all = node->behind;
	if (node->behind)
		node->behind->before = node->before;
	face->nnodes--;
}

/* Frees it when nobody needs it any more; takes the lock away. */
static void unlock_and_drop(struct vf_face *face, struct vf_node *node)
{
	bool over = node->nlookup == 0 && node->readers == 0 && node->writers == 0 && node != face->root;

	if (over) {
		take_out(face, node);
		if (node->site && node->row == &vf_tree[VF_ROW_VECTORS])
			node->site->vectors_node = 0;
	}
	pthread_mutex_unlock(&face->lock);
	if (over)
		free_node(face, node);
}

void vf_node_forget(struct vf_face *face, struct vf_node *node, uint64_t nlookup)
{
	pthread_mutex_lock(&face->lock);
	if (node != face->root)
		node->nlookup -= nlookup < node->nlookup ? nlookup : node->nlookup;
	unlock_and_drop(face, node);
}

/* ---- handles ---- */

/* O_TRUNC and writes change size and pages of the kernel's inode, for all who have found it: so a writer gets a node that no name leads to. What
 * is being created has no bytes that anyone could read. */
static bool in_the_way(const struct vf_node *node, bool writer)
{
	if (!node->row->versioned || !node->attached || node->pending)
		return false;
	return writer || node->writers > 0;
}

/* face->lock is held. `gone`: the version that was looked up is no more. */
static bool open_locked(struct vf_call *call, struct vf_node *node, bool writer, bool gone)
{
	struct vf_face *face = call->face;
	uint64_t name = hash_of(node->row, node->site, node->name);
	pid_t pid = asker(call, name);
	struct vf_refused *r = refusal_of(face, pid);
	bool refused = (in_the_way(node, writer) || gone) && !has_come_back(r, pid, node);
	if (refused)
		*r = (struct vf_refused){ pid, name, node->generation, vf_clock_mono_ns() };
	else if (r->pid == pid)
		*r = (struct vf_refused){ 0 };
	if (!refused && writer) {
		node->writers++;
		node->staged_size = node->pending ? node->staged_size : node->size;
	} else if (!refused) {
		node->readers++;
	}
	return !refused;
}

bool vf_node_open(struct vf_call *call, struct vf_node *node, bool writer)
{
	pthread_mutex_lock(&call->face->lock);
	bool opened = open_locked(call, node, writer, false);
	pthread_mutex_unlock(&call->face->lock);
	return opened;
}

/* Changed since it was looked up: goes on as what it is now, and nobody finds it any more, so that pages of both versions are never mixed. */
static void move_on(struct vf_node *node, const struct vf_rendering *r)
{
	node->ino = r->ino;
	node->version = r->version;
	node->size = vf_spool_size(&r->spool);
	node->mtime_ns = node->ctime_ns = r->mtime_ns;
	node->moved = true;
	node->attached = false;
}

bool vf_node_open_rendering(struct vf_call *call, struct vf_node *node, struct vf_rendering **rendering, bool *keep)
{
	struct vf_face *face = call->face;
	struct vf_rendering *unused = NULL;

	pthread_mutex_lock(&face->lock);
	bool gone = !node->rendering && (*rendering)->of_version && (*rendering)->version != node->version;
	bool opened = open_locked(call, node, false, gone);
	if (opened && node->rendering) {
		unused = *rendering;
		*rendering = node->rendering;
		node->rendering->users++;
	} else if (opened) {
		if (gone)
			move_on(node, *rendering);
		node->rendering = *rendering;
		node->rendering->users++;
	}
	*keep = !node->moved;
	pthread_mutex_unlock(&face->lock);
	if (unused)
		vf_rendering_put(unused);
	if (opened && gone)
		fuse_lowlevel_notify_inval_inode(face->session, vf_node_id(face, node), -1, 0);
	return opened;
}

void vf_node_close(struct vf_face *face, struct vf_node *node, bool writer)
{
	struct vf_rendering *unused = NULL;

	pthread_mutex_lock(&face->lock);
	if (writer)
		node->writers--;
	else
		node->readers--;
	if (writer && node->writers == 0 && node->pending)
		node->attached = false;
	if (node->readers == 0 && node->rendering) {
		unused = node->rendering;
		node->rendering = NULL;
	}
	unlock_and_drop(face, node);
	if (unused)
		vf_rendering_put(unused);
}

void vf_node_staged(struct vf_face *face, struct vf_node *node, uint64_t size, bool dirty)
{
	pthread_mutex_lock(&face->lock);
	node->staged_size = size;
	node->dirty = dirty;
	pthread_mutex_unlock(&face->lock);
}

struct vf_node_state vf_node_state(struct vf_face *face, struct vf_node *node)
{
	pthread_mutex_lock(&face->lock);
	struct vf_node_state state = { node->pending, node->unlinked, node->version, node->size };
	pthread_mutex_unlock(&face->lock);
	return state;
}

void vf_node_is_pending(struct vf_face *face, struct vf_node *node)
{
	pthread_mutex_lock(&face->lock);
	node->pending = true;
	pthread_mutex_unlock(&face->lock);
}

void vf_node_resized(struct vf_face *face, struct vf_node *node, uint64_t size)
{
	pthread_mutex_lock(&face->lock);
	bool changed = node->size != size;
	node->size = size;
	pthread_mutex_unlock(&face->lock);
	if (changed)
		fuse_lowlevel_notify_inval_inode(face->session, vf_node_id(face, node), -1, 0);
}

void vf_node_flushed(struct vf_face *face, struct vf_node *node)
{
	pthread_mutex_lock(&face->lock);
	node->flushed = true;
	pthread_mutex_unlock(&face->lock);
}

void vf_node_committed(struct vf_face *face, struct vf_node *node, uint64_t ino, uint64_t version, uint64_t size, int64_t mtime_ns)
{
	pthread_mutex_lock(&face->lock);
	node->pending = node->dirty = false;
	if (node->readers == 0) {
		node->ino = ino;
		node->version = version;
		node->size = size;
		node->mtime_ns = node->ctime_ns = mtime_ns;
	}
	pthread_mutex_unlock(&face->lock);
}

bool vf_node_touched(struct vf_face *face, struct vf_node *node, int64_t mtime_ns)
{
	pthread_mutex_lock(&face->lock);
	bool waits = node->writers && (node->dirty || node->pending);
	node->mtime_ns = mtime_ns;
	node->ctime_ns = vf_clock_real_ns();
	if (node->dirty && node->writers)
		node->mtime_wish_ns = mtime_ns;
	pthread_mutex_unlock(&face->lock);
	return waits;
}

int64_t vf_node_take_wish(struct vf_face *face, struct vf_node *node)
{
	pthread_mutex_lock(&face->lock);
	int64_t wish = node->mtime_wish_ns;
	node->mtime_wish_ns = 0;
	pthread_mutex_unlock(&face->lock);
	return wish;
}

#define TOLD_MAX 64u

void vf_node_unlinked(struct vf_face *face, enum vf_row_id row, struct vf_site *site, struct vf_span name)
{
	const struct vf_row *kind = &vf_tree[row];
	fuse_ino_t told[TOLD_MAX];
	size_t n = 0;

	pthread_mutex_lock(&face->lock);
	for (struct vf_node *node = *chain_of(face, hash_of(kind, site, name)); node; node = node->next) {
		if (!is_named(node, kind, site, name))
			continue;
		node->unlinked = true;
		node->attached = false;
		/* The kernel itself counts down only the version that it unlinks. */
		if (node->readers && n < TOLD_MAX)
			told[n++] = vf_node_id(face, node);
	}
	pthread_mutex_unlock(&face->lock);
	for (size_t i = 0; i < n; i++)
		fuse_lowlevel_notify_inval_inode(face->session, told[i], -1, 0);
}

void vf_node_detached(struct vf_face *face, enum vf_row_id row, struct vf_site *site, struct vf_span name)
{
	pthread_mutex_lock(&face->lock);
	struct vf_node *node = *find(face, &vf_tree[row], site, name);
	if (node)
		node->attached = false;
	pthread_mutex_unlock(&face->lock);
}

struct vf_rendering *vf_node_rendering(struct vf_face *face, struct vf_node *node)
{
	pthread_mutex_lock(&face->lock);
	struct vf_rendering *rendering = node->rendering;
	if (rendering)
		rendering->users++;
	pthread_mutex_unlock(&face->lock);
	return rendering;
}

uint64_t vf_nodes_count(struct vf_face *face)
{
	pthread_mutex_lock(&face->lock);
	uint64_t n = face->nnodes;
	pthread_mutex_unlock(&face->lock);
	return n;
}

void vf_nodes_stale(struct vf_face *face, struct vf_site *site)
{
	struct vf_buf ids = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;

	pthread_mutex_lock(&face->lock);
	for (size_t i = 0; i < face->nchains; i++)
		for (struct vf_node *node = face->chains[i]; node; node = node->next)
			if (node->site == site) {
				uint64_t id = vf_node_id(face, node);
				/* Out of memory: those left out are asked for again when their second is over. */
				vf_buf_put(&ids, &id, sizeof id, &err);
			}
	pthread_mutex_unlock(&face->lock);
	for (size_t i = 0; i + 8 <= ids.len; i += 8) {
		uint64_t id;
		memcpy(&id, ids.data + i, sizeof id);
		fuse_lowlevel_notify_inval_inode(face->session, id, -1, 0);
	}
	vf_buf_free(&ids);
}

/* ---- names for messages ---- */

static const char *dir_of(enum vf_row_id row)
{
	const struct vf_row *parent = &vf_tree[vf_tree[row].parent];

	return parent->name ? parent->name : "";
}

static const char *ending_of(const struct vf_node *node)
{
	if (node->row == &vf_tree[VF_ROW_RECORD])
		return ".msgpack";
	return node->row == &vf_tree[VF_ROW_RECORD_JSON] ? ".json" : "";
}

/* The last name of the path; a temporary file says itself in which directory it is. */
static void put_name(struct vf_face *face, const struct vf_node *node, char *out, size_t size, const char **dir)
{
	struct vf_buf escaped = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;
	char scratch[256];

	if (node->row->name) {
		snprintf(out, size, "%s", node->row->name);
	} else if (node->scratch) {
		*dir = vf_tree[vf_scratch_where(face, node->scratch, scratch)].name;
		snprintf(out, size, "%s", scratch);
	} else if (vf_key_escape(node->name, &escaped, &err) == 0) {
		snprintf(out, size, "%.*s%s", (int)escaped.len, (char *)escaped.data, ending_of(node));
	}
	vf_buf_free(&escaped);
}

void vf_node_path(struct vf_face *face, const struct vf_node *node, const char *child, char *out, size_t size)
{
	struct vf_site_names names = { "", "", 0 };
	enum vf_row_id row = vf_row_id(node->row);
	char own[600] = "";
	const char *dir = dir_of(row);

	if (node->site)
		vf_site_names(face, node->site, &names);
	if (row != VF_ROW_ROOT && row != VF_ROW_BUCKET && row != VF_ROW_INDEX)
		put_name(face, node, own, sizeof own, &dir);
	if (!dir)
		dir = "";
	snprintf(out, size, "%s%s%s%s%s%s%s%s%s%s", names.bucket[0] ? "/" : "", names.bucket, names.index[0] ? "/" : "", names.index,
	         dir[0] ? "/" : "", dir, own[0] ? "/" : "", own, child ? "/" : "", child ? child : "");
	if (out[0] == '\0')
		snprintf(out, size, "/");
}

/* ---- begin and end of the table ---- */

int vf_nodes_init(struct vf_face *face, struct vf_err *err)
{
	struct vf_found root = { .row = &vf_tree[VF_ROW_ROOT], .ino = 1 };

	face->nchains = CHAINS_MIN;
	face->chains = calloc(face->nchains, sizeof *face->chains);
	if (!face->chains)
		return vf_oom(err);
	face->root = new_node(face, &root);
	if (!face->root)
		return vf_oom(err);
	face->root->ino = 1;
	return 0;
}

void vf_nodes_free(struct vf_face *face)
{
	while (face->all) {
		struct vf_node *node = face->all;
		take_out(face, node);
		free_node(face, node);
	}
	free(face->chains);
	face->chains = NULL;
	face->root = NULL;
}
