"""JPEG artefacts for training."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from infdehaze_cli.training.jpeg import compress, compress_some


def ground(seed, height=40, width=56):
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.avg_pool2d(noise, 5, 1, 2)[0] * 255).round()


def stream(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("quality", [30, 60, 75, 92])
@pytest.mark.parametrize("shape", [(48, 64), (37, 51)])
def test_a_picture_comes_out_nearly_as_from_libjpeg(quality, shape):
    picture, stored = ground(0, *shape), io.BytesIO()
    rows = picture.permute(1, 2, 0).numpy().astype(np.uint8)
    Image.fromarray(rows).save(stored, "JPEG", quality=quality, subsampling="4:2:0")
    expected = torch.from_numpy(np.array(Image.open(stored))).permute(2, 0, 1).float()

    found = compress(picture[None], torch.tensor([float(quality)]))[0]

    # what rounding on the way makes, and far from what the compression makes
    assert (found - expected).abs().mean() < 1.2 < (expected - picture).abs().mean() / 3


def test_lower_quality_strays_further():
    picture = ground(0)[None]

    errors = [float((compress(picture, torch.tensor([q])) - picture).abs().mean()) for q in (95.0, 75.0, 30.0)]

    assert 0 < errors[0] < errors[1] < errors[2] < 20


def test_share_decides_how_many_are_compressed():
    pictures = torch.stack([ground(seed) for seed in range(40)])

    none, some, every = (compress_some(pictures, share, stream(1)) for share in (0.0, 0.26, 1.0))

    def changed(out):
        return sum(not torch.equal(a, b) for a, b in zip(out, pictures, strict=True))

    assert changed(none) == 0
    assert changed(some) in (10, 11)
    assert changed(every) == 40


def test_of_small_batches_a_share_is_compressed_at_times():
    picture = ground(0)[None]

    changed = sum(not torch.equal(compress_some(picture, 0.25, stream(seed)), picture) for seed in range(40))

    assert 3 <= changed <= 18


def test_same_seed_same_artefacts():
    pictures = torch.stack([ground(seed) for seed in range(6)])

    first, second = (compress_some(pictures, 0.5, stream(3)) for _ in range(2))

    assert torch.equal(first, second)


def test_values_stay_whole_and_in_range():
    picture = (ground(4) > 120).float()[None] * 255

    found = compress(picture, torch.tensor([40.0]))

    assert torch.equal(found, found.round())
    assert 0 <= found.min() <= found.max() <= 255
