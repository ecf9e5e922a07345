"""What calibration finds is finite, and the estimate follows from the plan."""

from dataclasses import replace

import pytest

from infdehaze_cli import calibration
from infdehaze_cli.calibration import calibrate, estimate_seconds, probe_disk
from infdehaze_cli.errors import StorageError


@pytest.fixture(autouse=True)
def small_probe(monkeypatch):
    """Keep the disk out of the time that these tests take."""
    monkeypatch.setattr(calibration, "PROBE_BYTES", 2 * 1024**2)


@pytest.fixture
def model(make_model):
    return make_model(depths=(1, 1, 1, 1))


@pytest.fixture
def plan(engine, model, picture):
    return engine.plan(model, picture(300, 400), batch=4)


def test_rates_are_positive_and_nothing_is_left_behind(engine, model, plan):
    rates = calibrate(model, plan, engine.scratch)

    assert min(rates.encode_tiles, rates.write_bytes, rates.read_bytes) > 0
    assert rates.scratch_free > 0
    assert list(engine.scratch.iterdir()) == []


def test_the_folders_of_others_are_left_alone(engine, model, plan):
    names = ("coarse", "residuals", "encoded", "fields", "latents", "mixed")
    for name in names:
        (engine.scratch / name).mkdir()
        (engine.scratch / name / "precious.txt").write_text("mine")

    calibrate(model, plan, engine.scratch)
    estimate_seconds(model, plan, engine.scratch, 3)

    assert {path.name: path.read_text() for path in engine.scratch.glob("*/*")} == {"precious.txt": "mine"}
    assert sorted(path.name for path in engine.scratch.iterdir()) == sorted(names)


def test_a_scene_of_twice_the_tiles_takes_about_twice_as_long(engine, model, plan, monkeypatch):
    # one trial for both
    trial = calibration._trial(model, plan, engine.scratch)
    monkeypatch.setattr(calibration, "_trial", lambda *args: trial)
    monkeypatch.setattr(calibration, "_packing_seconds", lambda: 0.0)
    twice = replace(plan, tiles=2 * plan.tiles)

    once, double = (estimate_seconds(model, p, engine.scratch, 3) for p in (plan, twice))

    assert double == pytest.approx(2 * once)


def test_encoding_again_and_the_disk_take_their_time(engine, model, plan, monkeypatch):
    trial = (8, {"encode": 2.0, "bottleneck": 0.5, "decode": 1.0})
    monkeypatch.setattr(calibration, "_trial", lambda *args: trial)
    monkeypatch.setattr(calibration, "probe_disk", lambda folder: (1e6, 2e6, 10**9))
    monkeypatch.setattr(calibration, "_packing_seconds", lambda: 1e-8)
    packing = 300 * 400 * 3 * 1e-8

    dram, recompute, ssd = (
        estimate_seconds(model, replace(plan, tiles=16, tier=tier, scratch_bytes=size), engine.scratch, 3)
        for tier, size in (("dram", 0), ("recompute", 0), ("ssd", 10**7))
    )

    assert dram == pytest.approx(7.0 + packing)
    assert recompute == pytest.approx(11.0 + packing)
    assert ssd == pytest.approx(7.0 + 10 + 5 + packing)


def test_packing_takes_some_nanoseconds_a_byte():
    assert 1e-11 < calibration._packing_seconds() < 1e-5


def test_a_folder_that_is_none_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="--scratch"):
        probe_disk(tmp_path / "none")
