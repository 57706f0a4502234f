#!/usr/bin/env python3
"""What applications notice when they move to another deployment: a cutover by Tollgate, and a restart.

    scripts/reliability/cutover.py [--rounds N] [--debug]

Twelve threads of pymongo insert documents with keys of their own, read, and insert two documents in a
transaction (`tests/drivers/pymongo_cutover.py`), without the retries of the driver. They begin at one SecantusDB and end at another. The ways:

    strip     pause, switch and resume, with `cluster_time: strip`
    pass      the same without it: connections of clients close
    restart   the config names the other server, and the process is started again

Builds Tollgate, installs pymongo and SecantusDB into target/elections the first time, and prints a table in
Markdown.
"""

import argparse
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from environment import ROOT, build, enter_environment, free_port, start_secantusdb

LOAD = ROOT / "tests/drivers/pymongo_cutover.py"
WAYS = ["strip", "pass", "restart"]
# How long the load runs before the move, and after it.
WARM_UP, AFTER = 3, 3


def wait_for(port):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"nothing listens at port {port}")


class Server:
    """A SecantusDB."""

    def __init__(self):
        self.port = free_port()
        self.process = start_secantusdb(self.port)
        wait_for(self.port)


class Proxy:
    """Tollgate before one server. `move` leads to another one."""

    def __init__(self, program, way, server, folder):
        self.program, self.way = program, way
        self.port, self.admin = free_port(), free_port()
        self.config = pathlib.Path(folder) / "tollgate.yaml"
        self.start(server)

    def start(self, server):
        time_of_cluster = "strip" if self.way == "strip" else "pass"
        self.config.write_text(
            f"admin: 127.0.0.1:{self.admin}\n"
            f"listeners:\n  db: {{ address: '127.0.0.1:{self.port}', cluster: shop, "
            f"protocol: {{ mongo: {{ cluster_time: {time_of_cluster} }} }} }}\n"
            f"clusters:\n  shop: {{ endpoints: ['127.0.0.1:{server.port}'], pool: {{}} }}\n"
        )
        command = [self.program, "run", "-c", self.config]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(self.admin)

    def post(self, path):
        url = f"http://127.0.0.1:{self.admin}/clusters/shop/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30) as answer:
            return json.load(answer)

    def move(self, server):
        """Returns how long the drain took, and all of it, in milliseconds."""
        began = time.monotonic()
        drained = None
        if self.way == "restart":
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.start(server)
        else:
            paused = self.post("pause")
            assert paused["drained"], paused
            drained = paused["took_ms"]
            self.post(f"switch?endpoints=127.0.0.1:{server.port}")
            self.post("resume")
        return drained, (time.monotonic() - began) * 1000


def run(program, way, number):
    old, new = Server(), Server()
    with tempfile.TemporaryDirectory() as folder:
        proxy = Proxy(program, way, old, folder)
        uris = [f"mongodb://127.0.0.1:{it.port}/" for it in (proxy, old, new)]
        # What the proxy does not hide must be seen.
        uris[0] += "?retryWrites=false&retryReads=false"
        load = subprocess.Popen(
            [sys.executable, LOAD, *uris, f"cutover_{number}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        assert load.stdout.readline() == "ready\n"
        time.sleep(WARM_UP)
        drained, took = proxy.move(new)
        time.sleep(AFTER)
        seen = json.loads(load.communicate()[0])
        for process in (proxy.process, old.process, new.process):
            process.kill()
            process.wait()
    print(way, json.dumps(seen), file=sys.stderr)
    wrong = len(seen["lost"]) + len(seen["twice"]) + len(seen["halves"])
    errors = sum(seen["errors"].values())
    drain = "–" if drained is None else f"{drained:.0f} ms"
    cells = [way, seen["operations"], errors, wrong, drain, f"{took:.0f} ms", f"{seen['longest_ms']} ms"]
    print("|", *(f"{cell} |" for cell in cells), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--debug", action="store_true", help="a debug build of Tollgate")
    options = parser.parse_args()
    enter_environment()
    program = build(options.debug) / "tollgate"
    print("| way | operations | errors | lost, twice or half | drained | all | longest operation |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for number in range(options.rounds):
        for way in WAYS:
            run(program, way, number)


if __name__ == "__main__":
    main()
