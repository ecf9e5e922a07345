"""Training: the loss falls, the rate follows its course, and what is written can be read."""

import csv
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from infdehaze.presets import PRESETS
from infdehaze.weights import load_model, read_info

from infdehaze_cli.errors import BudgetError, CheckpointError, InputError, UsageError
from infdehaze_cli.training import loop as training_loop
from infdehaze_cli.training.config import parse_crops
from infdehaze_cli.training.datasets import open_data
from infdehaze_cli.training.loop import Trainer, train


def refuse(message):
    pytest.fail(f"skipped: {message}")


def ignore(event):
    pass


@pytest.mark.slow
def test_a_few_steps_lower_the_loss(config):
    config = replace(config, steps=40, warmup=5, lr=4e-3, crops=((64, 4, 1.0),))
    data = open_data(config.data, refuse)
    batch = Trainer.start(replace(config, seed=99, crops=((64, 24, 1.0),))).supply(data).take()
    clear, hazy = batch.clear_B3HW, batch.hazy_B3HW

    def loss(model):
        with torch.no_grad():
            return float((model.eval()(hazy).image_B3HW - clear).abs().mean())

    trainer = Trainer.start(config)
    before = loss(trainer.model)
    assert before == pytest.approx(float((hazy - clear).abs().mean()), abs=1e-6)
    trainer.model.train()
    supply = trainer.supply(data)
    for _ in range(40):
        trainer.train_step(supply)
    assert loss(trainer.model) < 0.9 * before
    trainer.model.load_state_dict(trainer.averaged)
    assert loss(trainer.model) < 0.95 * before


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_checkpoint(config, monkeypatch):
    config = replace(config, steps=4, crops=((64, 1, 1.0),))
    train(replace(config, steps=2), ignore, refuse)
    kept = {path: path.read_bytes() for path in config.out.glob("*.safetensors")}
    plain = training_loop.training_loss

    def broken(*arguments):
        losses = plain(*arguments)
        return replace(losses, total=losses.total * math.nan)

    monkeypatch.setattr(training_loop, "training_loss", broken)

    with pytest.raises(InputError, match="no number at step 3"):
        train(config, ignore, refuse)

    assert {path: path.read_bytes() for path in config.out.glob("*.safetensors")} == kept


def test_a_run_does_not_learn_from_its_own_samples_or_replace_its_start(config):
    with pytest.raises(UsageError, match="among the pictures"):
        train(replace(config, out=config.data / "run"), ignore, refuse)
    (config.data / "linked").symlink_to(config.out.parent)
    with pytest.raises(UsageError, match="among the pictures"):
        train(config, ignore, refuse)
    (config.data / "linked").unlink()

    weights = train(replace(config, steps=1, crops=((64, 1, 1.0),)), ignore, refuse)
    (config.out / "state.safetensors").unlink()
    with pytest.raises(UsageError, match="would be replaced"):
        train(replace(config, steps=1, start=str(weights)), ignore, refuse)


def test_memory_that_does_not_hold_a_step_is_4_and_leaves_the_checkpoint(config, monkeypatch):
    config = replace(config, steps=4, crops=((64, 1, 1.0),))
    train(replace(config, steps=2), ignore, refuse)
    kept = {path: path.read_bytes() for path in config.out.glob("*.safetensors")}

    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(training_loop, "training_loss", full)

    with pytest.raises(BudgetError, match="--crops"):
        train(config, ignore, refuse)

    assert {path: path.read_bytes() for path in config.out.glob("*.safetensors")} == kept


def test_a_run_writes_weights_state_and_curve(config):
    events = []
    path = train(replace(config, steps=20, crops=((64, 1, 1.0),)), events.append, refuse)
    assert sorted(p.name for p in config.out.iterdir()) == [
        "curve.csv",
        "curve.png",
        "samples",
        "state.safetensors",
        "weights.safetensors",
    ]
    assert [p.name for p in (config.out / "samples").iterdir()] == ["step-000020.png"]
    assert [event.step for event in events] == [10, 20]
    assert (events[-1].steps, events[-1].progress) == (20, 1.0)
    with (config.out / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [10, 20]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    card = read_info(path).card
    assert card["steps"] == 20
    assert card["recipe"]["lr"] == config.lr
    assert str(config.data) not in json.dumps(card)
    assert str(config.out) not in json.dumps(card)
    assert load_model(path).preset == PRESETS["tiny"]


def test_what_is_written_are_the_averaged_weights(config, run):
    trainer = run(config, 4)
    trainer.save()
    found = load_model(config.out / "weights.safetensors").state_dict()
    for key, value in trainer.averaged.items():
        torch.testing.assert_close(found[key], value, atol=1e-3, rtol=1e-3)
    raw = trainer.model.state_dict()
    assert any(not torch.allclose(found[key], raw[key], atol=1e-4) for key in raw)


def test_the_rate_warms_up_and_falls_to_a_hundredth(config):
    trainer = Trainer.start(replace(config, steps=100, warmup=10))
    rates = []
    for step in range(101):
        trainer.step = step
        rates.append(trainer.learning_rate() / config.lr)
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(1, abs=0.03)
    assert rates.index(max(rates)) == 9
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(0.01)


def test_vectors_are_left_out_of_weight_decay(config):
    matrices, plain = Trainer.start(config).optimizer.param_groups
    assert (matrices["weight_decay"], plain["weight_decay"]) == (config.weight_decay, 0)
    assert all(p.ndim >= 2 for p in matrices["params"])
    assert all(p.ndim < 2 for p in plain["params"])


def test_hazy_pictures_hold_what_eight_bits_can(config):
    hazy = Trainer.start(config).supply(open_data(config.data, refuse)).take().hazy_B3HW
    torch.testing.assert_close((hazy * 255).round() / 255, hazy, atol=1e-7, rtol=0)
    assert 0 <= hazy.min() <= hazy.max() <= 1


def test_a_missing_data_folder_is_refused_before_anything_is_made(config, tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        train(replace(config, data=tmp_path / "nowhere"), ignore, refuse)
    assert not config.out.exists()


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_no_generator_takes_is_refused(config, seed):
    with pytest.raises(UsageError, match="--seed"):
        replace(config, seed=seed)


def test_stage_2_changes_the_bottleneck_alone(config, modes, run):
    config = replace(config, **modes["finetune"], lr=1e-2)
    before = {name: value.clone() for name, value in Trainer.start(config).model.state_dict().items()}
    trainer = run(config, 3)
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert {name.split(".")[0] for name in changed} == {"bottleneck"}
    assert {name.split(".")[0] for name, p in trainer.model.named_parameters() if p.grad is not None} == {"bottleneck"}
    learned = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert learned == {id(p) for p in trainer.model.bottleneck.parameters()}


def test_stage_2_also_trains_the_head_that_reads_the_bottleneck(config, tmp_path, run):
    told = (*config.overrides, "tile_statistics=true", "bottleneck_corrects=true")
    first = replace(config, out=tmp_path / "first", overrides=told)
    run(first, 1).save()
    start = {"preset": None, "overrides": (), "start": str(first.out / "weights.safetensors"), "lr": 1e-2}
    stage_2 = replace(config, **start, bottleneck_only=True, crops=((128, 1, 1.0),))
    before = {name: value.clone() for name, value in Trainer.start(stage_2).model.state_dict().items()}

    found = run(stage_2, 3).model.state_dict()

    changed = {name for name, value in found.items() if not torch.equal(value, before[name])}
    assert {name.split(".layers")[0].split(".1.")[0] for name in changed} >= {"bottleneck", "decoder.head.correct"}
    assert all(name.startswith(("bottleneck.", "decoder.head.correct.")) for name in changed)


def test_half_precision_learns_about_the_same(config, modes, run):
    losses = {mode: run(replace(config, **modes[mode]), 6).recent["loss"] for mode in ("clear", "bf16", "fp16")}
    assert losses["bf16"] != losses["clear"]
    assert losses["bf16"] == pytest.approx(losses["clear"], rel=0.02)
    assert losses["fp16"] == pytest.approx(losses["clear"], rel=0.02)


def test_weights_stay_in_full_precision(config, modes, run):
    trainer = run(replace(config, **modes["fp16"]), 2)
    assert {value.dtype for value in trainer.model.state_dict().values()} == {torch.float32}
    assert {p.grad.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_a_run_begins_with_the_weights_that_it_is_given(config, tmp_path, run):
    run(replace(config, out=tmp_path / "first"), 3).save()
    weights = tmp_path / "first" / "weights.safetensors"
    started = Trainer.start(replace(config, preset=None, start=str(weights))).model
    expected = load_model(weights).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in started.state_dict().items())
    changed = Trainer.start(replace(config, preset=None, start=str(weights), overrides=("smoothing=8",))).model
    assert changed.preset == replace(started.preset, smoothing=8.0)
    assert all(torch.equal(value, expected[name]) for name, value in changed.state_dict().items())


def test_weights_of_another_network_are_refused(config, tmp_path, run):
    run(replace(config, out=tmp_path / "first"), 1).save()
    weights = str(tmp_path / "first" / "weights.safetensors")
    for change in ({"preset": "lite"}, {"preset": None, "overrides": ("widths=8,8,12,32",)}):
        with pytest.raises(CheckpointError, match="do not fit the network") as caught:
            Trainer.start(replace(config, start=weights, **change))
        assert caught.value.exit_code == 3


def test_sample_pictures_show_haze(config, monkeypatch):
    shown = []
    monkeypatch.setattr(training_loop, "write_samples", lambda path, hazy, restored, clear: shown.append((hazy, clear)))
    train(replace(config, steps=1), ignore, refuse)
    ((hazy, clear),) = shown
    assert sum((hazy - clear).abs().mean((1, 2, 3)) > 0.05) >= 3


def test_test_samples_are_written_down(config, tmp_path, write_picture):
    for folder, ending in (("hazy", "hazy"), ("GT", "GT")):
        for index in range(10):
            picture = np.full((3, 70, 70), 20 * index, np.uint8)
            write_picture(tmp_path / "o-haze" / folder / f"{index:02d}_outdoor_{ending}.tif", picture)
    config = replace(config, data=tmp_path / "o-haze", steps=1)
    train(config, ignore, refuse)
    held_out = (config.out / "held-out.txt").read_text().split()
    assert held_out == list(open_data(config.data, refuse).held_out)
    assert len(held_out) == 2


@pytest.mark.parametrize(("rate", "learn"), [(0.0, False), (1.0, True)])
def test_statistics_of_tiles_learn_at_a_rate_of_their_own(config, rate, learn):
    config = replace(config, overrides=(*config.overrides, "tile_statistics=true"), statistics_rate=rate, steps=2)
    before = {name: value.clone() for name, value in Trainer.start(config).model.state_dict().items()}

    train(config, ignore, refuse)

    found = load_model(config.out / "weights.safetensors").state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value.half(), found[name].half())}
    assert any("statistics" in name for name in moved) == learn
    assert any("statistics" not in name for name in moved)


def test_nonsense_is_refused(config):
    nonsense = [
        {"precision": "fp8"},
        {"loss": "l2"},
        {"lr": float("nan")},
        {"lr": -1.0},
        {"colours": -0.1},
        {"colours": 1.1},
        {"statistics_rate": -0.1},
        {"statistics_rate": float("inf")},
        {"workers": -1},
        {"crops": ((32, 1, 1.0),)},
        {"crops": ((64, 0, 1.0),)},
        {"crops": ((64, 1, 0.0),)},
    ]
    for change in nonsense:
        with pytest.raises(UsageError):
            replace(config, **change)


def test_crops_are_written_as_side_batch_and_share():
    assert parse_crops("256:8:0.7,480:2:0.3") == ((256, 8, 0.7), (480, 2, 0.3))
    assert parse_crops("1024:1") == ((1024, 1, 1.0),)
    for text in ("", "256", "256:8:1:1", "a:b", "256:8,", "256:8:x"):
        with pytest.raises(UsageError, match="is no crop"):
            parse_crops(text)
