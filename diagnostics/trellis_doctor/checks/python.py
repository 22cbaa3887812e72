"""Whether the interpreter starts and is one that the packages support."""

from __future__ import annotations

import shlex

from ..check import Check
from ..context import Context
from ..finding import Evidence, Outcome

ID = "python"
OLDEST = (3, 10)


def run(context: Context) -> Outcome:
    python = context.python
    findings = []
    name = f"Python {python.version_text} at {python.executable}"
    if not python.works:
        found = ", ".join(map(str, python.folders)) or "no package folder around it"
        findings.append(
            context.finding(
                ID,
                "error",
                f"{python.executable} does not work as a Python: {python.trouble}",
                seen=[
                    Evidence(str(python.trouble), file=str(python.executable)),
                    Evidence(f"judged by files alone: {found}"),
                ],
                leads_to="nothing can run in this environment",
                remedy=_anew(context),
                verify=f"{python.executable} -c pass",
            )
        )
        return Outcome(f"{python.executable} does not work as a Python", tuple(findings))
    assert python.version is not None
    if python.version < OLDEST:
        findings.append(
            context.finding(
                ID,
                "error",
                f"Python {python.version_text} is older than 3.10",
                seen=[Evidence(name, version=python.version_text)],
                leads_to="the packages cannot be installed",
                remedy=[f"# make the environment anew with Python {_supported(context)}"],
            )
        )
    if python.bits == 32:
        findings.append(
            context.finding(
                ID,
                "error",
                "this is a 32-bit Python",
                seen=[Evidence(name)],
                leads_to="there is no torch for it",
                remedy=["# install a 64-bit Python"],
            )
        )
    if not context.has_pip and not context.machine.which("uv"):
        findings.append(
            context.finding(
                ID,
                "note",
                "pip is not installed in this environment",
                seen=[Evidence(f"no pip in {', '.join(map(str, python.folders)) or 'any package folder'}")],
                leads_to="a remedy that uses pip must install it first",
                remedy=[f"{python.executable} -m ensurepip"],
                verify=f"{python.executable} -m pip --version",
            )
        )
    kind = ", virtual environment" if python.is_venv else ""
    return Outcome(f"{name}{kind}", tuple(findings))


def _supported(context: Context) -> str:
    """The Pythons that every row of the matrix takes; without a matrix, the oldest."""
    common = [p for p in context.rows[0].python if all(p in r.python for r in context.rows)] if context.rows else []
    return " or ".join(common) or "3.10 or newer"


def _anew(context: Context) -> list[str]:
    """How to make the environment again. Only what is known to be a virtual environment may be cleared."""
    if not context.python.is_venv:
        return ["# give --python a working interpreter of Python 3.10 or newer, or install one"]
    prefix = shlex.quote(str(context.python.prefix))
    return [
        "# its base interpreter may have been moved or removed; make the environment anew with a working Python",
        f"python3 -m venv --clear {prefix}",
    ]


CHECK = Check(ID, "Python", "error", run)
