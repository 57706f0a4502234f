"""Users of pymongo who log in at the proxy. Each scenario compares what the proxy answers with what a server
would answer.

Usage: login_scenarios.py PROXY SERVER SCENARIO. The server has the user alice, who may do everything.
"""

import os
import sys
import threading
import time

import pymongo
from pymongo.errors import AutoReconnect, OperationFailure

PROXY, SERVER, SCENARIO = sys.argv[1:]
ALICE = ("alice", "hunter-two-secret")


def client(user=None, address=PROXY, **options):
    login = {"username": user[0], "password": user[1], "authSource": "admin"} if user else {}
    options = {"maxPoolSize": 10, **login, **options}
    return pymongo.MongoClient(f"mongodb://{address}", serverSelectionTimeoutMS=15_000, **options)


def code(action):
    """The code of the error that this action ends with."""
    try:
        action()
    except OperationFailure as error:
        return error.code
    return None


def find(user=None, **options):
    with client(user, **options) as opened:
        return opened.shop.orders.find_one()


def users_of(opened):
    status = opened.admin.command("connectionStatus")["authInfo"]
    return [f"{user['user']}@{user['db']}" for user in status["authenticatedUsers"]]


def create(name, password, *roles):
    with client(ALICE, SERVER) as server:
        server.admin.command("createUser", name, pwd=password, roles=list(roles))


def eventually(what, action):
    end = time.monotonic() + 20
    while not action():
        assert time.monotonic() < end, what


def everybody():
    """Right and wrong passwords, users that do not exist, and clients that do not log in."""
    with client(ALICE) as alice:
        alice.shop.orders.insert_one({"_id": 1})
        assert alice.shop.orders.find_one() == {"_id": 1}
        assert users_of(alice) == ["alice@admin"]
        assert len(list(alice.shop.orders.aggregate([{"$match": {}}]))) == 1
    for wrong in [("alice", "hunter-three-wrong"), ("eve", "hunter-two-secret")]:
        assert code(lambda: find(wrong)) == 18, wrong
    with client() as stranger:
        assert stranger.admin.command("ping")["ok"] == 1
        assert stranger.admin.command("buildInfo")["ok"] == 1
        for refused in [
            lambda: stranger.shop.orders.find_one(),
            lambda: stranger.shop.orders.insert_one({"large": "x" * 1_000_000}),
            lambda: stranger.admin.command("listDatabases"),
            lambda: stranger.admin.command("connectionStatus"),
        ]:
            assert code(refused) == 13
        # What has no reply is dropped.
        unacknowledged = stranger.shop.orders.with_options(
            write_concern=pymongo.WriteConcern(w=0)
        )
        unacknowledged.insert_one({"_id": 2})
    create("reader", "hunter-two-reads", {"role": "read", "db": "shop"})
    with client(("reader", "hunter-two-reads")) as reader:
        assert reader.shop.orders.count_documents({}) == 1
        # The server's own words.
        assert code(lambda: reader.shop.orders.insert_one({})) == 13


def many():
    """Forty clients of one user."""

    def work():
        with client(ALICE) as one:
            for number in range(10):
                one.shop.orders.find_one({"_id": number})

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def changed():
    """A changed password ends the old log-ins, and the new one works."""
    create("carol", "hunter-two-old", {"role": "readWrite", "db": "shop"})
    old, new = ("carol", "hunter-two-old"), ("carol", "hunter-two-new")
    with client(old) as carol, client(ALICE, SERVER) as server:
        carol.shop.orders.find_one()
        server.admin.command("updateUser", "carol", pwd=new[1])
        eventually("the new password to be right", lambda: code(lambda: find(new)) is None)
        assert code(lambda: find(old)) == 18
        # Its connection is closed, and the driver can't log in again.
        eventually("the old log-in to end", lambda: code(carol.shop.orders.find_one) == 18)


def dropped():
    """A dropped user's connections end when a server refuses its log-in."""
    create("dave", "hunter-two-dave", {"role": "readWrite", "db": "shop"})
    dave = ("dave", "hunter-two-dave")
    with client(dave) as opened, client(ALICE, SERVER) as server:
        # One pooled connection exists.
        opened.shop.orders.find_one()
        server.admin.command("dropUser", "dave")
        end = time.monotonic() + 20
        codes = set()

        def busy():
            while time.monotonic() < end and 18 not in codes:
                try:
                    codes.add(code(lambda: opened.shop.command("find", "orders")))
                except AutoReconnect:
                    pass

        # Several at once need more pooled connections, which must log in.
        threads = [threading.Thread(target=busy) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 18 in codes, codes
        assert code(lambda: find(dave)) == 18


def as_another():
    """Clients log in as a user that the server does not know, and work as another one."""
    with client(("app", "hunter-two-app")) as app:
        app.shop.orders.insert_one({"_id": 3})
        assert users_of(app) == ["alice@admin"]
    assert code(lambda: find(("app", "hunter-two-secret"))) == 18


def by_sha_1():
    """A client that knows SCRAM-SHA-1 only."""
    user = ("app", "hunter-two-app")
    find(user, authMechanism="SCRAM-SHA-1")
    wrong = ("app", "hunter-two-wrong")
    assert code(lambda: find(wrong, authMechanism="SCRAM-SHA-1")) == 18


def by_certificate():
    """The certificate of a client is its log-in. CERTIFICATES is the directory with it."""
    directory = os.environ["CERTIFICATES"]
    tls = {
        "tls": True,
        "tlsCAFile": f"{directory}/ca.crt",
        "tlsCertificateKeyFile": f"{directory}/web.pem",
    }
    with client(**tls, authMechanism="MONGODB-X509") as web:
        web.shop.orders.find_one()
        assert users_of(web) == ["alice@admin"]
    assert code(lambda: find(**tls)) == 13, "a certificate alone is no log-in"
    find(ALICE, **tls)


def at_server():
    """A mechanism that only the server can check."""
    assert code(lambda: find(ALICE, authMechanism="PLAIN", authSource="$external")) is not None
    find(ALICE)


def verifier():
    """Prints what the server stores of alice's password."""
    with client(ALICE, SERVER) as server:
        info = {"usersInfo": {"user": "alice", "db": "admin"}, "showCredentials": True}
        stored = server.admin.command(info)["users"][0]["credentials"]["SCRAM-SHA-256"]
    print("SCRAM-SHA-256$%d:%s$%s:%s" % (
        stored["iterationCount"], stored["salt"], stored["storedKey"], stored["serverKey"]
    ))


globals()[SCENARIO]()
