/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "check.h"
#include "vecfs/config.h"
#include "vecfs/limits.h"

static int change(struct vf_config *config, const char *text, struct vf_err *why)
{
	return vf_config_change(config, vf_span_str(text), why);
}

static bool same(const struct vf_config *a, const struct vf_config *b)
{
	return a->dim == b->dim && a->metric == b->metric && a->top_k == b->top_k && memcmp(&a->recall, &b->recall, sizeof a->recall) == 0 &&
	       a->m == b->m && a->ef_construction == b->ef_construction &&
	       vf_span_equal(vf_buf_span(&a->non_filterable), vf_buf_span(&b->non_filterable));
}

/* The text, to be freed. */
static char *render(const struct vf_config *config)
{
	struct vf_buf out = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;

	ck_ok(vf_config_render(config, &out, &err));
	ck_ok(vf_buf_put(&out, "", 1, &err));
	return (char *)out.data;
}

START_TEST(the_defaults_read_as_the_manual_shows)
{
	struct vf_config config;
	vf_config_init(&config);
	char *text = render(&config);

	ck_assert_str_eq(text,
		"# dimension =                # 1 to 16384; needed before the first vector\n"
		"metric = cosine              # cosine | euclidean | dot        (aliases: l2, ip, dotproduct)\n"
		"non_filterable =             # metadata fields that are stored but not indexed\n"
		"top_k = 10                   # default of a question that names none, and of near/ and answers/\n"
		"recall = 0.98                # what an approximate answer must reach; the search effort is tuned to it\n"
		"m = 16                       # links a node\n"
		"ef_construction = 200        # effort of linking\n");
	free(text);
	vf_config_free(&config);
}
END_TEST

START_TEST(a_whole_config_reads_as_it_was_written)
{
	static const char whole[] =
		"dimension = 384              # 1 to 16384; needed before the first vector\n"
		"metric = euclidean           # cosine | euclidean | dot        (aliases: l2, ip, dotproduct)\n"
		"non_filterable = title, body # metadata fields that are stored but not indexed\n"
		"top_k = 7                    # default of a question that names none, and of near/ and answers/\n"
		"recall = 0.995               # what an approximate answer must reach; the search effort is tuned to it\n"
		"m = 32                       # links a node\n"
		"ef_construction = 65536      # effort of linking\n";
	struct vf_config config;
	struct vf_err err = VF_ERR_INIT;

	vf_config_init(&config);
	ck_ok(change(&config, whole, &err));
	ck_assert_uint_eq(config.dim, 384);
	ck_assert_int_eq(config.metric, VF_EUCLIDEAN);
	ck_assert_uint_eq(config.top_k, 7);
	ck_assert_double_eq(config.recall, 0.995);
	ck_assert_uint_eq(config.m, 32);
	ck_assert_uint_eq(config.ef_construction, 65536);
	ck_assert_uint_eq(config.non_filterable.len, 11);
	ck_assert_mem_eq(config.non_filterable.data, "title\0body\0", 11);
	char *text = render(&config);
	ck_assert_str_eq(text, whole);
	free(text);
	vf_config_free(&config);
}
END_TEST

START_TEST(a_change_replaces_what_it_names_and_keeps_the_rest)
{
	struct vf_config config;
	struct vf_err err = VF_ERR_INIT;

	vf_config_init(&config);
	ck_ok(change(&config, "dimension = 3\nnon_filterable = a, b", &err));
	ck_ok(change(&config, "metric = DOT", &err));
	ck_assert_uint_eq(config.dim, 3);
	ck_assert_int_eq(config.metric, VF_DOT);
	ck_assert_uint_eq(config.top_k, 10);
	ck_ok(change(&config, "non_filterable = c", &err));
	ck_assert_mem_eq(config.non_filterable.data, "c\0", 2);
	ck_ok(change(&config, "non_filterable =", &err));
	ck_assert_uint_eq(config.non_filterable.len, 0);
	ck_ok(change(&config, "", &err));
	ck_ok(change(&config, "\n # nothing\n", &err));
	ck_assert_uint_eq(config.dim, 3);
	vf_config_free(&config);
}
END_TEST

START_TEST(the_ways_that_people_write_lines_are_read)
{
	static const char *const good[] = {
		"dimension=3", "  dimension  =  3  ", "\tdimension = 3\t# three", "\xef\xbb\277dimension = 3", "dimension = 3\r\n\r\n",
		"# comment\n\ndimension = 3 ; old\n; another", "dimension = 3\ndimension = 3", "metric = l2\nmetric = Euclidean\ndimension = 003",
		"metric = cosine\n   dimension = 3", "#\n;\n#=\n#[x]\ndimension = 3",
	};
	struct vf_err err = VF_ERR_INIT;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		struct vf_config config;
		vf_config_init(&config);
		ck_ok(change(&config, good[i], &err));
		ck_assert_uint_eq(config.dim, 3);
		vf_config_free(&config);
	}
}
END_TEST

START_TEST(every_metric_has_its_names)
{
	static const struct { const char *text; enum vf_metric metric; } names[] = {
		{ "cosine", VF_COSINE }, { "Cosine", VF_COSINE }, { "euclidean", VF_EUCLIDEAN }, { "l2", VF_EUCLIDEAN }, { "L2", VF_EUCLIDEAN },
		{ "dot", VF_DOT }, { "ip", VF_DOT }, { "dotproduct", VF_DOT }, { "DotProduct", VF_DOT },
	};
	struct vf_err err = VF_ERR_INIT;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct vf_config config;
		char text[64];
		vf_config_init(&config);
		snprintf(text, sizeof text, "metric = %s", names[i].text);
		ck_ok(change(&config, text, &err));
		ck_assert_int_eq(config.metric, names[i].metric);
		vf_config_free(&config);
	}
}
END_TEST

START_TEST(a_mistake_is_refused_with_its_line_and_changes_nothing)
{
	static const struct { const char *text; uint64_t line; const char *word; } bad[] = {
		{ "dimension = 4\ntopk = 3\n", 2, "unknown key 'topk'" },
		{ "Dimension = 4", 1, "unknown key 'Dimension'" },
		{ "\n\n# c\ndimension 4\n", 4, "'dimension 4' is not of the form `key = value`" },
		{ "dimension: 4", 1, "key = value" },
		{ "dimension : 4 = 4", 1, "unknown key" },
		{ "= 4", 1, "unknown key ''" },
		{ "m = 8\r\n[index]\r\nm = 8", 2, "[sections]" },
		{ "[index", 1, "[sections]" },
		{ "[a=b]", 1, "[sections]" },
		{ "dimension =", 1, "1 to 16384, not ''" },
		{ "dimension = 0", 1, "1 to 16384, not '0'" },
		{ "dimension = 16385", 1, "1 to 16384, not '16385'" },
		{ "dimension = 99999999999999999999", 1, "1 to 16384" },
		{ "dimension = 18446744073709551617", 1, "1 to 16384" },
		{ "dimension = -1", 1, "1 to 16384" },
		{ "dimension = +1", 1, "1 to 16384" },
		{ "dimension = 3.0", 1, "1 to 16384" },
		{ "dimension = 3 4", 1, "1 to 16384" },
		{ "dimension = 3#4", 1, "1 to 16384" },
		{ "metric = manhattan", 1, "cosine, euclidean or dot, not 'manhattan'" },
		{ "metric = cosinecosinecosinecosine", 1, "cosine, euclidean or dot" },
		{ "top_k = 0", 1, "1 or more, not '0'" },
		{ "top_k = 4294967296", 1, "1 or more" },
		{ "recall = 0", 1, "above 0 and at most 1, not '0'" },
		{ "recall = 1.01", 1, "above 0" }, { "recall = nan", 1, "above 0" }, { "recall = -0.5", 1, "above 0" }, { "recall = 0x1p-1", 1, "above 0" },
		{ "recall = 0,9", 1, "above 0" }, { "recall = 98%", 1, "above 0" }, { "recall = .e", 1, "above 0" },
		{ "m = 3", 1, "4 to 64" }, { "m = 65", 1, "4 to 64" },
		{ "ef_construction = 15", 1, "16 to 65536" }, { "ef_construction = 65537", 1, "16 to 65536" },
		{ "m = 8\nm = 9\n", 2, "in line 1 and in line 2" },
		{ "dimension = 5\n\nmetric = l2\ndimension = 6\n", 4, "dimension is given twice with different values, in line 1 and in line 4" },
		{ "non_filterable = a,", 1, "empty field name" }, { "non_filterable = ,a", 1, "empty field name" },
		{ "non_filterable = a, ,b", 1, "empty field name" }, { "non_filterable = ,", 1, "empty field name" },
		{ "non_filterable = a,#b", 1, "begins like a comment" }, { "non_filterable = a,;b", 1, "begins like a comment" },
		{ "non_filterable = a\x01", 1, "control byte 0x01" }, { "non_filterable = a\fb", 1, "control byte 0x0c" },
		{ "m = 8\n\xff = 3", 2, "not text" },
		{ "# \xff", 1, "not text" },
	};
	struct vf_config config, before;
	struct vf_err err = VF_ERR_INIT;

	vf_config_init(&config);
	ck_ok(change(&config, "dimension = 3\nnon_filterable = x, y\n", &err));
	ck_ok(vf_config_copy(&before, &config, &err));
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		ck_assert_msg(change(&config, bad[i].text, &err) == -EINVAL, "%s", bad[i].text);
		ck_assert_int_eq(err.unit, VF_PLACE_LINE);
		ck_assert_msg(err.place == bad[i].line && strstr(err.text, bad[i].word), "%s: line %" PRIu64 ", %s", bad[i].text, err.place, err.text);
		ck_assert(same(&config, &before));
	}
	ck_fails(vf_config_change(&config, vf_span("m = 8\nm \0= 8", 12), &err), EINVAL);
	ck_assert_uint_eq(err.place, 2);
	ck_assert(same(&config, &before));
	vf_config_free(&config);
	vf_config_free(&before);
}
END_TEST

static void put_filler(char *out, size_t n)
{
	memset(out, 'x', n);
	out[n] = 0;
}

START_TEST(long_lines_are_refused_not_cut)
{
	struct vf_err err = VF_ERR_INIT;
	size_t longest = 0;

	for (size_t n = 1; n < 2000; n++) {
		struct vf_config config, back;
		char text[2100] = "m = 8\nnon_filterable = ";
		vf_config_init(&config);
		vf_config_init(&back);
		put_filler(text + strlen(text), n);
		int rc = change(&config, text, &err);
		if (rc == 0) {
			ck_assert_uint_eq(config.non_filterable.len, n + 1);
			char *rendered = render(&config);
			ck_ok(change(&back, rendered, &err));
			ck_assert(same(&config, &back));
			free(rendered);
			ck_assert_uint_eq(n, longest + 1);
			longest = n;
		} else {
			ck_assert_int_eq(rc, -EINVAL);
			ck_assert_uint_eq(err.place, 2);
		}
		vf_config_free(&config);
		vf_config_free(&back);
	}
	ck_assert_uint_ge(longest, 100);
}
END_TEST

START_TEST(a_comment_may_be_of_any_length)
{
	static char text[40000];
	struct vf_config config;
	struct vf_err err = VF_ERR_INIT;

	vf_config_init(&config);
	strcpy(text, "dimension = 3 # ");
	put_filler(text + strlen(text), 30000);
	strcat(text, "\nm = 8");
	ck_ok(change(&config, text, &err));
	ck_assert_uint_eq(config.dim, 3);
	ck_assert_uint_eq(config.m, 8);
	vf_config_free(&config);
}
END_TEST

START_TEST(a_config_past_its_limit_is_refused)
{
	static uint8_t text[VF_CONFIG_BYTES_MAX + 1];
	struct vf_config config;
	struct vf_err err = VF_ERR_INIT;

	vf_config_init(&config);
	memset(text, '\n', sizeof text);
	ck_ok(vf_config_change(&config, vf_span(text, sizeof text - 1), &err));
	ck_fails(vf_config_change(&config, vf_span(text, sizeof text), &err), EFBIG);
	vf_config_free(&config);
}
END_TEST

START_TEST(random_configs_come_back_from_their_text)
{
	static const char *const pieces[] = { "a", "b", " ", "-", ".", "#", ";", "=", ":", "[", "]", "\xc3\xa9", "\"", "$" };
	struct vf_err err = VF_ERR_INIT;
	int kept = 0;

	srand(1);
	for (int i = 0; i < 5000; i++) {
		struct vf_config config, back;
		struct vf_buf text = VF_BUF_INIT;
		vf_config_init(&config);
		vf_config_init(&back);
		ck_ok(vf_buf_printf(&text, &err, "dimension=%d\nrecall=%.17g\nm=%d\nef_construction=%d\ntop_k=%d\nmetric=%s\n", 1 + rand() % 16384,
		                    (rand() % 100000 + 1) / 100000.0, 4 + rand() % 61, 16 + rand() % 65521, 1 + rand(), rand() % 2 ? "ip" : "l2"));
		for (int names = rand() % 30; names > 0; names--) {
			ck_ok(vf_buf_put_str(&text, names % 3 ? "non_filterable=x" : "non_filterable=", &err));
			for (int k = rand() % 12 + 1; k > 0; k--)
				ck_ok(vf_buf_put_str(&text, pieces[(size_t)rand() % (sizeof pieces / sizeof pieces[0])], &err));
			ck_ok(vf_buf_put_str(&text, rand() % 3 ? "\n" : ", tail\n", &err));
		}
		if (vf_config_change(&config, vf_buf_span(&text), &err) == 0) {
			char *rendered = render(&config);
			ck_ok(change(&back, rendered, &err));
			ck_assert_msg(same(&config, &back), "%.*s\n%s", (int)text.len, (char *)text.data, rendered);
			char *again = render(&back);
			ck_assert_str_eq(rendered, again);
			ck_ok(change(&back, again, &err));
			free(rendered);
			free(again);
			kept++;
		}
		vf_buf_free(&text);
		vf_config_free(&config);
		vf_config_free(&back);
	}
	ck_assert_int_gt(kept, 500);
}
END_TEST

START_TEST(many_names_take_several_lines)
{
	struct vf_config config, back;
	struct vf_buf text = VF_BUF_INIT;
	struct vf_err err = VF_ERR_INIT;

	vf_config_init(&config);
	vf_config_init(&back);
	for (int i = 0; i < 500; i++)
		ck_ok(vf_buf_printf(&text, &err, "non_filterable = field-%d, field-%d\n", i, i / 2));
	ck_ok(vf_config_change(&config, vf_buf_span(&text), &err));
	char *rendered = render(&config);
	ck_ok(change(&back, rendered, &err));
	ck_assert(same(&config, &back));
	struct vf_field_rule rule = vf_config_rule(&back);
	for (int i = 0; i < 510; i++) {
		char name[20];
		snprintf(name, sizeof name, "field-%d", i);
		ck_assert(rule.filterable(rule.ctx, vf_span_str(name)) == (i >= 500));
	}
	free(rendered);
	vf_buf_free(&text);
	vf_config_free(&config);
	vf_config_free(&back);
}
END_TEST

/* Adds distinct names of `len` bytes until one is too much. */
static void fill(struct vf_config *config, int len)
{
	struct vf_err err = VF_ERR_INIT;
	int rc = 0;

	for (int i = 0; rc == 0; i += 50) {
		struct vf_buf text = VF_BUF_INIT;
		char *rendered = render(config);
		ck_ok(vf_buf_put_str(&text, rendered, &err));
		for (int k = i; k < i + 50; k++)
			ck_ok(vf_buf_printf(&text, &err, "non_filterable = %0*d\n", len, k));
		if (text.len > VF_CONFIG_BYTES_MAX)
			text.len = VF_CONFIG_BYTES_MAX;
		rc = vf_config_change(config, vf_buf_span(&text), &err);
		vf_buf_free(&text);
		free(rendered);
	}
	ck_assert_int_eq(rc, -EFBIG);
}

START_TEST(the_longest_lists_still_come_back)
{
	for (int len = 4; len < 100; len += 19) {
		struct vf_config config, back;
		struct vf_err err = VF_ERR_INIT;
		vf_config_init(&config);
		vf_config_init(&back);
		fill(&config, len);
		ck_assert_uint_gt(config.non_filterable.len, 10000);
		char *rendered = render(&config);
		ck_ok(change(&back, rendered, &err));
		ck_assert(same(&config, &back));
		free(rendered);
		vf_config_free(&config);
		vf_config_free(&back);
	}
}
END_TEST

START_TEST(the_rule_knows_whole_names_only)
{
	struct vf_config config;
	struct vf_err err = VF_ERR_INIT;

	vf_config_init(&config);
	struct vf_field_rule rule = vf_config_rule(&config);
	ck_assert(rule.filterable(rule.ctx, vf_span_str("title")));
	ck_ok(change(&config, "non_filterable = title, the body", &err));
	ck_assert(!rule.filterable(rule.ctx, vf_span_str("title")));
	ck_assert(!rule.filterable(rule.ctx, vf_span_str("the body")));
	ck_assert(rule.filterable(rule.ctx, vf_span_str("body")));
	ck_assert(rule.filterable(rule.ctx, vf_span_str("titl")));
	ck_assert(rule.filterable(rule.ctx, vf_span_str("titles")));
	ck_assert(rule.filterable(rule.ctx, vf_span_str("")));
	vf_config_free(&config);
}
END_TEST

START_TEST(dimension_metric_and_m_freeze_and_nothing_else)
{
	static const struct { const char *text; int code; } changes[] = {
		{ "dimension = 4", EBUSY }, { "metric = l2", EBUSY }, { "m = 8", EBUSY }, { "dimension = 3", 0 }, { "metric = cosine", 0 },
		{ "m = 16", 0 }, { "top_k = 5", 0 }, { "recall = 1", 0 }, { "ef_construction = 100", 0 }, { "non_filterable = a", 0 },
	};
	struct vf_config from, to;
	struct vf_err err = VF_ERR_INIT;

	vf_config_init(&from);
	ck_ok(change(&from, "dimension = 3", &err));
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		ck_ok(vf_config_copy(&to, &from, &err));
		ck_ok(change(&to, changes[i].text, &err));
		ck_assert_int_eq(vf_config_check_frozen(&from, &to, &err), -changes[i].code);
		vf_config_free(&to);
	}
	vf_config_free(&from);
}
END_TEST

CHECK_MAIN("config",
	the_defaults_read_as_the_manual_shows, a_whole_config_reads_as_it_was_written, a_change_replaces_what_it_names_and_keeps_the_rest,
	the_ways_that_people_write_lines_are_read, every_metric_has_its_names, a_mistake_is_refused_with_its_line_and_changes_nothing,
	long_lines_are_refused_not_cut, a_comment_may_be_of_any_length, a_config_past_its_limit_is_refused,
	random_configs_come_back_from_their_text, many_names_take_several_lines, the_longest_lists_still_come_back, the_rule_knows_whole_names_only,
	dimension_metric_and_m_freeze_and_nothing_else)
