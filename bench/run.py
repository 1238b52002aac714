#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs vecfs (in process and through a real mount), hnswlib and usearch on the same sets, interleaved, so that noise cancels: every effort
is asked of each in turn, ROUNDS times, and the best round of each counts (others were disturbed). Then half of the vectors are removed and
inserted again, and vecfs is asked once more. Saves OUT/results.json and OUT/SET.svg, prints a table of queries/s at equal recall.

usage: run.py --data DIR --out DIR --programs DIR --vecfs PROGRAM [--usearch NODE_PATH] [--rounds N] SET..."""
import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

EFFORTS = [10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
K = 10
HERE = os.path.dirname(os.path.abspath(__file__))


class Program:
    """A benchmark program that answers one line with one line."""

    def __init__(self, *command, **environment):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **environment})

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")
        return line.split()

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return [float(word) for word in self.read()]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Store:
    """A fresh store, mounted."""

    def __init__(self, vecfs, work):
        self.point = os.path.join(work, "mnt")
        os.makedirs(self.point)
        self.daemon = subprocess.Popen([vecfs, "-f", os.path.join(work, "store"), self.point])
        while not os.path.ismount(self.point):
            if self.daemon.poll() is not None:
                raise RuntimeError(f"vecfs ended with {self.daemon.returncode}")
            time.sleep(0.02)

    def index_path(self, bucket, index):
        return os.path.join(self.point, bucket, index)

    @staticmethod
    def stat(index, name):
        with open(os.path.join(index, "stats"), encoding="utf-8") as file:
            return dict(line.rstrip("\n").split(" ", 1) for line in file)[name]

    def wait_until_at_rest(self, index):
        """Linked, and its recall measured: nothing of it runs beside what is measured next."""
        self.wait_until_linked(index)
        while self.stat(index, "recall_measured") == "unknown":
            time.sleep(0.05)

    def wait_until_linked(self, index):
        while self.stat(index, "pending") != "0":
            time.sleep(0.1)

    def end(self):
        """The last checkpoint is written after the unmount."""
        subprocess.run(["fusermount3", "-u", self.point], check=True)
        self.daemon.wait()


class Mount(Store):
    """One with an index that holds a set."""

    def __init__(self, vecfs, data, work):
        super().__init__(vecfs, work)
        self.index = self.index_path("bench", "bench")
        os.makedirs(self.index)
        with open(os.path.join(data, "metric"), encoding="utf-8") as file:
            metric = file.read().strip()
        import numpy as np
        raw = np.fromfile(os.path.join(data, "base.fvecs"), dtype="<i4")
        dim = int(raw[0])
        with open(os.path.join(self.index, "config"), "w", encoding="utf-8") as file:
            file.write(f"dimension = {dim}\nmetric = {metric}\n")
        matrix = raw.reshape(-1, dim + 1)[:, 1:].view("<f4")
        start = time.monotonic()
        with open(os.path.join(self.index, "insert"), "wb", buffering=0) as file:
            np.save(Unseekable(file), matrix)
        self.ingest_s = time.monotonic() - start
        self.wait_until_linked(self.index)


class Unseekable:
    """np.save into a descriptor without tofile(), which would seek."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        view = memoryview(data).cast("B")
        for start in range(0, len(view), 1 << 20):
            self.file.write(view[start:start + (1 << 20)])


def at_recall(curve, target):
    """Queries/s where the curve reaches the target, interpolated between its points; None when it does not."""
    points = sorted(curve, key=lambda p: p["recall"])
    for low, high in zip(points, points[1:]):
        if low["recall"] < target <= high["recall"]:
            part = (target - low["recall"]) / (high["recall"] - low["recall"])
            return low["qps"] + part * (high["qps"] - low["qps"])
    if points and points[0]["recall"] >= target:
        return points[0]["qps"]
    return None


def start_peers(args, data, work, result):
    """In process, one after the other, since each builds on all it can get."""
    hnswlib = Program(os.path.join(args.programs, "peer_hnswlib"), data)
    cpu, size = hnswlib.read()[1:3]
    result["hnswlib"] = {"build_cpu_s": float(cpu), "bytes": int(size)}
    engine = Program(os.path.join(args.programs, "engine"), data, os.path.join(work, "engine"))
    cpu, size, ingest = engine.read()[1:4]
    result["engine"] = {"build_cpu_s": float(cpu), "bytes": int(size), "ingest_s": float(ingest)}
    peers = {"hnswlib": hnswlib, "engine": engine}
    if args.usearch:
        peers["usearch"] = Program("node", os.path.join(HERE, "peer_usearch.cjs"), data, work, NODE_PATH=args.usearch)
        cpu, size = peers["usearch"].read()[1:3]
        result["usearch"] = {"build_cpu_s": float(cpu), "bytes": int(size)}
    return peers


def curve_of(rows_of):
    """rows_of: effort -> rounds of (queries/s, recall[, p50, p99])."""
    curve = []
    for ef, rows in rows_of.items():
        point = {"ef": ef, "qps": max(row[0] for row in rows), "recall": rows[0][1]}
        if len(rows[0]) > 2:
            point.update(p50_us=min(row[2] for row in rows), p99_us=min(row[3] for row in rows))
        curve.append(point)
    return curve


def sample(asked, rounds):
    samples = {who: {ef: [] for ef in EFFORTS} for who in asked}
    for _ in range(rounds):
        for ef in EFFORTS:
            for who, ask in asked.items():
                samples[who][ef].append(ask(ef))
    return {who: curve_of(rows) for who, rows in samples.items()}


def ask_in_all_forms(args, data, index):
    """Queries/s at ef 32 of one client that writes its vectors as binary, as a msgpack list, as JSON."""
    clients = {form: Program(os.path.join(args.programs, "client"), data, index, form) for form in ("bin", "list", "json")}
    best = dict.fromkeys(clients, 0)
    for _ in range(args.rounds):
        for form, client in clients.items():
            best[form] = max(best[form], client.ask(32, K, 1)[0])
    for client in clients.values():
        client.end()
    return best


def measure(args, name):
    data = os.path.join(args.data, name)
    work = tempfile.mkdtemp(dir=args.out)
    os.mkdir(os.path.join(work, "engine"))
    result = {"set": name, "k": K}
    peers = start_peers(args, data, work, result)
    mount = Mount(args.vecfs, data, work)
    client = Program(os.path.join(args.programs, "client"), data, mount.index)
    result["mount"] = {"ingest_s": mount.ingest_s, "file_bytes": int(mount.stat(mount.index, "file_bytes"))}
    asked = {who: lambda ef, peer=peer: peer.ask(ef, K) for who, peer in peers.items()}
    asked.update(mount=lambda ef: client.ask(ef, K, 1), mount8=lambda ef: client.ask(ef, K, 8))
    for who, curve in sample(asked, args.rounds).items():
        result.setdefault(who, {})["curve"] = curve
    result["default"] = dict(zip(("qps", "recall", "p50_us", "p99_us"), client.ask(0, K, 1)))
    result["forms"] = ask_in_all_forms(args, data, mount.index)
    result["churned"] = {"cpu_s": peers["engine"].ask("churn")[0]}
    for who, curve in sample({who: asked[who] for who in ("hnswlib", "engine")}, args.rounds).items():
        result["churned"][who] = {"curve": curve}
    for program in (*peers.values(), client):
        program.end()
    mount.end()
    shutil.rmtree(work)
    return result


SHOWN = ("hnswlib", "usearch", "engine", "mount", "mount8")


def print_table(results):
    print(f"{'set':12} {'recall':>6} {'hnswlib':>9} {'usearch':>9} {'engine':>9} {'x':>6} {'mount':>9} {'x':>6} {'8 clients':>9} {'x one':>6}")
    for r in results:
        for target in (0.90, 0.95, 0.99):
            qps = {who: at_recall(r[who]["curve"], target) for who in SHOWN if who in r}
            if None in qps.values():
                continue
            print(f"{r['set']:12} {target:6.2f} {qps['hnswlib']:9.0f} {qps.get('usearch', 0):9.0f} {qps['engine']:9.0f} "
                  f"{qps['engine'] / qps['hnswlib']:6.2f} {qps['mount']:9.0f} {qps['mount'] / qps['hnswlib']:6.2f} {qps['mount8']:9.0f} "
                  f"{qps['mount8'] / qps['mount']:6.2f}")
        h, e, c = r["hnswlib"], r["engine"], r["churned"]
        print(f"{r['set']:12} build CPU {h['build_cpu_s']:.1f} / {e['build_cpu_s']:.1f} s ({e['build_cpu_s'] / h['build_cpu_s']:.2f}), "
              f"memory {h['bytes'] / 1e6:.0f} / {e['bytes'] / 1e6:.0f} MB ({e['bytes'] / h['bytes']:.2f}), "
              f"default settings: recall {r['default']['recall']:.4f} at {r['default']['qps']:.0f}/s, p50 {r['default']['p50_us']:.0f} us")
        forms = r["forms"]
        print(f"{'':12} questions as binary {forms['bin']:.0f}/s, as a list of msgpack {forms['list']:.0f} ({forms['list'] / forms['bin']:.2f}), "
              f"as JSON {forms['json']:.0f} ({forms['json'] / forms['bin']:.2f})")
        fresh, after = ({p["ef"]: p for p in x["curve"]} for x in (e, c["engine"]))
        still = {p["ef"]: p["qps"] for p in c["hnswlib"]["curve"]}
        noise = still[64] / next(p["qps"] for p in h["curve"] if p["ef"] == 64)
        print(f"{'':12} half removed and inserted again: recall at ef 64 {fresh[64]['recall']:.4f} -> {after[64]['recall']:.4f}, "
              f"queries/s x {after[64]['qps'] / fresh[64]['qps'] / noise:.2f} (hnswlib, which was left alone, meanwhile x {noise:.2f})")


PLOT = """set terminal svg size 720,480 dynamic background rgb 'white'
set output '{out}'
set title '{title}'
set xlabel 'recall@10'
set ylabel 'queries/s'
set logscale y
set key left bottom
set grid
plot {lines}
"""


def plot(result, out):
    """A curve for each, by gnuplot where it is installed."""
    if not shutil.which("gnuplot"):
        return
    names = {"mount": "vecfs, mounted", "mount8": "vecfs, mounted, 8 clients", "engine": "vecfs, in process"}
    shown = [who for who in SHOWN if who in result]
    lines = ", ".join(f"'-' with linespoints title '{names.get(who, who)}'" for who in shown)
    points = "".join("".join(f"{p['recall']} {p['qps']}\n" for p in result[who]["curve"]) + "e\n" for who in shown)
    script = PLOT.format(out=os.path.join(out, result["set"] + ".svg"), title=result["set"], lines=lines)
    subprocess.run(["gnuplot"], input=script + points, text=True, check=True)


def arguments(*more):
    """What every benchmark is told, and what only this one is; makes the sets when there are any."""
    parser = argparse.ArgumentParser()
    for name in ("--out", "--programs", "--vecfs"):
        parser.add_argument(name, required=True)
    for name in more:
        parser.add_argument(name)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("sets", nargs="+")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    if "--data" in more:
        subprocess.run([sys.executable, os.path.join(HERE, "sets.py"), args.data, *args.sets], check=True)
    return args


def tabulate(args, name, header, measure, line):
    """A row for each set of numbers, A:B[:C], that is asked for; saved as OUT/NAME.json."""
    results = []
    print(header)
    for numbers in args.sets:
        results.append(measure(args, *map(int, numbers.split(":"))))
        print(line(results[-1]), flush=True)
        with open(os.path.join(args.out, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


def main():
    args = arguments("--data", "--usearch")
    results = []
    for name in args.sets:
        results.append(measure(args, name))
        print_table(results[-1:])
        plot(results[-1], args.out)
        with open(os.path.join(args.out, "results.json"), "w", encoding="utf-8") as file:
            json.dump({"date": time.strftime("%Y-%m-%d"), "machine": platform.processor() or platform.machine(),
                       "processors": os.cpu_count(), "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
