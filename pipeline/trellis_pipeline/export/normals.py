"""Shading normals of the corners of a mesh: of its own faces, or taken over from the surface that it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import trellis_mesh as mesh

from .stages import Mesh

# Faces that meet at a sharper angle are shaded with an edge between them. Wide enough that the steps of a coarse voxel
# surface stay smooth, and well below the right angle of a box.
CREASE_ANGLE = 50.0
# A source's normal is believed where the cosine of its angle with the corner's own is at least so large: a few faces
# with smooth normals are far from those of their geometry, and what lies across is another surface.
_AGREES = 0.3
# Corners of a vertex share the mean of what they found where the cosine of its angle with each is at least so large.
_ALIKE = 0.98
# A corner looks from so far within its face, in shares of the way to its middle, so that it sees its side of an edge.
_INWARD = 0.1
# How finely normals that differ within a vertex are told apart, in steps of a unit.
_STEPS = 64


@dataclass(frozen=True)
class Reference:
    """The surface that an asset was made from: its winding says what is out, its normals how it is shaded.

    Attributes:
        mesh: its triangles, in road space.
        normals: float32 [V, 3] of its vertices; zero where there is none. None: the result is shaded by its own faces.
    """

    mesh: Mesh
    normals: torch.Tensor | None = None


def corner_normals(
    shape: Mesh, reference: Reference | None = None, tree: mesh.Bvh | None = None, reach: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit normals of the corners of faces, and which corners have the same.

    A mesh of fewer or other triangles than its source shows its own facets where the source is shaded smoothly, and
    smooths what the source shades with an edge. So each corner takes the normal of the source's point nearest to it,
    unless that is of another surface.

    Args:
        tree: search structure over the reference.
        reach: the source's surface may be so far away.

    Returns:
        Normals float32 [F, 3, 3], and kinds int64 [F, 3]: corners of one vertex with the very same normal have one.
    """
    own, leaders = mesh.corner_normals(shape.vertices, shape.faces, crease_angle=CREASE_ANGLE)
    leader = leaders.view(-1).long()
    if reference is None or reference.normals is None or tree is None:
        return own, leaders.long()
    normals = own.view(-1, 3)
    found, there = _of_source(shape, normals, reference, tree, reach)
    # Around a vertex of a smooth surface corners find almost the same, and share their mean; where they do not, those
    # on one side of an edge may. What is left is told apart by what was found.
    code = torch.where(there[:, 0], _code(found), _OWN + leader)
    taken = torch.where(there, torch.nn.functional.normalize((found * _STEPS).round(), dim=1), normals)
    for group, first in ((leader, _SIDE + leader), (shape.faces.view(-1).long(), torch.zeros_like(leader))):
        mean, alike = _shared(found, there, group)
        taken, code = torch.where(alike[:, None], mean, taken), torch.where(alike, first, code)
    _, kinds = torch.unique(shape.faces.view(-1).long() * _CODES + code, return_inverse=True)
    return taken.view(-1, 3, 3).contiguous(), kinds.view(-1, 3)


# Codes of corners within a vertex: 0 where all are alike, else of a side, of its own normal, or of the one found.
_SIDE, _OWN, _FOUND, _CODES = 1, 1 << 30, 1 << 31, 1 << 33


def _code(found: torch.Tensor) -> torch.Tensor:
    """int64 [N] in [2^31, 2^32): one number for unit vectors [N, 3] that are the same to a step."""
    x, y, z = ((found * _STEPS).round().long() + _STEPS).unbind(1)
    return _FOUND + (x * 256 + y) * 256 + z


def _shared(found: torch.Tensor, there: torch.Tensor, group: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean direction of each corner's group, float32 [N, 3], and bool [N]: whether all of the group are near it."""
    mean = torch.nn.functional.normalize(_sums(torch.where(there, found, 0.0), group), dim=1)[group]
    near = there & ((found * mean).sum(1, keepdim=True) >= _ALIKE)
    return mean, (_sums((~near).float(), group)[group] == 0)[:, 0]


def _of_source(
    shape: Mesh, own: torch.Tensor, reference: Reference, tree: mesh.Bvh, reach: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The source's unit normal at each corner, float32 [3 F, 3], and bool [3 F, 1] whether it can be believed."""
    assert reference.normals is not None
    corners = shape.vertices[shape.faces.long()]
    points = torch.lerp(corners, corners.mean(1, keepdim=True), _INWARD).view(-1, 3).contiguous()
    distance, face, weights = tree.closest_point(points)
    at = reference.normals[reference.mesh.faces[face.long()].long()]
    found = torch.nn.functional.normalize((at * weights[:, :, None]).sum(1), dim=1)
    cosine = (found * own).sum(1, keepdim=True)
    # The back of a sheet has the front's normal turned over.
    return torch.where(cosine < 0, -found, found), (cosine.abs() >= _AGREES) & (distance <= reach)[:, None]


def _sums(values: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """Of float32 [N, C] by group, always with the same bits: sorted segments, not unordered atomics."""
    order = torch.argsort(group, stable=True)
    sizes = torch.bincount(group)
    return torch.segment_reduce(values[order], "sum", lengths=sizes)
