"""Overviews that are made while rows are written: GDAL's own, and exact where GDAL's are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from infdehaze_cli.errors import StorageError
from infdehaze_cli.raster import output
from infdehaze_cli.raster._gdal import open_quietly
from infdehaze_cli.raster.overviews import Overviews, can_be_made, is_fill
from infdehaze_cli.raster.profiles import cog_options
from infdehaze_cli.raster.source import Scene

Make = Callable[..., Path]


def patchy(rng: np.random.Generator, shape: tuple[int, int, int], dtype: str, nodata: float | None) -> NDArray[Any]:
    """Pixels with large and small holes."""
    pixels = rng.integers(20, 220, shape).astype(dtype)
    if nodata is not None:
        height, width = shape[1:]
        holes = rng.random((height, width)) < 0.05
        holes[: height // 2, : width // 2] = True
        holes[-300:] = True
        pixels[:, holes] = nodata
    return pixels


def area_average(size: int, smaller: int) -> NDArray[np.float64]:
    """Weights (smaller, size) of the pixels that each pixel of an overview stands for."""
    edge = np.linspace(0, size, smaller + 1)
    pixel = np.arange(size)
    shares = np.minimum(edge[1:, None], pixel + 1) - np.maximum(edge[:-1, None], pixel)
    return shares.clip(0) * smaller / size


@pytest.mark.parametrize("size", [(1300, 1100), (600, 2600), (512, 512)])
@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", None), ("uint8", 0), ("uint16", 7), ("int16", -5), ("float32", float("nan"))]
)
def test_the_file_is_the_one_that_gdal_makes(
    make_tiff: Make,
    restore: Make,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    dtype: str,
    nodata: float | None,
) -> None:
    source = make_tiff(patchy(rng, (3, *size), dtype, nodata), nodata=nodata)

    ours = restore(source, dst=source.with_name("ours.tif")).read_bytes()
    monkeypatch.setattr(output, "can_be_made", lambda *_: False)
    theirs = restore(source, dst=source.with_name("theirs.tif")).read_bytes()

    assert ours == theirs


def test_sides_that_are_odd_are_averaged_exactly(make_tiff: Make, restore: Make, rng: np.random.Generator) -> None:
    source = make_tiff(rng.random((3, 2111, 2999)).astype(np.float32))

    cog = restore(source)

    with open_quietly(cog) as dataset:
        below = dataset.read(1)
    for level in range(3):
        with open_quietly(cog, OVERVIEW_LEVEL=level) as dataset:
            found = dataset.read(1)
        down, across = (area_average(*sides) for sides in zip(below.shape, found.shape, strict=True))
        np.testing.assert_allclose(found, down @ below.astype(np.float64) @ across.T, atol=1e-5)
        below = found


def test_what_is_empty_is_not_written_on_the_way(
    make_tiff: Make, restore: Make, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((3, 2048, 1024), np.uint8)
    pixels[:, :256] = rng.integers(1, 255, (3, 256, 1024))
    source, seen = make_tiff(pixels, nodata=0), []
    make_cog = output.make_cog

    def look(raw: Path, *rest: Any) -> None:
        seen.extend(path.stat().st_blocks * 512 for path in sorted(raw.parent.glob(f"{raw.name}*")))
        make_cog(raw, *rest)

    monkeypatch.setattr(output, "make_cog", look)
    with open_quietly(restore(source)) as dataset:
        assert not dataset.read()[:, 256:].any()
    assert len(seen) == 3
    assert sum(seen) < 2 * pixels[:, :256].size


@pytest.mark.parametrize(
    "options",
    [{"OVERVIEWS": "NONE"}, {"OVERVIEW_RESAMPLING": "CUBIC"}, {"OVERVIEW_COUNT": "1"}, {"RESAMPLING": "NEAREST"}],
)
def test_other_overviews_are_left_to_gdal(
    make_tiff: Make, restore: Make, rng: np.random.Generator, options: dict[str, str]
) -> None:
    source = make_tiff(rng.integers(0, 255, (3, 1200, 1300), dtype=np.uint8))
    usual, asked = (source.with_name(f"{name}.tif") for name in ("usual", "asked"))

    restore(source, dst=usual)
    restore(source, dst=asked, creation_options=options)

    def overviews(path: Path) -> list[bytes]:
        with open_quietly(path) as dataset:
            levels = len(dataset.overviews(1))
        return [open_quietly(path, OVERVIEW_LEVEL=level).read().tobytes() for level in range(levels)]

    assert overviews(usual) != overviews(asked)


@pytest.mark.parametrize("size", ["128", "256", "1024"])
def test_the_size_of_blocks_says_how_many_there_are(
    make_tiff: Make, restore: Make, rng: np.random.Generator, size: str
) -> None:
    source = make_tiff(rng.integers(0, 255, (3, 1100, 1300), dtype=np.uint8))
    with open_quietly(restore(source, creation_options={"BLOCKSIZE": size})) as dataset:
        assert len(dataset.overviews(1)) == {"128": 4, "256": 3, "1024": 1}[size]


def test_masks_alpha_and_slivers_are_left_to_gdal(make_tiff: Make, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 255, (4, 64, 64), dtype=np.uint8)
    rgba = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    options = cog_options({})
    for source, sides, expected in (
        (make_tiff(pixels[:3], name="plain.tif"), (4096, 64), True),
        (make_tiff(pixels[:3], name="sliver.tif"), (4096, 2), False),
        (make_tiff(pixels, name="alpha.tif", colours=rgba), (4096, 64), False),
        (make_tiff(pixels[:3], name="mask.tif", mask=pixels[0]), (4096, 64), False),
    ):
        with Scene.open(source) as scene:
            assert can_be_made(*sides, scene.metadata, options) is expected, source.name


def test_a_window_that_changed_on_the_way_is_found(
    make_tiff: Make, restore: Make, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_tiff(rng.integers(0, 255, (3, 1200, 1300), dtype=np.uint8))
    close = Overviews.close

    def spoil(overviews: Overviews) -> None:
        close(overviews)
        with open_quietly(overviews._levels[1].path, "r+") as dataset:
            dataset.write(dataset.read() ^ 1)

    monkeypatch.setattr(Overviews, "close", spoil)
    with pytest.raises(StorageError, match="does not hold what was written"):
        restore(source)


@pytest.mark.parametrize(
    ("dtype", "nodata", "value", "expected"),
    [
        ("uint8", None, 0, True),
        ("uint8", 0, 0, True),
        ("uint8", 255, 255, True),
        ("uint8", 255, 0, False),
        # GDAL reads 1 where nothing was written
        ("uint8", 0.5, 0, False),
        ("uint8", 0.5, 1, False),
        ("float32", None, -0.0, False),
        ("float32", -9999, -9999, True),
        ("float64", float("nan"), float("nan"), True),
        ("float32", float("nan"), 0.0, False),
    ],
)
def test_fill_is_what_gdal_reads_where_nothing_is(
    dtype: str, nodata: float | None, value: float, expected: bool
) -> None:
    values = np.full((3, 4, 5), value, dtype)
    assert is_fill(values, nodata) is expected
    if expected:
        values[1, 2, 3] = 3
        assert not is_fill(values, nodata)
