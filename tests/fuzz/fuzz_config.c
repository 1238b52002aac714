/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "vecfs/config.h"

/* What a config shows, written back, changes nothing. */
void vf_fuzz_config(const uint8_t *data, size_t size)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf once = VF_BUF_INIT, twice = VF_BUF_INIT;
	struct vf_config config;

	vf_config_init(&config);
	vf_config_change(&config, vf_span(data, size), &err);
	FUZZ_PROMISE(vf_config_render(&config, &once, &err) == 0);
	FUZZ_PROMISE(vf_config_change(&config, vf_buf_span(&once), &err) == 0);
	FUZZ_PROMISE(vf_config_render(&config, &twice, &err) == 0);
	FUZZ_PROMISE(vf_span_equal(vf_buf_span(&once), vf_buf_span(&twice)));
	vf_buf_free(&once);
	vf_buf_free(&twice);
	vf_config_free(&config);
}
