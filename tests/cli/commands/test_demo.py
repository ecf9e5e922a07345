"""`infdehaze demo`: a scene, its haze, its cleaning, its scores and a picture of it all."""

import json
import struct

import pytest

FILES = {"clear.tif", "hazy.tif", "restored.tif", "transmission.tif", "before-after.png"}


def test_it_makes_its_files_scores_them_and_draws_them(cli, read_raster, tmp_path):
    folder = tmp_path / "new" / "demo"

    ended = cli("demo", "-o", folder, "--size", "128", "--style", "veil")

    clear, hazy, restored = (read_raster(folder / f"{name}.tif") for name in ("clear", "hazy", "restored"))
    assert ended.code == 0
    assert {path.name for path in folder.iterdir()} == FILES
    assert clear.place == hazy.place == restored.place
    assert clear.place[0] is not None
    assert hazy.pixels.mean() > clear.pixels.mean()
    assert (restored.pixels != hazy.pixels).any()
    png = (folder / "before-after.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert width > 2 * height > 400
    assert "hazy" in ended.out
    assert f"picture: {folder / 'before-after.png'}" in ended.out


@pytest.mark.slow
def test_json_holds_the_scores_and_the_run_and_a_second_demo_replaces_the_first(cli, tmp_path):
    first, second = (json.loads(cli("demo", "-o", tmp_path, "--size", "64", "--json", "-q").out) for _ in range(2))

    assert set(first) == {"before", "after", "run"}
    assert first["run"]["width"] == 64
    assert first["before"]["psnr"] > 0
    assert (first["before"], first["after"]) == (second["before"], second["after"])
    assert {path.name for path in tmp_path.iterdir()} == FILES


@pytest.mark.slow
def test_shipped_weights_bring_the_demo_closer_to_the_truth(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("INFDEHAZE_WEIGHTS")

    result = json.loads(cli("demo", "-o", tmp_path, "--size", "1024", "--json", "-q").out)

    assert result["after"]["psnr"] > result["before"]["psnr"] + 5
    assert result["after"]["ciede2000"] < result["before"]["ciede2000"] - 2


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_that_no_demo_has_made_stay(cli, make_raster, tmp_path, name):
    folder = tmp_path / "demo"
    folder.mkdir()
    mine = folder / name
    mine.write_bytes(make_raster("mine.tif").read_bytes())
    before = mine.read_bytes()

    ended = cli("demo", "-o", folder, "--size", "64", "-q")

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert name in ended.err
    assert [path.name for path in folder.iterdir()] == [name]
    assert mine.read_bytes() == before


@pytest.mark.parametrize(("option", "value"), [("--style", "soup"), ("--size", "10")])
def test_wrong_usage_is_said_before_anything_is_made(cli, tmp_path, option, value):
    ended = cli("demo", "-o", tmp_path / "demo", option, value)

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["folder", "clear.tif", "before-after.png"])
def test_a_place_that_cannot_be_written_is_5(cli, tmp_path, place):
    folder = tmp_path / "demo"
    if place == "folder":
        folder.write_text("a file where the folder should be")
    else:
        (folder / place).mkdir(parents=True)

    ended = cli("demo", "-o", folder, "--size", "64", "-q")

    assert (ended.code, ended.out, ended.err.count("\n")) == (5, "", 1)
    assert not list(tmp_path.rglob("*.tmp*"))
