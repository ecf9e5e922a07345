"""Processes that end at a random moment: killed, interrupted, out of disk. The same command again ends well."""

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork and no SIGKILL")


@pytest.fixture
def share():
    return 0.4


@pytest.fixture
def residuals():
    return "ssd"


@pytest.fixture
def command(src, dst, config, residuals):
    made = config(residuals=residuals)
    work = ("--scratch", made.scratch, "--residuals", made.residuals, "--batch", made.batch)
    return ("run", src, "-o", dst, *work, "--weights", made.weights, "--device", "cpu", "--json", "-q")


@pytest.fixture
def finish(program, command, dst, scratch):
    """Run to the end; return the output's bytes and what was said, and take the output away."""

    def run():
        assert program.wait(program.start(*command)) == 0, program.err.read_text()
        content = dst.read_bytes()
        assert list(dst.parent.iterdir()) == [dst]
        assert list(scratch.iterdir()) == []
        dst.unlink()
        return content, json.loads(program.out.read_text())

    return run


LINES = 43
"""Lines of the journal of a run: how it was begun, 5 batches of the scene at half its size that are encoded, the
bottleneck, 5 that are decoded; and 15, the bottleneck and 15 of the scene itself."""


@pytest.fixture
def random_moment(dst, scratch):
    """Wait until a run has written a random number of lines to its journal, then a moment more; or it has ended."""

    def wait(rng, lines):
        reached, deadline = rng.randint(0, lines), time.monotonic() + 60
        while time.monotonic() < deadline and not dst.exists():
            with suppress(OSError):
                if sum(path.read_bytes().count(b"\n") for path in scratch.glob("*/journal.jsonl")) >= reached:
                    break
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))

    return wait


def finished_work(scratch):
    """Return what the journal says is done; nothing but its end may be torn."""
    (path,) = [*scratch.glob("*/journal.jsonl")] or [None]
    lines = [] if path is None else path.read_bytes().split(b"\n")[1:]
    entries = [json.loads(line[:-9]) for line in lines if line[-9:-8] == b"\t"]
    looks = {"": [entry for entry in entries if "look" not in entry], "coarse_": [e for e in entries if "look" in e]}
    return {
        look + name: kind(sum(key in entry for entry in lines))
        for look, lines in looks.items()
        for name, key, kind in (
            ("encoded_batches", "encoded", int),
            ("bottleneck", "mixed", bool),
            ("decoded_batches", "decoded", int),
        )
    }


@pytest.mark.parametrize(("residuals", "few", "many"), [("ssd", 4, 50), ("dram", 2, 25)])
def test_a_killed_run_goes_on_to_the_same_bytes(
    program, command, finish, dst, scratch, random_moment, times, residuals, few, many
):
    whole, _ = finish()
    rng = random.Random(0)
    tally = {"nothing done": 0, "looking at half the size": 0, "encoding": 0, "decoding": 0, "ended": 0}

    for _ in range(times(few, many)):
        pid = program.start(*command)
        # in memory nothing is written down before the bottleneck
        random_moment(rng, LINES if residuals == "ssd" else LINES - 20)
        os.kill(pid, signal.SIGKILL)
        code = program.wait(pid)
        if code == 0 or dst.exists():
            # only a whole output has the name
            assert dst.read_bytes() == whole
            dst.unlink()
            tally["ended"] += 1
        before = finished_work(scratch)
        reached = [
            name
            for name, done in (
                ("decoding", before["bottleneck"]),
                ("encoding", before["encoded_batches"]),
                ("looking at half the size", any(before.values())),
                ("nothing done", True),
            )
            if done
        ]
        tally[reached[0]] += code != 0

        content, said = finish()

        assert content == whole
        assert said["resumed"] == any(before.values())
        assert said["not_repeated"] == before
    print(f"\nkilled, {residuals}: {tally}")


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_soon_and_leaves_no_temporary_file(
    program, command, finish, dst, scratch, random_moment, times, number, expected
):
    whole, _ = finish()
    rng = random.Random(1)

    for _ in range(times(2, 20)):
        pid = program.start(*command)
        # not before the program listens
        time.sleep(0.1)
        random_moment(rng, LINES)
        os.kill(pid, number)
        code = program.wait(pid)
        assert code in (0, expected)
        if dst.exists():
            # the signal came after the rename
            assert dst.read_bytes() == whole
            dst.unlink()
        assert list(dst.parent.iterdir()) == []
        if code:
            assert "Traceback" not in program.err.read_text()

        before = finished_work(scratch)
        content, said = finish()
        assert content == whole
        assert said["not_repeated"] == before


def test_a_second_process_into_the_same_output_is_told(program, command, finish, dst, scratch):
    whole, _ = finish()
    first = program.start(*command)
    while not any(lock.read_text() for lock in scratch.glob("*/lock")):
        time.sleep(0.005)
    os.kill(first, signal.SIGSTOP)
    try:
        code = program.wait(program.start(*command))
        said = program.err.read_text()
    finally:
        os.kill(first, signal.SIGCONT)

    assert code == 5
    assert f"process {first}" in said
    assert said.count("\n") == 1
    assert program.wait(first) == 0
    assert dst.read_bytes() == whole


@pytest.mark.parametrize("threads", ["1", "ALL_CPUS"])
def test_a_file_that_may_not_grow_is_5_and_the_run_goes_on_later(
    program, command, finish, dst, scratch, times, threads
):
    command = (*command, "--format", "gtiff", "--co", f"NUM_THREADS={threads}", "--co", "COMPRESS=DEFLATE")
    assert program.wait(program.start(*command)) == 0
    whole = dst.read_bytes()
    dst.unlink()

    for part in range(times(2, 10)):
        limit = int(len(whole) * (part + 0.5) / times(2, 10))
        code = program.wait(program.start(*command, file_size=limit))
        said = program.err.read_text()
        # libtiff has lines of its own, which cannot be turned off
        assert (code, said.count("infdehaze: ")) == (5, 1), said
        assert list(dst.parent.iterdir()) == []

        assert program.wait(program.start(*command)) == 0
        assert dst.read_bytes() == whole
        dst.unlink()
        assert list(scratch.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="it takes tmpfs")
@pytest.mark.parametrize("full", ["scratch", "destination"])
def test_a_full_disk_is_5_and_the_run_goes_on_once_there_is_room(
    program, command, finish, dst, scratch, mount, times, full
):
    """The free space is taken while the run goes on, so that the check at its start does not find it."""
    whole, _ = finish()
    place = mount(64 * 2**20)
    command = list(command)
    if full == "scratch":
        command[command.index("--scratch") + 1] = place
    else:
        dst = place / "clean.tif"
        command[command.index("-o") + 1] = dst
    ballast = place / "ballast"

    for part in range(times(2, 10)):
        pid = program.start(*command)
        while not list((place if full == "scratch" else scratch).glob("infdehaze-*/journal.jsonl")):
            time.sleep(0.002)
        os.kill(pid, signal.SIGSTOP)
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        ballast.write_bytes(bytes(max(0, free - 40_000 * (part + 1))))
        os.kill(pid, signal.SIGCONT)
        code, said = program.wait(pid), program.err.read_text()
        ballast.unlink()
        if code == 0:
            # there was room enough
            assert dst.read_bytes() == whole
            dst.unlink()
            continue
        assert (code, said.count("infdehaze: ")) == (5, 1), said
        assert not dst.exists()

        assert program.wait(program.start(*command)) == 0, program.err.read_text()
        assert dst.read_bytes() == whole
        dst.unlink()
