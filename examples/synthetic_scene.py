"""Make a landscape, put haze with a known transmission over it, clean it, and score what came out.

python examples/synthetic_scene.py synthetic --size 1024 --style dense
"""

import argparse
from pathlib import Path

import rasterio

from infdehaze_cli import RunConfig, dehaze
from infdehaze_cli.sample import write_landscape
from infdehaze_cli.scores import compare_rasters
from infdehaze_cli.synth import synthesise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the rasters go")
    parser.add_argument("--size", type=int, default=512, help="side in pixels")
    parser.add_argument("--style", default="patches", help="veil, patches or dense")
    parser.add_argument("--seed", type=int, default=7, help="which landscape and which haze")
    parser.add_argument("--weights", default="lite", help="shipped weights or a .safetensors file")
    arguments = parser.parse_args()

    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    clear, hazy, restored = (folder / f"{name}.tif" for name in ("clear", "hazy", "restored"))
    transmission = folder / "transmission.tif"

    write_landscape(clear, arguments.size, arguments.size, seed=arguments.seed, bands=4)
    synthesise(clear, hazy, style=arguments.style, seed=arguments.seed, transmission=transmission, overwrite=True)
    dehaze(hazy, restored, config=RunConfig(weights=arguments.weights), overwrite=True)

    with rasterio.open(transmission) as file:
        share = file.read(2)
    print(f"transmission in green: {share.min():.2f} to {share.max():.2f}, mean {share.mean():.2f}")
    for name, scores in (
        ("hazy", compare_rasters(hazy, clear)),
        ("restored", compare_rasters(restored, clear, hazy=hazy)),
    ):
        print(f"{name:>8}: PSNR {scores.psnr:.2f} dB, SSIM {scores.ssim:.3f}, CIEDE2000 {scores.ciede2000:.2f}")


if __name__ == "__main__":
    main()
