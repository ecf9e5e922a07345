"""How sources and outputs are spelled: paths, URLs and GDAL's virtual file systems; and what of them may be shown."""

from __future__ import annotations

import re
from pathlib import Path

_STORES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/", "oss": "/vsioss/"}
_WEB = ("http", "https", "ftp")

#: The file systems to which a finished file can be uploaded.
WRITABLE = (*_STORES.values(), "/vsiadls/", "/vsiswift/")
_REMOTE = (*WRITABLE, "/vsicurl/", "/vsicurl?", "/vsicurl_streaming/", "/vsihdfs/", "/vsiwebhdfs/")

_VIRTUAL = re.compile(r"(file://|/vsisubfile/[^,]*,|/vsi\w+/)")

# a user and a password, up to the last @ before the path; what follows a question mark, but not the punctuation
# of the sentence around it
_USER = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"((?:\w+://|/vsi\w+)[^\s?]*)\?\S*?(?=[)'\".,;:]*(?:\s|$))")


_REMEMBERED = 256
_SECRETS: dict[str, str] = {}
"""Names with queries that were asked for, and how they are shown: of these also what has spaces is told."""


def gdal_name(name: str | Path) -> str:
    """Return what GDAL calls a path or URL: ``s3://bucket/key`` becomes ``/vsis3/bucket/key``."""
    text = str(name)
    _remember(text)
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text
    if scheme.lower() in _STORES:
        return _STORES[scheme.lower()] + rest
    return f"/vsicurl/{scheme.lower()}://{rest}" if scheme.lower() in _WEB else text


def is_local(name: str | Path) -> bool:
    """Whether a name is that of a file, rather than a URL or a path of a virtual file system."""
    return not gdal_name(name).startswith("/vsi") and "://" not in str(name)


def local_files(name: str | Path) -> list[Path]:
    """Return the local files that a name leads to: the file itself, or the archive around it, as in ``/vsizip/``."""
    text = str(name)
    while match := _VIRTUAL.match(text):
        text = text[match.end() :]
    path = Path(text.replace("{", "").replace("}", ""))
    try:
        return [part for part in (path, *path.parents) if part.is_file()][:1]
    except (OSError, ValueError):
        return []


def is_remote(name: str | Path) -> bool:
    """Whether reading it needs a network, as far as its name says so."""
    return any(system in gdal_name(name) for system in _REMOTE)


def _remember(name: str) -> None:
    """Take note of a name with a query, which GDAL may repeat in messages, or only the end of it."""
    if not ("://" in name or name.startswith("/vsi")) or not (mark := re.search(r"[?#]", name)):
        return
    shown, hidden = name[: mark.start()], name[mark.start() :]
    end = shown.rpartition("/")[2]
    _SECRETS[name] = f"{shown}{hidden[0]}***"
    if end and len(hidden) > 1:
        _SECRETS[end + hidden] = f"{end}{hidden[0]}***"
    while len(_SECRETS) > _REMEMBERED:
        # what was asked for long ago is not told of any more
        del _SECRETS[next(iter(_SECRETS))]


def redacted(text: str | Path) -> str:
    """Return a name or a message in which URLs show no password and no query, which may hold a signature."""
    text = str(text)
    for secret in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(secret, _SECRETS[secret])
    return _QUERY.sub(r"\1?***", _USER.sub("***@", text))
