/* SPDX-License-Identifier: MIT */
/* bitmap.c - sets of slots for those who do not include roaring.h. */
#include "filter_internal.h"

#include <endian.h>
#include <roaring/roaring.h>
#include <stdlib.h>

int vf_bitmap_new(vf_bitmap **out, struct vf_err *err)
{
	*out = roaring_bitmap_create();
	return *out ? 0 : vf_oom(err);
}

void vf_bitmap_free(vf_bitmap **bitmap)
{
	if (*bitmap)
		roaring_bitmap_free(*bitmap);
	*bitmap = NULL;
}

uint64_t vf_bitmap_count(const vf_bitmap *bitmap)
{
	return roaring_bitmap_get_cardinality(bitmap);
}

/* ---- as words, by way of the portable serialization (RoaringFormatSpec): its bitsets are copied whole, where iterating would
 * look at each slot ---- */

#define COOKIE_WITH_RUNS 12347u
#define ARRAY_MAX        4096u         /* more members than this are a bitset of 8 KiB */
#define BITSET_BYTES     8192u
#define OFFSETS_FROM     4u            /* with runs, offsets are written from this many containers on */

static uint32_t get16(const char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return le16toh(v);
}

static uint32_t get32(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return le32toh(v);
}

static void set_bit(uint64_t *words, uint32_t bit)
{
	words[bit / 64] |= 1ull << bit % 64;
}

/* Each takes a container's body to its 1024 words and returns what is behind it. */
static const char *fill_from_array(uint64_t *words, const char *p, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++, p += 2)
		set_bit(words, get16(p));
	return p;
}

static const char *fill_from_bitset(uint64_t *words, size_t nwords, const char *p)
{
	for (size_t i = 0; i < nwords && i < BITSET_BYTES / 8; i++) {
		uint64_t word;
		memcpy(&word, p + 8 * i, sizeof word);
		words[i] = le64toh(word);
	}
	return p + BITSET_BYTES;
}

static void set_run(uint64_t *words, uint32_t first, uint32_t last)
{
	uint64_t head = ~0ull << first % 64, tail = ~0ull >> (63 - last % 64);

	if (first / 64 == last / 64) {
		words[first / 64] |= head & tail;
		return;
	}
	words[first / 64] |= head;
	for (uint32_t i = first / 64 + 1; i < last / 64; i++)
		words[i] = ~0ull;
	words[last / 64] |= tail;
}

static const char *fill_from_runs(uint64_t *words, const char *p)
{
	uint32_t runs = get16(p);

	p += 2;
	for (uint32_t i = 0; i < runs; i++, p += 4)
		set_run(words, get16(p), get16(p) + get16(p + 2));
	return p;
}

static void fill_words(uint64_t *words, size_t nwords, const char *p)
{
	uint32_t cookie = get32(p);
	bool runs = (cookie & 0xffff) == COOKIE_WITH_RUNS;
	uint32_t count = runs ? (cookie >> 16) + 1 : get32(p + 4);
	const char *flags = p + 4, *heads = runs ? flags + (count + 7) / 8 : p + 8;

	p = heads + 4 * count + (!runs || count >= OFFSETS_FROM ? 4 * count : 0);
	for (uint32_t i = 0; i < count; i++) {
		size_t first = (size_t)get16(heads + 4 * i) * (BITSET_BYTES / 8);
		uint32_t members = get16(heads + 4 * i + 2) + 1;
		if (runs && (flags[i / 8] >> i % 8 & 1))
			p = fill_from_runs(words + first, p);
		else if (members <= ARRAY_MAX)
			p = fill_from_array(words + first, p, members);
		else
			p = fill_from_bitset(words + first, nwords - first, p);
	}
}

int vf_bitmap_words(const vf_bitmap *bitmap, uint64_t **words, size_t *nwords, struct vf_err *err)
{
	bool empty = roaring_bitmap_is_empty(bitmap);
	size_t n = empty ? 1 : (size_t)roaring_bitmap_maximum(bitmap) / 64 + 1;
	uint64_t *out = calloc(n, sizeof *out);
	char *bytes = malloc(roaring_bitmap_portable_size_in_bytes(bitmap));

	if (!out || !bytes) {
		free(out);
		free(bytes);
		return vf_oom(err);
	}
	roaring_bitmap_portable_serialize(bitmap, bytes);
	if (!empty)
		fill_words(out, n, bytes);
	free(bytes);
	*words = out;
	*nwords = n;
	return 0;
}
