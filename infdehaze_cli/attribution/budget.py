"""What an attribution takes, and how much is done at a time for that: formulas that tests hold against a meter.

The device holds one batch of tiles with the activations that their gradient needs, or a chunk of the bottleneck's
tokens, or the window, whatever the size of the scene; the host holds the latents and their gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

from infdehaze.field_window import FieldWindow
from infdehaze.presets import Preset

from infdehaze_cli import host_memory as host
from infdehaze_cli import memory
from infdehaze_cli.errors import BudgetError
from infdehaze_cli.host_memory import SourceFacts
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.sizes import format_size

from .fold import BAND_ROWS

CHUNK_TOKENS = 1024
"""Tokens of the bottleneck at a time, where the budget allows."""
LEAST_CHUNK = 64
"""The tokens of one window of LMMoE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionPlan:
    """How a window is attributed, and what it takes."""

    batch: int
    """Tiles at a time."""
    chunk_tokens: int
    device: str
    gdal_cache_bytes: int
    predicted_device_bytes: int
    predicted_host_bytes: int


def plan_attribution(
    config: RunConfig, field_window: FieldWindow, parameters: int, device: str, steps: int, source: SourceFacts
) -> AttributionPlan:
    """Choose how much is done at a time.

    Parameters
    ----------
    config : RunConfig
        What the user said: ``gpu_mem``, ``ram`` and ``batch`` count.
    field_window : FieldWindow
        What is attributed.
    parameters : int
        Values of the network.
    device : str
        Resolved.
    steps : int
        Points on the path.
    source : SourceFacts
        How the scene is stored.

    Raises
    ------
    BudgetError
        When ``gpu_mem`` or ``ram`` cannot hold it; the message names the worst step and the least that works.
    """
    preset, grid = field_window.preset, field_window.grid
    batch = config.batch or preset.batch_for(max(grid.height, grid.width))
    batch, chunk = min(batch, grid.count), CHUNK_TOKENS
    aside = memory.parameter_bytes(parameters) + (0 if device == "cpu" else memory.CUDA_WORKSPACE)

    def on_device() -> dict[str, int]:
        steps = device_bytes(field_window, batch, chunk)
        return {name: size + aside for name, size in steps.items()}

    while config.gpu_mem is not None and max(on_device().values()) > config.gpu_mem:
        phases = on_device()
        worst = max(phases, key=lambda name: phases[name])
        if worst == "bottleneck" and chunk > LEAST_CHUNK:
            chunk //= 2
        elif worst in ("encode", "gradient") and batch > 1 and config.batch is None:
            batch //= 2
        else:
            raise BudgetError(
                f"A budget of {format_size(config.gpu_mem)} cannot hold the {_PLACES[worst]}, which needs "
                f"{format_size(phases[worst])}. Give --gpu-mem at least {_least(phases[worst])}, or "
                f"{'a smaller --window' if worst == 'window' else 'cut a part out of the scene'}."
            )
    least_cache, cache = host.cache_bytes(source, grid)
    taken = host_bytes(field_window, batch, steps, source)
    while taken + least_cache > config.ram and batch > 1 and config.batch is None:
        batch //= 2
        taken = host_bytes(field_window, batch, steps, source)
    if taken + least_cache > config.ram:
        raise BudgetError(
            f"A host budget of {format_size(config.ram)} cannot hold the gradients of {steps} steps and the bands of "
            f"the map, which need {format_size(taken + least_cache)}. Give --ram at least "
            f"{_least(taken + least_cache)}, or fewer --steps."
        )
    cache = max(least_cache, min(cache, config.ram - taken))
    return AttributionPlan(
        batch=batch,
        chunk_tokens=chunk,
        device=device,
        gdal_cache_bytes=cache,
        predicted_device_bytes=max(on_device().values()),
        predicted_host_bytes=taken + cache,
    )


_PLACES = {
    "encode": "encoder on a tile",
    "gradient": "gradient of a tile",
    "bottleneck": "gradient of the bottleneck",
    "window": "window with its fields",
}


def _least(size: int) -> str:
    return f"{-(-size // 1024**2)}M"


def device_bytes(field_window: FieldWindow, batch: int, chunk_tokens: int) -> dict[str, int]:
    """Return the predicted peak of live device bytes of each step, without the weights."""
    preset, grid = field_window.preset, field_window.grid
    return {
        "encode": memory.encode_bytes(preset, batch, "fp32") + 12 * batch * preset.tile**2,
        "gradient": gradient_bytes(preset, batch),
        "bottleneck": bottleneck_bytes(preset, chunk_tokens, grid.cols * preset.latent_side),
        "window": window_bytes(field_window),
    }


def gradient_bytes(preset: Preset, batch: int) -> int:
    """Peak of encoding and decoding ``batch`` tiles with all that their gradient needs."""
    kept, working = 0, 0
    for stage, depth in enumerate(preset.depths):
        side, _, width = preset.residual_shapes[stage]
        values = side * side * width
        # inputs of both norms, queries, keys, values and results, the widened map and its activation
        layer = values * (9 + 2 * preset.mlp_ratio)
        sfca = side * side * (2 * width + 30 * preset.sfca_dim) if preset.sfca[stage] else 0
        # encoder and decoder; a residual, and its gradient
        kept += int(2 * depth * layer + sfca + 4 * values)
        working = max(working, int(values * (16 + 2 * preset.mlp_ratio)), sfca)
    # both ends of the path, the leaf, its filled copy, patches and their statistics, gradients and their sum
    statistics = (8 if preset.patch_statistics else 2) + (8 if preset.tile_statistics else 0)
    picture = 3 * preset.tile**2 * (8 + statistics)
    fields = 6 * preset.planes * (preset.tile // preset.field_stride) ** 2
    return 4 * batch * (kept + working + picture + fields) + memory.tables_bytes(preset)


def bottleneck_bytes(preset: Preset, chunk_tokens: int, grid_cols: int) -> int:
    """Peak of the bottleneck on a chunk of tokens, forward as in a run, and back."""
    width, experts, window, halo = preset.widths[-1], 7, 8, 2
    forward = memory.bottleneck_bytes(preset, chunk_tokens, grid_cols, "fp32")
    # tokens, their norm, queries, keys and values, the gradients of all these, and what is added
    project = 14 * chunk_tokens * width
    # the remainder joins the last block, and neighbours are seen on both sides, each key by three blocks
    seen = max(chunk_tokens, preset.block_tokens) + (3 if preset.neighbours else 1) * preset.block_tokens
    head = seen * width // preset.bottleneck_heads * (28 if preset.neighbours else 16)
    attend = seen * width + head + 4 * preset.block_tokens**2
    inside, whole = window**2, (window + 2 * halo) ** 2
    per_window = width * (whole * (preset.expert_expansion + 2) + inside * (preset.expert_expansion + 3))
    # windows of one row at a time
    mix = experts * max(1, min(chunk_tokens // inside, -(-grid_cols // window))) * per_window
    return max(forward, 4 * max(project, attend, mix))


def window_bytes(field_window: FieldWindow) -> int:
    """Peak of the objective's gradient: the fields of the tiles, smoothed over cells, enlarged to pixels."""
    preset = field_window.preset
    pixels = (field_window.height + 2 * preset.field_stride) * (field_window.width + 2 * preset.field_stride)
    side = preset.tile // preset.field_stride
    return 4 * (90 * pixels + 100 * field_window.cells + 60 * len(field_window.tiles) * side**2 * 3)


def host_bytes(field_window: FieldWindow, batch: int, steps: int, source: SourceFacts) -> int:
    """Peak of host memory, beside the program and GDAL's cache."""
    preset, grid = field_window.preset, field_window.grid
    latents = host.latent_bytes(preset, grid)
    tiles = len(field_window.tiles)
    side = preset.tile // preset.field_stride
    # the inputs of the layers; one layer's, what attention adds, queries, keys and values with codes and orders, the
    # result, and gradients
    pullback = (preset.bottleneck_depth + 10) * latents
    # what the gradient of each point begins with: at all latents, and at the window's tiles
    each = latents + tiles * (latents // grid.count + 4 * preset.planes * side**2)
    window = 4 * 3 * 4 * field_window.height * field_window.width
    # the band that grows, its copy, and the one that is handed on, with weights and distances of some rows
    band = grid.width * (3 * 12 * (BAND_ROWS + 2 * grid.tile) + 64 * 40)
    reading = 2 * host.reading_bytes(preset, source, batch)
    map_blocks = 12 * BAND_ROWS * grid.width
    return 3 * latents + pullback + steps * each + window + band + reading + map_blocks
