"""Room for models, caches and scratch files."""

from __future__ import annotations

from pathlib import Path

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, Outcome
from ..hub import MAIN, has_weights, hub_folder, snapshots

ID = "disk-space"
_MODELS = 20 << 30  # 16 GB of weights and the encoder
_SCRATCH = 2 << 30


def run(context: Context) -> Outcome:
    machine = context.machine
    temporary = Path(machine.env.get("TMPDIR") or "/tmp")
    places = [
        ("scratch files", temporary, _SCRATCH, "error"),
        ("the environment", context.python.prefix, _SCRATCH, "warning"),
    ]
    if context.models is None and not any(has_weights(s) for s in snapshots(context, MAIN)):
        places.append(("the models, not downloaded yet", hub_folder(context), _MODELS, "warning"))
    findings: list[Finding] = []
    words = []
    for purpose, path, wanted, severity in places:
        free = machine.free(path)
        if free is None:
            continue
        words.append(f"{free / 2**30:.0f} GiB for {purpose}")
        if free < wanted:
            findings.append(
                context.finding(
                    ID,
                    "error" if severity == "error" else "warning",
                    f"{free / 2**30:.1f} GiB free for {purpose}; {wanted / 2**30:.0f} GiB are needed",
                    seen=[Evidence(f"{free} bytes free", file=str(path))],
                    leads_to="a download or build ends half-way and leaves truncated files",
                    remedy=[
                        f"df -h {path if path.exists() else path.anchor}",
                        "# free some space, or set HF_HOME / TMPDIR to a larger file system",
                    ],
                )
            )
    return Outcome(", ".join(words), tuple(findings))


CHECK = Check(ID, "Disk space", "error", run)
