"""A collector of traces by OTLP, made of OpenTelemetry's own definitions.

    trace_collector.py grpc|http FILE [REJECTED [CERTIFICATE KEY]]

It writes each span that it gets into FILE, a line of JSON, after it has checked what holds for every
span. REJECTED is how many spans of each request it says that it has not accepted. With the files of a
certificate, gRPC is encrypted, and each request must have the header `authorization: Bearer t0ken`.
"""

import concurrent.futures
import http.server
import json
import sys

import grpc
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as stubs

protocol, path = sys.argv[1:3]
rejected = int(sys.argv[3]) if len(sys.argv) > 3 else 0
certificate = [open(name, "rb").read() for name in sys.argv[4:6]]
file = open(path, "a", buffering=1)


def plain(value):
    return getattr(value, value.WhichOneof("value"))


def attributes(pairs):
    names = [pair.key for pair in pairs]
    assert len(set(names)) == len(names), f"an attribute comes twice: {names}"
    return {pair.key: plain(pair.value) for pair in pairs}


def known(message):
    """Fails for a field that the definitions do not have, at any depth."""
    assert not len(UnknownFieldSet(message)), f"unknown fields in {type(message)}"
    for field, value in message.ListFields():
        if field.message_type:
            for one in value if field.is_repeated else [value]:
                known(one)


def checked(span):
    assert len(span.trace_id) == 16 and any(span.trace_id), "the trace id"
    assert len(span.span_id) == 8 and any(span.span_id), "the span id"
    assert len(span.parent_span_id) in (0, 8), "the parent's id"
    assert span.name and span.kind in (2, 3), (span.name, span.kind)
    assert 1.6e18 < span.start_time_unix_nano <= span.end_time_unix_nano < 4e18, "the times"
    assert span.flags & 0x100, "whether the parent is remote is known"
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex(),
        "trace_state": span.trace_state,
        "name": span.name,
        "kind": {2: "server", 3: "client"}[span.kind],
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": attributes(span.attributes),
        "links": [
            {"trace_id": it.trace_id.hex(), "span_id": it.span_id.hex(), **attributes(it.attributes)}
            for it in span.links
        ],
        "status": span.status.code,
        "remote_parent": bool(span.flags & 0x200),
        "sampled": bool(span.flags & 1),
    }


def take(request):
    known(request)
    (source,) = request.resource_spans
    (scoped,) = source.scope_spans
    assert scoped.scope.name == "tollgate" and scoped.scope.version
    assert source.schema_url == scoped.schema_url != ""
    resource = attributes(source.resource.attributes)
    for span in scoped.spans:
        file.write(json.dumps({"resource": resource, **checked(span)}) + "\n")
    answer = service.ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = "too old"
    return answer


class Collector(stubs.TraceServiceServicer):
    def Export(self, request, context):
        token = dict(context.invocation_metadata()).get("authorization")
        assert not certificate or token == "Bearer t0ken", "the token"
        return take(request)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        assert self.path == "/v1/traces", self.path
        assert self.headers["content-type"] == "application/x-protobuf"
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = take(service.ExportTraceServiceRequest.FromString(body)).SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


if protocol == "grpc":
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    stubs.add_TraceServiceServicer_to_server(Collector(), server)
    if certificate:
        credentials = grpc.ssl_server_credentials([tuple(reversed(certificate))])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
else:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
