"""Where an output goes: never half, never over something, never without room."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections import namedtuple
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.shutil
from rasterio.errors import RasterioIOError

from infdehaze_cli.errors import InfdehazeError, StorageError, UsageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import OutputWriter, Scene
from infdehaze_cli.raster._gdal import open_quietly
from infdehaze_cli.raster.destination import check_free_space
from infdehaze_cli.raster.verify import verify

Make = Callable[..., Path]
Run = Callable[..., Path]


@pytest.fixture
def source(make_tiff: Make, rng: np.random.Generator) -> Path:
    mask = np.where(rng.random((300, 400)) < 0.3, 0, 255).astype(np.uint8)
    return make_tiff(rng.integers(1, 255, (3, 300, 400), dtype=np.uint8), mask=mask)


@pytest.mark.parametrize("format", ["cog", "gtiff"])
def test_only_the_output_is_left_after_success(
    source: Path,
    folder: Path,
    restore: Run,
    format: str,  # noqa: A002
) -> None:
    restore(source, dst=folder / "clean.tif", format=format)
    assert [path.name for path in folder.iterdir()] == ["clean.tif"]


@pytest.mark.parametrize("format", ["cog", "gtiff"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_leaving_with_an_exception_leaves_nothing(
    source: Path,
    folder: Path,
    stop: type[BaseException],
    format: Any,  # noqa: A002
) -> None:
    def run() -> None:
        with Scene.open(source) as scene, OutputWriter(scene, folder / "clean.tif", format=format) as writer:
            block = scene.read(Window(0, 0, 256, 400))
            writer.write(block, block.values * 2)
            raise stop

    with pytest.raises(stop):
        run()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["clean.png", "clean.JP2", "clean.vrt", "clean.img"])
def test_a_name_that_promises_another_format_is_refused(source: Path, folder: Path, restore: Run, name: str) -> None:
    with pytest.raises(UsageError, match="would hold a GeoTIFF"):
        restore(source, dst=folder / name)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["clean", "clean.TIFF", "clean.2024-07", "clean.tif.part"])
def test_other_names_are_the_users_affair(source: Path, folder: Path, restore: Run, name: str) -> None:
    assert restore(source, dst=folder / name).name == name


def test_a_folder_that_is_missing_is_no_file(source: Path, folder: Path, restore: Run) -> None:
    with pytest.raises(UsageError, match="no folder"):
        restore(source, dst=f"{folder}/clean/")
    assert list(folder.iterdir()) == []


def test_leaving_without_finish_leaves_nothing(source: Path, folder: Path) -> None:
    with Scene.open(source) as scene, OutputWriter(scene, folder / "clean.tif"):
        assert list(folder.iterdir()) != []
    assert list(folder.iterdir()) == []


def test_an_unfinished_scene_cannot_be_finished(source: Path, folder: Path) -> None:
    with Scene.open(source) as scene, OutputWriter(scene, folder / "clean.tif") as writer:
        block = scene.read(Window(0, 0, 256, 400))
        writer.write(block, block.values)
        with pytest.raises(ValueError, match="before all windows"):
            writer.finish()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("moment", ["copy", "verify", "sync_and_rename"])
def test_a_failure_while_finishing_leaves_nothing(
    source: Path, folder: Path, restore: Run, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    if moment == "copy":
        monkeypatch.setattr(rasterio.shutil, "copy", fail)
    else:
        room = {"verify": "output", "sync_and_rename": "destination"}[moment]
        monkeypatch.setattr(f"infdehaze_cli.raster.{room}.{moment}", fail)
    with pytest.raises(StorageError, match="No space left"):
        restore(source, dst=folder / "clean.tif")
    assert list(folder.iterdir()) == []


def test_a_failing_write_is_a_storage_error(
    source: Path, folder: Path, restore: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RasterioIOError("write failed")

    monkeypatch.setattr("rasterio.io.DatasetWriter.write", fail)
    with pytest.raises(StorageError, match="write failed"):
        restore(source, dst=folder / "clean.tif")
    assert list(folder.iterdir()) == []


def test_a_truncated_file_never_gets_the_name(
    source: Path, folder: Path, restore: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = rasterio.shutil.copy

    def copy_and_cut(src: str, dst: str, **options: Any) -> None:
        copy(src, dst, **options)
        Path(dst).write_bytes(Path(dst).read_bytes()[:-5000])

    monkeypatch.setattr(rasterio.shutil, "copy", copy_and_cut)
    with pytest.raises(StorageError):
        restore(source, dst=folder / "clean.tif")
    assert list(folder.iterdir()) == []


def test_a_block_that_was_never_written_is_noticed(source: Path, tmp_path: Path, make_tiff: Make) -> None:
    path = tmp_path / "sparse.tif"
    profile = {
        "driver": "GTiff",
        "height": 300,
        "width": 400,
        "count": 3,
        "dtype": "uint8",
        "sparse_ok": True,
    }
    with open_quietly(path, "w", tiled=True, **profile) as dataset:
        dataset.write(np.ones((3, 256, 256), np.uint8), window=((0, 256), (0, 256)))
    with Scene.open(source) as scene, pytest.raises(StorageError, match="lacks a block"):
        verify(path, (scene.count, scene.height, scene.width), scene.dtype.name)


def test_a_file_of_another_shape_is_noticed(source: Path, make_tiff: Make) -> None:
    other = make_tiff(np.ones((3, 300, 401), np.uint8), name="other.tif")
    with Scene.open(source) as scene, pytest.raises(StorageError, match="size and type"):
        verify(other, (scene.count, scene.height, scene.width), scene.dtype.name)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("format", ["cog", "gtiff"])
def test_a_disk_that_fills_up_ends_in_a_storage_error(
    source: Path,
    folder: Path,
    format: str,  # noqa: A002
) -> None:
    program = f"""
        import resource
        from infdehaze_cli.errors import StorageError
        from infdehaze_cli.geometry import split_windows
        from infdehaze_cli.raster import OutputWriter, Scene
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
        try:
            with Scene.open({str(source)!r}) as scene:
                with OutputWriter(scene, {str(folder / "clean.tif")!r}, format={format!r}) as writer:
                    for window in split_windows(scene.height, scene.width, 256, 512):
                        block = scene.read(window)
                        writer.write(block, block.values)
                    writer.finish()
        except StorageError as error:
            print("StorageError:", error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.startswith("StorageError: ")
    assert done.stdout.count("\n") == 1
    assert list(folder.iterdir()) == []


Usage = namedtuple("Usage", ["total", "used", "free"])


def test_too_little_free_space_is_said_before_the_work(
    source: Path, folder: Path, restore: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 20, 1 << 20, 4096))
    with pytest.raises(StorageError, match=r"4 KiB free and the output needs up to 820\.3 KiB"):
        restore(source, dst=folder / "clean.tif")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("cog", "needed"), [(True, 7 / 3), (False, 1)])
def test_one_file_system_needs_room_for_all_that_lies_there(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, cog: bool, needed: float
) -> None:
    with Scene.open(source) as scene:
        raw = 3 * scene.height * scene.width
        for free, expected in ((int(needed * raw) + 1000, nullcontext()), (int(needed * raw) + 990, None)):
            monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(0, 0, free))
            with expected or pytest.raises(StorageError, match="free and the output needs"):
                check_free_space(scene, 3, folder, folder, cog=cog, beside=1000)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
@pytest.mark.parametrize(
    ("overviews_first", "free", "lacking"), [(False, 1.0, None), (True, 1.3, "first"), (True, 1.4, None)]
)
def test_each_of_two_file_systems_needs_room_for_what_lies_there(
    source: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    overviews_first: bool,
    free: float,
    lacking: str | None,
) -> None:
    first = Path("/dev/shm")
    with Scene.open(source) as scene:
        raw = 3 * scene.height * scene.width
        room = {first: int(free * raw), folder: int(1.4 * raw)}
        monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, room[place]))
        with pytest.raises(StorageError, match=str(first)) if lacking else nullcontext():
            check_free_space(scene, 3, first, folder, cog=True, overviews_first=overviews_first)
        room[first] = int((4 / 3 if overviews_first else 1) * raw) + 999
        with pytest.raises(StorageError, match=str(first)):
            check_free_space(scene, 3, first, folder, cog=True, overviews_first=overviews_first, beside=1000)
        room[folder] = int(1.3 * raw)
        room[first] = 2 * raw
        with pytest.raises(StorageError, match="free and the output needs"):
            check_free_space(scene, 3, first, folder, cog=True, overviews_first=overviews_first)


def test_an_existing_file_is_kept_until_overwrite_is_given(source: Path, folder: Path, restore: Run) -> None:
    dst = folder / "clean.tif"
    dst.write_text("precious")
    with pytest.raises(UsageError, match="--overwrite"):
        restore(source, dst=dst)
    assert dst.read_text() == "precious"
    restore(source, dst=dst, overwrite=True)
    with open_quietly(dst) as dataset:
        assert dataset.shape == (300, 400)


def test_sidecars_of_a_replaced_file_do_not_stay(source: Path, folder: Path, restore: Run) -> None:
    sidecar = folder / "clean.tif.ovr"
    sidecar.write_text("stale")
    with pytest.raises(UsageError, match=r"clean\.tif\.ovr exists"):
        restore(source, dst=folder / "clean.tif")
    restore(source, dst=folder / "clean.tif", overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["clean.tif"]


def test_a_failed_run_keeps_the_file_that_it_would_have_replaced(
    source: Path, folder: Path, restore: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    dst = folder / "clean.tif"
    dst.write_text("precious")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(rasterio.shutil, "copy", fail)
    with pytest.raises(StorageError):
        restore(source, dst=dst, overwrite=True)
    assert dst.read_text() == "precious"
    assert [path.name for path in folder.iterdir()] == ["clean.tif"]


def test_impossible_destinations_are_refused_in_one_line(source: Path, folder: Path) -> None:
    impossible = [
        source,
        folder,
        folder / "no" / "clean.tif",
        "/vsimem/clean.tif",
        "https://host/clean.tif",
        "s3://bucket",
    ]
    with Scene.open(source) as scene:
        for dst in impossible:
            with pytest.raises(UsageError) as caught:
                OutputWriter(scene, dst, overwrite=True)
            assert "\n" not in str(caught.value)
    assert source.exists()


def test_a_missing_work_folder_is_refused(source: Path, folder: Path, restore: Run) -> None:
    with pytest.raises(StorageError, match="make it first"):
        restore(source, dst=folder / "clean.tif", work_dir=folder / "missing")


def test_the_unpacked_file_lies_in_the_work_folder_and_goes(source: Path, folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with Scene.open(source) as scene:
        with OutputWriter(scene, folder / "clean.tif", work_dir=work):
            assert list(folder.iterdir()) == []
            assert len(list(work.iterdir())) == 1
        assert list(work.iterdir()) == []


def test_every_error_here_has_an_exit_code_of_its_own() -> None:
    assert {kind.exit_code for kind in (StorageError, UsageError, InfdehazeError)} == {5, 2, 1}
