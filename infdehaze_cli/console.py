"""What commands share: options, progress, and how errors and results are printed.

Results go to stdout, everything else to stderr. Progress is a bar on a terminal, and plain lines elsewhere.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .engine import Reporter, Silent
from .errors import StorageError, UsageError
from .plain import plain
from .raster import redacted
from .sizes import parse_size


def _hold_streams() -> None:
    """Lead streams that the program was started without to nowhere: the next files would take their numbers."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))


class _Stream(Console):
    """A console that nobody may listen to any more: a log viewer that ends, or a full log, must not end a run."""

    def on_broken_pipe(self) -> None:
        """Go on."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, if it can be; a result that cannot be printed is an error."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            if not self.stderr:
                raise _unprinted(error) from error


_hold_streams()

# without emoji, or a path with `:car:` in it would come out as a picture
# a file or a pipe has no width that a table would have to fit
out = _Stream(highlight=False, soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 1000)
err = _Stream(stderr=True, highlight=False, soft_wrap=True, emoji=False)

MAX_SEED = 2**62
"""NumPy and PyTorch take 63 bits; the rest is room for what is counted from a seed."""


class BarReporter:
    """Progress bars on a terminal, one a phase."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def phase(self, name: str, total: int) -> None:
        """Begin a bar."""
        self._task = self._progress.add_task(name, total=total)

    def advance(self, steps: int = 1) -> None:
        """Move the current bar."""
        if self._task is not None:
            self._progress.advance(self._task, steps)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, markup=False)


class LineReporter:
    """One line a phase, for logs."""

    def __init__(self) -> None:
        self._name, self._total, self._done, self._started = "", 0, 0, 0.0

    def phase(self, name: str, total: int) -> None:
        """Remember what begins."""
        self._name, self._total, self._done, self._started = name, total, 0, time.perf_counter()

    def advance(self, steps: int = 1) -> None:
        """Print when the phase is done."""
        self._done += steps
        if self._done == self._total:
            seconds = time.perf_counter() - self._started
            err.print(f"{self._name}: {self._total} in {seconds:.1f} s", markup=False)

    def note(self, text: str) -> None:
        """Print a line."""
        err.print(text, markup=False)


@contextmanager
def progress(quiet: bool) -> Iterator[Reporter]:
    """Make the reporter that fits where stderr goes."""
    if quiet:
        yield Silent()
    elif err.is_terminal:
        columns = (
            TextColumn("{task.description:>11}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=err) as bars:
            yield BarReporter(bars)
    else:
        yield LineReporter()


def print_json(value: Mapping[str, Any], *, to_stderr: bool = False) -> None:
    """Print one JSON object on stdout, or stderr; numbers that JSON lacks come as null."""
    _print(json.dumps(plain(value), indent=2), sys.stderr if to_stderr else sys.stdout)


def print_json_line(value: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of stdout, at once: the next one may take hours."""
    _print(json.dumps(plain(value)), sys.stdout)


def _print(text: str, stream: TextIO) -> None:
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # who reads has had enough; what Python would still write at the end goes nowhere
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except OSError as error:
        raise _unprinted(error) from error


def _unprinted(error: OSError) -> StorageError:
    return StorageError(
        f"The result cannot be printed ({error.strerror or error}). All else is done; look at the outputs."
    )


def complain(message: str) -> None:
    """Print an error as one line, whatever it holds; URLs without their secrets."""
    err.print(f"infdehaze: {redacted(' '.join(message.splitlines()))}", markup=False)


def print_table(title: str, rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """Print a table on stdout; the first column is text, the others are numbers or short words."""
    # as Text: names and paths may hold what rich would take for markup
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for i, name in enumerate(header):
        table.add_column(Text(name), justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)


def size_option(text: str) -> int:
    """Parse a size for typer."""
    try:
        return parse_size(text)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error


def parse_bands(text: str | None) -> tuple[int, ...] | None:
    """Return the band numbers of ``4,3,2`` or ``1``.

    Raises
    ------
    UsageError
        When the text is neither one nor three numbers from 1 up.
    """
    if text is None:
        return None
    try:
        bands = tuple(int(part) for part in text.split(","))
    except ValueError:
        bands = ()
    if len(bands) not in (1, 3) or min(bands) < 1:
        raise UsageError(f"{text!r} names no bands. Give red, green and blue as in --bands 4,3,2, or one grey band.")
    return bands


def parse_range(text: str | None) -> tuple[float, float] | None:
    """Return the limits of ``lo,hi``.

    Raises
    ------
    UsageError
        When the text is not two numbers, the second larger.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high < float("inf") or low == float("-inf"):
        raise UsageError(f"{text!r} is no range. Give two numbers, the smaller first, as in --scale-range 0,10000.")
    return low, high


def parse_creation_options(items: list[str] | None) -> dict[str, str]:
    """Return the creation options of ``KEY=VALUE`` items.

    Raises
    ------
    UsageError
        When an item has no ``=``.
    """
    options = {}
    for item in items or []:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"{item!r} is no creation option. Write KEY=VALUE, as in --co COMPRESS=ZSTD.")
        options[key.strip().upper()] = value
    return options


def set_debug(value: bool) -> bool:
    """Remember that errors are to come with a traceback."""
    if value:
        os.environ["INFDEHAZE_DEBUG"] = "1"
    return value


def debug_wanted() -> bool:
    """Whether errors come with a traceback."""
    return os.environ.get("INFDEHAZE_DEBUG", "") not in ("", "0") or "--debug" in sys.argv


Debug = Annotated[bool, typer.Option("--debug", callback=set_debug, help="Show a traceback with an error.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Bands = Annotated[str | None, typer.Option(help="Red, green and blue band, e.g. 4,3,2, or one grey band.")]
ScaleRange = Annotated[
    str | None, typer.Option(metavar="LO,HI", help="Values that count as dark and bright; from the scene by default.")
]
Weights = Annotated[
    str, typer.Option(envvar="INFDEHAZE_WEIGHTS", help="Name of shipped weights, or a .safetensors file.")
]
GpuMem = Annotated[
    int | None,
    typer.Option(
        parser=size_option, metavar="SIZE", envvar="INFDEHAZE_GPU_MEM", help="Device memory, e.g. 4G (K, M, G: 1024s)."
    ),
]
Ram = Annotated[
    int,
    typer.Option(parser=size_option, metavar="SIZE", envvar="INFDEHAZE_RAM", help="Host memory for the scene."),
]
Scratch = Annotated[
    Path | None, typer.Option(help="Folder for work files; INFDEHAZE_SCRATCH or the system's by default.")
]
Residuals = Annotated[Literal["auto", "dram", "ssd", "recompute"], typer.Option(help="Where residuals are kept.")]
ResidualDtype = Annotated[Literal["fp32", "fp16", "bf16", "int8"], typer.Option(help="How residuals are kept.")]
Codec = Annotated[
    Literal["none", "lz4", "zstd", "blosc"], typer.Option(help="How chunks in DRAM and on SSD are compressed.")
]
Batch = Annotated[int | None, typer.Option(min=1, help="Tiles at a time; from the scene and the budget by default.")]
DeviceName = Annotated[str, typer.Option("--device", envvar="INFDEHAZE_DEVICE", help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[Literal["auto", "fp32", "fp16", "bf16"], typer.Option(help="Of the computation.")]
Overlap = Annotated[int | None, typer.Option(min=0, help="Pixels by which tiles overlap; from the preset by default.")]
Strength = Annotated[float, typer.Option(min=0.0, max=1.0, help="How much of the haze is taken away.")]
