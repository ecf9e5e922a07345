"""What a plan decides from a budget, and that it keeps what it promises."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.presets import PRESETS

from infdehaze_cli import memory
from infdehaze_cli.errors import BudgetError, UsageError
from infdehaze_cli.memory import predict_device_bytes
from infdehaze_cli.plan import Plan, RunConfig, default_scratch
from infdehaze_cli.sizes import parse_size

MiB, GiB = 1024**2, 1024**3
PARAMETERS = {"base": 340_000_000, "fast": 305_000_000, "lite": 5_000_000}
PHASES = ("encode", "bottleneck", "decode", "compose")


def least_of(text):
    return re.search(r"at least (\w+)", text).group(1)


def least_named(error):
    return least_of(str(error.value))


@pytest.mark.parametrize(
    ("side", "batch"), [(1, 1), (300, 1), (1023, 1), (1024, 4), (4096, 4), (4097, 16), (8192, 16), (100_000, 16)]
)
def test_the_batch_follows_the_paper(side, batch, plan):
    assert plan(side, "base").batch == batch


@pytest.mark.parametrize(("side", "batch"), [(100, 1), (500, 4), (1024, 16), (30_000, 16)])
def test_lite_takes_sixteen_tiles_or_all_there_are(side, batch, plan):
    assert plan(side, "lite").batch == batch


@pytest.mark.parametrize(("side", "preset", "batch"), [(500, "lite", 4), (30_000, "lite", 64), (30_000, "base", 16)])
def test_a_gpu_takes_64_tiles_of_lite(side, preset, batch, plan):
    assert plan(side, preset, device="cuda").batch == batch


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_less_memory_of_the_host_makes_the_batch_smaller(device, plan):
    made = [plan(30_000, "lite", device=device, ram=ram * MiB) for ram in (240, 512, 1024)]
    batches = [each.batch for each in made]
    assert batches == sorted(batches)
    assert batches[0] < 16 <= batches[1]
    assert all(each.predicted_host_bytes <= ram * MiB for each, ram in zip(made, (240, 512, 1024), strict=True))


def test_a_batch_that_was_given_is_not_made_smaller_for_the_host(plan):
    with pytest.raises(BudgetError, match="host budget"):
        plan(30_000, "lite", ram=240 * MiB, batch=16)


@pytest.mark.parametrize(("height", "width", "batch"), [(500, 5000, 16), (5000, 500, 16), (10, 2000, 4)])
def test_the_longer_side_counts_for_the_batch(height, width, batch, plan):
    assert plan(height=height, width=width).batch == batch


@pytest.mark.parametrize(("side", "batch"), [(3000, 64), (100_000, 64), (512, 9), (256, 1)])
def test_the_fast_preset_takes_64_tiles_or_all(side, batch, plan):
    assert plan(side, "fast").batch == batch


@pytest.mark.parametrize(("given_", "batch"), [(1, 1), (7, 7), (100, 81)])
def test_a_batch_that_was_given_is_taken_up_to_all_tiles(given_, batch, plan):
    assert plan(2048, batch=given_).batch == batch


# the smallest preset takes most where the output is composed, which has one size
@pytest.mark.parametrize("preset", ["base", "fast"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_less_memory_makes_the_batch_and_then_the_chunks_smaller(preset, device, plan):
    config = {"side": 5000, "preset": preset, "device": device}
    free = plan(**config)
    budget, batches, chunks = free.predicted_device_bytes, [free.batch], [free.chunk_tokens]
    while True:
        budget = int(budget * 0.9)
        try:
            made = plan(**config, gpu_mem=budget)
        except BudgetError:
            break
        assert made.predicted_device_bytes <= budget
        batches.append(made.batch)
        chunks.append(made.chunk_tokens)
    assert batches == sorted(batches, reverse=True)
    assert chunks == sorted(chunks, reverse=True)
    assert (batches[-1], chunks[-1]) < (batches[0], chunks[0])


def test_both_are_made_smaller_where_both_are_too_large(plan):
    free, tight = plan(5000), plan(5000, gpu_mem=1600 * MiB)
    assert tight.batch < free.batch
    assert tight.chunk_tokens < free.chunk_tokens


@settings(deadline=None, max_examples=200)
@given(
    gpu_mem=st.integers(1, 3 * GiB),
    height=st.integers(1, 60_000),
    width=st.integers(1, 60_000),
    preset=st.sampled_from(list(PRESETS)),
    device=st.sampled_from(["cpu", "cuda", "cuda:1"]),
    batch=st.none() | st.integers(1, 100),
    precision=st.sampled_from(["auto", "fp32", "fp16", "bf16"]),
)
def test_a_plan_keeps_the_budget_or_the_error_names_one_that_works(
    gpu_mem, height, width, preset, device, batch, precision, plan
):
    config = {
        "height": height, "width": width, "preset": preset, "device": device, "batch": batch, "precision": precision,
    }  # fmt: skip
    try:
        made = plan(**config, gpu_mem=gpu_mem)
    except BudgetError as error:
        least = parse_size(re.search(r"at least (\w+)", str(error)).group(1))
        assert least > gpu_mem
        assert plan(**config, gpu_mem=least).predicted_device_bytes <= least
    else:
        assert made.predicted_device_bytes <= gpu_mem


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("height", "width"), [(100, 100), (5000, 3000), (600, 200_000)])
def test_the_least_that_is_named_is_the_least_that_works(preset, device, height, width, plan):
    config = {"height": height, "width": width, "preset": preset, "device": device}
    with pytest.raises(BudgetError) as error:
        plan(**config, gpu_mem=MiB)
    assert error.value.exit_code == 4
    assert re.search(f"the ({'|'.join(PHASES)}) phase", str(error.value))
    least = parse_size(least_named(error))
    plan(**config, gpu_mem=least)
    with pytest.raises(BudgetError):
        plan(**config, gpu_mem=least - MiB)


def test_the_phase_that_cannot_be_held_is_named(plan):
    with pytest.raises(BudgetError, match=r"the bottleneck phase.*tokens at a time.*smaller preset"):
        plan(gpu_mem=1350 * MiB)
    with pytest.raises(BudgetError, match=r"the compose phase.*512 x 1024 px of the output.*smaller preset"):
        plan(preset="lite", gpu_mem=30 * MiB)


def test_a_batch_that_was_given_is_not_made_smaller(plan):
    with pytest.raises(BudgetError, match=r"64 tiles at a time.*smaller --batch") as error:
        plan(5000, batch=64, gpu_mem=2 * GiB)
    least = parse_size(least_named(error))
    assert plan(5000, batch=64, gpu_mem=least).batch == 64
    assert plan(5000, gpu_mem=2 * GiB).batch < 64


def test_a_gpu_gets_room_for_the_workspaces_of_its_libraries(plan):
    on_cpu, on_gpu = (plan(device=device, precision="fp32") for device in ("cpu", "cuda"))
    assert on_gpu.predicted_device_bytes - on_cpu.predicted_device_bytes == memory.CUDA_WORKSPACE


@pytest.mark.parametrize("preset", PRESETS)
def test_the_prediction_is_that_of_the_largest_phase(preset, plan):
    made = plan(5000, preset)
    phases = predict_device_bytes(
        PRESETS[preset],
        PARAMETERS[preset],
        made.batch,
        made.chunk_tokens,
        made.tile_cols * PRESETS[preset].latent_side,
        "fp32",
    )
    assert tuple(phases) == PHASES
    assert made.predicted_device_bytes == max(phases.values())
    assert min(phases.values()) > memory.parameter_bytes(PARAMETERS[preset])


def test_a_chunk_is_never_more_than_the_scene(plan):
    assert plan(512).chunk_tokens == plan(512).tokens == 9 * 64
    assert plan(100_000, batch=64).chunk_tokens == 16384


@pytest.mark.parametrize("preset", PRESETS)
def test_the_bottleneck_is_not_what_takes_the_most_where_smaller_chunks_do(preset, plan):
    made = plan(30_000, preset)
    phases = predict_device_bytes(
        PRESETS[preset],
        PARAMETERS[preset],
        made.batch,
        made.chunk_tokens,
        made.tile_cols * PRESETS[preset].latent_side,
        "fp32",
    )
    assert phases.pop("bottleneck") <= max(phases.values())
    assert made.chunk_tokens >= 2048


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:3"])
def test_auto_precision_is_half_on_a_gpu_only(device, plan):
    assert plan(device=device).precision == ("fp32" if device == "cpu" else "fp16")
    assert plan(device=device, precision="bf16").precision == "bf16"


# what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "overlap"), [("base", 0), ("base", 4), ("base", 128), ("lite", 0), ("lite", 64)])
def test_an_overlap_that_fits_is_taken(preset, overlap, plan):
    assert plan(preset=preset, overlap=overlap).overlap == overlap


@pytest.mark.parametrize(
    ("preset", "overlap"), [("base", 3), ("base", 132), ("base", -4), ("lite", 4), ("lite", 31), ("lite", 256)]
)
def test_an_overlap_that_does_not_fit_is_wrong_usage(preset, overlap, plan):
    with pytest.raises(UsageError, match="multiple of"):
        plan(preset=preset, overlap=overlap)


@pytest.mark.parametrize(
    "config",
    [
        {"residual_dtype": "fp8"},
        {"residuals": "tape"},
        {"precision": "fp64"},
        {"batch": 0},
        {"batch": -4},
        {"strength": 1.1},
        {"strength": -0.1},
        {"strength": float("nan")},
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_wrong_usage(config):
    with pytest.raises(UsageError, match=r"\. (Use|Give) ") as error:
        RunConfig(**config)
    assert error.value.exit_code == 2


# the plan itself ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    overlap=st.sampled_from([0, 32, 64]),
    batch=st.integers(1, 70),
)
def test_tiles_tokens_and_batches_add_up(height, width, overlap, batch, plan):
    made = plan(height=height, width=width, preset="lite", overlap=overlap, batch=batch)
    grid = made.grid
    assert (made.tile_rows, made.tile_cols, made.tiles) == (grid.rows, grid.cols, grid.rows * grid.cols)
    assert made.tokens == made.tiles * PRESETS["lite"].latent_side ** 2
    assert (made.batches - 1) * made.batch < made.tiles <= made.batches * made.batch
    assert grid.padded_height >= height
    assert grid.padded_width >= width


def test_a_plan_is_json(plan):
    made = plan(residuals="ssd", gpu_mem=3 * GiB)
    assert Plan(**json.loads(json.dumps(made.to_dict()))) == made


def test_a_plan_and_a_request_cannot_be_changed(plan):
    for frozen in (plan(), RunConfig()):
        with pytest.raises(AttributeError):
            frozen.batch = 3
    assert replace(plan(), batch=3).batch == 3


def test_the_scratch_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("INFDEHAZE_SCRATCH", str(tmp_path))
    assert RunConfig().scratch == default_scratch() == tmp_path
    monkeypatch.setenv("INFDEHAZE_SCRATCH", "")
    assert default_scratch() == Path(default_scratch())
    assert default_scratch().is_dir()
