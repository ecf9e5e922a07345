"""The losses say what they are called, and those that need the truth about the haze drop out without it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from infdehaze.network import Restored
from torchmetrics.functional.image import structural_similarity_index_measure

from infdehaze_cli.training.config import TrainConfig
from infdehaze_cli.training.data import Batch
from infdehaze_cli.training.losses import frequency_loss, ssim, step_loss, training_loss

CONFIG = TrainConfig(data=Path("data"), out=Path("out"))


@pytest.fixture
def seen(scene):
    """What a network made of a batch, and the batch."""
    clear, other, depth = (scene(64, 80, 2, seed) for seed in range(3))
    fields = torch.cat([depth + 0.1, 0.7 + 0 * depth, 0 * depth], 1)
    restored = Restored(0.9 * clear + 0.1 * other, fields, torch.tensor(1.5))
    return restored, Batch(clear, other, depth, torch.full((2, 3, 1, 1), 0.9))


def test_ssim_is_that_of_torchmetrics_inside_the_picture(scene):
    first, second = scene(60, 70, 2, 0), scene(60, 70, 2, 1)
    _, whole = structural_similarity_index_measure(first, second, data_range=1.0, return_full_image=True)
    assert float(ssim(first, second)) == pytest.approx(float(whole[:, :, 5:-5, 5:-5].mean()), abs=1e-5)
    assert float(ssim(first, first)) == pytest.approx(1)


def test_the_frequency_loss_sees_every_frequency_at_its_own_amplitude():
    flat = torch.ones(1, 3, 32, 32)
    rows = torch.arange(32.0)[:, None].expand(32, 32)
    wave = torch.cos(2 * torch.pi * 5 * rows / 32).expand(1, 3, 32, 32)
    # one coefficient of 32 among 32 x 17 complex ones, or two of 16
    assert float(frequency_loss(flat)) == pytest.approx(32 / (2 * 32 * 17), rel=1e-4)
    assert float(frequency_loss(wave)) == pytest.approx(2 * 16 / (2 * 32 * 17), rel=1e-4)
    assert float(frequency_loss(0 * flat)) == 0


def test_an_even_error_has_no_steps():
    even = torch.full((1, 3, 64, 64), 0.3)
    edge = even.clone()
    edge[:, :, :, 32:] = 0.1
    assert float(step_loss(even)) == 0
    assert float(step_loss(edge)) > 0.01


def test_physics_drops_out_where_nobody_knows_the_haze(seen):
    restored, batch = seen
    unknown = Batch(batch.clear_B3HW, batch.hazy_B3HW)
    without = replace(CONFIG, transmission_weight=0.0, airlight_weight=0.0)
    assert torch.equal(training_loss(CONFIG, restored, unknown).total, training_loss(without, restored, batch).total)
    assert training_loss(CONFIG, restored, batch).total > training_loss(CONFIG, restored, unknown).total


@pytest.mark.parametrize(("loss", "weight"), [("l1+frequency", "frequency_weight"), ("l1+ssim", "ssim_weight")])
def test_each_choice_adds_its_term(seen, loss, weight):
    plain = training_loss(CONFIG, *seen).total
    chosen = training_loss(replace(CONFIG, loss=loss), *seen).total
    assert chosen > plain
    torch.testing.assert_close(training_loss(replace(CONFIG, loss=loss, **{weight: 0.0}), *seen).total, plain)


def test_losses_are_in_full_precision(seen):
    restored, batch = seen
    half = replace(restored, image_B3HW=restored.image_B3HW.half(), fields_B9HW=restored.fields_B9HW.bfloat16())
    for loss in ("l1", "l1+frequency", "l1+ssim"):
        losses = training_loss(replace(CONFIG, loss=loss), half, batch)
        assert losses.total.dtype == losses.image.dtype == torch.float32
