"""The scene-level API: one raster in, one raster out. The commands call this and print."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from infdehaze.weights import load_model

from .engine import Measured, Reporter, Silent, execute, peak_rss_bytes
from .errors import StorageError
from .plan import Plan, RunConfig
from .raster import (
    HazeMapWriter,
    OtherBands,
    OutputWriter,
    Scene,
    gdal_environment,
    is_local,
    parse_wavelengths,
    redacted,
)
from .report import Beside, VrtWriter
from .retry import persist
from .scene_plan import begin_or_go_on, source_facts
from .stac import check_item, write_item
from .work_folder import claim


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run did and took; the fields of ``run --json``."""

    src: str
    dst: str
    width: int
    height: int
    bands: int
    tiles: int
    preset: str
    weights: str
    device: str
    precision: str
    batch: int
    tier: str
    peak_device_bytes: int
    predicted_device_bytes: int
    peak_rss_bytes: int
    scratch_bytes: int
    seconds: dict[str, float]
    megapixels_per_second: float
    resumed: bool
    """Whether it went on from what an interrupted run had left."""
    checkpoint_bytes: int
    not_repeated: dict[str, int | bool]
    """What of it had been done: ``encoded_batches``, ``bottleneck``, ``decoded_batches``, and the same with ``coarse_``
    before it, of the look at the scene at half its size."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def dehaze(
    src: str | Path,
    dst: str | Path,
    *,
    config: RunConfig | None = None,
    bands: tuple[int, ...] | None = None,
    scale_range: tuple[float, float] | None = None,
    format: Literal["cog", "gtiff"] = "cog",  # noqa: A002 - the name of the option
    profile: str | None = None,
    other_bands: OtherBands = "copy",
    wavelengths: str | None = None,
    haze_map: str | Path | None = None,
    preview: str | Path | None = None,
    report: str | Path | None = None,
    reference: str | Path | None = None,
    stac: str | Path | None = None,
    vrt: bool = False,
    creation_options: Mapping[str, str] | None = None,
    overwrite: bool = False,
    resume: bool = True,
    reporter: Reporter | None = None,
) -> RunResult:
    """Remove the haze from a raster.

    Parameters
    ----------
    src : str or Path
        Anything GDAL opens: a path, a ``/vsi`` path, ``https://`` or ``s3://``.
    dst : str or Path
        The output, a file or an object such as ``s3://bucket/key``; it appears whole or not at all.
    config : RunConfig, optional
        Budget, device, weights.
    bands : tuple of int, optional
        Red, green and blue band numbers, or one for grey; by default from the colour interpretation.
    scale_range : tuple of float, optional
        Native values that become 0 and 1 in the network; by default from the dtype or the scene.
    format : str
        ``cog`` or ``gtiff``.
    profile : str, optional
        ``cog-deflate``, ``cog-zstd``, ``cog-jpeg`` or ``gtiff``; stands above ``format``.
    other_bands : str
        ``copy`` or ``drop`` the bands that are neither colour nor alpha, or correct them by ``physics``: with the
        optical depth of the colours, carried to their wavelengths.
    wavelengths : str, optional
        Of all bands, ``0.49,0.56,0.66,0.84``, in micrometres or nanometres; by default from the file.
    haze_map : str or Path, optional
        Also write the optical depth that was taken away, a float32 COG, with a QGIS style beside it.
    preview : str or Path, optional
        Also write a PNG of the scene before and after, at most 2000 px wide.
    report : str or Path, optional
        Also write a page of HTML that shows what was done. Like the style and the preview it is written after the
        output, which stands when one of them fails.
    reference : str or Path, optional
        A clear raster on the same grid, against which the report scores the scene.
    stac : str or Path, optional
        Also write a STAC item here, next to or above ``dst``; needs the package pystac.
    vrt : bool
        Make ``dst`` a VRT with rasters of gain and offset beside it, in place of new pixels: a cell for 16 px
        that GDAL 3.9 applies to ``src`` when it reads. ``format``, ``profile``,
        ``creation_options`` and ``other_bands`` do not apply.
    creation_options : mapping, optional
        GDAL creation options.
    overwrite : bool
        Whether an existing ``dst`` may be replaced.
    resume : bool
        Whether to go on with an interrupted run into ``dst``, if there is one, rather than start afresh.
    reporter : Reporter, optional
        Is told how it goes on.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError
        When ``src`` cannot be opened, read or processed.
    UsageError
        When options make no sense, or ``dst`` exists.
    BudgetError
        When the budget cannot hold the run.
    StorageError, CorruptError
        When a disk fails, is full or gives damaged data back; when another run writes ``dst``, or an interrupted
        one into it was begun with another input, other weights or another request.
    """
    config = config or RunConfig()
    reporter = reporter or Silent()
    started = time.perf_counter()
    if stac is not None:
        check_item(stac, overwrite=overwrite)
    with gdal_environment(), Scene.open(src, bands=bands, scale_range=scale_range) as scene:
        beside = Beside(scene, dst, other_bands, haze_map, preview, report, reference, overwrite, stac, vrt)
        reporter = beside.reporter(reporter)
        model = load_model(config.weights)
        with claim(config.scratch, dst, reporter.note) as work:
            facts = source_facts(
                scene,
                wants_haze=vrt or other_bands == "physics" or haze_map is not None or report is not None,
                beside=VrtWriter.host_bytes(scene) if vrt else 0,
            )
            chosen = begin_or_go_on(work, scene, model, config, bands, reporter, resume=resume, facts=facts)
            before = work.journal.done

            def attempt() -> tuple[Measured, float]:
                with (
                    gdal_environment(chosen.gdal_cache_bytes),
                    # each thread has a handle of its own
                    Scene.open(src, bands=bands, scale_range=_limits(scene)) as second,
                    VrtWriter(scene, dst, overwrite=overwrite, token=work.token)
                    if vrt
                    else OutputWriter(
                        scene,
                        dst,
                        format=format,
                        profile=profile,
                        other_bands=other_bands,
                        wavelengths=None if wavelengths is None else parse_wavelengths(wavelengths, scene.count),
                        creation_options=creation_options or {},
                        overwrite=overwrite,
                        tags=_tags(config, chosen),
                        work_dir=work.path,
                        token=work.token,
                        beside=work.missing(chosen),
                    ) as writer,
                    _haze_writer(scene, haze_map, writer, overwrite, work.token) as map_writer,
                ):
                    scene.check_same(second)
                    measured = execute(
                        chosen,
                        model,
                        scene,
                        second,
                        beside.writer(map_writer or writer),
                        scratch=work.path,
                        budget=config.gpu_mem,
                        strength=config.strength,
                        reporter=reporter,
                        journal=work.journal,
                    )
                    reporter.phase("finish", 1)
                    finishing = time.perf_counter()
                    # all is on the disk before anything gets its name
                    for each in (map_writer, writer):
                        if each is not None:
                            each.complete()
                    # an upload may fail, and a map that has its name would be in the way of the next try
                    for each in (map_writer, writer) if is_local(dst) else (writer, map_writer):
                        if each is not None:
                            each.finish()
                    reporter.advance()
                    return measured, finishing

            def again(error: BaseException) -> bool:
                # GDAL may have dropped the block whose write failed, so that all of the output has to be written anew
                if not isinstance(error, StorageError) or not error.may_pass:
                    return False
                reporter.note(f"{error} The output is written again.")
                work.tidy()
                return True

            measured, finishing = persist(attempt, again)
        if stac is not None:
            write_item(stac, dst)
        total = time.perf_counter() - started
        seconds = {**measured.seconds, "finish": started + total - finishing, "total": total}
        result = RunResult(
            src=redacted(src),
            dst=redacted(dst),
            width=scene.width,
            height=scene.height,
            bands=scene.count,
            tiles=chosen.tiles,
            preset=chosen.preset,
            weights=config.weights,
            device=chosen.device,
            precision=chosen.precision,
            batch=chosen.batch,
            tier=chosen.tier,
            peak_device_bytes=measured.peak_device_bytes,
            predicted_device_bytes=chosen.predicted_device_bytes,
            peak_rss_bytes=peak_rss_bytes(),
            scratch_bytes=measured.scratch_bytes,
            seconds={name: round(value, 3) for name, value in seconds.items()},
            megapixels_per_second=round(scene.width * scene.height / 1e6 / total, 3),
            resumed=work.found,
            checkpoint_bytes=measured.checkpoint_bytes,
            not_repeated=asdict(before),
        )
        with gdal_environment(chosen.gdal_cache_bytes):
            beside.finish(result.to_dict(), chosen)
        return result


def _haze_writer(
    scene: Scene,
    haze_map: str | Path | None,
    writer: OutputWriter | VrtWriter,
    overwrite: bool,
    token: str,
) -> AbstractContextManager[HazeMapWriter | None]:
    """Make the writer of the haze map, where one is wanted."""
    if haze_map is None:
        return nullcontext()
    return HazeMapWriter(scene, haze_map, writer, overwrite=overwrite, token=token)


def _limits(scene: Scene) -> tuple[float, float]:
    return scene.limits.lo, scene.limits.hi


def _tags(config: RunConfig, chosen: Plan) -> dict[str, str]:
    """Return what the output says about how it was made; nothing that differs between budgets."""
    return {
        "INFDEHAZE_VERSION": version("infdehaze"),
        "INFDEHAZE_WEIGHTS": Path(config.weights).name,
        "INFDEHAZE_PRESET": chosen.preset,
        "INFDEHAZE_STRENGTH": f"{config.strength:g}",
        "INFDEHAZE_OVERLAP": str(chosen.overlap),
    }
