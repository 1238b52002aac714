/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "vecfs/ingest.h"

/* What was accepted and checked is read back from its canonical form, bit for bit. */
static void check_canonical(const struct vf_record *record)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf bytes = VF_BUF_INIT;
	struct vf_record back;
	struct vf_value value;

	FUZZ_PROMISE(vf_record_render(record, VF_MSGPACK, &bytes, &err) == 0);
	FUZZ_PROMISE(bytes.len == vf_record_msgpack_size((uint32_t)record->key.len, record->dim, (uint32_t)record->metadata.len));
	FUZZ_PROMISE(vf_value_decode(VF_MSGPACK, vf_buf_span(&bytes), &arena, &value, &err) == 0);
	FUZZ_PROMISE(vf_record_from_value(&value, &arena, &back, &err) == 0);
	FUZZ_PROMISE(vf_span_equal(back.key, record->key));
	FUZZ_PROMISE(vf_span_equal(back.metadata, record->metadata));
	FUZZ_PROMISE(back.dim == record->dim && memcmp(back.vector, record->vector, (size_t)record->dim * 4) == 0);
	vf_buf_free(&bytes);
	vf_arena_free(&arena);
}

static int take(void *ctx, const struct vf_record *record, struct vf_err *err)
{
	struct vf_config *config = ctx;

	config->dim = record->dim ? record->dim : 1;
	if (vf_record_check(record, config, "fuzz", err) == 0)
		check_canonical(record);
	return 0;
}

void vf_fuzz_insert(const uint8_t *data, size_t size)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_ingest *ingest = NULL;
	struct vf_config config;

	if (size < 1)
		return;
	size_t piece = data[0] ? data[0] : size;
	vf_config_init(&config);
	FUZZ_PROMISE(vf_ingest_new("bucket", "index", take, &config, &ingest, &err) == 0);
	int rc = 0;
	for (size_t at = 1; rc == 0 && at < size; at += piece)
		rc = vf_ingest_feed(ingest, vf_span(data + at, size - at < piece ? size - at : piece), &err);
	if (rc == 0)
		rc = vf_ingest_end(ingest, &err);
	vf_ingest_free(&ingest);
	vf_config_free(&config);
}
