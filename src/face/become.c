/* SPDX-License-Identifier: MIT */
/* A temporary file that was given a proper name is a record, a saved question or the config from then on. Whoever still has it open may write on: that
 * goes where the file went, write by write, since nobody hears of its close. */
#include "face_internal.h"

#include <errno.h>

static uint64_t bytes_max(enum vf_row_id dir)
{
	switch (dir) {
	case VF_ROW_VECTORS: return VF_RECORD_FILE_BYTES_MAX;
	case VF_ROW_QUERIES: return VF_SAVED_QUESTION_BYTES_MAX;
	default:             return VF_CONFIG_BYTES_MAX;
	}
}

static int put_saved(struct vf_call *call, const char *name, struct vf_span bytes, int64_t mtime_ns, bool replace)
{
	struct vf_saved saved;

	if (!replace && vf_index_saved_stat(call->index, name, &saved, &call->err) == 0)
		return vf_fail(&call->err, EEXIST, "%s is there already", name);
	int rc = vf_index_saved_put(call->index, name, bytes, &call->err);
	return rc || !mtime_ns ? rc : vf_index_saved_set_mtime(call->index, name, mtime_ns, &call->err);
}

static int configure(struct vf_call *call, struct vf_span bytes, int64_t mtime_ns)
{
	int rc = vf_index_configure(call->index, bytes, &call->err);

	return rc || !mtime_ns ? rc : vf_index_set_config_mtime(call->index, mtime_ns, &call->err);
}

static int put(struct vf_call *call, struct vf_site *site, enum vf_row_id dir, const char *name, size_t len, struct vf_span bytes, int64_t mtime_ns,
               bool replace)
{
	int rc = vf_call_hold(call, site);

	if (rc)
		return rc;
	switch (dir) {
	case VF_ROW_VECTORS: return vf_record_commit(call, site, bytes, vf_span(name, len), mtime_ns, replace);
	case VF_ROW_QUERIES: return put_saved(call, name, bytes, mtime_ns, replace);
	default:             return configure(call, bytes, mtime_ns);
	}
}

/* `name` has a NUL behind it. */
static int commit(struct vf_call *call, struct vf_scratch *scratch, struct vf_site *site, enum vf_row_id dir, struct vf_span name, bool replace)
{
	struct vf_buf bytes = VF_BUF_INIT;
	int64_t mtime_ns = 0;
	int rc = vf_scratch_bytes(call, scratch, bytes_max(dir), &bytes, &mtime_ns);

	if (rc == 0)
		rc = put(call, site, dir, (const char *)name.data, name.len, vf_buf_span(&bytes), mtime_ns, replace);
	vf_buf_free(&bytes);
	return rc;
}

static void set_committed(struct vf_scratch *scratch, bool committed)
{
	pthread_mutex_lock(&scratch->lock);
	scratch->committed = committed;
	pthread_mutex_unlock(&scratch->lock);
}

/* `commits` is held. */
static int become(struct vf_call *call, struct vf_scratch *scratch, struct vf_site *site, enum vf_row_id dir, struct vf_span name, bool replace)
{
	struct vf_err err = VF_ERR_INIT;

	vf_writer_unlist(&scratch->writer);
	/* First: what is written after the bytes were taken waits for this commit, and is then one of its own. */
	set_committed(scratch, true);
	vf_names_lock(call->face, site, name, name);
	int rc = commit(call, scratch, site, dir, name, replace);
	if (rc == 0) {
		vf_writers_moved(call->face, site, dir, name, vf_span(NULL, 0), true);
		/* Out of memory: it goes on without a name. */
		(void)vf_writer_list(call->face, &scratch->writer, site, dir, name, &err);
	} else {
		set_committed(scratch, false);
	}
	vf_names_unlock(call->face, site, name, name);
	return rc;
}

int vf_scratch_become(struct vf_call *call, struct vf_scratch *scratch, struct vf_site *site, enum vf_row_id dir, struct vf_span name, bool replace)
{
	struct vf_span copy = vf_arena_copy(&call->arena, name);

	if (!copy.data)
		return vf_oom(&call->err);
	pthread_mutex_lock(&scratch->commits);
	int rc = become(call, scratch, site, dir, copy, replace);
	pthread_mutex_unlock(&scratch->commits);
	return rc;
}

/* `commits` is held. 1: nothing was to be taken. */
static int write_on(struct vf_call *call, struct vf_scratch *scratch, struct vf_site *site)
{
	struct vf_span name;

	if (!scratch->writer.all)
		return 1;
	int rc = vf_writer_hold(call, &scratch->writer, &name);
	/* Cut to nothing, a record stays as it is, and what is written next replaces it. */
	if (rc == 0 && (name.len == 0 || (scratch->writer.dir == VF_ROW_VECTORS && vf_scratch_size(scratch) == 0)))
		rc = 1;
	if (rc == 0)
		rc = commit(call, scratch, site, scratch->writer.dir, name, true);
	vf_writer_release(&scratch->writer);
	return rc;
}

int vf_scratch_written_on(struct vf_call *call, struct vf_scratch *scratch, struct vf_site *site)
{
	pthread_mutex_lock(&scratch->commits);
	int rc = write_on(call, scratch, site);
	pthread_mutex_unlock(&scratch->commits);
	if (rc == 0)
		vf_site_changed(call->face, site, call->index);
	return rc < 0 ? rc : 0;
}

void vf_scratch_left(struct vf_scratch *scratch)
{
	pthread_mutex_lock(&scratch->commits);
	pthread_mutex_lock(&scratch->lock);
	bool open = scratch->opens > 0;
	pthread_mutex_unlock(&scratch->lock);
	if (!open)
		vf_writer_unlist(&scratch->writer);
	pthread_mutex_unlock(&scratch->commits);
}
