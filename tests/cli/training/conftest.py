"""A network that trains in milliseconds, folders of small pictures, and runs on them."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from infdehaze.presets import PRESETS, Preset
from rasterio.transform import Affine

from infdehaze_cli.training.config import TrainConfig
from infdehaze_cli.training.datasets import open_data
from infdehaze_cli.training.loop import Trainer


def write_picture(path, picture):
    """Write (bands, rows, cols) as GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, cols = picture.shape
    profile = {"driver": "GTiff", "count": bands, "height": rows, "width": cols, "dtype": picture.dtype.name}
    with rasterio.open(
        path, "w", transform=Affine(2, 0, 500_000, 0, -2, 4_000_000), crs="EPSG:3857", **profile
    ) as file:
        file.write(picture)


@pytest.fixture(scope="session", name="write_picture")
def writer():
    return write_picture


@pytest.fixture
def tiny(monkeypatch):
    preset = Preset(
        name="tiny",
        stem_stride=8,
        widths=(8, 8, 12, 16),
        depths=(1, 1, 1, 1),
        heads=(2, 2, 3, 4),
        window=4,
        mlp_ratio=2.0,
        sfca_dim=4,
        residual_norms=True,
        centred_norms=(False, True, True, True),
        bottleneck_depth=1,
        bottleneck_heads=2,
        block_tokens=16,
        hash_bits=4,
        expert_expansion=1,
        field_stride=4,
        tile=64,
        overlap=16,
    )
    monkeypatch.setitem(PRESETS, "tiny", preset)
    return preset


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Make a folder of two sources with smooth and rough pictures."""
    root, rng = tmp_path_factory.mktemp("clear"), np.random.default_rng(0)
    for source, count in (("fields", 3), ("town", 1)):
        for index in range(count):
            coarse = rng.integers(20, 160, (3, 10, 12))
            fine = np.kron(coarse, np.ones((1, 12, 12))) + rng.normal(0, 8, (3, 120, 144))
            write_picture(root / source / f"{index}.tif", fine.clip(0, 255).astype(np.uint8))
    return root


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Make a folder of three pairs under an even veil."""
    root, rng = tmp_path_factory.mktemp("paired"), np.random.default_rng(1)
    for index in range(3):
        clear = np.kron(rng.integers(20, 160, (3, 10, 12)), np.ones((1, 12, 12)))
        for folder, picture in (("clear", clear), ("hazy", 0.6 * clear + 0.4 * 210)):
            write_picture(root / folder / f"{index}.tif", picture.astype(np.uint8))
    return root


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


@pytest.fixture
def everything():
    """Return all tensors that a run carries."""

    def collect(trainer):
        named = {f"model/{k}": v for k, v in trainer.model.state_dict().items()}
        named |= {f"averaged/{k}": v for k, v in trainer.averaged.items()}
        for name, parameter in trainer.model.named_parameters():
            named |= {f"{key}/{name}": value for key, value in trainer.optimizer.state.get(parameter, {}).items()}
        return {key: value.clone() for key, value in named.items()}

    return collect


@pytest.fixture
def run():
    """Start or resume a run, and take steps."""

    def take(config, steps):
        trainer = Trainer.start(config)
        supply = trainer.supply(open_data(config.data, pytest.fail, limit=config.memory_limit))
        for _ in range(steps):
            trainer.train_step(supply)
        return trainer

    return take


@pytest.fixture
def modes(config, pairs, tmp_path, run):
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
