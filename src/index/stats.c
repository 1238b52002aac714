/* SPDX-License-Identifier: MIT */
/* stats.c - what an index says of itself: `name value` lines. Asking does not load the graph. */
#include <stdio.h>
#include <time.h>

#include "index_internal.h"

struct facts {
	uint64_t vectors, questions;
	int64_t checkpoint_ns;             /* 0: never */
	struct vf_store_usage usage;
	struct vf_graph_counts counts;
	const char *code;
	int percent;
};

static int read_disk(struct vf_index *index, struct facts *facts, struct vf_err *err)
{
	struct vf_txn *txn = NULL;
	struct vf_span at;
	int rc;

	if ((rc = vf_txn_read(index->store, &txn, err)) == 0 && (rc = vf_count(txn, VF_T_KEYS, &facts->vectors, err)) == 0 &&
	    (rc = vf_count(txn, VF_T_QUESTIONS, &facts->questions, err)) == 0 &&
	    (rc = vf_get(txn, VF_T_META, vf_span_str(VF_META_CHECKPOINT), &at, err)) == 0 && at.len == 8)
		facts->checkpoint_ns = (int64_t)vf_load_u64(at.data);
	vf_txn_end(&txn);
	return rc < 0 ? rc : vf_store_usage(index->store, &facts->usage, err);
}

static const char *code_name(enum vf_code code)
{
	switch (code) {
	case VF_CODE_F32: return "f32";
	case VF_CODE_U8:  return "u8";
	}
	return "unknown";
}

/* What is not in memory is neither linked nor pending: then the two are said to be 0, and `loaded` says why. */
static void read_memory(struct vf_index *index, struct facts *facts)
{
	facts->percent = vf_memory_loaded_percent(index);
	facts->code = "none";
	pthread_rwlock_rdlock(&index->graph_lock);
	if (index->graph) {
		vf_graph_counts(index->graph, &facts->counts);
		facts->code = code_name(vf_graph_quant(index->graph)->code);
		/* A flat graph waits for nothing. */
		if (vf_graph_is_flat(index->graph))
			facts->counts.pending = 0;
	}
	pthread_rwlock_unlock(&index->graph_lock);
}

static void print_time(char out[40], int64_t ns)
{
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;

	if (ns == 0 || !gmtime_r(&seconds, &tm) || !strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &tm))
		strcpy(out, "never");
}

static void print_loaded(char out[16], int percent)
{
	if (percent < 0)
		strcpy(out, "no");
	else if (percent < 100)
		snprintf(out, 16, "%d%%", percent);
	else
		strcpy(out, "yes");
}

static void print_recall(char out[32], double recall)
{
	if (recall < 0)
		strcpy(out, "unknown");
	else
		snprintf(out, 32, "%.4g", recall);
}

static int put_line(struct vf_buf *out, const char *name, uint64_t value, struct vf_err *err)
{
	return vf_buf_printf(out, err, "%s %llu\n", name, (unsigned long long)value);
}

static int print_config(struct vf_index *index, const struct vf_config *config, const struct facts *facts, struct vf_buf *out,
                        struct vf_err *err)
{
	char recall[32];

	print_recall(recall, atomic_load(&index->recall_measured));
	return vf_buf_printf(out, err, "dimension %u\nmetric %s\ncode %s\nsketch_bytes %u\ntop_k %u\nef %u\nrecall_target %g\nrecall_measured %s\n",
	                     config->dim, vf_metric_name(config->metric), facts->code, facts->counts.sketch_dims, config->top_k, atomic_load(&index->ef),
	                     config->recall, recall);
}

static int print(struct vf_index *index, const struct vf_config *config, const struct facts *f, struct vf_buf *out,
                 struct vf_err *err)
{
	char checkpoint[40], loaded[16];
	int rc;

	print_time(checkpoint, f->checkpoint_ns);
	print_loaded(loaded, f->percent);
	if ((rc = put_line(out, "vectors", f->vectors, err)) || (rc = put_line(out, "pending", f->counts.pending, err)) ||
	    (rc = put_line(out, "linked", f->counts.linked, err)) || (rc = put_line(out, "dead", f->counts.dead, err)) ||
	    (rc = put_line(out, "outliers", f->counts.outliers, err)) ||
	    (rc = print_config(index, config, f, out, err)) ||
	    (rc = put_line(out, "unlisted_keys", atomic_load(&index->unlisted_keys), err)) ||
	    (rc = put_line(out, "saved_questions", f->questions, err)) || (rc = put_line(out, "memory_bytes", f->counts.bytes, err)) ||
	    (rc = put_line(out, "file_bytes", f->usage.file_bytes, err)) ||
	    (rc = put_line(out, "live_bytes", f->usage.live_bytes, err)) ||
	    (rc = put_line(out, "free_bytes", f->usage.free_bytes, err)) ||
	    (rc = vf_buf_printf(out, err, "last_checkpoint %s\nloaded %s\n", checkpoint, loaded)))
		return rc;
	return put_line(out, "version", vf_index_version(index), err);
}

int vf_index_stats(struct vf_index *index, struct vf_buf *out, struct vf_err *err)
{
	struct facts facts = { .vectors = 0 };
	struct vf_settings *settings = vf_settings_hold(index);
	int rc = read_disk(index, &facts, err);

	if (rc == 0) {
		read_memory(index, &facts);
		rc = print(index, &settings->config, &facts, out, err);
	}
	vf_settings_release(settings);
	return rc;
}
