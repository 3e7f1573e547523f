"""Processes that are killed: forks of this one, at a time or at a step."""
from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path


def start(function, log: Path, die_at: int = 0) -> int:
    """Forks a process that calls `function`; it kills itself at a step.

    Returns:
        its process id. What `function` returns, and the number of steps
        (`die_at_step`) that it made, is the last line of `log`.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(log, "w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            steps = die_at_step(die_at)
            result = function()
            file.write("\n" + json.dumps([result, len(steps)]) + "\n")
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def die_at_step(number: int) -> list[str]:
    """Counts fsyncs, renames and waits; kills this process before one."""
    steps: list[str] = []
    for module, name in ((os, "fsync"), (os, "replace"), (os, "rename"),
                         (time, "sleep")):
        def wrapped(*args, _real=getattr(module, name), _name=name,
                    **kwargs):
            steps.append(_name)
            if len(steps) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return _real(*args, **kwargs)
        setattr(module, name, wrapped)
    return steps


def finish(child: int, log: Path):
    """Waits for a process that is not killed; what it returned, its steps.

    Raises:
        RuntimeError: it failed.
    """
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError(f"A process failed:\n{log.read_text()}")
    return json.loads(log.read_text().splitlines()[-1])


def call(log: Path, function, *args):
    """What a function returns in a process of its own, and its steps.

    Raises:
        RuntimeError: it failed.
    """
    return finish(start(lambda: function(*args), log), log)


def kill_at(child: int, seconds: float) -> bool:
    """Kills a process after a time; False where it had ended by then.

    Raises:
        RuntimeError: it failed by itself.
    """
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if code not in (0, -signal.SIGKILL):
                raise RuntimeError(f"A process ended with {code}.")
            return bool(code)
        if time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.002)
