"""Streams that nobody holds: a log or a reader that ends, or that never was, ends no run."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def shell(make_raster, tmp_path, tiny_checkpoint, scratch):
    """Run a line of the shell in which ``$RUN`` is a run into ``clean.tif``."""
    src = make_raster()
    run = f"{sys.executable} -m infdehaze_cli run {src} -o {tmp_path / 'clean.tif'}"
    given = {"INFDEHAZE_WEIGHTS": str(tiny_checkpoint), "INFDEHAZE_SCRATCH": str(scratch), "RUN": run}

    def of(line):
        done = subprocess.run(["bash", "-c", line], env={**os.environ, **given}, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$RUN --json 2> >(true)", 0),
        ("$RUN 2>/dev/full", 0),
        ("set -o pipefail; $RUN --json -q | true", 0),
        ("$RUN --json -q >/dev/full", 5),
        ("$RUN >/dev/full", 5),
        ("$RUN -q >&-", 0),
        ("$RUN -q <&- 2>&-", 0),
    ],
)
def test_the_output_is_there_all_the_same(shell, tmp_path, line, code):
    ended, _, said = shell(line)

    assert ended == code, said
    assert "Traceback" not in said
    assert (tmp_path / "clean.tif").is_file()


@pytest.mark.slow
def test_a_closed_stdin_is_an_empty_source(shell, tmp_path):
    ended, _, said = shell(f"{sys.executable} -m infdehaze_cli run - -o {tmp_path / 'x.tif'} -q <&-")

    assert ended == 3, said
    assert "bug" not in said
