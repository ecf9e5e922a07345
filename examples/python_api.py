"""Plan a run, then dehaze a GeoTIFF from Python, with progress of one's own.

python examples/python_api.py scene.tif clean.tif --gpu-mem 2G
"""

import argparse
import sys
from pathlib import Path

from infdehaze_cli import InfdehazeError, RunConfig, dehaze, plan_run
from infdehaze_cli.sizes import format_size, parse_size


class Percent:
    """Anything with these three methods can be told how a run goes on."""

    def phase(self, name: str, total: int) -> None:
        self.name, self.total, self.done = name, total, 0

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        print(f"\r{self.name} {self.done / self.total:.0%}", end="  ", file=sys.stderr)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("src", type=Path, help="hazy raster")
    parser.add_argument("dst", type=Path, help="raster to write")
    parser.add_argument("--gpu-mem", type=parse_size, help="device memory, e.g. 4G")
    parser.add_argument("--weights", default="lite", help="shipped weights or a .safetensors file")
    arguments = parser.parse_args()

    config = RunConfig(gpu_mem=arguments.gpu_mem, weights=arguments.weights)
    intended = plan_run(arguments.src, config=config)
    print(f"{intended.tiles} tiles, {intended.batch} at a time, residuals in {intended.tier}")

    result = dehaze(arguments.src, arguments.dst, config=config, reporter=Percent())
    print(file=sys.stderr)
    print(f"{result.dst}: {result.width} x {result.height} px in {result.seconds['total']:.1f} s")
    print(f"device memory {format_size(result.peak_device_bytes)}, host {format_size(result.peak_rss_bytes)}")


if __name__ == "__main__":
    try:
        main()
    except InfdehazeError as error:
        # every error of the library carries the exit code that the command line would give
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
