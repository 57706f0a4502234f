"""A service on Werkzeug that tells how it read a request: which guards of `http_guards.rs` it would
have been for. It says its port, and ends when its stdin does."""

import json
import logging
import re
import sys
import threading
from urllib.parse import urlsplit

from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response


def read(request):
    # Werkzeug's own routing takes slashes in a row as one.
    path = re.sub("/+", "/", request.path)
    host = (urlsplit(f"//{request.host}").hostname or "").rstrip(".")
    debug = [line.strip() for line in request.headers.get("X-Debug", "").split(",")]
    guards = {
        "path": path == "/admin" or path.startswith("/admin/"),
        "query": "1" in request.args.getlist("debug"),
        "host": host == "admin.example",
        "method": request.method == "DELETE",
        "header": "1" in debug,
        "agent": "bot" in request.headers.get("User-Agent", ""),
        "cookie": request.cookies.get("role") == "admin",
    }
    return [name for name, matches in guards.items() if matches]


@Request.application
def application(request):
    return Response(json.dumps(read(request)), content_type="application/json")


if __name__ == "__main__":
    logging.getLogger("werkzeug").disabled = True
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)
    sys.stdin.read()
