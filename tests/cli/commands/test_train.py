"""`infdehaze train`: a few steps on a few pictures."""

import pytest
import torch
from infdehaze.presets import PRESETS
from infdehaze.weights import read_info
from safetensors.torch import load_file

from infdehaze_cli.commands import train
from infdehaze_cli.errors import UsageError


@pytest.fixture
def data(make_raster, tmp_path):
    """A folder with two sources of clear pictures, and a file that is none."""
    for source in ("fields", "town"):
        (tmp_path / "clear" / source).mkdir(parents=True)
        make_raster(f"clear/{source}/0.tif", height=100, width=130)
    (tmp_path / "clear" / "broken.tif").write_text("no picture")
    return tmp_path / "clear"


@pytest.fixture(autouse=True)
def small(monkeypatch, tiny):
    """Train the tiny preset on small crops under the name of `lite`."""
    monkeypatch.setitem(PRESETS, "lite", tiny)
    monkeypatch.setattr(train, "CROPS", ((64, 2, 1.0),))


def test_steps_make_weights_that_run_uses(cli, data, make_raster, tmp_path):
    out = tmp_path / "runs" / "first"

    trained = cli("train", data, "-o", out, "--steps", "3", "--seed", "4")
    used = cli("run", make_raster(), "-o", tmp_path / "clean.tif", "--weights", out / "weights.safetensors")

    assert (trained.code, used.code) == (0, 0)
    assert trained.out == f"weights: {out / 'weights.safetensors'}\n"
    assert "broken.tif" in trained.err
    card = read_info(out / "weights.safetensors").card
    assert (card["steps"], card["recipe"]["seed"]) == (3, 4)


def test_a_run_goes_on_and_the_same_seed_gives_the_same_weights(cli, data, tmp_path):
    for steps in (2, 4):
        cli("train", data, "-o", tmp_path / "resumed", "--steps", steps, "--lr", "0")
    cli("train", data, "-o", tmp_path / "resumed", "--steps", "4", "--lr", "0")

    card = read_info(tmp_path / "resumed" / "weights.safetensors").card
    assert card["steps"] == 4


def test_workers_change_nothing(cli, data, tmp_path):
    weights = []
    for workers in ("0", "2"):
        trained = cli("train", data, "-o", tmp_path / workers, "--steps", "3", "--workers", workers, "--device", "cpu")
        assert trained.code == 0
        weights.append(load_file(tmp_path / workers / "weights.safetensors"))

    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_gpu_has_workers_and_a_cpu_has_none(monkeypatch):
    for cores, workers in ((1, 0), (4, 3), (64, 14)):
        monkeypatch.setattr(train.os, "sched_getaffinity", lambda process, n=cores: set(range(n)), raising=False)
        assert (train.default_workers("cuda:0"), train.default_workers("cpu")) == (workers, 0)


def test_progress_goes_to_stderr_and_quiet_has_none(cli, data, tmp_path):
    loud = cli("train", data, "-o", tmp_path / "loud", "--steps", "10")
    quiet = cli("train", data, "-o", tmp_path / "quiet", "--steps", "10", "-q")

    assert "step 10  loss " in loud.err
    assert "step" not in loud.out
    assert "step" not in quiet.err


def test_a_missing_or_empty_folder_is_3(cli, tmp_path):
    (tmp_path / "empty").mkdir()

    for name in ("none", "empty"):
        ended = cli("train", tmp_path / name, "-o", tmp_path / "out", "--steps", "1")
        assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--steps", "0"],
        ["--time-limit", "soon"],
        ["--checkpoint-every", "0"],
        ["--preset", "huge"],
        ["--set", "colour=blue"],
        ["--set", "widths=50"],
        ["--set", "tile_statistics=true", "--set", "widths=8", "--set", "heads=1", "--set", "bottleneck_heads=1"],
        ["--crops", "64"],
        ["--crops", "8:1"],
        ["--crops", "1000000:1"],
        ["--crops", "64:1000000"],
        ["--loss", "l2"],
        ["--precision", "fp8"],
        ["--dataset", "reside"],
        ["--lr", "nan"],
    ],
)
def test_wrong_usage_is_2(cli, data, tmp_path, options):
    ended = cli("train", data, "-o", tmp_path / "out", *options)

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("25m", 1500), ("2h", 7200), ("1.5m", 90), ("45", 45)])
def test_durations_are_written_as_people_write_them(text, seconds):
    assert train.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "0", "-1h", "1d", "inf", "nan", "1 h ago"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError, match="no duration"):
        train.parse_duration(text)


def test_the_preset_the_loss_and_the_crops_can_be_chosen(cli, data, tmp_path):
    words = [
        "--set",
        "sfca=false",
        "--set",
        "name=plain",
        "--loss",
        "l1+ssim",
        "--crops",
        "64:1",
        "--precision",
        "bf16",
        "--statistics-rate",
        "0.5",
        "--colours",
        "0.25",
    ]

    trained = cli("train", data, "-o", tmp_path / "out", "--steps", "2", *words)

    assert trained.code == 0
    info = read_info(tmp_path / "out" / "weights.safetensors")
    assert (info.preset.name, info.preset.sfca) == ("plain", (False,) * 4)
    recipe = info.card["recipe"]
    assert (recipe["loss"], recipe["crops"], recipe["precision"]) == ("l1+ssim", [[64, 1, 1.0]], "bf16")
    assert (recipe["statistics_rate"], recipe["colours"]) == (0.5, 0.25)


def test_training_can_begin_with_weights(cli, data, tmp_path, tiny_checkpoint):
    trained = cli("train", data, "-o", tmp_path / "out", "--steps", "1", "--from", tiny_checkpoint)

    assert trained.code == 0
    info = read_info(tmp_path / "out" / "weights.safetensors")
    assert info.preset == read_info(tiny_checkpoint).preset
    # where the weights lay is nobody's business
    assert info.card["recipe"]["start"] == tiny_checkpoint.name
