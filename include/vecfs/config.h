/* SPDX-License-Identifier: MIT */
/* config.h - the settings of an index, and the `config` file: `key = value` lines. */
#ifndef VECFS_CONFIG_H
#define VECFS_CONFIG_H

#include "vecfs/dist.h"
#include "vecfs/filter.h"
#include "vecfs/span.h"

struct vf_config {
	uint32_t dim;                  /* 0: not set yet */
	enum vf_metric metric;
	uint32_t top_k;
	double recall;                 /* (0, 1] */
	uint32_t m;
	uint32_t ef_construction;
	struct vf_buf non_filterable;  /* field names, NUL behind each, in order as given, each once */
};

void vf_config_init(struct vf_config *config);         /* the defaults */
void vf_config_free(struct vf_config *config);
/* `to` holds nothing before. */
int vf_config_copy(struct vf_config *to, const struct vf_config *from, struct vf_err *err);
/* Changes what `text` names and keeps the rest; on failure nothing is changed. EINVAL with the line: unknown key, bad value,
 * no '=', a key twice with different values, a [section]. Several non_filterable lines in one text add up. EFBIG past VF_CONFIG_BYTES_MAX. */
int vf_config_change(struct vf_config *config, struct vf_span text, struct vf_err *err);
/* The whole effective config, each line with its comment; vf_config_change of it changes nothing. */
int vf_config_render(const struct vf_config *config, struct vf_buf *out, struct vf_err *err);
/* EBUSY when `to` changes dimension, metric or m of an index that has vectors. */
int vf_config_check_frozen(const struct vf_config *from, const struct vf_config *to, struct vf_err *err);
/* The rule lends config. */
struct vf_field_rule vf_config_rule(const struct vf_config *config);

#endif
