"""A QGIS style beside a haze map: QGIS shows the map with it as soon as it is opened."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
from rasterio.enums import Resampling

from infdehaze_cli.raster._gdal import open_quietly

from .ramp import depth_range, stops

_SAMPLE = 512
"""Pixels of the longer side of the overview from which the range of colours is taken."""


def style_path(haze_map: str | Path) -> Path:
    """Return the name that QGIS looks for."""
    return Path(haze_map).with_suffix(".qml")


def style_of(haze_map: str | Path) -> bytes:
    """Return the style of a haze map: its green or grey band through a colour ramp, with a legend.

    The range is that of the middle 96 per cent of an overview's values.
    """
    with open_quietly(haze_map) as dataset:
        band = min(2, dataset.count)
        factor = max(1.0, max(dataset.shape) / _SAMPLE)
        shape = tuple(max(1, round(side / factor)) for side in dataset.shape)
        depth = dataset.read(band, out_shape=shape, resampling=Resampling.average).astype(np.float32)
        name = dataset.descriptions[band - 1] or "optical depth"
    return _document(band, name, *depth_range(depth))


def _document(band: int, name: str, low: float, high: float) -> bytes:
    colours = stops(low, high)
    root = xml.Element("qgis", version="3.22", styleCategories="Symbology", hasScaleBasedVisibilityFlag="0")
    renderer = xml.SubElement(
        xml.SubElement(root, "pipe"),
        "rasterrenderer",
        type="singlebandpseudocolor",
        band=str(band),
        opacity="1",
        alphaBand="-1",
        nodataColor="",
        classificationMin=f"{low:.6g}",
        classificationMax=f"{high:.6g}",
    )
    xml.SubElement(renderer, "rasterTransparency")
    shader = xml.SubElement(
        xml.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="1",
        clip="0",
        labelPrecision="3",
        minimumValue=f"{low:.6g}",
        maximumValue=f"{high:.6g}",
    )
    ramp = xml.SubElement(shader, "colorramp", type="gradient", name="[source]")
    options = xml.SubElement(ramp, "Option", type="Map")
    inner = (f"{i / (len(colours) - 1):g};{_rgba(colour)}" for i, (_, colour) in enumerate(colours[1:-1], 1))
    for key, value in (
        ("color1", _rgba(colours[0][1])),
        ("color2", _rgba(colours[-1][1])),
        ("discrete", "0"),
        ("rampType", "gradient"),
        ("stops", ":".join(inner)),
    ):
        xml.SubElement(options, "Option", type="QString", name=key, value=value)
    for i, (depth, colour) in enumerate(colours):
        label = f"{depth:.3f}" + (f" ({name})" if i == 0 else "")
        xml.SubElement(shader, "item", value=f"{depth:.6g}", color=colour, alpha="255", label=label)
    xml.indent(root)
    return b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + xml.tostring(root) + b"\n"


def _rgba(colour: str) -> str:
    return ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5)) + ",255"
