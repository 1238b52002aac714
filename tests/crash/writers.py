# SPDX-License-Identifier: MIT
"""Writers that know what they were promised. Each owns the keys that begin with its letter, keeps a model of them, and changes it only as
the filesystem acknowledges. When the daemon dies in the middle of a change, the model before and the model after it are both right, and
nothing else is: a change is there as a whole or not at all."""
import copy
import errno
import json
import os
import pickle
import random
import sys
import time
import traceback

import msgpack
import numpy

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import packed, read_all

DIM = 8
GONE = (errno.ENOTCONN, errno.ECONNABORTED)     # what the kernel says when the daemon has died


def is_gone(error, path):
    """Whether the daemon has died. To a request that it was just reading the kernel says EIO, a moment before it says ENOTCONN to all."""
    until = time.monotonic() + 2
    while error.errno == errno.EIO and time.monotonic() < until:
        try:
            os.stat(path)
        except OSError as e:
            error = e
        time.sleep(0.01)
    return error.errno in GONE


def vector(rng):
    return [float(numpy.float32(rng.gauss(0, 1))) for _ in range(DIM)]


def write_file(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        while data:
            data = data[os.write(fd, data):]
    except OSError:
        try:
            os.close(fd)
        except OSError:
            pass
        raise
    os.close(fd)


def talk(path, data):
    fd = os.open(path, os.O_RDWR)
    try:
        while data:
            data = data[os.write(fd, data):]
        return read_all(fd)
    finally:
        try:
            os.close(fd)
        except OSError:
            pass


class Writer:
    """One round of one writer: run() until the mount is gone, or `steps` changes are through."""

    def __init__(self, index, letter, seed, model=None):
        self.index, self.letter = index, letter
        self.rng = random.Random(seed)
        self.model = model or {"records": {}, "saved": {}}
        self.unsure = None        # the model with the change that was never acknowledged
        self.failures = []
        self.changes = 0

    def at(self, *names):
        return os.path.join(self.index, *names)

    def key(self):
        return "%s%03d" % (self.letter, self.rng.randrange(300))

    def known_key(self):
        return self.rng.choice(sorted(self.model["records"]) or [self.key()])

    def record(self):
        # A copy of another's vector now and then: equal vectors have a path of their own.
        v = vector(self.rng)
        if self.rng.random() < 0.1 and self.model["records"]:
            v = self.model["records"][self.known_key()][0]
        return v, {"n": self.rng.randrange(20), "w": self.letter, "t": [str(self.rng.randrange(4)), "x"]}

    # ---- changes: each takes the model as it will be, changes it, and returns what has to be done ----

    def put_file(self, after):
        key = self.key()
        v, metadata = after["records"][key] = self.record()
        return lambda: write_file(self.at("vectors", key + ".msgpack"), packed(key, v, **metadata))

    def put_through_scratch(self, after):
        key = self.key()
        v, metadata = after["records"][key] = self.record()

        def act():
            temporary = self.at("vectors", ".%s.tmp" % key)
            write_file(temporary, packed(key, v, **metadata))
            os.rename(temporary, self.at("vectors", key + ".msgpack"))
        return act

    def put_stream(self, after):
        data = b""
        for _ in range(self.rng.choice((1, 5, 40, 400))):
            key = self.key()
            v, metadata = after["records"][key] = self.record()
            data += packed(key, v, **metadata)
        return lambda: write_file(self.at("insert"), data)

    def remove_file(self, after):
        key = self.known_key()
        if key not in after["records"]:
            return None
        del after["records"][key]
        return lambda: os.unlink(self.at("vectors", key + ".msgpack"))

    def rekey(self, after):
        old, new = self.known_key(), self.key()
        if old not in after["records"] or old == new:
            return None
        after["records"][new] = after["records"].pop(old)
        return lambda: os.rename(self.at("vectors", old + ".msgpack"), self.at("vectors", new + ".msgpack"))

    def update(self, after):
        n, to = self.rng.randrange(20), self.rng.randrange(20)
        for key, (v, metadata) in after["records"].items():
            if metadata["n"] == n:
                after["records"][key] = (v, dict(metadata, n=to, u=True))
        question = {"filter": {"w": self.letter, "n": n}, "set": {"n": to, "u": True}}
        return lambda: talk(self.at("update"), json.dumps(question).encode())

    def delete(self, after):
        n = self.rng.randrange(20)
        for key in [k for k, (_, metadata) in after["records"].items() if metadata["n"] == n]:
            del after["records"][key]
        return lambda: talk(self.at("delete"), json.dumps({"filter": {"w": self.letter, "n": n}}).encode())

    def delete_keys(self, after):
        keys = [self.known_key() for _ in range(5)]
        for key in keys:
            after["records"].pop(key, None)
        return lambda: talk(self.at("delete"), json.dumps({"keys": keys}).encode())

    def save_question(self, after):
        name = "%s%d.json" % (self.letter, self.rng.randrange(5))
        after["saved"][name] = json.dumps({"topK": self.rng.randrange(1, 100)}).encode()
        return lambda: write_file(self.at("queries", name), after["saved"][name])

    def forget_question(self, after):
        if not after["saved"]:
            return None
        name = self.rng.choice(sorted(after["saved"]))
        del after["saved"][name]
        return lambda: os.unlink(self.at("queries", name))

    # ---- the loop ----

    KINDS = [(put_file, 8), (put_through_scratch, 3), (put_stream, 4), (remove_file, 3), (rekey, 3), (update, 2), (delete, 1), (delete_keys, 1),
             (save_question, 2), (forget_question, 1)]

    def begun(self):
        pass

    def acknowledged(self):
        pass

    def step(self):
        kind = self.rng.choices([k for k, _ in self.KINDS], [w for _, w in self.KINDS])[0]
        after = {name: dict(part) for name, part in self.model.items()}
        act = kind(self, after)
        if not act:
            return True
        self.begun()
        try:
            act()
        except OSError as e:
            self.unsure = after
            if not is_gone(e, self.index):
                self.failures.append("%s: %s" % (kind.__name__, e))
            return False
        self.model = after
        self.changes += 1
        self.acknowledged()
        return True

    def run(self, steps=None):
        while (steps is None or self.changes < steps) and self.step():
            pass
        return self


class Tree:
    """The same for what is not a record: buckets and indexes made, filled, renamed and removed. The model: BUCKET/INDEX -> its keys and top_k, and for buckets of their own, vN -> the mode."""

    def __init__(self, root, seed, model=None):
        self.root = root
        self.rng = random.Random(seed)
        self.model = model or {}
        self.unsure = None
        self.failures = []
        self.changes = 0
        self.counter = max([int(n.lstrip("tuvx/")) for n in self.model] or [0])

    def begun(self):
        pass

    def acknowledged(self):
        pass

    def do(self, after, act):
        self.begun()
        try:
            act()
        except OSError as e:
            self.unsure = after
            if not is_gone(e, self.root):
                self.failures.append("tree: %s" % e)
            return False
        self.model = after
        self.changes += 1
        self.acknowledged()
        return True

    def at(self, *names):
        return os.path.join(self.root, *names)

    def make(self):
        self.counter += 1
        name = "%s/x%d" % (self.rng.choice(("t", "u")), self.counter)
        after = copy.deepcopy(self.model)
        after[name] = {"keys": [], "top_k": "10"}
        if not self.do(after, lambda: os.mkdir(self.at(name))):
            return False
        after = copy.deepcopy(after)
        after[name]["top_k"] = str(self.counter)
        if not self.do(after, lambda: write_file(self.at(name, "config"), b"dimension = 2\ntop_k = %d\n" % self.counter)):
            return False
        after = copy.deepcopy(after)
        after[name]["keys"] = ["k%d" % i for i in range(self.rng.randrange(1, 4))]
        data = b"".join(packed(k, [1, 2]) for k in after[name]["keys"])
        return self.do(after, lambda: write_file(self.at(name, "insert"), data))

    def indexes(self):
        return sorted(n for n in self.model if "/" in n)

    def bucket(self):
        """One that is not there is made, one that is there changes or goes."""
        there = sorted(n for n in self.model if "/" not in n)
        after = copy.deepcopy(self.model)
        self.counter += 1
        name = self.rng.choice(there) if there else "v%d" % self.counter
        if not there:
            after[name] = {"mode": 0o755}
            return self.do(after, lambda: os.mkdir(self.at(name), 0o755))
        what = self.rng.randrange(3)
        if what == 0:
            after[name] = {"mode": self.rng.choice((0o700, 0o750, 0o770, 0o755))}
            return self.do(after, lambda: os.chmod(self.at(name), after[name]["mode"]))
        to, moved = "v%d" % self.counter, after.pop(name)
        if what == 1:
            after[to] = moved
            return self.do(after, lambda: os.rename(self.at(name), self.at(to)))
        return self.do(after, lambda: os.rmdir(self.at(name)))

    def rename(self):
        name = self.rng.choice(self.indexes())
        self.counter += 1
        to = "%s/x%d" % (self.rng.choice(("t", "u")), self.counter)
        after = copy.deepcopy(self.model)
        after[to] = after.pop(name)
        return self.do(after, lambda: os.rename(self.at(name), self.at(to)))

    def remove(self):
        name = self.rng.choice(self.indexes())
        after = copy.deepcopy(self.model)
        after[name]["keys"] = []
        if not self.do(after, lambda: talk(self.at(name, "delete"), b'{"filter": {"none": {"$exists": false}}}')):
            return False
        after = copy.deepcopy(after)
        del after[name]
        return self.do(after, lambda: os.rmdir(self.at(name)))

    def step(self):
        if len(self.indexes()) < 3:
            return self.make()
        if len(self.indexes()) >= 8:
            return self.remove()
        return self.rng.choice((self.make, self.rename, self.remove, self.bucket, self.bucket))()

    def run(self, steps=None):
        while (steps is None or self.changes < steps) and self.step():
            pass
        return self


def in_background(writer, result, steps=None):
    """Runs a writer in a process of its own; what became of it is pickled into `result`."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        writer.run(steps)
        with open(result, "wb") as f:
            pickle.dump({"model": writer.model, "unsure": writer.unsure, "failures": writer.failures, "changes": writer.changes,
                         "history": getattr(writer, "history", [])}, f)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


# ---- what is there ----

def part_of(index, letter, stream):
    """What a writer should find: its records out of an export, its saved questions."""
    records = {r["key"]: (list(r["data"]["float32"]), r["metadata"]) for r in stream if r["key"].startswith(letter)}
    saved = {}
    for name in os.listdir(os.path.join(index, "queries")):
        if name.startswith(letter):
            with open(os.path.join(index, "queries", name), "rb") as f:
                saved[name] = f.read()
    return {"records": records, "saved": saved}


def unpack_stream(data):
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=1 << 30)
    unpacker.feed(data)
    return list(unpacker)


def tree_of(root):
    found = {name: {"mode": os.stat(os.path.join(root, name)).st_mode & 0o7777} for name in os.listdir(root) if name.startswith("v")}
    for bucket in ("t", "u"):
        for name in os.listdir(os.path.join(root, bucket)):
            index = os.path.join(root, bucket, name)
            with open(os.path.join(index, "config")) as f:
                top_k = [line.split("=")[1].split("#")[0].strip() for line in f if line.startswith("top_k")]
            with open(os.path.join(index, "vectors.keys")) as f:
                found["%s/%s" % (bucket, name)] = {"keys": f.read().split(), "top_k": top_k[0]}
    return found


def difference(got, expected):
    """A few words on how two models differ."""
    words = []
    for part in sorted(set(got) | set(expected)):
        a, b = got.get(part), expected.get(part)
        if a == b:
            continue
        if not isinstance(a, dict) or not isinstance(b, dict):
            words.append("%s: got %r, expected %r" % (part, a, b))
            continue
        for key in sorted(set(a) | set(b)):
            if a.get(key) != b.get(key):
                words.append("%s %s: got %r, expected %r" % (part, key, a.get(key), b.get(key)))
    return words[:8]
