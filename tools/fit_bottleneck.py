"""Fit the bottleneck of a network whose statistics of tiles are fitted: what the tiles of a scene say to each other.

    python tools/fit_bottleneck.py DATA --from WEIGHTS -o FITTED.safetensors [--minutes 45] [--leave-out SOURCE ...]

Tiles tell the level of haze one by one, and each kind of ground misleads them in its own way; the others of the scene
can say so. It takes many thousand scenes of many tiles to learn that, more than pass through a network. So they are
made of statistics alone (``hazy_statistics.py``): pictures of 512 px are drawn once, and scenes of 512 to 8192 px put
together from them, of one kind of ground or several, under the haze of another one. Encoder, decoder and the fields
that statistics tell stay as they are: what latents tell of them, the bottleneck (of so many layers as ``--layers``
says, from fresh ones) and the correction in the head are fitted.

Where statistics were put beside those of a trained network (``fit_statistics.py``), the decoder refines what these say.
``--own`` is then the number of hidden units that are the network's, and ``--share`` the say of the others: what they
say alone is corrected, for their share.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from drawing import leave_out
from hazy_statistics import SIDE, Drawer, Ground, Scene, draw
from infdehaze.decoder import MAX_DEPTH, MEAN_AIRLIGHT, share_of_others
from infdehaze.network import InfDehaze
from infdehaze.presets import FIELDS
from infdehaze.smoothing import smooth_look
from infdehaze.weights import load_model, save_weights
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infdehaze_cli.training.clear import ClearFolder

SMALL = ((1, 16), (2, 4), (4, 1), (2, 4), (4, 1))
SCENES = (*(*SMALL, (8, 1)) * 6, (16, 1))
"""Pictures along a side of the scenes of a step, and scenes of it, in turn: large ones take long."""
WARM_UP, EMA, NOISE, HELD, LARGEST_HELD = 150, 0.998, 0.015, 400, 8
CALM = 2.0
"""Weight of the correction's square where a scene is one picture: what fits the ground of the training is no gain."""


class Corrected(nn.Module):
    """What of a network is fitted, on features of cells: (B, h, w, F) to fields as they are told, and as corrected."""

    def __init__(self, model: InfDehaze, scene: Scene, own: int = 0, share: float = 1.0) -> None:
        super().__init__()
        statistics, correct = model.encoder.statistics, model.decoder.head.correct
        assert statistics is not None
        assert statistics.tell is not None
        assert correct is not None
        self.read, self.say, self.write = statistics.mlp[:-1], statistics.mlp[-1], statistics.write
        assert isinstance(self.say, nn.Linear)
        self.share, self.tiles = share, model.preset.latent_side**2
        self.alone = nn.Linear(self.say.in_features, FIELDS).requires_grad_(False)
        with torch.no_grad():
            self.alone.weight.copy_(self.say.weight / share)
            self.alone.weight[:, :own] = 0
            self.alone.bias.copy_(self.say.bias)
        self.tell, self.bottleneck, self.correct = statistics.tell, model.bottleneck, correct
        with torch.no_grad():
            hidden = self.read(scene.features_BhwF).flatten(0, -2)
        self.mean, self.scale = hidden.mean(0), hidden.std(0) + 3e-3
        self.learned = [*self.tell.parameters(), *self.bottleneck.parameters(), *self.correct.parameters()]

    def forward(self, features_BhwF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Also return the load-balancing loss."""
        with torch.no_grad():
            hidden = self.read(features_BhwF)
            told, alone = self.say(hidden), self.alone(hidden)
        latent = self.write(self.tell((hidden - self.mean) / self.scale), told)
        modelled, balance = self.bottleneck.with_balance(latent)
        others = share_of_others(modelled[0, ..., 0].numel() // self.tiles)
        return alone, alone + others * F.pad(self.correct(modelled), (0, FIELDS // 3)), balance

    @torch.no_grad()
    def unfold(self) -> None:
        """Undo `fold`, whatever the scale was then."""
        self.tell.bias.add_(self.tell.weight @ self.mean)
        self.tell.weight.mul_(self.scale)
        for parameter in self.correct[1].parameters():
            parameter.div_(self.share)

    @torch.no_grad()
    def fold(self) -> None:
        """Let the layer that was fitted to hidden values of one scale take them as they are, and the head its share."""
        self.tell.weight.div_(self.scale)
        self.tell.bias.sub_(self.tell.weight @ self.mean)
        for parameter in self.correct[1].parameters():
            parameter.mul_(self.share)


def bounded(raw_BhwF: Tensor) -> Tensor:
    """Return fields (B, F, h, w) as the head bounds them, without a residual, of which statistics tell nothing."""
    depth, airlight, residual = raw_BhwF.permute(0, 3, 1, 2).chunk(3, 1)
    airlight = MEAN_AIRLIGHT + 0.5 * torch.tanh(airlight)
    return torch.cat([MAX_DEPTH * torch.tanh(depth / MAX_DEPTH), airlight, torch.zeros_like(residual)], 1)


def restored(fields_BFhw: Tensor, scene: Scene) -> Tensor:
    """Return the mean colours of cells without their haze."""
    return scene.hazy_B3hw + torch.expm1(fields_BFhw[:, :3]) * (scene.hazy_B3hw - fields_BFhw[:, 3:6])


def loss_of(fields_BFhw: Tensor, scene: Scene) -> Tensor:
    """Compare transmission, airlight where it shows, and colours, as the fit of the statistics does."""
    left, true_left = torch.exp(-fields_BFhw[:, :3]), torch.exp(-scene.depth_B3hw)
    error = restored(fields_BFhw, scene) - scene.clear_B3hw
    return (
        (left - true_left).abs().mean()
        + ((1 - true_left) * (fields_BFhw[:, 3:6] - scene.airlight_B311).abs()).mean()
        + error.abs().mean()
        + 0.03 * error.square().mean((1, 2, 3)).add(3e-5).log().mean()
    )


class Fit:
    """A fit in the making, with scenes that are ``kept`` to try it on.

    ``sigmas`` are those of the smoothing, in cells of the latents.
    """

    def __init__(self, model: InfDehaze, part: Corrected, drawer: Drawer, kept: dict[int, list[Scene]]) -> None:
        self.model, self.part, self.drawer, self.kept = model, part, drawer, kept
        cell = model.preset.tile // model.preset.latent_side
        self.sigmas = tuple(sigma * model.preset.field_stride / cell for sigma in model.preset.field_sigmas)
        self.averaged = [p.detach().clone() for p in part.learned]
        groups = [
            {"params": [p for p in part.learned if (p.ndim > 1) == matrices], "weight_decay": 0.05 * matrices}
            for matrices in (True, False)
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
        self.steps = 0

    def smooth(self, raw_BhwF: Tensor) -> Tensor:
        """Return bounded fields, smoothed as they are across a scene."""
        fields = bounded(raw_BhwF)
        return smooth_look(fields, torch.ones_like(fields[:, :1]), *self.sigmas)[:, :FIELDS]

    def calibrate(self, scenes: list[Scene], steps: int = 200) -> None:
        """Find the constants of what statistics say alone: in the mean of two opinions only their sum is kept."""
        bias = self.part.alone.bias.requires_grad_(True)
        optimizer = torch.optim.Adam([bias], 0.02)
        with torch.no_grad():
            hidden = [self.part.read(scene.features_BhwF) for scene in scenes]
        for step in range(steps):
            scene, known = scenes[step % len(scenes)], hidden[step % len(scenes)]
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
            optimizer.zero_grad()
            loss_of(bounded(self.part.alone(known)), scene).backward()
            optimizer.step()
        bias.requires_grad_(False)

    def step(self, scene: Scene, rate: float, *, calm: bool = False) -> None:
        """Learn from some scenes."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, self.steps / WARM_UP)
        noisy = scene.features_BhwF + NOISE * torch.randn_like(scene.features_BhwF)
        alone, raw, balance = self.part.train()(noisy)
        loss = loss_of(self.smooth(raw), scene) + 0.3 * loss_of(bounded(raw), scene) + 0.01 * balance
        if calm:
            loss = loss + CALM * (raw - alone).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.part.learned, 1.0)
        self.optimizer.step()
        self.steps += 1
        share = min(EMA, self.steps / (self.steps + 10))
        with torch.no_grad():
            for mean, now in zip(self.averaged, self.part.learned, strict=True):
                mean.lerp_(now, 1 - share)

    def go(self, minutes: float, rate: float, keep: Callable[[InfDehaze], None], largest: int = 16) -> None:
        """Fit for so long, at ``rate`` and less and less; let what there is be kept now and then, and at the end.

        ``largest`` is the number of pictures along a side of the largest scenes.
        """
        turns = [(side, scenes) for side, scenes in SCENES if side <= largest]
        started = time.monotonic()
        while (gone := (time.monotonic() - started) / (60 * minutes)) < 1:
            side, scenes = turns[self.steps % len(turns)]
            now = rate * (0.505 + 0.495 * math.cos(math.pi * gone))
            self.step(self.drawer.scenes(side, scenes), now, calm=side == 1)
            if self.steps % 500 == 0:
                print(f"step {self.steps}, {gone:.0%} of the time", flush=True)
                keep(self.average().finished())
        last = self.average()
        last.report()
        keep(last.finished())

    def average(self) -> Fit:
        """Return a copy whose weights are the averaged ones."""
        model, part = deepcopy((self.model, self.part))
        run = Fit(model, part, self.drawer, self.kept)
        with torch.no_grad():
            for mean, now in zip(self.averaged, part.learned, strict=True):
                now.copy_(mean)
        run.steps = self.steps
        return run

    def finished(self) -> InfDehaze:
        """Return the network as it is to be kept; this fit has ended."""
        self.part.fold()
        return self.model

    def report(self) -> None:
        """Say how well it does on pictures that it is not fitted to."""
        for side, some in self.kept.items():
            told, corrected = self.gains(some)
            gains = f"{told:+.2f} dB as told, {corrected:+.2f} as corrected"
            print(f"{self.steps} steps, scenes of {side * SIDE} px: {gains}", flush=True)

    @torch.inference_mode()
    def gains(self, scenes: list[Scene]) -> tuple[float, float]:
        """Return the mean gain in PSNR of colours of cells, where there is haze, as told and as corrected, in dB."""
        self.part.eval()
        rows = []
        for scene in scenes:
            before = (scene.hazy_B3hw - scene.clear_B3hw).square().mean((1, 2, 3)) + 1e-5
            for raw in self.part(scene.features_BhwF)[:2]:
                error = restored(self.smooth(raw), scene).clamp(0, 1) - scene.clear_B3hw
                after = error.square().mean((1, 2, 3)) + 1e-5
                rows.append(10 * (before / after).log10()[before > 1e-3])
        told, corrected = torch.cat(rows[::2]).mean(), torch.cat(rows[1::2]).mean()
        return float(told), float(corrected)


def fresh(trained: InfDehaze, layers: int) -> InfDehaze:
    """Return a copy of a network with a fresh bottleneck of so many layers, which corrects nothing yet."""
    model = InfDehaze(replace(trained.preset, bottleneck_corrects=True, bottleneck_depth=layers))
    begun = ("bottleneck.", "encoder.statistics.tell.", "encoder.last_norm.", "decoder.head.correct.")
    state = model.state_dict()
    state.update({k: v.clone() for k, v in trained.state_dict().items() if not k.startswith(begun)})
    model.load_state_dict(state)
    assert model.decoder.head.correct is not None
    for parameter in model.decoder.head.correct[1].parameters():
        nn.init.zeros_(parameter)
    return model


def begin(model: InfDehaze, ground: Ground, seed: int, own: int, share: float, *, go_on: bool) -> Fit:
    """Make ready to fit the bottleneck of a network in place, and say how well it does so far."""
    module = model.encoder.statistics
    assert module is not None
    count, tile = len(ground.airlight_N3), model.preset.tile
    held = Drawer(ground, module, tile, max(count - HELD, count // 2), count, seed=1)
    sizes = [(side, scenes) for side, scenes in sorted(set(SCENES)) if side <= LARGEST_HELD]
    kept = {side: [held.scenes(side, scenes) for _ in range(20)] for side, scenes in sizes}
    part = Corrected(model.requires_grad_(False).eval(), kept[1][0], own, share)
    if go_on:
        part.unfold()
    for parameter in part.learned:
        parameter.requires_grad_(True)
    drawer = Drawer(ground, module, tile, 0, held.first, seed)
    torch.manual_seed(seed)
    run = Fit(model, part, drawer, kept)
    if share != 1:
        run.calibrate([drawer.scenes(*SCENES[0]) for _ in range(20)])
    if go_on:
        run.report()
    return run


def main() -> None:
    """Draw, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of clear pictures, one folder a source")
    parser.add_argument("--from", dest="start", default="lite", help="weights whose statistics are fitted")
    parser.add_argument("-o", "--output", type=Path, required=True, help="weights to write")
    parser.add_argument("--draw", type=float, default=10.0, help="minutes to draw pictures for")
    parser.add_argument("--ground", type=Path, help="keep what was drawn in this file, and use it again")
    parser.add_argument("--minutes", type=float, default=45.0, help="time to fit for")
    parser.add_argument("--rate", type=float, default=1e-3, help="largest rate of learning")
    parser.add_argument("--largest", type=int, default=16 * SIDE, help="side of the largest scenes in pixels")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--layers", type=int, default=2, help="of a fresh bottleneck")
    how.add_argument("--go-on", action="store_true", help="with the bottleneck that there is")
    parser.add_argument("--own", type=int, default=0, help="hidden units that the decoder goes with")
    parser.add_argument("--share", type=float, default=1.0, help="of the levels that the other units say")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="SOURCE", help="sources to learn nothing of")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    trained = load_model(given.start).eval()
    if trained.encoder.statistics is None:
        parser.error(f"{given.start} has no statistics of tiles; begin with tools/fit_statistics.py")
    if given.largest < SIDE:
        parser.error(f"scenes have at least {SIDE} px")
    if given.go_on and not trained.preset.bottleneck_corrects:
        parser.error(f"the bottleneck of {given.start} corrects nothing; begin without --go-on")
    if given.ground is not None and given.ground.exists():
        ground = Ground(**load_file(given.ground))
    else:
        data = ClearFolder.open(given.data, print, down_weight=("dubai",))
        leave_out(data, given.leave_out, parser)
        ground = draw(data, 60 * given.draw, given.seed)
        if given.ground is not None:
            save_file(vars(ground), given.ground)
    print(f"{len(ground.airlight_N3)} pictures")
    model = trained if given.go_on else fresh(trained, given.layers)
    run = begin(model, ground, given.seed, given.own, given.share, go_on=given.go_on)
    card = {"recipe": {"pictures": len(ground.airlight_N3), "from": Path(given.start).name}}
    run.go(given.minutes, given.rate, lambda fitted: save_weights(given.output, fitted, card), given.largest // SIDE)


if __name__ == "__main__":
    main()
