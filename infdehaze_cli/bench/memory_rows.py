"""What ``infdehaze bench memory`` finds: a row a run, and what follows from all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from infdehaze_cli.sizes import format_size

from .job import Answer, Method

FLAT_FROM = 2048
"""Side in pixels from which on device memory must not grow: below, a scene has hardly more tiles than a batch."""

Tier = Literal["dram", "ssd", "recompute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """One run: what it was, how it ended, what it took."""

    method: Method
    weights: str
    random_weights: bool
    size: int
    tier: Tier | None
    answer: Answer

    @property
    def label(self) -> str:
        """The row's line in a plot: all but the size."""
        name = f"{self.weights} (random)" if self.random_weights else self.weights
        return f"{name}, {self.tier if self.method == 'streamed' else self.method}"

    @property
    def megapixels(self) -> float:
        """Size of the scene."""
        return self.size**2 / 1e6

    @property
    def seconds_per_megapixel(self) -> float | None:
        """Wall time, from opening the source to the finished output."""
        return None if self.answer.seconds is None else self.answer.seconds / self.megapixels

    def describe(self) -> str:
        """Return the row as a line of progress."""
        peak, batch = self.answer.peak_device_bytes, self.answer.batch
        took = self.answer.ended if peak is None else f"device {format_size(peak)}"
        return f"{self.size} px, {self.label}{f', batch {batch}' if batch else ''}: {took}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values, without nesting."""
        named = {"method": self.method, "weights": self.weights, "random_weights": self.random_weights}
        named |= {"size": self.size, "megapixels": self.megapixels, "tier": self.tier}
        return {**named, **asdict(self.answer), "seconds_per_megapixel": self.seconds_per_megapixel}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReport:
    """All rows, and what follows from them."""

    rows: tuple[MemoryRow, ...]
    ablation: tuple[MemoryRow, ...]
    device: str
    gpu_mem: int | None
    ram: int
    limit_bytes: int

    def spread(self) -> dict[str, float]:
        """Return by how much device bytes differ from ``FLAT_FROM`` px up, in per cent of the least, by label.

        Runs with fewer than two such sizes are left out.
        """
        peaks: dict[str, list[int]] = {}
        for row in self.rows:
            if row.method == "streamed" and row.size >= FLAT_FROM and row.answer.peak_device_bytes:
                peaks.setdefault(row.label, []).append(row.answer.peak_device_bytes)
        return {label: 100 * (max(p) / min(p) - 1) for label, p in peaks.items() if len(p) > 1}

    def direct_died_at(self) -> dict[str, int | None]:
        """Return the smallest size for which the memory did not suffice for ``direct``, by weights."""
        died: dict[str, int | None] = {}
        for row in self.rows:
            if row.method == "direct":
                dead = row.answer.ended == "out of memory"
                died[row.weights] = died.get(row.weights) or (row.size if dead else None)
        return died

    def summary(self) -> str:
        """Return what was seen, in a line."""
        spread, said = self.spread(), []
        if spread:
            said.append(f"device bytes flat within {max(spread.values()):.2f} % from {FLAT_FROM} px up")
        limit = format_size(self.limit_bytes)
        for weights, size in self.direct_died_at().items():
            largest = max(row.size for row in self.rows if row.method == "direct" and row.weights == weights)
            end = f"lived up to {largest} px" if size is None else f"died at {size} px"
            said.append(f"direct {end} ({weights}, {limit} allowed)")
        return "; ".join(said) or "one size alone says nothing of how memory grows"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            "device": self.device,
            "gpu_mem": self.gpu_mem,
            "ram": self.ram,
            "limit_bytes": self.limit_bytes,
            "rows": [row.to_dict() for row in self.rows],
            "ablation": [row.to_dict() for row in self.ablation],
            "flat_from": FLAT_FROM,
            "spread_percent": self.spread(),
            "direct_died_at": self.direct_died_at(),
            "summary": self.summary(),
        }
