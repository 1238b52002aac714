#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writing through a mount beside LMDB alone on the same disk, interleaved: whole matrices into `insert` beside appended rows, and one vector a
file, from one writer and from eight, beside transactions of one row. Everything is on disk when it counts. Prints a table and saves OUT/ingest.json.

usage: ingest.py --out DIR --programs DIR --vecfs PROGRAM [--rounds N] DIMENSION:VECTORS..."""
import os
import shutil
import tempfile
import time

import numpy as np

from run import Program, Store, Unseekable, arguments, tabulate

FILES = 2000
BATCH = 50000     # rows of a bare transaction


def make_index(store, name, dim):
    path = store.index_path("bench", name)
    os.makedirs(path)
    with open(os.path.join(path, "config"), "w", encoding="utf-8") as file:
        file.write(f"dimension = {dim}\nmetric = euclidean\n")
    return path


def insert(index, matrix):
    start = time.monotonic()
    with open(os.path.join(index, "insert"), "wb", buffering=0) as file:
        np.save(Unseekable(file), matrix)
    return len(matrix) / (time.monotonic() - start)


def measure(args, dim, n):
    work = tempfile.mkdtemp(dir=args.out)
    bare = os.path.join(work, "bare")
    os.mkdir(bare)
    matrix = np.random.default_rng(dim).standard_normal((n, dim)).astype("<f4")
    store = Store(args.vecfs, work)
    lmdb = Program(os.path.join(args.programs, "peer_lmdb"), str(dim), bare)
    rates = {name: [] for name in ("append", "insert", "commits", "one", "eight")}
    for number in range(args.rounds):
        index = make_index(store, f"i{number}", dim)
        writer = Program(os.path.join(args.programs, "writer"), str(dim), make_index(store, f"w{number}", dim))
        rates["commits"] += lmdb.ask("commit", FILES)
        rates["one"] += writer.ask(FILES, 1)
        rates["eight"] += writer.ask(FILES, 8)
        writer.end()
        rates["append"] += lmdb.ask("append", n, BATCH)
        rates["insert"].append(insert(index, matrix))
        store.wait_until_at_rest(index)
    lmdb.end()
    store.end()
    shutil.rmtree(work)
    return {"dimension": dim, "vectors": n, **{name: max(rate) for name, rate in rates.items()}}


def line(r):
    return (f"{r['dimension']:5} {r['vectors']:8} {r['append']:12.0f} {r['insert']:9.0f} {r['insert'] / r['append']:5.2f} {r['commits']:13.0f} "
            f"{r['one']:12.0f} {r['one'] / r['commits']:5.2f} {r['eight']:10.0f} {r['eight'] / r['one']:6.2f}")


def main():
    header = f"{'dim':>5} {'vectors':>8} {'LMDB append':>12} {'insert':>9} {'x':>5} {'LMDB commits':>13} {'a file each':>12} {'x':>5} {'8 writers':>10} {'x one':>6}"
    tabulate(arguments(), "ingest", header, measure, line)


if __name__ == "__main__":
    main()
