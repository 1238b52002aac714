/* SPDX-License-Identifier: MIT */
/* fields.c - the fields that a tree asks about, held against a rule that has come since it was parsed. */
#include "filter_internal.h"

#include <errno.h>

/* The first leaf about a field that the rule does not let be filtered by. */
static const struct vf_filter *find_barred(const struct vf_filter *f, const struct vf_field_rule *rule)
{
	const struct vf_filter *found = NULL;

	if (vf_filter_is_leaf(f))
		return rule->filterable(rule->ctx, f->field) ? NULL : f;
	for (uint32_t i = 0; i < f->count && !found; i++)
		found = find_barred(f->parts[i], rule);
	return found;
}

int vf_filter_check_fields(const struct vf_filter *filter, const struct vf_field_rule *rule, struct vf_err *err)
{
	const struct vf_filter *barred = filter ? find_barred(filter, rule) : NULL;

	if (!barred)
		return 0;
	return vf_fail(err, EINVAL, "filter: the field '%.*s' is in non_filterable now: it is stored, but cannot be filtered by", VF_SPAN_ARG(barred->field));
}
