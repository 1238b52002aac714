#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""errors: one line a failure, with who, what, where and why; untrusted input of every kind does no harm."""
import random
import re

from harness import *

m = Mount()
V = m.at("vectors")
join = os.path.join
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z uid=(\d+) pid=(\d+) (\S+) (\S+) (\S+) (E[A-Z]+)(?: (byte|line) (\d+))?: (.+)$")


def failing(call, *args):
    try:
        call(*args)
    except OSError:
        pass
    return LINE.match(m.errors()[-1])


equal("at first there is none", m.errors(), [])
got = failing(m.write, "vectors/a b.msgpack", json.dumps({"data": [1, 2]}))
check("a line has its parts", got, m.errors()[-1:])
equal("the user", got[1], str(os.getuid()))
equal("the process", got[2], str(os.getpid()))
equal("the operation", got[4], "write")
equal("the path, blanks escaped", got[5], "/b/i/vectors/a%20b.msgpack")
equal("the name of the errno", got[6], "EINVAL")
check("a sentence with the values", "2" in got[9] and "3" in got[9] and "i" in got[9], got[9])
got = failing(m.write, "insert", b'{"key": "a", "data": [1,2,3]}\n{"key": "b", "data": [1,2,3], "metadata": {"x": null}}\n')
equal("the byte, for content", (got[7], got[8]), ("byte", "30"))
got = failing(m.write, "config", "top_k = 3\nnonsense\n")
equal("the line, for config", (got[7], got[8]), ("line", "2"))
got = failing(m.talk, "query", '{"filter": {"n": {"$near": 1}}}')
check("what is wrong in a filter", "$near" in got[9], got[9])
got = failing(os.rename, join(V, "x.msgpack"), join(V, "y.msgpack"))
equal("what is simply not there is no failure worth a line", got[4], "write")
os.mkdir(join(m.path, "b", "j"))
equal("each index has its own", open(join(m.path, "b", "j", "errors")).read(), "")
equal("root's .vecfs/errors has all", len(open(join(m.path, ".vecfs", "errors")).read().splitlines()), len(m.errors()))
with open(m.at("errors")) as f:
    first = f.read()
    failing(m.write, "vectors/x.msgpack", b"{}")
    f.seek(0)
    equal("an open one stays as it was opened", f.read(), first)
for i in range(1100):
    failing_key = "vectors/%d.msgpack" % i
    try:
        m.write(failing_key, b"[]")
    except OSError:
        pass
lines = m.errors()
equal("the ring is bounded", len(lines), 1024)
check("newest last", "/1099.msgpack" in lines[-1] and all(LINE.match(l) for l in lines), lines[-1])

# untrusted bytes: nothing of it may hurt
random.seed(7)
m.write("vectors/good.msgpack", packed("good", [1, 2, 3], n=1))
base = [packed("x", [1, 2, 3], n=1), json.dumps({"key": "x", "data": [1, 2, 3], "metadata": {"n": [1, "a"]}}).encode(), b'{"queryVector": [1,2,3], "filter": {"n": {"$in": [1]}}}',
        b"dimension = 3\nmetric = cosine\n", msgpack.packb({"keys": ["a", "b"]}), b'{"filter": {"n": 1}, "set": {"n": 2}}']
targets = ["insert", "query", "update", "delete", "config", "vectors/f.msgpack", "vectors/f.json", "queries/f.json", "vectors/.f"]
survived = 0
for i in range(3000):
    data = bytearray(random.choice(base))
    for _ in range(random.randrange(1, 6)):
        how = random.randrange(4)
        at = random.randrange(len(data) + 1)
        if how == 0 and at < len(data):
            data[at] = random.randrange(256)
        elif how == 1:
            data[at:at] = bytes(random.randrange(256) for _ in range(random.randrange(1, 9)))
        elif how == 2:
            del data[at:at + random.randrange(1, 9)]
        else:
            data[at:at] = data[:at]
    target = random.choice(targets)
    try:
        if target in ("insert", "query", "update", "delete") and random.random() < 0.5:
            m.talk(target, bytes(data))
        else:
            m.write(target, bytes(data))
    except OSError:
        pass
    survived += 1
equal("three thousand damaged inputs", survived, 3000)
check("leave the mount alive", json.loads(m.read("vectors", "good.json"))["key"] == "good" if os.path.exists(join(V, "good.msgpack")) else m.stats())
bombs = {
    "a list of four billion": b"\xdd\xff\xff\xff\xff", "a map of four billion": b"\xdf\xff\xff\xff\xff", "a string of four gigabytes": b"\xdb\xff\xff\xff\xff",
    "a bin of four gigabytes": b"\xc6\xff\xff\xff\xff", "lists in lists": b"\x91" * 100000, "JSON lists in lists": b"[" * 100000,
    "an .npy of a petabyte": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }" + b" " * 50 + b"\n",
}
for what, data in bombs.items():
    for target in ("insert", "query", "vectors/bomb.msgpack", "delete", "update"):
        try:
            m.write(target, data)
            note("%s took %s" % (target, what))
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.EFBIG):
                check("%s into %s" % (what, target), False, e)
    check("%s does no harm" % what, m.process.poll() is None)
resident = int([l for l in open("/proc/%d/status" % m.process.pid) if l.startswith("VmRSS")][0].split()[1])
check("and the daemon has not grown", resident < 600000, "%d KiB" % resident)
for name in (b"\xff\xfe", b"a" * 256, b"%", b"%zz.msgpack", b"..msgpack", b".msgpack", b".json", b"\x01.msgpack", b"%00.msgpack", b"%2F%2E.msgpack"):
    for directory in ("vectors", "queries", "near", "answers", ""):
        p = join(os.fsencode(m.at(directory)), name)
        for call in (os.stat, os.unlink, os.listdir, lambda q: os.mkdir(q), lambda q: open(q, "wb").write(b"x"), lambda q: os.rename(q, p + b".x")):
            try:
                call(p)
            except OSError:
                pass
check("odd names do no harm", m.process.poll() is None)
os.mkdir(join(os.fsencode(m.path), b"b", b"\xff"))
for view in (m.at("errors"), os.path.join(m.path, ".vecfs", "errors"), os.path.join(m.path, ".vecfs", "metrics")):
    with open(view, "rb") as f:
        text = f.read()
    check("%s is UTF-8 all the same" % os.path.basename(view), text.decode("utf-8") and b"\x00" not in text)
os.rmdir(join(os.fsencode(m.path), b"b", b"\xff"))
equal("in the end it unmounts cleanly", m.stop(), 0)
finish()
