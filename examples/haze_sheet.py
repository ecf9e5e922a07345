"""Draw a contact sheet of the haze that networks are trained and scored with, over made-up ground.

python examples/haze_sheet.py haze.jpg --seeds 6
"""

import argparse
from pathlib import Path

import torch

from infdehaze_cli.bench.sheet import SheetRow, draw_sheet, shrink
from infdehaze_cli.geometry import Window
from infdehaze_cli.sample import Landscape
from infdehaze_cli.training.haze import STYLES, TRAINING_STYLES, HazeField


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a .png or .jpg file")
    parser.add_argument("--seeds", type=int, default=6, help="columns")
    parser.add_argument("--size", type=int, default=640, help="side of each scene in pixels")
    arguments = parser.parse_args()

    size, seeds = arguments.size, range(arguments.seeds)
    grounds = {}
    for seed in seeds:
        pixels = Landscape(height=size, width=size, seed=seed).window(Window(0, 0, size, size))
        grounds[seed] = torch.from_numpy(pixels[:3]).float()[None] / 255
    rows = [SheetRow("no haze", {f"seed {seed}": shrink(ground[0].numpy()) for seed, ground in grounds.items()})]
    training = {f"training {i}, {share:.0%}": style for i, (share, style) in enumerate(TRAINING_STYLES, start=1)}
    for name, style in (STYLES | training).items():
        pictures, captions = {}, {}
        for seed, ground in grounds.items():
            field = HazeField([style], size, size, torch.Generator().manual_seed(seed))
            haze = field.window(0, 0, size, size)
            pictures[f"seed {seed}"] = shrink(haze.over(ground)[0].numpy())
            green = haze.transmission_B3HW[0, 1]
            captions[f"seed {seed}"] = f"t {green.min():.2f} to {green.max():.2f}"
        rows.append(SheetRow(name, pictures, captions))
    print(f"{draw_sheet(rows, arguments.out)}: {len(rows)} kinds of haze, {len(seeds)} seeds each")


if __name__ == "__main__":
    main()
