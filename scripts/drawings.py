"""Drawings of the documentation that follow from the sources: packages, and a block of samples."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_ENTRY = ("trainer.__init__", "trainer.__main__", "backends.__init__")  # which only point to others
_INK, _LINE, _FILL = "#1f2937", "#94a3b8", {"trainer": "#dbeafe", "backends": "#fde9c8"}
_FONT = 'font-family="Helvetica, Arial, sans-serif"'


# --- who imports whom -----------------------------------------------------------------------


def imports() -> dict[str, set[str]]:
    """Return what each module or package right below `trainer` and `backends` imports of them.

    Imports for type checkers alone do not count.
    """
    found: dict[str, set[str]] = {}
    for package in ("trainer", "backends"):
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            unit = ".".join(parts[:2])
            if unit in _ENTRY:
                continue
            names = found.setdefault(unit, set())
            for name in _imported(ast.parse(file.read_text("utf-8")), parts):
                target = _unit(name)
                if target not in (None, unit):
                    names.add(target)  # type: ignore[arg-type]
    return {unit: names & set(found) for unit, names in found.items()}


def _imported(tree: ast.AST, parts: tuple[str, ...]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        yield from _imported(node, parts)


def _unit(name: str) -> str | None:
    """Return the module or package right below `trainer` or `backends` that a name is of."""
    parts = name.split(".")
    if parts[0] not in _FILL or len(parts) < 2:
        return None
    unit = ".".join(parts[:2])
    exists = (ROOT / parts[0] / parts[1]).is_dir() or (ROOT / parts[0] / f"{parts[1]}.py").is_file()
    # `from backends import select` is the package's front, which any of its modules may be behind
    return unit if exists else f"{parts[0]}.__init__"


# --- the packages ---------------------------------------------------------------------------


def packages() -> str:
    """Draw who imports whom, as an SVG; what follows by way of another import is left out."""
    graph = imports()
    body, top = [], 46.0
    for package in ("trainer", "backends"):
        units = [unit for unit in graph if unit.startswith(package)]
        inside = {unit: {name for name in graph[unit] if name in units} for unit in units}
        outside = {unit for unit in units if graph[unit] - inside[unit]}
        drawn, height = _layered(package, inside, outside, top)
        body += drawn
        top += height + 46
    legend = (
        f'<circle cx="24" cy="20" r="4" fill="{_INK}"/>'
        f'<path d="M262,10 V28" stroke="{_LINE}" stroke-width="2"/>'
        + _text(34, 25, "imports modules of backends", 14)
        + _text(272, 25, "imports what is below it", 14)
    )
    return _svg(_WIDTH, top - 30, [legend, *body], "who imports whom, from the sources")


_WIDTH, _BOX, _GAP, _ROW = 980, 28, 14, 76


def _layered(
    package: str, graph: dict[str, set[str]], marked: set[str], top: float
) -> tuple[list[str], float]:
    """Draw a package's modules in rows, each above all that it imports; return also the height."""
    order = list(TopologicalSorter(graph).static_order())
    level: dict[str, int] = {}
    for unit in order:  # from the bottom
        level[unit] = 1 + max((level[name] for name in graph[unit]), default=-1)
    reach: dict[str, set[str]] = {}
    for unit in order:
        reach[unit] = graph[unit].union(*(reach[name] for name in graph[unit]))
    direct = {
        unit: {name for name in names if not any(name in reach[other] for other in names)}
        for unit, names in graph.items()
    }
    for unit in reversed(order):  # nothing needs to lie lower than just below what imports it
        above = [level[other] for other in order if unit in direct[other]]
        level[unit] = min(above) - 1 if above else max(level.values())
    rows = [
        [unit for unit in sorted(graph) if level[unit] == n] for n in range(max(level.values()) + 1)
    ]
    rows = [part for row in reversed(rows) for part in _parts(row)]
    place = {unit: i / len(row) for row in rows for i, unit in enumerate(row)}
    for _ in range(8):  # each row in the order of the means of what its modules are joined to
        for row in rows:
            means = {}
            for unit in row:
                joined = [*direct[unit], *(other for other in graph if unit in direct[other])]
                means[unit] = sum(place[name] for name in joined) / max(1, len(joined))
            row.sort(key=lambda unit: (means[unit], unit))
            place |= {unit: (i + 0.5) / len(row) for i, unit in enumerate(row)}
    middle: dict[str, tuple[float, float]] = {}
    boxes = []
    for n, row in enumerate(rows):
        widths = [_width(unit) for unit in row]
        space = (_WIDTH - 40 - sum(widths)) / (len(row) + 1)
        x, y = 20 + space, top + 34 + n * _ROW
        for unit, width in zip(row, widths, strict=True):
            middle[unit] = (x + width / 2, y)
            boxes.append(_box(x, y, width, _title(unit), _FILL[package], unit in marked))
            x += width + space
    lines = [
        _curve(middle[unit], middle[name])
        for unit in sorted(direct)
        for name in sorted(direct[unit])
    ]
    height = 34 + (len(rows) - 1) * _ROW + _BOX + 16
    frame = (
        f'<rect x="10" y="{top:g}" width="{_WIDTH - 20}" height="{height:g}" rx="8" fill="none"'
        f' stroke="{_LINE}"/><text x="24" y="{top + 22:g}" {_FONT} font-size="16"'
        f' font-weight="bold" fill="{_INK}">{package}</text>'
    )
    return [frame, *lines, *boxes], height


def _parts(row: list[str]) -> list[list[str]]:
    """Return a row, or the two rows of every other module where one would be too wide."""
    if sum(_width(unit) + _GAP for unit in row) < _WIDTH - 40:
        return [row]
    return [row[::2], row[1::2]]


def _width(unit: str) -> float:
    return 8.4 * len(_title(unit)) + 26


def _title(unit: str) -> str:
    name = unit.partition(".")[2]
    return f"{name}/" if (ROOT / unit.replace(".", "/")).is_dir() else name


def _box(x: float, y: float, width: float, title: str, fill: str, is_marked: bool) -> str:
    dot = f'<circle cx="{x + width - 8:.1f}" cy="{y + _BOX - 8:.1f}" r="3.5" fill="{_INK}"/>'
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BOX}" rx="5" fill="{fill}"'
        f' stroke="{_LINE}"/><text x="{x + width / 2:.1f}" y="{y + 19:.1f}" {_FONT} font-size="15"'
        f' text-anchor="middle" fill="{_INK}">{escape(title)}</text>{dot if is_marked else ""}'
    )


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (to_x, to_y) = (start[0], start[1] + _BOX), end
    bend = (to_y - y) / 2
    return (
        f'<path d="M{x:.1f},{y:.1f} C{x:.1f},{y + bend:.1f} {to_x:.1f},{to_y - bend:.1f}'
        f' {to_x:.1f},{to_y:.1f}" fill="none" stroke="{_LINE}" stroke-width="1.4"/>'
    )


# --- a block of delayed updates ---------------------------------------------------------------


def delayed() -> str:
    """Draw what a block of samples does with the first layer's weights, as an SVG."""
    body = [
        _text(24, 34, "One sample after the other: W is read and written once a sample", 17, "bold")
    ]
    x = 24.0
    for step in ("", "₁", "₂", "₃", "…"):
        if step:
            change = "…" if step == "…" else f"+ x{step}ᵀ d{step}"
            body += [_arrow(x, 92, x + 96, 92), _text(x + 46, 82, change, 15, anchor="middle")]
            x += 102
        if step != "…":
            body += _matrix(x, 52, 84, 80, "W" if not step else f"W{step}", _WEIGHTS)
            x += 88
    body.append(_text(24, 196, "A block of B samples: W is read once and written once", 17, "bold"))
    body.append(_text(24, 228, "1  two matrix products", 15))
    body += _matrix(24, 258, 96, 56, "X", _SAMPLES, "B × 784")
    body += [_text(133, 292, "·", 22, anchor="middle"), *_matrix(146, 246, 84, 80, "W", _WEIGHTS)]
    body += [_text(245, 292, "=", 20, anchor="middle")]
    body += _matrix(262, 258, 72, 56, "Z", _SMALL, "B × 200")
    body += _matrix(24, 372, 96, 56, "X", _SAMPLES)
    body += [_text(133, 406, "·", 22, anchor="middle"), *_matrix(146, 352, 56, 96, "Xᵀ", _SAMPLES)]
    body += [_text(220, 406, "=", 20, anchor="middle")]
    body += _matrix(236, 372, 56, 56, "", _SMALL, "B × B")
    body.append('<path d="M236,372 V428 H292 Z" fill="#86c5a0"/>' + _text(250, 418, "G", 15))
    body.append(_text(396, 228, "2  one sample after the other, with small arrays alone", 15))
    for row in range(4):
        y = 250 + 42 * row
        body += [
            _cell(396, y, 72, f"Z{'₁₂₃₄'[row]}", _SMALL),
            _text(482, y + 21, "+", 18, anchor="middle"),
        ]
        for column in range(row):
            name = f"G{'₁₂₃₄'[row]}{'₁₂₃₄'[column]} d{'₁₂₃₄'[column]}"
            body.append(_cell(498 + 66 * column, y, 60, name, "#86c5a0"))
        if not row:
            body.append(_text(498, y + 21, "nothing", 14))
        body += [_arrow(706, y + 15, 742, y + 15), _cell(748, y, 48, f"d{'₁₂₃₄'[row]}", _STEPS)]
    body.append(_text(396, 436, "forward and back through the layers after the first,", 14))
    body.append(_text(396, 456, "which change after every sample", 14))
    body.append(_text(826, 228, "3  one product", 15))
    body += [*_matrix(826, 250, 48, 160, "Xᵀ", _SAMPLES), _text(884, 330, "·", 22, anchor="middle")]
    body += [*_matrix(894, 302, 60, 56, "D", _STEPS), _text(826, 436, "is added to W", 14)]
    return _svg(_WIDTH, 476, body, "a block of delayed updates")


_SAMPLES, _WEIGHTS, _SMALL, _STEPS = "#dbeafe", "#fde9c8", "#d5ecdd", "#f3d4dc"


def _text(
    x: float, y: float, text: str, size: int, weight: str = "normal", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" {_FONT} font-size="{size}" font-weight="{weight}"'
        f' text-anchor="{anchor}" fill="{_INK}">{escape(text)}</text>'
    )


def _cell(x: float, y: float, width: float, text: str, fill: str) -> str:
    frame = (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="30" fill="{fill}" stroke="{_LINE}"/>'
    )
    return frame + _text(x + width / 2, y + 20, text, 15, anchor="middle")


def _matrix(
    x: float, y: float, width: float, height: float, name: str, fill: str, shape: str = ""
) -> list[str]:
    return [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}"'
        f' stroke="{_LINE}"/>',
        _text(x + width / 2, y + height / 2 + 6, name, 17, anchor="middle"),
        _text(x + width / 2, y + height + 18, shape, 13, anchor="middle"),
    ]


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    return (
        f'<path d="M{x:g},{y:g} L{to_x - 6:g},{to_y:g}" stroke="{_INK}" stroke-width="1.6"/>'
        f'<path d="M{to_x - 8:g},{to_y - 5:g} L{to_x:g},{to_y:g} L{to_x - 8:g},{to_y + 5:g} Z"'
        f' fill="{_INK}"/>'
    )


def _svg(width: float, height: float, body: list[str], title: str) -> str:
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" role="img"'
            f' viewBox="0 0 {width:g} {height:g}">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#ffffff"/>',
            *body,
            "</svg>\n",
        ]
    )
