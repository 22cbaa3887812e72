"""Several copies of one CUDA library: on disk, asked for, and mapped into one process."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..symbols import linked_libraries

ID = "duplicate-cudart"
_WATCHED = re.compile(
    r"lib(cudart|cublas|cublasLt|cudnn|nccl|cufft|cusparse|cusolver|nvrtc)(?:[-.][0-9a-f]{8})?\.so\.(\d+)"
)


def run(context: Context) -> Outcome:
    torch = context.torch
    if torch is None:
        raise NotApplicableError("torch is not installed")
    findings: list[Finding] = []
    mapped = [Path(p) for p in context.probe("torch_state").data.get("mapped", [])] if context.python.works else []
    in_process = _several(_grouped(mapped))
    if in_process:
        findings.append(
            context.finding(
                ID,
                "error",
                f"importing torch maps {_words(in_process)} into one process",
                seen=[Evidence(str(p), file=str(p)) for paths in in_process.values() for p in paths],
                leads_to="memory of one runtime is unknown to the other: 'invalid device context', wrong results",
                remedy=[
                    "# remove the copy that is not torch's from LD_LIBRARY_PATH, and packages that bring another CUDA",
                    "unset LD_LIBRARY_PATH",
                ],
            )
        )
    on_disk = _several(_grouped([p for p in context.site.libraries if _WATCHED.match(p.name)]))
    users: dict[str, list[Path]] = defaultdict(list)
    for path, facts in context.readable():
        if "/nvidia/" in str(path):  # NVIDIA's own libraries need one another
            continue
        for needed in facts.needed:
            if match := _WATCHED.match(needed):
                users[f"{match[1]}.{match[2]}"].append(path)
    majors = sorted(k for k in users if k.startswith("cudart."))
    if len(majors) > 1:
        seen = [
            Evidence(f"{context.shown(p)} needs libcudart.so.{m.split('.')[1]}", file=str(p))
            for m in majors
            for p in users[m][:4]
        ]
        own = f"cudart.{torch.cuda.split('.')[0]}" if torch.cuda else None
        strangers = sorted({d.name for m in majors if m != own for p in users[m] if (d := context.site.owner(p))})
        # One that is not linked against torch may do without it (onnxruntime keeps to itself); one that is cannot.
        linked = {p for p, _ in linked_libraries(context, torch)}
        clash = any(p in linked for m in majors if m != own for p in users[m])
        findings.append(
            context.finding(
                ID,
                "error" if clash else "warning",
                f"libraries here need {len(majors)} different CUDA runtimes: {', '.join(majors)}",
                seen=seen,
                leads_to="two CUDA runtimes in one process as soon as both are imported",
                remedy=[
                    f"# keep only what was built for torch's CUDA {torch.cuda or '(none: torch is the CPU build)'}",
                    *([context.pip("uninstall", "-y", *strangers)] if strangers else []),
                ],
            )
        )
    if on_disk and len(majors) <= 1:
        findings.append(
            context.finding(
                ID,
                "note",
                f"{_words(on_disk)} on disk; at most one of each is used",
                seen=[Evidence(context.shown(p), file=str(p)) for paths in on_disk.values() for p in paths],
                leads_to="nothing as long as LD_LIBRARY_PATH does not choose among them",
                remedy=["# nothing is needed"],
            )
        )
    count = sum(1 for p in mapped if _WATCHED.match(p.name))
    told = f"{count} CUDA libraries mapped by `import torch`, each once" if count else "`import torch` maps none"
    return Outcome(_words(in_process) if in_process else told, tuple(findings))


def _grouped(paths: list[Path]) -> dict[str, list[Path]]:
    groups: dict[str, dict[Path, None]] = defaultdict(dict)
    for path in paths:
        if match := _WATCHED.match(path.name):
            groups[match[1]][path.resolve()] = None
    return {k: list(v) for k, v in groups.items()}


def _several(groups: dict[str, list[Path]]) -> dict[str, list[Path]]:
    return {k: v for k, v in groups.items() if len(v) > 1}


def _words(groups: dict[str, list[Path]]) -> str:
    return ", ".join(f"{len(v)} copies of {k}" for k, v in groups.items())


CHECK = Check(ID, "CUDA libraries", "error", run, ("duplicate-cudart",))
