/* SPDX-License-Identifier: MIT */
/* A graph: made, freed, counted. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "graph_internal.h"

/* Usable memory grows by whole pages of the smallest array, a byte a slot. */
#define STEP_SLOTS 4096u
#define ROOM_SLOTS_MIN 65536u

/* A chunk of codes stays at or below 64 KiB; each row has its place and serial before the code. */
#define CHUNK_BYTES_MAX 65536u
#define CHUNK_ROW_BYTES 12u
#define CHUNK_SLOTS_MAX 256u

struct column { struct vf_region *region; size_t bits; };   /* bits a slot */

static size_t columns(struct vf_graph *g, struct column out[12])
{
	size_t n = 0;

	out[n++] = (struct column){ &g->codes_region, 8 * g->code_stride };
	out[n++] = (struct column){ &g->links0_region, 32 * (size_t)g->list0_words };
	out[n++] = (struct column){ &g->state_region, 8 };
	out[n++] = (struct column){ &g->level_region, 8 };
	out[n++] = (struct column){ &g->lock_region, 8 };
	out[n++] = (struct column){ &g->upper_at_region, 32 };
	out[n++] = (struct column){ &g->serial_region, 64 };
	out[n++] = (struct column){ &g->twin_region, 32 };
	out[n++] = (struct column){ &g->pending_region, 1 };
	out[n++] = (struct column){ &g->waiting_region, 1 };
	/* One of these in 4096, and one in a chunk: a bit a slot is more than enough. */
	out[n++] = (struct column){ &g->crowd_region, 1 };
	out[n++] = (struct column){ &g->dirty_region, 8 };
	return n;
}

static size_t slot_bytes(struct vf_graph *g)
{
	struct column column[12];
	size_t bits = 0, n = columns(g, column);

	for (size_t i = 0; i < n; i++)
		bits += column[i].bits;
	return bits / 8 + 1;
}

static void free_regions(struct vf_graph *g)
{
	struct column column[12];
	size_t n = columns(g, column);

	for (size_t i = 0; i < n; i++)
		vf_region_free(column[i].region);
	vf_region_free(&g->upper_region);
}

static int reserve(struct vf_graph *g, uint32_t slots, struct vf_err *err)
{
	struct column column[12];
	size_t n = columns(g, column);
	int rc = 0;

	/* One node in m - 1 has a block, on average. */
	g->upper_room = slots / (g->params.m - 1) + slots / 8 + ROOM_SLOTS_MIN;
	g->slots_room = slots;
	for (size_t i = 0; i < n && !rc; i++)
		rc = vf_region_reserve(column[i].region, (size_t)slots * column[i].bits / 8 + STEP_SLOTS, err);
	if (!rc)
		rc = vf_region_reserve(&g->upper_region, (size_t)g->upper_room * g->degree * sizeof(vf_link), err);
	if (rc)
		free_regions(g);
	return rc;
}

/* As many slots as twice the machine's memory would hold: more could never be filled, and many graphs share the address space. */
int vf_graph_reserve(struct vf_graph *g, struct vf_err *err)
{
	uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t slots = 2 * memory / slot_bytes(g);
	int rc;

	slots = slots < ROOM_SLOTS_MIN ? ROOM_SLOTS_MIN : slots;
	slots = slots > VF_SLOTS_MAX ? VF_SLOTS_MAX : slots & ~(uint64_t)(STEP_SLOTS - 1);
	while ((rc = reserve(g, (uint32_t)slots, err)) && slots > ROOM_SLOTS_MIN)
		slots /= 2;
	if (rc)
		return rc;
	g->codes = g->codes_region.base;
	g->links0 = (void *)g->links0_region.base;
	g->upper = (void *)g->upper_region.base;
	g->state = (void *)g->state_region.base;
	g->level = g->level_region.base;
	g->lock = (void *)g->lock_region.base;
	g->upper_at = (void *)g->upper_at_region.base;
	g->serial = (void *)g->serial_region.base;
	g->twin = (void *)g->twin_region.base;
	g->pending = (void *)g->pending_region.base;
	g->waiting = (void *)g->waiting_region.base;
	g->crowd = (void *)g->crowd_region.base;
	g->dirty = (void *)g->dirty_region.base;
	return 0;
}

int vf_graph_make_room(struct vf_graph *g, uint32_t slot, struct vf_err *err)
{
	struct column column[12];

	if (slot < g->slots_usable)
		return 0;
	if (slot >= g->slots_room)
		return vf_fail(err, ENOSPC, "the graph is full: memory is reserved for %u vectors", g->slots_room);
	size_t n = columns(g, column);
	uint64_t slots = (uint64_t)slot + slot / 4 + STEP_SLOTS;
	slots = slots > g->slots_room ? g->slots_room : slots & ~(uint64_t)(STEP_SLOTS - 1);
	int rc = 0;
	for (size_t i = 0; i < n && !rc; i++)
		rc = vf_region_use(column[i].region, slots * column[i].bits / 8 + 1, err);
	pthread_rwlock_rdlock(&g->sketching.lock);
	if (!rc && (rc = vf_sketch_make_room(g, (uint32_t)slots, err)) == 0)
		g->slots_usable = (uint32_t)slots;
	pthread_rwlock_unlock(&g->sketching.lock);
	return rc;
}

uint32_t vf_graph_slots(const struct vf_graph *g)
{
	return atomic_load(&g->slots);
}

void vf_graph_populate(struct vf_graph *g, uint32_t first, uint32_t end)
{
	struct column column[12];
	size_t n = columns(g, column);

	for (size_t i = 0; i < n; i++)
		vf_region_populate(column[i].region, first * column[i].bits / 8, end * column[i].bits / 8);
}

static void choose_kernels(struct vf_graph *g)
{
	const struct vf_kernels *k = vf_kernels();
	bool bytes = g->quant.code == VF_CODE_U8, dot = g->params.metric == VF_DOT;

	/* Under cosine vectors are normalised, and Euclidean distance ranks as cosine does. Under dot nodes are linked by the inner product
	 * too, although it is no distance (Morozov and Babenko, 2018): raw GloVe at ef 64 has a recall of .89 so, .42 linked by
	 * Euclidean distance, .44 by that of the vectors made equally long by one more dimension. */
	if (dot)
		g->gather = bytes ? k->dot_u8_gather : k->dot_f32_gather;
	else
		g->gather = bytes ? k->l2sq_u8_gather : k->l2sq_f32_gather;
}

static void set_up(struct vf_graph *g, const struct vf_graph_params *params)
{
	g->params = *params;
	atomic_store(&g->ef_construction, params->ef_construction);
	g->degree = params->m;
	g->degree0 = 2 * params->m;
	g->list0_words = (g->degree0 + 15) & ~15u;
	bool bytes = g->quant.code == VF_CODE_U8;
	g->code_bytes = (size_t)params->dim * (bytes ? 1 : 4);
	g->code_stride = (g->code_bytes + 63) & ~(size_t)63;
	/* A kernel without a tail is faster, and the rest of the last 32 bytes is equal in all codes. */
	g->numbers = bytes ? (params->dim + 31) & ~31u : params->dim;
	g->chunk_slots = 1;
	while (g->chunk_slots < CHUNK_SLOTS_MAX && 2 * g->chunk_slots * (g->code_bytes + CHUNK_ROW_BYTES) + 8 <= CHUNK_BYTES_MAX)
		g->chunk_slots *= 2;
	uint64_t bound = UINT64_MAX;
	for (uint32_t l = 1; l <= VF_LEVEL_MAX; l++)
		g->level_bound[l] = bound /= params->m;
	atomic_store(&g->entry, VF_ENTRY_NONE);
	atomic_store(&g->root, VF_SLOT_NONE);
	g->free_slot = VF_SLOT_NONE;
	for (uint32_t l = 0; l <= VF_LEVEL_MAX; l++)
		g->upper_free[l] = VF_SLOT_NONE;
	g->epoch = 1;
	vf_equal_init(&g->equal);
	vf_outliers_init(&g->outliers);
	vf_order_init(&g->order);
	vf_sketching_init(&g->sketching);
	pthread_mutex_init(&g->entry_lock, NULL);
	pthread_mutex_init(&g->sweep_lock, NULL);
	pthread_mutex_init(&g->small_lock, NULL);
}

static int copy_quant(struct vf_quant *to, const struct vf_quant *from, struct vf_err *err)
{
	*to = *from;
	to->mean = malloc(from->dim * sizeof *to->mean);
	if (!to->mean)
		return vf_oom(err);
	memcpy(to->mean, from->mean, from->dim * sizeof *to->mean);
	return 0;
}

int vf_graph_new(const struct vf_graph_params *params, const struct vf_quant *quant,
                 struct vf_graph **out, struct vf_err *err)
{
	int rc;

	if (params->dim == 0 || params->dim > VF_DIM_MAX || quant->dim != params->dim)
		return vf_fail(err, EINVAL, "a graph of dimension %u with a quantizer of dimension %u", params->dim, quant->dim);
	if (params->m < VF_M_MIN || params->m > VF_M_MAX)
		return vf_fail(err, EINVAL, "a graph has %u to %u links a node, not %u", VF_M_MIN, VF_M_MAX, params->m);
	struct vf_graph *g = calloc(1, sizeof *g);
	if (!g)
		return vf_oom(err);
	if ((rc = copy_quant(&g->quant, quant, err))) {
		free(g);
		return rc;
	}
	set_up(g, params);
	choose_kernels(g);
	if ((rc = vf_graph_reserve(g, err)))
		vf_graph_free(&g);
	else
		*out = g;
	return rc;
}

void vf_graph_free(struct vf_graph **graph)
{
	struct vf_graph *g = *graph;

	if (!g)
		return;
	while (g->walkers) {
		struct vf_walker *next = g->walkers->next_of_all;
		vf_walker_free(g->walkers);
		g->walkers = next;
	}
	free_regions(g);
	vf_equal_free(&g->equal);
	vf_outliers_free(&g->outliers);
	vf_order_free(&g->order);
	vf_sketching_free(&g->sketching);
	pthread_mutex_destroy(&g->entry_lock);
	pthread_mutex_destroy(&g->sweep_lock);
	pthread_mutex_destroy(&g->small_lock);
	vf_quant_free(&g->quant);
	free(g);
	*graph = NULL;
}

void vf_graph_set_ef_construction(struct vf_graph *g, uint32_t ef_construction)
{
	atomic_store(&g->ef_construction, ef_construction);
}

uint32_t vf_graph_chunk_slots(const struct vf_graph *g)
{
	return g->chunk_slots;
}

const struct vf_quant *vf_graph_quant(const struct vf_graph *g)
{
	return &g->quant;
}

enum vf_metric vf_graph_metric(const struct vf_graph *g)
{
	return g->params.metric;
}

void vf_graph_counts(const struct vf_graph *graph, struct vf_graph_counts *out)
{
	struct vf_graph *g = (struct vf_graph *)graph;   /* counting takes the small lock, nothing else changes */
	uint64_t entry = atomic_load(&g->entry);

	*out = (struct vf_graph_counts){
		.pending = atomic_load(&g->npending), .linked = atomic_load(&g->nlinked), .dead = atomic_load(&g->ndead),
		.free = atomic_load(&g->nfree), .outliers = atomic_load(&g->outliers.count), .outliers_max = vf_outliers_max(g), .clamped_far = !vf_graph_is_honest(g), .slots = atomic_load(&g->slots),
		.top_level = entry == VF_ENTRY_NONE ? 0 : (uint32_t)(entry >> 32), .sketch_dims = atomic_load(&g->sketching.dims),
		.changes = atomic_load(&g->nchanges), .sketchings = atomic_load(&g->sketching.replaced),
	};
	out->bytes = atomic_load(&g->equal.bytes) + atomic_load(&g->walker_bytes) + vf_outliers_bytes(g) + vf_sketch_bytes(g) + (uint64_t)out->slots * slot_bytes(g);
	pthread_mutex_lock(&g->small_lock);
	out->bytes += (uint64_t)g->upper_used * g->degree * sizeof(vf_link);
	pthread_mutex_unlock(&g->small_lock);
}

enum vf_slot_state vf_graph_slot(const struct vf_graph *g, uint32_t slot, uint64_t *serial)
{
	*serial = 0;
	if (slot >= atomic_load(&g->slots))
		return VF_SLOT_FREE;
	enum vf_slot_state state = (enum vf_slot_state)(vf_slot_is(g, slot) & VF_IS_STATE);
	if (state != VF_SLOT_FREE)
		*serial = atomic_load_explicit(&g->serial[slot], memory_order_relaxed);
	return state;
}
