"""Our extensions and models against numbers computed by the upstream code, case by case.

The fixtures are not part of this repository (their meshes' licences are unknown): they are read from ``../shared``.
Without them these tests skip, unless TRELLIS_REQUIRE_SHARED=1 makes that a failure.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SHARED = Path(os.environ.get("TRELLIS_SHARED", Path(__file__).parents[2] / "shared"))
CHECK = SHARED / "parity/check.py"
NAMES = re.findall(r"^@case\n(?:@torch\.no_grad\(\)\n)?def (\w+)", CHECK.read_text(), re.M) if CHECK.exists() else []


def test_fixtures_are_here():
    if not NAMES:
        if os.environ.get("TRELLIS_REQUIRE_SHARED"):
            pytest.fail(f"TRELLIS_REQUIRE_SHARED is set, but {CHECK} has no cases")
        pytest.skip(f"no parity fixtures in {SHARED}")
    assert len(NAMES) >= 17


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_parity(device):
    """One process for all cases: each prints PASS or FAIL with its figures, which the failure shows."""
    if not NAMES:
        pytest.skip(f"no parity fixtures in {SHARED}")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    done = subprocess.run([sys.executable, str(CHECK), "--device", device], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, "\n".join(line for line in lines if not line.startswith("PASS")) + done.stderr
    assert sorted(line.split()[1].rstrip(":") for line in lines if line.startswith("PASS")) == sorted(NAMES)
