"""Operations of pymongo without a pause, on connections that last and on new ones, until stdin ends.

    python tests/drivers/pymongo_steady.py URI

Prints one JSON line: how many operations and new clients there were, and each kind of error with its
number. Nothing is retried, and a failed heartbeat is an error too.
"""

import collections
import concurrent.futures
import json
import sys
import threading

import pymongo
from pymongo import monitoring

THREADS = 3


class Heartbeats(monitoring.ServerHeartbeatListener):
    def __init__(self, errors):
        self.errors = errors

    def started(self, event):
        pass

    def succeeded(self, event):
        pass

    def failed(self, event):
        self.errors[f"heartbeat: {event.reply}"[:200]] += 1


def main():
    counts, errors = collections.Counter(), collections.Counter()
    over = threading.Event()

    def connected(**options):
        return pymongo.MongoClient(sys.argv[1], retryReads=False, retryWrites=False, **options)

    def until_over(work):
        done = 0
        while not over.is_set():
            try:
                done += work()
            except pymongo.errors.PyMongoError as error:
                errors[f"{type(error).__name__}: {error}"[:200]] += 1
        return done

    def ping_on_a_new_connection():
        with connected() as client:
            client.admin.command("ping")
        counts["clients"] += 1
        return 1

    lasting = connected(heartbeatFrequencyMS=500, event_listeners=[Heartbeats(errors)])
    with lasting as client, concurrent.futures.ThreadPoolExecutor(THREADS + 1) as threads:
        orders = client["shop"]["orders"]

        def write_and_read():
            key = orders.insert_one({"total": 10}).inserted_id
            assert orders.find_one({"_id": key})["total"] == 10
            return 2

        works = [ping_on_a_new_connection] + [write_and_read] * THREADS
        running = [threads.submit(until_over, work) for work in works]
        print("ready", flush=True)
        sys.stdin.read()
        over.set()
        for work in running:
            counts["operations"] += work.result()
        found = dict(errors)
    print(json.dumps({**counts, "errors": found}))


if __name__ == "__main__":
    main()
