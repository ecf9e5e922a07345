"""What goes wrong in a run reaches the caller as it is, and damage of the store is found."""

import errno
import threading

import numpy as np
import pytest
import torch
from infdehaze.ibssa import IBSSA
from zarr.storage import LocalStore

from infdehaze_cli.errors import CorruptError, InputError, StorageError
from infdehaze_cli.host_memory import QUEUE

TIERS = ["dram", "ssd", "recompute"]
CLOSE = 1e-4


FAULTY = {
    "reading for the encoder": {"scene": {"fail_at": 3}},
    "reading at once": {"scene": {"fail_at": 1}},
    "reading for the output": {"second": {"fail_at": 1}},
    "writing": {"writer": {"fail_at": 1}},
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("fault", FAULTY)
@pytest.mark.parametrize("error", [InputError("cannot read"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_errors_of_threads_reach_the_caller_as_they_are(engine, model, small, tier, fault, error):
    faults = {place: {**kind, "error": error} for place, kind in FAULTY[fault].items()}
    with pytest.raises(type(error)) as caught:
        engine.run(model, small, residuals=tier, batch=2, overlap=0, faults=faults)
    assert caught.value is error
    assert list(engine.scratch.iterdir()) == []


def test_an_error_of_the_last_write_is_not_lost(engine, model, picture):
    hazy, error = picture(30, 1030), StorageError("full")
    with pytest.raises(StorageError) as caught:
        engine.run(model, hazy, batch=16, faults={"writer": {"fail_at": 2, "error": error}})
    assert caught.value is error


def test_reading_again_for_the_decoder_may_fail_too(engine, model, small):
    # five batches of two take six reads to encode: one of them begins in one row of tiles and ends in the next
    error, reads = InputError("cannot read"), 8
    with pytest.raises(InputError) as caught:
        engine.run(
            model,
            small,
            residuals="recompute",
            overlap=0,
            batch=2,
            faults={"scene": {"fail_at": reads, "error": error}},
        )
    assert caught.value is error


@pytest.mark.parametrize("part", ["encoder", "decoder", "bottleneck"])
@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("tier", TIERS)
def test_errors_of_the_computation_reach_the_caller_as_they_are(engine, model, small, monkeypatch, part, call, tier):
    error, calls = RuntimeError("broken"), []
    owner, name = (IBSSA, "project") if part == "bottleneck" else (type(getattr(model, part)), "forward")
    works = getattr(owner, name)

    def break_at(self, *args):
        calls.append(part)
        if len(calls) == call:
            raise error
        return works(self, *args)

    monkeypatch.setattr(owner, name, break_at)
    with pytest.raises(RuntimeError) as caught:
        engine.run(model, small, residuals=tier, batch=2, overlap=0)
    assert caught.value is error
    assert list(engine.scratch.iterdir()) == []


def test_a_damaged_chunk_of_latents_is_found(engine, model, small, listen):
    def damage():
        flip(min(path for path in (engine.scratch / "latents" / "c").rglob("*") if path.is_file()))

    changes, listener = {"latents_on_disk": True}, listen(bottleneck=damage)
    with pytest.raises(CorruptError, match="Check the disk") as caught:
        engine.run(model, small, batch=4, overlap=0, reporter=listener, changes=changes)
    assert caught.value.exit_code == 6
    assert list(engine.scratch.iterdir()) == []


def chunk_file(engine, batch):
    return engine.scratch / "residuals" / "c" / str(batch) / "0"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "flipped": flip,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "emptied": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"1234"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("batch", [0, 2])
def test_a_damaged_chunk_on_disk_is_found_and_encoded_again(engine, model, small, damage, batch, listen):
    whole = engine.run(model, small, residuals="ssd", batch=4, overlap=0)
    listener, notes = listen(bottleneck=lambda: DAMAGES[damage](chunk_file(engine, batch))), []
    listener.note = notes.append
    found = engine.run(model, small, residuals="ssd", batch=4, overlap=0, reporter=listener)
    assert np.array_equal(found.image, whole.image)
    assert [note.split(": ")[1] for note in notes] == [f"batch {batch} is encoded again."]
    assert list(engine.scratch.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failing_disk_is_a_storage_error(engine, model, small, monkeypatch, code):
    works = LocalStore.set

    async def fail(self, key, value, *args):
        if key.startswith("c/"):
            raise OSError(code, "no")
        return await works(self, key, value, *args)

    monkeypatch.setattr(LocalStore, "set", fail)
    with pytest.raises(StorageError, match="--scratch") as caught:
        engine.run(model, small, residuals="ssd")
    assert caught.value.exit_code == 5
    assert list(engine.scratch.iterdir()) == []


def test_a_scratch_that_is_no_folder_is_a_storage_error(engine, model, small, make_engine):
    file = engine.scratch / "file"
    file.write_text("")
    with pytest.raises(StorageError, match="file"):
        make_engine(file).run(model, small, residuals="ssd")


def test_reading_stays_a_few_batches_ahead_of_the_computation(engine, model, picture, monkeypatch, listen):
    hazy, waiting, encoded = picture(64, 64 * 20), threading.Event(), []
    reads = []
    read = engine.reader.read

    def count(self, window):
        reads.append(threading.current_thread().name)
        if len(reads) - len(encoded) > QUEUE:
            waiting.set()
        # one batch is in the computation, QUEUE are made or in the making
        assert len(reads) - len(encoded) <= 1 + QUEUE
        return read(self, window)

    forward = type(model.encoder).forward

    def encode(self, tiles):
        # the reader works on meanwhile
        assert len(encoded) > 10 or waiting.wait(30)
        waiting.clear()
        out = forward(self, tiles)
        encoded.append(threading.current_thread().name)
        return out

    monkeypatch.setattr(engine.reader, "read", count)
    monkeypatch.setattr(type(model.encoder), "forward", encode)
    listener = listen(bottleneck=lambda: monkeypatch.setattr(engine.reader, "read", read))
    engine.run(model, hazy, batch=1, overlap=0, reporter=listener)
    assert len(encoded) == 20
    assert set(reads) == {"infdehaze-prefetch"}
    assert set(encoded) == {threading.main_thread().name}


def test_the_network_is_left_as_it_was(engine, model, small):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    engine.run(model, small)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
