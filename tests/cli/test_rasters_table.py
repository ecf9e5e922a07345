"""Every sample raster is processed with every promise kept, or refused fast; and `docs/rasters.md` says so."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
FOLDERS = [SHARED / "rasters", SHARED / "scenes"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="measures each file in a forked process"),
    pytest.mark.skipif(not all(map(Path.is_dir, FOLDERS)), reason="the sample rasters are not beside this checkout"),
]

MEMORY = 300 * 10**6
CPU_SECONDS = 2


@pytest.fixture(scope="module")
def table():
    sys.path.insert(0, str(ROOT / "tools"))
    import rasters_table

    yield rasters_table
    sys.path.remove(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def found(table):
    return table.outcomes(FOLDERS)


def test_every_raster_ends_and_leaves_nothing_behind(found):
    assert len(found) > 80
    assert [(o.name, o.message) for o in found if o.code not in (0, 2, 3, 4)] == []
    assert [(o.name, o.left) for o in found if o.left] == []


def test_every_processed_raster_keeps_what_is_promised(found):
    assert sum(o.code == 0 for o in found) > 50
    assert [(o.name, o.broken) for o in found if o.broken] == []
    assert [(o.name, o.message) for o in found if o.code == 0 and o.message] == []


def test_every_refusal_is_one_line_of_advice(found):
    refused = [o for o in found if o.code != 0]

    assert refused
    for outcome in refused:
        assert "\n" not in outcome.message, outcome.name
        assert "Traceback" not in outcome.message, outcome.name
        assert "bug of ours" not in outcome.message, outcome.name
        assert ";" in outcome.message or ". " in outcome.message, f"{outcome.name}: no advice in {outcome.message!r}"


def test_every_refusal_is_fast_and_small(found):
    # processor time of the file's own process, which neither load nor another test changes
    refused = [o for o in found if o.code != 0]

    assert [(o.name, o.cpu_seconds) for o in refused if o.cpu_seconds > CPU_SECONDS] == []
    assert [(o.name, o.extra_bytes) for o in refused if o.extra_bytes > MEMORY] == []


def test_the_page_is_not_stale(table, found):
    page = (ROOT / "docs" / "rasters.md").read_text(encoding="utf-8")

    assert page == table.render(found), (
        "write it again: python tools/rasters_table.py ../shared/rasters ../shared/scenes"
    )
