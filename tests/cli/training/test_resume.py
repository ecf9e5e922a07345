"""A run that is resumed is the same run, with any number of workers; and what cannot be resumed is refused."""

import json
import math
import multiprocessing
import shutil
from dataclasses import replace

import pytest
import torch
from infdehaze.presets import PRESETS
from infdehaze.weights import load_model
from safetensors import safe_open
from safetensors.torch import save_file

from infdehaze_cli.errors import CheckpointError, InputError, StorageError, UsageError
from infdehaze_cli.training.datasets import open_data
from infdehaze_cli.training.loop import Trainer, train


def refuse(message):
    pytest.fail(f"skipped: {message}")


def ignore(event):
    pass


MODES = ("clear", "pairs", "files", "finetune", "finetune on pairs", "bf16", "fp16", "frequency", "ssim")


@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_train_resumes_bit_for_bit(config, tmp_path, modes, mode, run, everything):
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
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(config, tmp_path, stops, run, everything):
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
def test_any_number_of_workers_cuts_the_same_crops(config, tmp_path, modes, mode, run, everything):
    config = replace(config, **modes[mode])
    none, one, two = (
        everything(run(replace(config, out=tmp_path / str(workers), workers=workers), 3)) for workers in (0, 1, 2)
    )
    assert all(torch.equal(value, one[key]) and torch.equal(value, two[key]) for key, value in none.items())


def test_workers_are_refused_where_there_is_no_fork(config, run, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(UsageError, match="--workers 0"):
        run(replace(config, workers=1), 1)
    assert run(config, 1).step == 1


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


def test_the_time_limit_ends_a_run_and_counts_what_was_spent_before(config, run):
    trainer = run(replace(config, steps=1000, time_limit=1e9), 1)
    assert trainer.progress == pytest.approx(1 / 1000)
    trainer.elapsed = 5e8
    assert trainer.progress == pytest.approx(0.5)
    trainer.save()
    assert Trainer.start(replace(config, steps=1000, time_limit=1e9)).progress == pytest.approx(0.5)
    assert Trainer.start(replace(config, steps=1000, time_limit=4e8)).progress == 1


def test_the_seed_alone_decides(config, tmp_path, run, everything):
    first, again, other = (
        everything(run(replace(config, out=tmp_path / str(index), seed=seed), 2))
        for index, seed in enumerate((1, 1, 2))
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_the_state_of_another_preset_is_refused(config, monkeypatch, tiny, run):
    run(config, 1).save()
    monkeypatch.setitem(PRESETS, "tiny", replace(tiny, name="other", bottleneck_depth=2))
    with pytest.raises(CheckpointError, match=r"run of another network \(tiny\)") as caught:
        Trainer.start(config)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, None])
def test_a_damaged_state_is_refused(config, content, run):
    run(config, 1).save()
    path = config.out / "state.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2] if content is None else content)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        Trainer.start(config)
    assert "\n" not in str(caught.value)


def test_a_state_with_missing_parts_is_refused(config, run):
    run(config, 1).save()
    path = config.out / "state.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"optimizer/exp_avg/decoder.head", b"optimizer/exp_xyz/decoder.head"))
    with pytest.raises(CheckpointError, match="damaged"):
        Trainer.start(config)


def test_a_failed_save_keeps_the_state_before(config, monkeypatch, run):
    trainer = run(config, 1)
    trainer.save()
    before = (config.out / "state.safetensors").read_bytes()

    def fail(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infdehaze_cli.training.state.save_file", fail)
    with pytest.raises(OSError, match="No space"):
        trainer.save()
    assert (config.out / "state.safetensors").read_bytes() == before


def test_a_run_of_one_stage_is_not_gone_on_with_in_the_other(config, run):
    run(config, 1).save()
    with pytest.raises(CheckpointError, match="trains other parts") as caught:
        Trainer.start(replace(config, bottleneck_only=True))
    assert caught.value.exit_code == 3


def test_a_state_from_before_presets_and_runs_had_more_fields_is_gone_on_with(config, run, everything):
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


def test_a_run_that_cannot_be_written_says_so_and_can_be_gone_on_with(config):
    config.out.mkdir()
    (config.out / "samples").write_text("in the way of the folder")
    with pytest.raises(StorageError, match="cannot be written to") as caught:
        train(config, ignore, refuse)
    assert caught.value.exit_code == 5
    (config.out / "samples").unlink()
    train(config, ignore, refuse)
    assert [p.name for p in (config.out / "samples").iterdir()] == ["step-000006.png"]
