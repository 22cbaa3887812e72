"""``python -m trellis_pipeline`` and ``trellis``: the command, with an end in one line while it still loads too."""

import sys
from collections.abc import Callable

from trellis_regression import interrupt


def main() -> int:
    """Runs the command; see `trellis_pipeline.cli.main`."""
    return interrupt.run("trellis", _command)


def _command() -> Callable[[], int]:
    from .cli import main as command  # loads torch, which takes seconds

    return command


if __name__ == "__main__":
    sys.exit(main())
