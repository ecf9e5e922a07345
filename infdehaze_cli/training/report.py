"""What a run leaves to look at: curves as CSV and PNG, and sample pictures."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor

from infdehaze_cli.errors import UsageError

GAP = 4
"""White pixels between sample pictures."""

CURVES = {"loss": "loss", "image_loss": "mean absolute error", "psnr_gain": "gain over the input, dB", "lr": "rate"}
"""Columns of the curves that are drawn, and what they are."""


class Curve:
    """Numbers over steps in ``curve.csv``, and drawn in ``curve.png`` beside it.

    Rows beyond ``step`` belong to a part of the run that was lost and is done again; they are removed.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._columns: list[str] = []
        if path.exists() and (lines := path.read_text()):
            rows = self.read()
            if "step" not in self._columns:
                raise UsageError(f"{path} is not the curve of a run. Name another folder for the run.")
            kept = [row for row in rows if row["step"] <= step]
            # a line that a crash has cut off would become one with the next
            if 1 + len(kept) < len(lines.splitlines()) or not lines.endswith("\n"):
                self._write(kept, "w")

    def read(self) -> list[dict[str, float]]:
        """Return the rows; lines that a crash has cut off are left out."""
        with self._path.open(newline="") as file:
            reader = csv.DictReader(file)
            self._columns = list(reader.fieldnames or [])
            rows = []
            for row in reader:
                try:
                    rows.append({key: float(row[key]) for key in self._columns})
                except (TypeError, ValueError):
                    continue
        return rows

    def append(self, row: dict[str, float]) -> None:
        """Add a row; the first one says what the columns are."""
        new = not self._columns
        if new:
            self._columns = list(row)
        self._write([row], "w" if new else "a")

    def _write(self, rows: list[dict[str, float]], mode: str) -> None:
        with self._path.open(mode, newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")
            if mode == "w":
                writer.writeheader()
            for row in rows:
                writer.writerow({k: int(v) if k == "step" else round(v, 8) for k, v in row.items()})

    def draw(self) -> None:
        """Draw the PNG, if there is anything to draw."""
        # pyplot would choose a window system; the figure alone needs none
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        rows = self.read() if self._path.exists() else []
        if not rows:
            return
        figure = Figure(figsize=(10, 6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(2, 2, sharex=True).flat
        for axes, (column, title) in zip(panels, CURVES.items(), strict=True):
            shown = [(row["step"], row[column]) for row in rows if column in row]
            axes.plot(*np.array(shown).reshape(-1, 2).T, linewidth=1)
            axes.set_title(title, fontsize=10)
            axes.grid(alpha=0.3)
        partial = self._path.with_name("curve.png.partial")
        figure.savefig(partial, format="png", dpi=100)
        partial.replace(self._path.with_suffix(".png"))


def write_samples(path: Path, *columns: Tensor) -> None:
    """Write pictures as one PNG: a row for each sample, a column for each argument.

    Parameters
    ----------
    path : Path
        Where to; its folder is made.
    *columns : Tensor
        (B, 3, H, W) each, of one shape, values 0..1.
    """
    sheet = sheet_of(*columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    _, height, width = sheet.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(partial, "w", driver="PNG", width=width, height=height, count=3, dtype="uint8") as file:
            file.write(sheet)
    partial.replace(path)


def sheet_of(*columns: Tensor) -> NDArray[np.uint8]:
    """Put pictures side by side on white: (3, rows, cols)."""
    B, _, H, W = columns[0].shape
    sheet = np.full((3, B * (H + GAP) - GAP, len(columns) * (W + GAP) - GAP), 255, np.uint8)
    for j, column_B3HW in enumerate(columns):
        pictures = (column_B3HW.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        for i, picture in enumerate(pictures):
            row, col = i * (H + GAP), j * (W + GAP)
            sheet[:, row : row + H, col : col + W] = picture
    return sheet
