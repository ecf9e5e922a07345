"""`run --out-dir`: several sources, their names kept, and one failure stops none of the others."""

import json

import pytest

from infdehaze_cli.batch import name_outputs
from infdehaze_cli.errors import UsageError


def test_several_sources_keep_their_names(cli, make_raster, read_raster, tmp_path):
    sources = [make_raster("north.tiff"), make_raster("deep.south.tif", bands=1)]
    clean = tmp_path / "clean"
    clean.mkdir()

    ended = cli("run", *sources, "--out-dir", clean)

    assert ended.code == 0
    assert sorted(path.name for path in clean.iterdir()) == ["deep.south.tif", "north.tif"]
    assert len(ended.out.splitlines()) == 2
    for src, name in zip(sources, ("north.tif", "deep.south.tif"), strict=True):
        assert read_raster(clean / name).place == read_raster(src).place


def test_a_failure_stops_no_other_and_the_worst_code_comes_last(cli, make_raster, tmp_path, scratch):
    good, broken, missing = make_raster("good.tif"), tmp_path / "broken.tif", tmp_path / "missing.tif"
    broken.write_bytes(b"no raster")
    clean = tmp_path / "clean"
    clean.mkdir()

    ended = cli("run", broken, missing, good, "--out-dir", clean, "--json", "-q")

    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 3
    assert [path.name for path in clean.iterdir()] == ["good.tif"]
    assert [line.get("exit_code", 0) for line in lines] == [3, 3, 0]
    assert [line["src"] for line in lines] == [str(broken), str(missing), str(good)]
    assert "missing.tif" in lines[1]["error"]
    assert lines[2]["tiles"] > 0
    assert ended.err.count("\n") == 2
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "overwrite", "hint"),
    [
        (["a.tif", "sub/a.jp2"], False, "would both be written"),
        (["a.tif", "sub/A.tif"], True, "would both be written"),
        (["a.tif", "old.tif"], False, "--overwrite"),
        (["a.tif", "clean/b.jp2", "clean/c.tif"], True, "one of the sources"),
    ],
)
def test_clashes_are_refused_before_anything_is_done(tmp_path, names, overwrite, hint):
    for folder in ("sub", "clean"):
        (tmp_path / folder).mkdir()
    for name in [*names, "clean/old.tif"]:
        (tmp_path / name).write_bytes(b"")

    with pytest.raises(UsageError, match=hint):
        name_outputs([str(tmp_path / name) for name in names], str(tmp_path / "clean"), overwrite=overwrite)


def test_a_folder_must_be_there(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        name_outputs(["a.tif"], str(tmp_path / "none"), overwrite=False)


def test_urls_keep_their_names_too(tmp_path):
    pairs = name_outputs(["https://u:p@host/x/a.jp2?sig=1", "s3://bucket/b.tif"], "s3://bucket/clean/", overwrite=False)

    assert [dst for _, dst in pairs] == ["s3://bucket/clean/a.tif", "s3://bucket/clean/b.tif"]


@pytest.mark.parametrize("arguments", [["{a}", "{b}", "-o", "{folder}/c.tif"], ["{a}"], ["{a}", "--out-dir", "{a}"]])
def test_places_that_do_not_fit_are_refused(cli, make_raster, tmp_path, arguments):
    places = {"a": make_raster("a.tif"), "b": make_raster("b.tif"), "folder": tmp_path}

    ended = cli("run", *(argument.format(**places) for argument in arguments))

    assert ended.code == 2
    assert "--out-dir" in ended.err
