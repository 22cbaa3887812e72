"""``python -m trellis_compat SCRIPT [ARGS]``: runs a script with the upstream names served by this project's extensions."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from ._finder import NAMES, install

_USAGE = f"""usage: python -m trellis_compat SCRIPT [ARGS...]

Runs SCRIPT as `python SCRIPT ARGS...` would, but {", ".join(NAMES[:-1])}
and {NAMES[-1]}, where it imports them, are those of trellis_compat."""


def main() -> int:
    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]):
        print(_USAGE)
        return 0
    if not arguments or not Path(arguments[0]).is_file():
        reason = f"no such script: {arguments[0]}" if arguments else "expected a script"
        print(f"python -m trellis_compat: error: {reason} (see python -m trellis_compat --help)", file=sys.stderr)
        return 2
    install()
    sys.argv = arguments
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path(arguments[0]).resolve().parent)  # it was the current folder, as -m has it
    runpy.run_path(arguments[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
