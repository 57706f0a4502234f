#!/usr/bin/env python3
"""What clients notice when one of three servers fails: Tollgate beside HAProxy.

    cargo build --release --bin tollgate
    apt-get install haproxy; pip install pymongo
    scripts/reliability/compare.py [--only kill,freeze] [--rounds 3] [--json FILE]

Three scripted servers stand behind a proxy, and one pymongo client with 24 threads asks them, each
a hundred times a second, without retries of its own. After 3 s one server fails in some way, 8 s
later it is well again. Both proxies check each server every second with MongoDB's `hello`, take it
out after one failed check (500 ms at most), and watch the traffic as well.

The table of docs/reliability.md has, for each way to fail:

    failed       operations that failed, and in brackets how many threads were being served by
                 the failing server at that moment: nobody can save those operations
    new failed   of the clients that come anew every 20 ms for one operation, how many failed
    avoided      seconds until the last failed or stalled (over 250 ms) operation had begun
    longest      the longest that a client waited for anything, in seconds
    back         seconds until a new client is served by the server, once it is well
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import bson
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from environment import free_port

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

THREADS = 24
PACE = 0.01
WARM, FAILING, AFTER = 3.0, 8.0, 12.0
STALL = 0.25

FAULTS = {
    "kill": "killed (`kill -9`), started again",
    "freeze": "frozen (`kill -STOP`), thawed",
    "refuse": "takes no new connections",
    "reset": "resets in the middle of answers",
    "shutdown": "answers `ShutdownInProgress`",
    "slow": "300 ms slower",
}

# A `hello` in MongoDB's words, and a word that every answer to it has.
QUESTION = bson.encode({"hello": 1, "$db": "admin"})
HELLO = (struct.pack("<5iB", 21 + len(QUESTION), 1, 0, 2013, 0, 0) + QUESTION).hex()
EXPECTED = b"isWritablePrimary".hex()

HAPROXY = """
global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  balance leastconn
  option redispatch
  retries 3
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  timeout check 500ms
listen db
  bind 127.0.0.1:{port}
  option tcp-check
  tcp-check connect
  tcp-check send-binary {hello}
  tcp-check expect binary {expected}
  default-server check inter 1s fall 1 rise 1 observe layer4 error-limit 5 on-error mark-down on-marked-down shutdown-sessions
{servers}
"""

TOLLGATE = """
admin: 127.0.0.1:0
workers: 1
listeners:
  db: {{ address: "127.0.0.1:{port}", protocol: mongo, cluster: db }}
clusters:
  db:
    endpoints: [{servers}]
    health_check:
      {{ interval: 1s, timeout: 500ms, unhealthy_threshold: 1, close_connections_on_unhealthy: true }}
    outlier_detection: {{ consecutive_failures: 5, consecutive_local_failures: 5, base_ejection_time: 2s }}
"""


class Server:
    def __init__(self, name):
        self.name, self.port = name, free_port()
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), self.name, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def order(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == word + "\n"

    def breaks(self, fault):
        if fault == "kill":
            self.process.kill()
            self.process.wait()
        elif fault == "freeze":
            self.process.send_signal(signal.SIGSTOP)
        else:
            self.order(fault)

    def mends(self, fault):
        if fault == "kill":
            self.start()
        elif fault == "freeze":
            self.process.send_signal(signal.SIGCONT)
        else:
            self.order("ok")

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


def start_proxy(name, servers, scratch, options):
    port = free_port()
    addresses = [f"127.0.0.1:{server.port}" for server in servers]
    if name == "haproxy":
        lines = "\n".join(f"  server s{i} {a}" for i, a in enumerate(addresses))
        config = HAPROXY.format(port=port, hello=HELLO, expected=EXPECTED, servers=lines)
        command = [shutil.which("haproxy"), "-q", "-f"]
    else:
        config = TOLLGATE.format(port=port, servers=", ".join(f'"{a}"' for a in addresses))
        command = [options.tollgate, "run", "-c"]
    path = scratch / f"{name}.conf"
    path.write_text(config)
    log = open(scratch / f"{name}.log", "ab")
    process = subprocess.Popen([*command, str(path)], stdout=log, stderr=log)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, port
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{name} did not start: {log.name}")


def find():
    question = bson.encode({"find": "orders", "filter": {"_id": 1}, "$db": "shop"})
    return struct.pack("<5iB", 21 + len(question), 7, 0, 2013, 0, 0) + question


class Newcomers(threading.Thread):
    """Clients that connect, ask once, and leave."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.over, self.asked = port, threading.Event(), []
        self.start()

    def run(self):
        question = find()
        while not self.over.wait(0.02):
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as client:
                    client.sendall(question)
                    answer = b""
                    while len(answer) < 4 or len(answer) < struct.unpack_from("<i", answer)[0]:
                        more = client.recv(4096)
                        if not more:
                            raise ConnectionError("closed before the answer")
                        answer += more
                found = bson.decode(answer[21:])
                server, error = found["cursor"]["firstBatch"][0]["server"], None
            except KeyError:
                server, error = None, str(found)
            except OSError as caught:
                server, error = None, str(caught)
            self.asked.append((began, time.monotonic(), server, error))

    def finish(self):
        self.over.set()
        self.join(10)
        return self.asked


class Clients:
    """Threads that ask, and what became of each question."""

    def __init__(self, port):
        self.stop, self.asked = threading.Event(), [[] for _ in range(THREADS)]
        self.client = MongoClient(
            f"mongodb://127.0.0.1:{port}/?directConnection=true",
            retryReads=False,
            retryWrites=False,
            maxPoolSize=THREADS,
            serverSelectionTimeoutMS=2000,
            connectTimeoutMS=2000,
            socketTimeoutMS=10000,
        )
        self.threads = [
            threading.Thread(target=self.ask, args=(asked,), daemon=True) for asked in self.asked
        ]
        for thread in self.threads:
            thread.start()

    def ask(self, asked):
        orders = self.client.shop.orders
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                server, error = orders.find_one({"_id": 1})["server"], None
            except PyMongoError as caught:
                server, error = None, type(caught).__name__ + ": " + str(caught)[:100]
            ended = time.monotonic()
            asked.append((began, ended, server, error))
            time.sleep(max(0.0, PACE - (ended - began)))

    def serving(self, name):
        """How many threads were answered last by this server."""
        return sum(1 for asked in self.asked if asked and asked[-1][2] == name)

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(15)
        self.client.close()
        return sorted(one for asked in self.asked for one in asked)


def run(name, fault, scratch, options):
    servers = [Server(f"s{i}") for i in range(3)]
    proxy, port = start_proxy(name, servers, scratch, options)
    try:
        # Checks have had their say before clients come.
        time.sleep(1.5)
        clients, newcomers = Clients(port), Newcomers(port)
        time.sleep(WARM)
        busy = clients.serving("s0")
        broke = time.monotonic()
        servers[0].breaks(fault)
        time.sleep(max(0.0, broke + FAILING - time.monotonic()))
        servers[0].mends(fault)
        mended = time.monotonic()
        time.sleep(AFTER)
        asked, new = clients.finish(), newcomers.finish()
    finally:
        proxy.kill()
        proxy.wait()
        for server in servers:
            server.stop()
    after = [one for one in asked if one[1] >= broke]
    failed = [one for one in after if one[3]]
    new_after = [one for one in new if one[1] >= broke]
    hurt = [one for one in after + new_after if one[3] or one[1] - one[0] > STALL]
    again = [one for one in new if one[2] == "s0" and one[0] > mended]
    return {
        "operations": len(asked),
        "busy": busy,
        "failed": len(failed),
        "late": len([one for one in failed if one[0] > broke + 1.0]),
        "new_failed": len([one for one in new_after if one[3]]),
        "avoided": max((one[0] - broke for one in hurt), default=0.0),
        "longest": max(one[1] - one[0] for one in after + new_after),
        "back": again[0][0] - mended if again else None,
        "errors": sorted({one[3] for one in failed + new_after if one[3]})[:4],
    }


def show(value, form="{:.2f}"):
    return "never" if value is None else form.format(value)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    release = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    parser.add_argument("--tollgate", default=str(release / "tollgate"))
    parser.add_argument("--only", help="faults, with commas: " + ",".join(FAULTS))
    parser.add_argument("--proxies", default="tollgate,haproxy")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for fault in options.only.split(",") if options.only else FAULTS:
            for number in range(options.rounds):
                for name in options.proxies.split(","):
                    one = run(name, fault, pathlib.Path(scratch), options)
                    found.setdefault(fault, {}).setdefault(name, []).append(one)
                    print(f"{fault} {name} {number + 1}: {one}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(found))
    print("| one of three servers | proxy | failed (being served) | of these after 1 s | new failed | avoided, s | longest wait, s | back, s |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for fault, proxies in found.items():
        for name, runs in proxies.items():
            def mid(key):
                values = [one[key] for one in runs if one[key] is not None]
                return statistics.median(values) if values else None

            cells = [FAULTS[fault], name, f"{mid('failed'):.0f} ({mid('busy'):.0f})"]
            cells += [f"{mid('late'):.0f}", f"{mid('new_failed'):.0f}", show(mid("avoided")), show(mid("longest"))]
            print("| " + " | ".join([*cells, show(mid("back"))]) + " |")


if __name__ == "__main__":
    main()
