"""Errors of the model package; the application's own errors derive from the same base.

Each message is one sentence on what is wrong and one on what to do. ``exit_code`` is what the command line
ends with when the error reaches it.
"""


class InfdehazeError(Exception):
    """Base of every error that a user can meet.

    ::

        InfdehazeError            1
        ├── CheckpointError       3  (infdehaze)
        ├── UsageError            2  (infdehaze_cli)
        ├── InputError            3  (infdehaze_cli)
        ├── BudgetError           4  (infdehaze_cli)
        ├── StorageError          5  (infdehaze_cli)
        └── CorruptError          6  (infdehaze_cli)
    """

    exit_code: int = 1


class CheckpointError(InfdehazeError):
    """A checkpoint is missing, damaged, not safetensors, or does not fit its preset."""

    exit_code = 3
