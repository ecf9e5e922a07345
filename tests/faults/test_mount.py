"""A network mount that fails now and then: every n-th read or write is an error of the system, for GDAL as for Zarr."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infdehaze_cli.work_folder import claim

from .conftest import Program

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="it takes Linux and a C compiler"
)


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The program, with the C library's reads and writes made to fail on demand."""
    folder = tmp_path_factory.mktemp("mount")
    library = folder / "mount.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, Path(__file__).with_name("mount.c"), "-ldl"], check=True)
    server = Program(folder, LD_PRELOAD=str(library))
    yield server
    server.close()


@pytest.fixture
def clean(program, src, dst, config, tmp_path):
    """Run with faults in a folder; return the exit code, and how many faults there were."""
    made, log = config(), tmp_path / "faults"
    work = ("--scratch", made.scratch, "--residuals", "ssd", "--batch", 2, "--weights", made.weights, "--device", "cpu")

    def run(folder, kind, every):
        log.unlink(missing_ok=True)
        faults = {"FAULT_FOLDER": str(folder), "FAULT_KIND": kind, "FAULT_EVERY": str(every), "FAULT_LOG": str(log)}
        code = program.run("run", src, "-o", dst, *work, "-q", **(faults if every else {}))
        said = program.err.read_text(errors="replace")
        assert "Traceback" not in said
        assert said.count("infdehaze: ") == (code != 0), said
        assert [path.name for path in dst.parent.iterdir()] == ([] if code else ["clean.tif"])
        return code, log.stat().st_size if log.exists() else 0

    return run


@pytest.mark.parametrize(
    ("place", "kind", "every"), [("residuals", "read", 7), ("residuals", "write", 7), ("in", "read", 60)]
)
def test_an_error_now_and_then_is_tried_again(clean, dst, whole, tmp_path, scratch, place, kind, every):
    with claim(scratch, dst, print) as work:
        folder = work.path / "residuals" if place == "residuals" else tmp_path / place

    code, faults = clean(folder, kind, every)

    assert (code, faults > 0) == (0, True)
    assert dst.read_bytes() == whole
    assert list(scratch.iterdir()) == []


PLACES = [("in", "read"), ("scratch", "read"), ("scratch", "write"), ("out", "write")]


@pytest.mark.parametrize(("place", "kind"), PLACES)
def test_errors_without_end_are_5_and_the_run_goes_on_later(clean, dst, whole, tmp_path, scratch, place, kind):
    code, faults = clean(tmp_path / place, kind, 1)
    assert (code, faults > 0) == (5, True)

    assert clean(tmp_path, "read", 0)[0] == 0

    assert dst.read_bytes() == whole
    assert list(scratch.iterdir()) == []


def test_an_error_at_any_rate_gives_the_same_bytes_or_none(clean, dst, whole, tmp_path, scratch, times):
    """A header that is not read is bad input (3), like one that is damaged.

    Writes of GDAL are left out: after one that failed, libtiff may read directories without end.
    """
    with claim(scratch, dst, print) as work:
        places = [(tmp_path / "in", "read"), (scratch, "read"), (work.path / "residuals", "write")]
    tally = {0: 0, 3: 0, 5: 0}
    for every in times((50,), (2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200)):
        for folder, kind in places:
            code, _ = clean(folder, kind, every)
            tally[code] += 1
            if code:
                assert clean(tmp_path, "read", 0)[0] == 0
            assert dst.read_bytes() == whole, (every, folder, kind, code)
            dst.unlink()
    print(f"\nevery n-th read or write fails: {tally}")
