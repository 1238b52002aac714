#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Long streams: their vectors are on disk before the verdict, and nobody sees them until it comes."""
from harness import *

DIMENSION, MANY = 512, 20000       # 40 MB
m = Mount(dimension=DIMENSION)
rng = numpy.random.default_rng(3)
rows = rng.standard_normal((MANY, DIMENSION)).astype("<f4")
query = {"queryVector": {"float32": rows[7].tolist()}, "topK": 3, "exact": True, "returnDistance": True}
sanitized = "libasan" in subprocess.run(["ldd", VECFS], capture_output=True, text=True).stdout


def record(key, row, **more):
    return msgpack.packb({"key": key, "data": row.tobytes(), **more})


def file_bytes():
    return os.stat(os.path.join(m.store, "b", "i", "data.mdb")).st_size


def anonymous_bytes():
    with open("/proc/%d/status" % m.process.pid) as f:
        return 1024 * next(int(line.split()[1]) for line in f if line.startswith("RssAnon:"))


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:1 << 20]):]


def nearest(answer):
    return [v["key"] for v in answer["vectors"]]


def audit():
    p = subprocess.run([VECFS, "check", m.store], capture_output=True, text=True)
    equal("vecfs check finds nothing", (p.returncode, p.stderr), (0, ""))


for i in range(5):
    m.write("vectors/s%d.msgpack" % i, record("x", rows[i]))
stream = b"".join(record("k%d" % i, row) for i, row in enumerate(rows))

# a stream that fails at its end
before = file_bytes()
fd = os.open(m.at("insert"), os.O_WRONLY)
write_all(fd, stream)
check("most of a long stream is on disk before it ends", file_bytes() - before > len(stream) // 2, "%d bytes, then %d" % (before, file_bytes()))
equal("and counts for nothing yet", m.stats()["vectors"], "5")
equal("nor is it answered", sorted(nearest(m.ask(query))), sorted(nearest(m.ask({**query, "exact": False}))))
fails("a wrong record after it fails", errno.EINVAL, os.write, fd, record("bad", rows[0][:5]))
fails("and so does the close", errno.EINVAL, os.close, fd)
equal("nothing of it is there", m.stats()["vectors"], "5")
equal("questions go on", len(nearest(m.ask(query))), 3)
check("the error is told", "'bad'" in m.errors()[-1], m.errors()[-1])

# two beside each other, and single files between their parts
first, second = (os.open(m.at("insert"), os.O_RDWR) for _ in range(2))
half = len(stream) // 2
write_all(first, stream[:half])
write_all(second, b"".join(record("k%d" % i, rows[MANY - 1 - i], **({"ifAbsent": True} if i % 2 else {})) for i in range(MANY)))
m.write("vectors/between.msgpack", record("x", rows[9]))
write_all(first, stream[half:])
equal("the first is carried out", msgpack.unpackb(os.read(first, 1000)), {"inserted": MANY, "replaced": 0, "skipped": 0})
equal("what it brought is answered", nearest(m.ask(query))[:1], ["k7"])
equal("the second comes upon it", msgpack.unpackb(os.read(second, 1000)), {"inserted": 0, "replaced": MANY // 2, "skipped": MANY // 2})
os.close(first), os.close(second)
equal("all are there", m.stats()["vectors"], str(MANY + 6))
got = numpy.load(m.at("vectors.npy"))
keys = m.read("vectors.keys").decode().split()
want = numpy.array([rows[int(k[1:])] if k[0] == "s" else rows[9] if k[0] == "b" else rows[int(k[1:])] if int(k[1:]) % 2 else rows[MANY - 1 - int(k[1:])] for k in keys])
check("bit by bit", numpy.array_equal(got, want))
distances = ((want - rows[7]) ** 2).sum(1)
equal("and are answered", nearest(m.ask(query)), [keys[i] for i in numpy.argsort(distances, kind="stable")[:3]])

# killed in the middle of one
fd = os.open(m.at("insert"), os.O_WRONLY)
write_all(fd, stream)
m.kill()
try:
    os.close(fd)
except OSError:
    pass
audit()
m.start()
equal("after a kill in the middle of a stream all is as before it", (m.stats()["vectors"], nearest(m.ask(query))), (str(MANY + 6), [keys[i] for i in numpy.argsort(distances, kind="stable")[:3]]))
m.write("insert", b"".join(record("k%d" % i, row) for i, row in enumerate(rows[:MANY // 2])))
equal("and a stream can be written again", m.stats()["vectors"], str(MANY + 6))
equal("unmounting ends the daemon with 0", m.stop(), 0)
audit()

# memory
m.start()
m.stats()
before = anonymous_bytes()
fd = os.open(m.at("insert"), os.O_WRONLY)
write_all(fd, stream)
write_all(fd, stream)
took = anonymous_bytes() - before
if not sanitized:
    check("a stream of 80 MB is not kept in memory", took < 1.6 * len(stream), "took %d of %d bytes" % (took, 2 * len(stream)))
os.close(fd)
m.stop()
finish()
