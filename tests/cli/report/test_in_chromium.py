"""The report in a real browser: pictures load, the divider follows mouse, touch and keys, nothing is asked for."""

import pytest

POSITION = "Number(document.querySelector('[role=slider]').getAttribute('aria-valuenow'))"
SHARE = "parseFloat(getComputedStyle(document.querySelector('.compare')).getPropertyValue('--pos'))"
BOX = (
    "(() => { const b = document.querySelector('.compare').getBoundingClientRect();"
    " return [b.left, b.top, b.width, b.height]; })()"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_checkpoint):
    """Make a report of a scene that is larger than its overview, with everything that a report can have."""
    import numpy as np
    import rasterio
    from rasterio.transform import Affine

    from infdehaze_cli import RunConfig, dehaze

    folder = tmp_path_factory.mktemp("page")
    pixels = np.random.default_rng(3).integers(40, 220, (3, 90, 1300), np.uint8)
    for name in ("scene.tif", "clear.tif"):
        shape = {"count": 3, "height": 90, "width": 1300, "dtype": "uint8"}
        place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
        with rasterio.open(folder / name, "w", driver="GTiff", photometric="RGB", **shape, **place) as file:
            file.write(pixels)
    config = RunConfig(weights=str(tiny_checkpoint), device="cpu")
    report = folder / "report.html"
    dehaze(
        folder / "scene.tif", folder / "clean.tif", config=config, report=report, reference=str(folder / "clear.tif")
    )
    return report


def test_every_picture_loads_and_nothing_is_asked_for_or_complained_of(browser, page):
    browser.open(page)

    sizes = browser.run("[...document.images].map((i) => i.complete && i.naturalWidth * i.naturalHeight)")
    # the whole and three details, before and after, and the haze map
    assert len(sizes) == 9
    assert all(sizes)
    assert [url for url in browser.requests() if not url.startswith(("data:", page.as_uri()))] == []
    assert browser.complaints() == []


def test_the_divider_follows_the_mouse_also_beyond_the_picture(browser, page):
    browser.open(page)
    left, top, width, height = browser.run(BOX)
    middle = top + height / 2

    places = []
    browser.mouse("mousePressed", left + 0.5 * width, middle)
    for share in (0.25, 0.8, 1.2, -0.3):
        browser.mouse("mouseMoved", left + share * width, middle)
        places.append(browser.run(POSITION))
    browser.mouse("mouseReleased", left + 0.3 * width, middle)
    browser.mouse("mouseMoved", left + 0.9 * width, middle, buttons=0)

    assert places == [25, 80, 100, 0]
    assert browser.run(POSITION) <= 30
    assert browser.complaints() == []


def test_the_divider_follows_a_finger(browser, page):
    browser.open(page, width=420, height=900)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    left, top, width, height = browser.run(BOX)
    middle = top + height / 2

    browser.touch("touchStart", (left + 0.5 * width, middle))
    browser.touch("touchMove", (left + 0.6 * width, middle))
    browser.touch("touchMove", (left + 0.75 * width, middle))
    moved = browser.run(SHARE)
    browser.touch("touchEnd")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)

    assert moved == pytest.approx(75, abs=1)


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        (["ArrowRight"], 52),
        (["ArrowLeft", "ArrowLeft"], 46),
        (["PageUp"], 60),
        (["PageDown"], 40),
        (["End", "ArrowRight"], 100),
        (["Home"], 0),
    ],
)
def test_the_divider_follows_keys(browser, page, keys, place):
    browser.open(page)
    # reached as a keyboard reaches it
    browser.run("document.body.focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert browser.run("document.activeElement.getAttribute('role')") == "slider"

    for key in keys:
        browser.key(key)

    assert browser.run(POSITION) == place
    assert browser.run(SHARE) == place
    assert browser.run("document.activeElement.getAttribute('aria-valuetext')").startswith(f"{place} % before")


def test_light_and_dark_differ_and_both_can_be_read(browser, page):
    colours = {}
    for scheme in ("light", "dark"):
        browser.open(page, scheme=scheme)
        style = "getComputedStyle(document.body)"
        colours[scheme] = [
            [int(part) for part in browser.run(f"{style}.{name}").strip("rgb()").split(",")]
            for name in ("color", "backgroundColor")
        ]

    for scheme, (ink, paper) in colours.items():
        assert abs(sum(ink) - sum(paper)) > 400, scheme
    assert colours["light"][1] != colours["dark"][1]


def test_on_paper_before_and_after_lie_side_by_side(browser, page):
    browser.open(page, media="print")

    first, second = browser.run(
        "[...document.querySelectorAll('.compare')[0].querySelectorAll('img')].map((i) => {"
        " const b = i.getBoundingClientRect(); return [b.left, b.right, b.top, getComputedStyle(i).clipPath]; })"
    )
    assert first[1] <= second[0]
    assert first[2] == second[2]
    assert second[3] == "none"
    assert browser.run("getComputedStyle(document.querySelector('.divider')).display") == "none"
    assert len(browser.call("Page.printToPDF")["data"]) > 10_000


@pytest.mark.parametrize(("width", "height"), [(1100, 900), (360, 700), (1100, 60)])
def test_no_picture_has_empty_margins_in_which_the_divider_would_lie(browser, page, width, height):
    browser.open(page, width=width, height=height)

    boxes = browser.run(
        "[...document.querySelectorAll('.compare')].map((box) => { const b = box.getBoundingClientRect();"
        " const i = box.querySelector('img'); return [b.width / b.height, i.naturalWidth / i.naturalHeight]; })"
    )
    for box, picture in boxes:
        assert box == pytest.approx(picture, rel=0.03)


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(browser, page, width):
    browser.open(page, width=width)

    assert browser.run("document.documentElement.scrollWidth") <= width
