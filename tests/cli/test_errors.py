"""Every error has its exit code, and what the packages show is what they say they show."""

import inspect
import re
from importlib import import_module

import infdehaze
import pytest
from infdehaze.errors import InfdehazeError

import infdehaze_cli
from infdehaze_cli import errors

CODES = {
    "CheckpointError": 3,
    "UsageError": 2,
    "InputError": 3,
    "BudgetError": 4,
    "StorageError": 5,
    "CorruptError": 6,
}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_an_error_has_its_exit_code(name, code):
    assert getattr(errors, name)("words").exit_code == code


def test_an_error_without_a_code_of_its_own_is_a_bug_of_ours():
    assert InfdehazeError.exit_code == 1


def test_the_tree_in_the_documentation_is_the_tree_of_classes():
    drawn = re.findall(r"[├└]── (\w+) +(\d) +\((\w+)\)", InfdehazeError.__doc__)
    classes = [kind for kind in InfdehazeError.__subclasses__() if kind.__module__.startswith("infdehaze")]
    assert sorted(drawn) == sorted((k.__name__, str(k.exit_code), k.__module__.split(".")[0]) for k in classes)
    assert not [kind for parent in classes for kind in parent.__subclasses__()]
    assert {name for name, _, _ in drawn} == set(CODES)


def test_every_error_says_in_its_documentation_what_it_means():
    assert all(inspect.getdoc(getattr(errors, name)) for name in CODES)


@pytest.mark.parametrize("package", [infdehaze, infdehaze_cli])
def test_all_names_the_public_names(package):
    public = {name for name, value in vars(package).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert sorted(package.__all__) == sorted(public)


@pytest.mark.parametrize(
    "name", ["infdehaze_cli.errors", "infdehaze_cli.engine", "infdehaze_cli.store", "infdehaze_cli.raster"]
)
def test_what_a_module_exports_is_there(name):
    module = import_module(name)
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert all(hasattr(module, public) for public in module.__all__)


def test_the_public_names_are_documented():
    named = [getattr(package, name) for package in (infdehaze, infdehaze_cli) for name in package.__all__]
    assert all(inspect.getdoc(thing) for thing in named)
