#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Valid inputs, mutated, written to every file that takes input, and as names. The daemon lives, answers in time, its memory stays bounded, a
write that failed has changed nothing, one that succeeded left something that is valid, and what lies beside it is untouched.
mutations.py --mutations 2000 is the long form."""
import argparse
import glob
import os
import random
import re
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *

HANG = 120            # seconds: far more than any request takes, however slow the machine
MEMORY_KIB = 400 << 10


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--mutations", type=int, default=400)
    p.add_argument("--seed", type=int, default=int(os.environ.get("VECFS_SEED", time.time())))
    return p.parse_args()


# ---- mutating ----

HEADS = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xcb\x7f\xf8" + bytes(6), b"\xca\x7f\x80\0\0",
         b"\xc0", b"\x90", b"\x80", b"\xcf" + b"\xff" * 8, b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xc1", b"\xd4\x01\x02", b"\x93NUMPY\x01\0"]
WORDS = [b"null", b"NaN", b"1e999", b"-0", b"9223372036854775808", b"0.1" + b"1" * 400, b'""', b"{}", b"[]", b'"\\ud800"', b'"\\u0000"', b"[[[[", b'{"a":' * 40,
         b'"$not":', b'"filter":{}', b'"topK":1e18', b'"topK":-1', b"#", b"=", b"\n", b",", b'"exact":true,', b'"key":"k1",']


def mutate(rng, data, seeds):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at, to = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        kind = rng.randrange(9)
        if kind == 0 and data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at:min(to, at + 16)]
        elif kind == 4:
            data[at:at] = rng.choice(HEADS)
        elif kind == 5:
            data[at:at] = rng.choice(WORDS)
        elif kind == 6:
            data[at:at] = data[at:to] * rng.choice((1, 2, 200))
        elif kind == 7:
            data[at:] = rng.choice(seeds)[at:]
        else:
            numbers = list(re.finditer(rb"-?\d+(\.\d+)?", data))
            if numbers:
                n = rng.choice(numbers)
                data[n.start():n.end()] = rng.choice(WORDS + [b"0", b"1e38", b"-1", b"4294967296"])
    if rng.random() < 0.02:
        data *= rng.choice((100, 5000))
    return bytes(data[:8 << 20])


# ---- writing ----

class Alarm(threading.Thread):
    """Ends the daemon when a request does not end: whoever waits for it hears of that."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.begun, self.rang = process, None, None

    def run(self):
        while True:
            time.sleep(1)
            begun = self.begun
            if begun and time.monotonic() - begun[0] > HANG:
                self.rang = begun[1]
                self.process.kill()
                return


def put(rng, path, data, flags):
    """In one piece or in several; an error of any of the calls is the error."""
    fd = os.open(path, flags, 0o644)
    failed = None
    try:
        at = 0
        while at < len(data):
            size = len(data) if rng.random() < 0.6 else rng.randrange(1, 4096)
            at += os.write(fd, data[at:at + size])
        if flags & os.O_RDWR:
            read_all(fd)
    except OSError as e:
        failed = e
    try:
        os.close(fd)
    except OSError as e:
        failed = failed or e
    if failed:
        raise failed


class Target:
    """Where a kind of seeds goes."""

    def __init__(self, m, rng, seeds):
        self.m, self.rng, self.seeds = m, rng, seeds
        self.counts = {}

    def seeds_of(self, *patterns):
        return [data for name, data in self.seeds.items() if any(re.search(p, name) for p in patterns)]

    def read_or_none(self, name):
        try:
            return self.m.read(name)
        except OSError:
            return None

    def record(self, data):
        name = "vectors/m%d.%s" % (self.rng.randrange(40), self.rng.choice(("json", "msgpack")))
        before = self.read_or_none(name)
        try:
            put(self.rng, self.m.at(name), data, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        except OSError:
            if self.read_or_none(name) != before:
                return "%s changed although its write failed" % name
            raise
        after = self.read_or_none(name)
        if after is not None and after != before:
            self.m.write(name, after)
            if self.m.read(name) != after:
                return "%s is not canonical" % name

    def insert(self, data):
        put(self.rng, self.m.at("insert"), data, self.rng.choice((os.O_WRONLY, os.O_RDWR)))

    def query(self, data):
        before = self.m.stats()["version"]
        try:
            put(self.rng, self.m.at("query"), data, os.O_RDWR)
        finally:
            if self.m.stats()["version"] != before:
                return "a question changed the index"

    def update(self, data):
        put(self.rng, self.m.at("update"), data, self.rng.choice((os.O_WRONLY, os.O_RDWR)))

    def delete(self, data):
        put(self.rng, self.m.at("delete"), data, self.rng.choice((os.O_WRONLY, os.O_RDWR)))

    def saved(self, data):
        name = "q%d.%s" % (self.rng.randrange(10), self.rng.choice(("json", "msgpack")))
        put(self.rng, self.m.at("queries", name), data, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if self.m.read("queries", name) != data and data:
            return "queries/%s is not read back as it was written" % name
        self.m.read("answers", name)

    def config(self, data):
        config = os.path.join(self.m.path, "b", "c", "config")
        before = self.m.read(config)
        try:
            put(self.rng, config, data, os.O_WRONLY | os.O_TRUNC)
        except OSError:
            if self.m.read(config) != before:
                return "config changed although its write failed"
            raise
        after = self.m.read(config)
        self.m.write(config, after)
        if self.m.read(config) != after:
            return "what config shows, written back, changes it"

    def name(self, data):
        """One name, in every place that takes names."""
        name = data.replace(b"\0", b"").strip(b"\n")[:self.rng.choice((20, 300))].replace(b"/", b"%" if self.rng.random() < 0.5 else b"") or b"x"
        root, index = os.fsencode(self.m.path), os.fsencode(self.m.index)
        for path in (root + b"/n/" + name, root + b"/" + name):
            try:
                os.mkdir(path)
                os.rmdir(path)
            except OSError:
                pass
        for path in (b"/near/" + name, b"/answers/" + name, b"/" + name, b"/vectors/" + name):
            os.path.lexists(index + path)
        for path in (b"/vectors/" + name, b"/vectors/" + name + b".msgpack", b"/queries/" + name):
            try:
                put(self.rng, index + path, b'{"data": [1, 2, 3]}', os.O_WRONLY | os.O_CREAT)
                os.rename(index + path, index + b"/vectors/" + name[::-1] + b".json")
                os.unlink(index + b"/vectors/" + name[::-1] + b".json")
            except OSError:
                pass

    def whole_tree_of_fixed(self, data):
        """Files that are computed: writing is accepted or refused, and changes nothing."""
        for name in ("stats", "errors", "vectors.msgpack", "vectors.jsonl", "vectors.npy", "vectors.keys", "answers/q1.json", "near/m1"):
            try:
                put(self.rng, self.m.at(name), data, os.O_WRONLY)
            except OSError:
                pass

    def mutation(self):
        target, *patterns = self.rng.choice((
            ("record", "record", "put-vectors"), ("record", "record"), ("insert", "stream", "array", "matrix", "put-vectors", "record"),
            ("insert", "matrix", "array"), ("query", "question", "filter"), ("query", "question"), ("update", "update"), ("delete", "delete"),
            ("saved", "question"), ("config", "config"), ("name", "name"), ("whole_tree_of_fixed", "stream", "config")))
        data = self.rng.choice(self.seeds_of(*patterns))
        data = mutate(self.rng, data, list(self.seeds.values()))
        try:
            wrong = getattr(self, target)(data)
        except OSError as e:
            code = errno.errorcode[e.errno]
            self.counts[code] = self.counts.get(code, 0) + 1
            wrong = "%s: %s" % (target, e) if e.errno not in FAIR else None
        else:
            self.counts["good"] = self.counts.get("good", 0) + 1
        return wrong and (target, wrong, data[:300])


FAIR = {errno.EINVAL, errno.EFBIG, errno.ENOSPC, errno.ENOENT, errno.EBUSY, errno.ENAMETOOLONG, errno.EPERM, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPROTO}


def peak(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


def read_seeds():
    seeds = {}
    for path in glob.glob(os.path.join(os.environ.get("SRCDIR", "."), "tests", "files", "*")):
        with open(path, "rb") as f:
            seeds[os.path.basename(path)] = f.read()
    return seeds


args = arguments()
note("seed %d" % args.seed)
rng = random.Random(args.seed)
m = Mount(dimension=3)
seeds = {name: data for name, data in read_seeds().items() if name.startswith("good-")}
check("there are seeds", len(seeds) > 20)
for name in ("b/safe", "b/c", "n/x"):
    os.makedirs(os.path.join(m.path, name))
m.write(os.path.join(m.path, "b/safe/config"), "dimension = 3\n")
safe = os.path.join(m.path, "b/safe")
m.write(safe + "/insert", b"".join(packed("s%03d" % i, [i, 1, 2], n=i) for i in range(200)))
m.write(safe + "/queries/q.json", '{"topK": 3}')
m.write("insert", b"".join(packed("k%03d" % i, [i + 1, 1, 2], n=i, lang="en") for i in range(200)))
pictures = [m.read(safe + "/" + name) for name in ("config", "vectors.msgpack", "queries/q.json", "answers/q.json")]
alarm = Alarm(m.process)
alarm.start()
target, wrong, before = Target(m, rng, seeds), [], peak(m.process.pid)
for i in range(args.mutations):
    alarm.begun = (time.monotonic(), i)
    found = target.mutation()
    alarm.begun = None
    if found:
        wrong.append((i, found))
    if m.process.poll() is not None:
        break
note("%d mutations: %s; peak of the memory %d KiB, was %d" % (args.mutations, target.counts, peak(m.process.pid) if m.process.poll() is None else -1, before))
check("the daemon lives", m.process.poll() is None, m.process.returncode)
check("no request takes forever", alarm.rang is None, alarm.rang)
check("what failed changed nothing, what succeeded is valid", not wrong, *wrong[:5])
check("some were taken and some were refused", target.counts.get("good", 0) > args.mutations / 50 and target.counts.get("EINVAL", 0) > args.mutations / 10, target.counts)
check("its memory stays bounded", peak(m.process.pid) < before + MEMORY_KIB, peak(m.process.pid))
equal("what lies beside is untouched", [m.read(safe + "/" + name) for name in ("config", "vectors.msgpack", "queries/q.json", "answers/q.json")], pictures)
unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
unpacker.feed(m.read("vectors.msgpack"))
rows = list(unpacker)
keys = [r["key"].encode() for r in rows]
check("every record is valid, in order, once", keys == sorted(set(keys)) and all(len(r["data"]["float32"]) == 3 and numpy.isfinite(r["data"]["float32"]).all() for r in rows))
equal("and counted", m.stats()["vectors"], str(len(rows)))
equal("the last stop is clean", m.stop(), 0)
p = subprocess.run([VECFS, "check", m.store], capture_output=True, text=True)
check("the store passes its check", p.returncode == 0, p.stdout[-2000:], p.stderr)
m.start()
unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
unpacker.feed(m.read("vectors.msgpack"))
equal("the same records are there after a remount", list(unpacker), rows)
m.stop()
finish()
