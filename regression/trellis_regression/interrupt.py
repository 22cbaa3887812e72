"""How a command ends at Ctrl-C, whenever it comes: one line, and the status of a program that SIGINT ends, 130."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 128 + signal.SIGINT


class _Wait:
    """What Ctrl-C waits for: how many `finishing` there are, and what is then to be done."""

    depth = 0
    then: Callable[[], None] | None = None


def run(name: str, load: Callable[[], Callable[[], int]], *, at_once: Callable[[], None] | None = None) -> int:
    """Loads a command and runs it; returns its exit status, which is for the process to end with.

    While it loads, the process ends where it is: nothing is half done yet, and a KeyboardInterrupt in the midst of an
    import may come out as another error, or not at all (C code that imports numpy for torch drops it). After that Ctrl-C
    is a KeyboardInterrupt, for the command to clear up; a second one ends it where it is.

    Args:
        load: imports what the command needs and gives it.
        at_once: for a command that leaves nothing to clear up but what this ends. It stops where it is at any time, and
            waits for none of its threads.
    """
    running = asked = False

    def end() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if at_once is not None:
            at_once()
        say(name)
        os._exit(STATUS)

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if running and at_once is None and not asked:
            asked = True
            raise KeyboardInterrupt
        if _Wait.depth:
            _Wait.then = end
        else:
            end()

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return load()()  # ignored, as for what a shell starts in the background; or another program's business
    signal.signal(signal.SIGINT, handle)
    status = STATUS
    try:
        command = load()
        running = True
        status = command()
    except KeyboardInterrupt:
        say(name)
    finally:
        signal.signal(signal.SIGINT, lambda *_: os._exit(status))  # what was to be done is done
    return status


@contextmanager
def finishing() -> Iterator[None]:
    """For what should be whole or not be there, such as a file: a Ctrl-C that would end the process waits for its end."""
    _Wait.depth += 1
    try:
        yield
    finally:
        _Wait.depth -= 1
        if _Wait.depth == 0 and _Wait.then is not None:
            _Wait.then()


def say(name: str) -> None:
    """The line."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # the signal may have come in the midst of writing
        sys.stdout.flush()
    os.write(2, f"{name}: interrupted\n".encode())
