#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Filtered questions: latency and recall by how many records match, through a real mount, beside a plain scan of the matches and hnswlib's
filter functor (both in process, the matches given to them) and sqlite-vec's metadata columns; and what postings cost an ingest.
Saves OUT/filtered.json, prints tables.

  c100-128   filters of 0.03 % to 90 %: at random; all near the query; all far from it; and as a range of 100,000 different numbers
  tenants    50,000 x 384, cosine: the generator, the ten filters and the answers' lengths of a published benchmark of a hosted service
             (github.com/Extraordinarytechy/s3vectors-prefilter-bench)

usage: filtered.py --out DIR --programs DIR --vecfs PROGRAM --sqlite-vec DIR [--rounds N] [SET...]"""
import argparse
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

import msgpack
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sets
from run import Store

SHARES = [0.0003, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9]
QUERIES = 50


# ---- the sets: vectors, queries, metadata as columns, and cells: what is asked with which filter ----

class Cell:
    """One filter, asked with the queries [first, first + QUERIES): as vecfs and as SQL say it, and the rows that it selects."""

    def __init__(self, name, kind, condition, sql, rows, first=0, k=10):
        self.name, self.kind, self.filter, self.sql, self.rows, self.first, self.k = name, kind, condition, sql, rows, first, k


def by_share(name):
    """Rank 0..n-1 at random, and by the distance to one query; the queries from the nearest to that one to the farthest."""
    base, queries, metric = sets.clustered(100, 128)
    rng = np.random.default_rng(7)
    n, pivot = len(base), queries[0]
    order = np.argsort(((queries - pivot) ** 2).sum(1), kind="stable")
    queries = np.concatenate([queries[order[:QUERIES]], queries[order[-QUERIES:]]])
    rank = rng.permutation(n)
    near = np.empty(n, dtype=int)
    near[np.argsort(((base - pivot) ** 2).sum(1), kind="stable")] = np.arange(n)
    metadata = [{"rank": int(rank[i]), "tags": ["r%g" % s for s in SHARES if rank[i] < s * n] + ["n%g" % s for s in SHARES if near[i] < s * n]}
                for i in range(n)]
    cells = []
    for share in SHARES:
        limit = round(share * n)
        for kind, tag, column, ranks, first in (("random", "r", "rank", rank, 0), ("near", "n", "near", near, 0), ("far", "n", "near", near, QUERIES)):
            cells.append(Cell("%g %%" % (100 * share), kind, {"tags": "%s%g" % (tag, share)}, "%s < %d" % (column, limit), ranks < limit, first))
        cells.append(Cell("%g %%" % (100 * share), "range", {"rank": {"$lt": limit}}, "rank < %d" % limit, rank < limit))
    columns = {"rank": rank.tolist(), "near": near.tolist()}
    return base, queries, metric, metadata, columns, cells


def tenants(name):
    rng = np.random.default_rng(20260930)
    n, dim, inner, clusters = 50000, 384, 32, 64
    centres, mix = rng.normal(0, 1, (clusters, inner)), rng.normal(0, 1 / np.sqrt(inner), (inner, dim))

    def draw(count):
        latent = centres[rng.integers(0, clusters, count)] + 0.35 * rng.normal(0, 1, (count, inner))
        rows = latent @ mix + 0.05 * rng.normal(0, 1, (count, dim))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")

    base, queries = draw(n), draw(QUERIES)
    counts = {"tenant-s50": 25000, "tenant-s10": 5000, "tenant-s1": 500, "tenant-s01": 50, "tenant-s001": 5, "tenant-few": 3, "tenant-one": 1}
    others = ["tenant-bg-%02d" % (i % 100) for i in range(n - sum(counts.values()))]
    tenant = rng.permutation(np.array(sum(([t] * c for t, c in counts.items()), others)))
    category = rng.permutation(np.array(["c%d" % (i % 4) for i in range(n)]))
    year = rng.permutation(np.array([2015 + i % 10 for i in range(n)]))
    columns = {"tenant": tenant.tolist(), "category": category.tolist(), "year": year.tolist()}
    metadata = [dict(zip(columns, row)) for row in zip(*columns.values())]

    def is_tenant(t):
        return {"tenant": t}, "tenant = '%s'" % t, tenant == t

    filters = {f: is_tenant(t) for f, t in (("F50", "tenant-s50"), ("F10", "tenant-s10"), ("F1", "tenant-s1"), ("F01", "tenant-s01"),
                                            ("F001", "tenant-s001"), ("FFEW", "tenant-few"), ("FONE", "tenant-one"), ("FZERO", "tenant-absent"))}
    filters["FAND2"] = ({"$and": [{"tenant": "tenant-s1"}, {"category": "c1"}]}, "tenant = 'tenant-s1' and category = 'c1'",
                        (tenant == "tenant-s1") & (category == "c1"))
    filters["FAND3"] = ({"$and": [{"tenant": "tenant-s10"}, {"category": "c2"}, {"year": {"$gte": 2020}}]},
                        "tenant = 'tenant-s10' and category = 'c2' and year >= 2020", (tenant == "tenant-s10") & (category == "c2") & (year >= 2020))
    cells = [Cell(f, "tenants", *said, k=k) for f, said in filters.items() for k in (5, 10, 20, 50)]
    return base, queries, "cosine", metadata, columns, cells


SETS = {"c100-128": by_share, "tenants": tenants}


def distances(base, query, metric):
    if metric == "cosine":
        return 1 - (base @ query) / (np.linalg.norm(base, axis=1) * np.linalg.norm(query))
    return np.sqrt(((base - query) ** 2).sum(1))


def recall(cell, base, queries, metric, found):
    """Of the true neighbours' number, how many were found that are as near as the last true one."""
    rows = np.flatnonzero(cell.rows)
    want = min(cell.k, len(rows))
    if want == 0:
        return 1.0 if not any(map(len, found)) else 0.0
    hits = 0
    matching = base[rows].astype("f8")
    for query, got in zip(queries[cell.first:cell.first + QUERIES].astype("f8"), found):
        reach = np.partition(distances(matching, query, metric), want - 1)[want - 1]
        got = [g for g in got if g >= 0]
        assert all(cell.rows[g] for g in got), "an answer has what the filter does not select"
        hits += int((distances(base[got].astype("f8"), query, metric) <= reach * (1 + 1e-12) + 1e-15).sum()) if got else 0
    return hits / (want * QUERIES)


# ---- who is asked ----

class Mount:
    """A fresh store, mounted, with one index."""

    def __init__(self, vecfs, work, dim, metric, *settings):
        self.work = tempfile.mkdtemp(dir=work)
        self.store = Store(vecfs, self.work)
        self.index = self.store.index_path("bench", "bench")
        os.makedirs(self.index)
        with open(os.path.join(self.index, "config"), "w", encoding="utf-8") as file:
            file.write("dimension = %d\nmetric = %s\n" % (dim, metric) + "".join(s + "\n" for s in settings))

    def ingest(self, base, metadata):
        """Seconds until the records are durable."""
        stream = [b"".join(msgpack.packb({"key": str(i), "data": base[i].tobytes(), "metadata": metadata[i]}) for i in range(a, min(a + 1000, len(base))))
                  for a in range(0, len(base), 1000)]
        start = time.monotonic()
        with open(os.path.join(self.index, "insert"), "wb", buffering=0) as file:
            for part in stream:
                file.write(part)
        return time.monotonic() - start

    def wait_until_linked(self):
        while self.stat("pending") != "0":
            time.sleep(0.1)
        # The search effort is measured behind the linking.
        deadline = time.monotonic() + 120
        while self.stat("recall_measured") == "unknown" and time.monotonic() < deadline:
            time.sleep(0.2)

    def stat(self, name):
        with open(os.path.join(self.index, "stats"), encoding="utf-8") as file:
            return dict(line.rstrip("\n").split(" ", 1) for line in file)[name]

    def ask(self, cell, queries, **more):
        fd = os.open(os.path.join(self.index, "query"), os.O_RDWR)
        times, answers = [], []
        for query in queries[cell.first:cell.first + QUERIES]:
            question = msgpack.packb(dict(queryVector=query.tobytes(), topK=cell.k, filter=cell.filter, **more))
            start = time.perf_counter()
            os.write(fd, question)
            answer = os.read(fd, 1 << 20)
            times.append(1e6 * (time.perf_counter() - start))
            answers.append(msgpack.unpackb(answer))
        os.close(fd)
        return times, answers

    def end(self):
        self.store.end()
        shutil.rmtree(self.work)


class Peer:
    def __init__(self, programs, directory, work):
        self.out, self.mask = os.path.join(work, "found"), os.path.join(work, "mask")
        self.process = subprocess.Popen([os.path.join(programs, "peer_filtered"), directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def ask(self, method, cell, ef):
        cell.rows.astype("u1").tofile(self.mask)
        self.process.stdin.write(f"{method} {self.mask} {cell.first} {QUERIES} {cell.k} {ef} {self.out}\n")
        self.process.stdin.flush()
        times = [float(t) for t in self.process.stdout.readline().split()]
        return times, np.fromfile(self.out, dtype="<i4").reshape(QUERIES, cell.k).tolist()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class SqliteVec:
    def __init__(self, extension, base, metric, columns):
        self.db = sqlite3.connect(":memory:")
        self.db.enable_load_extension(True)
        self.db.load_extension(extension)
        kinds = {name: "text" if isinstance(values[0], str) else "integer" for name, values in columns.items()}
        self.db.execute("create virtual table v using vec0(embedding float[%d] distance_metric=%s, %s)" %
                        (base.shape[1], "cosine" if metric == "cosine" else "L2", ", ".join(f"{name} {kind}" for name, kind in kinds.items())))
        self.db.executemany("insert into v(rowid, embedding, %s) values (?, ?%s)" % (", ".join(columns), ", ?" * len(columns)),
                            ((i, base[i].tobytes(), *row) for i, row in enumerate(zip(*columns.values()))))

    def ask(self, cell, queries):
        times, found = [], []
        for query in queries[cell.first:cell.first + QUERIES]:
            start = time.perf_counter()
            rows = self.db.execute(f"select rowid from v where embedding match ? and k = ? and {cell.sql}", (query.tobytes(), cell.k)).fetchall()
            times.append(1e6 * (time.perf_counter() - start))
            found.append([r[0] for r in rows])
        return times, found


# ---- all of it ----

PLANS = ["nothing matches", "scan of vectors in memory", "graph", "graph, given up for a scan of codes", "scan of codes", "scan of vectors"]


def best_p50(rounds):
    return round(float(np.percentile(np.min(rounds, axis=0), 50)), 1)


def summary(rounds, **more):
    """Of each question the best of all rounds, since others use the machine too."""
    return dict(p50_us=best_p50(rounds), p99_us=round(float(np.percentile(np.min(rounds, axis=0), 99)), 1), **more)


def measure_cell(cell, base, queries, metric, mount, peer, sqlite, rounds):
    ours, scan, explained = [], [], []
    for _ in range(rounds):
        times, answers = mount.ask(cell, queries)
        ours.append(times)
        scan.append(peer.ask("scan", cell, 10)[0])
        explained.append([a["explain"] for a in mount.ask(cell, queries, explain=True)[1]])
    matches = int(cell.rows.sum())
    assert all(a["matched"] == matches and len(a["vectors"]) == min(cell.k, matches) for a in answers), cell.name
    result = {"filter": cell.name, "kind": cell.kind, "k": cell.k, "matches": matches, "share": matches / len(base)}
    result["vecfs"] = summary(ours, recall=recall(cell, base, queries, metric, [[int(v["key"]) for v in a["vectors"]] for a in answers]),
                              plan=max(PLANS, key=[e["plan"] for e in explained[0]].count), scanned=float(np.median([e.get("scanned", 0) for e in explained[0]])),
                              **{step + "_us": best_p50([[e["microseconds"][step] for e in run] for run in explained]) for step in ("match", "search", "rank")})
    result["scan"] = summary(scan)
    # Where few match hnswlib takes up to a second a question: once, and not for every k.
    for ef in (64, 256) if cell.k == 10 else ():
        times, found = peer.ask("graph", cell, ef)
        result.setdefault("hnswlib", []).append(summary([times], ef=ef, recall=recall(cell, base, queries, metric, found)))
    if sqlite and cell.k == 10:
        times, found = sqlite.ask(cell, queries)
        result["sqlite_vec"] = summary([times], recall=recall(cell, base, queries, metric, found))
    return result


def ingest_costs(args, work, base, metric, metadata):
    """With every field filterable, and with none: in turn, and the best of each. Linking, which comes behind, is the same for both."""
    names = sorted({name for row in metadata[:100] for name in row})
    seconds = {"filterable": [], "non_filterable": []}
    for _ in range(5):
        for kind, settings in (("filterable", []), ("non_filterable", ["non_filterable = " + ", ".join(names)])):
            mount = Mount(args.vecfs, work, base.shape[1], metric, *settings)
            seconds[kind].append(mount.ingest(base, metadata))
            mount.end()
    best = {kind: round(min(runs), 3) for kind, runs in seconds.items()}
    return dict(best, postings_share=round(1 - best["non_filterable"] / best["filterable"], 3))


def measure(args, name, save):
    base, queries, metric, metadata, columns, cells = SETS[name](name)
    work = tempfile.mkdtemp(dir=args.out)
    directory = os.path.join(work, "set")
    os.mkdir(directory)
    for file, matrix in (("base.fvecs", base), ("query.fvecs", queries)):
        sets.write_vecs(os.path.join(directory, file), matrix, "<f4")
    sets.write_vecs(os.path.join(directory, "truth.ivecs"), np.zeros((len(queries), 1)), "<i4")
    with open(os.path.join(directory, "metric"), "w", encoding="utf-8") as file:
        file.write(metric + "\n")
    result = {"set": name, "records": len(base), "dimension": base.shape[1], "metric": metric, "cells": []}
    if args.ingest:
        result["ingest"] = ingest_costs(args, work, base, metric, metadata)
        print(name, result["ingest"], flush=True)
    mount = Mount(args.vecfs, work, base.shape[1], metric)
    mount.ingest(base, metadata)
    peer = Peer(args.programs, directory, work)
    sqlite = SqliteVec(os.path.join(args.sqlite_vec, "vec0"), base, metric, columns) if args.sqlite_vec else None
    mount.wait_until_linked()
    print(f"{'filter':>8} {'kind':7} {'k':>3} {'matches':>7} | vecfs p50 p99 us, recall, plan (match+search+rank us) | scan p50 | hnswlib ef 64, 256: p50 recall | sqlite-vec")
    for cell in cells:
        result["cells"].append(measure_cell(cell, base, queries, metric, mount, peer, sqlite, args.rounds))
        print_cell(result["cells"][-1])
        save(result)
    peer.end()
    mount.end()
    shutil.rmtree(work)
    return result


def print_cell(c):
    v = c["vecfs"]
    print(f"{c['filter']:>8} {c['kind']:7} {c['k']:3} {c['matches']:7} | {v['p50_us']:7.0f} {v['p99_us']:7.0f} {v['recall']:.4f} {v['plan']} "
          f"({v['match_us']:.0f}+{v['search_us']:.0f}+{v['rank_us']:.0f}) | {c['scan']['p50_us']:6.0f} | " +
          ", ".join(f"{h['p50_us']:.0f} {h['recall']:.3f}" for h in c.get("hnswlib", [])) +
          (f" | {c['sqlite_vec']['p50_us']:.0f} {c['sqlite_vec']['recall']:.3f}" if "sqlite_vec" in c else ""), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--programs", required=True)
    parser.add_argument("--vecfs", required=True)
    parser.add_argument("--sqlite-vec", help="directory of the loadable extension vec0; without it sqlite-vec is left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-ingest", dest="ingest", action="store_false")
    parser.add_argument("sets", nargs="*", default=list(SETS))
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    done = []

    def save(current):
        with open(os.path.join(args.out, "filtered.json"), "w", encoding="utf-8") as file:
            json.dump({"date": time.strftime("%Y-%m-%d"), "machine": platform.processor() or platform.machine(), "processors": os.cpu_count(),
                       "queries": QUERIES, "results": done + [current]}, file, indent=1)

    for name in args.sets:
        done.append(measure(args, name, save))
    save(done.pop())


if __name__ == "__main__":
    main()
