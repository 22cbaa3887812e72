"""What a command does about its output: where nobody reads it any more (`trellis-gate faults | head -1`), and where the
terminal's encoding lacks what a file's name holds."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from typing import Protocol


class Main(Protocol):
    """A command: its arguments (those of the process if none are given) to its exit status."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def quiet(main: Main) -> Main:
    """`main`, which ends without a word and with the status of a program that SIGPIPE ends, 141, at a closed pipe.

    What standard output cannot encode is written as Python writes it, ``\\udcff``, and a verdict is not lost by it.
    """

    @functools.wraps(main)
    def ended(argv: Sequence[str] | None = None) -> int:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            try:
                return main(argv)
            finally:  # here and not when Python ends, where it would be reported; --help comes here as well
                sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered is written once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141

    return ended
