"""Which row of the build matrix this environment is, and what differs from it."""

from __future__ import annotations

from ..check import Check
from ..context import Context
from ..finding import Evidence, NotApplicableError, Outcome

ID = "row"


def run(context: Context) -> Outcome:
    if not context.rows:
        raise NotApplicableError("build/matrix.toml was not found (set TRELLIS_MATRIX to its path)")
    row, torch, python = context.row, context.torch, context.python
    if torch is None and not context.row_was_asked_for:
        raise NotApplicableError("torch is not installed")
    if row is None:
        assert torch is not None
        known = ", ".join(f"{r.name} ({r.torch})" for r in context.rows)
        note = context.finding(
            ID,
            "note",
            f"{torch.text} is no row of the build matrix",
            seen=[Evidence(torch.text, version=torch.version)],
            leads_to="wheels built for a row work where its CUDA does, but nobody has tried this combination",
            remedy=[f"# rows: {known}; `nox -s dev -- --row NAME` makes an environment of one"],
        )
        return Outcome(f"{torch.text}: no row", (note,))
    seen: list[Evidence] = []
    strict: list[Evidence] = []
    if torch is None:
        strict.append(Evidence(f"torch is missing; the row has {row.torch}"))
    elif torch.short != row.torch:
        strict.append(Evidence(f"torch {torch.short}; the row has {row.torch}", version=torch.version))
    elif torch.cuda != row.cuda and row.cuda is not None:
        strict.append(
            Evidence(f"torch for CUDA {torch.cuda or 'none'}; the row has {row.cuda or 'none'}", version=torch.version)
        )
    for name, expected in (("triton", row.triton), ("flash-attn", row.flash_attn)):
        have = context.site.get(name) or (context.site.get("pytorch-triton") if name == "triton" else None)
        if expected and have and have.version.split("+")[0] != expected:
            seen.append(
                Evidence(f"{name} {have.version}; the row has {expected}", file=str(have.folder), version=have.version)
            )
    if python.version and f"{python.version[0]}.{python.version[1]}" not in row.python:
        seen.append(Evidence(f"Python {python.version_text}; the row was tried with {', '.join(row.python)}"))
    findings = []
    if strict or seen:
        differences = [*strict, *seen]
        findings.append(
            context.finding(
                ID,
                "error" if strict else "warning",
                f"{len(differences)} difference{'s' * (len(differences) > 1)} from row {row.name}",
                seen=differences,
                leads_to="behaviour that the row's tests have never seen",
                remedy=[f"nox -s dev -- --row {row.name}"],
            )
        )
    also = f", here built for {torch.cuda}" if torch and torch.cuda and row.cuda is None else ""
    return Outcome(f"{row.name}: torch {row.torch}, CUDA {row.cuda or 'none'}{also} ({row.why})", tuple(findings))


CHECK = Check(ID, "Row of the matrix", "error", run)
