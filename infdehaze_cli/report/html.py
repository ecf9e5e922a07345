"""The report of a run: one page of HTML that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window
from infdehaze_cli.plain import plain
from infdehaze_cli.scores import Scores
from infdehaze_cli.sizes import format_size

from . import figures
from .pictures import Picture

OVERVIEW, DETAIL = 1200, 400
"""Pixels of the longer side of the whole scene, and of a detail's side."""

_OVERVIEW_BYTES, _DETAIL_BYTES = 1_200_000, 160_000
"""What a JPEG may take; all of a page, with a third more for base64, stays below 6 MB."""

_HARDLY = 0.1
"""Optical depth that takes less than a tenth of the light: the map's colours look as vivid as those of thick haze."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a page shows.

    Attributes
    ----------
    run, plan
        The fields of ``run --json`` and of ``plan --json``.
    whole
        The scene before and after.
    details
        Windows of it in full, before and after.
    names
        Of the colour bands: three, or ``grey``.
    limits
        The native values that are shown black and white.
    depth
        (3, rows, cols), optical depth that was taken away, NaN where unknown; None where it is not known at all.
    scores
        By column, such as ``before`` and ``after``; empty without a reference.
    warnings
        A sentence each.
    """

    run: Mapping[str, Any]
    plan: Mapping[str, Any]
    whole: tuple[Picture, Picture]
    details: Sequence[tuple[Window, Picture, Picture]]
    names: Sequence[str]
    limits: str
    depth: NDArray[np.float32] | None
    scores: Mapping[str, Scores]
    warnings: Sequence[str]


def stylesheet() -> str:
    """Return the style that pages of this project share: light and dark, screen and paper."""
    return files(__package__).joinpath("page.css").read_text(encoding="utf-8").rstrip()


def render(report: Report) -> str:
    """Return the page."""
    run, (before, after) = report.run, report.whole
    name = str(run["dst"]).rpartition("/")[2]
    height, width = before.valid.shape
    data = {"run": run, "plan": report.plan, "scores": {key: value.to_dict() for key, value in report.scores.items()}}
    summary = (
        f"From {run['src']}: {run['width']} x {run['height']} px, {run['bands']} bands, "
        f"weights {run['weights']}, {run['device']}, {run['seconds']['total']:.1f} s, "
        f"{run['megapixels_per_second']:.2f} megapixels a second."
    )
    settings = (
        f"Batch {run['batch']}, tier {run['tier']}, precision {run['precision']}, preset {run['preset']}, "
        f"{run['tiles']} tiles."
    )
    return Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).substitute(
        style=stylesheet(),
        title=escape(f"{name}: report"),
        heading=escape(name),
        summary=escape(summary),
        compare=figures.compare(before, after, "the whole scene", _OVERVIEW_BYTES),
        scale=escape(f"Shown at {width} x {height} of {run['width']} x {run['height']} px."),
        details=_details(report.details),
        warnings=_warnings(report.warnings),
        haze="" if report.depth is None else _haze(report.depth),
        limits=escape(report.limits),
        histograms=figures.histograms(before, after, report.names),
        scores=_scores(report.scores),
        plan=_plan(run, report.plan),
        settings=escape(settings),
        times=figures.time_rows(run["seconds"]),
        json=_embedded(data),
    )


def _section(key: str, title: str, content: str) -> str:
    return f'<section aria-labelledby="h-{key}"><h2 id="h-{key}">{title}</h2>\n{content}</section>'


def _details(details: Sequence[tuple[Window, Picture, Picture]]) -> str:
    if not details:
        return ""
    parts = []
    for number, (window, before, after) in enumerate(details, 1):
        place = f"row {window.row}, column {window.col}, {window.width} x {window.height} px"
        picture = figures.compare(before, after, f"detail {number}", _DETAIL_BYTES)
        parts.append(f"<figure>{picture}<figcaption>Detail {number}: {place}</figcaption></figure>")
    return _section("details", "Details at full resolution", f'<div class="grid">{"".join(parts)}</div>')


def _haze(depth: NDArray[np.float32]) -> str:
    known = depth[np.isfinite(depth)]
    mean = f"Mean {float(known.mean()):z.3f}. " if known.size else ""
    if known.size and float(np.abs(known).max()) < _HARDLY:
        mean += "Hardly any haze was found: bright here is little, too. "
    text = f"<p>Optical depth that was taken away, mean of the colours. {mean}Pixels without data are left out.</p>"
    return _section("haze", "Haze map", figures.haze_map(depth) + text)


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return '<p class="none">None.</p>'
    return f'<ul class="warnings">{"".join(f"<li>{escape(text)}</li>" for text in warnings)}</ul>'


def _scores(scores: Mapping[str, Scores]) -> str:
    if not scores:
        return ""
    rows = []
    for label, field, digits in (
        ("PSNR, dB", "psnr", 2),
        ("SSIM", "ssim", 4),
        ("CIEDE2000", "ciede2000", 2),
        ("Spectral angle, degrees", "sam", 2),
        ("Seam index", "seam", 3),
    ):
        cells = "".join(f"<td>{_number(getattr(each, field), digits)}</td>" for each in scores.values())
        rows.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in scores)
    table = (
        f'<table id="scores"><thead><tr><th scope="col"></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )
    return _section("scores", "Scores against the reference", f'<div class="scroll">{table}</div>')


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}f}" if math.isfinite(value) else "equal"


def _plan(run: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    estimate = plan["estimated_seconds"]
    rows = (
        ("Device memory", format_size(plan["predicted_device_bytes"]), format_size(run["peak_device_bytes"])),
        ("Host memory", format_size(plan["predicted_host_bytes"]), format_size(run["peak_rss_bytes"])),
        ("Scratch", format_size(plan["scratch_bytes"]), format_size(run["scratch_bytes"])),
        ("Time", "not estimated" if estimate is None else f"{estimate:.1f} s", f"{run['seconds']['total']:.1f} s"),
    )
    return "".join(f'<tr><th scope="row">{name}</th><td>{a}</td><td>{b}</td></tr>' for name, a, b in rows)


def _embedded(data: Mapping[str, Any]) -> str:
    """Return JSON that is safe inside a script element; numbers that JSON lacks come as null."""
    text = json.dumps(plain(data))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
