"""What the scripts beside this one share: the Python environment with pymongo and SecantusDB, programs and ports."""

import os
import pathlib
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PACKAGES = ["secantusdb==0.7.0b3", "pymongo==4.20.0"]


def enter_environment():
    """Runs this script again with the Python that has the packages, and installs them the first time."""
    home = TARGET / "elections"
    marker, wanted = home / "complete", "\n".join(PACKAGES)
    if not marker.exists() or marker.read_text() != wanted:
        print("installing", *PACKAGES, "into", home, file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pip = [home / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--pre"]
        subprocess.run([*pip, *PACKAGES], check=True)
        marker.write_text(wanted)
    if pathlib.Path(sys.prefix) != home:
        python = str(home / "bin/python")
        os.execv(python, [python, *sys.argv])


def build(debug, *more):
    """Builds Tollgate, and what `more` names for cargo. Returns the folder of the programs."""
    profile = [] if debug else ["--release"]
    subprocess.run(["cargo", "build", "--quiet", "--bin", "tollgate", *more, *profile], cwd=ROOT, check=True)
    return TARGET / ("debug" if debug else "release")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_secantusdb(port):
    """Returns the process of a SecantusDB that keeps its data in memory."""
    program = pathlib.Path(sys.prefix) / "bin/secantusd-py"
    where = ["--host", "127.0.0.1", "--port", str(port), "--storage-path", ":memory:"]
    return subprocess.Popen([program, *where], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
