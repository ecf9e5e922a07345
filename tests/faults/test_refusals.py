"""What does not belong together is refused: another input, weights or request, and a second run into one output."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio

from infdehaze_cli import BudgetError, CorruptError, StorageError, UsageError, dehaze, journal
from infdehaze_cli.work_folder import claim


def touch_later(src):
    os.utime(src, ns=(1, 1))


def change_a_pixel(src):
    facts = src.stat()
    with rasterio.open(src, "r+") as file:
        file.write(np.full((3, 1, 1), 7, np.uint8), window=((0, 1), (0, 1)))
    os.utime(src, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.parametrize("change", [touch_later, change_a_pixel])
def test_a_changed_input_is_refused(src, dst, config, interrupt, change):
    folder = interrupt()
    change(src)

    with pytest.raises(CorruptError, match=r"its input has changed.*--no-resume") as caught:
        dehaze(src, dst, config=config())

    assert caught.value.exit_code == 6
    assert folder.is_dir()
    assert not dehaze(src, dst, config=config(), resume=False).resumed


def test_other_weights_are_refused(src, dst, config, interrupt, make_weights):
    interrupt()

    with pytest.raises(CorruptError, match=r"other weights.*--no-resume"):
        dehaze(src, dst, config=config(weights=str(make_weights(8))))


@pytest.mark.parametrize(
    "changes", [{"batch": 8}, {"residuals": "dram"}, {"overlap": 8}, {"residual_dtype": "fp32"}, {"gpu_mem": 2**30}]
)
def test_another_plan_is_refused_and_the_first_still_goes_on(src, dst, config, whole, interrupt, changes):
    interrupt()

    with pytest.raises(CorruptError, match=r"other things.*--no-resume"):
        dehaze(src, dst, config=config(**changes))

    assert dehaze(src, dst, config=config()).resumed
    assert dst.read_bytes() == whole


def test_a_work_folder_that_is_a_link_is_not_emptied(src, dst, config, scratch, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("mine")
    with claim(scratch, dst, lambda line: None) as work:
        place = work.path
    place.symlink_to(mine)

    with pytest.raises(StorageError, match="is a link"):
        dehaze(src, dst, config=config())

    assert [path.name for path in mine.iterdir()] == ["precious"]


def test_a_budget_that_does_not_do_does_not_cost_the_work(src, dst, config, whole, interrupt):
    interrupt()

    with pytest.raises(BudgetError):
        dehaze(src, dst, config=config(ram=2**20), resume=False)

    assert dehaze(src, dst, config=config()).resumed
    assert dst.read_bytes() == whole


@pytest.mark.parametrize(
    "line", [b"null", b"[1]", b'{"format": 6}', b'{"format": 6, "identity": {}, "plan": {"x": 1}}']
)
def test_a_journal_of_something_else_starts_afresh(src, dst, config, whole, scratch, line):
    with claim(scratch, dst, lambda _: None) as work:
        place = work.path
    place.mkdir()
    (place / "journal.jsonl").write_bytes(line + b"\t" + journal._check(line) + b"\n")

    assert not dehaze(src, dst, config=config()).resumed
    assert dst.read_bytes() == whole


def test_wrong_usage_does_not_cost_the_work(src, dst, config, interrupt, entries):
    folder = interrupt()

    with pytest.raises(UsageError):
        dehaze(src, dst, config=config(), creation_options={"COMPRESS": "MAGIC"})

    assert len(entries(folder)) > 1
    assert dehaze(src, dst, config=config(), format="gtiff").resumed


# ---------------------------------------------------------------- the lock


@pytest.mark.parametrize("residuals", ["dram", "ssd"])
def test_a_second_run_into_the_same_output_is_told(src, dst, config, scratch, residuals):
    with (
        claim(scratch, dst, print),
        pytest.raises(StorageError, match=rf"Another run writes .*process {os.getpid()}") as caught,
    ):
        dehaze(src, dst, config=config(residuals=residuals))

    assert caught.value.exit_code == 5
    assert dehaze(src, dst, config=config(residuals=residuals)).tiles
    assert list(scratch.iterdir()) == []


def test_runs_into_two_outputs_do_not_mind_each_other(src, dst, config, scratch):
    with claim(scratch, dst.with_name("other.tif"), print):
        dehaze(src, dst, config=config())

    assert dst.is_file()


def test_a_lock_that_its_owner_left_behind_is_no_hindrance(src, dst, config, scratch):
    with claim(scratch, dst, print) as work:
        path = work.path
    path.mkdir()
    (path / "lock").write_text("999999999")

    dehaze(src, dst, config=config())

    assert list(scratch.iterdir()) == []


def test_one_output_has_one_folder_however_it_is_spelled(dst, scratch, monkeypatch):
    monkeypatch.chdir(dst.parent)
    names = []
    for spelling in (dst, Path("clean.tif"), Path("../out/clean.tif")):
        with claim(scratch, spelling, print) as work:
            names.append(work.path.name)

    assert len(set(names)) == 1
