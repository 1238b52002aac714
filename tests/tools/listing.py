#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""An index of many keys: its listing streams in the order of keys, the daemon's memory does not grow with it, and keys that nobody touches
are met once each while others come and go. VECFS_LISTING_KEYS=1000000 is the long form."""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *

KEYS = int(os.environ.get("VECFS_LISTING_KEYS", 200000))
PIECE = 50000


def rss_kib(m):
    with open("/proc/%d/status" % m.process.pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon:"))


m = Mount(dimension=2)
for i in range(0, KEYS, PIECE):
    m.write("insert", b"".join(packed("k%07d" % k, [1 + k % 7, 1 + k % 11]) for k in range(i, min(i + PIECE, KEYS))))
equal("all are in", m.stats()["vectors"], str(KEYS))
# At rest: linking, measuring and writing checkpoints take memory of their own.
for _ in range(600):
    was = rss_kib(m)
    time.sleep(0.5)
    if m.stats()["pending"] == "0" and rss_kib(m) == was:
        break

before = rss_kib(m)
names = os.listdir(m.at("vectors"))
grown = rss_kib(m) - before
check("a listing is complete and in the order of keys", names == ["k%07d.msgpack" % k for k in range(KEYS)])
check("the daemon's memory does not grow with it", grown < 8192, "%d KiB more" % grown)
first = time.monotonic()
with os.scandir(m.at("vectors")) as entries:
    head = [next(entries).name for _ in range(3)]
equal("its beginning is there before its end", head, names[:3])

# Others come and go: those between the untouched ones.
stop = threading.Event()
changes = [0]


def change():
    n = 0
    while not stop.is_set():
        at = (n * 7919) % KEYS
        m.talk("insert", packed("k%07dx" % at, [1, 2]))
        if n >= 50:
            os.unlink(m.at("vectors", "k%07dx.msgpack" % ((n - 50) * 7919 % KEYS)))
        n += 1
    changes[0] = n


thread = threading.Thread(target=change)
thread.start()
listings = []
while len(listings) < 3:
    listings.append([e.name for e in os.scandir(m.at("vectors"))])
stop.set()
thread.join()
for seen in listings:
    untouched = [n for n in seen if "x" not in n]
    check("a listing meets every untouched key once, in order, while others come and go", untouched == names, len(untouched))
    check("and none twice", len(seen) == len(set(seen)))
check("others did come and go meanwhile", changes[0] > 0)

before = rss_kib(m)
counted = subprocess.run("ls -U '%s' | wc -l" % m.at("vectors"), shell=True, stdout=subprocess.PIPE, text=True).stdout.strip()
check("ls counts them", int(counted) >= KEYS, counted)
total = subprocess.run(["find", m.at("vectors"), "-type", "f", "-name", "k00000*"], stdout=subprocess.PIPE, text=True).stdout.count("\n")
check("find filters them, by d_type alone", total >= 100, total)
check("and memory stays", rss_kib(m) - before < 8192)
m.stop()
finish()
