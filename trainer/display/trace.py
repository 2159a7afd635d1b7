"""One sample traced through a network, or through two: forward, its error back, one update."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table

from ..worked import Sheet, backward_sheets, forward_sheets
from .answers import verdict
from .formats import shape_text, significant, spread
from .pictures import half_blocks, histogram
from .tables import facts, new_table
from .terminal import console, is_coloured, styled

if TYPE_CHECKING:
    from ..explain import LayerTrace, Trace

MOST_UNITS = 20  # of a layer that get a row each
_GAP = 2  # columns between two networks
_FEW_BINS = 8  # of a histogram beside another


class _Stage(NamedTuple):
    """A stage under its heading; its key is that of the same stage in another network."""

    key: tuple[str, int]
    heading: str
    body: list[RenderableType]


def trace(
    title: str,
    about: dict[str, str],
    result: Trace,
    image: np.ndarray | None,
    classes: Sequence[str],
    features: Sequence[str] | None = None,
) -> None:
    """Show one sample's way through a network and one update by it, a table a stage.

    `about` says which network and update it is, a line each; an image has grey values from 0 to 1,
    shape (height, width); the classes are in the order of their codes; the features may have names.
    """
    out = console(title)
    facts(about)
    _heading(out, f"1. The sample, labelled {classes[result.label]}")
    out.print(styled(result.notation, "dim"))
    vectors = {"value": result.values, "input x": result.inputs}
    if image is None and len(result.values) <= MOST_UNITS:
        out.print(units(vectors, features, head="feature"))
        out.print()
        vectors = {}
    _beside_image(out, image, _vectors(vectors | {"target t": result.targets}))
    for number, stage in enumerate(_stages(result, classes, narrow=False), start=2):
        _heading(out, f"{number}. {stage.heading}")
        out.print(*stage.body, sep="\n")
    out.print(styled("the run's own weights are as they were", "dim"))
    out.print()


def traces(
    title: str,
    names: Sequence[str],
    differences: Sequence[Sequence[str]],
    abouts: Sequence[dict[str, str]],
    results: Sequence[Trace],
    image: np.ndarray | None,
    classes: Sequence[str],
    features: Sequence[str] | None = None,
) -> None:
    """Show the same sample's way through two networks beside each other.

    First come the settings that differ, each a name and a value a network. A stage that finds no
    room beside the other network's stands above it. The rest is as in `trace`.
    """
    out = console(title)
    if differences:
        out.print(new_table(["what differs", *names], differences))
    else:
        out.print(styled("no setting differs"))
    for name, about in zip(names, abouts, strict=True):
        _heading(out, name)
        facts(about)
    _heading(out, f"1. The sample, labelled {classes[results[0].label]}")
    out.print(styled(results[0].notation, "dim"))
    vectors = {"value": results[0].values}
    if image is None and len(results[0].values) <= MOST_UNITS:
        inputs = {f"x of {name}": r.inputs for name, r in zip(names, results, strict=True)}
        out.print(units(vectors | inputs, features, head="feature"))
    else:
        _beside_image(out, image, _vectors(vectors))
    first, second = (
        {stage.key: stage for stage in _stages(r, classes, narrow=True)} for r in results
    )
    sample = [
        _Stage(("sample", 0), "", [_upright({"input x": r.inputs, "target t": r.targets})])
        for r in results
    ]
    _both(out, names, *sample)
    longer, shorter = sorted((first, second), key=len, reverse=True)
    assert longer.keys() >= shorter.keys()
    for number, key in enumerate(longer, start=2):
        first, second = (
            {
                k: stage._replace(heading=f"{number}. {stage.heading}") if k == key else stage
                for k, stage in found.items()
            }
            for found in (first, second)
        )
        _both(out, names, first.get(key), second.get(key))
    out.print()
    out.print(styled("the runs' own weights are as they were", "dim"))
    out.print()


def _both(out: Console, names: Sequence[str], first: _Stage | None, second: _Stage | None) -> None:
    """Print a stage of two networks side by side, or where there is no room one after the other."""
    half = (out.width - _GAP) // 2
    columns = [_column(name, stage) for name, stage in zip(names, (first, second), strict=True)]
    out.print()
    tables = [part for parts in columns for part in parts if isinstance(part, Table)]
    if any(_width(out, table) > half for table in tables):
        for part in (*columns[0], "", *columns[1]):
            out.print(part)
        return
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for _ in columns:
        grid.add_column(width=half, overflow="fold")
    for row in zip_longest(*columns, fillvalue=""):  # so that what is compared is on one line
        grid.add_row(*row)
    out.print(grid)


def _column(name: str, stage: _Stage | None) -> list[RenderableType]:
    if stage is None:
        return [styled(name, "bold"), styled("has no such layer", "dim")]
    heading = [styled(stage.heading, "bold cyan")] if stage.heading else []
    return [styled(name, "bold"), *heading, *stage.body]


def _width(out: Console, part: RenderableType) -> int:
    return Measurement.get(out, out.options.update(max_width=1000), part).maximum


def _beside_image(out: Console, image: np.ndarray | None, table: Table) -> None:
    """Print an image and a table, beside each other where there is room for both."""
    if image is None or image.shape[1] + 52 > out.width:
        out.print(table)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_row(half_blocks(image, coloured=is_coloured(out)), table)
    out.print(grid)


def _stages(result: Trace, classes: Sequence[str], *, narrow: bool) -> Iterator[_Stage]:
    """Make the stages that follow the sample, with tables that are narrow or are not."""
    last = result.layers[-1]
    for (kind, number), heading in result.stages.items():
        if kind == "sample":
            continue
        layer = result.layers[number - 1]  # 0 is the output layer
        names = classes if layer is last else None
        body = _body(kind, result, layer, names, classes, narrow=narrow)
        yield _Stage((kind, number), heading, body)


def _body(
    kind: str,
    result: Trace,
    layer: LayerTrace,
    names: Sequence[str] | None,
    classes: Sequence[str],
    *,
    narrow: bool,
) -> list[RenderableType]:
    """Return what a stage shows of its layer."""
    n, last = layer.sub, result.layers[-1]
    if kind == "forward":
        inputs = {f"input {layer.inputs_name}": layer.inputs}
        outputs = {f"sum z{n}": layer.sums, f"output a{n}": layer.outputs}
        if layer is not last:
            return _layer(outputs, names, inputs, narrow=narrow)
        outputs["target t"] = result.targets
        answer = verdict(classes[result.answer], classes[result.label])
        loss = map(styled, result.loss_lines)
        return [*_layer(outputs, names, inputs, narrow=narrow), answer, *loss]
    if kind == "backward":
        words = [result.error_words] if layer is last else [result.rule_words]
        errors = {f"error e{n}": layer.errors, f"δ{n}": layer.deltas}
        return [*_dim(words), *_layer(errors, names, narrow=narrow)]
    if kind == "update":
        words = [result.book_formula, result.rounding_words] if layer is last else []
        arrays = _narrow_update(layer) if narrow else [_update_table(layer)]
        return [*_dim(words), *arrays]
    if kind == "worked forward":
        return _sheets(forward_sheets(result, classes))
    if kind == "worked backward":
        return _sheets(backward_sheets(result, classes))
    answers = {
        f"a{last.sub} before": result.outputs,
        "after": result.outputs_after,
        "change": result.outputs_after - result.outputs,
    }
    if not narrow:
        answers["target t"] = result.targets
    away = ", ".join(classes[code] for code in result.moved_away)
    said = f"farther from their targets than before: {away}; the loss counts all outputs together"
    return [*_layer(answers, classes, narrow=narrow), *_dim([said] if away else [])]


def _dim(lines: Sequence[str]) -> list[RenderableType]:
    return [styled(line, "dim") for line in lines if line]


def _sheets(sheets: Sequence[Sheet]) -> list[RenderableType]:
    """Return calculations below each other."""
    parts: list[RenderableType] = []
    for sheet in sheets:
        table = _narrow_table(sheet.header, sheet.rows)
        parts += [styled(sheet.title), table, *map(styled, sheet.lines), ""]
    return parts[:-1]


def _update_table(layer: LayerTrace) -> Table:
    """Return where the numbers of a layer's arrays lie before and after the update."""
    rows = []
    for name, (before, *others) in layer.arrays.items():
        rows.append([f"{name} before", shape_text(before.shape), *_distribution(before)])
        for when, array in zip(("after", "change"), others, strict=True):
            rows.append([when, "", *_distribution(array)])
    headers = ["weights", "shape", "smallest", "mean", "largest", "std dev", "histogram"]
    return new_table(headers, rows)


def _narrow_update(layer: LayerTrace) -> list[RenderableType]:
    """Return the same numbers as a table an array, a column each of before, after and change."""
    tables: list[RenderableType] = []
    for name, arrays in layer.arrays.items():
        columns = zip(*(_distribution(array, _FEW_BINS) for array in arrays), strict=True)
        kinds = ("smallest", "mean", "largest", "std dev", "")
        rows = [[kind, *numbers] for kind, numbers in zip(kinds, columns, strict=True)]
        tables.append(_narrow_table([name, "before", "after", "change"], rows))
    return tables


def _distribution(array: np.ndarray, bins: int = 12) -> list[str]:
    deviation = significant(array.std(dtype=np.float64), digits=3)
    return [*spread(array, digits=3), *deviation, histogram(array, bins)]


def _heading(out: Console, text: str) -> None:
    out.print()
    out.print(styled(text, "bold cyan"))


def _vectors(vectors: dict[str, np.ndarray]) -> Table:
    """Return how many numbers each vector has and where they lie."""
    rows = ([name, f"{vector.size:,}", *spread(vector)] for name, vector in vectors.items())
    return new_table(["", "numbers", "smallest", "mean", "largest"], rows)


def _upright(vectors: dict[str, np.ndarray]) -> Table:
    """Return the same, a column a vector."""
    columns = ([f"{vector.size:,}", *spread(vector)] for vector in vectors.values())
    kinds = ("numbers", "smallest", "mean", "largest")
    rows = ([kind, *numbers] for kind, *numbers in zip(kinds, *columns, strict=True))
    return _narrow_table(["", *vectors], rows)


def _narrow_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = new_table(headers, rows)
    table.collapse_padding = True
    return table


def _layer(
    vectors: dict[str, np.ndarray],
    names: Sequence[str] | None,
    whole: dict[str, np.ndarray] | None = None,
    *,
    narrow: bool,
) -> list[RenderableType]:
    """Return vectors of one layer, a row a unit if there are few, and `whole` always as one row."""
    whole, lying = whole or {}, _upright if narrow else _vectors
    if len(next(iter(vectors.values()))) > MOST_UNITS:
        return [lying(whole | vectors)]
    above: list[RenderableType] = [lying(whole), ""] if whole else []
    table = units(vectors, names)
    table.collapse_padding |= narrow
    return [*above, table]


def units(vectors: dict[str, np.ndarray], names: Sequence[str] | None, *, head: str = "") -> Table:
    """Return vectors of as many numbers each as a table, a row a number.

    Units without names are numbered.
    """
    head = head or ("class" if names else "unit")
    names = names or [str(unit) for unit in range(len(next(iter(vectors.values()))))]
    columns = zip(*vectors.values(), strict=True)
    rows = ([name, *significant(*numbers)] for name, numbers in zip(names, columns, strict=True))
    return new_table([head, *vectors], rows)
