"""How good a dehazed raster is: closeness to a clear reference and freedom from tile seams, streamed."""

from infdehaze_cli.scores.colour import ciede2000, srgb_to_lab
from infdehaze_cli.scores.compare import check_pair, compare_folders, compare_rasters
from infdehaze_cli.scores.metrics import ScoreAccumulator, Scores, mean_scores
from infdehaze_cli.scores.seam import SeamAccumulator, border_positions, seam_index

__all__ = [
    "ScoreAccumulator",
    "Scores",
    "SeamAccumulator",
    "border_positions",
    "check_pair",
    "ciede2000",
    "compare_folders",
    "compare_rasters",
    "mean_scores",
    "seam_index",
    "srgb_to_lab",
]
