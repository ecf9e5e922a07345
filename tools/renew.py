"""Begin the coarse stages of trained weights afresh, with norms that let them be heard.

    python tools/renew.py DATA --from WEIGHTS -o START.safetensors

Stages 2 to 4 and the bottleneck of weights that were trained without `residual_norms` and `centred_norms` say nothing
(docs/training.md, "Stages that learn nothing"). Here they are replaced by fresh ones with both. What has an effect is
kept: the embedding, the finest stage, the statistics of tiles and the head. The fresh stages say at first what the old
ones said on the mean, so the result scores nearly as the old weights did, and training goes on from there.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from infdehaze.network import InfDehaze
from infdehaze.norm import CentredNorm
from infdehaze.presets import FIELDS
from infdehaze.weights import load_model, save_weights
from torch import Tensor

from infdehaze_cli.training.clear import ClearFolder
from infdehaze_cli.training.data import draw_batch

KEPT = ("encoder.embed.", "encoder.statistics.", "encoder.stages.0.", "decoder.stages.3.", "decoder.head.")

CROPS = 64

PASSES = 30
"""Over the crops, for the centres of the norms: each settles the layers one further."""


def decode(model: InfDehaze, tiles_B3HW: Tensor) -> Tensor:
    """Return the fields of tiles that are scenes of their own."""
    residuals = model.encoder(tiles_B3HW)
    fields: Tensor = model.decoder(model.bottleneck(residuals[-1]), residuals)[:, :FIELDS]
    return fields


def renew(trained: InfDehaze, tiles_B3HW: Tensor) -> InfDehaze:
    """Return a network with fresh coarse stages, whose norms are centred on what ``tiles_B3HW`` make of them."""
    model = InfDehaze(replace(trained.preset, residual_norms=True, centred_norms=(False, True, True, True)))
    state = model.state_dict()
    state.update({name: value.clone() for name, value in trained.state_dict().items() if name.startswith(KEPT)})
    carrier_FC = trained.decoder.head.carrier
    if carrier_FC is not None:
        # latents have a norm at their end now, and what they carry need not be larger
        unit_FC = carrier_FC / carrier_FC.norm(dim=1).mean()
        state["decoder.head.carrier"], state["encoder.statistics.carrier"] = unit_FC, unit_FC.clone()
    model.load_state_dict(state)
    if model.decoder.head.correct is not None:
        # a fresh bottleneck knows nothing to correct
        for parameter in model.decoder.head.correct[1].parameters():
            torch.nn.init.zeros_(parameter)
    said: list[Tensor] = []
    hook = trained.decoder.expands[-1].linear.register_forward_hook(lambda module, given, out: said.append(out))
    with torch.inference_mode():
        before = decode(trained.eval(), tiles_B3HW)
    hook.remove()
    norms = [module for module in model.modules() if isinstance(module, CentredNorm)]
    with torch.no_grad():
        last = model.decoder.expands[-1].linear
        last.weight.zero_()
        last.bias.copy_(said[0].flatten(0, -2).mean(0))
        rates = [norm.rate for norm in norms]
        model.train()
        for norm in norms:
            norm.rate = 1.0
        for _ in range(PASSES):
            decode(model, tiles_B3HW)
        for norm, rate in zip(norms, rates, strict=True):
            norm.rate = rate
        after = decode(model.eval(), tiles_B3HW)
    change, mean = (float(x.abs().mean()) for x in (after - before, before))
    print(f"fields change by {change:.4f} of {mean:.4f} on the mean")
    return model


def main() -> None:
    """Draw crops, put the network together, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of clear pictures, one folder a source")
    parser.add_argument("--from", dest="start", default="lite", help="weights to keep the fine stage of")
    parser.add_argument("-o", "--output", type=Path, required=True, help="weights to start a training from")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    trained = load_model(given.start)
    data = ClearFolder.open(given.data, print, down_weight=("dubai",))
    generator = torch.Generator().manual_seed(given.seed)
    batch = draw_batch(data, trained.preset.tile, CROPS, np.random.default_rng(given.seed), generator)
    save_weights(given.output, renew(trained, batch.hazy_B3HW), {"recipe": {"renewed": Path(given.start).name}})


if __name__ == "__main__":
    main()
