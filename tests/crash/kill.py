#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The daemon is killed while several processes write. What was acknowledged is there after the next start, what was not is there as a whole
or not at all, the store passes its check, and answers are right. kill.py --rounds 100 is the long form. With --lossy the store lies on a disk
that keeps nothing but what was synced (lossy.c), and each kill is a power cut."""
import argparse
import os
import pickle
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from harness import *
import writers

LETTERS = "abc"
LOSSY = os.path.join(os.environ.get("BUILDDIR", "."), "tests", "crash", "lossy")
BULK = 5000            # records that make the index large enough for a graph


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--lossy", action="store_true")
    p.add_argument("--seed", type=int, default=int(os.environ.get("VECFS_SEED", time.time())))
    return p.parse_args()


class LossyMount(Mount):
    """The store is a directory on a lossy disk; not even that is there before it is made."""
    disk = None

    def place_of_store(self):
        self.disk_path, self.kept = os.path.join(self.dir, "disk"), os.path.join(self.dir, "kept.0")
        os.mkdir(self.disk_path)
        self.mount_disk()
        return os.path.join(self.disk_path, "store")

    def mount_disk(self, *before):
        number = int(self.kept.rsplit(".", 1)[1]) + 1
        self.kept = os.path.join(self.dir, "kept.%d" % number)
        self.disk = subprocess.Popen([LOSSY, self.disk_path, self.kept, *before])
        while not os.path.ismount(self.disk_path) and self.disk.poll() is None:
            time.sleep(0.02)

    def cut_power(self):
        self.disk.send_signal(signal.SIGUSR1)
        while not os.path.exists(self.kept + ".done") and self.disk.poll() is None:
            time.sleep(0.01)
        self.unmount_disk()
        self.mount_disk(self.kept)

    def unmount_disk(self):
        subprocess.run(["fusermount3", "-u", "-z", self.disk_path], check=False)
        self.disk.terminate()
        self.disk.wait()

    def cleanup(self):
        super().cleanup()
        self.unmount_disk()
        shutil.rmtree(self.dir, ignore_errors=True)


class Rounds:
    def __init__(self, seed, lossy):
        self.rng = random.Random(seed)
        self.lossy = lossy
        self.mount = (LossyMount if lossy else Mount)("-o", "noatime", dimension=writers.DIM)
        for bucket in "tu":
            os.mkdir(os.path.join(self.mount.path, bucket))
        self.models = {letter: None for letter in LETTERS}
        self.tree = None
        self.bulk = {"z%05d" % i: writers.vector(self.rng) for i in range(BULK)}
        self.mount.write("insert", b"".join(packed(k, v, w="z") for k, v in self.bulk.items()))

    def write_until_killed(self):
        m, results = self.mount, {}
        for letter in LETTERS:
            results[letter] = os.path.join(m.dir, letter)
            writers.in_background(writers.Writer(m.index, letter, self.rng.random(), self.models[letter]), results[letter])
        results["tree"] = os.path.join(m.dir, "tree")
        writers.in_background(writers.Tree(m.path, self.rng.random(), self.tree), results["tree"])
        time.sleep(self.rng.uniform(0.02, 1.0))
        m.process.send_signal(signal.SIGKILL)
        m.process.wait()
        for _ in results:
            os.wait()
        subprocess.run(["fusermount3", "-u", "-z", m.path], check=False)
        self.cut_power()
        return {name: pickle.load(open(path, "rb")) for name, path in results.items()}

    def cut_power(self):
        if self.lossy:
            self.mount.cut_power()

    def check_store(self, what):
        p = subprocess.run([VECFS, "check", self.mount.store], capture_output=True, text=True)
        check("%s, the store passes its check" % what, p.returncode == 0, p.returncode, p.stdout[-2000:], p.stderr)

    def compact_and_kill(self):
        p = subprocess.Popen([VECFS, "compact", self.mount.store], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            p.wait(self.rng.uniform(0, 0.1))
        except subprocess.TimeoutExpired:
            p.kill()
        p.communicate()
        self.cut_power()
        return check("compact runs through or is killed", p.returncode in (0, -9), p.returncode)

    def settle(self, name, result, got):
        """Which of the two models is right becomes the model of the next round."""
        check("writer %s saw no other failure in %d changes" % (name, result["changes"]), not result["failures"], *result["failures"])
        right = [m for m in (result["model"], result["unsure"]) if m is not None and m == got]
        check("what writer %s was promised is there, and nothing else" % name, right, "without the last change:", *writers.difference(got, result["model"]),
              *(["with it:"] + writers.difference(got, result["unsure"]) if result["unsure"] else []))
        return right[0] if right else got

    def check_answers(self, everything):
        keys = sorted(everything)
        matrix = numpy.array([everything[k][0] for k in keys], dtype=numpy.float64)
        matrix /= numpy.linalg.norm(matrix, axis=1, keepdims=True)
        wrong, found, of = [], 0, 0
        for _ in range(10):
            v = writers.vector(self.rng)
            q = numpy.array(v) / numpy.linalg.norm(v)
            distances = 1 - matrix @ q
            best = numpy.sort(distances)[:10]
            by_key = dict(zip(keys, distances))
            for exact in (True, False):
                answer = self.mount.ask({"queryVector": v, "topK": 10, "returnDistance": True, "exact": exact})["vectors"]
                true = [abs(a["distance"] - by_key.get(a["key"], 9)) < 1e-5 for a in answer]
                if not all(true) or len(answer) != 10 or (exact and max(abs(a["distance"] - b) for a, b in zip(answer, best)) > 1e-5):
                    wrong.append((exact, answer, list(best)))
                if not exact:
                    found += sum(a["distance"] <= best[-1] + 1e-6 for a in answer)
                    of += 10
        check("exact answers are those of brute force, and no distance is wrong", not wrong, *wrong[:1])
        check("answers through the graph reach the recall", found >= 0.9 * of, "%d of %d" % (found, of))

    def round(self, i):
        results = self.write_until_killed()
        self.check_store("round %d" % i)
        if self.rng.random() < 0.5:
            self.compact_and_kill()
        self.mount.start()
        stream = writers.unpack_stream(self.mount.read("vectors.msgpack"))
        for letter in LETTERS:
            self.models[letter] = self.settle(letter, results[letter], writers.part_of(self.mount.index, letter, stream))
        self.tree = self.settle("tree", results["tree"], writers.tree_of(self.mount.path))
        everything = {r["key"]: (r["data"]["float32"], r["metadata"]) for r in stream}
        equal("nobody's records are there", len(everything), BULK + sum(len(m["records"]) for m in self.models.values()))
        self.check_answers(everything)


args = arguments()
if args.lossy and not os.path.exists(LOSSY):
    skip_all("no lossy disk")
note("seed %d" % args.seed)
rounds = Rounds(args.seed, args.lossy)
for i in range(1, args.rounds + 1):
    rounds.round(i)
equal("the last stop is clean", rounds.mount.stop(), 0)
rounds.check_store("at the end")
finish()
