"""What a measurement was made on and with: machine, versions and commit. No names of people, hosts or folders."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

_ROOT = Path(__file__).resolve().parents[1]


def versions() -> dict[str, str]:
    """Return the versions of this program and of what decides its speed, memory and pixels."""
    return {
        "infdehaze": version("infdehaze"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rasterio": rasterio.__version__,
        "GDAL": rasterio.__gdal_version__,
        "zarr": version("zarr"),
        "numpy": np.__version__,
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Return the facts of this machine.

    Parameters
    ----------
    device : torch.device
        Where the network runs.

    Returns
    -------
    dict
        ``system``, ``processor``, ``cores`` that this process may use, ``threads`` of PyTorch, ``memory_bytes`` and
        ``load`` (mean number of processes that ran in the last minute), None where the system does not say; ``device``,
        and on CUDA ``gpu`` and ``gpu_bytes``.
    """
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": _memory_bytes(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "device": device.type,
    }
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        facts |= {"gpu": found.name, "gpu_bytes": int(found.total_memory)}
    return facts


def commit() -> str | None:
    """Return the commit of the sources, with ``-changed`` after it where files differ from it; None when unknown.

    It is that of a checkout that this program runs from, or the one that pip wrote down when it installed from Git.
    """
    # a package inside an environment may lie in a repository of something else
    if (_ROOT / ".git").exists() and (_ROOT / "pyproject.toml").exists():
        found, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
        return f"{found}{'-changed' if changed else ''}" if found else None
    with suppress(KeyError, TypeError, ValueError):
        noted = json.loads(distribution("infdehaze").read_text("direct_url.json") or "{}")
        return str(noted["vcs_info"]["commit_id"])
    return None


@contextmanager
def _tolerant() -> Iterator[None]:
    """Let a fact that a system does not give be missing."""
    with suppress(OSError, ValueError, AttributeError, subprocess.SubprocessError):
        yield


def _git(*words: str) -> str | None:
    command = ["git", "-C", str(_ROOT), *words]
    with _tolerant():
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    return None


def _processor() -> str | None:
    with _tolerant():
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
        if found is not None:
            return found[1].strip()
    return platform.processor() or None


def _cores() -> int | None:
    with _tolerant():
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory_bytes() -> int | None:
    with _tolerant():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None
