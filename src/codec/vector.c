/* SPDX-License-Identifier: MIT */
#include <endian.h>
#include <errno.h>
#include <math.h>

#include "request_internal.h"

#define FORMS "{\"float32\": [...]}, a list of numbers, or binary little-endian float32"

/* The list or the binary inside the form that was used; NULL when it is none of them. */
static const struct vf_value *numbers_of(const struct vf_value *value)
{
	if (value->kind == VF_LIST || value->kind == VF_BIN)
		return value;
	if (value->kind != VF_MAP || value->count != 1 || !vf_span_is(value->entries[0].name, "float32"))
		return NULL;
	value = &value->entries[0].value;
	return value->kind == VF_LIST || value->kind == VF_BIN ? value : NULL;
}

static int refuse_form(const struct vf_value *value, const char *what, struct vf_err *err)
{
	if (value->kind != VF_MAP)
		return vf_kind_refuse(value, what, FORMS, err);
	for (uint32_t i = 0; i < value->count; i++) {
		struct vf_span name = value->entries[i].name;
		if (!vf_span_is(name, "float32"))
			return vf_fail(err, EINVAL, "%s has the unknown field '%.*s'; it must be " FORMS, what, VF_SPAN_ARG(name));
	}
	if (value->count == 0)
		return vf_fail(err, EINVAL, "%s is an empty map; it must be " FORMS, what);
	return vf_fail(err, EINVAL, "%s: float32 is neither a list of numbers nor binary", what);
}

int vf_vector_count(const struct vf_value *value, const char *what, uint32_t *dim, struct vf_err *err)
{
	const struct vf_value *numbers = numbers_of(value);

	if (!numbers)
		return refuse_form(value, what, err);
	if (numbers->kind == VF_BIN && numbers->bytes.len % 4)
		return vf_fail(err, EINVAL, "%s is binary of %zu bytes; float32 takes a multiple of 4", what, numbers->bytes.len);
	size_t n = numbers->kind == VF_BIN ? numbers->bytes.len / 4 : numbers->count;
	if (n == 0 || n > VF_DIM_MAX)
		return vf_fail(err, EINVAL, "%s has %zu numbers; a vector has 1 to %u", what, n, VF_DIM_MAX);
	*dim = (uint32_t)n;
	return 0;
}

void vf_vector_load(const uint8_t *bytes, uint32_t dim, size_t stride, float *out)
{
	if (stride == sizeof *out && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) {
		memcpy(out, bytes, dim * sizeof *out);
		return;
	}
	for (uint32_t i = 0; i < dim; i++) {
		uint32_t bits;
		memcpy(&bits, bytes + i * stride, sizeof bits);
		bits = le32toh(bits);
		memcpy(&out[i], &bits, sizeof bits);
	}
}

/* How many of the first items are floats that float32 holds. */
static uint32_t fill_floats(const struct vf_value *list, float *out)
{
	uint32_t i = 0;

	for (; i < list->count; i++) {
		const struct vf_value *item = &list->items[i];
		out[i] = (float)item->real;
		if (item->kind != VF_FLOAT || !isfinite(out[i]))
			break;
	}
	return i;
}

static int fill_from_list(const struct vf_value *list, const char *what, float *out, struct vf_err *err)
{
	for (uint32_t i = fill_floats(list, out); i < list->count; i++) {
		const struct vf_value *item = &list->items[i];
		if (item->kind == VF_FLOAT)
			out[i] = (float)item->real;
		else if (item->kind == VF_INT)
			out[i] = (float)item->integer;
		else
			return vf_fail(err, EINVAL, "%s[%u] is %s; it must be a number", what, i, vf_kind_phrase(item->kind));
		if (isinf(out[i]) && !isinf(item->real))
			return vf_fail(err, EINVAL, "%s[%u] is %g, beyond what float32 holds", what, i, item->real);
	}
	return 0;
}

int vf_vector_fill(const struct vf_value *value, const char *what, float *out, struct vf_err *err)
{
	const struct vf_value *numbers = numbers_of(value);

	if (numbers->kind == VF_LIST)
		return fill_from_list(numbers, what, out, err);
	vf_vector_load(numbers->bytes.data, (uint32_t)(numbers->bytes.len / 4), 4, out);
	return 0;
}

int vf_vector_from_value(const struct vf_value *value, const char *what, struct vf_arena *arena,
                         const float **vector, uint32_t *dim, struct vf_err *err)
{
	uint32_t n;
	int rc = vf_vector_count(value, what, &n, err);

	if (rc)
		return rc;
	float *floats = vf_arena_alloc(arena, n * sizeof *floats);
	if (!floats)
		return vf_oom(err);
	rc = vf_vector_fill(value, what, floats, err);
	if (rc)
		return rc;
	*vector = floats;
	*dim = n;
	return 0;
}

int vf_vector_check_dim(uint32_t dim, const char *what, const struct vf_config *config, const char *index, struct vf_err *err)
{
	if (config->dim == 0)
		return vf_fail(err, EINVAL, "index %s has no dimension yet; set the dimension first: write 'dimension = %u' to config",
		               index, dim);
	if (dim != config->dim)
		return vf_fail(err, EINVAL, "%s has %u numbers, index %s has %u", what, dim, index, config->dim);
	return 0;
}

static int refuse_number(const float *vector, const char *what, struct vf_err *err)
{
	uint32_t i = 0;

	while (isfinite(vector[i]))
		i++;
	return vf_fail(err, EINVAL, "%s[%u] is %s", what, i, isnan(vector[i]) ? "NaN" : "infinite");
}

/* The largest and all of the bits, without their signs. */
struct magnitudes { uint32_t most, any; };

static inline void look_at(struct magnitudes *m, const float *numbers, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &numbers[i], sizeof bits);
		bits &= 0x7fffffff;
		m->most = m->most > bits ? m->most : bits;
		m->any |= bits;
	}
}

#define STRIDE 64u      /* a number that the compiler knows, for it to take many at a time */

/* By the bits, without a branch a number: an exponent of all ones is what is not finite. */
int vf_vector_check_numbers(const float *vector, uint32_t dim, const char *what, enum vf_metric metric, struct vf_err *err)
{
	const uint32_t infinite = 0x7f800000;
	struct magnitudes m = { 0, 0 };
	uint32_t i = 0;

	for (; i + STRIDE <= dim; i += STRIDE)
		look_at(&m, vector + i, STRIDE);
	look_at(&m, vector + i, dim - i);
	if (m.most >= infinite)
		return refuse_number(vector, what, err);
	if (m.any == 0 && metric == VF_COSINE)
		return vf_fail(err, EINVAL, "%s is all zeros, which has no direction for the cosine metric", what);
	return 0;
}
