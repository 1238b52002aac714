/* SPDX-License-Identifier: MIT */
/* ingest_internal.h - the stream of insert: ingest.c walks it, body.c takes a {"vectors": [...]} apart and gives its list back. */
#ifndef VECFS_INGEST_INTERNAL_H
#define VECFS_INGEST_INTERNAL_H

#include "request_internal.h"

enum vf_ingest_state {
	BETWEEN,        /* values; nothing but blanks since the last one */
	NPY_OR_LIST,    /* behind 0x93 */
	LIST_HEAD,      /* inside the count of a msgpack list */
	LIST,           /* between the elements of a list */
	MAP,            /* inside a map of the stream: a record or a body */
	ELEMENT,        /* inside a record of a list */
	NPY,
};

struct vf_ingest {
	const char *bucket, *index;
	vf_record_sink sink;
	void *ctx;
	enum vf_ingest_state state;
	enum vf_format format;             /* of the value that is being read */
	enum vf_format first_format;       /* of the stream's first one */
	bool started;
	uint64_t offset;                   /* of the next byte in the stream */
	uint64_t value_start, list_start;  /* offsets */
	uint64_t records;                  /* given to the sink from this stream */
	uint64_t list_left;                /* msgpack: elements still to come */
	uint8_t list_head;                 /* msgpack: bytes of the count still to come */
	bool list_first, list_comma;       /* JSON: before the first element; behind a comma */
	struct vf_scanner scanner;
	struct vf_buf pending;             /* the value so far, when it came in pieces */
	struct vf_npy npy;
	struct vf_arena arena;             /* of one record */
	struct vf_err failure;
};

bool vf_ingest_open_list(struct vf_ingest *ingest, struct vf_span *rest);
/* One step: takes at least a byte or changes the state. */
int vf_ingest_run(struct vf_ingest *ingest, struct vf_span *rest, struct vf_err *err);
/* All of a {"vectors": [...]}, decoded one record at a time. ingest->value_start is where it begins. */
int vf_body_take(struct vf_ingest *ingest, struct vf_span bytes, struct vf_err *err);

#endif
