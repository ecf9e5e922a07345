"""``python -m infdehaze_cli``, for starters of processes such as ``torchrun``."""

from .app import main

main()
