"""What an application does with pymongo, scenario by scenario, wherever the address leads.

    python tests/drivers/pymongo_scenarios.py HOST:PORT SCENARIO[,SCENARIO...] [USER:PASSWORD]

Runs each scenario once for each way to write a connection string, scenarios at once, and prints one JSON line for
each: the application's name, every command that the driver says it sent, and every server that
it got to know. Exits with 0 only if all of it went as it should. Nothing here knows a proxy: the
same must pass against the server itself. More options of the connection string, such as
`tls=true`, are in the variable URI_OPTIONS. WAYS names other ways than the first three of OPTIONS,
and SET_NAME another set than `secantus`. For pymongo 4 and 3.
"""

import concurrent.futures
import json
import os
import sys
import threading

import gridfs
import pymongo
from bson import ObjectId
from pymongo import CursorType, monitoring
from pymongo.errors import DuplicateKeyError, OperationFailure
from pymongo.read_preferences import Nearest, Secondary, SecondaryPreferred
from pymongo.write_concern import WriteConcern

MORE_OPTIONS = os.environ.get("URI_OPTIONS", "")
OPTIONS = {
    "bare": "",
    "set": "replicaSet=" + os.environ.get("SET_NAME", "secantus"),
    "direct": "directConnection=true",
    "balanced": "loadBalanced=true",
}
WAYS = os.environ.get("WAYS", "bare,set,direct").split(",")
# Writes have comments since pymongo 4.
WITH_COMMENT = {"comment": "checkout.place"} if pymongo.version_tuple >= (4, 1) else {}
# The commands whose first value is the name of a collection.
ON_COLLECTIONS = {
    "aggregate", "count", "create", "createIndexes", "delete", "distinct", "drop", "find",
    "findAndModify", "insert", "killCursors", "listIndexes", "update",
}


class Commands(monitoring.CommandListener):
    """Every command as the driver reports it: [name, database.collection]."""

    def __init__(self):
        self.sent = []

    def started(self, event):
        name, database = event.command_name, event.database_name
        target = event.command.get("collection" if name == "getMore" else name)
        if name in ON_COLLECTIONS | {"getMore"} and isinstance(target, str):
            database = f"{database}.{target}"
        self.sent.append([name, database])

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


class Servers(monitoring.ServerListener):
    """Every server that the driver ever took for a member."""

    def __init__(self):
        self.known = set()

    def opened(self, event):
        self.known.add("%s:%s" % event.server_address)

    def description_changed(self, event):
        self.known.add("%s:%s" % event.server_address)

    def closed(self, event):
        pass


def crud(client, shop):
    """Each kind of write and read, and an error that is the client's own fault."""
    shop.insert_one({"_id": 1, "total": 10}, **WITH_COMMENT)
    shop.insert_many([{"_id": n, "total": n * 10} for n in range(2, 51)])
    assert shop.count_documents({}) == 50
    assert shop.find_one({"_id": 7}, comment="checkout.total")["total"] == 70
    assert shop.update_many({"_id": {"$lt": 11}}, {"$set": {"old": True}}).modified_count == 10
    assert shop.find_one_and_update({"_id": 1}, {"$inc": {"total": 1}})["total"] == 10
    assert sorted(shop.distinct("old")) == [True]
    assert list(shop.aggregate([{"$match": {"old": True}}, {"$count": "n"}])) == [{"n": 10}]
    assert shop.delete_many({"_id": {"$gt": 40}}).deleted_count == 10
    try:
        shop.insert_one({"_id": 1})
        raise AssertionError("a duplicate was taken")
    except DuplicateKeyError:
        pass
    client.admin.command("ping")


def cursors(client, shop):
    """A cursor over many batches, and one that is given up halfway."""
    shop.insert_many([{"_id": n, "text": "x" * 100} for n in range(500)])
    assert len(list(shop.find(batch_size=50, comment="report.rows"))) == 500
    abandoned = shop.find(batch_size=10)
    next(abandoned)
    abandoned.close()


def transactions(client, shop):
    """One that commits, and one that doesn't."""
    shop.insert_one({"_id": "stock", "left": 5})

    def order(session):
        shop.insert_one({"_id": "order"}, session=session)
        shop.update_one({"_id": "stock"}, {"$inc": {"left": -1}}, session=session)

    with client.start_session() as session:
        session.with_transaction(order)
    with client.start_session() as session:
        session.start_transaction()
        shop.insert_one({"_id": "second thoughts"}, session=session)
        session.abort_transaction()
    assert shop.find_one({"_id": "stock"})["left"] == 4
    assert shop.count_documents({}) == 2


def changes(client, shop):
    """A change stream that sees what another connection writes."""
    # The server may begin before a drop that was just made, which ends the stream.
    shop = shop.database[f"changes_{ObjectId()}"]
    shop.insert_one({"_id": 0})
    later = [{"$match": {"documentKey._id": {"$gt": 0}}}]
    with shop.watch(later, max_await_time_ms=500) as stream:
        writer = threading.Thread(target=lambda: shop.insert_many([{"_id": 1}, {"_id": 2}]))
        writer.start()
        seen = [next(stream)["documentKey"]["_id"] for _ in range(2)]
        writer.join()
    assert seen == [1, 2], seen


def retries(client, shop):
    """Writes that the driver must try again: a connection cut, and a server that steps down."""
    shop.insert_one({"_id": 0})
    app = client.options.pool_options.appname
    cut = {"failCommands": ["insert"], "closeConnection": True, "appName": app}
    away = {
        "failCommands": ["update"], "errorCode": 91, "appName": app,
        "errorLabels": ["RetryableWriteError"],
    }
    for fault in (cut, away):
        client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fault)
        if fault is cut:
            shop.insert_one({"_id": 1})
        else:
            assert shop.update_one({"_id": 1}, {"$set": {"done": True}}).modified_count == 1
    assert shop.count_documents({"done": True}) == 1


def unacknowledged(client, shop):
    """Writes that no reply follows, with reads behind them on the one connection."""
    quiet = shop.with_options(write_concern=WriteConcern(w=0))
    for n in range(20):
        quiet.insert_one({"_id": n})
        client.admin.command("ping")
    assert shop.count_documents({}) == 20


def exhaust(client, shop):
    """Many replies to one request, to the end, and left halfway."""
    shop.insert_many([{"_id": n} for n in range(1000)])
    whole = shop.find(cursor_type=CursorType.EXHAUST, batch_size=20)
    assert len(list(whole)) == 1000
    halfway = shop.find(cursor_type=CursorType.EXHAUST, batch_size=20)
    for _ in range(50):
        next(halfway)
    halfway.close()
    client.admin.command("ping")


def many(client, shop):
    """Many threads at once, each of which reads what it has written."""
    def write_and_read(thread):
        shop.insert_many([{"thread": thread} for _ in range(5)])
        return [it["thread"] for it in shop.find({"thread": thread}, batch_size=2)]

    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        assert list(threads.map(write_and_read, range(32))) == [[n] * 5 for n in range(32)]


def files(client, shop):
    """A file of several chunks in GridFS, which makes indexes first."""
    files = gridfs.GridFS(shop.database, collection=shop.name)
    content = bytes(range(256)) * 400
    file = files.put(content, filename="image", chunkSize=20_000)
    assert files.get(file).read() == content
    files.delete(file)
    assert not files.exists(file)


def read_with(shop, preferences):
    shop.insert_many([{"_id": n} for n in range(30)])
    for preference in preferences:
        reader = shop.with_options(read_preference=preference)
        assert len(list(reader.find(batch_size=10))) == 30
        assert list(reader.aggregate([{"$count": "n"}])) == [{"n": 30}]


def elsewhere(client, shop):
    """Reads that may be served by other members than the primary."""
    read_with(shop, [SecondaryPreferred(), Nearest(tag_sets=[{"use": "reports"}, {}])])


def secondary(client, shop):
    """Reads that the primary may not serve."""
    read_with(shop, [Secondary(), Secondary(tag_sets=[{"use": "reports"}, {}])])


def login(client, shop):
    """What a user may do once logged in, and a password that is wrong."""
    shop.insert_one({"_id": 1}, comment="account.open")
    assert shop.find_one({"_id": 1}) == {"_id": 1}
    wrong = pymongo.MongoClient(
        "mongodb://%s:%d/?" % client.address + MORE_OPTIONS,
        username="alice", password="hunter-three-wrong", authSource="admin",
        serverSelectionTimeoutMS=10_000,
    )
    try:
        wrong.admin.command("listDatabases")
        raise AssertionError("a wrong password was taken")
    except OperationFailure as error:
        assert error.code == 18, error
    finally:
        wrong.close()


SCENARIOS = {
    f.__name__: f
    for f in (
        crud, cursors, transactions, changes, retries, unacknowledged, exhaust, many, files,
        elsewhere, secondary, login,
    )
}


def run(address, scenario, way, credentials=None):
    app = f"pymongo{pymongo.version_tuple[0]}-{scenario}-{way}"
    commands, servers = Commands(), Servers()
    login_at = f"{credentials}@" if credentials else ""
    source = "authSource=admin" if credentials else ""
    options = "&".join(filter(None, [OPTIONS[way], source, MORE_OPTIONS]))
    client = pymongo.MongoClient(
        f"mongodb://{login_at}{address}/?{options}",
        appname=app,
        event_listeners=[commands, servers],
        serverSelectionTimeoutMS=20_000,
        # How long the driver believes a server gone that says it is going down.
        heartbeatFrequencyMS=500,
        # With one connection, what follows an unacknowledged write follows it on the wire.
        maxPoolSize=1 if scenario == "unacknowledged" else 20,
    )
    with client:
        shop = client["drivers"][app.replace("-", "_")]
        shop.drop()
        SCENARIOS[scenario](client, shop)
        servers.known |= {"%s:%s" % node for node in client.nodes}
    return {"app": app, "sent": commands.sent, "servers": sorted(servers.known)}


def main():
    address, scenarios, *credentials = sys.argv[1:]
    scenarios = scenarios.split(",")

    def run_each_way(scenario):
        return [run(address, scenario, way, *credentials) for way in WAYS]

    # Scenarios at once, since a client takes half a second to close.
    with concurrent.futures.ThreadPoolExecutor(len(scenarios)) as threads:
        for runs in threads.map(run_each_way, scenarios):
            for seen in runs:
                print(json.dumps(seen))


if __name__ == "__main__":
    main()
