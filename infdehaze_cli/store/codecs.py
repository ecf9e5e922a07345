"""How chunks are coded: raw by default, since residuals hardly shrink, and always with a crc32c at their end."""

from __future__ import annotations

from typing import Any, Literal, get_args

from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec, ZstdCodec

Codec = Literal["none", "lz4", "zstd", "blosc"]
CODECS: tuple[str, ...] = get_args(Codec)


def codecs_of(name: str, itemsize: int) -> list[Any]:
    """Return the codecs of a chunk, which numcodecs carries out: compression, then the checksum of what is stored.

    Parameters
    ----------
    name : str
        ``none``, ``lz4``, ``zstd`` (level 1) or ``blosc`` (bits of equal weight together, then lz4).
    itemsize : int
        Bytes of a number.
    """
    shuffles = {"lz4": BloscShuffle.noshuffle, "blosc": BloscShuffle.bitshuffle}
    if name in shuffles:
        return [BloscCodec(cname="lz4", shuffle=shuffles[name], typesize=itemsize), Crc32cCodec()]
    return [ZstdCodec(level=1), Crc32cCodec()] if name == "zstd" else [Crc32cCodec()]
