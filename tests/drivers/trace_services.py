"""Two services that pass a trace on: a web service that calls gRPC, and one of gRPC that reads MongoDB.

    trace_services.py web|rpc

Where each calls comes with the request: `x-rpc` and `x-db` are addresses.
"""

import concurrent.futures
import http.server
import sys

import grpc

METHOD = "/shop.Carts/Get"


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        passed_on = [(name, self.headers[name]) for name in ("traceparent", "tracestate", "x-db")]
        with grpc.insecure_channel(self.headers["x-rpc"]) as channel:
            call = channel.unary_unary(METHOD)
            answer = call(b"", metadata=[pair for pair in passed_on if pair[1]], timeout=20)
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def read_cart(request, context):
    from pymongo import MongoClient

    came = dict(context.invocation_metadata())
    carrier = {key: came[key] for key in ("traceparent", "tracestate") if key in came}
    comment = {**carrier, "text": "carts.get"}
    with MongoClient(f"mongodb://{came['x-db']}/?directConnection=true", appname="carts") as client:
        client.admin.command("ping")
        found = client.shop.orders.find_one({"user": "ann@example.net"}, comment=comment)
    return str(found["total"]).encode()


class Rpc(grpc.GenericRpcHandler):
    def service(self, details):
        assert details.method == METHOD
        return grpc.unary_unary_rpc_method_handler(read_cart)


if sys.argv[1] == "web":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    print(server.server_port, flush=True)
    server.serve_forever()
else:
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Rpc()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
