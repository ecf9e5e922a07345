"""Hazy scenes as statistics of their patches, made of clear ones at no cost, for ``fit_bottleneck.py``.

Haze moves the darkest, brightest and mean values of a patch as it moves pixels, and scales their deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from drawing import draw_rows
from infdehaze.statistics import PATCH, TileStatistics, patch_statistics
from torch import Tensor

from infdehaze_cli.training.clear import ClearFolder
from infdehaze_cli.training.data import Batch

SIDE, SENSOR = 512, 0.012
"""Pixels of a picture's side, and the largest deviation of sensor noise."""
LOW, HIGH, MEAN, DEVIATION = slice(0, 3), slice(4, 7), slice(8, 11), slice(12, 15)
"""Where a patch's statistics of three bands are; between them the least, the largest and saturation."""


@dataclass
class Ground:
    """Clear pictures as statistics of their patches (h, w), N of them, and the haze that was drawn for each."""

    clear_NShw: Tensor
    depth_N3hw: Tensor
    airlight_N3: Tensor


@dataclass
class Scene:
    """What is known of B hazy scenes, cell by cell of the latents."""

    features_BhwF: Tensor
    depth_B3hw: Tensor
    airlight_B311: Tensor
    hazy_B3hw: Tensor
    clear_B3hw: Tensor


def draw(data: ClearFolder, seconds: float, seed: int) -> Ground:
    """Draw pictures for so many seconds, and keep what `Ground` has of them."""

    def keep(batch: Batch) -> list[Tensor]:
        assert batch.depth_B3HW is not None
        assert batch.airlight_B311 is not None
        depth = F.avg_pool2d(batch.depth_B3HW, PATCH).half()
        return [patch_statistics(batch.clear_B3HW).half(), depth, batch.airlight_B311.flatten(1)]

    return Ground(*draw_rows(data, SIDE, 4, seconds, seed, keep))


def lay_haze(clear_BShw: Tensor, depth_B3hw: Tensor, airlight_B311: Tensor, noise_B111: Tensor) -> Tensor:
    """Return the statistics of patches under haze, with sensor noise of the given deviation."""
    left = torch.exp(-depth_B3hw)
    light = airlight_B311 * (1 - left)
    low, high, mean = ((clear_BShw[:, bands] + 1) / 2 * left + light for bands in (LOW, HIGH, MEAN))
    deviation = ((clear_BShw[:, DEVIATION] / 4).square() - 1e-6).clamp(min=0).sqrt() * left
    noisy = (deviation.square() + noise_B111.square()).sqrt()
    # the extremes of 64 values of normal noise are some 2.4 deviations away
    further = 2.4 * (noisy - deviation)
    low, high, mean = (x.clamp(0, 1) for x in (low - further, high + further, mean))
    saturation = mean.amax(1, keepdim=True) - mean.amin(1, keepdim=True)
    levels = torch.cat([low, low.amin(1, keepdim=True), high, high.amax(1, keepdim=True), mean], 1) * 2 - 1
    return torch.cat([levels, saturation * 2, (noisy.square() + 1e-6).sqrt() * 4], 1)


def mirrored(x_BChw: Tensor, copies: int) -> Tensor:
    """Return maps with so many copies of them a side, a power of two, every second one mirrored."""
    while copies > 1:
        x_BChw = torch.cat([x_BChw, x_BChw.flip(-1)], -1)
        x_BChw = torch.cat([x_BChw, x_BChw.flip(-2)], -2)
        copies //= 2
    return x_BChw


class Drawer:
    """Puts scenes together from the pictures ``first`` to ``last`` of some ground."""

    def __init__(self, ground: Ground, module: TileStatistics, tile: int, first: int, last: int, seed: int) -> None:
        self.ground, self.module, self.tile, self.first, self.last = ground, module, tile, first, last
        self.generator = torch.Generator().manual_seed(seed)

    def _share(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def _some(self, count: int) -> Tensor:
        return torch.randint(self.first, self.last, (count,), generator=self.generator)

    def scenes(self, side: int, count: int) -> Scene:
        """Draw scenes of ``side`` pictures each way."""
        copies = 1
        if side > 2 and self._share(1) < 0.2:
            # larger, with nothing else to see
            copies = 2 ** int(torch.randint(1, side.bit_length() - 1, (), generator=self.generator))
        side //= copies
        ground, haze = self._some(count * side**2).view(count, -1), self._some(count)
        for row, chance in zip(ground, self._share(count), strict=True):
            # some show one kind of ground, or two
            kinds = 1 if chance < 0.25 else 2 if chance < 0.45 else len(row)
            row.copy_(row[torch.arange(len(row)) % kinds][torch.randperm(len(row), generator=self.generator)])
        clear = self._turned(self.ground.clear_NShw[ground.flatten()].float())
        h, w = clear.shape[2:]
        clear = clear.view(count, side, side, -1, h, w).permute(0, 3, 1, 4, 2, 5).reshape(count, -1, side * h, side * w)
        depth = self._turned(self.ground.depth_N3hw[haze].float())
        if side > 2:
            # finer structure than that of a field drawn out over all
            finer = 2 ** int(torch.randint(side.bit_length() - 1, (), generator=self.generator))
            depth = mirrored(depth, finer)
        depth = F.interpolate(depth, size=clear.shape[2:], mode="bilinear") * (0.75 + 0.5 * self._share(count, 1, 1, 1))
        airlight = self.ground.airlight_N3[haze][:, :, None, None]
        hazy = lay_haze(clear, depth, airlight, SENSOR * self._share(count, 1, 1, 1))
        cell = self.tile // PATCH // self.module.side
        hazy_mean, clear_mean = ((x[:, MEAN] + 1) / 2 for x in (hazy, clear))
        cells = (F.avg_pool2d(x, cell) for x in (depth, hazy_mean, clear_mean))
        depth, hazy_mean, clear_mean = (mirrored(x, copies) for x in cells)
        return Scene(self._features(mirrored(hazy, copies)), depth, airlight, hazy_mean, clear_mean)

    def _turned(self, x_BCHW: Tensor) -> Tensor:
        for turn in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2)):
            chosen = self._share(len(x_BCHW)) < 0.5
            x_BCHW[chosen] = turn(x_BCHW[chosen])
        return x_BCHW

    def _features(self, maps_BSHW: Tensor) -> Tensor:
        B, S, H, W = maps_BSHW.shape
        n, side = self.tile // PATCH, self.module.side
        rows, cols = H // n, W // n
        tiles = maps_BSHW.view(B, S, rows, n, cols, n).permute(0, 2, 4, 1, 3, 5).reshape(-1, S, n, n)
        features = self.module.rank(tiles).view(B, rows, cols, side, side, -1)
        return features.permute(0, 1, 3, 2, 4, 5).reshape(B, rows * side, cols * side, -1)
