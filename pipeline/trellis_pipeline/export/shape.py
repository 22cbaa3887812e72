"""Voxels -> a clean mesh with the face count that was asked for, oriented like its source."""

from __future__ import annotations

from typing import Any

import torch
import trellis_mesh as mesh
import trellis_voxel as voxel

from .stages import Mesh, VoxelAsset
from .visibility import front_seen

# Loops up to this length (in cube sides) are closed; longer ones are openings of the object. Upstream's choice.
HOLE_PERIMETER = 3e-2


def extract(asset: VoxelAsset) -> Mesh:
    """The surface of a dual grid, as it is."""
    vertices, faces = voxel.dual_grid_to_mesh(
        asset.coords, asset.local_dual, asset.intersected, asset.split_weight,
        aabb=[list(asset.aabb[0]), list(asset.aabb[1])], grid_size=asset.grid_size,
    )  # fmt: skip
    return Mesh(vertices, faces)


def clean(raw: Mesh, *, min_fraction: float) -> tuple[Mesh, dict[str, Any]]:
    """Closes small holes, drops duplicate and degenerate faces and small components, separates non-manifold edges.

    Args:
        min_fraction: components whose bounding box is smaller than this share of the whole are removed;
            the largest component always stays.

    Returns:
        The mesh and what was done to it, for the manifest.
    """
    v, f = raw.vertices, raw.faces
    counts = {"faces_in": len(f)}
    v, f = mesh.remove_degenerate_faces(v, f)
    v, f = mesh.remove_duplicate_faces(v, f)
    v, f = mesh.fill_holes(v, f, max_perimeter=HOLE_PERIMETER)
    counts["faces_filled"] = len(f)
    kept = mesh.remove_small_components(v, f, min_fraction=min_fraction)
    v, f = mesh.repair_non_manifold_edges(*kept)
    counts |= {"faces_out": len(f), "vertices": len(v)}
    counts |= {"removed_components": len(kept.report.removed), "removed_faces": kept.report.removed_faces}
    return Mesh(v, f), counts


def orient(target: Mesh, reference: mesh.Bvh, vertices: torch.Tensor, faces: torch.Tensor) -> Mesh:
    """Makes each component of `target` consistent and turns it the way the reference surface under it faces.

    A dual grid has no inside: its quads face along the axes. The source's own winding says which side is out, unless it
    contradicts itself there: parts that were wound both ways, or the two sides of a wall thinner than a voxel, which are
    one sheet here. Then the side that is seen from outside decides, or, where both are or none is, most of the source.

    Args:
        reference: search structure over the source mesh (`vertices`, `faces`).
    """
    v, f = mesh.unify_orientation(target.vertices, target.faces)
    if not len(f):
        return Mesh(v, f)
    corners = v[f.long()]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # length = 2 areas
    _, nearest, _ = reference.closest_point(corners.mean(1).contiguous())
    source = vertices[faces[nearest.long()].long()]
    source_normal = torch.nn.functional.normalize(
        torch.linalg.cross(source[:, 1] - source[:, 0], source[:, 2] - source[:, 0]), dim=1
    )
    agreement = (normal * source_normal).sum(1)
    del corners, normal, nearest, source, source_normal
    parts = _components(v, f)
    most = _sums(agreement, *parts[1:]).abs()
    all_ = _sums(agreement.abs(), *parts[1:])
    if (disputed := most < _UNANIMOUS * all_).any():
        agreement, decided = _by_view(v, f, agreement, disputed, *parts)
        # Where the source prefers neither side and neither is seen alone, chance would decide: there parity does.
        unsure = ((most < _CLEAR * all_) & ~decided)[parts[0].long()]
        if unsure.any():
            agreement = torch.where(unsure, _outward(v, f, *parts), agreement)
    return _turn_components(v, f, agreement, *parts)


# The share of a component's weighed area by which the source must prefer one of its sides: to decide at all, and to decide
# against what is seen.
_CLEAR, _UNANIMOUS = 0.25, 0.9
# Seen from one side only: so much of what is seen is seen of that side, and so much of the area is seen.
_ONE_SIDE, _SEEN = 0.8, 0.2
# Faces of a component that ask from where they are seen.
_LOOKED_AT = 64


def _by_view(
    v: torch.Tensor,
    f: torch.Tensor,
    agreement: torch.Tensor,
    disputed: torch.Tensor,
    labels: torch.Tensor,
    order: torch.Tensor,
    sizes: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`agreement` [F] with that of disputed components [C] of which one side is seen replaced by which, and those, bool [C]."""
    face, component = _asking(order, sizes, torch.where(disputed, _LOOKED_AT, 0))
    corners = v[f[face].long()]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).square().sum(1).sqrt()
    seen = front_seen(mesh.Bvh(v, f), corners) * area
    counts = torch.bincount(component, minlength=len(sizes))
    net, either, whole = (torch.segment_reduce(x.double(), "sum", lengths=counts) for x in (seen, seen.abs(), area))
    decided = disputed & (net.abs() >= _ONE_SIDE * either) & (either >= _SEEN * whole) & (either > 0)
    weight = torch.zeros_like(agreement)
    weight[face] = seen
    return torch.where(decided[labels.long()], weight, agreement), decided


# Rays that decide which side of a component is out: so many of its faces ask.
_ASKED = 256
# How far a ray begins above its face, in sides of the cube: beyond the rounding of coordinates, within any voxel.
_LIFT = 1e-5


def orient_outward(target: Mesh) -> Mesh:
    """Makes each component of `target` consistent and turns its faces towards the outside.

    Out is where a ray from the face crosses the surface an even number of times on its way to infinity. Some faces of
    each component ask, weighted by their areas: where the surface has openings their answers differ, and most decide.
    """
    v, f = mesh.unify_orientation(target.vertices, target.faces)
    if not len(f):
        return Mesh(v, f)
    parts = _components(v, f)
    return _turn_components(v, f, _outward(v, f, *parts), *parts)


def _outward(
    v: torch.Tensor, f: torch.Tensor, labels: torch.Tensor, order: torch.Tensor, sizes: torch.Tensor
) -> torch.Tensor:
    """What faces say of their winding: float32 [F], their length where it is outward, that negative where not, 0 unasked."""
    face, _ = _asking(order, sizes, torch.full_like(sizes, _ASKED))
    corners = v[f[face].long()]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = (normal * normal).sum(1).sqrt()
    direction = normal / length[:, None].clamp(min=1e-12)
    crossings = mesh.Bvh(v, f).count_hits((corners.mean(1) + direction * _LIFT).contiguous(), direction)
    # -1 stands for a face without area, which has no say.
    vote = torch.where(crossings & 1 == 0, 1.0, -1.0) * length
    weight = torch.zeros(len(f), device=v.device)
    weight[face] = vote * (crossings >= 0)
    return weight


def _asking(order: torch.Tensor, sizes: torch.Tensor, most: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Faces of each component, and the component of each: every one of a small component, `most` [C] of a large one."""
    asked = torch.minimum(sizes, most)
    component = torch.repeat_interleave(asked)
    place = torch.arange(len(component), device=order.device) - (asked.cumsum(0) - asked)[component]
    first = (sizes.cumsum(0) - sizes)[component]
    return order[first + place * sizes[component] // asked[component]], component


def _components(v: torch.Tensor, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The component of each face, the faces ordered by component, and how many each component has."""
    count, labels = mesh.connected_components(f, len(v))
    return labels, torch.argsort(labels, stable=True), torch.bincount(labels.long(), minlength=count)


def _sums(values: torch.Tensor, order: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Of values of faces over each component; sorted segments, so that no order of unordered atomics shows."""
    return torch.segment_reduce(values.double()[order], "sum", lengths=sizes)


def _turn_components(
    v: torch.Tensor,
    f: torch.Tensor,
    agreement: torch.Tensor,
    labels: torch.Tensor,
    order: torch.Tensor,
    sizes: torch.Tensor,
) -> Mesh:
    """Turns over the components whose faces sum to a negative `agreement` (float32 [F])."""
    against = _sums(agreement, order, sizes)[labels.long()] < 0
    return Mesh(v, torch.where(against[:, None], f.flip(1), f))


def remesh(fine: Mesh, resolution: int) -> tuple[Mesh, dict[str, Any]]:
    """One closed shell around the surface, contoured on a grid of `resolution`^3: no openings, no inner layers."""
    result = mesh.remesh_dual_contouring(fine.vertices, fine.faces, resolution=resolution)
    faces, vertices = len(result.faces), len(result.vertices)
    facts = {
        "faces_in": len(fine.faces),
        "faces_out": faces,
        "vertices": vertices,
        "cell_size": result.report.cell_size,
    }
    return Mesh(*result), facts


def simplify(fine: Mesh, target_faces: int) -> tuple[Mesh, dict[str, Any]]:
    """At most `target_faces` faces; a mesh that already has fewer is returned as it is."""
    if len(fine.faces) <= target_faces:
        return fine, {"faces_in": len(fine.faces), "faces_out": len(fine.faces)}
    result = mesh.simplify(fine.vertices, fine.faces, target_faces=target_faces)
    facts = {"faces_in": len(fine.faces), "faces_out": len(result.faces), "error_bound": result.report.error_bound}
    return Mesh(*result), facts
