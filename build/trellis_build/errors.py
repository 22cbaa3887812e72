"""The one exception that this package raises on purpose: a sentence for the person at the terminal."""

from __future__ import annotations


class BuildError(Exception):
    """Something asked for cannot be done; the message says what, why and what to do.

    Args:
        message: the sentence.
        fault: its name in the catalogue of faults, where it has one (such as "cuda-home").
    """

    def __init__(self, message: str, *, fault: str | None = None) -> None:
        super().__init__(f"[{fault}] {message}" if fault else message)
        self.fault = fault


class MatrixError(BuildError):
    """matrix.toml is wrong. Holds every problem found, not only the first."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
