# SPDX-License-Identifier: MIT
"""What the Python suites share: a store and a mount of their own, TAP lines, a cleanup that always runs. Each check is a sentence."""
import atexit
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

number = 0


def skip_all(why):
    print("1..0 # SKIP " + why)
    sys.exit(0)


try:
    import msgpack
    import numpy
except ImportError as e:
    skip_all("python3 has no %s" % e.name)

VECFS = os.environ.get("VECFS", "")
if not os.access(VECFS, os.X_OK):
    skip_all("no vecfs program")
if not os.access("/dev/fuse", os.R_OK | os.W_OK):
    skip_all("no /dev/fuse")
if not shutil.which("fusermount3"):
    skip_all("no fusermount3")


def note(text):
    for line in str(text).splitlines():
        print("#   " + line)


def check(sentence, good, *notes):
    global number
    number += 1
    print("%s %d - %s" % ("ok" if good else "not ok", number, sentence), flush=True)
    if not good:
        for n in notes:
            note(n)
    return good


def equal(sentence, got, expected):
    return check(sentence, got == expected, "got:      %r" % (got,), "expected: %r" % (expected,))


def fails(sentence, code, call, *args, **kwargs):
    """The call raises OSError with that errno."""
    try:
        got = call(*args, **kwargs)
    except OSError as e:
        return check(sentence, e.errno == code, "got: %s, expected %s" % (errno.errorcode.get(e.errno, e.errno), errno.errorcode[code]))
    return check(sentence, False, "succeeded: %r, expected %s" % (got, errno.errorcode[code]))


def finish():
    print("1..%d" % number)


class Mount:
    """A store, mounted, with an index b/i of some dimensions."""

    def __init__(self, *options, dimension=3):
        self.dir = tempfile.mkdtemp(prefix="vecfs-test.")
        self.store = self.place_of_store()
        self.path = os.path.join(self.dir, "mount")
        os.mkdir(self.path)
        self.process = None
        atexit.register(self.cleanup)
        sys.excepthook = self.tell
        self.start(*options)
        self.index = os.path.join(self.path, "b", "i")
        if dimension:
            os.makedirs(self.index)
            self.write("config", "dimension = %d\n" % dimension)

    def place_of_store(self):
        return os.path.join(self.dir, "store")

    def start(self, *options):
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.process = subprocess.Popen([VECFS, "-f", self.store, self.path, *options], stderr=self.log, stdout=self.log)
        for _ in range(600):
            if os.path.ismount(self.path):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        note(open(os.path.join(self.dir, "log")).read())
        print("Bail out! cannot mount")
        sys.exit(99)

    def stop(self):
        """Whoever looks at all mounts of a machine makes each of them busy for a moment."""
        for left in range(19, -1, -1):
            p = subprocess.run(["fusermount3", "-u", self.path], capture_output=True, text=True)
            if p.returncode == 0:
                break
            note("not unmounted: " + p.stderr.strip())
            if left == 0 or self.process.poll() is not None:
                raise RuntimeError("%s (the daemon: %s)" % (p.stderr, self.process.poll()))
            time.sleep(0.1)
        code = self.process.wait(60)
        self.log.close()
        return code

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        subprocess.run(["fusermount3", "-u", "-z", self.path], check=False)

    def tell(self, kind, value, trace):
        """What a suite that ends by an exception leaves: whether the daemon lives, and what it has said."""
        sys.__excepthook__(kind, value, trace)
        code = self.process.poll()
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            note(f.read()[-4000:])
        note("the daemon has ended with %s" % code if code is not None else "the daemon lives; its threads wait in %s" % self.waiting())

    def waiting(self):
        places = []
        for thread in os.listdir("/proc/%d/task" % self.process.pid):
            try:
                with open("/proc/%d/task/%s/wchan" % (self.process.pid, thread)) as f:
                    places.append(f.read())
            except OSError:
                places.append("gone")
        return {place: places.count(place) for place in places}

    def cleanup(self):
        if self.process and self.process.poll() is None:
            subprocess.run(["fusermount3", "-u", "-z", self.path], stderr=subprocess.DEVNULL)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        else:
            subprocess.run(["fusermount3", "-u", "-z", self.path], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def at(self, *names):
        return os.path.join(self.index, *names)

    def read(self, *names):
        with open(self.at(*names), "rb") as f:
            return f.read()

    def write(self, name, data):
        """Unbuffered: the write's own error is the one that is raised."""
        if isinstance(data, str):
            data = data.encode()
        fd = os.open(self.at(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            if data:
                os.write(fd, data)
        except BaseException:
            try:
                os.close(fd)
            except OSError:
                pass
            raise
        os.close(fd)

    def talk(self, verb, data):
        """Write a request, read the reply, on one descriptor."""
        if isinstance(data, str):
            data = data.encode()
        fd = os.open(self.at(verb), os.O_RDWR)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view):]
            return read_all(fd)
        finally:
            try:
                os.close(fd)
            except OSError:
                pass

    def ask(self, question, form="json"):
        if form == "json":
            return json.loads(self.talk("query", json.dumps(question)))
        return msgpack.unpackb(self.talk("query", msgpack.packb(question)))

    def errors(self):
        return self.read("errors").decode().splitlines()

    def stats(self):
        return dict(line.split(" ", 1) for line in self.read("stats").decode().splitlines())


def read_all(fd):
    out = b""
    while True:
        piece = os.read(fd, 1 << 20)
        if not piece:
            return out
        out += piece


def packed(key, vector, **metadata):
    return msgpack.packb({"key": key, "data": {"float32": list(vector)}, "metadata": metadata}, use_single_float=True)
