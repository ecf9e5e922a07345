"""`infdehaze bench choices`: every value of an option on one scene."""

import json

import pytest

from infdehaze_cli.bench.choices import CHOICES


@pytest.mark.parametrize("option", ["residual-dtype", "codec", "overlap", "residuals"])
def test_every_value_has_a_row(cli, option, scratch):
    ended = cli("bench", "choices", option, "--size", "300", "--json", "-q", "--scratch", scratch)

    assert (ended.code, ended.err) == (0, "")
    rows = json.loads(ended.out)["rows"]
    values = CHOICES[option.replace("-", "_")]
    # overlaps are parts of a tile, which has 64 px here
    assert [row["value"] for row in rows] == [str(round(64 * v) if option == "overlap" else v) for v in values]
    first, *others = rows
    assert (first["psnr_lost"], first["largest_difference"], first["changed"]) == (0, 0, 0)
    if option in ("codec", "residuals"):
        assert all(row["changed"] == 0 for row in others)
    if option == "residual-dtype":
        sizes = {row["value"]: row["stored_bytes"] for row in rows}
        assert sizes["fp32"] > 1.9 * sizes["fp16"] > 1.9 * sizes["int8"] > 0
        assert all(row["largest_difference"] >= 0 for row in others)
    if option == "overlap":
        assert rows[0]["tiles"] < rows[-1]["tiles"]
    assert list(scratch.iterdir()) == []


def test_a_table_is_printed(cli):
    ended = cli("bench", "choices", "codec", "--size", "256", "-q")

    assert ended.code == 0
    for word in ("--codec", "zstd", "stored MiB", "changed %"):
        assert word in ended.out


def test_an_unknown_option_is_wrong_usage(cli):
    assert cli("bench", "choices", "colour").code == 2
