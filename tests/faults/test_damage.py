"""What a disk spoils between two runs is found, said, and made again: never wrong pixels."""

import numpy as np
import pytest

from infdehaze_cli import dehaze

PLACES = ("encoding", "mixing", "decoding", "writing", "finishing")
AT_HALF = ("encoding at half the size", "decoding at half the size", "encoding after it", "decoding after it")


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def cut(path, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def delete(path, rng):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, cut, delete])
@pytest.mark.parametrize(("share", "many"), [(0.0, 100), (0.4, 50)])
def test_what_the_disk_spoils_is_made_again(src, dst, config, whole, interrupt, scratch, times, damage, share, many):
    """Every file of the work folder may be hit: chunks of residuals and latents, headers, the journal."""
    rng = np.random.default_rng(0)
    places = (*AT_HALF, "writing", "finishing") if share else PLACES
    for _ in range(times(4, many)):
        folder = interrupt(places[rng.integers(len(places))])
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        damage(files[rng.integers(len(files))], rng)

        dehaze(src, dst, config=config())

        assert dst.read_bytes() == whole
        assert list(scratch.iterdir()) == []
        dst.unlink()


@pytest.mark.parametrize("damage", [flip, cut, delete])
@pytest.mark.parametrize(
    ("place", "kind", "again", "note"),
    [
        ("mixing", "encoded", {"encoded": 2, "bottleneck": 1, "decoded": 30}, "batch 2 is encoded again."),
        ("mixing", "residuals", {"encoded": 2, "bottleneck": 1, "decoded": 30}, "batch 2 is encoded again."),
        ("finishing", "fields", {"encoded": 0, "bottleneck": 0, "decoded": 2}, "it is decoded again."),
        ("finishing", "mixed", {"encoded": 0, "bottleneck": 1, "decoded": 0}, "the bottleneck is done again."),
    ],
)
def test_a_spoilt_chunk_is_said_and_what_it_held_alone_is_made_again(
    src, dst, config, whole, interrupt, worked, listener, place, kind, again, note, damage
):
    folder = interrupt(place)
    (chunk,) = (path for path in folder.glob(f"{kind}/c/2/**/0") if path.is_file())
    damage(chunk, np.random.default_rng(1))
    worked.update(dict.fromkeys(worked, 0))

    result = dehaze(src, dst, config=config(), reporter=listener)

    assert result.resumed
    assert worked == again
    assert [said.split(": ")[1] for said in listener.notes[1:]] == [note]
    assert dst.read_bytes() == whole


@pytest.mark.parametrize("share", [0.4])
@pytest.mark.parametrize("damage", [flip, cut, delete])
@pytest.mark.parametrize(
    ("place", "kind", "again", "note"),
    [
        ("mixing at half the size", "encoded", {"encoded": 32, "bottleneck": 2}, "batch 2 is encoded again."),
        ("finishing", "fields", {"encoded": 0, "bottleneck": 0, "decoded": 2}, "it is decoded again."),
        ("finishing", "mixed", {"encoded": 0, "bottleneck": 1, "decoded": 0}, "the bottleneck is done again."),
    ],
)
def test_a_spoilt_chunk_of_the_look_at_half_the_size_is_made_again_too(
    src, dst, config, whole, interrupt, worked, listener, place, kind, again, note, damage, share
):
    folder = interrupt(place)
    # the latents that were mixed are few: all of them are one chunk
    (chunk, *_) = sorted(path for path in (folder / "coarse" / kind).glob("c/*/**/0") if path.is_file())[-3:]
    damage(chunk, np.random.default_rng(1))
    worked.update(dict.fromkeys(worked, 0))

    dehaze(src, dst, config=config(), reporter=listener)

    assert worked.items() >= again.items()
    assert [said.split(": ")[1] for said in listener.notes[1:]] == [note]
    assert dst.read_bytes() == whole


def test_a_torn_journal_costs_work_and_nothing_else(src, dst, config, whole, interrupt, times):
    for part in np.linspace(0, 1, times(3, 20)):
        folder = interrupt("writing")
        path = folder / "journal.jsonl"
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])

        dehaze(src, dst, config=config())

        assert dst.read_bytes() == whole
        dst.unlink()
