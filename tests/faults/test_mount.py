"""A network mount that fails now and then: every n-th read or write is an error of the system, for GDAL as for Zarr."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio

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

    def run(folder, kind, every, *options, times=1_000_000):
        log.unlink(missing_ok=True)
        numbers = {"FAULT_EVERY": str(every), "FAULT_TIMES": str(times)}
        faults = {"FAULT_FOLDER": str(folder), "FAULT_KIND": kind, "FAULT_LOG": str(log), **numbers}
        code = program.run("run", src, "-o", dst, *work, "-q", *options, **(faults if every else {}))
        said = program.err.read_text(errors="replace")
        assert "Traceback" not in said
        assert said.count("infdehaze: ") == (code != 0), said
        made = ["clean.tif", *(["haze.qml", "haze.tif"] if "--haze-map" in options else [])]
        assert sorted(path.name for path in dst.parent.iterdir()) == ([] if code else made)
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


def test_a_part_of_a_mosaic_is_asked_again(clean, src, dst, whole, tmp_path):
    """The mosaic has the name of the scene, and lies in front of it."""
    part = src.rename(src.with_name("part.tif"))
    with rasterio.open(part) as opened:
        src.write_text(mosaic_of(opened))

    code, faults = clean(tmp_path / "in" / "part", "read", 60)

    assert (code, faults > 0) == (0, True)
    with rasterio.io.MemoryFile(whole) as memory, memory.open() as expected, rasterio.open(dst) as found:
        assert found.read().tobytes() == expected.read().tobytes()


def mosaic_of(part):
    """Return a VRT of one part."""
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>{part.nodata:g}</NoDataValue>'
        f"<ColorInterp>{colour}</ColorInterp><SimpleSource>"
        f'<SourceFilename relativeToVRT="1">{Path(part.name).name}</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for band, colour in enumerate(("Red", "Green", "Blue"), 1)
    )
    place = f"<SRS>{part.crs}</SRS><GeoTransform>{', '.join(map(str, part.transform.to_gdal()))}</GeoTransform>"
    return f'<VRTDataset rasterXSize="{part.width}" rasterYSize="{part.height}">{place}{bands}</VRTDataset>'


@pytest.mark.parametrize("place", ["unpacked", "out"])
@pytest.mark.parametrize("options", [(), ("--format", "gtiff"), ("--haze-map",)], ids=" ".join)
def test_a_write_of_an_output_that_fails_silently_or_not_is_made_good(
    clean, dst, tmp_path, scratch, times, place, options
):
    """GDAL does not tell of each write that has failed: whichever it is, the files come out as without it."""
    plain = "gtiff" in options
    options = (*options, dst.with_name("haze.tif")) if options == ("--haze-map",) else options
    clean(tmp_path, "read", 0, *options)
    # libtiff may begin a directory of a plain GeoTIFF again elsewhere
    look = content_of if plain else bytes
    expected = taken(dst.parent, look)
    struck = 0
    for number in times((1, 2, 6), range(1, 200)):
        code, faults = clean(written(place, tmp_path, scratch, dst), "write", number, *options, times=1)

        assert (number, code) == (number, 0)
        assert taken(dst.parent, look) == expected, number
        if not faults:
            break
        struck += 1
    assert (struck > 0) == (place == "out" or not plain)
    print(f"\nthe output came out whole whichever of {struck} writes failed")


def content_of(file):
    """Return what a GeoTIFF says, wherever in it that lies."""
    with rasterio.io.MemoryFile(file) as memory, memory.open() as dataset:
        return dataset.profile, dataset.tags(), dataset.read().tobytes()


def taken(folder, look):
    """Return what ``look`` makes of the files of a folder, and remove them."""
    files = {path.name: look(path.read_bytes()) for path in sorted(folder.iterdir())}
    for name in files:
        (folder / name).unlink()
    return files


def written(place, tmp_path, scratch, dst):
    """Return where GDAL writes: what the names of the file begin with that becomes a COG, or the output's folder."""
    with claim(scratch, dst, print) as work:
        return work.path / ".clean" if place == "unpacked" else tmp_path / place


PLACES = [("in", "read"), ("scratch", "read"), ("scratch", "write"), ("out", "write")]


@pytest.mark.parametrize(("place", "kind"), PLACES)
def test_errors_without_end_are_5_and_the_run_goes_on_later(clean, dst, whole, tmp_path, scratch, place, kind):
    code, faults = clean(tmp_path / place, kind, 1)
    assert (code, faults > 0) == (5, True)

    assert clean(tmp_path, "read", 0)[0] == 0

    assert dst.read_bytes() == whole
    assert list(scratch.iterdir()) == []


def test_an_error_at_any_rate_gives_the_same_bytes_or_none(clean, dst, whole, tmp_path, scratch, times):
    """A header that is not read is bad input (3), like one that is damaged."""
    with claim(scratch, dst, print) as work:
        places = [(tmp_path / "in", "read"), (scratch, "read"), (work.path / "residuals", "write")]
    places += [(written(place, tmp_path, scratch, dst), "write") for place in ("unpacked", "out")]
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
