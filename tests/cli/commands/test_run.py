"""`infdehaze run`: one raster in, one raster out, the map as it was."""

import json
import re

import numpy as np
import pytest
import rasterio
from infdehaze.weights import shipped_weights
from rasterio.shutil import copy as copy_raster
from rio_cogeo.cogeo import cog_validate

JSON_KEYS = {
    "src": str,
    "dst": str,
    "width": int,
    "height": int,
    "bands": int,
    "tiles": int,
    "preset": str,
    "weights": str,
    "device": str,
    "precision": str,
    "batch": int,
    "tier": str,
    "peak_device_bytes": int,
    "predicted_device_bytes": int,
    "peak_rss_bytes": int,
    "scratch_bytes": int,
    "checkpoint_bytes": int,
    "seconds": dict,
    "megapixels_per_second": float,
    "resumed": bool,
    "not_repeated": dict,
}
PHASES = ("read", "encode", "bottleneck", "decode", "write", "finish")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_the_picture_changes_and_the_map_stays(cli, make_raster, read_raster, tmp_path, bands, dtype):
    src, dst = make_raster(bands=bands, dtype=dtype), tmp_path / "clean.tif"

    ended = cli("run", src, "-o", dst)

    before, after = read_raster(src), read_raster(dst)
    assert ended.code == 0
    assert after.place == before.place
    assert after.bands == before.bands
    assert before.tags.items() <= after.tags.items()
    assert all(old.items() <= new.items() for old, new in zip(before.band_tags, after.band_tags, strict=True))
    colours = min(bands, 3)
    assert all((before.pixels[band] != after.pixels[band]).any() for band in range(colours))
    np.testing.assert_array_equal(after.pixels[colours:], before.pixels[colours:])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_no_strength_gives_the_input_bit_for_bit(cli, make_raster, read_raster, tmp_path, dtype):
    src, dst = make_raster(bands=4, dtype=dtype), tmp_path / "same.tif"

    cli("run", src, "-o", dst, "--strength", "0")

    np.testing.assert_array_equal(read_raster(dst).pixels, read_raster(src).pixels)


def test_half_the_strength_changes_less(cli, make_raster, read_raster, tmp_path):
    src = make_raster(dtype="float32")
    before = read_raster(src).pixels

    def change(strength):
        dst = tmp_path / f"{strength}.tif"
        cli("run", src, "-o", dst, "--strength", strength)
        return np.abs(read_raster(dst).pixels - before).mean()

    assert 0 < change(0.5) < change(1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 300), (255, 17), (257, 70), (64, 64)])
def test_any_size_comes_out_as_it_went_in(cli, make_raster, read_raster, tmp_path, height, width):
    src, dst = make_raster(height=height, width=width), tmp_path / "clean.tif"

    ended = cli("run", src, "-o", dst)

    assert ended.code == 0
    assert read_raster(dst).pixels.shape == (3, height, width)


@pytest.mark.parametrize("size", [(40, 300), (256, 256)])
def test_shipped_weights_are_the_default(cli, make_raster, read_raster, tmp_path, monkeypatch, size):
    monkeypatch.delenv("INFDEHAZE_WEIGHTS")
    assert "lite" in shipped_weights(), "the package ships no weights: models/infdehaze/weights/lite.safetensors"
    src, dst = make_raster(height=size[0], width=size[1]), tmp_path / "clean.tif"

    ended = cli("run", src, "-o", dst, "--json")

    result = json.loads(ended.out)
    assert (ended.code, result["weights"], result["preset"]) == (0, "lite", "lite")
    # the veil is bright, so the restored ground is darker and has more contrast
    before, after = read_raster(src).pixels, read_raster(dst).pixels
    assert after.mean() < before.mean() - 5
    assert after.std() > before.std()


def test_json_is_one_object_with_all_its_keys(cli, make_raster, tmp_path):
    src, dst = make_raster(bands=4, height=70, width=90), tmp_path / "clean.tif"

    ended = cli("run", src, "-o", dst, "--json")

    result = json.loads(ended.out)
    assert {key: type(result[key]) for key in JSON_KEYS} == JSON_KEYS
    assert set(PHASES) <= set(result["seconds"])
    assert all(seconds >= 0 for seconds in result["seconds"].values())
    assert (result["src"], result["dst"]) == (str(src), str(dst))
    assert (result["width"], result["height"], result["bands"]) == (90, 70, 4)
    assert 0 < result["peak_device_bytes"] <= result["predicted_device_bytes"]
    assert (result["scratch_bytes"], result["resumed"]) == (0, False)


def test_json_goes_with_quiet(cli, make_raster, tmp_path):
    ended = cli("run", make_raster(), "-o", tmp_path / "clean.tif", "--json", "-q")

    assert json.loads(ended.out)["tiles"] > 1
    assert ended.err == ""


def test_progress_is_plain_lines_on_stderr_and_the_result_one_line_on_stdout(cli, make_raster, tmp_path):
    ended = cli("run", make_raster(), "-o", tmp_path / "clean.tif")

    assert re.fullmatch(r"(?:\w+: \d+ in \d+\.\d s\n){4}", ended.err)
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["encode", "bottleneck", "decode", "finish"]
    assert ended.out.startswith(f"{tmp_path / 'clean.tif'}: 120 x 96 px in ")
    assert ended.out.count("\n") == 1


def test_quiet_says_nothing(cli, make_raster, tmp_path):
    ended = cli("run", make_raster(), "-o", tmp_path / "clean.tif", "-q")

    assert ended == type(ended)(0, "", "")
    assert (tmp_path / "clean.tif").is_file()


@pytest.mark.parametrize("name", ["a [bold]b.tif", "sky :car: 100%.tif", "Übersicht – é.tif"])
def test_odd_names_are_taken_and_printed_as_they_are(cli, make_raster, tmp_path, name):
    src, dst = make_raster(f"from {name}"), tmp_path / f"to {name}"

    ended = cli("run", src, "-o", dst)

    assert dst.is_file()
    assert ended.out.startswith(f"{dst}: ")


def test_dry_run_prints_the_plan_and_writes_nothing(cli, make_raster, listing, tmp_path, scratch):
    src = make_raster()
    before = listing(tmp_path, scratch)

    table, as_json = (cli("run", src, "-o", tmp_path / "clean.tif", "--dry-run", *more) for more in ((), ("--json",)))

    assert "120 x 96 px" in table.out
    assert json.loads(as_json.out)["tiles"] == json.loads(cli("plan", src, "--json").out)["tiles"]
    assert (table.err, as_json.err) == ("", "")
    assert listing(tmp_path, scratch) == before


def test_a_file_is_replaced_only_when_told_to(cli, make_raster, tmp_path):
    src, dst = make_raster(), tmp_path / "clean.tif"
    dst.write_text("precious")

    refused = cli("run", src, "-o", dst)
    kept = dst.read_text()
    replaced = cli("run", src, "-o", dst, "--overwrite")

    assert (refused.code, kept) == (2, "precious")
    assert "--overwrite" in refused.err
    assert replaced.code == 0
    with rasterio.open(dst) as file:
        assert file.shape == (96, 120)


def test_a_cog_is_made_by_default_and_a_plain_geotiff_on_demand(cli, make_raster, read_raster, tmp_path):
    src, cog, plain = make_raster(height=300, width=400), tmp_path / "cog.tif", tmp_path / "plain.tif"

    cli("run", src, "-o", cog)
    cli("run", src, "-o", plain, "--format", "gtiff")

    valid, errors, warnings = cog_validate(cog)
    assert (valid, errors, warnings) == (True, [], [])
    layouts = []
    for path in (cog, plain):
        with rasterio.open(path) as file:
            layouts.append(file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"))
    assert layouts == ["COG", None]
    np.testing.assert_array_equal(read_raster(cog).pixels, read_raster(plain).pixels)


@pytest.mark.parametrize(
    ("file_format", "options", "expected"),
    [
        ("cog", ["COMPRESS=LZW", "BLOCKSIZE=128"], {"compress": "lzw", "blockxsize": 128}),
        ("gtiff", ["compress=zstd", "BLOCKXSIZE=64", "BLOCKYSIZE=32"], {"compress": "zstd", "blockysize": 32}),
    ],
)
def test_creation_options_reach_the_file(cli, make_raster, read_raster, tmp_path, file_format, options, expected):
    dst = tmp_path / "clean.tif"
    flags = [word for option in options for word in ("--co", option)]

    ended = cli("run", make_raster(height=150, width=150), "-o", dst, "--format", file_format, *flags)

    assert ended.code == 0
    assert expected.items() <= read_raster(dst).profile.items()


def test_bands_name_red_green_and_blue(cli, make_raster, landscape_pixels, read_raster, tmp_path):
    pixels = landscape_pixels()
    in_order = make_raster("rgb.tif", pixels)
    reversed_order = make_raster("bgr.tif", np.ascontiguousarray(pixels[::-1]))

    cli("run", in_order, "-o", tmp_path / "a.tif")
    cli("run", reversed_order, "-o", tmp_path / "b.tif", "--bands", "3,2,1")

    expected, found = read_raster(tmp_path / "a.tif").pixels, read_raster(tmp_path / "b.tif").pixels
    np.testing.assert_array_equal(found[::-1], expected)


def test_one_band_of_two_is_dehazed_as_grey_when_named(cli, make_raster, read_raster, tmp_path):
    src, dst = make_raster(bands=2), tmp_path / "clean.tif"

    ended = cli("run", src, "-o", dst, "--bands", "2")

    before, after = read_raster(src).pixels, read_raster(dst).pixels
    assert ended.code == 0
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1] != before[1]).any()


def test_a_scale_range_is_used_and_written_down(cli, make_raster, read_raster, tmp_path):
    src = make_raster(dtype="uint16")
    flat, bright = tmp_path / "flat.tif", tmp_path / "bright.tif"

    cli("run", src, "-o", flat, "--scale-range", "-100,60000")
    cli("run", src, "-o", bright, "--scale-range", "300,10500.5")

    first, second = read_raster(flat), read_raster(bright)
    assert (first.tags["INFDEHAZE_SCALE_RANGE"], second.tags["INFDEHAZE_SCALE_RANGE"]) == (
        "-100.0,60000.0",
        "300.0,10500.5",
    )
    assert (first.pixels != second.pixels).any()


def test_the_output_says_how_it_was_made(cli, make_raster, read_raster, tmp_path, tiny_checkpoint):
    dst = tmp_path / "clean.tif"

    cli("run", make_raster(), "-o", dst, "--strength", "0.75", "--overlap", "8")

    tags = read_raster(dst).tags
    assert tags["INFDEHAZE_WEIGHTS"] == tiny_checkpoint.name
    assert (tags["INFDEHAZE_STRENGTH"], tags["INFDEHAZE_OVERLAP"]) == ("0.75", "8")
    assert tags["INFDEHAZE_VERSION"]


@pytest.mark.parametrize("tier", ["dram", "ssd", "recompute"])
def test_tier_batch_and_budget_do_not_change_the_file(cli, make_raster, tmp_path, scratch, tier):
    src = make_raster(height=150, width=170)
    reference, dst = tmp_path / "reference.tif", tmp_path / "clean.tif"
    cli("run", src, "-o", reference)

    ended = cli("run", src, "-o", dst, "--residuals", tier, "--batch", "4", "--gpu-mem", "512M", "--json")

    result = json.loads(ended.out)
    assert (result["tier"], result["batch"]) == (tier, 4)
    assert (result["scratch_bytes"] > 0) == (tier == "ssd")
    assert dst.read_bytes() == reference.read_bytes()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("driver", ["VRT", "PNG"])
def test_whatever_gdal_opens_is_a_source(cli, make_raster, read_raster, tmp_path, driver):
    tiff, src, dst = make_raster(), tmp_path / f"source.{driver.lower()}", tmp_path / "clean.tif"
    copy_raster(tiff, src, driver=driver)

    ended = cli("run", src, "-o", dst)

    cli("run", tiff, "-o", tmp_path / "expected.tif")
    assert ended.code == 0
    np.testing.assert_array_equal(read_raster(dst).pixels, read_raster(tmp_path / "expected.tif").pixels)


def test_options_may_come_from_the_environment_and_flags_beat_them(cli, make_raster, tmp_path, monkeypatch):
    src = make_raster()
    monkeypatch.setenv("INFDEHAZE_GPU_MEM", "1K")

    refused = cli("run", src, "-o", tmp_path / "clean.tif")
    done = cli("run", src, "-o", tmp_path / "clean.tif", "--gpu-mem", "1G")

    assert (refused.code, done.code) == (4, 0)
