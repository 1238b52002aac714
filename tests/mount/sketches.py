#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Walks over sketches (stats: sketch_bytes): vectors of many dimensions that lie near few directions have them, answers are those of brute force with
and without, and they come back by themselves after a remount."""
from harness import *

DIMENSION, INNER, MANY = 192, 16, 4600
m = Mount(dimension=DIMENSION)      # cosine
rng = numpy.random.default_rng(11)


def vectors(n, mix):
    """Near the directions of `mix`, in three clusters."""
    points = rng.standard_normal((n, INNER)) + 2 * rng.integers(0, 3, (n, 1))
    return (points @ mix + 0.01 * rng.standard_normal((n, DIMENSION))).astype("<f4")


def directions():
    return rng.standard_normal((INNER, DIMENSION))


def insert(rows, first):
    records = [{"key": "k%d" % (first + i), "data": row.tobytes(), "metadata": {"n": first + i}} for i, row in enumerate(rows)]
    m.talk("insert", b"".join(map(msgpack.packb, records)))


def wait_for(what, holds, seconds=300):
    end = time.monotonic() + seconds
    while not holds(m.stats()) and time.monotonic() < end:
        time.sleep(0.05)
    stats = m.stats()
    check(what, holds(stats), stats)


def at_rest(stats):
    return stats["loaded"] == "yes" and stats["pending"] == stats["dead"] == "0"


def found(stored, queries, known, **question):
    """The share of the ten nearest that answers have, over all queries; every distance must be the true one."""
    keys = numpy.array(sorted(stored))
    matrix = numpy.array([stored[k] for k in keys], dtype="f8")
    allowed = numpy.array([known(k) for k in keys])
    hits = 0
    for query in queries:
        wanted = query.astype("f8")
        true = 1 - matrix @ wanted / numpy.linalg.norm(matrix, axis=1) / numpy.linalg.norm(wanted)
        last = numpy.sort(true[allowed])[9]
        answer = m.ask({"queryVector": query.tobytes(), "topK": 10, "returnDistance": True, **question}, "msgpack")["vectors"]
        off = [v for v in answer if abs(v["distance"] - true[keys == int(v["key"][1:])][0]) > 1e-6]
        if off or len(answer) != 10:
            note("wrong: %r" % (off or answer))
            return -1
        hits += sum(v["distance"] <= last + 1e-9 and known(int(v["key"][1:])) for v in answer)
    return hits / (10 * len(queries))


def enough(what, share, least=0.95):
    check("%s: .95 of the nearest are found" % what, share >= least, "found %.4f" % share)


mix = directions()
stored = dict(enumerate(vectors(MANY, mix)))
queries = vectors(60, mix)
insert(list(stored.values()), 0)
wait_for("vectors near few directions are walked to over 64 bytes each", lambda s: at_rest(s) and s["sketch_bytes"] == "64")
enough("all of them", found(stored, queries, lambda k: True))
enough("with a filter that half of them pass", found(stored, queries, lambda k: k < MANY / 2, filter={"n": {"$lt": MANY // 2}}), 0.99)
equal("exactly all with exact", found(stored, queries[:20], lambda k: True, exact=True), 1.0)

# a change of half of it
gone = range(0, MANY, 2)
m.talk("delete", json.dumps({"keys": ["k%d" % k for k in gone]}))
for k in gone:
    del stored[k]
more = vectors(MANY // 2, mix)
insert(more, MANY)
stored.update(zip(range(MANY, MANY + len(more)), more))
wait_for("half are replaced", at_rest)
enough("after the change", found(stored, queries, lambda k: True))

# from elsewhere
elsewhere = directions()
more = vectors(MANY, elsewhere)
insert(more, 10 * MANY)
stored.update(zip(range(10 * MANY, 11 * MANY), more))
wait_for("others that lie elsewhere are linked", at_rest)
enough("those that lie elsewhere", found(stored, vectors(60, elsewhere), lambda k: True))
enough("those from before", found(stored, queries, lambda k: True))
before = m.stats()["sketch_bytes"]
check("there are sketches of both", int(before) > 0)

equal("unmounting ends the daemon with 0", m.stop(), 0)
m.start()
first = m.ask({"queryVector": queries[0].tobytes()}, "msgpack")
wait_for("after a remount they are there again, nothing having been written", lambda s: at_rest(s) and s["sketch_bytes"] == before)
enough("after the remount", found(stored, queries, lambda k: True))
equal("unmounting ends the daemon with 0 again", m.stop(), 0)
p = subprocess.run([VECFS, "check", m.store], capture_output=True, text=True)
equal("vecfs check finds nothing", (p.returncode, p.stderr), (0, ""))

m.start()
os.mkdir(os.path.join(m.path, "b", "everywhere"))
m.index = os.path.join(m.path, "b", "everywhere")
m.write("config", "dimension = %d\nmetric = cosine\n" % DIMENSION)
insert(rng.standard_normal((MANY, DIMENSION)).astype("<f4"), 0)
wait_for("vectors that spread everywhere are walked to over their codes", lambda s: at_rest(s) and s["sketch_bytes"] == "0")
equal("and unmounting ends the daemon with 0", m.stop(), 0)
finish()
