"""`infdehaze run --report`: what the page holds, and what is refused before a run."""

import base64
import json
import re
import warnings
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from infdehaze_cli import RunConfig, api, dehaze
from infdehaze_cli.report import beside, html
from infdehaze_cli.scores import compare_rasters
from infdehaze_cli.sizes import format_size

VOID = {"meta", "img", "link", "br", "hr", "input", "path"}
LIMIT = 6_000_000


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects them with their text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.text, self._open = [], {}, []
        self.content = path.read_text(encoding="utf-8")
        self.feed(self.content)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open:
            self.text.setdefault(self._open[-1], []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def run(self):
        """Return the JSON that the page carries."""
        found = re.search(r'<script type="application/json" id="run">(.*?)</script>', self.content, re.DOTALL)
        return json.loads(found[1])

    def cells(self, table):
        """Return the rows of a table by their heading."""
        body = re.search(rf'<table id="{table}">.*?<tbody>(.*?)</tbody>', self.content, re.DOTALL)[1]
        rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', body)
        return {name: re.findall(r"<td>(.*?)</td>", rest) for name, rest in rows}


def shown(picture):
    """Return the pixels of an image element."""
    content = base64.b64decode(picture["src"].partition(",")[2])
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(BytesIO(content)) as file,
    ):
        return file.read().astype(float)


@pytest.fixture
def config(tiny_checkpoint, scratch):
    return RunConfig(weights=str(tiny_checkpoint), device="cpu", scratch=scratch)


def test_the_page_is_whole_and_its_numbers_are_those_of_the_run(make_raster, tmp_path, config):
    report = tmp_path / "clean.html"

    result = dehaze(make_raster(), tmp_path / "clean.tif", config=config, report=report)

    page = Page(report)
    assert page.run()["run"] == json.loads(json.dumps(result.to_dict()))
    plan = page.cells("plan")
    assert plan["Device memory"] == [format_size(n) for n in (result.predicted_device_bytes, result.peak_device_bytes)]
    assert plan["Host memory"][1] == format_size(result.peak_rss_bytes)
    times = page.cells("times")
    assert {name: float(cells[0].removesuffix(" s")) for name, cells in times.items()} == result.seconds
    assert "scores" not in page.content.split("<script")[0].lower()
    assert {"main", "section", "h1", "svg"} <= {tag for tag, _ in page.elements}
    assert page.all("html") == [{"lang": "en"}]


def test_the_pictures_are_those_of_input_and_output(make_raster, tmp_path, config):
    src, dst, report = make_raster(), tmp_path / "clean.tif", tmp_path / "clean.html"

    dehaze(src, dst, config=config, report=report)

    pictures = Page(report).all("img")
    assert all(picture["alt"] for picture in pictures)
    for picture, path in zip(pictures[:2], (src, dst), strict=True):
        with rasterio.open(path) as file:
            # JPEG loses a little
            assert np.abs(shown(picture) - file.read()).mean() < 4


def test_nothing_comes_from_a_network(make_raster, tmp_path, config):
    report = tmp_path / "clean.html"

    dehaze(make_raster(), tmp_path / "clean.tif", config=config, report=report)

    page = Page(report)
    assert "://" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page.content)
    assert all(picture["src"].startswith("data:image/") for picture in page.all("img"))
    assert page.all("link") == []
    assert [script.get("src") for script in page.all("script")] == [None, None]
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy


def test_a_page_of_noise_stays_below_6_mb(make_raster, tmp_path, config):
    noise = np.random.default_rng(0).integers(0, 256, (3, 1300, 1300), np.uint8)
    report = tmp_path / "clean.html"

    dehaze(make_raster(pixels=noise), tmp_path / "clean.tif", config=config, report=report)

    assert 500_000 < report.stat().st_size < LIMIT
    page = Page(report)
    # whole, three details, haze map
    assert len(page.all("img")) == 9
    sliders = [div for div in page.all("div") if div.get("role") == "slider"]
    assert len(sliders) == 4
    for slider in sliders:
        assert (slider["tabindex"], slider["aria-valuemin"], slider["aria-valuemax"]) == ("0", "0", "100")
        assert slider["aria-label"]


def test_names_with_markup_are_shown_as_they_are(make_raster, tmp_path, config):
    name = "</script><script>alert(1)</script>&<b>.tif"
    report = tmp_path / "clean.html"
    src = make_raster("a&b.tif")
    (tmp_path / "<").mkdir()
    dst = tmp_path / "<" / name.replace("/", "")

    dehaze(src, dst, config=config, report=report)

    page = Page(report)
    assert len(page.all("script")) == 2
    assert page.all("b") == []
    assert "".join(page.text["h1"]) == dst.name
    assert page.run()["run"]["dst"] == str(dst)


def test_scores_are_those_of_eval(cli, make_raster, landscape_pixels, tmp_path):
    clear = np.clip(landscape_pixels().astype(int) - 30, 0, 255).astype(np.uint8)
    src, reference, dst = make_raster(), make_raster("clear.tif", pixels=clear), tmp_path / "clean.tif"
    report = tmp_path / "clean.html"

    ended = cli("run", src, "-o", dst, "--report", report, "--reference", reference, "-q", "--json")

    assert ended.code == 0
    before, after = (compare_rasters(path, reference) for path in (src, dst))
    cells = Page(report).cells("scores")
    assert cells["PSNR, dB"] == [f"{before.psnr:.2f}", f"{after.psnr:.2f}"]
    assert cells["SSIM"] == [f"{before.ssim:.4f}", f"{after.ssim:.4f}"]


@pytest.mark.parametrize("drawn", [{"bands": 1}, {"bands": 4, "dtype": "uint16"}, {"dtype": "float32"}], ids=str)
def test_other_kinds_of_raster_have_a_page_too(cli, make_raster, tmp_path, drawn):
    report = tmp_path / "clean.html"

    ended = cli("run", make_raster(**drawn), "-o", tmp_path / "clean.tif", "--report", report)

    assert ended.code == 0
    assert len(Page(report).all("svg")) == (1 if drawn.get("bands") == 1 else 3)


def test_bands_out_of_order_are_shown_in_order(make_raster, tmp_path, config):
    src, report = make_raster(bands=4), tmp_path / "clean.html"

    dehaze(src, tmp_path / "clean.tif", config=config, bands=(4, 2, 1), other_bands="drop", report=report)

    page = Page(report)
    before, after = map(shown, page.all("img")[:2])
    with rasterio.open(src) as file, rasterio.open(tmp_path / "clean.tif") as result:
        assert np.abs(before - file.read([4, 2, 1])).mean() < 4
        assert np.abs(after - result.read()).mean() < 4


def test_what_the_run_says_and_missing_data_are_warnings(make_raster, landscape_pixels, tmp_path, config, monkeypatch):
    pixels = landscape_pixels()
    pixels[:, :, :90] = 0
    execute = api.execute

    def talkative(*arguments, reporter, **options):
        reporter.note("half <the> tiles at a time")
        return execute(*arguments, reporter=reporter, **options)

    monkeypatch.setattr(api, "execute", talkative)
    report = tmp_path / "clean.html"

    dehaze(make_raster(pixels=pixels, profile={"nodata": 0}), tmp_path / "c.tif", config=config, report=report)

    assert Page(report).text["li"] == [
        "half <the> tiles at a time",
        "75 % of the scene is not data and was left as it is.",
    ]


@pytest.mark.parametrize(
    ("maker", "option", "left"),
    [("render", "--report", []), ("side_by_side", "--preview", []), ("style_of", "--haze-map", ["beside"])],
    ids=["report", "preview", "style"],
)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError("no memory"), KeyError("bug")])
def test_the_output_stands_when_what_lies_beside_it_fails(
    cli, make_raster, tmp_path, monkeypatch, maker, option, left, error
):
    def fail(*given):
        raise error

    monkeypatch.setattr(beside, maker, fail)
    dst = tmp_path / "clean.tif"

    ended = cli("run", make_raster(), "-o", dst, option, tmp_path / "beside", "-q")

    assert ended.code == 5
    assert ended.err.count("\n") == 1
    assert f"{dst} is written and whole" in ended.err
    assert str(error.args[-1]) in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["clean.tif", "scene.tif", *left])
    with rasterio.open(dst) as file:
        assert file.read().any()


def test_a_map_of_hardly_any_haze_says_so_and_has_no_negative_nothing():
    depth = np.full((3, 10, 30), -0.0205, np.float32)
    depth[:, 5:] = 0.03

    thin, thick, flat = (html._haze(each) for each in (depth, depth + 0.2, depth / 100))

    assert re.findall(r"<span>([^<]+)</span>", thin) == ["-0.02", "-0.01", "0.00", "0.01", "0.02", "0.03"]
    assert len(set(re.findall(r"<span>([^<]+)</span>", flat))) == 6
    assert "Hardly any haze" in thin
    assert "Hardly any haze" not in thick


def shifted(make_raster):
    return make_raster("clear.tif", profile={"transform": Affine(1.5, 0.2, 463_010.0, 0.1, -1.5, 5_571_000.0)})


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda make_raster: make_raster("clear.tif", width=119), "one grid"),
        (shifted, "does not lie on the grid"),
        (lambda make_raster: make_raster("clear.tif", dtype="float32"), "mix float32 and uint8"),
        (lambda make_raster: make_raster("clear.tif").with_name("none.tif"), "cannot be opened"),
    ],
    ids=["size", "place", "type", "missing"],
)
def test_a_reference_that_does_not_fit_is_refused_before_the_run(cli, make_raster, tmp_path, make, hint):
    dst = tmp_path / "clean.tif"

    ended = cli("run", make_raster(), "-o", dst, "--report", tmp_path / "r.html", "--reference", make(make_raster))

    assert ended.code == 3
    assert hint in ended.err
    assert not dst.exists()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--report", "{folder}"], "no place for a report"),
        (["--report", "{folder}/none/r.html"], "no place for a report"),
        (["--report", "{src}", "--overwrite"], "Name two files"),
        (["--report", "{dst}"], "Name two files"),
        (["--report", "{src}"], "exists; give --overwrite"),
        (["--preview", "{src}"], "exists; give --overwrite"),
        (["--report", "{folder}/a", "--preview", "{folder}/a"], "Name two files"),
        (["--preview", "s3://bucket/p.png"], "not a local file"),
        (["--reference", "{src}"], "Give --report"),
        (["--haze-map", "{folder}/h.qml"], "Name two files"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_page_that_cannot_be_is_refused_before_the_run(cli, make_raster, tmp_path, options, hint):
    places = {"src": make_raster(), "dst": tmp_path / "clean.tif", "folder": tmp_path}

    ended = cli("run", places["src"], "-o", places["dst"], *(option.format(**places) for option in options))

    assert ended.code == 2, ended.err
    assert hint in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


@pytest.mark.parametrize("place", [["--out-dir", "{folder}"], ["-o", "-"]], ids=" ".join)
def test_an_output_without_a_name_has_no_page(cli, make_raster, tmp_path, place):
    words = [word.format(folder=tmp_path) for word in place]

    ended = cli("run", make_raster(), *words, "--report", tmp_path / "r.html")

    assert ended.code == 2
    assert "has a name" in ended.err
