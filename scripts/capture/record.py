#!/usr/bin/env python3
"""Records what real drivers say to a MongoDB server, one file a connection.

Needs `bson` (part of PyMongo) and a server program that takes `--host`, `--port`,
`--storage-path`, `--auth` and `--enable-test-commands`:

    scripts/capture/record.py --server secantusd-py fixtures/mongo \\
        --driver pymongo-4=python3 --driver node-7=node

Each `NAME=PROGRAM` is a driver and the program that runs its scenarios. The operations that a
file expects are worked out here, with the driver's own BSON reader and none of the proxy's code.
"""

import argparse
import pathlib
import platform
import socket
import struct
import subprocess
import tempfile
import threading
import time
import zlib

import bson

HERE = pathlib.Path(__file__).resolve().parent
OP_REPLY, OP_QUERY, OP_COMPRESSED, OP_MSG = 1, 2004, 2012, 2013
CHECKSUM_PRESENT, MORE_TO_COME = 1, 2
ZLIB = 2
# The telemetry section that MongoDB 9 drivers send.
TELEMETRY = bson.encode({"otel": {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}})
NEVER_COMPRESSED = {"hello", "isMaster", "saslStart", "saslContinue"}
PYMONGO = ["handshake", "crud", "cursor", "errors", "failing", "unacknowledged", "transaction",
           "changes", "exhaust", "schema", "bulk", "monitor", "login", "wrong_password"]
OLD_PYMONGO = ["handshake", "crud", "cursor", "unacknowledged", "login"]
NODE = ["crud", "unacknowledged", "transaction", "bulk", "monitor", "login"]
WITH_USERS = {"login", "wrong_password"}

CANONICAL = {name.lower(): name for name in ["isMaster", "findAndModify", "buildInfo", "mapReduce"]}
ON_COLLECTIONS = {
    "find", "insert", "update", "delete", "findAndModify", "count", "distinct", "aggregate",
    "create", "drop", "createIndexes", "dropIndexes", "listIndexes", "killCursors",
}
ON_DATABASES = {
    "abortTransaction", "commitTransaction", "dropDatabase", "endSessions", "hello", "isMaster",
    "listCollections", "listDatabases", "ping", "saslContinue", "saslStart",
}
CODES = {2: "BadValue", 18: "AuthenticationFailed", 59: "CommandNotFound", 91: "ShutdownInProgress",
         11000: "DuplicateKey"}
SERVICE_FAULTS = {91}


# Clients tell which kernel they run on; which one that was is nobody's business.
KERNEL = platform.release().encode()
ANY_KERNEL = b"6.1.0".ljust(len(KERNEL), b"0")[:len(KERNEL)]


class Message:
    """One message, taken apart as far as expectations need it."""

    def __init__(self, raw):
        self.raw = raw
        _, self.id, self.answers, self.opcode = struct.unpack_from("<iiii", raw)
        self.more, self.sequences, self.body, self.database = False, {}, {}, None
        self.sections = []
        if self.opcode == OP_COMPRESSED:
            self.opcode, = struct.unpack_from("<i", raw, 16)
            raw = raw[:16] + zlib.decompress(raw[25:])
        if self.opcode == OP_MSG:
            self.read_msg(raw)
        elif self.opcode == OP_QUERY:
            end = raw.index(b"\0", 20)
            self.database = raw[20:end].decode().split(".")[0]
            self.body = document(raw, end + 9)[0]
        elif self.opcode == OP_REPLY:
            self.body = document(raw, 36)[0]

    def read_msg(self, raw):
        flags, = struct.unpack_from("<I", raw, 16)
        self.more = bool(flags & MORE_TO_COME)
        at, last = 20, len(raw) - 4 * (flags & CHECKSUM_PRESENT)
        while at < last:
            kind, at = raw[at], at + 1
            end = at + struct.unpack_from("<i", raw, at)[0]
            self.sections.append(raw[at - 1:end])
            if kind != 1:
                self.body = document(raw, at)[0] if kind == 0 else self.body
                at = end
                continue
            name_end = raw.index(b"\0", at + 4)
            name, at = raw[at + 4:name_end].decode(), name_end + 1
            documents = self.sequences.setdefault(name, [])
            while at < end:
                item, at = document(raw, at)
                documents.append(item)


def document(raw, at):
    size, = struct.unpack_from("<i", raw, at)
    return bson.decode(raw[at:at + size]), at + size


class Operation:
    """A request, and what became of it."""

    def __init__(self, request, tailing):
        body = request.body
        command = next(iter(body))
        self.request, self.id = request, request.id
        self.database = request.database or body["$db"]
        self.name = CANONICAL.get(command.lower(), command)
        self.resource = self.about(self.name, body)
        self.tagged = not request.more
        self.awaits = "topologyVersion" in body and "maxAwaitTimeMS" in body
        self.awaits |= self.name == "getMore" and body[command] in tailing
        stages = body.get("pipeline") or [{}]
        self.tails = "$changeStream" in stages[0]
        self.end, self.code, self.items = None, None, None
        items = [request.sequences.get(key, body.get(key))
                 for key in ("documents", "updates", "deletes", "ops")]
        self.sent = next((len(found) for found in items if found is not None), None)

    def about(self, name, body):
        value = next(iter(body.values()))
        if name == "explain":
            inner = CANONICAL.get(next(iter(value)).lower(), next(iter(value)))
            return self.about(inner, value)
        if name == "bulkWrite":
            return (self.request.sequences.get("nsInfo") or body["nsInfo"])[0]["ns"]
        if name == "renameCollection":
            return value
        if name == "getMore":
            return f"{self.database}.{body['collection']}"
        if name in ON_COLLECTIONS and isinstance(value, str):
            return f"{self.database}.{value}"
        if name not in ON_COLLECTIONS | ON_DATABASES:
            self.name = "other"
        return self.database

    def answer(self, reply, tailing):
        body = reply.body
        cursor = body.get("cursor", {})
        batch = cursor.get("firstBatch", cursor.get("nextBatch"))
        if batch is not None:
            self.items = (self.items or 0) + len(batch)
        if self.tails and cursor.get("id"):
            tailing.add(cursor["id"])
        if reply.more:
            return
        errors = body.get("writeErrors", [])
        code = errors[0]["code"] if errors else body.get("code")
        if body.get("ok") == 1 and not errors:
            self.end = "ok"
        else:
            self.end = "failed" if code in SERVICE_FAULTS else "rejected"
            self.code = CODES.get(code)

    def __str__(self):
        words = ["expect:", self.name, self.resource]
        words.append(self.end or "open" if self.tagged else "silent")
        words += ["awaits"] if self.awaits else []
        words += [f"code={self.code}"] if self.code else []
        words += [f"sent={self.sent}"] if self.sent is not None else []
        counted = self.name in ("find", "getMore", "aggregate") and self.end == "ok"
        words += [f"items={self.items}"] if counted else []
        return " ".join(words)


class Connection:
    """Both directions of one client's connection, copied while they pass."""

    def __init__(self, client, upstream):
        self.messages, self.lock = [], threading.Lock()
        self.threads = [threading.Thread(target=self.copy, args=way, daemon=True)
                        for way in ((">", client, upstream), ("<", upstream, client))]
        for thread in self.threads:
            thread.start()

    def copy(self, mark, source, sink):
        pending = b""
        try:
            while data := source.recv(65536):
                pending += data
                # What has come is written down before it goes on, so that order is kept.
                while len(pending) >= 4:
                    size, = struct.unpack_from("<i", pending)
                    if len(pending) < size:
                        break
                    with self.lock:
                        message = Message(pending[:size].replace(KERNEL, ANY_KERNEL))
                        self.messages.append((mark, message))
                    pending = pending[size:]
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def operations(self):
        found, waiting, tailing = [], [], set()
        for mark, message in self.messages:
            if mark == ">":
                found.append(Operation(message, tailing))
                waiting += [found[-1]] if found[-1].tagged else []
            else:
                waiting[0].answer(message, tailing)
                if not message.more:
                    waiting.pop(0)
        return found

    def edited(self, edit):
        """The same connection, as it would have been with other bytes for the same words."""
        other = Connection.__new__(Connection)
        other.messages, before = [], (None, None)
        for mark, message in self.messages:
            raw = edit(mark, message, before)
            other.messages.append((mark, Message(raw) if raw else message))
            before = (mark, message)
        return other

    def text(self, about):
        lines = [f"# {line}" for line in about]
        lines += [str(operation) for operation in self.operations()]
        lines += [f"{mark} {message.raw.hex()}" for mark, message in self.messages]
        return "\n".join(lines) + "\n"


def chained(mark, message, before):
    """Follow-up replies answer the reply before them, as the specification has it."""
    if mark == "<" and before[0] == "<" and before[1].more:
        return message.raw[:8] + struct.pack("<i", before[1].id) + message.raw[12:]


def reordered(mark, message, _):
    """Sections in the other order, one more section at the end, and a checksum."""
    if mark == ">" and message.opcode == OP_MSG:
        flags, = struct.unpack_from("<I", message.raw, 16)
        sections = b"".join(reversed(message.sections)) + b"\x03" + TELEMETRY
        head = struct.pack("<iiiiI", 24 + len(sections), message.id, message.answers, OP_MSG,
                           flags | CHECKSUM_PRESENT)
        return head + sections + struct.pack("<I", crc32c(head + sections))


def compressed(_, message, __):
    """All that may be compressed is, with zlib."""
    name = CANONICAL.get(next(iter(message.body)).lower(), next(iter(message.body)))
    if message.opcode == OP_MSG and name not in NEVER_COMPRESSED:
        packed = zlib.compress(message.raw[16:])
        head = struct.pack("<iiiiiiB", 25 + len(packed), message.id, message.answers, OP_COMPRESSED,
                           message.opcode, len(message.raw) - 16, ZLIB)
        return head + packed


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


EDITS = {("pymongo-4", "exhaust"): [chained], ("pymongo-4", "crud"): [reordered, compressed],
         ("pymongo-4", "cursor"): [compressed], ("pymongo-4", "errors"): [compressed]}


class Recorder:
    """Listens in a server's place and records every connection."""

    def __init__(self, upstream):
        self.connections, self.upstream = [], upstream
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self.upstream))
            self.connections.append(Connection(client, upstream))

    def stop(self):
        self.listener.close()
        for connection in self.connections:
            for thread in connection.threads:
                thread.join(5)


class Server:
    """A server of its own, with nothing in it but the user `alice`."""

    def __init__(self, program, users):
        self.directory = tempfile.TemporaryDirectory()
        self.command = [program, "--host", "127.0.0.1", "--storage-path", self.directory.name,
                        "--enable-test-commands", "--log-level", "ERROR"]
        self.start()
        if users:
            self.client().admin.command("createUser", "alice", pwd="throwaway", roles=["root"])
            self.stop()
            self.command.append("--auth")
            self.start()

    def start(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen([*self.command, "--port", str(self.port)])
        deadline = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", self.port)) != 0:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.1)

    def client(self):
        import pymongo

        return pymongo.MongoClient("127.0.0.1", self.port, directConnection=True)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def capture(server, driver, program, scenario, out):
    if scenario == "failing":
        fault = {"failCommands": ["find"], "errorCode": 91}
        server.client().admin.command("configureFailPoint", "failCommand",
                                      mode={"times": 1}, data=fault)
    recorder = Recorder(server.port)
    script = HERE / ("drive.mjs" if driver.startswith("node") else "drive.py")
    uri = f"mongodb://127.0.0.1:{recorder.port}/"
    subprocess.run([program, script, uri, scenario], check=True, timeout=60)
    recorder.stop()
    about = [f"{driver}, {scenario.replace('_', ' ')}"]
    if scenario in WITH_USERS:
        about.append("The user `alice` and its password exist nowhere else.")
    for connection in recorder.connections:
        operations = connection.operations()
        busy = any(o.name not in ("hello", "isMaster", "endSessions") for o in operations)
        if not operations or busy == (scenario == "monitor"):
            continue
        kind = scenario.replace("_", "-")
        if scenario == "monitor" and not any(o.awaits for o in operations):
            kind = "round-trip"
        (out / f"{driver}-{kind}.hex").write_text(connection.text(about))
        for edit in EDITS.get((driver, kind), []):
            told = [*about, f"Edited. {edit.__doc__}"]
            path = out / f"{driver}-{kind}-{edit.__name__}.hex"
            path.write_text(connection.edited(edit).text(told))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True)
    parser.add_argument("--driver", action="append", default=[], metavar="NAME=PROGRAM")
    parser.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for driver, program in (driver.split("=", 1) for driver in arguments.driver):
        scenarios = NODE if driver.startswith("node") else PYMONGO
        if driver.startswith("pymongo-3"):
            scenarios = OLD_PYMONGO
        for scenario in scenarios:
            server = Server(arguments.server, users=scenario in WITH_USERS)
            try:
                capture(server, driver, program, scenario, arguments.out)
                print(f"{driver} {scenario}")
            finally:
                server.stop()


if __name__ == "__main__":
    main()
