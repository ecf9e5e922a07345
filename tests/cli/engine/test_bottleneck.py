"""The streamed bottleneck equals the one in memory, and its working set does not grow with the scene."""

import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.bottleneck import Bottleneck
from infdehaze.ibssa import block_bounds

from infdehaze_cli.engine.bottleneck import stream_bottleneck
from infdehaze_cli.engine.device import Device
from infdehaze_cli.store import Workspace
from infdehaze_cli.store.arrays import DiskArray

WIDTH = 16


def bottleneck(block=4, neighbours=False, depth=2):
    torch.manual_seed(0)
    return Bottleneck(WIDTH, 4, depth, block, 6, neighbours, 2).eval()


def stream(module, latent, occupied, chunk_tokens, precision="fp32", on_layer=lambda: None, workspace=None):
    workspace, notes = workspace or Workspace(Path()), []
    device = Device(torch.device("cpu"), precision, None)
    out = workspace.latents(*latent.shape, 4)
    out.write(slice(0, None), latent)
    with torch.inference_mode():
        stream_bottleneck(
            module,
            out,
            occupied,
            workspace,
            device=device,
            chunk_tokens=chunk_tokens,
            on_layer=on_layer,
            note=notes.append,
        )
    assert not notes
    return out.read(slice(0, None)), device.peak_bytes


@torch.inference_mode()
def plain(module, latent, occupied):
    return module(latent[None], occupied[None])[0]


def scene(rows, cols, cover=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(rows, cols, generator=generator) < cover
    return torch.randn(rows, cols, WIDTH, generator=generator) * occupied[..., None], occupied


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 64, 200, 100_000])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 40), (40, 1), (17, 21)])
def test_chunks_of_any_size_equal_the_whole(rows, cols, chunk_tokens, neighbours):
    module, (latent, occupied) = bottleneck(neighbours=neighbours, depth=1), scene(rows, cols)
    streamed, _ = stream(module, latent, occupied, chunk_tokens)
    torch.testing.assert_close(streamed, plain(module, latent, occupied), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(streamed, latent, atol=1e-2)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 30),
    cols=st.integers(1, 30),
    chunk_tokens=st.integers(4, 300),
    block=st.integers(1, 40),
    neighbours=st.booleans(),
    cover=st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]),
    seed=st.integers(0, 5),
)
def test_any_scene_equals_the_whole(rows, cols, chunk_tokens, block, neighbours, cover, seed):
    module, (latent, occupied) = bottleneck(block, neighbours, depth=1), scene(rows, cols, cover, seed)
    streamed, _ = stream(module, latent, occupied, chunk_tokens)
    torch.testing.assert_close(streamed, plain(module, latent, occupied), atol=1e-5, rtol=1e-5)
    assert (streamed[~occupied] == 0).all()


@pytest.mark.parametrize("neighbours", [False, True])
def test_the_last_block_with_the_remainder_is_kept_whole(neighbours):
    module, (latent, occupied) = bottleneck(block=8, neighbours=neighbours), scene(5, 7)
    assert block_bounds(35, 8)[-1] == (24, 35)
    streamed, _ = stream(module, latent, occupied, 8)
    torch.testing.assert_close(streamed, plain(module, latent, occupied), atol=1e-5, rtol=1e-5)


def test_fewer_tokens_than_two_blocks_attend_exactly():
    module, (latent, occupied) = bottleneck(block=40), scene(8, 9)
    streamed, _ = stream(module, latent, occupied, 5)
    torch.testing.assert_close(streamed, plain(module, latent, occupied), atol=1e-5, rtol=1e-5)


def test_a_scene_without_data_is_left_as_it_is():
    latent, occupied = torch.zeros(4, 5, WIDTH), torch.zeros(4, 5, dtype=torch.bool)
    streamed, peak = stream(bottleneck(), latent, occupied, 8)
    assert (streamed == 0).all()
    assert peak == 0


def test_each_layer_is_told():
    told = []
    stream(bottleneck(depth=3), *scene(4, 4), 8, on_layer=lambda: told.append(1))
    assert len(told) == 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close(precision):
    # one block: a hash code that turns over would move a token to another one
    module, (latent, occupied) = bottleneck(block=1000), scene(12, 11)
    streamed, _ = stream(module, latent, occupied, 64, precision)
    assert streamed.dtype == torch.float32
    torch.testing.assert_close(streamed, plain(module, latent, occupied), atol=0.1, rtol=0.1)


def test_the_peak_does_not_grow_with_the_height_of_the_scene():
    peaks = [stream(bottleneck(depth=1), *scene(rows, 16), 128)[1] for rows in (32, 64, 128)]
    assert max(peaks) <= 1.1 * min(peaks)


def test_the_peak_grows_with_the_chunk():
    small, large = (stream(bottleneck(depth=1), *scene(64, 16), chunk)[1] for chunk in (128, 512))
    assert 2 * small < large


def test_the_peak_does_not_grow_with_the_width_of_the_scene():
    peaks = [stream(bottleneck(depth=1), *scene(16, cols), 128)[1] for cols in (64, 128, 256)]
    assert max(peaks) <= 1.1 * min(peaks)


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize("heads_at_a_time", [1, 2, 4])
@pytest.mark.parametrize(("latents_on_disk", "heads_on_disk"), [(False, True), (True, False), (True, True)])
def test_on_disk_it_gives_the_same_bits(tmp_path, latents_on_disk, heads_on_disk, heads_at_a_time, neighbours):
    module, (latent, occupied) = bottleneck(neighbours=neighbours), scene(21, 17, cover=0.8)
    workspace = Workspace(
        tmp_path,
        latents_on_disk=latents_on_disk,
        heads_on_disk=heads_on_disk,
        heads_at_a_time=heads_at_a_time,
    )
    in_memory, _ = stream(module, latent, occupied, 40)
    on_disk, _ = stream(module, latent, occupied, 40, workspace=workspace)
    assert torch.equal(on_disk, in_memory)
    tokens = int(occupied.sum())
    assert workspace.disk_bytes == 4 * WIDTH * (latents_on_disk * 21 * 17 + heads_on_disk * 3 * tokens)
    assert (tmp_path / "latents").is_dir() == latents_on_disk
    assert not (tmp_path / "queries").exists()


def test_one_group_of_heads_is_in_memory_at_a_time(tmp_path, monkeypatch):
    held, most, read = [], [], DiskArray.read

    def counted(self, where):
        found = read(self, where)
        held.append(weakref.ref(found))
        most.append(sum(each() is not None for each in held))
        return found

    monkeypatch.setattr(DiskArray, "read", counted)

    stream(bottleneck(), *scene(21, 17), 40, workspace=Workspace(tmp_path, heads_on_disk=True, heads_at_a_time=1))

    # queries, keys and values
    assert max(most) == 3


@pytest.mark.parametrize("chunk_tokens", [32, 64, 103, 1000])
def test_chunks_give_the_same_bits(chunk_tokens):
    # rounding must not move tokens to other blocks between budgets; a plan has no chunk of fewer tokens
    module, (latent, occupied) = bottleneck(block=8), scene(30, 26, cover=0.9)
    first, other = (stream(module, latent, occupied, chunk)[0] for chunk in (200, chunk_tokens))
    assert torch.equal(first, other)
