"""Threads of a pymongo client that work without a pause while their cluster moves to another deployment,
until stdin ends.

    python tests/drivers/pymongo_cutover.py PROXY OLD NEW COLLECTION [cursor]

Four threads insert documents with keys of their own, four read, four insert two documents in a transaction.
With `cursor`, one more cursor is opened first, and read to its end last. Prints `ready` once each thread has done an
operation, and at the end one JSON line: how many operations were done, each kind of error with its number, the
longest operation, where the documents are, and what is wrong with them.
"""

import collections
import concurrent.futures
import json
import sys
import threading
import time

import pymongo

KINDS = ["insert", "read", "transaction"] * 4


def main():
    proxy, old, new, name, *more = sys.argv[1:]
    client = pymongo.MongoClient(proxy, serverSelectionTimeoutMS=10_000)
    shop = client["drivers"][name]
    shop.insert_many({"_id": f"seed-{n}"} for n in range(50))
    over, begun = threading.Event(), threading.Barrier(len(KINDS) + 1)
    errors = collections.Counter()
    longest = [0.0] * len(KINDS)

    def insert(key):
        shop.insert_one({"_id": key})
        return [key]

    def read(_):
        list(shop.find({"_id": {"$gte": "seed-0", "$lt": "seed-2"}}, batch_size=5))
        return []

    def transaction(key):
        keys = [f"{key}-first", f"{key}-second"]

        def insert_two(session):
            for one in keys:
                shop.insert_one({"_id": one}, session=session)

        with client.start_session() as session:
            session.with_transaction(insert_two)
        return keys

    operations = {"insert": insert, "read": read, "transaction": transaction}

    def work(thread):
        operation = operations[KINDS[thread]]
        done, n = set(), 0
        while not over.is_set():
            began = time.monotonic()
            try:
                done.update(operation(f"{KINDS[thread]}-{thread}-{n}"))
            except pymongo.errors.PyMongoError as error:
                errors[f"{KINDS[thread]}: {type(error).__name__}: {error}"[:300]] += 1
            longest[thread] = max(longest[thread], time.monotonic() - began)
            if n == 0:
                begun.wait()
            n += 1
        return done, n

    with concurrent.futures.ThreadPoolExecutor(len(KINDS)) as threads:
        running = [threads.submit(work, thread) for thread in range(len(KINDS))]
        begun.wait()
        cursor = shop.find({"_id": {"$gte": "seed-0"}}, batch_size=2) if "cursor" in more else iter([0])
        next(cursor)
        print("ready", flush=True)
        sys.stdin.read()
        over.set()
        results = [work.result() for work in running]
    try:
        open_cursor = len(list(cursor))
    except pymongo.errors.OperationFailure as error:
        open_cursor = error.code
    done = set().union(*(keys for keys, _ in results))
    places = [keys_at(uri, name) for uri in (old, new)]
    print(json.dumps({
        "operations": sum(n for _, n in results),
        "errors": errors,
        "longest_ms": round(max(longest) * 1000),
        "open_cursor": open_cursor,
        "on_old": len(places[0]), "on_new": len(places[1]),
        "lost": sorted(done - places[0] - places[1])[:10],
        "twice": sorted(places[0] & places[1])[:10],
        "halves": [half for keys in places for half in halves(keys)][:10],
    }))
    client.close()


def keys_at(uri, name):
    with pymongo.MongoClient(uri, directConnection=True) as client:
        return {document["_id"] for document in client["drivers"][name].find()}


def halves(keys):
    """The documents of transactions without the other document of the same transaction."""
    ends = ("-first", "-second")
    bodies = collections.Counter(key.rsplit("-", 1)[0] for key in keys if key.endswith(ends))
    return [body for body, count in bodies.items() if count != 2]


if __name__ == "__main__":
    main()
