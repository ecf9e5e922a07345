"""Errors of the application. Each carries the exit code of the command line (0 done, 1 a bug of ours)."""

from infdehaze.errors import CheckpointError, InfdehazeError

__all__ = [
    "BudgetError",
    "CheckpointError",
    "CorruptError",
    "InfdehazeError",
    "InputError",
    "StorageError",
    "UsageError",
]


class UsageError(InfdehazeError):
    """The request itself makes no sense: an option, a size, a combination."""

    exit_code = 2


class InputError(InfdehazeError):
    """The source cannot be processed: missing, not a raster, an unsupported type, an unreadable block."""

    exit_code = 3


class BudgetError(InfdehazeError):
    """The memory budget cannot hold the run."""

    exit_code = 4


class StorageError(InfdehazeError):
    """A disk is full, read-only or failing, or the destination cannot be written.

    With ``may_pass`` a write of an output failed although its disk has room: all of it may do better when it is written
    again.
    """

    exit_code = 5

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class CorruptError(InfdehazeError):
    """A stored chunk is damaged, or a work folder does not belong to this run."""

    exit_code = 6
