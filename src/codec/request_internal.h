/* SPDX-License-Identifier: MIT */
/* request_internal.h - what the decoders of records, requests and questions share: strict maps, vectors, metadata, .npy. */
#ifndef VECFS_REQUEST_INTERNAL_H
#define VECFS_REQUEST_INTERNAL_H

#include "vecfs/question.h"
#include "vecfs/request.h"

/* ---- fields.c: a map of which every field is known ---- */
struct vf_decoding {
	const struct vf_config *config;    /* NULL where a record is decoded: nothing is checked against an index yet */
	const char *index;
	struct vf_arena *arena;
	void *out;                         /* the struct that is filled */
};

/* One row a field: its name, who takes its value, and where in the struct it goes. */
struct vf_field {
	const char *name;
	int (*take)(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err);
	size_t at;
};

/* EINVAL for what is not in the table. `what` begins a sentence: "a record", "a question". */
int vf_fields_decode(const struct vf_value *map, const char *what, const struct vf_field *fields, size_t nfields,
                     struct vf_decoding *d, struct vf_err *err);
/* "a string", "an integer", "null" */
const char *vf_kind_phrase(enum vf_kind kind);
/* "topK is a string; it must be a whole number" */
int vf_kind_refuse(const struct vf_value *value, const char *name, const char *wanted, struct vf_err *err);
int vf_field_bool(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err);
int vf_field_string(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err);
int vf_field_key(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err);
int vf_field_filter(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err);
/* vectorBucketName, indexName, indexArn; `at` is that of the struct vf_target. */
int vf_field_target(struct vf_decoding *d, const struct vf_field *field, const struct vf_value *value, struct vf_err *err);
/* A list of strings, not empty. */
int vf_strings_decode(const struct vf_value *value, const char *name, struct vf_arena *arena, struct vf_span **out, size_t *n,
                      struct vf_err *err);
/* The same, each a valid key. */
int vf_keys_decode(const struct vf_value *value, const char *name, struct vf_arena *arena, struct vf_span **out, size_t *n,
                   struct vf_err *err);

/* A single key, as a list of one. */
int vf_key_decode(const struct vf_value *value, const char *name, struct vf_arena *arena, struct vf_span **out, size_t *n,
                  struct vf_err *err);

/* ---- target.c ---- */
#define VF_TARGET_FIELDS(type) \
	{ "vectorBucketName", vf_field_target, offsetof(type, target) }, \
	{ "indexName", vf_field_target, offsetof(type, target) }, \
	{ "indexArn", vf_field_target, offsetof(type, target) }
int vf_target_take(struct vf_target *target, const char *name, const struct vf_value *value, struct vf_err *err);

/* ---- vector.c: the three forms of a vector, counted first, then copied where the caller wants them ---- */
int vf_vector_count(const struct vf_value *value, const char *what, uint32_t *dim, struct vf_err *err);
int vf_vector_fill(const struct vf_value *value, const char *what, float *out, struct vf_err *err);
/* Little-endian float32 at any address, `stride` bytes from one to the next. */
void vf_vector_load(const uint8_t *bytes, uint32_t dim, size_t stride, float *out);
/* The index's dimension, set and met. `what` is whose numbers are counted: "vector", "queryVectors[2]". */
int vf_vector_check_dim(uint32_t dim, const char *what, const struct vf_config *config, const char *index, struct vf_err *err);
/* No NaN, no infinity, no zero vector under cosine. */
int vf_vector_check_numbers(const float *vector, uint32_t dim, const char *what, enum vf_metric metric, struct vf_err *err);

/* ---- metadata.c ---- */
extern const struct vf_span vf_metadata_empty;
/* EFBIG: a string of a filterable field that is longer than an index takes. */
int vf_metadata_check_strings(const struct vf_value *map, const struct vf_field_rule *rule, struct vf_err *err);

/* ---- npy.c: a NumPy matrix in pieces, one row after the other ---- */
typedef int (*vf_npy_sink)(void *ctx, uint64_t row, const float *vector, uint32_t dim, struct vf_err *err);
enum vf_npy_part { VF_NPY_MAGIC, VF_NPY_LENGTH, VF_NPY_HEADER, VF_NPY_ROW, VF_NPY_MATRIX, VF_NPY_DONE };
struct vf_npy {
	enum vf_npy_part part;             /* what is being read */
	size_t need;                       /* its bytes */
	struct vf_buf got;                 /* those that came, when not in one piece */
	uint8_t length_bytes;              /* of the header's length: 2 in version 1, then 4 */
	uint8_t item;                      /* bytes of a number: 4 or 8 */
	bool fortran;
	uint64_t rows, row;
	uint32_t dim;
	float *vector;                     /* one row, aligned */
	vf_npy_sink sink;
	void *ctx;
};

void vf_npy_init(struct vf_npy *npy, vf_npy_sink sink, void *ctx);
void vf_npy_free(struct vf_npy *npy);
/* Takes at most the rest of one part; *taken is how much that was. npy->part is VF_NPY_DONE behind the last row. */
int vf_npy_feed(struct vf_npy *npy, struct vf_span bytes, size_t *taken, struct vf_err *err);
/* Why a matrix that ends here is not whole: always EINVAL. */
int vf_npy_incomplete(const struct vf_npy *npy, struct vf_err *err);

#endif
