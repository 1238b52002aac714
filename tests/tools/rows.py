#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Records deleted in a row, as rm -r does, go to disk together: whoever looks meanwhile finds them gone, whoever writes comes after them."""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *

m = Mount()
KEYS = ["k%03d" % i for i in range(300)]


def path(key, ending=".msgpack"):
    return m.at("vectors", key + ending)


def fill(keys=KEYS):
    m.write("insert", b"".join(packed(k, [1, 2, 3], n=1) for k in keys))


def row(first=0, last=200):
    for key in KEYS[first:last]:
        os.unlink(path(key))


rest = [k + ".msgpack" for k in KEYS[200:]]
fill()
row()
equal("they are gone for stat", [k for k in KEYS[:200] if os.path.exists(path(k)) or os.path.exists(path(k, ".json"))], [])
fill()
row()
fails("and for a second unlink", errno.ENOENT, os.unlink, path("k199"))
equal("for a listing", os.listdir(m.at("vectors")), rest)
fill()
row()
equal("for stats", m.stats()["vectors"], "100")
fill()
row()
equal("for the views", m.read("vectors.keys").split()[0], b"k200")
fill()
row()
fails("for near/", errno.ENOENT, os.listdir, m.at("near", "k199"))
fill()
ask = os.open(m.at("query"), os.O_RDWR)
row()
os.write(ask, b'{"topK": 1000}')
equal("for a question on a descriptor that was open before", len(json.loads(read_all(ask))["vectors"]), 100)
os.close(ask)
fill()
insert = os.open(m.at("insert"), os.O_RDWR)
row()
os.write(insert, packed("k199", [3, 2, 1]))
os.close(insert)
equal("an insert that comes after them stays", [n for n in os.listdir(m.at("vectors")) if n < "k200"], ["k199.msgpack"])
fill()
row()
m.write("vectors/k199.msgpack", packed("k199", [4, 4, 4]))
equal("and a file", json.loads(m.read("vectors", "k199.json"))["data"]["float32"], [4, 4, 4])
row(0, 0)
fill()
row()
os.rename(path("k299"), path("k199"))
equal("and a new key", json.loads(m.read("vectors", "k199.json"))["key"], "k199")
fill()
fd = os.open(path("k199"), os.O_RDONLY)
data = m.read("vectors", "k199.msgpack")
row()
equal("who has one open goes on reading it", os.pread(fd, 1 << 16, 0), data)
equal("without a name", os.fstat(fd).st_nlink, 0)
os.close(fd)
fill()
row()
fails("rmdir sees that there is more", errno.ENOTEMPTY, os.rmdir, m.index)
row(200, 300)
os.rmdir(m.index)
check("and that there is none", not os.path.exists(m.index))

os.mkdir(m.index)
m.write("config", "dimension = 3\n")
fill()
row()
m.stop()
m.start()
equal("they are gone after an unmount at once", os.listdir(m.at("vectors")), rest)
fill()
row()
time.sleep(0.5)
m.kill()
m.start()
equal("and after a kill, a moment later", os.listdir(m.at("vectors")), rest)
row(200, 230)
m.kill()
m.start()
equal("a few in a row are on disk at once", os.listdir(m.at("vectors")), rest[30:])

# Two rows at once, and writers of the same keys.
other = os.path.join(m.path, "b", "o")
os.mkdir(other)
mine = m.index
fill()
m.index = other
m.write("config", "dimension = 3\n")
fill()


def delete(index):
    for key in KEYS:
        os.unlink(os.path.join(index, "vectors", key + ".msgpack"))


def write(index):
    for i in range(300):
        with open(os.path.join(index, "vectors", "new%d.msgpack" % i), "wb") as f:
            f.write(packed("x", [1, 1, 1]))


threads = [threading.Thread(target=t, args=(i,)) for t in (delete, write) for i in (mine, other)]
for t in threads:
    t.start()
for t in threads:
    t.join()
for index in (mine, other):
    equal("rows in two indexes beside writers: all of one are gone, none of the others",
          sorted(os.listdir(os.path.join(index, "vectors"))), sorted("new%d.msgpack" % i for i in range(300)))
m.stop()
equal("vecfs check finds nothing", subprocess.run([VECFS, "check", m.store], stdout=subprocess.DEVNULL).returncode, 0)
finish()
