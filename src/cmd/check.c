/* SPDX-License-Identifier: MIT */
/* vecfs check STORE: every invariant of every index; says what, where and the bound; changes nothing. */
#include "cmd.h"

#include <stdio.h>
#include <stdlib.h>

struct check {
	const char *store, *bucket, *index;
	uint64_t indexes, findings;
};

static void print_finding(void *ctx, const char *text)
{
	const struct check *check = ctx;

	printf("%s/%s: %s\n", check->bucket, check->index, text);
}

static int check_index(void *ctx, const char *bucket, const char *index, struct vf_err *err)
{
	struct check *check = ctx;
	struct vf_err why = VF_ERR_INIT;
	char *dir;

	check->bucket = bucket;
	check->index = index;
	check->indexes++;
	if (asprintf(&dir, "%s/%s/%s", check->store, bucket, index) < 0)
		return vf_oom(err);
	int64_t found = vf_index_audit(dir, print_finding, check, &why);
	free(dir);
	/* An index that cannot even be opened is a finding; the others are still looked at. */
	if (found < 0) {
		print_finding(check, why.text);
		found = 1;
	}
	check->findings += (uint64_t)found;
	return 0;
}

int vf_cmd_check(int argc, char **argv)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_catalog_options options = { .read_only = true };
	struct vf_catalog *catalog = NULL;

	if (argc != 2 || argv[1][0] == '-')
		return vf_cmd_usage("vecfs check STORE");
	if (vf_catalog_open(argv[1], &options, &catalog, &err))
		return vf_cmd_failed(&err);
	struct check check = { .store = vf_catalog_path(catalog) };
	int rc = vf_cmd_each_index(catalog, check_index, &check, &err);
	if (rc == 0)
		printf("%llu indexes checked, %llu findings\n", (unsigned long long)check.indexes, (unsigned long long)check.findings);
	vf_catalog_close(&catalog);
	if (rc)
		return vf_cmd_failed(&err);
	return check.findings ? VF_EXIT_DAMAGED : VF_EXIT_OK;
}
