"""``python -m trellis_doctor`` and ``trellis-doctor``: the command, with an end in one line at Ctrl-C, whenever it comes."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT


def main() -> int:
    """Runs the command; see `trellis_doctor.cli.main`."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not when it began in the background
    if heard:
        signal.signal(signal.SIGINT, _end)  # nothing has begun, and an import may lose an exception
    from .cli import main as command

    try:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return command()
    except KeyboardInterrupt:
        print("trellis-doctor: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python ends, and has a traceback for one that comes now


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"trellis-doctor: interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
