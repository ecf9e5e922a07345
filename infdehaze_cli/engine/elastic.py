"""Out of memory is survived: what goes through the device at a time is halved, and the run goes on."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from infdehaze_cli.errors import BudgetError
from infdehaze_cli.out_of_memory import is_out_of_memory


class Elastic:
    """How many of some things are processed at a time; the number shrinks when memory runs out, and stays small.

    Parameters
    ----------
    what : str
        What is counted, for messages: ``tiles``.
    limit : int
        How many at first.
    note : callable
        Is told in a line when the number shrinks.
    inner : Elastic, optional
        Shrinks in its place once it is one.
    """

    def __init__(self, what: str, limit: int, note: Callable[[str], None], inner: Elastic | None = None) -> None:
        self._what, self.limit, self._note, self._inner = what, max(1, limit), note, inner

    def run(self, total: int, work: Callable[[slice], None]) -> None:
        """Do ``work`` on consecutive parts of ``total`` things; a part that fails is done again in halves.

        Parameters
        ----------
        total : int
            Number of things.
        work : callable
            Is given a part; it must change nothing before its last allocation on the device.

        Raises
        ------
        BudgetError
            When not even one fits.
        """
        start = 0
        while start < total:
            part = slice(start, min(total, start + self.limit))
            try:
                work(part)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # the parts of a scene that are smaller than the limit fail below it
                failed, cause = part.stop - part.start, str(error)
            else:
                start = part.stop
                continue
            # outside of the handler, whose traceback holds the tensors of the failed attempt
            self._shrink(failed, cause)

    def _shrink(self, failed: int, cause: str) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if failed <= 1 and self._inner is not None:
            self._inner._shrink(self._inner.limit, cause)
            return
        if failed <= 1:
            raise BudgetError(
                f"Memory ran out with one of the {self._what} at a time ({cause.splitlines()[0]}). "
                "Give --gpu-mem more, or close what else runs there."
            )
        self.limit = failed // 2
        self._note(f"out of memory: going on with {self.limit} {self._what} at a time")
