#!/usr/bin/env python3
"""A MongoDB server of a few lines, for breaking: `server.py NAME PORT`.

Answers every command with its own name, and takes orders on its standard input, one a line:

    ok        work again
    refuse    take no new connections, go on with those there are
    reset     break the connection in the middle of each answer
    shutdown  answer every command but hello with ShutdownInProgress
    slow      answer everything 300 ms late
"""

import asyncio
import socket
import struct
import sys

import bson

HELLO = {
    "isWritablePrimary": True,
    "maxBsonObjectSize": 16777216,
    "maxMessageSizeBytes": 48000000,
    "maxWriteBatchSize": 100000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
    "ok": 1.0,
}
GREETINGS = {"hello", "isMaster", "ismaster"}
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013


class Server:
    def __init__(self, name, port):
        self.name, self.port = name, port
        self.mode = "ok"
        self.listening = None

    async def listen(self):
        self.listening = await asyncio.start_server(
            self.serve, "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )

    async def order(self, word):
        self.mode = word
        if word == "refuse" and self.listening:
            self.listening.close()
            self.listening = None
        elif word != "refuse" and not self.listening:
            await self.listen()
        print(word, flush=True)

    async def serve(self, reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                header = await reader.readexactly(16)
                length, number, _, opcode = struct.unpack("<4i", header)
                body = await reader.readexactly(length - 16)
                if not await self.answer(writer, number, opcode, body):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, writer, number, opcode, body):
        if opcode == OP_QUERY:
            name_end = body.index(b"\0", 4)
            document = body[name_end + 9 :]
        else:
            document = body[5:]
        size = struct.unpack_from("<i", document)[0]
        command = next(iter(bson.decode(document[:size])))
        if self.mode == "slow":
            await asyncio.sleep(0.3)
        if command in GREETINGS:
            answer = HELLO
        elif self.mode == "shutdown":
            answer = {
                "ok": 0.0,
                "errmsg": "The server is in quiesce mode and will shut down",
                "code": 91,
                "codeName": "ShutdownInProgress",
            }
        else:
            cursor = {"firstBatch": [{"_id": 1, "server": self.name}], "id": 0, "ns": "shop.orders"}
            answer = {"cursor": cursor, "ok": 1.0} if command == "find" else {"ok": 1.0}
        encoded = bson.encode(answer)
        if opcode == OP_QUERY:
            message = struct.pack("<iqii", 8, 0, 0, 1) + encoded
            header = struct.pack("<4i", 16 + len(message), 0, number, OP_REPLY)
        else:
            message = struct.pack("<iB", 0, 0) + encoded
            header = struct.pack("<4i", 16 + len(message), 0, number, OP_MSG)
        whole = header + message
        if self.mode == "reset" and command not in GREETINGS:
            writer.write(whole[: len(whole) // 2])
            await writer.drain()
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        writer.write(whole)
        await writer.drain()
        return True


async def main():
    server = Server(sys.argv[1], int(sys.argv[2]))
    await server.listen()
    print("ready", flush=True)
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        await server.order(line.decode().strip())


asyncio.run(main())
