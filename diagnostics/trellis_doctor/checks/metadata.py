"""Installed packages whose records are damaged."""

from __future__ import annotations

import shlex

from ..check import Check
from ..context import Context
from ..finding import Evidence, Outcome

ID = "broken-metadata"


def run(context: Context) -> Outcome:
    broken = context.site.broken
    leftovers = [b for b in broken if b.is_leftover]
    damaged = [b for b in broken if not b.is_leftover]
    findings = []
    if damaged:
        findings.append(
            context.finding(
                ID,
                "warning",
                f"{len(damaged)} package record{'s' * (len(damaged) > 1)} cannot be trusted",
                seen=[Evidence(f"{b.folder.name}: {b.why}", file=str(b.folder)) for b in damaged],
                leads_to="pip installs beside it, removes half of it, or stops with a traceback",
                remedy=[
                    "# remove the record named above, then install the package again",
                    *(f"rm -r {shlex.quote(str(b.folder))}" for b in damaged),
                ],
            )
        )
    if leftovers:
        findings.append(
            context.finding(
                ID,
                "warning",
                f"{len(leftovers)} folder{'s' * (len(leftovers) > 1)} left over from an interrupted installation",
                seen=[Evidence(b.folder.name, file=str(b.folder)) for b in leftovers],
                leads_to="'Ignoring invalid distribution' at every pip call, and disk space taken",
                remedy=[f"rm -r {shlex.quote(str(b.folder))}" for b in leftovers],
                safe_fix=True,
            )
        )
    return Outcome(f"{len(context.site.distributions)} packages with readable records", tuple(findings))


CHECK = Check(ID, "Package records", "warning", run)
