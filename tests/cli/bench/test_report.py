"""The benchmark report: what is measured, what the page and the JSON hold, and how two reports are compared."""

import base64
import copy
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from infdehaze_cli.bench import report as bench
from infdehaze_cli.bench.comparison import HEADER, compare
from infdehaze_cli.bench.quality import METHODS
from infdehaze_cli.bench.report_page import check_outputs, render, write_whole
from infdehaze_cli.engine import Silent
from infdehaze_cli.errors import InputError, StorageError, UsageError
from infdehaze_cli.plain import plain
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.training.haze import STYLES

SMALL = bench.Extent(
    sizes=(64,), tiers=("recompute",), baselines=(), speed_size=128, repeats=1, pictures=1, picture_size=64
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, tiny_checkpoint):
    """Measure little, for all tests of this module."""
    scratch = tmp_path_factory.mktemp("scratch")
    config = RunConfig(weights=str(tiny_checkpoint), scratch=scratch, device="cpu")
    found = bench.bench_report(bench.ReportRequest(config=config, extent=SMALL), reporter=Silent())
    assert list(scratch.iterdir()) == []
    return found


@pytest.fixture
def figures(measured):
    """The JSON of a report, to be changed."""
    return copy.deepcopy(plain(measured.to_dict()))


@pytest.fixture
def files(figures, tmp_path):
    """Write two reports, of which the second is changed by a function."""

    def write(change=lambda report: None):
        paths = tmp_path / "a.json", tmp_path / "b.json"
        paths[0].write_text(json.dumps(figures))
        changed = copy.deepcopy(figures)
        change(changed)
        paths[1].write_text(json.dumps(changed))
        return paths

    return write


@pytest.mark.slow
def test_the_json_names_machine_versions_commit_and_weights_and_no_folder(figures, tiny_checkpoint, tmp_path):
    assert (figures["format"], figures["format_version"]) == ("infdehaze-bench", 1)
    assert {"processor", "cores", "threads", "memory_bytes", "load", "device"} <= set(figures["machine"])
    assert {"infdehaze", "torch", "GDAL", "python"} <= set(figures["versions"])
    assert figures["commit"] is None or re.match(r"[0-9a-f]{40}", figures["commit"])
    assert figures["weights"]["name"] == tiny_checkpoint.name
    assert len(figures["weights"]["sha256"]) == 64
    assert str(tiny_checkpoint.parent) not in json.dumps(figures)
    assert str(tmp_path.parent) not in json.dumps(figures)


@pytest.mark.slow
def test_speed_memory_and_quality_are_measured(figures):
    assert figures["speed"]["ratio"] > 0
    assert figures["speed"]["run"]["width"] == SMALL.speed_size
    assert [(row["size"], row["tier"]) for row in figures["memory"]["rows"]] == [(64, "recompute")]
    assert list(figures["quality"]) == ["clear", *STYLES]
    assert "1 made-up landscapes of 64 x 64 px" in figures["pictures"]
    assert figures["seconds"]["total"] == pytest.approx(sum(figures["seconds"].values()) / 2, abs=0.02)


class Page(HTMLParser):
    """Collects elements, and checks that they are closed in order."""

    def __init__(self, content):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(content)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "source"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


@pytest.mark.slow
def test_the_page_holds_plots_tables_and_a_sheet_and_asks_for_nothing(measured):
    page = render(measured)

    found = Page(page)
    sources = [a.get("src", a.get("srcset")) for tag, a in found.elements if tag in ("img", "source")]
    # three plots, each light and dark, and the sheet
    assert [source.partition(";")[0] for source in sources] == ["data:image/svg+xml"] * 6 + ["data:image/jpeg"]
    assert all(a["alt"] for tag, a in found.elements if tag == "img")
    drawn = base64.b64decode(sources[0].partition(",")[2]).decode()
    assert "<svg" in drawn
    assert {tag for tag, _ in found.elements} & {"script", "link", "iframe"} == set()
    without = re.sub(r"data:[^\"]+", "", page)
    assert "http" not in without.replace("http-equiv", "")
    for method in METHODS:
        assert method.replace("_", " ") in page
    assert measured.weights_sha256 in page


@pytest.mark.slow
def test_what_a_report_says_of_the_machine_is_escaped(measured):
    odd = replace(measured, machine={**measured.machine, "processor": "<b>&"}, weights="<i>")

    page = render(odd)

    assert "<b>" not in page
    assert "<i>" not in page


@pytest.mark.slow
def test_a_report_equals_itself(files):
    found = compare(*files())

    assert {row.difference for row in found.rows} == {0.0}
    assert {row.ratio for row in found.rows} <= {1.0, None}
    assert [note for note in found.notes if "busy" not in note] == []
    assert all(len(row.cells()) == len(HEADER) for row in found.rows)


def change_all(report):
    report["machine"]["processor"] = "an abacus"
    report["machine"]["load"] = 1e3
    report["versions"]["torch"] = "0.1"
    report["commit"] = "0" * 40
    report["weights"]["sha256"] = "f" * 64
    report["extent"]["sizes"] = [64, 128]
    report["pictures"] = "others"
    report["speed"]["bare_seconds"] *= 2
    report["memory"]["rows"][0]["peak_device_bytes"] = None
    for each in report["quality"]["veil"]["pictures"].values():
        each["input"]["psnr"] += 1


@pytest.mark.slow
def test_what_differs_is_told_and_what_is_missing_is_left_empty(files):
    found = compare(*files(change_all))

    notes = " ".join(found.notes)
    for words in ("abacus", "torch", "commit", "weights", "--quick", "others", "hazy pictures", "of b was busy"):
        assert words in notes
    rows = {row.name: row for row in found.rows}
    assert rows[f"bare forward pass, {SMALL.speed_size} px"].ratio == pytest.approx(2)
    gone = rows["device, recompute, 64 px"]
    assert gone.a > 0
    assert (gone.b, gone.difference, gone.ratio) == (None, None, None)
    assert gone.cells()[2:] == ("", "", "")


@pytest.mark.slow
def test_the_weights_may_have_another_name_and_their_figures_still_meet(files):
    def rename(report):
        report["memory"]["spread_percent"] = {"new, weights, recompute": 0.5}
        report["memory"]["rows"][0]["weights"] = "new, weights"

    found = compare(*files(rename))

    memory = [row for row in found.rows if row.section == "memory"]
    assert [row.name for row in memory if row.a is None] == ["spread of device bytes over sizes, recompute"]


@pytest.mark.slow
def test_a_figure_that_only_one_report_has_is_listed(files):
    found = compare(*files(lambda report: report["memory"]["rows"].append({**report["memory"]["rows"][0], "size": 96})))

    extra = [row for row in found.rows if "96 px" in row.name]
    assert extra
    assert all(row.a is None for row in extra)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.pop("speed"),
        lambda report: report["speed"].update(ratio="fast"),
        lambda report: report["speed"].update(ratio=True),
        lambda report: report["speed"].update(ratio=math.inf),
        lambda report: report["speed"].update(ratio=10**400),
        lambda report: report.update(memory=[]),
        lambda report: report["quality"]["veil"]["means"].pop("infdehaze"),
        lambda report: report.update(machine=None),
        lambda report: report["machine"].pop("load"),
        lambda report: report["quality"]["veil"].pop("pictures"),
    ],
    ids=["no speed", "words", "yes", "endless", "huge", "list", "no method", "no machine", "no load", "no pictures"],
)
def test_a_report_that_lacks_a_part_is_refused(files, change):
    with pytest.raises(InputError, match=r"b\.json is damaged"):
        compare(*files(change))


def test_files_that_cannot_be_written_are_refused_before_measuring(monkeypatch, tmp_path):
    page = tmp_path / "page.html"
    (tmp_path / "old.json").write_text("old")

    for other in (tmp_path, tmp_path / "missing" / "a.json", page, tmp_path / "old.json"):
        with pytest.raises(UsageError):
            check_outputs((page, other), overwrite=False)
    check_outputs((page, tmp_path / "old.json"), overwrite=True)
    # root may write anywhere
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(StorageError):
        check_outputs((page,), overwrite=False)


def test_no_file_gets_its_name_where_one_cannot_be_written(tmp_path):
    with pytest.raises(StorageError):
        write_whole({tmp_path / "page.html": b"page", tmp_path / "missing" / "a.json": b"{}"})

    assert list(tmp_path.iterdir()) == []
