/* SPDX-License-Identifier: MIT */
/* index.c - an index is made, opened, named and closed. */
#include "vecfs/index.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "early.h"
#include "index_internal.h"
#include "places.h"
#include "range_cache.h"
#include "vecfs/log.h"

/* ---- making ---- */

static int put_format(struct vf_txn *txn, struct vf_err *err)
{
	uint8_t version[4];

	vf_store_u32(version, VF_FORMAT_VERSION);
	return vf_put(txn, VF_T_META, vf_span_str(VF_META_FORMAT), vf_span(version, sizeof version), err);
}

static int put_first_rows(struct vf_txn *txn, struct vf_err *err)
{
	static const struct vf_counters first = { .next_serial = 1, .next_ino = VF_INO_FIRST, .next_version = 1 };
	struct vf_config config;
	struct vf_buf text = VF_BUF_INIT;
	int rc;

	vf_config_init(&config);
	if ((rc = vf_config_render(&config, &text, err)) == 0 && (rc = put_format(txn, err)) == 0 &&
	    (rc = vf_counters_put(txn, &first, err)) == 0)
		rc = vf_put(txn, VF_T_META, vf_span_str(VF_META_CONFIG), vf_buf_span(&text), err);
	vf_buf_free(&text);
	vf_config_free(&config);
	return rc;
}

int vf_index_create(const char *dir, struct vf_err *err)
{
	struct vf_store *store = NULL;
	struct vf_txn *txn = NULL;
	int rc;

	if ((rc = vf_store_open(dir, true, false, &store, err)) == 0 && (rc = vf_txn_write(store, &txn, err)) == 0 &&
	    (rc = put_first_rows(txn, err)) == 0)
		rc = vf_txn_commit(&txn, err);
	vf_txn_end(&txn);
	vf_store_close(&store);
	return rc;
}

/* ---- opening ---- */

int vf_format_check(struct vf_txn *txn, struct vf_err *err)
{
	struct vf_span bytes;
	int rc = vf_get(txn, VF_T_META, vf_span_str(VF_META_FORMAT), &bytes, err);

	if (rc < 0)
		return rc;
	if (rc || bytes.len != 4)
		return vf_fail(err, EIO, "this is no index: its format version is %s", rc ? "missing" : "of the wrong length");
	uint32_t version = vf_load_u32(bytes.data);
	if (version > VF_FORMAT_VERSION)
		return vf_fail(err, EINVAL, "it was written in format %u by a newer vecfs; this one knows formats up to %u", version,
		               VF_FORMAT_VERSION);
	if (version == 0)
		return vf_fail(err, EIO, "format version 0 was never written by any vecfs");
	return 0;
}

static int read_meta(struct vf_index *index, struct vf_err *err)
{
	struct vf_txn *txn = NULL;
	struct vf_counters counters;
	uint64_t deaths;
	int rc;

	if ((rc = vf_txn_read(index->store, &txn, err)) == 0 && (rc = vf_format_check(txn, err)) == 0 &&
	    (rc = vf_counters_get(txn, &counters, err)) == 0 && (rc = vf_deaths_of(txn, &deaths, err)) == 0 &&
	    (rc = vf_part_mtimes_load(index, txn, err)) == 0) {
		atomic_store(&index->unlisted_keys, counters.unlisted_keys);
		atomic_store(&index->version, counters.next_version);
		atomic_store(&index->deaths, deaths);
		atomic_store(&index->deaths_told, deaths);
	}
	vf_txn_end(&txn);
	return rc ? rc : vf_settings_load(index, err);
}

/* What a crash left of a stream. Where it cannot be cleaned away it is in nobody's way. */
static int clean_up(struct vf_index *index, struct vf_err *err)
{
	struct vf_err why = VF_ERR_INIT;

	if (!index->read_only && vf_early_clean(index, &why))
		vf_index_warn(index, "the vectors of a stream that was interrupted stay on disk: %s", why.text);
	return why.code == ENOMEM ? vf_oom(err) : 0;
}

static void init_locks(struct vf_index *index)
{
	pthread_rwlockattr_t attr;

	pthread_mutex_init(&index->small_lock, NULL);
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&index->graph_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

static void destroy(struct vf_index *index)
{
	vf_graph_free(&index->graph);
	vf_keeper_free(&index->keeper);
	vf_places_free(&index->places);
	vf_range_cache_free(&index->ranges);
	vf_store_close(&index->store);
	if (index->settings)
		vf_settings_release(index->settings);
	pthread_rwlock_destroy(&index->graph_lock);
	pthread_mutex_destroy(&index->small_lock);
	free(index->bucket);
	free(index->name);
	free(index);
}

static struct vf_index *allocate(const struct vf_index_options *options)
{
	struct vf_index *index = calloc(1, sizeof *index);

	if (!index)
		return NULL;
	init_locks(index);
	atomic_store(&index->recall_measured, -1.0);
	index->due_ns = INT64_MAX;
	index->read_only = options->read_only;
	index->linkers = options->linkers;
	index->bucket = strdup(options->bucket ? options->bucket : "");
	index->name = strdup(options->name ? options->name : "");
	if (index->bucket && index->name)
		return index;
	destroy(index);
	return NULL;
}

int vf_index_open(const char *dir, const struct vf_index_options *options, struct vf_index **out, struct vf_err *err)
{
	struct vf_index *index = allocate(options);
	int rc;

	*out = NULL;
	if (!index)
		return vf_oom(err);
	if ((rc = vf_keeper_new(&index->keeper, err)) || (rc = vf_places_new(&index->places, err)) ||
	    (rc = vf_range_cache_new(&index->ranges, err)) ||
	    (rc = vf_store_open(dir, false, options->read_only, &index->store, err)) || (rc = clean_up(index, err)) || (rc = read_meta(index, err))) {
		vf_wrap(err, "open index %s", options->name ? options->name : dir);
		destroy(index);
		return rc;
	}
	vf_store_set_ballast(index->store, options->ballast);
	*out = index;
	return 0;
}

void vf_index_close(struct vf_index **index)
{
	struct vf_err err = VF_ERR_INIT;

	if (!*index)
		return;
	atomic_store(&(*index)->closing, true);
	vf_first_end(*index);
	if ((*index)->linkers)
		vf_linkers_forget((*index)->linkers, *index);
	/* A checkpoint that fails loses links only, which are made again. */
	if (!(*index)->read_only)
		vf_index_checkpoint(*index, &err);
	destroy(*index);
	*index = NULL;
}

/* ---- names ---- */

void vf_index_renamed(struct vf_index *index, const char *bucket, const char *name)
{
	char *new_bucket = strdup(bucket), *new_name = strdup(name);

	pthread_mutex_lock(&index->small_lock);
	if (new_bucket && new_name) {
		char *old_bucket = index->bucket, *old_name = index->name;
		index->bucket = new_bucket;
		index->name = new_name;
		new_bucket = old_bucket;
		new_name = old_name;
	}
	pthread_mutex_unlock(&index->small_lock);
	free(new_bucket);
	free(new_name);
}

void vf_index_name(struct vf_index *index, char out[256])
{
	pthread_mutex_lock(&index->small_lock);
	size_t len = strlen(index->name);
	if (len > 255)
		len = 255;
	memcpy(out, index->name, len);
	out[len] = '\0';
	pthread_mutex_unlock(&index->small_lock);
}

void vf_index_warn(struct vf_index *index, const char *fmt, ...)
{
	char name[256], text[VF_ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	vf_index_name(index, name);
	vf_log(LOG_WARNING, "index %s: %s", name, text);
}

uint64_t vf_index_version(struct vf_index *index)
{
	return atomic_load(&index->version);
}
