"""`infdehaze bench report` and `infdehaze bench compare`, through the whole tool."""

import json

import pytest

from infdehaze_cli.bench import report as bench

SMALL = bench.Extent(
    sizes=(64,), tiers=("recompute",), baselines=(), speed_size=128, repeats=1, pictures=1, picture_size=64
)


@pytest.fixture
def small(monkeypatch):
    """Measure less than little."""
    monkeypatch.setattr(bench, "QUICK", SMALL)


def test_a_page_and_figures_are_written_whole_and_compare(cli, small, listing, scratch, tmp_path):
    page = tmp_path / "bench.html"

    ended = cli("bench", "report", "--quick", "-o", page)

    figures = tmp_path / "bench.json"
    assert ended.code == 0
    for words in ("seconds a megapixel", "mean gain", str(page), str(figures)):
        assert words in ended.out
    assert sorted(tmp_path.iterdir()) == [page, figures]
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert listing(scratch) == {}
    again = cli("bench", "report", "--quick", "-o", page)
    assert (again.code, again.out, again.err.count("\n")) == (2, "", 1)

    table = cli("bench", "compare", figures, figures)
    compared = cli("bench", "compare", figures, figures, "--json")

    assert (table.code, compared.code, compared.err) == (0, 0, "")
    assert "quality: mean gain" in table.out
    assert {row["difference"] for row in json.loads(compared.out)["rows"]} == {0.0}


def test_missing_pictures_are_told_before_anything_is_measured(cli, small, tmp_path):
    ended = cli("bench", "report", "-o", tmp_path / "a.html", "--clear", tmp_path / "none")

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-o", "missing/a.html"], 2),
        (["-o", "."], 2),
        (["-o", "a.html", "--json-file", "a.html"], 2),
        (["-o", "a.json"], 2),
        (["--weights", "unknown"], 3),
        (["--device", "abacus"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_measured_or_written_is_refused_in_a_line(cli, monkeypatch, tmp_path, words, code):
    monkeypatch.chdir(tmp_path)

    ended = cli("bench", "report", *words)

    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"\x89PNG\r\n", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1, 2]", "no benchmark report"),
        (b"{}", "no benchmark report"),
        (b'{"format": "infdehaze-bench", "format_version": 99}', "format version 99"),
        (b'{"format": "infdehaze-bench"}', "format version None"),
        (b'{"format": "infdehaze-bench", "format_version": 1}', "damaged"),
    ],
    ids=["missing", "picture", "cut off", "deep", "list", "empty", "newer", "no version", "no figures"],
)
def test_what_is_no_report_is_3_and_said_in_a_line(cli, tmp_path, content, said):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)

    ended = cli("bench", "compare", path, path)

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert said in ended.err


def test_a_folder_is_no_report(cli, tmp_path):
    ended = cli("bench", "compare", tmp_path, tmp_path)

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "is a folder" in ended.err
