"""Made-up landscapes of any size, for demo scenes and benchmarks."""

from infdehaze_cli.sample.landscape import Landscape, write_landscape

__all__ = ["Landscape", "write_landscape"]
