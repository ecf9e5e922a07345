"""Weights that are no checkpoint of ours: refused in a line before anything is read, and nothing of them is run.

`tests/models/test_weights.py` has each case in detail; here they meet the program.
"""

import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")

MiB = 1024**2


class Bait:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


def rewritten(good, path, change):
    """Write a checkpoint with changed tensors."""
    tensors = load_file(good)
    change(tensors)
    with safe_open(good, framework="pt") as file:
        save_file(tensors, path, file.metadata())


def a_pickle(good, path, bait):
    path.write_bytes(pickle.dumps(Bait(bait)))


def a_checkpoint_of_torch(good, path, bait):
    torch.save({"state": Bait(bait)}, path)


def an_old_checkpoint_of_torch(good, path, bait):
    torch.save({"state": Bait(bait)}, path, _use_new_zipfile_serialization=False)


def a_giant_header(good, path, bait):
    path.write_bytes(struct.pack("<Q", 2**40) + good.read_bytes()[8:])


def a_header_of_gigabytes(good, path, bait):
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**31) + b"{")
        file.truncate(2**32)


def other_shapes(good, path, bait):
    rewritten(
        good,
        path,
        lambda tensors: tensors.update({key: tensors[key][..., :1].contiguous() for key in list(tensors)[:1]}),
    )


def no_numbers(good, path, bait):
    rewritten(good, path, lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(float("nan")))


REFUSED = {
    a_pickle: "pickled",
    a_checkpoint_of_torch: "pickled",
    an_old_checkpoint_of_torch: "pickled",
    a_giant_header: "not a safetensors file",
    a_header_of_gigabytes: "not a safetensors file",
    other_shapes: "in another shape",
    no_numbers: "not finite",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_it_is_refused_in_a_line_and_never_run(program, src, dst, scratch, weights, tmp_path, make):
    path, bait = tmp_path / "mine.safetensors", tmp_path / "bait"
    make(weights, path, bait)
    assert program.run("--version") == 0
    idle = program.peak

    code = program.run("run", src, "-o", dst, "--scratch", scratch, "--weights", path, "-q")

    said = program.err.read_text()
    assert (code, said.count("\n")) == (3, 1)
    assert REFUSED[make] in said
    assert not bait.exists()
    assert list(dst.parent.iterdir()) == list(scratch.iterdir()) == []
    assert program.peak - idle < 64 * MiB


def test_random_bytes_in_the_header_never_end_in_a_traceback(program, src, dst, scratch, weights, tmp_path, times):
    content, rng = weights.read_bytes(), np.random.default_rng(0)
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(times(3, 100)):
        damaged = bytearray(content)
        damaged[rng.integers(8 + length)] ^= rng.integers(1, 256)
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(damaged)

        code = program.run("run", src, "-o", dst, "--scratch", scratch, "--weights", path, "--device", "cpu", "-q")

        said = program.err.read_text()
        assert (code, said.count("\n")) in ((0, 0), (3, 1)), said
        dst.unlink(missing_ok=True)
        assert list(scratch.iterdir()) == []
