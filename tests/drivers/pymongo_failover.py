"""Threads of a pymongo client that work without a pause while members fail, until stdin ends.

    python tests/drivers/pymongo_failover.py URI reads|inserts COLLECTION

Reads prefer secondaries, and inserts have keys of their own. Prints `ready` once each thread has done
an operation, and at the end one JSON line: how many operations were done, each kind of error with its
number, and how many documents the collection has with keys that were acknowledged, and with others.
"""

import collections
import concurrent.futures
import json
import sys
import threading

import pymongo
from pymongo.read_preferences import SecondaryPreferred

THREADS = 8


def main():
    uri, kind, name = sys.argv[1:]
    client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=10_000)
    shop = client["drivers"][name]
    reader = shop.with_options(read_preference=SecondaryPreferred())
    over, begun = threading.Event(), threading.Barrier(THREADS + 1)
    errors = collections.Counter()

    def read(thread, n):
        reader.find_one({"_id": n})

    def insert(thread, n):
        shop.insert_one({"_id": f"{thread}-{n}"})

    operation = {"reads": read, "inserts": insert}[kind]

    def work(thread):
        done = set()
        n = 0
        while not over.is_set():
            try:
                operation(thread, n)
                done.add(f"{thread}-{n}")
            except pymongo.errors.PyMongoError as error:
                errors[f"{type(error).__name__}: {error}"[:300]] += 1
            if n == 0:
                begun.wait()
            n += 1
        return done

    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        running = [threads.submit(work, thread) for thread in range(THREADS)]
        begun.wait()
        print("ready", flush=True)
        sys.stdin.read()
        over.set()
        done = set().union(*(work.result() for work in running))
    found = {document["_id"] for document in shop.find()}
    report = {
        "done": len(done), "errors": errors,
        "acknowledged": len(found & done), "others": len(found - done),
    }
    print(json.dumps(report))
    client.close()


if __name__ == "__main__":
    main()
