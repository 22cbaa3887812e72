"""The layout of DINOv3 in the installed transformers."""

from __future__ import annotations

import ast

from .. import calls
from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..site import version_key

ID = "transformers-5"
FIRST_WITH_DINOV3 = (4, 56)


def run(context: Context) -> Outcome:
    site = context.site
    distribution = site.get("transformers")
    init = site.module("transformers")
    if init is None or distribution is None:
        raise NotApplicableError("transformers is not installed")
    name = distribution.text
    if version_key(distribution.version) < FIRST_WITH_DINOV3:
        finding = context.finding(
            ID,
            "error",
            f"{name} has no DINOv3",
            seen=[Evidence(name, file=str(distribution.folder), version=distribution.version)],
            leads_to="ImportError: cannot import name 'DINOv3ViTModel'",
            remedy=[context.pip("install", "transformers>=4.56")],
        )
        return Outcome(name, (finding,))
    moved = _layers_moved(context, version_key(distribution.version))
    findings: list[Finding] = []
    if moved and site.module("trellis2") is not None:
        findings.append(
            context.finding(
                ID,
                "error",
                f"{name} keeps DINOv3's layers in model.model.layer; the upstream code here takes model.layer",
                seen=[
                    Evidence(
                        "class DINOv3ViTModel sets self.model, not self.layer",
                        file=str(init.parent),
                        version=distribution.version,
                    )
                ],
                leads_to="AttributeError: 'DINOv3ViTModel' object has no attribute 'layer'",
                remedy=[context.pip("install", "transformers>=4.56,<5"), "# trellis-pipeline reads both layouts"],
            )
        )
    return Outcome(f"{name}: DINOv3's layers in {'model.model.layer' if moved else 'model.layer'}", tuple(findings))


def _layers_moved(context: Context, version: tuple[int, ...]) -> bool:
    """By the class itself; by the version where its source is not there."""
    file = context.site.module("transformers.models.dinov3_vit.modeling_dinov3_vit")
    tree = calls.parse(file) if file else None
    owner = (
        next((n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "DINOv3ViTModel"), None)
        if tree
        else None
    )
    if owner is None:
        return version >= (5,)
    attributes = {
        n.attr
        for n in ast.walk(owner)
        if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store) and ast.unparse(n.value) == "self"
    }
    return "layer" not in attributes


CHECK = Check(ID, "DINOv3 in transformers", "error", run, ("transformers-5",))
