"""JPEG artefacts for training."""

import numpy as np
import torch

from infdehaze_cli.training.jpeg import compress, compress_some


def ground(seed: int) -> torch.Tensor:
    noise = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.avg_pool2d(noise, 3, 1, 1)[0] * 255).to(torch.uint8)


def test_lower_quality_strays_further():
    picture = ground(0)

    errors = [(compress(picture, quality).float() - picture).abs().mean() for quality in (95, 75, 30)]

    assert 0 < errors[0] < errors[1] < errors[2] < 20


def test_share_decides_how_many_are_compressed():
    pictures = torch.stack([ground(seed) for seed in range(40)])

    none, half, every = (compress_some(pictures, share, np.random.default_rng(1)) for share in (0.0, 0.5, 1.0))

    def changed(out: torch.Tensor) -> int:
        return sum(not torch.equal(a, b) for a, b in zip(out, pictures, strict=True))

    assert changed(none) == 0
    assert 10 <= changed(half) <= 30
    assert changed(every) == 40


def test_same_seed_same_artefacts():
    pictures = torch.stack([ground(seed) for seed in range(6)])

    first, second = (compress_some(pictures, 0.5, np.random.default_rng(3)) for _ in range(2))

    assert torch.equal(first, second)
