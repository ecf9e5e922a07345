"""Send every raster of a folder through ``infdehaze run``, and say what became of it.

    python tools/rasters_table.py ../shared/rasters ../shared/scenes > docs/rasters.md

Each file gets a process of its own, forked from one that has imported everything, so that time and memory are those of
the file alone. Needs a POSIX system.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOT_RASTERS = {".md", ".txt", ""}
TIME_LIMIT = 300
"""Seconds of wall time after which a file counts as one that hangs."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    name: str
    kind: str
    code: int | None
    """Exit code; None where it did not end."""
    message: str
    broken: tuple[str, ...] = ()
    """Promises that the output breaks."""
    cpu_seconds: float = 0.0
    extra_bytes: int = 0
    left: tuple[str, ...] = field(default=())
    """Files that were left behind, beside the output."""


def files_below(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield every file that may be a raster: its name below the folder's parent, and its path."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            licence = path.name in ("LICENSE", "README")
            if path.is_file() and not licence and (path.suffix not in NOT_RASTERS or "fuzz" in str(path)):
                yield path.relative_to(folder.parent).as_posix(), path


def outcomes(folders: Sequence[Path]) -> list[Outcome]:
    """Send all files through, one after the other."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["infdehaze_cli.app", "infdehaze_cli.raster", "rio_cogeo.cogeo", "infdehaze.swin"])
    found = []
    for name, path in files_below(folders):
        with tempfile.TemporaryDirectory() as place:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(theirs, name, str(path), place))
            process.start()
            theirs.close()
            try:
                found.append(ours.recv() if ours.poll(TIME_LIMIT) else Outcome(name, "", None, "hangs"))
            except EOFError:
                process.join()
                found.append(Outcome(name, "", None, f"ends with signal {-(process.exitcode or 0)}"))
            process.kill()
            process.join()
    return found


def _child(pipe: Any, name: str, path: str, place: str) -> None:
    pipe.send(outcome_of(name, Path(path), Path(place)))


def outcome_of(name: str, path: Path, place: Path) -> Outcome:
    """Clean one file within this process, and look at what came out."""
    import torch

    from infdehaze_cli.app import main

    torch.set_num_threads(1)
    for variable in [key for key in os.environ if key.startswith("INFDEHAZE_")]:
        del os.environ[variable]
    scratch, dst, said = place / "scratch", place / "out" / "clean.tif", place / "said"
    scratch.mkdir()
    dst.parent.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF)
    with said.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            main(["run", str(path), "-o", str(dst), "-q", "--device", "cpu", "--scratch", str(scratch)])
        except SystemExit as error:
            code = int(error.code or 0)
        sys.stderr.flush()
    after = resource.getrusage(resource.RUSAGE_SELF)
    message = said.read_text(errors="replace")
    expected = {dst} if code == 0 else set()
    left = tuple(sorted(p.name for d in (dst.parent, scratch) for p in d.iterdir() if p not in expected))
    return Outcome(
        name,
        kind_of(path),
        code,
        message.strip().removeprefix("infdehaze: ").replace(str(path), path.name),
        tuple(broken_promises(path, dst)) if code == 0 else (),
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        (after.ru_maxrss - before.ru_maxrss) * (1 if sys.platform == "darwin" else 1024),
        left,
    )


def kind_of(path: Path) -> str:
    """Return size, bands and type of a raster, as far as its header tells."""
    import rasterio

    from infdehaze_cli.raster._gdal import GDAL_ERRORS, open_quietly

    try:
        with rasterio.Env(), open_quietly(path) as dataset:
            types = "+".join(sorted(set(dataset.dtypes)))
            return f"{dataset.width} x {dataset.height}, {dataset.count} {types}"
    except GDAL_ERRORS:
        return ""


def broken_promises(src: Path, dst: Path) -> Iterator[str]:
    """Yield what an output did not keep of its source (README, "What it promises")."""
    import numpy as np
    import rasterio
    from rio_cogeo.cogeo import cog_validate

    from infdehaze_cli.geometry import Window
    from infdehaze_cli.raster import Scene
    from infdehaze_cli.raster._gdal import open_quietly

    with rasterio.Env(), Scene.open(src) as scene, open_quietly(src) as before, open_quietly(dst) as after:
        for fact in (
            "shape",
            "count",
            "dtypes",
            "transform",
            "colorinterp",
            "descriptions",
            "units",
            "scales",
            "offsets",
        ):
            old, new = (_spelled(fact, getattr(dataset, fact)) for dataset in (before, after))
            if old != new:
                yield f"{fact}: {old} became {new}"
        # a GeoTIFF has one place for a CRS: control points bring their own
        if not before.gcps[0] and before.crs != after.crs:
            yield f"CRS: {before.crs} became {after.crs}"
        points = [([(p.row, p.col, p.x, p.y, p.z) for p in d.gcps[0]], d.gcps[1]) for d in (before, after)]
        if points[0] != points[1]:
            yield "ground control points differ"
        # GDAL reads the numbers with 15 digits
        models = [d.rpcs.to_dict() if d.rpcs else {} for d in (before, after)]
        if models[0].keys() != models[1].keys() or not all(
            np.allclose(models[0][key] or 0, models[1][key] or 0, rtol=1e-14, atol=0) for key in models[0]
        ):
            yield "rational polynomials differ"
        mixed = len({repr(value) for value in before.nodatavals}) > 1
        if not mixed and repr(before.nodatavals) != repr(after.nodatavals):
            yield f"nodata: {before.nodatavals} became {after.nodatavals}"
        kept = {key: value for key, value in before.tags().items() if not key.startswith(("STATISTICS_", "OVR_"))}
        # "Area" is what a raster without this item means
        told = {"AREA_OR_POINT": "Area", **after.tags()}
        lost = {key for key, value in kept.items() if told.get(key) != value}
        if lost:
            yield f"tags: {', '.join(sorted(lost))} lost"
        old, new = before.read(), after.read()
        valid = scene.read(Window(0, 0, scene.height, scene.width)).valid
        for hidden, words in ((~valid, "ours"), (before.dataset_mask() == 0, "GDAL's")):
            if old[:, hidden].tobytes() != new[:, hidden].tobytes():
                yield f"pixels without data, by {words} reckoning, changed"
        others = [band for band in range(before.count) if band + 1 not in scene.colour_bands]
        if old[others].tobytes() != new[others].tobytes():
            yield "bands that are no colour changed"
        masks = [d.read_masks(list(scene.colour_bands)) for d in (before, after)]
        if not mixed and not np.array_equal(masks[0] != 0, masks[1] != 0):
            yield "the mask changed"
        good, errors, _ = cog_validate(str(dst), quiet=True)
        if not good:
            yield f"no valid COG: {'; '.join(errors)}"


def _spelled(fact: str, value: Any) -> Any:
    """Return a fact as a GeoTIFF can say it."""
    from rasterio.enums import ColorInterp

    if fact == "units":
        return tuple(unit or "" for unit in value)
    if fact == "colorinterp" and value[0] == ColorInterp.undefined:
        # its first band is grey where it is no colour
        return (ColorInterp.gray, *value[1:])
    return value


def render(found: Sequence[Outcome]) -> str:
    """Return the page, in Markdown; nothing in it differs from run to run."""
    done = [outcome for outcome in found if outcome.code == 0]
    lines = [
        "# What becomes of odd rasters",
        "",
        f"{len(found)} files from the test suites of rasterio, rio-cogeo, rio-tiler, image-tiff and others, and from",
        "real flights, each through `infdehaze run` with the weights of the package. Written by",
        "`tools/rasters_table.py`; `tests/cli/test_rasters_table.py` fails when this page is stale.",
        "",
        f"**{len(done)} are processed.** Of each the test compares size, bands, data type, CRS, transform, ground",
        "control points, RPCs, nodata, mask, colour interpretation, descriptions, units, scales, offsets and tags with",
        "the source; pixels without data and bands that are no colour bit for bit; and it validates the COG.",
        "What a GeoTIFF cannot hold is let go: a second CRS beside that of ground control points, and that a first",
        "band is not even grey.",
        "",
        f"**{len(found) - len(done)} are refused**, with one line, an exit code and no output, in under 2 s of",
        "processor time and 300 MB of memory beyond those of an idle program.",
    ]
    group = ""
    for outcome in found:
        # the collection that a file comes from, or the folder of scenes
        parts = outcome.name.split("/")
        if (collection := parts[1] if len(parts) > 2 else parts[0]) != group:
            group = collection
            lines += ["", f"## {group}", "", "| file | size, bands | outcome |", "|---|---|---|"]
        said = "processed" if outcome.code == 0 else f"exit code {outcome.code}: {outcome.message}"
        said = said.replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| `{parts[-1]}` | {outcome.kind} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(outcomes([Path(argument) for argument in sys.argv[1:]])), end="")
