#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a load took in memory is given back: at rest the daemon has what `stats` says, and little more."""
from harness import *

VECTORS, DIMENSION = 20000, 256
SLACK = 16 << 20

# A sanitizer keeps freed memory.
sanitized = "libasan" in subprocess.run(["ldd", VECFS], capture_output=True, text=True).stdout


def anonymous_bytes():
    with open("/proc/%d/status" % m.process.pid) as f:
        return 1024 * next(int(line.split()[1]) for line in f if line.startswith("RssAnon:"))


def most_bytes():
    with open("/proc/%d/status" % m.process.pid) as f:
        return 1024 * next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))


def at_rest():
    """Linking, measuring and writing checkpoints take memory of their own, for a while."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (m.stats()["pending"] != "0" or anonymous_bytes() > int(m.stats()["memory_bytes"]) + SLACK):
        time.sleep(0.5)
    return anonymous_bytes(), int(m.stats()["memory_bytes"])


m = Mount(dimension=DIMENSION)
rows = numpy.random.default_rng(1).standard_normal((VECTORS, DIMENSION)).astype("<f4")
stream = b"".join(packed("k%d" % i, row.tolist()) for i, row in enumerate(rows))
for name in ("a load", "the same again, which replaces everything"):
    m.write("insert", stream)
    if not sanitized:
        have, said = at_rest()
        check("after %s the daemon has what stats says, and at most %d MB more" % (name, SLACK >> 20), have <= said + SLACK, "has %d, stats says %d" % (have, said))
    equal("and every vector is there", m.stats()["vectors"], str(VECTORS))
before = anonymous_bytes()
for i in range(150):
    m.write("vectors/.scratch%d" % i, b"x" * (1 << 20))
check("temporary files take memory", anonymous_bytes() >= before + (140 << 20))
for i in range(150):
    os.unlink(m.at("vectors", ".scratch%d" % i))
deadline = time.monotonic() + 30
while time.monotonic() < deadline and anonymous_bytes() > before + 2 * SLACK and not sanitized:
    time.sleep(0.2)
if not sanitized:
    check("and give it back when they go", anonymous_bytes() <= before + 2 * SLACK, "had %d, has %d" % (before, anonymous_bytes()))
m.stop()

# a change of the config that has to look at every term there is
m = Mount(dimension=1)
m.write("config", "metric = euclidean\n")
many = {"f%d" % i: list(range(1024)) for i in range(14)}
fd = os.open(m.at("insert"), os.O_WRONLY)
for i in range(1000):
    os.write(fd, msgpack.packb({"key": "k%d" % i, "data": [float(i)], "metadata": many}))
os.close(fd)
before = most_bytes()
m.write("config", "non_filterable = none\n")
if not sanitized:
    check("14 million terms are looked at in bounded memory", most_bytes() <= before + 4 * SLACK, "had %d, had then %d" % (before, most_bytes()))
m.stop()
finish()
