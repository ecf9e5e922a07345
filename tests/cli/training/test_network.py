"""Presets changed from the command line: what is understood, what is refused, and what can be left out."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from infdehaze.network import InfDehaze
from infdehaze.presets import BASE, LITE
from infdehaze.weights import load_model, save_weights

from infdehaze_cli.errors import UsageError
from infdehaze_cli.training.config import TrainConfig
from infdehaze_cli.training.network import make_network, override


def test_fields_are_changed_by_kind():
    items = [
        "widths=32,48,64,96",
        "heads = 2,3,4,6",
        "stem_stride=4",
        "sfca=false",
        "mlp_ratio=2",
        "neighbours=yes",
        "fixed_batch=none",
        "name=lite-32",
        "block=convnext",
        "moe=off",
    ]
    assert override(LITE, items) == replace(
        LITE,
        widths=(32, 48, 64, 96),
        heads=(2, 3, 4, 6),
        stem_stride=4,
        sfca=(False,) * 4,
        mlp_ratio=2.0,
        neighbours=True,
        fixed_batch=None,
        name="lite-32",
        block="convnext",
        moe=False,
    )
    assert override(BASE, ["sfca=true,false,true,false", "fixed_batch=4"]).sfca == (True, False, True, False)
    assert override(LITE, []) == LITE


@pytest.mark.parametrize(
    "item",
    [
        "widths",
        "=3",
        "colour=blue",
        "widths=32,48",
        "widths=32,48,64,x",
        "widths=50",
        "sfca=perhaps",
        "stem_stride=4.5",
        "stem_stride=0",
        "tile=250",
        "mlp_ratio=wide",
        "block=mamba",
        "name=",
        "name=a/b",
        "fixed_batch=few",
    ],
)
def test_nonsense_is_refused(item):
    with pytest.raises(UsageError) as caught:
        override(LITE, [item])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("change", [{"moe": False}, {"attention": False}, {"moe": False, "attention": False}])
def test_parts_of_the_bottleneck_can_be_left_out(tiny, scene, tmp_path, change):
    torch.manual_seed(0)
    whole, part = InfDehaze(tiny), InfDehaze(replace(tiny, **change))
    names = set(whole.state_dict()) - set(part.state_dict())
    gone = [
        word for word, kept in (("attention", "attention" not in change), ("moe.gate", "moe" not in change)) if not kept
    ]
    assert names
    assert all(any(word in name for name in names) for word in gone)
    restored = part.train()(scene(96, 96))
    (restored.image_B3HW.square().mean() + restored.balance).backward()
    part.decoder.head.linear.weight.data.normal_(std=0.1)
    # so that the norms of both passes take the same mean away
    part.requires_grad_(False)
    picture = scene(130, 100)
    with torch.no_grad():
        trained, used = part.train()(picture).image_B3HW, part.eval()(picture).image_B3HW
    torch.testing.assert_close(trained, used, atol=1e-5, rtol=1e-4)
    save_weights(tmp_path / "w.safetensors", part, {}, torch.float32)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "w.safetensors")(picture).image_B3HW, used)


def test_weights_keep_their_form_of_the_preset_that_is_named(tiny, tmp_path):
    before = InfDehaze(replace(tiny, residual_norms=False))
    save_weights(tmp_path / "before.safetensors", before, {})

    model = make_network(
        TrainConfig(data=Path(), out=Path(), preset="tiny", start=str(tmp_path / "before.safetensors"))
    )

    assert model.preset == before.preset
