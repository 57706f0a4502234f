"""A proxy at work, and what it costs: what compare.py and web.py share."""

import argparse
import contextlib
import os
import pathlib
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Missing(Exception):
    """A proxy that cannot be measured here, and why."""


def arguments(doc, names, loads):
    """What is to be measured: `.names` of `names`, at `.loads` of `loads`, and how."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    release = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    some = {"type": lambda text: text.split(",")}
    parser.add_argument("--only", dest="names", default=list(names), help=",".join(names), **some)
    parser.add_argument("--loads", help=",".join(loads), **some)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each load in a round")
    parser.add_argument("--bin", type=pathlib.Path, default=release, help="where clients and servers are")
    parser.add_argument("--tollgate", default=str(release / "tollgate"))
    parser.add_argument("--envoy", help="the binary itself, not a script that runs it")
    parser.add_argument("--tls", action="store_true", help="clients speak TLS; servers do not")
    parser.add_argument("--json", type=pathlib.Path, help="write every measurement here too")
    return parser.parse_args()


@contextlib.contextmanager
def server(program):
    """A server at work, which says where it listens."""
    process = subprocess.Popen([str(program)], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def write(path, text):
    path.write_text(text)
    return str(path)


def certificate(scratch):
    """A self-signed certificate on P-256 for `localhost`, whose PEM file has its key too."""
    path = scratch / "localhost.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command += " -addext basicConstraints=critical,CA:FALSE"
    subprocess.run(
        [*command.split(), "-keyout", str(path), "-out", str(path) + ".crt"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    with open(path, "a") as both:
        both.write(pathlib.Path(str(path) + ".crt").read_text())
    return str(path)


# What each proxy's config has for TLS, by the file of its certificate.
HAPROXY_TLS = " ssl crt {certificate}"
NGINX_TLS = "ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {certificate}; ssl_certificate_key {certificate};"
TOLLGATE_TLS = ", tls: {{ certificates: {{ chain: {certificate}, key: {certificate} }} }}"
ENVOY_TLS = """
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - {{ certificate_chain: {{ filename: {certificate} }}, private_key: {{ filename: {certificate} }} }}"""


def tls_texts(certificate):
    """What the configs have for TLS; nothing without a certificate."""
    texts = {
        "haproxy_tls": HAPROXY_TLS,
        "nginx_listen": " ssl",
        "nginx_tls": NGINX_TLS,
        "envoy_tls": ENVOY_TLS,
        "tollgate_tls": TOLLGATE_TLS,
    }
    if not certificate:
        return dict.fromkeys(texts, "")
    return {name: text.format(certificate=certificate) for name, text in texts.items()}


class Proxy:
    """A proxy's process, which listens on all of `ports` once this is made."""

    def __init__(self, command, ports, log):
        self.ports = ports
        self.log = open(log, "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        for port in ports:
            self._wait(port)

    def _wait(self, port):
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    said = f"did not start: {self.process.args}\n{tail(self.log.name)}"
                    raise SystemExit(said) from None
                time.sleep(0.05)

    def cpu(self):
        """Nanoseconds on a processor, of all threads there are."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def tail(log):
    """The end of what a proxy said: the file itself is gone when this program is."""
    return pathlib.Path(log).read_text(errors="replace")[-2000:]
