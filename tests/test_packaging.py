"""The wheel: two packages, their weights, and nothing else."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import infdehaze_cli

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the sources."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("infdehaze_cli", "models"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy]
    built = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.mark.slow
def test_the_wheel_holds_two_packages_and_no_third(names):
    info = f"infdehaze-{PROJECT['version']}.dist-info"

    assert {name.split("/")[0] for name in names} == {"infdehaze", "infdehaze_cli", info}


@pytest.mark.slow
def test_the_wheel_is_typed_and_carries_weights_and_licence(names):
    assert {"infdehaze/py.typed", "infdehaze_cli/py.typed"} <= set(names)
    assert "infdehaze/weights/lite.safetensors" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_what_pages_are_made_of(names):
    kinds = (".py", ".html", ".css")
    modules = {
        path.relative_to(root).as_posix()
        for root, package in ((ROOT, "infdehaze_cli"), (ROOT / "models", "infdehaze"))
        for path in (root / package).rglob("*")
        if path.suffix in kinds
    }

    assert modules == {name for name in names if name.endswith(kinds)}
    assert "infdehaze_cli/bench/report.html" in modules


OUTSIDE = """
import sys
from importlib.util import find_spec

site, *ours = sys.argv[1:]
sys.path[:] = [site, *(path for path in sys.path if path not in ("", *ours))]
import infdehaze
from infdehaze.weights import load_model

load_model("lite")
print(infdehaze.__file__)
print(find_spec("models"))
print({name.split(".")[0] for name in sys.modules} & {"infdehaze_cli", "rasterio", "zarr", "typer"} or "alone")
"""


@pytest.mark.slow
def test_the_installed_network_works_alone_and_there_is_no_models(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # the sources of this checkout must not stand in for what was installed
    command = [sys.executable, "-c", OUTSIDE, site, ROOT, ROOT / "models"]

    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, check=True)

    place, models, company = ended.stdout.splitlines()
    assert Path(place).is_relative_to(site)
    assert (models, company) == ("None", "alone")


def test_the_program_is_declared_and_installed():
    (script,) = entry_points(group="console_scripts", name="infdehaze")

    assert script.value == "infdehaze_cli.app:main"
    assert version("infdehaze") == PROJECT["version"]


def test_the_names_that_the_library_exports_are_there_and_sorted():
    assert sorted(infdehaze_cli.__all__) == infdehaze_cli.__all__
    assert all(hasattr(infdehaze_cli, name) for name in infdehaze_cli.__all__)


def test_every_dependency_has_a_lower_bound_and_a_pin():
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    wanted = [
        *PROJECT["dependencies"],
        *(name for extra in PROJECT["optional-dependencies"].values() for name in extra),
    ]

    for requirement in wanted:
        name, bound, _ = requirement.partition(">=")
        assert bound, f"{requirement} has no lower bound"
        assert name.lower() in pins, f"{name} is not pinned in constraints.txt"
