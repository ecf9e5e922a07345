"""Predicted host memory of a run, step by step: what its data take, beside the code and its libraries.

N tokens with data, C channels of the latents, h attention heads.
"""

from __future__ import annotations

from dataclasses import dataclass

from infdehaze.presets import Preset
from infdehaze.smoothing import smoothing_reach
from infdehaze.tiling import TileGrid

from . import memory
from .store import row_bytes

MiB = 1024**2

QUEUE = 2
"""Batches, or windows, that wait between two threads."""

HALVED_ROWS = 64
"""Rows of the scene at half its size that are read at a time."""

CACHE_LEAST, CACHE_MOST = 16 * MiB, 256 * MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What of a source decides the memory that reading it takes. The defaults are a usual tiled picture."""

    bands: int = 3
    itemsize: int = 1
    block_rows: int = 256
    block_cols: int = 256
    has_mask: bool = False
    wants_haze: bool = False
    """Whether something beside the output needs the haze of each window: a map, a report, a VRT, other bands."""
    beside: int = 0
    """Bytes of what is gathered of the scene while it is run, and twice that on top when it is written: a VRT's."""

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in all bands, and its mask."""
        return self.bands * self.itemsize + self.has_mask

    @property
    def block_bytes(self) -> int:
        """Bytes of one block in all bands: what GDAL decodes at once, which in one-strip files is the scene."""
        return self.block_rows * self.block_cols * self.pixel_bytes


def cache_bytes(source: SourceFacts, grid: TileGrid) -> tuple[int, int]:
    """Return the least that GDAL's cache must hold, and what lets every block be decoded once a phase.

    Tiles, and the windows of the output, are read in rows; blocks that reach into the next row should wait for it. The
    least is the blocks of one handle; another handle's push them out.
    """
    rows = memory.COMPOSE_ROWS + 2 * source.block_rows
    once = 2 * rows * grid.padded_width * source.pixel_bytes
    least = max(CACHE_LEAST, source.block_bytes)
    return least, max(least, min(once, CACHE_MOST))


def reading_bytes(preset: Preset, source: SourceFacts, batch: int) -> int:
    """Bytes of tiles that are read, wait and are computed, and of the decoders of two handles of the source."""
    # native values, three floats, what is valid; the strip they are cut from, and the tiles
    tiles = batch * preset.tile**2 * (source.pixel_bytes + 2 * (12 + 1))
    return (QUEUE + 2) * tiles + 2 * source.block_bytes


def residual_queue_bytes(preset: Preset, batch: int, dtype: str) -> int:
    """Bytes of residuals on their way to or from the store, with the copies that Zarr makes."""
    return (QUEUE + 4) * batch * row_bytes(preset.stored_shapes, dtype)


def band_rows(preset: Preset) -> int:
    """Rows of cells that the joined fields hold at most."""
    # the windows to be put together, tiles that end below them, and what smoothing reaches above and below
    halo = smoothing_reach(*preset.field_sigmas, preset.texture) + 1
    return (2 * preset.tile + memory.COMPOSE_ROWS) // preset.field_stride + 2 * halo


def writing_bytes(preset: Preset, source: SourceFacts, grid: TileGrid) -> int:
    """Bytes of the joined fields, and of the windows that are read, restored and written."""
    stride = preset.field_stride
    cells = grid.padded_width // stride * band_rows(preset)
    # a band of fields and weights, and its copy when rows are dropped
    canvas = 2 * 4 * (preset.planes + 1) * cells
    if preset.coarse_share:
        # rows of the coarse look, as they lie on disk and as they are kept
        canvas += 2 * 4 * 10 * (grid.padded_width // (2 * stride)) * (2 * memory.COMPOSE_ROWS // stride)
    # native in and out, values, restored and as floats once more, what is valid
    window = memory.COMPOSE_PIXELS * (2 * source.pixel_bytes + 4 * 12 + 2 + 24 * source.wants_haze)
    # where one window's haze is turned into what is wanted, in float64 for a part
    working = memory.COMPOSE_PIXELS * 100 * source.wants_haze
    return canvas + (2 * QUEUE + 2) * window + working


def coarse_look_bytes(preset: Preset, coarse: TileGrid) -> int:
    """Bytes of the fields of the scene at half its size, whose tiles are ``coarse``, with the depth around."""
    return 4 * 10 * coarse.padded_height * coarse.padded_width // preset.field_stride**2


def halving_bytes(source: SourceFacts, coarse: TileGrid, batch: int, tile: int) -> int:
    """Bytes of the rows of the scene that are read at a time to be halved, for a strip of a batch of tiles."""
    cols = 2 * min(batch, coarse.cols) * tile
    # native values, floats, those that are valid, and their sums
    return 2 * HALVED_ROWS * cols * (source.pixel_bytes + 3 * 12 + 8)


def latent_bytes(preset: Preset, grid: TileGrid) -> int:
    """Bytes of the latents of the scene."""
    return 4 * grid.count * preset.latent_side**2 * preset.widths[-1]


def latent_band_bytes(preset: Preset, grid: TileGrid, chunk_tokens: int) -> int:
    """Bytes of the bands of latents that the bottleneck holds: the one above, the current and the next, and sums."""
    row = 4 * grid.cols * preset.latent_side * preset.widths[-1]
    rows = max(8, chunk_tokens // max(1, grid.cols * preset.latent_side))
    return 5 * (rows + 4) * row


def heads_bytes(preset: Preset, grid: TileGrid, heads: int) -> int:
    """Bytes of queries, keys and values of some heads; the result takes the place of the queries."""
    return 3 * latent_bytes(preset, grid) * heads // preset.bottleneck_heads


def sorting_bytes(preset: Preset, grid: TileGrid, heads: int) -> int:
    """Bytes of the hash codes of all heads, of the orders of some, and of the places of tokens with data."""
    tokens = grid.count * preset.latent_side**2
    return tokens * (2 * 2 * preset.bottleneck_heads + 3 * 8 * heads + 9)
