/* SPDX-License-Identifier: MIT */
/* Temporary files: what rsync, editors, sed -i and atomic writers write before they rename. In memory, ordinary in every other way, and gone
 * at unmount. */
#include "face_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "vecfs/clock.h"

/* What a file costs its user besides its bytes, so that empty ones are bounded too. */
#define FILE_COST (64u << 10)

#define CHAINS 4096u

struct vf_scratches {
	pthread_mutex_t lock;
	struct vf_scratch *first;              /* the newest */
	struct vf_scratch *chains[CHAINS];     /* by place and name */
	atomic_ullong numbers;
};

int vf_scratches_new(struct vf_scratches **out, struct vf_err *err)
{
	*out = calloc(1, sizeof **out);
	if (!*out)
		return vf_oom(err);
	pthread_mutex_init(&(*out)->lock, NULL);
	return 0;
}

/* The lock is held, or nobody else knows it. */
static void empty(struct vf_scratch *scratch)
{
	if (scratch->emptied)
		return;
	vf_pages_free(&scratch->pages);
	vf_budget_give(scratch->budget, scratch->owner, FILE_COST);
	scratch->emptied = true;
}

void vf_scratch_put(struct vf_scratch *scratch)
{
	if (atomic_fetch_sub(&scratch->users, 1) != 1)
		return;
	empty(scratch);
	vf_writer_unlist(&scratch->writer);
	pthread_mutex_destroy(&scratch->lock);
	pthread_mutex_destroy(&scratch->commits);
	free(scratch);
}

/* Without a name it lives for those who have it open. The kernel may remember its node for long after a rename; that costs nobody anything. */
static void empty_if_left(struct vf_scratch *scratch)
{
	pthread_mutex_lock(&scratch->lock);
	if (!scratch->listed && scratch->opens == 0)
		empty(scratch);
	pthread_mutex_unlock(&scratch->lock);
}

/* What was taken out; NULL: nothing. */
static void leave(struct vf_scratch *scratch)
{
	if (!scratch)
		return;
	empty_if_left(scratch);
	vf_scratch_put(scratch);
}

enum vf_row_id vf_scratch_where(struct vf_face *face, const struct vf_scratch *scratch, char name[256])
{
	pthread_mutex_lock(&face->scratches->lock);
	enum vf_row_id dir = scratch->dir;
	memcpy(name, scratch->name, sizeof scratch->name);
	pthread_mutex_unlock(&face->scratches->lock);
	return dir;
}

void vf_scratches_free(struct vf_scratches **scratches)
{
	if (!*scratches)
		return;
	while ((*scratches)->first) {
		struct vf_scratch *next = (*scratches)->first->next;
		vf_scratch_put((*scratches)->first);
		(*scratches)->first = next;
	}
	pthread_mutex_destroy(&(*scratches)->lock);
	free(*scratches);
	*scratches = NULL;
}

/* ---- the table; its lock is held by those below ---- */

static struct vf_scratch **chain_of(struct vf_scratches *all, uint64_t site_id, enum vf_row_id dir, const char *name)
{
	return &all->chains[(vf_hash_bytes(vf_span_str(name)) + 31 * site_id + dir) % CHAINS];
}

static struct vf_scratch *find(struct vf_scratches *all, const struct vf_node *dir, const char *name)
{
	enum vf_row_id row = vf_row_id(dir->row);
	struct vf_scratch *s = *chain_of(all, dir->site->id, row, name);

	while (s && (s->site_id != dir->site->id || s->dir != row || strcmp(s->name, name) != 0))
		s = s->chained;
	return s;
}

static void chain(struct vf_scratches *all, struct vf_scratch *scratch)
{
	struct vf_scratch **at = chain_of(all, scratch->site_id, scratch->dir, scratch->name);

	scratch->chained = *at;
	*at = scratch;
}

static void unchain(struct vf_scratches *all, struct vf_scratch *scratch)
{
	struct vf_scratch **at = chain_of(all, scratch->site_id, scratch->dir, scratch->name);

	while (*at != scratch)
		at = &(*at)->chained;
	*at = scratch->chained;
}

/* To be left when the lock is given back. */
static struct vf_scratch *take_out(struct vf_scratches *all, struct vf_scratch *scratch)
{
	if (!scratch)
		return NULL;
	unchain(all, scratch);
	if (scratch->before)
		scratch->before->next = scratch->next;
	else
		all->first = scratch->next;
	if (scratch->next)
		scratch->next->before = scratch->before;
	scratch->next = NULL;
	scratch->listed = false;
	return scratch;
}

static struct vf_scratch *make(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode)
{
	struct vf_scratches *all = call->face->scratches;
	struct vf_scratch *scratch;

	if (vf_budget_take(call->face->budget, call->uid, FILE_COST, &call->err))
		return NULL;
	scratch = calloc(1, sizeof *scratch);
	if (!scratch) {
		vf_budget_give(call->face->budget, call->uid, FILE_COST);
		vf_oom(&call->err);
		return NULL;
	}
	scratch->budget = call->face->budget;
	scratch->owner = call->uid;
	pthread_mutex_init(&scratch->lock, NULL);
	pthread_mutex_init(&scratch->commits, NULL);
	vf_pages_init(&scratch->pages, call->face->budget, call->uid);
	scratch->users = 1;
	scratch->site_id = dir->site->id;
	scratch->dir = vf_row_id(dir->row);
	scratch->ino = VF_INO_HASHED | 1ull << 62 | ++all->numbers;
	scratch->listed = true;
	scratch->uid = call->uid;
	scratch->gid = call->gid;
	scratch->mode = mode & 07777;
	scratch->mtime_ns = scratch->ctime_ns = vf_clock_real_ns();
	snprintf(scratch->name, sizeof scratch->name, "%s", name);
	scratch->next = all->first;
	if (scratch->next)
		scratch->next->before = scratch;
	all->first = scratch;
	chain(all, scratch);
	return scratch;
}

struct vf_scratch *vf_scratch_find(struct vf_face *face, struct vf_node *dir, const char *name)
{
	pthread_mutex_lock(&face->scratches->lock);
	struct vf_scratch *scratch = find(face->scratches, dir, name);
	if (scratch)
		scratch->users++;
	pthread_mutex_unlock(&face->scratches->lock);
	return scratch;
}

/* ---- in its directory ---- */

static void found_of(struct vf_call *call, struct vf_node *dir, struct vf_scratch *scratch, struct vf_found *out)
{
	*out = (struct vf_found){ .row = &vf_tree[VF_ROW_SCRATCH], .site = vf_site_use(call->face, dir->site), .scratch = scratch };
	/* The inode number is its identity: a rename does not change it. */
	out->name = vf_span(&scratch->ino, sizeof scratch->ino);
	out->ino = scratch->ino;
}

int vf_scratch_lookup(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_found *out)
{
	struct vf_scratch *scratch;

	if (strlen(name) > VF_FILE_NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	scratch = vf_scratch_find(call->face, dir, name);
	if (!scratch)
		return -ENOENT;
	found_of(call, dir, scratch, out);
	return 0;
}

static struct vf_scratch *find_or_make(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode, bool *made)
{
	struct vf_scratches *all = call->face->scratches;

	pthread_mutex_lock(&all->lock);
	struct vf_scratch *scratch = find(all, dir, name);
	*made = !scratch;
	if (!scratch)
		scratch = make(call, dir, name, mode);
	if (scratch)
		scratch->users++;
	pthread_mutex_unlock(&all->lock);
	return scratch;
}

static int open_scratch(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out);

int vf_scratch_create(struct vf_call *call, struct vf_node *dir, const char *name, mode_t mode, int flags,
                      struct vf_node **node, struct vf_handle **handle)
{
	struct vf_found found;
	bool made;

	if (strlen(name) > VF_FILE_NAME_BYTES_MAX)
		return vf_fail(&call->err, ENAMETOOLONG, "a file name has at most %u bytes, this one has %zu", VF_FILE_NAME_BYTES_MAX, strlen(name));
	struct vf_scratch *scratch = find_or_make(call, dir, name, mode, &made);
	if (!scratch)
		return -call->err.code;
	if (!made && (flags & O_EXCL)) {
		vf_scratch_put(scratch);
		return -EEXIST;
	}
	found_of(call, dir, scratch, &found);
	int rc = vf_node_settle(call, &found, node);
	if (rc)
		return rc;
	rc = open_scratch(call, *node, flags, handle);
	if (rc)
		vf_node_forget(call->face, *node, 1);
	return rc;
}

int vf_scratch_unlink(struct vf_call *call, struct vf_node *dir, const char *name)
{
	struct vf_scratches *all = call->face->scratches;

	pthread_mutex_lock(&all->lock);
	struct vf_scratch *scratch = take_out(all, find(all, dir, name));
	pthread_mutex_unlock(&all->lock);
	int rc = scratch ? 0 : -ENOENT;
	leave(scratch);
	return rc;
}

int vf_scratch_rename(struct vf_call *call, struct vf_node *from_dir, const char *from, struct vf_node *to_dir, const char *to, bool replace)
{
	struct vf_scratches *all = call->face->scratches;
	struct vf_scratch *replaced = NULL;
	int rc = 0;

	pthread_mutex_lock(&all->lock);
	struct vf_scratch *scratch = find(all, from_dir, from), *there = find(all, to_dir, to);
	if (!scratch)
		rc = -ENOENT;
	else if (there && !replace)
		rc = -EEXIST;
	if (rc == 0 && there != scratch) {
		replaced = take_out(all, there);
		unchain(all, scratch);
		scratch->dir = vf_row_id(to_dir->row);
		snprintf(scratch->name, sizeof scratch->name, "%s", to);
		chain(all, scratch);
	}
	pthread_mutex_unlock(&all->lock);
	leave(replaced);
	return rc;
}

int vf_scratch_keep(struct vf_call *call, struct vf_node *dir, const char *name, struct vf_span bytes, int64_t mtime_ns)
{
	struct vf_scratches *all = call->face->scratches;
	struct stat stat;

	vf_node_stat(call->face, dir, &stat);
	vf_scratch_unlink(call, dir, name);
	pthread_mutex_lock(&all->lock);
	struct vf_scratch *scratch = make(call, dir, name, stat.st_mode & 0666);
	int rc = scratch ? vf_pages_write(&scratch->pages, bytes, 0, &call->err) : -call->err.code;
	if (scratch && mtime_ns) {
		scratch->mtime_ns = mtime_ns;
		scratch->mtime_set = true;
	}
	struct vf_scratch *failed = scratch && rc ? take_out(all, scratch) : NULL;
	pthread_mutex_unlock(&all->lock);
	leave(failed);
	return rc;
}

int vf_scratch_bytes(struct vf_call *call, struct vf_scratch *scratch, uint64_t max, struct vf_buf *out, int64_t *mtime_ns)
{
	pthread_mutex_lock(&scratch->lock);
	uint64_t size = scratch->pages.size;
	int rc = size > max ? vf_fail(&call->err, EFBIG, "the file has at most %llu bytes, this one has %llu", (unsigned long long)max,
	                              (unsigned long long)size)
	                    : vf_buf_reserve(out, size, &call->err);
	if (rc == 0)
		out->len = vf_pages_read(&scratch->pages, 0, out->data, size);
	*mtime_ns = scratch->mtime_set ? scratch->mtime_ns : 0;
	pthread_mutex_unlock(&scratch->lock);
	return rc;
}

uint64_t vf_scratch_size(struct vf_scratch *scratch)
{
	pthread_mutex_lock(&scratch->lock);
	uint64_t size = scratch->pages.size;
	pthread_mutex_unlock(&scratch->lock);
	return size;
}

/* From the newest to the oldest: the list begins with the newest, and their numbers grow. */
int vf_scratch_list(struct vf_call *call, struct vf_node *dir, struct vf_dir *list)
{
	struct vf_scratches *all = call->face->scratches;
	uint64_t last = UINT64_MAX;

	if (list->phase == VF_PHASE_SCRATCH)
		memcpy(&last, list->after.data, sizeof last);
	list->phase = VF_PHASE_SCRATCH;
	pthread_mutex_lock(&all->lock);
	for (struct vf_scratch *s = all->first; s && !vf_dir_full(list); s = s->next) {
		if (s->site_id != dir->site->id || s->dir != vf_row_id(dir->row) || s->ino >= last)
			continue;
		if (!vf_dir_add(list, vf_span_str(s->name), s->ino, S_IFREG))
			break;
		last = s->ino;
	}
	pthread_mutex_unlock(&all->lock);
	list->end = !vf_dir_full(list);
	return vf_dir_after(list, vf_span(&last, sizeof last), &call->err);
}

void vf_scratch_drop_site(struct vf_face *face, struct vf_site *site)
{
	struct vf_scratches *all = face->scratches;
	struct vf_scratch *gone = NULL;

	pthread_mutex_lock(&all->lock);
	for (struct vf_scratch *s = all->first, *next; s; s = next) {
		next = s->next;
		if (s->site_id == site->id) {
			take_out(all, s)->next = gone;
			gone = s;
		}
	}
	pthread_mutex_unlock(&all->lock);
	for (struct vf_scratch *next; gone; gone = next) {
		next = gone->next;
		leave(gone);
	}
}

/* ---- open ---- */

static void touch_now(struct vf_scratch *scratch)
{
	scratch->mtime_ns = scratch->ctime_ns = vf_clock_real_ns();
	scratch->mtime_set = false;
}

static int write_scratch(struct vf_call *call, struct vf_handle *handle, struct vf_span data, uint64_t offset)
{
	struct vf_scratch *scratch = handle->node->scratch;

	pthread_mutex_lock(&scratch->lock);
	if (handle->flags & O_APPEND)
		offset = scratch->pages.size;
	int rc = vf_pages_write(&scratch->pages, data, offset, &call->err);
	if (rc == 0)
		touch_now(scratch);
	bool committed = scratch->committed;
	pthread_mutex_unlock(&scratch->lock);
	return rc || !committed ? rc : vf_scratch_written_on(call, scratch, handle->node->site);
}

static void read_scratch(struct vf_call *call, struct vf_handle *handle, size_t size, uint64_t offset)
{
	struct vf_scratch *scratch = handle->node->scratch;
	void *out = malloc(size ? size : 1);

	if (!out) {
		fuse_reply_err(call->req, ENOMEM);
		return;
	}
	pthread_mutex_lock(&scratch->lock);
	size_t n = vf_pages_read(&scratch->pages, offset, out, size);
	pthread_mutex_unlock(&scratch->lock);
	vf_call_data(call, out, n);
	free(out);
}

static int cut(struct vf_call *call, struct vf_node *node, uint64_t size)
{
	struct vf_scratch *scratch = node->scratch;

	pthread_mutex_lock(&scratch->lock);
	int rc = scratch->emptied ? -ESTALE : vf_pages_cut(&scratch->pages, size, &call->err);
	if (rc == 0)
		touch_now(scratch);
	bool committed = scratch->committed;
	pthread_mutex_unlock(&scratch->lock);
	return rc || !committed ? rc : vf_scratch_written_on(call, scratch, node->site);
}

static int truncate_path(struct vf_call *call, struct vf_node *node, uint64_t size)
{
	return cut(call, node, size);
}

static int truncate_handle(struct vf_call *call, struct vf_handle *handle, uint64_t size)
{
	return cut(call, handle->node, size);
}

static int flush_scratch(struct vf_call *call, struct vf_handle *handle)
{
	(void)call, (void)handle;
	return 0;
}

static bool hold_open(struct vf_scratch *scratch)
{
	pthread_mutex_lock(&scratch->lock);
	bool there = !scratch->emptied;
	scratch->opens += there;
	pthread_mutex_unlock(&scratch->lock);
	return there;
}

static void close_scratch(struct vf_scratch *scratch)
{
	pthread_mutex_lock(&scratch->lock);
	bool left = --scratch->opens == 0 && scratch->committed;
	pthread_mutex_unlock(&scratch->lock);
	if (left)
		vf_scratch_left(scratch);
	empty_if_left(scratch);
}

static void release_scratch(struct vf_call *call, struct vf_handle *handle)
{
	close_scratch(handle->node->scratch);
	vf_handle_free(call, handle);
}

static const struct vf_handle_ops scratch_ops = {
	.read = read_scratch, .write = write_scratch, .flush = flush_scratch, .truncate = truncate_handle, .release = release_scratch,
};

static int open_scratch(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct vf_scratch *scratch = node->scratch;

	/* Its name went since it was looked up. */
	if (!hold_open(scratch))
		return -ESTALE;
	int rc = vf_handle_new(call, node, flags, sizeof **out, &scratch_ops, out);
	if (rc == 0) {
		(*out)->direct = (*out)->noflush = true;
		rc = vf_handle_join(call, *out);
		if (rc == 0 && (flags & O_TRUNC) && vf_flags_write(flags))
			rc = cut(call, node, 0);
		if (rc)
			vf_handle_free(call, *out);
	}
	if (rc)
		close_scratch(scratch);
	return rc;
}

const struct vf_file_ops vf_scratch_file = { .open = open_scratch, .truncate = truncate_path };
