"""What is shown: tracebacks on demand, names as they are, bars and lines, results apart from messages."""

import os
import subprocess
import sys
from collections import namedtuple
from io import StringIO
from pathlib import Path

import pytest
from rasterio.transform import Affine
from rich.console import Console

from infdehaze_cli import console

Usage = namedtuple("Usage", "total used free")
PLACE = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}


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
