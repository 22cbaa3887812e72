"""The environments of the self-test: what is done to a healthy one, and exactly which checks must then speak up.

`expected` are the checks that must find an error or a warning. Any other check that does is a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .bench import Bench


@dataclass(frozen=True)
class Environment:
    name: str
    expected: frozenset[str]
    build: Callable[[Bench], object]


ENVIRONMENTS: list[Environment] = []


def environment(name: str, *expected: str) -> Callable[[Callable[[Bench], object]], Callable[[Bench], object]]:
    def add(build: Callable[[Bench], object]) -> Callable[[Bench], object]:
        ENVIRONMENTS.append(Environment(name, frozenset(expected), build))
        return build

    return add
