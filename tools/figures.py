"""Draw the figures of ``docs/how-it-works.md`` as SVG. Sizes in the third come from the formulas that `plan` uses.

python tools/figures.py docs/images
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

from infdehaze.network import InfDehaze, count_parameters
from infdehaze.presets import PRESETS
from infdehaze.weights import read_info

from infdehaze_cli.memory import predict_device_bytes
from infdehaze_cli.plan import GiB, RunConfig
from infdehaze_cli.planner import make_plan
from infdehaze_cli.sizes import format_size

INK, SOFT, LINE = "#1c2430", "#5a6675", "#c3ccd6"
DEVICE, HOST, DISK = "#dbe9ff", "#e2f3e5", "#fbeed3"
STRONG = {DEVICE: "#2f81f7", HOST: "#2da44e", DISK: "#d98e04"}


class Drawing:
    """Collects shapes on a white sheet, which is read on light and dark pages alike."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'font-family="system-ui, sans-serif" font-size="14" fill="{INK}"><title>{escape(title)}</title>\n'
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="{SOFT}"/></marker></defs>\n'
            f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>'
        )
        self._shapes: list[str] = []

    def box(self, x: float, y: float, w: float, h: float, fill: str, *lines: str, edge: str | None = None) -> None:
        """Draw a box with lines of text in its middle."""
        edge = edge or STRONG.get(fill, LINE)
        self._shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="4" fill="{fill}" stroke="{edge}"/>'
        )
        for i, line in enumerate(lines):
            self.text(x + w / 2, y + h / 2 + 5 + 18 * (i - (len(lines) - 1) / 2), line, "middle")

    def text(
        self, x: float, y: float, words: str, anchor: str = "start", colour: str = INK, bold: bool = False
    ) -> None:
        """Write words; ``y`` is their base line."""
        weight = ' font-weight="600"' if bold else ""
        self._shapes.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(words)}</text>'
        )

    def arrow(self, *points: tuple[float, float], both: bool = False) -> None:
        """Draw a line through points with a tip at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        start = ' marker-start="url(#tip)"' if both else ""
        self._shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{SOFT}" stroke-width="1.6" marker-end="url(#tip)"{start}/>'
        )

    def rect(self, x: float, y: float, w: float, h: float, fill: str, stroke: str = "none", dash: str = "") -> None:
        """Draw a bare rectangle."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{fill}" stroke="{stroke}"{dashes}/>'
        )

    def circle(self, x: float, y: float, radius: float, colour: str) -> None:
        """Draw a ring."""
        self._shapes.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, colour: str = LINE, width: float = 1) -> None:
        """Draw a straight line."""
        self._shapes.append(
            f'<path d="M{x:g} {y:g} L{to_x:g} {to_y:g}" stroke="{colour}" stroke-width="{width:g}" fill="none"/>'
        )

    def svg(self) -> str:
        """Return the file."""
        return "\n".join([self._head, *self._shapes, "</svg>", ""])


def algorithm() -> str:
    """Draw algorithm 1: three phases, and what lies on the device, in host memory and on disk."""
    d = Drawing(960, 470, "Algorithm 1, streamed: encode, bottleneck, decode")
    for x, name in ((160, "1. encode"), (430, "2. bottleneck"), (700, "3. decode")):
        d.text(x + 115, 34, name, "middle", bold=True)
    for y, name, words in ((60, "device", "--gpu-mem"), (190, "host", "--ram"), (370, "disk", "--scratch")):
        d.text(24, y + 34, name, bold=True)
        d.text(24, y + 54, words, colour=SOFT)
    d.box(160, 56, 230, 70, DEVICE, "encoder", "a batch of tiles")
    d.box(430, 56, 230, 70, DEVICE, "IBSSA, LMMoE, four times", "a chunk of tokens")
    d.box(700, 56, 230, 70, DEVICE, "decoder", "a batch of tiles")
    d.box(160, 180, 500, 44, HOST, "latents of the whole scene")
    d.box(160, 244, 500, 44, HOST, "residuals, as far as they fit")
    d.box(
        700,
        180,
        230,
        108,
        HOST,
        "optical depth, airlight, residual",
        "joined and smoothed,",
        "then J = A + (I - A) exp(d) + r",
    )
    d.box(160, 360, 230, 64, DISK, "source", "read by tiles")
    d.box(430, 360, 230, 64, DISK, "what memory cannot hold", "with checksums")
    d.box(700, 360, 106, 64, DISK, "source", "once more")
    d.box(824, 360, 106, 64, DISK, "output", "checked")
    d.arrow((146, 392), (146, 91), (158, 91))
    d.line(160, 392, 146, 392, SOFT, 1.6)
    d.arrow((215, 128), (215, 178))
    d.arrow((285, 128), (285, 242))
    d.arrow((545, 128), (545, 178), both=True)
    d.arrow((545, 290), (545, 358), both=True)
    d.arrow((662, 202), (680, 202), (680, 78), (698, 78))
    d.arrow((662, 266), (690, 266), (690, 106), (698, 106))
    d.arrow((815, 128), (815, 178))
    d.arrow((753, 358), (753, 290))
    d.arrow((877, 290), (877, 358))
    d.text(160, 452, "Reading, computing, storing and writing are threads with short queues between them.", colour=SOFT)
    return d.svg()


def tiles() -> str:
    """Draw how a scene is cut, how latents of all tiles make one grid, and what crosses borders."""
    preset = PRESETS["lite"]
    side, cell = preset.latent_side, preset.tile // preset.latent_side
    d = Drawing(960, 400, "Tiles, the grid of latents, and what crosses the borders of tiles")
    cols, rows, size = 5, 4, 56
    left, top = 30, 70
    d.text(left, 34, f"The scene: tiles of {preset.tile} px", bold=True)
    d.rect(left, top, cols * size, rows * size, "#eef1f5")
    d.rect(left, top, 4.4 * size, 3.5 * size, DISK)
    d.rect(left + 2 * size, top + size, size, size, DEVICE)
    for i in range(cols + 1):
        d.line(left + i * size, top, left + i * size, top + rows * size, STRONG[DISK])
    for i in range(rows + 1):
        d.line(left, top + i * size, left + cols * size, top + i * size, STRONG[DISK])
    d.rect(left, top, 4.4 * size, 3.5 * size, "none", INK)
    d.text(left, 322, "Beyond its edge (grey) the scene", colour=SOFT)
    d.text(left, 342, "is mirrored. Blue: a tile on the", colour=SOFT)
    d.text(left, 362, "device.", colour=SOFT)
    left = 345
    d.text(left, 34, f"The bottleneck: {side} x {side} tokens a tile", bold=True)
    step = size / side
    first, last = 5, 8
    d.rect(left, top, cols * size, rows * size, HOST)
    d.rect(left, top + (first - 2) * step, cols * size, (last - first + 5) * step, "#fff3c4")
    d.rect(left, top + first * step, cols * size, (last - first + 1) * step, DEVICE)
    for i in range(cols * side + 1):
        d.line(left + i * step, top, left + i * step, top + rows * size, "#ffffff", 0.8)
    for i in range(rows * side + 1):
        d.line(left, top + i * step, left + cols * size, top + i * step, "#ffffff", 0.8)
    for i in range(cols + 1):
        d.line(left + i * size, top, left + i * size, top + rows * size, STRONG[HOST])
    for i in range(rows + 1):
        d.line(left, top + i * size, left + cols * size, top + i * size, STRONG[HOST])
    d.text(left, 322, f"A token stands for {cell} px. Rows on the", colour=SOFT)
    d.text(left, 342, "device (blue) come with a halo of two", colour=SOFT)
    d.text(left, 362, "(yellow); attention sees all of them.", colour=SOFT)
    left = 660
    d.text(left, 34, f"The result: a cell for {preset.field_stride} px", bold=True)
    d.rect(left, top, cols * size, rows * size, HOST)
    fine = size * preset.field_stride / preset.tile
    for i in range(round(cols * size / fine) + 1):
        d.line(left + i * fine, top, left + i * fine, top + rows * size, "#ffffff", 0.6)
    for i in range(round(rows * size / fine) + 1):
        d.line(left, top + i * fine, left + cols * size, top + i * fine, "#ffffff", 0.6)
    centre = left + 2 * size, top + 2 * size
    for sigma, colour in zip(preset.field_sigmas, (STRONG[DEVICE], STRONG[DISK]), strict=True):
        d.circle(*centre, sigma * preset.field_stride * size / preset.tile, colour)
    small, large = (round(sigma * preset.field_stride) for sigma in preset.field_sigmas)
    d.text(left, 322, f"Depth is smoothed by {small} px (blue),", colour=SOFT)
    d.text(left, 342, f"airlight by {large} px (orange), across", colour=SOFT)
    d.text(left, 362, "tiles: no border is left to show.", colour=SOFT)
    return d.svg()


def budget() -> str:
    """Draw what a run is predicted to take: on the device by batch, on the host by scene and ``--ram``."""
    preset = read_info("lite").preset
    parameters = count_parameters(InfDehaze(preset))
    d = Drawing(960, 430, "Predicted memory of the weights lite: on the device by batch, on the host by scene")
    d.text(30, 34, "Device: predicted peak of each phase, by batch", bold=True)
    most, wide = 256 * 1024**2, 330
    y = 58
    for batch in (1, 4, 16, 64):
        plan = make_plan(RunConfig(batch=batch, ram=64 * GiB), 4096, 4096, preset, parameters, "cpu")
        phases = predict_device_bytes(
            preset, parameters, batch, plan.chunk_tokens, plan.grid.cols * preset.latent_side, "fp32"
        )
        d.text(30, y + 42, f"{batch}", bold=True)
        for name, size in phases.items():
            d.rect(145, y, wide * size / most, 14, STRONG[DEVICE] if size == max(phases.values()) else DEVICE)
            d.text(138, y + 12, name, "end", SOFT)
            d.text(150 + wide * size / most, y + 12, format_size(size), colour=SOFT)
            y += 18
        y += 16
    d.text(30, 416, "The scene has no part in it. The darkest bar is what --gpu-mem must hold.", colour=SOFT)
    d.text(560, 34, "Host: what lies in memory, what goes to disk", bold=True)
    y, wide, most = 62, 195, 3 * GiB
    for side in (4096, 16384, 30000):
        for ram in (1, 4):
            plan = make_plan(RunConfig(ram=ram * GiB), side, side, preset, parameters, "cpu")
            memory = wide * plan.predicted_host_bytes / most
            d.text(560, y + 13, f"{side} px, --ram {ram}G", colour=INK)
            d.rect(720, y, memory, 16, STRONG[HOST])
            d.rect(720 + memory, y, wide * plan.scratch_bytes / most, 16, STRONG[DISK])
            words = format_size(plan.predicted_host_bytes)
            words += f" and {format_size(plan.scratch_bytes)} on disk" if plan.scratch_bytes else ""
            d.text(720, y + 34, words, colour=SOFT)
            y += 50
        y += 8
    return d.svg()


FIGURES: Mapping[str, Callable[[], str]] = {"algorithm.svg": algorithm, "tiles.svg": tiles, "budget.svg": budget}


def main(folder: Path) -> None:
    """Write all figures."""
    for name, draw in FIGURES.items():
        (folder / name).write_text(draw(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
