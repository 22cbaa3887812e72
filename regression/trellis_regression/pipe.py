"""What a command does when nobody reads its output any more (`trellis-gate faults | head -1`)."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence

Main = Callable[[Sequence[str] | None], int]


def quiet(main: Main) -> Main:
    """`main`, which ends without a word and with the status of a program that SIGPIPE ends, 141, at a closed pipe."""

    @functools.wraps(main)
    def ended(argv: Sequence[str] | None = None) -> int:
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
