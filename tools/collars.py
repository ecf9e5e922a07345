"""Say what missing pixels cost: the same ground and haze restored with all pixels, and with a part of them.

    python tools/collars.py DATA [--weights lite]

Pictures are clear ones, their first 512 px each way, under the seeded haze of `bench quality`; the network is in
memory. Gains in PSNR over the pixels that are left, with these alone and with the whole picture known; for clear
pictures, which may come back bit for bit, PSNR up to 60 dB. The table goes to standard output.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from infdehaze.weights import load_model
from torch import Tensor

from infdehaze_cli.training.data import pictures_below, read_picture
from infdehaze_cli.training.haze import STYLES, HazeField

SIDE = 512

MOST = 60.0

UNSAID = "the first, black and not declared"


def masks(height: int, width: int) -> dict[str, Tensor]:
    """Return masks (H, W) by what they are, True where there is data."""
    row_H1, col_W = torch.arange(height)[:, None], torch.arange(width)
    slant = col_W + 0.3 * row_H1
    specks = torch.rand(height, width, generator=torch.Generator().manual_seed(0))
    return {
        "a slanting collar of 29 to 59 % of each row": slant > 300,
        UNSAID: slant > 300,
        "all but a corner of 7 %": slant > 560,
        "a third, in squares of 64 px": (col_W // 64 + row_H1 // 64) % 3 > 0,
        "a tenth, pixel by pixel": specks >= 0.1,
    }


def psnr(result_3HW: Tensor, truth_3HW: Tensor, valid_HW: Tensor) -> float:
    """Return the PSNR of the pixels with data in dB, `MOST` at best."""
    error = (result_3HW.clamp(0, 1) - truth_3HW)[:, valid_HW].square().mean()
    return min(MOST, -10 * float(error.log10()))


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="lite")
    arguments = parser.parse_args()
    model = load_model(arguments.weights).eval()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed, path in enumerate(pictures_below(arguments.data)):
        clear = torch.from_numpy(read_picture(path)[:, :SIDE, :SIDE].copy())[None].float() / 255
        for style in (*STYLES, "none"):
            hazy = clear
            if style != "none":
                field = HazeField([STYLES[style]], *clear.shape[2:], torch.Generator().manual_seed(seed))
                hazy = (field.window(0, 0, *clear.shape[2:]).over(clear) * 255).round() / 255
            whole = model(hazy).image_B3HW
            for name, valid in masks(*clear.shape[2:]).items():
                before = psnr(hazy[0], clear[0], valid) if style != "none" else 0.0
                said = {} if name == UNSAID else {"valid_BHW": valid[None]}
                part = model(hazy * valid, **said).image_B3HW
                each = tuple(psnr(result[0], clear[0], valid) - before for result in (part, whole))
                found.setdefault((name, style), []).append((each[0], each[1]))
    print(f"| what is missing | {' | '.join(('veil', 'patches', 'dense', 'clear, dB'))} |\n|---|---|---|---|---|")
    for name in dict.fromkeys(name for name, _ in found):
        cells = []
        for style in (*STYLES, "none"):
            part_mean, whole_mean = torch.tensor(found[name, style]).mean(0).tolist()
            sign = "" if style == "none" else "+"
            cells.append(f"{part_mean:{sign}.2f} (whole {whole_mean:{sign}.2f})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
