"""Which alpha mode an asset needs, and which of its faces let anything be seen through them."""

from __future__ import annotations

import torch
import trellis_raster as raster

from .stages import Textures, UnwrappedMesh

# 8-bit alpha at or above this is opaque for the eye; voxel averaging leaves such values on opaque assets.
OPAQUE = 250
# An asset is called transparent when more than this share of its texels is not opaque.
_TRANSPARENT_SHARE = 1e-3
# Of those, when fewer than this share is half-transparent the asset is cut out rather than see-through.
_SOFT_SHARE = 0.2


def choose_alpha_mode(alpha: torch.Tensor) -> str:
    """OPAQUE, MASK or BLEND, from the alpha (uint8) of the covered texels."""
    count = torch.bincount(alpha.flatten().int(), minlength=256).cpu()
    below = int(count[:OPAQUE].sum())
    if below <= _TRANSPARENT_SHARE * max(1, alpha.numel()):
        return "OPAQUE"
    soft = int(count[33:224].sum())
    return "MASK" if soft < _SOFT_SHARE * below else "BLEND"


def see_through_faces(mesh: UnwrappedMesh, textures: Textures) -> torch.Tensor:
    """bool [F]: whether any texel of a face, or one under its corners, is not opaque.

    Renderers sort what is blended by whole objects and let it write no depth: a solid body drawn so shows its far side
    through its near one. So only these faces are to be blended.
    """
    side = len(textures.alpha)
    clear = textures.alpha[..., 0] < OPAQUE
    found = torch.zeros(len(mesh.faces), dtype=torch.bool, device=clear.device)
    clip = torch.cat([mesh.uv * 2 - 1, torch.zeros_like(mesh.uv[:, :1]), torch.ones_like(mesh.uv[:, :1])], 1)
    face = raster.rasterize(clip[None].contiguous(), mesh.faces, (side, side))[0, ..., 3].int()
    found[face[clear & (face > 0)].long() - 1] = True
    # A face between the centres of texels has none of its own.
    column, row = (mesh.uv * side).long().clamp(0, side - 1).unbind(1)
    at_vertex = clear[row, column]
    return found | at_vertex[mesh.faces.long()].any(1)


def part_of_mesh(mesh: UnwrappedMesh, kept: torch.Tensor) -> UnwrappedMesh:
    """The faces that `kept` (bool [F]) names, in their order, with the vertices that they use."""
    used, corners = torch.unique(mesh.faces[kept].long(), return_inverse=True)
    return UnwrappedMesh(mesh.vertices[used], corners.to(torch.int32), mesh.uv[used], mesh.normals[used])
