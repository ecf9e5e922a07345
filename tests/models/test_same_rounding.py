"""A tile's numbers do not depend on the tiles it shares a batch with, nor on the number of threads (CPU, fp32)."""

import pytest
import torch
from infdehaze.sfca import SFCA
from infdehaze.weights import load_model


@pytest.fixture(scope="module")
def lite():
    return load_model("lite")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def tiles(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 256, 256, generator=torch.Generator().manual_seed(5)) * 0.6 + 0.2


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2])
@torch.inference_mode()
def test_tiles_come_out_bit_for_bit_alike(lite, threads, batch, count):
    threads(1)
    x = tiles(7)
    together = lite.encoder(x)
    fields = lite.decoder(together[-1], together)

    threads(count)
    parts = [lite.encoder(part) for part in x.split(batch)]
    decoded = [lite.decoder(residuals[-1], residuals) for residuals in parts]

    for stage, whole in enumerate(together):
        assert torch.equal(torch.cat([residuals[stage] for residuals in parts]), whole)
    assert torch.equal(torch.cat(decoded), fields)


@pytest.mark.parametrize("side", [4, 8, 16, 64])
@torch.inference_mode()
def test_sfca_of_any_width_rounds_alike(threads, side):
    threads(1)
    attention = SFCA(96)
    torch.nn.init.normal_(attention.restore.weight)
    x = torch.randn(9, side, side, 96)
    together = attention(x)

    for count in (1, 2):
        threads(count)
        assert torch.equal(torch.cat([attention(part) for part in x.split(1)]), together)
        assert torch.equal(torch.cat([attention(part) for part in x.split(4)]), together)
