"""Arrays of a scene: in memory and on disk they behave alike, and damage on disk is found."""

import errno

import pytest
import torch
from zarr.storage import LocalStore

from infdehaze_cli.errors import CorruptError, StorageError
from infdehaze_cli.store import DiskArray, HostArray, Workspace

SHAPE, CHUNKS = (4, 10, 3), (2, 4, 3)


@pytest.fixture
def array(request, tmp_path):
    return {"memory": lambda: HostArray(SHAPE), "disk": lambda: DiskArray(SHAPE, CHUNKS, tmp_path / "a")}[
        request.param
    ]()


@pytest.fixture
def on_disk(tmp_path):
    """A full array on disk, and the file of one of its chunks."""
    array = DiskArray(SHAPE, CHUNKS, tmp_path / "a")
    array.write(slice(None), torch.randn(SHAPE))
    return array, tmp_path / "a" / "c" / "1" / "2" / "0"


@pytest.mark.parametrize("array", ["memory", "disk"], indirect=True)
def test_parts_come_back_bit_for_bit(array):
    values = torch.randn(SHAPE)
    for start in range(0, 10, 3):
        array.write((slice(0, 4), slice(start, start + 3)), values[:, start : start + 3])

    assert array.shape == SHAPE
    assert torch.equal(array.read(slice(None)), values)
    assert torch.equal(array.read((slice(1, 3), slice(2, 9))), values[1:3, 2:9])


@pytest.mark.parametrize("array", ["memory", "disk"], indirect=True)
def test_what_was_read_can_be_changed_and_written_back(array):
    array.write(slice(None), torch.ones(SHAPE))
    part = array.read((slice(1, 2),))
    part += 1
    array.write((slice(1, 2),), part)

    assert array.read(slice(None))[:, 0, 0].tolist() == [1, 2, 1, 1]


def test_closing_removes_the_folder(on_disk, tmp_path):
    array, _ = on_disk
    array.close()
    assert list(tmp_path.iterdir()) == []


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "flipped": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 4]) + path.read_bytes()[1:]),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "emptied": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_is_found(on_disk, damage):
    array, chunk = on_disk
    DAMAGES[damage](chunk)

    array.read((slice(0, 2),))
    with pytest.raises(CorruptError, match="--scratch") as caught:
        array.read(slice(None))
    assert caught.value.exit_code == 6


def test_what_was_never_written_is_missing(tmp_path):
    array = DiskArray(SHAPE, CHUNKS, tmp_path / "a")
    array.write((slice(0, 2),), torch.ones(2, 10, 3))
    with pytest.raises(CorruptError, match="missing"):
        array.read((slice(1, 3),))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("operation", ["set", "get"])
def test_a_failing_disk_is_a_storage_error(on_disk, monkeypatch, code, operation):
    array, _ = on_disk

    async def fail(*args, **kwargs):
        raise OSError(code, "no")

    monkeypatch.setattr(LocalStore, operation, fail)
    with pytest.raises(StorageError, match="--scratch") as caught:
        array.read(slice(None)) if operation == "get" else array.write(slice(None), torch.ones(SHAPE))
    assert caught.value.exit_code == 5


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="--scratch"):
        DiskArray(SHAPE, CHUNKS, tmp_path / "file" / "a")


def test_a_workspace_counts_what_lies_on_disk_together(tmp_path):
    workspace = Workspace(tmp_path, heads_on_disk=True, heads_at_a_time=2)
    workspace.latents(8, 8, 4, 4)
    for _ in range(2):
        stores = [workspace.heads(name, 4, 30, 5, 16) for name in ("queries", "keys", "values")]
        for store in stores:
            store.close()

    assert workspace.disk_bytes == 3 * 4 * 30 * 5 * 4
    assert workspace.group(4) == 2
    assert workspace.group(1) == 1
    workspace.close()
    assert list(tmp_path.iterdir()) == []
