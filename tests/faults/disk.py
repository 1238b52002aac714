#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Disks that fill up, fail, are slow and are read-only, quotas that run out, clocks that are set back. The writer hears of it, nothing that was acknowledged is lost, and all works again when the
disk does. The full and the read-only disk are small mounts of their own: root only."""
import mmap
import os
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *

SHIM = os.path.join(os.environ.get("BUILDDIR", "."), "tests", "crash", "shim.so")
sanitized = "libasan" in subprocess.run(["ldd", VECFS], capture_output=True, text=True).stdout


class DiskMount(Mount):
    """A store on a disk of its own."""

    def __init__(self, make_disk, *options):
        self.dir = tempfile.mkdtemp(prefix="vecfs-test.")
        self.disk = os.path.join(self.dir, "disk")
        self.store, self.path = os.path.join(self.disk, "store"), os.path.join(self.dir, "mount")
        self.index, self.process = os.path.join(self.path, "b", "i"), None
        os.mkdir(self.disk)
        os.mkdir(self.path)
        atexit.register(self.cleanup)
        make_disk(self.disk, self.dir)
        self.start(*options)
        os.makedirs(self.index)
        self.write("config", "dimension = 64\n")

    def cleanup(self):
        if self.process and self.process.poll() is None:
            subprocess.run(["fusermount3", "-u", "-z", self.path], stderr=subprocess.DEVNULL)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        subprocess.run(["umount", "-l", self.disk], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def check(self, what):
        p = subprocess.run([VECFS, "check", self.store], capture_output=True, text=True)
        check("%s: the store passes its check" % what, p.returncode == 0, p.stdout[-2000:], p.stderr)


def vector(i):
    return [((i * 31 + j * 17) % 101) / 7 + 1 for j in range(64)]


def records(m):
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(m.read("vectors.msgpack"))
    return {r["key"]: r["metadata"]["n"] for r in unpacker}


def try_put(m, model, key, n):
    """0 or an errno. The model follows what was acknowledged."""
    try:
        m.write("vectors/%s.msgpack" % key, packed(key, vector(n), n=n, pad="x" * 200))
    except OSError as e:
        return e.errno
    model[key] = n
    return 0


def try_unlink(m, model, key):
    try:
        os.unlink(m.at("vectors", key + ".msgpack"))
    except OSError as e:
        return e.errno
    del model[key]
    return 0


def try_stream(m, model, first, count):
    try:
        m.write("insert", b"".join(packed("s%06d" % i, vector(i), n=i) for i in range(first, first + count)))
    except OSError as e:
        return e.errno
    model.update(("s%06d" % i, i) for i in range(first, first + count))
    return 0


def fill(m, model, start):
    """Writes until the disk is full, small and large; returns the errnos met."""
    met = set()
    for i in range(start, start + 100000):
        code = try_stream(m, model, i * 200, 200) if i % 3 == 0 else try_put(m, model, "k%d" % i, i)
        if code:
            met.add(code)
            if i % 3:
                break
    return met


def full_disk(kind, make_disk):
    m, model = DiskMount(make_disk), {}
    ballast = os.path.join(m.disk, "ballast")
    with open(ballast, "wb") as f:
        f.write(b"\0" * (10 << 20))
    for round in range(3):
        met = fill(m, model, round * 100000)
        equal("%s, round %d: a full disk is ENOSPC to the writer, and nothing else" % (kind, round), met, {errno.ENOSPC})
        equal("what was acknowledged is there, and nothing else", records(m), model)
        check("questions are answered", len(m.ask({"queryVector": vector(5), "topK": 10})["vectors"]) == 10)
        try_put(m, model, "again", round)
        fails_quietly = [try_put(m, model, "k1", 99) for _ in range(3)]
        equal("the old record stays when a new one does not fit", records(m), model)
        note(fails_quietly)
        equal("records are deleted from a full disk", [try_unlink(m, model, key) for key in sorted(model)[round::97][:30]], [0] * 30)
        equal("those and no others", records(m), model)
        with open(ballast, "r+b") as f:
            # More than the checkpoint takes that has waited for space.
            f.truncate((10 << 20) - (round + 1) * (3 << 20))
        equal("when there is space it works again at once", [try_put(m, model, "space%d" % i, i) for i in range(5)], [0] * 5)
    equal("the daemon lives", m.stop(), 0)
    m.check(kind)
    try:
        with open(ballast, "ab", buffering=0) as f:
            while f.write(b"\0" * 4096):
                pass
    except OSError:
        pass
    m.start()
    equal("%s: a store on a full disk is mounted and read" % kind, records(m), model)
    m.stop()
    return m, model


def read_only_disk(m, model):
    subprocess.run(["mount", "-o", "remount,ro", m.disk], check=True)
    p = subprocess.run([VECFS, m.store, m.path], capture_output=True, text=True)
    check("a store on a read-only disk is not mounted for writing", p.returncode == 1 and "read-only" in p.stderr.lower(), p)
    m.start("-o", "ro")
    equal("with -o ro it is read", records(m), model)
    check("and asked for neighbours", len(os.listdir(m.at("near", sorted(model)[0]))) == 10)
    fails("and not written", errno.EROFS, m.write, "vectors/x.msgpack", packed("x", vector(1)))
    m.stop()
    m.check("read-only")


def tmpfs(disk, _):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=18m", "none", disk], check=True)


def loop_ext4(disk, dir):
    image = os.path.join(dir, "image")
    with open(image, "wb") as f:
        f.truncate(30 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)


# ---- a disk that fails now and then ----

def shimmed():
    """A mount whose disk does what the control says."""
    m = Mount.__new__(Mount)
    m.dir = tempfile.mkdtemp(prefix="vecfs-test.")
    m.store, m.path = os.path.join(m.dir, "store"), os.path.join(m.dir, "mount")
    m.index, m.process = os.path.join(m.path, "b", "i"), None
    atexit.register(m.cleanup)
    os.mkdir(m.store)
    os.mkdir(m.path)
    with open(os.path.join(m.dir, "control"), "w+b") as f:
        f.truncate(4096)
        control = mmap.mmap(f.fileno(), 4096)
    start_shimmed(m)
    os.makedirs(m.index)
    m.write("config", "dimension = 64\n")
    return m, control


def start_shimmed(m):
    os.environ.update(SHIM_STORE=m.store, SHIM_CONTROL=os.path.join(m.dir, "control"), LD_PRELOAD=SHIM)
    m.start()
    del os.environ["LD_PRELOAD"], os.environ["SHIM_CONTROL"]


def failing_disk(code):
    """Every n-th change of a file fails, with ever other n."""
    (m, control), model, failed = shimmed(), {}, 0
    met, wrong = set(), []
    for n in range(60):
        control[0:20] = struct.pack("=5I", code, n % 17, 1 + n % 7, 0, 0)
        before = dict(model)
        codes = [try_put(m, model, "k%d" % (n % 20), n), try_stream(m, model, n * 7, 20)]
        failed += struct.unpack("=5I", control[0:20])[4]
        control[0:20] = bytes(20)
        met.update(c for c in codes if c)
        got = records(m)
        if got != model:
            wrong.append((n, codes, {k: (got.get(k), model.get(k), before.get(k)) for k in set(got) | set(model) if got.get(k) != model.get(k)}))
            model = got
    name = errno.errorcode[code]
    check("%d changes failed with %s" % (failed, name), failed > 50)
    told = errno.ENOSPC if code == errno.EDQUOT else code       # a quota is a small disk
    check("the writers heard of it", met and met <= {told, errno.EIO}, met)
    check("what failed is not there, what was acknowledged is", not wrong, *wrong[:3])
    equal("afterwards all is well", [try_put(m, model, "w%d" % i, i) for i in range(5)], [0] * 5)
    equal("the daemon lives", m.stop(), 0)
    p = subprocess.run([VECFS, "check", m.store], capture_output=True, text=True)
    check("the store passes its check", p.returncode == 0, p.stdout[-2000:], p.stderr)
    m.start()
    equal("and holds what was promised", records(m), model)
    m.stop()


# ---- a slow disk ----

SYNC_S = 0.2
CROWD = 160     # more than there are threads to answer


def slow_disk():
    """Who writes waits for the disk, who asks does not, however many write. (The bound is for slow machines: five syncs.)"""
    (m, control), model = shimmed(), {}
    try_stream(m, model, 0, 500)
    m.ask({"queryVector": vector(5), "topK": 10})
    control[20:24] = struct.pack("=I", int(SYNC_S * 1e6))
    writing, slowest, asked, codes = threading.Event(), 0, 0, []

    def write():
        codes.extend(try_put(m, model, "slow%d" % i, i) for i in range(10))
        writing.set()

    start = time.monotonic()
    threads = [threading.Thread(target=write), threading.Thread(target=lambda: codes.append(try_stream(m, model, 1000, 200)))]
    threads += [threading.Thread(target=lambda i=i: codes.append(try_put(m, model, "crowd%d" % i, i))) for i in range(CROWD)]
    for thread in threads:
        thread.start()
    while not writing.is_set():
        began = time.monotonic()
        m.ask({"queryVector": vector(asked), "topK": 10})
        slowest, asked = max(slowest, time.monotonic() - began), asked + 1
    for thread in threads:
        thread.join()
    check("a disk whose syncs take %g s is waited for by each write" % SYNC_S, time.monotonic() - start >= 10 * SYNC_S, time.monotonic() - start)
    equal("and all are well", codes, [0] * (11 + CROWD))
    check("questions do not wait for it", asked > 50 and slowest < 5 * SYNC_S, asked, slowest)
    equal("what was acknowledged is there", records(m), model)
    control[20:24] = bytes(4)
    equal("the daemon lives", m.stop(), 0)
    m.start()
    equal("and holds it", records(m), model)
    m.stop()


# ---- a clock that is set back and forth ----

DAY_NS = 86400 * 10 ** 9


def stepping_clock():
    (m, control), model = shimmed(), {}
    stale, times, steps = [], [], [0, -1, 30, -400, 400, -20000, 1, 0]
    for n, days in enumerate(steps):
        control[24:32] = struct.pack("=q", days * DAY_NS)
        codes = [try_put(m, model, "k", n), try_put(m, model, "n%d" % n, n), try_stream(m, model, n * 10, 10)]
        seen = msgpack.unpackb(m.read("vectors/k.msgpack"))["metadata"]["n"]
        found = m.ask({"queryVector": vector(n), "topK": 3, "returnMetadata": True, "filter": {"n": n}})["matched"]
        if codes != [0] * 3 or seen != n or records(m) != model or found < 2:
            stale.append((days, codes, seen, found))
        times.append((days, os.stat(m.at("vectors/k.msgpack")).st_mtime - time.time()))
        if n % 3 == 2:
            m.stop()
            start_shimmed(m)
    check("a clock that goes back and forth hides nothing", not stale, *stale)
    off = [t for t in times if abs(t[1] - t[0] * 86400) > 3600]
    check("files have the time that the clock had", not off, *off)
    equal("the daemon lives", m.stop(), 0)
    p = subprocess.run([VECFS, "check", m.store], capture_output=True, text=True)
    check("the store passes its check", p.returncode == 0, p.stdout[-2000:], p.stderr)


# ---- few descriptors ----

def few_descriptors():
    m = Mount()
    m.stop()
    m.process = None
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    p = subprocess.Popen(["prlimit", "--nofile=64:64", VECFS, "-f", m.store, m.path], stderr=subprocess.DEVNULL)
    m.process = p
    while not os.path.ismount(m.path) and p.poll() is None:
        time.sleep(0.02)
    bad = []
    for turn in range(2):
        for i in range(100):
            index = os.path.join(m.path, "b", "n%d" % i)
            try:
                if turn == 0:
                    os.mkdir(index)
                    with open(index + "/config", "w") as f:
                        f.write("dimension = 2\n")
                with open(index + "/vectors/k%d.json" % turn, "w") as f:
                    f.write('{"data": [1, %d]}' % i)
                with open(index + "/vectors.keys") as f:
                    if f.read() != "".join("k%d\n" % t for t in range(turn + 1)):
                        bad.append((turn, i, "keys"))
            except OSError as e:
                bad.append((turn, i, str(e)))
    check("a hundred indexes with sixty-four descriptors", not bad, len(bad), *bad[:3])
    equal("the daemon lives", m.stop(), 0)
    assert hard


def remove_from_full_disk(m):
    """The last way out of a full disk: rm -r."""
    m.start()
    fill(m, {}, 10 ** 6)
    shutil.rmtree(m.index)
    check("rm -r of an index works on a full disk", not os.path.exists(m.index))
    # Its file goes when the last who looks at it has let go.
    for _ in range(300):
        try:
            os.makedirs(m.index, exist_ok=True)
            m.write("config", "dimension = 2\n")
            m.write("vectors/a.json", '{"data": [1, 2]}')
            break
        except OSError:
            time.sleep(0.1)
    check("and makes room", m.read("vectors.keys") == b"a\n")
    m.stop()
    m.check("after rm -r")


is_root = os.geteuid() == 0
if is_root:
    m, model = full_disk("tmpfs", tmpfs)
    read_only_disk(m, model)
    subprocess.run(["mount", "-o", "remount,rw", m.disk], check=True)
    remove_from_full_disk(m)
    if shutil.which("mkfs.ext4") and os.path.exists("/dev/loop-control"):
        full_disk("ext4", loop_ext4)
else:
    note("not root: no full disk, no read-only disk")
if os.path.exists(SHIM) and not sanitized:
    for code in errno.EIO, errno.ENOSPC, errno.EDQUOT:
        failing_disk(code)
    slow_disk()
    stepping_clock()
few_descriptors()
finish()
