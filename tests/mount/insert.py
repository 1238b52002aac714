#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""insert, update and delete: every format, one transaction from open to close, receipts, and errors that say where."""
import io
import subprocess

from harness import *

m = Mount()


def insert(data):
    return m.talk("insert", data)


def names():
    return m.read("vectors.keys").decode().split("\n")[:-1]


def clear():
    m.talk("delete", json.dumps({"filter": {"$or": [{"n": {"$exists": True}}, {"n": {"$exists": False}}]}}))


def record(i, **extra):
    return dict({"key": "k%d" % i, "data": {"float32": [i, 1, 0]}, "metadata": {"n": i}}, **extra)


# formats
equal("one JSON record", json.loads(insert(json.dumps(record(1)))), {"inserted": 1, "replaced": 0, "skipped": 0})
equal("JSON Lines", json.loads(insert("".join(json.dumps(record(i)) + "\n" for i in range(1, 4)))), {"inserted": 2, "replaced": 1, "skipped": 0})
equal("a JSON array", json.loads(insert(json.dumps([record(4), record(5)]))), {"inserted": 2, "replaced": 0, "skipped": 0})
equal("the request body of the hosted services", json.loads(insert(json.dumps({"vectors": [record(6)], "vectorBucketName": "b", "indexName": "i"}))),
      {"inserted": 1, "replaced": 0, "skipped": 0})
stream = b"".join(packed("m%d" % i, [i, 0, 1], n=i) for i in range(1, 4))
equal("a msgpack stream is answered in msgpack", msgpack.unpackb(insert(stream)), {"inserted": 3, "replaced": 0, "skipped": 0})
equal("and so is a msgpack array", msgpack.unpackb(insert(msgpack.packb([record(7), record(8)]))), {"inserted": 2, "replaced": 0, "skipped": 0})
equal("all are there", names(), ["k%d" % i for i in range(1, 9)] + ["m1", "m2", "m3"])
clear()
for kind in ("<f4", "<f8"):
    for order in "CF":
        f = io.BytesIO()
        matrix = numpy.asarray([[1, 2, 3], [4, 5, 6]], dtype=kind, order=order)
        numpy.save(f, matrix)
        receipt = json.loads(insert(f.getvalue()))
        check("a NumPy matrix of %s in %s order, answered in JSON" % (kind, order), receipt["inserted"] + receipt["replaced"] == 2, receipt)
equal("its keys are the numbers of the rows", names(), ["0", "1"])
equal("vectors.npy gives the matrix back", numpy.load(io.BytesIO(m.read("vectors.npy"))).tolist(), [[1, 2, 3], [4, 5, 6]])
clear()
equal("ifAbsent skips", json.loads(insert(json.dumps([record(1), record(1, ifAbsent=True), record(2, ifAbsent=True)]))),
      {"inserted": 2, "replaced": 0, "skipped": 1})
insert(json.dumps([record(3, metadata={"n": 1}), record(3, metadata={"n": 2})]))
equal("of equal keys in one stream the last wins", json.loads(m.read("vectors", "k3.json"))["metadata"], {"n": 2})
clear()

# export is what insert takes
insert(stream)
before = m.read("vectors.msgpack")
clear()
insert(before)
equal("vectors.msgpack is taken by insert", m.read("vectors.msgpack"), before)
lines = m.read("vectors.jsonl")
clear()
insert(lines)
equal("and so is vectors.jsonl", m.read("vectors.jsonl"), lines)
clear()

# one transaction
fails("a wrong record fails in the write", errno.EINVAL, m.write, "insert", json.dumps([record(1), {"key": "bad", "data": [1, 2]}]))
equal("and nothing of its stream is inserted", names(), [])
m.write("insert", "".join(json.dumps(record(i)) + "\n" for i in range(3)))
equal("opened for writing only it is carried out at close", names(), ["k0", "k1", "k2"])
fd = os.open(m.at("insert"), os.O_WRONLY)
os.write(fd, json.dumps(record(7)).encode())
equal("not before", names(), ["k0", "k1", "k2"])
os.fsync(fd)
equal("but at fsync", names(), ["k0", "k1", "k2", "k7"])
os.close(fd)
fd = os.open(m.at("insert"), os.O_WRONLY)
os.write(fd, json.dumps(record(8)).encode() + b"\n")
fails("a failure stays", errno.EINVAL, os.write, fd, b'{"key": "x"}\n')
fails("on later writes", errno.EINVAL, os.write, fd, json.dumps(record(9)).encode())
fails("on fsync", errno.EINVAL, os.fsync, fd)
fails("and on close", errno.EINVAL, os.close, fd)
equal("nothing of it counts", names(), ["k0", "k1", "k2", "k7"])
fails("an incomplete stream fails at close", errno.EINVAL, m.write, "insert", b'{"key": "half", "data": [1,')
subprocess.run(["bash", "-c", '(echo \'%s\'; cat <<<\'{"key": "bad"}\') >"$1"' % json.dumps(record(20)), "-", m.at("insert")], stderr=subprocess.DEVNULL)
check("a subshell's children write one transaction", "k20" not in names(), names())
subprocess.run(["bash", "-c", '(cat <<<\'%s\'; cat <<<\'%s\') >"$1"' % (json.dumps(record(21)), json.dumps(record(22))), "-", m.at("insert")])
check("which is carried out when the subshell closes", {"k21", "k22"} <= set(names()), names())
subprocess.run(["bash", "-c", '(sleep 0.3; echo \'%s\') >"$1" & wait' % json.dumps(record(23)), "-", m.at("insert")])
check("also by a child in the background", "k23" in names(), names())
with open(m.at("insert"), "wb") as f:
    p = subprocess.Popen(["bash", "-c", "sleep 0.3; cat <<<'%s'" % json.dumps(record(24))], stdout=f)
p.wait()
time.sleep(0.1)
check("and when the opener has closed before the child wrote", "k24" in names(), names())
fd = os.open(m.at("insert"), os.O_RDWR | os.O_TRUNC)
os.write(fd, json.dumps(record(30)).encode())
equal("truncating adds and never takes away", json.loads(read_all(fd))["inserted"], 1)
os.write(fd, json.dumps(record(31)).encode())
equal("a second stream may follow on the descriptor", json.loads(read_all(fd)), {"inserted": 1, "replaced": 0, "skipped": 0})
fails("a failed one", errno.EINVAL, os.write, fd, b'{"key": 5}')
os.write(fd, json.dumps(record(32)).encode())
equal("does not spoil the next", json.loads(read_all(fd)), {"inserted": 1, "replaced": 0, "skipped": 0})
os.close(fd)
m.errors()
fails("the error has the byte", errno.EINVAL, insert, json.dumps(record(1)) + "\n" + '{"key": "z", "data": [1,2]}\n')
check("at which the record begins", " byte %d" % (len(json.dumps(record(1))) + 1) in m.errors()[-1], m.errors()[-1])
clear()

# many
many = b"".join(packed("%06d" % i, [i % 7 + 1, i % 5, i % 3], n=i % 10) for i in range(20000))
equal("twenty thousand at once", msgpack.unpackb(insert(many)), {"inserted": 20000, "replaced": 0, "skipped": 0})
equal("all listed, in order", os.listdir(m.at("vectors")), ["%06d.msgpack" % i for i in range(20000)])
equal("and counted", m.stats()["vectors"], "20000")

# update
equal("update sets and unsets fields", json.loads(m.talk("update", json.dumps({"keys": ["000001", "nobody"], "set": {"t": ["x"], "n": 77}, "unset": ["q"]}))),
      {"updated": 1, "unknown": 1})
equal("the vector stays", json.loads(m.read("vectors", "000001.json")), {"key": "000001", "data": {"float32": [2.0, 1.0, 1.0]}, "metadata": {"n": 77, "t": ["x"]}})
equal("update by filter", json.loads(m.talk("update", json.dumps({"filter": {"n": 5}, "set": {"five": True}})))["updated"], 2000)
equal("several updates are one transaction", json.loads(m.talk("update", '{"key": "000001", "set": {"a": 1}}\n{"key": "000002", "set": {"a": 1}}\n'))["updated"], 2)
fails("an empty filter is refused", errno.EINVAL, m.talk, "update", '{"filter": {}, "set": {"a": 1}}')
fails("a null value is refused", errno.EINVAL, m.talk, "update", '{"key": "000001", "set": {"a": null}}')
m.write("update", '{"key": "000003", "set": {"w": 1}}')
equal("opened for writing only it is carried out at close", json.loads(m.read("vectors", "000003.json"))["metadata"]["w"], 1)

# delete
equal("delete by keys", json.loads(m.talk("delete", '{"keys": ["000001", "nobody"]}')), {"deleted": 1, "unknown": 1})
equal("by a stream of keys", json.loads(m.talk("delete", '"000002"\n"000003" "000004"')), {"deleted": 3, "unknown": 0})
equal("in msgpack", msgpack.unpackb(m.talk("delete", msgpack.packb("000005") + msgpack.packb("000006"))), {"deleted": 2, "unknown": 0})
equal("by filter", json.loads(m.talk("delete", '{"filter": {"n": 9}}')), {"deleted": 2000, "unknown": 0})
fails("an empty filter is refused", errno.EINVAL, m.talk, "delete", '{"filter": {}}')
fails("a request to another index too", errno.EINVAL, m.talk, "delete", '{"keys": ["000007"], "indexName": "other"}')
subprocess.run("printf '\"000007\"' > %s" % m.at("delete"), shell=True, check=True)
check("from the shell", not os.path.exists(m.at("vectors", "000007.msgpack")))
start = time.monotonic()
keys = " ".join('"%06d"' % i for i in range(20000))
equal("a long stream of keys is one pass", json.loads(m.talk("delete", keys))["deleted"], 20000 - 1 - 3 - 2 - 2000 - 1)
equal("nothing is left", names(), [])


# the shell dups and closes around every builtin, so that a FLUSH comes before the reply is read
def shell(verb, *requests):
    script = "exec 3<>%s\n" % m.at(verb) + "".join("printf '%%s' '%s' >&3\n" % r for r in requests) + "cat <&3"
    return json.loads(subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, check=True).stdout)


equal("a shell reads the receipt of insert", shell("insert", '{"key": "a", "data": [1, 2, 3]}'), {"inserted": 1, "replaced": 0, "skipped": 0})
equal("of all it wrote since the last reply", shell("insert", '{"key": "b", "data": [1, 2, 3]}', '{"key": "a", "data": [1, 2, 4]}'),
      {"inserted": 1, "replaced": 1, "skipped": 0})
equal("of update", shell("update", '{"keys": ["a", "z"], "set": {"n": 1}}'), {"updated": 1, "unknown": 1})
equal("and of delete", shell("delete", '{"keys": ["a", "b", "z"]}'), {"deleted": 2, "unknown": 1})
finish()
