/* SPDX-License-Identifier: MIT */
/* limits.h - every limit of vecfs, by name. man/vecfs.5 lists them. */
#ifndef VECFS_LIMITS_H
#define VECFS_LIMITS_H

/* records */
#define VF_DIM_MAX               16384u
#define VF_KEY_BYTES_MAX         1024u
#define VF_METADATA_BYTES_MAX    (40u << 10)   /* in canonical msgpack */
#define VF_METADATA_FIELDS_MAX   64u
#define VF_FILTERABLE_BYTES_MAX  (2u << 10)    /* one string value of a filterable field */
#define VF_LIST_ITEMS_MAX        1024u         /* of one metadata list */

/* config */
#define VF_TOP_K_DEFAULT         10u
#define VF_RECALL_DEFAULT        0.98
#define VF_M_DEFAULT             16u
#define VF_M_MIN                 4u
#define VF_M_MAX                 64u
#define VF_EF_CONSTRUCTION_DEFAULT 200u
#define VF_EF_CONSTRUCTION_MIN   16u
#define VF_EF_MAX                65536u
#define VF_CONFIG_BYTES_MAX      (64u << 10)

/* names */
#define VF_FILE_NAME_BYTES_MAX   255u

/* requests */
#define VF_VALUE_DEPTH_MAX       32u           /* nesting of one msgpack or JSON value */
#define VF_VALUE_ITEMS_MAX       (16u << 20)   /* items of all its lists and maps together */
#define VF_JSON_ITEMS_MAX        (2u << 20)    /* the same of JSON, but for lists of numbers */
#define VF_RECORD_FILE_BYTES_MAX (4u << 20)    /* one record as a file, any format */
#define VF_QUESTION_BYTES_MAX    (64u << 20)
#define VF_QUESTION_VECTORS_MAX  10000u        /* of queryVectors */
#define VF_SEGMENTS_MAX          16u           /* of a listing in parts */
#define VF_VALUE_BYTES_MAX       (64u << 20)   /* one value in a stream: a record, or a {"vectors": [...]} body */
#define VF_BATCH_BYTES_MAX       (256u << 20)  /* decoded, in one transaction of insert */
#define VF_FILTER_NODES_MAX      4096u
#define VF_FACET_VALUES_MAX      1000u         /* values of one facet in an answer */
#define VF_SAVED_QUESTION_BYTES_MAX (4u << 20) /* one file in queries/ */

/* the mount */
#define VF_SCRATCH_FILE_BYTES_MAX (512u << 20) /* one scratch file */
#define VF_SCRATCH_USER_BYTES_MAX (1u << 30)   /* of one user */
#define VF_SCRATCH_BYTES_MAX      (2u << 30)   /* in all */
#define VF_ERRORS_KEPT_MAX        1024u        /* lines that `errors` keeps */
#define VF_READ_BYTES_MAX         (64u << 10)  /* of one request of the kernel; longer reads are several */
#define VF_REQUESTS_AT_ONCE_MAX   128u         /* of the kernel, each with a thread */
#define VF_AWAKE_PROCESSORS_MAX   16u          /* of a machine, so that they are kept awake while requests come one after the other */
#define VF_TURNS_USER_MAX         32u          /* of a user: questions, answers and exports carried out at once, as many as processors ... */
#define VF_TURNS_USER_MIN         4u           /* ... or that many, when there are less */
#define VF_TURNS_COMMITS_MAX      32u          /* of a user: files being closed and synced at once */
#define VF_BALLAST_BYTES_MAX      (4u << 20)   /* of the disk, or 1/8 of a small one: kept for deleting when it is full */
#define VF_DIRECTORIES_MAX        8388607u     /* buckets and indexes ever made in a store: 23 bits of an inode number */
#define VF_INDEXES_OPEN_MAX       256u         /* held open when nobody uses them */

#endif
