"""Writes of an output that fail: all of it is written again, a bounded number of times, and no work is repeated."""

import errno
import os
from importlib import import_module

import pytest
from rasterio.errors import RasterioIOError

from infdehaze_cli import StorageError, dehaze
from infdehaze_cli.raster.destination import write_error
from infdehaze_cli.retry import WAITS

output, maps, vrt = (import_module(f"infdehaze_cli.{name}") for name in ("raster.output", "raster.maps", "report.vrt"))

STEPS = {
    "creating": (output, "open_quietly"),
    "packing": (output, "make_cog"),
    "checking": (output, "verify"),
}
"""Functions at which an output of pixels can fail."""

ERRORS = [RasterioIOError("Write error"), SystemError("Unknown GDAL Error"), OSError(errno.EIO, "Input/output error")]


@pytest.fixture
def fail(monkeypatch):
    """Let a function raise at its first calls; return the list of all its calls."""

    def begin(owner, name, error, times=1):
        works, calls = getattr(owner, name), []

        def broken(*args, **kwargs):
            calls.append(name)
            if len(calls) <= times:
                raise error
            return works(*args, **kwargs)

        monkeypatch.setattr(owner, name, broken)
        return calls

    return begin


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_output_that_fails_once_is_written_again(
    src, dst, config, whole, scratch, fail, listener, worked, step, error
):
    calls = fail(*STEPS[step], error)

    result = dehaze(src, dst, config=config(), reporter=listener)

    assert len(calls) == 2
    (note,) = listener.notes
    assert note.endswith("The output is written again.")
    assert worked == {"encoded": result.tiles, "bottleneck": 1, "decoded": result.tiles}
    assert dst.read_bytes() == whole
    assert [path.name for path in dst.parent.iterdir()] == ["clean.tif"]
    assert list(scratch.iterdir()) == []


class Refusing:
    """A dataset on which the n-th write fails."""

    def __init__(self, dataset, number):
        self._dataset, self._left = dataset, number

    def write(self, *args, **kwargs):
        self._left -= 1
        if self._left == 0:
            raise RasterioIOError("Write error")
        return self._dataset.write(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._dataset, name)


@pytest.mark.parametrize("residuals", ["dram", "ssd", "recompute"])
@pytest.mark.parametrize("made", ["cog", "gtiff"])
def test_a_window_that_cannot_be_written_once_is_written_with_all_others(
    src, dst, config, worked, scratch, monkeypatch, residuals, made
):
    dehaze(src, dst, config=config(residuals=residuals), format=made)
    expected = dst.read_bytes()
    works, opened = output.open_quietly, []

    def open_(path, mode="r", **options):
        dataset = works(path, mode, **options)
        if not mode.startswith("w"):
            return dataset
        opened.append(path)
        return Refusing(dataset, 1 if len(opened) == 1 else 0)

    monkeypatch.setattr(output, "open_quietly", open_)
    worked.update(dict.fromkeys(worked, 0))

    dehaze(src, dst, config=config(residuals=residuals), format=made, overwrite=True)

    assert len(opened) == 2
    assert worked["bottleneck"] == 1
    assert dst.read_bytes() == expected
    assert list(scratch.iterdir()) == []


KINDS = {"output": STEPS["packing"], "haze map": (maps, "open_quietly"), "vrt": (vrt, "verify")}


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_that_goes_on_failing_leaves_nothing_but_the_work(
    src, dst, config, scratch, fail, listener, worked, kind
):
    options = {"haze_map": dst.with_name("haze.tif")} if kind == "haze map" else {"vrt": kind == "vrt"}
    dst = dst.with_suffix(".vrt") if kind == "vrt" else dst
    calls = fail(*KINDS[kind], RasterioIOError("Write error"), times=1 + len(WAITS))

    with pytest.raises(StorageError, match="Write error") as caught:
        dehaze(src, dst, config=config(), reporter=listener, **options)

    assert caught.value.exit_code == 5
    assert len(calls) == 1 + len(WAITS)
    assert sum("written again" in note for note in listener.notes) == len(WAITS)
    assert list(dst.parent.iterdir()) == []
    worked.update(dict.fromkeys(worked, 0))
    assert dehaze(src, dst, config=config(), **options).resumed is (kind != "haze map")
    assert dst.exists()
    assert list(scratch.iterdir()) == []


def test_a_haze_map_is_not_there_before_its_output(src, dst, config, whole, fail):
    haze = dst.with_name("haze.tif")
    fail(*STEPS["checking"], RasterioIOError("Write error"), times=1 + len(WAITS))
    with pytest.raises(StorageError):
        dehaze(src, dst, config=config(), haze_map=haze)
    assert list(dst.parent.iterdir()) == []

    dehaze(src, dst, config=config(), haze_map=haze)

    assert sorted(path.name for path in dst.parent.glob("*.tif")) == ["clean.tif", "haze.tif"]
    assert dst.read_bytes() == whole


def test_a_disk_that_is_full_is_told_from_one_that_fails_now_and_then(mount, tmp_path):
    place, error = mount("256k"), RasterioIOError("Write error")
    with (place / "full").open("wb") as file:
        file.write(bytes(200 * 1024))

    full = write_error("Writing x failed", error, tmp_path, place)
    well = write_error("Writing x failed", error, tmp_path)

    assert not full.may_pass
    assert "No space left on device" in str(full)
    assert well.may_pass
    assert "Write error" in str(well)
    assert [path.name for path in place.iterdir()] == ["full"]


def test_a_folder_that_is_gone_is_not_written_to_again(tmp_path):
    error = write_error("Writing x failed", OSError(errno.ENOENT, os.strerror(errno.ENOENT)), tmp_path / "gone")

    assert not error.may_pass
