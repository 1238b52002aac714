/* SPDX-License-Identifier: MIT */
/* What the daemon has done, as Prometheus text: .vecfs/metrics. */
#include "face_internal.h"

#include "vecfs/name.h"

#include <stdlib.h>

#include "vecfs/clock.h"

#define OPS_MAX 48u

struct counter {
	_Atomic(const char *) op;      /* a literal: compared by address first */
	atomic_ullong calls, failures;
};

struct vf_metrics { struct counter ops[OPS_MAX]; };

int vf_metrics_new(struct vf_metrics **out, struct vf_err *err)
{
	*out = calloc(1, sizeof **out);
	return *out ? 0 : vf_oom(err);
}

void vf_metrics_free(struct vf_metrics **metrics)
{
	free(*metrics);
	*metrics = NULL;
}

static struct counter *counter_of(struct vf_metrics *metrics, const char *op)
{
	for (size_t i = 0; i < OPS_MAX; i++) {
		const char *known = metrics->ops[i].op;
		if (!known && atomic_compare_exchange_strong(&metrics->ops[i].op, &known, op))
			known = op;
		if (known == op || strcmp(known, op) == 0)
			return &metrics->ops[i];
	}
	return &metrics->ops[OPS_MAX - 1];
}

void vf_metrics_count(struct vf_metrics *metrics, const char *op, bool failed)
{
	struct counter *counter = counter_of(metrics, op);

	if (failed)
		counter->failures++;
	else
		counter->calls++;
}

static int put_ops(struct vf_metrics *metrics, const char *name, const char *help, bool failures, struct vf_buf *out, struct vf_err *err)
{
	int rc = vf_buf_printf(out, err, "# HELP %s %s\n# TYPE %s counter\n", name, help, name);

	for (size_t i = 0; rc == 0 && i < OPS_MAX && metrics->ops[i].op; i++)
		rc = vf_buf_printf(out, err, "%s{op=\"%s\"} %llu\n", name, metrics->ops[i].op,
		                   failures ? metrics->ops[i].failures : metrics->ops[i].calls);
	return rc;
}

static int put_gauge(struct vf_buf *out, const char *name, const char *help, uint64_t value, struct vf_err *err)
{
	return vf_buf_printf(out, err, "# HELP %s %s\n# TYPE %s gauge\n%s %llu\n", name, help, name, name, (unsigned long long)value);
}

static int put_turns(struct vf_turns *turns, struct vf_buf *out, struct vf_err *err)
{
	struct vf_turns_count count = vf_turns_count(turns);
	int rc;

	(void)((rc = put_gauge(out, "vecfs_turns_limit", "Questions, answers and exports of a user that may be carried out at once.", count.limit, err)) ||
	       (rc = put_gauge(out, "vecfs_turns_most", "Most of them at once, of a user, since the mount.", count.most, err)) ||
	       (rc = put_gauge(out, "vecfs_turns_waiting", "Of all users, that wait for their turn.", count.waiting, err)));
	return rc;
}

/* The text inside a label: quotes, backslashes and newlines are escaped, and bytes that are no UTF-8 as %XX. */
static int put_label(struct vf_buf *out, const char *s, struct vf_err *err)
{
	size_t bytes, len = strlen(s);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < len; i += bytes ? bytes : 1) {
		bytes = vf_utf8_char((const uint8_t *)s + i, len - i);
		char two[2] = { '\\', s[i] == '\n' ? 'n' : s[i] };
		if (bytes == 0)
			rc = vf_buf_printf(out, err, "%%%02X", (unsigned char)s[i]);
		else if (s[i] == '"' || s[i] == '\\' || s[i] == '\n')
			rc = vf_buf_put(out, two, 2, err);
		else
			rc = vf_buf_put(out, s + i, bytes, err);
	}
	return rc;
}

/* ---- indexes that the kernel knows of: opening every index for a scrape would be too much ---- */

static const char *const index_lines[] = { "vectors", "pending", "dead", "memory_bytes", "file_bytes" };

static int put_index_line(struct vf_buf *out, const struct vf_site_names *names, const char *line, const char *value, size_t len, struct vf_err *err)
{
	int rc;

	(void)((rc = vf_buf_printf(out, err, "vecfs_index_%s{bucket=\"", line)) || (rc = put_label(out, names->bucket, err)) ||
	       (rc = vf_buf_put_str(out, "\",index=\"", err)) || (rc = put_label(out, names->index, err)) ||
	       (rc = vf_buf_printf(out, err, "\"} %.*s\n", (int)len, value)));
	return rc;
}

static int put_stats(struct vf_buf *out, const struct vf_site_names *names, const char *stats, struct vf_err *err)
{
	int rc = 0;

	for (const char *at = stats; rc == 0 && at && *at;) {
		const char *end = strchr(at, '\n'), *blank = strchr(at, ' ');
		for (size_t i = 0; rc == 0 && end && blank && blank < end && i < sizeof index_lines / sizeof index_lines[0]; i++)
			if (strlen(index_lines[i]) == (size_t)(blank - at) && memcmp(at, index_lines[i], (size_t)(blank - at)) == 0)
				rc = put_index_line(out, names, index_lines[i], blank + 1, (size_t)(end - blank - 1), err);
		at = end ? end + 1 : NULL;
	}
	return rc;
}

static int put_index(struct vf_call *call, struct vf_site *site, struct vf_buf *out)
{
	struct vf_site_names names;
	struct vf_buf stats = VF_BUF_INIT;
	struct vf_index *index;

	vf_site_names(call->face, site, &names);
	if (vf_site_hold(call, site, &index)) {
		call->err = (struct vf_err)VF_ERR_INIT;   /* removed meanwhile */
		return 0;
	}
	int rc = vf_index_stats(index, &stats, &call->err);
	if (rc == 0)
		rc = vf_buf_put(&stats, "", 1, &call->err);
	if (rc == 0)
		rc = put_stats(out, &names, (char *)stats.data, &call->err);
	vf_catalog_release(call->face->catalog, index);
	vf_buf_free(&stats);
	return rc;
}

/* The next site behind `last` in the list that is an index, with a user more; takes the use of `last`. */
static struct vf_site *next_index(struct vf_face *face, struct vf_site *last)
{
	pthread_mutex_lock(&face->lock);
	struct vf_site *site = last ? last->next : face->sites;
	while (site && (!site->is_index || site->gone))
		site = site->next;
	if (site)
		site->users++;
	pthread_mutex_unlock(&face->lock);
	if (last)
		vf_site_put(face, last);
	return site;
}

static int put_indexes(struct vf_call *call, struct vf_buf *out)
{
	int rc = 0;
	struct vf_site *site = NULL;

	while ((site = next_index(call->face, site)) && rc == 0)
		rc = put_index(call, site, out);
	if (site)
		vf_site_put(call->face, site);
	return rc;
}

int vf_metrics_render(struct vf_call *call, struct vf_spool *out)
{
	struct vf_face *face = call->face;
	struct vf_buf *buf = &out->buf;
	uint64_t up = (uint64_t)((vf_clock_mono_ns() - face->started_ns) / 1000000000);
	int rc;

	(void)((rc = put_ops(face->metrics, "vecfs_calls_total", "Requests of the kernel.", false, buf, &call->err)) ||
	       (rc = put_ops(face->metrics, "vecfs_failures_total", "Requests that failed.", true, buf, &call->err)) ||
	       (rc = put_gauge(buf, "vecfs_uptime_seconds", "Since the mount.", up, &call->err)) ||
	       (rc = put_gauge(buf, "vecfs_nodes", "Names that the kernel holds.", vf_nodes_count(face), &call->err)) ||
	       (rc = put_gauge(buf, "vecfs_uncommitted_bytes", "Memory in files and requests that are not committed.", vf_budget_used(face->budget),
	                       &call->err)) ||
	       (rc = put_turns(face->turns, buf, &call->err)) || (rc = put_indexes(call, buf)));
	return rc;
}
