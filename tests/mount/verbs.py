#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The conversation that insert, query, update and delete have in common: every verb, in both formats, from every kind of program; errors
that do not spoil what follows; and what a descriptor that cannot read gets to know."""
import subprocess

from harness import *

m = Mount()
FULL = [{"key": "k%d" % i, "data": [i, 1, 0], "metadata": {"n": i}} for i in range(1, 6)]
# verb, a request, its reply, one that is refused, one that is incomplete
VERBS = (
    ("insert", {"key": "k9", "data": [9, 1, 0]}, {"inserted": 1, "replaced": 0, "skipped": 0}, {"key": "k9", "data": [9, 1]}),
    ("query", {"queryVector": [2, 1, 0], "topK": 2}, {"vectors": [{"key": "k2"}, {"key": "k3"}], "distanceMetric": "cosine", "matched": 5, "exact": True},
     {"queryVector": [2, 1, 0], "topk": 2}),
    ("update", {"keys": ["k1", "nobody"], "set": {"n": 7}}, {"updated": 1, "unknown": 1}, {"key": "k1", "set": {"n": None}}),
    ("delete", {"keys": ["k1", "k2", "nobody"]}, {"deleted": 2, "unknown": 1}, {"filter": {}}),
)
ENCODE = {"json": lambda value: json.dumps(value).encode(), "msgpack": msgpack.packb}
DECODE = {"json": json.loads, "msgpack": msgpack.unpackb}


def reset():
    m.talk("delete", json.dumps({"filter": {"$or": [{"n": {"$exists": True}}, {"n": {"$exists": False}}]}}))
    m.talk("insert", json.dumps(FULL))


def state():
    return m.ask({"returnMetadata": True, "topK": 100})["vectors"]


def done(verb):
    """Has the request of the table been carried out?"""
    now = {v["key"]: v["metadata"].get("n") for v in state()}
    return {"insert": "k9" in now, "query": True, "update": now.get("k1") == 7, "delete": "k1" not in now}[verb]


def no_change(sentence, before):
    equal(sentence, state(), before)


# ---- Python ----

for form in ("json", "msgpack"):
    encode, decode = ENCODE[form], DECODE[form]
    for verb, request, reply, wrong in VERBS:
        what = "%s, %s: " % (verb, form)
        reset()
        fd = os.open(m.at(verb), os.O_RDWR)
        equal(what + "reading before writing gives end of file", os.read(fd, 100), b"")
        os.write(fd, encode(request))
        equal(what + "the reply is read on the same descriptor", decode(read_all(fd)), reply)
        check(what + "and the request carried out", done(verb))
        equal(what + "then end of file", os.read(fd, 100), b"")
        reset()
        before = state()
        fails(what + "a wrong request fails in the write", errno.EINVAL, os.write, fd, encode(wrong))
        no_change(what + "and does nothing", before)
        os.write(fd, encode(request))
        equal(what + "nor spoils the next", decode(read_all(fd)), reply)
        reset()
        os.write(fd, encode(request)[:-1])
        fails(what + "an incomplete one fails in the read", errno.EINVAL, os.read, fd, 100)
        no_change(what + "and does nothing either", before)
        for byte in encode(request):
            os.write(fd, bytes([byte]))
        equal(what + "byte by byte is as good", decode(read_all(fd)), reply)
        reset()
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, encode(request))
        os.lseek(fd, 0, os.SEEK_SET)
        small = b"".join(iter(lambda: os.read(fd, 3), b""))
        equal(what + "after a seek to 0 the reply begins at 0, however small the pieces that it is read in", decode(small), reply)
        reset()
        os.pwrite(fd, encode(request), 0)
        equal(what + "pwrite and pread at 0", decode(os.pread(fd, 65536, 0)), reply)
        reset()
        os.pwrite(fd, encode(request), 5000)
        equal(what + "a reply read from the end of the request, wherever that was", decode(os.pread(fd, 65536, 5000 + len(encode(request)))), reply)
        os.close(fd)
        for mode in ("r+b", "w+b"):
            reset()
            with open(m.at(verb), mode) as f:
                f.write(encode(request))
                f.flush()
                equal(what + "Python, buffered, %s, flushed" % mode, decode(f.read()), reply)
                reset()
                f.seek(0)
                f.write(encode(request))
                f.seek(0)
                equal(what + "Python, buffered, %s, sought" % mode, decode(f.read()), reply)
        reset()
        with open(m.at(verb), "r+b", buffering=0) as f:
            f.write(encode(request))
            equal(what + "Python, unbuffered", decode(f.read()), reply)

        # for writing only: close has the verdict
        reset()
        m.write(verb, encode(request))
        check(what + "opened for writing only it is carried out at close", done(verb))
        reset()
        fails(what + "a wrong one fails", errno.EINVAL, m.write, verb, encode(wrong))
        fails(what + "an incomplete one at close", errno.EINVAL, m.write, verb, encode(request)[:-1])
        no_change(what + "neither does anything", before)
        fd = os.open(m.at(verb), os.O_WRONLY)
        fails(what + "what cannot be read fails the read", errno.EBADF, os.read, fd, 1)
        os.close(fd)
        equal(what + "opened for reading only it is empty", m.read(verb), b"")
        m.write(verb, b"")
        no_change(what + "nothing written does nothing", before)

# what a write had said was taken is lost with a later one that fails: nobody overlooks that
reset()
before = state()
fd = os.open(m.at("insert"), os.O_RDWR)
os.write(fd, b'{"key": "lost", "data": [1, 2, 3]}')
fails("a wrong record behind a good one fails in the write", errno.EINVAL, os.write, fd, b'{"key": "wrong", "data": [1]}')
fails("so does what is written after it", errno.EINVAL, os.write, fd, b'{"key": "later", "data": [1, 2, 3]}')
fails("and fsync", errno.EINVAL, os.fsync, fd)
fails("and the read, which tells of it", errno.EINVAL, os.read, fd, 100)
no_change("nothing of it is there", before)
os.write(fd, b'{"key": "k9", "data": [1, 2, 3]}')
equal("then the next request is taken", json.loads(read_all(fd))["inserted"], 1)
os.write(fd, b'{"key": "lost", "data": [1, 2, 3]}')
fails("without a read", errno.EINVAL, os.write, fd, b'{"key": "wrong", "data": [1]}')
fails("the close tells", errno.EINVAL, os.close, fd)

# a request that only fails when it is carried out
reset()
m.write("config", "non_filterable = secret\n")
fd = os.open(m.at("delete"), os.O_RDWR)
fails("a field that is not filterable cannot be deleted by", errno.EINVAL, os.write, fd, b'{"filter": {"$not": {"secret": 1}}}')
m.write("config", "non_filterable =\n")
os.write(fd, b'{"filter": {"$not": {"secret": 1}}}')
question = os.open(m.at("query"), os.O_RDWR)
os.write(question, b'{"facets": ["secret"]}')
nested = os.open(m.at("query"), os.O_RDWR)
os.write(nested, b'{"filter": {"$or": [{"n": 1}, {"$and": [{"n": 2}, {"$not": {"secret": 1}}]}]}}')
m.write("config", "non_filterable = secret\n")
fails("nor by one that is not any more when the request is carried out", errno.EINVAL, os.read, fd, 100)
check("as errors says", "'secret' is in non_filterable now" in m.errors()[-1], m.errors()[-1])
fails("nor does a question count its values", errno.EINVAL, os.read, question, 100)
fails("nor does it matter where in a filter the field stands", errno.EINVAL, os.read, nested, 100)
os.close(question)
os.close(nested)
equal("and nothing is deleted", len(state()), 5)
os.write(fd, b'{"filter": {"n": 1}}')
equal("and the next request may be another", json.loads(read_all(fd)), {"deleted": 1, "unknown": 0})
os.write(fd, msgpack.packb({"keys": ["k2"]}))
equal("also in the other format", msgpack.unpackb(read_all(fd)), {"deleted": 1, "unknown": 0})
os.write(fd, b'"k3" "k4"\n"nobody"')
equal("delete takes a stream of strings", json.loads(read_all(fd)), {"deleted": 2, "unknown": 1})
os.write(fd, msgpack.packb("k5") + msgpack.packb("nobody"))
equal("in msgpack too", msgpack.unpackb(read_all(fd)), {"deleted": 1, "unknown": 1})
for words in (b"k1", b"k1\nk2\n", b"nonsense {", b"-", b"null", b"true", b"5"):
    fails("delete refuses %r" % words, errno.EINVAL, lambda: (os.write(fd, words), os.read(fd, 100)))
os.close(fd)
reset()
equal("of equal keys in one insert the last wins, and counts once",
      json.loads(m.talk("insert", "".join(json.dumps({"key": "new", "data": [1, i, 0]}) for i in range(1, 4)))), {"inserted": 1, "replaced": 0, "skipped": 0})
equal("updates of one stream build on one another",
      (json.loads(m.talk("update", '{"key": "k1", "set": {"a": 1}} {"filter": {"a": 1}, "set": {"b": 2}} {"filter": {"b": 2}, "unset": ["n", "a"]}')),
       m.ask({"keys": ["k1"], "returnMetadata": True})["vectors"][0]["metadata"]), ({"updated": 3, "unknown": 0}, {"b": 2}))
before = state()
fails("a stream of updates is one transaction", errno.EINVAL, m.write, "update", '{"key": "k2", "set": {"a": 1}} {"key": "k3", "set": {"a": {}}}')
fails("and so is one of deletions", errno.EINVAL, m.write, "delete", '"k2" "k3" {"filter": {}}')
no_change("nothing of either is done", before)
old = m.read("vectors", "k4.json")
inode = os.stat(m.at("vectors", "k4.msgpack")).st_ino
m.talk("update", '{"key": "k4", "set": {"n": 44}}')
equal("an update leaves the vector as it was", json.loads(m.read("vectors", "k4.json"))["data"], json.loads(old)["data"])
equal("and the file the same file", os.stat(m.at("vectors", "k4.msgpack")).st_ino, inode)

# ---- an index that has no config yet: there is no graph to tell ----

bare = os.path.join(m.path, "b", "bare")
os.mkdir(bare)


def ask_bare(verb, request):
    fd = os.open(os.path.join(bare, verb), os.O_RDWR)
    try:
        os.write(fd, request.encode())
        return json.loads(read_all(fd))
    finally:
        os.close(fd)


equal("without a config a key that is not there is deleted", ask_bare("delete", '{"keys": ["a"]}'), {"deleted": 0, "unknown": 1})
equal("nothing is deleted by a filter", ask_bare("delete", '{"filter": {"a": 1}}')["deleted"], 0)
equal("nothing is updated", ask_bare("update", '{"key": "a", "set": {"b": 1}}'), {"updated": 0, "unknown": 1})
fails("a record is refused", errno.EINVAL, ask_bare, "insert", '{"key": "a", "data": [1, 2, 3]}')
fails("a question too", errno.EINVAL, ask_bare, "query", '{"queryVector": [1, 2, 3], "topK": 1}')
os.rmdir(bare)

# ---- other programs, in JSON ----

C = r"""
#include <stdio.h>
int main(int n, char **a) {
	char b[65536]; size_t got; FILE *f = fopen(a[1], "r+");
	if (!f) return 1;
	fputs(a[2], f);
	if (a[3][0] == 'r') rewind(f); else if (a[3][0] == 'c') fseek(f, 0, SEEK_CUR); else fflush(f);
	got = fread(b, 1, sizeof b, f);
	fwrite(b, 1, got, stdout);
	return ferror(f) != 0;
}"""
NODE = "const fs = require('fs'), [file, text] = process.argv.slice(1), f = fs.openSync(file, 'r+');"
PROGRAMS = [
    ("bash", ["bash", "-c", 'exec 3<>"$1"; echo "$2" >&3; cat <&3', "bash"]),
    ("bash, read -u", ["bash", "-c", 'exec 3<>"$1"; echo "$2" >&3; read -r -u 3 line; echo "$line"', "bash"]),
    ("bash, in two pieces", ["bash", "-c", 'exec 3<>"$1"; printf %s "${2:0:7}" >&3; printf %s "${2:7}" >&3; cat <&3', "bash"]),
    ("dash", ["dash", "-c", 'exec 3<>"$1"; echo "$2" >&3; cat <&3', "dash"]),
    ("perl, sysread", ["perl", "-e", 'open F, "+<", $ARGV[0] or die; syswrite F, $ARGV[1]; sysread F, $x, 65536; print $x']),
    ("perl, buffered", ["perl", "-e", 'open F, "+<", $ARGV[0] or die; print F $ARGV[1]; seek F, 0, 1; print <F>']),
    ("perl, sought to 0", ["perl", "-e", 'open F, "+<", $ARGV[0] or die; print F $ARGV[1]; seek F, 0, 0; print <F>']),
    ("node, positions of its own", ["node", "-e", NODE + "fs.writeSync(f, text, 0); const b = Buffer.alloc(65536);"
                                    "process.stdout.write(b.slice(0, fs.readSync(f, b, 0, 65536, 0)))"]),
    ("node, the descriptor's position", ["node", "-e", NODE + "fs.writeSync(f, text); process.stdout.write(fs.readFileSync(f))"]),
    ("node, promises", ["node", "-e", "const [file, text] = process.argv.slice(1); (async () => { const f = await require('fs').promises.open(file, 'r+');"
                        "await f.write(text); process.stdout.write(await f.readFile()); await f.close() })()"]),
]
compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
if compiler:
    with open(os.path.join(m.dir, "ask.c"), "w") as f:
        f.write(C)
    subprocess.run([compiler, "-o", os.path.join(m.dir, "ask"), os.path.join(m.dir, "ask.c")], check=True)
    PROGRAMS += [("C, stdio, %s" % how, [os.path.join(m.dir, "ask")]) for how in ("rewind", "flush", "current")]
for name, command in PROGRAMS:
    if not shutil.which(command[0]):
        continue
    for verb, request, reply, wrong in VERBS:
        reset()
        ran = subprocess.run(command + [m.at(verb), json.dumps(request)] + [name.split()[-1]] * name.startswith("C,"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            got = json.loads(ran.stdout)
        except ValueError:
            got = ran.stdout
        check("%s: %s" % (name, verb), got == reply and done(verb), "got: %r" % (got,), ran.stderr.decode())
reset()
ran = subprocess.run(["bash", "-c", 'echo \'{"keys": ["k1"]}\' >"$1"', "bash", m.at("delete")], stderr=subprocess.PIPE)
check("a shell's > carries a request out", ran.returncode == 0 and done("delete"))
ran = subprocess.run(["bash", "-c", 'echo \'{"filter": {}}\' >"$1"', "bash", m.at("delete")], stderr=subprocess.PIPE)
check("and tells that it failed", ran.returncode != 0 and b"Invalid argument" in ran.stderr, ran.stderr)
finish()
