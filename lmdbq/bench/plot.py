"""A picture of a result: a group of bars for each workload, the median of the rounds with its extremes.

Needs matplotlib, which comes with the extra ``lmdbq[bench]``. Drawn without a display.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lmdbq.bench.compare import COMPARED
from lmdbq.bench.results import Cell, Result
from lmdbq.bench.tables import short, words

FORMATS: Final = (".svg", ".png")
_OURS: Final = "#1f6f8b"
_THEIRS: Final = "#b0b7bd"
_TEXT: Final = "#22272b"
_BAR_INCHES: Final = 0.32
_HEAD_INCHES: Final = 0.45


def absent() -> str:
    """Return what is to be done before a picture can be drawn; "" if nothing."""
    import importlib.util

    return "" if importlib.util.find_spec("matplotlib") else "--plot needs matplotlib: pip install 'lmdbq[bench]'"


def _panels(result: Result) -> dict[tuple[str, str, str], list[Cell]]:
    """Return the cells by group, by workload and by what was measured."""
    panels: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in result.cells:
        metric = next((name for name in COMPARED if cell.rounds and name in cell.rounds[0]), "")
        if metric:
            panels.setdefault((cell.group, cell.workload.name, metric), []).append(cell)
    return panels


def draw(result: Result, path: Path) -> None:
    """Draw a result into an SVG or a PNG file. Raises OSError, and ValueError if there is nothing to draw."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = _panels(result)
    if not panels:
        raise ValueError("there is nothing to draw: no target was measured")
    bars = [len(cells) for cells in panels.values()]
    height = _HEAD_INCHES * len(panels) + _BAR_INCHES * sum(bars)
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(8.5, height + 0.4), height_ratios=bars, squeeze=False, layout="constrained"
    )
    for ((_, workload, metric), cells), ax in zip(panels.items(), axes[:, 0], strict=True):
        _panel(ax, workload, metric, cells)
    said, rounds = result.machine, max(len(cell.rounds) for cell in result.cells)
    figure.supxlabel(
        f"medians of {rounds} round{'s' if rounds > 1 else ''}, lines from the least to the most · "
        f"{said['cores']} cores, {said['file_system']}, {said['python']}, LMDB {said['lmdb_engine']} · "
        f"{result.at[:10]}",
        fontsize=8,
        color=_TEXT,
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _panel(ax: Any, workload: str, metric: str, cells: list[Cell]) -> None:
    names = [cell.target for cell in cells]
    medians = [cell.median(metric) for cell in cells]
    least = [median - min(cell.values(metric)) for cell, median in zip(cells, medians, strict=True)]
    most = [max(cell.values(metric)) - median for cell, median in zip(cells, medians, strict=True)]
    colors = [_OURS if cell.target.startswith(("HTTP", "embedded", "Client")) else _THEIRS for cell in cells]
    ax.barh(names, medians, color=colors, height=0.7, xerr=[least, most], error_kw={"elinewidth": 1, "ecolor": _TEXT})
    ends = [median + more for median, more in zip(medians, most, strict=True)]
    for at, (median, end) in enumerate(zip(medians, ends, strict=True)):
        ax.annotate(short(median), (end, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_xlim(0, max(ends) * 1.15 or 1)
    ax.set_ylim(len(cells) - 0.5, -0.5)  # the first one on top, and every bar as thick as those of other workloads
    ax.set_title(f"{workload}  ({words(metric)})", loc="left", fontsize=10, fontweight="bold", color=_TEXT)
    ax.tick_params(axis="y", length=0, labelsize=9, labelcolor=_TEXT)
    ax.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        ax.spines[side].set_visible(False)
