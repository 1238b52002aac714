#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What stays behind when a name goes: temporary files that became records, descriptors of an index that was removed, a write that failed in the
middle, and a daemon that was started without standard descriptors."""
import signal
import threading
from os.path import join

from harness import *

m = Mount(dimension=3)


def uncommitted():
    with open(join(m.path, ".vecfs", "metrics")) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("vecfs_uncommitted_bytes "))


def eventually(wanted):
    """close(2) returns before the kernel tells of it."""
    for _ in range(100):
        if uncommitted() == wanted:
            break
        time.sleep(0.05)
    return uncommitted()


# temporary files
for i in range(300):
    m.write("vectors/.t.tmp", json.dumps({"data": [1, 2, i]}))
    os.rename(m.at("vectors", ".t.tmp"), m.at("vectors", "r%d.json" % i))
equal("300 records by way of a temporary file bind no memory", eventually(0), 0)
equal("and are there", len(os.listdir(m.at("vectors"))), 300)
for how, end in ("renamed", lambda a: os.rename(a, m.at("vectors", "open.json"))), ("unlinked", os.unlink):
    with open(m.at("vectors", ".open.tmp"), "w+") as f:
        f.write('{"data": [1, 2, 3]}')
        f.flush()
        end(m.at("vectors", ".open.tmp"))
        f.seek(0)
        equal("an open temporary file that was %s is read on" % how, f.read(), '{"data": [1, 2, 3]}')
        f.write(" ")
        f.flush()
        equal("and written on", os.fstat(f.fileno()).st_size, 20)
        check("and bound while it is open", uncommitted() > 0)
    equal("and not after it is closed", eventually(0), 0)

# what is written on after the name became a proper one goes there
with open(m.at("vectors", ".on.tmp"), "wb", buffering=0) as f:
    f.write(b'{"data": [1, 2, 3]}')
    os.rename(m.at("vectors", ".on.tmp"), m.at("vectors", "on.json"))
    os.pwrite(f.fileno(), b"7", 10)
    equal("a record that is written on", json.loads(m.read("vectors/on.json"))["data"]["float32"], [7, 2, 3])
    fails("is refused what is no record", errno.EINVAL, f.write, b"x")
    check("in words", "byte 20" in m.read("errors").decode().splitlines()[-1], m.read("errors"))
    equal("and stays", json.loads(m.read("vectors/on.json"))["data"]["float32"], [7, 2, 3])
    f.truncate(0)
    equal("also when it is cut to nothing", json.loads(m.read("vectors/on.json"))["data"]["float32"], [7, 2, 3])
    os.pwrite(f.fileno(), b'{"data": [8, 2, 3]}', 0)
    os.rename(m.at("vectors", "on.json"), m.at("vectors", "further.json"))
    os.pwrite(f.fileno(), b"9", 10)
    equal("under a further name too", json.loads(m.read("vectors/further.json"))["data"]["float32"], [9, 2, 3])
    check("and not under the old one", not os.path.exists(m.at("vectors", "on.json")))
    os.unlink(m.at("vectors", "further.json"))
    os.pwrite(f.fileno(), b"5", 10)
    check("without a name it is nobody's", not os.path.exists(m.at("vectors", "further.json")))
for to, first, then, seen in ("queries/on.json", b'{"topK": 1}', b"  ", b'{"topK": 1}  '), ("config", b"top_k = 7\n", b"recall = 0.9\n", b"recall = 0.9 "):
    directory = os.path.dirname(to)
    with open(m.at(directory, ".on.tmp"), "wb", buffering=0) as f:
        f.write(first)
        os.rename(m.at(directory, ".on.tmp"), m.at(to))
        f.write(then)
        check("%s that is written on" % to, seen in m.read(to), m.read(to))

# a file that is renamed, replaced or removed while it is being written
for directory, first, second in ("queries", b'{"topK": 1}', b'{"topK": 2}'), ("vectors", b'{"data": [1, 1, 1]}', b'{"data": [2, 2, 2]}'):
    def read(name):
        got = json.loads(m.read(directory + "/" + name))
        return got.get("topK") or got["data"]["float32"][0]
    for there in False, True:
        old, new = (m.at(directory, "moving%d.json" % there), m.at(directory, "moved%d.json" % there))
        if there:
            m.write("%s/moving1.json" % directory, first)
        with open(old, "wb", buffering=0) as f:
            f.write(second[:5])
            os.rename(old, new)
            f.write(second[5:])
        equal("%s: being %s, a file goes on under its new name" % (directory, "written again" if there else "made"), read("moved%d.json" % there), 2)
        check("%s: and does not come back under the old one" % directory, not os.path.exists(old))
    for how in "renamed over", "committed over", "removed":
        m.write(directory + "/w.json", first)
        with open(m.at(directory, "w.json"), "wb", buffering=0) as f:
            f.write(first)
            if how == "removed":
                os.unlink(m.at(directory, "w.json"))
            else:
                other = "other.json" if how == "renamed over" else ".other.tmp"
                m.write(directory + "/" + other, second)
                os.rename(m.at(directory, other), m.at(directory, "w.json"))
        if how == "removed":
            check("%s: what is removed while it is written stays away" % directory, not os.path.exists(m.at(directory, "w.json")))
        else:
            equal("%s: what is %s while it is written stays replaced" % (directory, how), read("w.json"), 2)

    # one that is being made takes the name from who writes to the one that has it
    m.write(directory + "/taken.json", first)
    with open(m.at(directory, "taken.json"), "wb", buffering=0) as old:
        old.write(first)
        with open(m.at(directory, "taker.json"), "wb", buffering=0) as new:
            new.write(second)
            os.rename(m.at(directory, "taker.json"), m.at(directory, "taken.json"))
    equal("%s: what is made and renamed over another stays" % directory, read("taken.json"), 2)

# a temporary file that is opened while it is renamed is written on like any other
wrong = []
for i in range(60):
    m.write("vectors/.race.tmp", b'{"data": [1, 2, 3]}')
    opened = []

    def open_it():
        try:
            opened.append(os.open(m.at("vectors", ".race.tmp"), os.O_WRONLY))
        except FileNotFoundError:
            pass
    thread = threading.Thread(target=open_it)
    thread.start()
    os.rename(m.at("vectors", ".race.tmp"), m.at("vectors", "race.json"))
    thread.join()
    for fd in opened:
        os.pwrite(fd, b"7", 10)
        os.close(fd)
        if json.loads(m.read("vectors/race.json"))["data"]["float32"][0] != 7:
            wrong.append(i)
equal("who opens it while it is renamed", wrong, [])

# a write of a saved question that fails in the middle
m.write("queries/q.json", '{"topK": 1}')
fd = os.open(m.at("queries/q.json"), os.O_WRONLY | os.O_TRUNC)
with_error = 0
for _ in range(5):
    try:
        os.write(fd, b" " * (1 << 20))
    except OSError as e:
        with_error = e.errno
equal("more than 4 MiB are too much for a saved question", with_error, errno.EFBIG)
fails("and fsync says so again", errno.EFBIG, os.fsync, fd)
fails("and close too", errno.EFBIG, os.close, fd)
equal("and the old one stays", m.read("queries/q.json"), b'{"topK": 1}')
fd = os.open(m.at("queries/q.json"), os.O_WRONLY)
fails("a gap beyond the limit is too much", errno.EFBIG, os.pwrite, fd, b"x", 5 << 20)
os.ftruncate(fd, 0)
os.pwrite(fd, b'{"topK": 2}', 0)
os.close(fd)
equal("cut to nothing it begins anew", m.read("queries/q.json"), b'{"topK": 2}')

# descriptors of an index that was removed
other = join(m.path, "b", "gone")
os.mkdir(other)
with open(join(other, "config"), "w") as f:
    f.write("dimension = 3\n")
record = json.dumps({"key": "k", "data": [1, 2, 3]}).encode()
kept = {name: os.open(join(other, name), os.O_RDWR) for name in ("insert", "update", "delete")}
half = os.open(join(other, "vectors", "half.json"), os.O_WRONLY | os.O_CREAT)
question = os.open(join(other, "query"), os.O_RDWR)
os.write(kept["insert"], record)
equal("a record is inserted", json.loads(os.read(kept["insert"], 1 << 16))["inserted"], 1)
os.write(half, b'{"data": ')
os.write(kept["insert"], record)
shutil.rmtree(other)
os.mkdir(other)
fails("what was written to insert before the index was removed is not taken", errno.ENOENT, os.read, kept["insert"], 1 << 16)
os.write(kept["insert"], record)
fails("nor what is written after", errno.ENOENT, os.read, kept["insert"], 1 << 16)
os.write(kept["delete"], b'{"keys": ["k"]}')
fails("nor a deletion", errno.ENOENT, os.read, kept["delete"], 1 << 16)
os.write(half, b"[1, 2, 3]}")
fails("nor a record that was begun", errno.ENOENT, os.close, half)
os.write(question, b'{"queryVector": [1, 2, 3]}')
fails("nor a question answered, as if nothing were near", errno.ENOENT, os.read, question, 1 << 16)
for fd in (*kept.values(), question):
    os.close(fd)
equal("the new index of that name has nothing of it", os.listdir(join(other, "vectors")), [])

# a question whose client is gone, or has had a signal
rng = numpy.random.default_rng(1)
large = join(m.path, "b", "large")
os.mkdir(large)
with open(join(large, "config"), "w") as f:
    f.write("dimension = 64\n")
with open(join(large, "insert"), "wb", buffering=0) as f:
    f.write(b"".join(packed("k%d" % i, row.tolist()) for i, row in enumerate(rng.standard_normal((4000, 64)))))
LONG = msgpack.packb({"queryVectors": [row.tobytes() for row in rng.standard_normal((6000, 64)).astype("<f4")], "topK": 200, "exact": True})


def ask_long():
    fd = os.open(join(large, "query"), os.O_RDWR)
    for at in range(0, len(LONG), 1 << 20):
        os.write(fd, LONG[at:at + (1 << 20)])
    return fd


fd = ask_long()
begun = time.monotonic()
whole = os.read(fd, 1 << 16)
took = time.monotonic() - begun
os.close(fd)
for number in signal.SIGKILL, signal.SIGTERM:
    child = os.fork()
    if child == 0:
        os.read(ask_long(), 1 << 16)
        os._exit(0)
    time.sleep(took / 4)
    begun = time.monotonic()
    os.kill(child, number)
    status = os.waitpid(child, 0)[1]
    check("a client is gone at once when it is sent signal %d while its question of %.1f s is answered" % (number, took),
          os.WTERMSIG(status) == number and time.monotonic() - begun < took / 2, status, time.monotonic() - begun)
met = []
signal.signal(signal.SIGALRM, lambda *_: met.append(1))
fd = ask_long()
signal.setitimer(signal.ITIMER_REAL, took / 4)
equal("who handles the signal reads again, and gets the answer", os.read(fd, 1 << 16), whole)   # Python reads again by itself
check("after the signal", len(met) == 1)
os.close(fd)
equal("it ends well", m.stop(), 0)

# standard descriptors
for closed in "<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-":
    p = subprocess.run(["bash", "-c", 'timeout 60 "$0" "$1" "$2" ' + closed, VECFS, m.store, m.path])
    made = False
    if p.returncode == 0:
        os.mkdir(join(m.path, "c"))
        os.rename(join(m.path, "c"), join(m.path, "d"))
        made = sorted(os.listdir(m.path)) == ["b", "d"]
        os.rmdir(join(m.path, "d"))
        subprocess.run(["fusermount3", "-u", m.path], check=True)
    check("it is mounted, and whole, when it is started with %s" % closed, made, p.returncode)
finish()
