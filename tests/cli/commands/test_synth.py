"""`infdehaze synth`: haze over a clear raster."""

import numpy as np
import pytest


def test_the_hazy_raster_keeps_the_map_and_says_what_it_is(cli, make_raster, read_raster, tmp_path):
    src, dst = make_raster(bands=4), tmp_path / "hazy.tif"

    ended = cli("synth", src, "-o", dst, "--style", "veil", "--seed", "5")

    before, after = read_raster(src), read_raster(dst)
    assert ended.code == 0
    assert ended.out == f"{dst}: haze of style veil, seed 5\n"
    assert ended.err.startswith("haze: 1 in ")
    assert (after.place, after.bands) == (before.place, before.bands)
    assert after.tags["INFDEHAZE_SYNTHETIC_HAZE"] == "veil, seed 5"
    assert (after.pixels[:3] != before.pixels[:3]).any()
    np.testing.assert_array_equal(after.pixels[3], before.pixels[3])


def test_a_seed_names_one_haze(cli, make_raster, read_raster, tmp_path):
    src = make_raster()

    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cli("synth", src, "-o", tmp_path / name, "--seed", seed, "-q")

    a, b, c = (read_raster(tmp_path / name).pixels for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_quiet_says_nothing(cli, make_raster, tmp_path):
    ended = cli("synth", make_raster(), "-o", tmp_path / "hazy.tif", "-q")

    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_the_transmission_comes_on_demand(cli, make_raster, tmp_path):
    src = make_raster()

    cli("synth", src, "-o", tmp_path / "hazy.tif", "--transmission", tmp_path / "t.tif", "--format", "gtiff")

    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "hazy.tif", "t.tif"}


@pytest.mark.parametrize("existing", ["hazy.tif", "t.tif"])
def test_neither_file_is_replaced_unless_told_to(cli, make_raster, listing, tmp_path, existing):
    src = make_raster()
    (tmp_path / existing).write_text("precious")
    arguments = ["synth", src, "-o", tmp_path / "hazy.tif", "--transmission", tmp_path / "t.tif"]
    before = listing(tmp_path)

    refused = cli(*arguments)
    kept = listing(tmp_path)
    replaced = cli(*arguments, "--overwrite")

    assert (refused.code, refused.out, kept) == (2, "", before)
    assert replaced.code == 0
    assert (tmp_path / existing).read_bytes() != b"precious"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--style", "soup"], "veil"),
        (["--bands", "1,2"], "4,3,2"),
        (["--scale-range", "1,1"], "0,10000"),
        (["--transmission", "{dst}"], "two files"),
    ],
)
def test_wrong_usage_is_2_and_leaves_nothing(cli, make_raster, tmp_path, options, hint):
    src, dst = make_raster(), tmp_path / "hazy.tif"

    ended = cli("synth", src, "-o", dst, *(option.format(dst=dst) for option in options))

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert hint in ended.err
    assert list(tmp_path.iterdir()) == [src]
