"""Sizes as people write them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infdehaze_cli.errors import UsageError
from infdehaze_cli.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("123B", 123),
        ("4G", 4 * 1024**3),
        ("4g", 4 * 1024**3),
        ("4GiB", 4 * 1024**3),
        ("4 gib", 4 * 1024**3),
        ("4GB", 4 * 1000**3),
        ("512MiB", 512 * 1024**2),
        ("512M", 512 * 1024**2),
        ("1.5g", 3 * 1024**3 // 2),
        ("10KB", 10_000),
        ("10kb", 10_000),
        ("10K", 10_240),
        ("0.5T", 1024**4 // 2),
        ("2P", 2 * 1024**5),
        (" 7M ", 7 * 1024**2),
        ("9007199254740993", 9007199254740993),
        ("1.1K", 1126),
        ("1.7", 1),
    ],
)
def test_a_size_is_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "G", "-1G", "+1G", "4X", "4GG", "4 G B", "1e9", "1,5G", ".5G", "4.G", "0x10", "inf", "nan", "four", "4iB"],
)
def test_garbage_is_wrong_usage_that_shows_how_to_write_it(text):
    with pytest.raises(UsageError, match=r"4G or 512MiB") as caught:
        parse_size(text)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["4Gi", "1_000", "G4", "4G4", "9" * 400, "1." + "9" * 5000, "9" * 5000 + "G"])
def test_more_garbage_and_numbers_without_end_are_wrong_usage(text):
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024**2, "1.5 GiB"),
        (512 * 1024**2, "512.0 MiB"),
        (3 * 1024**4, "3.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_a_size_is_written(size, text):
    assert format_size(size) == text


@given(st.integers(0, 2**60))
def test_what_is_written_can_be_read_and_is_close(size):
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05, abs=0.5)


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_wrong_usage(text):
    with suppress(UsageError):
        assert parse_size(text) >= 0
