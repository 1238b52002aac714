#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What grows with an index: a question at equal recall (in process), the memory of a vector, the first answer after a remount beside reading as
many bytes as the graph has, the exact answer beside reading all vectors, and 500 questions at once beside one by one. Prints a table, saves
OUT/scale.json.

usage: scale.py --data DIR --out DIR --programs DIR --vecfs PROGRAM [--rounds N] SET..."""
import json
import os
import shutil
import subprocess
import tempfile
import time

import msgpack
import numpy as np

from run import K, Mount, Program, arguments, at_recall

EFFORTS = [16, 20, 24, 32, 40, 48, 64]
MANY = 500


class Client:
    def __init__(self, index):
        self.fd = os.open(os.path.join(index, "query"), os.O_RDWR)

    def ask(self, **question):
        """Seconds."""
        packed = msgpack.packb(dict(question, topK=K))
        start = time.perf_counter()
        for at in range(0, len(packed), 1 << 20):
            os.write(self.fd, packed[at:at + (1 << 20)])
        unpacker = msgpack.Unpacker()
        unpacker.feed(os.read(self.fd, 1 << 20))
        while True:
            try:
                unpacker.skip()
                return time.perf_counter() - start
            except msgpack.OutOfData:
                unpacker = self.more(unpacker)

    def more(self, unpacker):
        unpacker.feed(os.read(self.fd, 1 << 20))
        return unpacker

    def end(self):
        os.close(self.fd)


def read_seconds(path, size):
    """Of so many bytes of a file, from the front, again and again when it is shorter."""
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while size > 0:
            got = len(file.read(1 << 20))
            if got == 0:
                file.seek(0)
            size -= got
    return time.perf_counter() - start


def sum_seconds(matrix):
    start = time.perf_counter()
    matrix.sum(dtype="f4")
    return time.perf_counter() - start


def in_process(args, data, work):
    os.mkdir(os.path.join(work, "engine"))
    engine = Program(os.path.join(args.programs, "engine"), data, os.path.join(work, "engine"))
    cpu, size = map(float, engine.read()[1:3])
    rows = {ef: [engine.ask(ef, K) for _ in range(args.rounds)] for ef in EFFORTS}
    engine.end()
    curve = [{"ef": ef, "qps": max(r[0] for r in rows[ef]), "recall": rows[ef][0][1]} for ef in EFFORTS]
    return {"build_cpu_s": cpu, "bytes": size, **{f"us_at_{target}": 1e6 / at_recall(curve, target) for target in (0.95, 0.99)}}


def first_answer(args, mount, vector):
    """Seconds from the start of the daemon to its first answer."""
    mount.end()
    start = time.perf_counter()
    mount.daemon = subprocess.Popen([args.vecfs, "-f", os.path.join(os.path.dirname(mount.point), "store"), mount.point])
    while not os.path.ismount(mount.point):
        time.sleep(0.0005)
    client = Client(mount.index)
    client.ask(queryVector=vector)
    client.end()
    return time.perf_counter() - start


def mounted(args, data, work):
    mount = Mount(args.vecfs, data, work)
    raw = np.fromfile(os.path.join(data, "query.fvecs"), dtype="<i4")
    queries = [row.tobytes() for row in raw.reshape(-1, raw[0] + 1)[:, 1:]]
    base = np.fromfile(os.path.join(data, "base.fvecs"), dtype="<f4")
    time.sleep(10)        # until the effort is measured
    client, rounds = Client(mount.index), range(args.rounds)
    result = {
        "exact_s": min(client.ask(queryVector=queries[0], exact=True) for _ in rounds), "sum_s": min(sum_seconds(base) for _ in rounds),
        "one_by_one_s": min(sum(client.ask(queryVector=q) for q in queries[:MANY]) for _ in rounds),
        "at_once_s": min(client.ask(queryVectors=queries[:MANY]) for _ in rounds),
    }
    client.end()
    size = int(mount.stat(mount.index, "memory_bytes"))
    result["first_s"] = min(first_answer(args, mount, queries[0]) for _ in rounds)
    result["read_s"] = min(read_seconds(os.path.join(work, "store", "bench", "bench", "data.mdb"), size) for _ in rounds)
    mount.end()
    return result


def main():
    args = arguments("--data")
    print(f"{'set':10} {'us @.95':>8} {'us @.99':>8} {'bytes each':>10} {'first answer':>12} {'reading':>8} {'exact':>8} {'summing':>8} {'500, one by one':>15} {'at once':>8}")
    results = []
    for name in args.sets:
        data, work = os.path.join(args.data, name), tempfile.mkdtemp(dir=args.out)
        r = {"set": name, **in_process(args, data, work), **mounted(args, data, work)}
        vectors = os.path.getsize(os.path.join(data, "base.fvecs")) / (4 * int(np.fromfile(os.path.join(data, "base.fvecs"), "<i4", 1)[0]) + 4)
        results.append(r)
        print(f"{name:10} {r['us_at_0.95']:8.1f} {r['us_at_0.99']:8.1f} {r['bytes'] / vectors:10.0f} {r['first_s']:10.3f} s {r['read_s']:6.3f} s "
              f"{1e3 * r['exact_s']:5.1f} ms {1e3 * r['sum_s']:5.1f} ms {1e3 * r['one_by_one_s']:12.1f} ms {1e3 * r['at_once_s']:5.1f} ms", flush=True)
        shutil.rmtree(work)
        with open(os.path.join(args.out, "scale.json"), "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
