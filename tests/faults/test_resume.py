"""An interrupted run goes on: the same bytes, no work done twice, and only with what it was begun with."""

import errno
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from infdehaze.weights import load_model
from zarr.storage import LocalStore

from infdehaze_cli import StorageError, dehaze, plan_run, scene_plan
from infdehaze_cli.raster import HazeMapWriter
from infdehaze_cli.report import VrtWriter
from infdehaze_cli.store import row_bytes

FOLDERS = {"journal.jsonl", "residuals", "encoded", "mixed", "fields"}


def said(lines, key):
    """Return the batches that a journal names, with their number of tiles."""
    tiles = {line[key]: line["tiles"] for line in lines if key in line}
    return {
        batch: told if isinstance(told, int) else sum(last + 1 - first for first, last, _ in told)
        for batch, told in tiles.items()
    }


@pytest.mark.parametrize("place", ["encoding", "mixing", "decoding", "loading", "writing", "finishing"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), StorageError("full")], ids=repr)
def test_a_run_goes_on_where_it_was_interrupted(
    src, dst, config, whole, interrupt, worked, entries, scratch, place, error
):
    folder = interrupt(place, error=error)
    assert {path.name for path in folder.iterdir()} <= FOLDERS
    lines = entries(folder)
    encoded, decoded = said(lines, "encoded"), said(lines, "decoded")
    mixed = any("mixed" in line for line in lines)
    worked.update(dict.fromkeys(worked, 0))

    result = dehaze(src, dst, config=config())

    assert result.resumed
    assert result.not_repeated == {
        "encoded_batches": len(encoded),
        "bottleneck": mixed,
        "decoded_batches": len(decoded),
        "coarse_encoded_batches": 0,
        "coarse_bottleneck": False,
        "coarse_decoded_batches": 0,
    }
    assert mixed == (place in ("decoding", "loading", "writing", "finishing"))
    assert worked["encoded"] == result.tiles - sum(encoded.values())
    assert worked["bottleneck"] == 1 - mixed
    assert worked["decoded"] == result.tiles - sum(decoded.values())
    assert dst.read_bytes() == whole
    assert list(scratch.iterdir()) == []


AT_HALF = [f"{what} {when}" for when in ("at half the size", "after it") for what in ("encoding", "mixing", "decoding")]


@pytest.mark.parametrize("share", [0.4])
@pytest.mark.parametrize("place", [*AT_HALF, "writing", "finishing"])
def test_a_run_with_a_look_at_half_the_size_goes_on_where_it_was_interrupted(
    src, dst, config, whole, make_whole, interrupt, worked, entries, scratch, listener, place, share
):
    plan = plan_run(src, config=config())
    tiles = plan.tiles + plan.coarse_tiles
    folder = interrupt(place)
    assert {path.name for path in folder.iterdir()} <= {*FOLDERS, "coarse"}
    assert {path.name for path in (folder / "coarse").iterdir()} <= FOLDERS
    lines = entries(folder)
    looks = [[line for line in lines if ("look" in line) == at_half] for at_half in (False, True)]
    encoded, decoded = ([said(look, key) for look in looks] for key in ("encoded", "decoded"))
    mixed = [any("mixed" in line for line in look) for look in looks]
    worked.update(dict.fromkeys(worked, 0))

    result = dehaze(src, dst, config=config(), reporter=listener)

    assert result.not_repeated == {
        f"{look}{what}": number
        for look, *numbers in zip(("", "coarse_"), map(len, encoded), mixed, map(len, decoded), strict=True)
        for what, number in zip(("encoded_batches", "bottleneck", "decoded_batches"), numbers, strict=True)
    }
    assert mixed == [place in ("decoding after it", "writing", "finishing"), place not in AT_HALF[:2]]
    assert worked == {
        "encoded": tiles - sum(sum(look.values()) for look in encoded),
        "bottleneck": 2 - sum(mixed),
        "decoded": tiles - sum(sum(look.values()) for look in decoded),
    }
    assert ("half the size" in listener.notes[0]) == (place in AT_HALF[:3])
    assert dst.read_bytes() == whole != make_whole(0.0)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("share", [0.4])
@pytest.mark.parametrize("residuals", ["dram", "recompute"])
@pytest.mark.parametrize("place", [*AT_HALF[2:], "finishing"])
def test_both_looks_go_on_without_residuals_on_disk(
    src, dst, config, whole, interrupt, scratch, residuals, place, share
):
    interrupt(place, residuals=residuals)

    assert dehaze(src, dst, config=config(residuals=residuals)).resumed
    assert dst.read_bytes() == whole
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("residuals", ["dram", "recompute"])
@pytest.mark.parametrize("place", ["decoding", "writing", "finishing"])
def test_without_residuals_on_disk_what_is_not_decoded_is_encoded_again_and_nothing_else(
    src, dst, config, whole, interrupt, worked, entries, scratch, residuals, place
):
    decoded = said(entries(interrupt(place, residuals=residuals)), "decoded")
    worked.update(dict.fromkeys(worked, 0))

    result = dehaze(src, dst, config=config(residuals=residuals))

    left = result.tiles - sum(decoded.values())
    assert worked == {"encoded": left, "bottleneck": 0, "decoded": left}
    assert (result.resumed, result.not_repeated["decoded_batches"]) == (True, len(decoded))
    assert dst.read_bytes() == whole
    assert list(scratch.iterdir()) == []


def test_where_all_is_encoded_again_the_first_pass_at_least_is_not(src, dst, config, whole, interrupt, worked):
    interrupt("mixing", residuals="recompute")
    worked.update(dict.fromkeys(worked, 0))

    result = dehaze(src, dst, config=config(residuals="recompute"))

    assert worked["encoded"] == result.tiles
    assert dst.read_bytes() == whole


@pytest.mark.parametrize("place", ["encoding", "mixing"])
def test_nothing_is_left_where_going_on_would_save_nothing(src, dst, config, interrupt, scratch, place):
    assert interrupt(place, residuals="dram") is None

    assert not dehaze(src, dst, config=config(residuals="dram")).resumed


def test_a_run_may_be_interrupted_again_and_again(src, dst, config, whole, interrupt, scratch):
    for place, call in (("encoding", 4), ("encoding", 3), ("encoding", 4), ("decoding", 3), ("decoding", 5)):
        interrupt(place, call)
    interrupt("writing")

    assert dehaze(src, dst, config=config()).resumed
    assert dst.read_bytes() == whole


def test_the_journal_and_a_line_say_what_is_not_repeated(src, dst, config, interrupt, entries, listener):
    decoded = said(entries(interrupt("decoding")), "decoded")
    lines = entries(interrupt("finishing"))

    dehaze(src, dst, config=config(), reporter=listener)

    (not_repeated,) = [line["not_repeated"] for line in lines if "not_repeated" in line]
    fine = {"encoded_batches": 15, "bottleneck": True, "decoded_batches": len(decoded)}
    coarse = {"coarse_encoded_batches": 0, "coarse_bottleneck": False, "coarse_decoded_batches": 0}
    assert not_repeated == {**fine, **coarse}
    assert listener.notes == [
        "Goes on with an interrupted run: the bottleneck and 15 of 15 batches of the decoder are done."
    ]


def test_another_strength_and_output_go_on_from_the_same_work(src, dst, config, interrupt, worked, tmp_path):
    interrupt("finishing")
    worked.update(dict.fromkeys(worked, 0))

    dehaze(src, dst, config=config(strength=0.5), format="gtiff")

    assert worked == {"encoded": 0, "bottleneck": 0, "decoded": 0}
    dehaze(src, tmp_path / "half.tif", config=config(strength=0.5), format="gtiff")
    with rasterio.open(dst) as found, rasterio.open(tmp_path / "half.tif") as expected:
        assert np.array_equal(found.read(), expected.read())


@pytest.mark.parametrize("kind", ["haze_map", "vrt"])
def test_what_is_made_beside_or_in_place_of_the_output_goes_on_too(src, dst, config, interrupt, tmp_path, kind):
    def clean(folder):
        folder.mkdir(exist_ok=True)
        if kind == "vrt":
            dehaze(src, folder / "clean.vrt", config=config(), vrt=True)
        else:
            dehaze(src, folder / "clean.tif", config=config(), haze_map=folder / "haze.tif")
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    expected = clean(dst.parent)
    for path in dst.parent.iterdir():
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VrtWriter if kind == "vrt" else HazeMapWriter, "finish", stopped)
        with pytest.raises(KeyboardInterrupt):
            clean(dst.parent)

    assert clean(dst.parent) == expected


def stopped(self):
    raise KeyboardInterrupt


@pytest.mark.parametrize("changes", [{"latents_on_disk": True}, {"heads_on_disk": True}, {"codec": "zstd"}], ids=str)
def test_latents_that_lie_on_disk_or_are_packed_go_on_too(
    src, dst, config, whole, interrupt, worked, monkeypatch, changes
):
    made = scene_plan.make_plan
    monkeypatch.setattr(scene_plan, "make_plan", lambda *args, **kwargs: replace(made(*args, **kwargs), **changes))
    interrupt("decoding")
    worked.update(dict.fromkeys(worked, 0))

    dehaze(src, dst, config=config())

    assert (worked["encoded"], worked["bottleneck"]) == (0, 0)
    assert dst.read_bytes() == whole


def test_batches_that_were_in_memory_are_encoded_again(src, dst, config, whole, interrupt, worked, entries):
    # room for some of the batches beside what must be there
    row = row_bytes(load_model(config().weights).preset.residual_shapes, "fp16")
    all_of_it = plan_run(src, config=config(residuals="dram")).predicted_host_bytes
    changes = {"residuals": "dram", "ram": all_of_it - 8 * 2 * row}
    encoded = said(entries(interrupt("decoding", 2, **changes)), "encoded")
    worked.update(dict.fromkeys(worked, 0))

    result = dehaze(src, dst, config=config(**changes))

    assert result.resumed
    # but for the batch or two whose fields were kept
    assert result.tiles - sum(encoded.values()) - 4 <= worked["encoded"] <= result.tiles - sum(encoded.values())
    assert dst.read_bytes() == whole


def test_with_no_resume_it_starts_afresh(src, dst, config, whole, interrupt, worked, scratch):
    interrupt()
    worked.update(dict.fromkeys(worked, 0))

    result = dehaze(src, dst, config=config(), resume=False)

    assert not result.resumed
    assert worked == {"encoded": result.tiles, "bottleneck": 1, "decoded": result.tiles}
    assert dst.read_bytes() == whole
    assert list(scratch.iterdir()) == []


# ---------------------------------------------------------------- disks that fill up


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_on_the_way_is_5_and_the_run_goes_on_later(src, dst, config, whole, scratch, code):
    works, calls = LocalStore.set, []

    async def fail(self, key, value, *args):
        calls.append(key)
        if len(calls) > 20:
            raise OSError(code, "no")
        return await works(self, key, value, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStore, "set", fail)
        with pytest.raises(StorageError, match="--scratch") as caught:
            dehaze(src, dst, config=config())

    assert caught.value.exit_code == 5
    assert list(dst.parent.iterdir()) == []
    assert dehaze(src, dst, config=config()).resumed
    assert dst.read_bytes() == whole
