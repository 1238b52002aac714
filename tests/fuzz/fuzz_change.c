/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "vecfs/request.h"

static void apply(const struct vf_update *update, const struct vf_config *config)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf after = VF_BUF_INIT, same = VF_BUF_INIT;
	struct vf_field_rule rule = vf_config_rule(config);
	struct vf_value value;

	if (vf_update_apply(update, vf_span("\x81\xa1y\xa1z", 5), &rule, &after, &err) == 0) {
		FUZZ_PROMISE(vf_metadata_decode(vf_buf_span(&after), &arena, &value, &err) == 0);
		FUZZ_PROMISE(vf_metadata_encode(&value, &rule, &same, &err) == 0);
		FUZZ_PROMISE(vf_span_equal(vf_buf_span(&after), vf_buf_span(&same)));
	}
	vf_buf_free(&after);
	vf_buf_free(&same);
	vf_arena_free(&arena);
}

void vf_fuzz_change(const uint8_t *data, size_t size)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_config config;
	struct vf_update update;
	struct vf_delete request;
	struct vf_value value;
	enum vf_format format;

	if (!vf_format_guess(vf_span(data, size), &format))
		return;
	vf_config_init(&config);
	if (vf_value_decode(format, vf_span(data, size), &arena, &value, &err) == 0) {
		if (vf_update_from_value(&value, &config, &arena, &update, &err) == 0)
			apply(&update, &config);
		if (vf_delete_from_value(&value, &config, &arena, &request, &err) == 0)
			FUZZ_PROMISE(request.nkeys > 0 || request.filter || value.kind == VF_MAP);
	}
	vf_config_free(&config);
	vf_arena_free(&arena);
}
