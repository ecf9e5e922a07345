"""Inputs that are damaged, or claim what they do not hold: a documented exit code, one line, and memory in bounds."""

import sys
import zlib

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from .tiffs import one_strip, one_tile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")

MiB = 1024**2
RAM = 256 * MiB
KINDS = {
    "strips": {"dtype": "uint8", "count": 3},
    "tiles": {"dtype": "uint8", "count": 4, "compress": "DEFLATE", "tiled": True, "blockxsize": 64, "blockysize": 64},
    "sixteen bits": {"dtype": "uint16", "count": 3, "compress": "LZW", "predictor": 2, "nodata": 7},
    "floats": {"dtype": "float32", "count": 1, "compress": "DEFLATE", "predictor": 3, "BIGTIFF": "YES"},
    "a mask": {"dtype": "uint8", "count": 1, "interleave": "band"},
}


@pytest.fixture
def sound(tmp_path, picture):
    """Write a small sound file of some kind; return its bytes."""

    def make(kind):
        path, profile = tmp_path / "sound.tif", KINDS[kind]
        top = 1 if profile["dtype"] == "float32" else np.iinfo(profile["dtype"]).max
        pixels = np.resize(picture(110, 130) * top, (profile["count"], 110, 130)).astype(profile["dtype"])
        place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", driver="GTiff", height=110, width=130, **profile, **place) as file,
        ):
            file.write(pixels)
            if kind == "a mask":
                file.write_mask((np.indices((110, 130)).sum(0) > 60).astype(np.uint8) * 255)
        return path.read_bytes()

    return make


@pytest.fixture
def clean(program, tmp_path, scratch, dst, weights):
    """Run over a file of some bytes; check all that must hold however it ends, and return the exit code."""
    work = ("--scratch", scratch, "--weights", weights, "--device", "cpu", "--ram", RAM, "-q")
    assert program.run("--version") == 0
    idle = program.peak

    def run(content):
        src = tmp_path / "damaged.tif"
        src.write_bytes(content)

        code = program.run("run", src, "-o", dst, *work)

        said = program.err.read_text(errors="replace")
        assert code in (0, 3, 4, 5), said
        assert "Traceback" not in said
        assert said.count("infdehaze: ") == (code != 0), said
        assert [path.name for path in dst.parent.iterdir()] == ([] if code else ["clean.tif"])
        assert list(scratch.iterdir()) == []
        assert program.peak - idle < RAM, f"{(program.peak - idle) / MiB:.0f} MiB, then: {code} {said}"
        dst.unlink(missing_ok=True)
        return code

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_file_of_each_kind_is_cleaned(clean, sound, kind):
    assert clean(sound(kind)) == 0


@pytest.mark.parametrize("kind", ["strips", "tiles"])
def test_a_file_that_is_cut_off_anywhere_is_bad_input(clean, sound, times, kind):
    content = sound(kind)

    codes = [clean(content[: int(len(content) * part)]) for part in np.linspace(0, 0.99, times(3, 32))]

    assert set(codes) == {3}


@pytest.mark.parametrize("kind", KINDS)
def test_random_bytes_end_as_documented(clean, sound, times, kind):
    """Every other byte is one of the directory's, where a change does most."""
    content, rng = sound(kind), np.random.default_rng(0)
    start = int.from_bytes(content[4:8], "little") if content[2] == 42 else int.from_bytes(content[8:16], "little")
    codes = []
    for number in range(times(4, 100)):
        place = rng.integers(start, min(len(content), start + 400)) if number % 2 else rng.integers(len(content))
        damaged = bytearray(content)
        damaged[place] ^= rng.integers(1, 256)
        codes.append(clean(bytes(damaged)))
    print(f"\n{kind}: { ({code: codes.count(code) for code in sorted(set(codes))}) }")


GIANTS = {
    "256 TB in a strip": (lambda: one_strip(2**24, 2**24, bands=1, pixels=bytes(62_000)), 4),
    "256 TB of two bytes": (lambda: one_strip(2**24, 2**24, bits=16, bands=1, pixels=bytes(62_000)), 4),
    "128 TB in tiles": (lambda: one_tile(2**24, 2**23, tile=2**18), 4),
    "4 GB in a strip": (lambda: one_strip(2**15, 2**15, bits=16, compression=8, pixels=zlib.compress(bytes(10**6))), 4),
    "3 GB in a packed strip": (lambda: one_strip(2**15, 2**15, compression=8, pixels=zlib.compress(bytes(10**6))), 4),
    "a strip of 120 MB": (lambda: one_strip(6000, 20_000, bands=1, pixels=bytes(1000)), 3),
}


@pytest.mark.parametrize("giant", GIANTS)
def test_what_claims_to_be_a_giant_takes_no_memory(clean, giant):
    make, expected = GIANTS[giant]

    assert clean(make()) == expected
