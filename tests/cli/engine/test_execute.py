"""The streamed engine equals the plain network, whatever the batch, the tier, the chunks and the holes."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.ibssa import block_bounds

TIERS = ["dram", "ssd", "recompute"]
BATCHES = [1, 3, 4, 16, 64]
SIZES = [(1, 1), (1, 200), (37, 50), (64, 64), (65, 63), (60, 310), (113, 233)]
CLOSE = 1e-4


def gap(first, second):
    return float(np.abs(first - second).max())


CORRECTED = {"tile_statistics": True, "bottleneck_corrects": True}


@pytest.mark.parametrize("overlap", [0, 32])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("tier", TIERS)
def test_streaming_equals_the_plain_network(engine, model, hazy, valid, tier, batch, overlap):
    outcome = engine.run(model, hazy, valid, residuals=tier, batch=batch, overlap=overlap, chunk_tokens=16)
    plain = engine.plain(model, hazy, valid, overlap=overlap)
    assert gap(outcome.image[:, valid], plain[:, valid]) < CLOSE
    assert gap(plain, hazy) > 0.1
    assert len(block_bounds(outcome.plan.tokens, 4)) > 2


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_of_scene_equals_the_plain_network(engine, model, picture, height, width, tier):
    hazy = picture(height, width)
    outcome = engine.run(model, hazy, residuals=tier, batch=4)
    assert gap(outcome.image, engine.plain(model, hazy)) < CLOSE


@pytest.mark.parametrize(("height", "width"), [(200, 230), (300, 700)])
def test_tiles_of_256_pixels_equal_the_plain_network(engine, make_model, picture, holes, height, width):
    model, hazy, valid = (
        make_model(tile=256, overlap=32, block_tokens=8, depths=(1, 1, 1, 1)),
        picture(height, width),
        holes(height, width),
    )
    outcome = engine.run(model, hazy, valid, batch=4, chunk_tokens=32)
    assert outcome.plan.tokens == outcome.plan.tiles * 16
    assert gap(outcome.image[:, valid], engine.plain(model, hazy, valid)[:, valid]) < CLOSE


@pytest.mark.parametrize("chunk_tokens", [1, 8, 40, 100_000])
@pytest.mark.parametrize("neighbours", [False, True])
def test_chunks_of_any_size_equal_the_plain_network(engine, make_model, picture, neighbours, chunk_tokens):
    model, hazy = make_model(block_tokens=2, depths=(1, 1, 1, 1), neighbours=neighbours), picture(620, 150)
    outcome = engine.run(model, hazy, overlap=0, batch=16, chunk_tokens=chunk_tokens)
    assert gap(outcome.image, engine.plain(model, hazy, overlap=0)) < CLOSE
    # blocks have neighbours on both sides, and at 8 rows of tokens a band there are two bands
    assert len(block_bounds(outcome.plan.tokens, 2)) > 10
    assert outcome.plan.tile_rows > 8


@pytest.mark.parametrize(
    "change",
    [
        {"moe": False},
        {"attention": False},
        {"tile_statistics": True},
        CORRECTED,
        {"thin_haze": (0.1, 0.6), "airlight_smoothing": 12.0},
        {"thin_haze": (0.1, 0.6), "smoothing": 10.0, "airlight_smoothing": 30.0, "coarse_share": 0.4},
        {"smoothing": 10.0, "texture": 0.001},
        {
            "smoothing": 10.0,
            "airlight_smoothing": 12.0,
            "texture": 0.001,
            "coarse_share": 0.4,
            "tile_statistics": True,
            "bottleneck_corrects": True,
        },
    ],
)
def test_a_network_with_a_part_left_out_or_added_equals_the_plain_network(engine, make_model, picture, change):
    model, hazy = make_model(block_tokens=4, **change), picture(140, 200)
    outcome = engine.run(model, hazy, chunk_tokens=16)
    assert gap(outcome.image, engine.plain(model, hazy)) < CLOSE
    assert outcome.measured.peak_device_bytes <= outcome.plan.predicted_device_bytes


@pytest.mark.parametrize(
    "smoothing",
    [
        {"smoothing": 4.0},
        {"smoothing": 20.0},
        {"smoothing": 20.0, "airlight_smoothing": 60.0},
        {"airlight_smoothing": 30.0},
        {"smoothing": 20.0, "texture": 0.001},
        {"smoothing": 20.0, "airlight_smoothing": 60.0, "texture": 0.001},
    ],
)
@pytest.mark.parametrize("field_stride", [4, 16])
def test_smoothed_fields_equal_the_plain_network(engine, make_model, picture, holes, field_stride, smoothing):
    model = make_model(depths=(1, 1, 1, 1), field_stride=field_stride, **smoothing)
    hazy, valid = picture(600, 150), holes(600, 150)
    outcome = engine.run(model, hazy, valid, batch=16)
    assert gap(outcome.image[:, valid], engine.plain(model, hazy, valid)[:, valid]) < CLOSE


@pytest.mark.parametrize("tier", TIERS)
def test_black_edges_of_which_nothing_is_said_equal_the_plain_network(engine, make_model, picture, tier):
    model, hazy = make_model(**CORRECTED, smoothing=10.0, coarse_share=0.4), picture(420, 450)
    ground = np.arange(450) + 0.3 * np.arange(420)[:, None] > 300
    hazy[:, ~ground] = 0

    outcome = engine.run(model, hazy, residuals=tier, batch=4, chunk_tokens=16)

    assert gap(outcome.image, engine.plain(model, hazy)) < CLOSE
    # tiles of nothing but black count as tiles without data, and what they border on is not drawn to them
    said = engine.run(model, hazy, ground, residuals=tier, batch=4, chunk_tokens=16)
    assert gap(outcome.image[:, ground], said.image[:, ground]) < 0.1 * gap(said.image[:, ground], hazy[:, ground])


def test_windows_wider_and_higher_than_one_of_the_output_fit_together(engine, model, picture):
    hazy = picture(520, 1030)
    assert gap(engine.run(model, hazy, batch=16).image, engine.plain(model, hazy)) < CLOSE


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 160),
    width=st.integers(1, 160),
    overlap=st.sampled_from([0, 8, 16, 24, 32]),
    batch=st.integers(1, 12),
    tier=st.sampled_from(TIERS),
    chunk_tokens=st.integers(1, 64),
    cover=st.sampled_from(["none", "holes", "half"]),
    seed=st.integers(0, 9),
)
def test_any_run_equals_the_plain_network(
    make_engine, model, picture, holes, height, width, overlap, batch, tier, chunk_tokens, cover, seed
):
    hazy, valid = picture(height, width, seed=seed), holes(height, width, seed=seed)
    if cover == "none":
        valid[:] = True
    elif cover == "half":
        valid[:, width // 2 :] = False
    with TemporaryDirectory() as scratch:
        outcome = make_engine(Path(scratch)).run(
            model, hazy, valid, overlap=overlap, batch=batch, residuals=tier, chunk_tokens=chunk_tokens
        )
        assert list(Path(scratch).iterdir()) == []
    plain = make_engine(None).plain(model, hazy, valid, overlap=overlap)
    if valid.any():
        assert gap(outcome.image[:, valid], plain[:, valid]) < CLOSE


@pytest.mark.parametrize("residual_dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("batch", [3, 16])
def test_tiers_give_the_same_pixels_bit_for_bit(engine, model, hazy, valid, batch, residual_dtype):
    first, *others = (
        engine.run(model, hazy, valid, residuals=tier, batch=batch, residual_dtype=residual_dtype).image
        for tier in TIERS
    )
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("residual_dtype", ["fp32", "fp16", "bf16", "int8"])
def test_batches_and_chunks_give_the_same_pixels_bit_for_bit(engine, make_model, picture, holes, residual_dtype):
    # of the shapes of a real network: products of a handful of rows, as tiny tiles make, round differently
    model = make_model(tile=256, overlap=32, block_tokens=32, depths=(1, 1, 1, 1), sfca=(False, True, True, False))
    hazy, valid = picture(700, 600), holes(700, 600)
    first, *others = (
        engine.run(model, hazy, valid, batch=batch, residual_dtype=residual_dtype, chunk_tokens=chunk).image
        for batch, chunk in zip(BATCHES, [64, 1000, 100, 72, 128], strict=True)
    )
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("codec", ["lz4", "zstd", "blosc"])
def test_compressed_chunks_give_the_same_pixels_bit_for_bit(engine, model, hazy, codec):
    plain, packed = (engine.run(model, hazy, residuals="ssd", codec=c).image for c in ("none", codec))
    assert np.array_equal(plain, packed)


ON_DISK = {
    "some batches": {"batches_in_memory": 2},
    "heads": {"heads_on_disk": True, "heads_at_a_time": 1},
    "latents": {"latents_on_disk": True},
    "all": {"batches_in_memory": 0, "heads_on_disk": True, "heads_at_a_time": 2, "latents_on_disk": True},
}


@pytest.mark.parametrize("kind", ON_DISK)
def test_what_goes_to_disk_gives_the_same_pixels_bit_for_bit(engine, model, hazy, valid, kind):
    in_memory, on_disk = (
        engine.run(model, hazy, valid, batch=3, chunk_tokens=16, changes=changes) for changes in ({}, ON_DISK[kind])
    )
    assert np.array_equal(in_memory.image, on_disk.image)
    assert in_memory.measured.scratch_bytes == 0 < on_disk.measured.scratch_bytes
    assert list(engine.scratch.iterdir()) == []


def test_a_run_repeats_bit_for_bit(engine, model, hazy, valid):
    first, second = (engine.run(model, hazy, valid, residuals="ssd").image for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("residual_dtype", "limit"), [("fp16", 0.01), ("bf16", 0.05), ("int8", 0.05)])
def test_half_the_bytes_of_residuals_stay_close(engine, model, hazy, residual_dtype, limit):
    outcome = engine.run(model, hazy, residual_dtype=residual_dtype)
    difference = np.abs(outcome.image - engine.plain(model, hazy))
    assert 0 < float(difference.mean()) < limit


def test_bf16_computation_stays_close(engine, make_model, picture):
    # attention over all tokens: a hash code that turns over would move a token to another block
    model, hazy = make_model(block_tokens=1000), picture(100, 130)
    difference = np.abs(engine.run(model, hazy, precision="bf16").image - engine.plain(model, hazy))
    assert 0 < float(difference.mean()) < 0.05


def test_a_scene_without_data_comes_back_as_it_is(engine, model, hazy):
    outcome = engine.run(model, hazy, np.zeros(hazy.shape[1:], bool))
    assert (outcome.image == 0).all()


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_the_haze_that_is_told_explains_the_change(engine, make_model, hazy, valid, strength):
    model = make_model(block_tokens=4)
    outcome = engine.run(model, hazy, valid, strength=strength)
    with torch.inference_mode():
        fields = model(
            torch.from_numpy(np.where(valid, hazy, np.float32(0)))[None], valid_BHW=torch.from_numpy(valid)[None]
        )
    depth, airlight = outcome.haze[:3], outcome.haze[3:]
    expected = fields.fields_B9HW[0].numpy()
    assert gap(depth[:, valid], strength * expected[:3][:, valid]) < CLOSE
    assert gap(airlight[:, valid], expected[3:6][:, valid]) < CLOSE
    explained = hazy + np.expm1(depth) * (hazy - airlight) + strength * expected[6:]
    assert gap(explained[:, valid], outcome.image[:, valid]) < CLOSE


def test_strength_0_changes_nothing_and_half_goes_half_way(engine, model, hazy):
    none, half, whole = (engine.run(model, hazy, strength=strength).image for strength in (0.0, 0.5, 1.0))
    assert np.array_equal(none, hazy)
    assert 0 < np.abs(half - hazy).mean() < np.abs(whole - hazy).mean()


def test_a_fresh_network_is_the_identity_bit_for_bit(engine, make_model, hazy, valid):
    outcome = engine.run(make_model(lively=False), hazy, valid)
    assert np.array_equal(outcome.image[:, valid], hazy[:, valid])


def test_steps_are_reported_phase_by_phase(engine, model, hazy, valid, listen):
    listener = listen()
    outcome = engine.run(model, hazy, valid, batch=3, reporter=listener)
    tiles, coarse = outcome.plan.tiles, 2 * outcome.plan.coarse_tiles
    assert coarse > 0
    assert listener.phases == [("coarse", coarse), ("encode", tiles), ("bottleneck", 2), ("decode", tiles)]
    assert listener.steps == [coarse, tiles, 2, tiles]


@pytest.mark.parametrize("tier", TIERS)
def test_what_was_measured_is_complete(engine, model, hazy, tier):
    outcome = engine.run(model, hazy, residuals=tier, residual_dtype="fp16")
    phases = {"coarse", "encode", "bottleneck", "decode"}
    assert set(outcome.measured.seconds) == {*phases, "read", "store", "load", "write"}
    assert all(seconds >= 0 for seconds in outcome.measured.seconds.values())
    assert outcome.measured.scratch_bytes == outcome.plan.scratch_bytes
    assert (outcome.measured.scratch_bytes > 0) == (tier == "ssd")


@pytest.mark.parametrize(
    ("height", "width", "batch"),
    [(1, 1, 1), (64, 64, 1), (150, 233, 1), (150, 233, 4), (150, 233, 16), (520, 1030, 16)],
)
def test_the_peak_is_what_was_predicted_or_less(engine, model, picture, height, width, batch):
    outcome = engine.run(model, picture(height, width), batch=batch)
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    assert weights < outcome.measured.peak_device_bytes <= outcome.plan.predicted_device_bytes


def test_a_budget_makes_the_peak_smaller(engine, make_model, picture):
    # wide maps: the network and not the composed window takes the most
    slim = {"depths": (1, 1, 1, 1), "sfca": (False,) * 4, "tile": 256, "overlap": 0, "fixed_batch": 16}
    model, hazy = make_model(widths=(192, 16, 24, 32), **slim), picture(500, 2048)
    free = engine.run(model, hazy)
    budget = free.plan.predicted_device_bytes * 2 // 3
    tight = engine.run(model, hazy, gpu_mem=budget)
    assert tight.plan.batch < free.plan.batch
    assert tight.measured.peak_device_bytes <= budget
    assert tight.measured.peak_device_bytes < free.measured.peak_device_bytes
    assert gap(tight.image, free.image) <= 1e-5


def test_tiles_without_data_are_neither_encoded_nor_stored(engine, model, picture, monkeypatch):
    hazy, seen = picture(256, 256), []
    forward = type(model.encoder).forward
    monkeypatch.setattr(type(model.encoder), "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    valid = np.zeros((256, 256), bool)
    valid[:64, :64] = True
    outcome = engine.run(model, hazy, valid, overlap=0, batch=4, residuals="ssd")
    # of 16 tiles one, and of 4 of the scene at half its size
    assert seen == [1, 1]
    assert outcome.measured.scratch_bytes == outcome.plan.scratch_bytes * 2 // 20
