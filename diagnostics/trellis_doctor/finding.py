"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
RANK: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Evidence:
    """One thing that was seen."""

    text: str
    file: str | None = None
    symbol: str | None = None
    version: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"text": self.text, "file": self.file, "symbol": self.symbol, "version": self.version}


@dataclass(frozen=True)
class Finding:
    """One fault of the environment.

    `remedy` holds shell commands, and sentences that begin with "#" where no command mends it. `safe_fix` says that
    the commands may be run without thought: they add what is missing or remove what is certainly broken.
    """

    id: str
    severity: Severity
    summary: str
    seen: tuple[Evidence, ...]
    leads_to: str
    remedy: tuple[str, ...]
    verify: str
    safe_fix: bool = False

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(line for line in self.remedy if not line.startswith("#"))

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "severity": self.severity,
            "summary": self.summary,
            "seen": [e.as_json() for e in self.seen],
            "leads_to": self.leads_to,
            "remedy": list(self.remedy),
            "verify": self.verify,
            "safe_fix": self.safe_fix,
        }


@dataclass(frozen=True)
class Outcome:
    """What a check found, one line on what it looked at, and a line on each thing it looked at where that is told."""

    summary: str
    findings: tuple[Finding, ...] = ()
    details: tuple[str, ...] = ()

    @property
    def worst(self) -> Severity | None:
        return min((f.severity for f in self.findings), key=RANK.__getitem__, default=None)


class NotApplicableError(Exception):
    """Raised by a check that has nothing to look at; its text says why."""
