"""How the command line ends: its code, one line on stderr, and nothing left where it failed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rich.console import Console

from infdehaze_cli import api, console, work_folder

Usage = namedtuple("Usage", "total used free")
PLACE = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}


@pytest.fixture
def failing(cli, make_raster, listing, tmp_path, scratch):
    """Run something that must fail, and check everything that holds for each failure."""

    def run(code, *arguments, lines=1):
        before = listing(tmp_path, scratch)
        ended = cli(*arguments)
        assert ended.code == code, ended.err
        assert ended.out == ""
        assert ended.err.count("\n") == lines
        assert ended.err.splitlines()[-1].startswith("infdehaze: ")
        assert "Traceback" not in ended.err
        assert listing(tmp_path, scratch) == before
        assert [path for path in scratch.iterdir() if path.name.startswith("infdehaze-")] == []
        return ended.err

    return run


@pytest.fixture
def at_phase(monkeypatch):
    """Do something when a run announces a phase: in the middle, when its files are open."""

    def patch(phase, action):
        def announce(self, name, total):
            if name == phase:
                action()

        monkeypatch.setattr(api.Silent, "phase", announce)

    return patch


def test_done_is_0(cli, make_raster, tmp_path):
    assert cli("run", make_raster(), "-o", tmp_path / "clean.tif").code == 0


# ---------------------------------------------------------------- 2: wrong usage


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["nonsense"], "--help"),
        (["run"], "--help"),
        (["run", "{src}"], "--output"),
        (["run", "{src}", "-o", "{dst}", "--no-such-option"], "--no-such-option"),
        (["run", "{src}", "{src}", "-o", "{dst}"], "--help"),
        (["run", "{src}", "-o", "{dst}", "--gpu-mem", "lots"], "4G"),
        (["run", "{src}", "-o", "{dst}", "--ram", "-1"], "--help"),
        (["run", "{src}", "-o", "{dst}", "--residuals", "cloud"], "dram"),
        (["run", "{src}", "-o", "{dst}", "--residual-dtype", "fp8"], "fp16"),
        (["run", "{src}", "-o", "{dst}", "--precision", "fp64"], "fp32"),
        (["run", "{src}", "-o", "{dst}", "--batch", "0"], "--batch"),
        (["run", "{src}", "-o", "{dst}", "--strength", "2"], "--strength"),
        (["run", "{src}", "-o", "{dst}", "--overlap", "7"], "multiple of"),
        (["run", "{src}", "-o", "{dst}", "--device", "abacus"], "cpu"),
        (["run", "{src}", "-o", "{dst}", "--device", "mps"], "cpu"),
        (["run", "{src}", "-o", "{dst}", "--bands", "1,2"], "4,3,2"),
        (["run", "{src}", "-o", "{dst}", "--bands", "red"], "4,3,2"),
        (["run", "{src}", "-o", "{dst}", "--bands", "1,2,9"], "1 to 3"),
        (["run", "{src}", "-o", "{dst}", "--bands", "1,1,2"], "twice"),
        (["run", "{src}", "-o", "{dst}", "--scale-range", "5"], "0,10000"),
        (["run", "{src}", "-o", "{dst}", "--scale-range", "9,3"], "0,10000"),
        (["run", "{src}", "-o", "{dst}", "--scale-range", "0,inf"], "0,10000"),
        (["run", "{src}", "-o", "{dst}", "--scale-range", "nan,1"], "0,10000"),
        (["run", "{src}", "-o", "{dst}", "--format", "jpeg"], "gtiff"),
        (["run", "{src}", "-o", "{dst}", "--co", "COMPRESS"], "KEY=VALUE"),
        (["run", "{src}", "-o", "{dst}", "--co", "COMPRESS=MAGIC"], "option"),
        (["run", "{src}", "-o", "{dst}", "--co", "NO_SUCH_KEY=1"], "NO_SUCH_KEY"),
        (["run", "{src}", "-o", "{src}", "--overwrite"], "source itself"),
        (["run", "{src}", "-o", "{folder}"], "folder"),
        (["run", "{src}", "-o", "{folder}/none/clean.tif"], "make it first"),
        (["run", "{src}", "-o", "/vsimem/clean.tif"], "local file"),
        (["run", "{src}", "-o", "https://host/clean.tif"], "local file"),
        (["run", "{src}", "-o", "s3://bucket"], "bucket and a key"),
        (["run", "{src}", "-o", "{dst}", "--out-dir", "{folder}"], "not both"),
        (["run", "{src}", "-o", "{dst}", "--profile", "cog-gif"], "cog-zstd"),
        (["run", "{src}", "-o", "{dst}", "--profile", "gtiff", "--format", "cog"], "--format"),
        (["run", "{src}", "-o", "{dst}", "--other-bands", "burn"], "drop"),
        (["bench", "nonsense"], "--help"),
    ],
    ids=lambda value: " ".join(value[2:]) or value[0] if isinstance(value, list) else None,
)
def test_wrong_usage_is_2_and_says_what_to_do(failing, make_raster, tmp_path, arguments, hint):
    places = {"src": make_raster(), "dst": tmp_path / "clean.tif", "folder": tmp_path}

    message = failing(2, *(argument.format(**places) for argument in arguments))

    assert hint in message


def test_no_command_is_2_and_shows_the_help(cli):
    ended = cli()

    assert ended.code == 2
    assert "Usage: infdehaze" in ended.out + ended.err


# ---------------------------------------------------------------- 3: bad input


def truncated(path):
    """A file whose header is whole and whose last blocks are missing."""
    profile = {"driver": "GTiff", "count": 3, "height": 300, "width": 260, "dtype": "uint8", **PLACE, **TILES}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.full((3, 300, 260), 90, np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def scrambled(path):
    """A file with a compressed block that cannot be unpacked."""
    pixels = np.random.default_rng(0).integers(0, 255, (3, 128, 128), np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": 128, "width": 128, "dtype": "uint8", **PLACE, **TILES}
    with rasterio.open(path, "w", compress="deflate", **profile) as file:
        file.write(pixels)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    path.write_bytes(content)
    return path


def text(path):
    path.write_text("no raster at all")
    return path


def empty(path):
    path.touch()
    return path


def folder(path):
    path.mkdir()
    return path


def missing(path):
    return path


@pytest.mark.parametrize("command", ["run", "synth"])
@pytest.mark.parametrize("make", [missing, text, empty, folder, truncated, scrambled])
def test_a_source_that_cannot_be_read_is_3(failing, tmp_path, command, make):
    src = make(tmp_path / "source.tif")

    message = failing(3, command, src, "-o", tmp_path / "out.tif", "-q")

    assert str(src) in message


def test_a_damaged_block_is_3_whatever_is_kept_where(failing, tmp_path):
    src = truncated(tmp_path / "source.tif")

    failing(3, "run", src, "-o", tmp_path / "out.tif", "-q", "--residuals", "ssd", "--format", "gtiff")


@pytest.mark.parametrize(
    ("pixels", "hint"),
    [
        (np.ones((3, 40, 50), np.complex64), "complex64"),
        (np.ones((2, 40, 50), np.uint8), "--bands"),
    ],
    ids=["complex", "two bands"],
)
def test_a_kind_of_raster_that_cannot_be_dehazed_is_3(failing, make_raster, tmp_path, pixels, hint):
    src = make_raster(pixels=pixels)

    message = failing(3, "run", src, "-o", tmp_path / "clean.tif")

    assert hint in message


def test_a_file_that_stood_there_survives_a_failed_overwrite(failing, tmp_path):
    src, dst = truncated(tmp_path / "source.tif"), tmp_path / "clean.tif"
    dst.write_text("precious")

    failing(3, "run", src, "-o", dst, "-q", "--overwrite")

    assert dst.read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "hint"),
    [(None, "no weights"), (b"PK\x03\x04 a pickle", "pickled"), (b"nothing of ours", "not a safetensors file")],
    ids=["missing", "pickled", "garbage"],
)
def test_weights_that_cannot_be_used_are_3(failing, make_raster, tmp_path, content, hint):
    weights = tmp_path / "mine.safetensors"
    if content is not None:
        weights.write_bytes(content)

    message = failing(3, "run", make_raster(), "-o", tmp_path / "clean.tif", "--weights", weights)

    assert hint in message


# ---------------------------------------------------------------- 4: the budget


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--gpu-mem", "1M"], "--gpu-mem at least"),
        (["--gpu-mem", "20M", "--batch", "64"], "--gpu-mem at least"),
        (["--gpu-mem", "1K"], "--gpu-mem at least"),
        (["--residuals", "dram", "--ram", "1K"], "--ram at least"),
        (["--ram", "0"], "--ram at least"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_budget_that_cannot_hold_the_run_is_4_and_names_what_would(
    failing, make_raster, tmp_path, command, options, hint
):
    src = make_raster(height=400, width=500)
    output = ["-o", tmp_path / "clean.tif"] if command == "run" else []

    assert hint in failing(4, command, src, *output, *options)


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


# ---------------------------------------------------------------- 1, 130, 143


def test_a_bug_of_ours_is_1_in_one_line_whatever_it_says(failing, make_raster, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("first line\nsecond [bold] line")

    monkeypatch.setattr(api, "plan_scene", fail)

    message = failing(1, "run", make_raster(), "-o", tmp_path / "clean.tif")

    assert "a bug of ours: RuntimeError: first line second [bold] line. Run again with --debug" in message


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
def test_a_plain_kill_is_143_and_removes_what_is_unfinished(cli, make_raster, listing, tmp_path, at_phase):
    src = make_raster()
    before = listing(tmp_path)
    at_phase("decode", lambda: os.kill(os.getpid(), signal.SIGTERM))

    ended = cli("run", src, "-o", tmp_path / "clean.tif", "-q", "--residuals", "dram")

    assert (ended.code, ended.out) == (143, "")
    assert listing(tmp_path) == before
    assert not any(thread.name.startswith("infdehaze-") for thread in threading.enumerate())


# ---------------------------------------------------------------- what is shown


@pytest.mark.parametrize("from_environment", [False, True])
def test_debug_shows_the_traceback_and_keeps_the_code(cli, tmp_path, monkeypatch, from_environment):
    flag = [] if from_environment else ["--debug"]
    monkeypatch.setenv("INFDEHAZE_DEBUG", "1" if from_environment else "0")

    ended = cli("plan", tmp_path / "none.tif", *flag)

    assert ended.code == 3
    assert ended.out == ""
    assert "Traceback (most recent call last)" in ended.err
    assert ended.err.splitlines()[-1].startswith("infdehaze: Cannot open")


def test_names_in_messages_come_out_as_they_are(failing, tmp_path):
    src = tmp_path / "[red]the :car: \\[file].tif"

    assert str(src) in failing(3, "plan", src)


def test_a_terminal_gets_bars_and_a_file_lines(monkeypatch, capsys):
    screen = StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, highlight=False, width=80))

    with console.progress(quiet=False) as reporter:
        reporter.phase("encode", 2)
        reporter.note("[plain] note")
        reporter.advance(2)

    assert "encode" in screen.getvalue()
    assert "2/2" in screen.getvalue()
    assert "[plain] note" in screen.getvalue()
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def program(tiny_checkpoint, scratch):
    """Run the installed console script as users do."""
    script = Path(sys.executable).with_name("infdehaze")

    def run(*arguments):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("INFDEHAZE_")}
        environment |= {"INFDEHAZE_WEIGHTS": str(tiny_checkpoint), "INFDEHAZE_SCRATCH": str(scratch)}
        return subprocess.run(
            [script, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
        )

    return run


@pytest.mark.slow
def test_the_program_itself_keeps_results_and_messages_apart(program, make_raster, tmp_path):
    src = make_raster()

    done = program("run", src, "-o", tmp_path / "clean.tif", "--device", "cpu")
    failed = program("run", tmp_path / "none.tif", "-o", tmp_path / "other.tif")

    assert (done.returncode, failed.returncode) == (0, 3)
    assert done.stdout.count("\n") == 1
    assert done.stderr.splitlines()[0].startswith("encode: ")
    assert failed.stdout == ""
    assert failed.stderr.startswith("infdehaze: Cannot open")
    assert failed.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "clean.tif"}
