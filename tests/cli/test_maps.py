"""Float rasters on the grid of a scene: written by windows, whole or not at all."""

import numpy as np
import pytest
import rasterio

from infdehaze_cli import StorageError, UsageError
from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.raster import MapWriter, Scene, maps


@pytest.fixture
def scene(make_raster):
    with Scene.open(make_raster(bands=4, height=70, width=90)) as opened:
        yield opened


def values(window, bands=2):
    """A float for each pixel and band."""
    row, col = np.mgrid[window.row : window.row_end, window.col : window.col_end]
    return np.stack([row + col / 1000 + 0.25 * band for band in range(bands)]).astype(np.float32)


def write_all(writer, rows=32, cols=48):
    for window in split_windows(70, 90, rows, cols):
        writer.write(window, values(window))


def test_windows_come_back_bit_for_bit_on_the_grid_of_the_scene(scene, read_raster, tmp_path):
    with MapWriter(scene, tmp_path / "map.tif", ["depth", "air"]) as writer:
        write_all(writer)
        path = writer.finish()

    written, source = read_raster(path), read_raster(scene.path)
    np.testing.assert_array_equal(written.pixels, values(Window(0, 0, 70, 90)))
    assert written.place[:2] == source.place[:2]
    assert written.bands[0] == ("float32", "float32")
    assert written.bands[2] == ("depth", "air")
    assert written.profile["tiled"]
    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif", "map.tif"}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_unplaced_scene_gives_an_unplaced_map(make_raster, tmp_path):
    src = make_raster(height=70, width=90, profile={"crs": None, "transform": None})

    with Scene.open(src) as scene, MapWriter(scene, tmp_path / "map.tif", ["a", "b"]) as writer:
        write_all(writer)
        writer.finish()

    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs is None
        assert file.transform.is_identity


def test_leaving_unfinished_removes_everything(scene, tmp_path):
    with MapWriter(scene, tmp_path / "map.tif", ["a", "b"]) as writer:
        write_all(writer)

    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif"}


def test_an_error_inside_removes_everything(scene, tmp_path):
    def fail():
        with MapWriter(scene, tmp_path / "map.tif", ["a", "b"]) as writer:
            write_all(writer)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif"}


def test_closing_after_finish_keeps_the_file(scene, tmp_path):
    with MapWriter(scene, tmp_path / "map.tif", ["a", "b"]) as writer:
        write_all(writer)
        writer.finish()
        writer.close()

    assert (tmp_path / "map.tif").is_file()


def test_an_existing_file_is_replaced_only_when_told_to(scene, tmp_path):
    (tmp_path / "map.tif").write_text("precious")

    with pytest.raises(UsageError, match="--overwrite"):
        MapWriter(scene, tmp_path / "map.tif", ["a", "b"])
    kept = (tmp_path / "map.tif").read_text()
    with MapWriter(scene, tmp_path / "map.tif", ["a", "b"], overwrite=True) as writer:
        write_all(writer)
        writer.finish()

    assert kept == "precious"
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.count == 2


@pytest.mark.parametrize("name", ["scene.tif", ".", "none/map.tif"])
def test_an_impossible_place_is_refused(scene, tmp_path, name):
    with pytest.raises(UsageError):
        MapWriter(scene, tmp_path / name, ["a"], overwrite=True)

    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif"}


class Wrapped:
    """A dataset of which something is replaced."""

    def __init__(self, dataset, **replaced):
        self._dataset = dataset
        vars(self).update(replaced)

    def __getattr__(self, name):
        return getattr(self._dataset, name)


def test_a_file_that_lost_its_end_is_noticed_and_removed(scene, tmp_path):
    with MapWriter(scene, tmp_path / "map.tif", ["a", "b"]) as writer:
        write_all(writer)
        close = writer._dataset.close

        def close_and_cut_off():
            close()
            (partial,) = tmp_path.glob(".map*")
            partial.write_bytes(partial.read_bytes()[: partial.stat().st_size // 2])

        writer._dataset = Wrapped(writer._dataset, close=close_and_cut_off)
        with pytest.raises(StorageError, match="check the disk"):
            writer.finish()

    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif"}


def no_space(*arguments, **options):
    raise rasterio.errors.RasterioIOError("no space left on device")


@pytest.mark.parametrize("call", ["write", "close"])
def test_a_failing_disk_is_a_storage_error_and_leaves_nothing(scene, tmp_path, call):
    def write():
        with MapWriter(scene, tmp_path / "map.tif", ["a", "b"]) as writer:
            writer._dataset = Wrapped(writer._dataset, **{call: no_space})
            write_all(writer)
            writer.finish()

    with pytest.raises(StorageError, match="no space left"):
        write()

    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif"}


def test_a_map_that_cannot_be_created_leaves_nothing(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "open_quietly", no_space)

    with pytest.raises(StorageError, match="no space left"):
        MapWriter(scene, tmp_path / "map.tif", ["a", "b"])

    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif"}
