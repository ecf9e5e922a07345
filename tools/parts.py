"""Say what each part of trained weights is worth: silence it, and see what is lost.

    python tools/parts.py DATA [--weights lite] [--pictures 40]

A part is silenced by putting the mean of its output over all the pictures in its place, so that what it says of one
place or picture is gone and the level stays. Pictures are clear ones, their first 512 px each way, under the seeded
haze of `bench quality`. The table goes to standard output: mean gains in PSNR, and what they change by. Nothing is
trained. A part without which nothing changes does nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from infdehaze.bottleneck import BottleneckLayer
from infdehaze.network import InfDehaze
from infdehaze.sfca import SFCA
from infdehaze.weights import load_model
from search import psnr
from torch import Tensor, nn

from infdehaze_cli.training.data import pictures_below, read_picture
from infdehaze_cli.training.haze import STYLES, HazeField

SIDE = 512


@dataclass(eq=False)
class Tap:
    """A method of the network whose output is what a part has to say; ``how`` is what becomes of it."""

    module: nn.Module
    method: str = "forward"
    total: Tensor | float = 0.0
    rows: int = 0

    @contextmanager
    def open(self, how: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Send the output through a function for a while."""
        method = getattr(self.module, self.method)
        setattr(self.module, self.method, lambda *arguments: how(method(*arguments)))
        try:
            yield
        finally:
            delattr(self.module, self.method)

    def watch(self, output: Tensor) -> Tensor:
        """Add an output to the mean, and let it through."""
        flat = output.flatten(0, -2).double()
        self.total, self.rows = self.total + flat.sum(0), self.rows + len(flat)
        return output

    def silence(self, output: Tensor) -> Tensor:
        """Return the mean in the place of an output."""
        return (self.total / self.rows + torch.zeros_like(output, dtype=torch.float64)).to(output)


def parts_of(model: InfDehaze) -> dict[str, list[Tap]]:
    """Return where each part of a network can be silenced."""
    layers = [layer for layer in model.bottleneck.layers if isinstance(layer, BottleneckLayer)]
    attention = [Tap(layer.attention.proj) for layer in layers if layer.attention is not None]
    experts = [Tap(layer.moe, "sparse") for layer in layers]
    statistics, correct = model.encoder.statistics, model.decoder.head.correct
    told = [] if statistics is None else [Tap(statistics.mlp[-1])]
    if statistics is not None and statistics.tell is not None:
        told.append(Tap(statistics.tell))
    # the way past the decoder's stages
    direct = [] if correct is None else [Tap(correct)]
    parts = {
        "statistics of tiles": told,
        "SFCA": [Tap(module.restore) for module in model.modules() if isinstance(module, SFCA)],
        "IBSSA": attention,
        "LMMoE": experts,
        "bottleneck": [*attention, *experts],
        "stages 3 and 4 with the bottleneck": [Tap(model.decoder.expands[1]), *direct],
        "stages 2 to 4 with the bottleneck": [Tap(model.decoder.expands[2]), *direct],
    }
    return {name: taps for name, taps in parts.items() if taps}


@torch.inference_mode()
def gains(model: InfDehaze, pairs: dict[str, list[tuple[Tensor, Tensor]]]) -> dict[str, float]:
    """Return the mean gain in dB for each style."""
    return {
        style: sum(psnr(model(hazy).image_B3HW, clear) - psnr(hazy, clear) for hazy, clear in both) / len(both)
        for style, both in pairs.items()
    }


def main() -> None:
    """Score the weights as they are, and without each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of clear pictures")
    parser.add_argument("--weights", default="lite")
    parser.add_argument("--pictures", type=int, default=40)
    given = parser.parse_args()
    model = load_model(given.weights)
    paths = sorted(pictures_below(given.data))
    paths = paths[:: max(1, -(-len(paths) // given.pictures))]
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {style: [] for style in STYLES}
    for number, path in enumerate(paths):
        clear = torch.from_numpy(read_picture(path)).float()[None, :, :SIDE, :SIDE] / 255
        for name, style in STYLES.items():
            height, width = clear.shape[2:]
            field = HazeField([style], height, width, torch.Generator().manual_seed(number))
            hazy = (field.window(0, 0, height, width).over(clear) * 255).round() / 255
            pairs[name].append((hazy, clear))
    parts = parts_of(model)
    with ExitStack() as stack:
        for tap in {tap: None for taps in parts.values() for tap in taps}:
            stack.enter_context(tap.open(tap.watch))
        before = gains(model, pairs)
    print(f"| silenced | {' | '.join(STYLES)} | mean |\n|{'---|' * (len(STYLES) + 2)}")
    print(f"| nothing | {' | '.join(f'{before[style]:+.2f}' for style in STYLES)} | {_mean(before):+.2f} |", flush=True)
    for name, taps in parts.items():
        with ExitStack() as stack:
            for tap in taps:
                stack.enter_context(tap.open(tap.silence))
            after = gains(model, pairs)
        lost = {style: after[style] - before[style] for style in STYLES}
        print(f"| {name} | {' | '.join(f'{lost[style]:+.2f}' for style in STYLES)} | {_mean(lost):+.2f} |", flush=True)


def _mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


if __name__ == "__main__":
    main()
