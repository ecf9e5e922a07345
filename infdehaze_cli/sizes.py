"""Sizes in bytes as people write them: ``4G``, ``512MiB``, ``1.5g``. One letter means a power of 1024, as in rclone."""

from __future__ import annotations

import re
from fractions import Fraction

from .errors import UsageError

_UNITS = "KMGTP"
_FORM = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*(?:([KMGTP])(i?B)?|B)?\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes that a text names.

    ``K``, ``M``, ``G``, ``T``, ``P`` and ``KiB``... are powers of 1024; ``KB``, ``MB``... powers of 1000.

    Raises
    ------
    UsageError
        When the text is not a size.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a size. Write a number and a unit, such as 4G or 512MiB.")
    number, unit, suffix = match.groups()
    if unit is None:
        return int(Fraction(number))
    base = 1000 if suffix in ("B", "b") else 1024
    return int(Fraction(number) * base ** (1 + _UNITS.index(unit.upper())))


def format_size(size: int) -> str:
    """Return bytes as a short text: ``1.5 GiB``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
