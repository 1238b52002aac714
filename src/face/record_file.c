/* SPDX-License-Identifier: MIT */
/* vectors/KEY.msgpack and KEY.json: one record a file.
 *
 * Reading serves the bytes of one version. Writing is shadowed: bytes are staged in the handle, without any transaction, and replace the record
 * when they are complete and valid and the file is closed or synced. The write that completes the value already checks it, for the programs
 * that ignore close(2); its failure stays until the file is truncated. */
#include "face_internal.h"

#include <errno.h>
#include <fcntl.h>

struct writer {
	struct vf_shadow shadow;
	bool in_order;                     /* written from the first byte on without a gap: the scanner has seen all of it */
	bool guessed, complete;
	struct vf_scanner scanner;
};

/* ---- finding and reading ---- */

static enum vf_format format_of(const struct vf_row *row)
{
	return row == &vf_tree[VF_ROW_RECORD] ? VF_MSGPACK : VF_JSON;
}

/* The two forms have other bytes, so they are two files: tar would take the second of one number for a link to the first. */
static uint64_t ino_of(const struct vf_row *row, const struct vf_site *site, const struct vf_record_stat *stat)
{
	return format_of(row) == VF_MSGPACK ? vf_ino_local(site, stat->ino) : vf_ino_hash(row, site, vf_span(&stat->ino, sizeof stat->ino));
}

static void fill(struct vf_found *found, const struct vf_record_stat *stat)
{
	found->ino = ino_of(found->row, found->site, stat);
	found->mtime_ns = stat->mtime_ns;
	found->ctime_ns = stat->ctime_ns;
}

static int render_into(struct vf_call *call, struct vf_site *site, struct vf_span key, enum vf_format format, struct vf_buf *out,
                       struct vf_record_stat *stat)
{
	struct vf_record record;
	int rc = vf_call_hold(call, site);

	if (rc == 0)
		rc = vf_index_get(call->index, key, &call->arena, &record, stat, &call->err);
	return rc ? rc : vf_record_render(&record, format, out, &call->err);
}

static int render_json(struct vf_call *call, struct vf_site *site, struct vf_span name, struct vf_spool *out)
{
	return render_into(call, site, name, VF_JSON, &out->buf, NULL);
}

/* The bytes of the record as it is now, and of what version they are. */
static int snapshot(struct vf_call *call, const struct vf_row *row, struct vf_site *site, struct vf_span key, struct vf_rendering **out)
{
	struct vf_record_stat stat;
	struct vf_rendering *r = vf_rendering_new(call->face);

	if (!r)
		return vf_oom(&call->err);
	r->finished = true;
	int rc = render_into(call, site, key, format_of(row), &r->spool.buf, &stat);
	if (rc) {
		vf_rendering_put(r);
		return rc;
	}
	r->of_version = true;
	r->version = stat.version;
	r->ino = ino_of(row, site, &stat);
	r->mtime_ns = stat.mtime_ns;
	*out = r;
	return 0;
}

/* For a process that found another version when it came to open what it had looked up. */
static int find_with_bytes(struct vf_call *call, struct vf_found *found)
{
	int rc = snapshot(call, found->row, found->site, found->name, &found->rendering);

	if (rc) {
		vf_found_drop(call->face, found);
		return rc;
	}
	found->version = found->rendering->version;
	found->size = vf_spool_size(&found->rendering->spool);
	found->mtime_ns = found->ctime_ns = found->rendering->mtime_ns;
	return 0;
}

int vf_record_find(struct vf_call *call, struct vf_found *found)
{
	struct vf_record_stat stat;
	struct vf_err err = VF_ERR_INIT;
	int rc = vf_call_hold(call, found->site);

	if (rc == 0)
		rc = vf_removals_has(call->face, found->site, found->name) ? -ENOENT : vf_index_stat(call->index, found->name, &stat, &err);
	if (rc == -ENOENT && call->index) {
		found->pending = true;
		return 0;
	}
	if (rc) {
		if (err.code)
			call->err = err;
		vf_found_drop(call->face, found);
		return rc;
	}
	fill(found, &stat);
	if (format_of(found->row) == VF_JSON)
		return vf_computed_find(call, found, stat.version);
	found->version = stat.version;
	found->size = vf_record_msgpack_size(stat.key_bytes, stat.dim, stat.metadata_bytes);
	return vf_node_was_refused(call, found) ? find_with_bytes(call, found) : 0;
}

static int open_reader(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct vf_rendering *rendering = NULL;
	bool pending = vf_node_state(call->face, node).pending;
	int rc = 0;

	/* Being created by another: there is nothing to read yet. */
	if (pending)
		rc = (rendering = vf_rendering_new(call->face)) ? 0 : vf_oom(&call->err);
	else if (!(rendering = vf_node_rendering(call->face, node)))
		rc = snapshot(call, node->row, node->site, node->name, &rendering);
	if (rc)
		return rc;
	rc = vf_snapshot_open(call, node, flags, rendering, out);
	if (rc == 0 && pending)
		(*out)->keep = false;
	return rc;
}

/* ---- checking what is staged ---- */

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int decode(struct vf_call *call, struct vf_index *index, struct vf_site *site, struct vf_span bytes, struct vf_span key, struct vf_arena *arena,
                  struct vf_record *record)
{
	struct vf_site_names names;
	struct vf_config config;
	struct vf_value value;
	enum vf_format format;
	int rc;

	if (!vf_format_guess(bytes, &format))
		return vf_fail(&call->err, EINVAL, "the file holds no record, only white space");
	if ((rc = vf_value_decode(format, bytes, arena, &value, &call->err)) || (rc = vf_record_from_value(&value, arena, record, &call->err)))
		return rc;
	record->key = key;
	if ((rc = vf_index_config(index, &config, &call->err)))
		return rc;
	vf_site_names(call->face, site, &names);
	rc = vf_record_check(record, &config, names.index, &call->err);
	vf_config_free(&config);
	return rc;
}

/* Looks at bytes that came behind all before. Complete: checks the record. */
static int scan(struct vf_call *call, struct writer *w, struct vf_span data)
{
	const struct vf_handle *handle = &w->shadow.handle;
	struct vf_span staged = vf_stage_span(&w->shadow.stage);
	size_t taken = 0;
	int rc;

	if (!w->guessed) {
		enum vf_format format;
		if (!vf_format_guess(staged, &format))
			return 0;
		vf_scanner_init(&w->scanner, format);
		w->guessed = true;
		data = staged;
	}
	if (!w->complete) {
		rc = vf_scanner_feed(&w->scanner, data, &taken, &call->err);
		if (rc < 0)
			return rc;
		if (rc == VF_SCAN_MORE)
			return 0;
		w->complete = true;
	}
	for (size_t i = taken; i < data.len; i++)
		if (w->scanner.format != VF_JSON || !is_blank(data.data[i]))
			return vf_fail_at(&call->err, EINVAL, VF_PLACE_BYTE, staged.len - data.len + i, "there are bytes behind the end of the record");
	struct vf_record record;
	return decode(call, handle->index, handle->node->site, staged, handle->node->name, &call->arena, &record);
}

static void restart_scan(struct writer *w)
{
	w->in_order = true;
	w->guessed = w->complete = false;
}

static int load_record(struct vf_call *call, struct vf_shadow *shadow, struct vf_buf *out)
{
	struct vf_node *node = shadow->handle.node;
	struct vf_span key;
	int rc = vf_writer_hold(call, &shadow->name, &key);

	if (rc == 0)
		rc = key.len ? render_into(call, node->site, key, format_of(node->row), out, NULL) : -ENOENT;
	vf_writer_release(&shadow->name);
	return rc;
}

static int write_staged(struct vf_call *call, struct writer *w, struct vf_span data, uint64_t offset)
{
	int rc = vf_shadow_load(call, &w->shadow);

	if (rc)
		return rc;
	uint64_t end = w->shadow.stage.bytes.len;
	if (w->shadow.handle.flags & O_APPEND)
		offset = end;
	if (offset == 0 && data.len >= end)
		restart_scan(w);
	else if (offset != end)
		w->in_order = false;
	rc = vf_stage_write(&w->shadow.stage, data, offset, &call->err);
	if (rc)
		return rc;
	w->shadow.dirty = true;
	vf_node_staged(call->face, w->shadow.handle.node, w->shadow.stage.bytes.len, true);
	return w->in_order ? scan(call, w, data) : 0;
}

static int write_record(struct vf_call *call, struct vf_handle *handle, struct vf_span data, uint64_t offset)
{
	struct writer *w = (struct writer *)handle;

	if (w->shadow.failed.code)
		return vf_shadow_say_again(call, &w->shadow);
	int rc = write_staged(call, w, data, offset);
	if (rc)
		w->shadow.failed = call->err;
	return rc;
}

/* ---- committing ---- */

static int put(struct vf_call *call, struct vf_index *index, const struct vf_record *record, struct vf_receipt *receipt)
{
	struct vf_batch *batch = NULL;
	int rc;

	(void)((rc = vf_batch_new(index, &batch, &call->err)) || (rc = vf_batch_put(batch, record, &call->err)) ||
	       (rc = vf_batch_apply(batch, receipt, &call->err)));
	vf_batch_free(&batch);
	if (rc == 0 && receipt->skipped)
		rc = vf_fail(&call->err, EEXIST, "record '%.*s' is there already", VF_SPAN_ARG(record->key));
	return rc;
}

static int commit_bytes(struct vf_call *call, struct vf_index *index, struct vf_site *site, struct vf_span bytes, struct vf_span key,
                        int64_t mtime_ns, bool replace)
{
	struct vf_receipt receipt = { 0 };
	struct vf_record record;
	int rc = decode(call, index, site, bytes, key, &call->arena, &record);

	if (rc)
		return rc;
	record.mtime_ns = mtime_ns;
	record.if_absent |= !replace;
	rc = put(call, index, &record, &receipt);
	if (rc == 0)
		vf_site_changed(call->face, site, index);
	return rc;
}

int vf_record_commit(struct vf_call *call, struct vf_site *site, struct vf_span bytes, struct vf_span key, int64_t mtime_ns, bool replace)
{
	int rc = vf_call_hold(call, site);

	return rc ? rc : commit_bytes(call, call->index, site, bytes, key, mtime_ns, replace);
}

/* The node goes on as the version that was committed. */
static void renew_node(struct vf_call *call, struct writer *w, struct vf_span key)
{
	struct vf_node *node = w->shadow.handle.node;
	struct vf_record_stat stat;
	struct vf_err err = VF_ERR_INIT;

	if (vf_index_stat(w->shadow.handle.index, key, &stat, &err))
		return;
	uint64_t size = vf_record_msgpack_size(stat.key_bytes, stat.dim, stat.metadata_bytes);
	/* The JSON form has no size without rendering: the next lookup finds it. */
	if (format_of(node->row) == VF_JSON)
		size = w->shadow.stage.bytes.len, stat.version = 0;
	vf_node_committed(call->face, node, ino_of(node->row, node->site, &stat), stat.version, size, stat.mtime_ns);
}

static int commit_as(struct vf_call *call, struct writer *w, struct vf_span key)
{
	const struct vf_handle *handle = &w->shadow.handle;
	int64_t mtime_ns = vf_node_take_wish(call->face, handle->node);
	int rc = commit_bytes(call, handle->index, handle->node->site, vf_stage_span(&w->shadow.stage), key, mtime_ns, true);

	if (rc == 0)
		renew_node(call, w, key);
	return rc;
}

/* Without a name: nobody can see it, as with any unlinked file. */
static int commit(struct vf_call *call, struct writer *w)
{
	struct vf_span key;
	int rc = vf_writer_hold(call, &w->shadow.name, &key);

	if (rc == 0 && key.len)
		rc = commit_as(call, w, key);
	vf_writer_release(&w->shadow.name);
	w->shadow.dirty &= rc != 0;
	return rc;
}

static int incomplete(struct vf_call *call, struct writer *w)
{
	if (!vf_handle_flush_is_final(call, &w->shadow.handle))
		return 0;
	size_t bytes = w->shadow.stage.bytes.len;
	return vf_fail_at(&call->err, EINVAL, VF_PLACE_BYTE, bytes, "the record ends after %zu bytes and is not complete", bytes);
}

static int flush_record(struct vf_call *call, struct vf_handle *handle)
{
	struct writer *w = (struct writer *)handle;

	vf_handle_seen(call, handle);
	if (!call->fsync)
		vf_node_flushed(call->face, handle->node);
	if (w->shadow.failed.code)
		return vf_shadow_say_again(call, &w->shadow);
	if (!w->shadow.dirty || w->shadow.stage.bytes.len == 0)
		return 0;
	if (w->in_order && !w->complete)
		return incomplete(call, w);
	int rc = commit(call, w);
	/* Written in no order, it may not be whole yet when a child closes its copy. */
	if (rc == -EINVAL && !w->in_order && !vf_handle_flush_is_final(call, handle)) {
		call->err = (struct vf_err)VF_ERR_INIT;
		rc = 0;
	}
	return rc;
}

static int truncate_record(struct vf_call *call, struct vf_handle *handle, uint64_t size)
{
	struct writer *w = (struct writer *)handle;
	int rc;

	if (size == 0) {
		w->shadow.loaded = true;
		w->shadow.failed.code = 0;
	} else if ((rc = vf_shadow_load(call, &w->shadow))) {
		return rc;
	}
	bool same = size == w->shadow.stage.bytes.len;
	rc = vf_stage_cut(&w->shadow.stage, size, &call->err);
	if (rc || same)
		return rc;
	restart_scan(w);
	w->shadow.dirty = true;
	w->in_order = size == 0;
	vf_node_staged(call->face, handle->node, size, size != 0);
	return 0;
}

static void release_record(struct vf_call *call, struct vf_handle *handle)
{
	vf_shadow_free(call, (struct vf_shadow *)handle);
}

static const struct vf_handle_ops writer_ops = {
	.read = vf_shadow_read, .write = write_record, .flush = flush_record, .truncate = truncate_record, .release = release_record,
};

static const struct vf_shadow_kind record_kind = {
	.ops = &writer_ops, .size = sizeof(struct writer), .bytes_max = VF_RECORD_FILE_BYTES_MAX, .dir = VF_ROW_VECTORS, .load = load_record,
};

static int open_writer(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	struct writer *w;
	int rc = vf_shadow_open(call, node, flags, &record_kind, &w);

	if (rc)
		return rc;
	restart_scan(w);
	*out = &w->shadow.handle;
	return 0;
}

static int open_record(struct vf_call *call, struct vf_node *node, int flags, struct vf_handle **out)
{
	return vf_flags_write(flags) ? open_writer(call, node, flags, out) : open_reader(call, node, flags, out);
}

int vf_record_create(struct vf_call *call, struct vf_node *dir, enum vf_row_id row, struct vf_span key, int flags, struct vf_node **node,
                     struct vf_handle **handle)
{
	struct vf_found found = { .row = &vf_tree[row], .site = vf_site_use(call->face, dir->site), .name = key };
	int rc = vf_record_find(call, &found);

	return rc ? rc : vf_shadow_create(call, &found, flags, open_writer, node, handle);
}

/* ---- by path ---- */

static int truncate_path(struct vf_call *call, struct vf_node *node, uint64_t size)
{
	uint64_t now = vf_node_state(call->face, node).size;

	if (size == 0 || size == now)
		return 0;
	return vf_fail(&call->err, EINVAL, "a record of %llu bytes cannot be cut to %llu", (unsigned long long)now, (unsigned long long)size);
}

/* While it is written the time goes with the commit. */
static int touch(struct vf_call *call, struct vf_node *node, int64_t mtime_ns)
{
	int rc = 0;

	if (!vf_node_touched(call->face, node, mtime_ns)) {
		rc = vf_call_hold(call, node->site);
		if (rc == 0)
			rc = vf_index_set_mtime(call->index, node->name, mtime_ns, &call->err);
	}
	return rc == -ENOENT ? 0 : rc;   /* unlinked meanwhile */
}

const struct vf_file_ops vf_record_file = { .open = open_record, .truncate = truncate_path, .touch = touch };
const struct vf_file_ops vf_record_json_file = { .open = open_record, .render = render_json, .truncate = truncate_path, .touch = touch };
