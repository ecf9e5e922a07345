"""Predicted peak of live device bytes, phase by phase: formulas over the preset, the precision and the chunk sizes.

They are upper bounds that tests hold against a meter (measured <= predicted). T tokens of a map, C channels.
"""

from __future__ import annotations

from infdehaze.presets import Preset

COMPOSE_PIXELS = 512 * 1024
"""Pixels of the windows in which the restored picture is put together."""

CUDA_WORKSPACE = 64 * 1024**2
"""What the libraries take on a GPU beside tensors: cuBLAS (32 MiB on the largest), cuFFT, cuDNN. An estimate."""

PRECISION_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


def parameter_bytes(parameters: int) -> int:
    """Bytes of the weights on the device; they stay in fp32."""
    return 4 * parameters


def _layer_values(preset: Preset, stage: int) -> int:
    """Values alive at once, per tile, in a layer of a stage."""
    side, _, width = preset.residual_shapes[stage]
    tokens = side * side
    mlp = tokens * width * (3 + 2 * preset.mlp_ratio)
    if preset.block == "convnext":
        return int(tokens * width * (4 + 2 * preset.mlp_ratio))
    window = min(side, preset.window) ** 2
    # input, norm, query-key-value and their copies head by head; scores before and after the softmax
    attention = tokens * (11 * width + 2 * window * preset.heads[stage])
    return int(max(mlp, attention))


def _sfca_values(preset: Preset, stage: int) -> int:
    side, _, width = preset.residual_shapes[stage]
    # three bands, their spectra (complex, half of them), queries, keys, values, results
    return side * side * (2 * width + 20 * preset.sfca_dim) if preset.sfca[stage] else 0


def _tables_bytes(preset: Preset) -> int:
    """Bytes of the position indices and shift masks that attention keeps."""
    if preset.block != "swin":
        return 0
    total = 0
    for stage, depth in enumerate(preset.depths):
        side = preset.residual_shapes[stage][0]
        window = min(side, preset.window) ** 2
        index, mask = 8 * window**2, 4 * (side * side // window) * window**2
        total += 2 * (depth * index + depth // 2 * mask)
    return total


def encode_bytes(preset: Preset, batch: int, precision: str) -> int:
    """Peak of encoding ``batch`` tiles, without the weights."""
    pixels = preset.tile**2
    size = PRECISION_BYTES[precision]
    # the picture, its copy in patches, and a copy of those, for autocast or for the deviation, which takes two
    picture = 4 * 3 * pixels * (4 if preset.patch_statistics else 3)
    peak, kept = picture, 4 * 3 * pixels
    for stage in range(len(preset.widths)):
        h, w, c = preset.residual_shapes[stage]
        # sums and norms come out in fp32 under autocast
        extra = 4 * 3 * h * w * c if size == 2 else 0
        working = size * max(_layer_values(preset, stage), _sfca_values(preset, stage)) + extra
        if stage + 1 < len(preset.widths):
            working = max(working, 4 * 3 * h * w * c)
        peak = max(peak, kept + working)
        kept += 4 * h * w * c
    return batch * peak + _tables_bytes(preset) + _cast_bytes(preset, precision)


def decode_bytes(preset: Preset, batch: int, precision: str) -> int:
    """Peak of decoding ``batch`` tiles, without the weights: their residuals, one stage's work, and the fields."""
    size = PRECISION_BYTES[precision]
    # as they are stored, in half precision at best, and in fp32; the bottleneck's latents, stacked
    h, w, c = preset.residual_shapes[-1]
    given = 6 * preset.residual_values + 4 * h * w * c
    working = 0
    for stage in range(len(preset.widths)):
        h, w, c = preset.residual_shapes[stage]
        extra = 4 * 3 * h * w * c if size == 2 else 0
        working = max(working, size * _layer_values(preset, stage) + extra + 4 * h * w * c)
    h, w, c = preset.residual_shapes[0]
    fields = 9 * (preset.tile // preset.field_stride) ** 2
    head = 4 * (2 * h * w * c + 5 * fields)
    return batch * (given + max(working, head)) + _tables_bytes(preset) + _cast_bytes(preset, precision)


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
        Columns of the scene's latent grid; a band of rows is never narrower.
    """
    width, experts = preset.widths[-1], 7
    window = 8
    tokens = max(chunk_tokens, 2 * preset.block_tokens, window * grid_cols)
    windows = min(64, -(-grid_cols // window) * max(1, tokens // grid_cols // window))
    # windows with halo, widened and once more as the convolution wants them, then the convolved inside
    inside, whole = window**2, (window + 4) ** 2
    expert = windows * width * (whole + preset.expert_expansion * (2 * whole + inside))
    halo = tokens + 4 * grid_cols
    # ragged windows at the right and lower edge are padded
    padded = (tokens // grid_cols + window) * (grid_cols + window)
    mix = halo * (4 * width + 4 * experts) + padded * (3 * width + 4 * experts) + expert
    # the remainder joins the last block, and neighbours are seen on both sides
    seen = tokens + (3 if preset.neighbours else 1) * preset.block_tokens
    attend = seen * (14 if preset.neighbours else 12) * width + preset.bottleneck_heads * 4 * preset.block_tokens**2
    weights = 0
    if precision != "fp32":
        weights = width * width * preset.expert_expansion
    return int(4 * (max(mix, attend) + weights))


def compose_bytes(preset: Preset) -> int:
    """Peak of putting a window of the restored picture together: picture, nine fields enlarged, their products."""
    coarse = 9 * (COMPOSE_PIXELS // preset.field_stride**2 + 4096)
    return 4 * (COMPOSE_PIXELS * (3 + 9 + 15) + coarse)
