#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What is done before it is asked for: the answer of a lone client, made between its write and its read, and processors that are kept awake."""
import struct
import threading
from os.path import join

from harness import *

DIM, ROUNDS = 8, 150
LATENCY = "/dev/cpu_dma_latency"
m = Mount(dimension=DIM)
rng = numpy.random.default_rng(1)
m.write("insert", b"".join(packed("k%d" % i, row.tolist(), n=i) for i, row in enumerate(rng.standard_normal((300, DIM)))))
fd = os.open(m.at("query"), os.O_RDWR)


def say(vector, **more):
    os.write(fd, msgpack.packb(dict(queryVector=vector, topK=1, **more)))


def hear():
    return [r["key"] for r in msgpack.unpackb(os.read(fd, 1 << 16))["vectors"]]


def far(i):
    return [100.0 + i] + [float(i)] * (DIM - 1)


# By now it is known that the client is alone, and brief.
for i in range(40):
    say(far(i))
    hear()
late, gone, replaced = [], [], []
for i in range(ROUNDS):
    say(far(i))
    m.write("vectors/new%d.msgpack" % i, packed("new%d" % i, far(i)))
    late.append(hear() == ["new%d" % i])
check("what is inserted between a question and its answer is in the answer", all(late), late.count(False))
for i in range(ROUNDS):
    say(far(i))
    os.unlink(m.at("vectors", "new%d.msgpack" % i))
    gone.append("new%d" % i not in hear())
check("what is deleted there is not", all(gone), gone.count(False))
for i in range(ROUNDS):
    say([1.0] * DIM, filter={"mark": i})
    m.write("vectors/k7.msgpack", packed("k7", [1.0] * DIM, mark=i))
    replaced.append(hear() == ["k7"])
check("what is replaced there is what it is now", all(replaced), replaced.count(False))

# A long question after many short ones: others are served meanwhile. (Half of its time is for slow machines.)
os.mkdir(join(m.path, "b", "large"))
large = join(m.path, "b", "large")
with open(join(large, "config"), "w") as f:
    f.write("dimension = 4\n")
with open(join(large, "insert"), "wb", buffering=0) as f:
    f.write(b"".join(packed("k%d" % i, row.tolist()) for i, row in enumerate(rng.standard_normal((4000, 4)))))
long_question = msgpack.packb({"queryVectors": rng.standard_normal((400, 4)).tolist(), "topK": 4000, "exact": True})
long_fd = os.open(join(large, "query"), os.O_RDWR)
for i in range(40):
    os.write(long_fd, msgpack.packb({"queryVector": [1.0, 2.0, 3.0, 4.0], "topK": 1}))
    os.read(long_fd, 1 << 16)
done, worst = threading.Event(), []


def look():
    while not done.is_set():
        begun = time.monotonic()
        os.listdir(join(m.path, "b"))
        os.stat(m.at("vectors", "k7.msgpack"))
        worst.append(time.monotonic() - begun)


looking = threading.Thread(target=look)
looking.start()
begun = time.monotonic()
os.write(long_fd, long_question)
os.read(long_fd, 1 << 16)
took = time.monotonic() - begun
done.set()
looking.join()
check("while a long question is answered others are served", max(worst) < took / 2, max(worst), took, len(worst))
os.close(long_fd)

# Two questions one after the other without an answer read between: one question of many bytes, or a failure; and never the answer of the first.
say(far(3))
fails("a second question before the answer of the first", errno.EINVAL, say, far(4))
say(far(5))
check("after that it goes on", len(hear()) == 1)

# The config, between question and answer.
os.write(fd, msgpack.packb({"queryVector": [1.0] * DIM}))
m.write("config", "dimension = %d\ntop_k = 3\n" % DIM)
equal("the config is that of the read", len(hear()), 3)
os.close(fd)

if os.access(LATENCY, os.R_OK) and os.cpu_count() in range(2, 17):
    def latency():
        with open(LATENCY, "rb", buffering=0) as f:
            return struct.unpack("=i", f.read(4))[0]

    def opened(n):
        return [os.readlink(p) for p in ("/proc/%d/fd/%s" % (n, f) for f in os.listdir("/proc/%d/fd" % n)) if os.path.islink(p)].count(LATENCY)

    at_rest = latency()
    with open(m.at("query"), "r+b", buffering=0) as f:
        seen = []
        for i in range(200):
            f.write(msgpack.packb({"queryVector": far(i), "topK": 1}))
            f.read(1 << 16)
            seen.append(latency())
    check("while questions come one after the other processors do not fall asleep", 0 in seen, at_rest, seen[-1])
    for _ in range(100):
        if latency() == at_rest:
            break
        time.sleep(0.1)
    equal("and may again after the last one", latency(), at_rest)
    equal("one file is open for that", opened(m.process.pid), 1)
    m.stop()
    m.start("-o", "awake=no")
    equal("with -o awake=no there is none", opened(m.process.pid), 0)
else:
    note("no %s for us, or another number of processors" % LATENCY)
equal("it ends well", m.stop(), 0)
finish()
