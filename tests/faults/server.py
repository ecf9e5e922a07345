"""Forks a process for each request on standard input, so that a run begins at once and can be killed at any moment."""

import json
import os
import sys

from infdehaze_cli.app import main

RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes."""


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status, took = os.wait4(request["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status), "peak": took.ru_maxrss * RSS_UNIT}
        else:
            pid = os.fork()
            if pid == 0:
                _become_a_run(request)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


def _become_a_run(request: dict) -> None:
    try:
        _prepare(request)
    except KeyboardInterrupt:
        # the program has not begun: Python itself ends so
        os._exit(130)
    code = 70
    try:
        main(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _prepare(request: dict) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, place in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        os.dup2(os.open(place, os.O_RDONLY if number == 0 else flags, 0o600), number)
    if request["file_size"] is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"], request["file_size"]))
    os.environ.update(request["environment"])


if __name__ == "__main__":
    serve()
