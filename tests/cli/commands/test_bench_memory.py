"""`infdehaze bench memory`: rows, tables, JSON, plot, and what is refused before anything is measured."""

import json
from dataclasses import replace

import pytest
from infdehaze.presets import PRESETS
from matplotlib import image

from infdehaze_cli.bench.memory import MemoryRequest, bench_memory, sizes_up_to
from infdehaze_cli.errors import UsageError
from infdehaze_cli.plan import RunConfig

MiB = 1024**2
ROW = {
    "method", "weights", "random_weights", "size", "megapixels", "tier", "ended", "reason", "batch",
    "peak_device_bytes", "predicted_device_bytes", "peak_rss_bytes", "scratch_bytes", "seconds",
    "seconds_per_megapixel",
}  # fmt: skip


class Notes:
    """A reporter that remembers."""

    def __init__(self):
        self.steps, self.notes = {}, []

    def phase(self, name, total):
        self.steps[name] = [0, total]
        self._name = name

    def advance(self, steps=1):
        self.steps[self._name][0] += steps

    def note(self, text):
        self.notes.append(text)


def test_rows_go_from_small_to_large_and_a_baseline_that_died_is_not_tried_again(tiny_checkpoint, scratch):
    reporter = Notes()
    request = MemoryRequest(
        sizes=(768, 64, 512),
        weights=(str(tiny_checkpoint),),
        tiers=("ssd",),
        baselines=("direct",),
        limit=16 * MiB,
        config=RunConfig(scratch=scratch, device="cpu", batch=2),
    )

    report = bench_memory(request, reporter=reporter)

    rows = [(row.size, row.method, row.answer.ended, row.answer.batch) for row in report.rows]
    assert rows == [
        (64, "streamed", "done", 1),
        (64, "direct", "done", None),
        (512, "streamed", "done", 2),
        (512, "direct", "out of memory", None),
        (768, "streamed", "done", 2),
    ]
    first, second, third = (row.answer for row in report.rows if row.method == "streamed")
    assert first.scratch_bytes < second.scratch_bytes < third.scratch_bytes
    assert report.direct_died_at() == {str(tiny_checkpoint): 512}
    assert reporter.steps == {"scene": [1, 1], "measure": [6, 6]}
    assert len(reporter.notes) == 5
    assert list(scratch.iterdir()) == []


def test_json_holds_every_row_the_ablation_and_the_summary_and_a_plot_is_drawn(cli, tmp_path, scratch):
    plot = tmp_path / "memory.png"

    ended = cli(
        *("bench", "memory", "--sizes", "64", "--residuals", "recompute", "--baselines", "patches", "-q", "--json"),
        *("--ablation", "100", "--plot", plot, "--gpu-mem", "1G", "--ram", "2G", "--limit", "1G"),
    )

    found = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert set(found) == {
        *("device", "gpu_mem", "ram", "limit_bytes", "rows", "ablation"),
        *("flat_from", "spread_percent", "direct_died_at", "summary"),
    }
    assert (found["device"], found["gpu_mem"], found["ram"], found["limit_bytes"]) == ("cpu", 1 << 30, 2 << 30, 1 << 30)
    assert [(row["method"], row["tier"]) for row in found["rows"]] == [("streamed", "recompute"), ("patches", None)]
    # a scene of four tiles has no batch of 16
    ablation = [(row["batch"], row["tier"], row["size"]) for row in found["ablation"]]
    assert ablation == [(1, "dram", 100), (1, "recompute", 100), (4, "dram", 100), (4, "recompute", 100)]
    for row in (*found["rows"], *found["ablation"]):
        assert set(row) == ROW
        assert row["ended"] == "done"
        assert row["peak_device_bytes"] > 0
        assert row["seconds_per_megapixel"] == pytest.approx(row["seconds"] / row["megapixels"])
    assert image.imread(plot).ndim == 3
    assert list(scratch.iterdir()) == []


def test_a_preset_without_weights_runs_with_random_ones_and_says_so(cli, monkeypatch, tiny):
    # a preset as the others, but small
    monkeypatch.setitem(PRESETS, "small", replace(tiny, name="small"))

    ended = cli(
        "bench", "memory", "--sizes", "64", "--weights", "small", "--residuals", "recompute", "--baselines", "none"
    )

    assert ended.code == 0
    for words in ("memory on cpu", "small (random), recompute", "predicted", "s / Mpx", "one size alone"):
        assert words in ended.out
    assert "64 px, small (random), recompute, batch 1: device" in ended.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--max", "10"], 2),
        (["--max", "0"], 2),
        (["--max", "large"], 2),
        (["--sizes", "large"], 2),
        (["--sizes", "1024,"], 2),
        (["--sizes", "10"], 2),
        (["--sizes", "10000000"], 2),
        (["--sizes", "64", "--max", "2048"], 2),
        (["--ablation", "10"], 2),
        (["--weights", ","], 2),
        (["--weights", "unknown"], 3),
        (["--residuals", "tape"], 2),
        (["--residuals", "dram,,tape"], 2),
        (["--residuals", ""], 2),
        (["--baselines", "magic"], 2),
        (["--limit", "0"], 2),
        (["--limit", "much"], 2),
        (["--batch", "0"], 2),
        (["--device", "abacus"], 2),
        (["--gpu-mem", "1K"], 4),
        (["--scratch", "missing/folder"], 5),
        (["--plot", "missing/folder/memory.png"], 2),
        (["--plot", "memory.jpg"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_measured_is_refused_in_a_line_at_once(cli, scratch, arguments, code):
    ended = cli("bench", "memory", *arguments)

    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1)
    assert ended.err.startswith("infdehaze: ")
    assert list(scratch.iterdir()) == []


def test_sizes_are_doubled_up_to_the_largest():
    assert sizes_up_to(16_384) == (1024, 2048, 4096, 8192, 16_384)
    assert sizes_up_to(3000) == (1024, 2048)
    with pytest.raises(UsageError, match="--sizes"):
        sizes_up_to(1023)
