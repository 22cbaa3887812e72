"""ComfyUI's folder: which Python it uses, and whether its TRELLIS nodes can be loaded by it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..site import normalised

ID = "comfyui"


def find_comfyui(context: Context) -> Path | None:
    """COMFYUI_PATH, or a ComfyUI around the interpreter (embedded builds have them side by side)."""
    given = context.machine.env.get("COMFYUI_PATH")
    candidates = [Path(given)] if given else []
    for parent in list(context.python.prefix.parents)[:3]:
        candidates += [parent, parent / "ComfyUI"]
    return next((c for c in candidates if (c / "custom_nodes").is_dir() and (c / "main.py").is_file()), None)


def run(context: Context) -> Outcome:
    root = find_comfyui(context)
    if root is None:
        given = context.machine.env.get("COMFYUI_PATH")
        if given:
            finding = context.finding(
                ID,
                "error",
                f"COMFYUI_PATH={given} is no ComfyUI",
                seen=[Evidence("main.py or custom_nodes/ is missing", file=given)],
                leads_to="the nodes are looked for in the wrong place",
                remedy=["unset COMFYUI_PATH"],
            )
            return Outcome("not found", (finding,))
        raise NotApplicableError("no ComfyUI around this interpreter (name one with COMFYUI_PATH)")
    findings: list[Finding] = []
    own = next((root / v for v in ("venv", ".venv") if (root / v / "bin" / "python").exists()), None)
    if own is not None and own.resolve() != context.python.prefix.resolve():
        findings.append(
            context.finding(
                ID,
                "warning",
                "ComfyUI has an environment of its own, which is not the one inspected",
                seen=[Evidence(f"{own} is ComfyUI's, {context.python.prefix} is inspected", file=str(own))],
                leads_to="packages are installed where ComfyUI does not look",
                remedy=[f"trellis-doctor --python {shlex.quote(str(own / 'bin' / 'python'))}"],
            )
        )
    nodes = [
        p
        for p in sorted((root / "custom_nodes").iterdir())
        if p.is_dir() and re.search("trellis", p.name, re.IGNORECASE) and not p.name.endswith(".disabled")
    ]
    for node in nodes:
        findings += _node(context, node)
    return Outcome(f"{root}, {len(nodes)} TRELLIS node folder{'' if len(nodes) == 1 else 's'}", tuple(findings))


def _node(context: Context, node: Path) -> list[Finding]:
    findings = []
    if not (node / "__init__.py").is_file():
        nested = next((p.parent for p in sorted(node.glob("*/__init__.py"))), None)
        findings.append(
            context.finding(
                ID,
                "error",
                f"custom_nodes/{node.name} has no __init__.py",
                seen=[
                    Evidence(f"found one level deeper: {nested}" if nested else "it is no node package", file=str(node))
                ],
                leads_to="ComfyUI skips the folder: UNKNOWN NODES in every workflow",
                remedy=[
                    f"mv {shlex.quote(str(nested))} {shlex.quote(str(node.parent / (node.name + '-nodes')))}"
                    if nested
                    else f"# unpack the nodes again into {node}"
                ],
            )
        )
    try:
        lines = (node / "requirements.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [m[0] for line in lines if (m := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line.strip()))]
    missing = [n for n in names if normalised(n) not in context.site.distributions]
    if missing:
        findings.append(
            context.finding(
                ID,
                "error",
                f"custom_nodes/{node.name} needs {', '.join(missing)}, not installed in the inspected Python",
                seen=[
                    Evidence(f"requirements.txt: {n}", file=str(node / "requirements.txt"), symbol=n) for n in missing
                ],
                leads_to="ModuleNotFoundError while ComfyUI loads the nodes: UNKNOWN NODES",
                remedy=[context.pip("install", *missing)],
            )
        )
    return findings


CHECK = Check(ID, "ComfyUI", "error", run, ("missing-module",))
