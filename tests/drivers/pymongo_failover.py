"""Threads of a pymongo client that work without a pause while members fail, until stdin ends.

    python tests/drivers/pymongo_failover.py URI reads|inserts|transactions|all COLLECTION

Eight threads do one kind of work, or `all` kinds beside a change stream: insert a key of their own, find
it at a secondary or at the primary, count with `$inc`, or insert two keys and count in a transaction.
Counters are in the collection COLLECTION_counters. Prints `ready` once each thread has done an operation,
and at the end one JSON line: the number of operations, each kind of error with its number, the keys and
the counts that were acknowledged, and the keys that the change stream saw. For pymongo 4 and 3.
"""

import collections
import concurrent.futures
import json
import sys
import threading
import time

import pymongo
from pymongo.read_preferences import SecondaryPreferred

THREADS = 8
# The key that ends the change stream, and for how long it is waited for.
LAST, PATIENCE = "last", 20


def main():
    uri, kind, name = sys.argv[1:]
    client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=10_000)
    database = client["drivers"]
    # Old servers make no collection in a transaction.
    shop = database.create_collection(name)
    counters = database.create_collection(f"{name}_counters")
    counters.insert_many([{"_id": thread, "n": 0} for thread in range(THREADS)])
    reader = shop.with_options(read_preference=SecondaryPreferred())
    over, begun = threading.Event(), threading.Barrier(THREADS + 1)
    errors = collections.Counter()

    def read(thread, key):
        reader.find_one({"_id": key})
        return [], 0

    def find(thread, key):
        shop.find_one({"_id": key})
        return [], 0

    def insert(thread, key):
        shop.insert_one({"_id": key})
        return [key], 0

    def count(thread, key, session=None):
        counters.update_one({"_id": thread}, {"$inc": {"n": 1}}, session=session)
        return [], 1

    def insert_two(thread, key):
        keys = [f"{key}-first", f"{key}-second"]

        def transaction(session):
            for one in keys:
                shop.insert_one({"_id": one}, session=session)
            count(thread, key, session)

        with client.start_session() as session:
            session.with_transaction(transaction)
        return keys, 1

    kinds = {"reads": [read], "inserts": [insert], "transactions": [insert_two]}
    kinds["all"] = [find, insert, count, insert_two]

    def work(thread):
        operation = kinds[kind][thread % len(kinds[kind])]
        keys, counted, n = [], 0, 0
        while not over.is_set():
            try:
                done, more = operation(thread, f"{thread}-{n}")
                keys.extend(done)
                counted += more
            except pymongo.errors.PyMongoError as error:
                errors[f"{operation.__name__}: {type(error).__name__}: {error}"[:300]] += 1
            if n == 0:
                begun.wait()
            n += 1
        return n, keys, counted

    def watch(changes):
        seen, end = [], float("inf")
        try:
            while seen[-1:] != [LAST] and time.monotonic() < end:
                event = changes.try_next()
                if event:
                    seen.append(event["documentKey"]["_id"])
                if over.is_set():
                    end = min(end, time.monotonic() + PATIENCE)
        except pymongo.errors.PyMongoError as error:
            errors[f"watch: {type(error).__name__}: {error}"[:300]] += 1
        return seen

    with concurrent.futures.ThreadPoolExecutor(THREADS + 1) as threads:
        if kind == "all":
            changes = shop.watch(max_await_time_ms=100)
            watching = threads.submit(watch, changes)
        running = [threads.submit(work, thread) for thread in range(THREADS)]
        begun.wait()
        print("ready", flush=True)
        sys.stdin.read()
        over.set()
        done = [work.result() for work in running]
        shop.insert_one({"_id": LAST})
        events = watching.result() if kind == "all" else []
    report = {
        "done": sum(n for n, _, _ in done),
        "errors": errors,
        "keys": [LAST, *(key for _, keys, _ in done for key in keys)],
        "counted": sum(counted for _, _, counted in done),
        "events": events,
    }
    print(json.dumps(report))
    client.close()


if __name__ == "__main__":
    main()
