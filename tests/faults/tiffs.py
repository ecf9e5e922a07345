"""TIFF files written by hand, whose headers may claim anything."""

import struct

SHORT, LONG, LONG8 = (3, 2, "H"), (4, 4, "I"), (16, 8, "Q")


def big_tiff(tags, pixels=b""):
    """Return a BigTIFF of one directory: tags are number to (type, values); tag 273 or 324 is moved to the pixels."""
    offset = 16 + 8 + 20 * len(tags) + 8
    entries, extra = b"", b""
    for number, ((kind, size, letter), values) in sorted(tags.items()):
        content = struct.pack(f"<{len(values)}{letter}", *values)
        if len(content) > 8:
            place = struct.pack("<Q", offset + len(extra))
            extra += content
        else:
            place = content.ljust(8, b"\0")
        entries += struct.pack("<HHQ", number, kind, len(values)) + place
        assert len(content) == size * len(values)
    start = offset + len(extra)
    for number in (273, 324):
        if number in tags and len(tags[number][1]) == 1:
            marker = struct.pack("<HHQQ", number, LONG8[0], 1, tags[number][1][0])
            entries = entries.replace(marker, struct.pack("<HHQQ", number, LONG8[0], 1, start))
    header = b"II" + struct.pack("<HHHQ", 43, 8, 0, 16)
    return header + struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", 0) + extra + pixels


def one_strip(width, height, *, bits=8, bands=3, compression=1, pixels=b""):
    """Return a file whose only strip is said to hold the whole picture."""
    return big_tiff(
        {
            256: (LONG, [width]),
            257: (LONG, [height]),
            258: (SHORT, [bits] * bands),
            259: (SHORT, [compression]),
            262: (SHORT, [2 if bands == 3 else 1]),
            273: (LONG8, [0]),
            277: (SHORT, [bands]),
            278: (LONG, [height]),
            279: (LONG8, [len(pixels)]),
            284: (SHORT, [1]),
        },
        pixels,
    )


def one_tile(width, height, *, bits=8, tile=1 << 16, pixels=b""):
    """Return a grey file whose tiles are as large as a tile may be; all but the first are missing."""
    count = -(-width // tile) * -(-height // tile)
    return big_tiff(
        {
            256: (LONG, [width]),
            257: (LONG, [height]),
            258: (SHORT, [bits]),
            259: (SHORT, [1]),
            262: (SHORT, [1]),
            277: (SHORT, [1]),
            284: (SHORT, [1]),
            322: (LONG, [tile]),
            323: (LONG, [tile]),
            324: (LONG8, [0] * count),
            325: (LONG8, [0] * count),
        },
        pixels,
    )
