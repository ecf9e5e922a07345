"""What this machine offers to a run."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import rasterio
import torch
from infdehaze.weights import shipped_weights
from rasterio.drivers import raster_driver_extensions

from .calibration import probe_disk
from .engine import resolve_device
from .machine import versions
from .sizes import format_size

DRIVERS = ("GTiff", "COG", "VRT", "JP2OpenJPEG", "WEBP", "PNG", "JPEG")


def examine(scratch: Path) -> dict[str, dict[str, Any]]:
    """Return the facts about versions, drivers, devices and the scratch folder, by heading.

    Raises
    ------
    StorageError
        When the scratch folder cannot be used.
    """
    with rasterio.Env() as environment:
        drivers = environment.drivers()
    devices = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = f"{properties.name}, {format_size(properties.total_memory)}"
    chosen = resolve_device("auto")
    return {
        "versions": {**versions(), "platform": platform.platform()},
        "GDAL drivers": {name: "yes" if name in drivers else "no" for name in DRIVERS}
        | {"file extensions that can be written": len(raster_driver_extensions())},
        "devices": devices,
        "scratch": {"folder": str(scratch), **_probe_disk(scratch)},
        "auto chooses": {
            "device": str(chosen),
            "precision": "fp32" if chosen.type == "cpu" else "fp16",
            "weights": ", ".join(shipped_weights()) or "none are inside this package",
        },
    }


def _probe_disk(folder: Path) -> dict[str, str]:
    write, read, free = probe_disk(folder)
    return {
        "free": format_size(free),
        "write, synced": f"{format_size(int(write))}/s",
        "read, cached": f"{format_size(int(read))}/s",
    }
