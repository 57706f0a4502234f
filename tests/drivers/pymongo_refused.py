"""What pymongo makes of refusals.

    python tests/drivers/pymongo_refused.py HOST:PORT APP OPERATION...

Does each operation (see OPERATIONS) in turn as the application APP, then waits for one more sign of
life from the monitor, and prints one JSON line: for each operation its error's code and labels (null
if it went well) and how many times it was sent; and how many pools were cleared, heartbeats failed and
connections closed meanwhile.
"""

import json
import sys
import threading

import pymongo
from pymongo import monitoring
from pymongo.errors import BulkWriteError, ClientBulkWriteException, OperationFailure
from pymongo.write_concern import WriteConcern

# What the proxy never refuses here, and the driver sends on its own.
OWN = {"hello", "ismaster", "endSessions"}


class Watch(
    monitoring.CommandListener,
    monitoring.ConnectionPoolListener,
    monitoring.ServerHeartbeatListener,
):
    def __init__(self):
        self.sent = self.cleared = self.heartbeats_failed = self.closed = 0
        self.alive = threading.Event()

    def started(self, event):
        # Heartbeats and commands share this name.
        if isinstance(event, monitoring.CommandStartedEvent) and event.command_name not in OWN:
            self.sent += 1

    def succeeded(self, event):
        if isinstance(event, monitoring.ServerHeartbeatSucceededEvent):
            self.alive.set()

    def failed(self, event):
        if isinstance(event, monitoring.ServerHeartbeatFailedEvent):
            self.heartbeats_failed += 1

    def pool_cleared(self, event):
        self.cleared += 1

    def connection_closed(self, event):
        self.closed += 1


# What is not counted still has to be heard.
for name in dir(monitoring.ConnectionPoolListener):
    if name.startswith(("pool_", "connection_")) and name not in vars(Watch):
        setattr(Watch, name, lambda self, event: None)


def transaction(client, shop):
    with client.start_session() as session, session.start_transaction():
        shop.insert_one({"_id": "in a transaction"}, session=session)


MAP_REDUCE = {"map": "function() { emit(1, 1); }", "reduce": "function(k, v) { return 1; }"}
EXPLAINED = {"update": "shop", "updates": [{"q": {}, "u": {"$set": {"a": 1}}}]}

OPERATIONS = {
    "find": lambda client, shop: list(shop.find({"_id": 1})),
    "count": lambda client, shop: shop.count_documents({}),
    "distinct": lambda client, shop: shop.distinct("a"),
    "aggregate": lambda client, shop: list(shop.aggregate([{"$match": {"_id": 1}}])),
    "list": lambda client, shop: shop.database.list_collection_names(),
    "ping": lambda client, shop: client.admin.command("ping"),
    "insert": lambda client, shop: shop.insert_one({}),
    "insert_many": lambda client, shop: shop.insert_many([{"t": "x" * 1000} for _ in range(200)]),
    "unacknowledged": lambda client, shop: shop.with_options(
        write_concern=WriteConcern(w=0)
    ).insert_one({"_id": "unacknowledged"}),
    "update": lambda client, shop: shop.update_many({}, {"$set": {"a": 2}}),
    "delete": lambda client, shop: shop.delete_many({}),
    "find_and_modify": lambda client, shop: shop.find_one_and_update({}, {"$set": {"a": 2}}),
    "bulk": lambda client, shop: shop.bulk_write([pymongo.InsertOne({}), pymongo.DeleteOne({})]),
    "client_bulk": lambda client, shop: client.bulk_write(
        [pymongo.InsertOne({}, namespace=shop.full_name)]
    ),
    "out": lambda client, shop: shop.aggregate([{"$match": {}}, {"$out": "copy"}]),
    "merge": lambda client, shop: shop.aggregate([{"$match": {}}, {"$merge": "copy"}]),
    "map_reduce": lambda client, shop: shop.database.command(
        "mapReduce", shop.name, **MAP_REDUCE, out="copy"
    ),
    "apply_ops": lambda client, shop: client.admin.command("applyOps", []),
    "explain": lambda client, shop: shop.database.command("explain", EXPLAINED),
    "index": lambda client, shop: shop.create_index("a"),
    "create": lambda client, shop: shop.database.create_collection("another", check_exists=False),
    "rename": lambda client, shop: shop.rename("another"),
    "drop": lambda client, shop: shop.drop(),
    "drop_database": lambda client, shop: client.drop_database(shop.database.name),
    "transaction": transaction,
}


def main():
    address, app, *operations = sys.argv[1:]
    watch = Watch()
    client = pymongo.MongoClient(
        f"mongodb://{address}/?directConnection=true",
        appname=app,
        event_listeners=[watch],
        heartbeatFrequencyMS=500,
    )
    shop = client["refused"]["shop"]
    client.admin.command("ping")
    done = []
    for name in operations:
        before, code, labels = watch.sent, None, []
        try:
            OPERATIONS[name](client, shop)
        except ClientBulkWriteException as error:
            code, labels = error.error.code, error.error.details.get("errorLabels", [])
        except (OperationFailure, BulkWriteError) as error:
            code, labels = error.code, (error.details or {}).get("errorLabels", [])
        done.append({"code": code, "labels": labels, "sent": watch.sent - before})
    watch.alive.clear()
    assert watch.alive.wait(20), "no heartbeat any more"
    report = {
        "done": done,
        "cleared": watch.cleared,
        "heartbeats_failed": watch.heartbeats_failed,
        "closed": watch.closed,
    }
    print(json.dumps(report))
    client.close()


if __name__ == "__main__":
    main()
