"""What becomes of pymongo's pool where some connections can't be made. For pymongo 4 and 3.

    python tests/drivers/pymongo_pools.py HOST:PORT TASKS FINDS

Makes five connections, writes `ready`, and waits for a line. Then TASKS threads do FINDS finds each,
and one JSON line tells how many went well, how often the pool was cleared, how long all of it took,
and each kind of error with its number.
"""

import collections
import concurrent.futures
import json
import sys
import threading
import time

import pymongo
from pymongo import monitoring


class Pools(monitoring.ConnectionPoolListener):
    cleared = 0

    def pool_cleared(self, event):
        self.cleared += 1


# What is not counted still has to be heard.
for name in dir(monitoring.ConnectionPoolListener):
    if name.startswith(("pool_", "connection_")) and name not in vars(Pools):
        setattr(Pools, name, lambda self, event: None)


def main():
    address, tasks, finds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pools = Pools()
    client = pymongo.MongoClient(
        f"mongodb://{address}/?directConnection=true",
        event_listeners=[pools],
        serverSelectionTimeoutMS=3000,
    )
    shop = client["shop"]["orders"]
    errors = collections.Counter()
    lock = threading.Lock()

    def find(times):
        good = 0
        for _ in range(times):
            try:
                list(shop.find({"_id": 1}))
                good += 1
            except pymongo.errors.PyMongoError as error:
                with lock:
                    text = str(error).replace(address, "HOST")
                    errors[f"{type(error).__name__}: {text[:100]}"] += 1
        return good

    def at_once(tasks, times):
        with concurrent.futures.ThreadPoolExecutor(tasks) as threads:
            return sum(threads.map(find, [times] * tasks))

    at_once(5, 4)
    errors.clear()
    pools.cleared = 0
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    good = at_once(tasks, finds)
    seconds = time.monotonic() - began
    report = {"ok": good, "cleared": pools.cleared, "seconds": seconds, "errors": errors}
    print(json.dumps(report), flush=True)
    client.close()


if __name__ == "__main__":
    main()
