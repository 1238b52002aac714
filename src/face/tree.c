/* SPDX-License-Identifier: MIT */
/* The tree of files: one row a node of it.
 *
 * Names of directories that only the kernel's own calls can change are kept by it; names of files never, since a record, an answer or an
 * export changes without the kernel. Attributes belong to a version and may be kept for a second; what moves them meanwhile tells the kernel. */
#include "face_internal.h"

#define KEPT_S 3600.0
#define ATTR_S 1.0

#define DIR(row, where, entry, above, shown, bits, number, ops)                                                          \
	[row] = { .path = where, .name = entry, .parent = above, .listed = shown, .type = S_IFDIR, .keep = bits,         \
		  .ino = number, .entry_s = KEPT_S, .attr_s = ATTR_S, .dir = ops }
/* Read and written: a node is one version. */
#define WHOLE(row, where, entry, above, shown, bits, number, ops)                                                        \
	[row] = { .path = where, .name = entry, .parent = above, .listed = shown, .type = S_IFREG, .keep = bits,         \
		  .versioned = true, .ino = number, .entry_s = 0, .attr_s = ATTR_S, .file = ops }
#define FILE_(row, where, entry, above, shown, bits, number, ops)                                                        \
	[row] = { .path = where, .name = entry, .parent = above, .listed = shown, .type = S_IFREG, .keep = bits,         \
		  .ino = number, .entry_s = 0, .attr_s = ATTR_S, .file = ops }

const struct vf_row vf_tree[VF_ROWS] = {
	DIR(VF_ROW_ROOT, "/", NULL, VF_ROW_ROOT, true, 07777, 0, &vf_root_dir),
	DIR(VF_ROW_META, "/.vecfs", ".vecfs", VF_ROW_ROOT, false, 0555, 0, &vf_meta_dir),
	FILE_(VF_ROW_METRICS, "/.vecfs/metrics", "metrics", VF_ROW_META, true, 0444, 0, &vf_metrics_file),
	FILE_(VF_ROW_RELEASE, "/.vecfs/version", "version", VF_ROW_META, true, 0444, 0, &vf_release_file),
	FILE_(VF_ROW_ALL_ERRORS, "/.vecfs/errors", "errors", VF_ROW_META, true, 0444, 0, &vf_all_errors_file),
	DIR(VF_ROW_BUCKET, "/BUCKET", NULL, VF_ROW_ROOT, true, 07777, 0, &vf_bucket_dir),
	DIR(VF_ROW_INDEX, "/BUCKET/INDEX", NULL, VF_ROW_BUCKET, true, 07777, 0, &vf_index_dir),
	WHOLE(VF_ROW_CONFIG, "/BUCKET/INDEX/config", "config", VF_ROW_INDEX, true, 0666, 1, &vf_config_file),
	DIR(VF_ROW_VECTORS, "/BUCKET/INDEX/vectors", "vectors", VF_ROW_INDEX, true, 01777, 2, &vf_vectors_dir),
	FILE_(VF_ROW_INSERT, "/BUCKET/INDEX/insert", "insert", VF_ROW_INDEX, true, 0666, 3, &vf_insert_file),
	[VF_ROW_QUERY] = { .path = "/BUCKET/INDEX/query", .name = "query", .parent = VF_ROW_INDEX, .listed = true, .type = S_IFREG,
		.keep = 0666, .ask = true, .ino = 4, .attr_s = ATTR_S, .file = &vf_query_file },
	FILE_(VF_ROW_UPDATE, "/BUCKET/INDEX/update", "update", VF_ROW_INDEX, true, 0666, 5, &vf_update_file),
	FILE_(VF_ROW_DELETE, "/BUCKET/INDEX/delete", "delete", VF_ROW_INDEX, true, 0666, 6, &vf_delete_file),
	DIR(VF_ROW_QUERIES, "/BUCKET/INDEX/queries", "queries", VF_ROW_INDEX, true, 01777, 7, &vf_queries_dir),
	DIR(VF_ROW_ANSWERS, "/BUCKET/INDEX/answers", "answers", VF_ROW_INDEX, true, 0777, 8, &vf_answers_dir),
	DIR(VF_ROW_NEAR, "/BUCKET/INDEX/near", "near", VF_ROW_INDEX, true, 0777, 9, &vf_near_dir),
	WHOLE(VF_ROW_STATS, "/BUCKET/INDEX/stats", "stats", VF_ROW_INDEX, true, 0666, 10, &vf_stats_file),
	WHOLE(VF_ROW_ERRORS, "/BUCKET/INDEX/errors", "errors", VF_ROW_INDEX, true, 0666, 11, &vf_errors_file),
	FILE_(VF_ROW_EXPORT_MSGPACK, "/BUCKET/INDEX/vectors.msgpack", "vectors.msgpack", VF_ROW_INDEX, false, 0444, 12, &vf_export_msgpack_file),
	FILE_(VF_ROW_EXPORT_JSONL, "/BUCKET/INDEX/vectors.jsonl", "vectors.jsonl", VF_ROW_INDEX, false, 0444, 13, &vf_export_jsonl_file),
	FILE_(VF_ROW_EXPORT_NPY, "/BUCKET/INDEX/vectors.npy", "vectors.npy", VF_ROW_INDEX, false, 0444, 14, &vf_export_npy_file),
	FILE_(VF_ROW_EXPORT_KEYS, "/BUCKET/INDEX/vectors.keys", "vectors.keys", VF_ROW_INDEX, false, 0444, 15, &vf_export_keys_file),
	WHOLE(VF_ROW_RECORD, "/BUCKET/INDEX/vectors/KEY.msgpack", NULL, VF_ROW_VECTORS, true, 0666, 0, &vf_record_file),
	WHOLE(VF_ROW_RECORD_JSON, "/BUCKET/INDEX/vectors/KEY.json", NULL, VF_ROW_VECTORS, false, 0666, 0, &vf_record_json_file),
	WHOLE(VF_ROW_SAVED, "/BUCKET/INDEX/queries/NAME.json", NULL, VF_ROW_QUERIES, true, 0666, 0, &vf_saved_file),
	WHOLE(VF_ROW_ANSWER, "/BUCKET/INDEX/answers/NAME.json", NULL, VF_ROW_ANSWERS, true, 0666, 0, &vf_answer_file),
	WHOLE(VF_ROW_ANSWER_MSGPACK, "/BUCKET/INDEX/answers/NAME.msgpack", NULL, VF_ROW_ANSWERS, false, 0666, 0, &vf_answer_file),
	[VF_ROW_NEAR_KEY] = { .path = "/BUCKET/INDEX/near/KEY", .parent = VF_ROW_NEAR, .type = S_IFDIR, .keep = 0555, .attr_s = ATTR_S,
		.dir = &vf_near_key_dir, .file = &vf_near_key_file },
	[VF_ROW_NEAR_LINK] = { .path = "/BUCKET/INDEX/near/KEY/0001-KEY.msgpack", .parent = VF_ROW_NEAR_KEY, .listed = true, .type = S_IFLNK,
		.keep = 0777, .attr_s = ATTR_S, .file = &vf_link_file },
	FILE_(VF_ROW_SCRATCH, "/BUCKET/INDEX/TEMPORARY", NULL, VF_ROW_INDEX, true, 0, 0, &vf_scratch_file),
};
