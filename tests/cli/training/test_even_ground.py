"""Even ground for training."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from infdehaze_cli.training.even_ground import GROUNDS, _bicubic, lay_even_ground


def drawn(seed: int, height: int = 64, width: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return picture, lay_even_ground(picture, np.random.default_rng(seed))


def test_a_part_is_covered_and_the_rest_stays():
    covered = []
    for seed in range(40):
        picture, laid = drawn(seed)
        covered.append(float((laid != picture).any(0).float().mean()))

    assert min(covered) < 0.5
    assert max(covered) == 1.0
    assert 0.3 < np.mean(covered) < 0.95


def test_what_is_covered_is_even():
    for seed in range(20):
        picture, laid = drawn(seed)
        changed = (laid != picture).all(0)
        if changed.float().mean() > 0.9:
            assert laid[:, changed].std(1).max() < 0.5 * picture.std()


def test_same_seed_same_ground():
    assert torch.equal(drawn(4)[1], drawn(4)[1])


@pytest.mark.parametrize(("cells", "side"), [(4, 64), (18, 100), (90, 64)])
def test_two_products_enlarge_as_bicubic_interpolation_does(cells, side):
    coarse = torch.randn(1, 3, cells, cells, generator=torch.Generator().manual_seed(0))
    weight = _bicubic(cells, side)
    expected = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    torch.testing.assert_close(weight @ coarse @ weight.T, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("colour", [colour for _, colour in GROUNDS], ids=lambda colour: colour.__name__)
def test_ground_has_a_colour_that_a_picture_can_have(colour):
    rng = np.random.default_rng(0)
    drawn = np.array([colour(rng) for _ in range(200)])
    assert drawn.shape == (200, 3)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.std(0).min() > 0.01
