"""Data sets as they lie on disks, and as they should not."""

from pathlib import Path

import pytest

from infdehaze_cli.bench.pairs import find_pairs
from infdehaze_cli.errors import InputError


@pytest.fixture
def lay_out(make_raster, tmp_path):
    """Write small pictures under the given names and return their folder."""

    def make(*names, **drawn):
        for name in names:
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            make_raster(f"set/{name}", **{"height": 16, "width": 20, **drawn})
        return tmp_path / "set"

    return make


@pytest.mark.parametrize(
    ("hazy", "clear"),
    [
        ("hazy", "clear"),
        ("input", "target"),
        ("haze", "gt"),
        ("cloud", "label"),
        ("hazy", "GT"),
    ],
)
def test_the_folders_of_known_data_sets_are_found(lay_out, hazy, clear):
    root = lay_out(f"{hazy}/2.tif", f"{clear}/2.tif", f"{hazy}/10.tif", f"{clear}/10.tif")

    pairs = find_pairs(root)

    assert [pair.name for pair in pairs] == ["10", "2"]
    assert all((p.hazy.parent.name, p.clear.parent.name) == (hazy, clear) for p in pairs)
    assert all(p.hazy.stem == p.clear.stem == p.name for p in pairs)


def test_names_match_without_their_ending_and_equal_names_come_first(lay_out):
    root = lay_out("hazy/01_outdoor_hazy.tif", "clear/01_outdoor_GT.tif", "hazy/b_hazy.tif", "clear/b_hazy.tif")
    (root / "hazy" / "readme.txt").write_text("no picture")

    pairs = find_pairs(root)

    assert [(p.name, p.hazy.name, p.clear.name) for p in pairs] == [
        ("01_outdoor", "01_outdoor_hazy.tif", "01_outdoor_GT.tif"),
        ("b_hazy", "b_hazy.tif", "b_hazy.tif"),
    ]


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["hazy/a.tif", "clear/a.tif", "hazy/b.tif"], "b.tif has no partner"),
        (["hazy/a.tif", "clear/a.tif", "clear/c_GT.tif"], "c_GT.tif has no partner"),
        (["hazy/a.tif", "clear/a.tif", "hazy/a.tiff"], "a.tiff have the same name"),
        (["hazy/a_hazy.tif", "hazy/a_cloud.tif", "clear/a_gt.tif"], "claim the same partner, a"),
        (["hazy/a.tif"], "has none"),
        (["hazy/a.tif", "clear/a.tif", "gt/a.tif"], "has clear and gt"),
    ],
)
def test_what_does_not_pair_up_is_named(lay_out, names, named):
    root = lay_out(*names)

    with pytest.raises(InputError, match=named):
        find_pairs(root)


@pytest.mark.parametrize("other", [{"width": 24}, {"bands": 1}])
def test_a_pair_of_other_size_or_bands_is_named(lay_out, other):
    root = lay_out("hazy/a.tif", "clear/a.tif", "hazy/b.tif")
    lay_out("clear/b.tif", **other)

    with pytest.raises(InputError, match="The pair b does not match"):
        find_pairs(root)


def test_missing_and_empty_folders_are_named(lay_out, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        find_pairs(tmp_path / "nowhere")
    root = lay_out("hazy/a.tif")
    (root / "clear").mkdir()
    with pytest.raises(InputError, match=r"No picture lies in .*clear"):
        find_pairs(root)


def test_the_shared_satellite_pairs_match():
    root = Path(__file__).resolve().parents[4] / "shared" / "data" / "val" / "pairs" / "rice1"
    if not root.is_dir():
        pytest.skip("the shared validation pairs are not beside this repository")

    assert len(find_pairs(root)) == 60


def test_a_partner_that_is_taken_is_claimed_in_vain(lay_out):
    root = lay_out("hazy/a.tif", "hazy/a_hazy.tif", "clear/a.tif", "clear/a_gt.tif")

    with pytest.raises(InputError, match="has one already"):
        find_pairs(root)
