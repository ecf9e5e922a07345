"""One process of a run on several: takes steps, saves, and writes down what it holds. Started by ``torchrun``."""

import json
import sys
from pathlib import Path

from infdehaze.presets import PRESETS, Preset
from safetensors.torch import save_file

from infdehaze_cli.training.config import TrainConfig
from infdehaze_cli.training.datasets import open_data
from infdehaze_cli.training.loop import Trainer
from infdehaze_cli.training.world import join_world


def main(data, run, found, preset, changes, stops):
    PRESETS["tiny"] = Preset.from_dict(json.loads(preset))
    config = TrainConfig(
        data=Path(data),
        out=Path(run),
        preset="tiny",
        lr=2e-3,
        warmup=2,
        crops=((64, 2, 0.5), (96, 1, 0.5)),
        **json.loads(changes),
    )
    with join_world("cpu") as world:
        pictures = open_data(config.data, print)
        for stop in json.loads(stops):
            trainer = Trainer.start(config, world)
            supply = trainer.supply(pictures)
            while trainer.step < stop:
                trainer.train_step(supply)
            trainer.save()
        named = {f"model/{name}": value for name, value in trainer.model.state_dict().items()}
        named |= {f"averaged/{name}": value for name, value in trainer.averaged.items()}
        named["hazy"] = trainer.supply(pictures).take().hazy_B3HW
        facts = {"recent": trainer.recent, "elapsed": trainer.elapsed}
        save_file(named, Path(found) / f"{world.rank}.safetensors", {"facts": json.dumps(facts)})


if __name__ == "__main__":
    main(*sys.argv[1:])
