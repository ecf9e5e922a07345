"""Presets: the sizes of the paper, frozen, and refused when they make no sense."""

import dataclasses
import json

import pytest
import torch
from infdehaze.errors import CheckpointError
from infdehaze.network import InfDehaze, count_parameters
from infdehaze.presets import BASE, FAST, LITE, PRESETS, Preset

BROKEN = [
    {},
    {"name": "x"},
    {**LITE.to_dict(), "colour": "blue"},
    {**LITE.to_dict(), "tile": "large"},
    {**LITE.to_dict(), "tile": 250},
    {**LITE.to_dict(), "field_stride": 3},
]
NONSENSE = [
    {**LITE.to_dict(), "field_stride": 0},
    {**LITE.to_dict(), "stem_stride": -8},
    {**LITE.to_dict(), "tile": 0},
    {**LITE.to_dict(), "widths": [48, 64]},
    {**LITE.to_dict(), "heads": [5, 5, 5, 5]},
    {**LITE.to_dict(), "depths": [2.0, 2.0, 2.0, 2.0]},
    {**LITE.to_dict(), "overlap": 200},
    {**LITE.to_dict(), "overlap": 30},
    {**LITE.to_dict(), "hash_bits": 40},
    {**LITE.to_dict(), "thin_haze": [0.3, 0.1]},
    {**LITE.to_dict(), "thin_haze": [0.1]},
    {**LITE.to_dict(), "tile_statistics": False},
    {**LITE.to_dict(), "coarse_share": 1.0},
    {**LITE.to_dict(), "coarse_share": -0.1},
    {**LITE.to_dict(), "fixed_batch": 0},
    {**LITE.to_dict(), "gpu_batch": "64"},
    {**LITE.to_dict(), "gpu_batch": -1},
    {**LITE.to_dict(), "widths": [8, 8, 8, 8], "heads": [1, 1, 1, 1]},
    None,
    [],
]


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [(BASE, 343_200_136), (FAST, 306_273_248), (LITE, 6_380_031)],
    ids=lambda p: getattr(p, "name", ""),
)
def test_the_number_of_parameters_is_frozen(preset, parameters):
    with torch.device("meta"):
        assert count_parameters(InfDehaze(preset)) == parameters


def test_base_has_the_sizes_of_the_paper():
    assert BASE.widths[0] == 256
    assert BASE.depths == (2, 3, 4, 2)
    assert BASE.heads == (4, 4, 8, 16)
    assert BASE.bottleneck_depth == 4
    assert BASE.sfca_dim == 32
    assert BASE.tile == 256
    assert (BASE.block, BASE.cache_residuals) == ("swin", True)


def test_fast_has_two_convnext_layers_a_stage_and_no_cache():
    assert (FAST.block, FAST.depths, FAST.cache_residuals) == ("convnext", (2, 2, 2, 2), False)


@pytest.mark.parametrize(
    ("preset", "shapes"),
    [
        (BASE, ((64, 64, 256), (32, 32, 256), (16, 16, 512), (8, 8, 1024))),
        (FAST, ((64, 64, 256), (32, 32, 256), (16, 16, 512), (8, 8, 1024))),
        (LITE, ((32, 32, 48), (16, 16, 64), (8, 8, 96), (4, 4, 128))),
    ],
)
def test_residuals_have_known_shapes(preset, shapes):
    assert preset.residual_shapes == shapes
    assert preset.latent_side == shapes[-1][0]
    assert preset.residual_values == sum(h * w * c for h, w, c in shapes)


@pytest.mark.parametrize(
    ("side", "batch"), [(1, 1), (512, 1), (1023, 1), (1024, 4), (4096, 4), (4097, 16), (8192, 16), (30000, 16)]
)
def test_the_batch_follows_the_paper(side, batch):
    assert BASE.batch_for(side) == batch
    assert FAST.batch_for(side) == 64
    # ours, where small tiles are cheap and sixteen at a time are fastest
    assert LITE.batch_for(side) == 16
    assert (LITE.batch_for(side, on_gpu=True), FAST.batch_for(side, on_gpu=True)) == (64, 64)


def test_presets_go_by_their_names():
    assert {name: preset.name for name, preset in PRESETS.items()} == {"base": "base", "fast": "fast", "lite": "lite"}


@pytest.mark.parametrize("name", ["base", "fast", "lite", "tiny"])
def test_a_preset_survives_json(name, tiny):
    preset = {**PRESETS, "tiny": tiny}[name]
    assert Preset.from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


@pytest.mark.parametrize("fields", BROKEN)
def test_fields_that_make_no_preset_are_refused(fields):
    with pytest.raises(CheckpointError, match="does not know") as caught:
        Preset.from_dict(fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fields", NONSENSE, ids=range(len(NONSENSE)))
def test_fields_that_make_no_network_are_refused(fields):
    with pytest.raises(CheckpointError):
        Preset.from_dict(fields)


def test_presets_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LITE.tile = 512


@pytest.mark.parametrize(
    ("height", "width", "share"), [(1, 1, 0.0), (383, 4000, 0.0), (4000, 383, 0.0), (384, 384, 0.4), (30_000, 400, 0.4)]
)
def test_a_scene_is_looked_at_in_half_its_size_where_that_fills_most_of_a_tile(height, width, share):
    assert LITE.coarse_share_for(height, width) == share
    assert BASE.coarse_share_for(height, width) == 0
