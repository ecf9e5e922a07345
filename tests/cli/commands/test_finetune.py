"""`infdehaze finetune`: the bottleneck alone or everything, on pairs, and weights that are no good."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from infdehaze.presets import PRESETS
from infdehaze.weights import load_model, read_info

from infdehaze_cli.commands import finetune


@pytest.fixture
def pairs(make_raster, landscape_pixels, tmp_path):
    """A folder of three hazy and clear pictures."""
    for folder, haze in (("clear", 0.0), ("hazy", 0.5)):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        for index in range(3):
            pixels = landscape_pixels(height=80 + 8 * index, width=100) * (1 - haze) + 210 * haze
            make_raster(f"pairs/{folder}/{index}.tif", pixels=pixels.astype(np.uint8))
    return tmp_path / "pairs"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Train on small crops."""
    monkeypatch.setattr(finetune, "WIDE_CROPS", ((128, 1, 1.0),))


@pytest.mark.parametrize(
    ("options", "parts"), [([], {"bottleneck"}), (["--all"], {"bottleneck", "encoder", "decoder"})]
)
def test_the_bottleneck_is_trained_alone_unless_all_is_asked_for(cli, pairs, tmp_path, tiny_checkpoint, options, parts):
    words = ["--from", tiny_checkpoint, "--steps", "3", "--lr", "0.05", *options]

    ended = cli("finetune", pairs, "-o", tmp_path / "out", *words)

    assert ended.code == 0
    assert ended.out == f"weights: {tmp_path / 'out' / 'weights.safetensors'}\n"
    before, after = load_model(tiny_checkpoint), load_model(tmp_path / "out" / "weights.safetensors")
    assert after.preset == before.preset
    found = after.state_dict()
    changed = {name.split(".")[0] for name, v in before.state_dict().items() if not torch.equal(v, found[name])}
    assert changed == parts


def test_the_rate_is_that_of_the_paper_and_the_weights_can_be_used(cli, pairs, tmp_path, tiny_checkpoint):
    cli("finetune", pairs, "-o", tmp_path / "out", "--from", tiny_checkpoint, "--steps", "1")
    weights = tmp_path / "out" / "weights.safetensors"
    used = cli("run", pairs / "hazy" / "0.tif", "-o", tmp_path / "clean.tif", "--weights", weights)

    assert used.code == 0
    recipe = read_info(weights).card["recipe"]
    assert (recipe["lr"], recipe["bottleneck_only"]) == (1e-5, True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "samples",
        "state.safetensors",
        "weights.safetensors",
    ]


def test_weights_are_needed(cli, pairs, tmp_path):
    ended = cli("finetune", pairs, "-o", tmp_path / "out")

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_mismatched_pairs_are_3_and_named(cli, pairs, make_raster, tmp_path, tiny_checkpoint):
    make_raster("pairs/hazy/1.tif", height=90, width=100)

    ended = cli("finetune", pairs, "-o", tmp_path / "out", "--from", tiny_checkpoint)

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "hazy/1.tif" in ended.err
    assert "clear/1.tif" in ended.err
    assert not (tmp_path / "out").exists()


class Bomb:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("command", ["train", "finetune"])
@pytest.mark.parametrize("kind", ["pickled", "archive", "truncated", "empty", "missing", "text"])
def test_bad_weights_are_3_and_never_executed(cli, pairs, tmp_path, tiny_checkpoint, command, kind):
    path, hit = tmp_path / "weights.pt", tmp_path / "executed"
    bomb, raw = pickle.dumps(Bomb(hit)), tiny_checkpoint.read_bytes()
    if kind == "archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", bomb)
    elif kind != "missing":
        path.write_bytes(
            {"pickled": bomb, "truncated": raw[: len(raw) // 2], "empty": b"", "text": b"no weights"}[kind]
        )

    ended = cli(command, pairs, "-o", tmp_path / "out", "--from", path, "--steps", "1")

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "weights.pt" in ended.err
    assert not hit.exists()
    assert not (tmp_path / "out").exists()
    pickle.loads(bomb)
    assert hit.exists(), "the bomb is a dud"


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_weights_of_another_preset_are_3(cli, pairs, tmp_path, tiny_checkpoint, monkeypatch, tiny, command):
    monkeypatch.setitem(PRESETS, "base", tiny)

    ended = cli(command, pairs, "-o", tmp_path / "out", "--from", tiny_checkpoint, "--preset", "base", "--steps", "1")

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "do not fit the network" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["truncated", "pickled", "other"])
def test_a_run_that_cannot_be_gone_on_with_is_3_and_stays(cli, pairs, tmp_path, tiny_checkpoint, damage):
    words = ["-o", tmp_path / "out", "--from", tiny_checkpoint, "--steps", "1"]
    cli("finetune", pairs, *words)
    state, hit = tmp_path / "out" / "state.safetensors", tmp_path / "executed"
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-100])
    if damage == "pickled":
        state.write_bytes(pickle.dumps(Bomb(hit)))
    raw = state.read_bytes()

    ended = cli("finetune", pairs, *words, *(["--set", "window=8"] if damage == "other" else []))

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert state.read_bytes() == raw
    assert not hit.exists()
