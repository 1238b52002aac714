#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What survives: a remount, kill -9 at any moment, a second mount, a signal."""
import subprocess
import threading

from harness import *

m = Mount()
join = os.path.join
for i in range(1, 6):
    m.write("vectors/k%d.msgpack" % i, packed("x", [i, 1, 0], n=i))
m.write("queries/q.json", b'{"key": "k1"}')
os.utime(m.at("vectors", "k1.msgpack"), (1234567890, 1234567890))
m.write("vectors/.tmp", b"x")
time.sleep(0.02)
m.write("vectors/gone.msgpack", packed("x", [1, 1, 1]))
os.unlink(m.at("vectors", "gone.msgpack"))
check("vectors/ has changed since the index was made, and queries/ before", os.stat(m.index).st_mtime_ns < os.stat(m.at("queries")).st_mtime_ns < os.stat(m.at("vectors")).st_mtime_ns)
os.utime(m.at("queries"), ns=(10**18, 10**18))


def picture():
    out = {}
    for top, dirs, files in os.walk(m.path):
        for n in dirs + files:
            p = join(top, n)
            st = os.lstat(p)
            out[p] = (st.st_ino, st.st_mode, st.st_uid, st.st_mtime_ns if p.endswith((".msgpack", "vectors", "queries")) else 0)
    return out


equal("a temporary file is there", os.path.exists(m.at("vectors", ".tmp")), True)
os.unlink(m.at("vectors", ".tmp"))
os.makedirs(join(m.path, "lost+found", "i"))
before, bytes_before = picture(), m.read("vectors.msgpack")
m.write("vectors/.tmp", b"x")
equal("unmounting ends the daemon with 0", m.stop(), 0)
m.start()
equal("files, numbers, modes and times are the same after a remount; temporary files are gone", picture(), before)
equal("and so are the bytes", m.read("vectors.msgpack"), bytes_before)
equal("and the answers", [v["key"] for v in json.loads(m.read("answers", "q.json"))["vectors"]], ["k2", "k3", "k4", "k5"])

# signals
m.process.send_signal(signal.SIGHUP)
time.sleep(0.2)
check("SIGHUP does no harm", m.process.poll() is None and m.stats())
for number_ in (signal.SIGTERM, signal.SIGINT):
    m.process.send_signal(number_)
    equal("%s unmounts and ends with 0" % number_.name, m.process.wait(30), 0)
    check("nothing is mounted then", not os.path.ismount(m.path))
    m.start()
fd = os.open(m.at("vectors", "k1.msgpack"), os.O_RDONLY)
q = os.open(m.at("query"), os.O_RDWR)
m.process.send_signal(signal.SIGTERM)
equal("also with files open", m.process.wait(30), 0)
os.close(fd)
try:
    os.close(q)
except OSError:
    pass
subprocess.run(["fusermount3", "-u", "-z", m.path], stderr=subprocess.DEVNULL)
m.start()

# a second one
other = join(m.dir, "other")
os.mkdir(other)
done = subprocess.run([VECFS, m.store, other], stderr=subprocess.PIPE)
check("a second mount of the store fails at once and says which process has it", done.returncode != 0 and str(m.process.pid) in done.stderr.decode(),
      done.stderr.decode())
done = subprocess.run([VECFS, join(m.dir, "store2"), join(m.dir, "nowhere")], stderr=subprocess.PIPE)
check("a mountpoint that is not there is told", done.returncode != 0 and "nowhere" in done.stderr.decode(), done.stderr.decode())
done = subprocess.run([VECFS, join(m.dir, "store2"), join(m.dir, "log")], stderr=subprocess.PIPE)
check("and one that is no directory", done.returncode != 0 and "directory" in done.stderr.decode(), done.stderr.decode())

# kill -9
m.process.send_signal(signal.SIGKILL)
m.process.wait()
done = subprocess.run([VECFS, m.store, m.path], stderr=subprocess.PIPE)
check("a dead mount is recognised, and the message says how to clear it", done.returncode != 0 and "fusermount3 -u " + m.path in done.stderr.decode(),
      done.stderr.decode())
subprocess.run(["fusermount3", "-u", m.path], check=True)
m.start()
equal("after kill -9 all is there", m.read("vectors.msgpack"), bytes_before)
for turn in range(5):
    closed, lock = [], threading.Lock()

    def writer(n):
        i = 0
        while True:
            name = "w%d-%d-%d" % (turn, n, i)
            try:
                if i % 3 == 2:
                    m.write("insert", packed(name, [n + 1, i + 1, 1]))
                else:
                    m.write("vectors/%s.msgpack" % name, packed("x", [n + 1, i + 1, 1]))
            except OSError:
                return
            with lock:
                closed.append(name)
            i += 1

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(4)]
    [t.start() for t in threads]
    time.sleep(0.4 + 0.1 * turn)
    m.kill()
    [t.join() for t in threads]
    m.start()
    there = set(m.read("vectors.keys").decode().split("\n"))
    missing = [n for n in closed if n not in there]
    check("kill -9 under load, turn %d: every record whose close returned 0 is there" % turn, closed and not missing, len(closed), missing[:5])
    check("and every record there is whole", all("w%d" % turn not in n or n in closed or m.read("vectors", n + ".json") for n in there if n))
m.stop()
done = subprocess.run([VECFS, "check", m.store], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
equal("vecfs check finds nothing wrong", done.returncode, 0)
finish()
