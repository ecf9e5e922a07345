"""What the engine asks of its surroundings: a scene to read, an output to write, somebody to tell.

The engine knows no file format, no terminal and no store: it gets objects that fit these protocols.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window


class SourceBlock(Protocol):
    """One window of a scene."""

    @property
    def window(self) -> Window:
        """Where it lies."""
        ...

    @property
    def values(self) -> NDArray[np.float32]:
        """(3, rows, cols) in the network's range; pixels without data hold 0."""
        ...

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows, cols), True where there is data."""
        ...


@dataclass(frozen=True, slots=True)
class ArrayBlock:
    """A window whose pixels were made here: the plain `SourceBlock`."""

    window: Window
    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


B_co = TypeVar("B_co", bound=SourceBlock, covariant=True)
B_contra = TypeVar("B_contra", bound=SourceBlock, contravariant=True)


class SceneReader(Protocol[B_co]):
    """A scene that can be read by windows, by one thread at a time."""

    @property
    def height(self) -> int:
        """Rows."""
        ...

    @property
    def width(self) -> int:
        """Columns."""
        ...

    def read(self, window: Window) -> B_co:
        """Read a window that lies inside the scene."""
        ...


class SceneWriter(Protocol[B_contra]):
    """Takes restored windows from top to bottom."""

    @property
    def wants_haze(self) -> bool:
        """Whether it has a use for the haze beside the restored values."""
        ...

    def write(self, block: B_contra, restored: NDArray[np.float32], haze: NDArray[np.float32] | None = None) -> None:
        """Take the restored values (3, rows, cols) of a block that was read.

        Where it is wanted, ``haze`` is float32 (6, rows, cols): the optical depth that was taken away from red, green
        and blue, and the airlight of the three.
        """
        ...


class Reporter(Protocol):
    """Is told how a run goes on. Called from the thread that called the engine."""

    def phase(self, name: str, total: int) -> None:
        """Say that a phase of ``total`` steps begins."""
        ...

    def advance(self, steps: int = 1) -> None:
        """Say that steps of the current phase are done."""
        ...

    def note(self, text: str) -> None:
        """Say something in a line."""
        ...


class Silent:
    """A reporter that says nothing."""

    def phase(self, name: str, total: int) -> None:
        """Ignore it."""

    def advance(self, steps: int = 1) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""
