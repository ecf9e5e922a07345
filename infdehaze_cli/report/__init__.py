"""What a run shows beside its output (a page, a preview, a style), and the reversible output."""

from infdehaze_cli.report.beside import Beside
from infdehaze_cli.report.vrt import VrtWriter

__all__ = ["Beside", "VrtWriter"]
