"""One measurement in a process of its own, so that its peak of resident memory is its own, and so is its death.

``python -m infdehaze_cli.bench.job`` reads a job as JSON on standard input. The answer goes as JSON to a file, so that
nothing a library prints can spoil it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from infdehaze_cli import errors
from infdehaze_cli.api import dehaze
from infdehaze_cli.engine import peak_rss_bytes
from infdehaze_cli.plan import RunConfig

from .baselines import run_direct, run_patches
from .limits import out_of_memory

Method = Literal["streamed", "direct", "patches"]
Ended = Literal["done", "out of memory", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to measure."""

    method: Method
    src: str
    dst: str
    weights: str
    residuals: str
    batch: int | None
    gpu_mem: int | None
    ram: int
    scratch: str
    device: str
    limit: int
    """Bytes that ``direct`` may take."""

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return RunConfig(
            weights=self.weights,
            residuals=self.residuals,  # type: ignore[arg-type]  # checked by RunConfig
            batch=self.batch,
            gpu_mem=self.gpu_mem,
            ram=self.ram,
            scratch=Path(self.scratch),
            device=self.device,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a job ended, and what it took; numbers are None where it did not get so far."""

    ended: Ended
    reason: str | None = None
    """Why it did not end well."""
    batch: int | None = None
    peak_device_bytes: int | None = None
    predicted_device_bytes: int | None = None
    peak_rss_bytes: int | None = None
    scratch_bytes: int | None = None
    seconds: float | None = None


def run_job(job: Job) -> Answer:
    """Carry out a job in a new process and wait for it.

    Raises
    ------
    InfdehazeError
        What the run raised, other than a lack of memory or budget.
    RuntimeError
        When the process died of something else.
    """
    answer = Path(job.scratch) / "answer.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "infdehaze_cli.bench.job", str(answer)]
    # an interrupt or an error here also ends the child
    ended = subprocess.run(command, input=json.dumps(asdict(job)), capture_output=True, text=True, check=False)
    if answer.exists():
        found = json.loads(answer.read_text(encoding="utf-8"))
        if "raised" in found:
            raise getattr(errors, found["raised"], errors.InfdehazeError)(found["reason"])
        return Answer(**found)
    # C++ aborts with a message where no memory is left, and Linux kills to get some back
    if (reason := out_of_memory(RuntimeError(ended.stderr))) is not None:
        return Answer(ended="out of memory", reason=reason)
    if sys.platform != "win32" and ended.returncode == -signal.SIGKILL:
        return Answer(ended="out of memory", reason="killed by the system")
    said = (ended.stderr.strip() or "no message").splitlines()[-1]
    raise RuntimeError(f"the measuring process ended with {ended.returncode}: {said}")


def _measure(job: Job) -> Answer:
    if job.method == "streamed":
        run = dehaze(job.src, job.dst, config=job.config, overwrite=True)
        return Answer(
            ended="done",
            batch=run.batch,
            peak_device_bytes=run.peak_device_bytes,
            predicted_device_bytes=run.predicted_device_bytes,
            peak_rss_bytes=run.peak_rss_bytes,
            scratch_bytes=run.scratch_bytes,
            seconds=run.seconds["total"],
        )
    started = time.perf_counter()
    if job.method == "direct":
        peak, batch = run_direct(job.src, job.dst, job.config, job.limit), None
    else:
        peak, batch = run_patches(job.src, job.dst, job.config), job.batch
    seconds = round(time.perf_counter() - started, 3)
    return Answer(
        ended="done",
        batch=batch,
        peak_device_bytes=peak,
        peak_rss_bytes=peak_rss_bytes(),
        scratch_bytes=0,
        seconds=seconds,
    )


def _answer(job: Job) -> dict[str, Any]:
    """Carry out a job here; errors that say something become a part of the answer."""
    try:
        return asdict(_measure(job))
    except errors.BudgetError as error:
        return asdict(Answer(ended="refused", reason=str(error)))
    except Exception as error:
        if (reason := out_of_memory(error)) is not None:
            return asdict(Answer(ended="out of memory", reason=reason, peak_rss_bytes=peak_rss_bytes()))
        if isinstance(error, errors.InfdehazeError):
            return {"raised": type(error).__name__, "reason": str(error)}
        raise


if __name__ == "__main__":
    found = _answer(Job(**json.load(sys.stdin)))
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
