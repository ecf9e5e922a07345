"""An interrupted run goes on: the same bytes, no work done twice, and only with what it was begun with."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from infdehaze.encoder import Encoder
from infdehaze.weights import load_model
from zarr.storage import LocalStore

from infdehaze_cli import CorruptError, StorageError, UsageError, dehaze, plan_run
from infdehaze_cli.raster.output import OutputWriter
from infdehaze_cli.store import ZarrResidualStore, row_bytes
from infdehaze_cli.work_folder import claim


@pytest.fixture
def encoded(monkeypatch):
    """Count the tiles that are encoded."""
    seen, forward = [], Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    return seen


@pytest.fixture
def interrupt(src, dst, config, scratch):
    """Run until a method is called for the n-th time, which raises."""

    def run(place=(ZarrResidualStore, "read"), call=5, error=None, **changes):
        error = error or KeyboardInterrupt()
        owner, name = place
        works, calls = getattr(owner, name), []

        def broken(*args, **kwargs):
            calls.append(name)
            if len(calls) == call:
                raise error
            return works(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, broken)
            with pytest.raises(type(error)) as caught:
                dehaze(src, dst, config=config(**changes))
        assert caught.value is error
        assert list(dst.parent.iterdir()) == []
        return next(scratch.iterdir(), None)

    return run


def entries(folder):
    return [line.rpartition("\t")[0] for line in (folder / "journal.jsonl").read_text().splitlines()]


PLACES = {
    "encoding": (Encoder, "forward"),
    "loading": (ZarrResidualStore, "read"),
    "writing": (OutputWriter, "write"),
    "finishing": (OutputWriter, "finish"),
}
CALLS = {"encoding": 7, "loading": 5, "writing": 1, "finishing": 1}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), StorageError("full")], ids=repr)
def test_a_run_goes_on_where_it_was_interrupted(src, dst, config, whole, interrupt, encoded, scratch, place, error):
    folder = interrupt(PLACES[place], CALLS[place], error)
    assert {path.name for path in folder.iterdir()} == {"journal.jsonl", "residuals", "encoded"}
    before = sum(len(json.loads(entry)["tiles"]) for entry in entries(folder)[1:])
    encoded.clear()

    result = dehaze(src, dst, config=config())

    assert result.resumed
    assert before > 0
    assert sum(encoded) == result.tiles - before
    assert dst.read_bytes() == whole
    assert list(scratch.iterdir()) == []


def test_a_run_may_be_interrupted_again_and_again(src, dst, config, whole, interrupt, scratch):
    for call in (4, 3, 9, 2):
        interrupt(PLACES["encoding"], call)
    interrupt(PLACES["writing"], 1)

    assert dehaze(src, dst, config=config()).resumed
    assert dst.read_bytes() == whole


def test_batches_that_were_in_memory_are_encoded_again(src, dst, config, whole, interrupt, encoded, scratch):
    # room for some of the batches beside what must be there
    row = row_bytes(load_model(config().weights).preset.residual_shapes, "fp16")
    all_of_it = plan_run(src, config=config(residuals="dram")).predicted_host_bytes
    changes = {"residuals": "dram", "ram": all_of_it - 8 * 2 * row}
    folder = interrupt(PLACES["writing"], 1, **changes)
    before = sum(len(json.loads(entry)["tiles"]) for entry in entries(folder)[1:])
    encoded.clear()

    result = dehaze(src, dst, config=config(**changes))

    assert result.resumed
    assert sum(encoded) == result.tiles - before > 0
    assert dst.read_bytes() == whole


def test_with_no_resume_it_starts_afresh(src, dst, config, whole, interrupt, encoded, scratch):
    interrupt()
    encoded.clear()

    result = dehaze(src, dst, config=config(), resume=False)

    assert not result.resumed
    assert sum(encoded) == result.tiles
    assert dst.read_bytes() == whole
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("residuals", ["dram", "recompute"])
def test_without_work_on_disk_nothing_is_left_and_it_starts_over(src, dst, config, interrupt, scratch, residuals):
    assert interrupt(PLACES["writing"], 1, residuals=residuals) is None

    assert not dehaze(src, dst, config=config(residuals=residuals)).resumed


# ---------------------------------------------------------------- damage between the runs


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def cut(path, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def delete(path, rng):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, cut, delete])
def test_what_the_disk_spoils_is_made_again(src, dst, config, whole, interrupt, scratch, tmp_path, times, damage):
    """Every file of the work folder may be hit: chunks of residuals and latents, headers, the journal."""
    rng = np.random.default_rng(0)
    for _ in range(times(3, 100)):
        folder = interrupt(PLACES["writing"], 1)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        damage(files[rng.integers(len(files))], rng)

        dehaze(src, dst, config=config())

        assert dst.read_bytes() == whole
        assert list(scratch.iterdir()) == []
        dst.unlink()


@pytest.mark.parametrize("kind", ["residuals", "encoded"])
@pytest.mark.parametrize("damage", [flip, cut, delete])
def test_a_spoilt_chunk_is_said_and_its_batch_alone_encoded_again(
    src, dst, config, whole, interrupt, encoded, kind, damage
):
    folder = interrupt(PLACES["writing"], 1)
    damage(folder / kind / "c" / "2" / "0", np.random.default_rng(1))
    encoded.clear()
    notes = []

    result = dehaze(src, dst, config=config(), reporter=_Listener(notes))

    assert result.resumed
    assert sum(encoded) == 2
    assert [note.split(": ")[1] for note in notes] == ["batch 2 is encoded again."]
    assert dst.read_bytes() == whole


class _Listener:
    def __init__(self, notes):
        self.note = notes.append

    def phase(self, name, total):
        pass

    def advance(self, steps=1):
        pass


def test_a_torn_journal_costs_work_and_nothing_else(src, dst, config, whole, interrupt, times):
    for part in np.linspace(0, 1, times(3, 20)):
        folder = interrupt(PLACES["writing"], 1)
        path = folder / "journal.jsonl"
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])

        dehaze(src, dst, config=config())

        assert dst.read_bytes() == whole
        dst.unlink()


# ---------------------------------------------------------------- what does not belong together


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


def test_wrong_usage_does_not_cost_the_work(src, dst, config, interrupt):
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
