#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How long a client waits that asks now and then, at rest and while as many vectors more are linked. Prints a table and saves OUT/busy.json.

usage: busy.py --out DIR --programs DIR --vecfs PROGRAM [--rounds N] DIMENSION:VECTORS:MORE..."""
import os
import shutil
import tempfile
import time

import msgpack
import numpy as np

from ingest import insert, make_index
from run import Store, Unseekable, arguments, tabulate

ASKED_AT_REST = 1000
PAUSE_S = 0.002
LOOKS = 20        # questions from one look at `pending` to the next


class Client:
    def __init__(self, index, queries):
        self.index = index
        self.descriptor = os.open(os.path.join(index, "query"), os.O_RDWR)
        self.questions = [msgpack.packb({"queryVector": {"float32": q.tolist()}, "topK": 10}) for q in queries]
        self.asked = 0

    def ask(self):
        question = self.questions[self.asked % len(self.questions)]
        self.asked += 1
        start = time.monotonic()
        os.write(self.descriptor, question)
        os.pread(self.descriptor, 65536, 0)
        return (time.monotonic() - start) * 1e6

    def while_(self, goes_on):
        waits = []
        while goes_on(len(waits)):
            waits.append(self.ask())
            time.sleep(PAUSE_S)
        return waits

    def at_rest(self):
        return self.while_(lambda asked: asked < ASKED_AT_REST)

    def while_linking(self):
        return self.while_(lambda asked: asked % LOOKS or Store.stat(self.index, "pending") != "0")


def vectors(rng, mix, n):
    """On a plane of few dimensions, and a little off it."""
    return (rng.standard_normal((n, len(mix))) @ mix + 0.1 * rng.standard_normal((n, mix.shape[1]))).astype("<f4")


def load_more(index, matrix):
    """With keys of their own."""
    stream = b"".join(msgpack.packb({"key": f"more{i}", "data": row.tobytes()}) for i, row in enumerate(matrix))
    with open(os.path.join(index, "insert"), "wb", buffering=0) as file:
        Unseekable(file).write(stream)


def measure(args, dim, n, more):
    work = tempfile.mkdtemp(dir=args.out)
    store = Store(args.vecfs, work)
    index = make_index(store, "bench", dim)
    rng = np.random.default_rng(dim)
    mix = rng.standard_normal((32, dim))
    insert(index, vectors(rng, mix, n))
    store.wait_until_at_rest(index)
    client = Client(index, vectors(rng, mix, 200))
    rest = client.at_rest()
    load_more(index, vectors(rng, mix, more))
    busy = client.while_linking()
    os.close(client.descriptor)
    store.end()
    shutil.rmtree(work)
    p99 = [float(np.percentile(waits, 99)) for waits in (rest, busy, busy[len(busy) // 2:])]
    return {"dimension": dim, "vectors": n, "more": more, "asked": len(busy), "p99_rest_us": p99[0], "p99_busy_us": p99[1], "p99_later_us": p99[2]}


def line(r):
    return (f"{r['dimension']:5} {r['vectors']:8} {r['more']:7} {r['p99_rest_us']:9.0f} us {r['p99_busy_us']:11.0f} us {r['p99_busy_us'] / r['p99_rest_us']:5.1f} "
            f"{r['p99_later_us']:8.0f} us {r['p99_later_us'] / r['p99_rest_us']:5.1f}")


def main():
    header = f"{'dim':>5} {'vectors':>8} {'more':>7} {'p99 at rest':>12} {'while linking':>14} {'x':>5} {'later half':>11} {'x':>5}"
    tabulate(arguments(), "busy", header, measure, line)


if __name__ == "__main__":
    main()
