/* SPDX-License-Identifier: MIT */
/* The checkpoint's writing half. It may run beside linkers, searches and the committer: each row is consistent by itself. */
#include <endian.h>
#include <errno.h>

#include "graph_internal.h"

static uint32_t chunks_of(const struct vf_graph *g)
{
	return (atomic_load(&g->slots) + g->chunk_slots - 1) / g->chunk_slots;
}

bool vf_graph_chunk_dirty(struct vf_graph *g, uint32_t *chunk)
{
	uint32_t chunks = chunks_of(g);

	for (; *chunk < chunks; ++*chunk)
		if (atomic_load_explicit(&g->dirty[*chunk], memory_order_relaxed))
			return true;
	return false;
}

void vf_graph_chunk_touch(struct vf_graph *g, uint32_t chunk)
{
	if (chunk < chunks_of(g))
		atomic_fetch_or(&g->dirty[chunk], VF_DIRTY_CODES | VF_DIRTY_LINKS);
}

void vf_graph_touch_all(struct vf_graph *g)
{
	for (uint32_t chunk = 0, chunks = chunks_of(g); chunk < chunks; chunk++)
		vf_graph_chunk_touch(g, chunk);
}

/* Writers that know there is room. */
static void put_u8(struct vf_buf *out, uint8_t v)
{
	out->data[out->len++] = v;
}

static void put_u16(struct vf_buf *out, uint16_t v)
{
	v = htole16(v);
	memcpy(out->data + out->len, &v, sizeof v);
	out->len += sizeof v;
}

static void put_u32(struct vf_buf *out, uint32_t v)
{
	v = htole32(v);
	memcpy(out->data + out->len, &v, sizeof v);
	out->len += sizeof v;
}

static void put_u64(struct vf_buf *out, uint64_t v)
{
	v = htole64(v);
	memcpy(out->data + out->len, &v, sizeof v);
	out->len += sizeof v;
}

static void put_code(const struct vf_graph *g, uint32_t slot, struct vf_buf *out)
{
	const uint8_t *code = vf_slot_code(g, slot);

	if (g->quant.code == VF_CODE_U8) {
		memcpy(out->data + out->len, code, g->code_bytes);
		out->len += g->code_bytes;
		return;
	}
	for (size_t i = 0; i < g->code_bytes; i += 4) {
		uint32_t bits;
		memcpy(&bits, code + i, 4);
		put_u32(out, bits);
	}
}

static int dump_codes(const struct vf_graph *g, uint32_t first, uint32_t end, struct vf_buf *out, struct vf_err *err)
{
	int rc = vf_buf_reserve(out, 8 + (size_t)(end - first) * (12 + g->code_bytes), err);

	if (rc)
		return rc;
	put_u32(out, VF_CODES_MAGIC);
	put_u32(out, (uint32_t)g->code_bytes);
	for (uint32_t slot = first; slot < end; slot++) {
		uint8_t is = vf_slot_is(g, slot);
		if ((is & VF_IS_STATE) == VF_SLOT_FREE || vf_slot_is_outlier(is))
			continue;
		put_u32(out, slot - first);
		put_u64(out, atomic_load_explicit(&g->serial[slot], memory_order_relaxed));
		put_code(g, slot, out);
	}
	return 0;
}

static void put_list(const struct vf_graph *g, uint32_t slot, uint32_t level, struct vf_buf *out)
{
	const vf_link *list = vf_list(g, slot, level);
	uint32_t n = vf_list_count(g, slot, level);

	put_u16(out, (uint16_t)n);
	for (uint32_t i = 0; i < n; i++)
		put_u32(out, vf_list_at(list, i));
}

static int dump_row(struct vf_graph *g, uint32_t slot, uint32_t place, struct vf_buf *out, struct vf_err *err)
{
	uint8_t is = vf_slot_is(g, slot), state = is & VF_IS_STATE;
	bool twin = is & VF_IS_TWIN;

	/* Dead nodes are kept: others link to them until a sweep has repaired the lists. */
	if ((state != VF_SLOT_LINKED && state != VF_SLOT_DEAD) || !(is & (VF_IS_NODE | VF_IS_TWIN)))
		return 0;
	uint32_t level = twin ? 0 : g->level[slot];
	int rc = vf_buf_reserve(out, 14 + 4 + (2 + 4 * (size_t)g->degree0) * (1 + level), err);
	if (rc)
		return rc;
	put_u32(out, place);
	put_u64(out, atomic_load_explicit(&g->serial[slot], memory_order_relaxed));
	put_u8(out, twin ? VF_ROW_TWIN : VF_ROW_NODE);
	put_u8(out, (uint8_t)level);
	if (twin) {
		put_u32(out, vf_list_at(vf_list(g, slot, 0), 0));
		return 0;
	}
	for (uint32_t l = 0; l <= level; l++)
		put_list(g, slot, l, out);
	return 0;
}

static int dump_links(struct vf_graph *g, uint32_t first, uint32_t end, struct vf_buf *out, struct vf_err *err)
{
	int rc = vf_buf_reserve(out, 8, err);

	if (rc)
		return rc;
	put_u32(out, VF_LINKS_MAGIC);
	put_u32(out, g->params.m);
	for (uint32_t slot = first; slot < end && !rc; slot++) {
		vf_node_lock(g, slot);
		rc = dump_row(g, slot, slot - first, out, err);
		vf_node_unlock(g, slot);
	}
	return rc;
}

static int dump_chunk(struct vf_graph *g, uint32_t chunk, struct vf_buf *codes, struct vf_buf *links, struct vf_err *err)
{
	uint32_t slots = atomic_load(&g->slots), first = chunk * g->chunk_slots;
	uint32_t end = slots - first < g->chunk_slots ? slots : first + g->chunk_slots;
	struct vf_walker *w;

	if (chunk > slots / g->chunk_slots)
		return vf_fail(err, EINVAL, "chunk %u of a graph of %u slots", chunk, slots);
	/* A walker, so that no slot is reused while its row is written. */
	int rc = vf_walker_get(g, 0, &w, err);
	if (rc)
		return rc;
	/* Cleared before reading: what changes from here on marks it again. */
	uint8_t was = atomic_exchange(&g->dirty[chunk], 0);
	if (!(rc = dump_codes(g, first, end, codes, err)))
		rc = dump_links(g, first, end, links, err);
	if (rc)
		atomic_fetch_or(&g->dirty[chunk], was);
	vf_walker_put(g, w);
	return rc;
}

/* Not beside a sweep: the last that it does with a slot, giving its lists back, is behind the moment when it waited for walkers. */
int vf_graph_chunk_dump(struct vf_graph *g, uint32_t chunk, struct vf_buf *codes, struct vf_buf *links, struct vf_err *err)
{
	pthread_mutex_lock(&g->sweep_lock);
	int rc = dump_chunk(g, chunk, codes, links, err);
	pthread_mutex_unlock(&g->sweep_lock);
	return rc;
}
