"""`infdehaze doctor`: what this machine offers."""

import json

import pytest
import rasterio
import torch
from infdehaze.weights import shipped_weights

from infdehaze_cli import calibration


@pytest.fixture(autouse=True)
def small_probe(monkeypatch):
    monkeypatch.setattr(calibration, "PROBE_BYTES", 1024**2)


def test_it_names_versions_drivers_devices_and_the_scratch_folder(cli, scratch):
    found = json.loads(cli("doctor", "--json").out)

    assert set(found) == {"versions", "GDAL drivers", "devices", "scratch", "auto chooses"}
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["GDAL"] == rasterio.__gdal_version__
    assert (found["GDAL drivers"]["GTiff"], found["GDAL drivers"]["COG"]) == ("yes", "yes")
    assert "cpu" in found["devices"]
    assert found["scratch"]["folder"] == str(scratch)
    assert found["scratch"]["write, synced"].endswith("/s")
    assert list(scratch.iterdir()) == []


def test_it_says_what_auto_would_choose(cli):
    chosen = json.loads(cli("doctor", "--json").out)["auto chooses"]

    assert chosen["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert chosen["precision"] == ("fp16" if torch.cuda.is_available() else "fp32")
    assert chosen["weights"].split(", ") == list(shipped_weights())


def test_the_tables_are_for_people(cli, scratch):
    ended = cli("doctor")

    assert (ended.code, ended.err) == (0, "")
    for words in ("versions", "GDAL drivers", "devices", "auto chooses", str(scratch)):
        assert words in ended.out


def test_another_scratch_folder_can_be_examined(cli, tmp_path):
    (tmp_path / "[fast] disk").mkdir()

    ended = cli("doctor", "--scratch", tmp_path / "[fast] disk")

    assert "[fast] disk" in ended.out


def test_a_scratch_folder_that_cannot_be_used_is_5(cli, tmp_path):
    ended = cli("doctor", "--scratch", tmp_path / "none")

    assert (ended.code, ended.out, ended.err.count("\n")) == (5, "", 1)
    assert "--scratch" in ended.err
