"""A gRPC service on grpcio: `grpc_service.py [DIRECTORY]`.

It says its port, and ends when its stdin does. With a directory of certificates it is inside TLS: it has
`server.crt` and `server.key`, and demands certificates that `ca.crt` has issued.
"""

import pathlib
import sys
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from grpc_echo import pb, stubs

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Echo(stubs.EchoServicer):
    def __init__(self):
        self.lock = threading.Lock()
        self.cancelled = 0
        self.tries = {}

    def Unary(self, asked, call):
        metadata = list(call.invocation_metadata())
        if asked.text == "seen":
            return pb.Msg(text="\n".join(f"{it.key}={it.value}" for it in metadata))
        if asked.text == "left":
            return pb.Msg(n=int(1000 * call.time_remaining()))
        if asked.text == "cancelled":
            return pb.Msg(n=self.cancelled)
        if asked.text == "sleep":
            time.sleep(asked.n / 1000)
        if asked.text == "fail":
            call.abort(grpc.StatusCode.NOT_FOUND, "no such: ü%\n")
        if asked.text == "late fail":
            call.send_initial_metadata((("x-early", "1"),))
            call.abort(grpc.StatusCode.NOT_FOUND, "late")
        if asked.text == "details":
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.ErrorInfo(reason="BECAUSE", domain="real"))
            status = status_pb2.Status(code=code_pb2.ABORTED, message="see", details=[detail])
            call.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            call.abort(grpc.StatusCode.ABORTED, "see")
        if asked.text == "packed":
            call.set_compression(grpc.Compression.Gzip)
        if asked.text.startswith("unavailable"):
            # The first try of each fails.
            with self.lock:
                tries = self.tries[asked.text] = self.tries.get(asked.text, 0) + 1
            if tries == 1:
                if "late" in asked.text:
                    call.send_initial_metadata((("x-early", "1"),))
                if "never" in asked.text:
                    call.set_trailing_metadata((("grpc-retry-pushback-ms", "-1"),))
                if "in a while" in asked.text:
                    call.set_trailing_metadata((("grpc-retry-pushback-ms", "300"),))
                call.abort(grpc.StatusCode.UNAVAILABLE, "try again")
            return pb.Msg(n=tries)
        for it in metadata:
            if it.key.startswith("x-"):
                call.send_initial_metadata((("x-head", "h"), ("x-head-bin", b"\0\1\xff")))
                call.set_trailing_metadata((("x-tail", "t"), ("x-tail-bin", b"\xff\xfe\0"), (it.key, it.value)))
                break
        return asked

    def Down(self, asked, call):
        if asked.text == "wait":
            over = threading.Event()

            def ended():
                with self.lock:
                    self.cancelled += 1
                over.set()

            call.add_callback(ended)
            yield pb.Msg(text="begun")
            over.wait(20)
            return
        for n in range(asked.n):
            yield pb.Msg(text=asked.text, n=n, data=asked.data)
        if asked.text == "then fail":
            call.abort(grpc.StatusCode.DATA_LOSS, "after all")

    def Up(self, messages, call):
        count, size = 0, 0
        for message in messages:
            count, size = count + 1, size + len(message.data)
        return pb.Msg(n=count, text=str(size))

    def Both(self, messages, call):
        yield from messages


server = grpc.server(futures.ThreadPoolExecutor(256), options=UNLIMITED)
stubs.add_EchoServicer_to_server(Echo(), server)
health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
names = [pb.DESCRIPTOR.services_by_name["Echo"].full_name, reflection.SERVICE_NAME]
reflection.enable_server_reflection(names, server)
if len(sys.argv) < 2:
    port = server.add_insecure_port("127.0.0.1:0")
else:
    ca, key, chain = (
        pathlib.Path(sys.argv[1], file).read_bytes() for file in ("ca.crt", "server.key", "server.crt")
    )
    credentials = grpc.ssl_server_credentials([(key, chain)], ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
print(port, flush=True)
server.start()
sys.stdin.read()
server.stop(0)
