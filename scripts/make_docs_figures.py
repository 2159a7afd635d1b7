"""Make every picture of docs/ anew: python scripts/make_docs_figures.py [NAME ...]

Draws the packages and a block of delayed updates (SVG). Trains what the other pictures show in a
temporary folder and writes figures (PNG), what a terminal of 80 columns shows (SVG) and, where
Chromium is installed, pages in a browser (PNG). With names, such as train.svg, only those, and what
they need. MNIST is the downloaded one; TRAINER_CACHE may say where it is. docs/wide-*.png are left
as they are: the recipe `wide` trains for minutes (`--wide` makes them too). Linux and macOS only:
it needs a pseudo-terminal.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import drawings  # noqa: E402
from tests.browser import EXECUTABLE, Browser, Page  # noqa: E402
from tests.drawn_digits import drawn  # noqa: E402

DOCS = ROOT / "docs"
COLUMNS = 80
CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_ITERATION = re.compile(r" *\d+ +\d+ +\d\.\d+ ")  # a row of ex4's table
_KEPT = 5  # of its rows, at either end
_TOP = 32  # pixels that rich leaves for a window's title

# what a terminal shows, by the picture's name; all are run in this order
SHOWN = {
    "train.svg": "",
    "evaluate.svg": "evaluate runs/r1 --figures",
    "predict.svg": "predict runs/r1 --index 7",
    "inspect.svg": "inspect runs/r1 --index 8",
    "gradcheck.svg": "gradcheck",
    "ex4.svg": "--recipe ex4",
    "sweep.svg": "sweep --recipe book --learning-rate 0.1:0.9:0.1 --epochs 1",
}
# figures: the command, and the file that it writes
DRAWN = {
    "confusion.png": (None, "runs/r1/figures/confusion.png"),
    "mistakes.png": (None, "runs/r1/figures/mistakes.png"),
    "inspect.png": (None, "runs/r1/figures/inspect-8.png"),
    "backquery.png": ("backquery runs/r1", "runs/r1/figures/backquery.png"),
    "weights.png": ("weights runs/r1", "runs/r1/figures/weights.png"),
    "deformed.png": (
        "--augment elastic:34,4 --augment rotate:10 --augment scale:10 --epochs 1 --figures"
        " --out deformed",
        "deformed/figures/deformed.png",
    ),
    "learning-rate.png": (
        "sweep --recipe book --learning-rate 0.1:0.9:0.1 --epochs 1 --seeds 5 --out rates",
        "rates/sweep.png",
    ),
    "digits-lesson.png": (
        "sweep --data digits --recipe digits-lesson"
        " --learning-rate 0.001,0.003,0.01,0.03,0.1,0.3,1 --seeds 5 --out lesson",
        "lesson/sweep.png",
    ),
}
WIDE = {
    "wide-mistakes.png": ("evaluate wide --figures", "wide/figures/mistakes.png"),
    "wide-curves.png": ("plot wide fast", "curves.png"),
}
# what follows from the sources alone
FROM_SOURCES = {"packages.svg": drawings.packages, "delayed.svg": drawings.delayed}
PAGES = ("draw.png", "draw-phone.png", "report.png", "watch.png")


def main() -> None:
    """Make the pictures that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="pictures, such as train.svg; all if none")
    parser.add_argument("--wide", action="store_true", help="also those of the recipe wide")
    asked = parser.parse_args()
    known = [*FROM_SOURCES, *SHOWN, *DRAWN, *PAGES, *(WIDE if asked.wide else ())]
    if wrong := [name for name in asked.names if name not in known]:
        parser.error(f"{wrong[0]}: expected some of {', '.join(known)}")
    wanted = asked.names or known
    for name in [name for name in FROM_SOURCES if name in wanted]:
        write(name, FROM_SOURCES[name]().encode())
    if not set(wanted) - set(FROM_SOURCES):
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        # so that no time that is shown has compiling in it; without MNIST it ends here
        trainer("--data mnist --epochs 1 --out compiled --quiet")
        for name, arguments in SHOWN.items():
            needed = name in ("train.svg", "evaluate.svg", "inspect.svg")
            if name in wanted or needed:
                picture = as_svg(name, arguments, on_a_terminal(arguments))
            if name in wanted:
                write(name, picture.encode())
        if asked.wide:
            for recipe in ("wide", "fast"):
                trainer(f"--recipe {recipe} --out {recipe} --quiet")
        for name, (command, file) in (DRAWN | WIDE).items():
            if name in wanted:
                if command is not None:
                    trainer(command)
                write(name, Path(file).read_bytes())
        if pages := [name for name in PAGES if name in wanted]:
            photograph(pages)


def write(name: str, content: bytes) -> None:
    """Write a picture into docs/, which must show nothing of this machine's folders."""
    if name.endswith(".svg"):
        found = re.search(
            rf"{re.escape(tempfile.gettempdir())}|/home/|/root/|/work/", content.decode()
        )
        if found:
            raise SystemExit(f"{name}: shows a path of this machine, {found[0]}")
    (DOCS / name).write_bytes(content)
    print(f"docs/{name}  {len(content):,} bytes", flush=True)


def environment() -> dict[str, str]:
    """Return the environment in which the program runs: as here, but for how wide it shows."""
    dropped = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TRAINER_DATA")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLORTERM": "truecolor"}


def trainer(arguments: str) -> None:
    """Run the program without showing what it says, but for errors."""
    command = [sys.executable, "-m", "trainer", *shlex.split(arguments)]
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)


def on_a_terminal(arguments: str) -> list[str]:
    """Return the lines, with their colours, that a terminal shows when the program has ended."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "trainer", *shlex.split(arguments)]
    process = subprocess.Popen(command, env=environment(), stdout=follower, stderr=follower)
    os.close(follower)
    received = b""
    with contextlib.suppress(OSError):  # Linux says "input/output error" at the end
        while chunk := os.read(leader, 65536):
            received += chunk
    os.close(leader)
    if process.wait():
        raise SystemExit(f"python -m trainer {arguments}: {received.decode()}")
    return settled(received.decode())


def settled(text: str) -> list[str]:
    """Return what is on the screen in the end, a line each, with its colours.

    Rich moves the cursor up and erases lines where it shows progress, and does nothing else.
    """
    screen: list[list[tuple[str, str]]] = [[]]  # of each place its colours and its letter
    row, column, style, start = 0, 0, "", 0

    def put(letters: str) -> None:
        nonlocal row, column
        for letter in letters:
            if letter == "\n":
                row += 1
            elif letter == "\r":
                column = 0
            else:
                if column == COLUMNS:
                    row, column = row + 1, 0
                    screen.extend([] for _ in range(row + 1 - len(screen)))
                line = screen[row]
                line += [("", " ")] * (column + 1 - len(line))
                line[column] = style, letter
                column += 1
            screen.extend([] for _ in range(row + 1 - len(screen)))

    for control in CONTROL.finditer(text):
        put(text[start : control.start()])
        start = control.end()
        number, kind = control[1], control[2]
        if kind == "m":
            style = "" if number in ("", "0") else style + control[0]
        elif kind == "A":
            row = max(0, row - int(number or 1))
        elif kind == "K":
            screen[row] = [] if number == "2" else screen[row][:column]
    put(text[start:])
    lines = [_coloured(line).rstrip() for line in screen]
    while lines and not lines[-1]:
        del lines[-1]
    return lines


def _coloured(line: list[tuple[str, str]]) -> str:
    parts = []
    for style, places in groupby(line, key=itemgetter(0)):
        letters = "".join(letter for _, letter in places)
        parts.append(f"{style}{letters}\x1b[0m" if style else letters)
    return "".join(parts)


def as_svg(name: str, arguments: str, lines: list[str]) -> str:
    """Return lines of a terminal as an image, below the command that was typed."""
    command = f"python -m trainer {arguments}".rstrip()
    typed = textwrap.wrap(command, COLUMNS - 4, break_on_hyphens=False, break_long_words=False)
    prompt = [f"$ {typed[0]}", *(f"  {part}" for part in typed[1:])]
    prompt[:-1] = [f"{part} \\" for part in prompt[:-1]]
    with open(os.devnull, "w") as nowhere:
        out = Console(
            file=nowhere, record=True, width=COLUMNS, force_terminal=True, color_system="truecolor"
        )
        for part in prompt:
            out.print(Text(part, style="bold"))
        for line in without_middle(lines):
            out.print(Text.from_ansi(line), soft_wrap=True)
        drawing = out.export_svg(code_format=FORMAT, unique_id=f"terminal-{name.partition('.')[0]}")
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)[0])
    box = f'viewBox="0 {_TOP} {width:g} {height - _TOP:g}"'
    return re.sub(r'viewBox="[^"]*"', box, drawing, count=1)


def without_middle(lines: list[str]) -> list[str]:
    """Return the lines, of a table of many iterations only its first and last."""
    rows = [i for i, line in enumerate(lines) if _ITERATION.match(CONTROL.sub("", line))]
    if len(rows) <= 2 * _KEPT:
        return lines
    return [*lines[: rows[_KEPT]], "  ⋮", *lines[rows[-_KEPT] :]]


# rich's own, without a window around it
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: "Fira Code", "DejaVu Sans Mono", Menlo, Consolas, monospace;
    font-size: {char_height}px;
    line-height: {line_height}px;
    font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
<rect width="100%" height="100%" y="32" rx="8" fill="#292929"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def photograph(names: list[str]) -> None:
    """Write what a browser shows of the pages."""
    if EXECUTABLE is None:
        print(f"no Chromium is installed: docs/{', docs/'.join(names)} are left as they are")
        return
    browser = Browser()
    trainer("export runs/r1 --format html --out draw.html")
    trainer("report runs/r1")
    page_to_draw_on, report = Path("draw.html").resolve(), Path("runs/r1/report.html").resolve()
    cases = {
        "draw.png": (served(page_to_draw_on), 960, 664, partial(draw, digit=7)),
        "draw-phone.png": (served(page_to_draw_on), 320, 900, partial(draw, digit=3)),
        "report.png": (served(report), 720, 1290, None),
        "watch.png": (watched(), 960, 932, show_a_moment),
    }
    try:
        for name in names:
            place, width, height, prepare = cases[name]
            with place as address:
                phone = width < 500
                page = browser.open(address, width=width, height=height, dark=phone)
                if prepare is not None:
                    prepare(page, touch=phone)
                page.settle()
                taken = page.call("Page.captureScreenshot", format="png")["data"]
            write(name, base64.b64decode(taken))
    finally:
        browser.close()


def draw(page: Page, *, digit: int, touch: bool) -> None:
    """Draw a digit, as a hand would, on the page to draw on."""
    box = page.run("(({ left, top, width }) => [left, top, width])(canvas.getBoundingClientRect())")
    for stroke in drawn(digit, seed=0):
        page.drag([(box[0] + box[2] * x, box[1] + box[2] * y) for x, y in stroke], touch=touch)
    page.run("lookAt(42)")


def show_a_moment(page: Page, *, touch: bool) -> None:
    """Move the slider of a training's page into its first half, when all moments have come."""
    page.run("new Promise((done) => setTimeout(done, 2000))")
    page.run(
        "byId('time').value = Math.floor(byId('time').max / 3);"
        " byId('time').dispatchEvent(new Event('input'))"
    )


def served(file: Path) -> AbstractContextManager[str]:
    """Return the address of a file, as `watched` does."""
    return contextlib.nullcontext(file.as_uri())


@contextlib.contextmanager
def watched() -> Iterator[str]:
    """Train with --watch; yield the address of its page, until Ctrl-C."""
    arguments = [*("--epochs", "5"), "--watch", *("--out", "runs/watched")]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", "--data", "mnist", *arguments],
        env=environment() | {"BROWSER": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    address, said = "", []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"watch it at (\S+)", line):
            address = found[1]
        if "the page stays until" in line:
            break
    if not address:
        raise SystemExit(f"train --watch: {''.join(said)}")
    try:
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


if __name__ == "__main__":
    main()
