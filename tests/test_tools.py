"""The scripts in tools/ that change weights: what they keep, and what they begin afresh."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def renew():
    sys.path.insert(0, str(ROOT / "tools"))
    import renew

    yield renew
    sys.path.remove(str(ROOT / "tools"))


@pytest.mark.parametrize("statistics", [True, False])
def test_renewed_weights_say_what_the_old_ones_said_where_their_coarse_stages_were_silent(
    renew, make_model, scene, statistics
):
    trained = make_model(residual_norms=False, centred_norms=(False,) * 4, tile_statistics=statistics)
    with torch.no_grad():
        # silent: the same whatever comes from below
        trained.decoder.expands[-1].linear.weight.zero_()
        trained.decoder.expands[-1].linear.bias.normal_()
    tiles = scene(128, 64)[0][None].view(1, 3, 2, 64, 64).transpose(1, 2).flatten(0, 1)
    with torch.inference_mode():
        before = renew.decode(trained, tiles)
        model = renew.renew(trained, tiles)
        after = renew.decode(model, tiles)
    assert before.std() > 0.01
    assert model.preset.residual_norms
    assert not torch.equal(model.bottleneck.layers[0].moe.gate.weight, trained.bottleneck.layers[0].moe.gate.weight)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)
