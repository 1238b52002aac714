#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What happens behind an insert: every linker takes part, recall is measured as soon as they are done, and vectors that lie elsewhere than those before
are found by every question from the first moment on."""
from harness import *

LINKER_NICE = 10
OLD, NEW, DIMENSION = 20000, 600, 48
rng = numpy.random.default_rng(1)


def stream(prefix, rows):
    return b"".join(msgpack.packb({"key": "%s%d" % (prefix, i), "data": row.tobytes(), "metadata": {"topic": prefix}}) for i, row in enumerate(rows))


def eventually(good, seconds=120):
    deadline = time.monotonic() + seconds
    while not good() and time.monotonic() < deadline:
        time.sleep(0.05)
    return good()


def linkers():
    """Clock ticks of each."""
    ticks = []
    for thread in os.listdir("/proc/%d/task" % m.process.pid):
        with open("/proc/%d/task/%s/stat" % (m.process.pid, thread)) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        if int(fields[16]) == LINKER_NICE:
            ticks.append(int(fields[11]) + int(fields[12]))
    return ticks


m = Mount(dimension=DIMENSION)
m.write("config", "metric = euclidean\n")
old = (10 * rng.standard_normal((OLD, DIMENSION))).astype("<f4")
m.write("insert", stream("old", old))
check("one insert is linked", eventually(lambda: m.stats()["pending"] == "0"))
check("by all linkers", len(linkers()) == os.cpu_count() and all(linkers()), linkers())
check("and recall is measured", eventually(lambda: m.stats()["recall_measured"] != "unknown"))

# Beside each other, far beyond the range of the codes that the others have.
new = (30 * rng.standard_normal(DIMENSION) + rng.standard_normal((NEW, DIMENSION))).astype("<f4")
fd = os.open(m.at("query"), os.O_RDWR)


def lost(**more):
    """Those that their own vector does not find."""
    missing = []
    for i in range(0, NEW, 3):
        os.write(fd, msgpack.packb({"queryVector": new[i].tobytes(), "topK": 1, **more}))
        if msgpack.unpackb(os.read(fd, 1 << 20))["vectors"][0]["key"] != "new%d" % i:
            missing.append(i)
    return missing


m.write("insert", stream("new", new))
ways = {}, {"recall": 1}, {"filter": {"topic": {"$in": ["old", "new"]}}}, {"filter": {"topic": "new"}}, {"exact": True}
for when in "at once", "when it has come to rest":
    for way in ways:
        equal("%s: a new topic is found, %s" % (when, way), lost(**way), [])
    check("the graph comes to rest", eventually(lambda: m.stats()["pending"] == "0" and int(m.stats()["outliers"]) < 300), m.stats())
os.close(fd)
m.stop()

for round in range(3):
    m.start("-o", "ro")
    os.listdir(m.at("near", "old5"))
    check("recall is measured where nothing is written, too", eventually(lambda: m.stats()["recall_measured"] != "unknown"), m.stats())
    m.stop()
finish()
