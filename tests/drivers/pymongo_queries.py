"""Programs that query well and badly. For pymongo 4.

    python tests/drivers/pymongo_queries.py HOST:PORT APP PROGRAM

`loop`: requests of eight threads, each with a list and then one query for each of its items.
`join`: the same with one query for all items.
`mix`: each kind of command so often as tests/query_shapes.rs expects.
"""

import random
import sys
import threading
import time

import pymongo


def loop_or_join(shop, joins):
    shop.users.insert_many([{"_id": n, "name": f"user {n}"} for n in range(100)])
    shop.posts.insert_many([{"_id": n, "tag": n % 5, "user": n} for n in range(100)])
    shop.config.insert_one({"_id": "site"})

    def request():
        posts = list(shop.posts.find({"tag": random.randrange(5)}, comment="posts.py:10").limit(20))
        users = [post["user"] for post in posts]
        if joins:
            list(shop.users.find({"_id": {"$in": users}}, comment="users.py:20"))
        else:
            for user in users:
                shop.users.find_one({"_id": user}, comment="users.py:30")
        shop.config.find_one({"_id": "site"}, comment="site.py:1")

    def thread():
        for _ in range(15):
            request()
            time.sleep(random.random() * 0.02)

    threads = [threading.Thread(target=thread) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]


def mix(shop):
    items = shop.items
    items.insert_many([{"_id": n, "kind": n % 2, "price": n / 4} for n in range(250)])
    for n in range(7):
        items.find_one({"_id": n})
    for kind in ("a", "b", "c"):
        list(items.find({"kind": kind, "price": {"$lt": 5}}, sort=[("price", -1)]).limit(5))
    # Three batches: 100, 100 and 50 documents.
    assert len(list(items.find({"price": {"$gte": 0}}, batch_size=100, comment="report.py:5"))) == 250
    for n in range(4):
        items.update_one({"_id": n}, {"$set": {"price": n}})
    items.delete_many({"price": -1})
    items.count_documents({"kind": 1})
    for n in range(2):
        try:
            items.insert_one({"_id": n})
        except pymongo.errors.DuplicateKeyError:
            pass
    # More than a thousand values in a list, and more than a thousand documents without a limit.
    list(items.find({"_id": {"$in": list(range(1001))}}))
    items.insert_many([{"_id": n} for n in range(1000, 2000)])
    assert len(list(items.find({}, comment="export.py:9"))) == 1250


def main():
    address, app, program = sys.argv[1:]
    client = pymongo.MongoClient(f"mongodb://{address}/?directConnection=true", appname=app)
    shop = client[f"queries_{program}"]
    client.drop_database(shop.name)
    if program == "mix":
        mix(shop)
    else:
        loop_or_join(shop, program == "join")
    client.close()


main()
