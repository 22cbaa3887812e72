"""What the commands `trellis` and `trellis-gate` have in common: how they say that an argument or a file cannot serve."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the page of usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def add_command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A command of a parser, whose own help begins with what the list of all says of it."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    return parser


class Version(argparse.Action):
    """The option --version; `const` is the distribution."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, nargs=0)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version  # tens of milliseconds that no other call needs

        try:
            number = version(str(self.const))
        except PackageNotFoundError:
            number = "(from sources that are not installed)"
        print(f"{parser.prog} {number}")
        parser.exit()


def in_one_line(error: BaseException) -> str:
    """What an error says. That of a file begins with its name."""
    if isinstance(error, OSError):
        return (f"{error.filename}: " if error.filename else "") + (error.strerror or str(error))
    return " ".join(str(error).split())


def require_apart(option: str, path: Path, *others: Path) -> None:
    """Raises ValueError where writing `path` would take the place of a file that the same run reads or writes."""
    for other in others:
        if path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other)):
            raise ValueError(f"{option}: {path} would take the place of {other}, which this run reads or writes too")
