"""The preview, the QGIS style, and the parts of which they are made."""

import warnings
from io import BytesIO
from xml.etree import ElementTree as xml

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning

from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.report.coarse import BlockMeans
from infdehaze_cli.report.figures import detail_windows
from infdehaze_cli.report.pictures import encode, jpeg_within
from infdehaze_cli.report.ramp import COLOURS, depth_range, palette


def pixels_of(file):
    """Read a plain picture."""
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(file) as dataset,
    ):
        return dataset.read()


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(0, 9),
)
def test_block_means_do_not_depend_on_windows(height, width, factor, rows, cols, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, height, width)).astype(np.float32)
    valid = rng.random((height, width)) < 0.7
    means = BlockMeans(3, height, width, factor)

    for window in split_windows(height, width, rows, cols):
        here = window.relative_to(Window(0, 0, height, width))
        means.add(window, values[:, *here], valid[here])

    found = means.means()
    for row in range(found.shape[1]):
        for col in range(found.shape[2]):
            part = (slice(row * factor, (row + 1) * factor), slice(col * factor, (col + 1) * factor))
            expected = values[:, *part][:, valid[part]].mean(1) if valid[part].any() else np.full(3, np.nan)
            np.testing.assert_allclose(found[:, row, col], expected, atol=1e-5)


@pytest.mark.parametrize("factor", [4, 7, 16])
def test_centres_stand_for_their_squares_where_they_are_valid(factor):
    rng = np.random.default_rng(factor)
    height, width = 5 * factor, 6 * factor
    knots = rng.normal(size=(1, 5, 6)).astype(np.float32)
    row, col = ((np.arange(n * factor) + 0.5) / factor - 0.5 for n in (5, 6))
    tent = [np.clip(1 - np.abs(x[:, None] - np.arange(n)), 0, 1) for x, n in ((row, 5), (col, 6))]
    values = (tent[0] @ knots[0] @ tent[1].T)[None].astype(np.float32)
    valid = np.ones((height, width), bool)
    valid[factor + factor // 2 - 1 : factor + factor // 2 + 1] = False
    means, plain = BlockMeans(1, height, width, factor, centred=True), BlockMeans(1, height, width, factor)

    for window in split_windows(height, width, 3 * factor, 2 * factor + 3):
        here = window.relative_to(Window(0, 0, height, width))
        for each in (means, plain):
            each.add(window, values[:, *here], valid[here])

    apart, of_means = (np.abs(each.means() - knots) for each in (means, plain))
    others = [0, 2, 3, 4]
    # the two pixels at the centre of an even side lie half a pixel beside it
    assert apart[:, others].max() < (1e-4 if factor % 2 else 2.5 / factor) * of_means[:, others].max()
    # without a valid centre it is a mean as before
    np.testing.assert_allclose(means.means()[:, 1], plain.means()[:, 1], atol=1e-5)


def test_details_show_thick_middling_and_thin_haze():
    depth = np.broadcast_to(np.linspace(0, 1, 100, dtype=np.float32), (3, 50, 100))

    thick, middling, thin = detail_windows(1000, 2000, 300, depth, 20)

    assert thick.col_end == 2000
    assert abs(middling.col - 850) < 60
    assert thin.col == 0


@pytest.mark.parametrize("depth", [None, np.full((3, 10, 10), np.nan, np.float32)], ids=["none", "unknown"])
def test_details_without_a_depth_lie_on_the_diagonal(depth):
    windows = detail_windows(2000, 2000, 400, depth, 200)

    assert [(window.row, window.col) for window in windows] == [(1300, 1300), (800, 800), (300, 300)]


def test_a_detail_stays_inside_a_narrow_scene():
    assert detail_windows(50, 3000, 400, None, 1)[0] == Window(0, 2050, 50, 400)


def test_a_jpeg_keeps_to_its_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (3, 300, 300), np.uint8)

    assert len(jpeg_within(noise, 20_000)) <= 20_000
    assert len(jpeg_within(noise, 2_000)) <= 2_000


def test_a_png_comes_back_bit_for_bit():
    noise = np.random.default_rng(0).integers(0, 256, (3, 30, 40), np.uint8)

    assert (pixels_of(BytesIO(encode(noise, "PNG"))) == noise).all()


def test_the_ramp_runs_from_its_first_colour_to_its_last():
    colours = ["#" + "".join(f"{part:02x}" for part in colour) for colour in palette(11)]

    assert (colours[0], colours[-1]) == (COLOURS[0], COLOURS[-1])
    assert colours[::2] == list(COLOURS)


@pytest.mark.parametrize("depth", [[], [np.nan], [0.3, 0.3]], ids=str)
def test_a_range_of_depths_is_never_empty(depth):
    low, high = depth_range(np.array(depth, np.float32))

    assert low < high


def test_a_haze_map_gets_a_style_with_a_legend(cli, make_raster, tmp_path):
    haze = tmp_path / "haze.tif"

    ended = cli("run", make_raster(), "-o", tmp_path / "clean.tif", "--haze-map", haze)

    assert ended.code == 0
    style = xml.parse(tmp_path / "haze.qml").getroot()
    renderer = style.find("./pipe/rasterrenderer")
    assert style.tag == "qgis"
    assert (renderer.get("type"), renderer.get("band")) == ("singlebandpseudocolor", "2")
    items = renderer.findall("./rastershader/colorrampshader/item")
    values = [float(item.get("value")) for item in items]
    with rasterio.open(haze) as file:
        low, high = np.quantile(file.read(2), (0.02, 0.98))
    assert values == sorted(values)
    assert values[0] == pytest.approx(low, rel=1e-4)
    assert values[-1] == pytest.approx(high, rel=1e-4)
    assert [item.get("color") for item in items] == list(COLOURS)
    assert all(item.get("label") for item in items)
    assert float(renderer.get("classificationMax")) == values[-1]


def test_a_grey_haze_map_is_styled_by_its_one_band(cli, make_raster, tmp_path):
    cli("run", make_raster(bands=1), "-o", tmp_path / "clean.tif", "--haze-map", tmp_path / "haze.tif")

    assert xml.parse(tmp_path / "haze.qml").find("./pipe/rasterrenderer").get("band") == "1"


@pytest.mark.parametrize(("width", "shown"), [(120, 248), (2600, 2000)])
def test_a_preview_holds_before_and_after(cli, make_raster, tmp_path, width, shown):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, width), np.uint8)
    src, preview = make_raster(pixels=pixels), tmp_path / "p.png"

    ended = cli("run", src, "-o", tmp_path / "clean.tif", "--preview", preview)

    assert ended.code == 0
    pixels_shown = pixels_of(preview)
    assert pixels_shown.shape[::2] == (3, shown)
    assert preview.read_bytes().startswith(b"\x89PNG")
    before, after = pixels_shown[:, :, : (shown - 8) // 2], pixels_shown[:, :, (shown + 8) // 2 :]
    if width == 120:
        with rasterio.open(tmp_path / "clean.tif") as result:
            assert (before == pixels).all()
            assert (after == result.read()).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.tif", "p.png", "scene.tif"]


def test_an_existing_style_is_kept_without_overwrite(cli, make_raster, tmp_path):
    style = tmp_path / "haze.qml"
    style.write_text("mine")
    words = ("run", make_raster(), "-o", tmp_path / "clean.tif", "--haze-map", tmp_path / "haze.tif")

    refused, replaced = cli(*words), style.read_text()
    allowed = cli(*words, "--overwrite")

    assert (refused.code, replaced, allowed.code) == (2, "mine", 0)
    assert style.read_text() != "mine"
