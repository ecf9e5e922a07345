"""GDAL datasets as windows of numbers and validity, and back: the only room that knows GeoTIFFs."""

from infdehaze_cli.raster.maps import MapWriter
from infdehaze_cli.raster.output import OutputWriter
from infdehaze_cli.raster.scaling import Limits
from infdehaze_cli.raster.source import Block, Scene

__all__ = ["Block", "Limits", "MapWriter", "OutputWriter", "Scene"]
