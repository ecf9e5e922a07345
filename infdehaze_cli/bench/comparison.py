"""Two benchmark reports side by side: what changed, and whether the two can be compared at all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from infdehaze_cli.errors import InputError
from infdehaze_cli.sizes import format_size

from .quality import INPUT, OURS
from .report import FORMAT, FORMAT_VERSION

Unit = Literal["bytes", "s", "s/Mpx", "%", "x", "dB", "degrees", ""]

_SCORES: tuple[tuple[str, str, Unit], ...] = (
    ("psnr", "PSNR", "dB"),
    ("ssim", "SSIM", ""),
    ("ciede2000", "CIEDE2000", ""),
    ("sam", "spectral angle", "degrees"),
    ("seam", "seam index", ""),
)
_BUSY = 0.5
"""Processes a core, before the measurement, from which on times are not to be trusted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of two reports; None where a report lacks it, as where a run was out of memory."""

    section: str
    name: str
    unit: Unit
    a: float | None
    b: float | None

    @property
    def difference(self) -> float | None:
        """The second less the first."""
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def ratio(self) -> float | None:
        """The second over the first, where both are amounts and the first is not nothing."""
        amounts = self.unit in ("bytes", "s", "s/Mpx", "x")
        return self.b / self.a if amounts and self.a and self.b is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, difference and ratio as JSON-ready values."""
        return {**asdict(self), "difference": self.difference, "ratio": self.ratio}

    def cells(self) -> tuple[str, ...]:
        """Return the row in words: name, a, b, difference, ratio; see :data:`HEADER`."""
        return (
            f"{self.section}: {self.name}",
            _shown(self.a, self.unit),
            _shown(self.b, self.unit),
            _shown(self.difference, self.unit, sign=True),
            "" if self.ratio is None else f"{self.ratio:.3f}",
        )


HEADER = ("", "a", "b", "b - a", "b / a")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two reports say."""

    notes: tuple[str, ...]
    """Sentences on what the two do not share, so that figures differ for reasons of their own."""
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {"notes": list(self.notes), "rows": [row.to_dict() for row in self.rows]}


def read_report(path: Path) -> dict[str, Any]:
    """Read the JSON of a benchmark report.

    Raises
    ------
    InputError
        When it is a folder, cannot be read, is no such report, or one of another format version.
    """
    made = "Give the JSON file that `infdehaze bench report` wrote."
    if path.is_dir():
        raise InputError(f"{path} is a folder. {made}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}). {made}") from error
    # RecursionError: brackets without end are JSON too
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON. {made}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path} is no benchmark report. {made}")
    if found.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {found.get('format_version')}, and this infdehaze reads {FORMAT_VERSION}. "
            "Compare with the version that made it, or make it again."
        )
    return found


def compare(first: Path, second: Path) -> Comparison:
    """Compare two reports, figure by figure.

    Parameters
    ----------
    first, second : Path
        JSON files of `infdehaze bench report`.

    Raises
    ------
    InputError
        As `read_report`, and when a report lacks a part.
    """
    reports, figures = [], []
    for path in (first, second):
        report = read_report(path)
        try:
            reports.append(report)
            figures.append({(section, name): (unit, value) for section, name, unit, value in _figures(report)})
            # beside itself, so that what notes need is missed here and not later
            tuple(_notes(report, report))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{path} is damaged: a benchmark report has more in it. Make it again.") from error
    a, b = figures
    rows = [
        Row(*key, (a.get(key) or b[key])[0], a.get(key, ("", None))[1], b.get(key, ("", None))[1])
        for key in dict.fromkeys([*a, *b])
    ]
    # what neither has says nothing
    known = tuple(row for row in rows if row.a is not None or row.b is not None)
    return Comparison(tuple(_notes(*reports)), known)


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, str, Unit, float | None]]:
    """Name every figure of a report: section, name, unit and value."""
    speed = report["speed"]
    size = f"{speed['run']['width']} px"
    yield "speed", f"total, {size}", "s", _number(speed["run"]["seconds"]["total"])
    yield "speed", f"a megapixel, {size}", "s/Mpx", _number(speed["seconds_per_megapixel"])
    yield "speed", f"bare forward pass, {size}", "s", _number(speed["bare_seconds"])
    yield "speed", f"run over bare forward pass, {size}", "x", _number(speed["ratio"])
    for phase, seconds in speed["run"]["seconds"].items():
        if phase != "total":
            yield "speed", f"{phase}, {size}", "s", _number(seconds)
    for row in report["memory"]["rows"]:
        # without the name of the weights, which may be what differs
        name = f"{row['tier'] or row['method']}, {row['size']} px"
        yield "memory", f"device, {name}", "bytes", _number(row["peak_device_bytes"])
        yield "memory", f"resident, {name}", "bytes", _number(row["peak_rss_bytes"])
        yield "memory", f"scratch, {name}", "bytes", _number(row["scratch_bytes"])
        yield "memory", f"time, {name}", "s/Mpx", _number(row["seconds_per_megapixel"])
    for label, spread in report["memory"]["spread_percent"].items():
        tier = label.rpartition(", ")[2]
        yield "memory", f"spread of device bytes over sizes, {tier}", "%", _number(spread)
    yield "quality", "mean gain", "dB", _number(report["mean_gain"])
    for group, found in report["quality"].items():
        for key, name, unit in _SCORES:
            yield "quality", f"{name}, {group}", unit, _number(found["means"][OURS][key])


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a figure is a number")
    # Python reads Infinity and NaN as JSON, which never are in a report
    if not math.isfinite(number := float(value)):
        raise ValueError("a figure is finite")
    return number


def _notes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Say what two reports do not share."""
    for part, said in (
        ("machine", "The machines differ, so times say little"),
        ("versions", "The versions differ"),
    ):
        changed = {key: (a[part].get(key), b[part].get(key)) for key in dict.fromkeys([*a[part], *b[part]])}
        # the load is another each time
        differing = [f"{k} {x} and {y}" for k, (x, y) in changed.items() if x != y and k != "load"]
        if differing:
            yield f"{said}: {'; '.join(differing)}."
    for part in ("commit", "pictures"):
        if a[part] != b[part]:
            yield f"The {part} differ{'s' if part == 'commit' else ''}: {a[part]} and {b[part]}."
    if a["weights"]["sha256"] != b["weights"]["sha256"]:
        yield f"The weights differ: {a['weights']['name']} and {b['weights']['name']}."
    if a["extent"] != b["extent"]:
        yield "One was measured with --quick, so many figures have no partner."
    if _inputs(a) != _inputs(b):
        yield "The hazy pictures differ, so scores do not compare."
    for name, report in (("a", a), ("b", b)):
        load, cores = report["machine"]["load"], report["machine"]["cores"]
        if load is not None and cores and load > _BUSY * cores:
            yield f"The machine of {name} was busy (load {load}, cores {cores}): do not trust its times."


def _inputs(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of the hazy pictures, which tell pictures apart."""
    return {
        f"{group} {name}": round(float(methods[INPUT]["psnr"] or 0), 3)
        for group, found in report["quality"].items()
        for name, methods in found["pictures"].items()
    }


def _shown(value: float | None, unit: Unit, *, sign: bool = False) -> str:
    if value is None:
        return ""
    plus = "+" if sign and value >= 0 else ""
    if unit == "bytes":
        return f"{'-' if value < 0 else plus}{format_size(abs(int(value)))}"
    return f"{plus}{value:.{4 if unit == '' else 3}f} {unit}".rstrip()
