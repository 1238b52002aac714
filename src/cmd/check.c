/* SPDX-License-Identifier: MIT */
/* vecfs check [--repair] STORE: every invariant of every index; says what, where and the bound. Changes nothing, unless it is to repair: then a
 * damaged index is written anew from what can be read of it, and looked at once more. */
#include "cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vecfs/name.h"

struct check {
	const char *store, *bucket, *index;
	bool repair;
	uint64_t indexes, findings, repaired, lost;
};

/* A damaged key may have any bytes: a terminal gets text, escaped as keys are. */
static void print_text(const char *text)
{
	bool is_text = vf_utf8_valid(vf_span_str(text));

	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		if (*c < ' ' || *c == 0x7f || (*c > 0x7f && !is_text))
			printf("%%%02X", *c);
		else
			putchar(*c);
}

static void print_finding(void *ctx, const char *text)
{
	const struct check *check = ctx;

	printf("%s/%s: ", check->bucket, check->index);
	print_text(text);
	putchar('\n');
}

/* Of the store itself. Opening it to repair has made new attributes already: what the old ones said is lost. */
static void print_damage(void *ctx, const char *text, bool renewed)
{
	struct check *check = ctx;

	print_text(text);
	putchar('\n');
	if (renewed)
		check->lost++;
	else
		check->findings++;
}

/* An index that cannot even be opened is a finding; the others are still looked at. */
static uint64_t count(struct check *check, int64_t found, const struct vf_err *why)
{
	if (found >= 0)
		return (uint64_t)found;
	print_finding(check, why->text);
	return 1;
}

static uint64_t audit(struct check *check, const char *dir)
{
	struct vf_err why = VF_ERR_INIT;

	return count(check, vf_index_audit(dir, print_finding, check, &why), &why);
}

static uint64_t repair(struct check *check, const char *dir)
{
	struct vf_err why = VF_ERR_INIT;
	int64_t lost = vf_index_repair(dir, print_finding, check, &why);

	if (lost < 0)
		return count(check, lost, &why);
	check->repaired++;
	check->lost += (uint64_t)lost;
	print_finding(check, lost ? "repaired, but for what is lost" : "repaired, nothing is lost");
	return audit(check, dir);
}

static int check_index(void *ctx, const char *bucket, const char *index, struct vf_err *err)
{
	struct check *check = ctx;
	char *dir;

	check->bucket = bucket;
	check->index = index;
	check->indexes++;
	if (asprintf(&dir, "%s/%s/%s", check->store, bucket, index) < 0)
		return vf_oom(err);
	uint64_t found = audit(check, dir);
	if (found && check->repair)
		found = repair(check, dir);
	free(dir);
	check->findings += found;
	return 0;
}

static void print_totals(const struct check *check)
{
	printf("%llu indexes checked, ", (unsigned long long)check->indexes);
	if (check->repaired || check->lost)
		printf("%llu repaired, %llu records, questions or attributes lost, ", (unsigned long long)check->repaired, (unsigned long long)check->lost);
	printf("%llu findings\n", (unsigned long long)check->findings);
}

int vf_cmd_check(int argc, char **argv)
{
	struct vf_err err = VF_ERR_INIT;
	struct check check = { .repair = argc == 3 && strcmp(argv[1], "--repair") == 0 };
	struct vf_catalog_options options = { .read_only = !check.repair, .damaged = print_damage, .damaged_ctx = &check };
	struct vf_catalog *catalog = NULL;

	if (argc != (check.repair ? 3 : 2) || argv[argc - 1][0] == '-')
		return vf_cmd_usage("vecfs check [--repair] STORE");
	if (vf_catalog_open(argv[argc - 1], &options, &catalog, &err))
		return vf_cmd_failed(&err);
	check.store = vf_catalog_path(catalog);
	int rc = vf_cmd_each_index(catalog, check_index, &check, &err);
	if (rc == 0)
		print_totals(&check);
	vf_catalog_close(&catalog);
	if (rc)
		return vf_cmd_failed(&err);
	return check.findings || check.lost ? VF_EXIT_DAMAGED : VF_EXIT_OK;
}
