"""`infdehaze bench quality`: scores through the whole tool, beside the classical methods."""

import json

import numpy as np
import pytest
import rasterio

from infdehaze_cli.bench.deeper import narrow, widen
from infdehaze_cli.raster._gdal import quiet
from infdehaze_cli.scores import compare_rasters
from infdehaze_cli.training.haze import STYLES

METHODS = ["input", "infdehaze", "dark_channel", "colour_attenuation"]
SCORED = [*METHODS, "truth"]


@pytest.fixture
def clear(make_raster, tmp_path):
    (tmp_path / "clear" / "deep").mkdir(parents=True)
    make_raster("clear/a.tif", height=72, width=80)
    make_raster("clear/deep/a.tif", height=80, width=64)
    return tmp_path / "clear"


@pytest.fixture
def pairs(make_raster, landscape_pixels, tmp_path):
    """Two pairs under an even veil of white."""
    for folder in ("hazy", "clear"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
    for name, height, width in (("a", 72, 130), ("b", 90, 64)):
        pixels = landscape_pixels(height=height, width=width)
        make_raster(f"pairs/clear/{name}_clear.tif", pixels)
        make_raster(f"pairs/hazy/{name}_hazy.tif", (0.6 * pixels + 0.4 * 255).astype(np.uint8))
    return tmp_path / "pairs"


@pytest.mark.slow
def test_every_style_is_scored_by_every_method_and_nothing_is_left(cli, clear, listing, tmp_path):
    before = listing(tmp_path)

    ended = cli("bench", "quality", "--clear", clear, "--json", "-q")

    groups = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert list(groups) == ["clear", *STYLES]
    assert groups["clear"]["means"]["input"]["psnr"] is None
    for style in STYLES:
        means = groups[style]["means"]
        assert list(means) == SCORED
        assert len({scores["psnr"] for scores in means.values()}) == len(SCORED)
        assert (means["truth"]["psnr"], means["truth"]["ssim"]) == (None, 1)
        assert means["truth"]["seam"] > 0
        assert {scores["pixels"] for scores in means.values()} == {72 * 80 + 80 * 64}
    assert listing(tmp_path) == before


def test_the_table_has_a_row_a_method_and_the_mean_gain(cli, clear):
    ended = cli("bench", "quality", "--clear", clear / "deep")

    assert ended.code == 0
    for words in ("dark channel", "colour attenuation", "PSNR dB", "veil, 1 picture", "mean gain "):
        assert words in ended.out
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["clear", *STYLES]


@pytest.mark.slow
def test_rasters_are_kept_on_demand_and_a_seed_names_them(cli, clear, read_raster, tmp_path):
    folders = (tmp_path / "one", tmp_path / "two")
    for folder in folders:
        cli("bench", "quality", "--clear", clear / "deep", "--keep", folder, "--seed", "3", "-q")

    one, two = (sorted(path.relative_to(folder) for path in folder.rglob("*.tif")) for folder in folders)
    assert one == two
    # a hazy raster and three restored ones of each style, and the clear one restored
    assert len(one) == 4 * len(STYLES) + 3
    for path in one:
        first, second = read_raster(tmp_path / "one" / path), read_raster(tmp_path / "two" / path)
        assert (first.pixels == second.pixels).all()


@pytest.mark.slow
def test_pictures_are_cleaned_with_more_bits_and_scored_with_eight(cli, clear, read_raster, tmp_path):
    words = ("bench", "quality", "--clear", clear / "deep", "--json", "-q")

    plain = cli(*words, "--keep", tmp_path / "8")
    deeper = cli(*words, "--keep", tmp_path / "12", "--bits", "12")

    assert (plain.code, deeper.code) == (0, 0)
    few, many = json.loads(plain.out), json.loads(deeper.out)
    for style in STYLES:
        assert many[style]["means"]["input"] == few[style]["means"]["input"]
        # what is brightest in a scene of 12 bits is not known beforehand
        assert many[style]["means"]["infdehaze"] != few[style]["means"]["infdehaze"]
        hazy, restored = (read_raster(tmp_path / "12" / style / f"0000-a-{what}.tif") for what in ("hazy", "restored"))
        assert hazy.pixels.dtype == restored.pixels.dtype == np.uint8
        assert abs(hazy.pixels.astype(int) - restored.pixels).mean() < 64


@pytest.mark.parametrize("packed", [{}, {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"}])
@pytest.mark.parametrize("bits", [9, 12, 16])
def test_more_bits_hold_the_same_picture(make_raster, read_raster, tmp_path, bits, packed):
    path = make_raster("a.tif", height=40, width=50, profile={"nodata": 7, **packed})

    widen(path, tmp_path / "wide.tif", bits)
    narrow(tmp_path / "wide.tif", tmp_path / "back.tif", bits)

    before, wide, back = (read_raster(p) for p in (path, tmp_path / "wide.tif", tmp_path / "back.tif"))
    assert (wide.pixels == before.pixels.astype(np.uint16) * 2 ** (bits - 8)).all()
    assert (back.pixels == before.pixels).all()
    with rasterio.open(tmp_path / "wide.tif") as dataset:
        assert dataset.nodata == 7 * 2 ** (bits - 8)


@pytest.mark.filterwarnings("error")
def test_more_bits_say_nothing_of_a_picture_without_a_place(tmp_path):
    with (
        quiet(),
        rasterio.open(tmp_path / "a.png", "w", driver="PNG", width=70, height=40, count=3, dtype="uint8") as file,
    ):
        file.write(np.arange(3 * 40 * 70, dtype=np.uint8).reshape(3, 40, 70))

    widen(tmp_path / "a.png", tmp_path / "wide.tif", 12)

    assert (tmp_path / "wide.tif").exists()


def test_more_bits_keep_a_mask(make_raster, tmp_path):
    path, mask = make_raster("a.tif"), np.full((96, 120), 255, np.uint8)
    mask[:30] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)

    widen(path, tmp_path / "wide.tif", 12)
    narrow(tmp_path / "wide.tif", tmp_path / "back.tif", 12)

    for name in ("wide.tif", "back.tif"):
        with rasterio.open(tmp_path / name) as dataset:
            assert (dataset.dataset_mask() == mask).all()
    assert not list(tmp_path.glob("*.msk"))


def test_a_broken_picture_is_named_with_more_bits_too(cli, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.tif").write_text("not a picture")

    ended = cli("bench", "quality", "--clear", tmp_path / "broken", "--bits", "12", "-q")

    assert ended.code == 3
    assert "a.tif" in ended.err


def test_pictures_that_have_more_bits_already_are_refused(cli, make_raster, tmp_path):
    (tmp_path / "deep").mkdir()
    make_raster("deep/a.tif", np.full((3, 64, 64), 999, np.uint16))

    ended = cli("bench", "quality", "--clear", tmp_path / "deep", "--bits", "12", "-q")

    assert ended.code == 2
    assert "uint16" in ended.err


def test_pairs_are_scored_as_the_kept_rasters_are(cli, pairs, tmp_path):
    ended = cli("bench", "quality", "--pairs", pairs, "--keep", tmp_path / "kept", "--json", "-q")

    found = json.loads(ended.out)["pairs"]
    assert (ended.code, list(found["pictures"])) == (0, ["a", "b"])
    files = {"infdehaze": "restored", **{method: method for method in METHODS[2:]}}
    for name, each in found["pictures"].items():
        hazy, truth = pairs / "hazy" / f"{name}_hazy.tif", pairs / "clear" / f"{name}_clear.tif"
        assert each["input"] == compare_rasters(hazy, truth).to_dict()
        for method, file in files.items():
            # the tiny network has tiles of 64 px that overlap by 16
            kept = tmp_path / "kept" / "pairs" / f"{name}-{file}.tif"
            assert each[method] == compare_rasters(kept, truth, hazy=hazy, tile=64, overlap=16).to_dict()
        truths = compare_rasters(truth, truth, hazy=hazy, tile=64, overlap=16)
        # JSON has no number for an endless PSNR
        assert each["truth"] == {**truths.to_dict(), "psnr": None}
    for method in METHODS:
        each = [found["pictures"][name][method]["psnr"] for name in "ab"]
        assert found["means"][method]["psnr"] == pytest.approx(sum(each) / 2)


@pytest.mark.slow
def test_each_picture_is_printed_on_demand_and_both_sources_may_be_given(cli, pairs, clear):
    brief = cli("bench", "quality", "--pairs", pairs, "-q")
    ended = cli("bench", "quality", "--pairs", pairs, "--clear", clear / "deep", "--per-picture", "-q")

    assert (brief.code, ended.code) == (0, 0)
    assert "pairs, a" not in brief.out
    for words in ("pairs, a", "pairs, b", "pairs, mean of 2 pictures", "gain on pairs ", "veil, 0000-a", "mean gain "):
        assert words in ended.out


@pytest.mark.slow
def test_a_sheet_is_drawn_of_pairs_and_of_real_haze(cli, pairs, tmp_path):
    scored, bare = tmp_path / "scored.png", tmp_path / "bare.jpg"

    first = cli("bench", "quality", "--pairs", pairs, "--sheet", scored)
    second = cli("bench", "quality", "--hazy", pairs / "hazy", "--sheet", bare)

    assert (first.code, second.code, second.out) == (0, 0, "")
    assert scored.read_bytes().startswith(b"\x89PNG")
    assert bare.read_bytes().startswith(b"\xff\xd8")
    assert f"{bare}: 2 pictures" in second.err


def test_a_pair_of_two_sizes_is_3_and_named(cli, pairs, make_raster):
    make_raster("pairs/clear/b_clear.tif", height=90, width=66)

    ended = cli("bench", "quality", "--pairs", pairs)

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "The pair b does not match" in ended.err


def test_a_call_that_asks_for_nothing_or_for_too_much_is_2(cli, pairs, tmp_path):
    sheet = ("--sheet", tmp_path / "sheet.png")
    for words in (
        (),
        sheet,
        ("--hazy", pairs / "hazy"),
        ("--hazy", pairs / "hazy", "--pairs", pairs, *sheet),
        ("--hazy", pairs / "hazy", "--json", *sheet),
        ("--pairs", pairs, "--sheet", tmp_path / "sheet.txt"),
    ):
        ended = cli("bench", "quality", *words)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)


def test_no_pictures_is_3(cli, tmp_path):
    sheet = ("--sheet", tmp_path / "sheet.png")
    for folder in (tmp_path, tmp_path / "none"):
        for words in (("--clear", folder), ("--pairs", folder), ("--hazy", folder, *sheet)):
            ended = cli("bench", "quality", *words)
            assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)


def test_rasters_that_cannot_be_kept_are_5(cli, clear, make_raster):
    ended = cli("bench", "quality", "--clear", clear, "--keep", make_raster("file.tif"), "-q")

    assert (ended.code, ended.out, ended.err.count("\n")) == (5, "", 1)


@pytest.mark.parametrize("place", ["{pairs}/..", "{pairs}/hazy"])
def test_pictures_are_never_replaced(cli, pairs, listing, place):
    hazy = pairs / "hazy"
    (pairs / "hazy" / "a_hazy.tif").rename(pairs / "hazy" / "b_hazy-restored.tif")
    hazy.rename(pairs.parent / "hazy")
    (pairs / "hazy").symlink_to(pairs.parent / "hazy")
    before = listing(pairs.parent)

    kept = cli(
        "bench", "quality", "--hazy", hazy, "--sheet", pairs / "s.png", "--keep", place.format(pairs=pairs), "-q"
    )
    drawn = cli("bench", "quality", "--hazy", hazy, "--sheet", hazy / "b_hazy.tif", "-q")

    assert (kept.code, drawn.code) == (2, 2)
    assert "--keep" in kept.err
    assert listing(pairs.parent) == before


def test_a_sheet_is_none_of_the_pictures(cli, pairs, tmp_path):
    picture = tmp_path / "one" / "a.png"
    picture.parent.mkdir()
    with quiet(), rasterio.open(picture, "w", driver="PNG", width=64, height=64, count=3, dtype="uint8") as file:
        file.write(np.full((3, 64, 64), 99, np.uint8))
    before = picture.read_bytes()

    ended = cli("bench", "quality", "--hazy", picture.parent, "--sheet", picture, "-q")

    assert ended.code == 2
    assert "one of the pictures" in ended.err
    assert picture.read_bytes() == before
