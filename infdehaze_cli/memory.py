"""Predicted peak of live device bytes, phase by phase: formulas over the preset, the precision and the chunk sizes.

They are upper bounds that tests hold against a meter (measured <= predicted). T tokens of a map, C channels.
"""

from __future__ import annotations

from infdehaze.presets import Preset
from infdehaze.smoothing import smoothing_radius

COMPOSE_ROWS, COMPOSE_COLS = 512, 1024
"""The windows in which the restored picture is put together."""
COMPOSE_PIXELS = COMPOSE_ROWS * COMPOSE_COLS

CUDA_WORKSPACE = 64 * 1024**2
"""What the libraries take on a GPU beside tensors: cuBLAS (32 MiB on the largest), cuFFT, cuDNN. An estimate."""

PRECISION_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


def predict_device_bytes(
    preset: Preset,
    parameters: int,
    batch: int,
    chunk_tokens: int,
    grid_cols: int,
    precision: str,
    stored: int = 2,
    on_gpu: bool = False,
) -> dict[str, int]:
    """Return the predicted peak of live device bytes of each phase, weights included.

    Parameters
    ----------
    preset : Preset
        The network.
    parameters : int
        Its number of values.
    batch : int
        Tiles at a time.
    chunk_tokens : int
        Tokens of the bottleneck at a time.
    grid_cols : int
        Columns of the scene's latent grid.
    precision : str
        Of the computation.
    stored : int
        Bytes of a residual's value in its store.
    on_gpu : bool
        Whether the device is one: autocast keeps more in fp32 there.
    """
    weights = parameter_bytes(parameters)
    return {
        "encode": weights + encode_bytes(preset, batch, precision, on_gpu),
        "bottleneck": weights + bottleneck_bytes(preset, chunk_tokens, grid_cols, precision),
        "decode": weights + decode_bytes(preset, batch, precision, stored, on_gpu),
        "compose": weights + compose_bytes(preset),
    }


def parameter_bytes(parameters: int) -> int:
    """Bytes of the weights on the device; they stay in fp32."""
    return 4 * parameters


def _layer_values(preset: Preset, stage: int) -> int:
    """Values alive at once, per tile, in a layer of a stage."""
    side, _, width = preset.residual_shapes[stage]
    tokens = side * side
    # the stage's input, the layer's, what is added to it and its norm; the widened map before and after its activation
    mlp = 4 + 2 * preset.mlp_ratio
    # the same four, moved, as windows, query-key-value and their copies head by head
    attention = 12 if preset.block == "swin" else 0
    return int(tokens * width * max(mlp, attention))


def _sfca_values(preset: Preset, stage: int) -> int:
    side, _, width = preset.residual_shapes[stage]
    # three bands, their spectra (complex, half of them), queries, keys, values, results
    return side * side * (2 * width + 20 * preset.sfca_dim) if preset.sfca[stage] else 0


def tables_bytes(preset: Preset) -> int:
    """Bytes of the position indices and shift masks that attention keeps, and of the largest bias made of them."""
    if preset.block != "swin":
        return 0
    total, bias = 0, 0
    for stage, depth in enumerate(preset.depths):
        side = preset.residual_shapes[stage][0]
        window = min(side, preset.window) ** 2
        index, mask = 8 * window**2, 4 * (side * side // window) * window**2
        total += 2 * (depth * index + depth // 2 * mask)
        bias = max(bias, 2 * mask * preset.heads[stage])
    return total + bias


def encode_bytes(preset: Preset, batch: int, precision: str, on_gpu: bool = False) -> int:
    """Peak of encoding ``batch`` tiles, without the weights."""
    pixels = preset.tile**2
    size = PRECISION_BYTES[precision]
    # while gaps are filled: the values, the known ones, their weight, the result
    fill = 3 * 3 + 1
    # the picture, its copy in patches, and a copy of those, for autocast or for the deviation, which takes two
    embed = 3 * (4 if preset.patch_statistics or preset.tile_statistics else 3)
    # the dark channel as it is, and beside its mean
    dark = 2 * 4 * (preset.tile // preset.field_stride) ** 2 if preset.texture else 0
    # and what is valid
    peak, kept = pixels * (1 + 4 * max(fill, embed)) + dark, pixels * (1 + 4 * 3) + dark
    for stage in range(len(preset.widths)):
        h, w, c = preset.residual_shapes[stage]
        extra = _fp32_bytes(h * w * c, precision, on_gpu)
        working = size * max(_layer_values(preset, stage), _sfca_values(preset, stage)) + extra
        if stage + 1 < len(preset.widths):
            working = max(working, 4 * 3 * h * w * c)
        peak = max(peak, kept + working)
        kept += 4 * h * w * c
    return batch * peak + tables_bytes(preset) + _cast_bytes(preset, precision)


def decode_bytes(preset: Preset, batch: int, precision: str, stored: int = 2, on_gpu: bool = False) -> int:
    """Peak of decoding ``batch`` tiles, without the weights: their residuals, one stage's work, and the fields."""
    size = PRECISION_BYTES[precision]
    # the dark channel beside its mean, the mean, and both together
    dark = 3 * (preset.tile // preset.field_stride) ** 2 if preset.texture else 0
    # as they are stored, and in fp32; the bottleneck's latents, stacked
    h, w, c = preset.residual_shapes[-1]
    # with coarse fields written back into the last residual
    given = (4 + stored) * (preset.residual_values + dark) + (4 if not preset.tile_statistics else 14) * h * w * c
    working = 0
    for stage in range(len(preset.widths)):
        h, w, c = preset.residual_shapes[stage]
        extra = _fp32_bytes(h * w * c, precision, on_gpu)
        working = max(working, size * _layer_values(preset, stage) + extra + 4 * h * w * c)
    h, w, c = preset.residual_shapes[0]
    fields = preset.planes * (preset.tile // preset.field_stride) ** 2
    head = 4 * (2 * h * w * c + (7 if preset.tile_statistics else 5) * fields)
    return batch * (given + max(working, head)) + tables_bytes(preset) + _cast_bytes(preset, precision)


def _fp32_bytes(values: int, precision: str, on_gpu: bool) -> int:
    """What stays in fp32 under autocast, for a map of so many values: sums and norms; an H100 took five."""
    return 0 if precision == "fp32" else 4 * (6 if on_gpu else 3) * values


def _cast_bytes(preset: Preset, precision: str) -> int:
    """Autocast makes a half-precision copy of one layer's weights at a time; count two."""
    if precision == "fp32":
        return 0
    widest = max(preset.widths)
    return int(2 * 2 * widest * widest * max(4, preset.mlp_ratio))


def bottleneck_bytes(preset: Preset, chunk_tokens: int, grid_cols: int, precision: str) -> int:
    """Peak of the streamed bottleneck, without the weights.

    Parameters
    ----------
    chunk_tokens : int
        Tokens on the device at a time.
    grid_cols : int
        Columns of the scene's latent grid.
    """
    width, experts = preset.widths[-1], 7
    window = 8
    tokens = max(chunk_tokens, 2 * preset.block_tokens, window * window)
    # a row of windows that is longer than a chunk is cut
    cols = min(grid_cols, tokens // window)
    rows = max(window, tokens // cols)
    windows = min(64, -(-cols // window) * -(-rows // window))
    # windows with halo, widened and once more as the convolution wants them, then the convolved inside
    inside, whole = window**2, (window + 4) ** 2
    expert = windows * width * (whole + preset.expert_expansion * (2 * whole + inside))
    halo = (rows + 4) * (cols + 4)
    # ragged windows at the right and lower edge are padded
    padded = (rows + window) * (cols + window)
    mix = halo * (4 * width + 4 * experts) + padded * (3 * width + 4 * experts) + expert
    # the remainder joins the last block, and neighbours are seen on both sides
    seen = tokens + (3 if preset.neighbours else 1) * preset.block_tokens
    attend = seen * (14 if preset.neighbours else 12) * width + preset.bottleneck_heads * 4 * preset.block_tokens**2
    weights = 0
    if precision != "fp32":
        weights = width * width * preset.expert_expansion
    return int(4 * (max(mix, attend) + weights))


def compose_bytes(preset: Preset) -> int:
    """Peak of putting a window of the restored picture together."""
    stride = preset.field_stride
    # whole cells, and one around them for enlarging
    rows, cols = COMPOSE_ROWS // stride + 3, COMPOSE_COLS // stride + 3
    reach = 2 * smoothing_radius(max(preset.field_sigmas))
    # nine fields and their weight, smoothed along rows and columns, then divided, and put together again
    smooth = (rows + reach) * (cols + reach) * (3 * 10 + 5 * 9)
    # the same fields, copied and enlarged; the picture, and the products of both
    whole = rows * cols * 9 * (2 + stride**2) + COMPOSE_PIXELS * (3 + 15)
    return 4 * max(smooth, whole)
