"""Switches a Tollgate's faults on for one test, and off again. Needs nothing but Python."""

import contextlib
import json
import os
import urllib.error
import urllib.request

ADMIN = os.environ.get("TOLLGATE_ADMIN", "http://127.0.0.1:9901")


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ADMIN + path, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            text = reply.read()
    except urllib.error.HTTPError as error:
        # Tollgate reports what is wrong with a fault, and where.
        raise ValueError(json.load(error)["error"]) from None
    return json.loads(text) if text else None


@contextlib.contextmanager
def fault(lasts="30s", **policy):
    """with fault(match={"operation": "find"}, fault={"delay": "2s"}): ...

    It ends with the block, or after `lasts` if the test is killed before.
    """
    known = ask("POST", "/faults", {"for": lasts, **policy})
    try:
        yield known
    finally:
        with contextlib.suppress(ValueError):  # It has ended by itself.
            ask("DELETE", f"/faults/{known['id']}")
