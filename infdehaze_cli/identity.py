"""What a run is begun with, in numbers that change when it does: an interrupted run goes on only with the same."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from infdehaze.weights import resolve_weights

from .engine import resolve_device
from .errors import StorageError
from .geometry import Window
from .plan import RunConfig
from .raster import Scene, is_local, redacted
from .retry import persist

_HEADER = 1 << 16
_PATCH = 64
_LATER = ("scratch", "strength")
"""Fields of a request that touch nothing of what an interrupted run leaves."""


def identify(scene: Scene, config: RunConfig, bands: tuple[int, ...] | None) -> dict[str, Any]:
    """Return the identity of a run as JSON-ready values: of the input, the weights, the request and the program.

    Of a local file size, time and the hash of its first 64 KiB are taken, and size and time of those that it is read
    together with, such as masks and the parts of a VRT; of other sources than GeoTIFF also the hash of a few pixels.
    """
    return {
        "input": _input(scene),
        "weights": _hash_file(resolve_weights(config.weights)),
        "request": {
            **{key: value for key, value in asdict(config).items() if key not in (*_LATER, "weights")},
            "bands": None if bands is None else list(bands),
        },
        "program": [version("infdehaze"), torch.__version__, str(resolve_device(config.device))],
    }


def _input(scene: Scene) -> dict[str, Any]:
    known: dict[str, Any] = {
        "name": redacted(Path(scene.path).absolute()) if is_local(scene.path) else scene.shown,
        "shape": [scene.count, scene.height, scene.width],
        "dtype": scene.dtype.name,
        "limits": str(scene.limits),
        "valid": repr(scene.validity),
    }
    path = Path(scene.path)
    if is_local(scene.path) and path.is_file():
        facts = path.stat()
        header = _hash_file(path, _HEADER)
        known |= {"size": facts.st_size, "time": facts.st_mtime_ns, "header": header, "parts": _parts(scene)}
        if path.suffix.lower() in (".tif", ".tiff"):
            return known
    height, width = min(_PATCH, scene.height), min(_PATCH, scene.width)
    patch = scene.read(Window((scene.height - height) // 2, (scene.width - width) // 2, height, width))
    return known | {"pixels": hashlib.sha256(patch.native.tobytes()).hexdigest()}


def _parts(scene: Scene) -> dict[str, list[int]]:
    """Return size and time of the files that a source is read together with, but for what viewers write beside it."""
    facts = {
        file: Path(file).stat()
        for file in scene.files
        if Path(file).is_file() and not file.lower().endswith((".ovr", ".aux.xml"))
    }
    return {file: [found.st_size, found.st_mtime_ns] for file, found in sorted(facts.items())}


def _hash_file(path: Path, length: int | None = None) -> str:
    """Hash a file, or its first bytes."""

    def read() -> str:
        with path.open("rb") as file:
            if length is not None:
                return hashlib.sha256(file.read(length)).hexdigest()
            return hashlib.file_digest(file, "sha256").hexdigest()

    try:
        return persist(read)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read ({error.strerror or error}). Check the disk or the network that it lies on."
        ) from error
