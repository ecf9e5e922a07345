"""Compare variants of `lite` by short runs from the start: the same data, seed, rate and number of steps.

    python tools/search.py DATA -o RUNS [--steps 300] [--crops 256:8:1] [--seed 0] [--only NAME ...]
        [--leave-out SOURCE ...]

Every tenth picture of a source is kept for validation, or whole sources with `--leave-out`, which is what a user's
pictures are like; the rest is trained on. A variant that has been scored is not run again: name another RUNS for other
crops, sources or seeds. The table goes to standard output and to RUNS/table.md. One thread, so that runs can share a
machine.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from infdehaze.network import InfDehaze, count_parameters
from infdehaze.weights import load_model

from infdehaze_cli.training.config import CROPS, TrainConfig, parse_crops
from infdehaze_cli.training.data import pictures_below, read_picture
from infdehaze_cli.training.haze import STYLES, HazeField
from infdehaze_cli.training.loop import train

SHOWN, SHOWN_WHOLE = 3, 12  # validation pictures of a source at most, and of one that is left out

VARIANTS: dict[str, dict[str, object]] = {
    "lite": {},
    "other seed": {"seed": 1},
    "without statistics of tiles": {"overrides": ("tile_statistics=false", "bottleneck_corrects=false")},
    "plain norms": {"overrides": ("centred_norms=false", "residual_norms=false")},
    "residuals not normalised": {"overrides": ("residual_norms=false",)},
    "without SFCA": {"overrides": ("sfca=false",)},
    "without LMMoE": {"overrides": ("moe=false",)},
    "without IBSSA (local only)": {"overrides": ("attention=false",)},
    "fields every 8 px": {"overrides": ("field_stride=8",)},
    "fields every 32 px": {"overrides": ("field_stride=32",)},
    "narrow (32, 48, 64, 96)": {"overrides": ("widths=32,48,64,96", "heads=2,3,4,8")},
    "wide (64, 96, 128, 192)": {"overrides": ("widths=64,96,128,192", "heads=4,6,8,12")},
    "stem of 4 px": {"overrides": ("stem_stride=4",)},
    "L1 + frequency": {"loss": "l1+frequency"},
    "L1 + SSIM": {"loss": "l1+ssim"},
    "L1 without the log of the squared error": {"psnr_weight": 0.0},
    "crops of 1 to 9 tiles": {"crops": CROPS},
    "half the variation of colours": {"colours": 0.5},
    "no variation of colours": {"colours": 0.0},
}


def split(data: Path, out: Path, left_out: list[str]) -> tuple[Path, list[Path]]:
    """Link what is trained on into a folder; return it, and pictures to validate on."""
    held: list[Path] = []
    for source in sorted({path.parent for path in pictures_below(data)}):
        pictures = sorted(p for p in pictures_below(source) if p.parent == source)
        whole = source.relative_to(data).as_posix() in left_out
        kept = pictures if whole else [] if left_out else pictures[9::10]
        held += kept[:: max(1, -(-len(kept) // (SHOWN_WHOLE if whole else SHOWN)))]
        folder = out / "train" / source.relative_to(data)
        folder.mkdir(parents=True, exist_ok=True)
        for picture in sorted(set(pictures) - set(kept)):
            link = folder / picture.name
            if not link.exists():
                link.symlink_to(picture.resolve())
    return out / "train", held


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the PSNR in dB of pictures with values 0..1."""
    return float(-10 * torch.log10((image.clamp(0, 1) - truth).square().mean().clamp(min=1e-7)))


@torch.inference_mode()
def score(model: InfDehaze, pictures: list[Path]) -> dict[str, float]:
    """Return the mean gain in dB under each style of haze, and the PSNR of clear pictures against themselves."""
    sums = dict.fromkeys((*STYLES, "clear"), 0.0)
    for i, path in enumerate(pictures):
        truth = torch.from_numpy(read_picture(path)).float()[None] / 255
        for name, style in STYLES.items():
            field = HazeField([style], *truth.shape[2:], torch.Generator().manual_seed(i))
            hazy = (field.window(0, 0, *truth.shape[2:]).over(truth) * 255).round() / 255
            sums[name] += psnr(model(hazy).image_B3HW, truth) - psnr(hazy, truth)
        sums["clear"] += psnr(model(truth).image_B3HW, truth)
    return {name: value / len(pictures) for name, value in sums.items()}


def table(results: dict[str, dict[str, float]]) -> str:
    """Return the results as a table in Markdown, best mean gain first."""
    lines = [f"| variant | M parameters | s a step | {' | '.join(STYLES)} | mean gain, dB | clear, dB |"]
    lines.append("|" + "---|" * (len(STYLES) + 5))
    for name, row in sorted(results.items(), key=lambda item: -item[1]["mean"]):
        gains = " | ".join(f"{row[style]:+.2f}" for style in STYLES)
        lines.append(
            f"| {name} | {row['parameters'] / 1e6:.1f} | {row['seconds']:.2f} | {gains} | {row['mean']:+.2f} "
            f"| {row['clear']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of clear pictures, one folder a source")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--crops", type=parse_crops, default="256:8:1", help="as those of `infdehaze train`")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="SOURCE", help="validate on these sources alone")
    parser.add_argument("--seed", type=int, default=0, help="of weights, crops and haze")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, help="these variants alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if unknown := [name for name in given.leave_out if not (given.data / name).is_dir()]:
        parser.error(f"there is no source {', '.join(unknown)} in {given.data}")
    folder, held = split(given.data, given.out, given.leave_out)
    results: dict[str, dict[str, float]] = {}
    for name, changes in VARIANTS.items():
        run = given.out / "".join(c if c.isalnum() else "-" for c in name)
        scored = run / f"scores-{given.steps}.json"
        if not scored.exists():
            if given.only and name not in given.only:
                continue
            options = {
                "crops": given.crops,
                "seed": given.seed,
                "warmup": 50,
                "checkpoint_every": 1e9,
                "statistics_rate": 1.0,
                **changes,
            }
            started = time.process_time()
            weights = train(
                TrainConfig(data=folder, out=run, steps=given.steps, ema=0.98, **options),  # type: ignore[arg-type]
                lambda event: None,
                print,
            )
            seconds = (time.process_time() - started) / given.steps
            model = load_model(weights).eval()
            row = score(model, held)
            row["mean"] = sum(row[style] for style in STYLES) / len(STYLES)
            scored.write_text(json.dumps({**row, "parameters": count_parameters(model), "seconds": seconds}))
        results[name] = json.loads(scored.read_text())
        (given.out / "table.md").write_text(table(results))
    print(table(results), end="")


if __name__ == "__main__":
    main()
