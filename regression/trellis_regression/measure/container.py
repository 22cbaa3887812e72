"""What the file says of itself: sizes, materials, images, and the Khronos validator's errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..asset import Asset
from ..glb import Glb
from ..khronos import ValidatorMissingError, errors, validate


def measure(asset: Asset) -> dict[str, Any]:
    """Facts of the container and its materials."""
    glb = asset.glb
    return {
        "bytes": len(glb.data),
        "generator": str(_generator(glb.document))[:120],
        "meshes": len(glb.items("meshes")),
        "parts": len(asset.parts),
        "primitives": _primitives(glb),
        "triangles": len(asset.faces),
        "vertices": len(asset.positions),
        "extent": asset.extent,
        "materials": [
            {
                "alpha_mode": str(m.get("alphaMode", "OPAQUE")),
                "double_sided": bool(m.get("doubleSided", False)),
                "base_color_texture": "baseColorTexture" in m.get("pbrMetallicRoughness", {}),
            }
            for m in glb.items("materials")[:64]
        ],
        "images": len(glb.items("images")),
        "texture_sizes": sorted(
            {f"{t.image.shape[1]}x{t.image.shape[0]}" for p in asset.parts for t in p.material.textures.values()}
        ),
    }


def _primitives(glb: Glb) -> dict[str, int]:
    """How many primitives are drawn as what (specification, 3.7.2.1)."""
    modes = [p.get("mode", 4) for m in glb.items("meshes") for p in m["primitives"]]
    kinds = {"of points": (0,), "of lines": (1, 2, 3), "of triangles": (4, 5, 6)}
    return {kind: sum(mode in those for mode in modes) for kind, those in kinds.items()}


def _generator(document: dict[str, Any]) -> Any:
    about = document.get("asset")
    return about.get("generator", "") if isinstance(about, dict) else ""


def validator(path: Path) -> dict[str, Any]:
    """The Khronos validator's errors; `available` is false where it is not installed, or fails itself."""
    try:
        (report,) = validate(path)
    except (ValidatorMissingError, RuntimeError) as error:
        return {"available": False, "why": str(error)}
    found = errors(report)
    return {"available": True, "errors": len(found), "first": found[:5], "warnings": report["issues"]["numWarnings"]}
