"""C library, WSL2 and containers."""

from __future__ import annotations

import re
from pathlib import Path

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, Outcome
from ..site import version_key

ID = "platform"
OLDEST_GLIBC = (2, 28)
# The checkpoints are about 16 GB; while one loads, its file and the model are in memory together.
ENOUGH_MEMORY = 16 << 30


def run(context: Context) -> Outcome:
    machine = context.machine
    findings: list[Finding] = []
    name, version = machine.libc
    if name != "glibc" or version_key(version) < OLDEST_GLIBC:
        findings.append(
            context.finding(
                ID,
                "error",
                f"the C library is {name or 'not glibc'} {version}; wheels of torch need glibc 2.28 or newer",
                seen=[Evidence(f"{name or 'unknown'} {version}", version=version)],
                leads_to="pip finds no wheel of torch, or one that cannot be loaded",
                remedy=["# use a distribution of 2019 or newer with glibc (Ubuntu 20.04, Debian 11), not Alpine"],
            )
        )
    place = "WSL2" if machine.is_wsl else f"in {machine.container}" if machine.container else "Linux"
    total = machine.memory()
    if machine.is_wsl:
        findings += _wsl(context, total)
    limit = machine.memory_limit
    if limit is not None and limit < ENOUGH_MEMORY and (total is None or limit < total):
        findings.append(
            context.finding(
                ID,
                "warning",
                f"the container may use {limit / 2**30:.1f} GiB of memory",
                seen=[Evidence(f"cgroup limit {limit} bytes", file="/sys/fs/cgroup")],
                leads_to="the process is killed without a word while the models load",
                remedy=["# start the container with --memory 32g, or without a limit"],
            )
        )
    memory = f", {total / 2**30:.0f} GiB of memory" if total else ""
    return Outcome(f"{place}, {name or 'libc'} {version}{memory}", tuple(findings))


def _wsl(context: Context, total: int | None) -> list[Finding]:
    findings = []
    if total is not None and total < ENOUGH_MEMORY:
        findings.append(
            context.finding(
                ID,
                "warning",
                f"WSL2 was given {total / 2**30:.1f} GiB of memory (by default half of what Windows has)",
                seen=[Evidence(f"MemTotal {total // 1024} kB", file="/proc/meminfo")],
                leads_to="the process is killed without a word while the models load",
                remedy=[
                    "# in %UserProfile%\\.wslconfig, section [wsl2]: memory=48GB; then, in Windows:",
                    "wsl.exe --shutdown",
                ],
            )
        )
    on_windows = [p for p in (context.python.prefix, *context.site.folders, context.models) if p and _is_windows(p)]
    if on_windows:
        findings.append(
            context.finding(
                ID,
                "warning",
                f"{on_windows[0]} lies on a Windows drive",
                seen=[
                    Evidence(f"{p} is reached through the 9P bridge", file=str(p)) for p in dict.fromkeys(on_windows)
                ],
                leads_to="imports and model loads are many times slower, and file locks misbehave",
                remedy=["# keep the environment and the models in the Linux file system, such as below ~"],
            )
        )
    return findings


def _is_windows(path: Path) -> bool:
    return re.match(r"/mnt/[a-z](/|$)", str(path)) is not None


CHECK = Check(ID, "Platform", "error", run)
