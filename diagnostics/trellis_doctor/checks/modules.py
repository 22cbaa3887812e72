"""Modules that the pipeline needs, in the inspected interpreter."""

from __future__ import annotations

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from .comfyui import find_comfyui

ID = "missing-module"
# Import name -> distribution.
CORE = {
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "trimesh": "trimesh",
    "pygltflib": "pygltflib",
}
# What our own packages need besides, and others may do without.
OURS = {"zstandard": "zstandard"}
# From an image: the encoder, and the download of the checkpoint.
IMAGE = {
    "transformers": "transformers",
    "huggingface_hub": "huggingface-hub",
}
# One of the ways to remove a background; upstream's code has no other.
BACKGROUND = {"rembg": "rembg"}
UPSTREAM = {
    "accelerate": "accelerate",
    **BACKGROUND,
    "easydict": "easydict",
    "imageio": "imageio",
    "cv2": "opencv-python-headless",
    "tqdm": "tqdm",
    "kornia": "kornia",
    "timm": "timm",
    "einops": "einops",
}


def run(context: Context) -> Outcome:
    site = context.site
    if not context.python.works and not site.folders:
        raise NotApplicableError("the interpreter cannot start, and no package folder was found around it")
    findings: list[Finding] = []
    if context.torch is None:
        row = context.row or next((r for r in context.rows if r.cuda is None and not context.machine.gpus), None)
        wanted = f"torch=={row.torch}" if row else "torch"
        findings.append(
            context.finding(
                ID,
                "error",
                "torch is not installed in this environment",
                seen=[Evidence(f"no torch in {', '.join(map(str, context.site.folders)) or 'any package folder'}")],
                leads_to="nothing of the pipeline can start",
                remedy=[
                    context.pip("install", wanted),
                    "# or a whole environment of a row: nox -s dev -- --row " + (row.name if row else "NAME"),
                ],
            )
        )
    groups = {**CORE, **IMAGE}
    strict = set(CORE)
    uses_upstream = (
        any(site.module(m) is not None for m in ("trellis2", "o_voxel")) or find_comfyui(context) is not None
    )
    if not uses_upstream or site.module("trellis_voxel") is not None:
        groups.update(OURS)
        strict |= set(OURS)
    if uses_upstream:
        groups.update(UPSTREAM)
        strict |= set(IMAGE)
    missing = {m: d for m, d in groups.items() if site.module(m) is None}
    errors = {m: d for m, d in missing.items() if m in strict}
    warnings = {m: d for m, d in missing.items() if m not in strict}
    if errors:
        findings.append(_missing(context, "error", errors, "ModuleNotFoundError; in ComfyUI, unknown nodes"))
    if "rembg" not in groups and site.module("rembg") is None and context.torch is not None:
        findings.append(
            context.finding(
                ID,
                "note",
                "rembg is not installed",
                seen=[Evidence("no module named rembg (package rembg)", symbol="rembg")],
                leads_to="pictures must bring their own transparency",
                remedy=[context.pip("install", "rembg[cpu]"), "# nothing is needed for pictures with transparency"],
            )
        )
    if warnings:
        findings.append(
            _missing(context, "warning", warnings, "making assets from images fails; remaking existing assets works")
        )
    return Outcome(f"{len(groups) - len(missing)} of {len(groups)} modules present", tuple(findings))


def _missing(context: Context, severity: str, missing: dict[str, str], leads_to: str) -> Finding:
    names = ", ".join(missing)
    return context.finding(
        ID,
        "error" if severity == "error" else "warning",
        f"missing module{'s' * (len(missing) > 1)}: {names}",
        seen=[Evidence(f"no module named {m} (package {d})", symbol=m) for m, d in missing.items()],
        leads_to=leads_to,
        remedy=[context.pip("install", *missing.values())],
        safe_fix=context.torch is not None and context.python.works,  # without torch, pip would choose one
    )


CHECK = Check(ID, "Modules", "error", run, ("missing-module",))
