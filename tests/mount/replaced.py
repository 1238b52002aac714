#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Files that are read while they are replaced, whole and of one version, by whatever call; and files that are opened by a descriptor, not by a name."""
import threading

from harness import *

SECONDS = 2
m = Mount()
over = threading.Event()


def text(n):
    """Of two lengths in turn, so that the size of one version shows in the other."""
    return json.dumps({"data": [1, 2, n % 1000], "metadata": {"n": n, "pad": "x" * (1900 if n % 2 else 3)}})


def by_rename(n):
    m.write("vectors/.k.tmp", text(n))
    os.rename(m.at("vectors", ".k.tmp"), m.at("vectors", "k.json"))


def by_write(n):
    m.write("vectors/k.json", text(n))


def by_insert(n):
    m.write("insert", '{"key": "k", ' + text(n)[1:])


def question(n):
    m.write("queries/.q.tmp", json.dumps({"topK": 1 + n % 2, "prefix": "x" * (1900 if n % 2 else 3)}))
    os.rename(m.at("queries", ".q.tmp"), m.at("queries", "q.json"))


def replace(how):
    n = 0
    while not over.is_set():
        n += 1
        how(n)


def bytes_sent(fd, size):
    """By sendfile, as servers and node do it: so much as fstat has said, or to the end."""
    out = os.memfd_create("copy")
    sent = 0
    while size is None or sent < size:
        n = os.sendfile(out, fd, sent, (1 << 20) if size is None else size - sent)
        if n == 0:
            break
        sent += n
    data = os.pread(out, 1 << 20, 0)
    os.close(out)
    return data


for how, names in (by_rename, ("vectors/k.msgpack", "vectors/k.json")), (by_write, ("vectors/k.msgpack",)), (by_insert, ("vectors/k.msgpack",)), (question, ("queries/q.json",)):
    how(0)
    for name in names:
        for sized in False, True:
            over.clear()
            writer = threading.Thread(target=replace, args=(how,))
            writer.start()
            end, tried, wrong = time.monotonic() + SECONDS / 2, 0, []
            while time.monotonic() < end:
                try:
                    fd = os.open(m.at(name), os.O_RDONLY)
                    sent = bytes_sent(fd, os.fstat(fd).st_size if sized else None)
                    read = os.pread(fd, 1 << 20, 0)
                    os.close(fd)
                    if sent != read:
                        wrong.append((len(sent), len(read)))
                except OSError as e:
                    wrong.append(str(e))
                tried += 1
            over.set()
            writer.join()
            check("%s, replaced %s, is sent whole%s" % (name, how.__name__, " after fstat" if sized else ""), not wrong and tried, "%d of %d: %s" % (len(wrong), tried, wrong[:3]))

# by a descriptor
m.write("vectors/k.json", text(1))
for path in "vectors/k.json", "queries/q.json", "config":
    old = os.open(m.at(path), os.O_RDONLY)
    data = {"vectors/k.json": text(2), "queries/q.json": '{"topK": 9}', "config": "top_k = 9\n"}[path]
    fd = os.open("/proc/self/fd/%d" % old, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, data.encode())
    os.close(fd)
    check("%s can be opened for writing by a descriptor" % path, b"9" in m.read(path) if path != "vectors/k.json" else json.loads(m.read(path))["metadata"]["n"] == 2)
    os.close(old)
for how in "a reader", "O_PATH":
    m.write("vectors/k.json", text(3))
    old = os.open(m.at("vectors/k.json"), os.O_RDONLY if how == "a reader" else os.O_PATH)
    m.write("vectors/k.json", text(4))
    fd = os.open("/proc/self/fd/%d" % old, os.O_RDONLY)
    equal("a record that was replaced since can be opened by %s" % how, len(bytes_sent(fd, None)), len(os.pread(fd, 1 << 20, 0)))
    os.close(fd)
    os.close(old)


# threads of one process
def in_a_thread(call):
    got = []
    thread = threading.Thread(target=lambda: got.append(call()))
    thread.start()
    thread.join()
    return got[0] if got else None


config = m.at("config")
os.unlink(config)
equal("what one thread has deleted is gone for the next", in_a_thread(lambda: os.path.exists(config)), False)
check("which makes it anew", in_a_thread(lambda: os.close(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)) is None))
check("and both see it", os.path.exists(config) and in_a_thread(lambda: os.path.exists(config)))
m.stop()
finish()
