#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Random sequences of calls, on a mount and on a model of what is promised of it, compared after every step; remounts in between.

A failure names the seed and the last steps: VECFS_SEED=... repeats them, VECFS_MODEL_SECONDS=600 goes on for longer."""
import ctypes
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *

SEED = int(os.environ.get("VECFS_SEED", time.time()))
SECONDS = float(os.environ.get("VECFS_MODEL_SECONDS", 20))
STEPS = 250                     # from one mount to the next
DIM = 3
KEYS = ["a", "b", "c", "d", "e/f", "%", ".g", "Zoë", "h" * 100]
TEMPORARY = [".x", "y~", "z.tmp", "sedAbCdEf"]
QUESTIONS = ["p.json", "q.json", "r.msgpack"]
libc = ctypes.CDLL(None, use_errno=True)


class Different(Exception):
    pass


def escaped(key):
    out = "".join("%%%02X" % ord(c) if c in "/%" or ord(c) < 32 or ord(c) == 127 else c for c in key)
    return "%2E" + out[1:] if out[0] == "." else out


def code_of(call, *args):
    """The errno of a call, 0 when it succeeds."""
    try:
        call(*args)
    except OSError as e:
        return e.errno
    return 0


def rename_noreplace(a, b):
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 1):
        raise OSError(ctypes.get_errno(), "renameat2")


def decode(data):
    """What a file of a record holds, as the model keeps it: numbers and metadata."""
    try:
        value = json.loads(data) if data.lstrip()[:1] == b"{" else msgpack.unpackb(data)
        numbers = value["data"]
        numbers = numbers["float32"] if isinstance(numbers, dict) else numbers
        if len(numbers) != DIM or not any(numbers):
            return None
        return [float(x) for x in numbers], value.get("metadata", {})
    except Exception:
        return None


class Reader:
    def __init__(self, fd, data):
        self.fd, self.data = fd, data


class Writer:
    """A file that is being written: `name` follows renames, None when it was unlinked."""
    def __init__(self, fd, name):
        self.fd, self.name, self.data = fd, name, b""


class Steps:
    def __init__(self, rng, mount):
        self.rng, self.m = rng, mount
        self.records = {}       # key -> (numbers, metadata, mtime or None)
        self.inodes = {}        # key -> inode number
        self.scratch = {}       # (directory, name) -> bytearray
        self.questions = {}     # name -> bytes
        self.top_k = 10
        self.readers, self.writers = [], []
        self.log = []

    # ---- names ----

    def path(self, key):
        return self.m.at("vectors", escaped(key) + self.rng.choice([".msgpack", ".msgpack", ".json"]))

    def key(self):
        """Not one that is being created: it has a name already, but under one of its two endings only."""
        return self.rng.choice([k for k in KEYS if k in self.records or not any(w.name == k for w in self.writers)])

    def temporary(self):
        return self.rng.choice(["vectors", "queries", ""]), self.rng.choice(TEMPORARY)

    def content(self):
        value = {"data": [float(self.rng.randint(1, 9)) for _ in range(DIM)], "metadata": {"n": self.rng.randint(0, 99)}}
        if self.rng.random() < 0.5:
            value["key"] = "other"
        if self.rng.random() < 0.3:
            value["data"] = {"float32": value["data"]}
        return json.dumps(value).encode() if self.rng.random() < 0.5 else msgpack.packb(value)

    def wrong(self):
        good = self.content()
        return self.rng.choice([good[:-1], good[: len(good) // 2], b"{}", b"\xc1", good + b"x", b'{"data": [1, 2]}', b'{"data": [0, 0, 0]}',
                                b'{"data": [1, 2, 3], "metadata": {"n": null}}', b" \n"])

    def expect(self, what, got, expected):
        if got != expected:
            raise Different("%s: got %r, expected %r" % (what, got, expected))

    def code(self, what, expected, call, *args):
        got = code_of(call, *args)
        self.log.append("%s: %s" % (what, errno.errorcode.get(got, "0")))
        if got != expected:
            raise Different("%s: %s, expected %s" % (what, errno.errorcode.get(got, got), errno.errorcode.get(expected, expected)))

    def took(self, key, data, mtime=None):
        self.records[key] = (*decode(data), mtime)

    # ---- records ----

    def write_file(self, path, data, flags):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
        try:
            at = 0
            while at < len(data):
                n = self.rng.randint(1, len(data))
                at += os.write(fd, data[at:at + n])
            if self.rng.random() < 0.3:
                os.fsync(fd)
        except OSError:
            code_of(os.close, fd)
            raise
        os.close(fd)

    def put(self):
        key, data = self.key(), self.content()
        self.code("put %s" % key, 0, self.write_file, self.path(key), data, os.O_TRUNC)
        self.took(key, data)

    def put_wrong(self):
        self.code("put what is wrong", errno.EINVAL, self.write_file, self.path(self.key()), self.wrong(), os.O_TRUNC)

    def put_backwards(self):
        key, data = self.key(), self.content()
        fd = os.open(self.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        half = self.rng.randint(0, len(data))
        os.pwrite(fd, data[half:], half)
        os.pwrite(fd, data[:half], 0)
        self.code("close %s" % key, 0, os.close, fd)
        self.took(key, data)

    def create_exclusively(self):
        key, data = self.key(), self.content()
        there = key in self.records
        self.code("O_EXCL of %s" % key, errno.EEXIST if there else 0, self.write_file, self.path(key), data, os.O_EXCL)
        if not there:
            self.took(key, data)

    def empty(self):
        self.code("an empty write", 0, self.write_file, self.path(self.key()), b"", os.O_TRUNC)

    def append(self):
        key, data = self.key(), self.content()
        there = key in self.records
        self.code("append to %s" % key, errno.EINVAL if there else 0, self.write_file, self.path(key), data, os.O_APPEND)
        if not there:
            self.took(key, data)

    def truncate(self):
        key = self.key()
        self.code("truncate %s" % key, 0 if key in self.records else errno.ENOENT, os.truncate, self.path(key), 0)
        self.code("cut %s" % key, errno.EINVAL if key in self.records else errno.ENOENT, os.truncate, self.path(key), 5)

    def unlink(self):
        key = self.key()
        path = self.path(key)
        self.code("unlink %s" % path[-20:], 0 if key in self.records else errno.ENOENT, os.unlink, path)
        self.records.pop(key, None)
        self.inodes.pop(key, None)
        self.forget_writers(key)

    def forget_writers(self, key):
        for w in self.writers:
            if w.name == key:
                w.name = None

    def rename(self):
        a, b = self.key(), self.key()
        self.code("rename %s to %s" % (a, b), 0 if a in self.records else errno.ENOENT, os.rename, self.path(a), self.path(b))
        self.moved(a, b)

    def rename_carefully(self):
        a, b = self.key(), self.key()
        code = errno.ENOENT if a not in self.records else errno.EEXIST if b in self.records else 0
        self.code("rename %s to %s, RENAME_NOREPLACE" % (a, b), code, rename_noreplace, self.path(a), self.path(b))
        if code == 0:
            self.moved(a, b)

    def moved(self, a, b):
        if a not in self.records or a == b:
            return
        self.forget_writers(b)
        self.records[b] = self.records.pop(a)
        self.inodes.pop(b, None)
        if a in self.inodes:
            self.inodes[b] = self.inodes.pop(a)
        for w in self.writers:
            if w.name == a:
                w.name = b

    def touch(self):
        key = self.key()
        when = self.rng.randint(1, 2000000000) * 1000000000 + self.rng.randint(0, 999999999)
        self.code("utimens %s" % key, 0 if key in self.records else errno.ENOENT, lambda p: os.utime(p, ns=(when, when)), self.path(key))
        if key in self.records and not any(w.name == key for w in self.writers):
            self.records[key] = (*self.records[key][:2], when)

    def chmod(self):
        key = self.key()
        self.code("chmod %s" % key, 0 if key in self.records else errno.ENOENT, os.chmod, self.path(key), 0o600)

    def no_place(self):
        self.code("mkdir", errno.EPERM, os.mkdir, self.m.at("vectors", "dir"))
        self.code("link", errno.EPERM, os.symlink, "x", self.m.at("vectors", "link"))
        self.code("any name", errno.EINVAL, self.write_file, self.m.at("vectors", "name.txt"), b"x", 0)

    # ---- temporary files ----

    def scratch_write(self):
        where = self.temporary()
        old = self.scratch.get(where, bytearray())
        data = bytearray(self.content() if self.rng.random() < 0.5 else self.rng.randbytes(self.rng.randint(0, 9000)))
        offset = self.rng.choice([0, 0, len(old), self.rng.randint(0, 20000)])
        fd = os.open(self.m.at(*where), os.O_RDWR | os.O_CREAT, 0o644)
        if offset == 0 and self.rng.random() < 0.7:
            os.ftruncate(fd, 0)
            old = bytearray()
        os.pwrite(fd, data, offset)
        if data:
            old.extend(bytes(max(0, offset - len(old))))
            old[offset:offset + len(data)] = data
        self.expect("what was written to %s" % (where,), os.pread(fd, 1 << 20, 0), bytes(old))
        os.close(fd)
        self.scratch[where] = old

    def scratch_cut(self):
        where, size = self.temporary(), self.rng.randint(0, 12000)
        self.code("truncate %s" % (where,), 0 if where in self.scratch else errno.ENOENT, os.truncate, self.m.at(*where), size)
        if where in self.scratch:
            old = self.scratch[where]
            self.scratch[where] = old[:size] + bytes(max(0, size - len(old)))

    def scratch_unlink(self):
        where = self.temporary()
        self.code("unlink %s" % (where,), 0 if where in self.scratch else errno.ENOENT, os.unlink, self.m.at(*where))
        self.scratch.pop(where, None)

    def scratch_rename(self):
        a, b = self.temporary(), self.temporary()
        self.code("rename %s to %s" % (a, b), 0 if a in self.scratch else errno.ENOENT, os.rename, self.m.at(*a), self.m.at(*b))
        if a in self.scratch:
            self.scratch[b] = self.scratch.pop(a)

    def scratch_commit(self):
        where, key = ("vectors", self.rng.choice(TEMPORARY)), self.key()
        data = self.content() if self.rng.random() < 0.7 else self.wrong()
        self.write_file(self.m.at(*where), data, os.O_TRUNC)
        self.scratch[where] = bytearray(data)
        good = decode(data) is not None and b"null" not in data
        call = os.rename if self.rng.random() < 0.5 else rename_noreplace
        code = errno.EEXIST if call is rename_noreplace and key in self.records else 0 if good else errno.EPROTO
        self.code("commit of %r to %s" % (data, key), code, call, self.m.at(*where), self.path(key))
        if code == 0:
            self.took(key, data)
            self.forget_writers(key)
            del self.scratch[where]

    def put_aside(self):
        key, where = self.key(), ("vectors", self.rng.choice(TEMPORARY))
        path = self.path(key)
        data = bytearray(open(path, "rb").read()) if key in self.records else None
        self.code("rename %s to %s" % (key, where), 0 if data else errno.ENOENT, os.rename, path, self.m.at(*where))
        if data:
            self.scratch[where] = data
            del self.records[key]
            self.inodes.pop(key, None)
            self.forget_writers(key)

    # ---- open files ----

    def open_reader(self):
        key = self.key()
        if key in self.records and len(self.readers) < 20:
            path = self.path(key)
            self.log.append("open " + path[-20:])
            data = open(path, "rb").read()
            self.readers.append(Reader(os.open(path, os.O_RDONLY), data))

    def close_reader(self):
        if self.readers:
            r = self.readers.pop(self.rng.randrange(len(self.readers)))
            self.expect("the size of an open file", os.fstat(r.fd).st_size, len(r.data))
            self.expect("what an open file reads", os.pread(r.fd, 1 << 20, 0), r.data)
            os.close(r.fd)

    def open_writer(self):
        key = self.key()
        if len(self.writers) < 4:
            self.writers.append(Writer(os.open(self.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), key))

    def close_writer(self):
        if self.writers:
            w = self.writers.pop(self.rng.randrange(len(self.writers)))
            data = self.content()
            os.write(w.fd, data)
            self.code("close of %s" % w.name, 0, os.close, w.fd)
            if w.name is not None:
                self.took(w.name, data)

    # ---- saved questions, verbs, config ----

    def question(self):
        name, data = self.rng.choice(QUESTIONS), b'{"topK": %d}' % self.rng.randint(1, 9)
        flags = self.rng.choice([os.O_TRUNC, os.O_APPEND])
        self.code("write %s" % name, 0, self.write_file, self.m.at("queries", name), data, flags)
        self.questions[name] = data if flags == os.O_TRUNC else self.questions.get(name, b"") + data

    def question_moved(self):
        a, b = self.rng.choice(QUESTIONS), self.rng.choice(QUESTIONS)
        self.code("rename %s to %s" % (a, b), 0 if a in self.questions else errno.ENOENT, os.rename, self.m.at("queries", a), self.m.at("queries", b))
        if a in self.questions:
            self.questions[b] = self.questions.pop(a)

    def question_unlinked(self):
        name = self.rng.choice(QUESTIONS)
        self.code("unlink %s" % name, 0 if name in self.questions else errno.ENOENT, os.unlink, self.m.at("queries", name))
        self.questions.pop(name, None)

    def question_cut(self):
        name, size = self.rng.choice(QUESTIONS), self.rng.randint(0, 20)
        self.code("truncate %s" % name, 0 if name in self.questions else errno.ENOENT, os.truncate, self.m.at("queries", name), size)
        if name in self.questions:
            old = self.questions[name]
            self.questions[name] = old[:size] + bytes(max(0, size - len(old)))

    def insert(self):
        keys = self.rng.sample(KEYS, self.rng.randint(1, 4))
        new = {k: [float(self.rng.randint(1, 9))] * DIM for k in keys}
        receipt = json.loads(self.m.talk("insert", "".join(json.dumps({"key": k, "data": v}) + "\n" for k, v in new.items())))
        there = sum(k in self.records for k in keys)
        self.expect("receipt", receipt, {"inserted": len(keys) - there, "replaced": there, "skipped": 0})
        for k, v in new.items():
            self.records[k] = (v, {}, None)

    def delete(self):
        keys = self.rng.sample(KEYS, self.rng.randint(1, 3))
        there = [k for k in keys if k in self.records]
        receipt = json.loads(self.m.talk("delete", json.dumps({"keys": keys})))
        self.expect("receipt", receipt, {"deleted": len(there), "unknown": len(keys) - len(there)})
        for k in there:
            del self.records[k]
            self.inodes.pop(k, None)

    def update(self):
        key, n = self.key(), self.rng.randint(100, 199)
        receipt = json.loads(self.m.talk("update", json.dumps({"key": key, "set": {"n": n}})))
        there = key in self.records
        self.expect("receipt", receipt, {"updated": int(there), "unknown": int(not there)})
        if there:
            numbers, metadata, _ = self.records[key]
            self.records[key] = (numbers, {**metadata, "n": n}, None)

    def configure(self):
        self.top_k = self.rng.randint(1, 50)
        self.code("config", 0, self.write_file, self.m.at("config"), b"top_k = %d\n" % self.top_k, self.rng.choice([os.O_TRUNC, os.O_APPEND]))
        self.code("a wrong config", errno.EINVAL, self.write_file, self.m.at("config"), b"top_k = none\n", os.O_TRUNC)

    def directories(self):
        bucket = os.path.join(self.m.path, "other")
        index = os.path.join(bucket, "x")
        os.makedirs(index)
        self.code("mkdir again", errno.EEXIST, os.mkdir, index)
        self.code("rmdir of a bucket that holds an index", errno.ENOTEMPTY, os.rmdir, bucket)
        self.code("rmdir of an index with records", errno.ENOTEMPTY if self.records else 0, lambda: self.records and os.rmdir(self.m.index))
        os.rename(index, os.path.join(bucket, "y"))
        self.expect("a bucket", os.listdir(bucket), ["y"])
        os.rmdir(os.path.join(bucket, "y"))
        os.rmdir(bucket)

    # ---- comparing ----

    def compare_record(self, key):
        name = escaped(key)
        path = self.m.at("vectors", name + ".msgpack")
        if key not in self.records:
            if not any(w.name == key for w in self.writers):
                self.expect("stat of %s, which is not there" % key, code_of(os.stat, path), errno.ENOENT)
            return
        numbers, metadata, mtime = self.records[key]
        data, stat = open(path, "rb").read(), os.stat(path)
        self.expect("%s" % key, msgpack.unpackb(data), {"key": key, "data": {"float32": numbers}, "metadata": metadata})
        if not any(w.name == key for w in self.writers):
            self.expect("size of %s" % key, stat.st_size, len(data))
            if mtime is not None:
                self.expect("mtime of %s" % key, stat.st_mtime_ns, mtime)
            self.expect("inode number of %s" % key, stat.st_ino, self.inodes.setdefault(key, stat.st_ino))
        as_json = open(self.m.at("vectors", name + ".json"), "rb").read()
        self.expect("%s as JSON" % key, json.loads(as_json), {"key": key, "data": {"float32": numbers}, "metadata": metadata})

    def compare(self):
        keys = sorted(self.records, key=lambda k: k.encode())
        names = {d: [n for (where, n) in self.scratch if where == d] for d in ("vectors", "queries", "")}
        listed = os.listdir(self.m.at("vectors"))
        self.expect("the listing of vectors/", listed[:len(keys)], [escaped(k) + ".msgpack" for k in keys])
        self.expect("temporary files in vectors/", sorted(listed[len(keys):]), sorted(names["vectors"]))
        self.expect("the listing of queries/", sorted(os.listdir(self.m.at("queries"))), sorted([*self.questions, *names["queries"]]))
        self.expect("vectors.keys", self.m.read("vectors.keys").decode().splitlines(), keys)
        self.expect("the number of vectors", self.m.stats()["vectors"], str(len(keys)))
        for key in KEYS:
            self.compare_record(key)
        for name, data in self.questions.items():
            self.expect(name, self.m.read("queries", name), data)
        for where, data in self.scratch.items():
            self.expect("%s" % (where,), self.m.read(*where), bytes(data))
        self.expect("config", "top_k = %d " % self.top_k in self.m.read("config").decode(), True)

    # ---- running ----

    KINDS = [(put, 12), (put_wrong, 4), (put_backwards, 3), (create_exclusively, 3), (empty, 2), (append, 2), (truncate, 2), (unlink, 5), (rename, 5),
             (rename_carefully, 2), (touch, 3), (chmod, 1), (no_place, 1), (scratch_write, 5), (scratch_cut, 2), (scratch_unlink, 2), (scratch_rename, 3),
             (scratch_commit, 5), (put_aside, 2), (open_reader, 5), (close_reader, 4), (open_writer, 2), (close_writer, 2), (question, 3),
             (question_moved, 2), (question_unlinked, 1), (question_cut, 1), (insert, 3), (delete, 2), (update, 2), (configure, 1), (directories, 1)]

    def step(self):
        kind = self.rng.choices([k for k, _ in self.KINDS], [w for _, w in self.KINDS])[0]
        self.log.append("-- " + kind.__name__)
        kind(self)
        self.compare()

    def remount(self):
        while self.readers:
            self.close_reader()
        while self.writers:
            self.close_writer()
        self.expect("the daemon's status", self.m.stop(), 0)
        self.scratch = {}
        self.m.start()
        self.compare()


def main():
    print("# VECFS_SEED=%d" % SEED)
    rng = random.Random(SEED)
    steps = Steps(rng, Mount(dimension=DIM))
    until = time.monotonic() + SECONDS
    done = 0
    try:
        while time.monotonic() < until:
            for _ in range(STEPS):
                steps.step()
                done += 1
                if time.monotonic() > until:
                    break
            steps.remount()
        check("the mount and the model agree after every step", done > 0)
        note("%d steps" % done)
    except (Different, OSError) as e:
        check("the mount and the model agree after every step", False, "step %d: %s" % (done, e), "VECFS_SEED=%d" % SEED, *steps.log[-20:],
              *steps.m.errors()[-3:])
        if not isinstance(e, Different):
            raise
        finish()
        return
    steps.m.stop()
    code = subprocess.run([VECFS, "check", steps.m.store], stdout=subprocess.PIPE, text=True)
    equal("vecfs check finds nothing", (code.returncode, code.stdout if code.returncode else ""), (0, ""))
    finish()


main()
