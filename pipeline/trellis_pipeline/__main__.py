"""``python -m trellis_pipeline`` and ``trellis``: the command, with an end in one line while it still loads too."""

import signal
import sys

INTERRUPTED = 128 + signal.SIGINT


def main() -> int:
    """Runs the command; see `trellis_pipeline.cli.main`."""
    try:
        from .cli import main as command  # loads torch, which takes seconds
    except KeyboardInterrupt:
        print("trellis: interrupted", file=sys.stderr)
        return INTERRUPTED
    return command()


if __name__ == "__main__":
    sys.exit(main())
