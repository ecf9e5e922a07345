"""Opens a data set of any layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from infdehaze_cli.errors import UsageError

from .clear import ClearFolder
from .data import IN_MEMORY, TrainingData
from .layouts import LAYOUTS, detect
from .pairs import PairedFolder


def open_data(
    root: Path,
    on_skip: Callable[[str], None],
    *,
    dataset: str = "auto",
    down_weight: tuple[str, ...] = (),
    colours: float = 1.0,
    limit: int = IN_MEMORY,
) -> TrainingData:
    """Open the training part of a data set.

    Parameters
    ----------
    root : Path
        Its folder.
    on_skip : callable
        Called with a line about each picture that cannot be read.
    dataset : str
        ``clear``, a name of ``LAYOUTS``, or ``auto`` to tell by the names of folders and files.
    down_weight : tuple of str
        See :class:`ClearFolder`.
    colours : float
        See :class:`ClearFolder`; pairs keep their colours.
    limit : int
        Decoded bytes up to which pictures stay in memory.

    Raises
    ------
    InputError
        When the folder does not hold such a data set.
    UsageError
        When there is no layout of that name.
    """
    if dataset not in ("auto", "clear", *LAYOUTS):
        raise UsageError(f"There is no data set layout {dataset!r}. Use auto, clear, {', '.join(LAYOUTS)}.")
    layout = detect(root) if dataset == "auto" else dataset
    if layout == "clear":
        return ClearFolder.open(root, on_skip, down_weight=down_weight, colours=colours, limit=limit)
    return PairedFolder.open(root, on_skip, layout=layout, limit=limit)
