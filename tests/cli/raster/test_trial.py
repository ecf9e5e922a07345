"""Creation options: the wrong ones fail before the work begins, and what they would have left is not left."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.rpc import RPC

from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.raster import trial
from infdehaze_cli.raster._gdal import open_quietly
from infdehaze_cli.raster.verify import verify

Make = Callable[..., Path]
Run = Callable[..., Path]


@pytest.fixture
def plain(make_tiff: Make, rng: np.random.Generator) -> Path:
    return make_tiff(rng.integers(1, 255, (3, 600, 700), dtype=np.uint8))


@pytest.mark.parametrize("driver", ["cog", "gtiff"])
def test_bits_that_have_no_predictor_get_none(folder: Path, make_tiff: Make, restore: Run, driver: Any) -> None:
    source = make_tiff(np.full((3, 300, 400), 500, np.uint16))

    clean = restore(source, dst=folder / "clean.tif", format=driver, creation_options={"NBITS": "12"})

    with open_quietly(clean) as dataset:
        assert dataset.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == "12"


@pytest.mark.parametrize("packing", ["JPEG", "WEBP"])
def test_a_packing_that_cannot_hold_the_pixels_fails_before_the_work(
    folder: Path, make_tiff: Make, restore: Run, packing: str
) -> None:
    """With several threads GDAL says nothing of the blocks that it leaves out then."""
    plain = make_tiff(np.full((3, 300, 400), 500, np.uint16))

    with pytest.raises(UsageError, match="The creation options"):
        restore(plain, dst=folder / "clean.tif", creation_options={"COMPRESS": packing})

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("driver", "option"),
    [
        # GDAL does not know them
        *((driver, {"NONSENSE": "1"}) for driver in ("cog", "gtiff")),
        *((driver, {"COMPRESS": "BROTHER"}) for driver in ("cog", "gtiff")),
        *((driver, {"NUM_THREADS": "0", "BLOCKSIZE": "17", "BLOCKXSIZE": "17"}) for driver in ("cog", "gtiff")),
        # the process would end
        ("cog", {"BLOCKSIZE": "0"}),
        ("cog", {"BLOCKSIZE": "NONE"}),
        ("cog", {"BLOCKSIZE": "-512"}),
        ("gtiff", {"BLOCKXSIZE": "0"}),
        # the memory would not do
        ("cog", {"BLOCKSIZE": "32768"}),
        ("gtiff", {"BLOCKXSIZE": "1000000", "BLOCKYSIZE": "1024"}),
        # only what comes last would fail
        ("cog", {"OVERVIEW_RESAMPLING": "NONSENSE"}),
        ("cog", {"OVERVIEW_COUNT": "0"}),
        ("cog", {"OVERVIEW_COMPRESS": "LERC"}),
        # the tags of the run would be lost
        ("cog", {"COPY_SRC_MDD": "NO"}),
        ("cog", {"SRC_MDD": "nothing"}),
        # another picture
        ("cog", {"TILING_SCHEME": "GoogleMapsCompatible"}),
        ("cog", {"TARGET_SRS": "EPSG:4326"}),
        ("gtiff", {"PIXELTYPE": "SIGNEDBYTE"}),
        # files that nothing would rename
        ("gtiff", {"TFW": "YES"}),
    ],
)
def test_wrong_creation_options_fail_before_the_work(
    plain: Path, folder: Path, restore: Run, driver: str, option: dict[str, str]
) -> None:
    with pytest.raises(UsageError, match="creation option"):
        restore(plain, dst=folder / "clean.tif", format=driver, creation_options=option)
    assert list(folder.iterdir()) == []


def test_a_file_of_coefficients_beside_the_output_is_refused(
    plain: Path, folder: Path, restore: Run, make_tiff: Make
) -> None:
    ones = [1.0, *[0.0] * 19]
    with open_quietly(plain, "r+") as dataset:
        dataset.rpcs = RPC(0.0, 1.0, 0.0, 1.0, ones, ones, 0.0, 1.0, 0.0, 1.0, ones, ones, 0.0, 1.0)
    with pytest.raises(UsageError, match="RPB beside the output"):
        restore(plain, dst=folder / "clean.tif", format="gtiff", creation_options={"RPB": "YES"})
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("gtiff", {"PHOTOMETRIC": "YCBCR", "COMPRESS": "JPEG"}),
        ("gtiff", {"PHOTOMETRIC": "MINISBLACK"}),
        ("gtiff", {"ALPHA": "NO"}),
        ("gtiff", {"TILED": "NO"}),
        ("cog", {"BLOCKSIZE": "2048"}),
        ("cog", {"OVERVIEWS": "NONE"}),
        ("cog", {"BLOCKSIZE": "128", "OVERVIEW_COMPRESS": "JPEG"}),
    ],
)
def test_options_about_colours_and_layout_are_taken(
    plain: Path, restore: Run, load: Any, driver: str, options: dict[str, str]
) -> None:
    result = load(restore(plain, format=driver, creation_options=options))
    assert result.colours == load(plain).colours
    assert result.pixels.shape == (3, 600, 700)


def test_a_full_temporary_folder_is_no_wrong_option(
    plain: Path, folder: Path, restore: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    with pytest.raises(StorageError, match="temporary folder"):
        restore(plain, dst=folder / "clean.tif", creation_options={"COMPRESS": "ZSTD"})
    assert list(folder.iterdir()) == []


def test_many_bands_in_large_blocks_are_tried_small(
    folder: Path, restore: Run, make_tiff: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def watched(path: Path, shape: tuple[int, int, int], dtype: str, **rest: Any) -> None:
        tried.append(shape)
        verify(path, shape, dtype, **rest)

    monkeypatch.setattr(trial, "verify", watched)
    source = make_tiff(np.ones((100, 20, 30), np.float32))
    restore(source, dst=folder / "clean.tif", bands=(1, 2, 3), creation_options={"COMPRESS": "ZSTD"})

    assert tried == [(100, trial.SIDE, trial.SIDE)]
