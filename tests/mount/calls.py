#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The errno of every call that takes a name, as POSIX has it: what is not there, is no directory, is one, is there already, is too long, is not
empty, is another user's, or is mounted read-only."""
import ctypes

from harness import *

m = Mount("-o", "allow_other")
join = os.path.join
for k in ("a", "b"):
    m.write("vectors/%s.msgpack" % k, packed(k, [1, 2, 3]))
m.write("queries/q.json", b"{}")
os.makedirs(join(m.path, "b", "other"))
libc = ctypes.CDLL(None, use_errno=True)
A, LONG = m.at("vectors", "a.msgpack"), "n" * 256
WRITE, CREAT = os.O_WRONLY, os.O_CREAT


def mknod(path):
    os.mknod(path, 0o100644)


def ftruncate(path, flags=os.O_RDWR):
    fd = os.open(path, flags)
    try:
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def creat(path):
    os.close(os.open(path, WRITE | CREAT | os.O_TRUNC))


calls = {
    "open": lambda p: os.close(os.open(p, os.O_RDONLY)),
    "creat": creat,
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "rename": lambda p: os.rename(p, m.at("vectors", "z.msgpack")),
    "rename to": lambda p: os.rename(A, p),
    "link": lambda p: os.link(p, m.at("vectors", "z.msgpack")),
    "link to": lambda p: os.link(A, p),
    "symlink": lambda p: os.symlink("x", p),
    "mknod": mknod,
    "chmod": lambda p: os.chmod(p, 0o600),
    "chown": lambda p: os.chown(p, 0, 0),
    "truncate": lambda p: os.truncate(p, 0),
    "ftruncate": ftruncate,
    "utimensat": lambda p: os.utime(p, (1, 1)),
}
makes = ("creat", "mkdir", "rename to", "link to", "symlink", "mknod")
changes = [c for c in calls if c != "open"]


def row(what, code, path, names):
    for name in names:
        fails("%s of %s: %s" % (name, what, errno.errorcode[code]), code, calls[name], path)


row("what is not there", errno.ENOENT, m.at("vectors", "none.msgpack"), [c for c in calls if c not in makes])
row("a name in no directory", errno.ENOENT, join(m.path, "none", "i", "config"), calls)
row("a name in a file", errno.ENOTDIR, m.at("config", "x"), calls)
row("a name in a record", errno.ENOTDIR, join(A, "x"), calls)
row("256 bytes", errno.ENAMETOOLONG, m.at("vectors", LONG), calls)
row("256 bytes in the root", errno.ENAMETOOLONG, join(m.path, LONG), calls)
row("256 bytes in a bucket", errno.ENAMETOOLONG, join(m.path, "b", LONG), calls)
row("256 bytes in an index", errno.ENAMETOOLONG, m.at(LONG), calls)
row("256 bytes in near/", errno.ENAMETOOLONG, m.at("near", LONG), calls)
row("a name in 256 bytes", errno.ENAMETOOLONG, join(m.path, LONG, "x"), calls)
for d in (m.index, m.at("vectors"), m.at("near"), join(m.path, "b"), m.path):
    row("the directory " + d[len(m.path):], errno.EISDIR, d, ("creat", "truncate", "ftruncate"))
row("a directory", errno.EISDIR, m.at("vectors"), ("unlink",))
row("a directory, by a file,", errno.EISDIR, m.at("queries"), ("rename to",))
row("a file", errno.ENOTDIR, A, ("rmdir",))
fails("rename of a directory to a file: ENOTDIR", errno.ENOTDIR, os.rename, join(m.path, "b", "other"), A)
row("a record that is there", errno.EEXIST, A, ("mkdir", "link to", "symlink", "mknod"))
row("an index that is there", errno.EEXIST, m.index, ("mkdir", "link to", "symlink", "mknod"))
row("a bucket that is there", errno.EEXIST, join(m.path, "b"), ("mkdir", "link to", "symlink", "mknod"))
fails("O_EXCL of what is there: EEXIST", errno.EEXIST, os.open, A, WRITE | CREAT | os.O_EXCL)
row("a bucket with indexes", errno.ENOTEMPTY, join(m.path, "b"), ("rmdir",))
fails("rename of an index over one with records: ENOTEMPTY", errno.ENOTEMPTY, os.rename, join(m.path, "b", "other"), m.index)
fails("rename of a bucket into itself: EINVAL", errno.EINVAL, os.rename, join(m.path, "b"), join(m.path, "b", "x"))
fails("and deeper: EINVAL", errno.EINVAL, os.rename, join(m.path, "b"), m.at("vectors"))
fails("rename of an index into itself: EINVAL", errno.EINVAL, os.rename, m.index, m.at("x"))
fails("a record in another index: EXDEV", errno.EXDEV, os.rename, A, join(m.path, "b", "other", "vectors", "a.msgpack"))
row("any other kind of file", errno.EPERM, m.at("vectors", "n.msgpack"), ("mkdir", "symlink", "link to"))
fails("a link to a directory: EPERM", errno.EPERM, os.link, m.index, join(m.path, "b", "l"))
fails("O_DIRECTORY of a record: ENOTDIR", errno.ENOTDIR, os.open, A, os.O_RDONLY | os.O_DIRECTORY)
fails("ftruncate of what is open for reading: EINVAL", errno.EINVAL, ftruncate, A, os.O_RDONLY)
link = m.at("near", "a", os.listdir(m.at("near", "a"))[0])
fails("O_NOFOLLOW of a link of near/: ELOOP", errno.ELOOP, os.open, link, os.O_RDONLY | os.O_NOFOLLOW)
fails("readlink of what is no link: EINVAL", errno.EINVAL, os.readlink, A)
fails("listing a record: ENOTDIR", errno.ENOTDIR, os.listdir, A)


def as_nobody(sentence, code, call, *args):
    """In a child, since its answer is an exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            call(*args)
            os._exit(0)
        except OSError as e:
            os._exit(e.errno)
    got = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    equal(sentence, errno.errorcode.get(got, got), errno.errorcode[code])


def row_as_nobody(what, code, path, names):
    for name in names:
        as_nobody("%s of %s: %s" % (name, what, errno.errorcode[code]), code, calls[name], path)


if os.getuid() == 0:
    os.chmod(m.dir, 0o755)
    row_as_nobody("another's record", errno.EACCES, A, ("creat", "unlink", "rename", "truncate", "ftruncate"))
    row_as_nobody("another's record", errno.EPERM, A, ("chmod", "chown", "utimensat"))
    row_as_nobody("a new name in another's index", errno.EACCES, m.at("vectors", "n.msgpack"), ("creat", "mkdir", "symlink", "mknod", "rename to"))
    row_as_nobody("another's index", errno.EACCES, m.index, ("rmdir",))
    as_nobody("rename of another's index: EACCES", errno.EACCES, os.rename, m.index, join(m.path, "b", "j"))
    row_as_nobody("another's index", errno.EPERM, m.index, ("chmod", "chown", "utimensat"))
    os.chmod(m.index, 0o700)
    row_as_nobody("a record in what may not be entered", errno.EACCES, A, [c for c in calls if c != "rename to"])
    os.chmod(m.index, 0o755)

equal("the records are as they were", sorted(os.listdir(m.at("vectors"))), ["a.msgpack", "b.msgpack"])
m.stop()
m.start("-o", "ro")
row("a record of a mount that is read-only", errno.EROFS, A, [c for c in changes if c not in ("mkdir", "link to", "symlink", "mknod")])
row("a new name there", errno.EROFS, m.at("vectors", "n.msgpack"), makes)
row("its buckets", errno.EROFS, join(m.path, "b"), ("rmdir", "chmod", "chown", "utimensat"))
finish()
