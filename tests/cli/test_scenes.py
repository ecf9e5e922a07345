"""Real scenes through `infdehaze run` with the shipped weights: the map stays, the file is whole."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from infdehaze.weights import shipped_weights
from rio_cogeo.cogeo import cog_validate

FOLDER = Path(__file__).parents[3] / "shared" / "scenes"
NAMES = ("m_4709963_se_14_1_20120731.tif", "m_4709963_se_14_1_20180716.tif", "wildfires.tiff")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the folder of real scenes is not beside this checkout"),
]


@pytest.fixture(params=NAMES)
def source(request):
    path = FOLDER / request.param
    if not path.is_file():
        pytest.skip(f"{path.name} is not among the real scenes")
    return path


def test_a_real_scene_keeps_its_map_and_its_other_bands(cli, source, tmp_path, scratch, monkeypatch):
    monkeypatch.delenv("INFDEHAZE_WEIGHTS")
    assert "lite" in shipped_weights(), "the package ships no weights: models/infdehaze/weights/lite.safetensors"
    dst, haze = tmp_path / "clean.tif", tmp_path / "haze.tif"

    ended = cli("run", source, "-o", dst, "-q", "--residuals", "ssd", "--haze-map", haze)

    assert ended == type(ended)(0, "", "")
    assert {path.name for path in tmp_path.iterdir()} == {"clean.tif", "haze.tif", "haze.qml"}
    assert list(scratch.iterdir()) == []
    assert cog_validate(dst) == (True, [], [])
    with rasterio.open(source) as before, rasterio.open(dst) as after:
        for fact in ("shape", "count", "dtypes", "crs", "transform", "nodatavals", "colorinterp", "descriptions"):
            assert getattr(after, fact) == getattr(before, fact), fact
        hazy, clean = before.read(), after.read()
        valid = before.dataset_mask() != 0
    with rasterio.open(haze) as map_of_haze:
        taken = (np.nan_to_num(map_of_haze.read((1, 2, 3))) > 0).any(0)
    # red, green, blue, and in two of them near infrared; where no haze is found, nothing changes
    changed = (clean[:3] != hazy[:3]).any(0)
    assert not changed[~taken].any()
    # all are clear; in one of them a little is taken for haze
    assert [changed.any(), taken.any()] == ["20120731" in source.name] * 2
    assert np.abs(clean[:3].astype(int) - hazy[:3]).max() <= 2
    np.testing.assert_array_equal(clean[3:], hazy[3:])
    np.testing.assert_array_equal(clean[:, ~valid], hazy[:, ~valid])
