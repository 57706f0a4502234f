"""Threads of a pymongo client that work without a pause while members fail, until stdin ends.

    python tests/drivers/pymongo_failover.py URI reads|inserts|transactions COLLECTION

Reads prefer secondaries, inserts have keys of their own, and a transaction inserts two documents.
Prints `ready` once each thread has done an operation, and at the end one JSON line: how many keys were
read or inserted, each kind of error with its number, and how many documents the collection has with
keys that were acknowledged, and with others. For pymongo 4 and 3.
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
    # Old servers make no collection in a transaction.
    client["drivers"].create_collection(name)
    reader = shop.with_options(read_preference=SecondaryPreferred())
    over, begun = threading.Event(), threading.Barrier(THREADS + 1)
    errors = collections.Counter()

    def read(key):
        reader.find_one({"_id": key})
        return [key]

    def insert(key):
        shop.insert_one({"_id": key})
        return [key]

    def insert_two(key):
        keys = [f"{key}-first", f"{key}-second"]

        def transaction(session):
            for one in keys:
                shop.insert_one({"_id": one}, session=session)

        with client.start_session() as session:
            session.with_transaction(transaction)
        return keys

    operation = {"reads": read, "inserts": insert, "transactions": insert_two}[kind]

    def work(thread):
        done = set()
        n = 0
        while not over.is_set():
            try:
                done.update(operation(f"{thread}-{n}"))
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
