"""Removes haze from rasters of any size inside the memory that its user names.

``from infdehaze_cli import dehaze`` is the scene-level API; ``infdehaze --help`` the command line.
"""

import os

# read as a whole, a PNG that is cut off would be memory that nobody has written, without an error of GDAL's
os.environ.setdefault("GDAL_PNG_WHOLE_IMAGE_OPTIM", "NO")

from .api import RunResult, dehaze
from .errors import (
    BudgetError,
    CheckpointError,
    CorruptError,
    InfdehazeError,
    InputError,
    StorageError,
    UsageError,
)
from .plan import Plan, RunConfig
from .scene_plan import plan_run

__all__ = [
    "BudgetError",
    "CheckpointError",
    "CorruptError",
    "InfdehazeError",
    "InputError",
    "Plan",
    "RunConfig",
    "RunResult",
    "StorageError",
    "UsageError",
    "dehaze",
    "plan_run",
]
