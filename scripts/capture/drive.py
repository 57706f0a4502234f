"""Makes a MongoDB server busy in one chosen way; runs on PyMongo 3.11 and on PyMongo 4."""

import sys

import pymongo
from pymongo import CursorType, InsertOne, MongoClient, UpdateOne, WriteConcern
from pymongo.errors import PyMongoError

URI, SCENARIO = sys.argv[1:3]


def connect(**options):
    """A client that stays where it is told, on one connection for its commands."""
    options = {"directConnection": True, "maxPoolSize": 1, "appname": "fixtures", **options}
    return MongoClient(URI, **options)


def fails(action):
    try:
        action()
    except PyMongoError:
        return
    raise SystemExit("an error was expected")


def crud(client):
    orders = client.shop.orders
    orders.insert_one({"_id": 1, "status": "new", "total": 12.5})
    orders.insert_many([{"_id": n, "status": "new"} for n in range(2, 7)])
    list(orders.find({"status": "new"}))
    orders.find_one({"_id": 1}, max_time_ms=500)
    orders.update_one({"_id": 1}, {"$set": {"status": "paid"}})
    orders.update_many({"status": "new"}, {"$inc": {"tries": 1}})
    orders.find_one_and_update({"_id": 2}, {"$set": {"status": "paid"}})
    orders.count_documents({})
    orders.estimated_document_count()
    orders.distinct("status")
    orders.delete_one({"_id": 6})
    orders.bulk_write([InsertOne({"_id": 9}), UpdateOne({"_id": 9}, {"$set": {"a": 1}})])
    list(orders.aggregate([{"$match": {"status": "paid"}}, {"$sort": {"_id": 1}}]))


def cursor(client):
    orders = client.shop.orders
    orders.insert_many([{"_id": n} for n in range(9)])
    list(orders.find(batch_size=4).comment("nightly report"))
    first = orders.find(batch_size=2)
    next(first)
    first.close()
    list(orders.aggregate([{"$match": {}}], batchSize=3))


def errors(client):
    orders = client.shop.orders
    orders.insert_one({"_id": 1})
    fails(lambda: orders.insert_one({"_id": 1}))
    fails(lambda: orders.insert_many([{"_id": n} for n in (2, 1, 3)], ordered=False))
    fails(lambda: list(orders.find({"$nope": 1})))
    fails(lambda: client.shop.command("noSuchCommand"))


def failing(client):
    fails(lambda: list(client.shop.orders.find({})))


def unacknowledged(client):
    orders = client.shop.get_collection("orders", write_concern=WriteConcern(w=0))
    orders.insert_one({"_id": 1})
    orders.insert_many([{"_id": n} for n in range(2, 5)])
    orders.update_one({"_id": 1}, {"$set": {"status": "paid"}})
    orders.delete_one({"_id": 2})
    client.admin.command("ping")


def transaction(client):
    orders = client.shop.orders
    orders.insert_one({"_id": 0})
    with client.start_session() as session:
        with session.start_transaction():
            orders.insert_one({"_id": 1}, session=session)
            orders.update_one({"_id": 0}, {"$set": {"a": 1}}, session=session)
        session.start_transaction()
        orders.insert_one({"_id": 2}, session=session)
        session.abort_transaction()


def changes(client):
    orders = client.shop.orders
    orders.insert_one({"_id": 0})
    with orders.watch(max_await_time_ms=100) as stream:
        stream.try_next()
        orders.insert_one({"_id": 1})
        while stream.try_next() is None:
            pass


def exhaust(client):
    orders = client.shop.orders
    orders.insert_many([{"_id": n} for n in range(9)])
    list(orders.find(cursor_type=CursorType.EXHAUST, batch_size=2))
    client.admin.command("ping")


def schema(client):
    shop = client.shop
    shop.create_collection("orders")
    shop.orders.create_index("status")
    list(shop.orders.list_indexes())
    shop.list_collection_names()
    shop.command("explain", {"find": "orders", "filter": {"status": "new"}})
    shop.orders.rename("archive")
    client.list_database_names()
    shop.archive.drop()
    client.drop_database("shop")


def bulk(client):
    client.bulk_write([
        pymongo.InsertOne({"_id": 1}, namespace="shop.orders"),
        pymongo.UpdateOne({"_id": 1}, {"$set": {"a": 1}}, namespace="shop.orders"),
        pymongo.InsertOne({"_id": 1}, namespace="shop.prices"),
    ])


def handshake(client):
    client.admin.command("ping")


def monitor(client):
    """Long enough for a monitor to be told more than once that nothing has changed."""
    import threading

    client.admin.command("ping")
    threading.Event().wait(1.5)


def login(client):
    with connect(username="alice", password="throwaway", authSource="admin") as known:
        known.shop.orders.insert_one({"_id": 1})
        known.shop.orders.find_one()


def wrong_password(client):
    with connect(username="alice", password="thrown away") as unknown:
        fails(lambda: unknown.shop.orders.find_one())


RELUCTANT = {"retryReads": False, "retryWrites": False}
FAST = {"heartbeatFrequencyMS": 500}
options = {"failing": RELUCTANT, "monitor": FAST}.get(SCENARIO, {})
if SCENARIO in ("login", "wrong_password"):
    globals()[SCENARIO](None)
else:
    with connect(**options) as client:
        globals()[SCENARIO](client)
