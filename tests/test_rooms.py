"""Who may import whom: each room of the house knows only what lies downstream of it."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
APPLICATION, NETWORK = ROOT / "infdehaze_cli", ROOT / "models" / "infdehaze"

RULES = [
    (NETWORK, {"infdehaze_cli", "rasterio", "zarr", "typer", "rich", "models"}),
    (APPLICATION, {"models"}),
    (APPLICATION / "engine", {"rasterio", "typer", "click", "rich", "infdehaze_cli.raster", "infdehaze_cli.console"}),
    (APPLICATION / "raster", {"torch", "infdehaze", "typer", "rich", "infdehaze_cli.engine", "infdehaze_cli.store"}),
    (
        APPLICATION / "attribution",
        {"rasterio", "typer", "click", "rich", "infdehaze_cli.raster", "infdehaze_cli.store"},
    ),
    (APPLICATION / "store", {"infdehaze", "rasterio", "infdehaze_cli.raster", "infdehaze_cli.engine"}),
    (APPLICATION / "training", {"infdehaze_cli.engine", "typer", "rich"}),
    (APPLICATION / "report", {"torch", "infdehaze", "typer", "rich", "infdehaze_cli.store", "infdehaze_cli.commands"}),
    (APPLICATION / "scores", {"infdehaze", "infdehaze_cli.engine", "infdehaze_cli.raster"}),
    (APPLICATION / "commands", {"torch", "zarr", "rasterio"}),
    (APPLICATION / "plan.py", {"torch", "rasterio", "infdehaze_cli.engine", "infdehaze_cli.raster"}),
    (APPLICATION / "api.py", {"typer", "click", "rich", "infdehaze_cli.console", "infdehaze_cli.commands"}),
    (APPLICATION / "scene_plan.py", {"typer", "click", "rich", "infdehaze_cli.console", "infdehaze_cli.commands"}),
]


def sources(place):
    """List the modules of a room."""
    found = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert found, f"there is no room {place}"
    return found


def package_of(path):
    """Return the package that relative imports of a module start from."""
    root = ROOT / "models" if NETWORK in path.parents else ROOT
    return list(path.relative_to(root).parts[:-1])


def imports(path):
    """Yield everything that a module imports, wherever in it, as absolute dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = package_of(path)
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def below(name, package):
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize(("room", "forbidden"), RULES, ids=lambda value: getattr(value, "stem", ""))
def test_a_room_imports_nothing_that_it_must_not_know(room, forbidden):
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(room)
        for name in imports(path)
        if any(below(name, package) for package in forbidden)
    ]

    assert broken == []


def test_the_network_depends_on_torch_alone():
    foreign = {
        name.split(".")[0]
        for path in sources(NETWORK)
        for name in imports(path)
        if name.split(".")[0] not in sys.stdlib_module_names
    }

    # safetensors is how its checkpoints are read
    assert foreign <= {"torch", "safetensors", "infdehaze"}


PRINTING = [
    APPLICATION / "engine",
    APPLICATION / "attribution",
    APPLICATION / "store",
    APPLICATION / "raster",
    APPLICATION / "plan.py",
    NETWORK,
]


@pytest.mark.parametrize("room", PRINTING, ids=lambda path: path.stem)
def test_a_room_that_is_no_command_never_prints(room):
    for path in sources(room):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "input"), f"{path}:{node.lineno} prints"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
                assert node.attr not in ("stdout", "stderr", "exit"), f"{path}:{node.lineno} uses sys.{node.attr}"


def test_nothing_is_pickled():
    for path in (*sources(APPLICATION), *sources(NETWORK)):
        for name in imports(path):
            assert name.split(".")[0] not in ("pickle", "dill", "joblib"), f"{path} imports {name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                assert node.attr not in ("load", "save"), f"{path}:{node.lineno} uses torch.{node.attr}"


def test_no_module_is_longer_than_a_sitting():
    long = [str(path) for path in (*sources(APPLICATION), *sources(NETWORK)) if path.read_text().count("\n") > 400]

    assert long == []
