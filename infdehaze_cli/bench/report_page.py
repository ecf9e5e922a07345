"""The page of a benchmark report: tables and plots in one file of HTML that asks the network for nothing."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.report.html import stylesheet
from infdehaze_cli.report.pictures import data_uri
from infdehaze_cli.scores import Scores
from infdehaze_cli.sizes import format_size

from .memory_rows import MemoryRow
from .report import BenchReport
from .report_plots import plots
from .sheet import SheetRow, draw_sheet


def check_outputs(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Check that files can be written, before minutes of measuring.

    Raises
    ------
    UsageError
        When one is a folder, lies in no folder, exists, or is named twice.
    StorageError
        When a folder cannot be written.
    """
    seen: set[Path] = set()
    for path in paths:
        if path.is_dir():
            raise UsageError(f"{path} is a folder. Name the file to write.")
        if not path.parent.is_dir():
            raise UsageError(f"The folder {path.parent} does not exist. Make it first.")
        if path.resolve() in seen:
            raise UsageError(f"{path} cannot be the page and the JSON file at once. Name two files.")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists. Give --overwrite to replace it.")
        if not os.access(path.parent, os.W_OK):
            raise StorageError(f"The folder {path.parent} cannot be written. Name another.")
        seen.add(path.resolve())


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write files; no one gets its name before all of them lie on the disk.

    Raises
    ------
    StorageError
        When one cannot be written.
    """
    partial = {path: path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp") for path in contents}
    path = next(iter(contents))
    try:
        for path, content in contents.items():
            partial[path].write_bytes(content)
        for path in contents:
            partial[path].replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror or error}). Check the folder.") from error
    finally:
        for unfinished in partial.values():
            unfinished.unlink(missing_ok=True)


def render(report: BenchReport) -> str:
    """Return the page."""
    drawn, machine = plots(report), report.machine
    gain = report.quality.mean_gain()
    heading = f"infdehaze {report.versions['infdehaze']} on {machine['processor'] or machine['system']}"
    return Template(files(__package__).joinpath("report.html").read_text(encoding="utf-8")).substitute(
        style=stylesheet(),
        heading=escape(heading),
        summary=escape(
            f"{report.made}, commit {(report.commit or 'unknown')[:12]}, weights {report.weights}, "
            f"{machine.get('gpu', machine['device'])}, {machine['cores']} cores, "
            f"measured in {report.seconds['total']:.0f} s."
        ),
        facts=_facts(
            {
                "Device memory": format_size(report.speed.run.peak_device_bytes),
                "Seconds a megapixel": f"{report.seconds_per_megapixel:.3f}",
                "Times a bare forward pass": f"{report.speed.ratio:.2f}",
                **({} if gain is None else {"Mean gain in PSNR": f"{gain:+.2f} dB"}),
            }
        ),
        memory_plot=drawn["memory"],
        memory=_table(_MEMORY, [_memory_cells(row) for row in report.memory.rows]),
        speed_plot=drawn["speed"],
        speed=_speed(report),
        quality_plot=drawn["quality"],
        pictures=escape(report.request.pictures()),
        quality="".join(_quality(group, report.quality.means(group)) for group in report.quality.scores),
        sheet=_sheet(report.quality.sheet),
        machine=_table(("", ""), _named(machine)),
        versions=_table(("", ""), [*report.versions.items(), ("commit", report.commit or "unknown")]),
        weights=escape(f"{report.weights}, SHA-256 {report.weights_sha256}"),
    )


_MEMORY = ("run", "px", "batch", "device", "predicted", "resident", "scratch", "s a megapixel")
_SCORES = ("", "PSNR, dB", "SSIM", "CIEDE2000", "angle, degrees", "seam index")


def _facts(facts: Mapping[str, str]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _memory_cells(row: MemoryRow) -> tuple[str, ...]:
    a = row.answer
    sizes = (a.predicted_device_bytes, a.peak_rss_bytes, a.scratch_bytes)
    return (
        row.tier or row.method,
        str(row.size),
        "" if a.batch is None else str(a.batch),
        a.ended if a.peak_device_bytes is None else format_size(a.peak_device_bytes),
        *("" if size is None else format_size(size) for size in sizes),
        "" if row.seconds_per_megapixel is None else f"{row.seconds_per_megapixel:.3f}",
    )


def _speed(report: BenchReport) -> str:
    run, megapixels = report.speed.run, report.request.extent.speed_size**2 / 1e6
    times = [*run.seconds.items(), ("bare forward pass", report.speed.bare_seconds)]
    table = _table(("", "s", "s a megapixel"), [(n, f"{s:.2f}", f"{s / megapixels:.3f}") for n, s in times])
    totals = report.speed.totals
    each = ", ".join(f"{seconds:.2f}" for seconds in totals)
    often = "once" if len(totals) == 1 else f"{len(totals)} times (total {each} s), of which this is the middle one"
    words = (
        f"{run.width} x {run.height} px, batch {run.batch}, tier {run.tier}, precision {run.precision}, "
        f"measured {often}."
    )
    return f"<p>{escape(words)}</p>{table}"


def _quality(group: str, means: Mapping[str, Scores]) -> str:
    rows = [
        (
            method.replace("_", " "),
            "equal" if s.psnr == float("inf") else f"{s.psnr:.2f}",
            f"{s.ssim:.4f}",
            f"{s.ciede2000:.2f}",
            f"{s.sam:.2f}",
            "" if s.seam is None else f"{s.seam:.3f}",
        )
        for method, s in means.items()
    ]
    return f"<h3>{escape(group)}</h3>{_table(_SCORES, rows)}"


def _sheet(rows: Sequence[SheetRow]) -> str:
    """Return a contact sheet as a JPEG inside the page."""
    if not rows:
        return ""
    with tempfile.TemporaryDirectory(prefix="infdehaze-bench-") as folder:
        content = draw_sheet(rows, Path(folder) / "sheet.jpg").read_bytes()
    text = "Pictures before and after, by each method, and the truth"
    return f'<figure><img class="plot" src="{data_uri(content, "jpeg")}" alt="{text}"></figure>'


def _named(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return facts in words."""
    return [
        (
            name.removesuffix("_bytes"),
            "unknown" if value is None else format_size(value) if name.endswith("_bytes") else str(value),
        )
        for name, value in facts.items()
    ]
