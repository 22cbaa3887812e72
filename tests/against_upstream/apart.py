"""A case in a process of its own: some of upstream's functions end the process they run in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from harness import Finding, Registered


def write(journal: Path, seed: int, findings: list[Finding]) -> None:
    """Adds a line to a journal: that a seed begins (no findings), or what it found."""
    with journal.open("a") as file:
        file.write(json.dumps([seed, [asdict(f) for f in findings]]) + "\n")


def _read(journal: Path) -> tuple[list[Finding], int]:
    """All findings, and the seed that began last."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    return [Finding(**f) for _, findings in lines for f in findings], lines[-1][0] if lines else -1


def run_apart(registered: Registered, seeds: range, device: str, seconds: float) -> list[Finding]:
    """The findings of a case, and one more for each seed that ended its process, with the line where it did."""
    end, ended, findings = time.monotonic() + seconds, [], []
    with tempfile.TemporaryDirectory() as folder:
        while len(seeds) and (left := end - time.monotonic()) > 0:
            journal = Path(folder) / f"{seeds.start}.jsonl"
            command = [sys.executable, str(Path(__file__).parent), "--device", device, "--journal", str(journal)]
            command += ["--only", registered.name, "--first", str(seeds.start), "--cases", str(len(seeds))]
            given = {**os.environ, "PYTHONFAULTHANDLER": "1"}
            done = subprocess.run([*command, "--seconds", str(left)], env=given, stderr=subprocess.PIPE, text=True)
            found, last = _read(journal)
            findings += found
            sys.stderr.writelines(
                line + "\n" for line in done.stderr.splitlines() if " took " in line or " over " in line
            )
            if done.returncode == 0:
                break
            where = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("File ")]
            said = f"its process ended: status {done.returncode} in {where[0] if where else done.stderr[-300:]}"
            theirs = any(f"/{name}/" in (where[0] if where else "") for name in registered.modules)
            ended.append(Finding(f"seed {last}", said, 1.0, float("inf") if theirs else 0.0))
            if last < 0:
                break
            seeds = range(last + 1, seeds.stop)
    return findings + ended
