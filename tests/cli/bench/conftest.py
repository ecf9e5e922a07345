"""Rows as if they had been measured."""

import pytest

from infdehaze_cli.bench.job import Answer
from infdehaze_cli.bench.memory_rows import MemoryReport, MemoryRow

MiB = 1024**2


@pytest.fixture
def row():
    """Make a row; without ``peak`` it ran out of memory."""

    def make(method, size, peak=None, *, tier=None, weights="lite"):
        ended = "out of memory" if peak is None else "done"
        answer = Answer(ended=ended, peak_device_bytes=peak, seconds=None if peak is None else 2.0)
        return MemoryRow(method=method, weights=weights, random_weights=False, size=size, tier=tier, answer=answer)

    return make


@pytest.fixture
def report(row):
    """Make a report of what is given, or of one where ``direct`` died at 4096 px."""

    def make(*rows, **changes):
        rows = rows or (
            row("streamed", 1024, 40 * MiB, tier="ssd"),
            row("direct", 1024, 70 * MiB),
            row("streamed", 2048, 50 * MiB, tier="ssd"),
            row("direct", 2048, 280 * MiB),
            row("streamed", 4096, 51 * MiB, tier="ssd"),
            row("direct", 4096),
        )
        given = {"ablation": (), "device": "cpu", "gpu_mem": 64 * MiB, "ram": 1024 * MiB, "limit_bytes": 512 * MiB}
        return MemoryReport(rows=tuple(rows), **{**given, **changes})

    return make
