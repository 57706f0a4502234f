"""grpcio's client through the proxy: `grpc_scenarios.py SCENARIO ADDRESS [DIRECTORY]`.

Whatever is not as it should be fails the script. With a directory of certificates the client is inside
TLS: it trusts `ca.crt`, and has `client.crt` and `client.key`.
"""

import os
import pathlib
import sys
import threading
import time
from concurrent import futures

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from grpc_echo import pb, stubs

UNLIMITED = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # What is tried again is the proxy's business here.
    ("grpc.enable_retries", 0),
]


def channel_to(address, options=()):
    if len(sys.argv) < 4:
        return grpc.insecure_channel(address, options)
    ca, key, chain = (
        pathlib.Path(sys.argv[3], file).read_bytes() for file in ("ca.crt", "client.key", "client.crt")
    )
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, chain), options)


def client(address, *options):
    channel = channel_to(address, [*UNLIMITED, *options])
    return channel, stubs.EchoStub(channel)


def fails(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


def kinds(address):
    _, echo = client(address)
    assert echo.Unary(pb.Msg(text="a", n=3)).n == 3
    assert [it.n for it in echo.Down(pb.Msg(n=50))] == list(range(50))
    assert list(echo.Down(pb.Msg(n=0))) == []
    assert echo.Up(pb.Msg(data=b"xy") for _ in range(50)).text == "100"
    assert echo.Up(iter([])).n == 0

    # A conversation: each waits for the other.
    turn = threading.Semaphore(1)

    def ask():
        for n in range(30):
            assert turn.acquire(timeout=10)
            yield pb.Msg(n=n)

    for n, answer in enumerate(echo.Both(ask())):
        assert answer.n == n
        turn.release()
    assert n == 29

    error = fails(lambda: list(echo.Down(pb.Msg(text="then fail", n=3))))
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "after all"), error


def outlives(address):
    _, echo = client(address)
    call = echo.Down(pb.Msg(text="wait"))
    assert next(call).text == "begun"
    error = fails(next, call)
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error


def errors(address):
    _, echo = client(address)
    for text in ("fail", "late fail"):
        error = fails(echo.Unary, pb.Msg(text=text))
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
    assert fails(echo.Unary, pb.Msg(text="fail")).details() == "no such: ü%\n"
    error = fails(echo.Unary, pb.Msg(text="details"))
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info) and info.reason == "BECAUSE", status
    unknown = channel_to(address).unary_unary("/real.v1.Echo/Nothing")
    assert fails(unknown, b"").code() == grpc.StatusCode.UNIMPLEMENTED
    lost = channel_to(address).unary_unary("/nothing.Here/Nothing")
    assert fails(lost, b"").code() == grpc.StatusCode.UNIMPLEMENTED


def metadata(address):
    _, echo = client(address)
    sent = (("x-one", "1"), ("x-many", "a"), ("x-many", "b"), ("x-raw-bin", bytes(range(256))))
    answer, call = echo.Unary.with_call(pb.Msg(text="hi"), metadata=sent)
    head, tail = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert head["x-head"] == "h" and head["x-head-bin"] == b"\0\1\xff", head
    assert tail["x-tail"] == "t" and tail["x-tail-bin"] == b"\xff\xfe\0", tail
    seen = echo.Unary(pb.Msg(text="seen"), metadata=sent).text.split("\n")
    for line in ("x-one=1", "x-many=a", "x-many=b", f"x-raw-bin={bytes(range(256))}"):
        assert line in seen, (line, seen)
    assert any(line.startswith("user-agent=grpc-python") for line in seen), seen


def big(address):
    _, echo = client(address)
    data = os.urandom(8 << 20)
    assert echo.Unary(pb.Msg(data=data)).data == data
    piece = data[: 1 << 20]
    assert [len(it.data) for it in echo.Down(pb.Msg(n=8, data=piece))] == [1 << 20] * 8
    assert echo.Up(pb.Msg(data=piece) for _ in range(8)).text == str(8 << 20)
    assert [it.data == piece for it in echo.Both(pb.Msg(data=piece) for _ in range(8))] == [True] * 8


def packed(address):
    channel, echo = client(address)
    text = "packed" 
    data = b"again and again " * 10_000
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        answer = echo.Unary(pb.Msg(text=text, data=data), compression=compression)
        assert answer.data == data


def deadline(address):
    _, echo = client(address)
    began = time.monotonic()
    error = fails(echo.Unary, pb.Msg(text="sleep", n=5000), timeout=0.4)
    took = time.monotonic() - began
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and took < 3, (error, took)


def cut(address):
    """The route's own time is over in the middle of a stream."""
    _, echo = client(address)
    call = echo.Down(pb.Msg(text="wait"))
    assert next(call).text == "begun"
    error = fails(lambda: next(call))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert "timed_out" in error.details(), error


def left(address):
    """A policy holds each call for 300 ms; the service must know."""
    _, echo = client(address)
    n = echo.Unary(pb.Msg(text="left"), timeout=5).n
    assert 3000 < n <= 4710, n


def cancel(address):
    _, echo = client(address)
    before = echo.Unary(pb.Msg(text="cancelled")).n
    calls = [echo.Down(pb.Msg(text="wait")) for _ in range(5)]
    for call in calls:
        assert next(call).text == "begun"
        call.cancel()
    until = time.monotonic() + 10
    while echo.Unary(pb.Msg(text="cancelled")).n < before + 5:
        assert time.monotonic() < until, "the service never knew"


def many(address):
    _, echo = client(address)
    calls = [echo.Unary.future(pb.Msg(text="sleep", n=100)) for _ in range(200)]
    assert all(call.result(timeout=20).n == 100 for call in calls)
    streams = [echo.Down(pb.Msg(n=100)) for _ in range(200)]
    with futures.ThreadPoolExecutor(32) as pool:
        assert list(pool.map(lambda it: len(list(it)), streams)) == [100] * 200


def pings(address):
    _, echo = client(
        address,
        ("grpc.keepalive_time_ms", 300),
        ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    # The first would have been missed after 1.3 seconds.
    assert echo.Unary(pb.Msg(text="sleep", n=1600)).n == 1600


def infrastructure(address):
    channel, _ = client(address)
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
    names = [it.name for it in next(answers).list_services_response.service]
    assert "real.v1.Echo" in names, names


def limited(address):
    _, echo = client(address)
    assert echo.Unary(pb.Msg(n=1)).n == 1
    error = fails(echo.Unary, pb.Msg())
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error
    wait = int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])
    assert wait == 250, wait
    assert "few" in error.details(), error
    # A stream is refused the same way.
    error = fails(lambda: list(echo.Both(iter([pb.Msg()]))))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error


def denied(address):
    _, echo = client(address)
    error = fails(echo.Unary, pb.Msg())
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "-1", error
    assert "ask us" in error.details(), error


def gone(address):
    _, echo = client(address)
    error = fails(echo.Unary, pb.Msg())
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error


def broken(address):
    """Says a line once a stream has begun, and waits for the service to be killed."""
    _, echo = client(address)
    call = echo.Down(pb.Msg(text="wait"))
    assert next(call).text == "begun"
    print("begun", flush=True)
    error = fails(lambda: next(call))
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error


def retries(address):
    _, echo = client(address)
    for text in ("unavailable", "unavailable late"):
        assert echo.Unary(pb.Msg(text=text)).n == 2, text


def pushed_back(address):
    _, echo = client(address)
    for text in ("unavailable, never again", "unavailable late, never again"):
        error = fails(echo.Unary, pb.Msg(text=text))
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    began = time.monotonic()
    assert echo.Unary(pb.Msg(text="unavailable late, again in a while")).n == 2
    assert time.monotonic() - began >= 0.3


def reverse(address):
    _, echo = client(address)
    data = os.urandom(100_000)
    answer = echo.Unary(pb.Msg(text="to a monolith", n=7, data=data))
    assert (answer.text, answer.n, answer.data) == ("to a monolith", 7, data)
    assert echo.Unary(pb.Msg()) == pb.Msg()
    # Calls of several messages need real gRPC.
    error = fails(lambda: list(echo.Both(pb.Msg(n=n) for n in range(3))))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    for path, code in (("/status/404", "NOT_FOUND"), ("/status/503", "UNAVAILABLE")):
        call = channel_to(address).unary_unary(path)
        assert fails(call, b"").code().name == code, path


def shared(address):
    """What one client sends breaks no call of another, whose connection to the service is the same."""
    import socket

    import h2.config
    import h2.connection
    import h2.events

    host, port = address.rsplit(":", 1)

    class Raw:
        """A client that sends what no library would."""

        def __init__(self):
            self.socket = socket.create_connection((host, int(port)), timeout=20)
            config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
            self.h2 = h2.connection.H2Connection(config)
            self.h2.initiate_connection()

        def call(self, *metadata):
            stream = self.h2.get_next_available_stream_id()
            head = [(":method", "POST"), (":scheme", "http"), (":path", "/real.v1.Echo/Unary")]
            head += [(":authority", "a"), ("te", "trailers"), ("content-type", "application/grpc")]
            self.h2.send_headers(stream, head + list(metadata))
            self.h2.send_data(stream, bytes(5), end_stream=True)
            said = {}
            while True:
                self.socket.sendall(self.h2.data_to_send())
                data = self.socket.recv(65536)
                assert data, "the connection ended"
                for event in self.h2.receive_data(data):
                    if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                        said.update(event.headers)
                    if isinstance(event, h2.events.StreamEnded):
                        return said["grpc-status"], said.get("grpc-message", "")

    one, other = Raw(), Raw()
    for name, bad, *good in (
        ("grpc-timeout", "junk0", "5S", "6S"),
        ("grpc-timeout", "", "7S", "8S"),
        ("grpc-timeout", "1.5S", "9S", "10S"),
        ("grpc-encoding", "junk", "gzip", "deflate"),
        ("grpc-previous-rpc-attempts", "junk", "1", "2"),
        ("grpc-internal-encoding-request", "junk", "gzip", "deflate"),
        ("grpc-retry-pushback-ms", "junk", "1", "2"),
        ("grpc-tags-bin", "!!!!", "AAAA", "BBBB"),
        ("grpc-trace-bin", "a", "AAAA", "BBBB"),
        ("x-raw-bin", "AA==,AA==", "AAAA", "BBBB"),
        ("grpc-accept-encoding", "junk", "identity", "gzip"),
        ("te", "trailers", "trailers"),
        ("user-agent", "\u00e4", "a", "b"),
        ("grpc-message", "%zz", "a", "b"),
        ("traceparent", "junk", "a", "b"),
    ):
        code, words = one.call((name, bad))
        assert name != "grpc-timeout" or (code, "grpc-timeout" in words) == ("3", True), (code, words)
        for value in good:
            said = other.call((name, value))
            assert said == ("0", ""), (name, bad, value, said)
    _, echo = client(address)
    for n in range(5):
        metadata = (("x-raw-bin", bytes([n])),)
        assert echo.Unary(pb.Msg(n=n), timeout=5 + n, metadata=metadata, compression=grpc.Compression.Gzip).n == n


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
