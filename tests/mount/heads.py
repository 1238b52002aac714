#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The two head pages of a file, damaged one field at a time: `vecfs check --repair` finds the one that counts, and says whether anything was lost."""
import io
import struct

from harness import *

PAGE, RECORDS = 4096, 5
# Of LMDB's MDB_meta, behind the 16 bytes that every page begins with.
FIELDS = ("magic", 16, 1), ("transaction", 144, 256), ("transaction, next to it", 144, 2), ("last page", 136, 1 << 40), \
    ("root of the tables", 128, 1 << 20), ("entries of the tables", 120, 1), ("root of the free pages", 80, 1 << 30)
m = Mount(dimension=2)
for i in range(RECORDS):
    m.write("vectors/k%d.json" % i, json.dumps({"data": [1, i]}))
m.kill()
data = os.path.join(m.store, "b", "i", "data.mdb")
with open(data, "rb") as f:
    sound = f.read()


def run(*words):
    return subprocess.run([VECFS, *words], capture_output=True)


def kept():
    return [name for name in os.listdir(os.path.dirname(data)) if "damaged" in name]


for page in 0, 1:
    for name, at, bits in FIELDS:
        what = "head %d, %s: " % (page, name)
        damaged = bytearray(sound)
        value, = struct.unpack_from("<Q", damaged, page * PAGE + at)
        struct.pack_into("<Q", damaged, page * PAGE + at, value ^ bits)
        with open(data, "wb") as f:
            f.write(damaged)
        before = kept()
        repaired = run("check", "--repair", m.store)
        check(what + "afterwards it is sound", run("check", m.store).returncode == 0, repaired.stdout)
        there = sum(1 for _ in msgpack.Unpacker(io.BytesIO(run("dump", m.store, "b/i").stdout)))
        if repaired.returncode == 0:
            equal(what + "nothing is lost, as it says", there, RECORDS)
        else:
            check(what + "the last change may be lost, as it says", there >= RECORDS - 1 and b"may be lost" in repaired.stdout, there, repaired.stdout)
            equal(what + "and one file more is kept", len(kept()), len(before) + 1)
finish()
