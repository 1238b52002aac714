#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A flood of questions from one user leaves room for another: what is too much of it waits without a thread."""
import ctypes
import multiprocessing

from harness import *

if os.getuid() != 0:
    skip_all("not root")
CLIENTS, FLOODER, OTHER = 40, 65534, 1001
m = Mount("-o", "allow_other", dimension=32)
os.chmod(m.dir, 0o755)
for place in (m.path, os.path.join(m.path, "b"), m.index):
    os.chmod(place, 0o777)
rows = numpy.random.default_rng(1).standard_normal((4000, 32), dtype="float32")
m.talk("insert", b"".join(packed("k%d" % i, row.tolist()) for i, row in enumerate(rows)))
HEAVY = msgpack.packb({"queryVectors": [{"float32": row.tolist()} for row in rows[:100]], "topK": 3, "exact": True}, use_single_float=True)
SMALL = json.dumps({"queryVector": {"float32": rows[7].tolist()}, "topK": 1})
forks = multiprocessing.get_context("fork")
# Without locks: a client that is killed would keep one.
stop, interrupted, answered = forks.RawValue("b", 0), forks.RawValue("b", 0), forks.RawArray("L", CLIENTS)


def become(uid):
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def flood(expected, number):
    """Asks the same until told to stop: exits 1 when an answer is another than that of a quiet hour, 2 when there is none."""
    become(FLOODER)
    while not stop.value:
        try:
            if m.talk("query", HEAVY) != expected:
                os._exit(1)
        except OSError:
            os._exit(2)
        answered[number] += 1
    os._exit(0)


def impatient(expected):
    """Asks until a signal has ended the waiting once; the answer is there for the next read."""
    become(FLOODER)
    libc, reply = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(1 << 20)
    signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    fd = os.open(m.at("query"), os.O_RDWR)
    while True:
        os.write(fd, HEAVY)
        while (n := libc.read(fd, reply, len(reply))) < 0 and ctypes.get_errno() == errno.EINTR:
            interrupted.value = 1
        if n < 0 or reply.raw[:n] + read_all(fd) != expected:
            os._exit(1)
        if interrupted.value:
            os._exit(0)


def listing():
    return len(os.listdir(m.at("vectors"))) >= 4000


def putting():
    with open(m.at("vectors", "other.msgpack"), "wb") as f:
        f.write(packed("other", [1.0] * 32))
    return os.path.exists(m.at("vectors", "other.json"))


def asking():
    return json.loads(m.talk("query", SMALL))["vectors"][0]["key"] == "k7"


def rendering():
    return len(m.read("vectors.keys").splitlines()) >= 4000


def visitor(call):
    become(OTHER)
    os._exit(0 if all(call() for _ in range(5)) else 1)


def begin(target, *args):
    process = forks.Process(target=target, args=args)
    process.start()
    return process


def gauge(name):
    with open(os.path.join(m.path, ".vecfs", "metrics")) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("vecfs_turns_%s " % name))


def until(sentence, reached):
    for _ in range(6000):
        if reached():
            return check(sentence, True)
        time.sleep(0.02)
    return check(sentence, False, "limit %d, most %d, waiting %d" % (gauge("limit"), gauge("most"), gauge("waiting")))


putting()      # the record is only replaced later, by its like
quiet = m.talk("query", HEAVY)
equal("one user alone waits for nobody", gauge("waiting"), 0)
limit = gauge("limit")
clients = [begin(flood, quiet, i) for i in range(CLIENTS)]
until("of 40 clients of one user some wait", lambda: gauge("waiting") >= 8)
for call in (listing, putting, asking, rendering):
    visit = begin(visitor, call)
    visit.join()
    equal("%s goes on for another user" % call.__name__, visit.exitcode, 0)
check("while the flood lasts", all(c.is_alive() for c in clients) and gauge("waiting") > 0)
equal("of which never more is carried out at once than a user may", gauge("most"), limit)

signal.signal(signal.SIGUSR1, signal.SIG_IGN)
late = begin(impatient, quiet)
while late.is_alive() and not interrupted.value:     # each one puts it at the end of the queue
    time.sleep(0.05)
    os.kill(late.pid, signal.SIGUSR1)
late.join()
equal("a signal ends the waiting, and the answer can be read after it", late.exitcode, 0)
killed, clients = clients[:CLIENTS // 2], clients[CLIENTS // 2:]
for c in killed:
    c.kill()
for c in killed:
    c.join()
check("clients that are killed are gone, also while they wait", True)
count = sum(answered)
until("the others go on", lambda: sum(answered) >= count + 8)
stop.value = 1
for c in clients:
    c.join()
equal("all answers are those of a quiet hour", {c.exitcode for c in clients}, {0})
equal("nothing is left waiting", gauge("waiting"), 0)

stop.value = 0
clients = [begin(flood, quiet, i) for i in range(CLIENTS)]
until("another flood", lambda: gauge("waiting") >= 8)
m.process.terminate()
equal("does not keep the daemon from ending", m.process.wait(), 0)
for c in clients:
    c.join()
check("and whoever waited is told", {c.exitcode for c in clients} == {2}, [c.exitcode for c in clients])
m.start("-o", "allow_other")
equal("the records are there", m.ask(json.loads(SMALL))["vectors"][0]["key"], "k7")
equal("it unmounts", m.stop(), 0)
finish()
