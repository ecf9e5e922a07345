"""Fit the statistics of tiles alone, before a network is trained with them, or beside those that it has.

    python tools/fit_statistics.py DATA --from WEIGHTS -o START.safetensors [--minutes 9] [--leave-out SOURCE ...]

A batch of a few crops tells the levels of optical depth and airlight with much noise, and the whole network takes a
tenth of a second for each. Ranked statistics are cheap: here they are drawn for tens of thousands of crops, a small
network is fitted to them in many rounds, and put into a copy of the given network. This then says a mean of both
opinions, ``--share`` of it from the new layers, as it is or as the start of a training. A network without statistics
gets them in the directions in which its latents vary least; in another the new layers stand beside the old ones.
Sources that are left out, as they are, say how well the fit holds for pictures that it has not seen.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from drawing import draw_rows, leave_out
from infdehaze.decoder import MAX_DEPTH, MEAN_AIRLIGHT
from infdehaze.network import InfDehaze
from infdehaze.presets import FIELDS
from infdehaze.statistics import TileStatistics
from infdehaze.weights import load_model, save_weights
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infdehaze_cli.training.clear import ClearFolder
from infdehaze_cli.training.data import Batch, draw_batch

TILES, CELLS, RATE = 256, 4, 2e-3
NOISE = 0.02
HELD, TRIED = 1000, 5000


@dataclass
class Cells:
    """What is known of crops of one tile each, N of them, cell by cell of the latent (h, w)."""

    features_NhwF: Tensor
    depth_Nhw3: Tensor
    airlight_N3: Tensor
    hazy_Nhw3: Tensor
    clear_Nhw3: Tensor

    def some(self, index_n: Tensor, count: int) -> Cells:
        """Return so many cells of each of the given crops, drawn by chance: (n, count, 1) in place of (N, h, w)."""
        places = torch.rand(len(index_n), self.depth_Nhw3[0, ..., 0].numel()).argsort(1)[:, :count]
        features, depth, hazy, clear = (
            x.flatten(1, 2)[index_n[:, None], places][:, :, None]
            for x in (self.features_NhwF, self.depth_Nhw3, self.hazy_Nhw3, self.clear_Nhw3)
        )
        return Cells(features.float(), depth, self.airlight_N3[index_n], hazy, clear)


def draw(data: ClearFolder, module: TileStatistics, tile: int, seconds: float, seed: int) -> Cells:
    """Draw crops for so many seconds, and keep their statistics and the means of their cells."""

    def keep(batch: Batch) -> list[Tensor]:
        assert batch.depth_B3HW is not None
        assert batch.airlight_B311 is not None
        maps = (batch.depth_B3HW, batch.hazy_B3HW, batch.clear_B3HW)
        depth, hazy, clear = (F.avg_pool2d(x, tile // module.side).permute(0, 2, 3, 1) for x in maps)
        return [module.features(batch.hazy_B3HW).half(), depth, batch.airlight_B311.flatten(1), hazy, clear]

    return Cells(*draw_rows(data, tile, 8, seconds, seed, keep))


def fields_of(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Return optical depth and airlight, bounded as the network's head does it."""
    depth, airlight, _ = raw.chunk(3, -1)
    return MAX_DEPTH * torch.tanh(depth / MAX_DEPTH), MEAN_AIRLIGHT + 0.5 * torch.tanh(airlight)


def loss_of(raw: Tensor, cells: Cells) -> Tensor:
    """Compare transmission, airlight where it shows, and the mean colour of each cell without its haze."""
    depth, airlight = fields_of(raw)
    true_t, true_airlight = torch.exp(-cells.depth_Nhw3), cells.airlight_N3[:, None, None]
    restored = cells.hazy_Nhw3 + torch.expm1(depth) * (cells.hazy_Nhw3 - airlight)
    error = restored - cells.clear_Nhw3
    return (
        (torch.exp(-depth) - true_t).abs().mean()
        + ((1 - true_t) * (airlight - true_airlight).abs()).mean()
        + error.abs().mean()
        + 0.03 * error.square().mean((1, 2, 3)).add(3e-5).log().mean()
    )


def whitening(features_NhwF: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (F,) and the product (F, F) after which statistics are uncorrelated, and as strong as each other.

    Ranks follow each other closely: as they are, layers need many times the steps to see what sets them apart.
    """
    rows_MF = features_NhwF.flatten(0, -2).double()
    values, vectors = torch.linalg.eigh(torch.cov(rows_MF.T))
    # what is weaker than the noise stays weak
    return rows_MF.mean(0).float(), (vectors * (values.clamp(min=0) + NOISE**2).rsqrt()).float()


@torch.no_grad()
def fold(first: nn.Linear, mean_F: Tensor, product_FF: Tensor) -> None:
    """Let a layer that was fitted to whitened statistics take them as they are."""
    first.weight.copy_(first.weight @ product_FF.T)
    first.bias.sub_(first.weight @ mean_F)


def fit(cells: Cells, layers: nn.Sequential, steps: int) -> None:
    """Fit the layers, from fresh ones, to all crops but the last ones, and say how well those are told."""
    mean_F, product_FF = whitening(cells.features_NhwF[:TRIED])
    optimizer = torch.optim.AdamW(layers.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.15)
    count = len(cells.airlight_N3) - HELD
    cells_of_tile = cells.depth_Nhw3[0, ..., 0].numel()
    for step in range(steps):
        some = cells.some(torch.randint(count, (TILES,)), CELLS)
        noisy = some.features_NhwF + NOISE * torch.randn_like(some.features_NhwF)
        loss = loss_of(layers((noisy - mean_F) @ product_FF), some)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 499:
            with torch.no_grad():
                held = cells.some(torch.arange(count, count + HELD), cells_of_tile)
                other = loss_of(layers((held.features_NhwF - mean_F) @ product_FF), held)
            print(f"step {step + 1}: {loss:.4f} here, {other:.4f} on crops that were not fitted", flush=True)
    first = layers[0]
    assert isinstance(first, nn.Linear)
    fold(first, mean_F, product_FF)


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
def carry(model: InfDehaze, latents_NC: Tensor) -> None:
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


@torch.no_grad()
def side_by_side(old: nn.Sequential, new: nn.Sequential, shares_F: Tensor) -> nn.Sequential:
    """Return layers as wide as both together, which say the mean of both, the given shares of it from the new ones."""
    (old_in, old_mid, old_out), (new_in, new_mid, new_out) = (
        [layer for layer in layers if isinstance(layer, nn.Linear)] for layers in (old, new)
    )
    both = TileStatistics(1, FIELDS, FIELDS, hidden=old_in.out_features + new_in.out_features).mlp
    first, middle, last = (layer for layer in both if isinstance(layer, nn.Linear))
    first.weight.copy_(torch.cat([old_in.weight, new_in.weight]))
    first.bias.copy_(torch.cat([old_in.bias, new_in.bias]))
    middle.weight.copy_(torch.block_diag(old_mid.weight, new_mid.weight))
    middle.bias.copy_(torch.cat([old_mid.bias, new_mid.bias]))
    last.weight.copy_(torch.cat([(1 - shares_F)[:, None] * old_out.weight, shares_F[:, None] * new_out.weight], 1))
    last.bias.copy_((1 - shares_F) * old_out.bias + shares_F * new_out.bias)
    return both


@torch.no_grad()
def put_in(trained: InfDehaze, new: nn.Sequential, share: float) -> InfDehaze:
    """Return a network that says the mean of what the given one says and what the new layers say."""
    # nothing is known of the residual, the last third
    shares_F = torch.full((FIELDS,), share)
    shares_F[2 * FIELDS // 3 :] = 0
    if trained.encoder.statistics is not None:
        layers = side_by_side(trained.encoder.statistics.mlp, new, shares_F)
    else:
        layers, last = new, new[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(shares_F[:, None])
        last.bias.mul_(shares_F)
    first = layers[0]
    assert isinstance(first, nn.Linear)
    model = InfDehaze(replace(trained.preset, tile_statistics=True, statistics_width=first.out_features)).eval()
    assert model.encoder.statistics is not None
    kept = {name: value for name, value in trained.state_dict().items() if "statistics.mlp" not in name}
    tell = kept.get("encoder.statistics.tell.weight")
    if tell is not None:
        # latents tell nothing of the new layers; fit the bottleneck again
        kept["encoder.statistics.tell.weight"] = F.pad(tell, (0, first.out_features - tell.shape[1]))
    model.load_state_dict(kept, strict=False)
    model.encoder.statistics.mlp.load_state_dict(layers.state_dict())
    head = model.decoder.head
    shares = (1 - shares_F).repeat_interleave(head.factor**2)
    head.linear.weight.mul_(shares[:, None])
    head.linear.bias.mul_(shares)
    return model


def main() -> None:
    """Draw, fit, put together, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of clear pictures, one folder a source")
    parser.add_argument("--from", dest="start", default="lite", help="weights to add to")
    parser.add_argument("-o", "--output", type=Path, required=True, help="weights to start a training from")
    parser.add_argument("--minutes", type=float, default=9.0, help="time to draw crops for")
    parser.add_argument("--cells", type=Path, help="keep what was drawn in this file, and use it again")
    parser.add_argument("--share", type=float, default=0.5, help="of the levels that come from the new layers")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="SOURCE", help="try the fit on these sources")
    parser.add_argument("--steps", type=int, default=8000, help="of the fit")
    parser.add_argument("--width", type=int, default=256, help="of the new layers")
    parser.add_argument("--colours", type=float, default=1.0, help="how widely colours vary, 0 to 1")
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    data = ClearFolder.open(given.data, print, down_weight=("dubai",), colours=given.colours)
    left = leave_out(data, given.leave_out, parser)
    trained = load_model(given.start).eval()
    module = TileStatistics(trained.preset.latent_side, trained.preset.widths[-1], FIELDS, hidden=given.width)
    if given.cells is not None and given.cells.exists():
        cells = Cells(**load_file(given.cells))
    else:
        cells = draw(data, module, trained.preset.tile, 60 * given.minutes, given.seed)
        if given.cells is not None:
            save_file({f.name: getattr(cells, f.name) for f in fields(cells)}, given.cells)
    print(f"{len(cells.airlight_N3)} crops")
    fit(cells, module.mlp, given.steps)
    if left.sources:
        other = draw(left, module, trained.preset.tile, 15 * given.minutes, given.seed + 2)
        mine, others = gain(module.mlp, cells), gain(module.mlp, other)
        print(f"gain {mine:.2f} dB on the crops that were fitted, {others:.2f} on others")
    model = put_in(trained, module.mlp, given.share)
    if trained.encoder.statistics is None:
        carry(model, latents_of(trained, data, given.seed + 1))
    save_weights(given.output, model, {"recipe": {"fitted": len(cells.airlight_N3), "from": Path(given.start).name}})


if __name__ == "__main__":
    main()
