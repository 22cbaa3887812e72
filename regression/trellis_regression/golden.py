"""Goldens: approved GLBs with their profiles, `golden/<name>/<variant>/`: asset.glb, profile.json, provenance.json.

Several variants of a name may be approved, because devices and builds differ; a candidate passes when it passes against
any of them, and is reported against the nearest.
"""

from __future__ import annotations

import json
import platform
import re
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from . import interrupt, stages
from .asset import Asset
from .gate import judge
from .inject import ALL as INJECTORS
from .inject import Model, inject
from .profile import Looks, alone, gather
from .shelf import Golden, find, golden_root
from .thresholds import load
from .whole import write_whole

__all__ = ["ApprovalError", "Golden", "approve", "faults_that_pass", "find", "golden_root"]

MAX_BYTES = 4 << 20
"""A golden lives in the repository: approve a small export of the asset."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ApprovalError(ValueError):
    """An asset that may not become a golden; the text says why."""


def approve(
    source: str | Path, name: str, *, reason: str, variant: str = "cpu", stage_folder: str | Path | None = None,
    root: str | Path | None = None, more: dict[str, Any] | None = None, margin: str = "default",
) -> Golden:  # fmt: skip
    """Makes a GLB a golden.

    Args:
        reason: why this is right, for whoever reads the history.
        stage_folder: the road's kept stages; their profile is stored.
        more: facts for the provenance, such as the command and versions that made it.

    Raises:
        ApprovalError: no reason, too large, gates fire on it, or a known fault put into it would pass against it.
        GlbError: not a usable GLB.
    """
    if not reason.strip():
        raise ApprovalError("a golden needs a reason: say what was looked at and why it is right")
    for label, text in (("name", name), ("variant", variant)):
        if not _NAME.fullmatch(text):
            raise ApprovalError(f"{label}: expected letters, digits, '.', '_' and '-', got {text!r}")
    folder = Path(root or golden_root()) / name / variant
    stage_folder = None if stage_folder is None else Path(stage_folder)
    for above in (folder, *folder.parents):
        if above.exists() and not above.is_dir():
            raise ApprovalError(f"{above} is a file, and goldens are kept in folders")
    asset = Asset.read(source)
    if len(asset.glb.data) > MAX_BYTES:
        raise ApprovalError(f"{source} has {len(asset.glb.data)} bytes; a golden may have {MAX_BYTES}")
    profile = alone(asset)
    if stage_folder is not None:
        profile["stages"] = stages.profile(stage_folder)
    limits = load(margin)
    verdict = judge(gather(asset, own=profile, stage_folder=stage_folder, looks=Looks(views=())), limits)
    if not verdict.ok:
        raise ApprovalError(f"gates fire on it: {'; '.join(f'{x.name}: {x.sentence}' for x in verdict.fired)}")
    if missed := faults_that_pass(asset, profile):
        raise ApprovalError(
            f"these faults, put into it, pass against it: {', '.join(missed)}; it cannot guard anything"
        )
    provenance = {
        "sha256": asset.digest,
        "reason": reason.strip(),
        "approved": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        **(more or {}),
    }
    with interrupt.finishing():
        content = {"asset.glb": asset.glb.data}
        for file, facts in (("profile.json", profile), ("provenance.json", provenance)):
            content[file] = (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()
        for file, data in content.items():
            write_whole(folder / file, partial(Path.write_bytes, data=data))
    return Golden(name, variant, folder, profile, provenance)


def faults_that_pass(asset: Asset, profile: dict[str, Any], *, margin: str = "default") -> list[str]:
    """Every known fault at its historic strength, put into the asset and judged against it; those no gate sees."""
    model = Model.of(asset)
    limits = load(margin)
    missed = []
    for injector in INJECTORS:
        if not injector.applies(model):
            continue
        broken = Asset.parse(inject(model, injector.name, injector.historic).data, injector.name)
        candidate, again = (asset, broken) if injector.second else (broken, None)
        found = gather(candidate, golden=asset, golden_profile=profile, again=again, looks=Looks(views=()))
        if judge(found, limits).ok:
            missed.append(injector.name)
    return missed
