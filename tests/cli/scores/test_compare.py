"""Scores of files: bands, data types, masks, formats, and errors that say what to do."""

import math
import warnings

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from infdehaze_cli.errors import InputError, UsageError
from infdehaze_cli.scores import compare_folders, compare_rasters, mean_scores


def write(path, values, interp=None, mask=None, **profile):
    profile.setdefault("driver", "GTiff")
    count, height, width = values.shape
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(path, "w", count=count, height=height, width=width, dtype=values.dtype, **profile) as dataset,
    ):
        if interp:
            dataset.colorinterp = interp
        dataset.write(values)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def picture(height=70, width=90, seed=0, dtype=np.uint8, high=256):
    return np.random.default_rng(seed).integers(0, high, (3, height, width)).astype(dtype)


@pytest.fixture
def files(tmp_path):
    clear = picture()
    hazy = (clear // 2 + 90).astype(np.uint8)
    result = np.clip(clear.astype(int) + 5, 0, 255).astype(np.uint8)
    return {
        name: write(tmp_path / f"{name}.tif", values)
        for name, values in (("clear", clear), ("hazy", hazy), ("result", result))
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_a_raster_equals_itself_in_every_type(tmp_path, dtype):
    path = write(tmp_path / "a.tif", picture(dtype=dtype))
    scores = compare_rasters(path, path)
    assert (scores.psnr, scores.ssim, scores.ciede2000, scores.sam) == (math.inf, 1, 0, 0)
    assert (scores.seam, scores.pixels) == (None, 70 * 90)


@pytest.mark.parametrize(
    ("dtype", "peak", "full"),
    [
        (np.uint8, None, 255),
        (np.uint16, None, 65535),
        (np.uint16, 4095, 4095),
        (np.int16, None, 200),
        (np.float32, None, 200),
        (np.float64, 1000, 1000),
    ],
)
def test_the_peak_follows_the_type_the_reference_or_the_user(tmp_path, dtype, peak, full):
    reference = np.full((3, 20, 20), 100, dtype=dtype)
    reference[1, 3, 3] = 200
    a, b = write(tmp_path / "a.tif", reference + dtype(7)), write(tmp_path / "b.tif", reference)
    scores = compare_rasters(a, b, peak=peak)
    assert scores.psnr == pytest.approx(20 * math.log10(full / 7), abs=1e-4)


@pytest.mark.parametrize("window_size", [7, 13, 64, 71])
def test_the_window_size_changes_no_score(files, window_size):
    arguments = {"hazy": files["hazy"], "tile": 32, "overlap": 8}
    expected = compare_rasters(files["result"], files["clear"], **arguments)
    found = compare_rasters(files["result"], files["clear"], window_size=window_size, **arguments)
    for name in ("psnr", "ssim", "ciede2000", "sam", "seam", "pixels"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=2e-6)


def test_a_tile_step_in_the_result_shows_in_the_seam_index(tmp_path):
    clear = np.full((3, 96, 96), 100, dtype=np.uint8)
    hazy = clear + (np.indices((96, 96)).sum(axis=0) % 2).astype(np.uint8)
    result = clear.copy()
    smooth = compare_rasters(
        write(tmp_path / "r.tif", result),
        write(tmp_path / "c.tif", clear),
        hazy=write(tmp_path / "h.tif", hazy),
        tile=32,
        overlap=0,
    )
    assert smooth.seam == pytest.approx(1)
    result[:, 32:64] += 20
    write(tmp_path / "r.tif", result)
    stepped = compare_rasters(
        tmp_path / "r.tif", tmp_path / "c.tif", hazy=tmp_path / "h.tif", tile=32, overlap=0, window_size=32
    )
    assert stepped.seam > 5


def test_nodata_alpha_masks_and_nan_are_left_out(tmp_path):
    clear = picture(dtype=np.float32) / 255
    result = clear + np.float32(0.1)
    result[:, 0, :] = -9999
    clear[0, 1, :] = np.nan
    alpha = np.full((1, 70, 90), 255, dtype=np.uint8)
    alpha[0, 2, :] = 0
    a = write(tmp_path / "a.tif", result, nodata=-9999)
    b = write(tmp_path / "b.tif", clear, mask=alpha[0] > 0)
    scores = compare_rasters(a, b, peak=1)
    assert scores.pixels == 67 * 90
    assert scores.psnr == pytest.approx(20, abs=1e-4)

    rgba = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    c = write(tmp_path / "c.tif", np.concatenate([picture(), alpha]), interp=rgba)
    assert compare_rasters(c, c).pixels == 69 * 90


def test_colour_interpretation_names_the_bands_and_bands_override_it(tmp_path):
    clear = picture()
    bgr = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    a = write(tmp_path / "a.tif", clear[::-1].copy(), interp=bgr, photometric="MINISBLACK")
    b = write(tmp_path / "b.tif", np.concatenate([clear, 255 - clear[:1]]), photometric="RGB", alpha="NO")
    assert compare_rasters(a, b).psnr == math.inf
    assert compare_rasters(a, b, bands=[1, 2, 3]).psnr < 20
    assert compare_rasters(a, b, bands=[2]).psnr == math.inf
    assert compare_rasters(a, b).pixels == 70 * 90


def test_grey_is_repeated(tmp_path):
    grey = picture()[:1]
    a = write(tmp_path / "a.tif", grey)
    b = write(tmp_path / "b.tif", np.repeat(grey, 3, axis=0))
    scores = compare_rasters(a, b)
    assert (scores.psnr, scores.sam) == (math.inf, 0)


@pytest.mark.parametrize(
    ("driver", "suffix", "options"),
    [
        ("PNG", "png", {}),
        ("WEBP", "webp", {"LOSSLESS": "YES"}),
        ("JPEG", "jpg", {"QUALITY": 95}),
    ],
)
def test_plain_pictures_are_read_without_a_warning(tmp_path, driver, suffix, options):
    if driver == "WEBP" and "WEBP" not in rasterio.drivers.raster_driver_extensions().values():
        pytest.skip("this GDAL has no WebP")
    row, col = np.indices((64, 80))
    smooth = np.stack([row * 2, col * 2, row + col]).astype(np.uint8)
    a = write(tmp_path / f"a.{suffix}", smooth, driver=driver, **options)
    b = write(tmp_path / "b.tif", smooth)
    assert compare_rasters(a, b).psnr > 35


def test_rasters_that_do_not_fit_are_refused(tmp_path):
    a, b = write(tmp_path / "a.tif", picture(20, 30)), write(tmp_path / "b.tif", picture(20, 31))
    with pytest.raises(InputError, match=r"30 x 20 pixels but .*31 x 20\. Bring"):
        compare_rasters(a, b)
    with pytest.raises(InputError, match="31 x 20 pixels"):
        compare_rasters(a, a, hazy=b)
    with pytest.raises(InputError, match="cannot be opened"):
        compare_rasters(tmp_path / "missing.tif", b)
    two = write(tmp_path / "two.tif", picture(20, 30)[:2])
    with pytest.raises(InputError, match="has 2 bands"):
        compare_rasters(two, two)
    floats = write(tmp_path / "f.tif", picture(20, 30, dtype=np.float32))
    with pytest.raises(InputError, match="mix float32 and uint8"):
        compare_rasters(floats, a)
    assert compare_rasters(floats, a, peak=255).psnr == math.inf


def test_palettes_and_complex_numbers_are_refused(tmp_path):
    palette = write(tmp_path / "p.tif", picture()[:1], interp=[ColorInterp.palette], photometric="PALETTE")
    with pytest.raises(InputError, match="gdal_translate -expand rgb"):
        compare_rasters(palette, palette)
    waves = write(tmp_path / "w.tif", picture(dtype=np.complex64))
    with pytest.raises(InputError, match="real numbers"):
        compare_rasters(waves, waves)


def test_a_damaged_raster_is_an_input_error(tmp_path):
    path = write(tmp_path / "a.tif", picture(300, 300), compress="deflate")
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(InputError, match=r"damaged|cannot be opened"):
        compare_rasters(path, path)


@pytest.mark.parametrize(
    "options",
    [
        {"peak": 0},
        {"peak": math.nan},
        {"window_size": 0},
        {"tile": 32, "overlap": 32},
        {"bands": [1, 2]},
        {"bands": [1, 2, 4]},
        {"bands": [0, 1, 2]},
    ],
)
def test_options_without_sense_are_usage_errors(files, options):
    with pytest.raises(UsageError):
        compare_rasters(files["result"], files["clear"], **options)


def folder(path, *names):
    path.mkdir()
    for seed, name in enumerate(names):
        if name.endswith("txt"):
            (path / name).write_text("no raster")
        else:
            driver = "PNG" if name.endswith("png") else "GTiff"
            write(path / name, picture(20, 24, seed), driver=driver)
    return path


def test_folders_are_matched_by_stem(tmp_path):
    results = folder(tmp_path / "results", "a.tif", "b.png", "notes.txt")
    references = folder(tmp_path / "references", "a.png", "b.TIF", "other.txt")
    hazy = folder(tmp_path / "hazy", "a.tif", "b.tif")
    scores = compare_folders(results, references, hazy_dir=hazy, tile=16, overlap=4)
    assert list(scores) == ["a", "b"]
    assert all(row.psnr == math.inf and row.seam == 1.0 for row in scores.values())
    assert mean_scores(scores.values()).pixels == 2 * 20 * 24


def test_a_file_without_partner_is_named(tmp_path):
    both, one = folder(tmp_path / "both", "a.tif", "b.tif"), folder(tmp_path / "one", "a.tif")
    for arguments in ((both, one), (one, both)):
        with pytest.raises(InputError, match=r"b\.tif has no partner"):
            compare_folders(*arguments)
    with pytest.raises(InputError, match=r"b\.tif has no partner"):
        compare_folders(both, both, hazy_dir=one)


def test_folders_that_do_not_pair_up_are_refused(tmp_path):
    first, second = folder(tmp_path / "first", "a.tif"), folder(tmp_path / "second", "b.tif")
    empty, doubled = folder(tmp_path / "empty"), folder(tmp_path / "doubled", "a.tif", "a.png")
    for other in (second, empty):
        with pytest.raises(InputError, match="share no raster name"):
            compare_folders(first, other)
    with pytest.raises(InputError, match="same name"):
        compare_folders(doubled, first)
    with pytest.raises(InputError, match="not a folder"):
        compare_folders(first, tmp_path / "missing")
