"""One raster in, one raster out: the pixels of the plain network, the map untouched, and nothing broken left behind."""

import errno
import json
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from infdehaze.weights import save_weights
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from infdehaze_cli import BudgetError, InputError, RunConfig, StorageError, UsageError, dehaze, plan_run

HEIGHT, WIDTH = 170, 205
CRS, TRANSFORM = "EPSG:32633", Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 5_000_000.0)


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(block_tokens=4, depths=(2, 1, 1, 1))


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, model, {}, dtype=torch.float32)
    return path


@pytest.fixture
def config(weights, tmp_path):
    """Make a request in full precision, with a scratch folder of the test's own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)

    def make(**changes):
        full = {"device": "cpu", "precision": "fp32", "residual_dtype": "fp32", "residuals": "ssd", "batch": 4}
        return RunConfig(**{"weights": str(weights), "scratch": scratch, **full, **changes})

    return make


@pytest.fixture(scope="module")
def pixels(picture):
    return (picture(HEIGHT, WIDTH) * 255).round().astype(np.uint8)


@pytest.fixture
def raster(tmp_path):
    """Write (bands, rows, cols) as a georeferenced GeoTIFF in a folder of its own."""

    def write(array, colours=None, **profile):
        path = tmp_path / "in" / "scene.tif"
        path.parent.mkdir(exist_ok=True)
        count, height, width = array.shape
        shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": array.dtype.name}
        with rasterio.open(path, "w", crs=CRS, transform=TRANSFORM, **shape, **profile) as file:
            if colours:
                file.colorinterp = colours
            file.write(array)
        return path

    return write


@pytest.fixture
def dst(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "clean.tif"


def load(path):
    with rasterio.open(path) as file:
        return file.read()


def steps_apart(first, second):
    return np.abs(first.astype(int) - second.astype(int))


@pytest.mark.parametrize("format", ["cog", "gtiff"])
@pytest.mark.parametrize("residuals", ["dram", "ssd", "recompute"])
def test_the_pixels_are_those_of_the_plain_network(
    engine,
    model,
    config,
    raster,
    dst,
    pixels,
    residuals,
    format,  # noqa: A002
):
    dehaze(raster(pixels), dst, config=config(residuals=residuals), format=format)
    plain = engine.plain(model, (pixels / np.float32(255)).astype(np.float32))
    expected = (plain * 255).round().clip(0, 255).astype(np.uint8)
    apart = steps_apart(load(dst), expected)
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 0.001
    assert steps_apart(expected, pixels).mean() > 5


def test_budget_batch_and_tier_do_not_change_the_pixels(config, raster, dst, pixels):
    src, results = raster(pixels), []
    for changes in (
        {"batch": 1, "residuals": "recompute"},
        {"batch": 16, "residuals": "dram"},
        {"gpu_mem": 80 * 2**20},
    ):
        dehaze(src, dst, config=config(**changes), overwrite=True)
        results.append(load(dst))
    # a value half way between two numbers may go either way when a sum is taken in another order
    assert all(steps_apart(results[0], other).max() <= 1 for other in results[1:])
    assert all((results[0] != other).mean() <= 0.001 for other in results[1:])


def test_the_map_stays_where_it_is_and_our_tags_are_added(config, weights, raster, dst, pixels):
    dehaze(raster(pixels), dst, config=config(strength=0.5, overlap=8))
    with rasterio.open(dst) as file:
        assert (file.crs, file.transform, file.dtypes[0]) == (rasterio.CRS.from_string(CRS), TRANSFORM, "uint8")
        assert (
            file.tags().items()
            >= {
                "INFDEHAZE_VERSION": version("infdehaze"),
                "INFDEHAZE_WEIGHTS": weights.name,
                "INFDEHAZE_PRESET": "tiny",
                "INFDEHAZE_STRENGTH": "0.5",
                "INFDEHAZE_OVERLAP": "8",
            }.items()
        )
        assert "INFDEHAZE_SCALE_RANGE" in file.tags()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_strength_0_gives_the_same_pixels_bit_for_bit(config, raster, dst, pixels, dtype):
    native = pixels.astype(dtype) * (1 if dtype == "uint8" else np.dtype(dtype).type(3.7))
    native = native.astype(dtype)
    dehaze(raster(native), dst, config=config(strength=0.0))
    assert load(dst).tobytes() == native.tobytes()


def test_pixels_without_data_stay_bit_for_bit_and_do_not_bleed(config, raster, dst, pixels, holes):
    valid = holes(HEIGHT, WIDTH)
    results = []
    for rubbish in (0, 255):
        native = np.where(valid, pixels.clip(1, 254), np.uint8(rubbish))
        dehaze(raster(native, nodata=rubbish), dst, config=config(), overwrite=True)
        results.append(load(dst))
        assert (results[-1][:, ~valid] == rubbish).all()
        assert (results[-1][:, valid] != rubbish).all()
    apart = steps_apart(*results)[:, valid]
    # a restored 0 or 255 gives way to whichever of them is no data
    assert apart.max() <= 1


def test_nan_stays_nan(config, raster, dst, pixels, holes):
    native, valid = pixels.astype(np.float32), holes(HEIGHT, WIDTH)
    native[:, ~valid] = np.nan
    dehaze(raster(native, nodata=float("nan")), dst, config=config())
    assert np.array_equal(np.isnan(load(dst)).all(0), ~valid)


def test_a_fourth_band_stays_bit_for_bit(config, raster, dst, pixels):
    near_infrared = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH), dtype=np.uint8)
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
    dehaze(raster(np.concatenate([pixels, near_infrared]), colours), dst, config=config())
    restored = load(dst)
    assert np.array_equal(restored[3], near_infrared[0])
    assert (restored[:3] != pixels).mean() > 0.5


def test_bands_are_taken_in_the_order_that_was_named(config, raster, dst, pixels):
    src = raster(np.concatenate([pixels[::-1], pixels[:1]]), photometric="minisblack", alpha="no")
    dehaze(src, dst, config=config(), bands=(3, 2, 1))
    turned = load(dst)
    dehaze(raster(pixels), dst, config=config(), overwrite=True)
    assert np.array_equal(turned[:3], load(dst)[::-1])


@pytest.mark.parametrize("count", [1, 3])
def test_a_scene_of_one_pixel_is_dehazed(config, raster, dst, count):
    dehaze(raster(np.full((count, 1, 1), 100, np.uint8)), dst, config=config())
    assert load(dst).shape == (count, 1, 1)


# what is said about a run -------------------------------------------------------------------------------------------


def test_the_result_is_complete_and_json(config, weights, raster, dst, pixels):
    src = raster(pixels)
    result = json.loads(json.dumps(dehaze(src, dst, config=config()).to_dict()))
    chosen = plan_run(src, config=config())
    expected = {
        "src": str(src),
        "dst": str(dst),
        "width": WIDTH,
        "height": HEIGHT,
        "bands": 3,
        "tiles": chosen.tiles,
        "preset": "tiny",
        "weights": str(weights),
        "device": "cpu",
        "precision": "fp32",
        "batch": 4,
        "tier": "ssd",
        "predicted_device_bytes": chosen.predicted_device_bytes,
        "scratch_bytes": chosen.scratch_bytes,
        "checkpoint_bytes": chosen.checkpoint_bytes,
        "not_repeated": {"encoded_batches": 0, "bottleneck": False, "decoded_batches": 0},
        "resumed": False,
    }
    assert result.items() >= expected.items()
    assert set(result) >= {*expected, "peak_device_bytes", "peak_rss_bytes", "seconds", "megapixels_per_second"}
    assert 0 < result["peak_device_bytes"] <= result["predicted_device_bytes"]
    assert result["peak_rss_bytes"] > 2**20
    assert set(result["seconds"]) >= {"read", "encode", "bottleneck", "decode", "write", "finish"}
    assert all(seconds >= 0 for seconds in result["seconds"].values())


def test_phases_are_reported_to_the_end(config, raster, dst, pixels):
    class Listener:
        def __init__(self):
            self.heard = []

        def phase(self, name, total):
            self.heard.append([name, total, 0])

        def advance(self, steps=1):
            self.heard[-1][2] += steps

        def note(self, text):
            self.heard.append(text)

    listener = Listener()
    dehaze(raster(pixels), dst, config=config(), reporter=listener)
    assert [name for name, _, _ in listener.heard] == ["encode", "bottleneck", "decode", "finish"]
    assert all(done == total for _, total, done in listener.heard)


def test_planning_writes_nothing(config, raster, pixels, tmp_path):
    src = raster(pixels)
    before = sorted(tmp_path.rglob("*"))
    assert plan_run(src, config=config()).preset == "tiny"
    assert sorted(tmp_path.rglob("*")) == before


# what goes wrong ----------------------------------------------------------------------------------------------------

PLACES = {
    "reading": ("infdehaze_cli.raster.source.Scene.read", 1),
    "reading on": ("infdehaze_cli.raster.source.Scene.read", 3),
    "reading for the output": ("infdehaze_cli.raster.source.Scene.read", 5),
    "encoding": ("infdehaze.encoder.Encoder.forward", 2),
    "storing": ("infdehaze_cli.store.ZarrResidualStore.write", 2),
    "attending": ("infdehaze.ibssa.IBSSA.project", 1),
    "mixing": ("infdehaze.lmmoe.LMMoE.sparse", 2),
    "loading": ("infdehaze_cli.store.ZarrResidualStore.read", 2),
    "decoding": ("infdehaze.decoder.Decoder.forward", 2),
    "writing": ("infdehaze_cli.raster.output.OutputWriter.write", 1),
    "finishing": ("infdehaze_cli.raster.output.OutputWriter.finish", 1),
    "making the COG": ("infdehaze_cli.raster.output.make_cog", 1),
    "verifying": ("infdehaze_cli.raster.output.verify", 1),
    "renaming": ("infdehaze_cli.raster.destination.sync_and_rename", 1),
}


def break_at(monkeypatch, place, error):
    target, call = PLACES[place]
    name = target.rpartition(".")[2]
    owner, calls = _owner(target), []
    works = getattr(owner, name)

    def broken(*args, **kwargs):
        calls.append(place)
        if len(calls) == call:
            raise error
        return works(*args, **kwargs)

    monkeypatch.setattr(owner, name, broken)
    return calls


def _owner(target):
    path = target.rpartition(".")[0]
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, kind = path.rpartition(".")
        return getattr(import_module(module), kind)


@pytest.mark.parametrize(
    ("place", "error"),
    [
        *((place, RuntimeError("broken")) for place in PLACES),
        ("reading", KeyboardInterrupt()),
    ],
)
def test_a_failure_leaves_no_output_and_no_work_files(config, raster, dst, pixels, tmp_path, monkeypatch, place, error):
    src = raster(pixels)
    calls = break_at(monkeypatch, place, error)
    with pytest.raises(type(error)) as caught:
        dehaze(src, dst, config=config())
    assert caught.value is error
    assert calls
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [src]
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("place", ["encoding", "writing", "verifying"])
def test_a_failure_leaves_the_file_that_was_to_be_replaced(config, raster, dst, pixels, monkeypatch, place):
    dst.write_bytes(b"precious")
    break_at(monkeypatch, place, RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        dehaze(raster(pixels), dst, config=config(), overwrite=True)
    assert dst.read_bytes() == b"precious"
    assert list(dst.parent.iterdir()) == [dst]


def test_a_file_is_replaced_only_if_that_was_said(config, raster, dst, pixels):
    src = raster(pixels)
    dst.write_bytes(b"precious")
    with pytest.raises(UsageError, match="--overwrite"):
        dehaze(src, dst, config=config())
    assert dst.read_bytes() == b"precious"
    dehaze(src, dst, config=config(), overwrite=True)
    assert load(dst).shape == pixels.shape


def test_a_scene_is_never_written_over_itself(config, raster, pixels):
    src = raster(pixels)
    with pytest.raises(UsageError, match="source itself"):
        dehaze(src, src, config=config(), overwrite=True)
    assert np.array_equal(load(src), pixels)


def test_a_chunk_that_the_disk_spoils_is_made_again(config, raster, dst, pixels, tmp_path):
    notes = []
    src = raster(pixels)
    dehaze(src, dst, config=config())
    whole = dst.read_bytes()

    class Spoiler:
        def phase(self, name, total):
            if name == "bottleneck":
                (chunk,) = (tmp_path / "scratch").glob("*/residuals/c/1/0")
                content = bytearray(chunk.read_bytes())
                content[100] ^= 1
                chunk.write_bytes(content)

        def advance(self, steps=1):
            pass

        def note(self, text):
            notes.append(text)

    dehaze(src, dst, config=config(), overwrite=True, reporter=Spoiler())
    assert notes == ["Residuals of batch 1 are damaged: batch 1 is encoded again."]
    assert dst.read_bytes() == whole


@pytest.mark.parametrize("missing", ["nowhere", "file"])
def test_a_scratch_folder_that_cannot_be_used_is_a_storage_error(config, raster, dst, pixels, tmp_path, missing):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="--scratch") as caught:
        dehaze(raster(pixels), dst, config=config(scratch=tmp_path / missing))
    assert caught.value.exit_code == 5


def test_a_full_scratch_folder_is_found_before_the_work_begins(config, raster, dst, pixels, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    calls = break_at(monkeypatch, "encoding", RuntimeError())
    with pytest.raises(StorageError, match="--residuals recompute"):
        dehaze(raster(pixels), dst, config=config())
    assert not calls


def test_a_disk_that_fills_up_is_a_storage_error(config, raster, dst, pixels, monkeypatch, tmp_path):
    async def fail(self, key, value, *args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zarr.storage.LocalStore.set", fail)
    with pytest.raises(StorageError, match="No space left"):
        dehaze(raster(pixels), dst, config=config())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_budget_that_cannot_hold_the_run_is_found_before_the_work_begins(config, raster, dst, pixels, monkeypatch):
    calls = break_at(monkeypatch, "reading", RuntimeError())
    with pytest.raises(BudgetError, match="--gpu-mem"):
        dehaze(raster(pixels), dst, config=config(gpu_mem=2**20))
    assert not calls


def test_a_source_that_is_missing_is_bad_input(config, dst, tmp_path):
    for call in (lambda src: dehaze(src, dst, config=config()), lambda src: plan_run(src, config=config())):
        with pytest.raises(InputError):
            call(tmp_path / "nothing.tif")


@pytest.mark.slow
def test_a_real_scene_with_a_near_infrared_band_comes_through(config, dst):
    folder = Path(__file__).resolve().parents[3] / "shared" / "scenes"
    scenes = sorted(folder.glob("m_*.tif"))
    if not scenes:
        pytest.skip("the folder of sample scenes is not beside this checkout")
    result = dehaze(scenes[0], dst, config=config(batch=16, overlap=0))
    with rasterio.open(scenes[0]) as before, rasterio.open(dst) as after:
        assert (before.crs, before.transform, before.shape) == (after.crs, after.transform, after.shape)
        assert np.array_equal(before.read(4), after.read(4))
        assert not np.array_equal(before.read(1), after.read(1))
    assert result.peak_device_bytes <= result.predicted_device_bytes
