"""The plot: a whole PNG, with a line a method, or a plain error before the measurement."""

import os

import pytest
from matplotlib import image

from infdehaze_cli.bench.memory_plot import check_plot, draw_memory
from infdehaze_cli.errors import StorageError, UsageError

MiB = 1024**2


def test_the_plot_is_a_picture_and_nothing_lies_beside_it(report, tmp_path):
    path = draw_memory(report(), tmp_path / "memory.png")

    pixels = image.imread(path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert pixels.shape == (600, 960, 4)
    # axes, lines and words on white
    assert 0.005 < (pixels[..., :3].min(-1) < 0.9).mean() < 0.5
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_measured_shows(report, row, tmp_path):
    died = draw_memory(report(), tmp_path / "died.png")
    lived = draw_memory(report(*report().rows[:-1]), tmp_path / "lived.png")
    unlimited = draw_memory(report(gpu_mem=None), tmp_path / "unlimited.png")

    pictures = {path.read_bytes() for path in (died, lived, unlimited)}
    assert len(pictures) == 3


@pytest.mark.parametrize("rows", [1, 2])
def test_a_method_that_never_lived_is_drawn_too(report, row, tmp_path, rows):
    measured = report(*[row("direct", 1024), row("streamed", 1024, 5 * MiB, tier="dram")][:rows])

    assert image.imread(draw_memory(measured, tmp_path / "memory.png")).shape == (600, 960, 4)


@pytest.mark.parametrize("name", ["missing/memory.png", "memory.jpg", "memory", "folder.png", "old.png"])
def test_an_impossible_name_is_refused(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "old.png").write_bytes(b"old")

    with pytest.raises(UsageError):
        check_plot(tmp_path / name, overwrite=False)
    assert (tmp_path / "old.png").read_bytes() == b"old"


def test_an_old_plot_may_be_replaced_on_demand(report, tmp_path):
    old = tmp_path / "old.png"
    old.write_bytes(b"old")

    check_plot(old, overwrite=True)
    draw_memory(report(), old)

    assert image.imread(old).ndim == 3


def test_a_folder_that_cannot_be_written_is_refused(monkeypatch, report, tmp_path):
    # root may write anywhere
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(StorageError):
        check_plot(tmp_path / "memory.png", overwrite=False)
    with pytest.raises(StorageError):
        draw_memory(report(), tmp_path / "gone" / "memory.png")
