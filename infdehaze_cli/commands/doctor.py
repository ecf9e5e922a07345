"""``infdehaze doctor``: is everything here that a run needs."""

from __future__ import annotations

from pathlib import Path

from infdehaze_cli import console as c
from infdehaze_cli.doctor import examine
from infdehaze_cli.plan import default_scratch


def doctor(scratch: c.Scratch = None, as_json: c.AsJson = False, debug: c.Debug = False) -> None:
    """Show versions, GDAL drivers, devices, the speed of the scratch folder, and what `auto` would choose."""
    findings = examine(Path(scratch or default_scratch()))
    if as_json:
        c.print_json(findings)
        return
    for title, facts in findings.items():
        c.print_table(title, [(key, str(value)) for key, value in facts.items()], ("", ""))
