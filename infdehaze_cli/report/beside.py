"""What a run writes beside its output, checked before it and written after it: the output stands whatever happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infdehaze_cli.engine.protocols import Reporter, SceneWriter
from infdehaze_cli.errors import UsageError
from infdehaze_cli.plan import Plan
from infdehaze_cli.raster import Block, OtherBands, Scene
from infdehaze_cli.raster.bands import kept_bands
from infdehaze_cli.scores import Scores, check_pair, compare_rasters
from infdehaze_cli.sizes import format_size

from .coarse import HazeMeans
from .figures import detail_windows
from .html import DETAIL, OVERVIEW, Report, render
from .pictures import View, fit, side_by_side
from .places import check_apart, check_place, write_beside
from .style import style_of, style_path
from .vrt import beside_vrt

PREVIEW_WIDTH, _GAP = 2000, 8
"""Pixels of a preview at most, and of the line between its pictures."""

_DEPTH_SIDE = 600
"""Cells of the longer side of the haze map in a report."""


@dataclass(slots=True)
class Beside:
    """What goes beside an output. Make it before the run: it refuses what cannot be written or compared.

    Parameters
    ----------
    scene
        The open source.
    dst
        The output.
    other_bands
        Which bands the output has.
    haze_map
        The haze map of the run, which gets a QGIS style.
    preview
        A PNG of the scene before and after.
    report
        A page of HTML.
    reference
        A clear raster on the grid of the scene, for the report's scores.
    overwrite
        Whether existing files may be replaced.
    stac
        The STAC item, which is written by others.
    vrt
        Whether the output is a VRT with gain and offset beside it.

    Raises
    ------
    UsageError
        When a file is impossible, exists, or is named twice, or a reference is given without a report.
    InputError
        When the reference cannot be opened, or lies on another grid.
    """

    scene: Scene
    dst: str | Path
    other_bands: OtherBands = "copy"
    haze_map: str | Path | None = None
    preview: str | Path | None = None
    report: str | Path | None = None
    reference: str | Path | None = None
    overwrite: bool = False
    stac: str | Path | None = None
    vrt: bool = False
    _means: HazeMeans | None = field(default=None, init=False)
    _notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        style = None if self.haze_map is None else style_path(self.haze_map)
        for path, what in ((style, "the style of a haze map"), (self.preview, "a preview"), (self.report, "a report")):
            if path is not None:
                check_place(path, what, overwrite=self.overwrite)
        gain, offset = beside_vrt(self.dst) if self.vrt else (None, None)
        source = {"the source itself": (self.scene.path,), "a part of the source": self.scene.files}
        check_apart(
            {**source, "the reference": (self.reference,)},
            {
                "the output": self.dst,
                "the gain of the output": gain,
                "the offset of the output": offset,
                "the haze map": self.haze_map,
                "the style of the haze map": style,
                "the preview": self.preview,
                "the report": self.report,
                "the STAC item": self.stac,
            },
        )
        if self.reference is None:
            return
        if self.report is None:
            raise UsageError("Scores go into a report. Give --report FILE with --reference.")
        bands = self._view(self.dst).bands
        check_pair(self.scene.path, self.scene.colour_bands, self.reference, bands)

    def _view(self, path: str | Path) -> View:
        """Return how the source, or the output, is shown."""
        scene = self.scene
        if path == scene.path:
            return View(path, scene.colour_bands, scene.limits)
        kept, _ = kept_bands(scene.metadata.colours, scene.colour_bands, self.other_bands)
        return View(path, tuple(kept.index(band) + 1 for band in scene.colour_bands), scene.limits)

    def writer(self, output: SceneWriter[Block]) -> SceneWriter[Block]:
        """Return the writer that a run writes to: with a report it keeps means of the haze."""
        if self.report is None:
            return output
        factor = -(-max(self.scene.height, self.scene.width) // _DEPTH_SIDE)
        self._means = HazeMeans(output, self.scene.height, self.scene.width, factor)
        return self._means

    def reporter(self, reporter: Reporter) -> Reporter:
        """Return a reporter that also keeps what a run says, for the report's warnings."""
        return _Listener(reporter, self._notes) if self.report is not None else reporter

    def finish(self, run: Mapping[str, Any], plan: Plan) -> None:
        """Write everything, after the output has its name.

        Parameters
        ----------
        run
            The fields of ``run --json``.
        plan
            What was planned.

        Raises
        ------
        StorageError
            When something could not be written. The output stands, and the message says so.
        """
        if self.haze_map is not None:
            haze_map = self.haze_map
            self._write(style_path(haze_map), "style", lambda: style_of(haze_map))
        if self.preview is not None:
            self._write(self.preview, "preview", self._preview)
        if self.report is not None:
            self._write(self.report, "report", lambda: self._page(run, plan).encode())

    def _write(self, path: str | Path, what: str, make: Any) -> None:
        write_beside(self.dst, path, what, make)

    def _preview(self) -> bytes:
        scene = self.scene
        shape = fit(scene.height, scene.width, (PREVIEW_WIDTH - _GAP) // 2)
        before, after = (self._view(path).read(shape) for path in (scene.path, self.dst))
        return side_by_side(before, after, _GAP)

    def _page(self, run: Mapping[str, Any], plan: Plan) -> str:
        """Return the report."""
        scene, (first, second) = self.scene, [self._view(path) for path in (self.scene.path, self.dst)]
        shape = fit(scene.height, scene.width, OVERVIEW)
        before, after = first.read(shape), second.read(shape)
        depth = None if self._means is None else self._means.depth.means()
        factor = 1 if self._means is None else self._means.depth.factor
        # a small scene is shown in full already
        small = shape == (scene.height, scene.width)
        details = []
        for window in [] if small else detail_windows(scene.height, scene.width, DETAIL, depth, factor):
            size = window.height, window.width
            details.append((window, first.read(size, window), second.read(size, window)))
        return render(
            Report(
                run=run,
                plan=plan.to_dict(),
                whole=(before, after),
                details=details,
                names=("grey",) if len(scene.colour_bands) == 1 else ("red", "green", "blue"),
                limits=f"{scene.limits.lo:g} and {scene.limits.hi:g}",
                depth=depth,
                scores=self._scores(first, second, plan),
                warnings=[*self._notes, *_excess(run), *_left_out(before.valid.mean())],
            )
        )

    def _scores(self, before: View, after: View, plan: Plan) -> dict[str, Scores]:
        """Return the scores before and after, where there is a reference."""
        if self.reference is None:
            return {}
        tiles = {"tile": plan.tile, "overlap": plan.overlap}
        if before.bands != after.bands:
            # one choice of bands cannot fit source and reference then
            return {"after": compare_rasters(after.path, self.reference, bands=after.bands)}
        return {
            "before": compare_rasters(before.path, self.reference, bands=before.bands),
            "after": compare_rasters(after.path, self.reference, hazy=before.path, bands=after.bands, **tiles),
        }


class _Listener:
    """Hands everything on, and keeps what is said."""

    def __init__(self, reporter: Reporter, notes: list[str]) -> None:
        self._reporter, self._notes = reporter, notes

    def phase(self, name: str, total: int) -> None:
        self._reporter.phase(name, total)

    def advance(self, steps: int = 1) -> None:
        self._reporter.advance(steps)

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._reporter.note(text)


def _excess(run: Mapping[str, Any]) -> list[str]:
    """Return a warning where the device took more than was planned."""
    taken, planned = run["peak_device_bytes"], run["predicted_device_bytes"]
    if taken <= planned:
        return []
    return [f"The device took {format_size(taken)}, more than the planned {format_size(planned)}."]


def _left_out(valid: float) -> list[str]:
    """Return a warning where much of a scene is not data."""
    return [] if valid >= 0.5 else [f"{100 * (1 - valid):.0f} % of the scene is not data and was left as it is."]
