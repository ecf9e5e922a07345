"""GDAL datasets as windows of numbers and validity, and back: the only room that knows GeoTIFFs."""

from infdehaze_cli.raster.bands import OtherBands
from infdehaze_cli.raster.environment import gdal_environment
from infdehaze_cli.raster.locations import is_local, redacted
from infdehaze_cli.raster.maps import HazeMapWriter, MapWriter
from infdehaze_cli.raster.output import OutputWriter
from infdehaze_cli.raster.scaling import Limits
from infdehaze_cli.raster.source import Block, Scene
from infdehaze_cli.raster.wavelengths import parse_wavelengths

__all__ = [
    "Block",
    "HazeMapWriter",
    "Limits",
    "MapWriter",
    "OtherBands",
    "OutputWriter",
    "Scene",
    "gdal_environment",
    "is_local",
    "parse_wavelengths",
    "redacted",
]
