"""From what the user allows to a :class:`~.plan.Plan`: the largest batch, the fastest tier that fits."""

from __future__ import annotations

from dataclasses import dataclass

from infdehaze.presets import Preset
from infdehaze.tiling import TileGrid

from . import host_memory as host
from . import memory
from .errors import BudgetError, UsageError
from .host_memory import SourceFacts
from .plan import Plan, Precision, RunConfig
from .sizes import format_size
from .store import Tier, row_bytes, stored_dtype

CHUNK_TOKENS = 16384
"""Tokens of the bottleneck on the device at a time, where the budget allows."""
CHUNK_ENOUGH = 2048
"""A chunk below this is made only where the budget asks for it: the device would idle between chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a calibration found; see :mod:`.calibration`."""

    encode_tiles: float
    """Tiles a second."""
    write_bytes: float
    read_bytes: float
    """Bytes a second to and from the scratch folder."""
    scratch_free: int
    """Bytes."""


def make_plan(
    config: RunConfig,
    height: int,
    width: int,
    preset: Preset,
    parameters: int,
    device: str,
    source: SourceFacts | None = None,
    rates: Rates | None = None,
) -> Plan:
    """Decide how to run a scene.

    Parameters
    ----------
    config : RunConfig
        What the user said.
    height, width : int
        The scene's size in pixels.
    preset, parameters
        The network and its number of values.
    device : str
        ``cpu`` or ``cuda``, resolved.
    source : SourceFacts, optional
        How the source is stored.
    rates : Rates, optional
        Measured speeds, for ``auto`` to choose between storing and encoding again.

    Raises
    ------
    BudgetError
        When ``gpu_mem`` cannot hold a single tile, or ``ram`` not even what must be in memory; the message names
        the worst step and the least that works.
    UsageError
        When the overlap does not fit the network.
    """
    overlap = choose_overlap(config, preset)
    grid = TileGrid(height, width, preset.tile, overlap)
    looks_twice = preset.coarse_share_for(height, width) > 0
    coarse = TileGrid(-(-height // 2), -(-width // 2), preset.tile, overlap) if looks_twice else None
    precision: Precision
    precision = ("fp32" if device == "cpu" else "fp16") if config.precision == "auto" else config.precision
    batch = config.batch or preset.batch_for(max(grid.height, grid.width), device != "cpu")
    while True:
        on_device = _fit_device(config, preset, parameters, grid, precision, device, batch)
        try:
            on_host = _fit_host(config, preset, grid, coarse, on_device, source or SourceFacts(), rates)
            break
        except BudgetError:
            # the host holds a few batches too
            if config.batch is not None or on_device.batch == 1:
                raise
            batch = on_device.batch // 2
    return Plan(
        height=height,
        width=width,
        preset=preset.name,
        tile=preset.tile,
        overlap=overlap,
        tile_rows=grid.rows,
        tile_cols=grid.cols,
        tiles=grid.count,
        tokens=grid.count * preset.latent_side**2,
        coarse_tiles=0 if coarse is None else coarse.count,
        batch=on_device.batch,
        chunk_tokens=on_device.chunk_tokens,
        tier=on_host.tier,
        device=device,
        precision=precision,
        residual_dtype=config.residual_dtype,
        codec=config.codec,
        batches_in_memory=on_host.batches_in_memory,
        latents_on_disk=on_host.latents_on_disk,
        heads_on_disk=on_host.heads_on_disk,
        heads_at_a_time=on_host.heads_at_a_time,
        gdal_cache_bytes=on_host.cache,
        predicted_device_bytes=on_device.bytes,
        predicted_host_bytes=on_host.bytes,
        scratch_bytes=on_host.scratch,
        checkpoint_bytes=on_host.checkpoint,
    )


def choose_overlap(config: RunConfig, preset: Preset) -> int:
    """Return the pixels by which tiles overlap.

    Raises
    ------
    UsageError
        When what the user said does not fit the network.
    """
    overlap = preset.overlap if config.overlap is None else config.overlap
    if overlap % preset.field_stride or not 0 <= overlap <= preset.tile // 2:
        raise UsageError(
            f"An overlap of {overlap} px does not fit this network. "
            f"Use a multiple of {preset.field_stride} between 0 and {preset.tile // 2}."
        )
    return overlap


@dataclass(frozen=True, slots=True)
class _OnDevice:
    batch: int
    chunk_tokens: int
    bytes: int


def _fit_device(
    config: RunConfig, preset: Preset, parameters: int, grid: TileGrid, precision: Precision, device: str, batch: int
) -> _OnDevice:
    """Choose batch and chunk: the given batch to begin with, halved until it fits."""
    batch = min(batch, grid.count)
    tokens = grid.count * preset.latent_side**2
    least_chunk = 2 * preset.block_tokens
    chunk = min(CHUNK_TOKENS, max(tokens, least_chunk))
    aside = 0 if device == "cpu" else memory.CUDA_WORKSPACE

    def predict() -> dict[str, int]:
        cols = grid.cols * preset.latent_side
        stored = stored_dtype(config.residual_dtype).itemsize
        phases = memory.predict_device_bytes(preset, parameters, batch, chunk, cols, precision, stored, device != "cpu")
        return {name: size + aside for name, size in phases.items()}

    # a chunk that takes more than the other phases do would raise the peak and gain nothing
    while chunk >= 2 * max(CHUNK_ENOUGH, least_chunk):
        phases = predict()
        if phases.pop("bottleneck") <= max(phases.values()):
            break
        chunk //= 2
    if config.gpu_mem is None:
        return _OnDevice(batch, chunk, max(predict().values()))
    while max(predict().values()) > config.gpu_mem:
        phases = predict()
        worst = max(phases, key=lambda name: phases[name])
        if worst == "bottleneck" and chunk > least_chunk:
            chunk //= 2
        elif worst in ("encode", "decode") and batch > 1 and config.batch is None:
            batch //= 2
        else:
            amount = {
                "bottleneck": f"{chunk} tokens at a time",
                "compose": f"{memory.COMPOSE_ROWS} x {memory.COMPOSE_COLS} px of the output at a time",
            }.get(worst, f"{batch} tile{'s' if batch > 1 else ''} at a time")
            smaller = "--batch" if worst in ("encode", "decode") and batch > 1 else "preset"
            raise BudgetError(
                f"A budget of {format_size(config.gpu_mem)} cannot hold the {worst} phase, which needs "
                f"{format_size(phases[worst])} with {amount}. "
                f"Give --gpu-mem at least {_least(phases[worst])}, or use a smaller {smaller}."
            )
    return _OnDevice(batch, chunk, max(predict().values()))


@dataclass(frozen=True, slots=True)
class _OnHost:
    tier: Tier
    batches_in_memory: int
    latents_on_disk: bool
    heads_on_disk: bool
    heads_at_a_time: int
    cache: int
    bytes: int
    scratch: int
    checkpoint: int


def _fit_host(
    config: RunConfig,
    preset: Preset,
    grid: TileGrid,
    coarse: TileGrid | None,
    on_device: _OnDevice,
    source: SourceFacts,
    rates: Rates | None,
) -> _OnHost:
    """Give memory first to what must be there, then to the bottleneck, then to residuals; the rest goes to disk."""
    batch, row = on_device.batch, row_bytes(preset.stored_shapes, config.residual_dtype)
    least_cache, cache = host.cache_bytes(source, grid)
    coarse_look = 0 if coarse is None else host.coarse_look_bytes(preset, coarse)

    def steps_of(grid: TileGrid, cache: int, latents_on_disk: bool, group: int) -> dict[str, int]:
        """Return the bytes of each step of a look beside the residuals that wait."""
        bands = host.latent_band_bytes(preset, grid, on_device.chunk_tokens)
        kept = cache + source.beside + (bands if latents_on_disk else host.latent_bytes(preset, grid) + coarse_look)
        reading = host.reading_bytes(preset, source, batch)
        queue = host.residual_queue_bytes(preset, batch, config.residual_dtype)
        return {
            "encode": kept + reading + queue,
            "bottleneck": kept
            + bands
            + host.heads_bytes(preset, grid, group)
            + host.sorting_bytes(preset, grid, group),
            "decode": kept
            + queue
            + host.writing_bytes(preset, source, grid)
            + (reading if config.residuals in ("auto", "recompute") else 2 * source.block_bytes),
        }

    def steps(cache: int, latents_on_disk: bool, group: int) -> dict[str, int]:
        """Return the bytes of each step; the coarse look is one."""
        found = steps_of(grid, cache, latents_on_disk, group)
        if coarse is not None:
            look = max(steps_of(coarse, cache, latents_on_disk, group).values())
            found["coarse look"] = look + host.halving_bytes(source, coarse, batch, preset.tile)
        if source.beside:
            found["finish"] = cache + 3 * source.beside
        return found

    heads = preset.bottleneck_heads
    groups = [g for g in range(heads, 0, -1) if heads % g == 0]
    choices = [
        (size, *where)
        for size in dict.fromkeys((cache, least_cache))
        for where in (
            (False, False, heads),
            *((False, True, g) for g in groups[1:]),
            *((True, True, g) for g in groups),
        )
    ]
    needed = [steps(size, on_disk, group) for size, on_disk, _, group in choices]
    fitting = [i for i, step in enumerate(needed) if max(step.values()) <= config.ram]
    if not fitting:
        least = min(needed, key=lambda step: max(step.values()))
        worst = max(least, key=lambda name: least[name])
        blocks = ""
        if 4 * source.block_bytes > least[worst]:
            blocks = f", most of it for the source's blocks of {source.block_cols} x {source.block_rows} px"
        raise BudgetError(
            f"A host budget of {format_size(config.ram)} cannot hold the {worst} phase, which needs "
            f"{format_size(least[worst])}{blocks}. Give --ram at least {_least(least[worst])}."
        )
    at = fitting[0]
    chosen_cache, latents_on_disk, heads_on_disk, group = choices[at]
    taken = max(needed[at].values())
    batches = -(-grid.count // batch)
    # chunks of the store are whole batches, whatever is in the last one
    room = min(batches, (config.ram - taken) // (batch * row))
    tiles = [grid.count] if coarse is None else [grid.count, coarse.count]
    # of a tile
    latents = host.latent_bytes(preset, grid) // grid.count
    fields = 4 * preset.planes * (preset.tile // preset.field_stride) ** 2
    scratch = sum(tiles) * ((latents if latents_on_disk else 0) + (3 * latents if heads_on_disk else 0))
    scratch += coarse_look if latents_on_disk else 0

    def stored(in_memory: int) -> int:
        return sum(max(0, count - in_memory * batch) for count in tiles) * row

    def kept(in_memory: int) -> int:
        # latents on disk are kept as they are, those in memory are copied; and where residuals are not in
        # memory, what the bottleneck began with
        begun = sum(max(0, count - in_memory * batch) for count in tiles) * latents
        return begun + sum(tiles) * ((0 if latents_on_disk else latents) + fields)

    tier = _choose_tier(config, preset, room, batches, rates, scratch + stored(room) + kept(room), row)
    in_memory = {"dram": room, "ssd": 0, "recompute": 0}[tier]
    return _OnHost(
        tier,
        in_memory,
        latents_on_disk,
        heads_on_disk,
        group,
        chosen_cache,
        taken + in_memory * batch * row,
        scratch + (0 if tier == "recompute" else stored(in_memory)),
        kept(in_memory),
    )


def _choose_tier(
    config: RunConfig, preset: Preset, room: int, batches: int, rates: Rates | None, scratch: int, row: int
) -> Tier:
    if config.residuals != "auto":
        return config.residuals
    if room == batches:
        return "dram"
    storing: Tier = "dram" if room else "ssd"
    if rates is None:
        # a preset without residual cache is made for speed: encoding again beats a disk for it
        return storing if preset.cache_residuals else "recompute"
    if scratch > rates.scratch_free:
        return "recompute"
    # both ways run beside the network where they can; the disk's way is counted in full, to its disadvantage
    by_disk = row / rates.write_bytes + row / rates.read_bytes
    return storing if by_disk < 1 / rates.encode_tiles else "recompute"


def _least(size: int) -> str:
    return f"{-(-size // 1024**2)}M"
