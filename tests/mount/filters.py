#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Random filters over random records that change: what the mount selects, counts, ranks, updates and deletes, beside a plain reading
of every record in Python. A failure names the seed; VECFS_SEED=... repeats it, VECFS_FILTER_SECONDS=600 goes on for longer."""
import math
import random

from harness import *

SEED = int(os.environ.get("VECFS_SEED", time.time()))
SECONDS = float(os.environ.get("VECFS_FILTER_SECONDS", 12))
DIM = 4
FIELDS = ["a", "n", "tags", "file.name", "content-type", "two words", "Ünï", "."]
# Where a comparison by way of double, a wrap-around or a text would go wrong.
NUMBERS = [0, 0.0, -0.0, 1, -1, 1.0, 5, 5.0, 5.5, 2**53 - 1, 2**53, 2**53 + 1, float(2**53), 2**53 + 2, -2**53 - 1, 2**63 - 1, -2**63, float(2**63),
           -float(2**63), 2**62 + 1, float(2**62), 1e300, -1e300, 1.7976931348623157e308, 5e-324, -5e-324, 0.1, 0.30000000000000004, 255, 256,
           65535, 65536, 2**32, 2**31]
STRINGS = ["", "a", "A", "b", "ab", "abc", "a\x7f", "true", "5", "5.0", "null", "é", "e\u0301", "\U0001f600", "\ue000", "z" * 300, "z" * 300 + "y", "z" * 470, "z" * 600, "z" * 600 + "y", "z" * 600 + "\x7f", "z" * 2040, "\t",
           "a b", "$eq", "%", "/x/y"]
rng = random.Random(SEED)


# ---- a plain reading of a filter ----

def kind(value):
    return "bool" if isinstance(value, bool) else "number" if isinstance(value, (int, float)) else "string"


def same(a, b):
    return kind(a) == kind(b) and a == b


def before(a, b):
    """a < b, of values of one ordered kind. Python compares integers and floats exactly."""
    if kind(a) != kind(b) or kind(a) == "bool":
        return None
    return a.encode() < b.encode() if kind(a) == "string" else a < b


COMPARE = {"$gt": lambda x, v: before(v, x), "$lt": lambda x, v: before(x, v),
           "$gte": lambda x, v: before(x, v) is False, "$lte": lambda x, v: before(v, x) is False}


def meets(operator, operand, value):
    """Does the field, which is there or None, meet one operator?"""
    if operator == "$exists":
        return (value is not None) == operand
    if operator == "$not":
        return not all(meets(o, x, value) for o, x in operand.items())
    if value is None:
        return False
    items = value if isinstance(value, list) else [value]
    if operator == "$eq":
        return any(same(x, operand) for x in items)
    if operator == "$ne":
        return not any(same(x, operand) for x in items)
    if operator == "$in":
        return any(same(x, y) for x in items for y in operand)
    if operator == "$nin":
        return not any(same(x, y) for x in items for y in operand)
    if operator == "$startsWith":
        return any(isinstance(x, str) and x.encode().startswith(operand.encode()) for x in items)
    return any(COMPARE[operator](x, operand) is True for x in items)


def selects(condition, metadata):
    for name, value in condition.items():
        if name == "$and":
            good = all(selects(f, metadata) for f in value)
        elif name == "$or":
            good = any(selects(f, metadata) for f in value)
        elif name == "$not":
            good = not selects(value, metadata)
        elif isinstance(value, dict):
            good = all(meets(o, x, metadata.get(name)) for o, x in value.items())
        else:
            good = meets("$eq", value, metadata.get(name))
        if not good:
            return False
    return True


# ---- random values, records, filters ----

def scalar():
    return rng.choice([lambda: rng.choice(NUMBERS), lambda: rng.choice(STRINGS), lambda: rng.random() < 0.5, lambda: rng.randrange(8)])()


def field_value():
    if rng.random() < 0.3:
        return [scalar() for _ in range(rng.choice([0, 1, 2, 3, 3]))]
    return scalar()


def random_metadata():
    return {name: field_value() for name in FIELDS if rng.random() < 0.5}


def ordered():
    return rng.choice(NUMBERS + list(range(8))) if rng.random() < 0.6 else rng.choice(STRINGS)


def operator(depth):
    name = rng.choice(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$startsWith", "$not"])
    if name in ("$eq", "$ne"):
        return name, scalar()
    if name in COMPARE:
        return name, ordered()
    if name in ("$in", "$nin"):
        return name, [scalar() for _ in range(rng.choice([1, 1, 2, 3, 8]))]
    if name == "$exists":
        return name, rng.random() < 0.5
    if name == "$startsWith":
        return name, rng.choice(STRINGS)
    return name, operators(depth - 1) if depth > 0 else {"$eq": scalar()}


def operators(depth):
    return dict(operator(depth) for _ in range(rng.choice([1, 1, 1, 2, 3])))


def random_filter(depth):
    out = {}
    for _ in range(rng.choice([1, 1, 2, 3])):
        word = rng.random()
        if depth > 0 and word < 0.35:
            out[rng.choice(["$and", "$or"])] = [random_filter(depth - 1) for _ in range(rng.choice([1, 2, 3]))]
        elif depth > 0 and word < 0.5:
            out["$not"] = random_filter(depth - 1)
        else:
            out[rng.choice(FIELDS + ["nowhere"])] = scalar() if rng.random() < 0.3 else operators(depth)
    return out


def fields_of(condition):
    names = set()
    for name, value in condition.items():
        if name in ("$and", "$or"):
            names |= set().union(*map(fields_of, value))
        elif name == "$not":
            names |= fields_of(value)
        else:
            names.add(name)
    return names


def spoil(condition):
    """The filter with one thing wrong, somewhere inside."""
    wrong = rng.choice([{}, {"$and": []}, {"$or": {}}, {"$not": []}, {"$nor": [{"a": 1}]}, {"a": {}}, {"a": None}, {"a": [1]}, {"a": {"$in": []}},
                        {"a": {"$in": [None]}}, {"a": {"$in": [[1]]}}, {"a": {"$in": 1}}, {"a": {"$gt": True}}, {"a": {"$gt": [1]}}, {"a": {"$exists": 1}},
                        {"a": {"$startsWith": 5}}, {"a": {"$eq": {}}}, {"a": {"$between": [1, 2]}}, {"a": {"b": 1}}, {"a": {"$not": 5}}, {"a": {"$not": {}}},
                        {"a": {"$eq": [1]}}, {"a": {"$ne": None}}, {"$eq": 5}, {"$and": [5]}, {"$and": {"a": 1}}, {"a": {"$and": [{"$eq": 1}]}}])
    for _ in range(rng.randrange(4)):
        wrong = rng.choice([{"$and": [condition, wrong]}, {"$or": [wrong, condition]}, {"$not": wrong}])
    return wrong


# ---- the index and the model of it ----

class Index:
    def __init__(self, mount):
        self.m, self.records, self.hidden = mount, {}, set()

    def selected(self, condition):
        return sorted((key for key, (_, metadata) in self.records.items() if selects(condition, metadata)), key=str.encode)

    def usable(self, condition):
        return not fields_of(condition) & self.hidden

    def filter(self):
        while True:
            condition = random_filter(rng.choice([0, 1, 2, 3]))
            if self.usable(condition):
                return condition

    def talk(self, verb, value):
        if rng.random() < 0.5:
            return json.loads(self.m.talk(verb, json.dumps(value)))
        return msgpack.unpackb(self.m.talk(verb, msgpack.packb(value)))

    # changes

    def insert(self, n):
        batch, expected = {}, {"inserted": 0, "replaced": 0, "skipped": 0}
        for _ in range(n):
            key = "k%d" % rng.randrange(400)
            batch[key] = ([rng.uniform(-1, 1) for _ in range(DIM)] if rng.random() < 0.9 else [1.0, 0, 0, 0], random_metadata())
        for key in batch:
            expected["replaced" if key in self.records else "inserted"] += 1
        got = self.talk("insert", [{"key": k, "data": v, "metadata": d} for k, (v, d) in batch.items()])
        self.records.update({k: ([float(numpy.float32(x)) for x in v], d) for k, (v, d) in batch.items()})
        return expected, got

    def target(self):
        """Which records a change is meant for, said in one of three ways."""
        way = rng.random()
        if way < 0.4:
            condition = self.filter()
            return {"filter": condition}, self.selected(condition), 0
        keys = sorted({"k%d" % rng.randrange(450) for _ in range(1 if way < 0.6 else 8)})
        there = [k for k in keys if k in self.records]
        return {"key": keys[0]} if len(keys) == 1 else {"keys": keys}, there, len(keys) - len(there)

    def update(self):
        request, there, unknown = self.target()
        put = {f: field_value() for f in FIELDS if rng.random() < 0.3}
        drop = [f for f in FIELDS if f not in put and rng.random() < 0.2]
        if not put and not drop:
            drop = ["a"]
        if put:
            request["set"] = put
        if drop:
            request["unset"] = drop
        got = self.talk("update", request)
        for key in there:
            metadata = dict(self.records[key][1], **put)
            self.records[key] = (self.records[key][0], {f: v for f, v in metadata.items() if f not in drop})
        return {"updated": len(there), "unknown": unknown}, got

    def delete(self):
        request, there, unknown = self.target()
        if len(there) > 60:
            return 0, 0
        got = self.talk("delete", request)
        for key in there:
            del self.records[key]
        return {"deleted": len(there), "unknown": unknown}, got

    def hide(self):
        self.hidden = {f for f in FIELDS if rng.random() < 0.2 and f == f.strip() and "," not in f}
        self.m.write("config", "non_filterable = %s\n" % ", ".join(sorted(self.hidden)))
        return 0, 0

    def remount(self):
        self.m.stop()
        self.m.start()
        return 0, 0

    # questions

    def nearest(self, query, keys):
        def distance(vector):
            return 1 - sum(x * y for x, y in zip(query, vector)) / math.sqrt(sum(x * x for x in query) * sum(x * x for x in vector))
        return sorted((distance(self.records[k][0]), k.encode()) for k in keys)

    def ask_for(self, condition):
        expected = self.selected(condition)
        start = "k%d" % rng.randrange(400) if rng.random() < 0.3 else ""
        top = rng.choice([0, 1, 7, 10000])
        rest = [k for k in expected if k.encode() > start.encode()]
        answer = self.talk("query", dict({"filter": condition, "topK": top}, **({"startAfter": start} if start else {})))
        return (len(expected), rest[:top]), (answer["matched"], [v["key"] for v in answer["vectors"]])

    def ask_near(self, condition):
        keys = self.selected(condition)
        query = [float(numpy.float32(rng.uniform(-1, 1))) for _ in range(DIM)]
        top = rng.choice([1, 5, 500])
        answer = self.talk("query", {"queryVector": query, "filter": condition, "topK": top, "returnDistance": True, "returnMetadata": True})
        expected = self.nearest(query, keys)[:top]
        got = answer["vectors"]
        good = answer["matched"] == len(keys) and answer["exact"] and len(got) == len(expected) and \
            all(abs(d - v["distance"]) < 1e-6 for (d, _), v in zip(expected, got)) and {v["key"] for v in got} <= set(keys) and \
            all(v["metadata"] == self.records[v["key"]][1] for v in got) and \
            [(v["distance"], v["key"].encode()) for v in got] == sorted((v["distance"], v["key"].encode()) for v in got)
        return True, good or (expected, answer)

    def ask_facets(self, condition):
        field = rng.choice([f for f in FIELDS if f not in self.hidden] + ["nowhere"])
        counts = {}
        for key in self.selected(condition):
            value = self.records[key][1].get(field)
            items = value if isinstance(value, list) else [] if value is None else [value]
            for x in {(kind(x), x) for x in items}:
                counts[x] = counts.get(x, 0) + 1
        answer = self.talk("query", {"filter": condition, "topK": 0, "facets": [field]})
        rows = answer["facets"][field]
        frequency = [r["count"] for r in rows]
        return (counts, sorted(frequency, reverse=True)), ({(kind(r["value"]), r["value"]): r["count"] for r in rows}, frequency)

    def ask_folded(self, condition):
        """The filter as it was understood means the same, and is understood as itself."""
        folded = self.talk("query", {"filter": condition, "topK": 0, "explain": True})["explain"]["filter"]
        answer = self.talk("query", {"filter": folded, "topK": 10000, "explain": True})
        return (folded, self.selected(condition)), (answer["explain"]["filter"], [v["key"] for v in answer["vectors"]])

    def ask_wrong(self, condition):
        return "EINVAL", self.refusal(spoil(condition))

    def ask_hidden(self, condition):
        if not self.hidden:
            return 0, 0
        hidden = {rng.choice(sorted(self.hidden)): scalar()}
        return "EINVAL", self.refusal(rng.choice([hidden, {"$or": [condition, hidden]}, {"$not": {"$and": [hidden, condition]}}]))

    def refusal(self, condition):
        verb, rest = rng.choice([("query", {}), ("delete", {}), ("update", {"set": {"x": 1}})])
        try:
            return self.talk(verb, dict(rest, filter=condition)), condition
        except OSError as e:
            return errno.errorcode[e.errno]


def run(index):
    """Steps until time is up; the first difference, or None."""
    end, steps = time.monotonic() + SECONDS, 0
    index.insert(200)
    while time.monotonic() < end:
        if steps % 12 == 0:
            change = rng.choice([lambda: index.insert(40)] * 4 + [index.update] * 6 + [index.delete] * 3 + [index.hide, index.remount])
            expected, got = change()
            if expected != got:
                return steps, "a change", expected, got
        condition = index.filter()
        question = rng.choice([index.ask_for] * 5 + [index.ask_near] * 3 + [index.ask_facets] * 2 + [index.ask_folded, index.ask_wrong, index.ask_hidden])
        try:
            expected, got = question(condition)
        except (OSError, ValueError) as e:
            return steps, json.dumps(condition), question.__name__, e, index.m.errors()[-1:]
        if expected != got:
            return steps, json.dumps(condition), expected, got
        steps += 1
    note("%d questions, seed %d" % (steps, SEED))
    return None


def long_ranges(index, rounds):
    """Ranges of thousands of values, asked again after every kind of change: what is kept of them is never stale."""
    m, values = index.m, {}
    for i in range(3000):
        values["r%04d" % i] = i * 7 % 3001
    m.talk("insert", json.dumps([{"key": k, "data": [1, 0, 0, 0], "metadata": {"serial": v, "text": "t%05d" % v}} for k, v in values.items()]))
    filters = [({"serial": {"$gte": 500}}, lambda v: v >= 500), ({"serial": {"$gt": 100, "$lt": 2500}}, lambda v: 100 < v < 2500),
               ({"text": {"$startsWith": "t0"}}, lambda v: True), ({"$or": [{"serial": {"$lt": 1000}}, {"text": {"$gt": "t02000"}}]}, lambda v: v < 1000 or v > 2000)]
    for i in range(rounds):
        key = "r%04d" % rng.randrange(3000)
        if i % 4 == 0:
            values.pop(key, None)
            m.talk("delete", json.dumps(key))
        elif i % 4 == 1 and key in values:
            values[key] = rng.randrange(3001)
            m.talk("update", json.dumps({"key": key, "set": {"serial": values[key], "text": "t%05d" % values[key]}}))
        elif i % 4 == 2:
            values[key] = rng.randrange(3001)
            m.write("vectors/%s.msgpack" % key, packed(key, [1, 0, 0, 0], serial=values[key], text="t%05d" % values[key]))
        condition, good = filters[rng.randrange(4)]
        expected, got = sum(map(good, values.values())), m.ask({"filter": condition, "topK": 0})["matched"]
        if expected != got:
            return i, condition, expected, got
    m.write("config", "non_filterable = serial\n")
    m.write("config", "non_filterable =\n")
    got = m.ask({"filter": filters[0][0], "topK": 0})["matched"]
    return None if got == sum(map(filters[0][1], values.values())) else ("after non_filterable", got)


index = Index(Mount(dimension=DIM))
equal("random filters select, count, rank and change what a plain reading does (seed %d)" % SEED, run(index), None)
everything = {"$or": [{"a": {"$exists": True}}, {"a": {"$exists": False}}]}
index.hidden = set()
index.m.write("config", "non_filterable =\n")
equal("all records are as the model has them", {v["key"]: v["metadata"] for v in index.m.ask({"returnMetadata": True, "topK": 10**6})["vectors"]},
      {key: metadata for key, (_, metadata) in index.records.items()})
equal("a filter that everything meets finds everything", index.m.ask({"filter": everything, "topK": 0})["matched"], len(index.records))
index.m.stop()
done = subprocess.run([VECFS, "check", index.m.store], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
check("vecfs check finds the postings as the records say", done.returncode == 0, done.stdout.decode())
index.m.start()
equal("long ranges are right after every change", long_ranges(index, 400), None)
finish()
