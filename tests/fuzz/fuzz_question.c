/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "vecfs/question.h"

/* A compiled filter prints to text that compiles to the same text. */
static void check_printing(const struct vf_filter *filter, const struct vf_field_rule *rule)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_buf once = VF_BUF_INIT, twice = VF_BUF_INIT;
	struct vf_filter *again = NULL;
	struct vf_value value;

	FUZZ_PROMISE(vf_filter_print(filter, &once, &err) == 0);
	FUZZ_PROMISE(vf_value_decode(VF_JSON, vf_buf_span(&once), &arena, &value, &err) == 0);
	FUZZ_PROMISE(vf_filter_parse(&value, rule, &arena, &again, &err) == 0);
	FUZZ_PROMISE(vf_filter_print(again, &twice, &err) == 0);
	FUZZ_PROMISE(vf_span_equal(vf_buf_span(&once), vf_buf_span(&twice)));
	vf_buf_free(&once);
	vf_buf_free(&twice);
	vf_arena_free(&arena);
}

void vf_fuzz_question(const uint8_t *data, size_t size)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_question question;
	struct vf_config config;
	struct vf_value value;
	enum vf_format format;

	if (!vf_format_guess(vf_span(data, size), &format))
		return;
	vf_config_init(&config);
	config.dim = 3;
	if (vf_value_decode(format, vf_span(data, size), &arena, &value, &err) == 0 &&
	    vf_question_from_value(&value, format, &config, "fuzz", &arena, &question, &err) == 0) {
		struct vf_field_rule rule = vf_config_rule(&config);
		FUZZ_PROMISE(!question.vectors || (question.nvectors > 0 && question.dim == 3));
		if (question.filter)
			check_printing(question.filter, &rule);
	}
	vf_config_free(&config);
	vf_arena_free(&arena);
}
