"""Blend the weights that a training began with and those that it made.

    python tools/blend.py START.safetensors RUN/weights.safetensors --share 0.25 -o BLEND.safetensors

A training on few sources gains most on their own pictures, and loses some of what held for others. On the straight
line between its start and its end there are weights that do better on pictures of other places than both (Wortsman et
al. 2022, "Robust fine-tuning of zero-shot models"). The share is that of the end; choose it on pictures of a source
that was not trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from infdehaze.network import InfDehaze
from infdehaze.weights import load_model, read_info, save_weights


@torch.no_grad()
def blend(start: InfDehaze, end: InfDehaze, share: float) -> InfDehaze:
    """Return a network whose values lie at ``share`` of the way from ``start`` to ``end``, 0..1."""
    blended = InfDehaze(end.preset)
    state = start.state_dict()
    blended.load_state_dict({name: state[name].lerp(value, share) for name, value in end.state_dict().items()})
    return blended.eval()


def main() -> None:
    """Read both, write the blend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", help="weights that the training began with")
    parser.add_argument("end", help="weights that it made")
    parser.add_argument("--share", type=float, default=0.25, help="of the end, 0 to 1")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    start, end = load_model(given.start), load_model(given.end)
    if start.preset != end.preset:
        parser.error("the weights are of different networks: name those that the training began with (--from)")
    card = {**read_info(given.end).card, "blended": {"start": Path(given.start).name, "share": given.share}}
    save_weights(given.output, blend(start, end, given.share), card)


if __name__ == "__main__":
    main()
