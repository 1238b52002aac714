#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""vectors/KEY.msgpack: what is written, what is read, when it counts, and what an open descriptor sees meanwhile."""
import ctypes
import io
import mmap
import multiprocessing
import subprocess
import tarfile
import threading

from harness import *

m = Mount()
V = m.at("vectors")
join = os.path.join
O = os.open
W, R, RW, C, T, X, A = os.O_WRONLY, os.O_RDONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_EXCL, os.O_APPEND


def path(key, end="msgpack"):
    return join(V, key + "." + end)


def get(key):
    with open(path(key, "json"), "rb") as f:
        return json.loads(f.read())


def names():
    return [n[:-8] for n in os.listdir(V)]


good = json.dumps({"data": [1, 2, 3], "metadata": {"n": 1}}).encode()
other = json.dumps({"data": [3, 2, 1], "metadata": {"n": 2}}).encode()

# forms
m.write("vectors/a.msgpack", good)
equal("JSON under .msgpack", get("a"), {"key": "a", "data": {"float32": [1.0, 2.0, 3.0]}, "metadata": {"n": 1}})
m.write("vectors/a.json", packed("zzz", [1, 2, 3], n=1))
equal("msgpack under .json; the name gives the key", get("a"), {"key": "a", "data": {"float32": [1.0, 2.0, 3.0]}, "metadata": {"n": 1}})
floats = numpy.array([0.1, -2.5e-38, 3e38], dtype="<f4")
m.write("vectors/bin.msgpack", msgpack.packb({"data": floats.tobytes()}))
got = msgpack.unpackb(m.read("vectors", "bin.msgpack"))
equal("a bin of float32, bit-exact", numpy.array(got["data"]["float32"], dtype="<f4").tobytes(), floats.tobytes())
equal("with its key and empty metadata", (got["key"], got["metadata"]), ("bin", {}))
equal("JSON gives the same float32", numpy.array(get("bin")["data"]["float32"], dtype="<f4").tobytes(), floats.tobytes())
before = m.read("vectors", "bin.msgpack")
m.write("vectors/bin.msgpack", before)
equal("canonical: writing it back changes nothing", m.read("vectors", "bin.msgpack"), before)
for inside in ("", "k" * 2000, "a\0b"):
    m.write("vectors/over.json", json.dumps({"key": inside, "data": [1, 2, 3]}))
    equal("whatever key is inside: %r" % inside[:4], get("over")["key"], "over")
fails("but it is a string", errno.EINVAL, m.write, "vectors/over.json", json.dumps({"key": 5, "data": [1, 2, 3]}))
os.unlink(path("over"))
m.write("vectors/meta.json", json.dumps({"data": [1, 0, 0], "metadata": {"z": [1, "a", True], "a": 9223372036854775807, "f": 1.5, "s": "é", "b": False}}))
equal("metadata of every kind", get("meta")["metadata"], {"a": 9223372036854775807, "b": False, "f": 1.5, "s": "é", "z": [1, "a", True]})
wrong = {
    "the wrong dimension": {"data": [1, 2]}, "no data": {"metadata": {}}, "a zero vector": {"data": [0, 0, 0]}, "a null": {"data": [1, 2, 3], "metadata": {"x": None}},
    "nesting": {"data": [1, 2, 3], "metadata": {"x": {"y": 1}}}, "a number beyond float32": {"data": [1e39, 0, 0]}, "an unknown field": {"data": [1, 2, 3], "more": 1},
    "a string for a vector": {"data": "abc"}, "a list": [1, 2, 3],
}
for what, value in wrong.items():
    fails("%s is refused in the write" % what, errno.EINVAL, m.write, "vectors/w.msgpack", json.dumps(value))
fails("NaN is refused", errno.EINVAL, m.write, "vectors/w.msgpack", msgpack.packb({"data": [float("nan"), 1, 1]}))
fails("an infinity is", errno.EINVAL, m.write, "vectors/w.msgpack", msgpack.packb({"data": numpy.array([numpy.inf, 1, 1], dtype="<f4").tobytes()}))
fails("an integer beyond 64 bits is", errno.EINVAL, m.write, "vectors/w.msgpack", msgpack.packb({"data": [1, 2, 3], "metadata": {"x": 2 ** 63}}))
fails("metadata over 40 KiB is EFBIG", errno.EFBIG, m.write, "vectors/w.msgpack",
      json.dumps({"data": [1, 2, 3], "metadata": {"t%d" % i: "x" * 2000 for i in range(25)}}))
fails("a filterable value over 2 KiB too", errno.EFBIG, m.write, "vectors/w.msgpack", json.dumps({"data": [1, 2, 3], "metadata": {"t": "x" * 3000}}))
fails("and more than 64 fields", errno.EFBIG, m.write, "vectors/w.msgpack", json.dumps({"data": [1, 2, 3], "metadata": {"t%d" % i: 1 for i in range(65)}}))
fails("bytes behind the record", errno.EINVAL, m.write, "vectors/w.msgpack", good + b"{}")
m.write("vectors/blank.json", b"  \n" + good + b"\n\n")
check("but white space around JSON is fine", "blank" in names())
check("no failed write has left anything", "w" not in names() and not os.path.exists(path("w")))

# when it counts
fd = O(path("new"), W | C | X)
equal("a file that is being created has no bytes", os.fstat(fd).st_size, 0)
check("nor is it listed", "new" not in names())
os.write(fd, good[:10])
equal("its size is what was written", os.fstat(fd).st_size, 10)
os.write(fd, good[10:])
check("a complete record is not there before it is closed or synced", "new" not in names())
os.fsync(fd)
check("but then", "new" in names())
os.close(fd)
fails("O_EXCL does not open what is there", errno.EEXIST, O, path("new"), W | C | X)
fd = O(path("inc"), W | C)
os.write(fd, good[:10])
fails("fsync of an incomplete record fails", errno.EINVAL, os.fsync, fd)
os.write(fd, good[10:])
os.close(fd)
check("and the rest can still follow", "inc" in names())
fd = O(path("inc2"), W | C)
os.write(fd, good[:10])
fails("close of an incomplete one fails", errno.EINVAL, os.close, fd)
check("and leaves nothing", "inc2" not in names() and not os.path.exists(path("inc2")))
fd = O(path("a"), W | T)
equal("O_TRUNC shadows", get("a")["metadata"], {"n": 1})
os.write(fd, good[:10])
equal("and so do writes", get("a")["metadata"], {"n": 1})
equal("the size on the path is that of the old record", os.stat(path("a")).st_size, len(m.read("vectors", "a.msgpack")))
fails("a failed rewrite", errno.EINVAL, os.close, fd)
equal("leaves the old record", get("a")["metadata"], {"n": 1})
fd = O(path("a"), W | T)
fails("an error", errno.EINVAL, os.write, fd, b'{"data": [1]}')
fails("stays on later writes", errno.EINVAL, os.write, fd, b"\n")
fails("on fsync", errno.EINVAL, os.fsync, fd)
os.ftruncate(fd, 0)
os.write(fd, other)
os.close(fd)
equal("until the file is truncated", get("a")["metadata"], {"n": 2})
count = len(m.errors())
fails("a wrong record", errno.EINVAL, m.write, "vectors/a.msgpack", b'{"data": [1]}')
equal("is one line in errors, however often it is told", len(m.errors()) - count, 1)

# any order
fd = O(path("ooo"), W | C)
os.pwrite(fd, good[20:], 20)
os.pwrite(fd, good[:20], 0)
os.close(fd)
equal("a record may be written in any order", get("ooo")["metadata"], {"n": 1})
fd = O(path("gap"), W | C)
os.pwrite(fd, good[20:], 20)
fails("but not with a gap", errno.EINVAL, os.close, fd)
fd = O(path("ooo"), RW)
equal("a descriptor opened for both reads what is there", os.read(fd, 1000), m.read("vectors", "ooo.msgpack"))
os.pwrite(fd, b"\x05", os.fstat(fd).st_size - 1)
equal("and then what it wrote", os.pread(fd, 1, os.fstat(fd).st_size - 1), b"\x05")
os.close(fd)
equal("one byte was changed", get("ooo")["metadata"], {"n": 5})
fd = O(path("app"), W | C | A)
os.write(fd, good[:9])
os.write(fd, good[9:])
os.close(fd)
equal("O_APPEND writes a record in pieces", get("app")["metadata"], {"n": 1})
fd = O(path("app"), W | A)
fails("and cannot lengthen one", errno.EINVAL, lambda: (os.write(fd, good), os.close(fd)))
fails("a file over its limit", errno.EFBIG, lambda: os.pwrite(O(path("big"), W | C), b"x", 1 << 30))
fails("truncate to a size", errno.EINVAL, os.truncate, path("a"), 7)
os.truncate(path("a"), 0)
os.truncate(path("a"), os.stat(path("a")).st_size)
equal("truncate to nothing or to itself changes nothing", get("a")["metadata"], {"n": 2})

# what a reader sees
old = m.read("vectors", "a.msgpack")
reader = O(path("a"), R)
piece = os.read(reader, 5)
m.write("vectors/a.msgpack", good)
equal("an open descriptor goes on with the bytes that it opened", piece + os.read(reader, 1000), old)
equal("and with their size", os.fstat(reader).st_size, len(old))
check("a new one has the new bytes", m.read("vectors", "a.msgpack") != old)
equal("of the same inode", os.fstat(reader).st_ino, os.stat(path("a")).st_ino)
with mmap.mmap(reader, 0, prot=mmap.PROT_READ) as view:
    m.write("vectors/a.msgpack", other)
    equal("a mapping keeps its bytes", view[:], old)
os.unlink(path("a"))
equal("also when the record is deleted", os.pread(reader, 1000, 0), old)
equal("which has no link then", os.fstat(reader).st_nlink, 0)
os.close(reader)
fails("nobody finds it any more", errno.ENOENT, os.stat, path("a"))
writer = O(path("b"), W | C)
os.write(writer, good)
m.write("vectors/b.msgpack", other)
os.close(writer)
equal("of two writers the last to close wins", get("b")["metadata"], {"n": 1})
writer = O(path("b"), W | T)
os.write(writer, other)
os.unlink(path("b"))
os.close(writer)
check("what is unlinked while it is written stays unlinked", not os.path.exists(path("b")))
m.write("vectors/b.msgpack", good)
writer = O(path("b"), W | T)
os.write(writer, other)
os.rename(path("b"), path("b2"))
os.close(writer)
equal("what is renamed while it is written has the new name", (get("b2")["metadata"], os.path.exists(path("b"))), ({"n": 2}, False))

# rename
libc = ctypes.CDLL(None, use_errno=True)


def rename2(a, b, flags):
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), flags):
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


m.write("vectors/x.msgpack", good)
m.write("vectors/y.msgpack", other)
fails("RENAME_NOREPLACE does not replace", errno.EEXIST, rename2, path("x"), path("y"), 1)
fails("RENAME_EXCHANGE is not known", errno.EINVAL, rename2, path("x"), path("y"), 2)
rename2(path("x"), path("z"), 1)
equal("RENAME_NOREPLACE renames", sorted(set(names()) & {"x", "y", "z"}), ["y", "z"])
os.rename(path("z"), path("y"))
equal("rename replaces", get("y")["metadata"], {"n": 1})
fails("rename of what is not there", errno.ENOENT, os.rename, path("x"), path("q"))
fails("rename to a wrong name", errno.EPROTO, os.rename, path("y"), join(V, "y.txt"))
os.rename(path("y"), path("dir%2Fy"))
equal("a key with a slash", get("dir%2Fy")["key"], "dir/y")
os.mkdir(join(m.path, "b", "j"))
fails("rename across indexes", errno.EXDEV, os.rename, path("dir%2Fy"), join(m.path, "b", "j", "vectors", "y.msgpack"))

# temporary files
for name in (".y.msgpack.Xa1", "y.msgpack~", "y.tmp", "y.part", "y.swp", "sedAbCdEf", "4913"):
    t = join(V, name)
    fd = O(t, RW | C | X, 0o600)
    os.pwrite(fd, other[30:], 30)
    os.pwrite(fd, other[:30], 0)
    os.close(fd)
    equal("%s takes any order" % name, open(t, "rb").read(), other)
    check("is listed, and no record", name in os.listdir(V) and name not in m.read("vectors.keys").decode())
    os.rename(t, path("tmp"))
    equal("and is committed by a rename", get("tmp")["metadata"], {"n": 2})
    os.unlink(path("tmp"))
t = join(V, "t.tmp")
fd = O(t, RW | C)
os.ftruncate(fd, 1 << 28)
equal("a temporary file may be sparse", (os.fstat(fd).st_size, os.pread(fd, 4, 1 << 27)), (1 << 28, b"\0\0\0\0"))
fails("but not without bound", errno.EFBIG, os.ftruncate, fd, 1 << 40)
os.ftruncate(fd, 0)
os.write(fd, b'{"data": [1]}')
fails("wrong content fails in the rename, as EPROTO", errno.EPROTO, os.rename, t, path("tmp"))
check("errors says why", "1" in m.errors()[-1] and "EPROTO" in m.errors()[-1], m.errors()[-1])
check("and the temporary file stays", os.path.exists(t))
m.write("vectors/there.msgpack", good)
os.pwrite(fd, other, 0)
fails("RENAME_NOREPLACE of one", errno.EEXIST, rename2, t, path("there"), 1)
os.utime(t, (1000000000, 1000000000))
os.chmod(t, 0o640)
os.rename(t, path("there"))
os.close(fd)
equal("its time goes into the record", os.stat(path("there")).st_mtime, 1000000000)
inode = os.stat(path("there")).st_ino
twin = os.stat(path("there", "json")).st_ino
check("the JSON form is another file, with a number of its own", twin != inode)
before = get("there")
shutil.copyfile(path("there", "json"), path("there"))
shutil.copyfile(path("there"), path("there", "json"))
equal("each is copied over the other, which changes nothing", get("there"), before)
os.rename(path("there"), path("there", "json"))
check("and renamed, as two names of one file are: both stay", os.path.exists(path("there")) and os.path.exists(path("there", "json")))
with tarfile.open(fileobj=io.BytesIO(subprocess.run(["tar", "cf", "-", "-C", V, "there.msgpack", "there.json"], stdout=subprocess.PIPE, check=True).stdout)) as tar:
    equal("tar has both", [tar.extractfile(n).read() for n in tar.getnames()], [m.read("vectors", "there.msgpack"), m.read("vectors", "there.json")])
m.write("vectors/.new", good)
os.rename(join(V, ".new"), path("there"))
equal("a record keeps its inode number when it is replaced", os.stat(path("there")).st_ino, inode)
equal("and so does its JSON form", os.stat(path("there", "json")).st_ino, twin)
os.rename(path("there"), join(V, "there~"))
check("a record moved to a temporary name is no record", "there" not in m.read("vectors.keys").decode().split())
os.rename(join(V, "there~"), path("there"))
equal("until it comes back", get("there")["metadata"], {"n": 1})
def fill():
    for i in range(3):
        fd = O(join(V, ".f%d" % i), W | C)
        try:
            for j in range(1 << 15):
                os.pwrite(fd, b"x", j << 14)
        finally:
            os.close(fd)


fails("one user's temporary files are bounded in all", errno.ENOSPC, fill)
for i in range(3):
    if os.path.exists(join(V, ".f%d" % i)):
        os.unlink(join(V, ".f%d" % i))
m.write("vectors/.f", b"x" * 1000000)
check("and deleting them makes room", os.path.getsize(join(V, ".f")) == 1000000)

for i in range(1200):
    m.write("vectors/.many%d" % i, b"x")
listed = [n for n in os.listdir(V) if n.startswith(".many")]
equal("any number of them is listed, each once", (len(listed), len(set(listed))), (1200, 1200))
for n in listed:
    os.unlink(join(V, n))


# many writers
def worker(n):
    for i in range(50):
        m.write("vectors/t%d-%d.msgpack" % (n, i), packed("x", [n + 1, i, 1], n=n))
        m.write("vectors/same.msgpack", packed("x", [n + 1, i, 1], n=n, i=i))


threads = [threading.Thread(target=worker, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
equal("eight writers at once", len([n for n in names() if n.startswith("t") and "-" in n]), 400)
check("one of them wrote last", get("same")["metadata"]["i"] in range(50))
stopping = False
broken = []


def watch():
    while not stopping:
        data = m.read("vectors", "same.msgpack")
        if msgpack.unpackb(data)["key"] != "same" or os.stat(path("same")).st_size == 0:
            broken.append(data)


watchers = [threading.Thread(target=watch) for _ in range(2)]
[w.start() for w in watchers]
for i in range(300):
    m.write("vectors/same.msgpack", packed("x", [i + 1] * 3, n="x" * (i % 90)))
stopping = True
[w.join() for w in watchers]
equal("a reader never sees half a record", broken, [])

# What a reader finds is no older than the last write that was over when it opened: records of one size, whose pages the kernel keeps.
written = multiprocessing.Value("q", 0)
over = multiprocessing.Event()


def numbered(n):
    return packed("x", [1, 1, 1], **{"part%d" % i: ("%08d" % n) * 250 for i in range(8)})


def look(out):
    old = mixed = 0
    while not over.is_set():
        least = written.value
        found = {part for text in msgpack.unpackb(m.read("vectors", "counted.msgpack"))["metadata"].values() for part in (text[:8], text[-8:])}
        mixed += len(found) != 1
        old += int(min(found)) < least
    out.put((old, mixed))


m.write("vectors/counted.msgpack", numbered(0))
out = multiprocessing.Queue()
readers = [multiprocessing.Process(target=look, args=(out,)) for _ in range(3)]
[r.start() for r in readers]
for n in range(1, 400):
    m.write("vectors/counted.msgpack", numbered(n))
    written.value = n
over.set()
found = [out.get() for _ in readers]
[r.join() for r in readers]
equal("readers beside a writer see what was written last", [old for old, mixed in found], [0] * 3)
equal("and all of one record", [mixed for old, mixed in found], [0] * 3)

# a file that was looked up before it was replaced, and is opened after
for name, before, after in (("vectors/seen.json", b'{"data": [1, 1, 1]}', b'{"data": [2, 2, 2]}'), ("queries/seen.json", b'{"topK": 1}', b'{"topK": 2}')):
    m.write(name, before)
    m.read(name)
    place = os.open(m.at(name), os.O_PATH)
    m.write(name, after)
    with open("/proc/self/fd/%d" % place, "rb") as f:
        check("%s is opened as it is now, by whatever way" % name, b"2" in f.read())
    os.close(place)
    check("and read so by others", b"2" in subprocess.run(["cat", m.at(name)], capture_output=True).stdout)

# an empty saved question is one when it is closed
for i in range(50):
    m.write("queries/emptied.json", b'{"topK": 1}')
    os.close(os.open(m.at("queries/emptied.json"), os.O_WRONLY | os.O_TRUNC))
    if m.read("queries/emptied.json"):
        break
    m.write("queries/emptied.json", b'{"topK": 2}')
    if m.read("queries/emptied.json") != b'{"topK": 2}':
        break
equal("a saved question that is emptied is empty when that is over, and what is written after it stays", i, 49)
finish()
