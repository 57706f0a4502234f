"""Python's HTTP clients through the proxy: `http_scenarios.py SCENARIO [WHERE]`.

WHERE is the URL of the proxy's listener, or its address for WebSockets. Whatever is not as it
should be fails the script.
"""

import asyncio
import hashlib
import os
import socket
import sys
import threading
import time

import h2.connection
import h2.events
import httpx
import requests
import websockets
from websockets.asyncio.server import serve
from websockets.sync.client import connect


def digest(data):
    return hashlib.sha256(data).hexdigest()


def scenario_requests(url):
    with requests.Session() as session:
        ports = set()
        for n in range(30):
            with session.post(f"{url}/echo", data=b"%d" % n, stream=True) as answer:
                ports.add(answer.raw.connection.sock.getsockname()[1])
                assert answer.content == b"%d" % n, answer.content
        assert len(ports) == 1, f"a session used {len(ports)} connections"

        answer = session.get(f"{url}/cookie")
        assert session.cookies.get_dict() == {"a": "1", "b": "2"}, session.cookies
        seen = session.get(f"{url}/seen").json()
        assert seen["headers"]["cookie"] == "a=1; b=2", seen

        answer = session.get(f"{url}/moved")
        assert [it.status_code for it in answer.history] == [302]
        assert answer.json()["target"].endswith("/seen")

        with session.get(f"{url}/lines/1000", stream=True) as answer:
            lines = list(answer.iter_lines())
        assert lines == [b"line %d" % n for n in range(1000)]

        # A generator has no length, and so it is sent in chunks.
        sent = os.urandom(3_000_000)
        pieces = (sent[at : at + 70_001] for at in range(0, len(sent), 70_001))
        answer = session.post(f"{url}/echo", data=pieces)
        assert digest(answer.content) == digest(sent)

        answer = session.post(f"{url}/echo", files={"file": ("a.bin", sent)})
        assert sent in answer.content

        for status in (204, 404, 500, 503):
            assert session.get(f"{url}/status/{status}").status_code == status


def scenario_httpx(url):
    async def many():
        async with httpx.AsyncClient(http1=False, http2=True, timeout=30) as client:
            answers = await asyncio.gather(
                *(client.get(f"{url}/bytes/{n}") for n in range(100))
            )
            assert [len(it.content) for it in answers] == list(range(100))
            assert {it.http_version for it in answers} == {"HTTP/2"}

            sent = os.urandom(3_000_000)
            answer = await client.post(f"{url}/echo", content=sent)
            assert digest(answer.content) == digest(sent)

            seen = (await client.get(f"{url}/seen", headers={"x-many": "a, b", "cookie": "a=1"})).json()
            assert seen["headers"]["x-many"] == "a, b" and seen["headers"]["cookie"] == "a=1", seen

            async with client.stream("GET", f"{url}/lines/1000") as answer:
                lines = [line async for line in answer.aiter_lines()]
            assert lines == [f"line {n}" for n in range(1000)]

            # One that is given up leaves the others alone.
            slow = asyncio.create_task(client.get(f"{url}/never"))
            await asyncio.sleep(0.1)
            slow.cancel()
            assert (await client.get(f"{url}/status/404")).status_code == 404

    asyncio.run(many())


def scenario_early(address):
    """An answer that comes before the body has gone ends its stream without an error."""
    host, port = address.split(":")
    line = socket.create_connection((host, int(port)), timeout=10)
    peer = h2.connection.H2Connection()
    peer.initiate_connection()
    head = {":method": "POST", ":path": "/upload", ":scheme": "http", ":authority": address}
    peer.send_headers(1, [*head.items(), ("content-length", str(6 << 20))])
    seen = []
    while not any(isinstance(it, h2.events.StreamReset) for it in seen):
        if not seen or not isinstance(seen[-1], h2.events.StreamEnded):
            while (most := min(peer.local_flow_control_window(1), 16_384)) > 0:
                peer.send_data(1, bytes(most))
        line.sendall(peer.data_to_send())
        seen += peer.receive_data(line.recv(65_536))
    (answer,) = (it for it in seen if isinstance(it, h2.events.ResponseReceived))
    assert dict(answer.headers)[b":status"] == b"413", answer
    assert any(isinstance(it, h2.events.StreamEnded) for it in seen), seen
    (reset,) = (it for it in seen if isinstance(it, h2.events.StreamReset))
    assert reset.error_code == 0, reset


def scenario_websocket_service(_):
    async def echo(socket):
        async for message in socket:
            if message == "close":
                await socket.close(4001, "as asked")
            else:
                await socket.send(message)

    async def main():
        async with serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
            print(server.sockets[0].getsockname()[1], flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    sys.stdin.read()
    os._exit(0)


def scenario_websocket(address):
    with connect(f"ws://{address}/chat", max_size=None) as socket:
        socket.send("text ü")
        assert socket.recv() == "text ü"
        socket.send(b"\0\xff")
        assert socket.recv() == b"\0\xff"
        assert socket.ping().wait(10), "no pong"
        big = os.urandom(5_000_000)
        socket.send(big)
        assert digest(socket.recv()) == digest(big)
        for n in range(200):
            socket.send(str(n))
        assert [socket.recv() for _ in range(200)] == [str(n) for n in range(200)]
        # In frames of its own.
        socket.send(["a", "b", "c"])
        assert socket.recv() == "abc"

    with connect(f"ws://{address}/chat") as socket:
        socket.send("close")
        try:
            socket.recv()
            raise AssertionError("not closed")
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "as asked"), closed

    with connect(f"ws://{address}/chat") as socket:
        socket.close(4002, "bye")
        assert socket.protocol.close_rcvd.code == 4002, socket.protocol.close_rcvd


def scenario_websocket_idle(address):
    with connect(f"ws://{address}/chat", ping_interval=None) as socket:
        # What moves is not at rest.
        for n in range(6):
            time.sleep(0.3)
            socket.send(str(n))
            assert socket.recv() == str(n)
        try:
            socket.recv(timeout=15)
            raise AssertionError("an answer to nothing")
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd is None, closed


def scenario_websocket_refused(address):
    try:
        connect(f"ws://{address}/chat").close()
        raise AssertionError("it was upgraded")
    except websockets.InvalidStatus as refused:
        assert refused.response.status_code in (400, 403, 426), refused


if __name__ == "__main__":
    globals()["scenario_" + sys.argv[1]](*(sys.argv[2:] or [None]))
