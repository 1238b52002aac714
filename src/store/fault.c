/* SPDX-License-Identifier: MIT */
#include "store_internal.h"

#include <errno.h>

static int fault(const char *dir, int code, const char *doing, struct vf_err *err)
{
	switch (code) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:     /* a file size limit of the process or of the disk */
		return vf_fail(err, ENOSPC, "cannot %s in %s: the disk is full (%s)", doing, dir, mdb_strerror(code));
	case MDB_MAP_FULL:
		return vf_fail(err, ENOSPC, "cannot %s in %s: no address space left for a larger file", doing, dir);
	case ENOMEM:
		return vf_fail(err, ENOMEM, "cannot %s in %s: out of memory", doing, dir);
	case EROFS:
		return vf_fail(err, EROFS, "cannot %s in %s: the disk is read-only", doing, dir);
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_PANIC:
	case MDB_INCOMPATIBLE:
	case EIO:
		return vf_fail(err, EIO, "cannot %s: the store in %s is damaged (%s)", doing, dir, mdb_strerror(code));
	case MDB_VERSION_MISMATCH:
		return vf_fail(err, EINVAL, "cannot %s: %s was written by another version of LMDB", doing, dir);
	case MDB_READERS_FULL:
		return vf_fail(err, EBUSY, "cannot %s in %s: %u readers are at work already", doing, dir, READERS_MAX);
	case MDB_TXN_FULL:
		return vf_fail(err, EFBIG, "cannot %s in %s: one transaction changes too much", doing, dir);
	case MDB_BAD_VALSIZE:
		return vf_fail(err, EINVAL, "cannot %s in %s: a row key has 1 to %u bytes", doing, dir, KEY_BYTES_MAX);
	default:
		/* What is left of LMDB's own codes is our misuse of it; errnos say what they are. */
		return vf_fail(err, code > 0 ? code : EIO, "cannot %s in %s: %s", doing, dir, mdb_strerror(code));
	}
}

int vf_store_fault(const struct vf_store *store, int code, const char *doing, struct vf_err *err)
{
	return fault(store->dir, code, doing, err);
}

int vf_txn_fault(struct vf_txn *txn, int code, const char *doing, struct vf_err *err)
{
	if (code != MDB_BAD_VALSIZE && code != MDB_KEYEXIST && !txn->trouble)
		txn->trouble = code;
	return fault(txn->store->dir, code, doing, err);
}
