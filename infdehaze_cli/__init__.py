"""Removes haze from rasters of any size inside the memory that its user names.

``from infdehaze_cli import dehaze`` is the scene-level API; ``infdehaze --help`` the command line.
"""

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
