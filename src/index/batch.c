/* SPDX-License-Identifier: MIT */
/* batch.c - records and requests, checked and copied without any lock, then applied in one transaction. */
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

#include "early.h"
#include "change.h"
#include "vecfs/name.h"

enum op_kind { OP_PUT, OP_REMOVE, OP_UPDATE, OP_DELETE };

struct op {
	enum op_kind kind;
	bool superseded;                   /* a later put has the same key */
	union {
		struct vf_put *put;
		struct vf_span *key;
		struct vf_update *update;
		struct vf_delete *delete;
	};
};

/* Of a put: its op + 1, 0 empty; and of its key's hash what keeps most other keys from being looked at. */
struct place { uint32_t op, hash; };

struct vf_batch {
	struct vf_index *index;
	struct vf_settings *settings;      /* what the records were checked against */
	struct vf_arena arena;             /* all but vectors */
	struct vf_early early;             /* those */
	struct vf_txn *txn;                /* of the attempt */
	struct op *ops;
	size_t nops, cap;
	uint64_t bytes, vector_bytes;      /* decoded; of vectors among them */
	uint64_t nputs, skipped;
	bool applied;                      /* what it holds is done with */
	struct place *table;               /* of the puts since the last other op, by key; a power of two of them */
	size_t table_size, table_used;
	struct vf_receipt receipt;         /* of the attempt */
};

int vf_batch_new(struct vf_index *index, struct vf_batch **out, struct vf_err *err)
{
	struct vf_batch *batch = calloc(1, sizeof *batch);

	*out = batch;
	if (!batch)
		return vf_oom(err);
	batch->index = index;
	batch->early.index = index;
	batch->settings = vf_settings_hold(index);
	return 0;
}

void vf_batch_free(struct vf_batch **batch)
{
	if (!*batch)
		return;
	vf_settings_release((*batch)->settings);
	vf_early_reset(&(*batch)->early, false);
	vf_arena_free(&(*batch)->arena);
	free((*batch)->ops);
	free((*batch)->table);
	free(*batch);
	*batch = NULL;
}

uint64_t vf_batch_bytes(const struct vf_batch *batch)
{
	return batch->applied ? 0 : batch->bytes;
}

uint64_t vf_batch_held(const struct vf_batch *batch)
{
	return batch->applied ? 0 : batch->bytes - batch->vector_bytes + vf_early_held(&batch->early);
}

static void clear_table(struct vf_batch *batch)
{
	if (batch->table_used)
		memset(batch->table, 0, batch->table_size * sizeof *batch->table);
	batch->table_used = 0;
}

/* Before the next op: who waits for the verdict does not wait for this too. */
static void empty_applied(struct vf_batch *batch)
{
	if (!batch->applied)
		return;
	vf_arena_reset(&batch->arena);
	clear_table(batch);
	batch->nops = 0;
	batch->bytes = batch->vector_bytes = batch->nputs = batch->skipped = 0;
	batch->applied = false;
	vf_settings_release(batch->settings);
	batch->settings = vf_settings_hold(batch->index);
}

static int room_for_op(struct vf_batch *batch, struct vf_err *err)
{
	if (batch->nops < batch->cap)
		return 0;
	if (batch->nops == UINT32_MAX - 1)
		return vf_fail(err, EFBIG, "a batch holds at most %u operations", UINT32_MAX - 1);
	size_t cap = batch->cap ? 2 * batch->cap : 8;
	struct op *ops = realloc(batch->ops, cap * sizeof *ops);
	if (!ops)
		return vf_oom(err);
	batch->ops = ops;
	batch->cap = cap;
	return 0;
}

static int copy_span(struct vf_batch *batch, struct vf_span *s, struct vf_err *err)
{
	struct vf_span copy = vf_arena_copy(&batch->arena, *s);

	if (!copy.data)
		return vf_oom(err);
	*s = copy;
	batch->bytes += s->len;
	return 0;
}

static int copy_spans(struct vf_batch *batch, struct vf_span **spans, size_t n, struct vf_err *err)
{
	struct vf_span *copy = vf_arena_alloc(&batch->arena, n * sizeof *copy);

	if (!copy)
		return vf_oom(err);
	for (size_t i = 0; i < n; i++) {
		copy[i] = (*spans)[i];
		int rc = copy_span(batch, &copy[i], err);
		if (rc)
			return rc;
	}
	*spans = copy;
	batch->bytes += n * sizeof *copy;
	return 0;
}

/* ---- puts: of equal keys the last wins, but one that is to be put only when absent never wins over an earlier one ---- */

static int grow_table(struct vf_batch *batch, struct vf_err *err)
{
	size_t size = batch->table_size ? 2 * batch->table_size : 16;
	struct place *table = calloc(size, sizeof *table);

	if (!table)
		return vf_oom(err);
	for (size_t i = 0; i < batch->table_size; i++) {
		if (!batch->table[i].op)
			continue;
		size_t at = batch->table[i].hash & (size - 1);
		while (table[at].op)
			at = (at + 1) & (size - 1);
		table[at] = batch->table[i];
	}
	free(batch->table);
	batch->table = table;
	batch->table_size = size;
	return 0;
}

/* The place of a key: of the op that has it, or an empty one. */
static struct place *place_of(struct vf_batch *batch, struct vf_span key)
{
	uint32_t hash = (uint32_t)XXH3_64bits(key.data, key.len);
	size_t mask = batch->table_size - 1, at = hash & mask;
	struct place *place;

	while ((place = &batch->table[at])->op && (place->hash != hash || !vf_span_equal(batch->ops[place->op - 1].put->key, key)))
		at = (at + 1) & mask;
	place->hash = hash;
	return place;
}

/* Most records have none, which is one byte: not worth a copy. */
static int copy_metadata(struct vf_batch *batch, struct vf_span *metadata, struct vf_err *err)
{
	if (metadata->len != 1)
		return copy_span(batch, metadata, err);
	*metadata = vf_span("\x80", 1);
	return 0;
}

static int copy_put(struct vf_batch *batch, const struct vf_record *record, struct vf_put **out, struct vf_err *err)
{
	struct vf_put *put = vf_arena_alloc(&batch->arena, sizeof *put);
	size_t bytes = (size_t)record->dim * sizeof(float);
	int rc;

	if (!put)
		return vf_oom(err);
	*put = (struct vf_put){
		.key = record->key, .metadata = record->metadata, .vector_sum = vf_vector_sum(record->vector, bytes), .number = batch->early.n,
		.dim = record->dim, .if_absent = record->if_absent, .mtime_ns = record->mtime_ns,
	};
	if ((rc = copy_span(batch, &put->key, err)) || (rc = copy_metadata(batch, &put->metadata, err)) ||
	    (rc = vf_early_add(&batch->early, record->vector, record->dim, err)))
		return rc;
	batch->bytes += bytes + sizeof *put;
	batch->vector_bytes += bytes;
	*out = put;
	return 0;
}

int vf_batch_put(struct vf_batch *batch, const struct vf_record *record, struct vf_err *err)
{
	struct vf_put *put = NULL;
	char name[256];
	int rc;

	empty_applied(batch);
	vf_index_name(batch->index, name);
	if ((rc = vf_record_check(record, &batch->settings->config, name, err)) || (rc = room_for_op(batch, err)) ||
	    (2 * batch->table_used >= batch->table_size && (rc = grow_table(batch, err))))
		return rc;
	struct place *place = place_of(batch, record->key);
	if (place->op && record->if_absent) {
		batch->skipped++;
		return 0;
	}
	if ((rc = copy_put(batch, record, &put, err)))
		return rc;
	if (place->op)
		batch->ops[place->op - 1].superseded = true;
	else
		batch->table_used++;
	batch->ops[batch->nops] = (struct op){ .kind = OP_PUT, .put = put };
	place->op = (uint32_t)++batch->nops;
	batch->nputs++;
	return 0;
}

/* ---- the other ops ---- */

/* Memory of the batch for what the op consists of; NULL: there is none. */
static void *begin_op(struct vf_batch *batch, size_t size)
{
	empty_applied(batch);
	return vf_arena_alloc(&batch->arena, size);
}

static int add_op(struct vf_batch *batch, struct op op, struct vf_err *err)
{
	int rc = room_for_op(batch, err);

	if (rc)
		return rc;
	clear_table(batch);
	batch->ops[batch->nops++] = op;
	batch->bytes += sizeof op;
	return 0;
}

int vf_batch_remove(struct vf_batch *batch, struct vf_span key, struct vf_err *err)
{
	struct vf_span *copy = begin_op(batch, sizeof *copy);
	int rc;

	if (!copy)
		return vf_oom(err);
	*copy = key;
	if ((rc = vf_key_check(key, err)) || (rc = copy_span(batch, copy, err)))
		return rc;
	return add_op(batch, (struct op){ .kind = OP_REMOVE, .key = copy }, err);
}

/* The values to set, through their canonical bytes. */
static int copy_map(struct vf_batch *batch, struct vf_value *map, struct vf_err *err)
{
	struct vf_buf bytes = VF_BUF_INIT;
	int rc = vf_metadata_encode(map, NULL, &bytes, err);

	if (rc == 0) {
		struct vf_span copy = vf_buf_span(&bytes);
		if ((rc = copy_span(batch, &copy, err)) == 0)
			rc = vf_metadata_decode(copy, &batch->arena, map, err);
	}
	vf_buf_free(&bytes);
	return rc;
}

int vf_batch_update(struct vf_batch *batch, const struct vf_update *update, struct vf_err *err)
{
	struct vf_update *copy = begin_op(batch, sizeof *copy);
	int rc;

	if (!copy)
		return vf_oom(err);
	*copy = *update;
	copy->target = (struct vf_target){ { NULL, 0 }, { NULL, 0 } };
	if ((rc = copy_spans(batch, &copy->keys, copy->nkeys, err)) || (rc = copy_spans(batch, &copy->unset, copy->nunset, err)) ||
	    (copy->filter && (rc = vf_filter_copy(copy->filter, &batch->arena, &copy->filter, err))) ||
	    (copy->set.count && (rc = copy_map(batch, &copy->set, err))))
		return rc;
	return add_op(batch, (struct op){ .kind = OP_UPDATE, .update = copy }, err);
}

int vf_batch_delete(struct vf_batch *batch, const struct vf_delete *request, struct vf_err *err)
{
	struct vf_delete *copy = begin_op(batch, sizeof *copy);
	int rc;

	if (!copy)
		return vf_oom(err);
	*copy = *request;
	copy->target = (struct vf_target){ { NULL, 0 }, { NULL, 0 } };
	if ((rc = copy_spans(batch, &copy->keys, copy->nkeys, err)) ||
	    (copy->filter && (rc = vf_filter_copy(copy->filter, &batch->arena, &copy->filter, err))))
		return rc;
	return add_op(batch, (struct op){ .kind = OP_DELETE, .delete = copy }, err);
}

/* ---- applying ---- */

static int apply_put(struct vf_batch *batch, struct vf_change *change, const struct vf_put *put, struct vf_err *err)
{
	enum vf_put_result result;
	int rc = vf_change_put(change, put, &result, err);

	if (rc)
		return rc;
	switch (result) {
	case VF_PUT_INSERTED: batch->receipt.inserted++; break;
	case VF_PUT_REPLACED: batch->receipt.replaced++; break;
	case VF_PUT_SKIPPED:  batch->receipt.skipped++; break;
	}
	return 0;
}

/* rc as of a step on one key: 0 done, 1 unknown. */
static int count(int rc, uint64_t *done, uint64_t *unknown)
{
	if (rc >= 0)
		++*(rc ? unknown : done);
	return rc < 0 ? rc : 0;
}

static int apply_update(struct vf_batch *batch, struct vf_change *change, const struct vf_update *update, struct vf_err *err)
{
	struct vf_receipt *receipt = &batch->receipt;
	int rc = 0;

	for (size_t i = 0; i < update->nkeys && rc == 0; i++)
		rc = count(vf_change_update(change, update->keys[i], update, err), &receipt->updated, &receipt->unknown);
	if (rc == 0 && update->filter)
		rc = vf_change_update_matches(change, update, &receipt->updated, err);
	return rc;
}

static int apply_delete(struct vf_batch *batch, struct vf_change *change, const struct vf_delete *request, struct vf_err *err)
{
	struct vf_receipt *receipt = &batch->receipt;
	int rc = 0;

	for (size_t i = 0; i < request->nkeys && rc == 0; i++)
		rc = count(vf_change_remove(change, request->keys[i], err), &receipt->deleted, &receipt->unknown);
	if (rc == 0 && request->filter)
		rc = vf_change_remove_matches(change, request->filter, &receipt->deleted, err);
	return rc;
}

static int apply_op(struct vf_batch *batch, struct vf_change *change, const struct op *op, struct vf_err *err)
{
	switch (op->kind) {
	case OP_PUT:
		return op->superseded ? vf_change_drop(change, op->put, err) : apply_put(batch, change, op->put, err);
	case OP_REMOVE:
		return count(vf_change_remove(change, *op->key, err), &batch->receipt.deleted, &batch->receipt.unknown);
	case OP_UPDATE:
		return apply_update(batch, change, op->update, err);
	case OP_DELETE:
		return apply_delete(batch, change, op->delete, err);
	}
	return 0;
}

/* Now, of the one or the other. */
static void locate_vectors(struct vf_batch *batch)
{
	for (size_t i = 0; i < batch->nops; i++) {
		if (batch->ops[i].kind != OP_PUT)
			continue;
		struct vf_put *put = batch->ops[i].put;
		put->serial = vf_early_serial(&batch->early, put->number);
		put->vector = put->serial ? NULL : vf_early_vector(&batch->early, put->number);
	}
}

/* Until the next put; NULL when the store has not what it took. */
static const float *vector_of(const struct vf_batch *batch, const struct vf_put *put)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_span row;

	if (!put->serial)
		return put->vector;
	return vf_vector_of_serial(batch->txn, put->serial, put->dim, &row, &err) ? NULL : (const float *)(const void *)row.data;
}

/* The config changed since the records were checked. */
static int check_again(struct vf_batch *batch, const struct vf_config *config, struct vf_err *err)
{
	char name[256];
	int rc = 0;

	vf_index_name(batch->index, name);
	for (size_t i = 0; i < batch->nops && rc == 0; i++) {
		if (batch->ops[i].kind != OP_PUT || batch->ops[i].superseded)
			continue;
		const struct vf_put *put = batch->ops[i].put;
		struct vf_record record = { .key = put->key, .vector = vector_of(batch, put), .dim = put->dim, .metadata = put->metadata };
		rc = record.vector ? vf_record_check(&record, config, name, err)
		                   : vf_fail(err, EIO, "vector %llu of the batch is not in the store", (unsigned long long)put->serial);
	}
	return rc;
}

static const float *vector_of_op(void *ctx, uint64_t i)
{
	const struct vf_batch *batch = ctx;

	return batch->ops[i].kind == OP_PUT ? vector_of(batch, batch->ops[i].put) : NULL;
}

static int write_batch(struct vf_change *change, void *ctx, struct vf_err *err)
{
	struct vf_batch *batch = ctx;
	int rc = 0;

	batch->receipt = (struct vf_receipt){ .skipped = batch->skipped };
	batch->txn = change->txn;
	if (change->settings != batch->settings && (rc = check_again(batch, &change->settings->config, err)))
		return rc;
	if (batch->nputs && (rc = vf_memory_make_room(batch->index, change->txn, batch->nops, vector_of_op, batch, err)))
		return rc;
	vf_populate_start(&change->populate, batch->index, batch->nputs);
	for (size_t i = 0; i < batch->nops && rc == 0; i++)
		rc = apply_op(batch, change, &batch->ops[i], err);
	return rc ? rc : vf_early_settle(&batch->early, change->txn, &change->counters, err);
}

static bool only_removes(const struct vf_batch *batch)
{
	for (size_t i = 0; i < batch->nops; i++)
		if (batch->ops[i].kind != OP_REMOVE && batch->ops[i].kind != OP_DELETE)
			return false;
	return true;
}

int vf_batch_apply(struct vf_batch *batch, struct vf_receipt *receipt, struct vf_err *err)
{
	struct vf_change_kind kind = { .write = write_batch, .ctx = batch, .needs_graph = true, .frees = only_removes(batch) };
	int rc = 0;

	empty_applied(batch);
	if (batch->nops && (rc = vf_early_finish(&batch->early, err)) == 0) {
		locate_vectors(batch);
		rc = vf_change_commit(batch->index, &kind, err);
	}
	if (batch->nops == 0)
		batch->receipt = (struct vf_receipt){ .skipped = batch->skipped };
	if (rc == 0)
		*receipt = batch->receipt;
	vf_early_reset(&batch->early, rc == 0);
	batch->applied = true;
	return rc;
}

/* ---- one at a time ---- */

struct single {
	struct vf_span key, to;
	int64_t mtime_ns;
	bool replace;
};

/* Absence is ordinary: no sentence is written for it. */
static int absent(int rc)
{
	return rc == 1 ? -ENOENT : rc;
}

static int write_remove(struct vf_change *change, void *ctx, struct vf_err *err)
{
	struct single *s = ctx;

	return absent(vf_change_remove(change, s->key, err));
}

static int write_rekey(struct vf_change *change, void *ctx, struct vf_err *err)
{
	struct single *s = ctx;

	return absent(vf_change_rekey(change, s->key, s->to, s->replace, err));
}

static int write_mtime(struct vf_change *change, void *ctx, struct vf_err *err)
{
	struct single *s = ctx;

	return absent(vf_change_set_mtime(change, s->key, s->mtime_ns, err));
}

int vf_index_remove(struct vf_index *index, struct vf_span key, struct vf_err *err)
{
	struct single s = { .key = key };
	struct vf_change_kind kind = { .write = write_remove, .ctx = &s, .needs_graph = true, .frees = true };

	return vf_change_commit(index, &kind, err);
}

int vf_index_rekey(struct vf_index *index, struct vf_span from, struct vf_span to, bool replace, struct vf_err *err)
{
	struct single s = { .key = from, .to = to, .replace = replace };
	struct vf_change_kind kind = { .write = write_rekey, .ctx = &s, .needs_graph = true };
	int rc = vf_key_check(to, err);

	return rc ? rc : vf_change_commit(index, &kind, err);
}

int vf_index_set_mtime(struct vf_index *index, struct vf_span key, int64_t mtime_ns, struct vf_err *err)
{
	struct single s = { .key = key, .mtime_ns = mtime_ns };
	struct vf_change_kind kind = { .write = write_mtime, .ctx = &s };

	return vf_change_commit(index, &kind, err);
}
