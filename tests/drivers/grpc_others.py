"""Clients that speak less than gRPC, through the proxy: `grpc_others.py SCENARIO ADDRESS`."""

import base64
import http.client
import json
import struct
import sys
import time

import httpx
import requests

from grpc_echo import pb

PATH = "/real.v1.Echo/Unary"


def frame(message, flags=0):
    data = message.SerializeToString() if hasattr(message, "SerializeToString") else message
    return struct.pack(">BI", flags, len(data)) + data


def frames(data):
    while data:
        flags, length = struct.unpack(">BI", data[:5])
        assert len(data) >= 5 + length, data
        yield flags, data[5 : 5 + length]
        data = data[5 + length :]


def bridge(address):
    url = f"http://{address}"
    session = requests.Session()

    def post(message, path=PATH, **headers):
        headers = {it.replace("_", "-"): value for it, value in headers.items()}
        headers = {"content-type": "application/x-protobuf", **headers}
        data = message.SerializeToString()
        return session.post(url + path, data=data, headers=headers)

    answer = post(pb.Msg(text="bare", n=7, data=b"\0" * 70_000), x_one="1")
    assert answer.status_code == 200 and answer.headers["grpc-status"] == "0", answer.headers
    assert pb.Msg.FromString(answer.content).n == 7
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert int(answer.headers["content-length"]) == len(answer.content)
    # Metadata of both ends are headers.
    assert answer.headers["x-head"] == "h" and answer.headers["x-tail"] == "t", answer.headers
    assert base64.b64decode(answer.headers["x-tail-bin"] + "==") == b"\xff\xfe\0"

    # An empty message is a message.
    answer = post(pb.Msg())
    assert (answer.status_code, answer.headers["content-length"]) == (200, "0"), answer.headers

    for text, status, code in (
        ("fail", 404, "5"),
        ("late fail", 404, "5"),
        ("details", 409, "10"),
        ("unavailable b", 503, "14"),
    ):
        answer = post(pb.Msg(text=text))
        told = (answer.status_code, answer.headers["grpc-status"], answer.content)
        assert told == (status, code, b""), (text, told)
    assert "%C3%BC%25%0A" in post(pb.Msg(text="fail")).headers["grpc-message"].upper()
    assert post(pb.Msg(), path="/real.v1.Echo/Nothing").status_code == 501

    began = time.monotonic()
    answer = post(pb.Msg(text="sleep", n=4000), grpc_timeout="200m")
    assert (answer.status_code, answer.headers["grpc-status"]) == (504, "4"), answer.headers
    assert time.monotonic() - began < 2

    # One message of a stream is as good as one of none; several are not.
    answer = post(pb.Msg(n=1, text="s"), path="/real.v1.Echo/Down")
    assert (answer.status_code, pb.Msg.FromString(answer.content).text) == (200, "s")
    answer = post(pb.Msg(n=3), path="/real.v1.Echo/Down")
    assert answer.status_code == 502 and "server_streams" in answer.headers["grpc-message"]

    # So is a stream of none: there is no message to answer.
    answer = post(pb.Msg(n=0), path="/real.v1.Echo/Down")
    assert (answer.status_code, answer.headers["grpc-status"]) == (502, "13"), answer.headers

    # Frames, by a client that does nothing by itself; twice on a connection.
    raw = http.client.HTTPConnection(address)
    for n in range(2):
        body = frame(pb.Msg(n=n))
        raw.request("POST", PATH, body, {"content-type": "application/grpc", "te": "trailers"})
        answer = raw.getresponse()
        assert answer.getheader("grpc-status") == "0" and answer.status == 200
        length, data = int(answer.getheader("content-length")), answer.read()
        assert length == len(data)
        ((flags, message),) = frames(data)
        assert flags == 0 and pb.Msg.FromString(message).n == n
    # In chunks.
    pieces = iter([b"\x10", b"\x05"])
    raw.request("POST", PATH, pieces, {"content-type": "application/protobuf"}, encode_chunked=True)
    answer = raw.getresponse()
    assert pb.Msg.FromString(answer.read()).n == 5
    raw.request("GET", PATH)
    assert raw.getresponse().status == 415


def bridge_frames(address):
    data = pb.Msg(n=3, text="s").SerializeToString()
    headers = {"content-type": "application/x-protobuf"}
    answer = requests.post(f"http://{address}/real.v1.Echo/Down", data=data, headers=headers)
    assert answer.headers["content-type"] == "application/grpc-web+proto", answer.headers
    *messages, (last, trailers) = frames(answer.content)
    assert [pb.Msg.FromString(it).n for _, it in messages] == [0, 1, 2]
    assert last == 0x80 and b"grpc-status: 0" in trailers.replace(b":0", b": 0"), trailers
    answer = requests.post(f"http://{address}/real.v1.Echo/Down", data=b"", headers=headers)
    ((last, trailers),) = frames(answer.content)
    assert (answer.status_code, last) == (200, 0x80) and b"grpc-status: 0" in trailers, answer


def late(address):
    """The client of this deadline does not look at the clock itself."""
    headers = {"content-type": "application/grpc", "te": "trailers", "grpc-timeout": "300m"}
    with httpx.Client(http1=False, http2=True, timeout=20) as client:
        began = time.monotonic()
        answer = client.post(f"http://{address}/never/Call", content=frame(b""), headers=headers)
        took = time.monotonic() - began
    assert answer.status_code in (200, 415), answer
    assert answer.headers["grpc-status"] == "4", answer.headers
    assert 0.25 < took < 5, took


def text_of(data):
    """Base64 that may be padded wherever it was flushed."""
    out = b""
    while data:
        end = data.find(b"=")
        end = len(data) if end < 0 else end + (2 if data[end : end + 2] == b"==" else 1)
        end += -end % 4
        out, data = out + base64.b64decode(data[:end]), data[end:]
    return out


def web(address):
    url = f"http://{address}"
    for suffix, coded in (("", False), ("-text", True)):
        kind = f"application/grpc-web{suffix}+proto"

        def post(message, path=PATH):
            body = base64.b64encode(frame(message)) if coded else frame(message)
            headers = {"content-type": kind, "x-grpc-web": "1", "accept": kind}
            answer = requests.post(url + path, data=body, headers=headers)
            assert answer.status_code == 200, answer
            data = text_of(answer.content) if coded else answer.content
            return answer, list(frames(data))

        answer, (one, trailers) = post(pb.Msg(text="web ü", n=3, data=b"\xff" * 100_001))
        assert answer.headers["content-type"].startswith(f"application/grpc-web{suffix}")
        assert pb.Msg.FromString(one[1]).text == "web ü" and trailers[0] == 0x80
        assert b"grpc-status:0" in trailers[1].replace(b" ", b""), trailers
        _, many = post(pb.Msg(n=20), "/real.v1.Echo/Down")
        assert [pb.Msg.FromString(it).n for flags, it in many if not flags] == list(range(20))
        answer, rest = post(pb.Msg(text="fail"))
        told = answer.headers.get("grpc-status") or str(rest)
        assert "5" in told, (answer.headers, rest)


def transcode(address):
    url = f"http://{address}"
    answer = requests.get(f"{url}/v1/echo/hello%20you", params={"n": 7})
    assert (answer.status_code, answer.json()) == (200, {"text": "hello you", "n": 7}), answer.text
    assert answer.headers["content-type"].startswith("application/json")
    sent = {"text": "ü", "n": -1, "data": base64.b64encode(b"\0\xff").decode()}
    answer = requests.post(f"{url}/v1/echo", json=sent)
    assert answer.json() == sent, answer.text
    answer = requests.get(f"{url}/v1/down/0")
    assert (answer.status_code, answer.json()) == (200, []), answer.text
    answer = requests.head(f"{url}/v1/echo/x")
    assert (answer.status_code, answer.content) == (200, b""), answer.headers
    answer = requests.get(f"{url}/v1/down/3", params={"text": "x"})
    assert [it.get("n", 0) for it in answer.json()] == [0, 1, 2], answer.text
    answer = requests.post(f"{url}/v1/echo", json={"text": "fail"})
    told = answer.json()
    assert (answer.status_code, told["code"], told["message"]) == (404, 5, "no such: ü%\n"), told
    told = requests.post(f"{url}/v1/echo", json={"text": "details"}).json()
    assert told["code"] == 10 and told["details"], told
    assert requests.post(f"{url}/v1/echo", json={"nothing": 1}).status_code == 400
    assert requests.post(f"{url}/v1/echo", data=b"{").status_code in (400, 415)
    assert requests.get(f"{url}/v1/nothing").status_code == 404
    assert requests.delete(f"{url}/v1/echo").status_code == 405


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
