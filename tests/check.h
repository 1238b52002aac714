/* SPDX-License-Identifier: MIT */
/* check.h - what every unit test begins with. A test file ends in CHECK_MAIN with its list of tests. */
#ifndef VECFS_TESTS_CHECK_H
#define VECFS_TESTS_CHECK_H

#include <check.h>
#include <stdlib.h>

/* CHECK_MAIN("graph", a_test, another_test): the TAP lines name each. The time limit only catches a hang. */
#define CHECK_MAIN(name, ...)                                                  \
	int main(void)                                                         \
	{                                                                      \
		const TTest *tests[] = { __VA_ARGS__ };                        \
		Suite *suite = suite_create(name);                             \
		TCase *tcase = tcase_create(name);                             \
		tcase_set_timeout(tcase, 900);                                 \
		for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)    \
			tcase_add_test(tcase, tests[i]);                       \
		suite_add_tcase(suite, tcase);                                 \
		SRunner *runner = srunner_create(suite);                       \
		srunner_run_all(runner, CK_ENV);                               \
		int failed = srunner_ntests_failed(runner);                    \
		srunner_free(runner);                                          \
		return failed ? EXIT_FAILURE : EXIT_SUCCESS;                   \
	}

/* `n`, or with VECFS_TEST_SCALE=4 a quarter of it, but never less than `least`: the size of a set, the rounds of a loop. What is instrumented
 * by a sanitizer takes ten times as long or more. */
static inline unsigned scaled(unsigned n, unsigned least)
{
	const char *text = getenv("VECFS_TEST_SCALE");
	int scale = text ? atoi(text) : 1;
	unsigned part = scale > 1 ? n / (unsigned)scale : n;

	return part > least ? part : least < n ? least : n;
}

/* Success of a call that fills `err`. */
#define ck_ok(call) do { int ok_rc = (call); ck_assert_msg(ok_rc == 0, "%s: %d %s", #call, ok_rc, err.text); } while (0)
#define ck_fails(call, errno_code) do { int ok_rc = (call); \
	ck_assert_msg(ok_rc == -(errno_code), "%s: %d, expected %d: %s", #call, ok_rc, -(errno_code), err.text); } while (0)

#endif
