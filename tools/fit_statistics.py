"""Fit the statistics of tiles alone, before a network is trained with them.

    python tools/fit_statistics.py DATA --from WEIGHTS -o START.safetensors [--minutes 9] [--leave-out SOURCE ...]

A batch of a few crops tells the levels of optical depth and airlight with much noise, and the whole network takes a
tenth of a second for each. Ranked statistics are cheap: here they are drawn for tens of thousands of crops, a small
network is fitted to them in many rounds, and put into a copy of the given network, in the directions in which its
latents vary least. The new head then says a mean of both opinions (``--share`` of the statistics), and training goes on
from there. Sources that are left out, as they are, say how well the fit holds for pictures that it has not seen.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from infdehaze.decoder import MAX_DEPTH, MEAN_AIRLIGHT
from infdehaze.network import InfDehaze
from infdehaze.presets import FIELDS
from infdehaze.statistics import TileStatistics
from infdehaze.weights import load_model, save_weights
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infdehaze_cli.training.clear import ClearFolder
from infdehaze_cli.training.data import draw_batch

TILES, STEPS, RATE = 128, 5000, 2e-3
HELD, TRIED = 1000, 5000


@dataclass
class Cells:
    """What is known of crops of one tile each, N of them, cell by cell of the latent (h, w)."""

    features_NhwF: Tensor
    depth_Nhw3: Tensor
    airlight_N3: Tensor
    hazy_Nhw3: Tensor
    clear_Nhw3: Tensor


def draw(data: ClearFolder, module: TileStatistics, tile: int, seconds: float, seed: int) -> Cells:
    """Draw crops for so many seconds, and keep their statistics and the means of their cells."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = []
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        batch = draw_batch(data, tile, 8, rng, generator)
        assert batch.depth_B3HW is not None
        assert batch.airlight_B311 is not None
        maps = (batch.depth_B3HW, batch.hazy_B3HW, batch.clear_B3HW)
        depth, hazy, clear = (F.avg_pool2d(x, tile // module.side).permute(0, 2, 3, 1) for x in maps)
        parts.append([module.features(batch.hazy_B3HW).half(), depth, batch.airlight_B311.flatten(1), hazy, clear])
    return Cells(*(torch.cat(column) for column in zip(*parts, strict=True)))


def fields_of(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Return optical depth and airlight, bounded as the network's head does it."""
    depth, airlight, _ = raw.chunk(3, -1)
    return MAX_DEPTH * torch.tanh(depth / MAX_DEPTH), MEAN_AIRLIGHT + 0.5 * torch.tanh(airlight)


def loss_of(raw: Tensor, cells: Cells, index: Tensor) -> Tensor:
    """Compare transmission, airlight where it shows, and the mean colour of each cell without its haze."""
    depth, airlight = fields_of(raw)
    true_depth, true_airlight = cells.depth_Nhw3[index], cells.airlight_N3[index][:, None, None]
    true_t = torch.exp(-true_depth)
    hazy, clear = cells.hazy_Nhw3[index], cells.clear_Nhw3[index]
    restored = hazy + torch.expm1(depth) * (hazy - airlight)
    error = restored - clear
    return (
        (torch.exp(-depth) - true_t).abs().mean()
        + ((1 - true_t) * (airlight - true_airlight).abs()).mean()
        + error.abs().mean()
        + 0.03 * error.square().mean((1, 2, 3)).add(3e-5).log().mean()
    )


def fit(cells: Cells, hidden: nn.Sequential, last: nn.Linear) -> None:
    """Fit the layers to all crops but the last ones, and say how well those are told."""
    layers = nn.Sequential(hidden, last)
    optimizer = torch.optim.AdamW(layers.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    count = len(cells.airlight_N3) - HELD
    for step in range(STEPS):
        index = torch.randint(count, (TILES,))
        x = cells.features_NhwF[index].float()
        loss = loss_of(layers(x + 0.02 * torch.randn_like(x)), cells, index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 499:
            with torch.no_grad():
                held = torch.arange(count, count + HELD)
                other = loss_of(layers(cells.features_NhwF[held].float()), cells, held)
            print(f"step {step + 1}: {loss:.4f} here, {other:.4f} on crops that were not fitted", flush=True)


@torch.inference_mode()
def gain(layers: nn.Sequential, cells: Cells) -> float:
    """Return the mean gain in PSNR of the mean colours of cells, where there is haze, in dB, of the first crops."""
    hazy, clear = cells.hazy_Nhw3[:TRIED], cells.clear_Nhw3[:TRIED]
    depth, airlight = fields_of(layers(cells.features_NhwF[:TRIED].float()))
    restored = (hazy + torch.expm1(depth) * (hazy - airlight)).clamp(0, 1)
    before, after = ((x - clear).square().mean((1, 2, 3)) + 1e-5 for x in (hazy, restored))
    return float(10 * (before / after).log10()[before > 1e-3].mean())


@torch.inference_mode()
def latents_of(model: InfDehaze, data: ClearFolder, seed: int) -> Tensor:
    """Return the encoder's latents of each cell of some crops, (N, C)."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    tiles = (draw_batch(data, model.preset.tile, 8, rng, generator).hazy_B3HW for _ in range(40))
    return torch.cat([model.encoder(some)[-1].flatten(0, -2) for some in tiles])


@torch.no_grad()
def put_in(model: InfDehaze, last: nn.Linear, latents_NC: Tensor, share: float) -> None:
    """Let the latents carry what the statistics say, where the network does not miss what it overwrites."""
    module, head = model.encoder.statistics, model.decoder.head
    assert module is not None
    values, vectors = torch.linalg.eigh(torch.cov(latents_NC.T.double()))
    # as strong as a channel is otherwise, so that norms see no stranger
    scale = float(latents_NC.std(0).mean())
    lost = float(values[:FIELDS].sum() / values.sum())
    print(f"the fields take the place of {lost:.2%} of the latents' variance, at a scale of {scale:.2f}")
    carrier_FC = vectors.T[:FIELDS].float() / scale
    module.carrier.copy_(carrier_FC)
    assert head.carrier is not None
    head.carrier.copy_(carrier_FC)
    # nothing is known of the residual, the last third
    shares = torch.full((FIELDS,), share)
    shares[2 * FIELDS // 3 :] = 0
    written = module.mlp[-1]
    assert isinstance(written, nn.Linear)
    written.weight.copy_(shares[:, None] * last.weight)
    written.bias.copy_(shares * last.bias)
    kept = (1 - shares).repeat_interleave(head.factor**2)
    head.linear.weight.mul_(kept[:, None])
    head.linear.bias.mul_(kept)


def main() -> None:
    """Draw, fit, put together, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of clear pictures, one folder a source")
    parser.add_argument("--from", dest="start", default="lite", help="weights to add to")
    parser.add_argument("-o", "--output", type=Path, required=True, help="weights to start a training from")
    parser.add_argument("--minutes", type=float, default=9.0, help="time to draw crops for")
    parser.add_argument("--cells", type=Path, help="keep what was drawn in this file, and use it again")
    parser.add_argument("--share", type=float, default=0.5, help="of the levels that come from the statistics")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="SOURCE", help="try the fit on these sources")
    parser.add_argument("--colours", type=float, default=1.0, help="how widely colours vary, 0 to 1")
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    data = ClearFolder.open(given.data, print, down_weight=("dubai",), colours=given.colours)
    if unknown := [name for name in given.leave_out if name not in data.sources]:
        parser.error(f"there is no source {', '.join(unknown)} in {given.data}")
    left = {name: data.sources.pop(name) for name in given.leave_out}
    trained = load_model(given.start).eval()
    model = InfDehaze(replace(trained.preset, tile_statistics=True)).eval()
    model.load_state_dict(trained.state_dict(), strict=False)
    module = model.encoder.statistics
    assert module is not None
    if left:
        # what was fitted before has seen them
        for layer in module.mlp:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    if given.cells is not None and given.cells.exists():
        cells = Cells(**load_file(given.cells))
    else:
        cells = draw(data, module, trained.preset.tile, 60 * given.minutes, given.seed)
        if given.cells is not None:
            save_file({f.name: getattr(cells, f.name) for f in fields(cells)}, given.cells)
    print(f"{len(cells.airlight_N3)} crops")
    last = nn.Linear(module.mlp[-1].in_features, FIELDS)
    fit(cells, module.mlp[:-1], last)
    if left:
        other = draw(ClearFolder(left, colours=0.0), module, trained.preset.tile, 15 * given.minutes, given.seed + 2)
        layers = nn.Sequential(module.mlp[:-1], last)
        print(f"gain {gain(layers, cells):.2f} dB on the crops that were fitted, {gain(layers, other):.2f} on others")
    put_in(model, last, latents_of(trained, data, given.seed + 1), given.share)
    save_weights(given.output, model, {"recipe": {"fitted": len(cells.airlight_N3), "from": Path(given.start).name}})


if __name__ == "__main__":
    main()
