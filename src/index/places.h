/* SPDX-License-Identifier: MIT */
/* places.h - a memory of where the vectors and records of one snapshot lie. It may know nothing, and never errs. */
#ifndef VECFS_INDEX_PLACES_H
#define VECFS_INDEX_PLACES_H

#include "index_internal.h"

int vf_places_new(struct vf_places **out, struct vf_err *err);
void vf_places_free(struct vf_places **places);
/* True when there is a table of this snapshot: release it when done. `slots`: how many a new one has room for. */
bool vf_places_hold(struct vf_places *places, uint64_t snapshot, uint32_t slots);
void vf_places_release(struct vf_places *places);
/* Where the rows of a serial, which has this slot in the snapshot, begin: places of the store, 0 where it is not known. */
struct vf_row_place { uint64_t vector, record; };
struct vf_row_place vf_places_find(const struct vf_places *places, uint32_t slot, uint64_t serial);
void vf_places_note(struct vf_places *places, uint32_t slot, uint64_t serial, struct vf_row_place place);
/* What is found soon shall be in the cache by then. */
void vf_places_expect(const struct vf_places *places, uint32_t slot);

#endif
