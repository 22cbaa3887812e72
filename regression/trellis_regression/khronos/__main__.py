"""``python -m trellis_regression.khronos``: install the validator, or validate files."""

import sys
from pathlib import Path
from subprocess import CalledProcessError

from ..command import Parser, in_one_line
from . import errors, install, validate


def main() -> int:
    """Exit status 1 when a file has errors, 2 when the validator is missing or fails."""
    parser = Parser(prog="python -m trellis_regression.khronos", description=__doc__)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE.glb")
    parser.add_argument("--install", type=Path, metavar="DIR", help="install the pinned validator into DIR")
    arguments = parser.parse_args()
    status = 0
    try:
        if arguments.install:
            install(arguments.install)
        reports = validate(*arguments.files) if arguments.files else []
    except (RuntimeError, OSError, CalledProcessError) as error:  # ValidatorMissingError is a RuntimeError
        print(f"{parser.prog}: error: {in_one_line(error)}", file=sys.stderr)
        return 2
    for file, report in zip(arguments.files, reports, strict=True):
        found = errors(report)
        print(f"{file}: {len(found)} errors, {report['issues']['numWarnings']} warnings")
        for line in found:
            print(f"  {line}")
        status |= bool(found)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
