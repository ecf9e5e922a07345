"""Paired data sets: tiny made-up copies of each layout are told apart, matched, split and refused when they are off."""

import itertools

import numpy as np
import pytest
import torch

from infdehaze_cli.errors import InputError, UsageError
from infdehaze_cli.training.clear import ClearFolder
from infdehaze_cli.training.data import draw_batch
from infdehaze_cli.training.datasets import open_data
from infdehaze_cli.training.layouts import LAYOUTS, detect, find_pairs, split
from infdehaze_cli.training.pairs import PairedFolder

LEVELS = [f"cloud_L{level}" for level in range(1, 5)]
COPIES = {
    "pairs": {"clear": "{}.tif", "hazy": "{}.tif"},
    "8kdehaze": {"clear": "{}.tif", **dict.fromkeys(LEVELS, "{}.tif")},
    "8kdehaze of the release": {"clear": "{}.tif", **{f"cloud_{level}": "{}.tif" for level in range(5)}},
    "4kid": {"haze": "{}.tif", "gt": "{}.tif"},
    "o-haze": {"hazy": "{}_outdoor_hazy.tif", "GT": "{}_outdoor_GT.tif"},
}


def refuse(message):
    pytest.fail(f"skipped: {message}")


@pytest.fixture
def make_copy(tmp_path, write_picture):
    """Make a tiny copy of a layout: scene ``i`` has the value ``i`` where clear and ``100 + i`` where hazy."""

    def make(copy, count=10, rows=40, cols=50):
        root = tmp_path / copy
        for folder, name in COPIES[copy].items():
            clear = folder in ("clear", "gt", "GT")
            for index in range(count):
                picture = np.full((3, rows, cols), index if clear else 100 + index, np.uint8)
                write_picture(root / folder / name.format(f"{index:02d}"), picture)
        return root

    return make


@pytest.mark.parametrize("copy", COPIES)
def test_a_layout_is_told_by_its_names_and_its_pictures_are_matched(make_copy, copy):
    root = make_copy(copy)
    layout = copy.split()[0]
    assert detect(root) == layout
    pairs = find_pairs(root, layout)
    assert [pair.name for pair in pairs] == [f"{index:02d}" for index in range(10)]
    assert {len(pair.hazy) for pair in pairs} == {len(COPIES[copy]) - 1}
    assert {path.parent.name for path in pairs[3].hazy} == set(COPIES[copy]) - {"clear", "gt", "GT"}


@pytest.mark.parametrize("copy", COPIES)
def test_crops_are_of_one_scene_and_never_of_a_test_sample(make_copy, copy):
    data = open_data(make_copy(copy), refuse)
    held_out = 2 if LAYOUTS[copy.split()[0]].held_out else 0
    assert isinstance(data, PairedFolder)
    assert (data.count, len(data.held_out)) == (10 - held_out, held_out)
    rng = np.random.default_rng(0)
    drawn = {tuple(data.draw(16, rng)[[0, 3], 0, 0].tolist()) for _ in range(300)}
    assert drawn == {(100 + i, i) for i in range(10) if f"{i:02d}" not in data.held_out}


def test_clear_pictures_are_no_pairs(pictures):
    assert detect(pictures) == "clear"
    assert isinstance(open_data(pictures, refuse), ClearFolder)


def test_a_layout_can_be_named(make_copy):
    root = make_copy("pairs")
    assert isinstance(open_data(root, refuse, dataset="clear"), ClearFolder)
    with pytest.raises(InputError, match="not the folders of the layout '8kdehaze'"):
        open_data(root, refuse, dataset="8kdehaze")
    with pytest.raises(UsageError, match="no data set layout"):
        open_data(root, refuse, dataset="reside")


@pytest.mark.parametrize(
    ("name", "total", "expected"), [("8kdehaze", 10000, 100), ("4kid", 15606, 100), ("o-haze", 45, 5)]
)
def test_the_papers_test_samples_are_drawn_once_and_for_all(name, total, expected):
    names = [str(index) for index in range(total)]
    training, test = split(names, LAYOUTS[name].held_out)
    assert len(test) == expected
    assert sorted(training + test) == sorted(names)
    assert split(names, LAYOUTS[name].held_out) == (training, test)
    # at random: not the first ones, nor every so many
    assert len({int(b) - int(a) for a, b in itertools.pairwise(test)}) > 2


def test_a_small_part_of_a_data_set_keeps_most_for_training():
    names = [str(index) for index in range(100)]
    assert [len(part) for part in split(names, 100)] == [80, 20]
    assert [len(part) for part in split(names[:4], 100)] == [4, 0]


def test_both_pictures_are_turned_and_cut_alike_and_keep_their_colours(tmp_path, write_picture):
    clear = np.random.default_rng(0).integers(0, 120, (3, 60, 80)).astype(np.uint8)
    write_picture(tmp_path / "clear" / "a.tif", clear)
    write_picture(tmp_path / "hazy" / "a.tif", clear + 100)
    data, rng = open_data(tmp_path, refuse), np.random.default_rng(1)
    seen = set()
    for side in (24, 100):
        for _ in range(30):
            both = data.draw(side, rng)
            assert both.shape == (6, side, side)
            assert np.array_equal(both[:3], both[3:] + 100)
            seen.add(both.tobytes())
    # the larger crop has one place and eight ways to lie
    assert len(seen) == 30 + 8


def test_nothing_is_known_of_real_haze(make_copy):
    data = open_data(make_copy("o-haze"), refuse)
    batch = draw_batch(data, 32, 3, np.random.default_rng(0), torch.Generator())
    assert (batch.depth_B3HW, batch.airlight_B311) == (None, None)
    assert batch.clear_B3HW.shape == batch.hazy_B3HW.shape == (3, 3, 32, 32)
    torch.testing.assert_close(batch.hazy_B3HW - batch.clear_B3HW, torch.full((3, 3, 32, 32), 100 / 255))


def test_large_data_sets_stay_on_disk_and_give_the_same_crops(make_copy):
    root = make_copy("8kdehaze")
    crops = [open_data(root, refuse, limit=limit).draw(45, np.random.default_rng(3)) for limit in (0, 3 * 40 * 50 * 50)]
    assert np.array_equal(*crops)


@pytest.mark.parametrize("missing", ["hazy/03.tif", "clear/03.tif"])
def test_a_picture_without_its_other_half_is_refused_by_name(make_copy, missing):
    root = make_copy("pairs")
    (root / missing).unlink()
    with pytest.raises(InputError, match=r"has no (clear|hazy) picture '03'") as caught:
        open_data(root, refuse)
    assert caught.value.exit_code == 3
    assert missing.split("/")[0] in str(caught.value)


def test_a_level_of_haze_that_lacks_a_picture_is_refused_by_name(make_copy):
    root = make_copy("8kdehaze")
    (root / "cloud_L2" / "07.tif").unlink()
    with pytest.raises(InputError, match=r"no hazy picture '07' in .*cloud_L2"):
        open_data(root, refuse)


def test_a_pair_of_two_sizes_is_refused_by_name(make_copy, write_picture):
    root = make_copy("pairs")
    write_picture(root / "hazy" / "04.tif", np.zeros((3, 41, 50), np.uint8))
    with pytest.raises(InputError, match=r"04\.tif has 50 x 41 px, and its clear picture .*04\.tif has 50 x 40"):
        open_data(root, refuse)


def test_two_pictures_of_one_name_are_refused(make_copy, write_picture):
    root = make_copy("pairs")
    write_picture(root / "clear" / "04.tiff", np.zeros((3, 40, 50), np.uint8))
    with pytest.raises(InputError, match="have the same name"):
        open_data(root, refuse)


@pytest.mark.parametrize("limit", [0, 10**9])
def test_broken_pictures_of_pairs_are_named_and_left_out(make_copy, limit):
    root = make_copy("8kdehaze", count=4)
    for broken in ("clear/01.tif", "cloud_L3/02.tif"):
        (root / broken).write_text("not a picture")
    skipped = []
    data = open_data(root, skipped.append, limit=limit)
    assert data.count == 3
    assert sorted(len(scene.hazy) for scene in data.scenes) == [3, 4, 4]
    assert [sum(name in line for line in skipped) for name in ("01.tif", "02.tif")] == [1, 1]
    assert data.draw(16, np.random.default_rng(0)).shape == (6, 16, 16)


def test_a_data_set_of_broken_pictures_alone_is_refused(make_copy):
    root = make_copy("pairs", count=2)
    for path in (root / "hazy").iterdir():
        path.write_text("not a picture")
    skipped = []
    with pytest.raises(InputError, match="No pair below"):
        open_data(root, skipped.append)
    assert len(skipped) == 2


def test_a_missing_folder_is_refused(tmp_path):
    for dataset in ("auto", "clear", "pairs"):
        with pytest.raises(InputError, match="There is no folder"):
            open_data(tmp_path / "nowhere", refuse, dataset=dataset)


@pytest.mark.parametrize("folders", [("input", "target"), ("train/hazy", "train/clear"), ("Cloud", "Label")])
def test_what_looks_like_pairs_is_not_taken_for_clear_ground(tmp_path, folders):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)

    with pytest.raises(InputError, match="--dataset"):
        detect(tmp_path)
