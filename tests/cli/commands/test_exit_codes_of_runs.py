"""Codes 5, 1, 130 and 143: what ends a run that has begun leaves finished work alone."""

import os
import shutil
import signal
import sys
import threading
from collections import namedtuple
from contextlib import suppress
from pathlib import Path

import pytest
from rasterio.transform import Affine

from infdehaze_cli import app as program_app
from infdehaze_cli import scene_plan, work_folder
from infdehaze_cli.errors import StorageError

Usage = namedtuple("Usage", "total used free")
PLACE = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}


# ---------------------------------------------------------------- 5: disk and I/O


def test_a_missing_scratch_folder_is_5(failing, make_raster, tmp_path):
    message = failing(5, "run", make_raster(), "-o", tmp_path / "clean.tif", "--scratch", tmp_path / "none")

    assert "--scratch" in message


def test_a_scratch_folder_that_is_a_file_is_5(failing, make_raster, tmp_path):
    failing(5, "run", make_raster(), "-o", tmp_path / "clean.tif", "--scratch", make_raster("file.tif"))


def test_a_scratch_folder_that_cannot_be_written_is_5(failing, make_raster, tmp_path, monkeypatch):
    def refuse(*where):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(work_folder.os, "open", refuse)

    assert "Permission denied" in failing(5, "run", make_raster(), "-o", tmp_path / "clean.tif")


def test_a_scratch_disk_that_is_full_is_5(failing, make_raster, tmp_path, scratch, monkeypatch):
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 0) if path == scratch else usage(path))

    message = failing(5, "run", make_raster(), "-o", tmp_path / "clean.tif", "--residuals", "ssd")

    assert "0 MiB free" in message
    assert "recompute" in message


def test_an_output_disk_that_is_full_is_5(failing, make_raster, tmp_path, monkeypatch):
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 0) if path == tmp_path else usage(path))

    assert "make room" in failing(5, "run", make_raster(), "-o", tmp_path / "clean.tif")


def test_a_scratch_disk_that_fills_up_on_the_way_is_5(failing, make_raster, tmp_path, scratch, at_phase):
    def fill_up():
        # a file in the place of the chunks' folder: every write below it fails
        (chunks,) = scratch.glob("infdehaze-*/residuals")
        shutil.rmtree(chunks)
        chunks.touch()

    at_phase("encode", fill_up)

    message = failing(5, "run", make_raster(), "-o", tmp_path / "clean.tif", "-q", "--residuals", "ssd")

    assert "--scratch" in message


# ---------------------------------------------------------------- a damaged store, which is mended where it can be


def flip_a_bit(chunk: Path) -> None:
    content = bytearray(chunk.read_bytes())
    content[len(content) // 3] ^= 1
    chunk.write_bytes(content)


def cut_off(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [flip_a_bit, cut_off, Path.unlink])
def test_a_damaged_residual_chunk_is_made_again(cli, make_raster, tmp_path, scratch, at_phase, damage):
    src, options = make_raster(), ("-q", "--residuals", "ssd", "--batch", "2")
    cli("run", src, "-o", tmp_path / "whole.tif", *options)
    at_phase("decode", lambda: damage(max(scratch.glob("*/residuals/c/*/*"))))

    ended = cli("run", src, "-o", tmp_path / "clean.tif", *options)

    assert ended.code == 0
    assert (tmp_path / "clean.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


# ---------------------------------------------------------------- 1, 129, 130, 143


def test_a_bug_of_ours_is_1_in_one_line_whatever_it_says(failing, make_raster, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("first line\nsecond [bold] line")

    monkeypatch.setattr(scene_plan, "plan_scene", fail)

    message = failing(1, "run", make_raster(), "-o", tmp_path / "clean.tif")

    assert "a bug of ours: RuntimeError: first line second [bold] line. Run again with --debug" in message


def test_an_interrupt_that_comes_outside_of_a_command_is_130_too(cli, monkeypatch):
    def interrupt(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(program_app, "app", interrupt)

    ended = cli("doctor")

    assert (ended.code, ended.out, ended.err) == (130, "", "infdehaze: interrupted\n")


@pytest.mark.parametrize("error", [ValueError("torn"), StorageError("It cannot be read. Try again.")])
@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGINT, 130, "infdehaze: interrupted\n"), (signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, "")],
)
def test_an_error_that_a_signal_left_behind_is_no_bug(cli, monkeypatch, number, code, says, error):
    def swallow(*arguments, **more):
        with suppress(KeyboardInterrupt, SystemExit):
            signal.raise_signal(number)
        raise error

    monkeypatch.setattr(program_app, "app", swallow)

    ended = cli("doctor")

    assert (ended.code, ended.out, ended.err) == (code, "", says)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no background jobs of a shell")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_program_in_the_background_goes_on_through_an_interrupt_and_a_closed_terminal(cli, number):
    signal.signal(number, signal.SIG_IGN)

    assert cli("models", "--json").code == 0
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.parametrize(
    ("phase", "kept"), [("encode", False), ("bottleneck", False), ("decode", True), ("finish", True)]
)
def test_an_interrupt_is_130_and_leaves_nothing_but_finished_work(
    cli, make_raster, listing, tmp_path, scratch, at_phase, phase, kept
):
    def interrupt():
        raise KeyboardInterrupt

    src = make_raster()
    before = listing(tmp_path)
    at_phase(phase, interrupt)

    ended = cli("run", src, "-o", tmp_path / "clean.tif", "-q", "--residuals", "dram")

    assert (ended.code, ended.out, ended.err) == (130, "", "infdehaze: interrupted\n")
    assert listing(tmp_path) == before
    assert bool(list(scratch.iterdir())) == kept


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch on Windows")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_plain_kill_and_a_closed_terminal_remove_what_is_unfinished(
    cli, make_raster, listing, tmp_path, at_phase, number, code
):
    src = make_raster()
    before = listing(tmp_path)
    at_phase("decode", lambda: os.kill(os.getpid(), number))

    ended = cli("run", src, "-o", tmp_path / "clean.tif", "-q", "--residuals", "dram")

    assert (ended.code, ended.out) == (code, "")
    assert listing(tmp_path) == before
    assert not any(thread.name.startswith("infdehaze-") for thread in threading.enumerate())
