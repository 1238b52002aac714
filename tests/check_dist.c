/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "check.h"
#include "vecfs/dist.h"
#include "vecfs/limits.h"

#define N_MAX 300u

static uint64_t state = 88172645463325252u;
static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}
static float number(void) { return (float)((double)(next() >> 11) / (1ull << 53) * 2 - 1); }

/* Numbers at every offset from alignment. */
static float floats_a[N_MAX + 8], floats_b[5 * (N_MAX + 8)];
static uint8_t bytes_a[N_MAX + 64], bytes_b[5 * (N_MAX + 64)];

static void fill(void)
{
	for (size_t i = 0; i < sizeof floats_a / sizeof floats_a[0]; i++)
		floats_a[i] = number();
	for (size_t i = 0; i < sizeof floats_b / sizeof floats_b[0]; i++)
		floats_b[i] = number();
	for (size_t i = 0; i < sizeof bytes_a; i++)
		bytes_a[i] = (uint8_t)next();
	for (size_t i = 0; i < sizeof bytes_b; i++)
		bytes_b[i] = (uint8_t)next();
}

static void close_to(const char *name, size_t n, double got, double want)
{
	ck_assert_msg(fabs(got - want) <= 1e-5 * (1 + (double)n / 10), "%s n %zu: %.9g, plain C %.9g", name, n, got, want);
}

START_TEST(every_row_of_kernels_agrees_with_plain_c)
{
	const struct vf_kernels *rows[4];
	size_t nrows = vf_kernels_available(rows);

	ck_assert_str_eq(rows[0]->name, "plain");
	fill();
	for (size_t r = 0; r < nrows; r++)
		for (size_t n = 0; n <= N_MAX; n++) {
			const float *a = floats_a + n % 7, *b = floats_b + n % 5;
			const uint8_t *c = bytes_a + n % 61, *d = bytes_b + n % 53;
			close_to(rows[r]->name, n, rows[r]->dot_f32(a, b, n), rows[0]->dot_f32(a, b, n));
			close_to(rows[r]->name, n, rows[r]->l2sq_f32(a, b, n), rows[0]->l2sq_f32(a, b, n));
			ck_assert_uint_eq(rows[r]->l2sq_u8(c, d, n), rows[0]->l2sq_u8(c, d, n));
			ck_assert_int_eq(rows[r]->dot_u8(c, d, n), rows[0]->dot_u8(c, d, n));
		}
}
END_TEST

START_TEST(a_gather_agrees_with_one_row_at_a_time_and_is_the_same_at_every_place)
{
	static const uint32_t ids[] = { 3, 0, 4, 1, 2, 3, 3 };
	const struct vf_kernels *rows[4];
	size_t nrows = vf_kernels_available(rows), count = sizeof ids / sizeof ids[0];
	float out[7];

	fill();
	for (size_t r = 0; r < nrows; r++)
		for (size_t n = 0; n <= N_MAX; n++) {
			const struct vf_kernels *k = rows[r];
			k->l2sq_f32_gather(floats_a, floats_b, (N_MAX + 1) * sizeof(float), ids, count, n, out);
			for (size_t i = 0; i < count; i++)
				close_to(k->name, n, out[i], k->l2sq_f32(floats_a, floats_b + (N_MAX + 1) * ids[i], n));
			ck_assert(out[0] == out[5] && out[0] == out[6]);
			k->dot_f32_gather(floats_a, floats_b, (N_MAX + 1) * sizeof(float), ids, count, n, out);
			for (size_t i = 0; i < count; i++)
				close_to(k->name, n, out[i], -k->dot_f32(floats_a, floats_b + (N_MAX + 1) * ids[i], n));
			ck_assert(out[0] == out[5] && out[0] == out[6]);
			k->l2sq_u8_gather(bytes_a, bytes_b, N_MAX + 3, ids, count, n, out);
			for (size_t i = 0; i < count; i++)
				ck_assert(out[i] == (float)k->l2sq_u8(bytes_a, bytes_b + (N_MAX + 3) * ids[i], n));
			k->dot_u8_gather(bytes_a, bytes_b, N_MAX + 3, ids, count, n, out);
			for (size_t i = 0; i < count; i++)
				ck_assert(out[i] == -(float)k->dot_u8(bytes_a, bytes_b + (N_MAX + 3) * ids[i], n));
		}
}
END_TEST

START_TEST(a_query_of_floats_is_measured_against_rows_of_bytes)
{
	static const uint32_t ids[] = { 3, 0, 4, 3 };
	const struct vf_kernels *rows[4];
	size_t nrows = vf_kernels_available(rows);
	float out[4];

	fill();
	for (size_t r = 0; r < nrows; r++)
		for (size_t n = 0; n <= N_MAX; n++) {
			rows[r]->l2sq_mixed_gather(floats_a + n % 7, bytes_b, N_MAX + 3, ids, 4, n, out);
			for (size_t i = 0; i < 4; i++) {
				double sum = 0;
				for (size_t k = 0; k < n; k++) {
					double d = (double)floats_a[n % 7 + k] - bytes_b[(N_MAX + 3) * ids[i] + k];
					sum += d * d;
				}
				ck_assert_msg(fabs(out[i] - sum) <= 1e-5 * sum, "%s, n %zu: %.9g, in double %.9g", rows[r]->name, n, (double)out[i], sum);
			}
			ck_assert(out[0] == out[3]);
		}
}
END_TEST

START_TEST(codes_are_the_nearest_bytes_and_the_same_on_every_row)
{
	const struct vf_code_scale scale = { 0.75f, 150 };
	const struct vf_kernels *rows[4];
	size_t nrows = vf_kernels_available(rows);
	uint8_t want[N_MAX], got[N_MAX + 1];

	fill();
	for (size_t r = 0; r < nrows; r++)
		for (size_t n = 0; n <= N_MAX; n++) {
			const float *vector = floats_a + n % 7, *mean = floats_b + n % 5;
			bool beyond = false;
			for (size_t i = 0; i < n; i++) {
				volatile float x = vector[i] * scale.scale;   /* not fused */
				x = (x - mean[i]) * scale.inverse;
				x += 128.5f;
				beyond |= x < 0 || x >= 256;
				want[i] = (uint8_t)(x < 0 ? 0 : x >= 256 ? 255 : x);
			}
			got[n] = 77;
			ck_assert_int_eq(rows[r]->codes_u8(vector, mean, &scale, n, got), beyond);
			ck_assert_mem_eq(got, want, n);
			ck_assert_uint_eq(got[n], 77);
		}
}
END_TEST

START_TEST(codes_are_clamped_at_both_ends_and_tell_so)
{
	static const struct { float number; uint8_t code; bool clamped; } cases[] = {
		{ -128.5f, 0, false }, { -128.6f, 0, true }, { -1e30f, 0, true }, { 127.4f, 255, false }, { 127.5f, 255, true }, { 3e38f, 255, true },
		{ 0, 128, false }, { -0.5f, 128, false }, { 0.5f, 129, false },
	};
	const struct vf_code_scale scale = { 1, 1 };
	const struct vf_kernels *rows[4];
	size_t nrows = vf_kernels_available(rows);
	float mean[20] = { 0 }, vector[20] = { 0 };
	uint8_t code[20];

	/* At each place of a block and of what is left. */
	for (size_t r = 0; r < nrows; r++)
		for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
			for (size_t at = 0; at < 20; at++) {
				vector[at] = cases[c].number;
				ck_assert_int_eq(rows[r]->codes_u8(vector, mean, &scale, 20, code), cases[c].clamped);
				ck_assert_uint_eq(code[at], cases[c].code);
				vector[at] = 0;
			}
}
END_TEST

START_TEST(sums_in_double_have_the_same_bits_on_every_row)
{
	const struct vf_kernels *rows[4];
	size_t nrows = vf_kernels_available(rows);

	fill();
	for (size_t r = 1; r < nrows; r++)
		for (size_t n = 0; n <= N_MAX; n++) {
			double want[2], got[2];
			double a = rows[0]->exact_l2sq(floats_a + 1, floats_b, n), b = rows[r]->exact_l2sq(floats_a + 1, floats_b, n);
			rows[0]->exact_dot(floats_a, floats_b + 3, n, want);
			rows[r]->exact_dot(floats_a, floats_b + 3, n, got);
			ck_assert_mem_eq(&a, &b, sizeof a);
			ck_assert_mem_eq(want, got, sizeof want);
		}
}
END_TEST

/* Into arrays as a walk makes them, of numbers many of which are equal. */
START_TEST(a_pair_is_put_behind_all_that_are_as_near)
{
	const struct vf_kernels *rows[4];
	size_t nrows = vf_kernels_available(rows);
	enum { MOST = 300 };

	for (size_t r = 0; r < nrows; r++)
		for (uint32_t kinds = 1; kinds <= 1000; kinds *= 10) {
			float near[MOST + VF_PLACE_SCRATCH] = { 0 }, want_near[MOST];
			uint32_t node[MOST + VF_PLACE_SCRATCH] = { 0 }, want_node[MOST];
			uint64_t random = 5;
			for (uint32_t n = 0; n < MOST; n++) {
				random = random * 6364136223846793005u + 1442695040888963407u;
				float distance = (float)((random >> 33) % kinds) - 7;
				uint32_t at = n;
				for (; at > 0 && want_near[at - 1] > distance; at--) {
					want_near[at] = want_near[at - 1];
					want_node[at] = want_node[at - 1];
				}
				want_near[at] = distance;
				want_node[at] = n;
				ck_assert_uint_eq(rows[r]->place(near, node, n, distance, n), at);
				ck_assert_mem_eq(near, want_near, (n + 1) * sizeof *near);
				ck_assert_mem_eq(node, want_node, (n + 1) * sizeof *node);
			}
		}
}
END_TEST

START_TEST(integer_sums_do_not_overflow_at_the_largest_dimension)
{
	const struct vf_kernels *rows[4];
	size_t nrows = vf_kernels_available(rows);
	uint8_t *low = calloc(1, VF_DIM_MAX), *high = malloc(VF_DIM_MAX);

	memset(high, 255, VF_DIM_MAX);
	for (size_t r = 0; r < nrows; r++) {
		ck_assert_uint_eq(rows[r]->l2sq_u8(low, high, VF_DIM_MAX), VF_DIM_MAX * 255u * 255u);
		ck_assert_int_eq(rows[r]->dot_u8(low, low, VF_DIM_MAX), (int32_t)VF_DIM_MAX * 128 * 128);
		ck_assert_int_eq(rows[r]->dot_u8(low, high, VF_DIM_MAX), (int32_t)VF_DIM_MAX * -128 * 127);
	}
	free(low);
	free(high);
}
END_TEST

START_TEST(distances_are_what_the_metrics_say)
{
	float a[] = { 3, 4, 0 }, b[] = { 0, 0, 2 }, c[] = { -3, -4, 0 }, zero[] = { 0, 0, 0 }, twice[] = { 6, 8, 0 };

	ck_assert_double_eq(vf_distance(VF_COSINE, a, b, 3), 1);
	ck_assert_double_eq(vf_distance(VF_COSINE, a, c, 3), 2);
	ck_assert_double_eq(vf_distance(VF_COSINE, a, twice, 3), 0);
	ck_assert_double_eq(vf_distance(VF_COSINE, a, zero, 3), 1);
	ck_assert_double_eq(vf_distance(VF_EUCLIDEAN, a, zero, 3), 5);
	ck_assert_double_eq(vf_distance(VF_DOT, a, twice, 3), -50);
	ck_assert(!signbit(vf_distance(VF_DOT, a, b, 3)));
}
END_TEST

START_TEST(a_vector_is_at_cosine_distance_0_from_itself_at_every_scale)
{
	float v[N_MAX];

	for (int scale = -40; scale <= 36; scale++) {
		for (size_t i = 0; i < N_MAX; i++)
			v[i] = number() * powf(10, (float)scale);
		for (size_t n = 1; n <= N_MAX; n += 13)
			ck_assert_double_eq(vf_distance(VF_COSINE, v, v, n), 0);
	}
}
END_TEST

START_TEST(metrics_have_names_and_aliases)
{
	static const struct { const char *name; enum vf_metric metric; } good[] = {
		{ "cosine", VF_COSINE }, { "euclidean", VF_EUCLIDEAN }, { "dot", VF_DOT },
		{ "l2", VF_EUCLIDEAN }, { "ip", VF_DOT }, { "dotproduct", VF_DOT },
	};
	enum vf_metric metric;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		ck_assert(vf_metric_parse(good[i].name, &metric));
		ck_assert_int_eq(metric, good[i].metric);
	}
	ck_assert_str_eq(vf_metric_name(VF_EUCLIDEAN), "euclidean");
	ck_assert(!vf_metric_parse("Cosine", &metric));
	ck_assert(!vf_metric_parse("", &metric));
}
END_TEST

CHECK_MAIN("dist",
	every_row_of_kernels_agrees_with_plain_c, a_gather_agrees_with_one_row_at_a_time_and_is_the_same_at_every_place,
	a_query_of_floats_is_measured_against_rows_of_bytes, codes_are_the_nearest_bytes_and_the_same_on_every_row,
	codes_are_clamped_at_both_ends_and_tell_so, sums_in_double_have_the_same_bits_on_every_row, a_pair_is_put_behind_all_that_are_as_near, integer_sums_do_not_overflow_at_the_largest_dimension,
	distances_are_what_the_metrics_say, a_vector_is_at_cosine_distance_0_from_itself_at_every_scale, metrics_have_names_and_aliases)
