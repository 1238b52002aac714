#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""query: a conversation on one descriptor, from every kind of program."""
import os
import subprocess
import threading

from harness import *

m = Mount()
for i in range(1, 6):
    m.write("vectors/k%d.msgpack" % i, packed("k%d" % i, [i, 1, 0], n=i))

Q = b'{"queryVector": [1, 1, 0], "topK": 2}\n'
keys = lambda answer: [v["key"] for v in json.loads(answer)["vectors"]]

# raw descriptors
fd = os.open(m.at("query"), os.O_RDWR)
equal("reading before writing gives end of file", os.read(fd, 100), b"")
os.write(fd, Q)
equal("a raw descriptor reads its answer behind its question", keys(os.read(fd, 4096)), ["k1", "k2"])
equal("then end of file", os.read(fd, 4096), b"")
os.write(fd, b'{"key": "k5", "topK": 1}')
equal("and the next question may follow", keys(os.read(fd, 4096)), ["k4"])
os.write(fd, Q)
equal("an answer need not be read to its end", len(os.read(fd, 5)), 5)
os.write(fd, b'{"key": "k1", "topK": 1}')
equal("before the next question", keys(os.read(fd, 4096)), ["k2"])
os.write(fd, Q)
equal("a small buffer reads on where it stopped", keys(os.read(fd, 10) + os.read(fd, 7) + read_all(fd)), ["k1", "k2"])
os.lseek(fd, 0, os.SEEK_SET)
os.write(fd, Q)
os.lseek(fd, 0, os.SEEK_SET)
equal("after a seek to 0 the answer begins at 0", keys(read_all(fd)), ["k1", "k2"])
os.lseek(fd, 0, os.SEEK_SET)
equal("and can be read again", keys(read_all(fd)), ["k1", "k2"])
os.pwrite(fd, Q, 0)
equal("pwrite and pread at 0 work", keys(os.pread(fd, 4096, 0)), ["k1", "k2"])
equal("pread goes on at an offset of the answer", os.pread(fd, 5, 3), os.pread(fd, 4096, 0)[3:8])
for piece in (Q[:5], Q[5:20], Q[20:]):
    os.write(fd, piece)
equal("a question may come in pieces", keys(read_all(fd)), ["k1", "k2"])

# wrong questions
fails("a wrong field fails in the write", errno.EINVAL, os.write, fd, b'{"queryVector": [1,1,0], "topk": 2}')
check("errors names it", "topk" in m.errors()[-1], m.errors()[-1])
os.write(fd, Q)
equal("and does not spoil the next question", keys(read_all(fd)), ["k1", "k2"])
fails("a vector of the wrong dimension fails in the write", errno.EINVAL, os.write, fd, b'{"queryVector": [1,1]}')
check("errors says both dimensions", "2" in m.errors()[-1] and "3" in m.errors()[-1], m.errors()[-1])
fails("reading after that fails too", errno.EINVAL, os.read, fd, 100)
equal("once", os.read(fd, 100), b"")
os.write(fd, b'{"topK": ')
fails("an incomplete question fails in the read", errno.EINVAL, os.read, fd, 100)
os.write(fd, Q)
equal("and is forgotten", keys(read_all(fd)), ["k1", "k2"])
fails("two questions at once are too many", errno.EINVAL, os.write, fd, Q + Q)
fails("a question to another index is refused", errno.EINVAL, os.write, fd, b'{"indexName": "other", "topK": 1}')
os.write(fd, b'{"indexName": "i", "vectorBucketName": "b", "topK": 1}')
equal("one that names this index is answered", keys(read_all(fd)), ["k1"])
os.ftruncate(fd, 0)
os.write(fd, Q)
equal("truncating changes nothing", keys(read_all(fd)), ["k1", "k2"])
os.close(fd)
equal("the errors come one a failure, with no repetition", len([e for e in m.errors() if "topk" in e]), 1)

# formats
equal("msgpack is answered in msgpack", [v["key"] for v in m.ask({"queryVector": [1, 1, 0], "topK": 1}, "msgpack")["vectors"]], ["k1"])
vector = numpy.array([1, 1, 0], dtype="<f4").tobytes()
equal("with the vector as bytes too", msgpack.unpackb(m.talk("query", msgpack.packb({"queryVector": vector, "topK": 1})))["vectors"], [{"key": "k1"}])
answer = m.ask({"queryVector": {"float32": [1, 1, 0]}, "returnDistance": True, "returnMetadata": True, "returnData": True, "topK": 1})
equal("what is asked for is returned", answer["vectors"], [{"key": "k1", "distance": 0.0, "metadata": {"n": 1}, "data": {"float32": [1.0, 1.0, 0.0]}}])
equal("with the metric", answer["distanceMetric"], "cosine")
equal("and the number of matches", answer["matched"], 5)
many = m.ask({"queryVectors": [[1, 1, 0], [5, 1, 0]], "topK": 1})
equal("many questions at once are answered in order", [r["vectors"][0]["key"] for r in many["results"]], ["k1", "k5"])
equal("{} lists the first records in the order of keys", [v["key"] for v in m.ask({})["vectors"]], ["k1", "k2", "k3", "k4", "k5"])
equal("a filter selects", [v["key"] for v in m.ask({"filter": {"n": {"$gt": 3}}})["vectors"]], ["k4", "k5"])
large = b'{"queryVectors": [' + b", ".join([b"[1.0, 1.0, 0.0]"] * 10000) + b'], "topK": 1' + b" " * 3000000 + b"}"
equal("a question of megabytes is taken", len(json.loads(m.talk("query", large))["results"]), 10000)

# programs
with open(m.at("query"), "r+b") as f:
    f.write(Q)
    equal("Python, buffered", keys(f.read()), ["k1", "k2"])
    f.write(b'{"key": "k5", "topK": 1}')
    f.flush()
    equal("Python, buffered, a second time", keys(f.read()), ["k4"])
    f.seek(0)
    f.write(Q)
    f.seek(0)
    equal("Python, buffered, with seeks", keys(f.read()), ["k1", "k2"])
with open(m.at("query"), "w+") as f:
    f.write(Q.decode())
    f.seek(0)
    equal("Python, text, opened with w+", keys(f.read()), ["k1", "k2"])
with open(m.at("query"), "r+b", buffering=0) as f:
    f.write(Q)
    equal("Python, unbuffered", keys(f.read()), ["k1", "k2"])


def program(sentence, args, expected=("k1", "k2")):
    if not shutil.which(args[0]):
        return
    done = subprocess.run([a.replace("QUERY", m.at("query")) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        got = [tuple(keys(line)) for line in done.stdout.splitlines()]
    except ValueError:
        got = done.stdout
    check(sentence, got and got == [tuple(expected)] * len(got), "got: %r" % (got,), done.stderr.decode())


text = Q.decode().strip()
program("bash, exec 3<>", ["bash", "-c", "exec 3<>QUERY; echo '%s' >&3; cat <&3; echo '%s' >&3; cat <&3" % (text, text)])
program("bash, read -u", ["bash", "-c", "exec 3<>QUERY; echo '%s' >&3; read -r -u 3 line; echo \"$line\"" % text])
program("bash, a question in two pieces", ["bash", "-c", "exec 3<>QUERY; printf '%s' >&3; printf '%s' >&3; cat <&3" % (text[:9], text[9:])])
program("dash", ["dash", "-c", "exec 3<>QUERY; echo '%s' >&3; cat <&3" % text])
program("perl, sysread", ["perl", "-e", 'open F, "+<", "QUERY" or die; syswrite F, q(%s); sysread F, $x, 65536; print $x' % text])
program("perl, buffered", ["perl", "-e", 'open F, "+<", "QUERY" or die; print F q(%s); seek F, 0, 1; print <F>' % text])
program("perl, buffered, sought to 0", ["perl", "-e", 'open F, "+<", "QUERY" or die; print F q(%s); seek F, 0, 0; print <F>' % text])
program("node, positions of its own", ["node", "-e", 'const fs=require("fs");const f=fs.openSync("QUERY","r+");fs.writeSync(f,\'%s\',0);'
                                       'const b=Buffer.alloc(65536);const n=fs.readSync(f,b,0,65536,0);process.stdout.write(b.slice(0,n))' % text])
program("node, the descriptor's position", ["node", "-e", 'const fs=require("fs");const f=fs.openSync("QUERY","r+");fs.writeSync(f,\'%s\');'
                                            'process.stdout.write(fs.readFileSync(f))' % text])
java = """import java.io.*; public class Ask { public static void main(String[] a) throws Exception {
RandomAccessFile f = new RandomAccessFile(a[0], "rw"); f.write(a[1].getBytes()); byte[] b = new byte[65536]; int n = f.read(b); System.out.write(b, 0, n); System.out.flush(); } }"""
if shutil.which("java"):
    with open(os.path.join(m.dir, "Ask.java"), "w") as f:
        f.write(java)
    program("Java, RandomAccessFile", ["java", os.path.join(m.dir, "Ask.java"), "QUERY", text])

stdio = r"""
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
compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
if compiler:
    with open(os.path.join(m.dir, "ask.c"), "w") as f:
        f.write(stdio)
    ask = os.path.join(m.dir, "ask")
    subprocess.run([compiler, "-o", ask, os.path.join(m.dir, "ask.c")], check=True)
    for how, what in (("rewind", "rewound"), ("flush", "flushed"), ("current", "sought to where it is")):
        program("C, stdio, %s" % what, [ask, "QUERY", text, how])
    long = text[:-1] + " " * 6000 + "}"
    for how, what in (("rewind", "rewound"), ("flush", "flushed"), ("current", "sought to where it is")):
        program("C, stdio, a long question, %s" % what, [ask, "QUERY", long, how])

# opened otherwise
equal("opened for reading only it gives end of file", m.read("query"), b"")
m.write("query", Q)
check("opened for writing only a good question is taken", True)
fails("and a wrong one refused", errno.EINVAL, m.write, "query", b'{"topK": "many"}')
fails("an incomplete one at close", errno.EINVAL, m.write, "query", b'{"topK": ')
equal("its size is 0", os.stat(m.at("query")).st_size, 0)

# many at once
wrong = []


def client(i):
    f = os.open(m.at("query"), os.O_RDWR)
    for j in range(50):
        key = "k%d" % (1 + (i + j) % 5)
        os.write(f, json.dumps({"filter": {"n": int(key[1:])}}).encode())
        got = keys(read_all(f))
        if got != [key]:
            wrong.append((key, got))
    os.close(f)


threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
equal("eight clients at once each get their own answers", wrong, [])
m.write("vectors/new.msgpack", packed("new", [0, 0, 1]))
equal("a record is found as soon as its file is closed", m.ask({"queryVector": [0, 0, 1], "topK": 1})["vectors"][0]["key"], "new")
os.unlink(m.at("vectors/new.msgpack"))
check("and not any more once it is deleted", m.ask({"queryVector": [0, 0, 1], "topK": 1})["vectors"][0]["key"] != "new")
finish()
