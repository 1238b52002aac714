/* SPDX-License-Identifier: MIT */
/* The settings of an index and their text. One row of `keys` a setting; inih splits the lines, which are cleaned and
 * counted here, so that every message has its line. */
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec_internal.h"
#include "vecfs/config.h"
#include "vecfs/name.h"

/* inih copies a line into an array of this size, with CR, LF and NUL. */
#define FIELD_NAME_BYTES_MAX (INI_MAX_LINE - 3 - (sizeof "non_filterable = " - 1))
/* A long list of names goes on in a second line, where it is still easy to read. */
#define LIST_BYTES_MAX       80u
#define COMMENT_COLUMN       28
/* A line takes at most three times the bytes of its names: what is rendered can be read again. */
#define NAMES_BYTES_MAX      (VF_CONFIG_BYTES_MAX / 4)

struct reading {
	struct vf_config config;          /* what has been read, over what was */
	struct vf_span rest;
	uint64_t line;                    /* from 1 */
	uint64_t *lines;                  /* of each key: where it was set, 0: not yet */
	struct vf_err *err;
	int rc;
};

void vf_config_init(struct vf_config *config)
{
	*config = (struct vf_config){
		.dim = 0,
		.metric = VF_COSINE,
		.top_k = VF_TOP_K_DEFAULT,
		.recall = VF_RECALL_DEFAULT,
		.m = VF_M_DEFAULT,
		.ef_construction = VF_EF_CONSTRUCTION_DEFAULT,
		.non_filterable = VF_BUF_INIT,
	};
}

void vf_config_free(struct vf_config *config)
{
	vf_buf_free(&config->non_filterable);
}

int vf_config_copy(struct vf_config *to, const struct vf_config *from, struct vf_err *err)
{
	struct vf_buf names = VF_BUF_INIT;
	int rc = vf_buf_put(&names, from->non_filterable.data, from->non_filterable.len, err);

	if (rc)
		return rc;
	*to = *from;
	to->non_filterable = names;
	return 0;
}

/* ---- names of fields ---- */

/* The first name, or the one behind `name`; NULL behind the last. */
static const char *next_name(const struct vf_config *config, const char *name)
{
	const char *first = (const char *)config->non_filterable.data;
	const char *next = name ? name + strlen(name) + 1 : first;

	return first && next < first + config->non_filterable.len ? next : NULL;
}

static bool has_name(const struct vf_config *config, struct vf_span name)
{
	for (const char *n = next_name(config, NULL); n; n = next_name(config, n))
		if (vf_span_is(name, n))
			return true;
	return false;
}

static bool is_filterable(const void *ctx, struct vf_span field)
{
	return !has_name(ctx, field);
}

struct vf_field_rule vf_config_rule(const struct vf_config *config)
{
	return (struct vf_field_rule){ is_filterable, config };
}

/* ---- values ---- */

static int fail_line(struct reading *r, const char *key, const char *what, struct vf_span value)
{
	return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "%s is %s, not '%.*s'", key, what, VF_SPAN_ARG(value));
}

/* Decimal digits and nothing else. */
static bool read_number(const char *text, uint64_t min, uint64_t max, uint32_t *out)
{
	uint64_t n = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || n > max)
			return false;
		n = n * 10 + (uint64_t)(*text - '0');
	}
	if (n < min || n > max)
		return false;
	*out = (uint32_t)n;
	return true;
}

static bool read_share(const char *text, double *out)
{
	char *end;

	if (!*text || strspn(text, "0123456789.eE+-") != strlen(text))
		return false;
	double d = strtod(text, &end);
	if (*end || !(d > 0 && d <= 1))
		return false;
	*out = d;
	return true;
}

static bool read_metric(const char *text, enum vf_metric *out)
{
	char lower[16];
	size_t len = strlen(text);

	if (len >= sizeof lower)
		return false;
	for (size_t i = 0; i <= len; i++)
		lower[i] = (char)tolower((unsigned char)text[i]);
	return vf_metric_parse(lower, out);
}

/* What would not come back from the line that it is rendered into cannot be named there. */
static int check_name(struct reading *r, struct vf_span name)
{
	if (name.len == 0)
		return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "non_filterable has an empty field name");
	if (name.len > FIELD_NAME_BYTES_MAX)
		return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "a field name in non_filterable has at most %zu bytes, this one has %zu",
		                  (size_t)FIELD_NAME_BYTES_MAX, name.len);
	for (size_t i = 0; i < name.len; i++)
		if (name.data[i] < 0x20 || name.data[i] == 0x7f)
			return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "control byte 0x%02x in a field name", name.data[i]);
	if (name.data[0] == '#' || name.data[0] == ';')
		return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "field name '%.*s' begins like a comment", VF_SPAN_ARG(name));
	return 0;
}

static struct vf_span trim(struct vf_span s)
{
	while (s.len && (s.data[0] == ' ' || s.data[0] == '\t'))
		s = vf_span(s.data + 1, s.len - 1);
	while (s.len && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
		s.len--;
	return s;
}

static int add_name(struct reading *r, struct vf_span name)
{
	int rc = check_name(r, name);

	if (rc || has_name(&r->config, name))
		return rc;
	if (r->config.non_filterable.len + name.len + 1 > NAMES_BYTES_MAX)
		return vf_fail_at(r->err, EFBIG, VF_PLACE_LINE, r->line, "the field names of non_filterable have more than %u bytes in all",
		                  NAMES_BYTES_MAX);
	if ((rc = vf_buf_reserve(&r->config.non_filterable, name.len + 1, r->err)) == 0) {
		(void)vf_buf_put(&r->config.non_filterable, name.data, name.len, r->err);
		(void)vf_buf_put(&r->config.non_filterable, "", 1, r->err);
	}
	return rc;
}

/* ---- one row a setting ---- */

static int set_dimension(struct reading *r, const char *value)
{
	return read_number(value, 1, VF_DIM_MAX, &r->config.dim) ? 0 : fail_line(r, "dimension", "1 to 16384", vf_span_str(value));
}

static int set_metric(struct reading *r, const char *value)
{
	return read_metric(value, &r->config.metric) ? 0 : fail_line(r, "metric", "cosine, euclidean or dot", vf_span_str(value));
}

/* Several lines in one text add up. */
static int set_non_filterable(struct reading *r, const char *value)
{
	struct vf_span rest = vf_span_str(value);
	int rc = 0;

	while (rest.len && rc == 0) {
		const uint8_t *comma = memchr(rest.data, ',', rest.len);
		size_t len = comma ? (size_t)(comma - rest.data) : rest.len;
		rc = add_name(r, trim(vf_span(rest.data, len)));
		if (comma && len + 1 == rest.len)
			return check_name(r, vf_span(NULL, 0));
		rest = comma ? vf_span(comma + 1, rest.len - len - 1) : vf_span(NULL, 0);
	}
	return rc;
}

static int set_top_k(struct reading *r, const char *value)
{
	return read_number(value, 1, UINT32_MAX, &r->config.top_k) ? 0 : fail_line(r, "top_k", "1 or more", vf_span_str(value));
}

static int set_recall(struct reading *r, const char *value)
{
	return read_share(value, &r->config.recall) ? 0 : fail_line(r, "recall", "above 0 and at most 1", vf_span_str(value));
}

static int set_m(struct reading *r, const char *value)
{
	return read_number(value, VF_M_MIN, VF_M_MAX, &r->config.m) ? 0 : fail_line(r, "m", "4 to 64", vf_span_str(value));
}

static int set_ef_construction(struct reading *r, const char *value)
{
	return read_number(value, VF_EF_CONSTRUCTION_MIN, VF_EF_MAX, &r->config.ef_construction)
		? 0 : fail_line(r, "ef_construction", "16 to 65536", vf_span_str(value));
}

_Static_assert(VF_DIM_MAX == 16384 && VF_M_MIN == 4 && VF_M_MAX == 64 && VF_EF_CONSTRUCTION_MIN == 16 && VF_EF_MAX == 65536,
               "the messages above and the comments below name these limits");

enum key { DIMENSION, METRIC, NON_FILTERABLE, TOP_K, RECALL, M, EF_CONSTRUCTION, KEYS };

static const struct {
	const char *name;
	int (*set)(struct reading *r, const char *value);
	const char *comment;
} keys[KEYS] = {
	[DIMENSION] = { "dimension", set_dimension, "1 to 16384; needed before the first vector" },
	[METRIC] = { "metric", set_metric, "cosine | euclidean | dot        (aliases: l2, ip, dotproduct)" },
	[NON_FILTERABLE] = { "non_filterable", set_non_filterable, "metadata fields that are stored but not indexed" },
	[TOP_K] = { "top_k", set_top_k, "default of a question that names none, and of near/ and answers/" },
	[RECALL] = { "recall", set_recall, "what an approximate answer must reach; the search effort is tuned to it" },
	[M] = { "m", set_m, "links a node" },
	[EF_CONSTRUCTION] = { "ef_construction", set_ef_construction, "effort of linking" },
};

static bool same_value(enum key key, const struct vf_config *a, const struct vf_config *b)
{
	switch (key) {
	case DIMENSION:       return a->dim == b->dim;
	case METRIC:          return a->metric == b->metric;
	case NON_FILTERABLE:  return true;
	case TOP_K:           return a->top_k == b->top_k;
	case RECALL:          return a->recall == b->recall;
	case M:               return a->m == b->m;
	case EF_CONSTRUCTION: return a->ef_construction == b->ef_construction;
	case KEYS:            break;
	}
	return true;
}

/* ---- reading ---- */

static int fail_unknown(struct reading *r, struct vf_span name)
{
	return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "unknown key '%.*s': there are dimension, metric, non_filterable, top_k, "
	                  "recall, m and ef_construction", VF_SPAN_ARG(name));
}

static int set_key(struct reading *r, enum key key, const char *value)
{
	struct vf_config before = r->config;      /* its numbers */

	if (key == NON_FILTERABLE && r->lines[key] == 0)
		vf_buf_clear(&r->config.non_filterable);
	int rc = keys[key].set(r, value);
	if (rc == 0 && r->lines[key] && !same_value(key, &before, &r->config))
		return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "%s is given twice with different values, in line %" PRIu64
		                  " and in line %" PRIu64, keys[key].name, r->lines[key], r->line);
	r->lines[key] = r->line;
	return rc;
}

/* inih's handler: 1 to go on. */
static int take_pair(void *ctx, const char *section, const char *name, const char *value)
{
	struct reading *r = ctx;

	(void)section;
	if (r->rc)
		return 0;
	for (enum key key = 0; key < KEYS; key++)
		if (strcmp(keys[key].name, name) == 0) {
			r->rc = set_key(r, key, value);
			return r->rc == 0;
		}
	r->rc = fail_unknown(r, vf_span_str(name));
	return 0;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* A comment begins at a '#' or ';' that nothing or a blank stands before. */
static struct vf_span without_comment(struct vf_span line)
{
	for (size_t i = 0; i < line.len; i++)
		if ((line.data[i] == '#' || line.data[i] == ';') && (i == 0 || is_blank(line.data[i - 1])))
			return vf_span(line.data, i);
	return line;
}

static struct vf_span take_line(struct reading *r)
{
	const uint8_t *end = memchr(r->rest.data, '\n', r->rest.len);
	size_t len = end ? (size_t)(end - r->rest.data) : r->rest.len;
	struct vf_span line = vf_span(r->rest.data, len);

	r->rest = vf_span(r->rest.data + len + !!end, r->rest.len - len - !!end);
	r->line++;
	if (r->line == 1 && line.len >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0)
		line = vf_span(line.data + 3, line.len - 3);
	if (line.len && line.data[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* A `key = value` that inih will take as one. */
static int check_line(struct reading *r, struct vf_span line, size_t len_max)
{
	const uint8_t *equals = memchr(line.data, '=', line.len);

	if (line.data[0] == '[')
		return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "config has no [sections], only `key = value` lines");
	if (!equals)
		return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "'%.*s' is not of the form `key = value`", VF_SPAN_ARG(line));
	struct vf_span name = trim(vf_span(line.data, (size_t)(equals - line.data)));
	/* inih would split at the colon. */
	if (name.len == 0 || memchr(name.data, ':', name.len))
		return fail_unknown(r, name);
	if (line.len > len_max)
		return vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "line has %zu bytes, at most %zu fit; non_filterable may be given in "
		                  "several lines", line.len, len_max);
	return 0;
}

/* inih's reader, as fgets: the next line that says something. */
static char *next_line(char *line, int size, void *ctx)
{
	struct reading *r = ctx;

	while (r->rest.len && r->rc == 0) {
		struct vf_span raw = take_line(r), s = trim(without_comment(raw));
		if (memchr(raw.data, 0, raw.len) || !vf_utf8_valid(raw))
			r->rc = vf_fail_at(r->err, EINVAL, VF_PLACE_LINE, r->line, "line is not text: it has a NUL byte or is not valid UTF-8");
		if (r->rc || s.len == 0)
			continue;
		r->rc = check_line(r, s, (size_t)size - 3);
		if (r->rc)
			continue;
		memcpy(line, s.data, s.len);
		line[s.len] = '\0';
		return line;
	}
	return NULL;
}

int vf_config_change(struct vf_config *config, struct vf_span text, struct vf_err *err)
{
	uint64_t lines[KEYS] = { 0 };
	struct reading r = { .rest = text, .lines = lines, .err = err };

	if (text.len > VF_CONFIG_BYTES_MAX)
		return vf_fail(err, EFBIG, "config has %zu bytes, at most %u are read", text.len, VF_CONFIG_BYTES_MAX);
	int rc = vf_config_copy(&r.config, config, err);
	if (rc)
		return rc;
	if (ini_parse_stream(next_line, &r, take_pair, &r) != 0 && r.rc == 0)
		r.rc = vf_fail_at(err, EINVAL, VF_PLACE_LINE, r.line, "line cannot be read");
	if (r.rc) {
		vf_config_free(&r.config);
		return r.rc;
	}
	vf_config_free(config);
	*config = r.config;
	return 0;
}

/* ---- writing ---- */

/* The line as it stands from `start` on, filled to the column of comments, and the comment. */
static int put_comment(struct vf_buf *out, size_t start, const char *comment, struct vf_err *err)
{
	size_t width = out->len - start;

	return vf_buf_printf(out, err, "%*s # %s\n", width < COMMENT_COLUMN ? (int)(COMMENT_COLUMN - width) : 0, "", comment);
}

static int put_line(struct vf_buf *out, enum key key, struct vf_span value, struct vf_err *err)
{
	size_t start = out->len;
	int rc;

	if ((rc = vf_buf_printf(out, err, "%s = ", keys[key].name)) || (rc = vf_buf_put(out, value.data, value.len, err)))
		return rc;
	return put_comment(out, start, keys[key].comment, err);
}

static int put_number(struct vf_buf *out, enum key key, uint32_t n, struct vf_err *err)
{
	char text[16];

	return put_line(out, key, vf_span(text, (size_t)snprintf(text, sizeof text, "%" PRIu32, n)), err);
}

/* Before the dimension is set its line is a comment, which changes nothing when it is written back. */
static int put_dimension(struct vf_buf *out, uint32_t dim, struct vf_err *err)
{
	size_t start = out->len;

	if (dim)
		return put_number(out, DIMENSION, dim, err);
	int rc = vf_buf_put_str(out, "# dimension =", err);
	return rc ? rc : put_comment(out, start, keys[DIMENSION].comment, err);
}

/* As many names as fit in a line, but one at least, then another line. */
static int put_non_filterable(struct vf_buf *out, const struct vf_config *config, struct vf_err *err)
{
	const char *name = next_name(config, NULL);
	struct vf_buf value = VF_BUF_INIT;
	int rc = 0;

	do {
		vf_buf_clear(&value);
		for (; name && rc == 0; name = next_name(config, name)) {
			if (value.len && value.len + strlen(name) + 2 > LIST_BYTES_MAX)
				break;
			rc = vf_buf_printf(&value, err, "%s%s", value.len ? ", " : "", name);
		}
		if (rc == 0)
			rc = put_line(out, NON_FILTERABLE, vf_buf_span(&value), err);
	} while (name && rc == 0);
	vf_buf_free(&value);
	return rc;
}

int vf_config_render(const struct vf_config *config, struct vf_buf *out, struct vf_err *err)
{
	char recall[VF_NUMBER_TEXT_MAX];
	int rc;

	if ((rc = put_dimension(out, config->dim, err)) ||
	    (rc = put_line(out, METRIC, vf_span_str(vf_metric_name(config->metric)), err)) ||
	    (rc = put_non_filterable(out, config, err)) ||
	    (rc = put_number(out, TOP_K, config->top_k, err)) ||
	    (rc = put_line(out, RECALL, vf_span(recall, vf_text_of_double(config->recall, recall)), err)) ||
	    (rc = put_number(out, M, config->m, err)) ||
	    (rc = put_number(out, EF_CONSTRUCTION, config->ef_construction, err)))
		return rc;
	return 0;
}

/* ---- what cannot change any more ---- */

int vf_config_check_frozen(const struct vf_config *from, const struct vf_config *to, struct vf_err *err)
{
	static const char why[] = "once the index has a vector; make a new index for another";

	if (from->dim != to->dim)
		return vf_fail(err, EBUSY, "dimension stays %" PRIu32 " (not %" PRIu32 ") %s", from->dim, to->dim, why);
	if (from->metric != to->metric)
		return vf_fail(err, EBUSY, "metric stays %s (not %s) %s", vf_metric_name(from->metric), vf_metric_name(to->metric), why);
	if (from->m != to->m)
		return vf_fail(err, EBUSY, "m stays %" PRIu32 " (not %" PRIu32 ") %s", from->m, to->m, why);
	return 0;
}
