"""A proxy at work, and what it costs: what compare.py and web.py share."""

import pathlib
import socket
import subprocess
import time


class Missing(Exception):
    """A proxy that cannot be measured here, and why."""


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def write(path, text):
    path.write_text(text)
    return str(path)


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
