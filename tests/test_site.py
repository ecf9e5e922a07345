"""The documentation site: it builds strictly, covers every command, and needs no network to be built or read."""

import io
import os
import re
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from mkdocs.exceptions import PluginError
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tools():
    """The scripts that make parts of the site."""
    sys.path.insert(0, str(ROOT / "tools"))
    import docs_site
    import figures

    yield docs_site, figures
    sys.path.remove(str(ROOT / "tools"))


class Page(HTMLParser):
    """Collects the anchors, links and assets of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.assets = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        # rel=prev, next and canonical name pages, and load nothing
        loads = tag != "link" or {"stylesheet", "icon", "preload", "preconnect"} & set(found.get("rel", "").split())
        if tag not in ("a", "form") and loads:
            self.assets += [found[name] for name in ("href", "src", "srcset") if name in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site where the network cannot be reached: a proxy that is not there stands in its way."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **nowhere}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return {path.relative_to(folder).as_posix(): Page(path) for path in folder.rglob("*.html")}, folder


@pytest.mark.slow
def test_every_page_is_built_and_in_the_navigation(site):
    pages, _ = site

    sources = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"commands"}
    assert {name.removesuffix(".html") for name in pages} == sources | {"404"}
    assert {f"{name}.html" for name in sources} <= {urlsplit(link).path for link in pages["faq.html"].links} | {
        "faq.html"
    }


@pytest.mark.slow
def test_every_link_and_anchor_leads_somewhere(site):
    pages, folder = site

    for name, page in pages.items():
        for link in page.links + page.assets:
            parts = urlsplit(link)
            if parts.scheme or not (parts.path or parts.fragment) or name == "404.html":
                continue
            target = (folder / name).parent / unquote(parts.path) if parts.path else folder / name
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{name} points to {link}"
            if parts.fragment and target.suffix == ".html":
                anchors = pages[target.resolve().relative_to(folder.resolve()).as_posix()].anchors
                assert unquote(parts.fragment) in anchors, f"{name} points to {link}"


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site):
    pages, folder = site

    outside = {asset for page in pages.values() for asset in page.assets if re.match(r"(https?:)?//", asset)}
    assert outside == set()
    for style in folder.rglob("*.css"):
        loaded = re.findall(r"(?:@import\s+|url\()\s*[\"']?((?:https?:)?//[^\"')]+)", style.read_text(encoding="utf-8"))
        assert loaded == [], style.name


@pytest.mark.slow
def test_the_search_needs_no_server(site):
    pages, folder = site

    # browsers refuse workers and requests to pages that are opened as files
    assert all(any(asset.endswith("assets/iframe-worker.js") for asset in page.assets) for page in pages.values())
    assert "__index" in (folder / "search" / "search_index.js").read_text(encoding="utf-8")


@pytest.mark.slow
def test_hazy_pictures_get_their_sheet_onto_the_page(tools, tmp_path, monkeypatch):
    docs_site, _ = tools
    hazy = tmp_path / "hazy"
    hazy.mkdir()
    pale = np.random.default_rng(0).integers(150, 220, (96, 120, 3), dtype=np.uint8)
    Image.fromarray(pale).save(hazy / "pale.png")
    page = SimpleNamespace(file=SimpleNamespace(src_uri=docs_site.HAZE_PAGE))
    text = (ROOT / "docs" / docs_site.HAZE_PAGE).read_text(encoding="utf-8")

    sheet = docs_site.real_haze_sheet(str(hazy))

    with Image.open(io.BytesIO(sheet)) as drawn:
        assert drawn.format == "JPEG"
        assert drawn.width > drawn.height
    monkeypatch.delenv("HAZY", raising=False)
    assert docs_site.on_page_markdown(text, page) == text
    monkeypatch.setenv("HAZY", str(hazy))
    assert f"]({docs_site.SHEET})" in docs_site.on_page_markdown(text, page)
    assert not (ROOT / "docs" / docs_site.SHEET).exists()


def test_a_folder_without_hazy_pictures_is_said_in_a_line(tools, tmp_path):
    docs_site, _ = tools

    with pytest.raises(PluginError, match="no sheet"):
        docs_site.real_haze_sheet(str(tmp_path))


def test_the_page_of_commands_covers_every_command_and_option(tools):
    docs_site, _ = tools

    sections = dict(re.findall(r"^## infdehaze ([^\n]+)\n(.*?)(?=^## |\Z)", docs_site.commands_page(), re.M | re.S))
    assert list(sections) == [name for name, _ in docs_site.walk()]
    assert len(sections) > 12
    for name, command in docs_site.walk():
        text = re.sub(r"\\(.)", r"\1", sections[name])
        assert " ".join(command.help.split("\n\n")[0].split()) in text
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert option in text, f"{option} of {name} is missing"
            assert escape(" ".join(parameter.help.split()), quote=False).replace("|", "&#124;") in text


def test_the_figures_are_those_that_the_code_draws(tools):
    _, figures = tools

    for name, draw in figures.FIGURES.items():
        drawn = (ROOT / "docs" / "images" / name).read_text(encoding="utf-8")
        assert drawn == draw(), "run `python tools/figures.py docs/images`"


def test_pages_made_when_the_site_is_built_do_not_lie_in_the_sources(tools):
    docs_site, _ = tools

    assert not (ROOT / "docs" / docs_site.COMMANDS_PAGE).exists()
