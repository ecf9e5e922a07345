"""Make the pictures and the figures of docs/attribution.md again, with the weights of this checkout.

    python tools/attribution_page.py
    python tools/attribution_page.py --real ../shared/scenes --keep /tmp/maps

Real scenes get a row of the table each, and no picture in the repository.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import rasterio
from rasterio.enums import Resampling

from infdehaze_cli.attribute import AttributionResult, attribute
from infdehaze_cli.geometry import Window
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.sample import write_landscape
from infdehaze_cli.synth import synthesise

ROOT = Path(__file__).parents[1]
PAGE, IMAGES = ROOT / "docs" / "attribution.md", ROOT / "docs" / "images"
START, END = "<!-- figures: made by tools/attribution_page.py -->\n", "<!-- end of figures -->\n"
HEADER = (
    "| scene | path begins at | objective | at the clear end | at the hazy end | missed | outside of the tile "
    "| area outside | median distance |\n|---|---|---|---|---|---|---|---|---|\n"
)
SIZE, SIDE = 1024, 64
LANDSCAPE = 7
HAZES = {"patches": 7, "veil": 2}
"""Style and seed of the made-up scenes; in both, the window has haze."""
PICTURE_BYTES = 300_000


def row(name: str, found: AttributionResult) -> str:
    begins = "own output" if found.reference is None else "truth"
    missed = "-" if found.missed is None else f"{found.missed:.1%}"
    return (
        f"| {name} | {begins} | {found.objective} | {found.at_clear:.4f} | {found.at_hazy:.4f} | {missed} "
        f"| {found.outside_share:.1%} | {found.outside_area:.1%} | {found.median_distance} px |\n"
    )


def middle_of_a_tile(width: int, height: int, tile: int = 256) -> Window:
    """Return a window in the middle of the tile next to the middle of a scene."""
    row, col = (whole // 2 // tile * tile + (tile - SIDE) // 2 for whole in (height, width))
    return Window(row, col, SIDE, SIDE)


def shrink(png: Path, jpeg: Path) -> None:
    """Write a picture again at half of its size and as good as it may be."""
    with rasterio.open(png) as source:
        pixels = source.read(out_shape=(3, source.height // 2, source.width // 2), resampling=Resampling.average)
    for quality in (88, 80, 70, 60):
        shape = {"count": 3, "height": pixels.shape[1], "width": pixels.shape[2], "dtype": "uint8"}
        with rasterio.open(jpeg, "w", driver="JPEG", quality=quality, **shape) as picture:
            picture.write(pixels)
        if jpeg.stat().st_size <= PICTURE_BYTES:
            break
    jpeg.with_name(jpeg.name + ".aux.xml").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder of real scenes")
    parser.add_argument("--keep", type=Path, help="folder for all maps and pictures")
    parser.add_argument("--weights", default="lite")
    parser.add_argument("--gpu-mem", type=float, default=0.5, help="GiB")
    arguments = parser.parse_args()
    config = RunConfig(weights=arguments.weights, gpu_mem=int(arguments.gpu_mem * 1024**3))
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        clear, window = folder / "clear.tif", middle_of_a_tile(SIZE, SIZE)
        write_landscape(clear, SIZE, SIZE, seed=LANDSCAPE)
        for style, seed in HAZES.items():
            hazy, png = folder / f"{style}.tif", folder / f"{style}.png"
            synthesise(clear, hazy, style=style, seed=seed, overwrite=True)
            for objective in ("light", "depth"):
                found = attribute(
                    hazy,
                    folder / f"{style}-{objective}.tif",
                    window,
                    reference=clear,
                    objective=objective,
                    preview=png if objective == "light" else None,
                    config=config,
                    overwrite=True,
                )
                rows.append(row(style, found))
                print(rows[-1], end="", flush=True)
            shrink(png, IMAGES / f"attribution-{style}.jpg")
        for path in sorted(arguments.real.glob("*.tif*")) if arguments.real else ():
            with rasterio.open(path) as source:
                window = middle_of_a_tile(source.width, source.height)
                bands = (1, 2, 3) if source.count >= 3 else (1,)
            maps = folder / f"{path.stem}.map.tif", folder / f"{path.stem}.png"
            found = attribute(path, maps[0], window, preview=maps[1], config=config, bands=bands, overwrite=True)
            rows.append(row(f"`{path.name}`", found))
            print(rows[-1], end="", flush=True)
    page = PAGE.read_text(encoding="utf-8")
    table = START + HEADER + "".join(rows) + END
    PAGE.write_text(
        re.sub(f"{re.escape(START)}.*{re.escape(END)}", lambda _: table, page, flags=re.S), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
