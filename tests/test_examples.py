"""The examples run as they are."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from infdehaze.network import InfDehaze
from infdehaze.weights import save_weights

from infdehaze_cli.sample import write_landscape
from infdehaze_cli.training.haze import STYLES, TRAINING_STYLES

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = InfDehaze(tiny)
        model.decoder.head.linear.bias.data.normal_(std=0.05)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, model, {})
    return path


@pytest.fixture
def call(weights, tmp_path):
    """Run a program as a user would, with this environment's `infdehaze` on the path."""

    def run(*words, **environment):
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        settings = {"PATH": path, "INFDEHAZE_WEIGHTS": str(weights), "INFDEHAZE_SCRATCH": str(tmp_path)}
        return subprocess.run(
            list(map(str, words)),
            capture_output=True,
            text=True,
            env={**os.environ, **settings, **environment},
            cwd=tmp_path,
            check=False,
        )

    return run


def test_every_example_says_what_it_does_and_is_short():
    for path in EXAMPLES.iterdir():
        lines = path.read_text().splitlines()
        assert len(lines) <= 60, path
        assert any(f"examples/{path.name}" in line for line in lines[:12]), f"{path} does not say how it is called"


@pytest.fixture
def run_python(monkeypatch, capsys, tmp_path):
    """Run a Python example in this process: the code, and what it printed."""

    def run(name, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        code = 0
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


def test_python_api_plans_cleans_and_reports(run_python, weights, tmp_path):
    write_landscape(tmp_path / "scene.tif", 100, 130)

    code, out, err = run_python("python_api.py", "scene.tif", "clean.tif", "--weights", weights, "--gpu-mem", "1G")

    assert code == 0
    assert "tiles, 1 at a time, residuals in dram" in out
    assert "clean.tif: 130 x 100 px in " in out
    assert "decode 100%" in err
    with rasterio.open(tmp_path / "clean.tif") as file:
        assert file.shape == (100, 130)


def test_python_api_ends_with_the_code_of_the_error(run_python, tmp_path):
    code, out, err = run_python("python_api.py", "none.tif", "clean.tif")

    assert (code, out) == (3, "")
    assert err.startswith("Cannot open none.tif")
    assert list(tmp_path.iterdir()) == []


def test_synthetic_scene_makes_hazes_cleans_and_scores(run_python, weights, tmp_path):
    code, out, _ = run_python("synthetic_scene.py", "made/here", "--size", "96", "--weights", weights)

    assert code == 0
    assert [line.split(":")[0].strip() for line in out.splitlines()] == ["transmission in green", "hazy", "restored"]
    names = {path.name for path in (tmp_path / "made" / "here").iterdir()}
    assert names == {"clear.tif", "hazy.tif", "restored.tif", "transmission.tif"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_haze_sheet_draws_every_style_and_its_haze(run_python, tmp_path):
    code, out, _ = run_python("haze_sheet.py", "haze.png", "--seeds", "2", "--size", "64")

    kinds = 1 + len(STYLES) + len(TRAINING_STYLES)
    assert (code, out) == (0, f"haze.png: {kinds} kinds of haze, 2 seeds each\n")
    with rasterio.open(tmp_path / "haze.png") as file:
        rows = np.array_split(file.read([1, 2, 3]).astype(float), kinds, axis=1)
    # the middle of the first picture of a row, without caption and border: dense haze has less contrast than none
    clear, dense = (rows[i][:, 60:-100, 80:240] for i in (0, 1 + list(STYLES).index("dense")))
    assert dense.std() < 0.5 * clear.std()


SHELL = shutil.which("sh")


@pytest.mark.slow
@pytest.mark.skipif(SHELL is None, reason="there is no POSIX shell here")
def test_clean_folder_skips_what_is_done_and_goes_on_after_a_failure(call, tmp_path):
    scenes, clean = tmp_path / "my scenes", tmp_path / "clean ones"
    scenes.mkdir()
    (scenes / "broken $(x).tif").write_text("no raster")
    write_landscape(scenes / "c d.tif", 40, 50)
    write_landscape(scenes / "done.tif", 30, 20)
    clean.mkdir()
    (clean / "done.tif").write_text("from an earlier call")

    ended = call(SHELL, EXAMPLES / "clean_folder.sh", "my scenes", "clean ones", "--strength", "0")

    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == "1 cleaned, 1 done before, 1 failed\n"
    assert "my scenes/broken $(x).tif failed with code 3" in ended.stderr
    results = [json.loads(line) for line in (clean / "runs.jsonl").read_text().splitlines()]
    assert [Path(result["dst"]).name for result in results] == ["c d.tif"]
    assert {path.name for path in clean.iterdir()} == {"c d.tif", "done.tif", "runs.jsonl"}
    assert (clean / "done.tif").read_text() == "from an earlier call"
    with rasterio.open(scenes / "c d.tif") as before, rasterio.open(clean / "c d.tif") as after:
        np.testing.assert_array_equal(before.read(), after.read())


@pytest.mark.skipif(SHELL is None, reason="there is no POSIX shell here")
@pytest.mark.parametrize("words", [[], ["only-one"], ["no-such-folder", "out"]])
def test_clean_folder_shows_its_usage(call, tmp_path, words):
    ended = call(SHELL, EXAMPLES / "clean_folder.sh", *words)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "usage: " in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(SHELL is None, reason="there is no POSIX shell here")
@pytest.mark.parametrize("code", [130, 143])
def test_clean_folder_stops_when_it_is_interrupted(call, tmp_path, code):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "infdehaze"
    program.write_text(f"#!{SHELL}\necho called >> '{tmp_path}/calls'\nexit {code}\n")
    program.chmod(0o755)
    (tmp_path / "scenes").mkdir()
    for name in ("a.tif", "b.tif"):
        (tmp_path / "scenes" / name).touch()

    ended = call(
        SHELL,
        EXAMPLES / "clean_folder.sh",
        "scenes",
        "clean",
        PATH=os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]),
    )

    assert ended.returncode == code
    assert (tmp_path / "calls").read_text() == "called\n"
