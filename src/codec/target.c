/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "request_internal.h"

/* One part of the target may be said twice (indexName and indexArn), but not differently. */
static int set_part(struct vf_span *part, struct vf_span said, const char *name, struct vf_err *err)
{
	if (said.len == 0)
		return vf_fail(err, EINVAL, "%s is empty", name);
	if (part->len && !vf_span_equal(*part, said))
		return vf_fail(err, EINVAL, "%s names '%.*s', another field names '%.*s'", name, VF_SPAN_ARG(said), VF_SPAN_ARG(*part));
	*part = said;
	return 0;
}

/* Cuts *rest behind the next `end`; false when there is none. */
static bool cut(struct vf_span *rest, char end, struct vf_span *out)
{
	const uint8_t *at = rest->len ? memchr(rest->data, end, rest->len) : NULL;

	if (!at)
		return false;
	*out = vf_span(rest->data, (size_t)(at - rest->data));
	*rest = vf_span(at + 1, rest->len - out->len - 1);
	return true;
}

/* arn:aws:s3vectors:REGION:ACCOUNT:bucket/BUCKET/index/INDEX */
static bool split_arn(struct vf_span arn, struct vf_span *bucket, struct vf_span *index)
{
	struct vf_span arn_word, partition, service, region, account, bucket_word, index_word;

	if (!cut(&arn, ':', &arn_word) || !cut(&arn, ':', &partition) || !cut(&arn, ':', &service) || !cut(&arn, ':', &region) ||
	    !cut(&arn, ':', &account) || !cut(&arn, '/', &bucket_word) || !cut(&arn, '/', bucket) || !cut(&arn, '/', &index_word))
		return false;
	*index = arn;
	return vf_span_is(arn_word, "arn") && vf_span_is(service, "s3vectors") && vf_span_is(bucket_word, "bucket") &&
	       vf_span_is(index_word, "index") && bucket->len && index->len;
}

int vf_target_take(struct vf_target *target, const char *name, const struct vf_value *value, struct vf_err *err)
{
	struct vf_span bucket, index;

	if (value->kind != VF_STRING)
		return vf_kind_refuse(value, name, "a string", err);
	if (strcmp(name, "vectorBucketName") == 0)
		return set_part(&target->bucket, value->bytes, name, err);
	if (strcmp(name, "indexName") == 0)
		return set_part(&target->index, value->bytes, name, err);
	if (!split_arn(value->bytes, &bucket, &index))
		return vf_fail(err, EINVAL, "indexArn is '%.*s'; it must be arn:aws:s3vectors:REGION:ACCOUNT:bucket/BUCKET/index/INDEX",
		               VF_SPAN_ARG(value->bytes));
	int rc = set_part(&target->bucket, bucket, name, err);
	return rc ? rc : set_part(&target->index, index, name, err);
}

int vf_target_check(const struct vf_target *target, const char *bucket, const char *index, struct vf_err *err)
{
	if (target->bucket.len && !vf_span_is(target->bucket, bucket))
		return vf_fail(err, EINVAL, "the request is meant for bucket '%.*s', this is bucket '%s'", VF_SPAN_ARG(target->bucket), bucket);
	if (target->index.len && !vf_span_is(target->index, index))
		return vf_fail(err, EINVAL, "the request is meant for index '%.*s', this is index '%s'", VF_SPAN_ARG(target->index), index);
	return 0;
}
