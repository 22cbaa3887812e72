"""Which nvcc a build would take, and whether it is of torch's CUDA."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..site import version_key

ID = "cuda-home"


@dataclass(frozen=True)
class Toolkit:
    why: str  # how it came to be considered
    folder: Path
    version: str | None


def run(context: Context) -> Outcome:
    torch = context.torch
    if torch is None:
        raise NotApplicableError("torch is not installed")
    if torch.cuda is None:
        raise NotApplicableError("the installed torch is the CPU build: nothing is compiled with nvcc")
    toolkits = find(context)
    if not toolkits:
        return Outcome(f"no CUDA toolkit (only needed to compile; torch brings its own CUDA {torch.cuda})")
    chosen = toolkits[0]
    findings: list[Finding] = []
    wanted = version_key(torch.cuda)[:2]
    seen = [Evidence(_text(t), file=str(t.folder), version=t.version) for t in toolkits]
    seen.append(Evidence(torch.text, file=str(torch.folder / "version.py"), version=torch.version))
    fitting = next((t for t in toolkits if version_key(t.version or "")[:2] == wanted), None)
    remedy = (
        [f"export CUDA_HOME={fitting.folder}", f'export PATH="{fitting.folder}/bin:$PATH"']
        if fitting
        else [
            f"# install the CUDA toolkit {torch.cuda} and point CUDA_HOME at it; or build with `nox -s build`, which brings its own"
        ]
    )
    leads_to = "extensions are compiled for another CUDA than torch's: the build is refused, or their import fails"
    if chosen.version is None:
        findings.append(
            context.finding(
                ID,
                "error",
                f"{chosen.why} names {chosen.folder}, where there is no usable nvcc",
                seen=seen,
                leads_to="extensions cannot be compiled",
                remedy=remedy if fitting else ["unset CUDA_HOME CUDA_PATH", *remedy],
            )
        )
    elif version_key(chosen.version)[:1] != wanted[:1]:
        findings.append(
            context.finding(
                ID,
                "error",
                f"a build would take nvcc {chosen.version} ({chosen.why}), but torch is for CUDA {torch.cuda}",
                seen=seen,
                leads_to=leads_to,
                remedy=remedy,
            )
        )
    elif len({t.version for t in toolkits if t.why != "installed"}) > 1:
        findings.append(
            context.finding(
                ID,
                "warning",
                "CUDA_HOME and the nvcc on PATH are of different versions",
                seen=seen,
                leads_to="parts of one build are compiled by different compilers",
                remedy=remedy,
            )
        )
    return Outcome(f"{_text(chosen)}; torch is for CUDA {torch.cuda}", tuple(findings))


def find(context: Context) -> list[Toolkit]:
    """Toolkits in the order in which torch's own extension builder looks: CUDA_HOME, PATH, /usr/local/cuda."""
    machine = context.machine
    candidates = [(v, Path(machine.env[v])) for v in ("CUDA_HOME", "CUDA_PATH") if machine.env.get(v)]
    if nvcc := machine.which("nvcc"):
        candidates.append(("PATH", nvcc.resolve().parent.parent))
    local = machine.at("/usr/local/cuda")
    if local.exists():
        candidates.append(("/usr/local/cuda", local))
    candidates += [("installed", p) for p in sorted(machine.at("/usr/local").glob("cuda-[0-9]*"))]
    found: dict[Path, Toolkit] = {}
    for why, folder in candidates:
        found.setdefault(folder.resolve(), Toolkit(why, folder, _version(context, folder)))
    return list(found.values())


def _version(context: Context, folder: Path) -> str | None:
    """Release of the toolkit's nvcc, as nvcc says it or, where nvcc cannot run, as the toolkit's own list says."""
    nvcc = folder / "bin" / "nvcc"
    if not nvcc.is_file():
        return None
    try:
        if match := re.search(r"release (\d+\.\d+)", context.machine.output([str(nvcc), "--version"])):
            return match[1]
    except OSError:
        pass
    try:
        listed = json.loads((folder / "version.json").read_text(encoding="utf-8"))
        return str(listed["cuda_nvcc"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _text(toolkit: Toolkit) -> str:
    return f"{toolkit.why}: {toolkit.folder}, nvcc {toolkit.version or 'missing'}"


CHECK = Check(ID, "CUDA toolkit for building", "error", run, ("cuda-home",))
