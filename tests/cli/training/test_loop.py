"""Training: a resumed run is the same run, the loss falls, and what is written can be read."""

import csv
import itertools
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from infdehaze.presets import PRESETS
from infdehaze.weights import load_model, read_info
from safetensors import safe_open
from safetensors.torch import save_file

from infdehaze_cli.errors import CheckpointError, InputError, StorageError, UsageError
from infdehaze_cli.training.config import TrainConfig, parse_crops
from infdehaze_cli.training.datasets import open_data
from infdehaze_cli.training.loop import Trainer, train


def refuse(message):
    pytest.fail(f"skipped: {message}")


def ignore(event):
    pass


@pytest.fixture
def config(tiny, pictures, tmp_path):
    return TrainConfig(
        data=pictures,
        out=tmp_path / "run",
        preset="tiny",
        steps=6,
        lr=2e-3,
        warmup=2,
        crops=((64, 2, 0.5), (96, 1, 0.5)),
        checkpoint_every=1e9,
    )


def everything(trainer):
    """Return all tensors that a run carries."""
    named = {f"model/{k}": v for k, v in trainer.model.state_dict().items()}
    named |= {f"averaged/{k}": v for k, v in trainer.averaged.items()}
    for name, parameter in trainer.model.named_parameters():
        named |= {f"{key}/{name}": value for key, value in trainer.optimizer.state.get(parameter, {}).items()}
    return {key: value.clone() for key, value in named.items()}


def run(config, steps):
    trainer = Trainer.start(config)
    supply = trainer.supply(open_data(config.data, refuse, limit=config.memory_limit))
    for _ in range(steps):
        trainer.train_step(supply)
    return trainer


@pytest.fixture
def modes(config, pairs, tmp_path):
    """Ways to train, as changes of the configuration."""
    first = replace(config, out=tmp_path / "first")
    run(first, 1).save()
    weights = str(tmp_path / "first" / "weights.safetensors")
    stage_2 = {"preset": None, "start": weights, "bottleneck_only": True, "crops": ((128, 1, 1.0),)}
    return {
        "clear": {},
        "pairs": {"data": pairs},
        "files": {"data": pairs, "memory_limit": 0},
        "finetune": stage_2,
        "finetune on pairs": {**stage_2, "data": pairs},
        "bf16": {"precision": "bf16"},
        "fp16": {"precision": "fp16"},
        "frequency": {"loss": "l1+frequency"},
        "ssim": {"loss": "l1+ssim", "data": pairs},
    }


MODES = ("clear", "pairs", "files", "finetune", "finetune on pairs", "bf16", "fp16", "frequency", "ssim")


@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_train_resumes_bit_for_bit(config, tmp_path, modes, mode):
    config = replace(config, **modes[mode])
    straight = run(replace(config, out=tmp_path / "straight"), 4)
    run(config, 2).save()
    resumed = run(config, 2)
    expected, found = everything(straight), everything(resumed)
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    assert (resumed.step, resumed.recent) == (straight.step, straight.recent)
    assert resumed.scaler.state_dict() == straight.scaler.state_dict()
    assert all(math.isfinite(value) for value in resumed.recent.values())


@pytest.mark.parametrize("stops", [(3,), (1, 4)])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(config, tmp_path, stops):
    straight = run(replace(config, out=tmp_path / "straight"), 6)
    done = 0
    for stop in stops:
        run(config, stop - done).save()
        torch.rand(5)  # a new process would not find the global generator where the old one left it
        done = stop
    resumed = run(config, 6 - done)
    expected, found = everything(straight), everything(resumed)
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    assert (resumed.step, resumed.recent) == (straight.step, straight.recent)
    assert resumed.learning_rate() == straight.learning_rate()


@pytest.mark.parametrize("mode", ["clear", "pairs"])
def test_any_number_of_workers_cuts_the_same_crops(config, tmp_path, modes, mode):
    config = replace(config, **modes[mode])
    none, one, two = (
        everything(run(replace(config, out=tmp_path / str(workers), workers=workers), 3)) for workers in (0, 1, 2)
    )
    assert all(torch.equal(value, one[key]) and torch.equal(value, two[key]) for key, value in none.items())


def test_what_a_worker_cannot_read_is_told_as_it_is(config, pairs, tmp_path):
    folder = shutil.copytree(pairs, tmp_path / "pairs")
    config = replace(config, data=folder, workers=1)
    data = open_data(folder, lambda line: None, limit=0)
    for path in folder.rglob("*.*"):
        path.write_bytes(b"")
    supply = Trainer.start(config).supply(data)
    with pytest.raises(InputError, match="crops in a row could not be read") as caught:
        supply.take()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_interrupted_command_goes_on_from_its_last_checkpoint(config, tmp_path):
    straight = train(replace(config, steps=12, out=tmp_path / "straight"), ignore, refuse)

    def interrupt(event):
        raise KeyboardInterrupt

    cut = replace(config, steps=12, checkpoint_every=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(cut, interrupt, refuse)
    again = train(cut, ignore, refuse)
    first, second = load_model(straight).state_dict(), load_model(again).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


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


def test_what_is_written_are_the_averaged_weights(config):
    trainer = run(config, 4)
    trainer.save()
    found = load_model(config.out / "weights.safetensors").state_dict()
    for key, value in trainer.averaged.items():
        torch.testing.assert_close(found[key], value, atol=1e-3, rtol=1e-3)
    raw = trainer.model.state_dict()
    assert any(not torch.allclose(found[key], raw[key], atol=1e-4) for key in raw)


def test_a_finished_run_has_nothing_left_to_do(config):
    train(config, ignore, refuse)
    state = (config.out / "state.safetensors").read_bytes()

    def step(trainer, supply):
        pytest.fail("a step too many")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        train(config, ignore, refuse)
    with safe_open(config.out / "state.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["facts"])["step"] == 6
    assert len((config.out / "state.safetensors").read_bytes()) == len(state)


def test_the_time_limit_ends_a_run_and_counts_what_was_spent_before(config):
    trainer = run(replace(config, steps=1000, time_limit=1e9), 1)
    assert trainer.progress == pytest.approx(1 / 1000)
    trainer.elapsed = 5e8
    assert trainer.progress == pytest.approx(0.5)
    trainer.save()
    assert Trainer.start(replace(config, steps=1000, time_limit=1e9)).progress == pytest.approx(0.5)
    assert Trainer.start(replace(config, steps=1000, time_limit=4e8)).progress == 1


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


def test_the_seed_alone_decides(config, tmp_path):
    first, again, other = (
        everything(run(replace(config, out=tmp_path / str(index), seed=seed), 2))
        for index, seed in enumerate((1, 1, 2))
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_vectors_are_left_out_of_weight_decay(config):
    matrices, plain = Trainer.start(config).optimizer.param_groups
    assert (matrices["weight_decay"], plain["weight_decay"]) == (config.weight_decay, 0)
    assert all(p.ndim >= 2 for p in matrices["params"])
    assert all(p.ndim < 2 for p in plain["params"])


def test_hazy_pictures_hold_what_eight_bits_can(config):
    hazy = Trainer.start(config).supply(open_data(config.data, refuse)).take().hazy_B3HW
    torch.testing.assert_close((hazy * 255).round() / 255, hazy, atol=1e-7, rtol=0)
    assert 0 <= hazy.min() <= hazy.max() <= 1


def test_the_state_of_another_preset_is_refused(config, monkeypatch, tiny):
    run(config, 1).save()
    monkeypatch.setitem(PRESETS, "tiny", replace(tiny, name="other", bottleneck_depth=2))
    with pytest.raises(CheckpointError, match=r"run of another network \(tiny\)") as caught:
        Trainer.start(config)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, None])
def test_a_damaged_state_is_refused(config, content):
    run(config, 1).save()
    path = config.out / "state.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2] if content is None else content)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        Trainer.start(config)
    assert "\n" not in str(caught.value)


def test_a_state_with_missing_parts_is_refused(config):
    run(config, 1).save()
    path = config.out / "state.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"optimizer/exp_avg/decoder.head", b"optimizer/exp_xyz/decoder.head"))
    with pytest.raises(CheckpointError, match="damaged"):
        Trainer.start(config)


def test_a_failed_save_keeps_the_state_before(config, monkeypatch):
    trainer = run(config, 1)
    trainer.save()
    before = (config.out / "state.safetensors").read_bytes()

    def fail(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infdehaze_cli.training.state.save_file", fail)
    with pytest.raises(OSError, match="No space"):
        trainer.save()
    assert (config.out / "state.safetensors").read_bytes() == before


def test_a_missing_data_folder_is_refused_before_anything_is_made(config, tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        train(replace(config, data=tmp_path / "nowhere"), ignore, refuse)
    assert not config.out.exists()


def test_stage_2_changes_the_bottleneck_alone(config, modes):
    config = replace(config, **modes["finetune"], lr=1e-2)
    before = {name: value.clone() for name, value in Trainer.start(config).model.state_dict().items()}
    trainer = run(config, 3)
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert {name.split(".")[0] for name in changed} == {"bottleneck"}
    assert {name.split(".")[0] for name, p in trainer.model.named_parameters() if p.grad is not None} == {"bottleneck"}
    learned = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert learned == {id(p) for p in trainer.model.bottleneck.parameters()}


def test_a_run_of_one_stage_is_not_gone_on_with_in_the_other(config):
    run(config, 1).save()
    with pytest.raises(CheckpointError, match="trains other parts") as caught:
        Trainer.start(replace(config, bottleneck_only=True))
    assert caught.value.exit_code == 3


def test_half_precision_learns_about_the_same(config, modes):
    losses = {mode: run(replace(config, **modes[mode]), 6).recent["loss"] for mode in ("clear", "bf16", "fp16")}
    assert losses["bf16"] != losses["clear"]
    assert losses["bf16"] == pytest.approx(losses["clear"], rel=0.02)
    assert losses["fp16"] == pytest.approx(losses["clear"], rel=0.02)


def test_weights_stay_in_full_precision(config, modes):
    trainer = run(replace(config, **modes["fp16"]), 2)
    assert {value.dtype for value in trainer.model.state_dict().values()} == {torch.float32}
    assert {p.grad.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_a_state_from_before_presets_and_runs_had_more_fields_is_gone_on_with(config):
    trainer = run(config, 2)
    trainer.save()
    path = config.out / "state.safetensors"
    with safe_open(path, framework="pt") as file:
        facts, tensors = json.loads(file.metadata()["facts"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for key in ("bottleneck_only", "scaler"):
        del facts[key]
    for key in ("moe", "attention"):
        del facts["preset"][key]
    save_file(tensors, path, {"facts": json.dumps(facts)})
    found = everything(Trainer.start(config))
    assert [key for key, value in everything(trainer).items() if not torch.equal(value, found[key])] == []


def test_a_run_begins_with_the_weights_that_it_is_given(config, tmp_path):
    run(replace(config, out=tmp_path / "first"), 3).save()
    weights = tmp_path / "first" / "weights.safetensors"
    started = Trainer.start(replace(config, preset=None, start=str(weights))).model
    expected = load_model(weights).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in started.state_dict().items())
    changed = Trainer.start(replace(config, preset=None, start=str(weights), overrides=("smoothing=8",))).model
    assert changed.preset == replace(started.preset, smoothing=8.0)
    assert all(torch.equal(value, expected[name]) for name, value in changed.state_dict().items())


def test_weights_of_another_network_are_refused(config, tmp_path):
    run(replace(config, out=tmp_path / "first"), 1).save()
    weights = str(tmp_path / "first" / "weights.safetensors")
    for change in ({"preset": "lite"}, {"preset": None, "overrides": ("widths=8,8,12,32",)}):
        with pytest.raises(CheckpointError, match="do not fit the network") as caught:
            Trainer.start(replace(config, start=weights, **change))
        assert caught.value.exit_code == 3


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


def test_a_run_that_cannot_be_written_says_so_and_can_be_gone_on_with(config):
    config.out.mkdir()
    (config.out / "samples").write_text("in the way of the folder")
    with pytest.raises(StorageError, match="cannot be written to") as caught:
        train(config, ignore, refuse)
    assert caught.value.exit_code == 5
    (config.out / "samples").unlink()
    train(config, ignore, refuse)
    assert [p.name for p in (config.out / "samples").iterdir()] == ["step-000006.png"]


def test_nonsense_is_refused(config):
    nonsense = [
        {"precision": "fp8"},
        {"loss": "l2"},
        {"lr": float("nan")},
        {"lr": -1.0},
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
