#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What is computed: queries/ and answers/, near/, exports, stats."""
import subprocess
import threading

from harness import *

m = Mount()
join = os.path.join
for i in range(1, 6):
    m.write("vectors/k%d.msgpack" % i, packed("k%d" % i, [i, 1, 0], n=i))


def answer(name):
    return json.loads(m.read("answers", name))


def keys(name):
    return [v["key"] for v in answer(name)["vectors"]]


# saved questions
question = b'{"queryVector": [1, 1, 0], "topK": 2,\n  "returnDistance": true}\n'
m.write("queries/q.json", question)
equal("a saved question is read back as it was written", m.read("queries", "q.json"), question)
equal("and is listed", os.listdir(m.at("queries")), ["q.json"])
equal("its answer too", os.listdir(m.at("answers")), ["q.json"])
equal("cat gives the answer", keys("q.json"), ["k1", "k2"])
equal("with the exact size", os.stat(m.at("answers", "q.json")).st_size, len(m.read("answers", "q.json")))
equal("the other format is there when asked for", [v["key"] for v in msgpack.unpackb(m.read("answers", "q.msgpack"))["vectors"]], ["k1", "k2"])
m.write("vectors/k0.msgpack", packed("k0", [1, 1, 0]))
equal("the answer is that of now", keys("q.json"), ["k0", "k1"])
fd = os.open(m.at("answers", "q.json"), os.O_RDONLY)
before = os.pread(fd, 4096, 0)
os.unlink(m.at("vectors", "k0.msgpack"))
equal("an open answer stays", os.pread(fd, 4096, 0), before)
equal("a new one is new", keys("q.json"), ["k1", "k2"])
os.close(fd)
m.write("queries/q.json", b'{"key": "k5", "topK": 1}')
equal("another question, another answer", keys("q.json"), ["k4"])
m.write("queries/p.msgpack", msgpack.packb({"key": "k5", "topK": 2}))
equal("a question in msgpack", keys("p.json"), ["k4", "k3"])
equal("is listed as an answer once", os.listdir(m.at("answers")), ["p.json", "q.json"])
m.write("queries/p.json", b'{"key": "k1", "topK": 1}')
equal("two with one name have one answer", os.listdir(m.at("answers")), ["p.json", "q.json"])
equal("each format its own question", (keys("p.json"), msgpack.unpackb(m.read("answers", "p.msgpack"))["vectors"][0]["key"]), (["k2"], "k4"))
m.write("queries/all.json", b"{}")
m.write("config", "top_k = 3")
equal("top_k of config is the default", len(keys("all.json")), 3)
m.write("config", "top_k = 10")
m.write("queries/bad.json", b'{"topk": 1}')
equal("a wrong question has an empty answer", os.stat(m.at("answers", "bad.json")).st_size, 0)
fails("that cannot be opened", errno.EINVAL, m.read, "answers", "bad.json")
m.write("queries/gone.json", b'{"key": "nobody"}')
equal("answers that there are none for are not listed", [n for n in os.listdir(m.at("answers")) if n in ("bad.json", "gone.json")], [])
copied = subprocess.run(["cp", "-r", m.at(), os.path.join(m.dir, "copied")], stderr=subprocess.PIPE)
equal("so a copy of the whole index has no error", (copied.returncode, copied.stderr), (0, b""))
os.unlink(m.at("queries", "gone.json"))
check("and errors says why", "topk" in m.errors()[-1] and "bad.json" in m.errors()[-1], m.errors()[-1])
os.rename(m.at("queries", "bad.json"), m.at("queries", "good.json"))
fd = os.open(m.at("queries", "good.json"), os.O_WRONLY | os.O_APPEND)
os.write(fd, b"\n")
os.close(fd)
equal("a question is an ordinary file: it can be renamed and appended to", m.read("queries", "good.json"), b'{"topk": 1}\n')
os.truncate(m.at("queries", "good.json"), 5)
equal("cut", m.read("queries", "good.json"), b'{"top')
open(m.at("queries", "empty.json"), "w").close()
equal("and empty", os.stat(m.at("queries", "empty.json")).st_size, 0)
os.utime(m.at("queries", "good.json"), (1000000000, 1000000000))
equal("it keeps its time", os.stat(m.at("queries", "good.json")).st_mtime, 1000000000)
m.write("queries/.tmp", b'{"key": "k2", "topK": 1}')
os.rename(m.at("queries", ".tmp"), m.at("queries", "good.json"))
equal("and may be moved into place", keys("good.json"), ["k3"])
os.unlink(m.at("queries", "good.json"))
fails("without the question there is no answer", errno.ENOENT, os.stat, m.at("answers", "good.json"))
fails("nor one without a question ever", errno.ENOENT, os.stat, m.at("answers", "never.json"))
subprocess.run(["rm", m.at("answers", "q.json")], check=True)
equal("rm of an answer is accepted; it stays", keys("q.json"), ["k4"])
inode = os.stat(m.at("queries", "q.json")).st_ino
m.write("queries/q.json", question)
equal("a question keeps its inode number", os.stat(m.at("queries", "q.json")).st_ino, inode)

# near/
links = lambda key: sorted(os.listdir(m.at("near", key)))
equal("near/KEY has its neighbours, nearest first, itself left out", links("k1"), ["0001-k2.msgpack", "0002-k3.msgpack", "0003-k4.msgpack", "0004-k5.msgpack"])
link = m.at("near", "k1", "0001-k2.msgpack")
equal("they are links", os.readlink(link), "../../vectors/k2.msgpack")
equal("that lead to the record", open(link, "rb").read(), m.read("vectors", "k2.msgpack"))
equal("with the size of their target", os.lstat(link).st_size, len("../../vectors/k2.msgpack"))
fails("no key, no directory", errno.ENOENT, os.stat, m.at("near", "nobody"))
fails("no such neighbour", errno.ENOENT, os.lstat, m.at("near", "k1", "0001-k5.msgpack"))
fails("nothing can be made there", errno.EPERM, os.mkdir, m.at("near", "new"))
m.write("config", "top_k = 2")
equal("as many as top_k", links("k1"), ["0001-k2.msgpack", "0002-k3.msgpack"])
m.talk("insert", packed("a/b", [1, 1, 0]))
equal("a key with a slash", os.readlink(m.at("near", "k1", "0001-a%2Fb.msgpack")), "../../vectors/a%2Fb.msgpack")
check("has neighbours too", links("a%2Fb")[0] == "0001-k1.msgpack", links("a%2Fb"))
m.talk("insert", packed("ä" * 150, [1, 1, 0]))
got = [n for n in links("k1") if "ä" in n]
check("a name that would be too long is cut between characters", len(got) == 1 and len(got[0].encode()) <= 255 and got[0].endswith("ä.msgpack"), links("k1"))
m.talk("delete", json.dumps({"keys": ["a/b", "ä" * 150]}))
done = subprocess.run(["ls", "-lL", m.at("near", "k1")], stdout=subprocess.PIPE)
equal("ls -lL works", (done.returncode, len(done.stdout.splitlines())), (0, 3))

# exports
lines = [json.loads(l) for l in m.read("vectors.jsonl").splitlines()]
equal("vectors.jsonl has a record a line, in the order of keys", [l["key"] for l in lines], ["k1", "k2", "k3", "k4", "k5"])
equal("vectors.msgpack is a stream of the same", list(msgpack.Unpacker(open(m.at("vectors.msgpack"), "rb"))), lines)
matrix = numpy.load(m.at("vectors.npy"))
equal("vectors.npy is the matrix", (matrix.dtype.str, matrix.tolist()), ("<f4", [l["data"]["float32"] for l in lines]))
equal("NumPy maps it", numpy.load(m.at("vectors.npy"), mmap_mode="r").sum(), matrix.sum())
equal("vectors.keys has its keys", m.read("vectors.keys"), b"k1\nk2\nk3\nk4\nk5\n")
m.talk("insert", b"".join(packed("m%05d" % i, [i + 1, 2, 3], text="x" * 500) for i in range(5000)))
size = os.stat(m.at("vectors.jsonl")).st_size
with open(m.at("vectors.jsonl"), "rb") as f:
    equal("a large one has its exact size", os.fstat(f.fileno()).st_size, size)
    head = f.read(1000)
    m.talk("delete", json.dumps({"filter": {"text": {"$exists": True}}}))
    whole = head + f.read()
equal("and stays one snapshot while it is open", (len(whole), whole.count(b"\n")), (size, 5005))
shutil.copyfile(m.at("vectors.jsonl"), join(m.dir, "copy"))
equal("sendfile copies all of it", open(join(m.dir, "copy"), "rb").read(), m.read("vectors.jsonl"))
equal("cp does", subprocess.run(["cp", m.at("vectors.npy"), join(m.dir, "copy")]).returncode, 0)
equal("all", open(join(m.dir, "copy"), "rb").read(), m.read("vectors.npy"))
if shutil.which("node"):
    subprocess.run(["node", "-e", 'require("fs").copyFileSync(process.argv[1], process.argv[2])', m.at("vectors.jsonl"), join(m.dir, "node")], check=True)
    equal("node's copyFile does too", open(join(m.dir, "node"), "rb").read(), m.read("vectors.jsonl"))

# an empty index
os.mkdir(join(m.path, "b", "empty"))
equal("an empty index exports nothing", [open(join(m.path, "b", "empty", f), "rb").read() for f in ("vectors.msgpack", "vectors.jsonl", "vectors.keys")], [b"", b"", b""])
done = subprocess.run(["cat"] + [join(m.path, "b", "empty", f) for f in ("stats", "errors", "config")], stdout=subprocess.PIPE)
equal("and has stats", done.returncode, 0)

# all at once, while records come and go
failures = []


def look():
    try:
        for _ in range(40):
            keys("q.json")
            links("k1")
            numpy.load(m.at("vectors.npy"))
            m.stats()
            subprocess.run(["cp", m.at("vectors.jsonl"), "/dev/null"], check=True)
    except Exception as e:
        failures.append(repr(e))


threads = [threading.Thread(target=look) for _ in range(3)]
[t.start() for t in threads]
for i in range(200):
    m.write("vectors/z%d.msgpack" % (i % 10), packed("x", [i + 1, 1, 1], n=i))
[t.join() for t in threads]
equal("views hold while records change", failures, [])

# a reader who takes his time: what he reads is a copy, and keeps no page of the index from being used again
os.mkdir(join(m.path, "b", "slow"))
m.index = join(m.path, "b", "slow")
m.write("config", "dimension = 64\n")
VECTORS = 1500


def replace_all(n):
    m.write("insert", b"".join(packed("k%04d" % i, [float(i % 50 + 1), float(n)] + [1.0] * 62, n=n) for i in range(VECTORS)))


replace_all(0)
replace_all(1)
before = int(m.stats()["file_bytes"])
slow = open(m.at("vectors.msgpack"), "rb", buffering=0)
read = slow.read(100)
for n in range(2, 32):
    replace_all(n)
after = int(m.stats()["file_bytes"])
check("while a reader is in the middle of an export, thirty times its bytes are written and the file grows by less than three",
      after < 4 * before, before, after)
while True:
    more = slow.read(1 << 16)
    if not more:
        break
    read += more
unpacker = msgpack.Unpacker(raw=False)
unpacker.feed(read)
equal("and the reader gets the records as they were", {(r["key"], r["metadata"]["n"]) for r in unpacker}, {("k%04d" % i, 1) for i in range(VECTORS)})
slow.close()
finish()
