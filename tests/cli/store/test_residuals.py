"""Residuals come back as they were stored, and what is damaged or cannot be stored is said."""

import errno
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore

from infdehaze_cli.errors import CorruptError, StorageError
from infdehaze_cli.store import (
    CODECS,
    RESIDUAL_DTYPES,
    RecomputeStore,
    ZarrResidualStore,
    from_stored,
    pack,
    row_bytes,
    row_length,
    stored_dtype,
    to_stored,
    unpack,
)

SHAPES = ((8, 8, 4), (4, 4, 6), (2, 2, 8), (1, 1, 16))
VALUES = sum(h * w * c for h, w, c in SHAPES)
DTYPES = list(RESIDUAL_DTYPES)
FLOATS = [dtype for dtype in DTYPES if dtype != "int8"]
KINDS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def residuals(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, *shape, generator=generator) * 10 for shape in SHAPES]


def stored(batch, dtype, seed=0):
    return to_stored(pack(residuals(batch, seed), dtype))


def open_store(batches, batch, dtype, folder, codec="none"):
    """Open a store in ``folder``, or in memory without one."""
    in_memory, path = (batches, Path("unused")) if folder is None else (0, folder)
    return ZarrResidualStore(batches, batch, row_length(SHAPES, dtype), stored_dtype(dtype), path, in_memory, codec)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("dtype", FLOATS)
def test_packing_rounds_to_the_storage_dtype_and_nothing_else(dtype, batch):
    given_, kind = residuals(batch), KINDS[dtype]
    back = unpack(from_stored(to_stored(pack(given_, dtype)), dtype), SHAPES)
    assert all(torch.equal(r.to(kind).float(), b) for r, b in zip(given_, back, strict=True))
    assert all(b.dtype == torch.float32 for b in back)


@pytest.mark.parametrize("dtype", DTYPES)
def test_packing_leaves_its_input_alone(dtype):
    given_ = [torch.full((1, *shape), 1e6) for shape in SHAPES]
    pack(given_, dtype)
    assert all((r == 1e6).all() for r in given_)


@settings(max_examples=100)
@given(
    value=st.floats(width=32, allow_nan=False, allow_infinity=False),
    dtype=st.sampled_from(FLOATS),
)
def test_any_finite_value_stays_finite_and_close(value, dtype):
    if dtype == "bf16":
        # beyond this even rounding overflows
        value = max(-3.3e38, min(3.3e38, value))
    back = float(unpack(pack([torch.full((1, *shape), value) for shape in SHAPES], dtype), SHAPES)[0].flatten()[0])
    kept = max(-65504.0, min(65504.0, value)) if dtype == "fp16" else value
    error = {"fp32": 0.0, "fp16": 2**-11, "bf16": 2**-8}[dtype]
    assert back == pytest.approx(kept, rel=error, abs=6e-8)


def test_values_beyond_fp16_are_cut_at_its_largest():
    packed = pack([torch.tensor([[1e9, -1e9, float("inf")]])], "fp16")
    assert packed.tolist() == [[65504.0, -65504.0, 65504.0]]


@pytest.mark.parametrize(("dtype", "size"), [("fp32", 4), ("fp16", 2), ("bf16", 2)])
def test_a_dtype_takes_its_bytes(dtype, size):
    assert stored(3, dtype).nbytes == 3 * VALUES * size == 3 * row_bytes(SHAPES, dtype)


def test_int8_takes_a_byte_a_value_and_a_scale_a_channel():
    channels = sum(c for *_, c in SHAPES)
    assert stored(3, "int8").nbytes == 3 * (VALUES + 4 * channels) == 3 * row_bytes(SHAPES, "int8")


def test_int8_is_right_to_half_a_step_of_its_tile_and_channel():
    given_ = residuals(4)
    # channels of very different size do not share a scale
    given_[0][2, :, :, 1] *= 1000
    back = unpack(pack(given_, "int8"), SHAPES)
    for r, b in zip(given_, back, strict=True):
        step = r.abs().amax((1, 2), keepdim=True) / 127
        assert ((r - b).abs() <= 0.5001 * step).all()
        assert (r - b).abs().max() > 0


def test_int8_keeps_zeros_and_tiny_values_finite():
    back = unpack(pack([torch.zeros(1, *SHAPES[0]), *(torch.full((1, *s), 1e-42) for s in SHAPES[1:])], "int8"), SHAPES)
    assert (back[0] == 0).all()
    assert all(torch.isfinite(b).all() for b in back)


@pytest.fixture(params=["memory", "disk"])
def folder(request, tmp_path):
    return tmp_path / "residuals" if request.param == "disk" else None


@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_come_back_bit_for_bit_in_any_order(folder, dtype):
    store = open_store(4, 3, dtype, folder)
    batches = {number: stored(3 if number < 3 else 2, dtype, number) for number in range(4)}
    for number in (2, 0, 3, 1):
        store.write(number, batches[number])
    for number in (3, 1, 1, 0, 2):
        assert store.read(number).tobytes() == batches[number].tobytes()
    assert store.disk_bytes == (0 if folder is None else sum(packed.nbytes for packed in batches.values()))


def test_a_batch_of_zeros_is_stored_too(folder):
    store = open_store(2, 2, "fp16", folder)
    store.write(1, np.zeros((2, VALUES), np.float16))
    assert (store.read(1) == 0).all()


def test_a_batch_may_be_smaller_than_a_full_one(folder):
    # tiles without data are left out
    store = open_store(2, 4, "fp16", folder)
    packed = stored(1, "fp16")
    store.write(0, packed)
    assert np.array_equal(store.read(0), packed)


def test_what_is_read_may_be_changed_without_a_trace(folder):
    store = open_store(1, 2, "fp32", folder)
    packed = stored(2, "fp32")
    store.write(0, packed)
    from_stored(store.read(0), "fp32").zero_()
    assert np.array_equal(store.read(0), packed)


def test_a_batch_that_was_never_written_is_missing(folder):
    store = open_store(3, 2, "fp16", folder)
    store.write(0, stored(2, "fp16"))
    with pytest.raises(CorruptError, match="batch 1 are missing"):
        store.read(1)


def test_closing_removes_the_folder(tmp_path):
    store = open_store(2, 2, "fp16", tmp_path / "residuals")
    store.write(0, stored(2, "fp16"))
    assert (tmp_path / "residuals").is_dir()
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_scene_without_batches_can_be_stored(folder):
    open_store(0, 4, "fp16", folder).close()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(dtype, position, bit):
    with TemporaryDirectory() as scratch:
        store = open_store(1, 2, dtype, Path(scratch) / "residuals")
        store.write(0, stored(2, dtype))
        path = Path(scratch) / "residuals" / "c" / "0" / "0"
        content = bytearray(path.read_bytes())
        content[int(position * len(content))] ^= 1 << bit
        path.write_bytes(content)
        with pytest.raises(CorruptError, match="batch 0") as caught:
            store.read(0)
        assert caught.value.exit_code == 6


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, -4, -1])
def test_a_chunk_of_the_wrong_length_is_found(tmp_path, length):
    store = open_store(1, 2, "fp16", tmp_path / "residuals")
    store.write(0, stored(2, "fp16"))
    path = tmp_path / "residuals" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptError):
        store.read(0)


def test_a_flipped_bit_in_memory_is_found():
    store = open_store(1, 2, "fp16", None)
    store.write(0, stored(2, "fp16"))
    chunks = store._array(on_disk=False).store._store_dict
    (key,) = (key for key in chunks if key.startswith("c/"))
    content = bytearray(chunks[key].to_bytes())
    content[7] ^= 1
    chunks[key] = type(chunks[key]).from_bytes(bytes(content))
    with pytest.raises(CorruptError):
        store.read(0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("kind", [LocalStore, MemoryStore])
def test_a_failing_write_is_a_storage_error(tmp_path, monkeypatch, code, kind):
    store = open_store(1, 2, "fp16", tmp_path / "residuals" if kind is LocalStore else None)

    async def fail(*args):
        raise OSError(code, "no room")

    monkeypatch.setattr(kind, "set", fail)
    with pytest.raises(StorageError, match="no room") as caught:
        store.write(0, stored(2, "fp16"))
    assert caught.value.exit_code == 5
    assert isinstance(caught.value.__cause__, OSError)


def test_a_failing_read_is_a_storage_error(tmp_path, monkeypatch):
    store = open_store(1, 2, "fp16", tmp_path / "residuals")
    store.write(0, stored(2, "fp16"))

    async def fail(*args, **kwargs):
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(LocalStore, "get", fail)
    with pytest.raises(StorageError, match="bad sector"):
        store.read(0)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="--scratch"):
        open_store(1, 2, "fp16", tmp_path / "file" / "residuals")


@pytest.mark.parametrize("in_memory", [0, 1, 3, 5])
def test_what_does_not_fit_into_memory_goes_to_disk(tmp_path, in_memory):
    folder = tmp_path / "residuals"
    store = ZarrResidualStore(4, 2, VALUES, stored_dtype("fp16"), folder, in_memory)
    batches = [stored(2, "fp16", number) for number in range(4)]
    for number, packed in enumerate(batches):
        store.write(number, packed)
    assert all(np.array_equal(store.read(number), packed) for number, packed in enumerate(batches))
    on_disk = sorted(int(path.parent.name) for path in folder.glob("c/*/0"))
    assert on_disk == list(range(min(4, in_memory), 4))
    assert store.disk_bytes == sum(batches[number].nbytes for number in on_disk)
    store.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_codec_gives_the_bits_back_and_finds_damage(folder, codec, dtype):
    store, packed = open_store(2, 2, dtype, folder, codec), stored(2, dtype)
    store.write(0, packed)
    assert store.read(0).tobytes() == packed.tobytes()
    if folder is not None:
        path = folder / "c" / "0" / "0"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(CorruptError, match="batch 0"):
            store.read(0)


def test_compression_makes_even_residuals_smaller(tmp_path):
    sizes = {}
    for codec in CODECS:
        open_store(1, 2, "fp16", tmp_path / codec, codec).write(0, np.ones((2, VALUES), np.float16))
        sizes[codec] = (tmp_path / codec / "c" / "0" / "0").stat().st_size
    assert all(size < sizes["none"] / 4 for codec, size in sizes.items() if codec != "none")


def test_the_recompute_tier_stores_nothing():
    store = RecomputeStore()
    store.write(0, stored(2, "fp16"))
    assert store.disk_bytes == 0
    with pytest.raises(AssertionError, match="nothing is stored"):
        store.read(0)
