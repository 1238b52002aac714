#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Files of indexes that were changed at random, and one that loses its pages under a mount: who reads hears EIO, the daemon and the other indexes go on. And
a daemon that dies says where. DAMAGE_ROUNDS and DAMAGE_SEED look further."""
import ctypes
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *

HEAD_BYTES = 8192
SYS_TGKILL = {"x86_64": 234, "aarch64": 131}.get(os.uname().machine)


def records(n):
    return b"".join(packed("k%04d" % i, [i, 1, 2, 3], n=i) for i in range(n))


def index(m, name):
    other = os.path.join(m.path, "b", name)
    os.mkdir(other)
    with open(os.path.join(other, "config"), "w") as f:
        f.write("dimension = 4\n")
    with open(os.path.join(other, "insert"), "wb") as f:
        f.write(records(500))
    return other


def read(*path):
    with open(os.path.join(*path), "rb") as f:
        return f.read()


def threads(pid):
    return [int(t) for t in os.listdir("/proc/%d/task" % pid) if int(t) != pid]


def use(m, rng):
    """Twenty requests of all kinds, which may fail."""
    kinds = [
        lambda: m.read("vectors/k%04d.msgpack" % rng.randrange(500)),
        lambda: os.listdir(m.at("vectors")),
        lambda: m.read("vectors.msgpack"),
        lambda: m.read("vectors.npy"),
        lambda: m.read("stats"),
        lambda: os.listdir(m.at("near", "k0100")),
        lambda: m.ask({"queryVector": [1, 1, 2, 3], "topK": 50, "returnMetadata": True}),
        lambda: m.ask({"queryVector": [1, 1, 2, 3], "topK": 50, "filter": {"n": {"$gt": 100}}}),
        lambda: m.ask({"filter": {"n": {"$lt": 50}}, "facets": ["n"], "topK": 10}),
        lambda: m.write("insert", records(20)),
        lambda: m.talk("update", '{"filter": {"n": {"$lt": 90}}, "set": {"z": 1}}'),
        lambda: os.unlink(m.at("vectors", "k0200.msgpack")),
        lambda: m.talk("delete", '{"filter": {"n": 300}}'),
    ]
    for _ in range(20):
        try:
            rng.choice(kinds)()
        except OSError:
            if m.process.poll() is not None:
                return


def change(rng, data):
    """Bytes anywhere, or in the heads of pages; or the end is cut off."""
    heads = rng.random() < 0.5
    for _ in range(rng.choice((1, 3, 10, 100))):
        at = rng.randrange(HEAD_BYTES, len(data))
        data[at // 4096 * 4096 + at % 64 if heads else at] = rng.randrange(256)
    return data[:rng.randrange(HEAD_BYTES, len(data))] if rng.random() < 0.1 else data


def survive(m, path, rounds, seed):
    with open(path, "rb") as f:
        sound = f.read()
    for number in range(rounds):
        with open(path, "wb") as f:
            f.write(change(random.Random(seed + number), bytearray(sound)))
        m.start()
        use(m, random.Random(seed + number))
        time.sleep(0.01)
        if m.process.poll() is not None or m.stop() != 0:
            return check("the daemon survives what was changed at random", False, "seed %d, ended with %s" % (seed + number, m.process.poll()))
    return check("the daemon survives what was changed at random, %d times" % rounds, True)


m = Mount(dimension=4)
m.write("insert", records(500))
sound = index(m, "sound")
m.stop()
data = os.path.join(m.store, "b", "i", "data.mdb")
whole = data + ".whole"
shutil.copyfile(data, whole)
survive(m, data, int(os.environ.get("DAMAGE_ROUNDS", 40)), int(os.environ.get("DAMAGE_SEED", 1)))
os.replace(whole, data)
m.start()

# The index is open, and its pages are gone: every read meets an address behind which there is nothing.
m.read("vectors/k0007.msgpack")
os.truncate(data, HEAD_BYTES)
fails("a record whose page is gone", errno.EIO, lambda: m.read("vectors/k0300.msgpack"))
fails("a listing whose pages are gone", errno.EIO, lambda: os.listdir(os.path.join(m.index, "vectors")))
fails("an export whose pages are gone", errno.EIO, lambda: m.read("vectors.msgpack"))
fails("a question whose pages are gone", errno.EIO, lambda: m.ask({"queryVector": [1, 1, 2, 3], "topK": 3}))
check("the daemon lives", m.process.poll() is None, m.process.poll())
equal("the other index answers", msgpack.unpackb(read(sound, "vectors", "k0300.msgpack"))["metadata"], {"n": 300})
with open(os.path.join(sound, "insert"), "wb") as f:
    f.write(packed("new", [4, 3, 2, 1]))
check("and is written to", "new.msgpack" in os.listdir(os.path.join(sound, "vectors")))

# A fault of any thread: not only of the first one, which hears what comes from outside.
if SYS_TGKILL:
    worker = threads(m.process.pid)[-1]
    ctypes.CDLL(None).syscall(SYS_TGKILL, m.process.pid, worker, int(signal.SIGSEGV))
    equal("a fault of a thread ends the daemon", m.process.wait(30), -signal.SIGSEGV)
    with open(os.path.join(m.dir, "log")) as f:
        log = f.read()
    check("and its last words tell where", "vecfs: ended by signal %d, at\n" % signal.SIGSEGV in log and "vecfs(+0x" in log, log[-2000:])
finish()
