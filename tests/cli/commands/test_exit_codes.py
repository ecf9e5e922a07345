"""Codes 0 and 2 to 4: wrong usage, bad input and small budgets end in one line, and nothing is left where it failed."""

from collections import namedtuple

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

Usage = namedtuple("Usage", "total used free")
PLACE = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}


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
        (["run", "{src}", "-o", "{folder}/none/"], "make it first"),
        (["run", "{src}", "-o", "{folder}/clean.png"], "gdal_translate"),
        (["run", "{src}", "-o", "{dst}", "--haze-map", "{folder}/haze.png"], "gdal_translate"),
        (["run", "{src}", "-o", "{dst}", "--haze-map", "-"], "a name"),
        (["synth", "{src}", "-o", "{dst}", "--seed", "-1"], "--seed"),
        (["synth", "{src}", "-o", "{dst}", "--seed", str(2**64)], "--seed"),
        (["train", "{folder}", "-o", "{dst}", "--seed", "-1"], "--seed"),
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
