"""Several processes under ``torchrun``: they take the same steps, learn from different crops, and resume."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from infdehaze_cli.training.config import TrainConfig
from infdehaze_cli.training.datasets import open_data
from infdehaze_cli.training.loop import Trainer
from infdehaze_cli.training.world import World, join_world

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("ranks.py")


@pytest.fixture
def torchrun(tmp_path):
    """Start processes as ``torchrun --nproc-per-node 2`` does."""

    def start(*words, processes=2):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "models")])}
        environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        # processes that wait for each other would wait for ever
        ended = subprocess.run(
            [*command, *map(str, words)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=False,
            timeout=400,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended

    return start


@pytest.fixture
def two(torchrun, tiny, tmp_path):
    """Train the tiny preset in two processes, and return what each of them holds in the end."""

    def train(data, run, stops, **changes):
        found = tmp_path / f"{run}-found"
        found.mkdir()
        texts = (json.dumps(value) for value in (tiny.to_dict(), changes, stops))
        torchrun(SCRIPT, data, tmp_path / run, found, *texts)
        ranks = []
        for rank in range(2):
            with safe_open(found / f"{rank}.safetensors", framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                ranks.append((tensors, json.loads(file.metadata()["facts"])))
        return ranks

    return train


def test_one_process_is_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with join_world("cpu") as world:
        assert (world.first, world.size, world.device) == (True, 1, torch.device("cpu"))
        assert world.mean([1.0, 2.0]) == [1.0, 2.0]
        model = torch.nn.Linear(2, 2)
        assert world.wrap(model) is model


def test_processes_and_steps_draw_from_streams_of_their_own():
    places = itertools.product((0, 1), (0, 5), (3, 4))
    drawn = {
        float(torch.rand((), generator=World(torch.device("cpu"), rank, 2).generator(seed, step)))
        for rank, step, seed in places
    }
    assert len(drawn) == 8


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights_and_resume_bit_for_bit(two, pictures):
    straight = two(pictures, "straight", [4])
    resumed = two(pictures, "resumed", [2, 4])
    (first, facts), (second, other_facts) = straight
    weights = [key for key in first if key != "hazy"]
    assert [key for key in weights if not torch.equal(first[key], second[key])] == []
    assert (facts["recent"], facts["elapsed"]) == (other_facts["recent"], other_facts["elapsed"])
    assert first["hazy"].shape != second["hazy"].shape or not torch.equal(first["hazy"], second["hazy"])
    for (expected, expected_facts), (found, found_facts) in zip(straight, resumed, strict=True):
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
        assert expected_facts["recent"] == found_facts["recent"]


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(two, pairs, tmp_path, tiny):
    ((tensors, _), _) = two(pairs, "run", [2])
    alone = Trainer.start(TrainConfig(data=pairs, out=tmp_path / "run", preset="tiny"))
    assert alone.step == 2
    assert all(torch.equal(value, tensors[f"model/{name}"]) for name, value in alone.model.state_dict().items())


def test_a_process_that_was_not_there_before_learns_from_other_crops(pictures, tmp_path, tiny):
    config = TrainConfig(data=pictures, out=tmp_path / "run", preset="tiny", crops=((64, 1, 1.0),))
    data = open_data(pictures, pytest.fail)
    trainer = Trainer.start(config)
    trainer.train_step(trainer.supply(data))
    trainer.save()
    first, new = (Trainer.start(config, World(torch.device("cpu"), rank)) for rank in (0, 1))
    assert (first.step, new.step) == (1, 1)
    assert all(torch.equal(value, new.averaged[name]) for name, value in first.averaged.items())
    assert not torch.equal(first.supply(data).take().hazy_B3HW, new.supply(data).take().hazy_B3HW)


@pytest.mark.slow
def test_the_command_runs_under_torchrun_and_prints_once(torchrun, pictures, tmp_path):
    small = ["widths=8,8,12,16", "depths=1", "heads=2,2,3,4", "bottleneck_depth=1", "expert_expansion=1", "tile=64"]
    small += ["bottleneck_heads=2", "name=small"]
    words = [word for change in small for word in ("--set", change)]
    (tmp_path / "data").symlink_to(pictures)
    ended = torchrun(
        *("-m", "infdehaze_cli", "train", "data", "-o", "run", "--device", "cpu"),
        *("--steps", "10", "--crops", "64:1", "--precision", "bf16", *words),
    )
    assert ended.stdout.count("weights: run/weights.safetensors") == 1
    assert ended.stderr.count("step 10 ") == 1
    with safe_open(tmp_path / "run" / "weights.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["card"])["processes"] == 2
    assert (tmp_path / "run" / "samples" / "step-000010.png").exists()
