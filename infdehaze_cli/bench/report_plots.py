"""The plots of a benchmark report, each as SVG in a light and a dark dress, held by the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from .memory_plot import memory_figure
from .quality import METHODS
from .report import BenchReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LIGHT, _DARK = {"ink": "#1c2430", "line": "#9aa7b6"}, {"ink": "#e7ebf0", "line": "#5a6675"}
_INK = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor", "axes.titlecolor")
_LINE = ("axes.edgecolor", "xtick.color", "ytick.color", "grid.color")

COLOURS = ("#7f8a98", "#2f81f7", "#d98e04", "#2da44e")
"""Of the methods, in the order of `METHODS`; they are read on white and on near-black alike."""


def plots(report: BenchReport) -> dict[str, str]:
    """Return the plots as HTML, by the section that they belong to: ``memory``, ``speed`` and ``quality``."""
    said = report.memory.summary()
    return {
        "memory": _picture(lambda: memory_figure(report.memory), f"Peak device memory against megapixels: {said}"),
        "speed": _picture(lambda: _speed(report), "Seconds by phase, and seconds a megapixel by size of the scene"),
        "quality": _picture(lambda: _quality(report), "PSNR and SSIM of each method by kind of haze"),
    }


def _picture(make: Callable[[], Figure], text: str) -> str:
    """Draw a figure twice; the page shows the one that fits, and prints the light one."""
    light, dark = (_uri(make, look) for look in (_LIGHT, _DARK))
    return (
        f'<picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img class="plot" src="{light}" alt="{escape(text)}"></picture>'
    )


def _uri(make: Callable[[], Figure], look: Mapping[str, str]) -> str:
    from matplotlib import rc_context

    # a fixed salt and no date: the same figures give the same bytes
    dress: dict[str, Any] = {"svg.hashsalt": "infdehaze", "font.size": 10, "legend.framealpha": 0.0}
    dress |= dict.fromkeys(_INK, look["ink"]) | dict.fromkeys(_LINE, look["line"])
    drawn = io.BytesIO()
    with rc_context(dress):  # type: ignore[arg-type]  # it wants every name as a literal
        make().savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}"


def _figure() -> Figure:
    # pyplot would choose a window system; the figure alone needs none
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _speed(report: BenchReport) -> Figure:
    figure = _figure()
    left, right = figure.subplots(1, 2)
    run = report.speed.run
    names = [*run.seconds, "bare forward"]
    values = [*run.seconds.values(), report.speed.bare_seconds]
    strong = {"total": COLOURS[1], "bare forward": COLOURS[2]}
    left.barh(names, values, color=[strong.get(name, COLOURS[0]) for name in names])
    left.invert_yaxis()
    left.set_xlabel("seconds")
    left.set_title(f"{run.width} x {run.height} px", fontsize=10)
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in report.memory.rows:
        if row.seconds_per_megapixel is not None:
            lines.setdefault(row.tier or row.method, []).append((row.size, row.seconds_per_megapixel))
    for number, (label, points) in enumerate(lines.items()):
        right.plot(*zip(*points, strict=True), marker="os^Dv"[number % 5], label=label, mfc="none")
    right.set_xscale("log", base=2)
    sizes = report.request.extent.sizes
    right.set_xticks(sizes, [str(size) for size in sizes])
    right.minorticks_off()
    right.set_ylim(bottom=0)
    right.set_xlabel("side of the scene, px")
    right.set_ylabel("seconds a megapixel")
    right.grid(True, alpha=0.4)
    right.legend(fontsize=8)
    return figure


def _quality(report: BenchReport) -> Figure:
    figure = _figure()
    groups = list(report.quality.scores)
    means = [report.quality.means(group) for group in groups]
    width = 0.8 / len(METHODS)
    for axes, score, label in zip(figure.subplots(1, 2), ("psnr", "ssim"), ("PSNR, dB", "SSIM"), strict=True):
        for number, method in enumerate(METHODS):
            # the clear input equals the truth: its PSNR is endless, and no bar
            found = [(i, getattr(mean[method], score)) for i, mean in enumerate(means)]
            found = [(i, value) for i, value in found if value != float("inf")]
            places = [i + (number - (len(METHODS) - 1) / 2) * width for i, _ in found]
            name = method.replace("_", " ")
            axes.bar(places, [value for _, value in found], width, color=COLOURS[number], label=name)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_ylabel(label)
        axes.grid(True, axis="y", alpha=0.4)
        axes.set_axisbelow(True)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
    return figure
