#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The tree: buckets, indexes, what is listed and what is only there when asked for, names, numbers, times."""
import ctypes
import multiprocessing
import stat
import subprocess

from harness import *

m = Mount(dimension=0)
P = m.path
join = os.path.join

# buckets and indexes
os.mkdir(join(P, "b"))
os.mkdir(join(P, "b", "i"))
equal("mkdir makes a bucket and an index", os.listdir(join(P, "b")), ["i"])
fails("not twice", errno.EEXIST, os.mkdir, join(P, "b"))
fails("a name that begins with a dot is none", errno.EINVAL, os.mkdir, join(P, ".hidden"))
fails("nor one of an index", errno.EINVAL, os.mkdir, join(P, "b", ".hidden"))
fails("a file has no place in the root", errno.EPERM, open, join(P, "file"), "w")
fails("nor in a bucket", errno.EPERM, open, join(P, "b", "file"), "w")
fails("a bucket with an index is not removed", errno.ENOTEMPTY, os.rmdir, join(P, "b"))
os.mkdir(join(P, "c"))
os.rename(join(P, "c"), join(P, "d"))
equal("mv renames a bucket", os.listdir(P), ["b", "d"])
os.mkdir(join(P, "b", "j"))
number = os.stat(join(P, "b", "j")).st_ino
os.rename(join(P, "b", "j"), join(P, "d", "k"))
equal("mv moves an index", (os.listdir(join(P, "b")), os.listdir(join(P, "d"))), (["i"], ["k"]))
equal("its inode number stays", os.stat(join(P, "d", "k")).st_ino, number)
fails("mv does not replace an index that has something", errno.ENOTEMPTY,
      lambda: (open(join(P, "b", "i", "queries", "q.json"), "w").close(), os.rename(join(P, "d", "k"), join(P, "b", "i"))))
os.unlink(join(P, "b", "i", "queries", "q.json"))
os.rmdir(join(P, "d", "k"))
os.mkdir(join(P, "d", "k"))
check("an inode number is never used again", os.stat(join(P, "d", "k")).st_ino != number)
os.rmdir(join(P, "d", "k"))
os.rmdir(join(P, "d"))
equal("rmdir removes what is empty", os.listdir(P), ["b"])
name = "B" * 255
os.mkdir(join(P, name))
os.rmdir(join(P, name))
fails("a name has at most 255 bytes", errno.ENAMETOOLONG, os.mkdir, join(P, name + "B"))
for odd in ("a b", "ä", "x%y", "~", "a.tmp", "-n"):
    os.mkdir(join(P, odd))
    os.rmdir(join(P, odd))
check("any other name is good", True)

# an index
I = m.index
fixed = ["config", "vectors", "insert", "query", "update", "delete", "queries", "answers", "near", "stats", "errors"]
equal("an index has its entries, config first", os.listdir(I), fixed)
with os.scandir(I) as entries:
    kinds = {e.name: e.is_dir(follow_symlinks=False) for e in entries}
equal("with their types", sorted(n for n in kinds if kinds[n]), ["answers", "near", "queries", "vectors"])
m.write("config", "dimension = 3\n")
for i in range(5):
    m.write("vectors/k%d.msgpack" % i, packed("k%d" % i, [i + 1, 1, 0], n=i))
for view in ("vectors.msgpack", "vectors.jsonl", "vectors.npy", "vectors.keys"):
    check("%s is there when asked for" % view, stat.S_ISREG(os.stat(m.at(view)).st_mode))
    equal("with its exact size", os.stat(m.at(view)).st_size, len(m.read(view)))
equal("and none is listed", os.listdir(I), fixed)
check("KEY.json is there when asked for", b'"key": "k0"' in m.read("vectors", "k0.json"))
equal("and not listed", os.listdir(m.at("vectors")), ["k%d.msgpack" % i for i in range(5)])
equal("near/ lists nothing", os.listdir(m.at("near")), [])
equal(".vecfs is not listed", os.listdir(P), ["b"])
equal("and has three files", os.listdir(join(P, ".vecfs")), ["metrics", "version", "errors"])
check("version names the program", open(join(P, ".vecfs", "version")).read().startswith("vecfs "))
check("metrics is Prometheus text", "# TYPE vecfs_calls_total counter" in open(join(P, ".vecfs", "metrics")).read())
for directory in (P, join(P, "b"), I, m.at("vectors"), m.at("near", "k1")):
    equal("a directory has one link", os.stat(directory).st_nlink, 1)
for directory in (P, join(P, "b"), I, m.at("vectors"), m.at("queries")):
    with os.scandir(directory) as entries:
        equal("what readdir says of %s is what stat says" % (directory[len(P):] or "/"), [e.inode() for e in entries],
              [os.stat(join(directory, e)).st_ino for e in os.listdir(directory)])
numbers = []
for top, dirs, files in os.walk(P):
    numbers += [os.lstat(join(top, n)).st_ino for n in dirs + files]
equal("no inode number stands for two files", len(numbers), len(set(numbers)))
for entry in ("stats", "errors", "config", "vectors/k1.msgpack", "vectors/k1.json"):
    equal("the size of %s is exact" % entry, os.stat(m.at(entry)).st_size, len(m.read(entry)))

# what has no place
libc = ctypes.CDLL(None, use_errno=True)
fails("mkdir in an index", errno.EPERM, os.mkdir, m.at("dir"))
fails("mkdir in vectors/", errno.EPERM, os.mkdir, m.at("vectors", "dir"))
fails("a symbolic link", errno.EPERM, os.symlink, "x", m.at("vectors", "link.msgpack"))
fails("a hard link", errno.EPERM, os.link, m.at("vectors", "k0.msgpack"), m.at("vectors", "k9.msgpack"))
fails("a fifo", errno.EPERM, os.mkfifo, m.at("vectors", "fifo.msgpack"))
fails("any other name in an index", errno.EINVAL, m.write, "data.bin", b"")
check("which errors tells, with the names there are", "config" in m.errors()[-1], m.errors()[-1])
fails("any other name in vectors/", errno.EINVAL, m.write, "vectors/k.txt", b"")
check("which errors tells too", "KEY.msgpack" in m.errors()[-1], m.errors()[-1])
fails("any other name in queries/", errno.EINVAL, m.write, "queries/q.txt", b"")
check("and again", "NAME.json" in m.errors()[-1], m.errors()[-1])
before = m.stats()["vectors"]
m.write("stats", b"x")
equal("writing to stats is accepted, for copies that are restored, and changes nothing", m.stats()["vectors"], before)
m.write("answers/q.json", b"x")
equal("and so is writing to answers/", subprocess.run(["test", "-e", m.at("answers", "q.json")]).returncode, 1)
fails("writing to a view", errno.EPERM, m.write, "vectors.npy", b"x")
fails("a file in near/", errno.EPERM, m.write, "near/k", b"x")

# keys and names
odd = ["a/b", "100%", "a b", ".dot", "Zoë", "tab\there", "new\nline", "~", "x.msgpack", "x.json", "sedAbCdEf", "4913", "日本"]
for key in odd:
    m.talk("insert", packed(key, [1, 2, 3]))
listed = os.listdir(m.at("vectors"))
expected = {"a%2Fb", "100%25", "a b", "%2Edot", "Zoë", "tab%09here", "new%0Aline", "~", "x.msgpack", "x.json", "sedAbCdEf", "4913", "日本"}
equal("keys are escaped in their names", {n[:-8] for n in listed} - {"k%d" % i for i in range(5)}, expected)
for file in listed:
    got = msgpack.unpackb(m.read("vectors", file))["key"]
    if file[0] != "k":
        check("%s holds its key" % file, got in odd, got)
equal("names come in the order of keys", [msgpack.unpackb(m.read("vectors", n))["key"] for n in listed],
      sorted((msgpack.unpackb(m.read("vectors", n))["key"] for n in listed), key=lambda k: k.encode()))
m.write("vectors/%2e%2e.msgpack", packed("x", [1, 1, 1]))
equal("any %XX is understood", json.loads(m.read("vectors", "%2E..json"))["key"], "..")
fails("a percent sign that stands for nothing is refused", errno.EINVAL, m.write, "vectors/50%.msgpack", packed("x", [1, 1, 1]))
fails("and so is what is not UTF-8", errno.EINVAL, m.write, "vectors/\udcff.msgpack", packed("x", [1, 1, 1]))
long = "k" * 600
m.talk("insert", packed(long, [3, 2, 1]))
check("a key without a file name is not listed", all(len(n) < 256 for n in os.listdir(m.at("vectors"))))
equal("but counted", m.stats()["unlisted_keys"], "1")
equal("and found", m.ask({"queryVector": [3, 2, 1], "topK": 1})["vectors"], [{"key": long}])
fails("a name over 255 bytes", errno.ENAMETOOLONG, m.write, "vectors/" + long + ".msgpack", packed(long, [1, 1, 1]))

# times
before = os.stat(m.at("vectors")).st_mtime_ns
time.sleep(0.02)
m.talk("insert", packed("time", [1, 2, 3]))
after = os.stat(m.at("vectors")).st_mtime_ns
check("the time of vectors/ moves with insert", after > before, before, after)
time.sleep(0.02)
os.unlink(m.at("vectors", "time.msgpack"))
check("and with rm", os.stat(m.at("vectors")).st_mtime_ns > after)
for ns in (-1500000000, -1, 0, 1, 4102444800 * 10**9 + 5):
    os.utime(m.at("vectors", "k1.msgpack"), ns=(ns, ns))
    equal("a time of %d ns is kept" % ns, os.stat(m.at("vectors", "k1.msgpack")).st_mtime_ns, ns)
    m.write("vectors/.timed.tmp", m.read("vectors/k1.msgpack"))
    os.utime(m.at("vectors", ".timed.tmp"), ns=(ns, ns))
    os.rename(m.at("vectors", ".timed.tmp"), m.at("vectors", "timed.msgpack"))
    equal("and by way of a temporary file", os.stat(m.at("vectors", "timed.msgpack")).st_mtime_ns, ns)
    with open(m.at("vectors", "timed.msgpack"), "wb") as f:
        f.write(m.read("vectors/k1.msgpack"))
        f.flush()
        os.utime(f.fileno(), ns=(ns, ns))
    equal("and while it is written", os.stat(m.at("vectors", "timed.msgpack")).st_mtime_ns, ns)
os.unlink(m.at("vectors", "timed.msgpack"))
os.utime(m.at("vectors", "k1.msgpack"), (10**15, 10**15))
equal("one in a far future is the last that there is", os.stat(m.at("vectors", "k1.msgpack")).st_mtime_ns, 2**63 - 1)
before = os.stat(m.at("queries")).st_mtime_ns
m.write("queries/moves.json", b"{}")
made = os.stat(m.at("queries")).st_mtime_ns
check("that of queries/ with a question", made > before)
os.rename(m.at("queries", "moves.json"), m.at("queries", "moved.json"))
renamed = os.stat(m.at("queries")).st_mtime_ns
check("with mv", renamed > made)
os.unlink(m.at("queries", "moved.json"))
check("and with rm", os.stat(m.at("queries")).st_mtime_ns > renamed)
before = os.stat(P).st_mtime_ns
time.sleep(0.02)
os.mkdir(join(P, "later"))
check("that of the root with mkdir", os.stat(P).st_mtime_ns > before)
os.rmdir(join(P, "later"))

# df
host, here = os.statvfs(m.store), os.statvfs(P)
equal("df tells the size of the disk below", here.f_blocks * here.f_frsize, host.f_blocks * host.f_frsize)
check("and what is free there", abs(here.f_bavail * here.f_frsize - host.f_bavail * host.f_frsize) < 1 << 30)
equal("a name has at most 255 bytes", here.f_namemax, 255)

# a listing while it changes
for i in range(3000):
    pass
m.talk("insert", b"".join(packed("%05d" % i, [1, 2, 3]) for i in range(3000)))
with os.scandir(m.at("vectors")) as entries:
    seen = [next(entries).name for _ in range(1000)]
    m.talk("delete", json.dumps({"keys": ["%05d" % i for i in range(0, 3000, 2)]}))
    seen += [e.name for e in entries]
odd_ones = {"%05d.msgpack" % i for i in range(1, 3000, 2)}
check("a listing during deletions meets all that stay", odd_ones <= set(seen))
equal("and none twice", len(seen), len(set(seen)))
fd = os.open(m.at("vectors"), os.O_RDONLY)
first = os.listdir(fd)
os.lseek(fd, 0, os.SEEK_SET)
equal("a rewound directory lists again", os.listdir(fd), first)
os.close(fd)

os.mkdir(join(P, "b", "asked"))
m.write(join(P, "b", "asked", "queries", "q.json"), b"{}")
fails("an index with a saved question is not empty", errno.ENOTEMPTY, os.rmdir, join(P, "b", "asked"))
equal("rm -r removes it", subprocess.run(["rm", "-r", join(P, "b", "asked")]).returncode, 0)
fails("a special file has no place here", errno.EPERM, os.mknod, m.at("vectors", "pipe.msgpack"), stat.S_IFIFO | 0o644)
os.mknod(m.at("vectors", "made.msgpack"), stat.S_IFREG | 0o644)
check("an ordinary one may be made, and without a record there is none", not os.path.exists(m.at("vectors", "made.msgpack")))

# whoever works inside does not notice that an index, or its bucket, is renamed
over, inside = multiprocessing.Event(), multiprocessing.Barrier(3)


def work_inside(number, out):
    os.chdir(m.at("vectors"))
    inside.wait()
    failures, name = [], "p%d.json" % number
    while not over.is_set():
        for what in (lambda: os.stat("inside.json"), lambda: open("inside.json").read(), lambda: os.listdir("."), lambda: os.stat("../stats"), lambda: open("../answers/q.json").read(),
                     lambda: open(name, "w").write('{"data": [1, 2, 3]}'), lambda: os.listdir("../near/inside")):
            try:
                what()
            except OSError as e:
                failures.append(str(e))
    out.put(failures)


os.mkdir(join(P, "b", "moving"))
m.index = join(P, "b", "moving")
m.write("config", b"dimension = 3\n")
m.write("vectors/inside.json", b'{"data": [1, 2, 3]}')
m.write("queries/q.json", b"{}")
out = multiprocessing.Queue()
workers = [multiprocessing.Process(target=work_inside, args=(i, out)) for i in range(2)]
[w.start() for w in workers]
inside.wait()
for i in range(400):
    for there, back in (("b/moving", "b/moved"), ("b", "c")):
        os.rename(join(P, there), join(P, back))
        os.rename(join(P, back), join(P, there))
over.set()
equal("a rename is one for all who are inside", [out.get() for w in workers], [[], []])
[w.join() for w in workers]
subprocess.run(["rm", "-r", m.index])
m.index = I

# rm -r
done = subprocess.run(["rm", "-r", I], stderr=subprocess.PIPE)
equal("rm -r of an index works, with keys that have no file name", (done.returncode, done.stderr), (0, b""))
equal("all is gone", os.listdir(join(P, "b")), [])
os.mkdir(I)
equal("an index of the same name is a new one", m.read("vectors.keys"), b"")
finish()
