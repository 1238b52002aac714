/* SPDX-License-Identifier: MIT */
/* scan.c - every vector of the snapshot, one after the other, against all queries at once: the true answer, at the speed of
 * memory. */
#include <errno.h>

#include "ask_internal.h"

struct pass {
	const struct vf_gauge *gauges;
	struct vf_shortlist *lists;
	size_t nlists;
	uint64_t self, scanned;
};

static int meet(struct pass *pass, uint64_t serial, const void *row, struct vf_err *err)
{
	if (serial == pass->self)
		return 0;
	pass->scanned++;
	for (size_t i = 0; i < pass->nlists; i++) {
		struct vf_kept kept = { .serial = serial, .row = row, .slot = VF_SLOT_NONE };
		kept.line = vf_gauge_line(&pass->gauges[i], row, &kept.slack);
		int rc = vf_shortlist_add(&pass->lists[i], &kept, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* The cursor stays this many rows ahead of the arithmetic, so that the next vectors are on their way from memory. */
#define ROWS_AHEAD 8u
#define LINES_AHEAD 4u

struct window { uint64_t serial[ROWS_AHEAD]; const uint8_t *row[ROWS_AHEAD]; size_t n; };

static void fetch(const uint8_t *row, size_t bytes)
{
	for (size_t i = 0; i < bytes && i < 64 * LINES_AHEAD; i += 64)
		__builtin_prefetch(row + i);
}

static int fill(struct vf_scan *scan, size_t bytes, struct window *window, struct vf_err *err)
{
	for (window->n = 0; window->n < ROWS_AHEAD; window->n++) {
		struct vf_span key, value;
		int rc = vf_scan_step(scan, &key, &value, err);
		if (rc)
			return rc;
		window->serial[window->n] = vf_load_u64(key.data);
		if (value.len != bytes)
			return vf_fail(err, EIO, "vector %llu has %zu bytes, not %zu",
			               (unsigned long long)window->serial[window->n],
			               value.len, bytes);
		fetch(value.data, bytes);
		window->row[window->n] = value.data;
	}
	return 0;
}

static int pass_over_all(struct pass *pass, struct vf_txn *txn, size_t bytes, struct vf_err *err)
{
	struct window windows[2] = { { .n = 0 } };
	struct vf_scan *scan = NULL;
	int rc = vf_scan_open_u64(txn, VF_T_VECTORS, 0, &scan, err), met = 0;

	for (unsigned turn = 0; !rc || windows[turn ^ 1].n; turn ^= 1) {
		windows[turn].n = 0;
		if (!rc && (rc = fill(scan, bytes, &windows[turn], err)) < 0)
			break;
		const struct window *before = &windows[turn ^ 1];
		for (size_t i = 0; i < before->n && !met; i++)
			met = meet(pass, before->serial[i], before->row[i], err);
		if (met) {
			rc = met;
			break;
		}
	}
	vf_scan_close(&scan);
	return rc < 0 ? rc : 0;
}

static int pass_over_some(struct pass *pass, struct vf_txn *txn, uint32_t dim, const uint64_t *serials, size_t n,
                          struct vf_err *err)
{
	for (size_t i = 0; i < n; i++) {
		struct vf_span row;
		int rc = vf_vector_of_serial(txn, serials[i], dim, &row, err);
		if (rc == 1)
			return vf_fail(err, EIO, "a slot names vector %llu, which is not there", (unsigned long long)serials[i]);
		if (rc || (rc = meet(pass, serials[i], row.data, err)))
			return rc;
	}
	return 0;
}

int vf_scan_floats(struct vf_txn *txn, const struct vf_config *config, const uint64_t *serials, size_t nserials, uint64_t self,
                   const struct vf_gauge *gauges, struct vf_shortlist *lists, size_t nlists, uint64_t *scanned,
                   struct vf_err *err)
{
	struct pass pass = { .gauges = gauges, .lists = lists, .nlists = nlists, .self = self };
	int rc = serials ? pass_over_some(&pass, txn, config->dim, serials, nserials, err) :
	                   pass_over_all(&pass, txn, config->dim * sizeof(float), err);

	*scanned = pass.scanned;
	return rc;
}
