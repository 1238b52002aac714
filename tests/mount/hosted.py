#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The request bodies of the hosted vector buckets (S3 Vectors, Supabase), written to the verbs as their clients send them: what other
implementations of those services are tested for, and what they promise."""
from harness import *

m = Mount(dimension=None)
BUCKET, INDEX = "my-vector-bucket", "my-vector-index"
m.index = os.path.join(m.path, BUCKET, INDEX)
os.makedirs(m.index)
m.write("config", "dimension = 3\nmetric = cosine\n")
ARN = "arn:aws:s3vectors:us-east-1:123456789012:bucket/%s/index/%s" % (BUCKET, INDEX)
NAMED = {"vectorBucketName": BUCKET, "indexName": INDEX}


def send(verb, body, form="json"):
    if form == "json":
        return json.loads(m.talk(verb, json.dumps(body)))
    return msgpack.unpackb(m.talk(verb, msgpack.packb(body)))


def put(*vectors, **target):
    return send("insert", dict(target or NAMED, vectors=list(vectors)))


def vector(key, numbers, **metadata):
    return dict({"key": key, "data": {"float32": numbers}}, **({"metadata": metadata} if metadata else {}))


def keys(answer):
    return [v["key"] for v in answer["vectors"]]


def get(*names, **flags):
    return send("query", dict(NAMED, keys=list(names), **flags))["vectors"]


def refused(sentence, verb, body, words=""):
    try:
        got = send(verb, body)
    except OSError as e:
        return check(sentence, e.errno == errno.EINVAL and words in m.errors()[-1], errno.errorcode[e.errno], m.errors()[-1])
    return check(sentence, False, "succeeded: %r" % (got,))


def clear():
    send("delete", {"filter": {"$or": [{"x": {"$exists": True}}, {"x": {"$exists": False}}]}})


# PutVectors and GetVectors
equal("PutVectors by names", put(vector("first", [1.0, 0.0, 0.0])), {"inserted": 1, "replaced": 0, "skipped": 0})
equal("GetVectors gives the key alone unless more is asked for", get("first"), [{"key": "first"}])
equal("a vector that was put without metadata has an empty map of it", get("first", returnMetadata=True), [{"key": "first", "metadata": {}}])
equal("PutVectors by ARN", put(vector("second", [0.0, 1.0, 0.0], my="metadata"), indexArn=ARN)["inserted"], 1)
equal("GetVectors by ARN", send("query", {"indexArn": ARN, "keys": ["second"], "returnMetadata": True})["vectors"], [{"key": "second", "metadata": {"my": "metadata"}}])
equal("and with data", get("second", returnData=True), [{"key": "second", "data": {"float32": [0.0, 1.0, 0.0]}}])
equal("GetVectors in the order of the keys asked for, without those that are not there", [v["key"] for v in get("second", "nobody", "first")], ["second", "first"])
equal("putting a key again replaces all of it", put(vector("second", [0.0, 0.0, 2.0], other=1))["replaced"], 1)
equal("vector and metadata", get("second", returnData=True, returnMetadata=True), [{"key": "second", "metadata": {"other": 1}, "data": {"float32": [0.0, 0.0, 2.0]}}])
refused("a vector of the wrong length is refused, with its key", "insert", dict(NAMED, vectors=[vector("short", [1.0])]), "'short'")
equal("and nothing of its body is stored", (refused("also behind a good one", "insert", dict(NAMED, vectors=[vector("good", [1, 1, 1]), vector("short", [1.0])])), get("good"))[1], [])
refused("a zero vector is refused under cosine", "insert", dict(NAMED, vectors=[vector("zero", [0, 0, 0])]))
refused("nested metadata is refused", "insert", dict(NAMED, vectors=[vector("nested", [1, 1, 1], a={"b": 1})]))
refused("a list in a list of metadata too", "insert", dict(NAMED, vectors=[vector("nested", [1, 1, 1], a=[["b"]])]))
refused("and a null in it", "insert", dict(NAMED, vectors=[vector("null", [1, 1, 1], a=None)]))
refused("a key that is too long is refused", "insert", dict(NAMED, vectors=[vector("x" * 1025, [1, 1, 1])]))
refused("an empty key too", "insert", dict(NAMED, vectors=[vector("", [1, 1, 1])]))
refused("a field that no vector has is refused", "insert", dict(NAMED, vectors=[dict(vector("more", [1, 1, 1]), score=1)]))
refused("and one that no body has", "insert", dict(NAMED, vectors=[vector("more", [1, 1, 1])], distanceMetric="cosine"))
equal("a list of mixed scalars is metadata", (put(vector("list", [1, 1, 1], tags=["cats", 2026, True, 0.5])), get("list", returnMetadata=True))[1][0]["metadata"],
      {"tags": ["cats", 2026, True, 0.5]})
equal("vectors may come before the names", json.loads(m.talk("insert", json.dumps({"vectors": [vector("list", [1, 1, 1])], **NAMED})))["replaced"], 1)
equal("in msgpack too", send("insert", dict(NAMED, vectors=[vector("list", [1, 1, 1])]), "msgpack")["replaced"], 1)
equal("several bodies may follow one another", json.loads(m.talk("insert", json.dumps(dict(NAMED, vectors=[vector("p", [1, 0, 1])])) + "\n" +
                                                                 json.dumps({"indexArn": ARN, "vectors": [vector("q", [1, 0, 2])]})))["inserted"], 2)
large = [vector("v%04d" % i, [1.0, i, 2.0], n=i) for i in range(500)]
equal("five hundred in one body", put(*large)["inserted"], 500)

# the target
for verb, body in (("insert", {"vectors": [vector("t", [1, 1, 1])]}), ("query", {"keys": ["first"]}), ("query", {"queryVector": {"float32": [1, 0, 0]}, "topK": 1}),
                   ("query", {}), ("delete", {"keys": ["nobody"]}), ("update", {"key": "nobody", "set": {"x": 1}})):
    what = "%s %s" % (verb, " ".join(body) or "{}")
    check("%s that names this index" % what, send(verb, dict(body, **NAMED)) and send(verb, dict(body, indexArn=ARN)) and send(verb, dict(body, indexName=INDEX)))
    check("%s that names it twice, the same" % what, send(verb, dict(body, indexArn=ARN, **NAMED)))
    refused("%s meant for another bucket" % what, verb, dict(body, vectorBucketName="other", indexName=INDEX), "other")
    refused("%s meant for another index" % what, verb, dict(body, vectorBucketName=BUCKET, indexName="other"), "other")
    refused("%s meant for another ARN" % what, verb, dict(body, indexArn=ARN + "x"))
    refused("%s with an ARN that disagrees with a name" % what, verb, dict(body, indexArn=ARN, indexName="other"))
    refused("%s with something that is no ARN" % what, verb, dict(body, indexArn="my-vector-index"))
    refused("%s with a name that is no string" % what, verb, dict(body, indexName=5))
equal("what was meant for another place did nothing", get("t", returnData=True), [{"key": "t", "data": {"float32": [1.0, 1.0, 1.0]}}])
clear()

# QueryVectors
put(vector("v1", [1.0, 0.0, 0.0], label="first"), vector("v2", [0.0, 1.0, 0.0], label="second"))
question = dict(NAMED, queryVector={"float32": [1.0, 0.0, 0.0]}, topK=2)
equal("QueryVectors gives keys in the order of distance", send("query", question)["vectors"], [{"key": "v1"}, {"key": "v2"}])
answer = send("query", dict(question, returnDistance=True, returnMetadata=True))
equal("with distance and metadata where asked", answer["vectors"], [{"key": "v1", "distance": 0.0, "metadata": {"label": "first"}},
                                                                   {"key": "v2", "distance": 1.0, "metadata": {"label": "second"}}])
equal("and says the metric", answer["distanceMetric"], "cosine")
equal("a topK beyond the number of vectors gives them all", len(send("query", dict(question, topK=10000))["vectors"]), 2)
equal("a filter is obeyed", keys(send("query", dict(question, filter={"label": "second"}))), ["v2"])
equal("a filter that nothing meets gives nothing", send("query", dict(question, filter={"label": "third"}))["vectors"], [])
refused("an empty filter is refused", "query", dict(question, filter={}))
refused("a query of the wrong length is refused", "query", dict(question, queryVector={"float32": [1.0]}))
refused("topK is a number", "query", dict(question, topK="2"))
refused("what QueryVectors does not know is refused", "query", dict(question, includeMetadata=True))
clear()

# DeleteVectors
put(vector("v1", [1, 0, 0]), vector("v2", [0, 1, 0]), vector("v3", [0, 0, 1]))
equal("DeleteVectors by names", send("delete", dict(NAMED, keys=["v2"])), {"deleted": 1, "unknown": 0})
equal("and by ARN, an unknown key being no error", send("delete", {"indexArn": ARN, "keys": ["v3", "v2"]}), {"deleted": 1, "unknown": 1})
equal("leaves the rest", keys(send("query", NAMED)), ["v1"])
refused("an empty list of keys is refused", "delete", dict(NAMED, keys=[]))
clear()

# ListVectors
expected = ["a\"b", "c", "d/e", "f", "g %", "h", "Ünï", "\U0001f600"]
put(*[vector(k, [1, i, 1], n=i) for i, k in enumerate(expected)])
equal("ListVectors lists keys, in their order", send("query", NAMED)["vectors"], [{"key": k} for k in sorted(expected, key=str.encode)])
check("no token where nothing follows", "nextToken" not in send("query", NAMED))
check("nor behind the last page", "nextToken" not in send("query", dict(NAMED, maxResults=8)))
equal("with metadata and data", send("query", dict(NAMED, maxResults=1, returnMetadata=True, returnData=True))["vectors"],
      [{"key": "a\"b", "metadata": {"n": 0}, "data": {"float32": [1.0, 0.0, 1.0]}}])


def pages(size, form="json", **more):
    """All pages, following nextToken."""
    out, token = [], {}
    while True:
        answer = send("query", dict(NAMED, **token, **more, **({"maxResults": size} if size else {})), form)
        out.append(keys(answer))
        if "nextToken" not in answer:
            return out
        token = {"nextToken": answer["nextToken"]}


for size in (1, 2, 3, 8, 100):
    equal("pages of %d give every key once" % size, sum(pages(size), []), sorted(expected, key=str.encode))
equal("each page is full but the last", list(map(len, pages(3))), [3, 3, 2])
equal("in msgpack as well", sum(pages(3, "msgpack"), []), sorted(expected, key=str.encode))
equal("a filter narrows every page", sum(pages(2, filter={"n": {"$gte": 3}}), []), sorted((k for i, k in enumerate(expected) if i >= 3), key=str.encode))
equal("and so does a prefix", sum(pages(1, prefix="d"), []), ["d/e"])
put(*[vector("k%03d" % i, [1, i, 1], n=i) for i in range(100)])
equal("a body that says no number of results is paged by top_k", list(map(len, pages(None))), [10] * 10 + [8])
answer = send("query", {"topK": 3})
equal("a question in vecfs's own words has no token", sorted(answer), ["distanceMetric", "exact", "matched", "vectors"])
send("delete", dict(NAMED, keys=expected))
for count in (1, 2, 5, 16):
    parts = [sum(pages(7, segmentCount=count, segmentIndex=i), []) for i in range(count)]
    equal("%d segments together list every key once" % count, sorted(sum(parts, [])), ["k%03d" % i for i in range(100)])
    check("and each in order", all(p == sorted(p) for p in parts))
check("segments are about as large", all(20 <= len(sum(pages(100, segmentCount=2, segmentIndex=i), [])) <= 80 for i in (0, 1)))
equal("a filter holds in a segment", sorted(sum((sum(pages(3, segmentCount=4, segmentIndex=i, filter={"n": {"$lt": 20}}), []) for i in range(4)), [])),
      ["k%03d" % i for i in range(20)])
for sentence, body in (("a segment behind the last", {"segmentCount": 2, "segmentIndex": 2}), ("a segment before the first", {"segmentCount": 2, "segmentIndex": -1}),
                       ("no segments at all", {"segmentCount": 0, "segmentIndex": 0}), ("more segments than sixteen", {"segmentCount": 17, "segmentIndex": 0}),
                       ("segmentIndex alone", {"segmentIndex": 0}), ("segmentCount alone", {"segmentCount": 2}), ("half a segment", {"segmentCount": 2.5, "segmentIndex": 0}),
                       ("maxResults below 0", {"maxResults": -1}), ("maxResults that is no number", {"maxResults": "5"}), ("a token that is no string", {"nextToken": 5}),
                       ("segments of nearest neighbours", {"segmentCount": 2, "segmentIndex": 0, "queryVector": [1, 0, 0]}),
                       ("segments of given keys", {"segmentCount": 2, "segmentIndex": 0, "keys": ["k001"]})):
    refused(sentence + " is refused", "query", dict(NAMED, **body))

# metadata filters, as the services' own tests have them
clear()
put(vector("vector1", [1, 0, 0], genre="documentary", year=2020, categories=["film", "educational"], rating=8.5, available=True),
    vector("vector2", [0, 1, 0], genre="drama", year=2019, rating=7.8, available=False),
    vector("vector3", [0, 0, 1], genre="comedy", year=2021, categories=["documentary", "humor"], rating=6.2, available=True),
    vector("vector4", [1, 1, 1]))
for condition, which in (({"genre": "documentary"}, "1"), ({"genre": {"$eq": "drama"}}, "2"), ({"genre": {"$ne": "documentary"}}, "23"),
                         ({"year": {"$gt": 2019}}, "13"), ({"rating": {"$lte": 7.8}}, "23"), ({"rating": {"$gte": 7.0, "$lte": 8.0}}, "2"),
                         ({"genre": {"$in": ["comedy", "documentary"]}}, "13"), ({"genre": {"$nin": ["comedy", "documentary"]}}, "2"),
                         ({"categories": {"$exists": True}}, "13"), ({"categories": {"$exists": False}}, "24"), ({"categories": "documentary"}, "3"),
                         ({"$and": [{"genre": "documentary"}, {"year": {"$gte": 2020}}]}, "1"), ({"$or": [{"genre": "documentary"}, {"year": 2021}]}, "13"),
                         ({"available": True}, "13"), ({"available": {"$ne": True}}, "2"), ({"genre": {"$gt": 5}}, ""), ({"genre": {"$startsWith": "d"}}, "12"),
                         ({"categories": {"$startsWith": "ed"}}, "1"), ({"year": 2020.0}, "1"), ({"year": "2020"}, ""),
                         ({"$or": [{"$and": [{"genre": "drama"}, {"available": False}]}, {"categories": {"$in": ["humor"]}}]}, "23")):
    equal("%s selects %s" % (json.dumps(condition), which or "nothing"), keys(send("query", dict(NAMED, filter=condition))), ["vector" + c for c in which])
    equal("also by distance", sorted(keys(send("query", dict(NAMED, queryVector={"float32": [1, 1, 0]}, topK=10, filter=condition)))), ["vector" + c for c in which])
for condition in ({"$and": "invalid"}, {"$or": []}, {"genre": {"$in": "invalid"}}, {"genre": {"$in": []}}, {"genre": {"$exists": "invalid"}}, {"genre": {"$invalid": "value"}},
                  {"genre": None}, {"genre": {"$eq": ["a"]}}, {"year": {"$gt": [2019]}}, {"year": {"$gte": True}}):
    refused("%s is refused" % json.dumps(condition), "query", dict(NAMED, queryVector={"float32": [1, 1, 0]}, topK=10, filter=condition))
finish()
