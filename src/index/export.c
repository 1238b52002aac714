/* SPDX-License-Identifier: MIT */
/* export.c - the whole index as one file, in key order, of one snapshot. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "ask_internal.h"

#define NPY_ALIGN 64u

struct export {
	struct vf_txn *txn;
	struct vf_spool *out;
	enum vf_export what;
	uint32_t dim;
	float *vector;                 /* one, aligned */
};

/* NumPy's format 1.0: magic, version, length of the header, a Python dict padded with blanks to a multiple of 64. */
static int put_npy_head(struct export *e, uint64_t rows, struct vf_err *err)
{
	char dict[128];
	uint8_t head[256] = "\x93NUMPY\x01";
	int len = snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %u), }",
	                   (unsigned long long)rows, e->dim);
	size_t size = (10 + (size_t)len + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;

	head[8] = (uint8_t)(size - 10);
	head[9] = (uint8_t)((size - 10) >> 8);
	memcpy(head + 10, dict, (size_t)len);
	memset(head + 10 + len, ' ', size - 10 - (size_t)len);
	head[size - 1] = '\n';
	return vf_spool_put(e->out, head, size, err);
}

static int put_record(struct export *e, const struct vf_record_row *row, struct vf_span vector, enum vf_format format,
                      struct vf_err *err)
{
	struct vf_record record = { .key = row->key, .vector = e->vector, .dim = row->dim, .metadata = row->metadata };

	memcpy(e->vector, vector.data, vector.len);
	int rc = vf_record_render(&record, format, &e->out->buf, err);
	return rc ? rc : vf_spool_flush_if_full(e->out, err);
}

/* One a line, as it is: a list of keys for `delete`, say. Only what would end the line is escaped, as in file names. */
static int put_key_line(struct export *e, struct vf_span key, struct vf_err *err)
{
	struct vf_buf *buf = &e->out->buf;
	int rc = vf_buf_reserve(buf, 3 * key.len + 1, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < key.len; i++) {
		if (key.data[i] == '\n' || key.data[i] == '\r')
			buf->len += (size_t)sprintf((char *)buf->data + buf->len, "%%%02X", key.data[i]);
		else
			buf->data[buf->len++] = key.data[i];
	}
	buf->data[buf->len++] = '\n';
	return vf_spool_flush_if_full(e->out, err);
}

static int put_row(struct export *e, uint64_t serial, struct vf_err *err)
{
	struct vf_record_row row;
	struct vf_span vector = { NULL, 0 };
	int rc = vf_row_of_serial(e->txn, serial, &row, err);

	if (rc == 1)
		return vf_fail(err, EIO, "the record with serial %llu is missing", (unsigned long long)serial);
	if (rc || (e->what != VF_EXPORT_KEYS && (rc = vf_vector_checked(e->txn, serial, &row, &vector, err))))
		return rc;
	if (e->what != VF_EXPORT_KEYS && row.dim != e->dim)
		return vf_fail(err, EIO, "record %.*s has %u numbers, the index has %u", VF_SPAN_ARG(row.key), row.dim, e->dim);
	switch (e->what) {
	case VF_EXPORT_MSGPACK: return put_record(e, &row, vector, VF_MSGPACK, err);
	case VF_EXPORT_JSONL:   return put_record(e, &row, vector, VF_JSON, err);
	case VF_EXPORT_NPY:     return vf_spool_put(e->out, vector.data, vector.len, err);
	case VF_EXPORT_KEYS:    return put_key_line(e, row.key, err);
	}
	return 0;
}

static int put_rows(struct export *e, struct vf_err *err)
{
	struct vf_key_walk *walk = NULL;
	struct vf_walked key;
	int rc = vf_key_walk_open(e->txn, vf_span(NULL, 0), &walk, err);

	while (rc == 0 && (rc = vf_key_walk_step(walk, &key, err)) == 0)
		rc = put_row(e, key.serial, err);
	vf_key_walk_close(&walk);
	return rc < 0 ? rc : 0;
}

static int begin(struct export *e, struct vf_err *err)
{
	struct vf_config config;
	uint64_t rows;
	int rc = vf_config_of_txn(e->txn, &config, err);

	if (rc)
		return rc;
	e->dim = config.dim;
	vf_config_free(&config);
	e->vector = malloc((e->dim + 1) * sizeof(float));
	if (!e->vector)
		return vf_oom(err);
	if (e->what != VF_EXPORT_NPY)
		return 0;
	rc = vf_count(e->txn, VF_T_KEYS, &rows, err);
	return rc ? rc : put_npy_head(e, rows, err);
}

int vf_index_export(struct vf_index *index, enum vf_export what, struct vf_spool *out, struct vf_err *err)
{
	struct export e = { .out = out, .what = what };
	int rc;

	if ((rc = vf_txn_read(index->store, &e.txn, err)) == 0 && (rc = begin(&e, err)) == 0 && (rc = put_rows(&e, err)) == 0)
		rc = vf_spool_finish(out, err);
	vf_txn_end(&e.txn);
	free(e.vector);
	if (rc == 0)
		return 0;
	char name[256];
	vf_index_name(index, name);
	return vf_wrap(err, "export index %s", name);
}
