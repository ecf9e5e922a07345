"""``infdehaze models``: presets and weights."""

from __future__ import annotations

from infdehaze.network import count_parameters_of
from infdehaze.presets import PRESETS
from infdehaze.weights import read_info, shipped_weights

from infdehaze_cli import console as c
from infdehaze_cli.sizes import format_size


def parameter_counts() -> dict[str, int]:
    """Return the parameters of each preset."""
    return {name: count_parameters_of(preset) for name, preset in PRESETS.items()}


def models(as_json: c.AsJson = False, debug: c.Debug = False) -> None:
    """List the presets, and the weights that are inside this package with what is known of them."""
    counts = parameter_counts()
    infos = {name: read_info(path) for name, path in shipped_weights().items()}
    if as_json:
        presets = {name: {**preset.to_dict(), "parameters": counts[name]} for name, preset in PRESETS.items()}
        weights = {
            name: {"preset": i.preset.name, "bytes": i.path.stat().st_size, **i.card} for name, i in infos.items()
        }
        c.print_json({"presets": presets, "weights": weights})
        return
    rows = [
        (name, preset.block, f"{counts[name] / 1e6:.2f} M", " ".join(map(str, preset.widths)), str(preset.stem_stride))
        for name, preset in PRESETS.items()
    ]
    c.print_table("presets", rows, ("name", "block", "parameters", "widths", "stem"))
    # weights may be of a preset with changes
    shipped = [
        (
            name,
            info.preset.name,
            f"{count_parameters_of(info.preset) / 1e6:.2f} M",
            format_size(info.path.stat().st_size),
            str(info.card.get("licence", "not stated")),
        )
        for name, info in infos.items()
    ]
    c.print_table("weights inside this package", shipped, ("name", "preset", "parameters", "size", "licence"))
    for name, info in infos.items():
        for key in ("data", "scores"):
            value = info.card.get(key)
            if isinstance(value, dict):
                c.print_table(f"{name}: {key}", [(k, str(v)) for k, v in value.items()], ("", ""))
            elif value:
                c.out.print(f"{name}: {key}: {value}", markup=False)
