"""`infdehaze models`: presets and shipped weights."""

import json

import pytest
from infdehaze.network import InfDehaze, count_parameters
from infdehaze.presets import PRESETS
from infdehaze.weights import save_weights

from infdehaze_cli.commands import models


@pytest.mark.slow
def test_every_preset_is_listed_with_its_parameters(cli):
    listed = json.loads(cli("models", "--json").out)

    assert set(listed["presets"]) == set(PRESETS) == {"base", "fast", "lite"}
    assert listed["presets"]["lite"]["parameters"] == count_parameters(InfDehaze(PRESETS["lite"]))
    assert listed["presets"]["base"]["parameters"] > 10 * listed["presets"]["lite"]["parameters"]
    assert listed["presets"]["base"]["widths"] == list(PRESETS["base"].widths)


def test_the_package_ships_weights(cli, monkeypatch):
    monkeypatch.setattr(models, "parameter_counts", lambda: dict.fromkeys(PRESETS, 0))

    listed = json.loads(cli("models", "--json").out)

    assert "lite" in listed["weights"], "the package ships no weights: models/infdehaze/weights/lite.safetensors"
    assert listed["weights"]["lite"]["preset"] == "lite"
    assert 1e6 < listed["weights"]["lite"]["bytes"] < 50e6


def test_the_tables_name_presets_weights_and_licence(cli):
    ended = cli("models")

    assert (ended.code, ended.err) == (0, "")
    for words in ("presets", "weights inside this package", "lite", "fast", "base", "licence", "convnext", "MiB"):
        assert words in ended.out


@pytest.mark.parametrize(
    "card", [{"data": {"fields [a]": "CC0"}, "scores": {"veil": 31.2}}, {"data": "fields", "scores": "31.2 dB"}]
)
def test_what_a_card_says_of_data_and_scores_is_printed(cli, tmp_path, monkeypatch, make_model, card):
    path = tmp_path / "own.safetensors"
    save_weights(path, make_model(), {"licence": "CC-BY [4.0]", **card})
    monkeypatch.setattr(models, "shipped_weights", lambda: {"own": path})
    monkeypatch.setattr(models, "parameter_counts", lambda: dict.fromkeys(PRESETS, 0))

    ended = cli("models")

    assert "CC-BY [4.0]" in ended.out
    assert "fields" in ended.out
    assert "31.2" in ended.out
