"""What follows from rows: how flat the memory is, and where the whole picture at once dies."""

import pytest

MiB = 1024**2


def test_the_spread_counts_sizes_from_2048_px_up(report):
    assert report().spread() == {"lite, ssd": pytest.approx(2.0)}


def test_the_spread_is_told_for_each_tier_and_the_worst_in_the_summary(report, row):
    measured = report(
        row("streamed", 2048, 100, tier="dram"),
        row("streamed", 2048, 100, tier="ssd"),
        row("streamed", 4096, 90, tier="dram"),
        row("streamed", 4096, 101, tier="ssd"),
        row("streamed", 8192, 99, tier="dram"),
    )

    assert measured.spread() == {"lite, dram": pytest.approx(100 / 9), "lite, ssd": pytest.approx(1.0)}
    assert measured.summary() == "device bytes flat within 11.11 % from 2048 px up"


def test_one_size_has_no_spread(report, row):
    measured = report(row("streamed", 1024, 10, tier="dram"), row("streamed", 2048, 20, tier="dram"))

    assert measured.spread() == {}
    assert measured.summary() == "one size alone says nothing of how memory grows"


def test_the_crossover_is_the_smallest_size_that_died_for_each_weights(report, row):
    measured = report(
        row("direct", 1024, 10),
        row("direct", 2048),
        row("direct", 1024, 10, weights="base"),
        row("patches", 1024, weights="base"),
    )

    assert measured.direct_died_at() == {"lite": 2048, "base": None}
    assert "direct died at 2048 px (lite, 512.0 MiB allowed)" in measured.summary()
    assert "direct lived up to 1024 px (base, 512.0 MiB allowed)" in measured.summary()


def test_the_summary_says_both(report):
    assert report().summary() == (
        "device bytes flat within 2.00 % from 2048 px up; direct died at 4096 px (lite, 512.0 MiB allowed)"
    )


def test_a_row_says_seconds_a_megapixel(row):
    assert row("direct", 2000, 1).seconds_per_megapixel == 0.5
    assert row("direct", 2000).seconds_per_megapixel is None
