/* SPDX-License-Identifier: MIT */
/* posting_row.c - rows of postings, from and to bytes. */
#include "posting_row.h"

#include <endian.h>
#include <errno.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "vecfs/graph.h"

enum form { FORM_LIST = 1, FORM_BITMAP = 2 };
#define BITMAP_HEAD 6u                 /* form, zero, checksum: the bitmap begins at an even byte */

struct vf_span vf_posting_name(struct vf_span term, uint32_t chunk, uint8_t *out)
{
	memcpy(out, term.data, term.len);
	out[term.len] = (uint8_t)(chunk >> 8);
	out[term.len + 1] = (uint8_t)chunk;
	return vf_span(out, term.len + 2);
}

int vf_posting_name_split(struct vf_span name, struct vf_span *term, uint32_t *chunk, struct vf_err *err)
{
	if (name.len < 3 || name.len > VF_POSTING_NAME_MAX)
		return vf_fail(err, EIO, "a row of postings has a key of %zu bytes", name.len);
	*term = vf_span(name.data, name.len - 2);
	*chunk = (uint32_t)name.data[name.len - 2] << 8 | name.data[name.len - 1];
	/* Sets of slots take memory up to their last. */
	if (*chunk >= VF_SLOTS_MAX >> 16)
		return vf_fail(err, EIO, "a row of postings is of chunk %u, the last is %u", *chunk, (VF_SLOTS_MAX >> 16) - 1);
	return 0;
}

int vf_posting_list(struct vf_span row, uint32_t chunk, uint32_t *out, struct vf_err *err)
{
	size_t count = row.len / 2;

	if (row.len && row.data[0] == FORM_BITMAP)
		return 0;
	if (row.len % 2 == 0 || row.data[0] != FORM_LIST || count == 0 || count > VF_POSTING_LIST_MAX)
		return vf_fail(err, EIO, "a row of postings is neither a list nor a bitmap (%zu bytes)", row.len);
	for (size_t i = 0; i < count; i++) {
		out[i] = chunk << 16 | (uint32_t)row.data[2 + 2 * i] << 8 | row.data[1 + 2 * i];
		if (i && out[i] <= out[i - 1])
			return vf_fail(err, EIO, "the slots in a row of postings do not rise (%u, %u)", out[i - 1], out[i]);
	}
	return (int)count;
}

static uint32_t sum_of(const uint8_t *bytes, size_t len)
{
	return htole32((uint32_t)XXH3_64bits(bytes, len));
}

static bool holds(struct vf_span row)
{
	uint32_t sum;

	if (row.len <= BITMAP_HEAD || row.data[0] != FORM_BITMAP || row.data[1] != 0)
		return false;
	memcpy(&sum, row.data + 2, sizeof sum);
	return sum == sum_of(row.data + BITMAP_HEAD, row.len - BITMAP_HEAD);
}

int vf_posting_bitmap(struct vf_span row, uint32_t chunk, roaring_bitmap_t **out, struct vf_err *err)
{
	roaring_bitmap_t *slots = NULL;

	if (!holds(row))
		return vf_fail(err, EIO, "the checksum of a row of postings does not hold (%zu bytes)", row.len);
	slots = roaring_bitmap_portable_deserialize_safe((const char *)row.data + BITMAP_HEAD, row.len - BITMAP_HEAD);
	if (!slots)
		return vf_fail(err, EIO, "a row of postings (%zu bytes) is no bitmap, or there is no memory for it", row.len);
	if (roaring_bitmap_is_empty(slots) || roaring_bitmap_minimum(slots) >> 16 != chunk || roaring_bitmap_maximum(slots) >> 16 != chunk) {
		roaring_bitmap_free(slots);
		return vf_fail(err, EIO, "a row of postings has slots outside of its chunk %u", chunk);
	}
	*out = slots;
	return 0;
}

static int encode_short_list(const uint32_t *slots, size_t count, struct vf_buf *out, struct vf_err *err)
{
	vf_buf_clear(out);
	int rc = vf_buf_reserve(out, 1 + 2 * VF_POSTING_LIST_MAX, err);
	if (rc)
		return rc;
	out->data[out->len++] = FORM_LIST;
	for (size_t i = 0; i < count; i++) {
		out->data[out->len++] = (uint8_t)slots[i];
		out->data[out->len++] = (uint8_t)(slots[i] >> 8);
	}
	return 0;
}

int vf_posting_encode_list(const uint32_t *slots, size_t count, struct vf_buf *out, struct vf_err *err)
{
	if (count <= VF_POSTING_LIST_MAX)
		return encode_short_list(slots, count, out, err);
	roaring_bitmap_t *bitmap = roaring_bitmap_of_ptr(count, slots);
	if (!bitmap)
		return vf_oom(err);
	int rc = vf_posting_encode_bitmap(bitmap, out, err);
	roaring_bitmap_free(bitmap);
	return rc;
}

int vf_posting_encode_bitmap(roaring_bitmap_t *slots, struct vf_buf *out, struct vf_err *err)
{
	uint32_t few[VF_POSTING_LIST_MAX], sum;
	size_t count = roaring_bitmap_get_cardinality(slots), len;
	int rc;

	if (count <= VF_POSTING_LIST_MAX) {
		roaring_bitmap_to_uint32_array(slots, few);
		return encode_short_list(few, count, out, err);
	}
	roaring_bitmap_run_optimize(slots);
	len = roaring_bitmap_portable_size_in_bytes(slots);
	vf_buf_clear(out);
	if ((rc = vf_buf_reserve(out, BITMAP_HEAD + len, err)))
		return rc;
	roaring_bitmap_portable_serialize(slots, (char *)out->data + BITMAP_HEAD);
	out->data[0] = FORM_BITMAP;
	out->data[1] = 0;
	sum = sum_of(out->data + BITMAP_HEAD, len);
	memcpy(out->data + 2, &sum, sizeof sum);
	out->len = BITMAP_HEAD + len;
	return 0;
}
