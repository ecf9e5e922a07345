"""Contact sheets: pictures in rows and columns, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import Scene

PANEL = 320
"""Pixels of the longer side of a picture on a sheet, at most."""
ROWS = 12
"""Pictures that a sheet holds."""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row of a sheet."""

    label: str
    pictures: Mapping[str, NDArray[np.uint8]]
    """By column: (rows, cols, 3)."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """By column, shown in a corner of the picture."""


def check_sheet(path: Path) -> None:
    """Tell before the work whether a sheet can be drawn after it.

    Raises
    ------
    UsageError
        When the file is of another type than PNG or JPEG.
    StorageError
        When its folder does not exist.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{path} is no picture file. Give --sheet a name that ends in .png or .jpg.")
    if not path.parent.is_dir():
        raise StorageError(f"There is no folder {path.parent}. Make it, or put the sheet elsewhere.")


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the numbers below ``count``, evenly chosen, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i) for i in np.linspace(0, count - 1, most)})


def shrink(picture_CHW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture with values 0..1, shape (3, h, w), as (rows, cols, 3) of at most ``PANEL`` pixels a side."""
    factor = max(1.0, max(picture_CHW.shape[1:]) / PANEL)
    size = [max(1, round(side / factor)) for side in picture_CHW.shape[1:]]
    small = F.interpolate(torch.from_numpy(np.ascontiguousarray(picture_CHW))[None], size=size, mode="area")[0]
    return np.moveaxis((small.clamp(0, 1) * 255).round().byte().numpy(), 0, 2)


def read_panels(paths: Mapping[str, Path]) -> dict[str, NDArray[np.uint8]]:
    """Read rasters of one scene for a row, all scaled by the limits of the first.

    Raises
    ------
    InputError
        When one cannot be read.
    """
    limits: tuple[float, float] | None = None
    panels = {}
    for name, path in paths.items():
        with Scene.open(path, scale_range=limits) as scene:
            limits = (scene.limits.lo, scene.limits.hi)
            panels[name] = shrink(scene.read(Window(0, 0, scene.height, scene.width)).values)
    return panels


def draw_sheet(rows: Sequence[SheetRow], out: Path) -> Path:
    """Draw rows of pictures, with the names of the columns above the first, to a PNG or JPEG.

    Raises
    ------
    UsageError, StorageError
        As `check_sheet`, and when the file cannot be written.
    """
    check_sheet(out)
    # pyplot would choose a window system; the figure alone needs none
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = list(rows[0].pictures)
    # a row is as high as its highest picture needs; upright ones are narrower instead
    heights = [min(1.0, max(p.shape[0] / p.shape[1] for p in row.pictures.values())) for row in rows]
    panel, top, left = 2.6, 0.3, 0.25
    width, height = panel * len(columns) + left, panel * sum(heights) + top
    figure = Figure(figsize=(width, height), dpi=PANEL / panel)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(rows),
        len(columns),
        height_ratios=heights,
        left=left / width,
        right=1,
        bottom=0,
        top=1 - top / height,
        wspace=0.015,
        hspace=0.015,
    )
    for i, row in enumerate(rows):
        for j, name in enumerate(columns):
            axes = figure.add_subplot(grid[i, j])
            axes.imshow(row.pictures[name], interpolation="antialiased")
            axes.set(xticks=[], yticks=[], frame_on=False)
            if i == 0:
                axes.set_title(name, fontsize=9, pad=3)
            if j == 0:
                axes.set_ylabel(row.label, fontsize=7, labelpad=2)
            if name in row.captions:
                style = {"facecolor": "black", "alpha": 0.55, "pad": 1.5, "linewidth": 0}
                axes.text(
                    0.02, 0.02, row.captions[name], transform=axes.transAxes, fontsize=7, color="white", bbox=style
                )
    try:
        figure.savefig(out, pil_kwargs={} if out.suffix.lower() == ".png" else {"quality": 88})
    except OSError as error:
        raise StorageError(f"{out} cannot be written ({error.strerror or error}). Check the folder.") from error
    return out
