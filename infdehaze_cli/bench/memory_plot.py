"""The plot of ``infdehaze bench memory``: peak device bytes against megapixels, both logarithmic."""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infdehaze_cli.errors import StorageError, UsageError

from .memory_rows import MemoryReport, MemoryRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MiB = 1024**2
DASHES = {"direct": "--", "patches": ":"}
MARKERS = "os^Dv*PX"


def check_plot(path: Path, *, overwrite: bool) -> None:
    """Check that a plot can be drawn and written, before the long measurement.

    Raises
    ------
    UsageError
        When no PNG may be written there.
    StorageError
        When its folder cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} is no name of a plot. Let it end in .png.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name the file to write with --plot.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} does not exist. Make it first.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists. Give --overwrite to replace it.")
    if not os.access(path.parent, os.W_OK):
        raise StorageError(f"The folder {path.parent} cannot be written. Name another with --plot.")


def draw_memory(report: MemoryReport, path: Path) -> Path:
    """Draw a line a method, and the budgets, to a PNG, which appears whole or not at all.

    Raises
    ------
    StorageError
        When it cannot be written.
    """
    drawn = io.BytesIO()
    memory_figure(report).savefig(drawn, format="png")
    unfinished = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp.png")
    try:
        unfinished.write_bytes(drawn.getvalue())
        unfinished.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror or error}). Check the folder.") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def memory_figure(report: MemoryReport) -> Figure:
    """Return the figure, 8 x 5 inches: a line a method, and the budgets."""
    # pyplot would choose a window system; the figure alone needs none
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator, ScalarFormatter

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    lines: dict[str, list[MemoryRow]] = {}
    for row in report.rows:
        lines.setdefault(row.label, []).append(row)
    for number, (label, rows) in enumerate(lines.items()):
        # tiers lie on each other: the first lines are wide, so that they show below the later ones
        look = {
            "color": f"C{number % 10}",
            "marker": MARKERS[number % len(MARKERS)],
            "linewidth": max(1.5, 6 - 2 * number),
        }
        _draw_line(axes, label, rows, look, report.limit_bytes)
    if report.gpu_mem is not None:
        axes.axhline(report.gpu_mem / MiB, color=rcParams["text.color"], linewidth=1, label="--gpu-mem")
    if report.direct_died_at():
        axes.axhline(report.limit_bytes / MiB, color="grey", linewidth=1, linestyle="-.", label="allowed to direct")
    sizes = sorted({row.size for row in report.rows})
    axes.xaxis.set_major_locator(FixedLocator([size**2 / 1e6 for size in sizes]))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{size**2 / 1e6:.3g}\n{size} px" for size in sizes]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("megapixels of the scene, and its side")
    axes.set_ylabel(f"peak device memory, MiB ({'live tensors' if report.device == 'cpu' else report.device})")
    axes.grid(True, which="both", alpha=0.25)
    figure.suptitle(report.summary(), fontsize=9, wrap=True)
    figure.legend(loc="outside right center", fontsize=9)
    return figure


def _draw_line(axes: Any, label: str, rows: list[MemoryRow], look: dict[str, Any], limit: int) -> None:
    """Draw the runs that ended well, and a cross on the limit where ``direct`` did not."""
    done = [(row.megapixels, row.answer.peak_device_bytes / MiB) for row in rows if row.answer.peak_device_bytes]
    style, colour = DASHES.get(rows[0].method, "-"), look["color"]
    axes.plot(*zip(*done, strict=True) if done else ([], []), style, **look, mfc="none", mew=1.5, label=label)
    for row in rows:
        if row.answer.ended == "out of memory" and row.method == "direct":
            end = (row.megapixels, limit / MiB)
            if done:
                axes.plot(*zip(done[-1], end, strict=True), style, color=colour, alpha=0.5)
            axes.plot(*end, marker="x", markersize=11, mew=3, color=colour)
            axes.annotate("out of memory", end, textcoords="offset points", xytext=(6, -40), ha="right", color=colour)
