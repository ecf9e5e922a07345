"""Queues between threads: bounded, errors cross them as they are, and no thread is left behind."""

import os
import signal
import threading
import time

import pytest

from infdehaze_cli.engine.threads import BusyClock, Prefetch, Sink

PATIENCE = 30
"""Seconds after which a test gives up on an event that never comes."""


def until(condition):
    for _ in range(PATIENCE * 100):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("depth", [1, 2, 20])
def test_items_come_in_order(count, depth):
    with Prefetch(range(count), depth) as ahead:
        assert list(ahead) == list(range(count))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_producer_is_at_most_depth_items_ahead(depth):
    made, used = [], 0

    def produce():
        for item in range(20):
            # the item in the making counts
            assert len(made) + 1 - used <= depth
            made.append(item)
            yield item

    with Prefetch(produce(), depth) as ahead:
        until(lambda: len(made) == depth)
        for _ in range(3):
            used += 1
            next(ahead)
            until(lambda expected=depth + used: len(made) == expected)
        for _ in ahead:
            used += 1
    assert len(made) == 20


def test_the_producer_runs_while_the_consumer_works():
    ready = threading.Event()

    def produce():
        yield "first"
        ready.set()
        yield "second"

    with Prefetch(produce(), 2) as ahead:
        assert next(ahead) == "first"
        assert ready.wait(PATIENCE)
        assert next(ahead) == "second"


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), MemoryError()])
def test_an_error_of_the_producer_comes_after_the_items_before_it(error):
    def produce():
        yield 1
        yield 2
        raise error

    seen = []

    def consume():
        with Prefetch(produce(), 2) as ahead:
            for item in ahead:
                seen.append(item)

    with pytest.raises(type(error)) as caught:
        consume()
    assert caught.value is error
    assert seen == [1, 2]


def test_an_error_of_the_consumer_ends_the_producer():
    def produce():
        while True:
            yield 0

    with pytest.raises(ZeroDivisionError), Prefetch(produce(), 2) as ahead:
        1 / next(ahead)


def test_a_producer_that_nobody_waits_for_ends():
    def produce():
        while True:
            yield 0

    with Prefetch(produce(), 2) as ahead:
        next(ahead)
    assert "infdehaze-prefetch" not in {thread.name for thread in threading.enumerate()}


def test_an_iterable_that_cannot_begin_says_so():
    class Broken:
        def __iter__(self):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"), Prefetch(Broken(), 2) as ahead:
        next(ahead)


def test_a_sink_works_in_order_and_is_done_at_the_end():
    done = []
    with Sink(done.append, 2) as sink:
        for item in range(50):
            sink.put(item)
    assert done == list(range(50))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_sink_is_at_most_depth_items_and_the_one_at_work_behind(depth):
    go, put, done = threading.Event(), [], []

    def work(item):
        assert go.wait(PATIENCE)
        assert len(put) - len(done) <= depth + 2  # and the one that `put` holds
        done.append(item)

    def feed():
        with Sink(work, depth) as sink:
            for item in range(20):
                put.append(item)
                sink.put(item)

    feeder = threading.Thread(target=feed)
    feeder.start()
    until(lambda: len(put) == depth + 2)
    assert done == []
    go.set()
    feeder.join(PATIENCE)
    assert done == list(range(20))


@pytest.mark.parametrize("error", [ValueError("bad"), OSError("full"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [0, 5, 19])
def test_an_error_of_the_work_reaches_whoever_puts(error, at):
    done = []

    def work(item):
        if item == at:
            raise error
        done.append(item)

    def feed():
        with Sink(work, 2) as sink:
            for item in range(20):
                sink.put(item)

    with pytest.raises(type(error)) as caught:
        feed()
    assert caught.value is error
    assert done == list(range(at))


def test_an_error_inside_drops_what_waits():
    go, done = threading.Event(), []

    def work(item):
        assert go.wait(PATIENCE)
        done.append(item)

    def fail():
        with Sink(work, 3) as sink:
            for item in range(4):
                sink.put(item)
            threading.Timer(0.05, go.set).start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert done in ([], [0])


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt in the thread of the test."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_the_test():
    # not before it waits
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)


@pytest.mark.skipif(os.name == "nt", reason="there, waiting for a thread is not interrupted")
def test_an_interrupt_while_a_sink_is_waited_for_comes_after_its_work(interruptible):
    done = []

    def work(item):
        interrupt_the_test()
        done.append(item)

    def feed():
        with Sink(work, 3) as sink:
            for item in range(3):
                sink.put(item)

    with pytest.raises(KeyboardInterrupt):
        feed()
    # the item at work is finished, those behind it are dropped
    assert done == [0]
    assert "infdehaze-sink" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.skipif(os.name == "nt", reason="there, waiting for a thread is not interrupted")
def test_an_interrupt_while_a_producer_is_waited_for_comes_after_its_work(interruptible):
    made = []

    def produce():
        yield 0
        interrupt_the_test()
        made.append(1)
        yield 1

    def consume():
        with Prefetch(produce(), 2) as ahead:
            next(ahead)

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert made == [1]
    assert "infdehaze-prefetch" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("make", [lambda: Prefetch(iter(int, 1), 2), lambda: Sink(print, 2)])
def test_an_interrupt_while_a_thread_begins_leaves_none(make, monkeypatch):
    begin = threading.Thread.start

    def interrupted(thread):
        begin(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)

    with pytest.raises(KeyboardInterrupt), make():
        raise AssertionError("this is not reached")
    assert not {t.name for t in threading.enumerate()} & {"infdehaze-prefetch", "infdehaze-sink"}


def test_a_clock_counts_work_and_not_waiting(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = BusyClock()
    for _ in range(3):
        now[0] += 10
        with clock:
            now[0] += 2
    assert clock.seconds == 6
