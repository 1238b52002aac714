#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Temporary files at random offsets, against a buffer: written, read, cut, lengthened, appended to, renamed and opened again, as fsx does.

VECFS_SEED=... repeats a run, VECFS_FSX_STEPS=... is its length."""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *

SEED = int(os.environ.get("VECFS_SEED", time.time()))
STEPS = int(os.environ.get("VECFS_FSX_STEPS", 10000))
SIZE = 300000


class File:
    def __init__(self, rng, mount):
        self.rng, self.m = rng, mount
        self.name, self.data = "vectors/.fsx", bytearray()
        self.fd = os.open(mount.at(self.name), os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def span(self, size):
        at = self.rng.choice([0, self.rng.randint(0, size), self.rng.randint(0, size) & ~4095])
        return at, self.rng.choice([1, self.rng.randint(0, 200), self.rng.randint(0, 70000)])

    def write(self):
        at, n = self.span(SIZE)
        new = self.rng.randbytes(n)
        assert os.pwrite(self.fd, new, at) == n
        if n:
            self.data.extend(bytes(max(0, at - len(self.data))))
            self.data[at:at + n] = new

    def read(self):
        at, n = self.span(len(self.data) + 100)
        assert os.pread(self.fd, n, at) == bytes(self.data[at:at + n]), "read of %d at %d" % (n, at)

    def cut(self):
        size = self.rng.choice([0, self.rng.randint(0, SIZE), len(self.data)])
        if self.rng.random() < 0.5:
            os.ftruncate(self.fd, size)
        else:
            os.truncate(self.m.at(self.name), size)
        self.data = self.data[:size] + bytes(max(0, size - len(self.data)))

    def append(self):
        new = self.rng.randbytes(self.rng.randint(1, 5000))
        if len(self.data) < SIZE:
            with open(self.m.at(self.name), "ab") as f:
                f.write(new)
            self.data += new

    def rename(self):
        to = self.rng.choice(["vectors/.fsx", "vectors/fsx~", "queries/fsx.tmp", "fsx.part"])
        os.rename(self.m.at(self.name), self.m.at(to))
        self.name = to

    def reopen(self):
        os.close(self.fd)
        self.fd = os.open(self.m.at(self.name), os.O_RDWR)

    def other(self):
        """Through another descriptor."""
        assert self.m.read(self.name) == bytes(self.data), "read by another"

    def size(self):
        assert os.fstat(self.fd).st_size == len(self.data) == os.stat(self.m.at(self.name)).st_size == os.lseek(self.fd, 0, os.SEEK_END), "size"

    def step(self):
        call = self.rng.choices([self.write, self.read, self.cut, self.append, self.rename, self.reopen, self.other, self.size],
                                [20, 20, 5, 3, 2, 2, 1, 5])[0]
        call()
        return call.__name__


m = Mount()
print("# VECFS_SEED=%d" % SEED)
f, log, bad = File(random.Random(SEED), m), [], None
try:
    for _ in range(STEPS):
        log.append(f.step())
except (AssertionError, OSError) as e:
    bad = e
check("a temporary file is what a buffer is", bad is None, "step %d: %r" % (len(log), bad), "VECFS_SEED=%d" % SEED, *log[-5:])
os.unlink(m.at(f.name))
equal("unlinked, it is there for who has it open", os.pread(f.fd, SIZE * 2, 0), bytes(f.data))
equal("with no link", os.fstat(f.fd).st_nlink, 0)
os.close(f.fd)

fd = os.open(m.at("vectors", ".big"), os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"x", 400 << 20)
equal("gaps take no memory", os.fstat(fd).st_size, (400 << 20) + 1)
equal("and read as zeros", os.pread(fd, 10, 200 << 20), bytes(10))
fails("a temporary file is at most 512 MiB long", errno.EFBIG, os.pwrite, fd, b"x", 600 << 20)
fails("also when it is lengthened", errno.EFBIG, os.ftruncate, fd, 600 << 20)
equal("which leaves it as it was", os.fstat(fd).st_size, (400 << 20) + 1)
os.close(fd)
equal("all of them go away at unmount", m.stop(), 0)
m.start()
equal("and none is there afterwards", [n for d in ("", "vectors", "queries") for n in os.listdir(m.at(d)) if "fsx" in n or n[0] == "."], [])
finish()
