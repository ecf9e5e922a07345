"""What this machine offers to a run."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rasterio
import torch
from infdehaze.weights import shipped_weights
from rasterio.drivers import raster_driver_extensions

from .engine import resolve_device
from .errors import StorageError
from .sizes import format_size

PROBE = 64 * 1024**2
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
        "versions": {
            "infdehaze": version("infdehaze"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "rasterio": rasterio.__version__,
            "GDAL": rasterio.__gdal_version__,
            "zarr": version("zarr"),
            "platform": platform.platform(),
        },
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
    """Write and read a file once, synced, and say how fast that was."""
    block = os.urandom(1024**2)
    try:
        with tempfile.NamedTemporaryFile(prefix="infdehaze-", dir=folder) as file:
            started = time.perf_counter()
            for _ in range(PROBE // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            written = time.perf_counter()
            file.seek(0)
            while file.read(1024**2):
                pass
            read = time.perf_counter()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StorageError(
            f"The scratch folder {folder} cannot be used ({error.strerror or error}). Name another with --scratch."
        ) from error
    return {
        "free": format_size(free),
        "write, synced": f"{format_size(int(PROBE / (written - started)))}/s",
        "read, cached": f"{format_size(int(PROBE / (read - written)))}/s",
    }
