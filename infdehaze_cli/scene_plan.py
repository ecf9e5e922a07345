"""The plan of a run over a raster: made for it, or that of the interrupted run that it goes on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from infdehaze.network import InfDehaze, count_parameters
from infdehaze.weights import load_model

from .calibration import calibrate, estimate_seconds
from .engine import Reporter, resolve_device
from .host_memory import SourceFacts
from .identity import identify
from .journal import Done
from .plan import Plan, RunConfig
from .planner import make_plan
from .raster import Scene, gdal_environment
from .work_folder import WorkFolder


def source_facts(scene: Scene, *, wants_haze: bool = False, beside: int = 0) -> SourceFacts:
    """Return what the planner has to know of an open scene, and of what is made of its haze; see `SourceFacts`."""
    rows, cols = scene.block_shape
    return SourceFacts(
        bands=scene.count,
        itemsize=scene.dtype.itemsize,
        block_rows=rows,
        block_cols=cols,
        has_mask=bool(scene.validity.mask_bands),
        wants_haze=wants_haze,
        beside=beside,
    )


def plan_scene(
    scene: Scene, model: InfDehaze, config: RunConfig, *, facts: SourceFacts | None = None, estimate: bool = False
) -> Plan:
    """Plan a run over an open scene; see :func:`infdehaze_cli.planner.make_plan` for the errors.

    Where residuals do not all fit into memory and the user leaves the tier open, encoding and the scratch folder are
    timed first. With ``estimate`` the plan says how long the run may take.
    """
    device = str(resolve_device(config.device))
    scene_facts = (
        scene.height,
        scene.width,
        model.preset,
        count_parameters(model),
        device,
        facts or source_facts(scene),
    )
    plan = make_plan(config, *scene_facts)
    if config.residuals == "auto" and plan.batches_in_memory < plan.batches:
        plan = make_plan(config, *scene_facts, rates=calibrate(model, plan, config.scratch))
    if estimate:
        plan = replace(plan, estimated_seconds=round(estimate_seconds(model, plan, config.scratch, scene.count), 1))
    return plan


def plan_run(
    src: str | Path,
    *,
    config: RunConfig | None = None,
    bands: tuple[int, ...] | None = None,
    scale_range: tuple[float, float] | None = None,
) -> Plan:
    """Plan a run without running it.

    Raises
    ------
    InfdehazeError
        As :func:`dehaze`.
    """
    config = config or RunConfig()
    with gdal_environment(), Scene.open(src, bands=bands, scale_range=scale_range) as scene:
        return plan_scene(scene, load_model(config.weights), config, estimate=True)


def begin_or_go_on(
    work: WorkFolder,
    scene: Scene,
    model: InfDehaze,
    config: RunConfig,
    bands: tuple[int, ...] | None,
    reporter: Reporter,
    *,
    resume: bool,
    facts: SourceFacts | None = None,
) -> Plan:
    """Plan a run, or take the plan of the interrupted one that it goes on with; the journal is begun, or gone on with.

    Raises
    ------
    BudgetError, StorageError
        When the budget or the scratch disk cannot hold the run.
    CorruptError
        When the interrupted run was begun with another input, other weights or another request.
    """
    if work.found and resume:
        chosen = work.check(identify(scene, config, bands))
        work.check_space(chosen)
        work.journal.go_on()
        reporter.note(_progress(work.journal.done, chosen))
        return chosen
    chosen = plan_scene(scene, model, config, facts=facts)
    if work.found:
        # not before it is known that this run can be
        work.restart()
    work.check_space(chosen)
    work.journal.begin(identify(scene, config, bands), chosen)
    return chosen


def _progress(done: Done, chosen: Plan) -> str:
    """Say what an interrupted run has done."""
    if done.bottleneck:
        what = f"the bottleneck and {done.decoded_batches} of {chosen.batches} batches of the decoder are done"
    elif done.encoded_batches:
        what = f"{done.encoded_batches} of {chosen.batches} batches are encoded"
    else:
        what = "the look at half the size of the scene is begun"
    return f"Goes on with an interrupted run: {what}."
