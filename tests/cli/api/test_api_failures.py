"""A run that fails leaves no output and no work files, and what stood there before."""

import errno
from importlib import import_module

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from infdehaze_cli import BudgetError, InputError, StorageError, UsageError, dehaze, plan_run

HEIGHT, WIDTH = 170, 205
CRS, TRANSFORM = "EPSG:32633", Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 5_000_000.0)


def load(path):
    with rasterio.open(path) as file:
        return file.read()


def steps_apart(first, second):
    return np.abs(first.astype(int) - second.astype(int))


PLACES = {
    "reading": ("infdehaze_cli.raster.source.Scene.read", 1),
    "reading on": ("infdehaze_cli.raster.source.Scene.read", 3),
    "reading for the output": ("infdehaze_cli.raster.source.Scene.read", 5),
    "encoding": ("infdehaze.encoder.Encoder.forward", 2),
    "storing": ("infdehaze_cli.store.ZarrResidualStore.write", 2),
    "attending": ("infdehaze.ibssa.IBSSA.project", 1),
    "mixing": ("infdehaze.lmmoe.LMMoE.sparse", 2),
    "loading": ("infdehaze_cli.store.ZarrResidualStore.read", 2),
    "decoding": ("infdehaze.decoder.Decoder.forward", 2),
    "writing": ("infdehaze_cli.raster.output.OutputWriter.write", 1),
    "finishing": ("infdehaze_cli.raster.output.OutputWriter.finish", 1),
    "making the COG": ("infdehaze_cli.raster.output.make_cog", 1),
    "verifying": ("infdehaze_cli.raster.output.verify", 1),
    "renaming": ("infdehaze_cli.raster.destination.sync_and_rename", 1),
}


def break_at(monkeypatch, place, error):
    target, call = PLACES[place]
    name = target.rpartition(".")[2]
    owner, calls = _owner(target), []
    works = getattr(owner, name)

    def broken(*args, **kwargs):
        calls.append(place)
        if len(calls) == call:
            raise error
        return works(*args, **kwargs)

    monkeypatch.setattr(owner, name, broken)
    return calls


def _owner(target):
    path = target.rpartition(".")[0]
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, kind = path.rpartition(".")
        return getattr(import_module(module), kind)


@pytest.mark.parametrize(
    ("place", "error"),
    [
        *((place, RuntimeError("broken")) for place in PLACES),
        ("reading", KeyboardInterrupt()),
    ],
)
def test_a_failure_leaves_no_output_and_no_work_files(config, raster, dst, pixels, tmp_path, monkeypatch, place, error):
    src = raster(pixels)
    calls = break_at(monkeypatch, place, error)
    with pytest.raises(type(error)) as caught:
        dehaze(src, dst, config=config())
    assert caught.value is error
    assert calls
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [src]
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("place", ["encoding", "writing", "verifying"])
def test_a_failure_leaves_the_file_that_was_to_be_replaced(config, raster, dst, pixels, monkeypatch, place):
    dst.write_bytes(b"precious")
    break_at(monkeypatch, place, RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        dehaze(raster(pixels), dst, config=config(), overwrite=True)
    assert dst.read_bytes() == b"precious"
    assert list(dst.parent.iterdir()) == [dst]


def test_a_file_is_replaced_only_if_that_was_said(config, raster, dst, pixels):
    src = raster(pixels)
    dst.write_bytes(b"precious")
    with pytest.raises(UsageError, match="--overwrite"):
        dehaze(src, dst, config=config())
    assert dst.read_bytes() == b"precious"
    dehaze(src, dst, config=config(), overwrite=True)
    assert load(dst).shape == pixels.shape


def test_a_file_that_comes_meanwhile_stays(config, raster, dst, pixels, monkeypatch):
    def announce(self, name, total):
        if name == "finish":
            dst.write_text("somebody else's")

    monkeypatch.setattr("infdehaze_cli.api.Silent.phase", announce)

    with pytest.raises(StorageError, match="meanwhile"):
        dehaze(raster(pixels), dst, config=config())

    assert dst.read_text() == "somebody else's"


def test_a_scene_is_never_written_over_itself(config, raster, pixels):
    src = raster(pixels)
    with pytest.raises(UsageError, match="source itself"):
        dehaze(src, src, config=config(), overwrite=True)
    assert np.array_equal(load(src), pixels)


def test_a_chunk_that_the_disk_spoils_is_made_again(config, raster, dst, pixels, tmp_path):
    notes = []
    src = raster(pixels)
    dehaze(src, dst, config=config())
    whole = dst.read_bytes()

    class Spoiler:
        def phase(self, name, total):
            if name == "bottleneck":
                (chunk,) = (tmp_path / "scratch").glob("*/residuals/c/1/0")
                content = bytearray(chunk.read_bytes())
                content[100] ^= 1
                chunk.write_bytes(content)

        def advance(self, steps=1):
            pass

        def note(self, text):
            notes.append(text)

    dehaze(src, dst, config=config(), overwrite=True, reporter=Spoiler())
    assert notes == ["Residuals of batch 1 are damaged: batch 1 is encoded again."]
    assert dst.read_bytes() == whole


@pytest.mark.parametrize("missing", ["nowhere", "file"])
def test_a_scratch_folder_that_cannot_be_used_is_a_storage_error(config, raster, dst, pixels, tmp_path, missing):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="--scratch") as caught:
        dehaze(raster(pixels), dst, config=config(scratch=tmp_path / missing))
    assert caught.value.exit_code == 5


def test_a_full_scratch_folder_is_found_before_the_work_begins(config, raster, dst, pixels, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    calls = break_at(monkeypatch, "encoding", RuntimeError())
    with pytest.raises(StorageError, match="--residuals recompute"):
        dehaze(raster(pixels), dst, config=config())
    assert not calls


def test_a_disk_that_fills_up_is_a_storage_error(config, raster, dst, pixels, monkeypatch, tmp_path):
    async def fail(self, key, value, *args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zarr.storage.LocalStore.set", fail)
    with pytest.raises(StorageError, match="No space left"):
        dehaze(raster(pixels), dst, config=config())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_budget_that_cannot_hold_the_run_is_found_before_the_work_begins(config, raster, dst, pixels, monkeypatch):
    calls = break_at(monkeypatch, "reading", RuntimeError())
    with pytest.raises(BudgetError, match="--gpu-mem"):
        dehaze(raster(pixels), dst, config=config(gpu_mem=2**20))
    assert not calls


def test_a_source_that_is_missing_is_bad_input(config, dst, tmp_path):
    for call in (lambda src: dehaze(src, dst, config=config()), lambda src: plan_run(src, config=config())):
        with pytest.raises(InputError):
            call(tmp_path / "nothing.tif")
