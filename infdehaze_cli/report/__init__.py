"""What a run shows beside its output: a page that explains it, a preview, a style for its haze map."""

from infdehaze_cli.report.beside import Beside

__all__ = ["Beside"]
