"""What a source says that voxels cannot hold, in a sentence for each kind, so that nobody looks for it in the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from trellis_regression.glb import Glb

_NAMED = 3  # materials in a sentence

# Extensions of a material that change how it looks, and how the sentence about them begins.
_LOOKS = {
    "KHR_materials_anisotropy": "stretched highlights",
    "KHR_materials_clearcoat": "the clear coat",
    "KHR_materials_dispersion": "dispersion",
    "KHR_materials_ior": "the index of refraction",
    "KHR_materials_iridescence": "iridescence",
    "KHR_materials_sheen": "the sheen of cloth",
    "KHR_materials_specular": "the strength of reflections",
    "KHR_materials_transmission": "transmission, so that glass is as opaque as its alpha says",
    "KHR_materials_unlit": "that it is unlit, so that light will fall on it",
    "KHR_materials_volume": "volume",
}


def left_out(glb: Glb) -> list[str]:
    """Of the materials that meshes use, and of the scene."""
    document = glb.document
    primitives = [p for m in glb.items("meshes") for p in m["primitives"]]
    used = sorted({p["material"] for p in primitives if "material" in p})
    materials = [(i, glb.items("materials")[i]) for i in used]
    found = []

    def about(what: str, has: Callable[[dict[str, Any]], Any]) -> None:
        names = [str(m.get("name") or f"materials[{i}]") for i, m in materials if has(m)]
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            found.append(f"{what} ({', '.join(names[:_NAMED])}{more})")

    about(
        "the normal map; the result is shaded by the source's vertex normals, without the relief that it drew",
        lambda m: "normalTexture" in m,
    )
    about("the occlusion map", lambda m: "occlusionTexture" in m)
    about("emission brighter than 1, which becomes 1", lambda m: max(_emission(m)) > 1)
    for name, what in _LOOKS.items():
        about(f"{what}, {name}", partial(_extended, name))
    found += _moving(document, primitives)
    return found


def _extended(name: str, material: dict[str, Any]) -> bool:
    return name in material.get("extensions", {})


def _emission(material: dict[str, Any]) -> list[float]:
    """What the factor alone emits, linear [3]; a texture makes it less."""
    strength = material.get("extensions", {}).get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0)
    return [strength * x for x in material.get("emissiveFactor", (0.0, 0.0, 0.0))]


def _moving(document: dict[str, Any], primitives: list[dict[str, Any]]) -> Iterator[str]:
    """What moves or is chosen, of which the file's own state is taken."""
    if document.get("animations"):
        yield "animations"
    if any("JOINTS_0" in p["attributes"] for p in primitives):
        yield "skinning; the pose is that of the file's vertices"
    if any(p.get("targets") for p in primitives):
        yield "morph targets; the shape is that without them"
    if "KHR_materials_variants" in document.get("extensions", {}):
        yield "material variants, but for the default one"
    if any(p.get("mode", 4) < 4 for p in primitives):
        yield "points and lines, which have no surface"
