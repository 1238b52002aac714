/* SPDX-License-Identifier: MIT */
/* rows.c - the rows of the tables as bytes (doc/FORMAT.md), and how they are found. */
#include <errno.h>
#include <xxhash.h>

#include "index_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, 
               "rows are little-endian, and so is every machine that this is built for");

#define KEY_ROW_BYTES      16u
#define RECORD_HEAD_BYTES  64u
#define COUNTERS_BYTES     32u         /* 8 more while vectors are on disk before their records */

_Static_assert(VF_KEY_ROW_HEAD + 16 == VF_KEY_ROW_MAX + 1, "the row key of a long key is longer than that of any short one");

uint64_t vf_load_u64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

uint32_t vf_load_u32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

void vf_store_u64(void *p, uint64_t v) { memcpy(p, &v, sizeof v); }
void vf_store_u32(void *p, uint32_t v) { memcpy(p, &v, sizeof v); }

/* ---- keys ---- */

struct vf_span vf_key_row_name(struct vf_span key, uint8_t *out)
{
	if (key.len <= VF_KEY_ROW_MAX)
		return key;
	XXH128_canonical_t hash;
	XXH128_canonicalFromHash(&hash, XXH3_128bits(key.data, key.len));
	memcpy(out, key.data, VF_KEY_ROW_HEAD);
	memcpy(out + VF_KEY_ROW_HEAD, hash.digest, sizeof hash.digest);
	return vf_span(out, VF_KEY_ROW_HEAD + sizeof hash.digest);
}

void vf_key_row_encode(const struct vf_key_row *row, uint8_t out[16])
{
	vf_store_u64(out, row->serial);
	vf_store_u64(out + 8, row->ino);
}

int vf_key_row_decode(struct vf_span bytes, struct vf_key_row *out, struct vf_err *err)
{
	if (bytes.len != KEY_ROW_BYTES)
		return vf_fail(err, EIO, "the row of a key has %zu bytes instead of %u", bytes.len, KEY_ROW_BYTES);
	*out = (struct vf_key_row){ .serial = vf_load_u64(bytes.data), .ino = vf_load_u64(bytes.data + 8) };
	return 0;
}

int vf_row_of_key(struct vf_txn *txn, struct vf_span key, struct vf_key_row *out, struct vf_err *err)
{
	uint8_t name[VF_KEY_ROW_HEAD + 16];
	struct vf_span bytes;
	int rc = vf_get(txn, VF_T_KEYS, vf_key_row_name(key, name), &bytes, err);

	return rc ? rc : vf_key_row_decode(bytes, out, err);
}

/* ---- records ---- */

size_t vf_record_row_size(const struct vf_record_row *row)
{
	return RECORD_HEAD_BYTES + row->key.len + row->metadata.len;
}

void vf_record_row_encode(const struct vf_record_row *row, uint8_t *out)
{
	vf_store_u64(out + 8, row->vector_sum);
	vf_store_u64(out + 16, row->ino);
	vf_store_u64(out + 24, row->version);
	vf_store_u64(out + 32, (uint64_t)row->mtime_ns);
	vf_store_u64(out + 40, (uint64_t)row->ctime_ns);
	vf_store_u32(out + 48, row->slot);
	vf_store_u32(out + 52, row->dim);
	vf_store_u32(out + 56, (uint32_t)row->key.len);
	vf_store_u32(out + 60, (uint32_t)row->metadata.len);
	memcpy(out + RECORD_HEAD_BYTES, row->key.data, row->key.len);
	if (row->metadata.len)
		memcpy(out + RECORD_HEAD_BYTES + row->key.len, row->metadata.data, row->metadata.len);
	vf_store_u64(out, XXH3_64bits(out + 8, vf_record_row_size(row) - 8));
}

int vf_record_row_decode(struct vf_span bytes, struct vf_record_row *out, struct vf_err *err)
{
	const uint8_t *p = bytes.data;

	if (bytes.len < RECORD_HEAD_BYTES)
		return vf_fail(err, EIO, "a record row has %zu bytes, fewer than the %u of its head", bytes.len, RECORD_HEAD_BYTES);
	if (vf_load_u64(p) != XXH3_64bits(p + 8, bytes.len - 8))
		return vf_fail(err, EIO, "the checksum of a record row of %zu bytes does not hold", bytes.len);
	uint64_t key_len = vf_load_u32(p + 56), metadata_len = vf_load_u32(p + 60);
	if (key_len + metadata_len != bytes.len - RECORD_HEAD_BYTES || key_len == 0)
		return vf_fail(err, EIO, "a record row of %zu bytes says that it holds a key of %llu and metadata of %llu bytes", bytes.len,
		               (unsigned long long)key_len, (unsigned long long)metadata_len);
	*out = (struct vf_record_row){
		.vector_sum = vf_load_u64(p + 8), .ino = vf_load_u64(p + 16), .version = vf_load_u64(p + 24),
		.mtime_ns = (int64_t)vf_load_u64(p + 32), .ctime_ns = (int64_t)vf_load_u64(p + 40),
		.slot = vf_load_u32(p + 48), .dim = vf_load_u32(p + 52),
		.key = vf_span(p + RECORD_HEAD_BYTES, key_len),
		.metadata = vf_span(p + RECORD_HEAD_BYTES + key_len, metadata_len),
	};
	return 0;
}

int vf_record_row_at(const void *row, struct vf_record_row *out, struct vf_err *err)
{
	const uint8_t *p = row;

	return vf_record_row_decode(vf_span(p, RECORD_HEAD_BYTES + (size_t)vf_load_u32(p + 56) + vf_load_u32(p + 60)), out, err);
}

int vf_row_of_serial(struct vf_txn *txn, uint64_t serial, struct vf_record_row *out, struct vf_err *err)
{
	struct vf_span bytes;
	int rc = vf_get_u64(txn, VF_T_RECORDS, serial, &bytes, err);

	return rc ? rc : vf_record_row_decode(bytes, out, err);
}

int vf_record_of_key(struct vf_txn *txn, struct vf_span key, struct vf_key_row *key_row, struct vf_record_row *out, struct vf_err *err)
{
	int rc = vf_row_of_key(txn, key, key_row, err);

	if (rc)
		return rc;
	rc = vf_row_of_serial(txn, key_row->serial, out, err);
	if (rc == 1)
		rc = vf_fail(err, EIO, "its record (serial %llu) is missing", (unsigned long long)key_row->serial);
	else if (rc == 0 && !vf_span_equal(out->key, key))
		rc = vf_fail(err, EIO, "its serial %llu leads to the record %.*s", (unsigned long long)key_row->serial, VF_SPAN_ARG(out->key));
	return rc < 0 ? vf_wrap(err, "record %.*s", VF_SPAN_ARG(key)) : 0;
}

/* ---- vectors ---- */

uint64_t vf_vector_sum(const void *vector, size_t bytes)
{
	return XXH3_64bits(vector, bytes);
}

int vf_vector_of_serial(struct vf_txn *txn, uint64_t serial, uint32_t dim, struct vf_span *out, struct vf_err *err)
{
	int rc = vf_get_u64(txn, VF_T_VECTORS, serial, out, err);

	if (rc == 0 && out->len != (size_t)dim * sizeof(float))
		return vf_fail(err, EIO, "the vector with serial %llu has %zu bytes instead of 4 for each of %u numbers",
		               (unsigned long long)serial, out->len, dim);
	return rc;
}

/* ---- counters ---- */

int vf_counters_get(struct vf_txn *txn, struct vf_counters *out, struct vf_err *err)
{
	struct vf_span bytes;
	int rc = vf_get(txn, VF_T_META, vf_span_str(VF_META_COUNTERS), &bytes, err);

	if (rc < 0)
		return rc;
	if (rc || (bytes.len != COUNTERS_BYTES && bytes.len != COUNTERS_BYTES + 8))
		return vf_fail(err, EIO, "the counters of the index are %s", rc ? "missing" : "of the wrong length");
	*out = (struct vf_counters){
		.next_serial = vf_load_u64(bytes.data), .next_ino = vf_load_u64(bytes.data + 8),
		.next_version = vf_load_u64(bytes.data + 16), .unlisted_keys = vf_load_u64(bytes.data + 24),
		.early = bytes.len > COUNTERS_BYTES ? vf_load_u64(bytes.data + COUNTERS_BYTES) : 0,
	};
	return 0;
}

int vf_counters_put(struct vf_txn *txn, const struct vf_counters *counters, struct vf_err *err)
{
	uint8_t bytes[COUNTERS_BYTES + 8];

	vf_store_u64(bytes, counters->next_serial);
	vf_store_u64(bytes + 8, counters->next_ino);
	vf_store_u64(bytes + 16, counters->next_version);
	vf_store_u64(bytes + 24, counters->unlisted_keys);
	vf_store_u64(bytes + 32, counters->early);
	return vf_put(txn, VF_T_META, vf_span_str(VF_META_COUNTERS), vf_span(bytes, counters->early ? sizeof bytes : COUNTERS_BYTES), err);
}

int vf_deaths_of(struct vf_txn *txn, uint64_t *out, struct vf_err *err)
{
	struct vf_counters counters;
	uint64_t records;
	int rc;

	if ((rc = vf_counters_get(txn, &counters, err)) || (rc = vf_count(txn, VF_T_KEYS, &records, err)))
		return rc;
	/* Serials begin at 1. */
	*out = counters.next_serial - 1 - counters.early - records;
	return 0;
}
