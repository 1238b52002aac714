#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writers, deleters, readers, listers and remounts for a while, against the writers' own models. Nothing is lost, no reader ever sees what was
not written, the memory of the daemon stays flat, and the store passes its check. soak.py --minutes 60 is the long form."""
import argparse
import os
import pickle
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *
import writers

LETTERS = "abcd"


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--minutes", type=float, default=2)
    p.add_argument("--seed", type=int, default=int(os.environ.get("VECFS_SEED", time.time())))
    return p.parse_args()


class TimedWriter(writers.Writer):
    """Until a moment; nothing may fail, since nobody is killed."""
    until = 0

    def run(self, steps=None):
        while time.monotonic() < self.until and self.step():
            pass
        return self


class Reader:
    """Asks, lists, reads and exports, and holds what it gets against what anybody could have written."""

    def __init__(self, index, seed):
        self.index, self.rng = index, random.Random(seed)
        self.failures, self.unsure, self.model, self.changes, self.slowest = [], None, None, 0, {}

    def at(self, *names):
        return os.path.join(self.index, *names)

    def names(self):
        """Without the temporary files, which come in an order of their own."""
        return [n for n in os.listdir(self.at("vectors")) if not n.startswith(".")]

    def ask(self):
        question = {"queryVector": writers.vector(self.rng), "topK": 10, "returnMetadata": True, "returnDistance": True}
        letter = self.rng.choice(LETTERS)
        if self.rng.random() < 0.5:
            question["filter"] = {"w": letter}
        answer = json.loads(writers.talk(self.at("query"), json.dumps(question).encode()))
        rows = answer["vectors"]
        if len(rows) < min(10, answer["matched"]):
            return "%d rows of %d that match" % (len(rows), answer["matched"])
        if "filter" in question and any(r["metadata"]["w"] != letter or r["key"][0] != letter for r in rows):
            return "a row that does not match: %r" % rows
        if sorted(r["distance"] for r in rows) != [r["distance"] for r in rows] or len({r["key"] for r in rows}) != len(rows):
            return "not in order, or twice: %r" % rows

    def list(self):
        names = self.names()
        if names != sorted(set(names)):
            return "the list is not in order: %r" % [pair for pair in zip(names, names[1:]) if pair[0] >= pair[1]]
        for name in self.rng.sample(names, min(3, len(names))):
            try:
                with open(self.at("vectors", name), "rb") as f:
                    content = f.read()
            except FileNotFoundError:
                continue
            # Removed since, and being written anew: it is empty until that is closed.
            if not content:
                continue
            record = msgpack.unpackb(content)
            if record["key"] + ".msgpack" != name or len(record["data"]["float32"]) != writers.DIM:
                return "%s holds %r" % (name, record)

    def export(self):
        with open(self.at("vectors.msgpack"), "rb") as f:
            keys = [r["key"] for r in writers.unpack_stream(f.read())]
        if keys != sorted(set(keys)):
            return "the export is not in order"

    def near(self):
        names = self.names()
        if names:
            try:
                os.listdir(self.at("near", self.rng.choice(names)[:-len(".msgpack")]))
            except FileNotFoundError:
                pass

    def run(self, steps=None):
        while time.monotonic() < TimedWriter.until:
            kind = self.rng.choice((self.ask, self.ask, self.ask, self.list, self.near, self.export))
            begun = time.monotonic()
            try:
                wrong = kind()
            except Exception as e:
                wrong = repr(e)
            took = time.monotonic() - begun
            self.slowest[kind.__name__] = max(took, self.slowest.get(kind.__name__, 0))
            self.changes += 1
            if wrong:
                self.failures.append("%s: %s" % (kind.__name__, wrong))
                break
        self.model = self.slowest
        return self


def memory_of(pid):
    """Anonymous memory: what of the store's file is mapped is the kernel's."""
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon:"))


def work(m, rng, models, tree, seconds):
    who = {letter: TimedWriter(m.index, letter, rng.random(), models[letter]) for letter in LETTERS}
    who["tree"] = type("TimedTree", (writers.Tree,), {"run": TimedWriter.run})(m.path, rng.random(), tree)
    who["reader1"], who["reader2"] = Reader(m.index, rng.random()), Reader(m.index, rng.random())
    TimedWriter.until = time.monotonic() + seconds
    for writer in who.values():
        writer.until = TimedWriter.until
    children = {name: writers.in_background(writer, os.path.join(m.dir, name)) for name, writer in who.items()}
    # Each by its number: the daemon is a child too, and its end is looked at below.
    ends = {name: os.waitpid(child, 0)[1] for name, child in children.items()}
    check_daemon(m)
    results = {}
    for name in who:
        if ends[name]:
            raise RuntimeError("%s ended with %d" % (name, ends[name]))
        with open(os.path.join(m.dir, name), "rb") as f:
            results[name] = pickle.load(f)
    return results


def check_daemon(m):
    if m.process.poll() is not None:
        raise RuntimeError("the daemon has ended with %d" % m.process.poll())


def in_background_waits(m):
    """Until all is linked: what is measured then is at rest."""
    for _ in range(300):
        if m.stats()["pending"] == "0":
            return
        time.sleep(0.05)


args = arguments()
note("seed %d" % args.seed)
rng = random.Random(args.seed)
m = Mount(dimension=writers.DIM)
for bucket in "tu":
    os.mkdir(os.path.join(m.path, bucket))
m.write("insert", b"".join(packed("z%05d" % i, writers.vector(rng), w="z") for i in range(4500)))
models, tree, memory, round = {letter: None for letter in LETTERS}, None, [], 0
end = time.monotonic() + 60 * args.minutes
length = max(3, min(60, 60 * args.minutes / 6))
while time.monotonic() < end:
    round += 1
    results = work(m, rng, models, tree, length)
    in_background_waits(m)
    memory.append(memory_of(m.process.pid))
    for name, result in results.items():
        if result["failures"]:
            check("round %d: %s" % (round, name), False, *result["failures"])
    stream = writers.unpack_stream(m.read("vectors.msgpack"))
    for letter in LETTERS:
        models[letter] = results[letter]["model"]
        got = writers.part_of(m.index, letter, stream)
        if got != models[letter]:
            check("round %d: what writer %s wrote is there" % (round, letter), False, *writers.difference(got, models[letter]))
    tree = results["tree"]["model"]
    if writers.tree_of(m.path) != tree:
        check("round %d: the tree is as it was made" % round, False, *writers.difference(writers.tree_of(m.path), tree))
    note("round %d: %s changes and questions, %d KiB" % (round, sum(r["changes"] for r in results.values()), memory[-1]))
    note("slowest, ms: " + ", ".join("%s %.0f" % (k, 1000 * v) for k, v in sorted(results["reader1"]["model"].items())))
    if round % 3 == 0:
        equal("round %d: it is mounted anew" % round, m.stop(), 0)
        m.start()
check("%d rounds without a failure" % round, True)
# The first rounds fill caches and the pools of threads.
check("the memory of the daemon stays flat", max(memory[len(memory) // 2:]) < 1.5 * max(memory[:len(memory) // 2 + 1]) + 32768, memory)
equal("the last stop is clean", m.stop(), 0)
p = subprocess.run([VECFS, "check", m.store], capture_output=True, text=True)
check("the store passes its check", p.returncode == 0, p.stdout[-2000:], p.stderr)
finish()
