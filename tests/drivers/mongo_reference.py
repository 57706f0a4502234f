"""A MongoDB server that reads every message as carelessly as a server can, and tells what it saw.

It keeps the last of everything that is there twice, takes sections in any order, knows no limit,
and lets everybody log in. It answers `{ok: 1, saw: {...}}`; what it saw in messages that want no
answer is told with the next answer of the connection, as `missed`. What it can't read it answers
with `{ok: 0}`. It prints its port, and ends when its stdin does.
"""

import base64
import socketserver
import struct
import sys
import threading
import zlib

import bson
from bson.binary import Binary

OP_REPLY, OP_UPDATE, OP_INSERT, OP_QUERY, OP_GET_MORE = 1, 2001, 2002, 2004, 2005
OP_DELETE, OP_KILL_CURSORS, OP_COMMAND, OP_COMPRESSED, OP_MSG = 2006, 2007, 2010, 2012, 2013
LEGACY_WRITES = {OP_UPDATE: "update", OP_INSERT: "insert", OP_DELETE: "delete"}

# Second names of commands, in mongod's source.
ALIASES = {
    "deleteIndexes": "dropIndexes",
    "dropindexes": "dropIndexes",
    "dropdatabase": "dropDatabase",
    "findandmodify": "findAndModify",
    "mapreduce": "mapReduce",
    "renamecollection": "renameCollection",
    "collstats": "collStats",
    "collmod": "collMod",
    "dbstats": "dbStats",
    "datasize": "dataSize",
    "shardcollection": "shardCollection",
    "ismaster": "isMaster",
}
# Their first value is a whole namespace.
OF_NAMESPACE = {"renameCollection", "dataSize", "shardCollection"}
# Their first value is a collection of `$db`.
OF_COLLECTION = {
    "aggregate", "cloneCollectionAsCapped", "collMod", "collStats", "count", "create",
    "createIndexes", "delete", "distinct", "drop", "dropIndexes", "find", "findAndModify",
    "insert", "listIndexes", "mapReduce", "update",
}
OF_DATABASE = {
    "applyOps", "dbStats", "dropDatabase", "hello", "isMaster", "listCollections", "logout",
    "ping", "saslStart", "authenticate",
}
WRITES = {
    "applyOps", "bulkWrite", "cloneCollectionAsCapped", "collMod", "create", "createIndexes",
    "delete", "drop", "dropDatabase", "dropIndexes", "findAndModify", "insert",
    "renameCollection", "shardCollection", "update",
}


class Unreadable(Exception):
    """No server could make sense of this."""


def cstring(data, at):
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1


def documents(data, at=0):
    found = []
    while at < len(data):
        (length,) = struct.unpack_from("<i", data, at)
        if length < 5 or at + length > len(data):
            raise Unreadable("a document's length")
        found.append(bson.decode(data[at : at + length]))
        at += length
    return found


def first_document(data, at):
    (length,) = struct.unpack_from("<i", data, at)
    return bson.decode(data[at : at + length]), at + length


def unsnap(data):
    """Snappy's block format."""
    at = 0
    while data[at] & 0x80:
        at += 1
    at += 1
    out = bytearray()
    while at < len(data):
        tag, kind = data[at], data[at] & 3
        at += 1
        if kind == 0:
            length = tag >> 2
            if length >= 60:
                wide = length - 59
                length = int.from_bytes(data[at : at + wide], "little")
                at += wide
            out += data[at : at + length + 1]
            at += length + 1
            continue
        wide = (1, 2, 4)[kind - 1]
        offset = int.from_bytes(data[at : at + wide], "little")
        at += wide
        length = (tag >> 2) + 1
        if kind == 1:
            length = (tag >> 2 & 7) + 4
            offset |= (tag >> 5) << 8
        begin = len(out) - offset
        while length > 0:
            piece = out[begin : begin + length]
            out += piece
            begin += len(piece)
            length -= len(piece)
    return bytes(out)


def unstore(data):
    """The frames of zstd that the test writes: stored blocks, no checksum, a window of 128 KiB."""
    if data[:6] != b"\x28\xb5\x2f\xfd\x80\x38":
        raise Unreadable("a zstd frame")
    at, out, last = 10, bytearray(), False
    while not last:
        head = int.from_bytes(data[at : at + 3], "little")
        last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
        at += 3
        if kind == 0:
            out += data[at : at + length]
            at += length
        elif kind == 1:
            out += data[at : at + 1] * length
            at += 1
        else:
            raise Unreadable("a zstd block")
    return bytes(out)


UNPACK = {0: bytes, 1: unsnap, 2: zlib.decompress, 3: unstore}


def is_uuid(value):
    return isinstance(value, Binary) and value.subtype in (3, 4)


class Command:
    """What a command is about."""

    def __init__(self, body, database, comments=()):
        if not body:
            raise Unreadable("an empty command")
        word, value = next(iter(body.items()))
        self.operation = ALIASES.get(word, word)
        self.body, self.database = body, body.get("$db", database)
        if not isinstance(self.database, str):
            raise Unreadable("no database")
        self.comments = [c for c in (*comments, body.get("comment")) if isinstance(c, str)]
        self.names, self.writes = [], self.operation in WRITES
        self.about(value)
        self.others()

    def about(self, value):
        if self.operation == "explain":
            if not isinstance(value, dict):
                raise Unreadable("nothing to explain")
            inner = Command(value, self.database, self.comments)
            self.names, self.writes, self.comments = inner.names, inner.writes, inner.comments
        elif self.operation in OF_NAMESPACE:
            self.namespace(value)
        elif self.operation == "getMore":
            self.collection(self.body.get("collection"))
        elif self.operation == "bulkWrite":
            for info in self.body.get("nsInfo", ()):
                self.namespace(info.get("ns"))
        elif self.operation == "aggregate" and value == 1:
            self.names.append(self.database)
        elif self.operation in OF_COLLECTION:
            self.collection(value)
        elif self.operation in OF_DATABASE:
            self.names.append(self.database)
        else:
            raise Unreadable("an unknown command")

    def collection(self, value, database=None):
        database = database or self.database
        if is_uuid(value):
            self.names.append(f"{database}.*")
        elif isinstance(value, str) and value:
            self.names.append(f"{database}.{value}")
        else:
            raise Unreadable("no collection")

    def namespace(self, value):
        if not isinstance(value, str) or "." not in value:
            raise Unreadable("no namespace")
        self.names.append(value)

    def others(self):
        body, operation = self.body, self.operation
        if operation in ("aggregate", "create", "collMod"):
            self.stages(body.get("pipeline", ()))
        if operation in ("create", "collMod") and body.get("viewOn"):
            self.collection(body["viewOn"])
        if operation == "cloneCollectionAsCapped":
            self.collection(body.get("toCollection"))
        if operation == "renameCollection":
            self.namespace(body.get("to"))
        if operation == "mapReduce":
            self.output(body.get("out"))
        if operation == "applyOps":
            self.applied(body["applyOps"])

    def output(self, out):
        if isinstance(out, str):
            out = {"replace": out}
        if not isinstance(out, dict):
            raise Unreadable("no output")
        for key in ("replace", "merge", "reduce"):
            if key in out:
                self.collection(out[key], out.get("db"))
                self.writes = True

    def target(self, value):
        if isinstance(value, dict):
            self.collection(value.get("coll"), value.get("db"))
        else:
            self.collection(value)

    def stages(self, value):
        if isinstance(value, list):
            for inner in value:
                self.stages(inner)
        if not isinstance(value, dict):
            return
        for key, inner in value.items():
            if key in ("$lookup", "$graphLookup") and "from" in inner:
                self.target(inner["from"])
            elif key == "$unionWith":
                self.target(inner["coll"] if isinstance(inner, dict) else inner)
            elif key == "$out":
                self.target(inner)
            elif key == "$merge":
                into = inner["into"] if isinstance(inner, dict) else inner
                self.target(into)
            self.writes |= key in ("$out", "$merge")
            self.stages(inner)

    def applied(self, value):
        if isinstance(value, list):
            for inner in value:
                self.applied(inner)
        if not isinstance(value, dict):
            return
        if isinstance(value.get("ns"), str):
            database = value["ns"].partition(".")[0]
            if value["ns"].endswith(".$cmd"):
                inner = value.get("o")
                if isinstance(inner, dict) and isinstance(next(iter(inner.values()), None), str):
                    self.collection(next(iter(inner.values())), database)
            elif "ui" in value:
                self.names.append(f"{database}.*")
            else:
                self.namespace(value["ns"])
        for inner in value.values():
            self.applied(inner)


class Connection(socketserver.StreamRequestHandler):
    """One connection, and who is logged in on it."""

    def setup(self):
        super().setup()
        self.user, self.missed = None, []

    def handle(self):
        while True:
            head = self.rfile.read(16)
            if len(head) < 16:
                return
            length, number, _, opcode = struct.unpack("<iiii", head)
            data = self.rfile.read(length - 16)
            if len(data) < length - 16:
                return
            try:
                self.message(number, opcode, data)
            except OSError:
                return

    def message(self, number, opcode, data):
        silent, legacy, answer = False, False, {}
        try:
            if opcode == OP_COMPRESSED:
                opcode, _, how = struct.unpack_from("<iiB", data)
                data = UNPACK[how](data[9:])
            legacy = opcode != OP_MSG
            silent = opcode in LEGACY_WRITES or opcode == OP_KILL_CURSORS
            if opcode == OP_MSG:
                silent = bool(struct.unpack_from("<I", data)[0] & 2)
            answer = self.read(opcode, data)
            answer["ok"] = 1.0
        except Exception as error:  # Whatever it is, it is no message.
            answer = {"ok": 0.0, "code": 9, "errmsg": f"{type(error).__name__}: {error}"}
        if silent:
            self.missed.append(answer.get("saw"))
            return
        answer["missed"] = [saw for saw in self.missed if saw]
        self.missed = []
        self.reply(number, legacy, bson.encode(answer))

    def reply(self, number, legacy, document):
        front = struct.pack("<iqii", 8, 0, 0, 1) if legacy else b"\0\0\0\0\0"
        length = 16 + len(front) + len(document)
        head = struct.pack("<iiii", length, 1, number, OP_REPLY if legacy else OP_MSG)
        self.wfile.write(head + front + document)

    def read(self, opcode, data):
        if opcode == OP_MSG:
            return self.command(Command(sections(data), None))
        if opcode == OP_COMMAND:
            database, at = cstring(data, 0)
            _, at = cstring(data, at)
            body, _ = first_document(data, at)
            return self.command(Command(body, database))
        name, at = cstring(data, 4)
        if opcode == OP_QUERY:
            outer, _ = first_document(data, at + 8)
            inner = outer
            if isinstance(outer.get("$query"), dict):
                inner = outer["$query"]
            elif next(iter(outer), None) == "query" and isinstance(outer["query"], dict):
                inner = outer["query"]
            comments = [outer.get("$comment"), inner.get("$comment")]
            if name.endswith(".$cmd"):
                return self.command(Command(inner, name[: -len(".$cmd")], comments))
            return self.saw("query", [name], False, comments)
        if opcode in LEGACY_WRITES:
            return self.saw(LEGACY_WRITES[opcode], [name], True, ())
        if opcode == OP_GET_MORE:
            return self.saw("getMore", [name], False, ())
        raise Unreadable("an opcode")

    def saw(self, operation, names, writes, comments):
        databases = sorted({name.partition(".")[0] for name in names})
        return {
            "saw": {
                "operation": operation,
                "names": names,
                "databases": databases,
                "writes": writes,
                "comments": [c for c in comments if isinstance(c, str)],
                "user": self.user,
            }
        }

    def command(self, command):
        body, operation = command.body, command.operation
        answer = self.saw(operation, command.names, command.writes, command.comments)
        speculative = body.get("speculativeAuthenticate")
        if operation == "saslStart":
            self.user = log_in(body, command.database)
            answer.update(done=True, conversationId=1, payload=b"")
        elif operation == "authenticate":
            self.user = log_in(body, command.database)
        elif operation in ("hello", "isMaster"):
            answer.update(maxWireVersion=21, isWritablePrimary=True)
            if isinstance(speculative, dict):
                self.user = log_in(speculative, speculative.get("db"))
                done = {"done": True, "conversationId": 1, "payload": b""}
                answer["speculativeAuthenticate"] = done
        elif operation == "logout":
            self.user = None
        return answer


def log_in(step, database):
    if "saslStart" not in step:
        return f"{step['user']}@{database}"
    payload = step["payload"]
    text = base64.b64decode(payload).decode() if isinstance(payload, str) else payload.decode()
    if step["mechanism"] == "PLAIN":
        name = text.split("\0")[1]
    else:
        name = text.split(",")[2].removeprefix("n=")
        name = name.replace("=2C", ",").replace("=3D", "=")
    return f"{name}@{database}"


def sections(data):
    (flags,) = struct.unpack_from("<I", data)
    end = len(data) - (4 if flags & 1 else 0)
    at, body, before, after = 4, None, {}, {}
    while at < end:
        kind = data[at]
        (length,) = struct.unpack_from("<i", data, at + 1)
        part = data[at + 1 : at + 1 + length]
        if length < 5 or at + 1 + length > end:
            raise Unreadable("a section's length")
        at += 1 + length
        if kind == 0:
            before.update(after)
            body, after = bson.decode(part), {}
        elif kind == 1:
            name, begin = cstring(part, 4)
            after[name] = documents(part, begin)
        # Others are stepped over.
    if body is None:
        raise Unreadable("no body")
    # What came later counts.
    return {**{name: None for name in body}, **before, **body, **after}


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


if __name__ == "__main__":
    with Server(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
