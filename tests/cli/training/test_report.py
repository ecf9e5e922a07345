"""Curves and sample pictures."""

import numpy as np
import pytest
import torch

from infdehaze_cli.errors import UsageError
from infdehaze_cli.training.data import read_picture
from infdehaze_cli.training.report import GAP, Curve, write_samples


def row(step, **more):
    return {"step": step, "lr": 1e-7, "loss": 1 / step, "psnr_gain": 0.5, "image_loss": 0.1, **more}


def test_rows_are_kept_and_those_of_a_lost_part_are_done_again(tmp_path):
    curve = Curve(tmp_path / "curve.csv", 0)
    for step in (10, 20, 30):
        curve.append(row(step))
    again = Curve(tmp_path / "curve.csv", 20)
    again.append(row(30, loss=7.0))
    assert [(r["step"], r["loss"]) for r in again.read()] == [(10, 0.1), (20, 0.05), (30, 7.0)]
    assert again.read()[0]["lr"] == 1e-7


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    Curve(tmp_path / "curve.csv", 0).append(row(10))
    with (tmp_path / "curve.csv").open("a") as file:
        file.write("20,1e")
    curve = Curve(tmp_path / "curve.csv", 20)
    assert [r["step"] for r in curve.read()] == [10]


def test_a_row_after_a_line_that_was_cut_off_is_a_row_of_its_own(tmp_path):
    Curve(tmp_path / "curve.csv", 0).append(row(10))
    with (tmp_path / "curve.csv").open("a") as file:
        file.write("30,0.1")

    Curve(tmp_path / "curve.csv", 10).append(row(20))

    assert [(r["step"], r["loss"]) for r in Curve(tmp_path / "curve.csv", 20).read()] == [(10, 0.1), (20, 0.05)]


def test_another_table_of_that_name_stays(tmp_path):
    table = tmp_path / "curve.csv"
    table.write_text("year,price\n2025,7\n")
    with pytest.raises(UsageError, match="another folder"):
        Curve(table, 0)
    assert table.read_text() == "year,price\n2025,7\n"


def test_the_curve_is_drawn(tmp_path):
    curve = Curve(tmp_path / "curve.csv", 0)
    curve.draw()
    assert not (tmp_path / "curve.png").exists()
    for step in (10, 20, 30):
        curve.append(row(step))
    curve.draw()
    assert read_picture(tmp_path / "curve.png").std() > 5


def test_samples_stand_side_by_side(tmp_path):
    columns = [torch.rand(2, 3, 20, 30) * 1.4 - 0.2 for _ in range(3)]
    write_samples(tmp_path / "samples" / "step-000010.png", *columns)
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["step-000010.png"]
    sheet = read_picture(tmp_path / "samples" / "step-000010.png")
    assert sheet.shape == (3, 2 * 20 + GAP, 3 * 30 + 2 * GAP)
    for j, column in enumerate(columns):
        for i, picture in enumerate(column):
            found = sheet[:, i * (20 + GAP) :, j * (30 + GAP) :][:, :20, :30]
            assert np.array_equal(found, (picture.clamp(0, 1) * 255).round().numpy())
    assert (sheet[:, 20 : 20 + GAP] == 255).all()
