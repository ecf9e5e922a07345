"""What measurements say of machine, versions and commit, without names of people or places."""

import json
import math
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from infdehaze_cli import machine
from infdehaze_cli.plain import plain


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit, from which the program seems to run."""
    (tmp_path / "pyproject.toml").write_text("old")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "_ROOT", tmp_path)
    return tmp_path


def test_the_commit_is_that_of_the_checkout_and_changes_are_told(checkout):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    clean = machine.commit()
    (checkout / "pyproject.toml").write_text("new")

    assert clean == head.stdout.strip()
    assert machine.commit() == f"{clean}-changed"


def test_a_repository_around_an_installed_package_is_not_its_commit(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "_ROOT", tmp_path)

    noted = json.dumps({"vcs_info": {"commit_id": "abc"}})
    for text, commit in ((None, None), ("{}", None), ("broken", None), (noted, "abc")):
        found = type("Found", (), {"read_text": lambda self, name, text=text: text})
        monkeypatch.setattr(machine, "distribution", lambda name, found=found: found())
        assert machine.commit() == commit


def test_the_machine_is_described_without_names(monkeypatch):
    facts = machine.machine(torch.device("cpu"))

    assert facts["cores"] >= 1
    assert facts["threads"] >= 1
    assert facts["device"] == "cpu"
    text = json.dumps(facts)
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text


def test_what_a_system_does_not_say_is_none(monkeypatch):
    def silent(*given, **named):
        raise OSError("no such thing")

    monkeypatch.setattr(Path, "read_text", silent)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("os.sysconf", silent, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", silent, raising=False)
    monkeypatch.delattr("os.getloadavg", raising=False)

    facts = machine.machine(torch.device("cpu"))

    assert (facts["processor"], facts["memory_bytes"], facts["load"]) == (None, None, None)
    assert facts["cores"] >= 1


def test_values_become_what_json_can_hold():
    given = {1: (math.inf, [math.nan, Path("a") / "b"], {"x": True}), "y": None}

    assert plain(given) == {"1": [None, [None, str(Path("a") / "b")], {"x": True}], "y": None}
    json.dumps(plain(given), allow_nan=False)
