#!/usr/bin/env python3
"""What clients notice when a replica set elects: drivers that know the members, and drivers before Tollgate.

    scripts/reliability/elections.py [--only PART] [--rounds N] [--ways WAY,…] [--json FILE] [--debug]

In each run a load meets one election. It is planned (the primary steps down, and there is none for 1.5 s),
or a crash (connections are reset, work that was done is not answered, and there is no primary for 3 s).
`--elections silent` has a primary that does not answer any more, and does not close connections.
The set is that of the tests (`replica_set.rs`): three members before one SecantusDB, so that data, sessions
and change streams are real. Members work 3 ms for an operation, and interrupt it in a step-down.

Loads: `writes` is 16 threads that insert documents with keys of their own, `$inc` counters, and find;
`transactions` is 4 threads whose transactions insert two documents and `$inc` a counter, beside a change
stream. The ways to the members:

    direct    the members in the connection string
    session   Tollgate, a connection to the primary for each of the client's
    hold      Tollgate with a pool: operations wait for a primary
    replay    the same, and what can be sent again is sent again
    add       the same with `retryable_writes: add`

Builds Tollgate and the set, installs pymongo and SecantusDB into target/elections the first time, and prints
two tables in Markdown. A round takes about eight minutes.
"""

import argparse
import collections
import contextlib
import json
import pathlib
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from environment import PACKAGES, build, enter_environment, free_port

if __name__ == "__main__":
    enter_environment()

import bson
import pymongo
from bson.raw_bson import RawBSONDocument

WRITERS, TRANSACTORS = 16, 4
SERVICE_TIME_MS = 3
# What comes before the election, the whole load, and how long its change stream must have had no event at the end.
BEFORE, RUN, AFTER = 2.0, 8.0, 2.0
# How long there is no primary.
ELECTIONS = {"planned": 1.5, "crash": 3.0, "silent": 3.0}
PAUSE, PATIENCE = 0.002, 40

FAILOVER = {
    "hold": "{ replay: false }",
    "replay": "{ replay: true }",
    "add": "{ replay: true, retryable_writes: add }",
}
WAYS = {
    "direct": "the members in the connection string",
    "session": "Tollgate, session mode",
    "hold": "Tollgate, pool, hold",
    "replay": "Tollgate, pool, hold + replay",
    "add": "Tollgate, pool, hold + replay + `add`",
}
CONFIG = """
admin: 127.0.0.1:{admin}
workers: 1
listeners:
  db: {{ address: "127.0.0.1:{port}", protocol: mongo, cluster: db }}
clusters:
  db: {{ replica_set: {{ name: rs, seeds: ["{seed}"] }}{pool} }}
"""


def eventually(what, look):
    """What `look` returns, as soon as it is something."""
    over = time.monotonic() + PATIENCE
    while time.monotonic() < over:
        try:
            if found := look():
                return found
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit(f"waited {PATIENCE} s for {what}")


class Program:
    """A process that ends with this script."""

    def __init__(self, log, *command, **options):
        command = [str(word) for word in command]
        self.process = subprocess.Popen(command, stderr=open(log, "ab"), **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Server(Program):
    """SecantusDB."""

    def __init__(self, scratch):
        self.port = free_port()
        command = [sys.prefix + "/bin/secantusd-py", "--host", "127.0.0.1", "--port", self.port]
        log = scratch / "server.log"
        super().__init__(log, *command, "--storage-path", ":memory:", stdout=open(log, "ab"))
        eventually("the server", lambda: socket.create_connection(("127.0.0.1", self.port), 1))


class Set(Program):
    """Three members before the server."""

    def __init__(self, scratch, server, binaries):
        command = [binaries / "examples/replica_set", f"127.0.0.1:{server.port}", 3, SERVICE_TIME_MS]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        super().__init__(scratch / "set.log", *command, **pipes)
        self.members = self.process.stdout.readline().strip().split(",")

    def order(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"{words}: the set has ended"
        return answer.strip()

    def elects(self, election):
        """Member 1 follows member 0, after a while without a primary."""
        self.order({"planned": "elect none", "crash": "kill 0", "silent": "silence 0"}[election])
        time.sleep(ELECTIONS[election])
        self.order("elect 1")


class Tollgate(Program):
    def __init__(self, scratch, members, way, binaries):
        self.port, admin = free_port(), free_port()
        pool = "" if way == "session" else f", pool: {{}}, failover: {FAILOVER[way]}"
        config = scratch / "tollgate.yaml"
        config.write_text(CONFIG.format(admin=admin, port=self.port, seed=members[0], pool=pool))
        log = scratch / "tollgate.log"
        super().__init__(log, binaries / "tollgate", "run", "-c", config, stdout=open(log, "ab"))

        def roles():
            if self.process.poll() is not None:
                raise SystemExit(log.read_text())
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/clusters") as found:
                endpoints = json.load(found)[0]["endpoints"]
            return [one for one in endpoints if one["role"] in ("primary", "secondary")]

        eventually("the members' roles", lambda: len(roles()) == 3)


class Load:
    """Threads that work for RUN seconds while the set elects, and what they have seen."""

    def __init__(self, uri, server, **options):
        self.client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=15000, **options)
        self.direct = pymongo.MongoClient(f"mongodb://127.0.0.1:{server.port}", directConnection=True)
        self.name = f"elections_{bson.ObjectId()}"
        self.errors, self.times, self.lock = collections.Counter(), [], threading.Lock()

    def attempt(self, kind, work):
        """Whether this operation succeeded."""
        began, error = time.monotonic(), None
        try:
            work()
        except pymongo.errors.PyMongoError as caught:
            error = f"{kind} {type(caught).__name__} {getattr(caught, 'code', None)}: {caught}"[:160]
        with self.lock:
            if kind != "watch":
                self.times.append(time.monotonic() - began)
            if error:
                self.errors[error] += 1
        return error is None

    def run(self, threads, elect):
        self.over = time.monotonic() + RUN
        running = [threading.Thread(target=work, args=args, daemon=True) for work, *args in threads]
        for thread in running:
            thread.start()
        time.sleep(BEFORE)
        elect()
        for thread in running:
            thread.join(max(0, self.over + PATIENCE - time.monotonic()))
        stuck = sum(thread.is_alive() for thread in running)
        if stuck:
            self.errors[f"no end within {PATIENCE} s"] = stuck
        self.client.close()
        found = self.check(self.direct[self.name])
        self.direct.close()
        return {
            "operations": len(self.times),
            "errors": sum(self.errors.values()),
            "kinds": self.errors,
            "slowest": max(self.times),
            **found,
        }


class Writes(Load):
    def __init__(self, uri, server, retry):
        super().__init__(uri, server, retryWrites=retry, retryReads=retry)
        self.shop = self.client[self.name]
        self.shop.rows.insert_many([{"_id": n} for n in range(100)])
        self.shop.counters.insert_many([{"_id": n, "n": 0} for n in range(WRITERS)])
        self.inserted, self.counted = [], collections.Counter()

    def perform(self, elect):
        return self.run([(self.work, thread) for thread in range(WRITERS)], elect)

    def work(self, thread):
        n = 0
        while time.monotonic() < self.over:
            n += 1
            if thread % 4 == 3:
                self.attempt("find", lambda: self.shop.rows.find_one({"_id": n % 100}))
            elif thread % 4 == 2:
                one = {"$inc": {"n": 1}}
                done = self.attempt("$inc", lambda: self.shop.counters.update_one({"_id": thread}, one))
                self.counted[thread, done] += 1
            else:
                # It gets its `_id` from the server, so that one sent twice is there twice.
                row = RawBSONDocument(bson.encode({"key": f"{thread}-{n}"}))
                if self.attempt("insert", lambda: self.shop.orders.insert_one(row)):
                    self.inserted.append(f"{thread}-{n}")
            time.sleep(PAUSE)

    def check(self, shop):
        rows = collections.Counter(row["key"] for row in shop.orders.find())
        lost = sum(1 for key in self.inserted if key not in rows)
        twice = sum(count - 1 for count in rows.values())
        for row in shop.counters.find():
            done, failed = self.counted[row["_id"], True], self.counted[row["_id"], False]
            lost += max(0, done - row["n"])
            # One that failed may have been done.
            twice += max(0, row["n"] - done - failed)
        return {"lost": lost, "twice": twice}


class Transactions(Load):
    def __init__(self, uri, server, retry):
        super().__init__(uri, server, retryWrites=retry)
        self.shop = self.client[self.name]
        self.shop.create_collection("orders")
        self.shop.counters.insert_many([{"_id": n, "n": 0} for n in range(TRANSACTORS)])
        self.committed, self.bodies, self.seen = [], 0, []
        self.failed, self.watching = 0, threading.Event()

    def perform(self, elect):
        watch = (self.attempt, "watch", self.watch)
        return self.run([watch, *((self.work, thread) for thread in range(TRANSACTORS))], elect)

    def watch(self):
        with self.shop.orders.watch(max_await_time_ms=500) as changes:
            self.watching.set()
            last = time.monotonic()
            while time.monotonic() < max(self.over, last) + AFTER:
                if event := changes.try_next():
                    self.seen.append(event["fullDocument"]["key"])
                    last = time.monotonic()

    def work(self, thread):
        n = 0
        self.watching.wait(PATIENCE)
        with self.client.start_session() as session:
            while time.monotonic() < self.over:
                n += 1

                def body(session):
                    with self.lock:
                        self.bodies += 1
                    for half in "ab":
                        self.shop.orders.insert_one({"key": f"{thread}-{n}-{half}"}, session=session)
                    one = {"$inc": {"n": 1}}
                    self.shop.counters.update_one({"_id": thread}, one, session=session)

                if self.attempt("transaction", lambda: session.with_transaction(body)):
                    self.committed.append((thread, n))
                else:
                    self.failed += 1
                time.sleep(PAUSE)

    def check(self, shop):
        keys = collections.Counter(row["key"] for row in shop.orders.find())
        halves = {key[:-1] + {"a": "b", "b": "a"}[key[-1]] for key in keys} - set(keys)
        lost = [1 for thread, n in self.committed if not keys[f"{thread}-{n}-a"]]
        total = sum(row["n"] for row in shop.counters.find())
        twice = sum(count - 1 for count in keys.values())
        seen = collections.Counter(self.seen)
        return {
            "committed": len(self.committed),
            "again": self.bodies - len(self.committed) - self.failed,
            "lost": len(lost) + max(0, len(self.committed) - total),
            "twice": twice + max(0, total - len(self.committed) - self.failed),
            "halves": len(halves),
            "missing": len(set(keys) - set(seen)),
            "seen_twice": sum(count - 1 for count in seen.values()),
        }


LOADS = {"writes": (Writes, [True, False]), "transactions": (Transactions, [True])}


def cells(options):
    """What is measured in a round."""
    for load in [options.only] if options.only else LOADS:
        for election in options.elections.split(","):
            for retry in LOADS[load][1]:
                for way in options.ways.split(","):
                    yield load, election, retry, way


def measure(load, election, retry, way, options, scratch):
    """One run, with a server and a set of its own."""
    with contextlib.ExitStack() as running:
        server = running.enter_context(Server(scratch))
        members = running.enter_context(Set(scratch, server, options.binaries))
        uri = f"mongodb://{','.join(members.members)}/?replicaSet=rs"
        if way != "direct":
            tollgate = Tollgate(scratch, members.members, way, options.binaries)
            uri = f"mongodb://127.0.0.1:{running.enter_context(tollgate).port}/"
        found = LOADS[load][0](uri, server, retry).perform(lambda: members.elects(election))
        return {**found, "refusals": members.order("refusals")}


def span(runs, key, form="{}"):
    """The least and the greatest value."""
    values = sorted({form.format(run[key]) for run in runs}, key=float)
    return values[0] if len(values) == 1 else f"{values[0]}–{values[-1]}"


def table(columns, rows):
    print("| " + " | ".join(name for name, _ in columns) + " |")
    print("|" + "|".join(rule for _, rule in columns) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def show(found):
    text = [("election", "---"), ("`retryWrites`", "---"), ("way", "---")]
    if of_writes := [(key, runs) for key, runs in found.items() if key[0] == "writes"]:
        names = ["errors", "done twice", "acknowledged and lost", "slowest, s"]
        rows = []
        for (_, election, retry, way), runs in of_writes:
            counts = [span(runs, key) for key in ("errors", "twice", "lost")]
            rows.append([election, str(retry).lower(), WAYS[way], *counts, span(runs, "slowest", "{:.1f}")])
        table(text + [(name, "--:") for name in names], rows)
        print()
    if of_transactions := [(key, runs) for key, runs in found.items() if key[0] == "transactions"]:
        columns = {
            "committed": "committed", "errors": "errors", "lost": "lost", "halves": "halves",
            "twice": "done twice", "again": "bodies run again", "missing": "events missing",
            "seen_twice": "events seen twice",
        }
        rows = []
        for (_, election, _, way), runs in of_transactions:
            rows.append([election, WAYS[way], *(span(runs, key) for key in columns)])
        del text[1]
        table(text + [(name, "--:") for name in columns.values()], rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=LOADS)
    parser.add_argument("--elections", default="planned,crash", help="also: silent")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--debug", action="store_true", help="build without optimizations")
    options = parser.parse_args()
    options.binaries = build(options.debug, "--example", "replica_set")
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(options.rounds):
            for cell in cells(options):
                one = measure(*cell, options, pathlib.Path(scratch))
                found.setdefault(cell, []).append(one)
                print(*cell, json.dumps(one), file=sys.stderr, flush=True)
    if options.json:
        rows = [{"run": list(key), "seen": runs} for key, runs in found.items()]
        options.json.write_text(json.dumps(rows))
    print(f"{time.strftime('%Y-%m-%d')}, {', '.join(PACKAGES)}, Python {platform.python_version()}\n")
    show(found)


if __name__ == "__main__":
    main()
