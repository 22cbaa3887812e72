"""Runs the checks over one environment."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from .check import Check
from .context import Context
from .finding import Finding, NotApplicableError, Outcome, Severity

Status = Literal["ok", "note", "warning", "error", "skipped", "failed"]


@dataclass(frozen=True)
class Result:
    """What became of one check. "failed" means that the doctor itself did not manage it."""

    check: Check
    status: Status
    summary: str
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    trace: str | None = None
    details: tuple[str, ...] = ()


def examine(context: Context, checks: Iterable[Check], tell: Callable[[Result], None] | None = None) -> list[Result]:
    """The result of each check, in order; `tell` hears of each as it is known."""
    results = []
    for check in checks:
        result = one(context, check)
        results.append(result)
        if tell:
            tell(result)
    return results


def one(context: Context, check: Check) -> Result:
    began = time.monotonic()
    try:
        outcome: Outcome = check.run(context)
    except NotApplicableError as reason:
        return Result(check, "skipped", str(reason), seconds=time.monotonic() - began)
    except Exception as error:  # a mistake of ours must not hide what the other checks find
        text = f"the check itself failed: {type(error).__name__}: {error}"
        return Result(check, "failed", text, seconds=time.monotonic() - began, trace=traceback.format_exc())
    worst: Severity | None = outcome.worst
    seconds = time.monotonic() - began
    return Result(check, worst or "ok", outcome.summary, outcome.findings, seconds, details=outcome.details)


def exit_status(results: Iterable[Result]) -> int:
    """2 where the doctor failed, 1 where something is broken, else 0."""
    found = {r.status for r in results}
    return 2 if "failed" in found else 1 if "error" in found else 0
