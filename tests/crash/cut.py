#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A power cut. shim.so writes down what the daemon and `vecfs compact` write and sync; here stores are built as they may lie on the disk after
a cut at some point of that: what was synced is there; of the rest, any part of the writes (torn at sectors), and as many of the changes
of names as a disk that keeps their order may have kept; or, strictly, the names that each directory had at its own last sync. Each store has to
pass its check and to hold what was acknowledged before the cut.
cut.py --cuts 300 is the long form."""
import argparse
import os
import pickle
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *
import writers

WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, DURABLE, ENTRY, RENAME, UNLINK, ROOT = range(1, 10)
HEAD = struct.Struct("=IIQQqII")
SECTOR = 512
SHIM = os.path.join(os.environ.get("BUILDDIR", "."), "tests", "crash", "shim.so")
LETTERS = "abc"


# ---- the log ----

def apply_name(tree, change):
    _, kind, ino, name, other, name2 = change
    entries = tree.setdefault(ino, {})
    if kind == ENTRY:
        entries[name] = other
        if not isinstance(other, File):
            tree[other] = {}
    elif kind == RENAME:
        if name in entries:
            tree.setdefault(other, {})[name2] = entries.pop(name)
    else:
        entries.pop(name, None)


class File:
    def __init__(self):
        self.changes = []         # (number, offset or None, bytes or size)


class Log:
    """Numbered records; a file is what an inode number stood for at that time."""

    def __init__(self, path):
        self.ends, self.names, self.syncs, self.durable = [], [], [], []
        self.root = None
        self.known = {}           # inode number -> File or "dir"
        with open(path, "rb") as f:
            data = f.read()
        at = 0
        while at < len(data):
            kind, is_dir, ino, other, offset, len1, len2 = HEAD.unpack_from(data, at)
            at += HEAD.size
            self.take(len(self.ends), kind, is_dir, ino, other, offset, data[at:at + len1], data[at + len1:at + len1 + len2])
            at += len1 + len2
            self.ends.append(at)

    def file(self, ino):
        return self.known.setdefault(ino, File())

    def take(self, n, kind, is_dir, ino, other, offset, bytes1, bytes2):
        if kind == ROOT:
            self.root = self.root or ino
        elif kind == WRITE:
            self.file(ino).changes.append((n, offset, bytes1))
        elif kind == TRUNCATE:
            self.file(ino).changes.append((n, None, offset))
        elif kind == DURABLE:
            self.durable.append((n, self.file(ino), other))
        elif kind in (SYNC_BEGIN, SYNC_END):
            self.syncs.append((n, kind, ino, self.known.get(ino), other))
        elif kind == ENTRY:
            # The number is new, or was given again.
            self.known[other] = "dir" if is_dir else File()
            self.names.append((n, ENTRY, ino, bytes1.decode(), other if is_dir else self.known[other], None))
        elif kind == RENAME:
            self.names.append((n, RENAME, ino, bytes1.decode(), other, bytes2.decode()))
        elif kind == UNLINK:
            self.names.append((n, UNLINK, ino, bytes1.decode(), None, None))

    # ---- what is sure at a cut: records before number `cut` were issued ----

    def synced_files(self, cut):
        """File -> number up to which its changes are on disk."""
        begun, sure = {}, {}
        for n, kind, ino, file, token in self.syncs:
            if n >= cut:
                break
            if kind == SYNC_BEGIN:
                begun[token] = n
            elif token in begun and isinstance(file, File):
                sure[file] = max(sure.get(file, 0), begun[token])
        return sure

    def synced_names(self, cut):
        """How many changes of names are on disk for sure: up to the last one in a directory that was synced."""
        begun, sure = {}, 0
        for n, kind, ino, file, token in self.syncs:
            if n >= cut:
                break
            if kind == SYNC_BEGIN:
                begun[token] = n
            elif token in begun and not isinstance(file, File):
                for i, name in enumerate(self.names):
                    if name[0] < begun[token] and ino in (name[2], name[4] if name[1] == RENAME else None):
                        sure = max(sure, i + 1)
        return sure

    def synced_tree(self, cut):
        """Directory -> its names as they were at its own last sync: what POSIX promises, and no more, but that what was renamed from one directory to
        another is not in both: that is one change for every disk that keeps names."""
        events = sorted([(name[0], name) for name in self.names] + [(s[0], s) for s in self.syncs if not isinstance(s[3], File)], key=lambda e: e[0])
        now, begun, sure = {}, {}, {self.root: {}}
        for n, event in events:
            if n >= cut:
                break
            if len(event) == 6:
                apply_name(now, event)
            elif event[1] == SYNC_BEGIN:
                begun[event[4]] = dict(now.get(event[2], {}))
            elif event[4] in begun:
                sure[event[2]] = begun[event[4]]
        for n, kind, ino, name, other, name2 in self.names:
            there = sure.get(other, {}).get(name2) if kind == RENAME and ino != other and n < cut else None
            if there is not None and sure.get(ino, {}).get(name) == there:
                del sure[ino][name]
        return sure

    def sure_writes(self, cut):
        """Writes through a descriptor with O_DSYNC."""
        sure = set()
        for n, file, count in self.durable:
            if n < cut:
                sure.update((file, c[0]) for c in [c for c in file.changes if c[0] < n][-count:])
        return sure


def torn(rng, data):
    """Some of the sectors."""
    return [(i, data[i:i + SECTOR]) for i in range(0, len(data), SECTOR) if rng.random() < 0.5]


def content(rng, how, file, cut, synced, sure):
    data = bytearray()
    for n, offset, what in file.changes:
        if n >= cut:
            break
        keep = n < synced or (file, n) in sure
        pieces = [(0, what)]
        if not keep:
            if how in ("none", "strict") or (how == "some" and rng.random() < 0.5):
                continue
            if how == "torn" and offset is not None:
                pieces = torn(rng, what)
        if offset is None:
            del data[what:]
            data.extend(bytes(what - len(data)))
            continue
        for at, piece in pieces:
            at += offset
            data.extend(bytes(max(0, at - len(data))))
            data[at:at + len(piece)] = piece
    return bytes(data)


def build(log, cut, rng, how, to):
    """The store at `to` as it may be after a cut before record number `cut`."""
    issued = sum(1 for name in log.names if name[0] < cut)
    sure = log.synced_names(cut)
    kept = {"none": sure, "strict": sure, "all": issued}.get(how, rng.randint(sure, max(sure, issued)))
    tree = {log.root: {}}
    for change in log.names[:kept]:
        apply_name(tree, change)
    if how == "strict":
        tree = log.synced_tree(cut)
    files, writes = log.synced_files(cut), log.sure_writes(cut)

    def lay(ino, path):
        os.mkdir(path)
        for name, what in tree.get(ino, {}).items():
            below = os.path.join(path, name)
            if isinstance(what, File):
                with open(below, "wb") as f:
                    f.write(content(rng, how, what, cut, files.get(what, 0), writes))
            else:
                lay(what, below)
    lay(log.root, to)


# ---- writers that note when they were promised what ----

def noting(base, log):
    class Noting(base):
        history = None

        def begun(self):
            self.start = os.path.getsize(log)
            if self.history is None:
                self.history = [(0, 0, self.model)]

        def acknowledged(self):
            self.history.append((self.start, os.path.getsize(log), self.model))
    return Noting


def allowed(history, position):
    """The models that are right after a cut at this place in the log."""
    last = max(i for i, (_, ack, _) in enumerate(history) if ack <= position)
    models = [history[last][2]]
    if last + 1 < len(history) and history[last + 1][0] < position:
        models.append(history[last + 1][2])
    return models


def record_all(rng, steps):
    """Everything that can be cut: returns the log, who was promised what and when, and from where on there are promises."""
    m = Mount.__new__(Mount)
    m.dir = tempfile.mkdtemp(prefix="vecfs-test.")
    m.store, m.path = os.path.join(m.dir, "store"), os.path.join(m.dir, "mount")
    m.index, m.process = os.path.join(m.path, "b", "i"), None
    atexit.register(m.cleanup)
    os.mkdir(m.store)
    os.mkdir(m.path)
    log = os.path.join(m.dir, "trace")
    os.environ.update(SHIM_LOG=log, SHIM_STORE=m.store, LD_PRELOAD=SHIM)
    m.start()
    del os.environ["LD_PRELOAD"]
    os.makedirs(m.index)
    m.write("config", "dimension = %d\n" % writers.DIM)
    for bucket in "tu":
        os.mkdir(os.path.join(m.path, bucket))
    m.write("insert", b"".join(packed("z%05d" % i, writers.vector(rng), w="z") for i in range(4200)))
    first = os.path.getsize(log)
    who = {letter: noting(writers.Writer, log)(m.index, letter, rng.random()) for letter in LETTERS}
    who["tree"] = noting(writers.Tree, log)(m.path, rng.random())
    for child in [writers.in_background(writer, os.path.join(m.dir, name + ".result"), steps) for name, writer in who.items()]:
        os.waitpid(child, 0)
    m.stop()
    subprocess.run([VECFS, "compact", m.store], env=dict(os.environ, LD_PRELOAD=SHIM), stdout=subprocess.DEVNULL, check=True)
    histories = {}
    for name in who:
        with open(os.path.join(m.dir, name + ".result"), "rb") as f:
            result = pickle.load(f)
        check("writer %s saw no failure in %d changes" % (name, result["changes"]), not result["failures"] and result["unsure"] is None, *result["failures"])
        histories[name] = result["history"]
    return m, Log(log), histories, first


def cut_points(log, rng, n, first):
    """Half of them beside a sync, where it matters most; the rest anywhere; some while the store was still being made."""
    from_record = next(i for i, end in enumerate(log.ends) if end >= first)
    beside = [s[0] for s in log.syncs if s[0] > from_record]
    for i in range(n):
        if i % 8 == 7:
            yield rng.randrange(2, from_record)
        elif i % 2:
            yield min(len(log.ends), max(from_record + 1, rng.choice(beside) + rng.randrange(-1, 3)))
        else:
            yield rng.randrange(from_record + 1, len(log.ends) + 1)


def look(m, log, histories, first, cut, how):
    position = log.ends[cut - 1]
    what = "cut at %d of %d, %s of what was not synced" % (cut, len(log.ends), how)
    p = subprocess.run([VECFS, "check", m.store], capture_output=True, text=True)
    if position < first:
        # A store that is still being made may be no store yet; it is made by the mount then.
        good = p.returncode == 0 or "is not a vecfs store" in p.stderr or "has no .vecfs/format" in p.stderr
    else:
        good = p.returncode == 0
    check(what + ": passes its check", good, p.returncode, p.stdout[-2000:], p.stderr)
    m.start()
    if position >= first:
        stream = writers.unpack_stream(m.read("vectors.msgpack"))
        for name, history in histories.items():
            got = writers.tree_of(m.path) if name == "tree" else writers.part_of(m.index, name, stream)
            models = allowed(history, position)
            if got not in models:
                check(what + ": holds what was promised to %s" % name, False, *writers.difference(got, models[0]), "or",
                      *writers.difference(got, models[-1]))
        check(what + ": holds what was promised", True)
    else:
        check(what + ": mounts", True)
    m.stop()


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--cuts", type=int, default=16)
    p.add_argument("--steps", type=int, default=60, help="changes of each writer")
    p.add_argument("--seed", type=int, default=int(os.environ.get("VECFS_SEED", time.time())))
    return p.parse_args()


if not os.path.exists(SHIM):
    skip_all("no shim.so")
if "libasan" in subprocess.run(["ldd", VECFS], capture_output=True, text=True).stdout:
    skip_all("the sanitizer wants to be the first library")
args = arguments()
note("seed %d" % args.seed)
rng = random.Random(args.seed)
m, log, histories, first = record_all(rng, args.steps)
for cut in cut_points(log, rng, args.cuts, first):
    how = rng.choice(("strict", "none", "some", "some", "torn", "torn", "all"))
    shutil.rmtree(m.store)
    build(log, cut, rng, how, m.store)
    look(m, log, histories, first, cut, how)
finish()
