#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Many processes that create, rename, delete, list and read the same few names at once. Whatever is read is a whole record, errors are those that a
race explains, and the store is sound afterwards. VECFS_STRESS_SECONDS=600 goes on for longer; worth running with the sanitizers."""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *

SEED = int(os.environ.get("VECFS_SEED", time.time()))
SECONDS = float(os.environ.get("VECFS_STRESS_SECONDS", 6))
PROCESSES = 8
NAMES = ["k%d" % i for i in range(12)]
RACES = {errno.ENOENT, errno.EEXIST, errno.ESTALE}


class Worker:
    def __init__(self, m, seed):
        self.m, self.rng, self.unexpected, self.done = m, random.Random(seed), [], 0

    def path(self):
        return self.m.at("vectors", self.rng.choice(NAMES) + self.rng.choice([".msgpack", ".json"]))

    def record(self):
        # All numbers are the same: a mixture of two records would show.
        return packed("x", [self.rng.randint(1, 1000)] * 3, n=self.rng.randint(0, 9))

    def create(self):
        flags = self.rng.choice([os.O_TRUNC, os.O_TRUNC, os.O_EXCL])
        fd = os.open(self.path(), os.O_WRONLY | os.O_CREAT | flags, 0o644)
        try:
            os.write(fd, self.record())
        finally:
            os.close(fd)

    def replace(self):
        name = self.m.at("vectors", ".%d.tmp" % os.getpid())
        with open(name, "wb", buffering=0) as f:
            f.write(self.record())
        os.rename(name, self.path())

    def rename(self):
        os.rename(self.path(), self.path())

    def unlink(self):
        os.unlink(self.path())

    def row(self):
        for name in self.rng.choices(NAMES, k=100):
            try:
                os.unlink(self.m.at("vectors", name + ".msgpack"))
            except FileNotFoundError:
                pass

    def insert(self):
        self.m.talk("insert", b"".join(packed(k, [self.rng.randint(1, 1000)] * 3) for k in self.rng.sample(NAMES, 3)))

    def whole(self, data, as_json):
        value = json.loads(data) if as_json else msgpack.unpackb(data)
        numbers = value["data"]["float32"]
        if len(numbers) != 3 or len(set(numbers)) != 1:
            self.unexpected.append("a mixture: %r" % value)

    def read(self):
        path = self.path()
        fd = os.open(path, os.O_RDONLY)
        try:
            data = os.read(fd, 1 << 16)
            # Empty: being created by another.
            if data:
                self.whole(data, path.endswith("json"))
                if os.pread(fd, 1 << 16, 0) != data:
                    self.unexpected.append("an open file has changed")
        finally:
            os.close(fd)

    def listing(self):
        seen = os.listdir(self.m.at("vectors"))
        if len(seen) != len(set(seen)):
            self.unexpected.append("listed twice: %r" % seen)

    def stat(self):
        os.stat(self.path())

    def ask(self):
        answer = self.m.ask({"queryVector": [1, 2, 3], "topK": 20, "returnData": True})
        for v in answer["vectors"]:
            if len(set(v["data"]["float32"])) != 1:
                self.unexpected.append("an answer with a mixture")

    def touch(self):
        os.utime(self.path(), (1, 1))

    def views(self):
        self.rng.choice([lambda: self.m.read("vectors.jsonl"), lambda: self.m.read("stats"), lambda: os.listdir(self.m.at("near", self.rng.choice(NAMES)))])()

    KINDS = [create, create, create, replace, replace, rename, rename, unlink, unlink, row, insert, read, read, read, listing, stat, ask, touch, views]

    def run(self):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and len(self.unexpected) < 5:
            kind = self.rng.choice(self.KINDS)
            try:
                kind(self)
                self.done += 1
            except OSError as e:
                if e.errno not in RACES:
                    self.unexpected.append("%s: %s" % (kind.__name__, e))


def work(m, seed, out):
    pid = os.fork()
    if pid == 0:
        worker = Worker(m, seed)
        try:
            worker.run()
        except BaseException as e:
            worker.unexpected.append(repr(e))
        with open(out, "w") as f:
            json.dump([worker.done, worker.unexpected], f)
        os._exit(0)
    return pid


m = Mount()
print("# VECFS_SEED=%d" % SEED)
outs = [os.path.join(m.dir, "out%d" % i) for i in range(PROCESSES)]
for child in [work(m, SEED * PROCESSES + i, out) for i, out in enumerate(outs)]:
    os.waitpid(child, 0)
results = [json.load(open(out)) for out in outs]
check("whole records and ordinary races only", not any(bad for _, bad in results), *[line for _, bad in results for line in bad])
check("everybody came forward", all(done > 0 for done, _ in results), [done for done, _ in results])
names = os.listdir(m.at("vectors"))
equal("every name that is listed can be read", [n for n in names if json.loads(m.read("vectors", n[:-8] + ".json"))["key"] != n[:-8]], [])
equal("and counted", m.stats()["vectors"], str(len(names)))
equal("the daemon ends well", m.stop(), 0)
equal("vecfs check finds nothing", subprocess.run([VECFS, "check", m.store], stdout=subprocess.DEVNULL).returncode, 0)
finish()
