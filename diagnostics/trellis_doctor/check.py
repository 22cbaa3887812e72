"""What a check is; checks/ holds them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .context import Context
from .finding import Outcome, Severity


@dataclass(frozen=True)
class Check:
    """`severity` is the worst it can find; `faults` are the names of the catalogue of faults that it catches."""

    id: str
    title: str
    severity: Severity
    run: Callable[[Context], Outcome]
    faults: tuple[str, ...] = ()
