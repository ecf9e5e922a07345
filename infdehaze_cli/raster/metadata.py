"""What an output keeps from its source beside pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rasterio.dtypes import in_dtype_range
from rasterio.enums import ColorInterp

Tags = dict[str, dict[str, str]]

#: Metadata domains that describe the file rather than the picture, or that are written by other means.
_FOREIGN_DOMAINS = frozenset(
    {
        "IMAGE_STRUCTURE",
        "DERIVED_SUBDATASETS",
        "SUBDATASETS",
        "RPC",
        "rio_creation_kwds",
        "rio_overview",
        "xml:VRT",
    }
)
#: Tags that no longer hold once pixels change, and one in whose place the output has a mask.
_STALE_PREFIXES = ("STATISTICS_", "OVR_RESAMPLING_ALG", "TIFFTAG_TRANSFERFUNCTION", "NODATA_VALUES")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Everything but pixels that an output takes over from its source.

    Attributes
    ----------
    crs, transform, gcps, gcps_crs, rpcs
        Where it lies; each may be missing. ``transform`` is None rather than the identity.
    nodata
        The nodata value that all bands share, or None.
    has_mask
        Whether the output gets an internal mask: the source has a mask that is neither its alpha band nor its
        nodata value, or its bands have different nodata values, which a GeoTIFF cannot hold.
    descriptions, units, scales, offsets, colours
        One a band.
    tags, band_tags
        Metadata items by domain, of the raster (default domain: "") and of each band.
    """

    crs: Any
    transform: Any
    gcps: tuple[Any, ...]
    gcps_crs: Any
    rpcs: Any
    nodata: float | None
    has_mask: bool
    descriptions: tuple[str | None, ...]
    units: tuple[str | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    colours: tuple[ColorInterp, ...]
    tags: Tags
    band_tags: tuple[Tags, ...]

    @classmethod
    def of(cls, dataset: Any, *, has_masks: bool) -> Metadata:
        """Collect the metadata of an open dataset; ``has_masks`` says whether it has mask bands."""
        gcps, gcps_crs = dataset.gcps
        transform = dataset.transform
        nodata, mixed = _common_nodata(dataset)
        return cls(
            crs=dataset.crs,
            transform=None if transform.is_identity else transform,
            gcps=tuple(gcps),
            gcps_crs=gcps_crs,
            rpcs=dataset.rpcs,
            nodata=nodata,
            has_mask=has_masks or mixed,
            descriptions=tuple(dataset.descriptions),
            units=tuple(dataset.units),
            scales=tuple(dataset.scales),
            offsets=tuple(dataset.offsets),
            colours=tuple(dataset.colorinterp),
            tags=_kept_tags(dataset, 0),
            band_tags=tuple(_kept_tags(dataset, band) for band in range(1, dataset.count + 1)),
        )

    def only(self, bands: tuple[int, ...], colours: tuple[ColorInterp, ...]) -> Metadata:
        """Return what holds for an output of some of the bands, counted from 1, in that order."""

        def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[band - 1] for band in bands)

        return replace(
            self,
            descriptions=pick(self.descriptions),
            units=pick(self.units),
            scales=pick(self.scales),
            offsets=pick(self.offsets),
            colours=colours,
            band_tags=pick(self.band_tags),
        )

    def masked(self) -> Metadata:
        """Return the same with an internal mask in place of the nodata value."""
        return replace(self, nodata=None, has_mask=True)

    def with_items(self, tags: Mapping[str, str]) -> Metadata:
        """Return the same with our own items in the raster's default domain."""
        return replace(self, tags={**self.tags, "": {**self.tags.get("", {}), **tags}})

    def apply(self, dataset: Any, tags: Mapping[str, str], *, band_domain: str = "") -> None:
        """Write the metadata to a dataset that is open for writing.

        Parameters
        ----------
        dataset
            The new dataset.
        tags
            Our own items for the raster's default domain.
        band_domain
            The domain that takes the bands' default metadata.
        """
        if self.gcps:
            dataset.gcps = (list(self.gcps), self.gcps_crs)
        if self.rpcs is not None:
            dataset.rpcs = self.rpcs
        dataset.colorinterp = self.colours
        if any(self.descriptions):
            dataset.descriptions = self.descriptions
        if any(self.units):
            dataset.units = tuple(unit or "" for unit in self.units)
        if any(scale != 1.0 for scale in self.scales) or any(offset != 0.0 for offset in self.offsets):
            dataset.scales, dataset.offsets = self.scales, self.offsets
        for domain, items in self.tags.items():
            if self.gcps:
                # GDAL would move the control points by a pixel each time it writes them as "Point"
                items = {key: value for key, value in items.items() if key != "AREA_OR_POINT"}
            _update_tags(dataset, domain, items, 0)
        _update_tags(dataset, "", tags, 0)
        for band, domains in enumerate(self.band_tags, 1):
            for domain, items in domains.items():
                _update_tags(dataset, domain or band_domain, items, band)

    def lost_in(self, dataset: Any) -> list[str]:
        """Return in words what a GeoTIFF that was read back has lost, or has without being given it.

        It is not asked to say the same: a GeoTIFF cannot hold every CRS as it is, moves control points by half a pixel,
        takes a first band without a colour for grey, and white space in its XML is not what it was.
        """
        found = Metadata.of(dataset, has_masks=self.has_mask)
        # with control points GDAL decides about two of these
        kinds = ["gcps", "rpcs", *([] if self.gcps else ["crs", "transform"])]
        lost = [name for name in kinds if bool(getattr(self, name)) != bool(getattr(found, name))]
        lost += ["nodata"] if (self.nodata is None) != (found.nodata is None) else []
        lost += ["scales"] if (self.scales, self.offsets) != (found.scales, found.offsets) else []
        seen = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        if any(one in seen and one != other for one, other in zip(self.colours, found.colours, strict=True)):
            lost.append("colours")
        return [*lost, *sorted(self._told() - found._told())]

    def _told(self) -> set[str]:
        """Return which items there are, and where: of a domain that is XML itself, the domain."""
        words = ({"description": d or "", "unit": u or ""} for d, u in zip(self.descriptions, self.units, strict=True))
        return {
            f"{domain} {'' if domain.startswith('xml:') else key} ({number})"
            for number, place in enumerate((self.tags, *self.band_tags, *({"": each} for each in words)))
            for domain, items in place.items()
            for key, value in items.items()
            # without a transform that one has no place
            if value.strip() and key != "AREA_OR_POINT"
        }

    def creation(self) -> dict[str, Any]:
        """Return the keywords of `rasterio.open` that have to be known when a GeoTIFF is created."""
        rgb = self.colours[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        keywords: dict[str, Any] = {"PHOTOMETRIC": "RGB" if rgb else "MINISBLACK"}
        if ColorInterp.alpha not in self.colours:
            keywords["ALPHA"] = "UNSPECIFIED"
        for key, value in (("crs", self.crs), ("transform", self.transform), ("nodata", self.nodata)):
            if value is not None:
                keywords[key] = value
        return keywords


def _common_nodata(dataset: Any) -> tuple[float | None, bool]:
    """Return the nodata value that all bands share if their dtype can hold it, and whether they differ."""
    values = [None if value is None else float(value) for value in dataset.nodatavals]
    first = values[0]
    if any(repr(value) != repr(first) for value in values):
        return None, True
    if first is None or not in_dtype_range(first, dataset.dtypes[0]):
        return None, False
    return first, False


def _kept_tags(dataset: Any, band: int) -> Tags:
    """Return the metadata of the raster (0) or a band that still holds for a changed picture."""
    domains = ["", *(domain for domain in dataset.tag_namespaces(band) if domain not in _FOREIGN_DOMAINS)]
    kept: Tags = {}
    for domain in domains:
        items = dataset.tags(band, ns=domain or None)
        items = {key: value for key, value in items.items() if not key.startswith(_STALE_PREFIXES)}
        if items:
            kept[domain] = items
    return kept


def _update_tags(dataset: Any, domain: str, items: Mapping[str, str], band: int) -> None:
    """Set metadata items of one domain; ``band`` 0 is the raster."""
    if domain.startswith("xml:"):
        # such a domain is one text, but rasterio joins a key and a value: split it where it will be joined
        items = dict([items[domain].split("=", 1)]) if "=" in items.get(domain, "") else {}
    if items:
        dataset.update_tags(bidx=band, ns=domain or None, **items)
