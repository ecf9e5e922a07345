"""How places are spelled, and that no secret in them is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infdehaze_cli.raster.locations import gdal_name, is_local, is_remote, redacted


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scene.tif", "scene.tif"),
        ("C:\\scenes\\a.tif", "C:\\scenes\\a.tif"),
        ("s3://bucket/a/b.tif", "/vsis3/bucket/a/b.tif"),
        ("S3://Bucket/A.tif", "/vsis3/Bucket/A.tif"),
        ("gs://bucket/a.tif", "/vsigs/bucket/a.tif"),
        ("az://box/a.tif", "/vsiaz/box/a.tif"),
        ("https://host/a.tif?x=1", "/vsicurl/https://host/a.tif?x=1"),
        ("/vsizip//vsicurl/https://host/a.zip/b.tif", "/vsizip//vsicurl/https://host/a.zip/b.tif"),
        ("zip+https://host/a.zip!b.tif", "zip+https://host/a.zip!b.tif"),
    ],
)
def test_a_spelling_becomes_what_gdal_calls_it(name: str, expected: str) -> None:
    assert gdal_name(name) == expected


@pytest.mark.parametrize(
    ("name", "local", "remote"),
    [
        ("scene.tif", True, False),
        ("/vsimem/a.tif", False, False),
        ("/vsizip/a.zip/b.tif", False, False),
        ("/vsizip//vsicurl/http://host/a.zip/b.tif", False, True),
        ("s3://bucket/a.tif", False, True),
        ("http://host/a.tif", False, True),
    ],
)
def test_places_are_told_apart(name: str, local: bool, remote: bool) -> None:
    assert (is_local(name), is_remote(name)) == (local, remote)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Cannot open https://me:pw@host/a.tif?sig=1 (404); check.",
            "Cannot open https://***@host/a.tif?*** (404); check.",
        ),
        ("(/vsicurl/https://host/a.tif?sig=a%2Fb&t=2)", "(/vsicurl/https://host/a.tif?***)"),
        ("/vsicurl?header.Authorization=Bearer%20x&url=https%3A%2F%2Fhost", "/vsicurl?***"),
        ("'/vsis3/bucket/a.tif' does not exist", "'/vsis3/bucket/a.tif' does not exist"),
        ("what?.tif is no raster", "what?.tif is no raster"),
        ("user@host.tif stays", "user@host.tif stays"),
    ],
)
def test_messages_keep_all_but_secrets(text: str, expected: str) -> None:
    assert redacted(text) == expected


@given(
    secret=st.text(st.characters(codec="ascii", exclude_categories=("Z", "C"), exclude_characters="/"), min_size=6),
    before=st.sampled_from(["", "Cannot open ", "(", "'"]),
    after=st.sampled_from(["", " (HTTP 403); check it.", ").", "'"]),
)
def test_no_password_and_no_query_is_shown(secret: str, before: str, after: str) -> None:
    url = f"https://user:{secret}@host/a.tif?token={secret}end"

    shown = redacted(f"{before}{url}{after}")

    assert secret + "end" not in shown
    assert f":{secret}@" not in shown
    assert shown.startswith(before)


@pytest.mark.parametrize(
    ("name", "shown", "part"),
    [
        ("http://host/my scene.tif?sig=S 3", "http://host/my scene.tif?***", "my scene.tif?sig=S 3"),
        (
            "/vsicurl?header.Authorization=Bearer S3&url=http://x",
            "/vsicurl?***",
            "vsicurl?header.Authorization=Bearer S3&url=http://x",
        ),
        ("http://host/x.tif#sig=S3", "http://host/x.tif#***", "x.tif#sig=S3"),
    ],
)
def test_of_names_that_were_asked_for_spaces_hide_nothing(name: str, shown: str, part: str) -> None:
    gdal_name(name)

    assert redacted(f"Cannot open {name} (why)") == f"Cannot open {shown} (why)"
    assert redacted(name) == shown
    assert "S3" not in redacted(f"{part}, band 1: failed")
