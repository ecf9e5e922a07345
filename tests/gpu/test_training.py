"""On a GPU: every precision trains, and a run that was stopped goes on; two processes where there are two devices."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine
from safetensors import safe_open

from infdehaze_cli.training.config import TrainConfig
from infdehaze_cli.training.datasets import open_data
from infdehaze_cli.training.jpeg import compress
from infdehaze_cli.training.loop import Trainer

ROOT = Path(__file__).parents[2]
SMALL = (
    "name=small", "widths=8,8,12,16", "depths=1", "heads=2,2,3,4", "bottleneck_depth=1", "bottleneck_heads=2",
    "expert_expansion=1", "tile=64",
)  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "clear").mkdir()
    for index in range(3):
        picture = np.kron(rng.integers(20, 160, (3, 10, 12)), np.ones((1, 12, 12))).astype(np.uint8)
        profile = {"driver": "GTiff", "count": 3, "height": 120, "width": 144, "dtype": "uint8"}
        with rasterio.open(
            tmp_path / "clear" / f"{index}.tif", "w", transform=Affine.translation(1, 1), crs="EPSG:3857", **profile
        ) as file:
            file.write(picture)
    return tmp_path / "clear"


@pytest.fixture
def config(pictures, tmp_path):
    return TrainConfig(
        data=pictures, out=tmp_path / "run", overrides=SMALL, lr=2e-3, warmup=2, crops=((64, 2, 1.0),), device="cuda"
    )


def steps(trainer, data, count):
    supply = trainer.supply(data)
    for _ in range(count):
        trainer.train_step(supply)
    return trainer


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("bottleneck_only", [False, True])
def test_a_run_goes_on_in_every_precision(config, precision, bottleneck_only):
    config = replace(config, precision=precision, bottleneck_only=bottleneck_only)
    data = open_data(config.data, pytest.fail)
    steps(Trainer.start(config), data, 3).save()

    trainer = Trainer.start(config)

    assert trainer.step == 3
    assert {value.device.type for state in trainer.optimizer.state.values() for value in state.values()} == {"cuda"}
    steps(trainer, data, 3).read()
    assert all(math.isfinite(value) for value in trainer.recent.values())
    assert all(bool(value.isfinite().all()) for value in trainer.averaged.values())


def test_workers_and_the_step_ahead_change_nothing(config):
    data = open_data(config.data, pytest.fail)
    config = replace(config, crops=((64, 2, 0.5), (96, 1, 0.5)))
    alone = Trainer.start(config).supply(data)
    expected = [alone.take() for _ in range(6)]
    supply = Trainer.start(replace(config, workers=2)).supply(data)
    for batch in expected:
        found = supply.take()
        supply.look_ahead()
        assert found.hazy_B3HW.device.type == "cuda"
        assert torch.equal(found.hazy_B3HW, batch.hazy_B3HW)
        assert torch.equal(found.depth_B3HW, batch.depth_B3HW)


def test_haze_of_the_gpu_is_rounded_and_compressed_as_on_the_cpu():
    noise = torch.rand(4, 3, 80, 96, generator=torch.Generator().manual_seed(0))
    picture = (torch.nn.functional.avg_pool2d(noise, 3, 1, 1) * 255).round()
    quality = torch.tensor([30.0, 60.0, 90.0, 95.0])
    on_cpu, on_gpu = compress(picture, quality), compress(picture.cuda(), quality.cuda()).cpu()
    # a coefficient at the edge between two steps may fall to either side
    assert (on_cpu != on_gpu).float().mean() < 0.01


def test_a_run_goes_on_from_the_cpu_on_the_gpu(config):
    data = open_data(config.data, pytest.fail)
    steps(Trainer.start(replace(config, device="cpu")), data, 2).save()
    assert steps(Trainer.start(config), data, 1).step == 3


def test_two_processes_take_a_gpu_each(pictures, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("there are not two CUDA devices here")
    words = [word for change in SMALL for word in ("--set", change)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "infdehaze_cli", "train", str(pictures), "-o", str(tmp_path / "run"), "--device", "cuda"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "models")])}
    ended = subprocess.run(
        [*command, "--steps", "10", "--crops", "64:2", *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with safe_open(tmp_path / "run" / "weights.safetensors", framework="pt") as file:
        assert '"processes": 2' in file.metadata()["card"]
