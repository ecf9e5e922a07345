"""A run goes on with less at a time when memory runs out, in every phase, and gives the same pixels."""

import numpy as np
import pytest
import torch
from infdehaze.decoder import Decoder
from infdehaze.encoder import Encoder
from infdehaze.ibssa import IBSSA
from infdehaze.lmmoe import LMMoE

from infdehaze_cli.engine import attention, compose
from infdehaze_cli.engine.elastic import Elastic
from infdehaze_cli.errors import BudgetError
from infdehaze_cli.out_of_memory import is_out_of_memory


class Notes:
    """A reporter that keeps the notes."""

    def __init__(self):
        self.notes = []

    def phase(self, name, total):
        pass

    def advance(self, steps=1):
        pass

    def note(self, text):
        self.notes.append(text)


def fail_above(most, size, works):
    """Wrap a function: it has room for ``most`` of what ``size`` counts in its arguments."""

    def limited(*args, **kwargs):
        if size(*args, **kwargs) > most:
            raise torch.OutOfMemoryError("out of memory")
        return works(*args, **kwargs)

    return limited


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(block_tokens=4, depths=(1, 1, 1, 1), sfca=(True, False, False, False))


@pytest.fixture(scope="module")
def hazy(picture):
    return picture(1200, 130)


FAULTS = {
    "encode": (Encoder, "forward", lambda self, x: len(x), 3, "tiles"),
    "decode": (Decoder, "forward", lambda self, latent, residuals, others: len(latent), 3, "tiles"),
    "project": (IBSSA, "project", lambda self, x: x.shape[1], 30, "tokens"),
    "attend": (attention, "block_attention", lambda q, *rest: q.shape[2], 30, "attention blocks"),
    "mix rows": (LMMoE, "sparse", lambda self, x, halo, windows, valid: x.shape[1], 12, "rows of windows"),
    "mix windows": (LMMoE, "sparse", lambda self, x, halo, windows, valid: windows, 5, "windows of the latent grid"),
    "compose": (compose, "scatter", lambda block, *rest: block.shape[2], 100, "rows of the output"),
}


@pytest.mark.parametrize("tier", ["dram", "recompute"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_phase_that_runs_out_of_memory_goes_on_with_less(engine, model, hazy, monkeypatch, fault, tier):
    whole = engine.run(model, hazy, batch=16, residuals=tier, overlap=0)
    owner, name, size, most, what = FAULTS[fault]
    monkeypatch.setattr(owner, name, fail_above(most, size, getattr(owner, name)))
    reporter = Notes()

    outcome = engine.run(model, hazy, batch=16, residuals=tier, overlap=0, reporter=reporter)

    assert np.abs(outcome.image - whole.image).max() < 1e-5
    assert any(what in note for note in reporter.notes)
    # what shrank once stays small
    assert len(reporter.notes) <= 8
    assert list(engine.scratch.iterdir()) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_where_nothing_fits_the_error_says_what_to_do(engine, model, hazy, monkeypatch, fault):
    owner, name, size, _, _ = FAULTS[fault]
    monkeypatch.setattr(owner, name, fail_above(0, size, getattr(owner, name)))

    with pytest.raises(BudgetError, match="--gpu-mem") as caught:
        engine.run(model, hazy, batch=16, reporter=Notes())

    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert list(engine.scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=repr,
)
def test_errors_of_memory_are_told_from_others(error, expected):
    assert is_out_of_memory(error) == expected


def test_every_thing_is_done_once_and_in_order():
    done, notes = [], []
    amount = Elastic("things", 8, notes.append)

    def work(part):
        if part.stop - part.start > 3:
            raise MemoryError
        done.extend(range(part.start, part.stop))

    amount.run(21, work)
    amount.run(2, work)

    assert done == [*range(21), 0, 1]
    assert amount.limit == 2
    assert len(notes) == 2


def test_other_errors_pass():
    def work(part):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        Elastic("things", 8, print).run(3, work)


def test_the_inner_amount_shrinks_once_the_outer_is_one():
    inner = Elastic("parts", 4, lambda text: None)
    amount = Elastic("things", 4, lambda text: None, inner)

    def work(part):
        if inner.limit > 1:
            raise MemoryError

    amount.run(5, work)

    assert (amount.limit, inner.limit) == (1, 1)
