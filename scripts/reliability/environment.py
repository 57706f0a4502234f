"""The Python environment of the scripts beside this one: pymongo and SecantusDB."""

import os
import pathlib
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
