"""Calls a gRPC service over HTTP/1.1, with nothing but Python: see docs/grpc-bridge.md.

    docker compose up -d --build       # in the root of this repository
    python3 examples/grpc-bridge/call.py localhost:9000 you
"""

import sys
import urllib.error
import urllib.request


def call(proxy, method, message, timeout="2S"):
    """Sends a message, encoded, and gives the one that comes back. Raises what the service told."""
    request = urllib.request.Request(
        f"http://{proxy}/{method}",
        data=message,
        headers={"content-type": "application/x-protobuf", "grpc-timeout": timeout},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.read()
    except urllib.error.HTTPError as refused:
        status = refused.headers.get("grpc-status", refused.code)
        raise RuntimeError(f"status {status}: {refused.headers.get('grpc-message')}") from None


def text(field, value):
    """A field of text, as protobuf has it; of up to 127 bytes. Real programs have classes for it."""
    encoded = value.encode()
    return bytes([field << 3 | 2, len(encoded)]) + encoded


if __name__ == "__main__":
    proxy, name = sys.argv[1:]
    # message HelloRequest { string greeting = 1; }  message HelloResponse { string reply = 1; }
    reply = call(proxy, "hello.HelloService/SayHello", text(1, name))
    print(reply[2:].decode())
