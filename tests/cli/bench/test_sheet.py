"""Contact sheets show what they are given."""

import numpy as np
import pytest
import rasterio

from infdehaze_cli.bench import quality
from infdehaze_cli.bench.sheet import PANEL, SheetRow, check_sheet, draw_sheet, read_panels, shrink, spread
from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.scores import Scores

COLOURS = {"hazy": (200, 30, 40), "clear": (20, 180, 60)}


def plain(colour, height=PANEL, width=PANEL):
    return np.full((height, width, 3), colour, np.uint8)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_sheet_has_a_row_a_picture_and_a_column_a_method(tmp_path, suffix):
    turned = {name: colour[::-1] for name, colour in COLOURS.items()}
    rows = [
        SheetRow("one", {name: plain(colour) for name, colour in COLOURS.items()}),
        SheetRow("two", {name: plain(colour) for name, colour in turned.items()}, {"hazy": "9 dB"}),
    ]

    out = draw_sheet(rows, tmp_path / f"sheet.{suffix}")

    with rasterio.open(out) as file:
        sheet = file.read([1, 2, 3])
    height, width = sheet.shape[1:]
    assert width > 2 * PANEL
    for i, colours in enumerate((COLOURS, turned)):
        for j, colour in enumerate(colours.values()):
            found = sheet[:, int((i + 0.55) * height / 2), int((j + 0.55) * width / 2)]
            assert np.abs(found.astype(int) - colour).max() <= 4


def test_pictures_are_chosen_evenly_with_both_ends():
    assert spread(3, 12) == [0, 1, 2]
    assert spread(96, 12)[0::11] == [0, 95]
    assert len(spread(13, 12)) == 12
    assert set(np.diff(spread(60, 12))) <= {5, 6}


def test_large_pictures_are_averaged_down_and_small_ones_stay():
    picture = np.zeros((3, 2 * PANEL, PANEL), np.float32)
    picture[:, ::2] = 1

    assert shrink(picture).shape == (PANEL, PANEL // 2, 3)
    assert set(np.unique(shrink(picture))) == {128}
    assert shrink(picture[:, :10, :12]).shape == (10, 12, 3)


def test_panels_of_a_scene_share_the_scale_of_the_first(make_raster, landscape_pixels):
    pixels = landscape_pixels(dtype="uint16")
    hazy, half = make_raster("hazy.tif", pixels), make_raster("half.tif", pixels // 2)

    panels = read_panels({"input": hazy, "half": half})

    assert panels["input"].mean() > 1.5 * panels["half"].mean()


def test_what_cannot_become_a_sheet_is_told_before_the_work(tmp_path):
    with pytest.raises(UsageError, match=r"\.png or \.jpg"):
        check_sheet(tmp_path / "sheet.tif")
    with pytest.raises(StorageError, match="no folder"):
        check_sheet(tmp_path / "none" / "sheet.png")


@pytest.mark.parametrize(("psnr", "caption"), [(23.456, "23.5 dB, SSIM 0.988"), (float("inf"), "equal")])
def test_a_panel_says_how_near_it_is_to_the_truth(psnr, caption):
    assert quality._caption(Scores(psnr=psnr, ssim=0.9876, ciede2000=1.0, sam=1.0, seam=None, pixels=9)) == caption
