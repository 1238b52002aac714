/* SPDX-License-Identifier: MIT */
/* question.h - what is asked of an index, decoded and checked, and the answer's encoding. */
#ifndef VECFS_QUESTION_H
#define VECFS_QUESTION_H

#include "vecfs/ingest.h"
#include "vecfs/spool.h"

struct vf_question {
	enum vf_format format;             /* of the question, and so of the answer */
	const float *vectors;              /* nvectors rows of dim floats; NULL when asked by key or without a vector */
	uint32_t nvectors, dim;
	bool many;                         /* queryVectors: the answer is {"results": [...]} */
	struct vf_span key;                /* len 0: none */
	struct vf_span *keys; size_t nkeys;/* the records of these keys, in this order, without those that are not there; 0: none */
	struct vf_filter *filter;          /* NULL: none */
	struct vf_span prefix, start_after;/* len 0: none */
	uint32_t segment, segments;        /* of a listing, the part `segment` of so many; segments 0: all of it */
	bool paged;                        /* said in words of the hosted APIs: an answer that is cut off names the key to go on after */
	bool has_top_k;
	uint64_t top_k;
	bool return_metadata, return_distance, return_data, exact, explain;
	bool has_max_distance;
	double max_distance;
	uint32_t ef;                       /* 0: not said */
	double recall;                     /* 0: not said */
	struct vf_span *facets; uint32_t nfacets;
	struct vf_target target;
	/* Not asked, but of whoever asks: told, perhaps more than once, before anything that takes longer than a moment; NULL: nobody. */
	void (*lengthy)(void *ctx);
	void *lengthy_ctx;
	/* The same: asked now and then whether anybody still wants the answer; true: the asking ends with EINTR and without words. NULL: it is wanted. */
	bool (*stopped)(void *ctx);
	void *stopped_ctx;
};

/* One vector or one key and few neighbours: what a graph answers in a moment. */
bool vf_question_is_plain(const struct vf_question *question);

/* Strict: an unknown field, a value of the wrong type, fields that exclude one another (two of queryVector, queryVectors, key, keys;
 * startAfter with a vector; ef with recall; keys with what selects), maxDistance without a vector, a vector of the wrong dimension, not
 * finite, or zero under cosine, a filter that filter.h refuses: EINVAL. A listing may say maxResults for topK and nextToken for
 * startAfter, and segmentCount with segmentIndex for a part of it. Lives in the arena, which must outlive it; `value` too. */
int vf_question_from_value(const struct vf_value *value, enum vf_format format, const struct vf_config *config, const char *index,
                           struct vf_arena *arena, struct vf_question *out, struct vf_err *err);

/* ---- the answer ---- */
struct vf_answer_row {
	struct vf_span key;
	double distance;
	struct vf_span metadata;           /* canonical msgpack */
	const float *vector; uint32_t dim;
};
struct vf_answer_facet { struct vf_span field; struct vf_facet_value *values; size_t n; };
struct vf_answer_head {
	bool has_metric;                   /* false for questions without a vector: no "distanceMetric" */
	enum vf_metric metric;
	uint64_t matched;
	bool exact;
	const struct vf_answer_facet *facets; size_t nfacets;
	const struct vf_value *explain;    /* a VF_MAP, or NULL */
	struct vf_span next;               /* "nextToken"; len 0: none */
};

/* rows known beforehand; then the rows; then the end with what follows them. For `many`, between begin_many and end_many. Everything
 * goes to the spool, which stays bounded in memory. JSON ends in a newline. */
struct vf_answer { struct vf_emitter emitter; struct vf_spool *spool; const struct vf_question *question; };
int vf_answer_begin_many(struct vf_answer *a, const struct vf_question *q, struct vf_spool *spool, uint32_t answers, struct vf_err *err);
int vf_answer_begin(struct vf_answer *a, const struct vf_question *q, struct vf_spool *spool, const struct vf_answer_head *head, uint64_t rows, struct vf_err *err);
int vf_answer_row(struct vf_answer *a, const struct vf_answer_row *row, struct vf_err *err);
int vf_answer_end(struct vf_answer *a, const struct vf_answer_head *head, struct vf_err *err);
int vf_answer_end_many(struct vf_answer *a, struct vf_err *err);

#endif
