/* SPDX-License-Identifier: MIT */
/* settings.c - the config of an index: kept as its text in the meta table, and in memory as an immutable copy with a count of
 * users. */
#include <errno.h>
#include <stdlib.h>
#include <syslog.h>

#include "change.h"
#include "vecfs/log.h"

struct vf_settings *vf_settings_hold(struct vf_index *index)
{
	pthread_mutex_lock(&index->small_lock);
	struct vf_settings *settings = index->settings;
	atomic_fetch_add(&settings->users, 1);
	pthread_mutex_unlock(&index->small_lock);
	return settings;
}

void vf_settings_release(struct vf_settings *settings)
{
	if (atomic_fetch_sub(&settings->users, 1) != 1)
		return;
	vf_config_free(&settings->config);
	free(settings);
}

/* `settings` is fresh memory; takes over both. */
static void put_in_force(struct vf_index *index, struct vf_settings *settings, struct vf_config *config)
{
	struct vf_settings *old;

	atomic_init(&settings->users, 1);
	settings->config = *config;
	vf_config_init(config);
	pthread_mutex_lock(&index->small_lock);
	old = index->settings;
	index->settings = settings;
	pthread_mutex_unlock(&index->small_lock);
	if (old)
		vf_settings_release(old);
}

int vf_config_of_txn(struct vf_txn *txn, struct vf_config *out, struct vf_err *err)
{
	struct vf_span text;
	int rc = vf_get(txn, VF_T_META, vf_span_str(VF_META_CONFIG), &text, err);

	vf_config_init(out);
	if (rc < 0)
		return rc;
	if (rc)
		return vf_fail(err, EIO, "the config of the index is missing");
	if ((rc = vf_config_change(out, text, err)) < 0) {
		vf_config_free(out);
		/* It was checked when it was written: whatever is wrong now is damage. */
		return vf_fail(err, rc == -EINVAL ? EIO : -rc, "the stored config cannot be read: %s", err->text);
	}
	return 0;
}

int vf_settings_load(struct vf_index *index, struct vf_err *err)
{
	struct vf_txn *txn = NULL;
	struct vf_config config;
	int rc = vf_txn_read(index->store, &txn, err);

	if (rc == 0 && (rc = vf_config_of_txn(txn, &config, err)) == 0) {
		struct vf_settings *settings = malloc(sizeof *settings);
		if (settings)
			put_in_force(index, settings, &config);
		else
			rc = vf_oom(err);
		vf_config_free(&config);
	}
	vf_txn_end(&txn);
	return rc;
}

static bool same_fields(const struct vf_config *a, const struct vf_config *b)
{
	return vf_span_equal(vf_buf_span(&a->non_filterable), vf_buf_span(&b->non_filterable));
}

/* What a transaction holds is on disk before the settings are changed, and config_pending goes down behind that: where it is 0 and these are still the
 * settings, the transaction has no others. */
int vf_settings_fit(struct vf_index *index, const struct vf_settings *settings, struct vf_txn *txn, struct vf_err *err)
{
	const struct vf_config *held = &settings->config;
	struct vf_config config;

	if (atomic_load(&index->config_pending) == 0 && atomic_load(&index->settings) == settings)
		return 0;
	int rc = vf_config_of_txn(txn, &config, err);
	if (rc == 0 && (config.dim != held->dim || config.metric != held->metric || !same_fields(&config, held)))
		rc = vf_fail(err, ESTALE, "the config was changed meanwhile");
	vf_config_free(&config);
	return rc;
}

int vf_index_config(struct vf_index *index, struct vf_config *out, struct vf_err *err)
{
	struct vf_settings *settings = vf_settings_hold(index);

	vf_config_init(out);
	int rc = vf_config_copy(out, &settings->config, err);
	vf_settings_release(settings);
	return rc;
}

/* ---- changing it ---- */

struct configure {
	struct vf_index *index;
	struct vf_span text;
	struct vf_config config;           /* the new one */
	struct vf_settings *settings;      /* memory for it, which has to be there before it is on disk */
	bool reshaped;                     /* the graph's shape depends on what changed */
	bool new_recall;
};

static int check_frozen(struct vf_txn *txn, const struct vf_config *from, const struct vf_config *to, uint64_t *records, struct vf_err *err)
{
	int rc = vf_count(txn, VF_T_KEYS, records, err);

	if (rc == 0 && *records)
		rc = vf_config_check_frozen(from, to, err);
	return rc;
}

#define META_CONFIG_MTIME "config_mtime"

static int put_mtime(struct vf_txn *txn, int64_t mtime_ns, struct vf_err *err)
{
	uint8_t bytes[8];

	vf_store_u64(bytes, (uint64_t)mtime_ns);
	return vf_put(txn, VF_T_META, vf_span_str(META_CONFIG_MTIME), vf_span(bytes, sizeof bytes), err);
}

static int put_config(struct vf_txn *txn, const struct vf_config *config, int64_t now_ns, struct vf_err *err)
{
	struct vf_buf text = VF_BUF_INIT;
	int rc;

	if ((rc = vf_config_render(config, &text, err)) == 0 &&
	    (rc = vf_put(txn, VF_T_META, vf_span_str(VF_META_CONFIG), vf_buf_span(&text), err)) == 0)
		rc = put_mtime(txn, now_ns, err);
	vf_buf_free(&text);
	return rc;
}

static int write_config(struct vf_change *change, void *ctx, struct vf_err *err)
{
	struct configure *c = ctx;
	const struct vf_config *from = &change->settings->config;
	uint64_t records = 0;
	int rc;

	vf_config_free(&c->config);
	if (!c->settings && !(c->settings = malloc(sizeof *c->settings)))
		return vf_oom(err);
	if ((rc = vf_config_copy(&c->config, from, err)) || (rc = vf_config_change(&c->config, c->text, err)) ||
	    (rc = check_frozen(change->txn, from, &c->config, &records, err)))
		return rc;
	vf_change_holds_config(change);
	c->new_recall = from->recall != c->config.recall;
	c->reshaped = from->dim != c->config.dim || from->metric != c->config.metric || from->m != c->config.m;
	if ((rc = put_config(change->txn, &c->config, change->now_ns, err)) == 0 && records && !same_fields(from, &c->config))
		rc = vf_change_reindex(change, from, &c->config, err);
	return rc;
}

static void config_done(void *ctx, bool ok)
{
	struct configure *c = ctx;

	if (!ok)
		return;
	/* The graph of an index without vectors is cheap to make again. */
	if (c->reshaped)
		c->index->graph_broken = true;
	else if (c->index->graph)
		vf_graph_set_ef_construction(c->index->graph, c->config.ef_construction);
	put_in_force(c->index, c->settings, &c->config);
	c->settings = NULL;
	if (c->new_recall)
		vf_memory_measure_again(c->index);
}

int vf_index_configure(struct vf_index *index, struct vf_span text, struct vf_err *err)
{
	struct configure c = { .index = index, .text = text };
	struct vf_change_kind kind = { .write = write_config, .done = config_done, .ctx = &c };

	vf_config_init(&c.config);
	int rc = vf_change_commit(index, &kind, err);
	vf_config_free(&c.config);
	free(c.settings);
	return rc;
}

int vf_index_config_check(struct vf_index *index, struct vf_span text, struct vf_err *err)
{
	struct vf_settings *settings = vf_settings_hold(index);
	struct vf_txn *txn = NULL;
	struct vf_config config;
	uint64_t records;
	int rc;

	vf_config_init(&config);
	if ((rc = vf_config_copy(&config, &settings->config, err)) == 0 && (rc = vf_config_change(&config, text, err)) == 0 &&
	    (rc = vf_txn_read(index->store, &txn, err)) == 0)
		rc = check_frozen(txn, &settings->config, &config, &records, err);
	vf_txn_end(&txn);
	vf_config_free(&config);
	vf_settings_release(settings);
	return rc;
}

/* ---- when it was changed ---- */

int vf_index_config_mtime(struct vf_index *index, int64_t *mtime_ns, struct vf_err *err)
{
	struct vf_txn *txn = NULL;
	struct vf_span bytes;
	int rc = vf_txn_read(index->store, &txn, err);

	*mtime_ns = 0;
	if (rc == 0 && (rc = vf_get(txn, VF_T_META, vf_span_str(META_CONFIG_MTIME), &bytes, err)) == 0 && bytes.len == 8)
		*mtime_ns = (int64_t)vf_load_u64(bytes.data);
	vf_txn_end(&txn);
	return rc < 0 ? rc : 0;
}

static int write_mtime(void *ctx, struct vf_txn *txn, struct vf_err *err)
{
	return put_mtime(txn, *(const int64_t *)ctx, err);
}

int vf_index_set_config_mtime(struct vf_index *index, int64_t mtime_ns, struct vf_err *err)
{
	struct vf_job job = { .write = write_mtime, .ctx = &mtime_ns };

	return vf_index_commit(index, &job, err);
}
