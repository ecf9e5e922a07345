"""Attribute a window of a raster of any size: a map on its grid, a picture, and figures (supplement, section 7)."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from infdehaze.attribution import OBJECTIVES, STEPS
from infdehaze.field_window import FieldWindow
from infdehaze.network import InfDehaze, count_parameters
from infdehaze.presets import Preset
from infdehaze.tiling import TileGrid
from infdehaze.weights import load_model
from numpy.typing import NDArray

from .api import dehaze
from .attribution import AttributionPlan, Ends, Spread, plan_attribution, stream_attribution
from .engine import Reporter, Silent, peak_rss_bytes, resolve_device
from .errors import InputError, StorageError, UsageError
from .geometry import Window
from .plan import RunConfig
from .planner import choose_overlap
from .raster import MapWriter, Scene, gdal_environment, redacted
from .report.attribution import attribution_picture, mean_factor
from .report.coarse import BlockMeans
from .report.places import check_place, same_key, write_beside
from .scene_plan import source_facts
from .scores import check_pair

COMPLETE = 0.05
"""Attributions that miss more of the change of the objective are remarked on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionResult:
    """What an attribution found and took; the fields of ``attribute --json``."""

    src: str
    dst: str
    window: tuple[int, int, int, int]
    """Column, row, width and height in pixels."""
    reference: str | None
    objective: str
    steps: int
    at_clear: float
    """The objective at the clear end of the path."""
    at_hazy: float
    attributed: float
    """Sum of the map: the difference of the two, but for what the steps miss."""
    missed: float | None
    """What they miss, as a share of the difference; None where there is no difference."""
    outside_share: float
    """Share of the absolute attribution outside of the tiles that the window touches, 0..1."""
    outside_area: float
    """The share that these pixels have of the scene, for comparison."""
    median_distance: int
    """Pixels from the window within which half of the absolute attribution lies."""
    tiles: int
    batch: int
    weights: str
    device: str
    peak_device_bytes: int
    predicted_device_bytes: int
    peak_rss_bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def attribute(
    src: str | Path,
    dst: str | Path,
    window: Window,
    *,
    reference: str | Path | None = None,
    objective: str = "light",
    steps: int = STEPS,
    preview: str | Path | None = None,
    config: RunConfig | None = None,
    bands: tuple[int, ...] | None = None,
    scale_range: tuple[float, float] | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> AttributionResult:
    """Write what a window of a raster owes to each of its pixels when its haze is removed.

    Parameters
    ----------
    src : str or Path
        The hazy raster, anything that GDAL opens.
    dst : str or Path
        The map: float32 GeoTIFF on the grid of the scene, a band a colour, in units of the objective, NaN where there
        is no data.
    window : Window
        Pixels of the scene.
    reference : str or Path, optional
        A clear raster on the same grid, where the path begins; without it, what :func:`infdehaze_cli.dehaze` makes of
        the scene.
    objective : str
        A key of :data:`infdehaze.attribution.OBJECTIVES`.
    steps : int
        Points on the path.
    preview : str or Path, optional
        Also write a PNG: the scene, and the map over it, with the window outlined.
    config : RunConfig, optional
        ``gpu_mem``, ``ram``, ``scratch``, ``batch``, ``device``, ``overlap`` and ``weights`` count; single precision.
    bands, scale_range, overwrite, reporter
        As for :func:`infdehaze_cli.dehaze`.

    Raises
    ------
    UsageError
        When the window leaves the scene, an option makes no sense, or an output exists.
    InputError
        When a raster cannot be read, the reference lies on another grid, or the window holds no data.
    BudgetError
        When the budget cannot hold it.
    StorageError
        When a disk fails or is full.
    """
    config, reporter, started = config or RunConfig(), reporter or Silent(), time.perf_counter()
    _check_request(src, dst, preview, reference, objective, steps, overwrite)
    if objective == "detail" and min(window.height, window.width) < 2:
        raise UsageError("Edges lie between pixels. Give --window at least 2 px a side, or another --objective.")
    with ExitStack() as stack:
        stack.enter_context(gdal_environment())
        scene = stack.enter_context(Scene.open(src, bands=bands, scale_range=scale_range))
        _check_window(scene, window)
        if reference is not None:
            check_pair(scene.path, scene.colour_bands, reference, scene.colour_bands)
        model = load_model(config.weights)
        field_window = _field_window(config, model.preset, scene, window)
        plan = _plan(config, model, scene, field_window, steps)
        limits = scene.limits.lo, scene.limits.hi
        writer = stack.enter_context(MapWriter(scene, dst, _names(scene), overwrite=overwrite, nodata=float("nan")))
        clear = str(reference) if reference is not None else _own(stack, src, config, bands, limits, reporter)
        with (
            gdal_environment(plan.gdal_cache_bytes),
            Scene.open(clear, bands=scene.colour_bands, scale_range=limits) as partner,
            # read while the first handle reads ahead
            Scene.open(src, bands=bands, scale_range=limits) as second,
        ):
            spread = Spread(field_window.grid, window)
            taker = _Taker(second, writer, spread, None if preview is None else mean_factor(scene))
            found = stream_attribution(
                plan,
                model,
                Ends(scene, partner),
                field_window,
                taker.take,
                objective=objective,
                steps=steps,
                budget=config.gpu_mem,
                reporter=reporter,
            )
            writer.finish()
            if preview is not None:
                write_beside(dst, preview, "picture", lambda: taker.picture(window))
        change = found.at_hazy - found.at_clear
        missed = abs(spread.total - change) / abs(change) if change else None
        if missed is not None and missed > COMPLETE:
            reporter.note(f"attributions miss {missed:.0%} of the change of the objective; more --steps may find it")
        return AttributionResult(
            src=redacted(src),
            dst=redacted(dst),
            window=(window.col, window.row, window.width, window.height),
            reference=None if reference is None else redacted(reference),
            objective=objective,
            steps=steps,
            at_clear=found.at_clear,
            at_hazy=found.at_hazy,
            attributed=spread.total,
            missed=missed,
            outside_share=spread.outside_share,
            outside_area=spread.outside_area,
            median_distance=spread.median_distance,
            tiles=field_window.grid.count,
            batch=plan.batch,
            weights=config.weights,
            device=plan.device,
            peak_device_bytes=found.peak_device_bytes,
            predicted_device_bytes=plan.predicted_device_bytes,
            peak_rss_bytes=peak_rss_bytes(),
            seconds=round(time.perf_counter() - started, 3),
        )


def _check_request(
    src: str | Path,
    dst: str | Path,
    preview: str | Path | None,
    reference: str | Path | None,
    objective: str,
    steps: int,
    overwrite: bool,
) -> None:
    """Check what can be checked before anything is opened."""
    if objective not in OBJECTIVES:
        raise UsageError(f"There is no objective {objective!r}. Use one of {', '.join(OBJECTIVES)}.")
    if steps < 1:
        raise UsageError("A path has at least one step. Give --steps a number from 1 up.")
    if reference is not None and same_key(reference) in (same_key(src), same_key(dst)):
        raise UsageError(f"{reference} cannot be the reference and another file of the call. Name a clear raster.")
    if preview is None:
        return
    check_place(preview, "a picture", overwrite=overwrite)
    if same_key(preview) in {same_key(path) for path in (src, dst, reference) if path is not None}:
        raise UsageError(f"{preview} cannot be the picture and another file of the call. Name two files.")


def _check_window(scene: Scene, window: Window) -> None:
    """Check that a window lies inside the scene and holds data."""
    if window.intersect(Window(0, 0, scene.height, scene.width)) != window:
        raise UsageError(
            f"The window {window.col},{window.row},{window.width},{window.height} leaves the scene of "
            f"{scene.width} x {scene.height} px. Give --window x,y,w,h inside of it."
        )
    for row in range(window.row, window.row_end, 512):
        part = Window(row, window.col, min(512, window.row_end - row), window.width)
        if scene.read(part).valid.any():
            return
    raise InputError(f"The window of {scene.shown} holds no data. Give --window a place that does.")


def _field_window(config: RunConfig, preset: Preset, scene: Scene, window: Window) -> FieldWindow:
    grid = TileGrid(scene.height, scene.width, preset.tile, choose_overlap(config, preset))
    return FieldWindow(preset, grid, window.row, window.col, window.height, window.width)


def _plan(config: RunConfig, model: InfDehaze, scene: Scene, field_window: FieldWindow, steps: int) -> AttributionPlan:
    device = str(resolve_device(config.device))
    return plan_attribution(config, field_window, count_parameters(model), device, steps, source_facts(scene))


def _names(scene: Scene) -> list[str]:
    colours = ("grey",) if len(scene.colour_bands) == 1 else ("red", "green", "blue")
    return [f"attribution, {colour}" for colour in colours]


def _own(
    stack: ExitStack,
    src: str | Path,
    config: RunConfig,
    bands: tuple[int, ...] | None,
    limits: tuple[float, float],
    reporter: Reporter,
) -> str:
    """Dehaze the scene into a folder that goes away, and return the result."""
    try:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="infdehaze-", dir=config.scratch))
    except OSError as error:
        raise StorageError(
            f"{config.scratch} cannot be used for work files ({error.strerror}). Name another folder with --scratch."
        ) from error
    clean = Path(folder) / "clean.tif"
    dehaze(src, clean, config=config, bands=bands, scale_range=limits, format="gtiff", resume=False, reporter=reporter)
    return str(clean)


class _Taker:
    """Takes the bands of a map: to the file, to the figures, and averaged for the picture."""

    def __init__(self, scene: Scene, writer: MapWriter, spread: Spread, factor: int | None) -> None:
        self._scene, self._writer, self._spread = scene, writer, spread
        self._means = None if factor is None else BlockMeans(1, scene.height, scene.width, factor)

    def take(self, window: Window, values: NDArray[np.float32]) -> None:
        self._spread.add(window, values)
        valid = self._scene.read(window).valid
        if self._means is not None:
            self._means.add(window, np.abs(values.sum(0, keepdims=True)), valid)
        # a grey scene is three equal bands to the network
        shown = values if len(self._scene.colour_bands) == 3 else values.sum(0, keepdims=True)
        self._writer.write(window, np.where(valid, shown, np.float32("nan")))

    def picture(self, window: Window) -> bytes:
        assert self._means is not None
        return attribution_picture(self._scene, window, self._means.means()[0], self._means.factor)
