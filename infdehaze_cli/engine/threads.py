"""Bounded queues between threads: a prefetching iterator and a background sink. Errors cross, no thread is left."""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

POLL = 0.2
"""Seconds after which a blocked thread looks whether the other side has gone."""


class BusyClock:
    """Seconds that a thread has worked rather than waited."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self.seconds += time.perf_counter() - self._started


class _Stoppable(ABC):
    """A thread that ends soon once ``_stop`` is set, and before what it uses is closed, whatever interrupts."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        # a join that was interrupted takes a thread for dead that still works (Python issue 90882)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run_through, name=name, daemon=True)

    @abstractmethod
    def _run(self) -> None: ...

    def _run_through(self) -> None:
        try:
            self._run()
        finally:
            self._over.set()

    def _begin(self) -> None:
        try:
            self._thread.start()
        except BaseException:
            # interrupted, so that nobody will leave the context
            self._stop.set()
            if self._thread.is_alive():
                self._end()
            raise

    def _end(self) -> None:
        """Wait until the thread has ended; an interrupt stops it, and is raised afterwards."""
        interrupt: BaseException | None = None
        while not self._over.is_set():
            try:
                self._over.wait()
            except BaseException as error:
                interrupt = error
                self._stop.set()
        self._thread.join()
        if interrupt is not None:
            raise interrupt


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Prefetch(_Stoppable, Generic[T]):
    """Run an iterable in a thread, at most ``depth`` items ahead of its consumer, the one in the making included.

    Use as a context manager and iterate inside; leaving stops the thread wherever it is.
    """

    def __init__(self, items: Iterable[T], depth: int, clock: BusyClock | None = None) -> None:
        super().__init__("infdehaze-prefetch")
        self._items = items
        self._clock = clock or BusyClock()
        self._queue: queue.Queue[T | _End] = queue.Queue()
        self._room = threading.Semaphore(depth)

    def _run(self) -> None:
        try:
            iterator = iter(self._items)
            while self._wait_for_room():
                with self._clock:
                    try:
                        item = next(iterator)
                    except StopIteration:
                        break
                self._queue.put(item)
        except BaseException as error:
            self._queue.put(_End(error))
        else:
            self._queue.put(_End(None))

    def _wait_for_room(self) -> bool:
        while not self._stop.is_set():
            if self._room.acquire(timeout=POLL):
                return not self._stop.is_set()
        return False

    def __enter__(self) -> Iterator[T]:
        self._begin()
        return self._consume()

    def _consume(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            self._room.release()
            yield item

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._end()


class Sink(_Stoppable, Generic[T]):
    """Hand items to ``work`` in a thread; at most ``depth`` items wait, beside the one it works on.

    Use as a context manager: leaving it normally waits until all items are done and raises what went wrong; leaving it
    with an error drops what is left.
    """

    def __init__(self, work: Callable[[T], Any], depth: int, clock: BusyClock | None = None) -> None:
        super().__init__("infdehaze-sink")
        self._work = work
        self._clock = clock or BusyClock()
        self._queue: queue.Queue[T | None] = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=POLL)
            except queue.Empty:
                continue
            if item is None:
                return
            try:
                with self._clock:
                    self._work(item)
            except BaseException as error:
                self._error = error
                self._stop.set()

    def put(self, item: T) -> None:
        """Queue an item; waits while the queue is full, raises what went wrong with an earlier one."""
        self._offer(item)

    def _offer(self, item: T | None) -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._queue.put(item, timeout=POLL)
            except queue.Full:
                continue
            return

    def __enter__(self) -> Sink[T]:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stop.set()
            self._end()
            return
        try:
            self._offer(None)
        except BaseException:
            self._stop.set()
            raise
        finally:
            self._end()
        if self._error is not None:
            raise self._error
