#!/usr/bin/env python3
"""Draws docs/top.svg: the demonstration's table after 20 seconds. Needs tmux and a release build."""
import html
import pathlib
import re
import subprocess
import time

COLUMNS, ROWS, SECONDS = 100, 30, 20
COLUMN, ROW, MARGIN = 8.4, 18, 12
COLORS = {"31": "#f47067", "32": "#6bc46d", "33": "#daaa3f", "36": "#56b6c2"}
ROOT = pathlib.Path(__file__).resolve().parents[2]


def tmux(*arguments):
    command = ["tmux", "-L", "tollgate-capture", "-f", "/dev/null", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def screen():
    """Returns the terminal's lines with their SGR sequences."""
    demo = ROOT / "target/release/tollgate"
    tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), f"{demo} demo 2>/dev/null")
    try:
        time.sleep(SECONDS)
        return tmux("capture-pane", "-e", "-p").rstrip("\n").split("\n")
    finally:
        tmux("kill-server")


def spans(line, style):
    """Yields `(text, style)`; `style` is what the terminal has set and outlives the line."""
    for text, codes in re.findall(r"([^\x1b]*)(?:\x1b\[([\d;]*)m)?", line):
        if text:
            yield text, dict(style)
        for code in (codes or "0").split(";") if codes or text != line else []:
            if code in ("0", ""):
                style.clear()
            elif code == "1":
                style["font-weight"] = "bold"
            elif code == "2":
                style["opacity"] = ".6"
            elif code == "39":
                style.pop("fill", None)
            elif code in COLORS:
                style["fill"] = COLORS[code]


def svg(lines):
    width, height = COLUMNS * COLUMN + 2 * MARGIN, len(lines) * ROW + 2 * MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        'font-family="ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="14" fill="#d5dae0">'
    )
    yield f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#1c2128"/>'
    style = {}
    for row, line in enumerate(lines, 1):
        column = 0
        for text, look in spans(line, style):
            look = "".join(f' {key}="{value}"' for key, value in look.items())
            # Each word has its place: browsers fold spaces, and fonts differ in width.
            for word in re.finditer(r"\S+", text):
                x = MARGIN + (column + word.start()) * COLUMN
                length = f'textLength="{len(word[0]) * COLUMN:.1f}"'
                yield f'<text x="{x:.1f}" y="{row * ROW + 6}" {length}{look}>{html.escape(word[0])}</text>'
            column += len(text)
    yield "</svg>"


(ROOT / "docs/top.svg").write_text("\n".join(svg(screen())) + "\n")
