"""GDAL's settings while infdehaze reads and writes."""

from __future__ import annotations

import os

import rasterio

from infdehaze_cli.host_memory import CACHE_MOST


def gdal_environment(cache: int = CACHE_MOST) -> rasterio.Env:
    """Make the GDAL settings of a run, with its block cache in bytes; what the user set in the environment wins."""
    # a server that is busy for a moment must not end a run of hours, and one that is silent must not hang it
    options = {
        "GDAL_CACHEMAX": cache,
        "GDAL_HTTP_MAX_RETRY": 4,
        "GDAL_HTTP_RETRY_DELAY": 0.5,
        "GDAL_HTTP_CONNECTTIMEOUT": 30,
        "GDAL_HTTP_LOW_SPEED_TIME": 60,
        "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    }
    return rasterio.Env(**{key: value for key, value in options.items() if key not in os.environ})
