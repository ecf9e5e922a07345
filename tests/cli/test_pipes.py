"""`-` is standard input or output, and nothing but the raster goes through."""

import os
import shutil
import subprocess
import sys

import pytest

from infdehaze_cli.errors import InputError, StorageError
from infdehaze_cli.pipes import spooled_input

PROGRAM = "from infdehaze_cli.app import main; main()"


@pytest.fixture
def program(scratch, tiny_checkpoint):
    """Run the command line as a process of its own, with bytes for its standard input."""

    def run(*arguments, data=b"", **options):
        environment = {**os.environ, "INFDEHAZE_SCRATCH": str(scratch), "INFDEHAZE_WEIGHTS": str(tiny_checkpoint)}
        command = [sys.executable, "-c", PROGRAM, *map(str, arguments), "--device", "cpu"]
        return subprocess.run(command, input=data, capture_output=True, check=False, env=environment, **options)

    return run


def test_a_raster_goes_through_pipes_as_through_files(program, cli, make_raster, tmp_path, scratch):
    src, expected = make_raster(bands=4), tmp_path / "expected.tif"
    assert cli("run", src, "-o", expected).code == 0

    ended = program("run", "-", "-o", "-", "--json", data=src.read_bytes())

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == expected.read_bytes()
    assert b'"src": "-"' in ended.stderr
    assert b'"dst": "-"' in ended.stderr
    assert list(scratch.iterdir()) == []


def test_a_failed_run_sends_nothing(program, scratch):
    ended = program("run", "-", "-o", "-", data=b"no raster")

    assert ended.returncode == 3
    assert ended.stdout == b""
    assert ended.stderr.count(b"\n") == 1
    assert list(scratch.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell with pipes that close early")
def test_a_reader_that_goes_away_is_a_storage_error(scratch, tiny_checkpoint, make_raster):
    # the reader ends long before the first byte comes
    src = make_raster()
    run = f'"{sys.executable}" -c "{PROGRAM}" run "{src}" -o - -q --device cpu --weights "{tiny_checkpoint}"'
    command = f'({run} --scratch "{scratch}"; echo "code $?" >&2) | true'

    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)

    assert "code 5" in ended.stderr
    assert ended.stderr.count("\n") == 2
    assert list(scratch.iterdir()) == []


def test_a_plan_can_be_made_for_standard_input(program, make_raster):
    ended = program("plan", "-", "--json", data=make_raster().read_bytes())

    assert ended.returncode == 0
    assert b'"tiles"' in ended.stdout


def test_nothing_is_no_input(monkeypatch, tmp_path):
    with (tmp_path / "empty").open("w+") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(InputError, match="Nothing came"), spooled_input("-", tmp_path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_full_scratch_folder_is_a_storage_error(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "some").write_text("bytes")
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with (tmp_path / "some").open() as some:
        monkeypatch.setattr(sys, "stdin", some)
        with pytest.raises(StorageError, match="No space left"), spooled_input("-", tmp_path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["some"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("-", "--out-dir", "{folder}"), "--output"),
        (("{src}", "-o", "-", "--stac", "{folder}/item.json"), "STAC"),
        (("{src}", "-o", "-", "--scratch", "{folder}/none"), "--scratch"),
    ],
)
def test_what_does_not_go_with_pipes_is_refused(cli, make_raster, tmp_path, arguments, hint):
    places = {"src": make_raster(), "folder": tmp_path}

    ended = cli("run", *(argument.format(**places) for argument in arguments))

    assert ended.code in (2, 5)
    assert hint in ended.err
    assert ended.out == ""
