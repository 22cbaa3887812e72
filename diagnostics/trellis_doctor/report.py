"""The report, for people and as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Any

from . import SCHEMA_VERSION, __version__
from .context import Context
from .examine import Result, exit_status
from .finding import Finding

_MARKS = {"ok": "✓", "note": "✓", "warning": "!", "error": "✗", "skipped": "-", "failed": "?"}
_COLOURS = {"ok": "32", "note": "32", "warning": "33", "error": "31", "skipped": "2", "failed": "35"}
_SEEN = 6


class Text:
    """Lines of the report; coloured only on a terminal."""

    def __init__(self, colour: bool, verbose: bool, unicode: bool = True) -> None:
        self.colour = colour
        self.verbose = verbose
        self.unicode = unicode

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def result(self, result: Result) -> str:
        mark = (
            _MARKS[result.status]
            if self.unicode
            else {"✓": "ok", "✗": "x"}.get(_MARKS[result.status], _MARKS[result.status])
        )
        first = f"[{self._paint(mark, _COLOURS[result.status])}] {result.check.title}: {result.summary}"
        if self.verbose:
            first += self._paint(f"  ({result.check.id}, {result.seconds:.2f} s)", "2")
        lines = [first]
        if self.verbose:
            lines += [self._paint(f"      {line}", "2") for line in result.details]
        for finding in result.findings:
            if finding.severity != "note" or self.verbose:
                lines += self._finding(finding)
        if result.trace and self.verbose:
            lines.append(textwrap.indent(result.trace.rstrip(), "      "))
        return "\n".join(lines)

    def _finding(self, finding: Finding) -> list[str]:
        code = _COLOURS[finding.severity]
        lines = [f"    {self._paint(finding.severity, code)} {finding.id}: {finding.summary}"]
        shown = finding.seen if self.verbose else finding.seen[:_SEEN]
        lines += [f"      seen: {e.text}" + (f"  [{e.file}]" if self.verbose and e.file else "") for e in shown]
        if len(finding.seen) > len(shown):
            lines.append(f"      seen: and {len(finding.seen) - len(shown)} more (--verbose)")
        lines.append(f"      leads to: {finding.leads_to}")
        lines += [f"      {'' if c.startswith('#') else '$ '}{c}" for c in finding.remedy]
        lines.append(f"      verify: {finding.verify}")
        return lines

    def end(self, results: Iterable[Result]) -> str:
        listed = list(results)
        count = Counter(f.severity for r in listed for f in r.findings)
        failed = sum(r.status == "failed" for r in listed)
        parts = [f"{count[s]} {s}{'s' * (count[s] != 1)}" for s in ("error", "warning", "note") if count[s]]
        if failed:
            parts.append(f"{failed} check{'s' * (failed != 1)} that failed (--verbose shows where)")
        verdict = "broken" if count["error"] else "not known" if failed else "nothing is broken"
        text = ": ".join([verdict, *([", ".join(parts)] if parts else [])])
        if count["note"] and not self.verbose:
            text += " (--verbose shows the notes)"
        return text


def as_json(context: Context, results: Iterable[Result]) -> dict[str, Any]:
    """The report as facts/report.schema.json describes it."""
    listed = list(results)
    python, machine, torch = context.python, context.machine, context.torch
    return {
        "schema": SCHEMA_VERSION,
        "doctor": __version__,
        "python": {
            "executable": str(python.executable),
            "version": python.version_text if python.version else None,
            "prefix": str(python.prefix),
            "works": python.works,
        },
        "machine": {
            "libc": " ".join(machine.libc).strip(),
            "wsl": machine.is_wsl,
            "container": machine.container,
            "driver": machine.driver.version if machine.driver else None,
            "gpus": [{"name": g.name, "capability": list(g.capability), "memory": g.memory} for g in machine.gpus],
        },
        "torch": {"version": torch.version, "cuda": torch.cuda} if torch else None,
        "row": context.row.name if context.row else None,
        "exit_status": exit_status(listed),
        "checks": [
            {
                "id": r.check.id,
                "title": r.check.title,
                "status": r.status,
                "summary": r.summary,
                "seconds": round(r.seconds, 3),
                "findings": [f.as_json() for f in r.findings],
                "details": list(r.details),
            }
            for r in listed
        ],
    }
