"""A network small enough for tests, with weights that make its output anything but trivial."""

from dataclasses import replace

import pytest
import torch
from infdehaze.network import InfDehaze
from infdehaze.presets import Preset
from infdehaze.sfca import SFCA

TINY = Preset(
    name="tiny",
    stem_stride=8,
    patch_statistics=True,
    widths=(16, 16, 24, 32),
    depths=(2, 2, 1, 1),
    heads=(2, 2, 3, 4),
    window=4,
    sfca_dim=8,
    bottleneck_depth=2,
    bottleneck_heads=4,
    block_tokens=16,
    expert_expansion=2,
    field_stride=4,
    tile=64,
    overlap=16,
)


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session")
def make_model():
    """Build a seeded network in evaluation mode; ``lively`` weights reach the output, fresh ones do not."""

    def make(lively=True, seed=0, **changes):
        torch.manual_seed(seed)
        model = InfDehaze(replace(TINY, **changes))
        if lively:
            generator = torch.Generator().manual_seed(seed)
            for module in model.modules():
                if isinstance(module, torch.nn.Linear):
                    fan = module.in_features
                    module.weight.data = torch.randn(module.weight.shape, generator=generator) / fan**0.5
                if isinstance(module, SFCA):
                    module.restore.bias.data.normal_(generator=generator)
            model.decoder.head.linear.weight.data *= 0.3
        return model.eval()

    return make


@pytest.fixture(scope="session")
def scene():
    """Make a picture with structure on all scales, (B, 3, H, W), values 0..1."""

    def make(height, width, batch=1, seed=0):
        generator = torch.Generator().manual_seed(seed)
        rough = torch.rand(batch, 3, -(-height // 32) + 1, -(-width // 32) + 1, generator=generator)
        smooth = torch.nn.functional.interpolate(rough, size=(height, width), mode="bilinear", align_corners=True)
        return 0.8 * smooth + 0.2 * torch.rand(batch, 3, height, width, generator=generator)

    return make
