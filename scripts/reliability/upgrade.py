#!/usr/bin/env python3
"""What clients notice of upgrades under load: Tollgate's, and HAProxy's seamless reload.

    scripts/reliability/upgrade.py [--upgrades N] [--only PROXY] [--debug]

Each proxy is replaced N times in a row (20), a second after the other. All the time there are clients of four kinds:

    connect   two threads that connect over TCP, get their four bytes back, and close
    kept      one TCP connection that stays open from the first to the last upgrade
    http      two HTTP/1.1 clients with a kept connection, which connect again when an answer says `close`
    mongo     four threads of pymongo, without the retries of the driver

Tollgate: `tollgate run --upgrade`. HAProxy: a master process with `expose-fd listeners`, and SIGUSR2.
Builds Tollgate, installs pymongo and SecantusDB into target/elections the first time, and prints a table in
Markdown.
"""

import argparse
import http.client
import http.server
import pathlib
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

from environment import build, enter_environment, free_port, start_secantusdb

KINDS = {"connect": 2, "kept": 1, "http": 2, "mongo": 4}
PROXIES = ["Tollgate", "HAProxy"]
# HAProxy's. The option lets a kept connection end with an answer.
MODES = {"tcp": "mode tcp", "mongo": "mode tcp", "http": "mode http\n  option idle-close-on-response"}
PATIENCE = 60


def wait_until(what, condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.02)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096):
            self.request.sendall(data)


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        pass


class QuietServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A proxy may reset a connection that it keeps."""


class Servers:
    """What the proxies are before."""

    def __init__(self):
        self.ports = {}
        for name, handler in [("tcp", Echo), ("http", Hello)]:
            server = QuietServer(("127.0.0.1", 0), handler)
            self.ports[name] = server.server_address[1]
            threading.Thread(target=server.serve_forever, daemon=True).start()
        self.ports["mongo"] = free_port()
        self.mongo = start_secantusdb(self.ports["mongo"])
        wait_until("SecantusDB", lambda: listens(self.ports["mongo"]))


class Tollgate:
    def __init__(self, program, servers, folder):
        self.program, self.ports = program, {name: free_port() for name in servers.ports}
        self.config = folder / "tollgate.yaml"
        listeners = "".join(
            f"  {name}: {{ address: '127.0.0.1:{port}', protocol: {name}, cluster: {name} }}\n"
            for name, port in self.ports.items()
        )
        clusters = "".join(
            f"  {name}: {{ endpoints: ['127.0.0.1:{port}'] }}\n" for name, port in servers.ports.items()
        )
        self.config.write_text(
            f"upgrade_socket: {folder}/upgrade.sock\ndrain_timeout: 5m\ndrain_spread: 500ms\n"
            f"listeners:\n{listeners}clusters:\n{clusters}"
        )
        self.old = []
        self.current = self.start("run")
        wait_until("Tollgate", lambda: all(listens(port) for port in self.ports.values()))

    def start(self, *command):
        self.log = open(self.config.parent / f"{len(self.old)}.log", "w+")
        return subprocess.Popen([self.program, *command, "-c", self.config], stderr=self.log, stdout=subprocess.DEVNULL)

    def upgrade(self):
        said = pathlib.Path(self.log.name)
        self.old.append(self.current)
        self.current = self.start("run", "--upgrade")
        wait_until("an upgrade", lambda: "has upgraded this one" in said.read_text())

    def left(self):
        """How many old processes are left."""
        return sum(it.poll() is None for it in self.old)

    def stop(self):
        for process in [*self.old, self.current]:
            process.kill()
            process.wait()


class HAProxy:
    def __init__(self, servers, folder):
        self.ports = {name: free_port() for name in servers.ports}
        config = folder / "haproxy.cfg"
        listeners = "".join(
            f"listen {name}\n  {MODES[name]}\n  bind 127.0.0.1:{port}\n"
            f"  server one 127.0.0.1:{servers.ports[name]}\n"
            for name, port in self.ports.items()
        )
        config.write_text(
            f"global\n  stats socket {folder}/stats.sock mode 600 level admin expose-fd listeners\n  nbthread 2\n"
            f"defaults\n  timeout connect 5s\n  timeout client 5m\n  timeout server 5m\n{listeners}"
        )
        command = ["haproxy", "-W", "-S", f"{folder}/master.sock", "-f", config]
        self.master = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.control = f"{folder}/master.sock"
        wait_until("HAProxy", lambda: all(listens(port) for port in self.ports.values()))

    def processes(self):
        """How often the master has loaded the config, and how many old processes are left."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(self.control)
            control.sendall(b"show proc\n")
            text = b""
            while b"# programs" not in text and (data := control.recv(4096)):
                text += data
        current, _, rest = text.decode().partition("# old workers")
        master = next(line.split() for line in current.splitlines() if " master " in line)
        workers = [line for line in rest.partition("# programs")[0].splitlines() if " worker " in line]
        return int(master[2]), len(workers)

    def upgrade(self):
        loaded = self.processes()[0]
        self.master.send_signal(signal.SIGUSR2)

        def done():
            try:
                return self.processes()[0] > loaded
            except (OSError, StopIteration):
                return False

        wait_until("a reload", done)

    def left(self):
        return self.processes()[1]

    def stop(self):
        self.master.send_signal(signal.SIGTERM)
        self.master.wait()


class Load:
    """Clients of all kinds, until `finish`."""

    def __init__(self, ports):
        self.ports, self.over = ports, threading.Event()
        self.served, self.failed, self.slowest = ({kind: 0 for kind in KINDS} for _ in range(3))
        self.lock = threading.Lock()
        self.threads = [
            threading.Thread(target=getattr(self, kind)) for kind, count in KINDS.items() for _ in range(count)
        ]
        for thread in self.threads:
            thread.start()

    def measured(self, kind, operation):
        """Returns whether the operation has succeeded."""
        began = time.monotonic()
        try:
            operation()
            error = None
        except Exception as raised:  # whatever a client of this kind raises
            error = raised
        took = (time.monotonic() - began) * 1000
        with self.lock:
            self.slowest[kind] = max(self.slowest[kind], took)
            self.served[kind] += error is None
            self.failed[kind] += error is not None
        if error is not None:
            print(kind, repr(error), file=sys.stderr)
            time.sleep(0.05)
        return error is None

    def session(self):
        return socket.create_connection(("127.0.0.1", self.ports["tcp"]), PATIENCE)

    def ping(self, stream):
        stream.sendall(b"ping")
        answer = stream.recv(4, socket.MSG_WAITALL)
        if answer != b"ping":
            raise ConnectionError(f"the answer is {answer!r}")

    def connect(self):
        def operation():
            with self.session() as stream:
                self.ping(stream)

        while not self.over.is_set():
            self.measured("connect", operation)

    def kept(self):
        stream = self.session()
        while not self.over.is_set():
            if not self.measured("kept", lambda: self.ping(stream)):
                stream = self.session()
            time.sleep(0.001)

    def http(self):
        client = http.client.HTTPConnection("127.0.0.1", self.ports["http"], timeout=PATIENCE)

        def operation():
            client.request("GET", "/")
            answer = client.getresponse()
            if (answer.status, answer.read()) != (200, b"hello"):
                raise ConnectionError(answer.status)

        while not self.over.is_set():
            if not self.measured("http", operation):
                client.close()

    def mongo(self):
        import pymongo

        uri = f"mongodb://127.0.0.1:{self.ports['mongo']}/?retryWrites=false&retryReads=false&maxPoolSize=1"
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=PATIENCE * 1000) as client:
            number, things = 0, client.shop.things
            while not self.over.is_set():
                number += 1
                if number % 2:
                    self.measured("mongo", lambda: things.insert_one({"number": number}))
                else:
                    self.measured("mongo", lambda: things.find_one({"number": number}))

    def finish(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def run(name, proxy, upgrades):
    load = Load(proxy.ports)
    try:
        time.sleep(1)
        took = []
        for _ in range(upgrades):
            began = time.monotonic()
            proxy.upgrade()
            took.append((time.monotonic() - began) * 1000)
            time.sleep(1)
        left = proxy.left()
    finally:
        load.finish()
        proxy.stop()
    cells = [name, f"{sorted(took)[len(took) // 2]:.0f} ms", left]
    cells += [f"{load.failed[kind]} of {load.failed[kind] + load.served[kind]}" for kind in KINDS]
    cells += [" / ".join(f"{load.slowest[kind]:.0f}" for kind in KINDS) + " ms"]
    print("|", *(f"{cell} |" for cell in cells), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--upgrades", type=int, default=20)
    parser.add_argument("--only", choices=PROXIES, help="one of the proxies")
    parser.add_argument("--debug", action="store_true", help="a debug build of Tollgate")
    options = parser.parse_args()
    enter_environment()
    program = build(options.debug) / "tollgate"
    servers = Servers()
    try:
        print("| proxy | an upgrade | old processes left |", *(f"{kind} failed |" for kind in KINDS), "slowest |")
        print("|---|--:|--:|" + "--:|" * (len(KINDS) + 1))
        for name in [options.only] if options.only else PROXIES:
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                proxy = Tollgate(program, servers, folder) if name == "Tollgate" else HAProxy(servers, folder)
                run(name, proxy, options.upgrades)
    finally:
        servers.mongo.kill()
        servers.mongo.wait()


if __name__ == "__main__":
    main()
