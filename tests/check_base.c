/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "vecfs/arena.h"
#include "vecfs/limits.h"
#include "vecfs/name.h"
#include "vecfs/spool.h"
#include "vecfs/value.h"

START_TEST(a_key_comes_back_from_its_file_name)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_buf name = VF_BUF_INIT, back = VF_BUF_INIT;
	static const char *const pairs[][2] = {
		{ "doc-1", "doc-1" }, { "a/b", "a%2Fb" }, { ".hidden", "%2Ehidden" }, { "100%", "100%25" }, { "a\nb", "a%0Ab" },
		{ "h\xc3\xa9", "h\xc3\xa9" }, { "a.b", "a.b" }, { "..", "%2E." }, { "x\x7f", "x%7F" },
	};

	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		vf_buf_clear(&name);
		vf_buf_clear(&back);
		ck_ok(vf_key_escape(vf_span_str(pairs[i][0]), &name, &err));
		ck_assert(vf_span_is(vf_buf_span(&name), pairs[i][1]));
		ck_ok(vf_key_unescape(vf_buf_span(&name), &back, &err));
		ck_assert(vf_span_is(vf_buf_span(&back), pairs[i][0]));
	}
	ck_fails(vf_key_unescape(vf_span_str("50%"), &back, &err), EINVAL);
	ck_fails(vf_key_unescape(vf_span_str("a%00b"), &back, &err), EINVAL);
	ck_fails(vf_key_unescape(vf_span_str("%FF"), &back, &err), EINVAL);
	vf_buf_free(&name);
	vf_buf_free(&back);
}
END_TEST

START_TEST(keys_are_checked)
{
	struct vf_err err = VF_ERR_INIT;
	char longest[VF_KEY_BYTES_MAX + 1];

	memset(longest, 'k', sizeof longest);
	ck_ok(vf_key_check(vf_span(longest, VF_KEY_BYTES_MAX), &err));
	ck_fails(vf_key_check(vf_span(longest, VF_KEY_BYTES_MAX + 1), &err), EINVAL);
	ck_fails(vf_key_check(vf_span("", 0), &err), EINVAL);
	ck_fails(vf_key_check(vf_span("a\0b", 3), &err), EINVAL);
}
END_TEST

START_TEST(utf8_is_valid_as_rfc_3629_says)
{
	static const char *const good[] = { "", "a", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf" };
	static const char *const bad[] = { "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
	                                   "\xf5\x80\x80\x80", "\xe2\x82", "\xff" };

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		ck_assert_msg(vf_utf8_valid(vf_span_str(good[i])), "good %zu", i);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ck_assert_msg(!vf_utf8_valid(vf_span_str(bad[i])), "bad %zu", i);
}
END_TEST

START_TEST(scratch_names_are_those_of_editors_and_copiers)
{
	static const char *const scratch[] = { ".a.msgpack.Xy12", "a~", "a.tmp", "a.part", ".a.swp", "sedAb3dE6", "4913", "XXAb3dE6",
		"configAb3dE6", "a.jsonAb3dE6" };
	static const char *const proper[] = { "a.msgpack", "sedAb3dE67", "sedab-de6", "49133", "tmp", "a.json" };

	for (size_t i = 0; i < sizeof scratch / sizeof scratch[0]; i++)
		ck_assert_msg(vf_name_is_scratch(scratch[i]), "%s", scratch[i]);
	for (size_t i = 0; i < sizeof proper / sizeof proper[0]; i++)
		ck_assert_msg(!vf_name_is_scratch(proper[i]), "%s", proper[i]);
}
END_TEST

static struct vf_value integer(int64_t i) { return (struct vf_value){ .kind = VF_INT, .integer = i }; }
static struct vf_value real(double d) { return (struct vf_value){ .kind = VF_FLOAT, .real = d }; }

START_TEST(numbers_compare_exactly_beyond_2_53)
{
	struct vf_value a = integer((1LL << 53) + 1), b = real(0x1p53), c = integer(INT64_MAX), d = real(0x1p63), e = integer(-1), f = real(-1.5);

	ck_assert_int_eq(vf_number_compare(&a, &b), 1);
	ck_assert_int_eq(vf_number_compare(&b, &a), -1);
	ck_assert_int_eq(vf_number_compare(&c, &d), -1);
	ck_assert_int_eq(vf_number_compare(&e, &f), 1);
	a = integer(5);
	b = real(5.0);
	ck_assert_int_eq(vf_number_compare(&a, &b), 0);
}
END_TEST

START_TEST(a_spool_reads_back_what_was_put_in_memory_and_on_disk)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_spool spool;
	uint8_t line[1000], got[1000];

	vf_spool_init(&spool, "/tmp");
	for (int i = 0; i < 3000; i++) {
		memset(line, i % 251, sizeof line);
		ck_ok(vf_spool_put(&spool, line, sizeof line, &err));
	}
	ck_ok(vf_spool_finish(&spool, &err));
	ck_assert(spool.fd >= 0);
	ck_assert_uint_eq(vf_spool_size(&spool), 3000000);
	ck_assert_int_eq(vf_spool_read(&spool, 2999 * 1000, got, sizeof got), 1000);
	memset(line, 2999 % 251, sizeof line);
	ck_assert_mem_eq(line, got, sizeof got);
	ck_assert_int_eq(vf_spool_read(&spool, 3000000, got, 1), 0);
	vf_spool_clear(&spool);
	ck_ok(vf_spool_put(&spool, "short", 5, &err));
	ck_ok(vf_spool_finish(&spool, &err));
	ck_assert_int_eq(vf_spool_read(&spool, 1, got, 100), 4);
	ck_assert_mem_eq(got, "hort", 4);
	vf_spool_free(&spool);
}
END_TEST

START_TEST(an_arena_is_aligned_and_reused)
{
	struct vf_arena arena = VF_ARENA_INIT;

	for (size_t n = 1; n < 100000; n = n * 3 + 1) {
		char *p = vf_arena_alloc(&arena, n);
		ck_assert_uint_eq((uintptr_t)p % 16, 0);
		memset(p, 1, n);
	}
	vf_arena_reset(&arena);
	struct vf_span copy = vf_arena_copy(&arena, vf_span_str("hello"));
	ck_assert_str_eq((const char *)copy.data, "hello");
	vf_arena_free(&arena);
}
END_TEST

CHECK_MAIN("base",
	a_key_comes_back_from_its_file_name, keys_are_checked, utf8_is_valid_as_rfc_3629_says,
	scratch_names_are_those_of_editors_and_copiers, numbers_compare_exactly_beyond_2_53,
	a_spool_reads_back_what_was_put_in_memory_and_on_disk, an_arena_is_aligned_and_reused)
