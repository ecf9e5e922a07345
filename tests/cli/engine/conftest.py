"""A small network with many blocks of attention, and scenes of a few tiles."""

import pytest


@pytest.fixture(scope="module")
def model(make_model):
    # 4 tokens a block: scenes of a few tiles already have many
    return make_model(block_tokens=4, depths=(2, 1, 1, 1), sfca=(True, False, True, False), coarse_share=0.4)


@pytest.fixture(scope="module")
def hazy(picture):
    return picture(165, 220)


@pytest.fixture(scope="module")
def valid(holes):
    return holes(165, 220)


@pytest.fixture(scope="module")
def small(picture):
    """Nine tiles without overlap."""
    return picture(130, 140)


class Listener:
    """A reporter that keeps what it hears and can act when a phase begins."""

    def __init__(self, **at_phase):
        self.phases, self.steps, self._at_phase = [], [], at_phase

    def phase(self, name, total):
        self.phases.append((name, total))
        self.steps.append(0)
        self._at_phase.get(name, lambda: None)()

    def advance(self, steps=1):
        self.steps[-1] += steps

    def note(self, text):
        raise AssertionError(text)


@pytest.fixture
def listen():
    """Make a reporter that keeps what it hears; a phase may be given something to do when it begins."""
    return Listener
