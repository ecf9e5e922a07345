"""Clear pictures for training: what is read, what is skipped and named, how crops are drawn."""

import numpy as np
import pytest
import rasterio
import torch

from infdehaze_cli.errors import InputError
from infdehaze_cli.raster._gdal import quiet
from infdehaze_cli.training import clear
from infdehaze_cli.training.clear import ClearFolder, beside, lift_shadows, make_grey, vary_colours
from infdehaze_cli.training.data import PictureFile, draw_batch, read_picture


def refuse(message):
    pytest.fail(f"skipped: {message}")


def flat(value, rows=40, cols=50, bands=3, dtype=np.uint8):
    return np.full((bands, rows, cols), value, dtype)


def test_pictures_are_grouped_by_their_folder(tmp_path, write_picture):
    write_picture(tmp_path / "alone.tif", flat(1))
    write_picture(tmp_path / "a" / "one.tif", flat(2))
    write_picture(tmp_path / "a" / "two.TIF", flat(3))
    write_picture(tmp_path / "b" / "deep" / "one.tiff", flat(4))
    (tmp_path / "a" / "notes.txt").write_text("not a picture")
    data = ClearFolder.open(tmp_path, refuse)
    assert {name: [int(p[0, 0, 0]) for p in found] for name, found in data.sources.items()} == {
        ".": [1],
        "a": [2, 3],
        "b/deep": [4],
    }
    assert data.count == 4


def test_folders_that_are_links_are_followed_and_come_once(tmp_path, write_picture):
    write_picture(tmp_path / "elsewhere" / "one.tif", flat(1))
    root = tmp_path / "data"
    write_picture(root / "a" / "two.tif", flat(2))
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(root / "a")
    (root / "up").symlink_to(root)

    data = ClearFolder.open(root, refuse)

    assert {name: [int(p[0, 0, 0]) for p in found] for name, found in data.sources.items()} == {"a": [2], "b": [1]}


@pytest.mark.parametrize(
    ("bands", "expected"), [(1, [10, 10, 10]), (2, [10, 10, 10]), (3, [10, 11, 12]), (5, [10, 11, 12])]
)
def test_pictures_are_read_as_three_bands(tmp_path, write_picture, bands, expected):
    write_picture(tmp_path / "p.tif", np.stack([flat(10 + band)[0] for band in range(bands)]))
    picture = read_picture(tmp_path / "p.tif")
    assert picture.shape == (3, 40, 50)
    assert picture[:, 0, 0].tolist() == expected


def test_broken_pictures_are_left_out_and_named(tmp_path, write_picture):
    write_picture(tmp_path / "good.tif", flat(7))
    write_picture(tmp_path / "deep.tif", flat(700, dtype=np.uint16))
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.png").mkdir()
    write_picture(tmp_path / "whole.tif", np.random.default_rng(0).integers(0, 255, (3, 90, 90)).astype(np.uint8))
    whole = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    skipped = []
    data = ClearFolder.open(tmp_path, skipped.append)
    assert data.count == 2
    assert len(skipped) == 5
    for name in ("deep.tif", "text.png", "empty.jpg", "folder.png", "cut.tif"):
        assert sum(name in line for line in skipped) == 1
    assert any("uint16" in line for line in skipped)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="There is no folder") as caught:
        ClearFolder.open(tmp_path / "nowhere", refuse)
    assert caught.value.exit_code == 3


def test_a_file_is_no_folder(tmp_path, write_picture):
    write_picture(tmp_path / "p.tif", flat(1))
    with pytest.raises(InputError, match="There is no folder"):
        ClearFolder.open(tmp_path / "p.tif", refuse)


def test_a_folder_without_a_readable_picture_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    skipped = []
    with pytest.raises(InputError, match="No readable picture"):
        ClearFolder.open(tmp_path, skipped.append)
    assert len(skipped) == 1


@pytest.mark.parametrize("side", [8, 32, 100, 200])
def test_crops_of_any_side_are_drawn_from_pictures_of_any_size(pictures, side):
    data, rng = ClearFolder.open(pictures, refuse), np.random.default_rng(0)
    for _ in range(8):
        crop = data.draw(side, rng)
        assert crop.shape == (3, side, side)
        assert crop.dtype == np.uint8


def test_small_pictures_of_different_sizes_fill_a_large_crop(tmp_path, write_picture, monkeypatch):
    # dark water over the pictures would look like a part that was never filled
    monkeypatch.setattr(clear, "EVEN_SHARE", 0.0)
    for index, (rows, cols) in enumerate([(9, 30), (31, 12), (20, 20), (8, 9)]):
        write_picture(tmp_path / f"{index}.tif", flat(100 + index, rows, cols))
    data, rng = ClearFolder.open(tmp_path, refuse), np.random.default_rng(0)
    for _ in range(20):
        crop = data.draw(50, rng)
        assert crop.shape == (3, 50, 50)
        # black would mean that a part of the canvas was never filled
        assert crop.min() > 0.05 * 255


def test_the_seed_alone_decides(pictures):
    data = ClearFolder.open(pictures, refuse)
    first, again, other = (data.draw(64, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_large_source_does_not_drown_the_rest(monkeypatch):
    sources = {"many": [flat(200)] * 16, "one": [flat(100)]}
    monkeypatch.setattr("infdehaze_cli.training.clear.vary_colours", lambda picture, rng, width: picture)
    rng = np.random.default_rng(0)

    def share(data):
        return np.mean([data.draw(16, rng).mean() > 150 for _ in range(400)])

    assert share(ClearFolder(sources, mixed=False)) == pytest.approx(4 / 5, abs=0.07)
    assert share(ClearFolder(sources, down_weight=("many",), mixed=False)) == pytest.approx(1.2 / 2.2, abs=0.08)


def test_ground_of_several_sources_shares_a_crop(monkeypatch):
    monkeypatch.setattr("infdehaze_cli.training.clear.vary_colours", lambda picture, rng, width: picture)
    sources, rng = {"dark": [flat(60)], "bright": [flat(180)]}, np.random.default_rng(0)

    def shared(data):
        return np.mean([np.ptp(data.draw(64, rng)) > 100 for _ in range(100)])

    assert shared(ClearFolder(sources, mixed=False)) == 0
    assert 0.1 < shared(ClearFolder(sources)) < 0.5


def test_lifted_shadows_leave_white_and_no_black():
    crop = np.zeros((3, 8, 8), np.uint8)
    crop[:, 4:] = 255
    lifted = [lift_shadows(crop, np.random.default_rng(seed)) for seed in range(20)]
    assert all((x[:, 4:] == 255).all() for x in lifted)
    darkest = [x[:, 0, 0].mean() for x in lifted]
    assert min(darkest) < 15
    assert 25 < max(darkest) <= 0.17 * 1.15 * 255


def test_some_crops_are_grey_unless_colours_have_to_stay():
    picture = np.random.default_rng(0).integers(0, 255, (3, 16, 16)).astype(np.uint8)

    def grey(colours):
        data, rng = ClearFolder({"one": [picture]}, mixed=False, colours=colours), np.random.default_rng(0)
        return np.mean([np.ptp(data.draw(16, rng), axis=0).max() == 0 for _ in range(300)])

    assert grey(1.0) == pytest.approx(clear.GREY_SHARE, abs=0.05)
    assert grey(0.0) == 0


def test_grey_lies_between_the_colours_and_takes_of_each_at_random():
    crop = np.stack([flat(value, 8, 8)[0] for value in (40, 90, 200)])
    made = [make_grey(crop, np.random.default_rng(seed)) for seed in range(40)]
    assert all((x == x[0, 0, 0]).all() and x.shape == crop.shape and x.dtype == np.uint8 for x in made)
    levels = [int(x[0, 0, 0]) for x in made]
    assert 40 <= min(levels) < 80
    assert 130 < max(levels) <= 200


def test_grey_crops_get_grey_haze_and_others_the_same_as_without_them():
    crops = torch.randint(0, 255, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    some = crops.clone()
    some[1::2] = some[1::2, :1]
    data = ClearFolder({"one": [flat(9)]})

    plain, mixed = (data.prepare(x, torch.Generator().manual_seed(5)) for x in (crops, some))

    for name in ("hazy_B3HW", "depth_B3HW", "airlight_B311"):
        before, after = getattr(plain, name), getattr(mixed, name)
        assert torch.equal(after[::2], before[::2])
        assert torch.equal(after[1::2], after[1::2, :1].expand_as(after[1::2]))
    assert torch.equal(mixed.depth_B3HW[1::2, 1], plain.depth_B3HW[1::2, 1])
    assert (plain.airlight_B311[1::2].std(1) > 0).all()


def test_a_crop_beside_another_holds_pixels_of_both():
    rng = np.random.default_rng(0)
    first, second = flat(50, 96, 96), flat(150, 96, 96)
    both = [beside(first, second, rng) for _ in range(40)]
    assert all(x.shape == first.shape and x.dtype == np.uint8 for x in both)
    assert all(x.min() >= 50 and x.max() <= 150 for x in both)
    second_share = [(x == 150).mean() for x in both]
    assert 0.2 < np.mean(second_share) < 0.8
    # borders wind, and many are sharp
    assert np.mean([((x > 50) & (x < 150)).mean() for x in both]) < 0.25


def test_crops_are_turned_and_mirrored(monkeypatch):
    monkeypatch.setattr("infdehaze_cli.training.clear.vary_colours", lambda picture, rng, width: picture)
    picture = np.zeros((3, 16, 16), np.uint8)
    picture[:, 0, 1] = 255
    data, rng = ClearFolder({"one": [picture]}, mixed=False), np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        crop = data.draw(16, rng)[0]
        if crop.max() == 255 and (crop > 0).sum() == 1:
            seen.add(int(crop.argmax()))
    assert seen >= {1, 14, 16, 31, 16 * 14, 16 * 15 - 1, 16 * 15 + 1, 16 * 16 - 2}


def test_colours_vary_within_their_range():
    rng, picture = np.random.default_rng(0), torch.rand(3, 20, 20)
    varied = [vary_colours(picture, rng) for _ in range(60)]
    assert all(v.shape == picture.shape and v.min() >= 0 and v.max() <= 1 for v in varied)
    brightness = torch.stack([v.mean() for v in varied])
    assert brightness.std() > 0.03
    # a share of the samples is nearly even ground
    assert min(float(v.std()) for v in varied) < 0.6 * float(picture.std())
    # and a share stays as it was
    assert any(torch.equal(v, picture) for v in varied)


def test_colours_that_must_not_vary_stay(monkeypatch):
    monkeypatch.setattr(clear, "EVEN_SHARE", 0.0)
    rng, picture = np.random.default_rng(0), torch.rand(3, 20, 20)
    kept = [torch.allclose(vary_colours(picture, rng, 0.0), picture, atol=1e-6) for _ in range(100)]
    # all but those that become nearly even ground
    assert 85 <= sum(kept) < 100


def test_a_file_is_sliced_like_the_picture_that_it_holds(tmp_path, write_picture):
    write_picture(tmp_path / "p.tif", np.random.default_rng(0).integers(0, 255, (3, 40, 50)).astype(np.uint8))
    whole, file = read_picture(tmp_path / "p.tif"), PictureFile.open(tmp_path / "p.tif")
    assert file.shape == whole.shape
    for rows, cols in ((slice(None), slice(None)), (slice(3, 20), slice(40, 90)), (slice(None, 8), slice(30, None))):
        assert np.array_equal(file[:, rows, cols], whole[:, rows, cols])


def test_folders_beyond_the_limit_stay_on_disk_and_give_the_same_crops(pictures):
    whole, large = (
        ClearFolder.open(pictures, refuse, limit=limit) for limit in (3 * 120 * 144 * 4, 3 * 120 * 144 * 4 - 1)
    )
    assert {type(p) for found in whole.sources.values() for p in found} == {np.ndarray}
    assert {type(p) for found in large.sources.values() for p in found} == {PictureFile}
    for side in (40, 100, 200):
        crops = [data.draw(side, np.random.default_rng(5)) for data in (whole, large)]
        assert np.array_equal(*crops)


def test_a_file_that_turns_out_to_be_broken_is_named_once_and_passed(tmp_path, write_picture):
    rng = np.random.default_rng(0)
    for name in ("whole.tif", "cut.tif"):
        write_picture(tmp_path / name, rng.integers(0, 255, (3, 90, 90)).astype(np.uint8))
    raw = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(raw[:5000])
    skipped = []
    data = ClearFolder.open(tmp_path, skipped.append, limit=0)
    assert data.count == 2
    for _ in range(20):
        assert data.draw(80, rng).shape == (3, 80, 80)
    assert len(skipped) == 1
    assert "cut.tif" in skipped[0]
    (tmp_path / "whole.tif").unlink()
    with pytest.raises(InputError, match="in a row could not be read"):
        data.draw(80, rng)


def test_haze_is_put_over_the_crops_and_known(pictures):
    data = ClearFolder.open(pictures, refuse)
    batch = draw_batch(data, 64, 6, np.random.default_rng(0), torch.Generator().manual_seed(0))
    assert batch.clear_B3HW.shape == batch.hazy_B3HW.shape == batch.depth_B3HW.shape == (6, 3, 64, 64)
    assert batch.airlight_B311.shape == (6, 3, 1, 1)
    t = torch.exp(-batch.depth_B3HW)
    expected = batch.clear_B3HW * t + batch.airlight_B311 * (1 - t)
    assert float((batch.hazy_B3HW - expected).abs().mean()) < 0.02


def test_a_png_that_is_cut_off_is_no_picture(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (3, 96, 96), np.uint8)
    with (
        quiet(),
        rasterio.open(tmp_path / "a.png", "w", driver="PNG", width=96, height=96, count=3, dtype="uint8") as f,
    ):
        f.write(picture)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:9000])

    assert np.array_equal(read_picture(tmp_path / "a.png"), picture)
    with pytest.raises(InputError):
        read_picture(tmp_path / "b.png")
