"""The command line: its commands, and how it ends. Each command is a file in ``commands/``."""

from __future__ import annotations

import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType

import typer

from .commands import attribute, bench, demo, doctor, evaluate, finetune, models, plan, run, synth, train
from .console import complain, debug_wanted
from .errors import InfdehazeError
from .raster import redacted

INTERRUPTED = 130
TERMINATED = 143
HUNG_UP = 129

app = typer.Typer(
    name="infdehaze",
    help="Remove haze from rasters of any size, inside the memory that you name.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("demo")(demo.demo)
app.command("models")(models.models)
app.command("doctor")(doctor.doctor)
app.command("synth")(synth.synth)
app.command("eval")(evaluate.evaluate)
app.command("attribute")(attribute.attribute)
app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.add_typer(bench.app, name="bench")


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"infdehaze {version('infdehaze')}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Codes: 0 done, 1 a bug of ours, 2 wrong usage, 3 bad input, 4 the budget cannot hold it, 5 disk or I/O,
    6 store corrupt, 129 hung up, 130 interrupted, 143 terminated.
    """
    sys.exit(_run(arguments))


def _trace() -> None:
    """Print the traceback of the present error, if it is wanted."""
    if debug_wanted():
        sys.stderr.write(redacted(traceback.format_exc()))


class _Signals:
    """Makes Ctrl-C, a plain kill and a closed terminal end the program, with everything unfinished removed.

    Remembers which came.

    Compiled code was seen to swallow what is raised here, and to fail with an error of its own instead.
    """

    def __init__(self) -> None:
        self.code = 0
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, self._end)
            # a program in the background is told to ignore Ctrl-C, one under nohup that the terminal is closed
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, self._interrupt)
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                signal.signal(signal.SIGHUP, self._end)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.code = INTERRUPTED
        raise KeyboardInterrupt

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.code = TERMINATED if number == signal.SIGTERM else HUNG_UP
        raise SystemExit(self.code)


def _run(arguments: list[str] | None) -> int:
    signals = _Signals()
    code = _invoke(arguments, signals)
    if code == INTERRUPTED:
        complain("interrupted")
    return code


def _invoke(arguments: list[str] | None, signals: _Signals) -> int:
    try:
        result = app(arguments, prog_name="infdehaze", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        # typer turns what comes while a command runs into an abort, and not what comes just before or after
        return INTERRUPTED
    except typer.TyperException as error:
        # a group without a command has printed its help, and raises without a message
        if message := error.format_message():
            complain(f"{message.rstrip('.')}. See --help.")
        return error.exit_code
    except InfdehazeError as error:
        _trace()
        if signals.code:
            return signals.code
        complain(str(error))
        return error.exit_code
    except Exception as error:
        _trace()
        if signals.code:
            return signals.code
        complain(f"a bug of ours: {type(error).__name__}: {error}. Run again with --debug and report it.")
        return 1
